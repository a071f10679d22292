"""Rules of mul, div and pow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from tests.rules.sampling import Ball, Box, check, close


@pytest.mark.parametrize("shape", [(2, 5), (5,), (1, 5), (2, 1), ()])
def test_product_with_a_broadcast_operand(shape):
    """A scale that several entries share moves them all."""
    found = check(lambda x, s: x * s, Box((2, 5), -1.3, 1.3), Ball(shape, 0.25))
    repeats = 10 / max(1, int(np.prod(shape)))
    assert close(found.lipschitz_per_argument[1], 1.3 * repeats**0.5)


def test_batch_norm_with_parameters():
    mean, variance = np.array([0.1, -0.4, 1.0]), np.array([0.5, 2.0, 0.1])

    def f(x, scale, shift):
        return (x - mean) * jax.lax.rsqrt(variance + 0.1) * scale + shift

    check(f, Box((2, 3)), Ball((3,), 0.4), Ball((3,), 0.4))


def test_product_of_two_balls():
    found = check(lambda x, y: x * y, Ball((4,), 2.0), Ball((4,), 3.0))
    assert close(found.bound, 6.0)
    assert found.lipschitz <= 13**0.5 * (1 + 1e-9)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: x / (2 + y),
        lambda x, y: 1 / (1.5 + x * y),
        lambda x, y: (2 + x) ** 1.5 * y,
        lambda x, y: x**3 - y**2,
        lambda x, y: (x + y) / (x**2 + 1),
    ],
)
def test_sound(f):
    check(f, Box((3,)), Box((3,)))
    check(f, Ball((3,)), Box((3,), -0.5, 0.1))


def test_power_while_an_outer_function_is_traced():
    """The exponent is read outside the trace."""
    f_eps = jaxsmooth.smooth(lambda x: (0.3 + x**2) ** 1.5, 0.1, jaxsmooth.ball(1.0))
    x = jnp.linspace(-0.5, 0.5, 3)
    np.testing.assert_allclose(jax.jit(jax.vmap(f_eps))(x), (0.3 + x**2) ** 1.5, rtol=1e-6)


def test_division_by_a_range_with_zero_is_refused():
    with pytest.raises(jaxsmooth.errors.CertificationError, match="divides"):
        check(lambda x: 1 / x, Box((2,)))
