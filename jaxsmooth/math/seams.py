"""Derivatives by JAX of one-variable programs where their choices change.

JAX differentiates every choice between equal numbers by a rule of its own: a maximum has
half the slope of each side, |x| at 0 that of the right side. Where f is smooth although its
parts are not, max(x, 0) + log1p(exp(-|x|)) at 0, their sum need not be the derivative of f.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import concretely
from jaxsmooth.math.joints import Seam
from jaxsmooth.math.univariate import Univariate

_ACCURATE = 2.0**-20
# Choices are made this far to the right of a seam, or half-way to the next one.
_ASIDE = 2.0**-12


def misjudged(program: Univariate, seams: tuple[Seam, ...]) -> bool:
    """Whether some derivative by JAX at a seam is not between those of its two sides."""
    if not seams:
        return False
    slope = jax.grad(program.evaluate)
    with concretely():
        at = jnp.asarray([s.location for s in seams])
        # One compilation: step by step, every operation would be compiled.
        found = jax.jit(jax.vmap(jax.value_and_grad(slope)))(at)
    sides = [s.slopes for s in seams], [s.curvatures for s in seams]
    return any(_outside(np.asarray(d), np.array(s)) for d, s in zip(found, sides, strict=True))


def _outside(found: np.ndarray, sides: np.ndarray) -> bool:
    lo, hi = sides.min(axis=1), sides.max(axis=1)
    allowed = _ACCURATE * (1 + np.maximum(abs(lo), abs(hi)))
    known = np.isfinite(lo) & np.isfinite(hi)
    return bool(np.any(known & ~((found >= lo - allowed) & (found <= hi + allowed))))


def right_of(x: jax.Array, seams: tuple[Seam, ...]) -> Any:
    """x, but near a seam a number to the right of it, up to the next one."""
    dtype = x.dtype
    at = np.array([s.location for s in seams])
    gaps = np.diff(at, append=np.inf)
    away = np.maximum(_ASIDE, 4 * float(jnp.finfo(dtype).eps)) * np.maximum(1.0, abs(at))
    away = np.minimum(away, gaps / 2)
    # Half-way to the seam on the left, a number is nearer to that one.
    near = np.minimum(away, np.append(np.inf, gaps[:-1]) / 2)
    fixed = jax.lax.stop_gradient(x)
    result = fixed
    for location, right, reach in zip(at, at + away, near, strict=True):
        close = abs(fixed - jnp.asarray(location, dtype)) <= jnp.asarray(reach, dtype)
        result = jnp.where(close, jnp.asarray(right, dtype), result)
    return result
