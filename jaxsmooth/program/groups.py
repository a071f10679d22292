"""Statistics of groups of channels, seen along the groups.

Group normalisation splits the channels as (groups, channels of each), takes its means along
the latter, and repeats them over the channels: a broadcast and a reshape that merges both
axes. What is computed from the repeated means is computed here with the axis split, where a
mean is constant along an axis, and merged again. That is done for what is centred or normalised
so, and nothing else changes: what is not moved reads what is merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Literal, Value, live
from jaxsmooth.program.layout import moved, origin, producer
from jaxsmooth.program.norms import CENTERED, NORM, NORMALISED, norms

# Smooth: a kink stays on the values of the program, where it is smoothed.
_ELEMENTWISE = frozenset(
    {
        p.add_p, p.sub_p, p.mul_p, p.div_p, p.neg_p, p.sqrt_p, p.rsqrt_p, p.square_p,
        p.integer_pow_p, p.copy_p, p.convert_element_type_p,
    }
)  # fmt: skip


def grouped(
    equations: Sequence[Equation], outputs: Sequence[Atom], known: dict[Value, Any]
) -> list[Equation]:
    """The equations with what follows from repeated values on split axes, dead ones dropped.

    Args:
      equations: live equations in order.
      outputs: what is wanted of them.
      known: values that are known; split ones are added.
    """
    trial = _Splitter(dict(known))
    found = trial.all(equations)
    if not trial.split:
        return list(equations)
    useful = _useful(found, norms(found, outputs, trial.known), trial.split)
    return live(_Splitter(known, useful).all(equations), outputs) if useful else list(equations)


def _useful(
    found: Sequence[Equation], recognised: Sequence[Equation], splits: Mapping[Value, _Split]
) -> set[Value]:
    """The values to split, for the sake of norms and normalisations of what is split.

    A norm with a kink is none of them: where it is smoothed, it has to be a value of f.
    """
    wide = {s.value: result for result, s in splits.items() if result is not s.value}
    sought = {
        e.outputs[0]
        for e in recognised
        if e.primitive in (CENTERED, NORMALISED) or (e.primitive is NORM and e.params["offset"])
    }
    # A product of a normalisation and something else reads one that is not in the program.
    readers = {e.outputs[0] for e in recognised if not sought.isdisjoint(e.inputs)}
    producers = {v: e for e in found for v in e.outputs}
    pending = [v for v in sought if v in wide]
    if any(v not in producers for v in sought):
        pending += [v for v in readers if v in wide]
    needed: set[Value] = set()
    while pending:
        value = pending.pop()
        if value in wide and value not in needed:
            needed.add(value)
            pending.extend(a for a in producers[value].inputs if isinstance(a, Value))
    return {wide[v] for v in needed}


@dataclass(frozen=True)
class _Split:
    """An axis as two: ``value`` has ``sizes`` at ``axis`` and the next one."""

    value: Atom
    axis: int
    sizes: tuple[int, int]

    def of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape with the axis split; one of length 1 becomes two."""
        sizes = self.sizes if shape[self.axis] != 1 else (1, 1)
        return (*shape[: self.axis], *sizes, *shape[self.axis + 1 :])


