"""The regularised incomplete gamma functions P(a, x) and 1 - P(a, x), also where a varies.

P(a, x) is the chance that T <= x of a number T from the gamma distribution with shape a, whose
logarithm has the cumulants ψ(a), ψ'(a), ψ''(a), … (NIST Handbook, 8.2.4 and 5.9.12). With
Z = log T - ψ(a) and the density p(x) = x^(a-1) e^{-x} / Γ(a),

    P_x  = p,                          P_xx = p ((a-1)/x - 1),
    P_a  = E[Z; T <= x],               |P_a|  <= E|Z| / 2         <= √ψ'(a) / 2,
    P_aa = E[Z² - ψ'(a); T <= x],      |P_aa| <= E|Z² - ψ'(a)| / 2 <= √(ψ'''(a) + 2ψ'(a)²) / 2,
    P_ax = p (log x - ψ(a)),

as E[Z] = E[Z² - ψ'] = 0 and the variance of Z² is its fourth cumulant plus 2ψ'². With a, P
decreases, as T grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, down, gamma, is_traced, namespace, times, up
from jaxsmooth.math.enclosure import enclose_value
from jaxsmooth.math.families import SMOOTH
from jaxsmooth.math.range import Range
from jaxsmooth.math.special import polygamma, special
from jaxsmooth.rules.many import Interval, SeveralVariablesRule
from jaxsmooth.rules.parametric import ParametricRule, where_known
from jaxsmooth.rules.registry import Local, define

# Parts of the parameter's range.
_PARTS = 16


class IncompleteGammaRule(SeveralVariablesRule):
    """P(a, x) or 1 - P(a, x) where a is not known: see the module.

    Of a part [b, b + δ] of a's range, as log p is concave in a,

        p(a, x) <= max(p(b, x), κ p(b + δ, x)),    κ = Γ(b + δ) / Γ(b) · e^{-δ ψ(b)} >= 1.

    Args:
      upper: whether it is 1 - P(a, x).
    """

    def __init__(self, upper: bool):
        self._upper = upper

    def check(self, eq: Local) -> None:
        a, x = eq.ranges
        if is_traced(a.lo, a.hi, x.lo):
            return
        if np.any(a.lo <= 0) or np.any(np.isinf(a.hi)) or np.any(x.lo < 0):
            raise errors.CertificationError(
                f"{eq}: its first argument may not be positive, or its second one may be "
                "negative, or bounds of the first are infinite. Give tighter bounds."
            )

    def guarded(self, eq: Local) -> Sequence[Range]:
        return eq.ranges

    def bounds(self, eq: Local, operands: Sequence[Interval]) -> Interval:
        (alo, ahi), (xlo, xhi) = operands
        lo, hi = _value(ahi, xlo)[0], _value(alo, xhi)[1]
        return (down(1.0 - hi), up(1.0 - lo)) if self._upper else (lo, hi)

    def slopes(self, eq: Local) -> list[Array]:
        a, x = eq.ranges[0], (eq.ranges[1].lo, eq.ranges[1].hi)
        of_a = up(namespace(a.lo).sqrt(_cumulant(1, a.lo)) / 2, 4)
        return [of_a, _over_parts(a, lambda c, width: _largest(c, x))]

    def curvatures(self, eq: Local) -> dict[tuple[int, int], Array]:
        a, x = eq.ranges[0], (eq.ranges[1].lo, eq.ranges[1].hi)
        xp = namespace(a.lo, *x)
        variance = _cumulant(1, a.lo)
        fourth = up(_cumulant(3, a.lo) + 2 * variance * variance, 4)

        def bend(c: Array, width: Array) -> Array:
            return up(_largest_slope(c, x) + times(width, _largest_over_variable(c, x)), 4)

        def mixed(c: Array, width: Array) -> Array:
            # How far ψ moves in the part.
            apart = up(times(_cumulant(1, xp.maximum(c - width, a.lo)), width), 2)
            return up(_largest_logarithmic(c, x) + times(apart, _largest(c, x)), 4)

        return {
            (0, 0): up(xp.sqrt(fourth) / 2, 4),
            (0, 1): _over_parts(a, mixed),
            (1, 1): _over_parts(a, bend),
        }


def _value(a: Array, x: Array) -> Interval:
    """Enclosure of P(a, x)."""
    xp = namespace(a, x)
    lo, hi = enclose_value(special(xp).gammainc(a, x), 4096)
    return xp.maximum(lo, 0.0), xp.minimum(hi, 1.0)


def _cumulant(order: int, a: Array) -> Array:
    """Upper bound of the derivative of ψ, which decreases where the order is odd."""
    return polygamma(order).range(a, a)[1]


def _over_parts(a: Range, largest: Callable[[Array, Array], Array]) -> Array:
    """The largest over a's range, given those at the ends of its parts.

    Args:
      a: range of the parameter.
      largest: ``largest(c, δ)`` bounds p(c, ·) times a weight that holds within δ of c.
    """
    xp = namespace(a.lo, a.hi)
    # So that the parts, as computed, overlap.
    width = up((a.hi - a.lo) / _PARTS, 4) + gamma(8, a.hi) * a.hi
    start = a.lo + np.arange(_PARTS).reshape(-1, *np.ones(np.ndim(a.lo), int)) * width
    end = start + width
    growth, size = _log_gamma(end, start)
    psi = SMOOTH["digamma"].range(start, start)[0]
    growth = growth - width * psi
    factor = up(xp.exp(growth + gamma(16, size) * (size + abs(width * psi))), 8)
    found = xp.maximum(largest(start, width), times(factor, largest(end, width)))
    return xp.where(a.lo > 0, up(xp.max(found, axis=0), 16), np.inf)


def _log_gamma(*arguments: Array) -> tuple[Array, Array]:
    """The first argument's log Γ less those of the others, and what their rounding is of."""
    xp = namespace(*arguments)
    first, *rest = (special(xp).gammaln(c) for c in arguments)
    return first - sum(rest), 1.0 + abs(first) + sum(map(abs, rest))


