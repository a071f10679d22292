"""Infinities and NaN among the constants of a program: masks, missing data, empty segments."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import CertificationError, DiscontinuityError, analyze, box, smooth


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


MASK = np.array([True, False, True])
INFINITE = np.array([1.0, np.inf, -np.inf])
MISSING = np.array([1.0, np.inf, np.nan])
PLACES = np.array([0, 1, 7])  # the last one is out of range


def masked(x, value):
    return jnp.where(MASK, x, value)


def segments(x):
    """The largest entries of three segments, of which one is empty."""
    return jax.ops.segment_max(x, np.array([0, 0, 2]), 3)


SUPPORTED = {
    "isinf": lambda x: jnp.where(jnp.isinf(segments(x)), 7.0, segments(x)),
    "isfinite": lambda x: jnp.where(jnp.isfinite(segments(x)), segments(x), 7.0),
    "equal to -inf": lambda x: jnp.tanh(jnp.where(segments(x) == -jnp.inf, 7.0, segments(x))),
    "nan_to_num": lambda x: jnp.tanh(jnp.nan_to_num(segments(x), neginf=7.0)),
    "maximum where": lambda x: jnp.max(x, where=MASK, initial=-jnp.inf)[None],
    "relu": lambda x: jax.nn.relu(masked(x - 1.5, -jnp.inf)),
    "softmax": lambda x: jax.nn.softmax(masked(x, -jnp.inf)),
    "softmax of a sum": lambda x: jax.nn.softmax(x + np.where(MASK, 0.0, -np.inf)),
    "logsumexp": lambda x: jax.nn.logsumexp(masked(x, -jnp.inf))[None],
    "top_k": lambda x: jax.lax.top_k(masked(x, -jnp.inf), 2)[0],
    "sort": lambda x: jnp.tanh(jnp.sort(masked(x, jnp.inf))),
    "running maximum": lambda x: jax.lax.cummax(masked(x, -jnp.inf)),
    "isfinite of a sum": lambda x: jnp.where(jnp.isfinite(x + INFINITE), x, 3 * x),
    "exp": lambda x: jnp.exp(masked(x, -jnp.inf) - jnp.sum(x)),
    "exp decides": lambda x: jnp.where(jnp.exp(masked(x, -jnp.inf)) > 0.5, x, 3 * x),
    "tanh of a sum": lambda x: jnp.tanh(x + INFINITE) * x,
    "sums that are certain": lambda x: jnp.where(x + INFINITE > 4.0, 7.0, x),
    "clip": lambda x: jnp.clip(x + INFINITE, -5.0, 1.5),
    "in a loop": lambda x: jax.lax.scan(
        lambda c, t: (jnp.maximum(c, t), jnp.where(jnp.isfinite(c), c, 7.0)), -jnp.inf, x
    )[1],
    "fill": lambda x: x.at[PLACES].get(mode="fill", fill_value=7.0),
}  # fmt: skip


@pytest.mark.parametrize("f", SUPPORTED.values(), ids=SUPPORTED.keys())
def test_infinities_are_carried(f):
    """Ranges, slopes and errors hold where entries are infinite on the way."""
    eps, smoothed = 0.1, smooth(f, 0.1, box(1.0, 2.0))
    x = jnp.array([1.2, 1.5, 1.7])
    lo, hi = jax.tree.leaves(analyze(f, box(1.0, 2.0))(x).range)
    certificate = smoothed.certificate(x)
    assert np.isfinite([certificate.lipschitz, certificate.smoothness]).all()
    for point in jax.random.uniform(jax.random.key(0), (20, 3), minval=1.0, maxval=2.0):
        value, found = f(point), smoothed(point)
        assert np.all((lo - 1e-12 <= value) & (value <= hi + 1e-12))
        assert np.linalg.norm(found - value) <= eps
        slope = np.linalg.norm(jax.jacobian(smoothed)(point), 2)
        assert slope <= certificate.lipschitz * (1 + 1e-12)


JUMPING = {
    "isfinite of a product": lambda x: jnp.where(jnp.isfinite(x * INFINITE), x, 3 * x),
    "isfinite of a sum that cancels": lambda x: jnp.where(
        jnp.isfinite((x + INFINITE) + jnp.flip(x + INFINITE)), x, 3 * x
    ),
    "sin": lambda x: jnp.where(jnp.isnan(jnp.sin(x + INFINITE)), 3 * x, x),
    "isnan of a difference": lambda x: jnp.where(
        jnp.isnan((x - INFINITE) + INFINITE), 3 * x, x
    ),
    "isnan of a product": lambda x: jnp.where(jnp.isnan(x * MISSING), 3 * x, x),
    "nanmean": lambda x: jnp.nanmean(masked(x, jnp.nan)),
    "nanmax": lambda x: jnp.nanmax(masked(x, jnp.nan)),
    "out of range": lambda x: jnp.where(jnp.isnan(jnp.take(x, PLACES)), 3 * x, x),
    "one out of range": lambda x: jnp.where(jnp.isnan(jnp.take(x, 7)), 3 * x, x),
}  # fmt: skip


@pytest.mark.parametrize("f", JUMPING.values(), ids=JUMPING.keys())
def test_what_may_be_no_number_decides_nothing(f):
    with pytest.raises((DiscontinuityError, CertificationError)):
        smooth(f, 0.1, box(1.0, 2.0)).certificate(jnp.ones(3))


OVERFLOWING = {
    "isfinite": lambda x: jnp.where(jnp.isfinite(x * jnp.flip(x)), x, 3 * x),
    "isinf": lambda x: jnp.where(jnp.isinf(x * jnp.flip(x)), 3 * x, x),
    "isinf of a shorter float": lambda x: jnp.where(
        jnp.isinf((x * jnp.flip(x)).astype(jnp.float16)), 3 * x, x
    ),
    "isnan": lambda x: jnp.where(jnp.isnan(x * jnp.flip(x) - x * x), 3 * x, x),
    "a bound": lambda x: jnp.where(x * jnp.flip(x) == jnp.inf, 3 * x, x),
    "of one variable": lambda x: jnp.where(jnp.isfinite(jnp.exp(x)), x, 3 * x),
    "a power of powers": lambda x: jnp.where(
        jnp.isfinite((1 + x**2) ** (1 + jnp.flip(x) ** 2)), x, 3 * x
    ),
}


@pytest.mark.parametrize("f", OVERFLOWING.values(), ids=OVERFLOWING.keys())
def test_what_may_leave_its_type_decides_nothing(f):
    """Floating point makes it infinite, and f jumps there."""
    x = jnp.ones(3, jnp.float32)
    assert smooth(f, 0.1, box(-1.0, 1.0)).certificate(x).lipschitz <= 1 + 1e-9
    with pytest.raises(DiscontinuityError):
        smooth(f, 0.1, box(-1e25, 1e25)).certificate(x)


def test_fill_at_unknown_places():
    """What stands for entries out of range counts, wherever they may be."""

    def f(x, places):
        return x.at[places].get(mode="fill", fill_value=7.0)

    bounds = box(1.0, 2.0), box(0, 9)
    lo, hi = analyze(f, bounds, argnums=0)(jnp.ones(3), jnp.zeros(2, int)).range
    assert np.max(lo) <= 1
    assert np.min(hi) >= 7
