"""Determinants and their logarithms, of matrices that vary."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth import analyze, ball, smooth
from jaxsmooth.math.determinant import log_determinants
from tests.rules.sampling import Ball, Box, analysed, check, close

C = np.eye(3) * 3 + 0.3 * np.random.default_rng(0).normal(size=(3, 3))
slogdet, det = jnp.linalg.slogdet, jnp.linalg.det


def logdet(a):
    return slogdet(a)[1]


FUNCTIONS = {
    "logarithm": (lambda a: logdet(C + a), Ball((3, 3), 0.5)),
    "in a box": (lambda a: logdet(C + a), Box((3, 3), -0.2, 0.3)),
    "with its sign": (lambda a: jnp.multiply(*slogdet(C[::-1] + a)), Ball((3, 3), 0.5)),
    "batch": (lambda a: logdet(C + a), Ball((2, 3, 3), 0.5)),
    "vmap": (lambda a: jax.vmap(logdet)(C + a), Ball((2, 3, 3), 0.5)),
    "vmap of batch": (lambda a: jax.vmap(logdet)(C + a), Ball((2, 2, 3, 3), 0.5)),
    "det of 1": (det, Ball((1, 1), 2.0)),
    "det of 2": (lambda a: det(2 * jnp.eye(2) + a), Ball((2, 2), 1.0)),
    "det of 3": (lambda a: det(C + a), Ball((3, 3), 0.5)),
    "det of 4": (lambda a: det(2 * jnp.eye(4) + a), Ball((4, 4), 0.3)),
    "dets": (lambda a: jax.vmap(det)(2 * jnp.eye(4) + a), Ball((2, 4, 4), 0.3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives(name):
    check(*FUNCTIONS[name])


def test_the_logarithm_is_sharp_for_small_sets():
    """Its gradient is the inverse, transposed, and its second derivative of norm ‖S⁻¹‖²."""
    found = check(lambda a: logdet(C + a), Ball((3, 3), 1e-4))
    inverse = np.linalg.inv(C)
    assert close(found.lipschitz, np.linalg.norm(inverse), 1e-3)
    assert close(found.smoothness, np.linalg.norm(inverse, 2) ** 2, 1e-3)


def test_one_number():
    """log|a| for a in [1, 3]: both derivatives are attained, and the range nearly."""
    found = check(lambda a: logdet(2 + a), Ball((1, 1)))
    assert close(found.lipschitz, 1.0, 1e-5)
    assert close(found.smoothness, 1.0, 1e-5)


def test_the_sign_does_not_vary():
    found = check(lambda a: slogdet(C[::-1] + a)[0] * jnp.ones(2), Ball((3, 3), 0.5))
    assert found.lipschitz == 0
    assert np.allclose(found.range[0], -1, rtol=1e-12)
    assert np.allclose(found.range[1], -1, rtol=1e-12)


def _expanded(a):
    """Leibniz's formula, which has all derivatives at singular matrices, too."""
    size = a.shape[-1]
    total = 0.0
    for order in itertools.permutations(range(size)):
        sign = np.linalg.det(np.eye(size)[list(order)])
        total = total + sign * math.prod(a[i, j] for i, j in enumerate(order))
    return total


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("around", [0.0, 1.0])
def test_determinants_of_singular_matrices(size, around):
    domain = Ball((size, size), 2.0)
    shift = around * jnp.eye(size)
    found = analysed(lambda a: det(shift + a), domain)
    rng = np.random.default_rng(size)
    with jax.enable_x64(True):
        points = jnp.asarray(np.stack([domain.sample(rng) for _ in range(200)]))
        f = lambda v: _expanded(shift + v.reshape(size, size))  # noqa: E731
        flat = points.reshape(200, -1)
        values = np.asarray(jax.vmap(f)(flat))
        slopes = np.linalg.norm(jax.vmap(jax.grad(f))(flat), axis=-1)
        bends = np.linalg.norm(np.asarray(jax.vmap(jax.hessian(f))(flat)), 2, (-2, -1))
    assert abs(values).max() <= found.bound * (1 + 1e-9)
    assert slopes.max() <= found.lipschitz * (1 + 1e-9)
    assert bends.max() <= found.smoothness * (1 + 1e-9)


