"""Products, running log-sum-exps, powers, angles, polynomials and special functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import _compat, analyze, box
from tests.rules.sampling import Ball, Box, check, close

FOUR = {
    "product": jnp.prod,
    "product of rows": lambda x: jnp.prod(x.reshape(2, 2), axis=1),
    "product of columns": lambda x: jnp.prod(x.reshape(2, 2), axis=0) * x[0],
    "cumprod": lambda x: lax.cumprod(x, axis=0),
    "cumprod in reverse": lambda x: lax.cumprod(x.reshape(2, 2), axis=1, reverse=True),
    "cumlogsumexp": lambda x: lax.cumlogsumexp(3 * x, axis=0),
    "cumlogsumexp of columns": lambda x: lax.cumlogsumexp(x.reshape(2, 2), axis=0, reverse=True),
    "cumsum": lambda x: lax.cumsum(x.reshape(2, 2), axis=1, reverse=True),
}


@pytest.mark.parametrize("name", FOUR)
def test_windows(name):
    check(FOUR[name], Ball((4,)))
    check(FOUR[name], Box((4,), -0.4, 1.2))
    check(FOUR[name], Box((4,), 0.5, 0.6))


def test_product_is_attained():
    """At (1, 1, 1): slope √3, Hessian 1 - I of norm 2."""
    found = check(jnp.prod, Box((3,), 0.0, 1.0))
    assert close(found.lipschitz, 3**0.5)
    assert 2 <= found.smoothness <= 6**0.5 * (1 + 1e-9)


def test_product_with_zeros():
    found = analyze(jnp.prod, box(np.array([0.0, 0.0, -1.0]), np.array([0.0, 0.0, 1.0])))(
        np.zeros(3)
    )
    assert found.lipschitz == 0
    assert found.bound == 0


def powers(x, y):
    return (x + 2.0) ** y


TWO = {
    "power": (powers, 0.0),
    "power of a matrix": (lambda x, y: (x[:, None] + 2.0) ** y[None], 0.0),
    "powers that differ": (lambda x, y: (x + 2.0) ** np.array([1.5, -0.5, 3.0]) + 0 * y, 0.0),
    "base that is known": (lambda x, y: 2.5**y * x, 0.0),
    "angle": (lambda x, y: jnp.arctan2(y, x + 1.6), 0.0),
    "angle above": (lambda x, y: jnp.arctan2(y + 1.7, x), 0.0),
    "angle below": (lambda x, y: jnp.arctan2(y - 1.7, x), 0.0),
    "polynomial": (lambda x, y: jnp.polyval(jnp.array([0.5, -1.0, 0.0, 2.0]), x) + y, 0.0),
    "polynomial with coefficients": (lambda x, y: jnp.polyval(y, x), 0.0),
    "gammaln": (lambda x, y: jax.scipy.special.gammaln(x + 2.0) * y, 0.0),
    "digamma": (lambda x, y: jax.scipy.special.digamma(x + 2.5) * y, 0.0),
    "erf_inv": (lambda x, y: jax.scipy.special.erfinv(0.7 * x) + y, 0.0),
    "1 - x²": (lambda x, y: (1 - x**2) * y, 0.0),
}


newer = pytest.mark.skipif(
    _compat.primitive("polynomial_p") is None, reason="older versions of JAX run a scan"
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=newer if "polynomial" in n else ()) for n in TWO]
)
def test_functions_of_two(name):
    f, _ = TWO[name]
    check(f, Ball((3,)), Box((3,), -0.7, 0.9))
    check(f, Box((3,), -0.3, -0.1), Box((3,), 0.2, 0.9))


def test_power_is_attained():
    """x^y on [1, 2] × [2, 3]: |∂x| = 3·2², |∂y| = 8 log 2."""
    found = check(lambda x, y: x**y, Box((1,), 1.0, 2.0), Box((1,), 2.0, 3.0))
    assert close(found.lipschitz_per_argument[0], 12.0)
    assert close(found.lipschitz_per_argument[1], 8 * np.log(2))
    assert close(found.bound, 8.0)


def test_angle_is_attained():
    found = check(jnp.arctan2, Box((1,), -1.0, 1.0), Box((1,), 1.0, 3.0))
    assert close(found.range[1][0], np.pi / 4)
    assert close(found.lipschitz_per_argument[0], 1.0)


@newer
def test_polynomials_are_sharp_where_monotone():
    found = check(lambda x: jnp.polyval(jnp.array([1.0, 1.0, 1.0]), x), Box((1,), 0.0, 1.0))
    assert close(found.lipschitz, 3.0)
    assert close(found.smoothness, 2.0)


@pytest.mark.parametrize(
    ("f", "error", "text"),
    [
        (lambda x: jnp.arctan2(x, -1.0), jaxsmooth.DiscontinuityError, "jumps by 2π"),
        (lambda x: jnp.arctan2(x, x), jaxsmooth.DiscontinuityError, "sine and cosine"),
        (lambda x: x**x, jaxsmooth.CertificationError, "keep the base away from 0"),
    ],
)
def test_refused(f, error, text):
    with pytest.raises(error, match=text):
        analyze(f, box(-1.0, 1.0))(jax.ShapeDtypeStruct((3,), np.float32))
