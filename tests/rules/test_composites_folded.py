"""Composites with parts that are known, which folding must not hide."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import analyze, ball


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3)])
@pytest.mark.parametrize("keepdims", [True, False])
def test_logsumexp_of_a_batch_is_no_site(shape, keepdims):
    """With a batch its equations make an array of zeros, which is known."""
    x = np.zeros(shape, np.float32)
    found = analyze(lambda x: jax.nn.logsumexp(x, axis=-1, keepdims=keepdims), (ball(3.0),))(x)
    assert not found.sites
    assert found.lipschitz == pytest.approx(1.0, rel=1e-6)
    assert found.smoothness <= 0.5 * (1 + 1e-6)


def test_logsumexp_of_known_numbers_is_a_number():
    known = jnp.ones((2, 3))
    f = lambda x: x * jax.nn.logsumexp(known, axis=-1)  # noqa: E731
    found = analyze(f, (ball(1.0),))(np.zeros(2, np.float32))
    assert found.lipschitz == pytest.approx(1 + np.log(3), rel=1e-5)
