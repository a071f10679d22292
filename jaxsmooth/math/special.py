"""Facts of special functions: the gamma function's logarithm, and the inverse error function.

On x > 0, with ψ the digamma function: (log Γ)' = ψ and ψ' = Σ 1/(x + k)² > 0 decreases,
ψ'' = -2 Σ 1/(x + k)³ < 0 increases, both to 0 (NIST Handbook, 5.7.6 and 5.15.1). log Γ is
least at the zero of ψ. With e = erf⁻¹ on (-1, 1): e' = (√π/2) exp(e²) and e'' = 2 e e'²,
which increases, as e does and e' increases with |e| (differentiate erf(e(x)) = x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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


def _either(name: str) -> Callable[[Any, Array], Array]:
    """The function of that name of SciPy or of JAX."""
    return lambda xp, x: getattr(known if xp is np else traced, name)(x)


def _polygamma(order: int) -> Callable[[Any, Array], Array]:
    return lambda xp, x: (known if xp is np else traced).polygamma(order, x)


def _erf_inv_slope(xp: Any, x: Array) -> Array:
    e = _either("erfinv")(xp, x)
    return math.sqrt(math.pi) / 2 * xp.exp(e * e)


def _erf_inv_curvature(xp: Any, x: Array) -> Array:
    return 2.0 * _either("erfinv")(xp, x) * _erf_inv_slope(xp, x) ** 2


_DIGAMMA = Derivative(_either("digamma"), (-INF, INF), units=4096, absolute=4096)
_TRIGAMMA = Derivative(_polygamma(1), (INF, 0.0), units=4096)

_FUNCTIONS: tuple[ScalarFunction, ...] = (
    SmoothFunction(
        "lgamma",
        (
            Derivative(
                _either("gammaln"), (INF, INF), ((_LEAST, _LEAST_VALUE),), units=4096, absolute=4096
            ),
            _DIGAMMA,
            _TRIGAMMA,
        ),
        (0.0, INF),
        2.5,
    ),
    SmoothFunction(
        "digamma",
        (_DIGAMMA, _TRIGAMMA, Derivative(_polygamma(2), (-INF, 0.0), units=4096)),
        (0.0, INF),
        2.5,
    ),
    SmoothFunction(
        "erf_inv",
        (
            Derivative(_either("erfinv"), (-INF, INF), ((0.0, 0.0),), amplified=True),
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