@dataclass(eq=False)
class _Splitter:
    """
    Attributes:
      known: values that are known.
      wanted: results to split, of equations that can be; None for all.
      producers: the equations before.
      split: for values, the same with an axis split.
      reshaped: the reshapes of values, by their shapes.
    """

    known: dict[Value, Any]
    wanted: set[Value] | None = None
    producers: dict[Value, Equation] = field(default_factory=dict)
    split: dict[Value, _Split] = field(default_factory=dict)
    reshaped: dict[tuple[Value, tuple[int, ...]], Value] = field(default_factory=dict)

    def all(self, equations: Sequence[Equation]) -> list[Equation]:
        """What stands for the equations."""
        return [e for equation in equations for e in self.visit(equation)]

    def visit(self, equation: Equation) -> list[Equation]:
        """What stands for the equation."""
        found = self._visit(equation) if len(equation.outputs) == 1 else [equation]
        for e in found:
            self.producers.update(dict.fromkeys(e.outputs, e))
            if e.primitive is p.reshape_p and isinstance(e.inputs[0], Value):
                self.reshaped.setdefault((e.inputs[0], e.outputs[0].shape), e.outputs[0])
        return found

    def _visit(self, equation: Equation) -> list[Equation]:
        first = equation.inputs[0] if equation.inputs else None
        found = self.split.get(first) if isinstance(first, Value) else None
        if equation.primitive is p.reshape_p and found is None:
            self._repeat(equation)
            return [equation]
        if self.wanted is not None and equation.outputs[0] not in self.wanted:
            return [equation]
        if equation.primitive in (p.broadcast_in_dim_p, p.reshape_p, p.squeeze_p):
            return [equation, *self._moved(equation, found)] if found else [equation]
        if equation.primitive in _ELEMENTWISE:
            return self._elementwise(equation) or [equation]
        return [equation]

    def _repeat(self, equation: Equation) -> None:
        """Note a reshape of a broadcast that merges an axis with one of repetitions."""
        (before,), (result,) = equation.inputs, equation.outputs
        spread = producer(before, self.producers)
        if spread is None or spread.primitive is not p.broadcast_in_dim_p:
            return
        layout = origin(before, self.producers).axes
        axes = [a for a in _merged(before.shape, result.shape) if None in layout[a : a + 2]]
        if not axes:
            return

        def repetitions(axis: int) -> int:
            pair = zip(before.shape, layout, strict=True)
            return math.prod(n for n, found in list(pair)[axis : axis + 2] if found is None)

        # Of merges that differ by an axis of length 1 only, the one of repetitions.
        axis = max(axes, key=repetitions)
        self.split[result] = _Split(before, axis, (before.shape[axis], before.shape[axis + 1]))

    def _moved(self, equation: Equation, found: _Split) -> list[Equation]:
        """The split operand, spread or with other unit axes, as the result is."""
        (result,), axes = equation.outputs, moved(equation)
        if axes is None or found.axis not in axes:
            return []
        place = axes.index(found.axis)
        split = _Split(result, place, found.sizes)
        wide = Value(ShapedArray(split.of(result.shape), result.dtype))
        params: dict[str, Any] = {"new_sizes": wide.shape, "dimensions": None, "sharding": None}
        primitive = p.reshape_p
        if equation.primitive is p.broadcast_in_dim_p:
            old = equation.params["broadcast_dimensions"]
            # The axis is now two, and those after it are one further.
            dims = [d + (d > place) for d in old]
            dims.insert(found.axis + 1, place + 1)
            params = {**equation.params, "shape": wide.shape, "broadcast_dimensions": tuple(dims)}
            primitive = p.broadcast_in_dim_p
        self.split[result] = replace(split, value=wide)
        return [
            replace(
                equation, primitive=primitive, params=params, inputs=(found.value,),
                outputs=(wide,), path=f"{equation.path}/split", eqn=None,
            )
        ]  # fmt: skip

    def _elementwise(self, equation: Equation) -> list[Equation] | None:
        """The equation on split operands, and its result merged again."""
        splits = [
            self.split[a] for a in equation.inputs if isinstance(a, Value) and a in self.split
        ]
        (result,) = equation.outputs
        if not splits or len({(s.axis, s.sizes) for s in splits}) > 1:
            return None
        first = splits[0]
        if any(len(a.shape) not in (0, len(result.shape)) for a in equation.inputs):
            return None
        if result.shape[first.axis] != first.sizes[0] * first.sizes[1]:
            return None
        wide = Value(ShapedArray(first.of(result.shape), result.dtype))
        added: list[Equation] = []
        inputs = tuple(self._operand(a, first, equation, added) for a in equation.inputs)
        self.split[result] = replace(first, value=wide)
        path = f"{equation.path}/split"
        return [
            *added,
            replace(equation, inputs=inputs, outputs=(wide,), path=path, eqn=None),
            _reshape(equation, wide, result, equation.path),
        ]

    def _operand(
        self, atom: Atom, split: _Split, equation: Equation, added: list[Equation]
    ) -> Atom:
        """An operand with the axis split."""
        if atom.shape == ():
            return atom
        if isinstance(atom, Value) and atom in self.split:
            return self.split[atom].value
        shape = split.of(atom.shape)
        if isinstance(atom, Value) and (atom, shape) in self.reshaped:
            return self.reshaped[atom, shape]
        wide = Value(ShapedArray(shape, atom.dtype))
        value = atom.value if isinstance(atom, Literal) else self.known.get(atom)
        if value is not None:
            self.known[wide] = value.reshape(shape) if isinstance(value, Tracer) else (
                np.reshape(value, shape)
            )  # fmt: skip
            return wide
        added.append(_reshape(equation, atom, wide, f"{equation.path}/operand"))
        return wide


def _reshape(equation: Equation, operand: Atom, result: Value, path: str) -> Equation:
    params = {"new_sizes": result.shape, "dimensions": None, "sharding": None}
    return Equation(p.reshape_p, params, (operand,), (result,), path, equation.source)


def _merged(before: tuple[int, ...], after: tuple[int, ...]) -> list[int]:
    """The axes of which a reshape merges one with the next one; none if it does more."""
    if len(before) != len(after) + 1:
        return []
    return [
        axis
        for axis, whole in enumerate(after)
        if (*before[:axis], whole, *before[axis + 2 :]) == after
        and before[axis] * before[axis + 1] == whole
    ]
