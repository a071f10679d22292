"""Ranges: enclosures of the values that a variable takes.

A range holds an elementwise interval and a ball in 2-norm about a center,

    lo <= v <= hi,     ‖v - center‖ <= radius,

and says how the ball comes about: with θ_j the leaves of the arguments and c_j the
centers of their sets,

    ‖v(θ) - center‖ <= Σ_j gains_j ‖θ_j - c_j‖ + rest.

Leaves that share one ball of radius R (weights and biases of a layer) are bounded
jointly by it, so the radius is R·‖gains‖₂ and not R·‖gains‖₁: that is what makes the
output of ``W x + b`` at most R·sqrt(‖x‖² + 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import Array, down, gamma, namespace, norm2, real, times, tiny, up


class Radii(Protocol):
    """Radii of the sets that the leaves of the arguments lie in."""

    def radius(self, gains: Array) -> Array:
        """Sum over sets of (radius of the set)·(2-norm of the gains of its leaves)."""
        ...

    def companions(self, leaf: int) -> int:
        """Number of leaves, this one counted, in the set that the leaf lies in."""
        ...


@dataclass(frozen=True, eq=False)
class Range:
    """Enclosure of a variable of shape S; see the module.

    Attributes:
      lo, hi: elementwise bounds, shape S, infinite where nothing is known.
      center: finite, shape S, between lo and hi.
      radius: bound of ‖v - center‖₂ over the whole variable.
      gains: shape (J,), one per leaf of the arguments.
      rest: part of the radius that no leaf accounts for.
      size: bound of ‖v‖₂ besides those that the interval and the ball imply.
      memo: what was computed from the range, by whoever computed it; the ranges of
        arguments live as long as the problem, so that their norms are computed once.
    """

    lo: Array
    hi: Array
    center: Array
    radius: Array
    gains: Array
    rest: Array
    size: Array = np.inf
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the variable."""
        return np.shape(self.lo)

    @cached_property
    def absmax(self) -> Array:
        """Elementwise bound of |v|."""
        xp = namespace(self.lo, self.hi)
        return xp.maximum(xp.abs(self.lo), xp.abs(self.hi))

    @property
    def absmin(self) -> Array:
        """Elementwise lower bound of |v|."""
        xp = namespace(self.lo, self.hi)
        return xp.maximum(xp.maximum(self.lo, -self.hi), 0.0)

    @cached_property
    def spread(self) -> Array:
        """Elementwise bound of |v - center|."""
        xp = namespace(self.lo, self.hi, self.center)
        return xp.minimum(up(xp.maximum(self.hi - self.center, self.center - self.lo)), self.radius)

    @cached_property
    def norm(self) -> Array:
        """Bound of ‖v‖₂."""
        return self.slices(None)

    def slices(self, axes: tuple[int, ...] | None) -> Array:
        """Bound of the 2-norm of every slice of v along the axes."""
        key = ("slices", axes)
        if key not in self.memo:
            self.memo[key] = self._slices(axes)
        return self.memo[key]

    def apart(self, axes: tuple[int, ...]) -> Array:
        """Bound of the 2-norm of every slice of v - center along the axes.

        A rule that knows a better one writes it into the memo.
        """
        key = ("apart", axes)
        if key not in self.memo:
            by_entries = norm2(self.spread, axes)
            self.memo[key] = namespace(by_entries, self.radius).minimum(by_entries, self.radius)
        return self.memo[key]

    def _slices(self, axes: tuple[int, ...] | None) -> Array:
        by_ball = self.radius if axes is None else self.apart(axes)
        by_ball = up(norm2(self.center, axes) + by_ball)
        xp = namespace(by_ball, self.lo, self.hi, self.size)
        return xp.minimum(norm2(self.absmax, axes), xp.minimum(by_ball, self.size))


def point(value: Array, leaves: int) -> Range:
    """The range of a known number."""
    value = real(value)
    center, ball = _finite(value, 0.0)
    return Range(value, value, center, ball, np.zeros(leaves), ball)


def _finite(center: Array, ball: Array) -> tuple[Array, Array]:
    """The ball with a finite center: all of space if the center is not."""
    xp = namespace(center, ball)
    finite = xp.isfinite(center)
    if xp is np and finite.all():
        return center, ball
    return xp.where(finite, center, 0.0), xp.where(xp.all(finite), ball, np.inf)


