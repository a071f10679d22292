"""Losses with linear algebra inside: Gaussian processes, ridge regression, Riccati."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import pytest

from jaxsmooth import analyze, ball, box
from tests.rules.sampling import Ball, Box, check
from tests.soundness.trees import attack

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 2))
Y = np.sin(X[:, 0])


def kernel(theta, x):
    """Kernel matrix and noise, of logarithms of hyperparameters around -1."""
    scale, length, noise = jnp.exp(theta - 1)
    distances = jnp.sum((x[:, None] - x[None]) ** 2, -1)
    eye = jnp.eye(len(x), dtype=theta.dtype)
    return scale * jnp.exp(-0.5 * distances / length) + noise * eye


def negative_log_likelihood(theta, x=X):
    factor = jnp.linalg.cholesky(kernel(theta, jnp.asarray(x, theta.dtype)))
    y = jnp.asarray(Y, theta.dtype)
    weights = jsl.cho_solve((factor, True), y)
    return 0.5 * y @ weights + jnp.sum(jnp.log(jnp.diag(factor)))


LOSSES = {
    "Gaussian process": (negative_log_likelihood, Box((3,), -0.3, 0.3)),
    "by slogdet": (lambda t: Y @ jnp.linalg.solve(kernel(t, X), Y)
                   + jnp.linalg.slogdet(kernel(t, X))[1], Box((3,), -0.3, 0.3)),
    "by whitening": (lambda t: jnp.sum(jsl.solve_triangular(
        jnp.linalg.cholesky(kernel(t, X)), Y, lower=True) ** 2), Box((3,), -0.3, 0.3)),
    "with points that vary": (negative_log_likelihood, Box((3,), -0.1, 0.1), Ball((5, 2), 0.5)),
    "ridge": (lambda a, b: jnp.linalg.solve(a.T @ a + 0.5 * jnp.eye(2), a.T @ b),
              Ball((4, 2), 2.0), Ball((4,))),
    "ridge, positive": (lambda a, b: jsl.solve(
        a.T @ a + 0.5 * jnp.eye(2), a.T @ b, assume_a="pos"), Ball((4, 2), 2.0), Ball((4,))),
    "ridges": (lambda a, b: jax.vmap(lambda a, b: jsl.solve(
        a.T @ a + 0.5 * jnp.eye(2), a.T @ b, assume_a="pos"))(a, b),
        Ball((2, 4, 2), 2.0), Ball((2, 4))),
    "Sherman-Morrison": (lambda x: jnp.linalg.inv(jnp.eye(3) + 5 * jnp.outer(x, x)), Ball((3,))),
    "log-determinant": (lambda a: jnp.linalg.slogdet(a.T @ a + 0.5 * jnp.eye(2))[1],
                        Ball((4, 2), 2.0)),
    "factor": (lambda a: jnp.linalg.cholesky(a.T @ a + 0.5 * jnp.eye(2)), Ball((4, 2), 2.0)),
    "Riccati step": (lambda k: _riccati(k @ k.T), Ball((2, 2), 0.5)),
}  # fmt: skip


def _riccati(cost):
    dynamics, control = jnp.array([[1.0, 0.1], [0.0, 1.0]]), jnp.array([[0.0], [0.5]])
    gain = jnp.linalg.solve(jnp.eye(1) + control.T @ cost @ control, control.T @ cost @ dynamics)
    return dynamics.T @ cost @ (dynamics - control @ gain) + jnp.eye(2)


LARGE = {"with points that vary"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in LOSSES]
)
def test_values_and_derivatives(name):
    check(*LOSSES[name], points=20)


def test_the_floor_bounds_the_inverse():
    """(xxᵀ + I)⁻¹ is at most 1, whatever the set."""
    for radius in (0.1, 10.0, 1e3):
        found = analyze(lambda x: jnp.linalg.inv(jnp.eye(3) + jnp.outer(x, x)), ball(radius))(
            np.zeros(3, np.float32)
        )
        assert found.bound <= np.sqrt(3) * (1 + 1e-6)


@pytest.mark.parametrize("double", [False, True])
def test_a_gaussian_process_under_attack(double):
    with jax.enable_x64(double):
        theta = jnp.zeros(3)
        attack(negative_log_likelihood, box(-0.3 * np.ones(3), 0.3 * np.ones(3)), theta)


def test_kinks_next_to_a_gaussian_process():
    """Hyperparameters that are clipped: what is proved of the kernel holds for f_eps."""

    def f(theta):
        return negative_log_likelihood(jax.nn.relu(theta) - 0.1)

    with jax.enable_x64(True):
        assert attack(f, ball(0.2), jnp.full(3, 0.01), eps=0.5).sites
