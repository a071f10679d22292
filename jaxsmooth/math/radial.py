"""The smoothed length |r|_μ of a vector, as a function of its square.

With t = 2r/μ and s = t², a kernel's |r|_μ = r + μ c(t) is μ G(s) with

    G(s) = √s/2 + c(√s),    G'(s) = o(√s)/(4√s),

where o(t) = 2 relu_1'(t) - 1 is odd. The Hessian of the length holds o(t)/t, of which a
difference of numbers near 1/2 has no digits where t is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsmooth.math.array import Array
from jaxsmooth.math.kernels import FARTHEST, Kernel, accuracy, smallest_accuracy, working_dtype


def length(
    kernel: Kernel, root: Callable[[Array], Array], square: Callable[[Array, Array], Array], mu: Any
) -> jax.Array:
    """|r|_μ with error in [lower, upper]·μ.

    Args:
      kernel: an even one: any but ``paper``.
      root: ``root(inside)`` gives r ≥ 0 with its derivatives, but inside, where it may be 0,
        any positive number.
      square: ``square(inside, unit)`` gives (r/unit)² with its derivatives, inside.
      mu: sup error, as of `Kernel.absolute`.
    """
    nowhere = jnp.zeros((), bool)
    exact = root(nowhere)
    dtype, working = working_dtype(exact)
    mu = jnp.broadcast_to(accuracy(mu, exact.shape, working), exact.shape)
    reach = min(kernel.window, FARTHEST) / 2
    inside = (exact.astype(working) <= reach * mu) & (mu >= smallest_accuracy(working))
    unit = jnp.where(inside, mu, 1.0)
    smooth = unit * _unit_length(kernel, 4 * square(inside, unit).astype(working))
    away = root(inside).astype(working) + kernel.offset_right * mu
    return jnp.where(inside, smooth, away).astype(dtype)


@jax.custom_jvp
def _root(s: Array) -> Array:
    return jnp.sqrt(s)


@_root.defjvp
def _root_jvp(primals: Any, tangents: Any) -> Any:
    (s,), (ds,) = primals, tangents
    # What multiplies it at 0 is 0.
    return _root(s), jnp.where(s > 0, 0.5 / _root(jnp.where(s > 0, s, 1.0)), 0.0) * ds


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _unit_length(kernel: Kernel, s: Array) -> Array:
    """G(s)."""
    t = _root(s)
    return t / 2 + kernel.unit_correction(t)


@_unit_length.defjvp
def _unit_length_jvp(kernel: Kernel, primals: Any, tangents: Any) -> Any:
    (s,), (ds,) = primals, tangents
    return _unit_length(kernel, s), _RATIOS[kernel.name](s) / 4 * ds


def _tanh_ratio(s: Array) -> Array:
    """tanh(√u)/√u times log 2 / 2, of u = s (log 2 / 2)²."""
    half = math.log(2.0) / 2
    u = half**2 * s
    near = u < 1e-4
    small, large = jnp.where(near, u, 0.0), _root(jnp.where(near, 1.0, u))
    series = 1 - small * (1 / 3 - small * (2 / 15 - small * (17 / 315)))
    return half * jnp.where(near, series, jnp.tanh(large) / large)


_RATIOS: dict[str, Callable[[Array], Array]] = {
    "centered": lambda s: jnp.full_like(s, 1 / 4),
    "minimax": lambda s: jnp.full_like(s, 1 / 8),
    "softplus": _tanh_ratio,
    "c2": lambda s: (12 - _root(s)) / 36,
}
"""o(t)/t as a function of t²."""
