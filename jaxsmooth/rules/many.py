"""Smooth elementwise equations of several variables: pow, atan2, polynomial.

φ(x_1, …, x_n) elementwise, with bounds over the ranges of |φ_i| and of |φ_ij|:

    range        [φ];  ball around φ(centers) of radius Σ_i max|φ_i| radius_i
    first order  Σ_i |φ_i| ⊙ d_i
    second order Σ_ij |φ_ij| ⊙ a_i ⊙ b_j
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth._compat import primitive
from jaxsmooth.math import scalar
from jaxsmooth.math.array import Array, down, namespace, norm2, times, up
from jaxsmooth.math.magnitude import Magnitude, Response, add, elementwise_response, scale
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.graph import Equation, Literal
from jaxsmooth.rules.elementwise import exponent_of, is_trivial, magnitude_of
from jaxsmooth.rules.products import PowRule, interval_product, mixed_response, sum_responses
from jaxsmooth.rules.registry import EitherRule, Local, Rule, define

Interval = tuple[Array, Array]
_LOG = scalar.FACTS["log"]
_EXP = scalar.FACTS["exp"]


class SeveralVariablesRule(Rule):
    """Base: subclasses enclose φ and its derivatives over intervals of the operands."""

    def bounds(self, eq: Local, operands: Sequence[Interval]) -> Interval:
        """Enclosure of φ."""
        raise NotImplementedError

    def slopes(self, eq: Local) -> list[Array]:
        """Bounds of |φ_i|."""
        raise NotImplementedError

    def curvatures(self, eq: Local) -> dict[tuple[int, int], Array]:
        """Bounds of |φ_ij| for i <= j, without those that are 0."""
        raise NotImplementedError

    def check(self, eq: Local) -> None:
        """Refuse ranges on which φ is not smooth."""

    def range(self, eq: Local) -> list[Range]:
        self.check(eq)
        lo, hi = self.bounds(eq, [(r.lo, r.hi) for r in eq.ranges])
        below, above = self.bounds(eq, [(r.center, r.center) for r in eq.ranges])
        xp = namespace(lo, hi, below, above)
        center = xp.where(xp.isfinite(below + above), (below + above) / 2, 0.0)
        rounding = norm2(xp.maximum(up(above - center), up(center - below)))
        slopes = eq.once("slopes", lambda: self.slopes(eq))
        largest = [xp.max(s, initial=0.0) for s in slopes]
        pairs = list(zip(largest, eq.ranges, strict=True))
        count = len(pairs) + 2
        gains = up(sum(times(s, r.gains) for s, r in pairs), count)
        rest = up(sum(times(s, r.rest) for s, r in pairs) + rounding, count)
        spread = sum(times(s, r.spread) for s, r in zip(slopes, eq.ranges, strict=True))
        return [
            enclose(eq.radii, lo, hi, center, gains, rest, up(norm2(up(spread, count)) + rounding))
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        slopes = eq.once("slopes", lambda: self.slopes(eq))
        parts = [
            None if m is None else scale(m, s) for m, s in zip(magnitudes, slopes, strict=True)
        ]
        return [reduce(add, parts)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        total = None
        for (i, j), curvature in self.curvatures(eq).items():
            a, b = magnitudes[i], magnitudes[j]
            if a is None or b is None:
                continue
            part = elementwise_response(curvature, a) if i == j else mixed_response(curvature, a, b)
            assert part is not None
            total = part if total is None else sum_responses(total, part)
        return [total]


def _product(*intervals: Interval) -> Interval:
    return reduce(interval_product, intervals)


def _shifted(a: Interval, by: float) -> Interval:
    return down(a[0] + by), up(a[1] + by)


class PowerRule(SeveralVariablesRule):
    """x^y with exponents that vary or differ, x > 0: exp(y log x).

    φ_x = y x^(y-1), φ_y = φ log x, φ_xx = y(y-1) x^(y-2), φ_xy = x^(y-1)(1 + y log x),
    φ_yy = φ log² x.
    """

    def check(self, eq: Local) -> None:
        x = eq.ranges[0]
        if namespace(x.lo) is np and np.any(x.lo <= 0):
            raise errors.CertificationError(
                f"{eq} raises numbers whose range is not positive to powers that are not one known "
                "exponent. Give tighter bounds, or keep the base away from 0 (for example, add "
                "a positive constant)."
            )

    def guarded(self, eq: Local) -> Sequence[Range]:
        return eq.ranges[:1]

    def bounds(self, eq: Local, operands: Sequence[Interval]) -> Interval:
        x, y = operands
        return _EXP.range(*_product(y, _LOG.range(*x)))

    def _parts(self, eq: Local) -> tuple[Interval, Interval, Any]:
        x, y = ((r.lo, r.hi) for r in eq.ranges)
        return y, _LOG.range(*x), lambda by: self.bounds(eq, [x, _shifted(y, by)])

    def slopes(self, eq: Local) -> list[Array]:
        y, log, to = self._parts(eq)
        return [magnitude_of(_product(y, to(-1.0))), magnitude_of(_product(to(0.0), log))]

    def curvatures(self, eq: Local) -> dict[tuple[int, int], Array]:
        y, log, to = self._parts(eq)
        mixed = _shifted(_product(y, log), 1.0)
        return {
            (0, 0): magnitude_of(_product(y, _shifted(y, -1.0), to(-2.0))),
            (0, 1): magnitude_of(_product(to(-1.0), mixed)),
            (1, 1): magnitude_of(_product(to(0.0), log, log)),
        }


class AngleRule(SeveralVariablesRule):
    """atan2(y, x) away from the origin and from the cut y = 0, x < 0, where it jumps.

    Over a rectangle without them the angle is largest and least at corners, for its level
    sets are rays. With r² = x² + y²: |φ_y| = |x|/r², |φ_x| = |y|/r², and the Hessian has
    entries ±2xy/r⁴ and (y² - x²)/r⁴, all at most 1/r².
    """

    def check(self, eq: Local) -> None:
        jumps = self._jumps([(r.lo, r.hi) for r in eq.ranges])
        if namespace(jumps) is np and np.any(jumps):
            error = errors.DiscontinuityError if any(eq.varies) else errors.CertificationError
            raise error(
                f"{eq}: the angle jumps by 2π where the first argument changes sign while the "
                "second is not positive: no continuous function stays within eps of it. Give "
                "bounds that exclude this, or use sine and cosine (x/r and y/r) in its place."
            )

    def _jumps(self, operands: Sequence[Interval]) -> Array:
        """Where the rectangle meets the cut or the origin."""
        (ylo, yhi), (xlo, _) = operands
        return (ylo <= 0) & (yhi >= 0) & (xlo <= 0)

    def bounds(self, eq: Local, operands: Sequence[Interval]) -> Interval:
        (ylo, yhi), (xlo, xhi) = operands
        jumps = self._jumps(operands)
        xp = namespace(ylo, yhi, xlo, xhi)
        corners = xp.stack([xp.arctan2(y, x) for y in (ylo, yhi) for x in (xlo, xhi)])
        return (
            xp.where(jumps, -4.0, down(xp.min(corners, axis=0), 64)),
            xp.where(jumps, 4.0, up(xp.max(corners, axis=0), 64)),
        )

    def _nearest(self, eq: Local) -> Array:
        """Lower bound of r²."""
        total = 0.0
        for r in eq.ranges:
            xp = namespace(r.lo, r.hi)
            inside = (r.lo <= 0) & (r.hi >= 0)
            least = xp.where(inside, 0.0, xp.minimum(abs(r.lo), abs(r.hi)))
            total = total + least * least
        jumps = self._jumps([(r.lo, r.hi) for r in eq.ranges])
        return namespace(total, jumps).where(jumps, 0.0, down(total, 4))

    def slopes(self, eq: Local) -> list[Array]:
        # |x|/r² with the smallest |y| and any |x| in its range is at most min(1/r, |x|/r²).
        square = self._nearest(eq)
        xp = namespace(square)
        root = up(1 / xp.sqrt(square), 4)
        y, x = eq.ranges
        # At the origin 0/0 stands for an infinite slope: 0·(1/0) would be none.
        return [
            xp.where(square > 0, xp.minimum(root, up(r.absmax / square, 4)), np.inf) for r in (x, y)
        ]

    def curvatures(self, eq: Local) -> dict[tuple[int, int], Array]:
        bend = up(1 / self._nearest(eq), 4)
        return {(0, 0): bend, (0, 1): bend, (1, 1): bend}


class PolynomialRule(SeveralVariablesRule):
    """polynomial(x, c_0, …, c_n) = Σ c_k x^k, by Horner's scheme."""

    def _horner(self, coefficients: Sequence[Interval], x: Interval) -> Interval:
        total = coefficients[-1]
        for c in reversed(coefficients[:-1]):
            product = interval_product(total, x)
            total = down(product[0] + c[0]), up(product[1] + c[1])
        return total

    def _derived(self, coefficients: Sequence[Interval]) -> list[Interval]:
        derived = [(down(k * lo), up(k * hi)) for k, (lo, hi) in enumerate(coefficients) if k > 0]
        zero = namespace(coefficients[0][0]).zeros(np.shape(coefficients[0][0]))
        return derived or [(zero, zero)]

    def bounds(self, eq: Local, operands: Sequence[Interval]) -> Interval:
        return self._horner(operands[1:], operands[0])

    def _intervals(self, eq: Local) -> tuple[Interval, list[Interval]]:
        x, *coefficients = [(r.lo, r.hi) for r in eq.ranges]
        return x, coefficients

    def _powers(self, eq: Local) -> list[Array]:
        """Bounds of |x|^k."""
        size = eq.ranges[0].absmax
        powers = [namespace(size).ones(np.shape(size))]
        for _ in eq.ranges[2:]:
            powers.append(up(times(powers[-1], size)))
        return powers

    def slopes(self, eq: Local) -> list[Array]:
        x, coefficients = self._intervals(eq)
        own = magnitude_of(self._horner(self._derived(coefficients), x))
        return [own, *self._powers(eq)]

    def curvatures(self, eq: Local) -> dict[tuple[int, int], Array]:
        x, coefficients = self._intervals(eq)
        twice = self._derived(self._derived(coefficients))
        powers = self._powers(eq)
        found = {(0, 0): magnitude_of(self._horner(twice, x))}
        for k in range(1, len(coefficients)):
            found[0, k + 1] = up(k * powers[k - 1])
        return found


_ONE_EXPONENT, _ANY_EXPONENT = PowRule(), PowerRule()


class _PowRule(EitherRule):
    """One known exponent, or any over a positive base."""

    def __init__(self) -> None:
        super().__init__(lambda eq: _ANY_EXPONENT if exponent_of(eq) is None else _ONE_EXPONENT)

    def in_place_of(self, equation: Equation) -> Callable[..., Any] | None:
        _, exponent = equation.inputs
        if not isinstance(exponent, Literal) or not is_trivial(float(exponent.value)):
            return None
        return lambda x, y: lax.integer_pow(x, int(exponent.value))


define(_PowRule(), p.pow_p)
define(AngleRule(), p.atan2_p)
define(PolynomialRule(), primitive("polynomial_p"))
