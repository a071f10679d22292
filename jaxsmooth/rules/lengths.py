"""√(x₁² + … + xₙ² + c), elementwise: the length of the vector of its operands.

With r² = Σ x_k² and s = √(r² + c), per element and for a change d of the vector:

    gradient x/s:   |change| <= |d| r/s <= |d|
    Hessian:        (I - x xᵀ/s²)/s, of norm at most 1/s

Where c = 0 and all operands can be 0 there is a kink. It is smoothed as the radial function
φ(r) of a kernel of |r|: both eigenvalues of its Hessian, φ'' and φ'/r, are at most K/μ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsmooth.math.array import Array, down, namespace, norm2, times, tiny, up
from jaxsmooth.math.kernels import KERNELS, Kernel, working_dtype
from jaxsmooth.math.magnitude import (
    Magnitude,
    Response,
    elementwise_response,
    scale,
    tighten,
)
from jaxsmooth.math.radial import length
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.graph import Equation
from jaxsmooth.program.match import LENGTH
from jaxsmooth.rules.registry import KinkRule, Local, Site, define


def _root(squares: Sequence[Array], offset: float) -> Array:
    total = reduce(lambda a, b: a + b, squares) + offset
    return namespace(total).sqrt(total)


class LengthRule(KinkRule):
    """√(x₁² + … + xₙ² + c)."""

    def offset(self, eq: Local) -> float:
        """The number c."""
        return float(eq.params["offset"])

    def has_kinks(self, equation: Equation) -> bool:
        return equation.params["offset"] == 0

    def ends(self, eq: Local) -> tuple[Array, Array]:
        """Bounds of r, elementwise."""

        def compute() -> tuple[Array, Array]:
            terms = 2 * len(eq.ranges) + 8
            low, high = (
                _root([times(v, v) for v in values], 0.0)
                for values in ([x.absmin for x in eq.ranges], [x.absmax for x in eq.ranges])
            )
            xp = namespace(low, high)
            # Squares of the smallest numbers are 0.
            slack = math.sqrt(tiny(low)) * len(eq.ranges)
            return xp.maximum(down(low, terms) - slack, 0.0), up(high, terms) + slack

        return eq.once("ends", compute)

    def value(self, eq: Local, r: Array, upper: bool) -> Array:
        """Bound of √(r² + c)."""
        value = _root([times(r, r)], self.offset(eq))
        slack = math.sqrt(tiny(value))
        xp = namespace(value)
        return up(value, 8) + slack if upper else xp.maximum(down(value, 8) - slack, 0.0)

    def least_value(self, eq: Local) -> Array:
        """Lower bound of s."""
        low = self.value(eq, self.ends(eq)[0], False)
        return namespace(low).maximum(low, down(math.sqrt(self.offset(eq)), 4))

    def active(self, eq: Local) -> Array:
        """Where all operands can be 0, and that is a kink."""
        return (self.least_value(eq) <= 0) & (self.offset(eq) == 0)

    def slopes(self, eq: Local) -> Array:
        """Largest gradient, elementwise: it grows with r."""
        r = self.ends(eq)[1]
        xp = namespace(r)
        if self.offset(eq) == 0:
            return xp.ones(np.shape(r))
        finite = xp.isfinite(r)
        r = xp.where(finite, r, 0.0)
        slope = up(r / self.value(eq, r, False), 6)
        return xp.where(finite, xp.minimum(slope, 1.0), 1.0)

    def change(self, eq: Local, magnitudes: Sequence[Magnitude | None]) -> Magnitude | None:
        """Lengths of the vector's change, elementwise."""
        found = [m for m in magnitudes if m is not None]
        if not found:
            return None
        norm = up(norm2(namespace(*(m.norm for m in found)).stack([m.norm for m in found]), 0))
        entries = [m.entries for m in found if m.entries is not None]
        if len(entries) < len(found):
            return Magnitude(None, norm)
        return tighten(up(norm2(namespace(*entries).stack(entries), 0)), norm)

    def range(self, eq: Local) -> list[Range]:
        low, high = self.ends(eq)
        lo, hi = self.least_value(eq), self.value(eq, high, True)
        at = _root([times(x.center, x.center) for x in eq.ranges], 0.0)
        below, center = (self.value(eq, v, u) for v, u in ((down(at, 16), False), (at, True)))
        xp = namespace(center, low)
        rounding = norm2(up(center - below) + math.sqrt(tiny(center)))
        slope = xp.max(self.slopes(eq), initial=0.0)
        gains, rest = (sum(parts) for parts in ([x.gains for x in eq.ranges],
                                                [x.rest for x in eq.ranges]))  # fmt: skip
        radius = norm2(xp.stack([xp.asarray(x.radius) for x in eq.ranges]))
        terms = len(eq.ranges) + 4
        return [
            enclose(
                eq.radii,
                lo,
                hi,
                center,
                up(times(slope, gains), terms),
                up(times(slope, rest) + rounding, terms),
                up(times(slope, radius) + rounding, terms),
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        change = self.change(eq, magnitudes)
        return [None if change is None else scale(change, self.slopes(eq))]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        change = self.change(eq, magnitudes)
        if change is None:
            return [None]
        least = self.least_value(eq)
        xp = namespace(least)
        bend = xp.where(least > 0, up(1 / xp.where(least > 0, least, 1.0)), np.inf)
        # Where an element is smoothed, its kernel has all of the curvature.
        return [elementwise_response(xp.where(self.active(eq), 0.0, bend), change)]

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        change = self.change(eq, magnitudes)
        assert change is not None
        # The kernel of |r| has to be even.
        kernel = KERNELS["minimax"] if kernel.name == "paper" else kernel
        active = self.active(eq)
        curvature = namespace(active).where(active, kernel.absolute_smoothness, 0.0)
        dtype = eq.equation.outputs[0].dtype

        def compute(mu: Array, *given: Any) -> Any:
            operands = _working(dtype, given)

            def square(inside: Any, unit: Any) -> Any:
                return reduce(
                    jnp.add, [jnp.square(jnp.where(inside, x, 0.0) / unit) for x in operands]
                )

            def away(inside: Any) -> Any:
                return _length([jnp.where(inside, 1.0, x) for x in operands])

            return length(kernel, away, square, mu).astype(dtype)

        return Site(
            active,
            kernel.lower,
            kernel.upper,
            elementwise_response(curvature, change),
            eq.equation.inputs,
            compute,
            self.ends(eq),
            kernel.name,
        )

    def in_place_of(self, equation: Equation) -> Callable[..., Any] | None:
        # Second derivatives of max·√(1 + (min/max)²) are wrong where both are equal.
        if not self.has_kinks(equation):
            return None
        dtype = equation.outputs[0].dtype
        return lambda *operands: _length(_working(dtype, operands)).astype(dtype)


def _working(dtype: Any, operands: Sequence[Any]) -> list[Any]:
    """The operands in a type that holds them and the result, and reciprocals of all of them.

    Behind a barrier: zero in one place and rounded to another number in a second would
    divide by zero.
    """
    working = working_dtype(*operands, dtype)[1]
    return lax.optimization_barrier([x.astype(working) for x in operands])


def _length(operands: Sequence[Any]) -> Any:
    """√(Σ x²), with derivatives that are finite also at 0, where they are not used."""
    largest = reduce(jnp.maximum, [jnp.abs(x) for x in operands])
    positive = largest > 0
    # The length does not depend on the unit that it is measured in.
    unit = lax.stop_gradient(jnp.where(positive, largest, 1.0))
    squares = reduce(jnp.add, [jnp.square(x / unit) for x in operands])
    root = unit * jnp.sqrt(jnp.where(positive, squares, 1.0))
    return jnp.where(positive, root, 0.0)


define(LengthRule(), LENGTH)
