"""Facts of the incomplete gamma and beta functions, in their last argument.

The derivative of P(a, x) = γ(a, x)/Γ(a) is the density of the gamma distribution, and that of
I_x(a, b) the one of the beta distribution (NIST Handbook, 8.8.13 and 8.17.7):

    p(x) = x^(a-1) e^{-x} / Γ(a),    p'/p = u/x - 1,                u = a - 1,
    p(x) = x^(a-1) (1-x)^(b-1) / B(a, b),  p'/p = u/x - v/(1-x),    v = b - 1.

With g = p'/p, p'' = p (g² + g'): p turns at the zero of g, and p' where (x - u)² = u, or with
t = x/(1-x) where (v² - v) t² - 2uv t + (u² - u) = 0. These are solved in decimals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np

from jaxsmooth.math import regularised
from jaxsmooth.math.array import Array
from jaxsmooth.math.enclosure import Derivative, SmoothFunction
from jaxsmooth.math.special import special

INF = math.inf
Points = tuple[tuple[float, float], ...]

_DIGITS = 60
# Rounding of both libraries' values, some times what was measured.
_UNITS = 4096.0
# No exponent of a number that is not zero is larger.
_EXPONENT = 750.0


_IN_JAX = {
    "gammainc": regularised.lower_gamma,
    "gammaincc": regularised.upper_gamma,
    "betainc": regularised.beta,
}


def _either(name: str, *parameters: float) -> Callable[[Any, Array], Array]:
    """The function of that name, of its last argument; in JAX with its derivatives."""

    def value(xp: Any, x: Array) -> Array:
        if xp is np:
            return getattr(special(xp), name)(*parameters, x)
        return _IN_JAX[name](*(xp.full_like(x, parameter) for parameter in parameters), x)

    return value


@cache
def incomplete_gamma(a: float, upper: bool = False) -> SmoothFunction:
    """The regularised lower incomplete gamma function P(a, x), or 1 - P(a, x), of x >= 0.

    Args:
      a: the parameter, positive.
      upper: whether it is 1 - P(a, x).

    Example:
        >>> lo, hi = incomplete_gamma(1.0).range(0.0, 1.0)  # 1 - exp(-x)
        >>> print(round(float(hi), 9))
        0.632120559
    """
    u, total = a - 1.0, math.lgamma(a)

    def density(xp: Any, x: Array) -> Array:
        return xp.exp(u * xp.log(x) - x - total)

    def bend(xp: Any, x: Array) -> Array:
        return density(xp, x) * ((u - x) / x)

    def at(function: Callable[[Any, Array], Array], *points: float) -> Points:
        return tuple((x, float(function(np, np.float64(x)))) for x in points if x > 0)

    with localcontext(prec=_DIGITS):
        root = Decimal(max(u, 0.0)).sqrt()
        bends = (float(Decimal(u) - root), float(Decimal(u) + root)) if u > 0 else ()
    # Of each term of the exponent; the parameter itself is rounded in single precision.
    units = 64 + 8 * (abs(u) * math.log(2 * a + 2 * _EXPONENT) + 2 * a + abs(total))
    turned = units + 8 * _EXPONENT
    rounded = a if u else 0.0
    first = INF if a < 1 else float(a == 1)
    second = -INF if a < 1 else -1.0 if a == 1 else INF if a < 2 else float(a == 2)
    derivatives = (
        Derivative(_either("gammainc", a), (0.0, 1.0), units=_UNITS),
        Derivative(
            density, (first, 0.0), at(density, u), units=units, amplified=True, turned=turned
        ),
        Derivative(
            bend,
            (second, 0.0),
            at(bend, *bends),
            units=units,
            amplified=True,
            absolute=lambda xp, x: 8 * rounded * density(xp, x) / x,
            turned=turned,
        ),
    )
    if upper:
        value = Derivative(_either("gammaincc", a), (1.0, 0.0), units=_UNITS)
        derivatives = (value, _negative(derivatives[1]), _negative(derivatives[2]))
    name = "igammac" if upper else "igamma"
    return SmoothFunction(f"{name}[{a:g}]", derivatives, (0.0, INF), a)


def _negative(facts: Derivative) -> Derivative:
    low, high = facts.limits
    turns = tuple((x, -y) for x, y in facts.turns)
    return replace(
        facts, value=lambda xp, x: -facts.value(xp, x), limits=(-low, -high), turns=turns
    )


@cache
def incomplete_beta(a: float, b: float) -> SmoothFunction:
    """The regularised incomplete beta function I_x(a, b) of 0 <= x <= 1.

    Args:
      a, b: the parameters, positive.

    Example:
        >>> lo, hi = incomplete_beta(2.0, 1.0).slope(0.25, 0.5)  # of x²
        >>> print(round(float(lo), 9), round(float(hi), 9))
        0.5 1.0
    """
    u, v = a - 1.0, b - 1.0
    logarithms = (math.lgamma(a), math.lgamma(b), math.lgamma(a + b))
    total = logarithms[0] + logarithms[1] - logarithms[2]
    mode = _mode(u, v)

    def density(xp: Any, x: Array) -> Array:
        return xp.exp(u * xp.log(x) + v * xp.log1p(-x) - total)

    def bend(xp: Any, x: Array) -> Array:
        return density(xp, x) * ((u * (1.0 - x) - v * x) / (x * (1.0 - x)))

    def at(function: Callable[[Any, Array], Array], *points: float) -> Points:
        return tuple((x, float(function(np, np.float64(x)))) for x in points)

    units = 64 + 8 * sum(map(abs, logarithms))
    turned = units + 8 * _EXPONENT
    left, right = (c if c != 1 else 0.0 for c in (a, b))
    return SmoothFunction(
        f"regularized_incomplete_beta[{a:g}, {b:g}]",
        (
            Derivative(_either("betainc", a, b), (0.0, 1.0), units=_UNITS),
            Derivative(
                density,
                (_end(a, b)[0], _end(b, a)[0]),
                at(density, mode) if mode is not None else (),
                units=units,
                amplified=True,
                turned=turned,
            ),
            Derivative(
                bend,
                (_end(a, b)[1], -_end(b, a)[1]),
                at(bend, *_bends(u, v)),
                units=units,
                amplified=True,
                absolute=lambda xp, x: 8 * density(xp, x) * (left / x + right / (1.0 - x)),
                turned=turned,
            ),
        ),
        (0.0, 1.0),
        0.5,
    )


def _end(a: float, b: float) -> tuple[float, float]:
    """Limits of the beta distribution's density and its derivative at 0."""
    if a < 1:
        return INF, -INF
    if a == 1:
        return b, -b * (b - 1)
    return 0.0, INF if a < 2 else b * (b + 1) if a == 2 else 0.0


def _mode(u: float, v: float) -> float | None:
    """Where the beta distribution's density turns."""
    if u * v <= 0:
        return None
    with localcontext(prec=_DIGITS):
        return float(Decimal(u) / (Decimal(u) + Decimal(v)))


def _bends(u: float, v: float) -> tuple[float, ...]:
    """Where the beta distribution's density has points of inflection."""
    with localcontext(prec=_DIGITS):
        s, t = Decimal(u), Decimal(v)
        leading, half, last = t * t - t, s * t, s * s - s
        square = s * t * (s + t - 1)  # half² - leading·last
        if square < 0:
            return ()
        if leading == 0:
            odds = [last / (2 * half)] if half else []
        else:
            far = half + (square.sqrt() if half >= 0 else -square.sqrt())
            odds = [far / leading, last / far] if far else []
        return tuple(float(x / (1 + x)) for x in odds if x > 0)
