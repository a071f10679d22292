"""Smooth maxima of many values: constants attained, projection exact, padding harmless."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxsmooth.errors import ArgumentError
from jaxsmooth.math.kernels import KERNELS
from jaxsmooth.math.nary import (
    MAX_KERNELS,
    logsumexp_max,
    max_kernel,
    simplex_max,
    simplex_projection,
)


@pytest.fixture(params=list(MAX_KERNELS))
def kernel(request):
    return MAX_KERNELS[request.param]


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def projection_by_bisection(z: np.ndarray) -> np.ndarray:
    """The p with p = (z - t)_+ and sum p = 1, by bisection on t: no sorting."""
    low, high = z.max() - 1, z.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(z - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(z - low, 0)


# --- constants -----------------------------------------------------------------------


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("n", [2, 3, 10])
def test_error_is_attained_and_not_exceeded(kernel, n):
    mu = 0.3
    x = np.random.default_rng(n).normal(size=(500, n)) * np.logspace(-2, 2, 500)[:, None] * mu
    x[0], x[1] = 0, -1e5 * np.arange(n)  # all tied; all apart
    error = np.asarray(kernel.maximum(x, mu)) - x.max(axis=1)
    assert np.abs(error).max() <= mu * (1 + 1e-12)
    np.testing.assert_allclose(error[:2], [mu, -mu], rtol=1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("n", [2, 5, 64])
def test_smoothness_is_attained_and_not_exceeded(kernel, n):
    mu = 0.3
    constant = kernel.smoothness(n) / mu
    rng = np.random.default_rng(n)
    x = rng.normal(size=(100, n)) * np.logspace(-1, 1, 100)[:, None] * mu
    gradient = jax.jit(jax.vmap(jax.grad(kernel.maximum), (0, None)))
    y = x + 0.1 * mu * rng.normal(size=x.shape)
    quotient = np.linalg.norm(gradient(x, mu) - gradient(y, mu), axis=1)
    quotient /= np.linalg.norm(x - y, axis=1)
    assert quotient.max() <= constant * (1 + 1e-9)
    # Attained where two entries tie (logsumexp: and the others are far below).
    tie = np.full(n, 0.0 if kernel.name == "simplex" else -100.0)
    tie[:2] = 0
    hessian = jax.jit(jax.hessian(kernel.maximum))(tie, mu)
    assert np.linalg.norm(hessian, 2) == pytest.approx(constant)


@pytest.mark.usefixtures("double")
def test_simplex_of_two_is_minimax():
    # max(a, b) is as smooth as the optimal kernel of relu(a - b) makes it.
    x = np.random.default_rng(0).uniform(-6, 6, size=(200, 2))
    expected = KERNELS["minimax"].maximum(x[:, 0], x[:, 1], 0.5)
    np.testing.assert_allclose(simplex_max(x, 0.5), expected, atol=1e-13)
    assert MAX_KERNELS["simplex"].smoothness(2) == KERNELS["minimax"].maximum_smoothness


@pytest.mark.usefixtures("double")
def test_window_of_simplex():
    n, mu = 4, 0.5
    simplex = MAX_KERNELS["simplex"]
    outside = np.array([0.0, *(np.array([1.0, 1.0, 2.0]) * -simplex.window(n) * mu)])
    np.testing.assert_allclose(jax.grad(simplex_max)(outside, mu), [1, 0, 0, 0], atol=1e-15)
    assert float(simplex_max(outside, mu)) == pytest.approx(-mu)
    assert float(jax.grad(simplex_max)(outside * 0.99, mu)[0]) < 1
    assert MAX_KERNELS["logsumexp"].window(n) == np.inf


# --- projection ----------------------------------------------------------------------


@pytest.mark.usefixtures("double")
@settings(max_examples=100, deadline=None)
@given(z=arrays(np.float64, (5,), elements=st.floats(-3, 3)))
def test_projection_against_bisection(z):
    p = np.asarray(simplex_projection(jnp.asarray(z)))
    np.testing.assert_allclose(p, projection_by_bisection(z), atol=1e-12)
    # Optimality: <z - p, q - p> <= 0 for every vertex q.
    assert (z - p).max() - p @ (z - p) <= 1e-12


@pytest.mark.parametrize("n", [100, 20_000])
def test_projection_in_float32_of_long_vectors(n):
    rng = np.random.default_rng(0)
    for z in (
        rng.uniform(-2, 0, n),
        np.r_[0, np.full(n - 1, -1 + 1e-4)],  # a long tail of tiny, tied entries
        np.zeros(n),
        1e4 + rng.uniform(-1e-3, 0, n),
    ):
        z = z.astype(np.float32)
        p = np.asarray(jax.jit(simplex_projection)(z))
        expected = projection_by_bisection(z.astype(np.float64))
        np.testing.assert_allclose(p, expected, atol=3e-7)
        assert p.min() >= 0
        assert p.astype(np.float64).sum() == pytest.approx(1, abs=1e-5)


# --- derivatives ---------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_derivatives_against_finite_differences(kernel):
    rng = np.random.default_rng(1)
    function = lambda v: kernel.maximum(v[:-1], v[-1])  # noqa: E731
    gradient, hessian = jax.jit(jax.grad(function)), jax.jit(jax.hessian(function))
    h, steps = 1e-5, 1e-5 * np.eye(6)
    value = jax.jit(jax.vmap(function))
    for scale in (0.1, 1.0, 4.0):
        v = np.append(scale * rng.normal(size=5), 0.4)
        numeric = (value(v + steps) - value(v - steps)) / (2 * h)
        np.testing.assert_allclose(gradient(v), numeric, atol=1e-8)
        numeric = [(gradient(v + s) - gradient(v - s)) / (2 * h) for s in steps]
        np.testing.assert_allclose(hessian(v), numeric, atol=1e-7)
        np.testing.assert_allclose(gradient(v)[:-1].sum(), 1, rtol=1e-12)


@pytest.mark.usefixtures("double")
def test_modes_of_differentiation_agree(kernel):
    x = np.array([[0.1, 0.1, -0.2, 0.3], [5.0, 0.0, 0.0, 5.0]])
    mu = np.array([0.3, 0.1])
    f = kernel.maximum
    forward, reverse = (jax.jit(mode(f, (0, 1)))(x, mu) for mode in (jax.jacfwd, jax.jacrev))
    for a, b in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    second = jax.jit(jax.jacrev(jax.jacfwd(f)))(x, mu)
    np.testing.assert_allclose(jax.jit(jax.hessian(f))(x, mu), second, atol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.vmap(f))(x, mu), f(x, mu), rtol=1e-12)
    rows = [f(row, m) for row, m in zip(x, mu, strict=True)]
    np.testing.assert_allclose(f(x, mu), rows, rtol=1e-12)


@pytest.mark.usefixtures("double")
def test_second_derivative_of_a_loop(kernel):
    # JAX before 0.12 drops the rules of custom_jvp here: the formulas must do without.
    inputs = jnp.array([[0.0, 0.4], [1.0, -0.2], [-jnp.inf, 0.3]])

    def step(x, y):
        return kernel.maximum(jnp.append(y, x), 0.3) + jnp.sin(x)

    def looped(x):
        return jax.lax.scan(lambda x, y: (step(x, y), None), x, inputs)[0]

    def unrolled(x):
        for y in inputs:
            x = step(x, y)
        return x

    @jax.jit
    def derivatives(x):
        return [(jax.grad(f)(x), jax.grad(jax.grad(f))(x), jax.hessian(f)(x)) for f in both]

    both = looped, unrolled
    got, expected = derivatives(0.2)
    np.testing.assert_allclose(got, expected, rtol=1e-11)


# --- limits, padding, precision --------------------------------------------------------


def test_zero_accuracy_is_the_maximum(kernel):
    x = jnp.array([[1.0, 3.0, 2.0], [2.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-jnp.inf, 1.0, -jnp.inf]])
    for f in (kernel.maximum, jax.jit(kernel.maximum)):
        np.testing.assert_array_equal(f(x, 0.0), x.max(axis=-1))
    got = jax.jit(jax.grad(lambda x: kernel.maximum(x, 0.0).sum()))(x)
    np.testing.assert_allclose(got, jax.grad(lambda x: x.max(axis=-1).sum())(x), rtol=1e-6)
    for row in jax.tree.leaves(jax.jit(jax.hessian(kernel.maximum, (0, 1)))(x[0], 0.0)):
        np.testing.assert_array_equal(row, 0)
    # The right derivative in mu.
    rate = jax.jit(jax.jacfwd(lambda mu: kernel.maximum(x, mu)))(0.0)
    numeric = (kernel.maximum(x, 1e-2) - x.max(axis=-1)) / 1e-2
    np.testing.assert_allclose(rate, numeric, atol=1e-3)


def test_padding_does_not_count(kernel):
    pad, mu = -jnp.inf, 0.3
    x = jnp.array([[0.3, 0.1, pad, 0.2], [pad, pad, 1.0, pad]])
    lower = jnp.where(jnp.isinf(x), -1e6, x)
    np.testing.assert_allclose(kernel.maximum(x, mu), kernel.maximum(lower, mu), rtol=1e-6)
    for order in (jax.jacrev, lambda f, a: jax.jacfwd(jax.jacrev(f, a), a)):
        for a, b in zip(
            jax.tree.leaves(jax.jit(order(kernel.maximum, (0, 1)))(x, mu)),
            jax.tree.leaves(jax.jit(order(kernel.maximum, (0, 1)))(lower, mu)),
            strict=True,
        ):
            assert np.isfinite(a).all()
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_no_nan_in_any_derivative(kernel, dtype):
    inf = np.inf
    rows = [[-inf] * 3, [inf, inf, 0], [inf, -inf, 1], [0, 0, 0], [3e4, -3e4, 3e4], [1e-6, 0, -inf]]
    mu = np.array([0.0, 1e-42, 1e-30, 1e-19, 1e-7, 1e-3, 1.0, 1e4, 1e30], np.float32)
    x = jnp.asarray(np.repeat(np.array(rows), len(mu), axis=0), dtype)
    mu = np.tile(mu, len(rows))

    def everything(x, mu):
        f = kernel.maximum
        second = jax.hessian(f, (0, 1))(x, mu) if dtype == jnp.float32 else ()
        return f(x, mu), jax.grad(f, (0, 1))(x, mu), second

    for leaf in jax.tree.leaves(jax.jit(jax.vmap(everything))(x, mu)):
        assert not np.isnan(leaf).any()
    infinite = kernel.maximum(jnp.array([[-inf] * 3, [inf, inf, 0]]), 0.5)
    np.testing.assert_array_equal(infinite, [-inf, inf])
    assert np.isnan(kernel.maximum(jnp.array([np.nan, 1.0]), 0.5))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_dtypes_are_kept_under_strict_promotion(kernel, dtype):
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    low = jnp.asarray(x, dtype)
    expected = kernel.maximum(np.asarray(low, np.float64), 0.25)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for mu in (0.25, np.float64(0.25), jnp.full((3, 4), 0.25, dtype), jnp.full(4, 0.25)):
            got = jax.jit(kernel.maximum)(low, mu)
            assert got.dtype == dtype
            assert got.shape == (3, 4)
        slope = jax.jit(jax.grad(lambda x: kernel.maximum(x, 0.25).sum()))(low)
        assert slope.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol=2 * eps, atol=2 * eps)


def test_float32_is_accurate_far_from_ties(kernel):
    x, mu = jnp.array([1e6, -1e6, 0.0]), 0.125
    assert float(kernel.maximum(x, mu)) == 1e6 - 0.125
    assert jax.grad(kernel.maximum)(x, mu).tolist() == [1, 0, 0]
    shifted = kernel.maximum(jnp.array([4096.0, 4096.0]), mu)
    assert float(shifted) == 4096.125


def test_one_value_is_returned_as_it_is(kernel):
    x = jnp.array([[2.0], [-jnp.inf]])
    np.testing.assert_array_equal(kernel.maximum(x, 0.5), [2.0, -jnp.inf])
    assert kernel.smoothness(1) == 0
    assert float(jax.grad(kernel.maximum, 1)(x[0], 0.5)) == 0


def test_errors_name_what_is_wrong(kernel):
    with pytest.raises(ArgumentError, match=r"shape \(3, 0\)"):
        kernel.maximum(jnp.ones((3, 0)), 0.5)
    with pytest.raises(ArgumentError, match=r"shape \(\)"):
        kernel.maximum(1.0, 0.5)
    with pytest.raises(ArgumentError, match="int32"):
        kernel.maximum(jnp.arange(3), 0.5)
    with pytest.raises(ArgumentError, match="does not broadcast"):
        kernel.maximum(jnp.ones((4, 3)), jnp.ones(3))
    with pytest.raises(ArgumentError, match="no kernel 'sharp'"):
        max_kernel("sharp")


def test_every_scalar_kernel_has_a_smooth_maximum():
    got = {name: max_kernel(name).maximum for name in KERNELS}
    simplex, c_infinity = ("paper", "centered", "minimax"), ("softplus", "c2")
    assert got == dict.fromkeys(simplex, simplex_max) | dict.fromkeys(c_infinity, logsumexp_max)


@pytest.mark.parametrize("name", sorted(MAX_KERNELS))
def test_one_finite_entry_without_accuracy(name):
    """Padding never counts: the derivative is one at the entry that is left."""
    x = jnp.array([-jnp.inf, 0.25, -jnp.inf])
    maximum = MAX_KERNELS[name].maximum
    assert float(maximum(x, 0.0)) == 0.25
    np.testing.assert_array_equal(jax.grad(lambda v: maximum(v, 0.0))(x), [0.0, 1.0, 0.0])
