"""Smoothed order statistics: error, slopes and curvature, and that the constants are attained."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth.math.nary import simplex_max, simplex_smoothness
from jaxsmooth.math.order import largest_values, order_smoothness, order_spread

SIZES = [(2, 2), (5, 5), (8, 3), (4, 1)]
MU = 0.1


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def points(size: int, count: int = 400) -> np.ndarray:
    """Points with ties, near ties, ladders and separated values, of all widths."""
    rng = np.random.default_rng(size)
    x = rng.normal(size=(count, size)) * 10.0 ** rng.uniform(-3, 1, (count, 1))
    x[::4] = np.round(x[::4] * 4) / 4 * 0.7
    x[1::8] = 0.0
    ladder = np.array(list(itertools.product([-9.0, 0.0, 9.0], repeat=min(size, 5))))
    full = np.zeros((len(ladder), size))
    full[:, : ladder.shape[1]] = ladder
    return np.concatenate([x, full, full + 0.01 * rng.normal(size=full.shape)])


def mapped(f, axes=0):
    """f of every point, compiled: far quicker here than operation by operation."""
    return jax.jit(jax.vmap(f, axes))


def exact(x, count):
    return -np.sort(-np.asarray(x), axis=-1)[..., :count]


@pytest.mark.parametrize(("size", "count"), SIZES)
def test_error_is_at_most_mu_and_attained(size, count):
    x = points(size)
    away = np.asarray(largest_values(x, MU, count)) - exact(x, count)
    assert np.abs(away).max() <= MU * (1 + 1e-7)
    # The worst k, with the larger values tied or far and the smaller ones far or tied.
    assert away.min() <= -MU * (1 - 1e-7)
    assert away.max() >= MU * (1 - 1e-7)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_error_of_every_value_is_half_its_spread(size):
    """2μ is shared in proportion to the spreads, and every end is attained at a tie."""
    k = np.arange(1, size + 1)
    spreads = 1 - 0.5 / k - 0.5 / (size - k + 1)
    for j, spread in zip(k, spreads, strict=True):
        low = np.where(np.arange(size) < j, 0.0, -9.0)
        high = np.where(np.arange(size) < j - 1, 9.0, 0.0)
        away = [largest_values(x, MU, size)[j - 1] - exact(x, size)[j - 1] for x in (low, high)]
        half = MU * spread / spreads.max()
        np.testing.assert_allclose(away, [-half, half], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "count"),
    [pytest.param(*pair, marks=[pytest.mark.slow] * (pair != (5, 5))) for pair in SIZES],
)
def test_slopes_are_means_of_permutations(size, count):
    x = points(size)
    jacobian = np.asarray(mapped(jax.jacfwd(lambda v: largest_values(v, MU, count)))(x))
    assert jacobian.min() >= -1e-7
    np.testing.assert_allclose(jacobian.sum(2), 1.0, atol=1e-7)
    assert jacobian.sum(1).max() <= 1 + 1e-6
    # JAX's derivatives are those of the values, in reverse mode too.
    step = 1e-6
    rng = np.random.default_rng(0)
    d = rng.normal(size=x.shape)
    secant = largest_values(x + step * d, MU, count) - largest_values(x - step * d, MU, count)
    np.testing.assert_allclose(secant / (2 * step), np.einsum("nki,ni->nk", jacobian, d), atol=1e-4)
    reverse = mapped(jax.jacrev(lambda v: largest_values(v, MU, count)))(x)
    np.testing.assert_allclose(reverse, jacobian, atol=1e-12)


@pytest.mark.parametrize(("size", "count"), SIZES)
def test_curvature_is_at_most_k_over_mu_and_attained(size, count):
    x = points(size) * 0.05
    hessians = np.asarray(mapped(jax.hessian(lambda v: largest_values(v, MU, count)))(x))
    norms = np.linalg.norm(hessians, 2, axis=(2, 3))
    certified = order_smoothness(size, count) / MU
    assert norms.max() <= certified * (1 + 1e-6)
    assert norms.max() >= certified * (1 - 1e-6)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_slopes_do_not_jump_anywhere(size):
    """Secants of the Jacobian, seams and ties included."""
    x = points(size)
    slope = mapped(jax.jacfwd(lambda v: largest_values(v, MU, size)))
    rng = np.random.default_rng(1)
    d = rng.normal(size=x.shape)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    step = 1e-4
    gap = np.asarray(slope(x + step * d) - slope(x))
    rows = np.linalg.norm(gap, axis=2)
    assert rows.max() <= order_smoothness(size, size) / MU * step * (1 + 1e-3) + 1e-7


def test_the_largest_is_the_smooth_maximum():
    x = points(5)
    np.testing.assert_allclose(
        largest_values(x, MU, 1)[..., 0], simplex_max(jnp.asarray(x), MU), atol=1e-8
    )
    assert order_smoothness(5, 1) == pytest.approx(simplex_smoothness(5))


@pytest.mark.slow
def test_derivative_in_the_accuracy():
    x = points(4, 60)
    derivative = mapped(jax.jacfwd(lambda m, v: largest_values(v, m, 4)), (None, 0))(MU, x)
    step = 1e-6
    secant = (largest_values(x, MU + step, 4) - largest_values(x, MU - step, 4)) / (2 * step)
    np.testing.assert_allclose(derivative, secant, atol=1e-5)
    mixed = mapped(jax.jacfwd(jax.jacfwd(lambda v, m: largest_values(v, m, 4)), 1), (0, None))
    slopes = mapped(jax.jacfwd(lambda v, m: largest_values(v, m, 4)), (0, None))
    found, near = mixed(x, MU), (slopes(x, MU + step) - slopes(x, MU - step)) / (2 * step)
    inside = np.abs(np.asarray(found) - near).max(axis=(1, 2)) < 1e-4
    assert inside.mean() > 0.9  # seams and ties in x are measure zero, and in the sample


def test_no_accuracy_is_exact():
    x = points(5)
    np.testing.assert_array_equal(largest_values(x, 0.0, 5), exact(x, 5))
    mu = np.where(np.arange(len(x)) % 2, MU, 0.0)
    np.testing.assert_array_equal(largest_values(x, mu, 5)[::2], exact(x, 5)[::2])
    assert np.isfinite(jax.jacfwd(lambda v: largest_values(v, 0.0, 5))(x[0])).all()


def test_single_precision_far_from_zero():
    x = np.float32(1e4) + np.float32(points(4))
    away = np.asarray(largest_values(x, np.float32(MU), 4)) - exact(x, 4)
    assert np.abs(away).max() <= MU + 2e-3
    assert largest_values(x, MU, 4).dtype == np.float32


def test_spread_does_not_grow_with_the_size():
    assert order_spread(1, 1) == 0
    assert order_spread(2, 2) == 0.25
    assert 0.9 < order_spread(1000, 1000) < 1
