"""Matrix products and convolutions behind kinks: ranges, and norms kept between analyses."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxsmooth import analyze, anything, box, fixed, smooth

SIZES = (7, 9, 8, 6, 5)


def network(weights, x):
    for w in weights[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ weights[-1]


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    return [rng.normal(size=s) for s in itertools.pairwise(SIZES)]


def interval_arithmetic(weights, lo, hi):
    for i, w in enumerate(weights):
        if i:
            lo, hi = np.maximum(lo, 0), np.maximum(hi, 0)
        middle, half = (lo + hi) / 2 @ w, (hi - lo) / 2 @ np.abs(w)
        lo, hi = middle - half, middle + half
    return lo, hi


@pytest.mark.parametrize("radius", [0.1, 1.0, 10.0])
def test_range_is_never_wider_than_interval_arithmetic(weights, radius):
    """Behind a relu the center of the ball is not the midpoint of the interval."""
    with jax.enable_x64(True):
        x = np.random.default_rng(1).normal(size=SIZES[0])
        found = analyze(network, (fixed(weights), box(x - radius, x + radius)))(weights, x)
    lo, hi = interval_arithmetic(weights, x - radius, x + radius)
    assert np.all(found.range[0] >= lo - 1e-9)
    assert np.all(found.range[1] <= hi + 1e-9)


def test_range_with_one_unbounded_side(weights):
    w = np.abs(weights[0])
    lo = np.zeros(SIZES[0])
    with jax.enable_x64(True):
        found = analyze(lambda x: x @ w - 1.0, (box(lo, np.inf),))(lo)
    assert np.all(found.range[0] <= -1.0)
    assert np.all(np.isposinf(found.range[1]))


def test_convolution_range_is_never_wider_than_interval_arithmetic():
    rng = np.random.default_rng(2)
    kernels = [rng.normal(size=(2, 1, 3, 3)), rng.normal(size=(1, 2, 3, 3))]
    x = rng.normal(size=(1, 1, 5, 5))

    def convolve(x, k):
        return lax.conv_general_dilated(x, k, (1, 1), "SAME")

    def f(kernels, x):
        return convolve(jax.nn.relu(convolve(x, kernels[0])), kernels[1])

    with jax.enable_x64(True):
        found = analyze(f, (fixed(kernels), box(x - 1, x + 1)))(kernels, x)
        lo, hi = x - 1, x + 1
        for i, k in enumerate(map(jnp.asarray, kernels)):
            if i:
                lo, hi = np.maximum(lo, 0), np.maximum(hi, 0)
            middle, half = convolve((lo + hi) / 2, k), convolve((hi - lo) / 2, abs(k))
            lo, hi = np.asarray(middle - half), np.asarray(middle + half)
    assert np.all(found.range[0] >= lo - 1e-9)
    assert np.all(found.range[1] <= hi + 1e-9)


def test_norms_follow_the_weights(weights):
    """Norms are kept for the next analysis of the same weights, and of those only."""
    x = np.zeros(SIZES[0])
    with jax.enable_x64(True):
        for factor in (1.0, 3.0, 1.0):
            scaled = [factor * w for w in weights]
            f_eps = smooth(network, 0.1, (fixed(scaled), anything()))
            norms = [np.linalg.norm(w, 2) for w in scaled]
            assert f_eps.certificate(scaled, x).lipschitz == pytest.approx(np.prod(norms), rel=1e-6)
        swapped = [w.T for w in weights[::-1]]
        f_eps = smooth(network, 0.1, (fixed(swapped), anything()))
        found = f_eps.certificate(swapped, np.zeros(SIZES[-1])).lipschitz
    assert found == pytest.approx(np.prod([np.linalg.norm(w, 2) for w in weights]), rel=1e-6)
