"""Cholesky factors, and what is computed with them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth import analyze, ball
from tests.rules.sampling import Ball, Box, check, close

P = 3 * np.eye(3) + 0.2
cholesky = jnp.linalg.cholesky


def half_logdet(a):
    return jnp.sum(jnp.log(jnp.diag(cholesky(a))))


FUNCTIONS = {
    "factor": (lambda a: cholesky(P + a), Ball((3, 3), 0.5)),
    "in a box": (lambda a: cholesky(P + a), Box((3, 3), -0.3, 0.2)),
    "of a Gram matrix": (lambda a: cholesky(P + a @ a.T), Ball((3, 3), 0.5)),
    "one number": (lambda a: cholesky(2 + a) + jnp.log(jnp.diag(cholesky(2 + a))).sum(),
                   Ball((1, 1))),
    "upper": (lambda a: cholesky(P + a, upper=True), Ball((3, 3), 0.5)),
    "batch": (lambda a: cholesky(P + a), Ball((2, 3, 3), 0.3)),
    "vmap": (lambda a: jax.vmap(cholesky)(P + a), Ball((2, 3, 3), 0.3)),
    "logarithms": (lambda a: jnp.log(jnp.diag(cholesky(P + a))), Ball((3, 3), 0.3)),
    "logdet": (lambda a: half_logdet(P + a), Ball((3, 3), 0.3)),
    "logdets": (lambda a: jax.vmap(half_logdet)(P + a), Ball((2, 3, 3), 0.3)),
    "logdets of a batch": (
        lambda a: jnp.log(jnp.diagonal(cholesky(P + a), axis1=-2, axis2=-1)).sum(-1),
        Ball((2, 3, 3), 0.3)),
    "cho_solve": (lambda a, b: jsl.cho_solve((cholesky(P + a), True), b),
                  Ball((3, 3), 0.4), Ball((3, 2))),
    "cho_solve, upper": (lambda a, b: jsl.cho_solve(jsl.cho_factor(P + a @ a.T), b),
                         Ball((3, 3), 0.4), Ball((3,))),
    "cho_solve under vmap": (
        lambda a, b: jax.vmap(lambda a, b: jsl.cho_solve((cholesky(P + a), True), b))(a, b),
        Ball((2, 3, 3), 0.4), Ball((2, 3))),
    "whitened": (lambda a, b: jsl.solve_triangular(cholesky(P + a), b, lower=True),
                 Ball((3, 3), 0.4), Ball((3,))),
    "reparametrised": (lambda a, z: cholesky(P + a) @ z, Ball((3, 3), 0.4), Ball((3,))),
    "Mahalanobis": (lambda a, b: jnp.sum(jsl.solve_triangular(
        cholesky(P + a), b, lower=True) ** 2), Ball((3, 3), 0.3), Ball((3,))),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives(name):
    check(*FUNCTIONS[name])


def _analysis(f, matrix, radius=1e-4):
    with jax.enable_x64(True):
        return analyze(lambda a: f(matrix + a), ball(radius))(np.zeros_like(matrix))


def test_cho_solve_is_the_inverse():
    """As a function of the matrix, and not of its factor."""
    found = _analysis(lambda a: jsl.cho_solve((cholesky(a), True), jnp.ones(3)), P)
    inverse = np.linalg.inv(P)
    assert found.lipschitz <= 1.5 * np.linalg.norm(inverse, 2) * np.linalg.norm(inverse.sum(1))


def test_what_is_not_that_of_one_factor_is_kept_apart():
    """Factors of two matrices; the wrong triangle; the wrong order."""

    def two(a, b):
        inner = jsl.solve_triangular(cholesky(P + a), b, lower=True)
        return jsl.solve_triangular(cholesky(2 * P + a), inner, lower=True, trans=1)

    def diagonal_only(a, b):
        factor = cholesky(P + a)
        inner = jsl.solve_triangular(factor, b, lower=False)
        return jsl.solve_triangular(factor, inner, lower=True, trans=1)

    def reversed_(a, b):
        factor = cholesky(P + a)
        inner = jsl.solve_triangular(factor, b, lower=True, trans=1)
        return jsl.solve_triangular(factor, inner, lower=True)

    for f in (two, diagonal_only, reversed_):
        check(f, Ball((3, 3), 0.2), Ball((3,)))


def test_first_derivatives_at_multiples_of_the_identity():
    """There ‖dL‖_F <= ‖dS‖_F/√(2a) is attained by what is off the diagonal."""
    found = _analysis(cholesky, 4 * np.eye(3))
    assert close(found.lipschitz, 0.5 / np.sqrt(2), 1e-3)


def test_the_diagonal_is_positive():
    found = check(lambda a: jnp.diag(cholesky(P + a)), Ball((3, 3), 1.0))
    assert np.all(found.range[0] >= np.sqrt(2) * (1 - 1e-6))


def test_matrices_that_are_not_positive():
    zeros = np.zeros((3, 3), np.float32)
    with pytest.raises(jaxsmooth.CertificationError, match="may be singular on the set"):
        analyze(lambda a: cholesky(P + a), ball(4.0))(zeros)
    negative = np.diag([1.0, -1.0, 1.0])
    with pytest.raises(jaxsmooth.CertificationError, match="positive definite") as caught:
        analyze(lambda a: cholesky(negative + a), ball(0.1))(zeros)
    assert "test_cholesky.py" in str(caught.value)
