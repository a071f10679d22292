"""Rules of linear equations."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tests.rules.sampling import Ball, Box, check, close

MAPS = {
    "sum": (lambda x: jnp.sum(x), 12**0.5),
    "sum rows": (lambda x: jnp.sum(x, 1), 2.0),
    "mean": (lambda x: jnp.mean(x), 12**-0.5),
    "broadcast": (lambda x: jnp.broadcast_to(x[None], (5, 3, 4)), 5**0.5),
    "reshape": (lambda x: x.reshape(2, 6), 1.0),
    "transpose": (jnp.transpose, 1.0),
    "slice": (lambda x: x[1:, ::2], 1.0),
    "reverse": (lambda x: jnp.flip(x, 0), 1.0),
    "pad": (lambda x: jnp.pad(x, 1), 1.0),
    "negate": (lambda x: -x, 1.0),
    "add itself": (lambda x: x + x, 2.0),
    "concatenate": (lambda x: jnp.concatenate([x, x], 0), 2**0.5),
    "stack": (lambda x: jnp.stack([x, x, x]), 3**0.5),
    "tile": (lambda x: jnp.tile(x, (2, 3)), 6**0.5),
    "repeat": (lambda x: jnp.repeat(x, 3, axis=0), 3**0.5),
    "split": (lambda x: jnp.split(x, 2, 1)[1], 1.0),
    "unstack": (lambda x: list(x)[2], 1.0),
    "gather": (lambda x: x[jnp.array([0, 0, 0, 2])], 3**0.5),
    "dynamic slice": (lambda x: lax.dynamic_slice_in_dim(x, 1, 2, 0), 1.0),
    "psum": (jax.vmap(lambda row: lax.psum(row, "rows"), axis_name="rows", out_axes=None), 3**0.5),
    "psum over two axes": (
        jax.vmap(
            jax.vmap(lambda x: lax.psum(x, ("rows", "columns")), axis_name="columns"),
            axis_name="rows",
        ),
        12.0,
    ),
    "pmean": (jax.vmap(lambda row: lax.pmean(row, "rows"), axis_name="rows"), 1.0),
    "average pooling": (
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2), (1, 2), "VALID") / 2,
        0.5**0.5,
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_norm_is_attained(name):
    f, norm = MAPS[name]
    found = check(f, Ball((3, 4)))
    assert close(found.lipschitz, norm)
    assert found.smoothness == 0
    check(f, Box((3, 4), -0.5, 2.0))


def test_parts_put_together_again():
    """The norm of the whole is not known to be shared between the parts: a root too much."""
    found = check(lambda x: jnp.stack(jnp.split(x, 2, 1)), Ball((3, 4)))
    assert found.lipschitz <= 2**0.5 * (1 + 1e-9)


def test_average_pooling_of_images_halves():
    def pool(x):
        return lax.reduce_window(x, 0.0, lax.add, (2, 2), (2, 2), "VALID") / 4

    found = check(pool, Ball((6, 6)))
    assert close(found.lipschitz, 0.5)
    assert close(found.bound, 0.5)


def test_sum_of_independent_arguments():
    found = check(lambda x, y: x - 2 * y, Ball((3,), 2.0), Ball((3,), 0.5))
    assert close(found.lipschitz, 5**0.5)
    assert close(found.bound, 3.0)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), ()])
def test_operands_of_one_shape_after_broadcasting(shape):
    """JAX's elementwise equations take axes of length one, which count as often as they meet."""
    times = 6 / math.prod(shape)
    found = check(lambda x, y: x + y, Ball((2, 3)), Ball(shape))
    assert close(found.lipschitz, (1 + times) ** 0.5)
