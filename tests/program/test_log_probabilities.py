"""Logarithms of softmax: entries that are picked, fractions, weighed sums, and layouts of them."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsmooth import analyze, anything, ball, box, smooth
from jaxsmooth.program.log_probabilities import CROSS_ENTROPY, EXPECTATION, LOG_PROBABILITY
from tests.program.layouts import rearranged
from tests.program.test_exponentials import keys
from tests.rules.sampling import Ball, Box, analysed, check, close

LABELS = np.array([0, 3, 1], np.int32)
ROWS = np.arange(3, dtype=np.int32)
COLUMNS = np.arange(4, dtype=np.int32)
ONE_HOT = np.eye(4)[LABELS]

SINGLE = {
    "one entry": lambda x: jax.nn.logsumexp(x, 1) - x[:, 2],
    "integer labels": lambda x: (
        jax.nn.logsumexp(x, 1) - jnp.take_along_axis(x, LABELS[:, None], 1)[:, 0]
    ),
    "counted rows": lambda x: jax.nn.logsumexp(x, 1) - x[ROWS, LABELS],
    "vmapped": jax.vmap(lambda x: jax.nn.logsumexp(x) - x[1]),
    "kept axes": lambda x: jax.nn.logsumexp(x, 1, keepdims=True) - x[:, 1:2],
    "of log_softmax": lambda x: jax.nn.log_softmax(x)[ROWS, LABELS],
    "of log_softmax, columns": lambda x: jax.nn.log_softmax(x, 0)[COLUMNS % 3, COLUMNS],
    "of log_softmax, along": lambda x: jnp.take_along_axis(
        jax.nn.log_softmax(x), LABELS[:, None], 1
    ),
    "of log_softmax, vmapped": lambda x: jax.vmap(lambda r, i: jax.nn.log_softmax(r)[i])(x, LABELS),
    "of log_softmax, a slice": lambda x: jax.nn.log_softmax(x)[:, 1],
    "of a fraction": lambda x: jnp.log(jax.nn.softmax(x)[ROWS, LABELS]),
    "of a fraction, along": lambda x: jnp.log(
        jnp.take_along_axis(jax.nn.softmax(x), LABELS[:, None], 1)
    ),
    "of a fraction, a slice": lambda x: -jnp.log(jax.nn.softmax(x, 1)[:, 1]),
    "of the logarithm of a fraction": lambda x: jnp.log(jax.nn.softmax(x))[ROWS, LABELS],
    "of a fraction, a slice of steps": lambda x: jnp.log(
        jax.lax.slice(jax.nn.softmax(x), (0, 1), (3, 2), (1, 1))
    ),
    "by hand": lambda x: jnp.log((jnp.exp(x) / jnp.exp(x).sum(1, keepdims=True))[:, 3]),
    "a sum": lambda x: jnp.sum(ONE_HOT * jax.nn.log_softmax(x), -1),
    "a sum of a fraction's": lambda x: jnp.sum(-ONE_HOT * jnp.log(jax.nn.softmax(x)), -1),
    "a sum, negative": lambda x: jnp.sum(-(jax.nn.log_softmax(x) * ONE_HOT), -1),
    "optax, one-hot": lambda x: optax.softmax_cross_entropy(x, ONE_HOT),
    "optax, integers": lambda x: optax.softmax_cross_entropy_with_integer_labels(x, LABELS),
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_entry_of_every_slice(name):
    """The gradient is softmax minus a unit vector: √2, not 2, nor √n of the whole."""
    found = check(SINGLE[name], Ball((3, 4), 60.0), points=60)
    assert close(found.lipschitz, 2**0.5)
    assert close(found.smoothness, 0.5)


SEVERAL = {
    "of one slice": (lambda x: jax.nn.logsumexp(x) - x[1:], (4,)),
    "of one slice, spread": (
        lambda x: jnp.broadcast_to(jax.nn.logsumexp(x)[None], 3) - x[1:], (4,),
    ),
    "of the only row": (lambda x: jax.nn.logsumexp(x, 1) - x[ROWS * 0, LABELS], (1, 4)),
    "one repeated": (lambda x: jnp.broadcast_to(jax.nn.log_softmax(x)[1], 3), (4,)),
    "of the same row": (lambda x: jax.nn.logsumexp(x, 1) - x[LABELS[1:] // 3, ROWS[:2]], (2, 2)),
    "of log_softmax": (lambda x: jax.nn.log_softmax(x)[1:], (4,)),
    "of log_softmax, repeated rows": (
        lambda x: jax.nn.log_softmax(x)[LABELS // 2, ROWS], (3, 4),
    ),
    "of a fraction": (lambda x: jnp.log(jax.nn.softmax(x)[1:]), (4,)),
    "of a fraction, repeated rows": (
        lambda x: jnp.log(jax.nn.softmax(x)[LABELS // 2, ROWS]), (3, 4),
    ),
    "of a fraction, spread": (
        lambda x: jnp.log(jnp.broadcast_to(jax.nn.softmax(x)[:, None], (2, 3, 4))), (2, 4),
    ),
    "other rows than those counted": (
        lambda x: jax.nn.logsumexp(x, 1) - x[ROWS[::-1], LABELS], (3, 4),
    ),
    "along the other axis": (lambda x: jax.nn.log_softmax(x, 0)[ROWS, LABELS], (3, 4)),
    "the diagonal": (lambda x: jax.nn.log_softmax(x)[ROWS, ROWS], (3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_several_entries(name):
    f, shape = SEVERAL[name]
    found = check(f, Ball(shape, 60.0), points=60)
    # Where one entry is all of the probability, the gradients of all others meet.
    corners = 60 * np.eye(int(np.prod(shape)), dtype=np.float32).reshape(-1, *shape)
    slopes = jax.jit(jax.vmap(jax.jacobian(f)))(np.concatenate([corners, -corners]))
    slopes = slopes.reshape(len(slopes), -1, len(corners))
    assert np.linalg.norm(slopes, 2, (1, 2)).max() <= found.lipschitz * (1 + 1e-5)


FORMS = {
    CROSS_ENTROPY: lambda x: jax.nn.logsumexp(x, 1) - x[ROWS, LABELS],
    LOG_PROBABILITY: lambda x: jnp.log(jax.nn.softmax(x)),
    EXPECTATION: lambda x: jnp.sum(ONE_HOT * jax.nn.log_softmax(x)),
}


@pytest.mark.parametrize("key", FORMS)
def test_forms(key):
    assert key in keys(FORMS[key], (3, 4))


def test_unknown_labels():
    x, label = np.zeros((3, 4), np.float32), np.zeros(3, np.int32)

    def picked(x, label):
        return jnp.sum(jax.nn.logsumexp(x, 1) - jnp.take_along_axis(x, label[:, None], 1)[:, 0])

    def counted(x, label):
        return -jnp.sum(jax.nn.log_softmax(x)[jnp.arange(3), label])

    def one_hot(x, label):
        return optax.softmax_cross_entropy(x, jax.nn.one_hot(label, 4)).sum()

    for f in (picked, counted, one_hot):
        found = analyze(f, (ball(60.0), anything()))(x, label)
        assert close(found.lipschitz, 6**0.5, 1e-6)
        assert close(found.smoothness, 0.5, 1e-6)


def test_what_only_resembles_one_hot():
    """Two classes of one number: the rows of the weights hold two ones."""

    def f(x, label):
        weights = (label[:, None] == np.array([0, 1, 1, 2])).astype(x.dtype)
        return jnp.sum(weights * jax.nn.log_softmax(x), 1)

    label = np.ones(3, np.int32)
    found = analyze(f, (ball(60.0), anything()))(np.zeros((3, 4), np.float32), label)
    # Of y = (0, 1, 1, 0): y - 2 p at the vertex (1, 0, 0, 0).
    assert found.lipschitz >= 6**0.5


WEIGHTS = np.array([[0.5, 0.0, -1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])


def test_weighed_sums_are_attained():
    f = lambda x: jnp.sum(WEIGHTS[0] * jax.nn.log_softmax(x))  # noqa: E731
    found = check(f, Ball((4,), 80.0), points=60)
    # max_k ‖y - s e_k‖ with s = 1.5, at k = 2.
    assert close(found.lipschitz, (0.5**2 + 2.5**2 + 2.0**2) ** 0.5)
    assert close(found.smoothness, 0.75)
    for axes in ((0,), (1,), (0, 1)):
        rows = lambda x, axes=axes: jnp.sum(  # noqa: E731
            jnp.asarray(WEIGHTS) * jax.nn.log_softmax(x, axes), axes
        )
        check(rows, Box((3, 4), -3.0, 1.0), points=60)
        check(rows, Box((3, 4), -0.1, 0.1), points=60)


def test_sums_of_few_likely_entries():
    """Where softmax is known to be near its vertex, so is the gradient to zero."""
    f = lambda x: jnp.sum(np.array([1.0, 0.0]) * jax.nn.log_softmax(x))  # noqa: E731
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((2,), jnp.float64)
        found = analyze(f, box(np.array([4.0, -1.0]), np.array([5.0, 0.0])))(x)
    assert found.lipschitz < 0.03


def test_fractions_have_derivatives_where_they_are_zero():
    """Probabilities that are 0 in their type: what is evaluated is log_softmax."""
    forms = [
        lambda x: jnp.log(jax.nn.softmax(x)),
        lambda x: jnp.log(jax.nn.softmax(x)[1]),
        lambda x: jnp.sum(np.array([0.0, 1.0, 0.0]) * jnp.log(jax.nn.softmax(x))),
        lambda x: jnp.sum(jax.nn.softmax(x) * jnp.log(jax.nn.softmax(x))),
        lambda x: jnp.log(jnp.where(MASK, jnp.log(jax.nn.softmax(x)), -1.0) ** 2 + 1.0),
    ]
    with jax.enable_x64(True):
        for f, dtype in zip(forms, itertools.cycle([jnp.float32, jnp.float64]), strict=False):
            x = jnp.array([900.0, -900.0, 0.0], dtype)
            smoothed = smooth(f, 1e-3, box(-1000.0, 1000.0))
            certificate = smoothed.certificate(x)
            wanted = smoothed, jax.jacrev(smoothed), jax.jacfwd(smoothed), jax.hessian(smoothed)
            found = jax.jit(lambda x, wanted=wanted: [compute(x) for compute in wanted])(x)
            assert all(np.all(np.isfinite(values)) for values in found)
            for jacobian in found[1:3]:
                steep = np.linalg.norm(jacobian.reshape(-1, 3), 2)
                assert steep <= certificate.lipschitz * (1 + 1e-5)


MASK = np.array([True, False, True])


def test_masked_fractions_have_derivatives():
    """JAX's reverse mode finds 0·∞ in the program itself."""
    f = lambda x: jnp.log(jax.nn.softmax(jnp.where(MASK, x, -jnp.inf)))[np.array([0, 2])]  # noqa: E731
    with jax.enable_x64(True):
        smoothed, x = smooth(f, 1e-3, box(-3.0, 3.0)), jnp.array([1.0, -2.0, 0.3])
        np.testing.assert_allclose(smoothed(x), f(x), atol=1e-12)
        for jacobian in (jax.jacrev, jax.jacfwd):
            np.testing.assert_allclose(jacobian(smoothed)(x), jax.jacfwd(f)(x), atol=1e-12)


