"""Linear systems with a known matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth import analyze, ball
from jaxsmooth.math.inverse import enclose_inverse
from tests.rules.sampling import Ball, Box, check, close

A = np.array([[3.0, 0.0, 0.0], [1.0, 2.0, 0.0], [-1.0, 0.5, 1.0]])
FULL = A + np.triu(np.full((3, 3), 0.3), 1)
SOLVE = jax.scipy.linalg.solve_triangular

SYSTEMS = {
    "lower": (lambda b: SOLVE(A, b, lower=True), A),
    "transposed": (lambda b: SOLVE(A, b, lower=True, trans=1), A.T),
    "upper": (lambda b: SOLVE(FULL, b), np.triu(FULL)),
    "unit diagonal": (lambda b: SOLVE(A, b, lower=True, unit_diagonal=True),
                      np.tril(A, -1) + np.eye(3)),
    "from the right": (lambda b: jax.lax.linalg.triangular_solve(
        jnp.asarray(A), b[None], left_side=False, lower=True)[0], A.T),
    "general": (lambda b: jnp.linalg.solve(FULL, b), FULL),
    "positive definite": (lambda b: jax.scipy.linalg.solve(FULL @ FULL.T, b, assume_a="pos"),
                          FULL @ FULL.T),
}  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_norm_is_attained(name):
    f, matrix = SYSTEMS[name]
    norm = np.linalg.norm(np.linalg.inv(matrix), 2)
    found = check(f, Ball((3,)))
    assert close(found.lipschitz, norm, 1e-5)
    assert close(found.bound, norm, 1e-5)
    assert found.smoothness == 0
    check(f, Box((3,), -0.2, 1.0))


def test_several_right_hand_sides():
    check(lambda b: SOLVE(A, b, lower=True), Ball((3, 2)))
    check(lambda b: jnp.linalg.solve(FULL, b), Ball((3, 2)))
    check(lambda b: jnp.tanh(jnp.linalg.solve(FULL, b)), Ball((3,)))


def test_the_enclosure_holds_the_inverse():
    """A matrix whose inverse is known exactly, badly conditioned."""
    n = 12
    matrix = np.tril(np.ones((n, n)))
    exact = np.eye(n) - np.eye(n, k=-1)
    scale = 2.0 ** np.arange(n)
    found = enclose_inverse(matrix * scale)
    assert found is not None
    assert np.linalg.norm(found[0] - exact / scale[:, None], 2) <= found[1]
    assert enclose_inverse(np.ones((2, 2))) is None
    hilbert = 1 / (1 + np.arange(15) + np.arange(15)[:, None])
    assert enclose_inverse(hilbert) is None


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.linalg.solve(jnp.eye(3) + 0.1 * jnp.outer(x, x), x),
        lambda x: SOLVE(jnp.eye(3) + jnp.outer(x, x), x, lower=True),
        lambda x: jnp.linalg.inv(jnp.eye(3) + jnp.outer(x, x)),
    ],
)
def test_unknown_matrices(f):
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match="known"):
        analyze(f, ball(1.0))(np.zeros(3, np.float32))


def test_singular_matrices():
    with pytest.raises(jaxsmooth.CertificationError, match="not proved to be regular"):
        analyze(lambda b: SOLVE(np.ones((3, 3)) * 0.0, b), ball(1.0))(np.zeros(3, np.float32))
