"""Choices by the sign: parametric relus with slopes that vary, per channel, in loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxsmooth import DiscontinuityError, ball, box, fixed, smooth
from tests.soundness.trees import attack


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def gt(x, a):
    return jnp.where(x > 0, x, a * x)


SLOPES = {
    "gt": gt,
    "ge": lambda x, a: jnp.where(x >= 0, x, x * a),
    "lt": lambda x, a: jnp.where(x < 0, a * x, x),
    "le, and 0 first": lambda x, a: jnp.where(x <= 0, a * x, x),
    "the positive half": lambda x, a: jnp.where(x > 0, a * x, x),
    "both halves": lambda x, a: jnp.where(x > 0, (1 - a) * x, a * x),
    "one half": lambda x, a: jnp.where(x > 0, a * x, 0.0),
    "a number and a value": lambda x, a: jnp.where(x > 0, 2.0 * x, a * x),
}


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("slopes", [(), (3,)])
def test_sound(name, slopes):
    x, a = jnp.zeros((2, 3)), jnp.full(slopes, 0.2)
    certificate = attack(SLOPES[name], (box(-1.0, 1.5), box(-0.3, 0.6)), x, a)
    assert [site.primitive for site in certificate.sites] in (["max"], ["min"])


def test_slopes_that_are_known():
    """One number for all is a function of one variable; others are no looser than √2."""
    for a, most in ((np.float64(0.25), 1.0), (np.array([0.0, 0.25, 1.0]), np.sqrt(2))):
        certificate = smooth(gt, 0.1, (box(-1.0, 1.0), fixed(a))).certificate(jnp.zeros((2, 3)), a)
        assert certificate.lipschitz <= most * (1 + 1e-6)


def test_values_stay():
    rng = np.random.default_rng(0)
    x, a = jnp.asarray(rng.normal(size=(50, 3))), jnp.asarray(rng.uniform(0, 0.5, 3))
    f_eps = smooth(gt, 1e-9, (box(-4.0, 4.0), box(0.0, 0.5)))
    np.testing.assert_allclose(f_eps(x, a), gt(x, a), rtol=1e-12, atol=1e-8)


def test_in_a_loop():
    def rollout(x, a):
        return jax.lax.scan(lambda c, _: (gt(c, a) - 0.1, None), x, length=3)[0]

    attack(rollout, (box(-1.0, 1.0), box(0.0, 0.5)), jnp.zeros(3), jnp.asarray(0.2))


@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_modules(library):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3)))
    if library == "linen":
        module = linen.PReLU(param_dtype=jnp.float64)
        params = module.init(jax.random.key(0), x)
        apply = module.apply
    else:
        graph, params = nnx.split(nnx.PReLU(param_dtype=jnp.float64))
        apply = lambda params, x: nnx.merge(graph, params)(x)  # noqa: E731
    attack(apply, (ball(0.1, center=params), box(x - 0.5, x + 0.5)), params, x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, a: jnp.where(x > 0.1, x, a * x),
        lambda x, a: jnp.where(x > 0, x, a * x + 1),
        lambda x, a: jnp.where(a > 0, x, a * x),
    ],
)
def test_branches_that_do_not_meet(f):
    with pytest.raises(DiscontinuityError):
        smooth(f, 0.1, (box(-1.0, 1.0), box(-0.1, 0.5))).certificate(jnp.zeros(3), jnp.full(3, 0.2))