def test_weighed_fractions():
    """Weights within the sum: nothing is evaluated otherwise, and the bounds hold."""
    forms = [
        lambda x: jnp.log(jax.nn.softmax(x, where=MASK) + (1 - MASK)),
        lambda x: jnp.where(
            MASK, jnp.log(jnp.where(MASK, jax.nn.softmax(x, where=MASK), 1.0)), 0.0
        ),
    ]
    for f in forms:
        check(f, Box((3,), -2.0, 2.0), points=60)


ENTROPIES = {
    "entropy": lambda x: -jnp.sum(jax.nn.softmax(x) * jnp.log(jax.nn.softmax(x)), -1),
    "entropy, stable": lambda x: -jnp.sum(jax.nn.softmax(x) * jax.nn.log_softmax(x), -1),
    "negative, first": lambda x: jnp.sum(jax.nn.log_softmax(x) * -jax.nn.softmax(x), -1),
    "from uniform": lambda x: jnp.sum(
        jax.nn.softmax(x) * (jax.nn.log_softmax(x) - np.log(0.25)), -1
    ),
    "with a floor": lambda x: jnp.sum(
        jax.nn.relu(jax.nn.softmax(x) - 0.01) * jax.nn.log_softmax(x), -1
    ),
    "with other slices": lambda x: jnp.sum(jax.nn.softmax(x) * jax.nn.log_softmax(x, 0)),
}


