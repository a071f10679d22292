"""Random programs of composites along axes, between random rearrangements of entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Function = Callable[[Any], Any]

LARGEST = 40

COMPOSITES: list[Callable[[Any, tuple[int, ...]], Any]] = [
    jax.nn.softmax,
    jax.nn.log_softmax,
    lambda v, axes: jnp.log(jax.nn.softmax(v, axes)),
    lambda v, axes: jax.nn.logsumexp(v, axes),
    lambda v, axes: jax.nn.logsumexp(v, axes, keepdims=True),
    lambda v, axes: v / jnp.sqrt(jnp.sum(v**2, axes, keepdims=True) + 0.5),
    lambda v, axes: jnp.sqrt(jnp.sum(v**2, axes) + 0.5),
    lambda v, axes: (v - v.mean(axes, keepdims=True)) / jnp.sqrt(v.var(axes, keepdims=True) + 0.5),
]


def rearrangement(rng: np.random.Generator, shape: tuple[int, ...]) -> Function:
    """A function of an array of that shape, with at least one axis, that picks or moves entries."""
    axis = int(rng.integers(len(shape)))
    n = shape[axis]
    start = int(rng.integers(n))
    stop = int(rng.integers(start + 1, n + 1))
    some = rng.integers(0, n, rng.integers(1, 4))
    order = tuple(int(a) for a in rng.permutation(len(shape)))
    along = rng.integers(0, n, [1 if a == axis else m for a, m in enumerate(shape)])
    copies = int(rng.integers(1, 4))
    choices: list[Function] = [
        lambda v: v,
        lambda v: jnp.transpose(v, order),
        lambda v: jnp.take(v, some, axis),
        lambda v: jax.lax.slice_in_dim(v, start, stop, axis=axis),
        lambda v: jnp.take_along_axis(v, along, axis),
    ]
    if len(shape) < 4:
        choices += [
            lambda v: jnp.expand_dims(v, axis),
            lambda v: jnp.broadcast_to(v, (copies, *v.shape)),
        ]
    if len(shape) > 1:
        rows = np.arange(shape[0]) if rng.random() < 0.5 else rng.integers(0, shape[0], copies)
        columns = rng.integers(0, shape[1], len(rows))
        choices.append(lambda v: v[rows, columns])
    return choices[rng.integers(len(choices))]


def shape_of(f: Function, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the result."""
    return jax.eval_shape(f, jax.ShapeDtypeStruct(shape, jnp.float32)).shape


def chain(rng: np.random.Generator, shape: tuple[int, ...], most: int) -> Function:
    """Some rearrangements, one after the other."""
    steps: list[Function] = []
    for _ in range(rng.integers(most + 1)):
        if not shape:
            break
        step = rearrangement(rng, shape)
        found = shape_of(step, shape)
        if np.prod(found) <= LARGEST:
            steps.append(step)
            shape = found

    def run(v: Any) -> Any:
        for step in steps:
            v = step(v)
        return v

    return run


def rearranged(seed: int) -> tuple[Function, tuple[int, ...]]:
    """A random program of one composite, and the shape of its argument."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(1, 4)))
    before = chain(rng, shape, 1)
    inner = shape_of(before, shape)
    if not inner:
        return rearranged(seed + 10_000)
    axes = tuple(a for a in range(len(inner)) if rng.random() < 0.6) or (0,)
    composite = COMPOSITES[rng.integers(len(COMPOSITES))]
    after = chain(rng, shape_of(lambda x: composite(before(x), axes), shape), 3)

    def picked(x: Any) -> Any:
        return after(composite(before(x), axes))

    result = shape_of(picked, shape)
    kind = rng.integers(4)
    if kind == 0 and result:
        weights = rng.choice([0.0, 0.5, 1.0, -1.0, 2.0], result)
        summed = tuple(a for a in range(len(result)) if rng.random() < 0.7)
        return lambda x: jnp.sum(picked(x) * weights, summed), shape
    if kind == 1 and result:
        axis = int(rng.integers(len(result)))
        labels = rng.integers(0, result[axis], result[:axis] + result[axis + 1 :])
        one_hot = np.asarray(jax.nn.one_hot(labels, result[axis], axis=axis))
        return lambda x: jnp.sum(picked(x) * one_hot, axis), shape
    if kind == 2:
        other = chain(rng, inner, 3)
        try:
            wide = np.broadcast_shapes(result, shape_of(other, inner))
        except ValueError:
            return picked, shape
        if np.prod(wide) <= LARGEST:
            spread = rng.random() < 0.5

            def difference(x: Any) -> Any:
                first, second = picked(x), other(before(x))
                if spread:
                    first, second = (jnp.broadcast_to(v, wide) for v in (first, second))
                return first - second

            return difference, shape
    return picked, shape
