"""Which matrices are known to be symmetric, and which of their terms to be positive."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import ball
from jaxsmooth.analysis.prepare import prepare
from jaxsmooth.math.distances import excess
from jaxsmooth.program.factors import CHOLESKY

POINTS = np.random.default_rng(0).normal(size=(4, 2))
KNOWN = np.sum((POINTS[:, None] - POINTS) ** 2, -1)
LINE = np.linspace(0.0, 1.0, 4)


def told(f, *shapes):
    """(symmetric, number of terms that are added, kernels) of the matrix that f factorises."""
    structs = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    prepared = prepare(
        lambda *args: jnp.linalg.cholesky(f(*args)), tuple(ball(1.0) for _ in shapes), structs,
        None, "auto", "l2",
    )  # fmt: skip
    (found,) = [e for e in prepared.problem.normal.equations if e.primitive is CHOLESKY]
    terms = found.params.get("terms")
    return found.params["symmetric"], None if terms is None else (terms[1], len(terms[2]))


def distances(x):
    return jnp.sum((x[:, None] - x[None]) ** 2, -1)


EYE = jnp.eye(4)
SQUARE, NUMBER, POINT = (4, 4), (), (4, 2)
POSITIVE = {
    "x xᵀ": (lambda x: x @ x.T + EYE, (POINT,), (1, 0)),
    "xᵀ x": (lambda x: x.T @ x + EYE, ((3, 4),), (1, 0)),
    "transposed": (lambda x: (x @ x.T + EYE).T, (POINT,), (1, 0)),
    "einsum": (lambda x: jnp.einsum("ki,kj->ij", x, x) / 3 + EYE, ((3, 4),), (1, 0)),
    "h hᵀ of relus": (lambda x: (lambda h: h @ h.T)(jax.nn.relu(x)) + EYE, (POINT,), (1, 0)),
    "outer": (lambda x: EYE + 2 * jnp.outer(x, x), ((4,),), (1, 0)),
    "a number times": (lambda x, s: jnp.exp(s) * (x @ x.T) + EYE, (POINT, NUMBER), (1, 0)),
    "noise": (lambda x, s: x @ x.T + jnp.exp(s) * EYE, (POINT, NUMBER), (1, 0)),
    "diagonal": (lambda x, d: x @ x.T + jnp.diag(1 + d**2), (POINT, (4,)), (1, 0)),
    "product": (lambda x: jnp.exp(-distances(x)) * (x @ x.T) + EYE, (POINT,), (1, 0)),
    "kernel": (lambda x: jnp.exp(-0.5 * distances(x)) + EYE, (POINT,), (1, 0)),
    "kernel of a length": (lambda x, s: jnp.exp(-distances(x / jnp.exp(s)) / 2) + EYE,
                           (POINT, NUMBER), (1, 0)),
    "kernel on a line": (lambda x: jnp.exp(-(x[:, None] - x[None]) ** 2) + EYE, ((4,),), (1, 0)),
    "expanded kernel": (lambda x: jnp.exp(x @ x.T - jnp.sum(x**2, 1)[:, None] / 2
                                          - jnp.sum(x**2, 1) / 2) + EYE, (POINT,), None),
    "kernel of known points": (lambda s: jnp.exp(-KNOWN / jnp.exp(s)) + EYE, (NUMBER,), (1, 1)),
    "scaled": (lambda s: jnp.exp(s) * jnp.exp(-0.5 * KNOWN / jnp.exp(s)) + EYE, (NUMBER,), (1, 1)),
    "two kernels": (lambda s: jnp.exp(-KNOWN * jnp.exp(s)) + jnp.exp(-KNOWN / 3 * s**2) + EYE,
                    (NUMBER,), (1, 2)),
    "a sum of all ones": (lambda x, s: x @ x.T + s**2 + EYE, (POINT, NUMBER), (1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", POSITIVE)
def test_positive_terms(name):
    f, shapes, terms = POSITIVE[name]
    assert told(f, *shapes) == (True, terms)


NOT = {
    "two factors": (lambda x, y: x @ y.T + EYE, (POINT, POINT)),
    "minus": (lambda x: EYE - x @ x.T, (POINT,)),
    "a number of any sign": (lambda x, s: s * (x @ x.T) + EYE, (POINT, NUMBER)),
    "a kernel with the other sign": (lambda x: jnp.exp(0.5 * distances(x)) + EYE, (POINT,)),
    "known distances with the other sign": (lambda s: jnp.exp(KNOWN * s**2) + EYE, (NUMBER,)),
    "no distances": (lambda s: jnp.exp(-jnp.asarray(KNOWN > 1, jnp.float32) * s) + EYE, (NUMBER,)),
    "distances of other points": (
        lambda x, y: jnp.exp(-jnp.sum((x[:, None] - y[None]) ** 2, -1)) + EYE, (POINT, POINT)),
    # Each relu is smoothed on its own.
    "kinks that are computed twice": (
        lambda x: jax.nn.relu(x) @ jax.nn.relu(x).T + EYE, (POINT,)),
    "kinks": (lambda x, s: jnp.abs(s) * (x @ x.T) + EYE, (POINT, NUMBER)),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT)
def test_what_is_not_positive(name):
    f, shapes = NOT[name]
    assert told(f, *shapes)[1] is None


def test_symmetric_matrices():
    symmetric = {
        "sum": lambda a: a + a.T,
        "elementwise": lambda a: jnp.tanh(a + a.T) * 0.1 + jnp.cos(a - a.T),
        "distances": distances,
        "product": lambda a: a.T @ a,
    }
    for name, f in symmetric.items():
        # What is symmetrised is the matrix itself.
        assert told(lambda a, f=f: 5 * EYE + f(a), SQUARE)[0], name


def test_known_distances():
    """The excess is at least the largest eigenvalue of JDJ."""
    assert excess(KNOWN) < 1e-6
    single = np.asarray(np.float32(KNOWN), np.float64)
    assert 0 < excess(single) < 1e-5
    broken = KNOWN.copy()
    broken[0, 1] = broken[1, 0] = 50.0
    projection = np.eye(4) - 0.25
    largest = np.linalg.eigvalsh(projection @ broken @ projection)[-1]
    assert largest <= excess(broken) <= largest * 1.001 + 1e-6
    assert excess(KNOWN + EYE) is None
    assert excess(np.triu(KNOWN)) is None
    assert excess(-KNOWN) is None