def _log_density(c: Array, x: Array) -> tuple[Array, Array]:
    """log p(c, x) and a bound of its rounding."""
    xp = namespace(c, x)
    safe = xp.where((x > 0) & (x < np.inf), x, 1.0)
    log, total = xp.log(safe), special(xp).gammaln(c)
    terms = 1.0 + abs((c - 1.0) * log) + abs(log) + safe + abs(total)
    value = (c - 1.0) * log - safe - total
    at_zero = xp.where(c < 1, np.inf, xp.where(c > 1, -np.inf, 0.0))
    value = xp.where(x > 0, xp.where(x < np.inf, value, -np.inf), at_zero)
    return value, gamma(16, terms) * terms


def _at(c: Array, x: Array) -> Array:
    """Upper bound of p(c, x)."""
    value, error = _log_density(c, x)
    return up(namespace(value).exp(value + error), 8)


def _largest(c: Array, x: Interval) -> Array:
    """The largest p(c, ·) over an interval; it turns at c - 1."""
    xp = namespace(c, *x)
    return _at(c, xp.clip(xp.maximum(c - 1.0, 0.0), *x))


def _largest_over_variable(c: Array, x: Interval) -> Array:
    """The largest p(c, x)/x, which turns at c - 2."""
    xp = namespace(c, *x)
    place = xp.clip(xp.maximum(c - 2.0, 0.0), *x)
    # At 0, the power of x that is left decides.
    limit = xp.where(c > 2, 0.0, xp.where(c == 2, 1.0, np.inf))
    return xp.where(place > 0, up(_at(c, place) / xp.where(place > 0, place, 1.0), 4), limit)


def _largest_slope(c: Array, x: Interval) -> Array:
    """The largest |∂p(c, x)/∂x|, which turns at c - 1 ± √(c - 1)."""
    xp = namespace(c, *x)
    middle = xp.maximum(c - 1.0, 0.0)
    limit = xp.where(c > 2, 0.0, xp.where((c == 1) | (c == 2), 1.0, np.inf))
    found = xp.zeros(np.shape(c))
    for turn in (x[0], x[1], middle - xp.sqrt(middle), middle + xp.sqrt(middle)):
        place = xp.clip(turn, *x)
        inside = (place > 0) & (place < np.inf)
        safe = xp.where(inside, place, 1.0)
        factor = abs((c - 1.0) / safe - 1.0) + gamma(4, safe) * (1.0 + c / safe)
        value = times(_at(c, safe), factor)
        value = xp.where(inside, value, xp.where(place > 0, 0.0, limit))
        found = xp.maximum(found, value)
    return up(found, 8)


def _largest_logarithmic(c: Array, x: Interval) -> Array:
    """The largest p(c, x) |log y| for y = x e^{-ψ(c)}, on both sides of y = 1.

    |log y| <= y^±h / (e h) for every h > 0, which makes a density with c ± h; near the turning
    point one over the standard deviation of the logarithm is the best h.
    """
    xp = namespace(c, *x)
    psi = SMOOTH["digamma"].range(c, c)
    middle = SMOOTH["exp"].range(*psi)
    deviation = xp.sqrt(_cumulant(1, c))
    found = xp.zeros(np.shape(_largest(c, x)))
    for sign, part in (
        (-1.0, (x[0], xp.minimum(x[1], middle[1]))),
        (1.0, (xp.maximum(x[0], middle[0]), x[1])),
    ):
        there = part[0] <= part[1]
        part = (xp.minimum(*part), part[1])
        ends = [SMOOTH["log"].range(end, end) for end in part]
        farthest = xp.maximum(up(ends[1][1] - psi[0]), up(psi[1] - ends[0][0]))
        best = times(_largest(c, part), xp.maximum(farthest, 0.0))
        choices = [scale / deviation for scale in (0.5, 1.0, 2.0)]
        if sign < 0:
            # c - h must be positive, and above 1 where x may be 0.
            choices = [xp.minimum(h, 0.5 * c) for h in choices] + [0.5 * (c - 1.0)]
        for h in choices:
            usable = h > 0
            h = xp.where(usable, h, 0.25 * c)
            moved = c + sign * h
            growth, sizes = _log_gamma(moved, c)
            growth = growth - sign * h * (psi[0] if sign > 0 else psi[1])
            factor = up(xp.exp(growth + gamma(16, sizes) * (sizes + abs(h * psi[0]))), 8)
            bound = up(times(factor, _largest(moved, part)) / (math.e * h), 8)
            best = xp.where(usable, xp.minimum(best, bound), best)
        found = xp.where(there, xp.maximum(found, best), found)
    return up(found, 4)


_KNOWN = ParametricRule("the first one is", "the first argument must be positive")
define(where_known(_KNOWN, IncompleteGammaRule(False)), p.igamma_p)
define(where_known(_KNOWN, IncompleteGammaRule(True)), p.igammac_p)
