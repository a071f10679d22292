"""Functions of one complex variable, elementwise on pairs of parts: exp, 1/z, zⁿ.

A holomorphic f turns and scales: with s >= |f'| and c >= |f''| over the range of an element,

    |f(z) - f(w)| <= s|z - w|,      |f''[a, b]| <= c|a||b|

in moduli. The ranges of a pair are convex (boxes, and balls around centers), so that segments
stay in them; that of 1/z must not reach 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jaxsmooth import errors
from jaxsmooth.math import scalar
from jaxsmooth.math.array import Array, down, gamma, namespace, norm2, times, tiny, up
from jaxsmooth.math.magnitude import Magnitude, Response, elementwise_response, tighten
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.complex_functions import EXP, POWER, RECIPROCAL
from jaxsmooth.rules.complex import moduli, of_parts, response_of_parts, twice
from jaxsmooth.rules.products import interval_product
from jaxsmooth.rules.registry import Local, Rule, define

Bounds = tuple[Array, Array]


class HolomorphicRule(Rule):
    """Base: subclasses give the function."""

    def bounds(self, eq: Local, lo: Array, hi: Array) -> Bounds:
        """Bounds of both parts over a box."""
        raise NotImplementedError

    def slope(self, eq: Local) -> Array:
        """Bound of |f'| over the range of every element."""
        raise NotImplementedError

    def curvature(self, eq: Local) -> Array:
        """Bound of |f''| over the range of every element."""
        raise NotImplementedError

    def range(self, eq: Local) -> list[Range]:
        (x,) = eq.ranges
        slope, parts = self.slope(eq), len(x.shape) - 1
        lo, hi = self.bounds(eq, x.lo, x.hi)
        below, above = self.bounds(eq, x.center, x.center)
        xp = namespace(lo, hi, below, above, slope)
        center = xp.where(xp.isfinite(below + above), below / 2 + above / 2, 0.0)
        off = up(xp.maximum(above - center, center - below))
        apart = x.apart((parts,))
        reach = twice(up(times(slope, apart)))
        reach = up(reach + off)
        rounding = norm2(off)
        largest = xp.max(slope, initial=0.0)
        radius = norm2(up(times(slope, apart)))
        radius = up(xp.minimum(radius, up(times(largest, x.radius))) + rounding)
        return [
            enclose(
                eq.radii,
                xp.maximum(lo, down(center - reach)),
                xp.minimum(hi, up(center + reach)),
                center,
                up(times(largest, x.gains)),
                up(times(largest, x.rest) + rounding, 2),
                radius,
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        size, slope = moduli(m), self.slope(eq)
        largest = namespace(slope).max(slope, initial=0.0)
        norm = up(times(largest, m.norm))
        total = None if m.total is None else of_parts(up(times(largest, m.total)))
        if size.entries is None:
            return [tighten(None, norm, total)]
        entries = up(times(slope, size.entries))
        axes = tuple(range(1, entries.ndim))
        norm = namespace(norm, entries).minimum(norm, norm2(entries, axes))
        return [tighten(twice(entries), norm, total)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        return [response_of_parts(elementwise_response(self.curvature(eq), moduli(m)))]


class ExponentialRule(HolomorphicRule):
    """e^z = e^x (cos y + i sin y), with |f'| = |f''| = e^x."""

    def bounds(self, eq: Local, lo: Array, hi: Array) -> Bounds:
        size = scalar.FACTS["exp"].range(lo[..., 0], hi[..., 0])
        turns = [scalar.FACTS[f].range(lo[..., 1], hi[..., 1]) for f in ("cos", "sin")]
        found = [interval_product(size, turn) for turn in turns]
        xp = namespace(*found[0], *found[1])
        lows, highs = zip(*found, strict=True)
        return xp.stack(lows, -1), xp.stack(highs, -1)

    def slope(self, eq: Local) -> Array:
        x = eq.ranges[0]
        return eq.once("slope", lambda: scalar.FACTS["exp"].range(x.lo[..., 0], x.hi[..., 0])[1])

    def curvature(self, eq: Local) -> Array:
        return self.slope(eq)


class ReciprocalRule(HolomorphicRule):
    """1/z, with |f'| = 1/|z|² and |f''| = 2/|z|³."""

    def guarded(self, eq: Local) -> Sequence[Range]:
        return eq.ranges

    def least(self, eq: Local) -> Array:
        """Lower bound of |z| over the range of every element.

        Raises:
          CertificationError: it is 0.
        """

        def compute() -> Array:
            (x,) = eq.ranges
            parts = (len(x.shape) - 1,)
            by_box = down(norm2(x.absmin, parts), 16)
            by_ball = down(down(norm2(x.center, parts), 16) - x.apart(parts))
            xp = namespace(by_box, by_ball)
            least = xp.maximum(by_box, by_ball) - math.sqrt(tiny(by_box))
            if xp is np and np.any(least <= 0):
                raise errors.CertificationError(
                    f"{eq} divides by a complex number whose range includes 0. Give tighter "
                    "bounds, or keep the divisor away from 0 (for example, by a positive real "
                    "part)."
                )
            return xp.where(least > 0, least, 0.0)

        return eq.once("least", compute)

    def inverse(self, eq: Local) -> Array:
        """Upper bound of 1/|z|."""
        least = self.least(eq)
        xp = namespace(least)
        return xp.where(least > 0, up(1 / xp.where(least > 0, least, 1.0)), np.inf)

    def bounds(self, eq: Local, lo: Array, hi: Array) -> Bounds:
        xp = namespace(lo, hi)
        most = norm2(xp.maximum(abs(lo), abs(hi)), -1)
        least = down(norm2(xp.maximum(xp.maximum(lo, -hi), 0.0), -1), 16)
        least = xp.maximum(least, self.least(eq))
        safe = xp.where(least > 0, least, 1.0)
        upper = xp.where(least > 0, up(1 / (safe * safe), 4), np.inf)
        finite = xp.isfinite(most)
        square = xp.where(finite, most, 1.0)
        lower = xp.where(finite, down(1 / (square * square), 4), 0.0)
        # conj(z)/|z|².
        low = xp.stack([lo[..., 0], -hi[..., 1]], -1)
        high = xp.stack([hi[..., 0], -lo[..., 1]], -1)
        low, high = interval_product((low, high), (lower[..., None], upper[..., None]))
        size = xp.where(least > 0, up(1 / safe), np.inf)[..., None]
        return xp.maximum(low, -size), xp.minimum(high, size)

    def slope(self, eq: Local) -> Array:
        inverse = self.inverse(eq)
        return up(inverse * inverse)

    def curvature(self, eq: Local) -> Array:
        inverse = self.inverse(eq)
        return up(2 * inverse * inverse * inverse, 3)


class PowerRule(HolomorphicRule):
    """zⁿ for n >= 0, with |f'| = n|z|ⁿ⁻¹ and |f''| = n(n - 1)|z|ⁿ⁻²."""

    def exponent(self, eq: Local) -> int:
        return int(eq.params["y"])

    def bounds(self, eq: Local, lo: Array, hi: Array) -> Bounds:
        xp, n = namespace(lo, hi), self.exponent(eq)
        most = _power(norm2(xp.maximum(abs(lo), abs(hi)), -1), n)
        z = (lo + hi) / 2
        z = xp.where(xp.isfinite(z), z, 0.0)
        # Over a point, the value and the error of a product of n numbers.
        value = (z[..., 0] + 1j * z[..., 1]) ** n
        value = xp.stack([value.real, value.imag], -1)
        # Polar and repeated squaring: errors of a few units for every factor.
        error = (most * gamma(64 * (n + 4), most) + tiny(most))[..., None]
        point = lo == hi
        point = xp.all(point, -1, keepdims=True)
        most = most[..., None]
        return xp.where(point, value - error, -most), xp.where(point, value + error, most)

    def largest(self, eq: Local) -> Array:
        x = eq.ranges[0]
        return x.slices((len(x.shape) - 1,))

    def slope(self, eq: Local) -> Array:
        n = self.exponent(eq)
        return up(n * _power(self.largest(eq), n - 1), 2) if n else 0 * self.largest(eq)

    def curvature(self, eq: Local) -> Array:
        n = self.exponent(eq)
        if n < 2:
            return np.zeros(eq.ranges[0].shape[:-1])
        return up(n * (n - 1) * _power(self.largest(eq), n - 2), 3)


def _power(x: Array, n: int) -> Array:
    """Upper bound of xⁿ for x >= 0 and n >= 0."""
    result = namespace(x).ones(np.shape(x))
    for _ in range(n):
        result = up(times(result, x))
    return result


define(ExponentialRule(), EXP)
define(ReciprocalRule(), RECIPROCAL)
define(PowerRule(), POWER)
