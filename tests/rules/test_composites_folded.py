"""Composites with parts that are known, which folding must not hide."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import CertificationError, analyze, ball, box, smooth
from tests.soundness.trees import attack

MASK = np.array([True, False, True, True])
WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0])
logsumexp = jax.scipy.special.logsumexp


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


WEIGHED = {
    "weights": (lambda x: logsumexp(x, b=WEIGHTS + 0.1), (4,)),
    "weights, some 0": (lambda x: logsumexp(x, b=WEIGHTS), (4,)),
    "one weight for all": (lambda x: logsumexp(x, b=0.5), (4,)),
    "a mask": (lambda x: logsumexp(x, where=MASK), (4,)),
    "weights and a mask": (lambda x: logsumexp(x, b=WEIGHTS + 0.1, where=MASK), (4,)),
    "of columns": (lambda x: logsumexp(x, axis=0, b=WEIGHTS[:, None]), (4, 2)),
    "of rows, vmapped": (jax.vmap(lambda x: logsumexp(x, b=WEIGHTS)), (2, 4)),
    "rows with weights of their own": (
        lambda x: jax.vmap(lambda y, b: logsumexp(y, b=b))(x, jnp.stack([WEIGHTS, WEIGHTS + 1])),
        (2, 4),
    ),
    "written out": (lambda x: jnp.log(jnp.sum(WEIGHTS * jnp.exp(x))), (4,)),
}


@pytest.mark.parametrize("name", WEIGHED)
def test_logsumexp_with_weights_and_masks(name):
    """log Σ w exp(x) is the logsumexp of x + log w, with its constants, which are attained."""
    f, shape = WEIGHED[name]
    with jax.enable_x64(True):
        certificate = attack(f, box(-1.5, 2.0), jnp.zeros(shape))
        assert not certificate.sites
        assert certificate.lipschitz == pytest.approx(1.0, rel=1e-6)
        assert certificate.smoothness == pytest.approx(0.5, rel=1e-6)
        # The largest value is where all entries are at the upper end.
        largest = np.linalg.norm(f(jnp.full(shape, 2.0)))
        assert certificate.bound == pytest.approx(largest, rel=1e-6)


FRACTIONS = {
    "a mask": (lambda x: jax.nn.softmax(x, where=MASK), (4,)),
    "along columns": (lambda x: jax.nn.softmax(x, axis=0, where=MASK[:, None]), (4, 2)),
    "weights": (lambda x: WEIGHTS * jnp.exp(x) / jnp.sum(WEIGHTS * jnp.exp(x)), (4,)),
}


@pytest.mark.parametrize("name", FRACTIONS)
def test_softmax_with_weights_and_masks(name):
    f, shape = FRACTIONS[name]
    with jax.enable_x64(True):
        certificate = attack(f, box(-1.5, 2.0), jnp.zeros(shape))
        assert not certificate.sites
        assert certificate.lipschitz == pytest.approx(0.5, rel=1e-6)
        assert certificate.smoothness < 0.71


DIFFERENT = {
    "other weights below": lambda x: jnp.exp(x) / jnp.sum(WEIGHTS * jnp.exp(x)),
    "a mask above only": lambda x: jnp.where(MASK, jnp.exp(x), 0.0) / jnp.sum(jnp.exp(x)),
    "other masks": lambda x: jnp.where(MASK, jax.nn.softmax(x, where=MASK[::-1]), 0.0),
    "something else beside the mask": lambda x: jnp.where(MASK, jax.nn.softmax(x), 0.5),
    "a sum beside the mask": lambda x: jnp.log(jnp.sum(jnp.where(MASK, jnp.exp(x), 0.3))),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_only_resembles_them(name):
    with jax.enable_x64(True):
        attack(DIFFERENT[name], box(-1.5, 2.0), jnp.zeros(4))


SOFTMAXES = {
    "mask": lambda x, mask: jax.nn.softmax(x, where=mask),
    "infinities": lambda x, mask: jax.nn.softmax(jnp.where(mask, x, -jnp.inf)),
}


@pytest.mark.parametrize("name", SOFTMAXES)
def test_a_mask_that_leaves_nothing(name):
    """A softmax of nothing is 0/0, and its derivatives are NaN."""
    f = SOFTMAXES[name]
    with jax.enable_x64(True):
        some = np.array([MASK, ~MASK])
        attack(lambda x: f(x, some), box(-1.5, 2.0), jnp.zeros((2, 4)))
        none = np.array([MASK, np.zeros(4, bool)])
        with pytest.raises(CertificationError):
            smooth(lambda x: f(x, none), 0.1, box(-1.5, 2.0)).certificate(jnp.zeros((2, 4)))


def test_weights_below_zero_are_none():
    """The sum may vanish: its logarithm is refused there, and certified elsewhere."""
    f = lambda x: jnp.log(jnp.sum(jnp.exp(x) * jnp.array([1.0, -0.01])))  # noqa: E731
    with jax.enable_x64(True):
        attack(f, box(-1.0, 1.0), jnp.zeros(2))
        with pytest.raises(CertificationError):
            smooth(f, 0.1, box(-3.0, 3.0)).certificate(jnp.zeros(2))
