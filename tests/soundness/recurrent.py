"""Steps that are loops over the rows of their input, and loops with branches in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tests.soundness.choices import Choices, array, flag, pick
from tests.soundness.steps import Shape, Step

CELLS: dict[str, Callable[[Any, Any], Any]] = {
    "relu": lambda h, z: jax.nn.relu(z),
    "leaky_relu": lambda h, z: jax.nn.leaky_relu(z, 0.3),
    "tanh": lambda h, z: jnp.tanh(z),
    "abs": lambda h, z: jnp.abs(z) - 0.2,
    "clip": lambda h, z: jnp.clip(h + z, -0.5, 0.6),
    "max": jnp.maximum,
    "gate": lambda h, z: jax.nn.sigmoid(z) * h + jax.nn.relu(z),
    "softmax": lambda h, z: jax.nn.softmax(z),
    "largest": lambda h, z: z - 0.5 * jnp.max(z, -1, keepdims=True),
}


def recurrent(choices: Choices, shape: Shape) -> Step | None:
    """A recurrent network over the rows."""
    if len(shape) != 2 or 0 in shape:
        return None
    width = choices.integer(1, 3)
    name = pick(choices, sorted(CELLS))
    cell = CELLS[name]
    reverse, checkpoint = flag(choices, 30), flag(choices, 20)
    kind = pick(choices, ["last", "all", "both"])
    shapes: dict[str, Shape] = {"w": (width, width), "v": (shape[1], width)}
    values = {key: array(choices, s, 0.6) for key, s in shapes.items()}
    own = {} if flag(choices, 50) else shapes

    def apply(p, x):
        w, v = (p[k] if own else jnp.asarray(values[k], x.dtype) for k in "wv")

        def step(h, row):
            h = cell(h, h @ w + row @ v)
            return h, h

        if checkpoint:
            step = jax.checkpoint(step)
        last, every = lax.scan(step, jnp.zeros(width, x.dtype), x, reverse=reverse)
        return last if kind == "last" else every if kind == "all" else every - last

    note = " reversed" * reverse + " remat" * checkpoint + " constants" * (not own)
    return Step(f"recurrent {name} {width} {kind}{note}", apply, own)


def _by_turns(x, times):
    """Different steps at even and at odd turns."""

    def step(i, c):
        return lax.cond(i % 2 == 0, lambda c: jnp.abs(c) - 0.3, lambda c: jnp.maximum(c, 0.1), c)

    return lax.fori_loop(0, times, step, x)


def _nested(x, times):
    """A loop in a loop, with numbers that both know."""

    def step(c, shift):
        inner = lambda d, k: (jax.nn.relu(d - 0.1 * k * shift) * 0.9, None)  # noqa: E731
        return lax.scan(inner, c, jnp.arange(2.0, dtype=c.dtype))[0] - 0.2, c

    shifts = jnp.linspace(-1.0, 1.0, times).astype(x.dtype)
    last, every = lax.scan(step, x, shifts)
    return last + every.max(0)


def _averaging(x, times):
    """Means so far: the counter divides."""

    def step(i, c):
        mean, largest = c
        mean = mean + (jnp.abs(x) - mean) / (i + 1)
        return mean, jnp.maximum(largest, mean - 0.1 * i)

    return sum(lax.fori_loop(0, times, step, (x, -x)))


def _rows(x, times):
    """Rows read by the counter."""
    return lax.fori_loop(
        0, min(times, x.shape[0]), lambda i, c: jnp.maximum(0.7 * c, c + x[i]), x[0]
    )


def _sorting(x, times):
    """Every value carried, one of them never changing."""
    return lax.scan(lambda c, _: ((jnp.minimum(c[0], c[1] / 2), c[1]), c[0]), (x, -x), None, times)[
        0
    ][0]


LOOPS: dict[str, Callable[[Any, int], Any]] = {
    "by turns": _by_turns,
    "nested": _nested,
    "averaging": _averaging,
    "rows": _rows,
    "carried": _sorting,
}


def repeated(choices: Choices, shape: Shape) -> Step | None:
    """A loop whose counter matters."""
    if not shape or 0 in shape:
        return None
    name = pick(choices, sorted(LOOPS))
    times = choices.integer(1, 5)
    use = LOOPS[name]
    return Step(f"loop {name} {times}", lambda _, x: use(x, times))
