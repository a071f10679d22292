"""Where the entries of a value come from: broadcasts, transposes and unit axes, undone.

Softmax under `jax.vmap`, `jax.numpy` with ``keepdims``, attention with its heads moved
about: all divide by a sum that was spread over the axes it was taken along, only in other
layouts. An `Origin` says of which value a value is a copy, and which axis is which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value

Producers = Mapping[Value, Equation]
"""The equation that computes each value."""

Axes = tuple[int | None, ...]
"""For every axis of a value, the axis of its origin; None where entries repeat."""


def keeps_numbers(source: Any, target: Any) -> bool:
    """Whether a conversion gives every number of a type as it is, but for rounding."""
    if jnp.issubdtype(source, jnp.complexfloating):
        return jnp.issubdtype(target, jnp.complexfloating)
    return jnp.issubdtype(target, jnp.inexact) or np.can_cast(source, target, "safe")


def shortens(equation: Equation) -> bool:
    """Whether an equation converts numbers to a type that does not hold all of theirs."""
    if equation.primitive is not p.convert_element_type_p:
        return False
    source, target = equation.inputs[0].dtype, equation.outputs[0].dtype
    if not (jnp.issubdtype(source, jnp.floating) and jnp.issubdtype(target, jnp.floating)):
        return False
    old, new = jnp.finfo(source), jnp.finfo(target)
    return bool(old.nmant > new.nmant or old.maxexp > new.maxexp or old.minexp < new.minexp)


def is_identity(equation: Equation) -> bool:
    """Whether an equation returns its operand, but for rounding."""
    if equation.primitive is p.convert_element_type_p:
        return keeps_numbers(equation.inputs[0].dtype, equation.outputs[0].dtype)
    return equation.primitive is p.copy_p


@dataclass(frozen=True, eq=False)
class Origin:
    """A value as a copy of another one.

    Attributes:
      root: the value that is copied.
      axes: for every axis of the copy, the root's axis; None where the copy is constant.
    """

    root: Atom
    axes: Axes


def is_modular(equation: Equation) -> bool:
    """Whether an equation computes with whole numbers."""
    whole = any(jnp.issubdtype(v.dtype, jnp.integer) for v in equation.outputs)
    return whole and equation.primitive in _ARITHMETIC


_ARITHMETIC = frozenset(
    {
        p.add_p, p.sub_p, p.mul_p, p.div_p, p.rem_p, p.neg_p, p.abs_p, p.pow_p, p.integer_pow_p,
        p.square_p, p.add_jaxvals_p, p.reduce_sum_p, p.reduce_prod_p, p.cumsum_p, p.cumprod_p,
        p.dot_general_p, p.conv_general_dilated_p, p.scatter_add_p, p.scatter_mul_p,
    }
)  # fmt: skip


def bare(atom: Atom, producers: Producers) -> Atom:
    """The atom without the identities and conversions that it went through."""
    while isinstance(atom, Value) and atom in producers:
        equation = producers[atom]
        if not is_identity(equation):
            return atom
        (atom,) = equation.inputs
    return atom


def made_by(atom: Atom, producers: Producers) -> Equation | None:
    """The equation that computes the atom."""
    return producers.get(atom) if isinstance(atom, Value) else None


def producer(atom: Atom, producers: Producers) -> Equation | None:
    """The equation that computes the bare atom, if it is what real numbers give.

    None for arithmetic of whole numbers: they wrap, and their division truncates.
    """
    equation = made_by(bare(atom, producers), producers)
    return None if equation is None or is_modular(equation) else equation


def origin(atom: Atom, producers: Producers) -> Origin:
    """The value that an atom spreads, transposes or gives unit axes to."""
    axes: Axes = tuple(range(len(atom.shape)))
    while True:
        equation = made_by(atom, producers)
        step = None if equation is None else moved(equation)
        if equation is None or step is None:
            shape = atom.shape
            return Origin(atom, tuple(a if a is not None and shape[a] > 1 else None for a in axes))
        axes = tuple(None if a is None else step[a] for a in axes)
        atom = equation.inputs[0]


def moved(equation: Equation) -> Axes | None:
    """For every axis of the result, the operand's axis; None if entries are not just moved."""
    params, primitive = equation.params, equation.primitive
    if is_identity(equation):
        return tuple(range(len(equation.outputs[0].shape)))
    if primitive is p.transpose_p:
        return tuple(params["permutation"])
    if primitive is p.broadcast_in_dim_p:
        operand, shape = equation.inputs[0].shape, equation.outputs[0].shape
        found: list[int | None] = [None] * len(shape)
        for axis, place in enumerate(params["broadcast_dimensions"]):
            if operand[axis] == shape[place]:
                found[place] = axis
        return tuple(found)
    if primitive in (p.squeeze_p, p.reshape_p):
        return _unit_axes(equation.inputs[0].shape, equation.outputs[0].shape)
    return None


