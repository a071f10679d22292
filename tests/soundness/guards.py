"""Guards against what is no number, around functions whose domain has an end.

Where all of what they guard are numbers they are idle; elsewhere what they choose jumps, and a
certificate is contradicted by the difference of slopes on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax


def _square(x):
    """A symmetric matrix, regular for small x."""
    v = jnp.ravel(x)[:3]
    return jnp.eye(v.size, dtype=v.dtype) + jnp.outer(v, jnp.flip(v)) + jnp.outer(jnp.flip(v), v)


def _one(x, number):
    """The shape of x, from a number that is of all of it."""
    return x * 0 + number


# Each is defined where some or all entries are in part of the line.
PARTIAL = {
    "log": jnp.log,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "power 1.5": lambda x: x**1.5,
    "x^y": lambda x: x ** jnp.flip(x, -1),
    "1/x": lambda x: 1 / x,
    "x/y": lambda x: x / jnp.flip(x, -1),
    "arcsin": jnp.arcsin,
    "arctanh": jnp.arctanh,
    "arccosh": jnp.arccosh,
    "erf_inv": jax.scipy.special.erfinv,
    "gammaln": jax.scipy.special.gammaln,
    "digamma": jax.scipy.special.digamma,
    "gammainc": lambda x: jax.scipy.special.gammainc(2.0, x),
    "zeta": lambda x: jax.scipy.special.zeta(2.5, x),
    "betainc": lambda x: jax.scipy.special.betainc(2.0, 3.0, x),
    "entropy": lambda x: x * jnp.log(x),
    "log|x|": lambda x: jnp.log(jnp.abs(x)),
    "normalise": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "geometric mean": lambda x: _one(x, jnp.exp(jnp.mean(jnp.log(x)))),
    "cholesky": lambda x: _one(x, jnp.linalg.cholesky(_square(x))[-1, -1]),
    "log-determinant": lambda x: _one(x, jnp.linalg.slogdet(_square(x))[1]),
    "inverse": lambda x: _one(x, jnp.linalg.inv(_square(x))[0, 0]),
    "complex quotient": lambda x: (1 / lax.complex(x, jnp.flip(x, -1))).real,
}

# Of what may be no number, and what to compute of x.
GUARDS = {
    "isnan": lambda y, x: jnp.where(jnp.isnan(y), 0.3, jnp.flip(x, -1)),
    "isfinite": lambda y, x: jnp.where(jnp.isfinite(y), jnp.abs(x), 0.5 - jnp.flip(x, -1)),
    "any": lambda y, x: jnp.where(jnp.isnan(y).any(), 2 * x, x),
    "a bound": lambda y, x: jnp.where(jnp.tanh(y) < 2, x, -jnp.flip(x, -1)),
    "a clipped bound": lambda y, x: jnp.where(jnp.clip(y, -4, 4) + jnp.tanh(x) < 9, x, 1.0),
    "nan_to_num": lambda y, x: jnp.nan_to_num(jnp.tanh(y)) + x,
    "nanmax": lambda y, x: jnp.nanmax(jnp.tanh(y)) + x,
    "a larger one": lambda y, x: jnp.fmax(jnp.tanh(y), -x),
}

# From anything to where most of them are numbers, or not.
_INSIDE = {
    "": lambda x: x,
    " of 0.2 + x²": lambda x: 0.2 + x**2,
    " of 0.05 + 0.9 logistic": lambda x: 0.05 + 0.9 * jax.nn.sigmoid(x),
}


def _guarded(partial: Callable, guard: Callable, inside: Callable) -> Callable:
    return lambda x: guard(partial(inside(x)), x)


def _all() -> Iterator[tuple[str, Callable]]:
    for function, partial in PARTIAL.items():
        for name, guard in GUARDS.items():
            for of, inside in _INSIDE.items():
                yield f"{name} around {function}{of}", _guarded(partial, guard, inside)


GUARDED = dict(_all())
