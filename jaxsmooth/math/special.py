"""Facts of special functions: log Γ, its derivatives, Hurwitz's zeta, the inverse error function.

On x > 0, with ψ the digamma function: (log Γ)' = ψ and ψ' = Σ 1/(x + k)² > 0 decreases,
ψ'' = -2 Σ 1/(x + k)³ < 0 increases, both to 0 (NIST Handbook, 5.7.6 and 5.15.1). log Γ is
least at the zero of ψ. The further derivatives of ψ are ψ⁽ⁿ⁾ = (-1)ⁿ⁺¹ n! ζ(n + 1, ·) with
ζ(s, q) = Σ (q + k)^-s, whose derivatives alternate in sign (25.11.1). With
e = erf⁻¹ on (-1, 1): e' = (√π/2) exp(e²) and e'' = 2 e e'², which increases, as e does and e'
increases with |e| (differentiate erf(e(x)) = x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import jax.scipy.special as traced
import numpy as np
import scipy.special as known  # JAX needs SciPy

from jaxsmooth.math.array import Array
from jaxsmooth.math.enclosure import Derivative, ScalarFunction, SmoothFunction

INF = math.inf
_LEAST = 1.4616321449683623413
_LEAST_VALUE = -0.12148629053584960810


def special(xp: Any) -> Any:
    """The special functions of SciPy or of JAX, for NumPy's arrays or JAX's."""
    return known if xp is np else traced


def either(name: str) -> Callable[[Any, Array], Array]:
    """The special function of that name."""
    return lambda xp, x: getattr(special(xp), name)(x)


def _polygamma(order: int) -> Derivative:
    """Facts of ψ⁽ⁿ⁾ for n >= 1."""

    def value(xp: Any, x: Array) -> Array:
        return special(xp).polygamma(order, x)

    return Derivative(value, (INF if order % 2 else -INF, 0.0), units=4096 + 64 * order)


def _erf_inv_slope(xp: Any, x: Array) -> Array:
    e = either("erfinv")(xp, x)
    return math.sqrt(math.pi) / 2 * xp.exp(e * e)


def _erf_inv_curvature(xp: Any, x: Array) -> Array:
    return 2.0 * either("erfinv")(xp, x) * _erf_inv_slope(xp, x) ** 2


_DIGAMMA = Derivative(either("digamma"), (-INF, INF), units=4096, absolute=4096)


@cache
def polygamma(order: int) -> SmoothFunction:
    """The derivative of ψ of that order, of positive numbers.

    Example:
        >>> lo, hi = polygamma(1).range(1.0, 1.0)  # π²/6
        >>> print(round(float(hi), 9))
        1.644934067
    """
    if order == 0:
        return _DIGAMMA_FUNCTION
    parts = (_polygamma(order), _polygamma(order + 1), _polygamma(order + 2))
    return SmoothFunction(f"polygamma[{order}]", parts, (0.0, INF), 2.5)


@cache
def zeta(s: float) -> SmoothFunction:
    """Hurwitz's ζ(s, q) = Σ (q + k)^-s for s > 1, of positive numbers q.

    Example:
        >>> lo, hi = zeta(2.0).range(1.0, 1.0)  # π²/6
        >>> print(round(float(hi), 9))
        1.644934067
    """

    def facts(factor: float, exponent: float) -> Derivative:
        def value(xp: Any, q: Array) -> Array:
            return factor * special(xp).zeta(exponent, q)

        # Where s - 1 is small, its rounding is not.
        units = 4096 + 64 * (exponent + exponent / (exponent - 1))
        return Derivative(value, (math.copysign(INF, factor), 0.0), units=units)

    parts = (facts(1.0, s), facts(-s, s + 1), facts(s * (s + 1), s + 2))
    return SmoothFunction(f"zeta[{s:g}]", parts, (0.0, INF), 2.5)


_DIGAMMA_FUNCTION = SmoothFunction(
    "digamma", (_DIGAMMA, _polygamma(1), _polygamma(2)), (0.0, INF), 2.5
)
_FUNCTIONS: tuple[ScalarFunction, ...] = (
    SmoothFunction(
        "lgamma",
        (
            Derivative(
                either("gammaln"), (INF, INF), ((_LEAST, _LEAST_VALUE),), units=4096, absolute=4096
            ),
            _DIGAMMA,
            _polygamma(1),
        ),
        (0.0, INF),
        2.5,
    ),
    _DIGAMMA_FUNCTION,
    SmoothFunction(
        "erf_inv",
        (
            Derivative(either("erfinv"), (-INF, INF), ((0.0, 0.0),), amplified=True),
            Derivative(
                _erf_inv_slope, (INF, INF), ((0.0, math.sqrt(math.pi) / 2),), amplified=True
            ),
            Derivative(_erf_inv_curvature, (-INF, INF), ((0.0, 0.0),), amplified=True),
        ),
        (-1.0, 1.0),
    ),
    SmoothFunction(
        "one_minus_square",
        (
            Derivative(lambda xp, x: (1.0 - x) * (1.0 + x), (-INF, -INF), ((0.0, 1.0),)),
            Derivative(lambda xp, x: -2.0 * x, (INF, -INF), units=1),
            Derivative(lambda xp, x: -2.0 + 0.0 * x, (-2.0, -2.0)),
        ),
    ),
)

SPECIAL: Mapping[str, ScalarFunction] = MappingProxyType({f.name: f for f in _FUNCTIONS})
"""Facts of special functions, by primitive name."""
