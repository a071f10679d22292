"""Operator norms: never below the truth, and as close to it as promised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsmooth.math import norms
from jaxsmooth.math.eigenvalue import largest_eigenvalues
from jaxsmooth.math.norms import (
    gram_iteration,
    linear_operator_norm,
    perron,
    perron_bound,
    spectral_norm,
)


def hadamard(order):
    """Signs with orthogonal rows: the norm is exactly 2^(order/2)."""
    matrix = np.ones((1, 1))
    for _ in range(order):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def with_singular_values(rows, values, seed=0):
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(rows, len(values))))[0]
    right = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    return (left * np.asarray(values)) @ right.T


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 30), (30, 7), (64, 64), (300, 150), (150, 140)]
)
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200, 1e-310])
def test_random_matrices_are_bounded_within_1e_6(shape, scale):
    matrix = np.random.default_rng(sum(shape)).normal(size=shape)
    true = np.linalg.norm(matrix, 2)
    bound = spectral_norm(matrix * scale)
    # Subnormal numbers have few digits: there the scaled matrix is another one.
    digits = 1e-6 if scale > 1e-300 else 1e-3
    assert true * (1 - 1e-14 - (digits if scale < 1e-300 else 0)) <= bound / scale
    assert bound / scale <= true * (1 + digits)


@pytest.mark.parametrize("order", [1, 2, 4, 6, 8])
def test_known_norms_are_not_undercut_by_a_single_rounding(order):
    matrix = hadamard(order)
    assert 2 ** (order / 2) <= spectral_norm(matrix) <= 2 ** (order / 2) * (1 + 1e-6)
    ones = np.ones((2**order, 2**order))
    assert 2.0**order <= spectral_norm(ones) <= 2.0**order * (1 + 1e-6)


@pytest.mark.parametrize("size", [20, 200])
def test_near_rank_deficient_clustered_and_graded_spectra(size):
    for values in (
        [1.0] + [1e-12] * (size - 1),
        [1.0] * size,
        list(1 + 1e-9 * np.arange(size)),
        list(10.0 ** -np.arange(size)),
        [1.0, 1 - 1e-14] + [0.0] * (size - 2),
    ):
        matrix = with_singular_values(size + 3, values)
        assert max(values) * (1 - 1e-13) <= spectral_norm(matrix) <= max(values) * (1 + 1e-6)


def test_exact_values_and_degenerate_inputs():
    assert spectral_norm(np.zeros((3, 4))) == 0.0
    assert spectral_norm(np.zeros((0, 4))) == 0.0
    assert spectral_norm(np.zeros((4, 0))) == 0.0
    assert spectral_norm(np.eye(5)) == pytest.approx(1.0, rel=1e-12)
    assert spectral_norm(np.array([3.0, 4.0])) >= 5.0
    assert spectral_norm(np.array([[1.0, np.inf]])) == np.inf
    assert spectral_norm(np.array([[1.0, np.nan], [0.0, 1.0]])) == np.inf
    assert spectral_norm(np.full((2, 2), 1.7e308)) == np.inf
    assert spectral_norm(np.full((2, 2), 5e-324)) >= 1e-323
    with pytest.raises(TypeError, match="complex"):
        spectral_norm(np.ones((2, 2), complex))
    with pytest.raises(ValueError, match="matrix"):
        spectral_norm(np.ones((2, 2, 2)))


def test_estimate_that_misses_the_top_eigenvector_is_not_believed():
    size = 150  # beyond the size whose eigenvalues are all computed
    start = np.random.default_rng(0).normal(size=size)
    top = np.zeros(size)
    top[:2] = start[1], -start[0]
    top /= np.linalg.norm(top)
    matrix = np.eye(size) + 9 * np.outer(top, top)
    (bound,) = largest_eigenvalues(matrix[None])
    assert 10 * (1 - 1e-14) <= bound <= 10 * (1 + 1e-5)


def test_eigenvalues_of_a_batch_of_complex_matrices():
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(6, 5, 5)) + 1j * rng.normal(size=(6, 5, 5))
    matrices = factor @ np.conj(np.swapaxes(factor, 1, 2))
    matrices[2] = 0.0
    true = np.linalg.eigvalsh(matrices)[:, -1]
    bound = largest_eigenvalues(matrices)
    assert np.all(bound >= true * (1 - 1e-13))
    assert np.all(bound <= true + 1e-8 * true.max())


def test_matrices_too_large_for_a_proof_are_still_bounded(monkeypatch):
    matrix = np.random.default_rng(2).normal(size=(60, 50))
    true = np.linalg.norm(matrix, 2)
    monkeypatch.setattr(norms, "_EXACT_SIDE", 10)
    assert true <= spectral_norm(matrix) <= 50**0.25 * true
    assert norms._schatten4_norm(matrix, width=16) == pytest.approx(
        norms._schatten4_norm(matrix), rel=1e-9
    )
    monkeypatch.setattr(norms, "_EXACT_WORK", 10)
    assert true <= spectral_norm(matrix) <= np.linalg.norm(matrix) * (1 + 1e-9)
    positive = np.abs(matrix)
    assert spectral_norm(positive) == pytest.approx(np.linalg.norm(positive, 2), rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.data(),
)
def test_norm_is_attained_by_no_vector_above_the_bound(rows, columns, data):
    entries = st.one_of(st.just(0.0), st.floats(-1e3, 1e3, width=32), st.sampled_from([1e9, -1e-9]))
    matrix = np.array(
        data.draw(st.lists(entries, min_size=rows * columns, max_size=rows * columns))
    ).reshape(rows, columns)
    bound = spectral_norm(matrix)
    true = np.linalg.norm(matrix, 2)
    assert true * (1 - 1e-13) <= bound <= true * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (8, 5), (40, 60)])
@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e15])
def test_traced_matrix(shape, scale):
    matrix = (np.random.default_rng(3).normal(size=shape) * scale).astype(np.float32)
    true = np.linalg.norm(matrix.astype(np.float64), 2)
    bound = float(jax.jit(spectral_norm)(matrix))
    assert true <= bound <= 1.03 * true


def test_traced_degenerate_matrices():
    traced = jax.jit(spectral_norm)
    assert traced(jnp.zeros((3, 4))) == 0.0
    assert traced(jnp.zeros((0, 4))) == 0.0
    assert traced(jnp.full((3, 4), jnp.inf)) == np.inf
    assert traced(jnp.full((3, 4), jnp.nan)) == np.inf
    assert traced(jnp.ones((4, 4))) >= 4.0
    stack = jnp.stack([jnp.zeros((2, 2)), jnp.eye(2)])
    assert 1.0 <= jax.jit(gram_iteration)(stack) <= 1.001


def test_traced_matrix_has_the_gradient_of_the_norm():
    matrix = np.random.default_rng(4).normal(size=(6, 4)).astype(np.float32)
    left, _, right = np.linalg.svd(matrix)
    gradient = jax.jit(jax.grad(spectral_norm))(matrix)
    np.testing.assert_allclose(gradient, np.outer(left[:, 0], right[0]), atol=0.02)
    for degenerate in (jnp.zeros((3, 3)), jnp.eye(3), jnp.full((2, 2), jnp.inf)):
        assert np.all(np.isfinite(jax.jit(jax.grad(spectral_norm))(degenerate)))


def dense_operator(matrix):
    magnitude = np.abs(matrix)
    return (
        lambda x: matrix @ x,
        lambda y: matrix.T @ y,
        (matrix.shape[1],),
        lambda x: magnitude @ x,
        lambda y: magnitude.T @ y,
    )


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (1, 5), (30, 30)])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_linear_operator(shape, scale):
    matrix = np.random.default_rng(5).normal(size=shape)
    true = np.linalg.norm(matrix, 2)
    operator = dense_operator(matrix * scale)
    bound = linear_operator_norm(*operator) / scale
    assert true * (1 - 1e-14) <= bound <= true * (1 + 1e-6)
    given = linear_operator_norm(*operator, materialize=lambda: matrix * scale) / scale
    assert true * (1 - 1e-14) <= given <= true * (1 + 1e-6)


def test_linear_operator_too_large_to_materialize(monkeypatch):
    monkeypatch.setattr(norms, "_MATERIALIZED_SIDE", 3)
    matrix = np.random.default_rng(6).normal(size=(20, 30))
    absolute = np.linalg.norm(np.abs(matrix), 2)
    assert absolute * (1 - 1e-14) <= linear_operator_norm(*dense_operator(matrix))
    assert linear_operator_norm(*dense_operator(matrix)) <= absolute * (1 + 1e-6)
    # Not connected, and with inputs that reach nothing.
    blocks = np.zeros((6, 7))
    blocks[:2, :2], blocks[3:5, 4:6] = 1.0, 3.0
    assert 6.0 <= linear_operator_norm(*dense_operator(blocks)) <= 6.0 * (1 + 1e-6)


def test_degenerate_linear_operators():
    assert linear_operator_norm(*dense_operator(np.zeros((3, 4)))) == 0.0
    assert linear_operator_norm(*dense_operator(np.zeros((0, 4)))) == 0.0
    assert linear_operator_norm(*dense_operator(np.zeros((4, 0)))) == 0.0


def test_linear_operator_on_arrays_of_any_rank():
    def pool(x):
        return x.reshape(2, 2, 3, 2).sum(axis=(1, 3))

    def spread(y):
        return np.repeat(np.repeat(y, 2, axis=0), 2, axis=1)

    bound = linear_operator_norm(pool, spread, (4, 6), pool, spread)
    assert 2.0 <= bound <= 2.0 * (1 + 1e-6)


PERRON_CASES = {
    "one": [[2.5]],
    "connected": [[2.0, 1.0], [1.0, 2.0]],
    "bipartite": [[0.0, 3.0], [3.0, 0.0]],
    "diagonal": [[1.0, 0.0], [0.0, 4.0]],
    "zero row": [[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [2.0, 0.0, 1.0]],
    "graded": [[1.0, 1e-9], [1e-9, 1e-18]],
    "weakly coupled": [[1.0, 1e-7], [1e-7, 1.0 - 1e-9]],
}


@pytest.mark.parametrize("name", PERRON_CASES)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_perron_bound_is_sharp(name, scale):
    matrix = np.array(PERRON_CASES[name])
    true = np.linalg.norm(matrix, 2)
    bound, vector = perron(matrix * scale)
    assert true * (1 - 1e-15) <= bound / scale <= true * (1 + 1e-8)
    assert np.all(vector > 0)
    assert np.linalg.norm(vector) == pytest.approx(1.0)
    traced = float(jax.jit(perron_bound)((matrix * scale).astype(np.float32))) / scale
    assert true * (1 - 1e-7) <= traced <= true * (1 + 1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10**6), st.floats(0.0, 0.9))
def test_perron_bound_of_random_sparse_matrices(size, seed, sparsity):
    rng = np.random.default_rng(seed)
    matrix = rng.exponential(size=(size, size)) * (rng.uniform(size=(size, size)) > sparsity)
    matrix = matrix + matrix.T
    true = np.linalg.norm(matrix, 2)
    assert true * (1 - 1e-14) <= perron_bound(matrix) <= true * (1 + 1e-6)


def test_perron_degenerate_matrices():
    assert perron_bound(np.zeros((3, 3))) == 0.0
    assert perron_bound(np.zeros((0, 0))) == 0.0
    for entry in (np.inf, np.nan):
        bound, vector = perron(np.array([[1.0, entry], [entry, 0.0]]))
        assert bound == np.inf
        assert np.all(np.isfinite(vector))
        assert jax.jit(perron_bound)(jnp.array([[1.0, entry], [entry, 0.0]])) == np.inf
    assert jax.jit(perron_bound)(jnp.zeros((2, 2))) == 0.0
    # Neither symmetric nor non-negative: still a bound.
    matrix = np.array([[1.0, -2.0], [0.5, 1.0]])
    assert perron_bound(matrix) >= np.linalg.norm(matrix, 2)


def test_perron_gradient_is_that_of_the_norm():
    matrix = np.array([[2.0, 1.0, 0.0], [1.0, 0.5, 0.3], [0.0, 0.3, 1.0]], np.float32)
    vector = np.linalg.eigh(matrix.astype(np.float64))[1][:, -1]
    gradient = jax.jit(jax.grad(perron_bound))(matrix)
    np.testing.assert_allclose(gradient, np.outer(vector, vector), atol=1e-3)
    for degenerate in (np.zeros((2, 2)), np.eye(2), np.full((2, 2), np.inf)):
        assert np.all(np.isfinite(jax.grad(perron_bound)(jnp.array(degenerate))))
