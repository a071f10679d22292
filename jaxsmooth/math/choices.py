"""Derivatives by JAX of functions that choose between branches.

Reverse mode multiplies the slope of a branch that is not taken by 0, which gives NaN where
that slope is infinite or undefined, as of ``where(x > 0, sqrt(x), x)`` for x < 0. Forward
mode chooses between the slopes of the branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def chosen_derivatives(f: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """A function whose derivatives of any order, in any mode, are of the branches taken.

    Args:
        f: an elementwise function, of values that it chooses by ``where``.

    Example:
        >>> f = lambda x: jnp.where(x > 0, jnp.sqrt(x), x)
        >>> print(jax.grad(f)(-1.0), jax.grad(chosen_derivatives(f))(-1.0))
        nan 1.0
    """

    @jax.custom_jvp
    def function(x: jax.Array) -> jax.Array:
        return f(x)

    def slope(x: jax.Array) -> jax.Array:
        return jax.jvp(f, (x,), (jnp.ones_like(x),))[1]

    @function.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (x,), (change,) = primals, tangents
        return function(x), chosen_derivatives(slope)(x) * change

    return function
