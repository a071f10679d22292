"""Interval arithmetic on float64 arrays with directed rounding.

Sums and products are rounded outward only where they are inexact (found with the
error-free transformations of Dekker and Knuth), so that comparisons with a threshold
such as ``x - 3 >= 0`` are decided on cells that touch it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxsmooth.math.enclosure import ScalarFunction

SPLITTER = 2.0**27 + 1


def round_sum(a: np.ndarray, b: np.ndarray, towards: float) -> np.ndarray:
    """a + b rounded towards the given infinity."""
    s = a + b
    t = s - a
    error = (a - (s - t)) + (b - t)
    wrong = error < 0 if towards < 0 else error > 0
    return np.where(wrong & np.isfinite(s), np.nextafter(s, towards), s)


def product_error(a: np.ndarray, b: np.ndarray, p: np.ndarray) -> np.ndarray:
    """a·b - p exactly, or NaN where the transformation could over- or underflow."""
    c, d = a * SPLITTER, b * SPLITTER
    a1, b1 = c - (c - a), d - (d - b)
    a2, b2 = a - a1, b - b1
    error = a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)
    size, limit = np.abs(p), 2.0**400
    moderate = (size > 1 / limit) & (size < limit) & (np.abs(a) < limit) & (np.abs(b) < limit)
    return np.where(moderate, error, np.nan)


def rounded_products(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a·b rounded down and rounded up, with 0·inf = 0."""
    zero = (a == 0) | (b == 0)
    p = np.where(zero, 0.0, a * b)
    error = product_error(a, b, p)
    exact = zero | np.isinf(a) | np.isinf(b)
    low = np.where(exact | (error >= 0), p, np.nextafter(p, -np.inf))
    high = np.where(exact | (error <= 0), p, np.nextafter(p, np.inf))
    return low, high


@dataclass(frozen=True)
class Interval:
    """Arrays of closed intervals; an end may be infinite, none is ever NaN."""

    lo: np.ndarray
    hi: np.ndarray

    @staticmethod
    def constant(value: float, like: Interval) -> Interval:
        """The number value, in as many copies as the other has intervals."""
        x = np.full_like(like.lo, value)
        return Interval(x, x)

    @property
    def magnitude(self) -> np.ndarray:
        """Largest absolute value."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    def __neg__(self) -> Interval:
        return Interval(-self.hi, -self.lo)

    def __add__(self, other: Interval) -> Interval:
        lo = round_sum(self.lo, other.lo, -np.inf)
        hi = round_sum(self.hi, other.hi, np.inf)
        # inf - inf, and ends that overflowed
        lo = np.where(np.isnan(lo) | (lo == np.inf), -np.inf, lo)
        return Interval(lo, np.where(np.isnan(hi) | (hi == -np.inf), np.inf, hi))

    def __sub__(self, other: Interval) -> Interval:
        return self + (-other)

    def __mul__(self, other: Interval) -> Interval:
        mine = np.array([self.lo, self.lo, self.hi, self.hi])
        theirs = np.array([other.lo, other.hi, other.lo, other.hi])
        low, high = rounded_products(mine, theirs)
        lo, hi = low.min(axis=0), high.max(axis=0)
        # A factor that is infinite at a point says nothing about a limit.
        broken = self._singular() | other._singular() | (lo == np.inf) | (hi == -np.inf)
        return Interval(np.where(broken, -np.inf, lo), np.where(broken, np.inf, hi))

    def power(self, exponent: int) -> Interval:
        """The positive integer power, without the dependency of repeated products."""
        if exponent % 2 == 0:
            lo = np.maximum(np.maximum(self.lo, -self.hi), 0.0)
            base = Interval(lo, self.magnitude)
        else:
            base = self
        lo, hi = base.lo, base.hi
        down, up = np.where(lo < 0, np.inf, -np.inf), np.where(hi < 0, -np.inf, np.inf)
        low, high = np.abs(lo), np.abs(hi)
        for _ in range(exponent - 1):
            low = _round_by_sign(low, np.abs(lo), down)
            high = _round_by_sign(high, np.abs(hi), up)
        result = Interval(np.copysign(low, lo), np.copysign(high, hi))
        broken = self._singular() | (result.lo == np.inf) | (result.hi == -np.inf)
        return Interval(np.where(broken, -np.inf, result.lo), np.where(broken, np.inf, result.hi))

    def inverse(self) -> Interval:
        """1/x, or the whole line where x may be zero."""
        broken = (self.lo <= 0) & (self.hi >= 0)
        lo, hi = (np.where(broken, 1.0, x) for x in (self.lo, self.hi))
        low, high = _quotient(hi, -np.inf), _quotient(lo, np.inf)
        return Interval(np.where(broken, -np.inf, low), np.where(broken, np.inf, high))

    def apply(self, function: ScalarFunction, order: int) -> Interval:
        """The function or its derivative of that order."""
        enclose = (function.range, function.slope, function.curvature)[order]
        return Interval(*enclose(self.lo, self.hi))

    def bad(self, function: ScalarFunction) -> np.ndarray:
        """Where the function is not defined on all of the interval."""
        return np.asarray(function.domain_error(self.lo, self.hi))

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi))

    def meet(self, other: Interval) -> Interval:
        """What both enclose; where rounding left nothing, the first."""
        lo, hi = np.maximum(self.lo, other.lo), np.minimum(self.hi, other.hi)
        return Interval(np.where(lo <= hi, lo, self.lo), np.where(lo <= hi, hi, self.hi))

    def select(self, decision: np.ndarray, other: Interval) -> Interval:
        """self where the decision is 1, other where it is 0, the hull elsewhere."""
        both = self.hull(other)
        yes, no = decision == 1, decision == 0
        return Interval(
            np.where(yes, self.lo, np.where(no, other.lo, both.lo)),
            np.where(yes, self.hi, np.where(no, other.hi, both.hi)),
        )

    def _singular(self) -> np.ndarray:
        return (self.lo == np.inf) | (self.hi == -np.inf)


def _quotient(x: np.ndarray, towards: float) -> np.ndarray:
    """1/x rounded towards the given infinity."""
    y = 1.0 / x
    exact = np.isinf(x) | ((np.abs(np.frexp(x)[0]) == 0.5) & np.isfinite(y))
    return np.where(exact, y, np.nextafter(y, towards))


def _round_by_sign(a: np.ndarray, b: np.ndarray, towards: np.ndarray) -> np.ndarray:
    down, up = rounded_products(a, b)
    return np.where(towards > 0, up, np.maximum(down, 0.0))
