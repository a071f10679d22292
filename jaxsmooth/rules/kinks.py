"""Elementwise kinks: max, min, abs, clamp.

max(a, b) = b + relu(a - b): where the ranges of a and b do not overlap it is one of them,
exactly, in f and in f_eps; elsewhere the kernel smooths the kink of relu at a = b. Its
slopes are (σ, 1 - σ) with σ in [0, 1], its curvature is K/μ in the direction a - b.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import primitives as p

from jaxsmooth.math.array import Array, namespace, norm2, times, up
from jaxsmooth.math.kernels import Kernel
from jaxsmooth.math.magnitude import Magnitude, add, elementwise_response, mix, scale
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.rules.registry import KinkRule, Local, Site, define


class ExtremumRule(KinkRule):
    """max (sign = 1) or min (sign = -1) of two operands, elementwise."""

    def __init__(self, sign: int):
        self.sign = sign

    def _bounds(self, eq: Local) -> tuple[Array, Array, Array, Array]:
        """Bounds of both operands, turned so that the larger one wins."""
        x, y = eq.ranges
        if self.sign > 0:
            return x.lo, x.hi, y.lo, y.hi
        return -x.hi, -x.lo, -y.hi, -y.lo

    def winners(self, eq: Local) -> tuple[Array, Array]:
        """Where the first operand may win, and where the second may."""

        def compute() -> tuple[Array, Array]:
            xlo, xhi, ylo, yhi = self._bounds(eq)
            inf = float("inf")
            return ~((ylo > xhi) | (xhi == -inf)), ~((xlo > yhi) | (yhi == -inf))

        return eq.once("winners", compute)

    def range(self, eq: Local) -> list[Range]:
        x, y = eq.ranges
        first, second = self.winners(eq)
        xp = namespace(x.lo, y.lo, x.radius, y.radius)
        choose = xp.maximum if self.sign > 0 else xp.minimum
        a, b = (xp.where(xp.any(w), 1.0, 0.0) for w in (first, second))
        # |max(x, y) - max(xc, yc)| <= max(|x - xc|, |y - yc|), but the center's own winner
        # need not be one of the possible ones: then both operands count.
        center = choose(x.center, y.center)
        certain = ~(first & second)
        center = xp.where(certain, xp.where(first, x.center, y.center), center)
        radius = norm2(xp.stack([times(a, x.radius), times(b, y.radius)]))
        return [
            enclose(
                eq.radii,
                choose(x.lo, y.lo),
                choose(x.hi, y.hi),
                center,
                up(times(a, x.gains) + times(b, y.gains)),
                up(times(a, x.rest) + times(b, y.rest)),
                radius,
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return [mix(*self._masked(eq, magnitudes, self.winners(eq)))]

    def _masked(
        self, eq: Local, magnitudes: Sequence[Magnitude | None], masks: Sequence[Array]
    ) -> list[Magnitude | None]:
        xp = namespace(*masks)
        return [
            None if m is None else scale(m, xp.where(mask, 1.0, 0.0))
            for m, mask in zip(magnitudes, masks, strict=True)
        ]

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        first, second = self.winners(eq)
        active = first & second
        xp = namespace(active)
        a, b = self._masked(eq, magnitudes, (active, active))
        change = add(a, b)
        assert change is not None
        response = elementwise_response(xp.where(active, kernel.smoothness, 0.0), change)
        xlo, xhi, ylo, yhi = self._bounds(eq)

        def compute(mu: Array, x: Any, y: Any) -> Any:
            return (kernel.maximum if self.sign > 0 else kernel.minimum)(x, y, mu)

        lower, upper = kernel.lower, kernel.upper
        return Site(
            active,
            *((lower, upper) if self.sign > 0 else (-upper, -lower)),
            response,
            eq.equation.inputs,
            compute,
            (xlo - yhi, xhi - ylo),
            kernel.name,
        )


class AbsRule(KinkRule):
    """|x|: a kink of jump 2 at 0."""

    def range(self, eq: Local) -> list[Range]:
        (x,) = eq.ranges
        xp = namespace(x.lo, x.hi)
        inside = (x.lo <= 0) & (x.hi >= 0)
        lo = xp.where(inside, 0.0, xp.minimum(abs(x.lo), abs(x.hi)))
        return [enclose(eq.radii, lo, x.absmax, abs(x.center), x.gains, x.rest, x.radius)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return list(magnitudes)

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        (x,), (m,) = eq.ranges, magnitudes
        assert m is not None
        active = (x.lo <= 0) & (x.hi >= 0)
        curvature = namespace(active).where(active, kernel.absolute_smoothness, 0.0)
        return Site(
            active,
            kernel.lower,
            kernel.upper,
            elementwise_response(curvature, m),
            eq.equation.inputs,
            lambda mu, value: kernel.absolute(value, mu),
            (x.lo, x.hi),
            kernel.name,
        )


class ClampRule(KinkRule):
    """clamp(a, x, b) = min(max(x, a), b).

    Both kinks are smoothed with ν = μ/(upper - lower) of the kernel's error: the first moves
    the value by [lower, upper]·ν, the second by [-upper, -lower]·ν, together within ±μ. One
    is convex and the other concave, so their curvatures, at most K/ν each, do not add where
    only x varies.
    """

    def range(self, eq: Local) -> list[Range]:
        a, x, b = eq.ranges
        xp = namespace(a.lo, x.lo, b.lo)

        def clamp(low: Array, value: Array, high: Array) -> Array:
            return xp.minimum(xp.maximum(value, low), high)

        rest = up(x.rest + up(a.radius + b.radius))
        return [
            enclose(
                eq.radii,
                clamp(a.lo, x.lo, b.lo),
                clamp(a.hi, x.hi, b.hi),
                clamp(a.center, x.center, b.center),
                x.gains,
                rest,
                up(x.radius + up(a.radius + b.radius)),
            )
        ]

    def _inside(self, eq: Local) -> Array:
        """Where x may lie between the bounds."""
        a, x, b = eq.ranges
        return (x.hi >= a.lo) & (x.lo <= b.hi)

    def _active(self, eq: Local) -> Array:
        """Where x may meet a bound, also one that the other bound overrides."""
        a, x, b = eq.ranges
        return ((x.lo <= a.hi) & (x.hi >= a.lo)) | ((x.lo <= b.hi) & (x.hi >= b.lo))

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        low, m, high = magnitudes
        felt = self._inside(eq)
        if eq.kernel is not None:
            # Where the bounds cross, x is smoothed against one that f does not follow.
            felt = felt | self._active(eq)
        slope = namespace(felt).where(felt, 1.0, 0.0)
        # A result that follows a bound follows it with slope one.
        return [add(None if m is None else scale(m, slope), add(low, high))]

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        x = eq.ranges[1]
        low, m, high = magnitudes
        active = self._active(eq)
        split = kernel.upper - kernel.lower
        change = add(m, add(low, high))
        assert change is not None
        parts = 1 if low is None and high is None else 2
        curvature = namespace(active).where(active, parts * kernel.smoothness * split, 0.0)

        def compute(mu: Array, low: Any, value: Any, high: Any) -> Any:
            nu = mu / split
            return kernel.minimum(kernel.maximum(value, low, nu), high, nu)

        return Site(
            active,
            -1.0,
            1.0,
            elementwise_response(curvature, change),
            eq.equation.inputs,
            compute,
            (x.lo, x.hi),
            kernel.name,
            split,
        )


define(ExtremumRule(1), p.max_p)
define(ExtremumRule(-1), p.min_p)
define(AbsRule(), p.abs_p)
define(ClampRule(), p.clamp_p)
