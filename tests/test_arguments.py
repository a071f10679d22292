"""Arguments, fixed values and options as users pass them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import ArgumentError, box, fixed, smooth
from jaxsmooth.grammar import parse_bounds

UNIT = box(-1.0, 1.0)


def product(a, x):
    return jnp.sum(jnp.abs(a * x))


@pytest.mark.parametrize(
    ("declared", "passed"),
    [
        (np.array([0.5, 0.25]), np.array([0.5, 0.25], np.float32)),
        (0.5, np.float32(0.5)),
        (0.1, np.float32(0.1)),
        (2, 2.0),
        (np.array([1, 2]), np.array([1, 2], np.float32)),
        (np.float32(0.5), jnp.bfloat16(0.5)),
        (jnp.float32(0.5), 0.5),
    ],
)
@pytest.mark.parametrize("x64", [False, True])
def test_fixed_values_have_the_type_of_the_argument(declared, passed, x64):
    with jax.enable_x64(x64):
        x = jnp.ones(2, jnp.float32)
        f_eps = smooth(product, 0.1, (fixed(declared), UNIT))
        value = f_eps(passed, x)
        assert value.dtype == product(passed, x).dtype or np.ndim(passed) == 0
        assert abs(value - product(passed, x)) <= 0.1 + 1e-6


def test_other_values_than_the_fixed_ones_are_refused():
    with pytest.raises(ArgumentError, match="differs"):
        smooth(product, 0.1, (fixed(0.1), UNIT))(np.float32(0.2), jnp.ones(2))


def test_arrays_that_are_changed_afterwards():
    weights, x = np.ones(2, np.float32), np.zeros(2, np.float32)
    declared = smooth(product, 0.1, (fixed(weights), UNIT))
    closed_over = smooth(lambda x: product(weights, x), 0.1, UNIT)
    before = declared(weights, x), closed_over(x)
    assert declared.certificate(weights, x).error <= 0.1
    weights *= 100
    with pytest.raises(ArgumentError, match="differs"):
        declared(weights, x)
    np.testing.assert_allclose((declared(weights / 100, x), closed_over(x)), before)


def test_derivatives_in_weights_that_are_closed_over():
    """Of what is proved, too: infinite bounds on the way there have no derivative."""
    x, weights = jnp.ones(2), jnp.array([1.0, 2.0])

    @jax.jit
    def lipschitz(weights):
        f = lambda x: jnp.sum(weights * jnp.abs(x))  # noqa: E731
        return smooth(f, 0.1, UNIT).certificate(x).lipschitz

    def value(weights):
        return smooth(lambda x: jnp.sum(weights * jnp.abs(x)), 0.1, UNIT)(x)

    assert np.isfinite(jax.grad(value)(weights)).all()
    step = 1e-2 * jnp.array([0.0, 1.0])
    expected = (lipschitz(weights + step) - lipschitz(weights - step)) / 2e-2
    np.testing.assert_allclose(jax.grad(lipschitz)(weights)[1], expected, rtol=1e-2)


EMPTY = {
    "max": lambda x: jnp.max(x, 1),
    "max of nothing": lambda x: jnp.max(x, 0, initial=-1.0),
    "softmax": lambda x: jax.nn.softmax(x, 1),
    "window": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2), (1, 1), "VALID"),
    "solve": lambda x: jnp.linalg.solve(x[:, :2, None] * 0 + 3 * jnp.eye(2), jnp.ones(2)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty_batches(name):
    f, x = EMPTY[name], jnp.zeros((0, 3))
    np.testing.assert_array_equal(smooth(f, 0.1, UNIT)(x), f(x))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("f", [jnp.sort, jnp.median, lambda x: jax.lax.top_k(x, 1)[0]])
def test_numbers_whose_differences_overflow(f, dtype):
    x = jnp.asarray([3e38, -3e38, 0.0], dtype)
    f_eps = smooth(f, 0.1, box(-3.1e38, 3.1e38))
    np.testing.assert_array_equal(f_eps(x), f(x))
    np.testing.assert_allclose(jax.jacfwd(f_eps)(x), jax.jacfwd(f)(x))


def test_a_float8_in_between():
    x = jnp.ones(2)
    f_eps = smooth(lambda x: jnp.abs(x.astype(jnp.float8_e4m3fn).astype(x.dtype)), 0.1, UNIT)
    assert np.isfinite(f_eps(x)).all()


def test_derivatives_of_a_determinant_in_half_precision():
    gradient = jax.grad(smooth(jnp.linalg.det, 0.1, UNIT))(jnp.eye(3, dtype=jnp.float16))
    np.testing.assert_array_equal(gradient, np.eye(3))


X = jnp.ones(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"argnums": 0.0}, "argnums"),
        ({"argnums": True}, "argnums"),
        ({"argnums": (0, 5)}, "argnums"),
        ({"allocation": {"abs": "x"}}, "no number"),
        ({"allocation": {"abs": 1e39}}, "must not exceed"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        smooth(jnp.abs, 1e39, UNIT, **options).certificate(X)


def test_options_of_numpy_and_jax():
    assert smooth(jnp.abs, jnp.bfloat16(0.1), UNIT, argnums=np.int64(0)).certificate(X).error > 0.09


def test_numbers_too_long_to_be_divided():
    with pytest.raises(Exception, match="number") as raised:
        parse_bounds("box(0, " + "9" * 400 + "/1.5)")
    assert type(raised.value).__module__.startswith("jaxsmooth")