@pytest.mark.parametrize(
    "size", [2, 5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 4))]
)
@pytest.mark.parametrize("lost", ["first column", "second column", "row", "rank", "all"])
def test_derivatives_at_singular_matrices(size, lost):
    """They are the cofactors, also where JAX's of det are not."""
    matrix = np.random.default_rng(size).normal(size=(size, size))
    column = 0 if lost == "first column" else min(1, size - 1)
    if lost.endswith("column"):
        matrix[:, column] = 0
    elif lost == "row":
        matrix[0] = 0
    elif lost == "rank":
        matrix[:, 0] = matrix[:, 1:].sum(axis=1)
    else:
        matrix[:] = 0
    minors = [
        [np.linalg.det(np.delete(np.delete(matrix, i, 0), j, 1)) for j in range(size)]
        for i in range(size)
    ]
    signs = (-1.0) ** np.add.outer(np.arange(size), np.arange(size))
    with jax.enable_x64(True):
        f_eps = smooth(det, 0.1, ball(2.0 * size))
        assert float(f_eps(jnp.asarray(matrix))) == float(det(jnp.asarray(matrix)))
        found = jax.grad(f_eps)(jnp.asarray(matrix))
        if size <= 3:
            bend = jax.hessian(f_eps)(jnp.asarray(matrix)).reshape(size**2, size**2)
            bound = f_eps.certificate(jnp.asarray(matrix)).smoothness
            assert np.linalg.norm(bend, 2) <= bound * (1 + 1e-9)
    np.testing.assert_allclose(found, signs * minors, atol=1e-12)


def test_logarithms_of_determinants_that_are_known():
    rng = np.random.default_rng(3)
    matrices = np.triu(rng.normal(size=(20, 5, 5)), 1)
    diagonal = rng.normal(size=(20, 5)) + 0.1
    matrices = matrices + diagonal[..., None] * np.eye(5)
    exact = np.log(abs(diagonal)).sum(-1)
    swapped = matrices[:, [1, 0, 2, 4, 3]]
    for stack in (matrices, swapped, matrices[:, ::-1]):
        norms = np.linalg.norm(np.linalg.inv(stack), 2, (-2, -1)) * 1.01
        value, error, sign = log_determinants(stack, norms)
        assert np.all(abs(value - exact) <= error)
        assert np.all(error[np.isfinite(error)] < 1e-9)
        assert np.all(sign == np.sign(np.linalg.det(stack)))
    assert np.isinf(log_determinants(np.zeros((1, 2, 2)), np.array([np.inf]))[1]).all()


def test_matrices_that_may_be_singular():
    x = np.zeros(3, np.float32)
    with pytest.raises(jaxsmooth.CertificationError, match="may be singular on the set") as caught:
        analyze(lambda x: logdet(jnp.eye(3) - 2 * jnp.outer(x, x)), ball(1.0))(x)
    assert "test_determinants.py" in str(caught.value)
    with pytest.raises(jaxsmooth.CertificationError, match="may be singular on the set"):
        analyze(lambda x: slogdet(jnp.eye(3) - 2 * jnp.outer(x, x))[0] * x, ball(1.0))(x)


def test_known_determinants_are_numbers():
    with jax.enable_x64(True):
        found = analyze(lambda x: logdet(C) * x + det(C) * x, ball(1.0))(np.zeros(3))
    assert close(found.lipschitz, np.log(np.linalg.det(C)) + np.linalg.det(C), 1e-5)


@pytest.mark.parametrize("size", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (6, 7))])
@pytest.mark.parametrize("lost", [1, 2])
def test_second_derivatives_at_singular_matrices(size, lost):
    """They are the minors without two rows and two columns, with their signs."""
    matrix = np.diag(np.r_[np.ones(size - lost), np.zeros(lost)])
    exact = np.zeros((size,) * 4)
    pairs = list(itertools.permutations(range(size), 2))
    for (i, k), (j, m) in itertools.product(pairs, pairs):
        minor = np.linalg.det(np.delete(np.delete(matrix, (i, k), 0), (j, m), 1))
        exact[i, j, k, m] = (-1) ** (i + j + k + m + (i > k) + (j > m)) * minor
    with jax.enable_x64(True):
        f_eps = smooth(det, 0.1, ball(2.0 * size))
        found = jax.jit(jax.hessian(f_eps))(jnp.asarray(matrix))
    np.testing.assert_allclose(found, exact, atol=1e-12)
