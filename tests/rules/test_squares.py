"""Sums of squares: slopes in the norm of what is squared."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.rules.sampling import Ball, Box, analysed, check, close

FORMS = {
    "square": lambda x: jnp.sum(jnp.square(x)),
    "power": lambda x: jnp.sum(x**2),
    "product": lambda x: jnp.sum(x * x),
    "along axes": lambda x: jnp.sum(x.reshape(2, 3, 2) ** 2, (0, 2)),
}


@pytest.mark.parametrize("name", FORMS)
def test_attained_on_balls(name):
    found = check(FORMS[name], Ball((12,), 1.5))
    assert close(found.lipschitz, 3.0)
    assert close(found.smoothness, 2.0)
    assert (found.range[1] <= 2.25 * (1 + 1e-9)).all()
    assert (found.range[0] == 0).all()


def test_attained_on_boxes():
    found = check(lambda x: jnp.sum(x**2, -1), Box((3, 4), 1.0, 2.0))
    assert close(found.lipschitz, 8.0)
    assert close(found.range[0].min(), 4.0) or found.range[0].min() >= 4.0 * (1 - 1e-9)
    assert close(found.range[1].max(), 16.0)


def test_mean_square_errors():
    found = check(lambda x, y: jnp.mean((x - y) ** 2), Ball((4,)), Ball((4,), 2.0))
    # (2/4)·3 in each.
    assert close(found.lipschitz_per_argument[0], 1.5)
    assert close(found.lipschitz_per_argument[1], 1.5)


def test_squares_of_kinks_without_kinks_stay_functions_of_one_variable():
    found = analysed(lambda x: jnp.sum(jax.nn.relu(x) ** 2), Ball((4,)))
    assert not found.sites
    assert found.smoothness < 2.1
