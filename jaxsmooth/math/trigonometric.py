"""Sharp enclosures of sin, cos and tan, over intervals of any width.

Their turning points and poles are multiples of pi/2, so that whether an interval
holds one is a question about floors and ceilings of its ends in quarter turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsmooth.math.array import Array, namespace, real, unit_roundoff
from jaxsmooth.math.enclosure import Interval, as_pair, enclose_value, everything_where


def holds_multiple(lo: Array, hi: Array, period: int, phase: int) -> Array:
    """Whether [lo, hi] may hold (period·k + phase)·pi/2 for an integer k.

    Division by the rounded pi/2 is off by two units; when in doubt the answer is yes.
    """
    xp = namespace(lo, hi)
    slack = 8 * unit_roundoff(lo, hi)
    bounded = (abs(lo) < 0.01 / slack) & (abs(hi) < 0.01 / slack)
    first = xp.where(bounded, lo, 0.0) * (2 / math.pi)
    last = xp.where(bounded, hi, 0.0) * (2 / math.pi)
    first = xp.ceil((first - slack * abs(first) - phase) / period - slack)
    last = xp.floor((last + slack * abs(last) - phase) / period + slack)
    return ~bounded | (last >= first)


def _inside(lo: Array, hi: Array) -> tuple[Array, Array]:
    # Infinite ends have no value; holds_multiple answers for them.
    xp = namespace(lo, hi)
    return xp.where(abs(lo) < np.inf, lo, 0.0), xp.where(abs(hi) < np.inf, hi, 0.0)


def _value(xp: Any, quarter: int, x: Array) -> Array:
    """sin(x + quarter·pi/2)."""
    sign = -1.0 if quarter % 4 >= 2 else 1.0
    return sign * (xp.sin(x) if quarter % 2 == 0 else xp.cos(x))


@dataclass(frozen=True)
class Sinusoid:
    """The function sin(x + quarter·pi/2), as a `ScalarFunction`.

    Example:
        >>> lo, hi = Sinusoid("sin", 0).range(0.0, 4.0)
        >>> round(float(lo), 6), float(hi)
        (-0.756802, 1.0)
    """

    name: str
    quarter: int

    def evaluate(self, x: Array) -> Array:
        """The function's value, elementwise."""
        return _value(namespace(x), self.quarter, real(x))

    def range(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of the function over [lo, hi]."""
        return self._enclosure(0, lo, hi)

    def slope(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of the derivative over [lo, hi]."""
        return self._enclosure(1, lo, hi)

    def curvature(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of the second derivative over [lo, hi]."""
        return self._enclosure(2, lo, hi)

    def domain_error(self, lo: Array, hi: Array) -> Array:
        """Never, unless an end is NaN."""
        lo, hi = as_pair(lo, hi)
        return ~(lo <= hi)

    def _enclosure(self, order: int, lo: Array, hi: Array) -> Interval:
        lo, hi = as_pair(lo, hi)
        xp = namespace(lo, hi)
        quarter = self.quarter + order
        with np.errstate(all="ignore"):
            ends = [self._end(quarter, x) for x in _inside(lo, hi)]
            low, high = xp.minimum(ends[0][0], ends[1][0]), xp.maximum(ends[0][1], ends[1][1])
            high = xp.where(holds_multiple(lo, hi, 4, (1 - quarter) % 4), 1.0, high)
            low = xp.where(holds_multiple(lo, hi, 4, (3 - quarter) % 4), -1.0, low)
            low, high = xp.clip(low, -1.0, 1.0), xp.clip(high, -1.0, 1.0)
            broken = ~(lo <= hi)
            return xp.where(broken, -1.0, low), xp.where(broken, 1.0, high)

    def _end(self, quarter: int, x: Array) -> Interval:
        xp = namespace(x)
        value = _value(xp, quarter, x)
        # Near its zeros an implementation is accurate in absolute terms only.
        size = 1.0 if quarter % 2 else xp.minimum(abs(x), 1.0)
        low, high = enclose_value(value, 32, 16 * unit_roundoff(x) * size)
        exact = (x == 0.0) & (quarter % 2 == 0)
        return xp.where(exact, 0.0, low), xp.where(exact, 0.0, high)


@dataclass(frozen=True)
class Tangent:
    """The tangent, as a `ScalarFunction`; an interval with a pole has an infinite range."""

    name: str = "tan"

    def evaluate(self, x: Array) -> Array:
        """tan(x) elementwise."""
        return namespace(x).tan(real(x))

    def range(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of tan over [lo, hi]."""
        return self._enclosure(lo, hi, lambda t: t, None)

    def slope(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of 1 + tan^2 over [lo, hi]."""
        low, high = self._enclosure(lo, hi, lambda t: 1.0 + t * t, 1.0)
        return namespace(low).maximum(low, 1.0), high

    def curvature(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of 2 tan (1 + tan^2) over [lo, hi]."""
        return self._enclosure(lo, hi, lambda t: 2.0 * t * (1.0 + t * t), None)

    def domain_error(self, lo: Array, hi: Array) -> Array:
        """Where [lo, hi] may hold a pole."""
        lo, hi = as_pair(lo, hi)
        return holds_multiple(lo, hi, 2, 1) | ~(lo <= hi)

    def _enclosure(self, lo: Array, hi: Array, of_tangent: Any, minimum: float | None) -> Interval:
        lo, hi = as_pair(lo, hi)
        xp = namespace(lo, hi)
        with np.errstate(all="ignore"):
            broken = holds_multiple(lo, hi, 2, 1) | ~(lo <= hi)
            first, last = (xp.where(broken, 0.25, x) for x in (lo, hi))
            ends = []
            for x in (first, last):
                value = of_tangent(xp.tan(x))
                # tan is formed as a quotient whose parts have absolute errors, and
                # its relative error counts up to three times in its cube.
                absolute = 64 * unit_roundoff(x) * xp.minimum(abs(x), 1.0)
                low, high = enclose_value(value, 512, absolute)
                exact = (x == 0.0) & (minimum is None)
                ends.append((xp.where(exact, 0.0, low), xp.where(exact, 0.0, high)))
            low, high = xp.minimum(ends[0][0], ends[1][0]), xp.maximum(ends[0][1], ends[1][1])
            if minimum is not None:
                low = xp.where(holds_multiple(lo, hi, 2, 0), minimum, low)
            return everything_where(broken, (low, high))


SIN = Sinusoid("sin", 0)
COS = Sinusoid("cos", 1)
TAN = Tangent()
