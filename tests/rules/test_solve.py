"""Linear systems, with matrices that are known and with matrices that vary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth import analyze, ball, fixed
from jaxsmooth.math.inverse import Matrices, enclose_inverses, triangular_inverses
from tests.rules.sampling import Ball, Box, check, close
from tests.soundness.trees import attack

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
    "tridiagonal": (lambda b: jax.lax.linalg.tridiagonal_solve(
        *(jnp.array(d) for d in ([9.0, 1, 0.5], [3.0, 2, 1], [0.3, 0.2, 9])), b[:, None])[:, 0],
        np.array([[3, 0.3, 0], [1, 2, 0.2], [0, 0.5, 1]])),
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


def _known(matrix):
    matrix = np.asarray(matrix, np.float64)[None]
    return enclose_inverses(Matrices(matrix, 0 * matrix, np.zeros(1)))


def test_the_enclosure_holds_the_inverse():
    """A matrix whose inverse is known exactly, badly conditioned."""
    n = 12
    matrix = np.tril(np.ones((n, n)))
    exact = np.eye(n) - np.eye(n, k=-1)
    scale = 2.0 ** np.arange(n)
    found = _known(matrix * scale)
    inverse = exact / scale[:, None]
    assert (abs(inverse) <= found.entries[0]).all()
    assert close(found.norms[0], np.linalg.norm(inverse, 2), 1e-5)
    assert np.isinf(_known(np.ones((2, 2))).norms).all()
    hilbert = 1 / (1 + np.arange(15) + np.arange(15)[:, None])
    assert np.isinf(_known(hilbert).norms).all()


def _corner(rng, center, spread, radius):
    """A matrix of the set that is often at its boundary."""
    moved = spread * np.sign(rng.normal(size=center.shape)) * (rng.random(center.shape) < 0.7)
    return center + moved * min(1.0, radius / max(np.linalg.norm(moved, 2), 1e-300))


@pytest.mark.parametrize("radius", [0.3, 10.0])
@pytest.mark.parametrize("spread", [0.02, 0.15])
def test_the_enclosure_holds_all_inverses(spread, radius):
    rng = np.random.default_rng(1)
    for _ in range(20):
        center = np.eye(4) * 2 + 0.3 * rng.normal(size=(4, 4))
        spreads = np.full((4, 4), spread) * (rng.random((4, 4)) < 0.8)
        found = enclose_inverses(Matrices(center[None], spreads[None], np.array([radius])))
        for _ in range(50):
            inverse = np.linalg.inv(_corner(rng, center, spreads, radius))
            assert (abs(inverse) <= found.entries[0]).all()
            assert np.linalg.norm(inverse, 2) <= found.norms[0]


def test_eigenvalues_above_a_floor_bound_the_inverse():
    center, far = np.eye(3)[None] * 2, np.array([5.0])
    found = enclose_inverses(Matrices(center, np.full((1, 3, 3), 5.0), far, np.array([0.5])))
    assert close(found.norms[0], 2.0)
    assert np.isinf(enclose_inverses(Matrices(center, center * 5, far)).norms).all()


def test_triangular_inverses_are_attained():
    """The comparison matrix is one of the set."""
    least, size = np.array([[0.5, 1.0, 2.0]]), np.tril(np.full((1, 3, 3), 1.5), -1)
    worst = np.linalg.inv(np.diag(least[0]) - size[0])
    found = triangular_inverses(least, size)[0]
    assert np.all((found >= worst) & (found <= worst * (1 + 1e-12) + 1e-300))


C = np.eye(3) * 3 + 0.3 * np.random.default_rng(0).normal(size=(3, 3))
D = np.array([0.5, -1.0, 0.25])
WIDE = 3 * np.eye(3)


def positive(a, b, lower=False):
    return jax.scipy.linalg.solve(a, b, assume_a="pos", lower=lower)


TRIDIAGONAL = jax.lax.linalg.tridiagonal_solve

VARYING = {
    "matrix": (lambda a: jnp.linalg.solve(C + a, D), Ball((3, 3), 0.5)),
    "both": (lambda a, b: jnp.linalg.solve(C + a, b), Ball((3, 3), 0.5), Ball((3,))),
    "boxes": (lambda a, b: jnp.linalg.solve(C + a, b), Box((3, 3), -0.3, 0.1), Box((3, 2))),
    "inverse": (lambda a: jnp.linalg.inv(C + a), Ball((3, 3), 0.5)),
    "batch": (lambda a, b: jnp.linalg.solve(C + a, b), Ball((2, 3, 3), 0.5), Ball((2, 3, 2))),
    "vmap": (lambda a, b: jax.vmap(jnp.linalg.solve)(C + a, b), Ball((2, 3, 3), 0.5),
             Ball((2, 3))),
    "vmap over sides": (lambda a, b: jax.vmap(jnp.linalg.solve, (None, 1))(C + a, b),
                        Ball((3, 3), 0.5), Ball((3, 2))),
    "vmap over matrices": (lambda a, b: jax.vmap(jnp.linalg.solve, (0, None))(C + a, b),
                           Ball((2, 3, 3), 0.5), Ball((3,))),
    "batch of inverses": (lambda a: jnp.linalg.inv(C + a), Box((2, 3, 3), -0.1, 0.2)),
    "positive": (lambda a, b: positive(WIDE + a @ a.T, b), Ball((3, 3), 0.5), Ball((3,))),
    "positive, lower": (lambda a, b: positive(WIDE + a @ a.T, b, True), Box((3, 3), -0.3, 0.2),
                        Ball((3, 2))),
    "symmetric": (lambda a, b: jax.scipy.linalg.solve(WIDE + a + a.T, b, assume_a="sym"),
                  Ball((3, 3), 0.5), Ball((3,))),
    "one argument": (lambda x: jnp.linalg.solve(jnp.eye(3) + 0.3 * jnp.outer(x, x), x),
                     Ball((3,))),
    "lower": (lambda a, b: SOLVE(WIDE + a, b, lower=True), Box((3, 3), -2, 2), Ball((3,))),
    "lower, transposed": (lambda a, b: SOLVE(WIDE + a, b, lower=True, trans=1),
                          Box((3, 3), -2, 2), Box((3, 2))),
    "upper": (lambda a, b: SOLVE(WIDE + a, b), Ball((3, 3), 2.0), Ball((3,))),
    "upper, transposed": (lambda a, b: SOLVE(WIDE + a, b, trans=1), Box((3, 3), -2, 2),
                          Ball((3,))),
    "unit": (lambda a, b: SOLVE(a, b, unit_diagonal=True), Box((3, 3), -2, 2), Box((3, 2))),
    "right": (lambda a, b: jax.lax.linalg.triangular_solve(
        WIDE + a, b, left_side=False, lower=True), Box((3, 3), -2, 2), Box((2, 3))),
    "right, transposed": (lambda a, b: jax.lax.linalg.triangular_solve(
        WIDE + a, b, left_side=False, lower=True, transpose_a=True),
        Box((3, 3), -2, 2), Ball((2, 3))),
    "triangular batch": (lambda a, b: jax.vmap(lambda a, b: SOLVE(WIDE + a, b, lower=True))(a, b),
                         Ball((2, 3, 3)), Ball((2, 3))),
    "known batch": (lambda b: jax.vmap(lambda a, b: SOLVE(a, b, lower=True))(
        jnp.stack([C, 2 * C]), b), Ball((2, 3))),
    "tridiagonal": (lambda d, b: TRIDIAGONAL(0.5 * d[0], 3 + d[1], -0.7 * d[2], b), Box((3, 4)),
                    Ball((4, 2))),
    "tridiagonal batch": (lambda d, b: jax.vmap(TRIDIAGONAL)(0.4 * d, 3 + d, 0.2 * d, b),
                          Ball((2, 4), 1.5), Box((2, 4, 1))),
    "tridiagonal, some diagonals known": (lambda d: TRIDIAGONAL(jnp.ones(3), 4 + d, jnp.ones(3),
                                          jnp.ones((3, 1))), Box((3,))),
    "one equation": (lambda d, b: TRIDIAGONAL(d, 3 + d, d, b), Box((1,)), Ball((1, 2))),
    "vmap over any axis": (lambda a, b: jax.vmap(jnp.linalg.solve, (1, 0))(
        C[:, None] + jnp.swapaxes(a, 0, 1), b), Ball((2, 3, 3), 0.5), Ball((2, 3))),
    "newton step": (lambda x: x - jnp.linalg.solve(
        2 * jnp.eye(3) + 0.2 * jnp.diag(jnp.sin(x)), jnp.cos(x)), Ball((3,), 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", VARYING)
def test_varying_matrices(name):
    check(*VARYING[name])


@pytest.mark.parametrize("name", ["matrix", "both", "inverse", "lower"])
def test_bounds_are_near_for_small_sets(name):
    """ℓ is the norm of the Jacobian at the center, up to a factor."""
    f, *sets = VARYING[name]
    small = [Ball(s.shape, 1e-3) for s in sets]
    found = check(f, *small)
    with jax.enable_x64(True):
        zeros = [jnp.zeros(s.shape) for s in small]
        at = jax.jacobian(f, tuple(range(len(zeros))))(*zeros)
        size = np.prod(f(*zeros).shape, dtype=int)
        jacobian = np.concatenate([np.asarray(j).reshape(size, -1) for j in at], 1)
    exact = np.linalg.norm(jacobian, 2)
    assert exact <= found.lipschitz <= 1.05 * exact


def test_the_derivatives_of_a_reciprocal():
    """1/a of a 1 by 1 matrix in [1, 3]: bounds of both derivatives are attained."""
    found = check(lambda a: jnp.linalg.inv(2 + a), Ball((1, 1)))
    assert close(found.lipschitz, 1.0, 1e-5)
    assert close(found.smoothness, 2.0, 1e-5)
    found = check(lambda a: SOLVE(a + 2, jnp.ones(1)), Ball((1, 1)))
    assert close(found.lipschitz, 1.0, 1e-5)
    assert close(found.smoothness, 2.0, 1e-5)


def _kinked(x):
    matrix = 2 * jnp.eye(3) + 0.2 * jnp.abs(jnp.outer(x, jnp.ones(3)))
    return jax.nn.relu(jnp.linalg.solve(matrix, jax.nn.relu(x)))


@pytest.mark.parametrize("double", [False, True])
def test_kinks_before_and_after_a_system(double):
    with jax.enable_x64(double):
        certificate = attack(_kinked, ball(1.0), jnp.array([0.3, -0.2, 0.1]), eps=0.05)
    assert len(certificate.sites) == 3


def ridge(weights, x):
    """Residuals of a regularised least squares fit to what a layer gives, by its absolute value."""
    features = jax.nn.relu(x @ weights)
    gram = features.T @ features + 2.0 * jnp.eye(weights.shape[1], dtype=x.dtype)
    fit = jnp.linalg.solve(gram, features.T @ x[:, 0])
    return jnp.mean(jnp.abs(features @ fit - x[:, 0]))


@pytest.mark.parametrize("double", [False, True])
def test_ridge_regression_inside_a_loss(double):
    rng = np.random.default_rng(4)
    with jax.enable_x64(double):
        weights, x = (
            jnp.asarray(0.3 * rng.normal(size=(3, 2))),
            jnp.asarray(rng.normal(size=(5, 3))),
        )
        if not double:
            weights, x = jnp.float32(weights), jnp.float32(x)
        attack(ridge, (ball(0.05, weights), fixed(x)), weights, x, eps=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inverse", "positive", "lower", "both"])
def test_traced_sets(name):
    """Bounds that are found while JAX traces hold those found in float64."""
    f, *sets = VARYING[name]
    zeros = [jnp.zeros(s.shape, jnp.float32) for s in sets]

    def constants(radius):
        found = analyze(f, tuple(ball(radius) for _ in sets))(*zeros)
        return jnp.asarray([found.lipschitz, found.smoothness, found.bound])

    known, traced = constants(0.1), jax.jit(constants)(jnp.float32(0.1))
    assert np.all(traced >= known * (1 - 1e-6))
    assert np.all(traced <= known * 1.2 + 1e-6)


@pytest.mark.parametrize(
    ("f", "match"),
    [
        (lambda x: jnp.linalg.solve(0.5 * jnp.eye(3) - jnp.outer(x, x), x), "may be singular on"),
        (lambda x: jnp.linalg.inv(jnp.eye(3) - 5 * jnp.outer(x, x)), "Shrink the sets"),
        (lambda x: SOLVE(0.1 * jnp.eye(3) - jnp.outer(x, x), x), "multiple of the identity"),
        (lambda x: jnp.linalg.solve(jnp.outer(x, x), x), "at the center of its range"),
        (lambda b: SOLVE(np.ones((3, 3)) * 0.0, b), "not proved to be regular"),
        (lambda b: jnp.linalg.solve(np.ones((3, 3)), b), "not proved to be regular"),
    ],
)
def test_singular_matrices(f, match):
    with pytest.raises(jaxsmooth.CertificationError, match=match) as caught:
        analyze(f, ball(1.0))(np.zeros(3, np.float32))
    assert "test_solve.py" in str(caught.value)


def test_unbounded_matrices():
    with pytest.raises(jaxsmooth.CertificationError, match="is not bounded"):
        analyze(lambda x: jnp.linalg.solve(jnp.eye(3) + jnp.diag(x), x), jaxsmooth.anything())(
            np.zeros(3, np.float32)
        )


def test_solvers_of_the_users_own():
    """What such a solver computes is not known."""

    def f(x):
        matrix = jnp.eye(3) + 0.1 * jnp.outer(x, x)
        return jax.lax.custom_linear_solve(lambda v: matrix @ v, x, lambda _, b: b, symmetric=True)

    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match="a function of its own"):
        analyze(f, ball(1.0))(np.zeros(3, np.float32))


def own_solver(product, inverse):
    return lambda b: jax.lax.custom_linear_solve(
        product, b, lambda _, b: jnp.asarray(inverse, b.dtype) @ b, symmetric=True
    )


def test_products_that_are_compositions():
    """Of AᵀA, with what cancels in it, and not of what single precision makes of it."""
    u, v = (np.linalg.qr(m)[0] for m in np.random.default_rng(1).normal(size=(2, 6, 6)))
    a = ((u * np.geomspace(1, 1e-3, 6)) @ v).astype(np.float32)
    exact = np.linalg.inv(a.astype(np.float64).T @ a)
    found = analyze(own_solver(lambda v: a.T @ (a @ v), exact), ball(1.0))(np.zeros(6, np.float32))
    assert close(found.lipschitz, np.linalg.norm(exact, 2), 1e-6)


PRODUCTS = {
    "matrix": lambda v: FULL @ v,
    "difference": lambda v: 2 * v - 0.1 * (FULL.T @ v) + jnp.sum(v) / 7,
    "convolution": lambda v: 3 * v + jnp.convolve(v, jnp.array([0.5, 1.0, -0.5]), "same"),
    "differences": lambda v: 3 * v + jnp.cumsum(jnp.diff(v, prepend=0.0)[::-1]),
    "stacked": lambda v: (
        jnp.concatenate([v[1:], -v[:1]]) + 3 * jnp.where(np.arange(3) > 0, v, 0.5 * v)
    ),
    "parts": lambda v: 2 * v + jnp.concatenate(jnp.split(v, [1])[::-1]),
    "entries": lambda v: jnp.stack([3 * v[0] - v[2], 2 * v[1], v[2] + v[0]]),
    "of what is known": lambda v: jnp.exp(jnp.asarray(FULL)) @ v,
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_matrices_of_products(name):
    product = PRODUCTS[name]
    with jax.enable_x64(True):
        exact = np.linalg.inv(np.asarray(jax.vmap(product)(jnp.eye(3))).T)
    found = check(own_solver(product, exact), Ball((3,)))
    assert close(found.lipschitz, np.linalg.norm(exact, 2), 1e-6)


@pytest.mark.parametrize(
    "product",
    [lambda v: jnp.tanh(v) + v, lambda v: v * v, lambda v: 1 / v],
    ids=["tanh", "square", "reciprocal"],
)
def test_products_that_are_not_read_off(product):
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match="is not read off"):
        analyze(own_solver(product, np.eye(3)), ball(1.0))(np.zeros(3, np.float32))
