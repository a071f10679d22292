"""Hurwitz's ζ(s, q) = Σ_k (q + k)^-s for s > 1 and q > 0, also where s varies.

With t = q + k and S_j(s, q) = Σ_k |log t|^j t^-s, by differentiation term by term
(NIST Handbook, 25.11.1 and 25.11.17),

    |ζ_s| <= S_1(s, q),    ζ_q  = -s ζ(s + 1, q),    ζ_qq = s (s + 1) ζ(s + 2, q),
    |ζ_ss| <= S_2(s, q),   |ζ_sq| <= ζ(s + 1, q) + s S_1(s + 1, q).

Terms from some k on decrease with t, so that the integral from the one before bounds their sum:

    ∫_T^∞ t^-s dt = T^(1-s)/r,    ∫ log t t^-s = T^(1-s) (l/r + 1/r²),
    ∫ log² t t^-s = T^(1-s) (l²/r + 2l/r² + 2/r³),    r = s - 1, l = log T.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, down, is_traced, namespace, times, up
from jaxsmooth.math.families import SMOOTH
from jaxsmooth.math.range import Range
from jaxsmooth.rules.elementwise import magnitude_of
from jaxsmooth.rules.many import Interval, SeveralVariablesRule
from jaxsmooth.rules.parametric import ParametricRule, where_known
from jaxsmooth.rules.products import interval_product
from jaxsmooth.rules.registry import Local, define

# Terms that are bounded one by one; log² t t^-s decreases from t = e² on.
_TERMS = 32


class ZetaRule(SeveralVariablesRule):
    """ζ(s, q) where s is not known: see the module."""

    def check(self, eq: Local) -> None:
        s, q = eq.ranges
        if is_traced(s.lo, s.hi, q.lo):
            return
        if np.any(s.lo <= 1) or np.any(q.lo <= 0):
            raise errors.CertificationError(
                f"{eq}: its first argument may not be above 1, or its second one may not be "
                "positive. Give tighter bounds."
            )

    def guarded(self, eq: Local) -> Sequence[Range]:
        return eq.ranges

    def bounds(self, eq: Local, operands: Sequence[Interval]) -> Interval:
        s, q = operands
        return _sum(0, s, q, lower=True), _sum(0, s, q)

    def slopes(self, eq: Local) -> list[Array]:
        s, q = ((r.lo, r.hi) for r in eq.ranges)
        return [_sum(1, s, q), times(s[1], _sum(0, _raised(s, 1), q))]

    def curvatures(self, eq: Local) -> dict[tuple[int, int], Array]:
        s, q = ((r.lo, r.hi) for r in eq.ranges)
        above = _raised(s, 1)
        mixed = up(_sum(0, above, q) + times(s[1], _sum(1, above, q)), 4)
        twice = up(times(s[1], s[1] + 1.0), 2)
        return {
            (0, 0): _sum(2, s, q),
            (0, 1): mixed,
            (1, 1): up(times(twice, _sum(0, _raised(s, 2), q)), 2),
        }


def _raised(s: Interval, by: float) -> Interval:
    return down(s[0] + by), up(s[1] + by)


def _sum(order: int, s: Interval, q: Interval, lower: bool = False) -> Array:
    """Upper bound of S_j over intervals of s and q; or a lower one of ζ(s, q)."""
    xp = namespace(*s, *q)
    first = np.arange(float(_TERMS)).reshape(-1, *np.ones(np.ndim(q[0]), int))
    t = down(q[0] + first), up(q[1] + first)
    log = SMOOTH["log"].range(*t)
    terms = SMOOTH["exp"].range(*interval_product((-s[1], -s[0]), log))
    if lower:
        # A sum of decreasing terms is more than the integral from the first of them on.
        start = up(q[1] + _TERMS)
        tail = _integral(0, s[1], SMOOTH["log"].range(start, start), lower=True)
        return down(xp.sum(terms[0], axis=0) + tail, _TERMS + 4)
    total = xp.sum(times(terms[1], magnitude_of(log) ** order), axis=0)
    start = down(q[0] + (_TERMS - 1))
    tail = _integral(order, s[0], SMOOTH["log"].range(start, start))
    return up(total + tail, _TERMS + 8)


def _integral(order: int, s: Array, log: Interval, lower: bool = False) -> Array:
    """The integral of log^j t t^-s from where the logarithm is that on."""
    xp = namespace(s, *log)
    converges = s > 1
    rest = xp.where(converges, up(s - 1.0) if lower else down(s - 1.0), 1.0)
    power = SMOOTH["exp"].range(*interval_product((-rest, -rest), log))
    if lower:
        return xp.where(converges, down(power[0] / rest, 2), 0.0)
    top, inverse = log[1], up(1.0 / rest)
    factor = inverse
    if order == 1:
        factor = inverse * (top + inverse)
    if order == 2:
        factor = inverse * (top * top + 2 * inverse * (top + inverse))
    return xp.where(converges, up(times(power[1], factor), 16), np.inf)


define(
    where_known(ParametricRule("the exponent is", "the exponent must be above 1"), ZetaRule()),
    p.zeta_p,
)
