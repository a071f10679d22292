"""Derivatives that are infinite where nothing changes: JAX computes 0·∞, which is NaN.

What is certified has derivatives that JAX finds, in every mode and at every point of the set.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import CertificationError, box, smooth

POINTS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.3, 0.5, 0.75, 1.0)
MASK = np.array([True, False, True])
HELD = np.where(MASK, 3.0, 1.0)
NOTHING = np.zeros((3, 3))


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def scan(step, start, x):
    return jax.lax.scan(step, start, x)[1]


CHOICES = {
    "undefined": lambda x: jnp.where(x > 0, jnp.sqrt(x + 0.25) - 0.5, x),
    "undefined, maximum": lambda x: jnp.maximum(
        jnp.where(x > 0, jnp.sqrt(x + 0.25) - 0.5, x), -0.5
    ),
    "poles at the ends": lambda x: jnp.where(x > 0, jnp.log1p(x), -jnp.log1p(-x)),
    "at an end": lambda x: jnp.where(x >= -1, 0.0, jnp.sqrt(1 + x)),
    "power": lambda x: jnp.where(x > 0, x**2.5, 0.0),
    "Huber": lambda x: jnp.where(
        jnp.abs(x) < 0.5, 0.5 * x**2, 0.5 * jnp.sqrt(jnp.abs(x) - 0.25) - 0.125
    ),
    "never taken": lambda x: jnp.where(x < 2, x, jnp.sqrt(x)),
    "minimum": lambda x: jnp.minimum(x, jnp.sqrt(jnp.abs(x)) + 2),
    "overflow": lambda x: jnp.where(x < 2, jnp.abs(x), jnp.exp(900 * x) / (1 + jnp.exp(900 * x))),
    "safe at 0": lambda x: jnp.where(x > 0.25, jnp.sqrt(jnp.where(x > 0.25, x, 0.0)), x + 0.25),
    "masked, safe at 1": lambda x: jnp.where(MASK, jnp.log(jnp.where(MASK, x + 3, 1.0)), 0.0),
    "masked logits": lambda x: jax.nn.softmax(jnp.where(MASK, x * (2 + x[0]), -jnp.inf)),
    "masked softplus": lambda x: jax.nn.softplus(jnp.where(MASK, x, -jnp.inf)),
    "masked logaddexp": lambda x: jnp.logaddexp(jnp.where(MASK, x, -jnp.inf), x),
    "length": lambda x: jnp.linalg.norm(NOTHING @ x)[None],
    "loop": lambda x: scan(lambda c, t: (c + t, jnp.sqrt(c)), 1.0, x + 2),
    "loop that chooses": lambda x: scan(
        lambda c, t: (c + t, jnp.where(c > 1, jnp.sqrt(jnp.where(c > 1, c, 1.0)), c)), 0.0, x + 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("f", CHOICES.values(), ids=CHOICES.keys())
def test_derivatives_are_those_of_what_is_chosen(f):
    smoothed = smooth(f, 1e-3, box(-np.ones(3), np.ones(3)))
    certificate = smoothed.certificate()
    g = jax.jit(lambda x: jnp.sum(smoothed(x)))
    gradients = jax.jit(jax.grad(g)), jax.jit(jax.jacfwd(g))
    modes = itertools.product((jax.jacrev, jax.jacfwd), repeat=2)
    bends = [jax.jit(outer(inner(g))) for outer, inner in modes]
    # The sum of three values is at most √3 times as steep and as bent as f_eps.
    for point in POINTS:
        x = jnp.full(3, point)
        assert np.all(np.abs(smoothed(x) - f(x)) <= 1e-3)
        for gradient in gradients:
            assert np.linalg.norm(gradient(x)) <= certificate.lipschitz * np.sqrt(3) + 1e-12
            between = (gradient(x + 1e-7) - gradient(x)) / 1e-7 if point < 1 else jnp.zeros(3)
            assert np.linalg.norm(between) <= certificate.smoothness * 3 + 1e-6
        for bend in bends:
            assert np.linalg.norm(bend(x), 2) <= certificate.smoothness * np.sqrt(3) + 1e-9


SINGULAR = {
    "times 0 before": lambda x: jnp.tanh((NOTHING @ x) ** 1.5),
    "times 0 before, slope": lambda x: jnp.sqrt(NOTHING @ x),
    "and more": lambda x: (NOTHING @ x) ** 1.5 + jnp.tanh(x),
    "times 0 after": lambda x: NOTHING @ jnp.sqrt(1 + x),
    "one function": lambda x: 0 * jnp.sqrt(1 + x),
    "one function, twice": lambda x: 0 * (1 + x) ** 1.5,
    "one function, absolute": lambda x: jnp.sqrt(0 * jnp.abs(x)),
    "one function, squared": lambda x: jnp.sqrt(0 * jnp.abs(x)) ** 2,
    "one function, divided": lambda x: 0 * x / (1 + jnp.sqrt(jnp.abs(x))),
    "one function, clipped": lambda x: jnp.clip(x - 2, 0, 1) ** 1.5,
    "a point of it": lambda x: jnp.where(x > -1, 0.0, jnp.sqrt(1 + x)),
    "masked before": lambda x: jnp.sqrt(jnp.where(MASK, x + 3, 0.0)),
    "masked after": lambda x: jnp.where(MASK, jnp.sqrt(x + HELD), x),
    "padded": lambda x: jnp.pad(x + 3, 1) ** 1.5,
    "not chosen": lambda x: jnp.where(x * jnp.sum(x) > 9, jnp.sqrt(x), x),
    "cut off": lambda x: jnp.concatenate([x, jnp.sqrt(1 + x)])[:3],
    "infinite factor": lambda x: jnp.where(MASK, jnp.where(MASK, x, -jnp.inf) * x[0], 0.0),
    "eigenvalues": lambda x: jnp.linalg.eigvalsh(jnp.diag(NOTHING @ x)),
    "singular values": lambda x: jnp.linalg.svd(jnp.diag(NOTHING @ x), compute_uv=False),
    "loop": lambda x: scan(lambda c, t: (c + t, jnp.sqrt(c)), 0.0, x + 2),
    "fixed point": lambda x: jax.lax.fori_loop(
        0, 3, lambda i, c: jnp.sqrt(c) + x + 3, jnp.zeros(3)
    ),
}


@pytest.mark.parametrize("f", SINGULAR.values(), ids=SINGULAR.keys())
def test_infinite_derivatives_of_what_does_not_change_are_refused(f):
    with pytest.raises(CertificationError, match="0·∞"):
        smooth(f, 1e-3, box(-np.ones(3), np.ones(3))).certificate()
