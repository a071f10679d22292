"""Sites of several values: sort, top_k, median, cummax, segment_max, GroupSort, maxout."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import analyze, smooth
from tests.rules.sampling import Ball, Box, analysed, check, close

SEGMENTS = np.array([0, 1, 1, 2, 1, 0])

SIX = {
    "sort": jnp.sort,
    "sort rows": lambda x: jnp.sort(x.reshape(2, 3), axis=1),
    "sort columns": lambda x: jnp.sort(x.reshape(2, 3), axis=0),
    "descending": lambda x: jnp.sort(x, descending=True),
    "top_k": lambda x: lax.top_k(x, 3)[0],
    "top_1": lambda x: lax.top_k(x.reshape(2, 3), 1)[0],
    "median": jnp.median,
    "median of odd": lambda x: jnp.median(x[:5]),
    "quantile": lambda x: jnp.quantile(x, 0.3),
    "group sort": lambda x: jnp.sort(x.reshape(3, 2), axis=1).reshape(-1),
    "maxout": lambda x: jnp.max(x.reshape(2, 3), axis=1),
    "cummax": lambda x: lax.cummax(x, axis=0),
    "cummin of columns": lambda x: lax.cummin(x.reshape(3, 2), axis=0, reverse=True),
    "segment max": lambda x: jax.ops.segment_max(x, SEGMENTS, 3),
    "segment min": lambda x: jax.ops.segment_min(x, SEGMENTS, 3),
    "segment max of rows": lambda x: jax.ops.segment_max(x.reshape(3, 2), np.array([1, 0, 1]), 2),
    "max at": lambda x: x.at[np.array([0, 2, 2])].max(x[3:]),
    "trimmed mean": lambda x: jnp.mean(jnp.sort(x)[1:-1]),
    "interquartile range": lambda x: jnp.quantile(x, 0.75) - jnp.quantile(x, 0.25),
}


@pytest.mark.parametrize("name", SIX)
def test_values_and_slopes(name):
    check(SIX[name], Ball((6,)), smooth=False)
    check(SIX[name], Box((6,), -0.7, 0.9), smooth=False)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [(n, "minimax") for n in SIX] + [(n, "c2") for n in ("sort", "cummax", "segment max")],
)
def test_smoothed(name, kernel):
    f, eps, s = SIX[name], 0.1, Box((6,), -0.7, 0.9)
    with jax.enable_x64(True):
        f_eps = smooth(f, eps, s.declared, kernel=kernel)
        certificate = f_eps.certificate(np.zeros(6))
        rng = np.random.default_rng(1)
        x = np.stack([s.sample(rng) for _ in range(60)])
        # Near ties of some of the values, where the curvature is.
        x[:30] = x[:30, :1] + 0.05 * rng.normal(size=(30, 6)) * (rng.random((30, 6)) < 0.7)
        x = np.clip(x, -0.7, 0.9)
        near = np.clip(x + 0.003 * rng.normal(size=x.shape), -0.7, 0.9)
        away = np.asarray(jax.vmap(f_eps)(x) - jax.vmap(f)(x)).reshape(60, -1)
        jacobian = jax.jit(jax.vmap(jax.jacfwd(f_eps)))
        a, b = (np.asarray(jacobian(y)).reshape(60, -1, 6) for y in (x, near))
    assert np.linalg.norm(away, axis=1).max() <= certificate.error + 1e-9 <= eps + 1e-8
    assert np.linalg.norm(a, 2, axis=(1, 2)).max() <= certificate.lipschitz + 1e-9
    secants = np.linalg.norm(b - a, 2, axis=(1, 2)) / np.linalg.norm(x - near, axis=1)
    assert secants.max() <= certificate.smoothness * (1 + 1e-6)


def test_sorting_is_an_isometry():
    assert close(analysed(jnp.sort, Ball((6,))).lipschitz, 1.0)
    assert close(analysed(jnp.sort, Ball((6,))).bound, 1.0)
    assert close(analysed(jnp.median, Ball((7,))).lipschitz, 1.0)


def test_group_sort_is_attained():
    """Pairs: error μ each, curvature √2/(8μ) in the direction of the difference."""
    f = SIX["group sort"]
    with jax.enable_x64(True):
        f_eps = smooth(f, 0.1, Ball((6,)).declared)
        certificate = f_eps.certificate(np.zeros(6))
        away = np.linalg.norm(f_eps(jnp.zeros(6)) - f(jnp.zeros(6)))
        hessian = np.asarray(jax.hessian(f_eps)(jnp.zeros(6)))
    assert away == pytest.approx(0.1, rel=1e-6)
    u = np.array([1, -1, 0, 0, 0, 0]) / 2**0.5
    found = np.linalg.norm(np.einsum("kij,i,j->k", hessian, u, u))
    (site,) = certificate.sites
    assert found == pytest.approx(2**0.5 / (8 * np.max(site.mu)), rel=1e-6)
    assert certificate.smoothness == pytest.approx(found, rel=1e-6)


def test_median_is_attained():
    """At a tie the error is what is certified, and the curvature within a small factor."""
    with jax.enable_x64(True):
        f_eps = smooth(lambda x: jnp.sort(x)[1], 0.1, Ball((3,)).declared)
        certificate = f_eps.certificate(np.zeros(3))
        x = jnp.array([[0.0, 0.0, 0.9], [0.0, 0.0, -0.9]])
        away = np.abs(jax.vmap(f_eps)(x))
        rng = np.random.default_rng(0)
        xs = 0.1 * rng.normal(size=(300, 3))
        bends = np.asarray(jax.vmap(jax.hessian(f_eps))(xs))
    assert away.max() == pytest.approx(certificate.error, rel=1e-6)
    found = np.linalg.norm(bends, 2, axis=(1, 2)).max()
    assert found <= certificate.smoothness <= 3**0.5 * found * (1 + 1e-6)


def test_cumulative_maximum_is_attained():
    assert close(analysed(lambda x: lax.cummax(x, axis=0), Ball((4,))).lipschitz, 2.0)


def test_segment_maximum_of_disjoint_segments():
    found = analysed(lambda x: jax.ops.segment_max(x, np.array([0, 0, 1, 1]), 2), Ball((4,)))
    assert close(found.lipschitz, 1.0)
    assert close(found.bound, 1.0)


def test_order_that_is_certain_is_exact():
    shift = np.arange(6.0)[::-1]
    for f in (jnp.sort, lambda x: lax.top_k(x, 2)[0]):
        found = analysed(lambda x, f=f: f(x + 3 * shift), Box((6,)))
        assert found.sites[0].active == 0
    # The order of what is kept is certain, that of the rest is not.
    tail = np.array([9.0, 5.0, 0.0, 0.0, 0.0, 0.0])
    assert analysed(lambda x: lax.top_k(x + tail, 2)[0], Box((6,))).sites[0].active == 0
    assert analysed(lambda x: lax.top_k(x + tail, 3)[0], Box((6,))).sites[0].active == 3


def test_empty_segments():
    """They hold -inf, as in JAX; a where that takes them out leaves the rest."""

    def f(x):
        y = jax.ops.segment_max(x, np.array([0, 0, 2]), 4)
        return jnp.where(jnp.isfinite(y), y, 0.0)

    f_eps = smooth(f, 0.1, jaxsmooth.ball(1.0))
    x = jnp.array([0.1, 0.1, -0.3])
    certificate = f_eps.certificate(x)
    assert np.linalg.norm(f_eps(x) - f(x)) <= certificate.error * (1 + 1e-5)
    assert certificate.bound < 3
    assert np.isfinite(jax.jacobian(f_eps)(x)).all()


def test_sorting_by_known_keys():
    keys = np.array([3.0, 1.0, 2.0])

    def f(x):
        return lax.sort((jnp.asarray(keys, x.dtype), 2 * x), num_keys=1)[1]

    found = check(f, Ball((3,)))
    assert close(found.lipschitz, 2.0)
    np.testing.assert_array_equal(smooth(f, 0.1, 1.0)(jnp.arange(3.0)), f(jnp.arange(3.0)))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x[jnp.argsort(x)],
        lambda x: lax.top_k(x, 2)[1].astype(x.dtype),
        lambda x: lax.sort((x, 2 * x), num_keys=1)[1],
        lambda x: x * jax.nn.one_hot(lax.top_k(x, 1)[1][0], 3),
    ],
)
def test_order_that_is_used_as_a_number(f):
    with pytest.raises(jaxsmooth.DiscontinuityError, match=r"top_k|sort") as raised:
        analyze(f, jaxsmooth.ball(1.0))(np.zeros(3, np.float32))
    assert "stop_gradient" in str(raised.value)


def test_hard_routing_with_a_stopped_choice():
    """Values of the k largest, with the choice of whom they belong to stopped."""

    def f(x):
        return x[lax.top_k(lax.stop_gradient(x), 2)[1]]

    f_eps = smooth(f, 0.1, jaxsmooth.ball(1.0))
    x = jnp.array([0.3, -0.2, 0.4])
    np.testing.assert_array_equal(f_eps(x), f(x))
    assert f_eps.certificate(x).sites == ()
