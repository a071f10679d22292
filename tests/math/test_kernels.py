"""Scalar kernels: their constants are attained, their derivatives right, their limits exact."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from jaxsmooth.errors import ArgumentError
from jaxsmooth.math.kernels import KERNELS, accuracy, kernel_named

SCALAR = ["relu", "correction", "absolute"]
UNSMOOTHED = {"relu": jax.nn.relu, "absolute": jnp.abs, "correction": jnp.zeros_like}
OTHERS = KERNELS.keys() - {"minimax"}


@pytest.fixture(params=list(KERNELS))
def kernel(request):
    return KERNELS[request.param]


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def grid(mu: float, reach: float = 64.0, n: int = 8193) -> np.ndarray:
    """Points on both sides of every seam, with 0 and the seams among them."""
    return np.linspace(-reach * mu, reach * mu, n)


def each(f):
    """f elementwise in its first argument, compiled: far quicker here than op by op."""
    return jax.jit(jax.vmap(f, (0, None)))


def reach(kernel) -> float:
    return kernel.window if np.isfinite(kernel.window) else 64.0


# --- constants -----------------------------------------------------------------------


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("name", "mu"),
    [("relu", 0.25), ("relu", 3.0), ("absolute", 3.0), ("maximum", 0.3), ("minimum", 0.3)],
)
def test_error_is_attained_and_not_exceeded(kernel, name, mu):
    x = grid(mu)
    lower, upper = kernel.lower, kernel.upper
    if name in ("maximum", "minimum"):
        smoothed = jax.jit(getattr(kernel, name))(x + 1, np.ones_like(x), mu)
        exact = getattr(np, name)(x + 1, 1)
    else:
        smoothed = jax.jit(getattr(kernel, name))(x, mu)
        exact = np.maximum(x, 0) if name == "relu" else np.abs(x)
    if name == "minimum":
        lower, upper = -upper, -lower
    error = (np.asarray(smoothed) - exact) / mu
    assert error.min() >= lower - 1e-12
    assert error.max() <= upper + 1e-12
    np.testing.assert_allclose([error.min(), error.max()], [lower, upper], atol=1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("name", "mu"), [("relu", 0.25), ("relu", 3.0), ("absolute", 3.0)])
def test_smoothness_is_attained_and_not_exceeded(kernel, name, mu):
    x = grid(mu, reach=10.0)
    slope = np.asarray(each(jax.grad(getattr(kernel, name)))(x, mu))
    constant = (kernel.smoothness if name == "relu" else kernel.absolute_smoothness) / mu
    quotient = np.diff(slope) / np.diff(x)
    assert quotient.max() <= constant * (1 + 1e-9)
    assert quotient.max() >= constant * (1 - 1e-3)
    assert quotient.min() >= -1e-9  # convex


@pytest.mark.usefixtures("double")
def test_hessian_of_maximum_attains_its_smoothness_at_the_kink(kernel):
    mu = 0.5
    points = np.stack([1 + np.linspace(-4, 4, 33), np.ones(33)], axis=1)
    hessians = each(jax.hessian(lambda v, mu: kernel.maximum(v[0], v[1], mu)))(points, mu)
    norms = np.linalg.norm(hessians, 2, axis=(1, 2))
    assert norms.max() == pytest.approx(kernel.maximum_smoothness / mu)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_relu_plus_offset_outside_the_window_to_the_last_bit(kernel, dtype):
    mu = 2.0**-8  # softplus: 2**-256 is 0 in float32
    x = np.array([1.0, 1.5, 3.0, 200.0])
    x, w = jnp.asarray(x, dtype), jnp.asarray(x * 0 + mu, dtype)
    right, left = kernel.relu(x, mu), kernel.relu(-x, mu)
    np.testing.assert_array_equal(right, x + jnp.asarray(kernel.offset_right, dtype) * w)
    np.testing.assert_array_equal(left, jnp.asarray(kernel.offset_left, dtype) * w)
    absolute = kernel.absolute(x, mu)
    both = jnp.asarray(2 * kernel.offset_right / 2, dtype)
    np.testing.assert_array_equal(absolute, x + both * w)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if np.isfinite(k.window)])
def test_window_is_the_smallest(kernel):
    seam = kernel.window * 0.5
    inside = float(kernel.correction(seam * 0.99, 0.5))
    outside = float(kernel.correction(seam, 0.5))
    assert outside == pytest.approx(kernel.offset_right * 0.5)
    assert inside != outside


# --- derivatives ---------------------------------------------------------------------


def test_first_derivative_at_the_seams(kernel):
    mu, w = 0.5, reach(kernel)
    x = jnp.asarray([-2 * w * mu, -w * mu, w * mu, 2 * w * mu])
    slopes = each(lambda x, mu: [jax.grad(getattr(kernel, name))(x, mu) for name in SCALAR])(x, mu)
    expected = {"relu": [0, 0, 1, 1], "correction": [0] * 4, "absolute": [-1, -1, 1, 1]}
    np.testing.assert_allclose(slopes, [expected[name] for name in SCALAR], atol=1e-12)


@pytest.mark.parametrize("name", ["relu", "slope"])
def test_slope_is_monotone_between_0_and_1_in_float32(kernel, name):
    mu = 0.3  # not representable: seams fall between floats
    near = np.spacing(np.float32(1)) * np.arange(-50, 51)
    anchors = [0.0, *(s * reach(kernel) * mu for s in (-1, 1))]
    x = np.sort(np.concatenate([a + near for a in anchors] + [grid(mu, 12.0, 4001)]))
    x = x.astype(np.float32)
    slope = each(jax.grad(kernel.relu))(x, mu) if name == "relu" else kernel.slope(x, mu)
    assert np.min(slope) >= 0
    assert np.max(slope) <= 1
    assert np.diff(slope).min() >= -1.2e-7  # exp of softplus is not monotone in its last bit


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", SCALAR)
def test_derivatives_against_finite_differences(kernel, name):
    function = getattr(kernel, name)
    h = 1e-5
    seams = {0.0, 1.0, 2.0, 4.0, 6.0, 8.0}
    x = np.array([t + s for t in seams for s in (-0.37, 0.41)] + [-1.3, -3.1, -5.7, -7.9])
    mu = np.full_like(x, 0.7)
    elementwise = lambda f: jax.jit(jax.vmap(f))  # noqa: E731
    first = jax.grad(function, (0, 1))
    second = jax.hessian(function, (0, 1))
    for f, derivatives in [(function, first), (first, second)]:
        exact = elementwise(derivatives)(x, mu)
        f = elementwise(f)
        for argnum, (dx, dmu) in enumerate([(h, 0.0), (0.0, h)]):
            plus, minus = np.asarray(f(x + dx, mu + dmu)), np.asarray(f(x - dx, mu - dmu))
            got = exact[argnum] if plus.ndim == 1 else [row[argnum] for row in exact]
            np.testing.assert_allclose(got, (plus - minus) / (2 * h), atol=1e-7)


@pytest.mark.usefixtures("double")
def test_third_derivative_of_c2():
    c2, mu = KERNELS["c2"], 0.5
    third = each(jax.grad(jax.grad(jax.grad(c2.relu))))
    x = np.array([-3.5, -2.0, -0.1, 0.1, 2.0, 3.5])
    slope = 1 / 36 / mu**2
    np.testing.assert_allclose(third(x, mu), [0, slope, slope, -slope, -slope, 0])
    second = each(jax.grad(jax.grad(c2.relu)))
    # Continuous: at the kink and at the seams as well.
    np.testing.assert_allclose(second(np.array([-3.0, 0, 3.0]), mu), [0, 1 / 6 / mu, 0], atol=1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if k.name != "paper"])
def test_second_derivative_at_the_kink(kernel):
    # In the middle of the window both branches of the formulas meet (``paper``: a seam).
    functions = kernel.relu, kernel.absolute
    relu, absolute = jax.jit(lambda x, mu: [jax.hessian(f, (0, 1))(x, mu) for f in functions])(
        0.0, 0.5
    )
    assert float(relu[0][0]) == pytest.approx(kernel.smoothness / 0.5)
    assert float(absolute[0][0]) == pytest.approx(kernel.absolute_smoothness / 0.5)
    for mixed in (relu, absolute):
        np.testing.assert_allclose([mixed[0][1], mixed[1][0], mixed[1][1]], 0, atol=1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "kernel",
    ["minimax", *(pytest.param(n, marks=pytest.mark.slow) for n in sorted(OTHERS))],
    indirect=True,
)
def test_second_derivative_of_a_loop(kernel):
    # JAX before 0.12 drops the rules of custom_jvp here: the formulas must do without.
    # The steps pass through the kink and through a tie, exactly.
    ties = {
        0.0: lambda x: jnp.where(x <= 0, 0.0, x),
        0.5: lambda x: jnp.maximum(x, 0.0),
        1.0: lambda x: jnp.where(x < 0, 0.0, x),
    }

    def step(x, shift):
        x = kernel.relu(x - shift, 0.5) + 0.5 * kernel.absolute(x - shift, 0.5)
        for tie, relu in ties.items():
            x += jnp.sin(relu(x - shift) + kernel.correction(x - shift, 0.5, tie))
        return kernel.maximum(x, shift * x + (1 - shift), 0.5)

    def looped(x, shifts):
        return jax.lax.scan(lambda x, s: (step(x, s), None), x, shifts)[0]

    def unrolled(x, shifts):
        for shift in shifts:
            x = step(x, shift)
        return x

    @jax.jit
    def derivatives(x, shifts):
        return [
            (jax.grad(f)(x, shifts), jax.grad(jax.grad(f))(x, shifts), jax.hessian(f)(x, shifts))
            for f in (looped, unrolled)
        ]

    for start in (1.0, 0.7):
        shifts = jnp.array([1.0, float(step(start, 1.0)), 0.3])
        got, expected = derivatives(start, shifts)
        np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("tie", [0.0, 0.5, 1.0])
def test_correction_at_the_kink_under_every_convention(kernel, tie):
    def derivatives(x, mu):
        f = lambda x, mu: kernel.correction(x, mu, tie)  # noqa: E731
        return f(x, mu), jax.grad(f)(x, mu), jax.hessian(f, (0, 1))(x, mu)

    value, first, second = jax.jit(derivatives)(0.0, 0.5)
    assert float(value) == pytest.approx(0.5 * float(kernel.unit_correction(0.0)))
    assert float(first) == pytest.approx(float(kernel.slope(0.0, 0.5)) - tie)
    mixed = [second[0][1], second[1][0], second[1][1]]
    np.testing.assert_allclose(mixed, 0, atol=1e-12)
    for leaf in jax.tree.leaves(jax.jit(derivatives)(0.0, 0.0)):
        assert float(leaf) == 0


def test_correction_takes_the_right_derivative_of_relu_at_the_kink(kernel):
    mu = 0.5
    slope = float(jax.grad(kernel.relu)(0.0, mu))
    assert float(jax.grad(kernel.correction)(0.0, mu)) == pytest.approx(slope - 1)
    for alpha in (0.1, -2.0):

        def leaky(x, alpha=alpha):
            return jnp.where(x >= 0, x, alpha * x) + (1 - alpha) * kernel.correction(x, mu)

        for x in (0.0, 1e-6, -1e-6):
            expected = alpha + (1 - alpha) * float(jax.grad(kernel.relu)(x, mu))
            assert float(jax.grad(leaky)(x)) == pytest.approx(expected, abs=1e-6)


def test_maximum_at_a_tie_and_its_derivatives(kernel):
    mu = 0.5
    slope = float(kernel.slope(0.0, mu))
    da, db = jax.grad(kernel.maximum, (0, 1))(1.0, 1.0, mu)
    assert (float(da), float(db)) == pytest.approx((slope, 1 - slope))
    da, db = jax.grad(kernel.minimum, (0, 1))(1.0, 1.0, mu)
    # -max(-a, -b): a's share is r'(b - a).
    assert (float(da), float(db)) == pytest.approx((slope, 1 - slope))


# --- mu = 0 --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCALAR)
def test_zero_accuracy_is_the_function_itself(kernel, name):
    x = jnp.array([-3.0, -1e-30, 0.0, 1e-30, 2.0])
    f, exact = getattr(kernel, name), UNSMOOTHED[name]
    np.testing.assert_array_equal(f(x, 0.0), exact(x))
    np.testing.assert_array_equal(jax.jit(f)(x, 0.0), exact(x))
    np.testing.assert_array_equal(each(jax.grad(f))(x, 0.0), jax.vmap(jax.grad(exact))(x))
    for row in jax.tree.leaves(each(jax.hessian(f, (0, 1)))(x, 0.0)):
        np.testing.assert_array_equal(row, 0)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_zero_accuracy_of_maximum_shares_ties_as_jax_does(kernel, name):
    a, b = jnp.array([1.0, 2.0, 2.0, -jnp.inf]), jnp.array([2.0, 1.0, 2.0, -jnp.inf])
    f, exact = getattr(kernel, name), getattr(jnp, name)
    np.testing.assert_array_equal(f(a, b, 0.0), exact(a, b))
    got = jax.jit(jax.vmap(jax.grad(f, (0, 1)), (0, 0, None)))(a, b, 0.0)
    np.testing.assert_array_equal(got, jax.vmap(jax.grad(exact, (0, 1)))(a, b))


def test_right_derivative_in_mu_at_zero(kernel):
    x = jnp.array([-1.0, 0.0, 1.0])
    got = each(jax.grad(kernel.relu, 1))(x, 0.0)
    np.testing.assert_allclose(got, (kernel.relu(x, 1e-3) - kernel.relu(x, 0.0)) / 1e-3, atol=1e-3)


# --- robustness ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_no_nan_in_any_derivative(kernel, dtype):
    x = [-np.inf, -3e4, -1e-3, -1e-6, -0.0, 0.0, 1e-6, 1e-3, 3e4, np.inf]
    mu = np.array([0.0, 1e-42, 1e-30, 1e-19, 1e-7, 1e-3, 1.0, 1e4, 1e30], np.float32)
    x, mu = (v.ravel() for v in np.meshgrid(x, mu))
    x = jnp.asarray(x, dtype)

    def everything(x, mu):
        functions = [getattr(kernel, name) for name in SCALAR]
        out = [(f(x, mu), jax.grad(f, (0, 1))(x, mu)) for f in functions]
        if dtype == jnp.float32:  # K / mu may overflow the others
            out.append([jax.hessian(f, (0, 1))(x, mu) for f in functions])
        return out

    for leaf in jax.tree.leaves(jax.jit(jax.vmap(everything))(x, mu)):
        assert not np.isnan(leaf).any()


def test_infinite_operands(kernel):
    values = [-np.inf, -1.0, 1.0, np.inf]
    a, b = (jnp.array(v) for v in zip(*itertools.product(values, values), strict=True))
    for name in ("maximum", "minimum"):
        f = getattr(kernel, name)
        got, exact = np.asarray(f(a, b, 0.25)), np.asarray(getattr(np, name)(a, b))
        np.testing.assert_array_equal(np.isinf(got), np.isinf(exact))
        far = np.isinf(a) | np.isinf(b)
        np.testing.assert_allclose(got[far], exact[far], atol=0.25)
        slopes = jax.jit(jax.vmap(jax.grad(f, (0, 1)), (0, 0, None)))(a, b, 0.25)
        assert np.isfinite(slopes).all()


def test_nan_passes_through(kernel):
    assert np.isnan(kernel.relu(jnp.nan, 0.5))
    assert np.isnan(kernel.absolute(jnp.nan, 0.5))
    assert np.isnan(kernel.maximum(jnp.nan, 0.0, 0.5))
    assert np.isnan(kernel.relu(5.0, jnp.nan))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_dtypes_are_kept_under_strict_promotion(kernel, dtype):
    x = grid(0.25, 16.0, 65)
    names = dict.fromkeys([*SCALAR, "slope"], 1) | {"maximum": 2, "minimum": 2}

    def everything(x, mu):
        operands = x, 0.5 * x[::-1]
        return [getattr(kernel, name)(*operands[:count], mu) for name, count in names.items()]

    expected, low = everything(x, 0.25), jnp.asarray(x, dtype)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for mu in (0.25, np.float64(0.25), jnp.full(x.shape, 0.25, dtype), jnp.float32(0.25)):
            got = jax.jit(everything)(low, mu)
            assert all(leaf.dtype == dtype and leaf.shape == x.shape for leaf in got)
        _, slopes = jax.jit(lambda x: jax.jvp(lambda x: everything(x, 0.25), (x,), (x,)))(low)
        assert all(leaf.dtype == dtype for leaf in slopes)
    for leaf, exact in zip(got, expected, strict=True):
        tolerance = 8 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(np.asarray(leaf, np.float64), exact, atol=tolerance)


@pytest.mark.usefixtures("double")
@settings(max_examples=40, deadline=None)
@given(mu=st.floats(1e-6, 1e6), name=st.sampled_from(sorted(KERNELS)), t=st.floats(-9, 9))
def test_float32_value_is_as_good_as_float64(mu, name, t):
    mu = float(np.float32(mu))
    x = float(np.float32(t * mu))
    kernel = KERNELS[name]
    low = float(kernel.relu(np.float32(x), np.float32(mu)))
    high = float(kernel.relu(np.float64(x), np.float64(mu)))
    assert abs(low - high) <= 4 * 2.0**-24 * (abs(x) + 2 * mu)


# --- mu: per element, traced, differentiated ------------------------------------------


@pytest.mark.parametrize("name", SCALAR)
def test_accuracy_per_element(kernel, name):
    f = getattr(kernel, name)
    x = jnp.array([[-1.0, 0.2, 3.0], [0.0, -0.1, 1.0]])
    mu = jnp.array([0.5, 0.0, 0.1])
    one = jax.jit(f)
    expected = [[one(x[i, j], mu[j]) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(f(x, mu), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(f)(x, mu), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(jax.jit(jax.vmap(f, (1, 0), 1))(x, mu), expected, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda mu: f(x, mu).sum()))(mu)
    assert gradient.shape == mu.shape
    assert np.isfinite(gradient).all()


def test_modes_of_differentiation_agree(kernel):
    x, mu, ones = jnp.array([-0.9, 0.0, 0.3, 5.0]), 0.4, jnp.ones(4)

    def f(x, mu):
        return kernel.relu(x, mu) + kernel.absolute(x, mu) + kernel.maximum(x, x[::-1], mu)

    forward, reverse = (jax.jit(mode(f, (0, 1)))(x, mu) for mode in (jax.jacfwd, jax.jacrev))
    for a, b in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    second = jax.jit(jax.jacfwd(jax.jacrev(f)))(x, mu)
    np.testing.assert_allclose(second, jax.jit(jax.jacrev(jax.jacfwd(f)))(x, mu), atol=1e-5)
    out, tangent = jax.jvp(f, (x, mu), (ones, 0.0))
    np.testing.assert_allclose(out, f(x, mu), rtol=1e-6)
    np.testing.assert_allclose(tangent, forward[0] @ ones, rtol=1e-5)


def test_no_recompilation_when_accuracy_changes(kernel):
    traces = []

    @jax.jit
    def f(x, mu):
        traces.append(None)
        return kernel.relu(x, mu)

    for mu in (0.5, 0.25, 0.0):
        f(1.0, mu)
    assert len(traces) == 1


def test_accuracy_is_never_rounded_up():
    for mu in np.random.default_rng(0).uniform(0, 1, 100):
        got = float(accuracy(mu, (), jnp.dtype(jnp.float32)))
        assert mu * (1 - 2.0**-22) <= got <= mu
    assert float(accuracy(0.5, (), jnp.dtype(jnp.float32))) == 0.5
    with jax.enable_x64(True):
        mu = jnp.float64(0.7)  # float32(0.7) < 0.7; 0.1 rounds up
        for value in (mu, jnp.float64(0.1)):
            rounded = lambda m: accuracy(m, (), jnp.dtype(jnp.float32))  # noqa: E731
            assert float(jax.jit(rounded)(value)) <= float(value)
            assert float(jax.grad(rounded)(value)) == pytest.approx(1)


# --- optimality and errors ------------------------------------------------------------


def test_no_kernel_beats_minimax(kernel):
    # Centred, the error of a kernel is half of its spread.
    product = kernel.smoothness * (kernel.upper - kernel.lower) / 2
    assert product >= 1 / 16 - 1e-15
    assert (product == 1 / 16) == (kernel.name in ("minimax", "centered"))


def test_minimax_against_linear_programming():
    # Least L such that some g on a grid is within 1 of relu with |g''| <= L.
    x = np.linspace(-12, 12, 193)
    h, n = x[1] - x[0], len(x)
    second = (np.eye(n, k=-1) - 2 * np.eye(n) + np.eye(n, k=1))[1:-1] / h**2
    ones = np.ones((n - 2, 1))
    constraints = np.block([[second, -ones], [-second, -ones]])
    relu = np.maximum(x, 0)
    bounds = [*zip(relu - 1, relu + 1, strict=True), (0, None)]
    solution = linprog(np.eye(n + 1)[-1], constraints, np.zeros(2 * n - 4), bounds=bounds)
    assert solution.fun == pytest.approx(1 / 16, rel=0.01)


def test_errors_name_what_is_wrong(kernel):
    with pytest.raises(ArgumentError, match="'paper', 'centered', 'minimax', 'softplus', 'c2'"):
        kernel_named("sharp")
    with pytest.raises(ArgumentError, match="int32"):
        kernel.relu(jnp.arange(3), 0.5)
    with pytest.raises(ArgumentError, match=r"\(2,\) does not broadcast to \(3,\)"):
        kernel.relu(jnp.ones(3), jnp.ones(2))
    assert kernel_named(kernel.name) is kernel
    assert kernel == KERNELS[kernel.name]
    assert hash(kernel) == hash(kernel_named(kernel.name))


def test_formulas_of_the_design():
    with jax.enable_x64(True):
        x, mu = grid(0.5, 12.0, 401), 0.5
        beta = mu / math.log(2)
        window = np.maximum(4 * mu - np.abs(x), 0)
        paper = np.where(x < 0, 0, np.where(x <= 2 * mu, x**2 / (4 * mu), x - mu))
        expected = {
            "paper": paper,
            "centered": np.maximum(x, 0) + window**2 / (16 * mu),
            "minimax": np.maximum(x, 0) + np.maximum(8 * mu - np.abs(x), 0) ** 2 / (32 * mu) - mu,
            "softplus": beta * np.logaddexp(0, x / beta),
            "c2": np.maximum(x, 0) + np.maximum(6 * mu - np.abs(x), 0) ** 3 / (216 * mu**2),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(KERNELS[name].relu(x, mu), values, atol=1e-14)
