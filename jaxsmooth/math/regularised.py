"""The incomplete gamma and beta functions with derivatives that hold at the ends of the domain.

Their derivatives are densities, p(x) = x^(a-1) e^{-x} / Γ(a) and x^(a-1) (1-x)^(b-1) / B(a, b),
which JAX computes from log x: at 0 that gives 0·∞, also where p and p' have limits there,

    a = 1:      p(0) = 1 or b,    p'(0) = -1 or -b(b-1),
    a = 2:      p(0) = 0,         p'(0) = 1 or b(b+1),
    a > 2:      p(0) = p'(0) = 0,

and of the beta distribution's likewise at 1. There p is the straight line with these two.
Derivatives in the parameters are JAX's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

Function = Callable[..., Any]


def _with_density(function: Function, density: Function) -> Function:
    """A function of parameters and x whose derivative in x is that density."""

    @jax.custom_jvp
    def regularised(*operands: Any) -> Any:
        return function(*operands)

    def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        (*parameters, x), (*changes, dx) = primals, tangents
        result = regularised(*primals)
        tangent = jnp.zeros_like(result)
        if not all(isinstance(c, SymbolicZero) for c in changes):
            pairs = zip(parameters, changes, strict=True)
            moved = [jnp.zeros_like(a) if isinstance(c, SymbolicZero) else c for a, c in pairs]
            tangent += jax.jvp(lambda *a: function(*a, x), tuple(parameters), tuple(moved))[1]
        if not isinstance(dx, SymbolicZero):
            tangent += density(*parameters, x) * dx
        return result, tangent

    regularised.defjvp(jvp, symbolic_zeros=True)
    return regularised


def _at_end(distance: Any, a: Any) -> Any:
    """Where the density x^(a-1) … is to be the straight line: at 0, if that is its limit."""
    # (a-1)/x overflows below, where JAX multiplies it by a density of 0.
    near = (distance >= 0) & (distance <= (1 + a) * jnp.finfo(distance.dtype).tiny)
    return near & ((a == 1) | (a >= 2))


def _line(distance: Any, a: Any, first: Sequence[Any], second: Any) -> Any:
    """The density near an end.

    Args:
      distance: from the end.
      a: the exponent there, plus 1.
      first: value and slope for a = 1.
      second: slope for a = 2.
    """
    value, slope = first
    slope = jnp.where(a == 1, slope, jnp.where(a == 2, second, 0.0))
    return jnp.where(a == 1, value, 0.0) + slope * distance


def _gamma_density(a: Any, x: Any) -> Any:
    end = _at_end(x, a)
    safe = jnp.where(end, 1.0, x)
    inside = jnp.exp((a - 1) * jnp.log(safe) - safe - lax.lgamma(a))
    return jnp.where(end, _line(x, a, (1.0, -1.0), 1.0), inside)


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    left, right = _at_end(x, a), _at_end(1 - x, b)
    safe = jnp.where(left | right, 0.5, x)
    total = lax.lgamma(a) + lax.lgamma(b) - lax.lgamma(a + b)
    inside = jnp.exp((a - 1) * jnp.log(safe) + (b - 1) * jnp.log1p(-safe) - total)
    at_left = _line(x, a, (b, -b * (b - 1)), b * (b + 1))
    at_right = _line(1 - x, b, (a, -a * (a - 1)), a * (a + 1))
    return jnp.where(left, at_left, jnp.where(right, at_right, inside))


lower_gamma = _with_density(lax.igamma, _gamma_density)
"""P(a, x)."""

upper_gamma = _with_density(lax.igammac, lambda a, x: -_gamma_density(a, x))
"""1 - P(a, x)."""

beta = _with_density(lax.betainc, _beta_density)
"""I_x(a, b) of (a, b, x)."""
