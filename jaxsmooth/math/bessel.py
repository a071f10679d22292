"""Facts of the scaled modified Bessel functions e^{-x} I₀(x) and e^{-|x|} I₁(x).

With t = 1 - cos θ in I_n(x) = (1/π) ∫₀^π cos(nθ) e^{x cos θ} dθ (NIST Handbook, 10.32.3), on
x >= 0 the two are the Laplace transforms of w and of (1 - t) w, for a density w > 0 on [0, 2].
Derivatives multiply the transformed function by -t. So e^{-x} I₀(x) is completely monotone;
and as transforms have no more zeros than what is transformed has changes of sign, each
derivative of e^{-x} I₁(x) has one zero at most: each turns once, at the points below.

As a function of x of either sign the first has a kink at 0, and the second a jump of f'' only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import Array
from jaxsmooth.math.enclosure import Derivative, ScalarFunction, SmoothFunction
from jaxsmooth.math.special import either, special

# Zeros of the first three derivatives of e^{-x} I₁(x), and the values before differentiation.
_TURNS = (
    (1.545127257992542686, 0.2190919749505309690),
    (2.781492935347947079, -0.0196253794025845719),
    (3.917859607904350176, 0.0034733751377329981),
)
# Below it the second derivative of e^{-x} I₁(x) is summed as a power series.
_NEAR = 0.5
# The moments C(2j, j) / 2^j of w, less the next ones, over factorials: for x <= _NEAR the
# terms left out are below 1e-19.
_SERIES = tuple(
    (-1) ** k
    * (math.comb(2 * k + 4, k + 2) / 2 ** (k + 2) - math.comb(2 * k + 6, k + 3) / 2 ** (k + 3))
    / math.factorial(k)
    for k in range(20)
)


@jax.custom_jvp
def _i0e_of_positive(x: Any) -> Any:
    """e^{-x} I₀(x) with its derivative from the right at 0, where JAX's is that of e^{-|x|}."""
    return special(jnp).i0e(x)


_i0e_of_positive.defjvps(lambda t, value, x: t * (special(jnp).i1e(x) - value))


def _functions(xp: Any, x: Array) -> tuple[Array, Array]:
    return special(xp).i0e(x), special(xp).i1e(x)


def _i0e(xp: Any, x: Array) -> Array:
    return special(xp).i0e(x) if xp is np else _i0e_of_positive(x)


def _i0e_slope(xp: Any, x: Array) -> Array:
    zero, one = _functions(xp, x)
    return one - zero


def _i0e_curvature(xp: Any, x: Array) -> Array:
    zero, one = _functions(xp, x)
    return 2.0 * (zero - one) - one / x


def _i1e_slope(xp: Any, x: Array) -> Array:
    zero, one = _functions(xp, abs(x))
    return zero - one - one / abs(x)


def _i1e_curvature(xp: Any, x: Array) -> Array:
    size = abs(x)
    far = xp.maximum(size, _NEAR)
    zero, one = _functions(xp, far)
    formula = 2.0 * (one - zero) + (2.0 * one - zero + 2.0 * one / far) / far
    near = xp.minimum(size, _NEAR)
    series = 0.0 * near
    for coefficient in reversed(_SERIES):
        series = series * near + coefficient
    return xp.sign(x) * xp.where(size < _NEAR, series, formula)


def _odd(location: float, value: float) -> tuple[tuple[float, float], ...]:
    return ((-location, -value), (location, value))


def _even(location: float, value: float) -> tuple[tuple[float, float], ...]:
    return ((-location, value), (location, value))


_FUNCTIONS: tuple[ScalarFunction, ...] = (
    SmoothFunction(
        "bessel_i0e",
        (
            Derivative(_i0e, (1.0, 0.0), units=64),
            # Differences are rounded like what is subtracted, which is below one.
            Derivative(_i0e_slope, (-1.0, 0.0), units=64, absolute=64),
            Derivative(_i0e_curvature, (1.5, 0.0), units=64, absolute=256),
        ),
        (0.0, math.inf),
    ),
    SmoothFunction(
        "bessel_i1e",
        (
            Derivative(
                either("i1e"),
                (0.0, 0.0),
                ((0.0, 0.0), *_odd(*_TURNS[0])),
                units=64,
            ),
            Derivative(
                _i1e_slope, (0.0, 0.0), ((0.0, 0.5), *_even(*_TURNS[1])), units=64, absolute=64
            ),
            Derivative(
                _i1e_curvature,
                (0.0, 0.0),
                _odd(*_TURNS[2]),
                poles=((0.0, 1.0, -1.0),),
                units=64,
                absolute=256,
            ),
        ),
    ),
)

BESSEL: Mapping[str, ScalarFunction] = MappingProxyType({f.name: f for f in _FUNCTIONS})
"""Facts of both, by primitive name; of the first one on x >= 0."""
