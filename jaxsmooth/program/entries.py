"""Values as entries of others: which equations pick them, and which axes are kept whole.

A label picks one entry of every row, by slices, gathers and what moves axes. Of a gather with
several indices one may count the rows, as in ``x[jnp.arange(n), labels]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.extend.core import primitives as p
from jax.lax import GatherScatterMode

from jaxsmooth.program.graph import Atom, Equation, Value
from jaxsmooth.program.layout import Axes, Producers, long_axes, made_by, moved, without
from jaxsmooth.program.simplify import numbers


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of a value.

    Attributes:
      origin: the value.
      steps: the equations that pick them.
      layout: for every axis of the last result, the origin's axis along which all is kept in
        order; None for the axes along which entries are picked.
    """

    origin: Atom
    steps: tuple[Equation, ...]
    layout: Axes

    def slices(self, axes: tuple[int, ...]) -> Axes:
        """Where the slices along the axes are kept."""
        return long_axes(without(self.layout, axes), self.origin.shape)

    def are_single(self, axes: tuple[int, ...]) -> bool:
        """Whether no two are of the same slice along the axes."""
        shape = self.steps[-1].outputs[0].shape if self.steps else self.origin.shape
        kept = self.slices(axes)
        return all(a is not None or n == 1 for a, n in zip(kept, shape, strict=True))


def entries(
    atom: Atom,
    producers: Producers,
    known: Mapping[Value, Any],
    wanted: Callable[[Atom], bool],
) -> Entries | None:
    """The atom as entries of a value that is wanted; None if it is not."""
    chain: list[Equation] = []
    layout: Axes = tuple(range(len(atom.shape)))
    while not wanted(atom):
        equation = made_by(atom, producers)
        step = None if equation is None else _picked(equation, producers, known)
        if equation is None or step is None:
            return None
        layout = tuple(None if a is None else step[a] for a in layout)
        chain.append(equation)
        atom = equation.inputs[0]
    return Entries(atom, tuple(chain[::-1]), layout)


def _picked(equation: Equation, producers: Producers, known: Mapping[Value, Any]) -> Axes | None:
    """For every axis of the result, the operand's axis along which whole slices are kept.

    None for the axes along which entries are picked.
    """
    if equation.primitive in (p.slice_p, p.dynamic_slice_p):
        operand, shape = equation.inputs[0].shape, equation.outputs[0].shape
        return tuple(a if n == operand[a] else None for a, n in enumerate(shape))
    if equation.primitive is p.gather_p:
        return None if _fills(equation, known) else _gathered(equation, producers, known)
    return moved(equation)


def _fills(equation: Equation, known: Mapping[Value, Any]) -> bool:
    """Whether a number may stand for entries that are out of range."""
    params = equation.params
    if params["mode"] != GatherScatterMode.FILL_OR_DROP:
        return False
    operand, indices = equation.inputs
    places = numbers(indices, known)
    if places is None:
        # Indices are assumed to be in range where others give what is no number.
        return params["fill_value"] is not None and not np.isnan(params["fill_value"])
    axes = params["dimension_numbers"].start_index_map
    last = np.array([operand.shape[a] - params["slice_sizes"][a] for a in axes])
    return bool(np.any((places < 0) | (places > last)))


def _gathered(equation: Equation, producers: Producers, known: Mapping[Value, Any]) -> Axes:
    numbering, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    (operand, indices), shape = equation.inputs, equation.outputs[0].shape
    batching = tuple(numbering.operand_batching_dims)
    gone = set(numbering.collapsed_slice_dims) | set(batching)
    whole = iter(a for a in range(len(operand.shape)) if a not in gone)
    places = dict(zip(numbering.start_indices_batching_dims, batching, strict=True))
    for position, axis in enumerate(numbering.start_index_map):
        if axis not in numbering.collapsed_slice_dims:
            continue
        place = _counting(indices, position, operand.shape[axis], producers, known)
        if place is not None:
            places.setdefault(place, axis)
    # The axes of the indices but the last, in order, are the result's other axes.
    ahead = iter(range(len(indices.shape) - 1))
    found: list[int | None] = []
    for axis in range(len(shape)):
        if axis in numbering.offset_dims:
            inner = next(whole)
            found.append(inner if sizes[inner] == operand.shape[inner] else None)
        else:
            found.append(places.get(next(ahead)))
    return tuple(found)


def _counting(
    indices: Atom, position: int, length: int, producers: Producers, known: Mapping[Value, Any]
) -> int | None:
    """The axis along which the indices at a position of the last axis are 0, 1, … length - 1."""
    array = _at(indices, position, producers, known)
    if array is None:
        return None
    for axis, n in enumerate(array.shape):
        count = np.arange(n).reshape([n if a == axis else 1 for a in range(array.ndim)])
        if n == length and np.array_equal(array, np.broadcast_to(count, array.shape)):
            return axis
    return None


def _at(
    indices: Atom, position: int, producers: Producers, known: Mapping[Value, Any]
) -> np.ndarray | None:
    """The indices at a position of the last axis, if they are known."""
    array = numbers(indices, known)
    if array is not None:
        return array[..., position]
    joined = made_by(indices, producers)
    if joined is None or joined.primitive is not p.concatenate_p:
        return None
    if joined.params["dimension"] != len(indices.shape) - 1:
        return None
    if any(a.shape[-1] != 1 for a in joined.inputs):
        return None
    array = numbers(joined.inputs[position], known)
    return None if array is None else array[..., 0]
