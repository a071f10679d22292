"""Gathering, slicing and scattering, at known and at unknown indices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import analyze, anything, smooth
from tests.rules.sampling import Ball, Box, check, close

INDEX = np.array([0, 2, 2, 1, 2])
EDGES = lax.ScatterDimensionNumbers((), (0,), (0,))

KNOWN = {
    "set": (lambda x, u: x.at[np.array([3, 0])].set(u[:2]), 1.0),
    "set rows": (lambda x, u: x.reshape(2, 2).at[1].set(u[:2]), 1.0),
    "set out of range": (lambda x, u: x.at[np.array([9, 0])].set(u[:2], mode="drop"), 1.0),
    "add with repeats": (lambda x, u: x.at[INDEX[:3]].add(u), (1 + 2) ** 0.5),
    "add once": (lambda x, u: x.at[np.array([1, 2, 0])].add(u), 2**0.5),
    "add to constants": (lambda x, u: jnp.ones(4).at[INDEX[:3]].add(u) + 0 * x, 2**0.5),
    "segment sum": (lambda x, u: jax.ops.segment_sum(u, np.array([1, 1, 1]), 2), 3**0.5),
    "update slice": (lambda x, u: lax.dynamic_update_slice(x, u, (1,)), 1.0),
    "subtract": (lambda x, u: x.at[1].subtract(u[0]), 2**0.5),
    "gather of a pair": (lambda x, u: x.reshape(2, 2)[np.array([0, 1]), np.array([1, 1])], 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_indices(name):
    f, norm = KNOWN[name]
    found = check(f, Ball((4,)), Ball((3,)))
    # The norms of the two operands' parts need not be attained together.
    assert norm * (1 - 1e-9) <= found.lipschitz <= norm * 2**0.5 * (1 + 1e-9)
    check(f, Box((4,), -0.5, 2.0), Box((3,), 0.5, 0.7))


def test_norms_that_are_attained():
    found = check(lambda u: jax.ops.segment_sum(u, INDEX, 3), Ball((5,)))
    assert close(found.lipschitz, 3**0.5)
    assert close(found.bound, 3**0.5)
    found = check(lambda x, u: lax.dynamic_update_slice(x, u, (1,)), Ball((4,)), Ball((2,), 0.5))
    assert close(found.bound, 1.25**0.5)


def test_scaling_at_indices():
    check(
        lambda x, u: x.at[np.array([2, 0])].multiply(u, unique_indices=True),
        Ball((4,)),
        Box((2,), -1.0, 2.0),
    )
    check(lambda x: x.at[1].multiply(3.0), Ball((4,)))
    check(lambda x: x.at[1].divide(x[0] + 3), Ball((4,)))


def scatter_rows(x, i, u):
    return x.at[i].add(u)


# f(x, u, i), shape of i, largest index.
UNKNOWN = {
    "gather": (lambda x, u, i: x[i], (3,), 3),
    "gather pairs": (lambda x, u, i: x.reshape(2, 2)[i, i[::-1]], (2,), 1),
    "gather rows": (lambda x, u, i: x.reshape(2, 2)[i], (3,), 1),
    "slice": (lambda x, u, i: lax.dynamic_slice(x, (i,), (2,)), (), 2),
    "entry": (lambda x, u, i: x[i], (), 3),
    "slice of two": (lambda x, u, i: lax.dynamic_slice(x.reshape(2, 2), (i, i), (1, 1)), (), 1),
    "update slice": (lambda x, u, i: lax.dynamic_update_slice(x, u, (i,)), (), 1),
    "write constants": (lambda x, u, i: lax.dynamic_update_slice(x, np.ones(2), (i,)), (), 2),
    "set": (lambda x, u, i: x.at[i].set(u[0]), (), 3),
    "set two": (lambda x, u, i: x.at[jnp.array([0, 1]) + i].set(u[:2]), (), 2),
    "add": (lambda x, u, i: x.at[i].add(u), (3,), 3),
    "subtract": (lambda x, u, i: x.at[i].subtract(u), (3,), 3),
    "segment sum": (lambda x, u, i: jax.ops.segment_sum(x, i, 3), (4,), 2),
    "segment mean": (lambda x, u, i: jax.ops.segment_sum(x, i, 3)
                     / jnp.maximum(jax.ops.segment_sum(jnp.ones(4), i, 3), 1), (4,), 2),
    "messages": (lambda x, u, i: jax.ops.segment_sum(jnp.tanh(x[i] - x[i[::-1]]), i, 4), (5,), 3),
    "add rows": (lambda x, u, i: x.reshape(2, 2).at[i].add(u[None, :2]), (2,), 1),
    "one-hot": (lambda x, u, i: x * jax.nn.one_hot(i, 4), (), 3),
}  # fmt: skip


@pytest.mark.parametrize(
    "sets", [(Ball((4,)), Ball((3,))), (Box((4,), -0.2, 1.0), Box((3,), 0.5, 2.0))]
)
@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_indices(name, sets):
    f, shape, largest = UNKNOWN[name]
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        bounds = (*(s.declared for s in sets), anything())
        structs = [jax.ShapeDtypeStruct(s.shape, jnp.float64) for s in sets]
        index = jax.ShapeDtypeStruct(shape, jnp.int64)
        found = analyze(f, bounds)(*structs, index)
        slope = jax.jit(jax.jacfwd(f, (0, 1)))
        for _ in range(60):
            x, u = (s.sample(rng) for s in sets)
            i = rng.integers(0, largest, size=shape, endpoint=True)
            if rng.random() < 0.3:
                i = np.full(shape, i.reshape(-1)[0])
            y = np.asarray(f(jnp.asarray(x), jnp.asarray(u), jnp.asarray(i)))
            assert (y >= np.asarray(found.range[0]) - 1e-9).all()
            assert (y <= np.asarray(found.range[1]) + 1e-9).all()
            assert np.linalg.norm(y) <= found.bound * (1 + 1e-9)
            j = np.concatenate([np.asarray(a).reshape(y.size, -1) for a in slope(x, u, i)], 1)
            assert np.linalg.norm(j, 2) <= found.lipschitz * (1 + 1e-9)


def test_unknown_indices_smoothed():
    """A graph passed as an argument: certificate over all graphs."""

    def f(x, edges):
        return jax.ops.segment_sum(jax.nn.relu(x[edges[0]]), edges[1], 3)

    edges = jax.ShapeDtypeStruct((2, 5), np.int32)
    f_eps = smooth(f, 0.1, (jaxsmooth.ball(1.0), anything()))
    certificate = f_eps.certificate(jax.ShapeDtypeStruct((3,), np.float32), edges)
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, e = 0.01 * rng.normal(size=3), rng.integers(0, 3, (2, 5))
        assert np.linalg.norm(f_eps(x, e) - f(x, e)) <= certificate.error * (1 + 1e-5)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.at[jnp.argmax(x)].set(0.0),
        lambda x: x[(x * 3).astype(int)],
        lambda x: lax.dynamic_slice(x, (jnp.argmax(x),), (1,)),
    ],
)
def test_indices_that_vary(f):
    with pytest.raises(jaxsmooth.DiscontinuityError, match="jump"):
        analyze(f, jaxsmooth.ball(1.0))(np.zeros(4, np.float32))


def test_writing_twice():
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match="more than once"):
        analyze(lambda x: x.at[np.array([1, 1])].set(x[:2]), jaxsmooth.ball(1.0))(np.zeros(4))
