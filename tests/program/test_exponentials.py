"""Softmax and its kin in whatever form and layout, and what only resembles them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import box, smooth
from jaxsmooth.program.exponentials import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from jaxsmooth.program.graph import trace
from jaxsmooth.program.normal import normalise
from tests.rules.sampling import Box, analysed, check


def keys(f, *shapes):
    graph, _ = trace(f, [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes])
    return [e.primitive for e in normalise(graph, {}, graph.inputs).equations]


def shifted(x):
    z = x - x[:, :1]
    return jnp.exp(z) / jnp.sum(jnp.exp(z), 1, keepdims=True)


def heads_moved(x):
    scores = jnp.einsum("bqhd,bkhd->bhqk", x[None], x[None])
    return jax.vmap(lambda s: jax.nn.softmax(s, -1), in_axes=1, out_axes=2)(scores)


SAME = {
    "softmax": (jax.nn.softmax, SOFTMAX),
    "along two axes": (lambda x: jax.nn.softmax(x, (0, 1)), SOFTMAX),
    "shifted by an entry": (shifted, SOFTMAX),
    "vmapped": (jax.vmap(jax.nn.softmax), SOFTMAX),
    "vmapped over the last axis": (jax.vmap(jax.nn.softmax, in_axes=1, out_axes=1), SOFTMAX),
    "divided as columns": (lambda x: (jnp.exp(x).T / jnp.exp(x).sum(1)).T, None),
    "log_softmax": (jax.nn.log_softmax, LOG_SOFTMAX),
    "log_softmax vmapped": (jax.vmap(jax.nn.log_softmax, in_axes=1), LOG_SOFTMAX),
    "x - logsumexp": (lambda x: x - jax.nn.logsumexp(x, 1, keepdims=True), LOG_SOFTMAX),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, 1), LOGSUMEXP),
    "logsumexp vmapped": (jax.vmap(jax.nn.logsumexp, in_axes=1), LOGSUMEXP),
    "by hand": (lambda x: jnp.log(jnp.exp(x - x.max()).sum()) + x.max(), LOGSUMEXP),
}


@pytest.mark.parametrize("name", SAME)
def test_recognised(name):
    f, key = SAME[name]
    check(f, Box((3, 4), -2.0, 1.0), points=20)
    if key is not None:
        found = keys(f, (3, 4))
        assert key in found
        assert "exp" not in [primitive.name for primitive in found]


@pytest.mark.parametrize("f", [jax.nn.softmax, jax.nn.log_softmax])
def test_one_entry(f):
    """Nothing reads its largest entry, so that no accuracy, however large, overflows."""
    f_eps = smooth(lambda x: f(f(jax.nn.relu(x))), 1e-3, box(-1.0, 1.0))
    x = jnp.linspace(-1.0, 1.0, 7)[:, None]
    np.testing.assert_allclose(f_eps(x), f(x), atol=1e-3)
    assert not any("stop_gradient" in a for a in f_eps.certificate(x).assumptions)


def test_attention_in_any_layout_has_no_site():
    assert not analysed(heads_moved, Box((3, 2, 2))).sites
    f = lambda x: jax.nn.dot_product_attention(x, x, x)  # noqa: E731
    assert not analysed(f, Box((1, 3, 2, 2))).sites


DIFFERENT = {
    "other sums": lambda x: jnp.exp(x) / jnp.exp(x).sum(0),
    "other exponents": lambda x: jnp.exp(2 * x) / jnp.exp(x).sum(1, keepdims=True),
    "a shift along the axis": lambda x: jnp.exp(x) / jnp.exp(x - x[:1] * x).sum(1, keepdims=True),
    "a shift not added back": lambda x: jnp.log(jnp.exp(x - x.max()).sum(1)) + x[:, 0],
    "sums of another row": lambda x: x - jnp.log(jnp.exp(x[::-1]).sum(1, keepdims=True)),
    "entries of another row": lambda x: jax.nn.logsumexp(x, 1) - x[::-1, 0],
    "square, transposed": lambda x: x[:, :3] - jnp.log(jnp.exp(x[:, :3]).sum(1)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_only_resembles_them(name):
    check(DIFFERENT[name], Box((3, 4), -1.5, 1.0), points=60)
