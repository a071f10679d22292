"""Smooth maxima of many values, along the last axis.

Both have the form ``max_p <p, x> - beta H(p)`` over the probability simplex with H
strongly convex, moved by a constant so that the error is centred:

- ``simplex``: H = ||p||^2 / 2. Since 1/n <= ||p||^2 <= 1 the error spreads over
  beta (1 - 1/n) / 2, and by duality with a 1-strongly convex H the gradient is
  (1/beta)-Lipschitz. With beta = 4 mu n / (n - 1) the error is in [-mu, mu] and the
  smoothness (1 - 1/n) / (4 mu): free of the dimension;
- ``logsumexp``: H = sum p log p. The error spreads over beta log n, the gradient is
  1/(2 beta)-Lipschitz in the 2-norm. With beta = 2 mu / log n: [-mu, mu] and
  log n / (4 mu); it is C^infinity.

For both the gradient is p. They are evaluated as the maximum plus a function of
``x - max(x) <= 0``, which keeps float32 accurate and lets entries be -inf (padding):
these have p = 0, and the error bound, proved for n entries, holds for the fewer left.

Source: Y. Nesterov, *Smooth minimization of non-smooth functions*, Math. Program.
2005, sections 2 and 4; A. F. T. Martins and R. F. Astudillo, *From Softmax to
Sparsemax*, ICML 2016 (projection by sorting and its Jacobian).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxsmooth.errors import ArgumentError
from jaxsmooth.math.kernels import KERNELS, accuracy, smallest_accuracy, working_dtype

Array = Any  # jax.Array, numpy.ndarray or a Python number

# Entries further below the maximum, in units of beta, are moved to here: any number
# beyond 1 is right for the simplex (p = 0 there); exp(-800) is 0 in float64.
_SIMPLEX_REACH = 2.0
_LOGSUMEXP_REACH = 800.0


@dataclass(frozen=True)
class MaxKernel:
    """A family of smooth functions near the maximum of n values; the error is in [-mu, mu].

    Args:
        name: Name of the family.
        smoothness: K(n); the gradient of the family is (K(n) / mu)-Lipschitz in the 2-norm.
        window: W(n); entries more than W(n) * mu below the maximum have derivative 0, and
            if all others are, the result is exactly max - mu (inf: never).
        maximum: The smooth maximum ``maximum(x, mu)`` over the last axis of x.

    Example:
        >>> from jaxsmooth.math.nary import MAX_KERNELS
        >>> MAX_KERNELS["simplex"].smoothness(5)
        0.2
    """

    name: str
    smoothness: Callable[[int], float]
    window: Callable[[int], float]
    maximum: Callable[[Array, Array], jax.Array] = field(repr=False)


def simplex_smoothness(n: int) -> float:
    """K(n) of `simplex_max`: (1 - 1/n) / 4."""
    return (1 - 1 / n) / 4


def simplex_window(n: int) -> float:
    """beta / mu of `simplex_max`: 4n / (n - 1), and 0 for one value."""
    return 4 * n / (n - 1) if n > 1 else 0.0


def logsumexp_smoothness(n: int) -> float:
    """K(n) of `logsumexp_max`: log(n) / 4."""
    return math.log(n) / 4


def simplex_max(x: Array, mu: Array) -> jax.Array:
    """Maximum over the last axis, smoothed by projection onto the simplex.

    Its gradient is the projection of x / beta onto the simplex: p >= 0, sum p = 1, exact
    at the seams too. With mu = 0 it is the maximum, with JAX's derivative (ties share).

    Args:
        x: Values, shape (..., n), real floating point, n >= 1; entries may be -inf.
        mu: Sup error, non-negative; broadcasts to the shape of the result.

    Returns:
        An array of shape (...) and the dtype of x, within mu of the maximum.

    Raises:
        ArgumentError: If x is a scalar, has no entries along the last axis or is not real
            floating point, or if mu does not broadcast.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxsmooth.math.nary import simplex_max
        >>> float(simplex_max(jnp.array([1.0, 1.0, -jnp.inf, 1.0, 1.0]), 0.25))
        1.21875
        >>> jax.grad(simplex_max)(jnp.array([1.0, 1.0, -9.0]), 0.25).tolist()
        [0.5, 0.5, 0.0]

    Source: Martins and Astudillo 2016, algorithm 1 and equation 14.
    """
    return _applied(_SIMPLEX, x, mu)


def logsumexp_max(x: Array, mu: Array) -> jax.Array:
    """Maximum over the last axis, smoothed as a centred log-sum-exp of temperature beta.

    C^infinity; its gradient is softmax(x / beta) with beta = 2 mu / log n. With mu = 0 it
    is the maximum, with JAX's derivative (ties share).

    Args:
        x: Values, shape (..., n), real floating point, n >= 1; entries may be -inf.
        mu: Sup error, non-negative; broadcasts to the shape of the result.

    Returns:
        An array of shape (...) and the dtype of x, within mu of the maximum.

    Raises:
        ArgumentError: If x is a scalar, has no entries along the last axis or is not real
            floating point, or if mu does not broadcast.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsmooth.math.nary import logsumexp_max
        >>> float(logsumexp_max(jnp.array([1.0, 1.0]), 0.25))
        1.25

    Source: Nesterov 2005, section 4.1.
    """
    return _applied(_LOGSUMEXP, x, mu)


@dataclass(frozen=True)
class _Regulariser:
    """What makes one smooth maximum differ from another: the function H.

    ``beta(n)`` is beta / mu. With z = (x - max x) / beta, cut off at -reach, and p the
    ``probabilities(z)``, ``correction(p, z, n)`` is (smooth maximum - maximum) / mu, and
    ``rate(p, z, n)`` the derivative of the smooth maximum in mu.
    """

    beta: Callable[[int], float]
    reach: float
    probabilities: Callable[[Array], Array]
    correction: Callable[[Array, Array, int], Array]
    rate: Callable[[Array, Array, int], Array]


def _applied(regulariser: _Regulariser, x: Array, mu: Array) -> jax.Array:
    dtype, working = working_dtype(x)
    shape = jnp.shape(x)
    if not shape or shape[-1] == 0:
        raise ArgumentError(f"a maximum over the last axis needs values there, got shape {shape}")
    mu = accuracy(mu, shape[:-1], working)
    if shape[-1] == 1:
        return jnp.asarray(x)[..., 0]
    mu = jnp.broadcast_to(mu, shape[:-1])
    return _smooth_max(regulariser, jnp.asarray(x, dtype=working), mu).astype(dtype)


def _below(regulariser: _Regulariser, x: Array, mu: Array) -> Array:
    """z = (x - max x) / beta, at least -reach.

    Where mu = 0, z is 0 at the maxima and -reach elsewhere, which gives every function
    of it the value for mu -> 0.
    """
    top = lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True))  # p does not change with it
    mu = mu[..., None]
    positive = mu >= smallest_accuracy(x.dtype)
    beta = jnp.where(positive, regulariser.beta(x.shape[-1]) * mu, 1.0)
    # Of an infinite maximum the difference would be NaN. Finite maxima keep their derivative.
    finite = jnp.isfinite(top)
    y = jnp.where(finite, x, 0.0) - jnp.where(finite, top, 0.0)
    # A compiler may compute one number twice, rounded in two ways: equality is too much to ask.
    rounding = 4 * jnp.finfo(x.dtype).eps * jnp.abs(jnp.where(finite, top, 0.0))
    largest = jnp.where(finite, y >= -rounding, x == top)
    one = jnp.ones_like(x)
    reach = regulariser.reach * jnp.where(x == -jnp.inf, 2 * one, one)
    limit = jnp.where(largest, 0.0, -reach)
    # Without accuracy one entry at least must count, however the maximum was rounded.
    limit = jnp.where(positive, limit, limit - jnp.max(limit, axis=-1, keepdims=True))
    near = finite & positive & (y > -regulariser.reach * beta)
    return jnp.where(near, jnp.where(near, y, 0.0) / beta, limit)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _smooth_max(regulariser: _Regulariser, x: Array, mu: Array) -> Array:
    z = _below(regulariser, x, mu)
    p = regulariser.probabilities(z)
    # The correction, in which max x counts as a constant, has all of the derivative in x.
    # The rule below would do without, but JAX before 0.12 drops it in loops (see kernels).
    top = jnp.max(x, axis=-1)
    top = jnp.where(mu >= smallest_accuracy(x.dtype), lax.stop_gradient(top), top)
    return top + mu * regulariser.correction(p, z, x.shape[-1])


@partial(_smooth_max.defjvp, symbolic_zeros=True)
def _smooth_max_jvp(regulariser: _Regulariser, primals: Any, tangents: Any) -> Any:
    (x, mu), (dx, dmu) = primals, tangents
    z = _below(regulariser, x, mu)
    p = regulariser.probabilities(z)
    tangent = jnp.zeros_like(mu)
    if not isinstance(dx, SymbolicZero):
        tangent = jnp.sum(p * dx, axis=-1)
    if not isinstance(dmu, SymbolicZero):
        tangent += regulariser.rate(p, z, x.shape[-1]) * dmu
    return _smooth_max(regulariser, x, mu), tangent


@jax.custom_jvp
def simplex_projection(z: Array) -> Array:
    """Euclidean projection onto the probability simplex, along the last axis.

    Args:
        z: Finite values, shape (..., n), n >= 1.

    Returns:
        p of the shape of z: p >= 0, sum p = 1, nearest to z.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsmooth.math.nary import simplex_projection
        >>> simplex_projection(jnp.array([0.0, -0.5, -2.0])).tolist()
        [0.75, 0.25, 0.0]

    Source: Martins and Astudillo 2016, algorithm 1.
    """
    z = z - jnp.max(z, axis=-1, keepdims=True)
    descending = -jnp.sort(-z, axis=-1)
    total = jnp.cumsum(descending, axis=-1)
    count = jnp.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    kept = 1 + jnp.broadcast_to(count, z.shape) * descending > total
    # A long cumulative sum is inexact, and a threshold near -1 is coarser than many small
    # p are. Measure from the least entry kept, and let Newton's method on the convex
    # piecewise linear equation sum (z - t)_+ = 1 repair a support that was misjudged.
    least = jnp.min(jnp.where(kept, descending, 0.0), axis=-1, keepdims=True)
    z = z - least
    size = jnp.maximum(jnp.sum(kept, axis=-1, keepdims=True), 1).astype(z.dtype)
    t = (jnp.sum(jnp.where(kept, descending, 0.0), axis=-1, keepdims=True) - 1) / size - least
    for _ in range(3):
        excess = jnp.maximum(z - t, 0.0)
        size = jnp.maximum(jnp.sum(excess > 0, axis=-1, keepdims=True), 1).astype(z.dtype)
        t = t + (jnp.sum(excess, axis=-1, keepdims=True) - 1) / size
    return jnp.maximum(z - t, 0.0)


@simplex_projection.defjvp
def _simplex_projection_jvp(primals: Any, tangents: Any) -> Any:
    (z,), (dz,) = primals, tangents
    p = simplex_projection(z)
    support = p > 0
    size = jnp.sum(support, axis=-1, keepdims=True).astype(z.dtype)
    inner = jnp.where(support, dz, 0.0)
    return p, inner - jnp.where(support, jnp.sum(inner, axis=-1, keepdims=True) / size, 0.0)


def _square(p: Array) -> Array:
    return jnp.sum(p * p, axis=-1)


def _simplex_correction(p: Array, z: Array, n: int) -> Array:
    # beta (<p, z> - |p|^2 / 2) plus half of the spread, over mu.
    value = jnp.sum(p * z, axis=-1) - _square(p) / 2
    return simplex_window(n) * value + (n + 1) / (n - 1)


def _simplex_rate(p: Array, z: Array, n: int) -> Array:
    # By the envelope theorem only the explicit beta of the maximum counts.
    del z
    return (n + 1 - 2 * n * _square(p)) / (n - 1)


def _softmax(z: Array) -> Array:
    e = jnp.exp(z)  # the maximum of z is 0
    return e / jnp.sum(e, axis=-1, keepdims=True)


def _logsumexp(z: Array) -> Array:
    return jnp.log(jnp.sum(jnp.exp(z), axis=-1))


def _logsumexp_correction(p: Array, z: Array, n: int) -> Array:
    del p
    return 2 / math.log(n) * _logsumexp(z) - 1


def _logsumexp_rate(p: Array, z: Array, n: int) -> Array:
    entropy = _logsumexp(z) - jnp.sum(p * z, axis=-1)
    return 2 / math.log(n) * entropy - 1


_SIMPLEX = _Regulariser(
    simplex_window, _SIMPLEX_REACH, simplex_projection, _simplex_correction, _simplex_rate
)
_LOGSUMEXP = _Regulariser(
    lambda n: 2 / math.log(n), _LOGSUMEXP_REACH, _softmax, _logsumexp_correction, _logsumexp_rate
)

MAX_KERNELS: dict[str, MaxKernel] = {
    "simplex": MaxKernel("simplex", simplex_smoothness, simplex_window, simplex_max),
    "logsumexp": MaxKernel("logsumexp", logsumexp_smoothness, lambda n: np.inf, logsumexp_max),
}
"""Families of smooth maxima by name."""


def max_kernel(name: str) -> MaxKernel:
    """The smooth maximum that goes with the scalar kernel of that name.

    ``simplex`` with the kernels of finite window but ``c2``; ``logsumexp``, whose Hessian
    is Lipschitz too, with ``softplus`` and ``c2``.

    Args:
        name: A key of `jaxsmooth.math.kernels.KERNELS`.

    Returns:
        The smooth maximum.

    Raises:
        ArgumentError: If there is no scalar kernel of that name.

    Example:
        >>> from jaxsmooth.math.nary import max_kernel
        >>> max_kernel("minimax").name, max_kernel("c2").name
        ('simplex', 'logsumexp')
    """
    if name not in KERNELS:
        raise ArgumentError(f"no kernel {name!r}; choose from {', '.join(map(repr, KERNELS))}")
    return MAX_KERNELS["logsumexp" if name in ("softplus", "c2") else "simplex"]
