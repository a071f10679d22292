"""Half spectra of real signals, weighed as the whole ones are.

The transform of a real signal is kept for the frequencies 0 to n/2 alone. The others are the
conjugates of these, so that in the norm of the whole spectrum a frequency counts twice unless
it is its own conjugate. In that norm the transforms rfft and irfft are isometries but for √n;
in the norm of the half spectrum the product of their norms is √2 larger. Between an rfft and an
irfft, equations that treat every frequency alike (products, sums, truncation, padding, matrices
over other axes) are therefore done on the spectrum times D, with D_k² the number of times that
the frequency counts: irfft(Y) = irfft D⁻¹ (D Y), and D passes through them to the rfft.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.program import simplify
from jaxsmooth.program.complex_functions import DOT, PRODUCT
from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import made_by

Sources = list[tuple[int, int]]
"""Operands that D scales, with the axis of the frequencies; the others stay as they are."""

_ALL = frozenset({p.add_p, p.sub_p, p.add_jaxvals_p, p.neg_p, p.copy_p, p.conj_p})


def weighed(
    equations: Sequence[Equation], outputs: Sequence[Atom], known: Mapping[Value, Any]
) -> list[Equation]:
    """The equations with spectra between rfft and irfft in the norm of whole spectra.

    Args:
      equations: of pairs, in order.
      outputs: what is wanted of them.
      known: values that are known.
    """
    kinds = {e.params["kind"] for e in equations if e.primitive is p.fft_p}
    if not kinds >= {"RFFT", "IRFFT"}:
        return list(equations)
    finder = _Finder(known, {v: e for e in equations for v in e.outputs})
    ends: list[Equation] = []
    for equation in equations:
        if equation.primitive is p.fft_p and equation.params["kind"] == "IRFFT":
            n = equation.params["length"]
            spectrum = finder.scaled(equation.inputs[0], equation.params["axis"], n)
            if spectrum is not None:
                params = {**equation.params, "counted": n}
                equation = replace(equation, inputs=(spectrum,), params=params)
        ends.append(equation)
    found: list[Equation] = []
    for equation in ends:
        found.append(equation)
        for output in equation.outputs:
            found.extend(finder.twins.get(output, ()))
    return live(found, outputs)


@dataclass(eq=False)
class _Finder:
    known: Mapping[Value, Any]
    producers: Mapping[Value, Equation]
    # What was made for a value, an axis and a length; equations to add after that of a value.
    made: dict[tuple[Atom, int, int], Value | None] = field(default_factory=dict)
    twins: dict[Value, list[Equation]] = field(default_factory=dict)

    def scaled(self, atom: Atom, axis: int, length: int) -> Value | None:
        """D times an atom, or None where D does not pass through to an rfft.

        Args:
          atom: pairs.
          axis: that of the frequencies.
          length: of the signal whose own conjugates D counts once.
        """
        key = (atom, axis, length)
        if key not in self.made:
            self.made[key] = self._scaled(atom, axis, length)
        return self.made[key]

    def _scaled(self, atom: Atom, axis: int, length: int) -> Value | None:
        equation = made_by(atom, self.producers)
        if equation is None or len(equation.outputs) != 1:
            return None
        params, inputs = equation.params, equation.inputs
        if equation.primitive is p.fft_p and params["axis"] == axis:
            if params["kind"] != "RFFT":
                return None
            params = {**params, "counted": length}
            return self._twin(equation, inputs, params)
        for sources in self._sources(equation, axis):
            found = [(i, self.scaled(inputs[i], a, length)) for i, a in sources]
            changed = {i: v for i, v in found if v is not None}
            if len(changed) == len(found):
                inputs = tuple(changed.get(i, a) for i, a in enumerate(inputs))
                return self._twin(equation, inputs, params)
        return None

    def _twin(self, equation: Equation, inputs: tuple[Atom, ...], params: dict[str, Any]) -> Value:
        (output,) = equation.outputs
        result = Value(output.aval)
        twin = replace(
            equation,
            inputs=inputs,
            outputs=(result,),
            params=params,
            path=f"{equation.path}/counted",
        )
        self.twins.setdefault(output, []).append(twin)
        return result

    def _sources(self, e: Equation, axis: int) -> Iterator[Sources]:
        """The ways in which D passes from the result's axis to operands."""
        shape, params = e.outputs[0].shape, e.params
        if e.primitive in _ALL:
            if all(a.shape == shape for a in e.inputs):
                yield [(i, axis) for i in range(len(e.inputs))]
        elif e.primitive is PRODUCT:
            for i, a in enumerate(e.inputs):
                at = axis - len(shape) + len(a.shape)
                if at >= 0 and a.shape[at] == shape[axis]:
                    yield [(i, at)]
        elif e.primitive is DOT:
            yield from _of_matrices(e.params["of"], axis)
        elif e.primitive is p.fft_p:
            yield [(0, axis)]
        elif e.primitive is p.transpose_p:
            yield [(0, int(params["permutation"][axis]))]
        elif e.primitive in (p.reduce_sum_p, p.squeeze_p):
            gone = params["axes" if e.primitive is p.reduce_sum_p else "dimensions"]
            yield [(0, [a for a in range(len(e.inputs[0].shape)) if a not in gone][axis])]
        elif e.primitive is p.broadcast_in_dim_p:
            axes = list(params["broadcast_dimensions"])
            if axis in axes and e.inputs[0].shape[axes.index(axis)] == shape[axis]:
                yield [(0, axes.index(axis))]
        elif e.primitive is p.rev_p:
            if axis not in params["dimensions"]:
                yield [(0, axis)]
        elif e.primitive is p.reshape_p:
            yield from _reshaped(e.inputs[0].shape, shape, axis)
        elif e.primitive is p.slice_p:
            strides = params["strides"] or (1,) * len(shape)
            if params["start_indices"][axis] == 0 and strides[axis] == 1:
                yield [(0, axis)]
        elif e.primitive is p.pad_p:
            low, _, interior = params["padding_config"][axis]
            if low == 0 and interior == 0 and self._zero(e.inputs[1]):
                yield [(0, axis)]
        elif e.primitive is p.concatenate_p:
            if params["dimension"] != axis:
                yield [(i, axis) for i in range(len(e.inputs))]
            elif all(map(self._zero, e.inputs[1:])):
                yield [(0, axis)]
        elif e.primitive is p.dynamic_update_slice_p:
            if self._zero(e.inputs[0]) and self._zero(e.inputs[2 + axis]):
                yield [(1, axis)]
        elif e.primitive is p.select_n_p:
            # Where some of what is chosen from is 0, so is D times it.
            yield [(i, axis) for i, a in enumerate(e.inputs) if i and not self._zero(a)]
        elif e.primitive is p.scatter_p and self._zero(e.inputs[2]):
            yield [(0, axis)]
        elif e.primitive is p.scatter_p and self._is_block(e, axis):
            yield [(2, axis)]

    def _is_block(self, e: Equation, axis: int) -> bool:
        """Whether a scatter writes one block that starts at the frequency 0 into zeros."""
        numbers, (operand, indices, updates) = e.params["dimension_numbers"], e.inputs
        whole = tuple(range(len(updates.shape))) == tuple(numbers.update_window_dims)
        places = self._value(indices)
        if not whole or places is None or not self._zero(operand):
            return False
        starts = dict(zip(numbers.scatter_dims_to_operand_dims, places.reshape(-1), strict=True))
        return len(updates.shape) == len(operand.shape) and starts.get(axis, 0) == 0

    def _value(self, atom: Atom) -> np.ndarray | None:
        return simplify.numbers(atom, self.known)

    def _zero(self, atom: Atom) -> bool:
        value = self._value(atom)
        return value is not None and not value.any()


def _reshaped(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> Iterator[Sources]:
    """Of a reshape, the axis of the operand that is the result's."""
    count = math.prod(after[:axis])
    for at, size in enumerate(before):
        if size == after[axis] and math.prod(before[:at]) == count:
            yield [(0, at)]
            return


def _of_matrices(of: Equation, axis: int) -> Iterator[Sources]:
    """Of a dot_general, the operands that have an axis of the result."""
    contracting, batch = of.params["dimension_numbers"]
    count = len(batch[0])
    if axis < count:
        yield [(0, int(batch[0][axis]))]
        yield [(1, int(batch[1][axis]))]
        return
    for i, a in enumerate(of.inputs):
        used = {*contracting[i], *batch[i]}
        free = [k for k in range(len(a.shape)) if k not in used]
        if axis - count < len(free):
            yield [(i, free[axis - count])]
            return
        count += len(free)