@pytest.mark.parametrize("name", ENTROPIES)
def test_entropies(name):
    for width in (0.5, 8.0):
        check(ENTROPIES[name], Box((3, 4), -width, width), points=60, smooth="floor" not in name)


def test_entropies_of_what_is_nearly_certain():
    """One function of log p: derivatives of log(p) by p, which are not bounded, cancel."""
    found = analysed(ENTROPIES["entropy"], Box((4,), -60.0, 60.0))
    assert found.lipschitz < 5
    assert found.smoothness < 12
    smoothed = smooth(ENTROPIES["with a floor"], 0.1, box(-8.0, 8.0))
    x = jnp.array([-8.0, 8.0, 3.0, 7.5])
    np.testing.assert_allclose(smoothed(x), ENTROPIES["with a floor"](x), atol=0.1)


@pytest.mark.parametrize("seed", range(8))
def test_layouts(seed):
    """Softmax and its kin between random picks, spreads and moves, with the same operand."""
    with jax.enable_x64(True):
        f, shape = rearranged(seed)
        width = (0.5, 3.0, 40.0)[seed % 3]
        check(f, Box(shape, -width, width), points=60)


FILLED = {
    "known": lambda x, i: jax.nn.logsumexp(x) - x.at[5].get(mode="fill", fill_value=0.0),
    "unknown": lambda x, i: jnp.log(jax.nn.softmax(x).at[i[0]].get(mode="fill", fill_value=1.0)),
    "along": lambda x, i: (
        jax.nn.logsumexp(x) - jnp.take_along_axis(x, np.array([5]), 0, mode="fill", fill_value=0.0)
    ),
    "along, batched": lambda x, i: jax.vmap(
        lambda x, i: jax.nn.logsumexp(x) - jnp.take_along_axis(x, i, 0, mode="fill", fill_value=0.0)
    )(jnp.stack([x, x + 1]), i[:2, None]),
}


@pytest.mark.parametrize("name", FILLED)
def test_entries_that_numbers_stand_for(name):
    """A number that fills the place of an entry does not move with the others."""
    f, where = FILLED[name], box(5.0, 6.0)
    f_eps = smooth(f, 0.1, (where, anything()))
    x, index = jnp.array([5.0, 5.5, 6.0]), jnp.array([7, 1, 5])
    certificate = f_eps.certificate(x, index)
    assert np.linalg.norm(f_eps(x, index) - f(x, index)) <= 1e-6
    assert np.linalg.norm(f(x, index)) <= certificate.bound * (1 + 1e-6)
    slope = np.atleast_2d(jax.jacobian(f)(x, index))
    slope = slope.reshape(-1, 3)
    assert np.linalg.norm(slope, 2) <= certificate.lipschitz * (1 + 1e-6)


def test_known_places_in_range_are_not_filled():
    f = lambda x: jax.nn.logsumexp(x) - x.at[2].get(mode="fill", fill_value=0.0)  # noqa: E731
    assert close(analysed(f, Ball((3,), 60.0)).lipschitz, 2**0.5)
