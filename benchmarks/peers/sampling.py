"""What a function really does on its boxes: the values that a search finds, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.table import Array, Case

POINTS = 20_000
_CORNERS = 4096  # all of them, up to so many
_ASCENT = 60  # steps from the best points found
_SEED = 0


def flattened(f: Callable[..., Any], case: Case) -> Callable[[Any], Any]:
    """The function of the flat vector of all inputs, to the flat vector of its output."""
    return lambda x: jnp.ravel(f(*case.split(x)))


def start_points(case: Case) -> Array:
    """Points inside, and corners."""
    rng = np.random.default_rng(_SEED)
    lo, hi = case.bounds
    size = len(lo)
    if 2**size <= _CORNERS:
        corners = np.array(list(itertools.product((0.0, 1.0), repeat=size)))
    else:
        corners = rng.integers(0, 2, (_CORNERS, size)).astype(float)
    parts = np.concatenate([rng.uniform(size=(POINTS, size)), corners])
    return lo + parts * (hi - lo)


def found_range(f: Callable[..., Any], case: Case) -> tuple[Array, Array]:
    """The least and the largest value found of every entry of the output.

    The search is 20,000 points, the corners, and signed gradient ascent from the best of them.
    """
    with jax.enable_x64(True):
        g = flattened(f, case)
        lo, hi = (jnp.asarray(side) for side in case.bounds)
        values = jax.jit(jax.vmap(g))
        jacobians = jax.vmap(jax.jacfwd(g))
        x = jnp.asarray(start_points(case))
        y = values(x)
        entries = jnp.tile(jnp.arange(y.shape[1]), 2)
        signs = jnp.repeat(jnp.array([1.0, -1.0]), y.shape[1])
        best = x[jnp.concatenate([jnp.argmax(y, axis=0), jnp.argmin(y, axis=0)])]

        @jax.jit
        def ascend(x: Any, low: Any, high: Any) -> Any:
            def step(state: Any, size: Any) -> Any:
                x, low, high = state
                slope = jacobians(x)[jnp.arange(len(x)), entries] * signs[:, None]
                x = jnp.clip(x + size * (hi - lo) * jnp.sign(jnp.nan_to_num(slope)), lo, hi)
                y = jax.vmap(g)(x)
                return (x, jnp.minimum(low, y.min(axis=0)), jnp.maximum(high, y.max(axis=0))), None

            sizes = 0.1 * 0.85 ** jnp.arange(_ASCENT)
            return jax.lax.scan(step, (x, low, high), sizes)[0][1:]

        low, high = ascend(best, y.min(axis=0), y.max(axis=0))
        return np.asarray(low), np.asarray(high)


def values_at_points(f: Callable[..., Any], case: Case) -> Array:
    """The output at the points where all tools' versions are compared."""
    with jax.enable_x64(True):
        return np.asarray(jax.vmap(flattened(f, case))(jnp.asarray(case.points())))
