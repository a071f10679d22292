"""Sharp enclosures of smooth scalar functions, derived from declared facts.

A smooth function of one variable is a handful of facts for each of f, f' and f'': how
to evaluate it, its limits at the ends of the domain, and the points where it turns
or has a pole. Between those points it is monotone, so its range over an interval is
the hull of its values at both ends and at the points inside. Nothing else about a
function is ever written down (the idea is that of autobound's
``elementwise_functions``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxsmooth.math.array import Array, gamma, is_traced, namespace, real, tiny, unit_roundoff

Interval = tuple[Array, Array]
EXTREME = 2.0**-24  # what an intermediate overflow or underflow may hide


class ScalarFunction(Protocol):
    """A function R -> R with enclosures of its values and of two derivatives.

    Every method takes arrays of intervals ``[lo, hi]`` (ends may be infinite) and
    returns outward-rounded arrays of the same shape. Where an interval leaves the
    domain, the enclosure is ``(-inf, inf)``; no result is ever NaN.
    """

    @property
    def name(self) -> str:
        """Name of the function."""
        ...

    def evaluate(self, x: Array) -> Array:
        """f(x) elementwise (in the dtype of x for tracers), without outward rounding."""
        ...

    def range(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of f."""
        ...

    def slope(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of f'."""
        ...

    def curvature(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of f''."""
        ...

    def domain_error(self, lo: Array, hi: Array) -> Array:
        """Where an interval holds a point at which f is not defined or not finite."""
        ...


def outward(value: float, unit: float, units: float = 8) -> tuple[float, float]:
    """Enclosure of the constant that was written as this float, within some units of roundoff.

    A multiple of 2^-10 of moderate size was written exactly; anything else (pi/2,
    4/(3 sqrt 3), ...) was rounded, some of them several times.
    """
    if np.isinf(value) or (abs(value) < 1024 and float(value * 1024).is_integer()):
        return value, value
    return value - units * unit * abs(value), value + units * unit * abs(value)


def as_pair(lo: Array, hi: Array) -> Interval:
    """Both ends as analysis numbers of one dtype; a cast to a tracer's dtype is outward."""
    lo, hi = real(lo), real(hi)
    if is_traced(lo) and not is_traced(hi):
        return lo, cast_outward(hi, lo.dtype, np.inf)
    if is_traced(hi) and not is_traced(lo):
        return cast_outward(lo, hi.dtype, -np.inf), hi
    return lo, hi


def cast_outward(x: np.ndarray, dtype: Any, towards: float) -> np.ndarray:
    """x in that dtype, rounded towards the given infinity."""
    if np.asarray(x).dtype == dtype:
        return np.asarray(x)
    with np.errstate(all="ignore"):
        cast = np.asarray(x).astype(dtype)
        inward = cast.astype(np.float64) < x if towards > 0 else cast.astype(np.float64) > x
        return np.where(inward, np.nextafter(cast, np.asarray(towards, dtype)), cast)


def largest(*arrays: Array) -> float:
    """Largest finite number of the arithmetic that combines the arrays."""
    return float(np.finfo(np.float64 if unit_roundoff(*arrays) < 1e-10 else np.float32).max)


def enclose_value(value: Array, units: float, absolute: Array = 0.0) -> Interval:
    """Enclosure of a value that was computed with that many units of roundoff.

    An overflow, perhaps of an intermediate result, is a valid upper end and says
    only that the truth is large. Underflow, which XLA rounds to zero, costs some
    small multiple of the smallest normal number.
    """
    xp = namespace(value)
    biggest = largest(value) * EXTREME
    finite = abs(value) < np.inf
    safe = xp.where(finite, value, 0.0)
    margin = abs(safe) * gamma(units, value) + tiny(value) / EXTREME + absolute
    low = xp.where(finite, safe - margin, xp.where(value > 0, biggest, -np.inf))
    high = xp.where(finite, safe + margin, xp.where(value < 0, -biggest, np.inf))
    return low, high


def everything_where(mask: Array, enclosure: Interval) -> Interval:
    """The enclosure, replaced by the whole line where the mask holds."""
    xp = namespace(mask, *enclosure)
    low, high = enclosure
    return xp.where(mask, -np.inf, low), xp.where(mask, np.inf, high)


@dataclass(frozen=True)
class Derivative:
    """Facts of f, f' or f'': monotone between the turning points.

    Args:
        value: evaluates it, as ``value(xp, x)`` with xp ``numpy`` or ``jax.numpy``.
        limits: its limits at the two ends of the domain.
        turns: (location, value) of its local extrema, and of zeros that must stay exact.
        poles: (location, limit from the left, limit from the right).
        units: relative error of ``value``, in units of roundoff.
        amplified: whether ``value`` may round an exponent, or passes through log1p,
            which XLA has evaluated to no better than 240 units.
        absolute: absolute error of ``value``, in units of roundoff (where it has zeros that
            are no simple numbers); may be given as ``value`` is.
        turned: relative error of the values at the turning points, in units of roundoff.
    """

    value: Callable[[Any, Array], Array]
    limits: tuple[float, float]
    turns: tuple[tuple[float, float], ...] = ()
    poles: tuple[tuple[float, float, float], ...] = ()
    units: float = 32
    amplified: bool = False
    absolute: float | Callable[[Any, Array], Array] = 0
    turned: float = 8

    @property
    def points(self) -> tuple[tuple[float, float, float], ...]:
        """All points between which it is monotone, with limits from both sides."""
        return tuple((x, y, y) for x, y in self.turns) + self.poles

    @property
    def extent(self) -> tuple[float, float]:
        """Hull of all its values."""
        values = [*self.limits, *(y for _, *sides in self.points for y in sides)]
        return min(values), max(values)

    def end(self, x: Array, domain: tuple[float, float], anchor: float, upper: bool) -> Interval:
        """Enclosure of its value at one end of an interval, as a limit from inside."""
        xp = namespace(x)
        unit = unit_roundoff(x)
        ordinary = (x > domain[0]) & (x < domain[1])
        for location, *_ in self.points:
            ordinary = ordinary & (x != location)
        # A tracer must not meet the singular points, or its derivative would be NaN.
        # An exponent is at most 745 in float64 and 104 in float32, or all is lost anyway.
        units = self.units + self.amplified * (4096 if unit < 1e-10 else 512)
        inside = xp.where(ordinary, x, anchor)
        absolute = self.absolute(xp, inside) if callable(self.absolute) else self.absolute
        low, high = enclose_value(self.value(xp, inside), units, absolute * unit)
        low = xp.maximum(low, outward(self.extent[0], unit, self.turned)[0])
        high = xp.minimum(high, outward(self.extent[1], unit, self.turned)[1])
        special = [(x <= domain[0], self.limits[0]), (x >= domain[1], self.limits[1])]
        for location, left, right in self.points:
            special.append((x == location, left if upper else right))
        for here, constant in special:
            below, above = outward(constant, unit, self.turned)
            low, high = xp.where(here, below, low), xp.where(here, above, high)
        return low, high

    def enclosure(
        self, lo: Array, hi: Array, domain: tuple[float, float], anchor: float
    ) -> Interval:
        """Enclosure over [lo, hi], which must lie in the domain."""
        xp = namespace(lo, hi)
        unit = unit_roundoff(lo, hi)
        first = self.end(lo, domain, anchor, upper=False)
        last = self.end(hi, domain, anchor, upper=True)
        low, high = xp.minimum(first[0], last[0]), xp.maximum(first[1], last[1])
        for location, left, right in self.points:
            # A location that was rounded counts as inside when it may be.
            before, after = outward(location, unit)
            inside = (lo < after) & (hi > before)
            below = outward(min(left, right), unit, self.turned)[0]
            above = outward(max(left, right), unit, self.turned)[1]
            low = xp.where(inside, xp.minimum(low, below), low)
            high = xp.where(inside, xp.maximum(high, above), high)
        return low, high


@dataclass(frozen=True)
class SmoothFunction:
    """A `ScalarFunction` given by facts for each of its derivatives.

    Args:
        name: name of the function, a primitive's name where there is one.
        derivatives: facts of f, f' and f''.
        domain: where f is defined; its ends belong to it where f has a finite limit.
        anchor: a point inside the domain where nothing is singular.

    Example:
        >>> import numpy as np
        >>> facts = Derivative(lambda xp, x: xp.exp(x), (0.0, np.inf))
        >>> exp = SmoothFunction("exp", (facts, facts, facts))
        >>> lo, hi = exp.range(np.array([-np.inf]), np.array([0.0]))
        >>> print(float(lo[0]), round(float(hi[0]), 9))
        0.0 1.0
    """

    name: str
    derivatives: tuple[Derivative, Derivative, Derivative]
    domain: tuple[float, float] = (-np.inf, np.inf)
    anchor: float = 0.5

    def evaluate(self, x: Array) -> Array:
        """f(x) elementwise."""
        with np.errstate(all="ignore"):
            return self.derivatives[0].value(namespace(x), real(x))

    def range(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of f over [lo, hi]."""
        return self._enclosure(0, lo, hi)

    def slope(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of f' over [lo, hi]."""
        return self._enclosure(1, lo, hi)

    def curvature(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of f'' over [lo, hi]."""
        return self._enclosure(2, lo, hi)

    def domain_error(self, lo: Array, hi: Array) -> Array:
        """Where [lo, hi] holds a point at which f is not defined or not finite."""
        lo, hi = as_pair(lo, hi)
        bad = self._outside(lo, hi)
        facts = self.derivatives[0]
        for end, limit in zip(self.domain, facts.limits, strict=True):
            if np.isfinite(end) and np.isinf(limit):
                bad = bad | ((lo <= end) & (hi >= end))
        for location, *limits in facts.poles:
            if not np.isfinite(limits).all():
                bad = bad | ((lo <= location) & (hi >= location))
        return bad

    def _outside(self, lo: Array, hi: Array) -> Array:
        # Written so that NaN counts as outside.
        return ~((lo >= self.domain[0]) & (hi <= self.domain[1]) & (lo <= hi))

    def _enclosure(self, order: int, lo: Array, hi: Array) -> Interval:
        lo, hi = as_pair(lo, hi)
        with np.errstate(all="ignore"):
            enclosure = self.derivatives[order].enclosure(lo, hi, self.domain, self.anchor)
            return everything_where(self._outside(lo, hi), enclosure)
