"""Numbers on a tail |x| >= 2^bits: intervals that also know how fast they grow.

On an unbounded cell an interval times an interval says nothing of x·logistic'(x), as
x is unbounded. So a number carries, besides its interval, exponents with

    |x|^lower <= |v(x)| <= |x|^upper    and, where it has a limit,
    |v(x) - limit| <= |x|^remainder · exp(-|x|^(3/4)),

for all x of the tail. Constant factors are paid for with exponents: c <= |x|^(log2(c)/bits)
for c >= 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from jaxsmooth.math.enclosure import ScalarFunction, SmoothFunction, outward
from jaxsmooth.math.interval import Interval

FASTEST = 50.0  # |x|^50 exp(-|x|^(3/4)) < NOTHING for |x| >= 2^16, and decreases
NOTHING = 1e-300
SLACK = 1e-12  # covers the rounding of exponents; those that are exact go without it

# Limits of f, f', f'' at -inf and inf that are approached like 4 exp(-log(2)|u|) or faster.
_ZERO = (0.0, 0.0)
EXPONENTIAL_LIMITS: dict[str, tuple[tuple[float | None, float | None], ...]] = {
    "exp": ((0.0, None),) * 3,
    "exp2": ((0.0, None),) * 3,
    "expm1": ((-1.0, None), (0.0, None), (0.0, None)),
    "tanh": ((-1.0, 1.0), _ZERO, _ZERO),
    "logistic": ((0.0, 1.0), _ZERO, _ZERO),
    "erf": ((-1.0, 1.0), _ZERO, _ZERO),
    "erfc": ((2.0, 0.0), _ZERO, _ZERO),
    "softplus": ((0.0, None), (0.0, 1.0), _ZERO),
}
# With |u| >= |x|^0.82 and |x| >= 2^16, 4 exp(-log(2)|u|) <= exp(-|x|^(3/4)).
ENOUGH = 0.82


@dataclass(frozen=True)
class Tail:
    """A number on a tail; see the module docstring. Fields are of one number."""

    interval: Interval
    bits: float
    upper: float = math.inf
    lower: float = -math.inf
    limit: float | None = None
    remainder: float = -math.inf

    @staticmethod
    def variable(bits: float, sign: float) -> Tail:
        """The variable itself on the tail of that sign."""
        ends = np.array([2.0**bits]), np.array([np.inf])
        interval = Interval(*ends)
        return Tail(interval if sign > 0 else -interval, bits, 1.0, 1.0)

    @staticmethod
    def constant(value: float, like: Tail) -> Tail:
        """The number value."""
        return Tail(Interval.constant(value, like.interval), like.bits, limit=value).normal()

    @property
    def lo(self) -> np.ndarray:
        """Lower end."""
        return self.interval.lo

    @property
    def hi(self) -> np.ndarray:
        """Upper end."""
        return self.interval.hi

    def normal(self) -> Tail:
        """The same number, each field sharpened by what the others imply."""
        interval = self.interval
        if self.limit is not None and self.remainder <= FASTEST:
            small = 0.0 if self.remainder == -math.inf else NOTHING
            centre = Interval.constant(self.limit, interval)
            interval = interval.meet(
                centre
                + Interval.constant(small, interval).hull(Interval.constant(-small, interval))
            )
        if self.upper <= 0.0:
            top = np.array([2.0 ** (self.bits * self.upper) * (1 + 1e-14)])
            interval = interval.meet(Interval(-top, top))
        largest = float(interval.magnitude[0])
        smallest = float(max(interval.lo[0], -interval.hi[0], 0.0))
        upper = min(self.upper, max(0.0, self._exponent(largest)))
        lower = max(self.lower, min(0.0, self._exponent(smallest, -SLACK)))
        return replace(self, interval=interval, upper=upper, lower=lower)

    def _exponent(self, factor: float, slack: float = SLACK) -> float:
        """The exponent that pays for a constant factor, rounded up unless slack is negative."""
        if factor == 0 or math.isinf(factor):
            return -math.inf if factor == 0 else math.inf
        return 0.0 if factor == 1 else math.log2(factor) / self.bits + slack

    def _sum(self, *exponents: float) -> float:
        """Exponent of a sum of powers."""
        top = max(exponents)
        if math.isinf(top):
            return top
        total = sum(2.0 ** (self.bits * (e - top)) for e in exponents)
        return top + self._exponent(total)

    def __neg__(self) -> Tail:
        limit = None if self.limit is None else -self.limit
        return replace(self, interval=-self.interval, limit=limit)

    def __add__(self, other: Tail) -> Tail:
        a, b = (self, other) if self.lower >= other.lower else (other, self)
        lower = -math.inf
        if (a.lo >= 0 and b.lo >= 0) or (a.hi <= 0 and b.hi <= 0):
            lower = a.lower
        elif b.upper < a.lower:
            kept = 1.0 - 2.0 ** (self.bits * (b.upper - a.lower))
            lower = a.lower + self._exponent(kept, -SLACK) if kept > 1e-3 else -math.inf
        limit, remainder = None, -math.inf
        if a.limit is not None and b.limit is not None:
            exact = Interval.constant(a.limit, a.interval) + Interval.constant(b.limit, a.interval)
            if exact.lo == exact.hi:
                limit, remainder = float(exact.lo[0]), self._sum(a.remainder, b.remainder)
        return Tail(
            a.interval + b.interval, self.bits, self._sum(a.upper, b.upper), lower, limit, remainder
        ).normal()

    def __sub__(self, other: Tail) -> Tail:
        return self + (-other)

    def __mul__(self, other: Tail) -> Tail:
        a, b = self, other
        limit, remainder = None, -math.inf
        if a.limit is not None and b.limit is not None:
            ends = (Interval.constant(x.limit, x.interval) for x in (a, b))  # type: ignore[arg-type]
            exact = next(ends) * next(ends)
            if exact.lo == exact.hi:
                sizes = [max(0.0, self._exponent(abs(x.limit or 0.0))) for x in (a, b)]
                limit = float(exact.lo[0])
                remainder = self._sum(
                    sizes[0] + b.remainder, sizes[1] + a.remainder, a.remainder + b.remainder
                )
        for x, y in ((a, b), (b, a)):
            if limit is None and x.limit == 0.0 and y.upper < math.inf:
                limit, remainder = 0.0, x.remainder + y.upper
        upper = -math.inf if -math.inf in (a.upper, b.upper) else a.upper + b.upper
        lower = -math.inf if -math.inf in (a.lower, b.lower) else a.lower + b.lower
        return Tail(a.interval * b.interval, self.bits, upper, lower, limit, remainder).normal()

    def power(self, exponent: int) -> Tail:
        """The positive integer power."""
        result = self
        for _ in range(exponent - 1):
            result = result * self
        return replace(result, interval=result.interval.meet(self.interval.power(exponent)))

    def inverse(self) -> Tail:
        """The reciprocal."""
        return Tail(self.interval.inverse(), self.bits, -self.lower, -self.upper).normal()

    def apply(self, function: ScalarFunction, order: int) -> Tail:
        """The function or its derivative of that order."""
        name, u = function.name, self.interval
        result = Tail(u.apply(function, order), self.bits)
        positive = bool(u.lo >= 0)
        limits = EXPONENTIAL_LIMITS.get(name)
        if limits and self.lower >= ENOUGH and (positive or u.hi <= 0):
            limit = limits[order][positive]
            result = replace(result, limit=limit, remainder=-math.inf if limit is None else 0.0)
        elif self.limit == 0.0 and order < 2 and isinstance(function, SmoothFunction):
            rate = float(u.apply(function, order + 1).magnitude[0])
            for location, value in function.derivatives[order].turns:
                known = outward(value, 1.0) == (value, value)
                if location == 0.0 and known and math.isfinite(rate):
                    remainder = self.remainder + max(0.0, self._exponent(rate))
                    result = replace(result, limit=float(value), remainder=remainder)
        if name == "softplus" and order == 0:
            result = replace(result, upper=self._sum(max(self.upper, 0.0), 0.0))
            result = replace(result, lower=self.lower) if positive else result
        return result.normal()

    def meet(self, other: Interval) -> Tail:
        """The same number, known to be in the interval."""
        return replace(self, interval=self.interval.meet(other)).normal()

    def bad(self, function: ScalarFunction) -> np.ndarray:
        """Whether the function is not defined everywhere on it."""
        return self.interval.bad(function)

    def select(self, decision: np.ndarray, other: Tail) -> Tail:
        """self where the decision is 1, other where it is 0, their hull otherwise."""
        if decision[0] != 2:
            return self if decision[0] == 1 else other
        hull = self.interval.hull(other.interval)
        return Tail(hull, self.bits, max(self.upper, other.upper)).normal()
