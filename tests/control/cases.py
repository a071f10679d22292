"""Programs with loops and branches, and the same programs without."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxsmooth
from tests.soundness.programs import Program
from tests.soundness.regions import Ball, Box, Region

RNG = np.random.default_rng(7)
W = RNG.normal(size=(3, 3)) * 0.4
V = RNG.normal(size=(3, 2)) * 0.6
STEPS = 4


def unrolled(step, carry, xs, reverse=False):
    """`jax.lax.scan` in Python."""
    slots = []
    order = range(len(xs))
    for i in reversed(order) if reverse else order:
        carry, slot = step(carry, xs[i])
        slots.append(slot)
    return carry, jnp.stack(slots[::-1] if reverse else slots)


def relu_network(scan, reverse=False):
    def f(xs):
        def step(h, x):
            h = jax.nn.relu(jnp.asarray(W, xs.dtype) @ h + jnp.asarray(V, xs.dtype) @ x)
            return h, h - 0.1

        last, every = scan(step, jnp.zeros(3, xs.dtype), xs, reverse=reverse)
        return last + every.mean(0)

    return f


def clipped_rollout(scan):
    """Model-predictive control: a clipped linear system under inputs in a box."""

    def f(us):
        def step(x, u):
            x = jnp.clip(jnp.asarray(W, us.dtype) @ x + jnp.asarray(V, us.dtype) @ u, -0.5, 0.5)
            return x, jnp.sum(jnp.abs(x)) + 0.1 * u @ u

        _, costs = scan(step, jnp.full(3, 0.3, us.dtype), us)
        return costs.sum()

    return f


def nested(scan):
    def f(xs):
        def step(h, x):
            inner = lambda g, k: (jnp.maximum(0.8 * g, g - k * x[0]), g)  # noqa: E731
            h, between = scan(inner, h, jnp.arange(1.0, 3.0, dtype=xs.dtype))
            return jnp.abs(h) - 0.2, between.max(0)

        last, every = scan(step, jnp.asarray([0.1, -0.3], xs.dtype), xs)
        return last + every.sum(0)

    return f


CASES = {
    "relu network": relu_network,
    "relu network in reverse": lambda scan: relu_network(scan, reverse=True),
    "clipped rollout": clipped_rollout,
    "nested": nested,
}


def weights_network(w, v, xs):
    """A relu network with its weights as arguments."""
    step = lambda h, x: (jax.nn.relu(w @ h + v @ x), None)  # noqa: E731
    return lax.scan(step, jnp.zeros(2, xs.dtype), xs)[0]


def gated_unit(w, xs):
    """A GRU with hard gates."""
    u, v = w[:, :2], w[:, 2:]

    def step(h, x):
        z, r, _ = jnp.split(jax.nn.hard_sigmoid(u @ h + v @ x), 3)
        candidate = jnp.tanh((u @ (r * h) + v @ x)[4:])
        h = (1 - z) * h + z * candidate
        return h, h

    return lax.scan(step, jnp.zeros(2, xs.dtype), xs)[1][-1]


def program(f: Any, *sets: tuple[tuple[int, ...], Any], double: bool = True, **options: Any):
    """A program of arrays in balls (a radius) or boxes (a pair)."""
    dtype = np.float64 if double else np.float32
    structs = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape, _ in sets)
    sections, bounds, start = [], [], 0
    for shape, declared in sets:
        size = int(np.prod(shape))
        where = slice(start, start + size)
        if isinstance(declared, tuple):
            lo, hi = (np.full(size, side) for side in declared)
            sections.append((where, Box(lo, hi)))
            bounds.append(jaxsmooth.box(*(side.reshape(shape) for side in (lo, hi))))
        else:
            sections.append((where, Ball(np.zeros(size), declared)))
            bounds.append(jaxsmooth.ball(declared))
        start += size
    defaults = {"eps": 0.05, "kernel": "minimax", "allocation": "optimal", "norm": "l2"}
    return Program(
        label=getattr(f, "__name__", "f"),
        function=f,
        arguments=structs,
        bounds=tuple(bounds),
        region=Region(tuple(sections), start),
        argnums=None,
        options=defaults | options,
        double=double,
        traced=False,
    )