def moves_units(equation: Equation) -> bool:
    """Whether an equation only adds, drops or moves axes of length one."""
    found = moved(equation) if len(equation.outputs) == 1 else None
    if found is None:
        return False
    before, after = equation.inputs[0].shape, equation.outputs[0].shape
    if [n for n in before if n != 1] != [n for n in after if n != 1]:
        return False
    long = [a for a in found if a is not None and before[a] != 1]
    return long == [a for a, n in enumerate(before) if n != 1]


def _unit_axes(before: tuple[int, ...], after: tuple[int, ...]) -> Axes | None:
    """Axes of a reshape that only adds or drops axes of length one."""
    long = [a for a, n in enumerate(before) if n != 1]
    if [before[a] for a in long] != [n for n in after if n != 1]:
        return None
    rest = iter(long)
    return tuple(None if n == 1 else next(rest) for n in after)


def constant_along(atom: Atom, axes: tuple[int, ...], producers: Producers) -> bool:
    """Whether an operand of an elementwise equation is constant along these axes.

    Stopped gradients do not matter to that.
    """
    if not atom.shape:
        return True
    found = origin(atom, producers)
    layout, stop = found.axes, producer(found.root, producers)

    def constant(axis: int) -> bool:
        inner = layout[axis]
        if atom.shape[axis] == 1 or inner is None:
            return True
        if stop is None or stop.primitive is not p.stop_gradient_p:
            return False
        return constant_along(stop.inputs[0], (inner,), producers)

    return all(map(constant, axes))


def kept_axes(rank: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The axes that a reduction keeps."""
    return tuple(a for a in range(rank) if a not in axes)


def spread_over(shape: tuple[int, ...], axes: tuple[int, ...], layout: Axes) -> bool:
    """Whether a layout puts every slice's number at the entries of the slice.

    The layout of a scalar fits every shape.
    """
    layout = layout or (None,) * len(shape)
    return len(layout) == len(shape) and all(
        found == (None if a in axes or n == 1 else a)
        for a, (n, found) in enumerate(zip(shape, layout, strict=True))
    )


def reduced(shape: tuple[int, ...], axes: tuple[int, ...], result: tuple[int, ...]) -> Axes | None:
    """Axes of a reduction's result, with unit axes or without, as axes of its operand."""
    if result == tuple(1 if a in axes else n for a, n in enumerate(shape)):
        return tuple(range(len(shape)))
    kept = kept_axes(len(shape), axes)
    return kept if result == tuple(shape[a] for a in kept) else None


def through(axes: Axes, inner: Sequence[int | None]) -> Axes:
    """Axes of a value by way of another one whose axes are known."""
    return tuple(None if a is None else inner[a] for a in axes)


def without(layout: Axes, axes: tuple[int, ...]) -> Axes:
    """The layout with None for these axes of the origin."""
    return tuple(None if a in axes else a for a in layout)


def long_axes(layout: Axes, shape: tuple[int, ...]) -> Axes:
    """The layout with None for the origin's axes of length one."""
    return tuple(a if a is not None and shape[a] > 1 else None for a in layout)
