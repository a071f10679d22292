"""Formulas for elementary functions and their derivatives, to full relative accuracy.

Each takes the namespace (``numpy`` or ``jax.numpy``) first. They avoid the cancellations
of the textbook forms (``1 - tanh(x)**2`` has no correct digit at x = 20).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from jaxsmooth.math.array import Array

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _is_numpy(xp: Any) -> bool:
    return xp is np


def erf(xp: Any, x: Array) -> Array:
    """The error function."""
    return _erf(x) if _is_numpy(xp) else jax.scipy.special.erf(x)


def erfc(xp: Any, x: Array) -> Array:
    """The complementary error function."""
    return _erfc(x) if _is_numpy(xp) else jax.scipy.special.erfc(x)


def logistic(xp: Any, x: Array) -> Array:
    """1/(1 + exp(-x)), to full relative accuracy on both sides."""
    small = xp.exp(-abs(x))
    return xp.where(x >= 0, 1.0, small) / (1.0 + small)


def sech2(xp: Any, x: Array) -> Array:
    """1/cosh(x)^2, to full relative accuracy (1 - tanh^2 cancels)."""
    small = xp.exp(-abs(x))
    return (2.0 * small / (1.0 + small * small)) ** 2


def bell(xp: Any, x: Array) -> Array:
    """The derivative of erf."""
    return 2.0 / math.sqrt(math.pi) * xp.exp(-x * x)


def logistic_slope(xp: Any, x: Array) -> Array:
    """The derivative of the logistic function."""
    small = xp.exp(-abs(x))
    return small / (1.0 + small) ** 2


def logistic_curvature(xp: Any, x: Array) -> Array:
    """The second derivative of the logistic function."""
    return -logistic_slope(xp, x) * xp.tanh(x / 2.0)


def lorentz(xp: Any, x: Array) -> Array:
    """1/(1 + x^2), the derivative of atan."""
    return 1.0 / (1.0 + x * x)


def softplus(xp: Any, x: Array) -> Array:
    """log(1 + exp(x)), which neither overflows nor cancels."""
    # JAX's own has the right derivative at 0, where the maximum and the size in it have kinks.
    return xp.logaddexp(x, 0.0)


def asinh_slope(xp: Any, x: Array) -> Array:
    """1/sqrt(1 + x^2) without overflow."""
    size = xp.maximum(abs(x), 1.0)
    return 1.0 / (size * xp.sqrt((x / size) ** 2 + (1.0 / size) ** 2))
