"""Smooth order statistics: sorting, the k largest values, medians.

With Δ_k = {0 <= p <= 1, Σp = k}, the sum of the k largest of n values is max <p, x> over
Δ_k, and its Euclidean prox φ_k(x) = max <p, x> - (β/2)‖p‖² has a gradient p_k that is
(1/β)-Lipschitz. The k-th largest value is smoothed as

    d_k = φ_k - φ_{k-1} + a constant,      slopes p_k - p_{k-1}.

**Error.** φ_κ, for real κ, is the minimum over t of κt + Σ h(x_i - t) with h' = clip(·/β, 0, 1),
so its derivative in κ is the t with Σ clip((x_i - t)/β, 0, 1) = κ. It decreases in κ: hence
p_k - p_{k-1} >= 0, of sum 1, and d_k is monotone in x. With x_(k) held, d_k is least where
the k - 1 larger values come down to it and the smaller ones are far, and largest where the
larger ones are far and the n - k smaller ones come up to it. At a tie of m values of which
it is the j-th, ‖p_k‖² - ‖p_{k-1}‖² = (2j - 1)/m. Therefore, exactly,

    φ_k - φ_{k-1} - x_(k)  in  -(β/2)·[1/(n - k + 1), 2 - 1/k],

both ends attained: the spread is β c_k with c_k = 1 - 1/(2k) - 1/(2(n - k + 1)), below β
whatever the dimension. For k = 1 it is that of `jaxsmooth.math.nary.simplex_max`.

**First order.** p_0 = 0 and p_n = 1: with one β for all k the slopes are a doubly stochastic
matrix, a mean of permutations, of norm 1 in every norm that permutations keep.

**Second order.** The Hessian of φ_k is (1/β) times a projection, so that of d_k is between
-1/β and 1/β: entry by entry |D²d_k[a, b]| <= ‖a‖‖b‖/β.

Sources: the sums of the largest values as maxima, S. Boyd and L. Vandenberghe, *Convex
Optimization*, 3.2.3; the prox, Y. Nesterov, *Smooth minimization of non-smooth functions*,
Math. Program. 2005.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsmooth.math.kernels import accuracy, smallest_accuracy, working_dtype

Array = Any

# Bisection leaves an interval of that many halvings of [-1.5, 0] around the threshold.
_HALVINGS = 30


def order_spread(size: int, count: int) -> float:
    """Largest c_k for k = 1, …, count of n = size values; 0 for one value."""
    if size < 2:
        return 0.0
    k = np.arange(1, count + 1)
    return float(np.max(1 - 0.5 / k - 0.5 / (size - k + 1)))


def order_smoothness(size: int, count: int) -> float:
    """K such that every entry of `largest_values` is (K/μ)-smooth: half of the spread."""
    return order_spread(size, count) / 2


def largest_values(x: Array, mu: Array, count: int) -> Array:
    """The ``count`` largest values along the last axis, descending, smoothed.

    Args:
      x: values, shape (..., n), real floating point; infinite ones stay what they are.
      mu: sup error of every value, non-negative, shape (...) or a number; where it is 0
        the values are exact.
      count: how many, 1 <= count <= n.

    Returns:
      An array of shape (..., count), each entry within mu of the value.

    Example:
      >>> import jax.numpy as jnp
      >>> [round(v, 4) for v in largest_values(jnp.array([5.0, 1.0, 3.0]), 0.1, 2).tolist()]
      [4.9333, 3.0]
      >>> pair = largest_values(jnp.array([1.0, 1.0]), 0.25, 2)
      >>> pair.tolist()
      [1.25, 0.75]
    """
    dtype, working = working_dtype(x)
    x = jnp.asarray(x, working)
    size = x.shape[-1]
    exact = -jnp.sort(-x, axis=-1)[..., :count]
    spread = order_spread(size, count)
    if spread == 0:
        return exact.astype(dtype)
    mu = jnp.broadcast_to(accuracy(mu, x.shape[:-1], working), x.shape[:-1])
    positive = mu >= smallest_accuracy(working)
    beta = 2 / spread * jnp.where(positive, mu, 1.0)
    x, ordered = (_brought_near(values, x, beta[..., None]) for values in (x, exact))
    places = lax.stop_gradient(ordered)
    p = _maximisers(x, places, beta[..., None, None])
    value = _correction(*map(lax.stop_gradient, (x, ordered, beta[..., None], p)))
    # φ_k itself, around x_(k), has all derivatives, and would cost precision as a value.
    # Far away p does not change, and a difference may overflow.
    reach = 4 * beta[..., None, None]
    fixed = lax.stop_gradient(x)
    away = jnp.clip(fixed[..., None, :] - places[..., :, None], -reach, reach)
    sums = jnp.sum(p * (away + (x - fixed)[..., None, :]), axis=-1)
    sums = sums - beta[..., None] / 2 * jnp.sum(p * p, axis=-1)
    moving = _difference(sums) + _centre(p) * beta[..., None]
    smooth = places + value + (moving - lax.stop_gradient(moving))
    return jnp.where(positive[..., None] & ~jnp.isinf(exact), smooth, exact).astype(dtype)


def _brought_near(values: Array, x: Array, beta: Array) -> Array:
    """Values with infinite ones beyond all finite ones of x, and as good as any farther."""
    infinite = jnp.isinf(x)
    none = jnp.all(infinite, axis=-1, keepdims=True)
    top = jnp.max(jnp.where(infinite, -jnp.inf, x), axis=-1, keepdims=True)
    low = jnp.min(jnp.where(infinite, jnp.inf, x), axis=-1, keepdims=True)
    top, low = (lax.stop_gradient(jnp.where(none, 0.0, end)) for end in (top, low))
    far = jnp.where(values > 0, top + 4 * beta, low - 4 * beta)
    return jnp.where(jnp.isinf(values), far, values)


def _distances(x: Array, ordered: Array, beta: Array) -> Array:
    """(x_i - x_(k))/β in [-2, 2], shape (..., k, i)."""
    return jnp.clip((x[..., None, :] - ordered[..., :, None]) / beta, -2.0, 2.0)


def _maximisers(x: Array, ordered: Array, beta: Array) -> Array:
    """p_k of all k, shape (..., count, n); its derivative is right almost everywhere."""
    u = _distances(x, ordered, beta)
    fixed = lax.stop_gradient(u)
    k = jnp.arange(1, ordered.shape[-1] + 1, dtype=u.dtype)[:, None]

    def halve(_: Any, bracket: Any) -> Any:
        low, high = bracket
        middle = (low + high) / 2
        enough = jnp.sum(jnp.clip(fixed - middle, 0.0, 1.0), axis=-1, keepdims=True) >= k
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    # The threshold is in [-1, 0); for k = n any lower one is right as well.
    ends = jnp.full((*fixed.shape[:-1], 1), -1.5, u.dtype)
    low, _ = lax.fori_loop(0, _HALVINGS, halve, (ends, jnp.zeros_like(ends)))
    near = fixed - lax.stop_gradient(low)
    free, full = (near > 0) & (near < 1), near >= 1
    number = jnp.sum(free, axis=-1, keepdims=True)
    rest = k - jnp.sum(full, axis=-1, keepdims=True)
    total = jnp.sum(jnp.where(free, u, 0.0), axis=-1, keepdims=True)
    threshold = (total - rest) / jnp.maximum(number, 1)
    return jnp.where(free, u - threshold, jnp.where(full, 1.0, 0.0))


def _correction(x: Array, ordered: Array, beta: Array, p: Array) -> Array:
    """Smoothed value - value."""
    u = _distances(x, ordered, beta[..., None])
    gain = jnp.sum(jnp.where(u > 0, (p - 1) * u, p * u), axis=-1)
    k = np.arange(1, p.shape[-2] + 1).astype(p.dtype)
    square = (jnp.sum(p * p, axis=-1) - k) / 2
    return beta * (_difference(gain - square) - 0.5 + _centre(p))


def _centre(p: Array) -> Array:
    """The middle of the error of every k, over β and without its sign."""
    count, size = p.shape[-2:]
    k = np.arange(1, count + 1)
    return (0.5 - 0.25 / k + 0.25 / (size - k + 1)).astype(p.dtype)


def _difference(sums: Array) -> Array:
    return sums - jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums[..., :-1]], axis=-1)
