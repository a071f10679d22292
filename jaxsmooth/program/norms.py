"""Euclidean norms and normalisations, recognised by algebra.

    x - mean(x)                       = centered(x)
    √(a Σ z² + c)                     = norm(z)
    z / √(a Σ z² + c)                 = normalised(z)
    mean(x²) - mean(x)²               = mean(centered(x)²)

along axes, with known numbers a > 0 and c >= 0, in any layout (`jaxsmooth.program.layout`).
These are layer, group, batch and RMS normalisation, `jnp.linalg.norm`, `jnp.std` and
`jax.nn.standardize`. Equation by equation a normalisation forgets that its divisor grows
with what it divides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import (
    Axes,
    bare,
    long_axes,
    origin,
    producer,
    reduced,
    spread_over,
    through,
    without,
)
from jaxsmooth.program.simplify import uniform
from jaxsmooth.program.squares import squared

CENTERED = Primitive("centered")
NORM = Primitive("norm")
NORMALISED = Primitive("normalised")
"""Params of all three: ``axes``; of the last two also ``scale`` a, ``offset`` c and ``floored``:
whether the program computes max(a Σ z², 0) + c."""


def norms(
    equations: Sequence[Equation], outputs: Sequence[Atom], known: Mapping[Value, Any]
) -> list[Equation]:
    """The equations with norms and normalisations as one equation each, dead ones dropped."""
    finder = _Finder(known)
    return live([found for e in equations for found in finder.visit(e)], outputs)


@dataclass(frozen=True, eq=False)
class _Sum:
    """factor·Σ x along axes, and for every axis of the value the axis of x."""

    x: Atom
    axes: tuple[int, ...]
    layout: Axes
    factor: float


@dataclass(frozen=True, eq=False)
class _Squares:
    """a Σ z² + c along axes."""

    z: Atom | _Wanted
    axes: tuple[int, ...]
    layout: Axes
    scale: float
    offset: float
    floored: bool

    @property
    def params(self) -> dict[str, Any]:
        names = ("axes", "scale", "offset", "floored")
        return {name: getattr(self, name) for name in names}


@dataclass(eq=False)
class _Finder:
    known: Mapping[Value, Any]
    producers: dict[Value, Equation] = field(default_factory=dict)

    def visit(self, equation: Equation) -> list[Equation]:
        """What stands for the equation."""
        rewrite = _REWRITES.get(equation.primitive)
        found = None
        if rewrite is not None and jnp.issubdtype(equation.outputs[0].dtype, jnp.floating):
            found = rewrite(self, equation)
        found = found or [equation]
        for e in found:
            self.producers.update(dict.fromkeys(e.outputs, e))
        return found

    # What values are.

    def number(self, atom: Atom) -> float | None:
        """The one known number that an atom is everywhere."""
        value = uniform(atom, self.known)
        return None if value is None else float(value)

    def scaled(self, equation: Equation) -> tuple[Atom, float] | None:
        """(x, factor) if the equation is x times or over a known number."""
        if equation.primitive is p.div_p:
            divisor = self.number(equation.inputs[1])
            return (equation.inputs[0], 1 / divisor) if divisor else None
        if equation.primitive is p.mul_p:
            for x, other in (equation.inputs, equation.inputs[::-1]):
                factor = self.number(other)
                if factor is not None and x.shape == equation.outputs[0].shape:
                    return x, factor
        return None

    def sum(self, atom: Atom) -> _Sum | None:
        layout: Axes = tuple(range(len(atom.shape)))
        factor = 1.0
        while True:
            found = origin(atom, self.producers)
            layout = through(layout, found.axes)
            equation = producer(found.root, self.producers)
            if equation is None:
                return None
            if equation.primitive is p.reduce_sum_p:
                x, axes = equation.inputs[0], tuple(int(a) for a in equation.params["axes"])
                places = [a for a in range(len(x.shape)) if a not in axes]
                layout = through(layout, places)
                return _Sum(x, axes, layout, factor)
            step = self.scaled(equation)
            if step is None:
                return None
            atom, factor = step[0], factor * step[1]

    def mean(self, atom: Atom) -> _Sum | None:
        """A sum that is a mean, exactly."""
        found = self.sum(atom)
        if found is None:
            return None
        count = self._count(found.x, found.axes)
        return found if count and found.factor == 1 / count else None

    @staticmethod
    def _count(x: Atom, axes: Sequence[int]) -> int:
        return math.prod(x.shape[a] for a in axes)

    def root_of_square(self, atom: Atom) -> Atom | None:
        """z if the atom is z²."""
        equation = producer(atom, self.producers)
        if equation is None:
            return None
        if equation.primitive is p.mul_p:
            first, second = (bare(a, self.producers) for a in equation.inputs)
            return equation.inputs[0] if first is second else None
        return squared(equation)

    def squares(self, atom: Atom) -> _Squares | None:
        offset = 0.0
        layout: Axes = tuple(range(len(atom.shape)))
        found = origin(atom, self.producers)
        equation = producer(found.root, self.producers)
        if equation is not None and equation.primitive is p.add_p:
            for summand, other in (equation.inputs, equation.inputs[::-1]):
                number = self.number(other)
                if number is not None and summand.shape == equation.outputs[0].shape:
                    offset, atom, layout = number, summand, found.axes
                    break
        if not 0 <= offset < math.inf:
            return None
        inner = self._plain_squares(atom, offset)
        if inner is None:
            return None
        layout = through(layout, inner.layout)
        return replace(inner, layout=layout)

    def _plain_squares(self, atom: Atom, offset: float) -> _Squares | None:
        layout, atom, floored = self._unfloored(atom)
        found = self.sum(atom)
        if found is None:
            return self._variance(layout, atom, offset, floored) if offset > 0 else None
        z = self.root_of_square(found.x)
        if z is None or not found.factor > 0 or z.shape != found.x.shape:
            return None
        layout = through(layout, found.layout)
        return _Squares(z, found.axes, layout, found.factor, offset, floored)

    def _unfloored(self, atom: Atom) -> tuple[Axes, Atom, bool]:
        """Layout and root of an atom, of max(x, c) with a number c <= 0 those of x.

        And whether c is 0. It is for what is never negative.
        """
        around = origin(atom, self.producers)
        equation = producer(around.root, self.producers)
        if equation is not None and equation.primitive is p.max_p:
            for inner, other in (equation.inputs, equation.inputs[::-1]):
                floor = self.number(other)
                if floor is not None and floor <= 0 and inner.shape == equation.outputs[0].shape:
                    return around.axes, inner, floor == 0
        return around.axes, around.root, False

    def _variance(self, around: Axes, atom: Atom, offset: float, floored: bool) -> _Squares | None:
        """mean(x²) - mean(x)², which is never negative."""
        equation = producer(atom, self.producers)
        if equation is None or equation.primitive is not p.sub_p:
            return None
        second, first = self.mean(equation.inputs[0]), self.root_of_square(equation.inputs[1])
        first = None if first is None else self.mean(first)
        x = None if second is None else self.root_of_square(second.x)
        if second is None or first is None or x is None:
            return None
        same = bare(first.x, self.producers) is bare(x, self.producers)
        if not (same and first.axes == second.axes and first.layout == second.layout):
            return None
        layout = through(around, second.layout)
        centered = self._centered_of(x, second.axes)
        return _Squares(centered, second.axes, layout, second.factor, offset, floored)

    def _centered_of(self, x: Atom, axes: tuple[int, ...]) -> Atom | _Wanted:
        """The value of an equation that has been found already, or one to be made."""
        x = bare(x, self.producers)
        for value, equation in self.producers.items():
            if self._centers(equation, x, axes):
                return value
        return _Wanted(x, axes)

    def _centers(self, equation: Equation | None, x: Atom, axes: tuple[int, ...]) -> bool:
        return (
            equation is not None
            and equation.primitive is CENTERED
            and bare(equation.inputs[0], self.producers) is x
            and equation.params["axes"] == axes
        )

    def same(self, value: Atom, z: Atom | _Wanted) -> bool:
        """Whether a value is z."""
        if isinstance(z, _Wanted):
            return self._centers(producer(value, self.producers), z.x, z.axes)
        first, second = bare(value, self.producers), bare(z, self.producers)
        if first is second:
            return True
        equation = producer(second, self.producers)
        return (
            equation is not None
            and equation.primitive is CENTERED
            and self._centers(
                producer(first, self.producers),
                bare(equation.inputs[0], self.producers),
                equation.params["axes"],
            )
        )

    # The rewrites.

    def difference(self, equation: Equation) -> list[Equation] | None:
        """x - mean(x)."""
        x, subtracted = equation.inputs
        found = self.mean(subtracted)
        if found is None or x.shape != equation.outputs[0].shape or x.shape != found.x.shape:
            return None
        same = bare(x, self.producers) is bare(found.x, self.producers)
        if not same or not spread_over(x.shape, found.axes, found.layout):
            return None
        params = {"axes": found.axes}
        return [replace(equation, primitive=CENTERED, params=params, inputs=(x,), eqn=None)]

    def root(self, equation: Equation) -> list[Equation] | None:
        """√(a Σ z² + c)."""
        found = self.squares(equation.inputs[0])
        if found is None or isinstance(found.z, _Wanted):
            return None
        shape = found.z.shape
        places = reduced(shape, found.axes, equation.outputs[0].shape)
        if places is None or found.layout != long_axes(without(places, found.axes), shape):
            return None
        z = (found.z,)
        return [replace(equation, primitive=NORM, params=found.params, inputs=z, eqn=None)]

    def quotient(self, equation: Equation) -> list[Equation] | None:
        """z / √(a Σ z² + c)."""
        z, divisor = equation.inputs
        found = origin(divisor, self.producers)
        norm = producer(found.root, self.producers)
        if norm is None or norm.primitive is not NORM or z.shape != equation.outputs[0].shape:
            return None
        (inner,), axes = norm.inputs, norm.params["axes"]
        places = reduced(inner.shape, axes, norm.outputs[0].shape)
        if places is None or inner.shape != z.shape or not self.same(z, inner):
            return None
        layout = without(through(found.axes, places), axes)
        if not spread_over(z.shape, axes, layout):
            return None
        return [replace(equation, primitive=NORMALISED, params=norm.params, inputs=(z,), eqn=None)]

    def product(self, equation: Equation) -> list[Equation] | None:
        """z · (a Σ z² + c)^(-1/2) · rest."""
        shape = equation.outputs[0].shape
        for z, others in (equation.inputs, equation.inputs[::-1]):
            if z.shape != shape:
                continue
            inner = producer(others, self.producers)
            splits: list[tuple[Atom, Atom | None]] = [(others, None)]
            if inner is not None and inner.primitive is p.mul_p:
                first, second = inner.inputs
                splits += [(first, second), (second, first)]
            for root, rest in splits:
                if len(root.shape) in (0, len(shape)):
                    found = self._inverse_norm(z, root)
                    if found is not None:
                        return self._normalised(equation, z, found, rest)
        return None

    def _inverse_norm(self, z: Atom, root: Atom) -> dict[str, Any] | None:
        found = origin(root, self.producers)
        equation = producer(found.root, self.producers)
        if equation is None or equation.primitive is not p.rsqrt_p:
            return None
        squares = self.squares(equation.inputs[0])
        if squares is None or not self.same(z, squares.z):
            return None
        layout = through(found.axes, squares.layout)
        if not spread_over(z.shape, squares.axes, layout):
            return None
        return squares.params

    def _normalised(
        self, equation: Equation, z: Atom, params: dict[str, Any], rest: Atom | None
    ) -> list[Equation]:
        whole = replace(equation, primitive=NORMALISED, params=params, inputs=(z,), eqn=None)
        if rest is None:
            return [whole]
        result = Value(equation.outputs[0].aval)
        path = f"{equation.path}/normalised"
        return [
            replace(whole, outputs=(result,), path=path),
            replace(equation, inputs=(result, rest), eqn=None),
        ]


@dataclass(frozen=True, eq=False)
class _Wanted:
    """centered(x), which the program need not have computed."""

    x: Atom
    axes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape


_REWRITES: dict[Any, Callable[[_Finder, Equation], list[Equation] | None]] = {
    p.sub_p: _Finder.difference,
    p.sqrt_p: _Finder.root,
    p.div_p: _Finder.quotient,
    p.mul_p: _Finder.product,
}