def within_type(r: Range, dtype: Any) -> tuple[Array, Array]:
    """Where the lower and the upper ends of a range are finite numbers of the type."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return np.ones(r.shape, bool), np.ones(r.shape, bool)
    most = float(jnp.finfo(dtype).max)
    return r.lo >= -most, r.hi <= most


def enclose(
    radii: Radii,
    lo: Array,
    hi: Array,
    center: Array,
    gains: Array,
    rest: Array,
    radius: Any = np.inf,
    size: Any = np.inf,
) -> Range:
    """The tightest range that these facts imply together.

    Args:
      radii: sets of the arguments.
      lo, hi: elementwise bounds.
      center: any finite point; it is moved into [lo, hi], which brings it no farther
        from any v there (projections onto convex sets do not expand).
      gains, rest: bound of ‖v - center‖ as in the module.
      radius: another bound of ‖v - center‖, if one is known.
      size: a bound of ‖v‖, if one is known.
    """
    reach = up(radii.radius(gains) + rest)
    xp = namespace(lo, hi, center, reach, radius)
    lo = xp.where(xp.isnan(lo), -np.inf, lo)
    hi = xp.where(xp.isnan(hi), np.inf, hi)
    center = xp.clip(xp.where(xp.isfinite(center), center, 0.0), lo, hi)
    ball = xp.minimum(reach, radius)
    # Between bounds that are both infinite (padding of a maximum) no point is finite.
    (_, rest), (center, ball) = _finite(center, rest), _finite(center, ball)
    lo = xp.maximum(lo, down(center - ball))
    hi = xp.minimum(hi, up(center + ball))
    ball = xp.minimum(ball, norm2(up(xp.maximum(hi - center, center - lo))))
    return Range(lo, hi, center, ball, gains, rest, size)


class Near(Protocol):
    """How far a variable is from its center; see the attributes of `Range`."""

    @property
    def radius(self) -> Array:
        """Bound of the distance."""
        ...

    @property
    def gains(self) -> Array:
        """Part of it by leaf of the arguments."""
        ...

    @property
    def rest(self) -> Array:
        """Part of it that no leaf accounts for."""
        ...


def lipschitz_image(
    radii: Radii,
    x: Near,
    slope: Array,
    lo: Array,
    hi: Array,
    center: Array,
    rounding: Array,
    size: Any = np.inf,
) -> Range:
    """The range of what a function of x computes.

    Args:
      radii: sets of the arguments.
      x: its operand.
      slope: a Lipschitz constant of the function.
      lo, hi: elementwise bounds.
      center: its value at the operand's center, but for
      rounding: a bound of the 2-norm of the error.
      size: a bound of the 2-norm of values, if one is known.
    """
    gains = up(times(slope, x.gains))
    rest, radius = (up(times(slope, part) + rounding, 2) for part in (x.rest, x.radius))
    return enclose(radii, lo, hi, center, gains, rest, radius, size)


def within(
    radii: Radii,
    lo: Array,
    hi: Array,
    center: Array,
    gains: Array,
    rest: Array,
    radius: Array,
    size: Array,
) -> Range:
    """`enclose` of what is at most ``size`` long: its ball is around 0 where that is smaller."""
    far = radius >= size
    xp = namespace(center, far, size)
    center, gains, rest, radius = (
        xp.where(far, around_zero, around_center)
        for around_zero, around_center in (
            (0.0, center), (0.0, gains), (size, rest), (size, radius)
        )
    )  # fmt: skip
    return enclose(radii, lo, hi, center, gains, rest, radius, size)


def widen(r: Range, radii: Radii, lower: Array, upper: Array) -> Range:
    """The range of v + e with lower <= e <= upper elementwise (lower <= 0 <= upper)."""
    xp = namespace(r.lo, lower, upper)
    error = norm2(xp.maximum(xp.abs(lower), xp.abs(upper)))
    return enclose(
        radii,
        down(r.lo + lower),
        up(r.hi + upper),
        r.center,
        r.gains,
        up(r.rest + error),
        up(r.radius + error),
        up(r.size + error),
    )


def rounding_of(terms: Array, operations: int | float) -> Array:
    """2-norm of the rounding errors of sums whose terms' magnitudes sum to ``terms``."""
    return norm2(terms * gamma(operations, terms) + tiny(terms))
