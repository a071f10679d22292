"""Copies of a value times known numbers: one linear map, with its norm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import ball, smooth
from tests.rules.sampling import Ball, Box, analysed, check, close

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3))
WEIGHTS[0, 1] = 0.0

MAPS = {
    "diag": (jnp.diag, (3,), 1.0),
    "diag of many": (jax.vmap(jnp.diag), (2, 3), 1.0),
    "another diagonal": (lambda x: jnp.diag(x, 1), (3,), 1.0),
    "eye times": (lambda x: jnp.eye(3) * x, (3,), 1.0),
    "eye times columns": (lambda x: 2.0 * jnp.eye(3) * x[:, None], (3,), 2.0),
    "triangle": (lambda x: jnp.tril(jnp.broadcast_to(x, (3, 3))), (3,), np.sqrt(3)),
    "other triangle": (
        lambda x: jnp.where(jnp.tri(3, dtype=bool), 0.0, x[:, None]), (3,), np.sqrt(2),
    ),
    "weights": (lambda x: WEIGHTS * x, (3,), np.linalg.norm(WEIGHTS, axis=0).max()),
    "weights of rows": (
        lambda x: x[:, None] * WEIGHTS, (4,), np.linalg.norm(WEIGHTS, axis=1).max(),
    ),
    "weights of a transpose": (
        lambda x: WEIGHTS[:, None, :] * x.T, (3, 2), np.linalg.norm(WEIGHTS, axis=0).max(),
    ),
    "weights of a number": (lambda x: WEIGHTS * x, (), np.linalg.norm(WEIGHTS)),
}  # fmt: skip


@pytest.mark.parametrize(("f", "shape", "norm"), MAPS.values(), ids=MAPS.keys())
def test_attained(f, shape, norm):
    found = check(f, Ball(shape, 0.7))
    assert close(found.lipschitz, norm)
    assert found.smoothness == 0
    box = check(f, Box(shape, -0.5, 1.5))
    with jax.enable_x64(True):
        corners = [np.asarray(f(jnp.full(shape, end))) for end in (-0.5, 1.5)]
    lo, hi = box.range
    assert np.allclose(lo, np.minimum(*corners))
    assert np.allclose(hi, np.maximum(*corners))


@pytest.mark.parametrize(("f", "shape", "norm"), MAPS.values(), ids=MAPS.keys())
def test_smoothed_beside_kinks(f, shape, norm):
    """The error of a relu passes the map with its norm."""
    where = ball(1.0, center=np.zeros(shape))
    certificate = smooth(lambda x: f(jax.nn.relu(x)), 0.1, where).certificate(np.zeros(shape))
    assert certificate.error <= 0.1
    assert certificate.lipschitz == pytest.approx(norm, rel=1e-5)


def test_unbounded_entries():
    """0 of an entry without bounds is 0."""
    found = analysed(lambda x: jnp.diag(jnp.exp(x)), Box((2,), -np.inf, np.inf))
    lo, hi = found.range
    assert np.array_equal(lo, np.zeros((2, 2)))
    assert np.array_equal(hi, np.where(np.eye(2) > 0, np.inf, 0.0))


def test_no_entries():
    found = analysed(lambda x: WEIGHTS[:, :0] * x, Ball((0,), 1.0))
    assert found.lipschitz == 0
    assert np.shape(found.range[0]) == (4, 0)
