"""Rules of softmax, log_softmax, logsumexp and logaddexp."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.rules.sampling import Ball, Box, analysed, check, close


class TestLarge:
    """Constants on all of space."""

    def test_logsumexp(self):
        found = check(jax.nn.logsumexp, Ball((4,), 50.0))
        assert close(found.lipschitz, 1.0)
        assert close(found.smoothness, 0.5)

    def test_softmax(self):
        found = check(jax.nn.softmax, Ball((4,), 50.0))
        assert close(found.lipschitz, 0.5)
        assert close(found.smoothness, 0.5**0.5)
        assert close(found.bound, 1.0)

    def test_softmax_of_rows(self):
        found = check(jax.nn.softmax, Ball((3, 4), 50.0), points=20)
        assert close(found.lipschitz, 0.5)
        assert close(found.bound, 3**0.5)

    def test_log_softmax(self):
        found = check(jax.nn.log_softmax, Ball((4,), 50.0))
        assert close(found.lipschitz, 2.0)

    def test_cross_entropy(self):
        found = check(lambda x: -jax.nn.log_softmax(x)[1], Ball((4,), 50.0))
        assert close(found.lipschitz, 2**0.5)
        assert close(found.smoothness, 0.5)

    def test_logaddexp(self):
        found = check(jnp.logaddexp, Ball((4,), 50.0), Ball((4,), 50.0))
        assert close(found.lipschitz, 2**0.5, 1.0)


FUNCTIONS = {
    "softmax": jax.nn.softmax,
    "softmax of columns": lambda x: jax.nn.softmax(x, 0),
    "log_softmax": jax.nn.log_softmax,
    "logsumexp": lambda x: jax.nn.logsumexp(x, -1),
    "logsumexp kept": lambda x: x - jax.nn.logsumexp(x, -1, keepdims=True),
    "logsumexp by hand": lambda x: jnp.log(jnp.sum(jnp.exp(x))),
    "softmax by hand": lambda x: jnp.exp(x) / jnp.sum(jnp.exp(x), 1, keepdims=True),
    "logaddexp": lambda x: jnp.logaddexp(x, jnp.flip(x)),
    "logaddexp with a number": lambda x: jnp.logaddexp(x, 0.5),
    "logaddexp of rows": lambda x: jnp.logaddexp(x, x[:1]),
    "attention": lambda x: jax.nn.softmax(x @ x.T) @ x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("radius", [0.3, 3.0])
def test_sound(name, radius):
    check(FUNCTIONS[name], Ball((2, 3), radius), points=40)
    check(FUNCTIONS[name], Box((2, 3), -radius, 0.5 * radius), points=40)


@pytest.mark.parametrize("f", [jax.nn.softmax, jax.nn.log_softmax, jax.nn.logsumexp])
def test_no_site(f):
    """The largest entry that is subtracted for numerical reasons is no kink."""
    assert not analysed(f, Box((5,))).sites


def test_small_probability_moves_little():
    found = check(lambda x: jax.nn.softmax(x + np.array([8.0, 0.0, 0.0])), Ball((3,), 0.1))
    assert found.lipschitz < 2e-3
