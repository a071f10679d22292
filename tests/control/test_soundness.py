"""Certificates of programs with loops and branches, attacked and compared with unrolled ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from tests.control.cases import (
    CASES,
    STEPS,
    gated_unit,
    program,
    unrolled,
    weights_network,
)
from tests.soundness.attack import attack

ROWS = (STEPS, 2)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_attacks_on_constant_weights(name, double):
    found = attack(program(CASES[name](lax.scan), (ROWS, 1.0), double=double))
    assert not found.violations


@pytest.mark.parametrize(
    ("f", "sets"),
    [
        (weights_network, (((2, 2), 0.8), ((2, 2), 0.7), (ROWS, (-0.6, 0.5)))),
        (gated_unit, (((6, 4), 1.5), (ROWS, 1.0))),
    ],
    ids=["relu network", "gated unit"],
)
@pytest.mark.parametrize("kernel", ["minimax", pytest.param("centered", marks=pytest.mark.slow)])
def test_attacks_on_weights(f, sets, kernel):
    found = attack(program(f, *sets, kernel=kernel))
    assert not found.violations


def test_attack_on_accuracies_by_step():
    f = CASES["relu network"](lax.scan)
    p = program(f, (ROWS, 1.0), allocation="explicit")
    assert not attack(p).violations


def _with_branches(x, which):
    def step(i, c):
        return lax.cond(i % 2 == 0, lambda c: jnp.abs(c) - 0.3, lambda c: jnp.maximum(c, 0.1), c)

    c = lax.fori_loop(0, 3, step, x)
    pieces = [jnp.abs, lambda c: jnp.maximum(c, 0.2) * 2, lambda c: 0.5 * c]
    return lax.switch(which, pieces, c)


@pytest.mark.parametrize("which", range(3))
def test_unknown_branches_hold_for_each(which):
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((3,), np.float64)
        bounds = (jaxsmooth.ball(1.0), jaxsmooth.anything())
        f_eps = jaxsmooth.smooth(_with_branches, 0.05, bounds)
        certificate = f_eps.certificate(x, 0)
        points = np.random.default_rng(0).normal(size=(400, 3))
        points /= np.maximum(1, np.linalg.norm(points, axis=1, keepdims=True))
        away = jax.vmap(lambda x: f_eps(x, which) - _with_branches(x, which))(points)
        assert np.linalg.norm(away, axis=1).max() <= certificate.error
        slopes = jax.vmap(jax.jacobian(lambda x: f_eps(x, which)))(points)
        assert np.linalg.norm(slopes, 2, axis=(1, 2)).max() <= certificate.lipschitz
        known = jaxsmooth.smooth(_with_branches, 0.05, (1.0, jaxsmooth.fixed(which)))
        assert known.certificate(x, which).lipschitz <= certificate.lipschitz * (1 + 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_agreement_with_the_unrolled_program(name):
    looped, flat = (
        jaxsmooth.smooth(CASES[name](scan), 0.05, jaxsmooth.ball(1.0))
        for scan in (lax.scan, unrolled)
    )
    xs = jax.ShapeDtypeStruct(ROWS, np.float32)
    a, b = looped.certificate(xs), flat.certificate(xs)
    assert a.error <= 0.05
    # One accuracy for all steps costs curvature, and rows are in the ball of all of them.
    assert b.smoothness <= a.smoothness * (1 + 1e-9)
    assert a.smoothness <= 4 * b.smoothness
    assert b.lipschitz * (1 - 1e-9) <= a.lipschitz <= 2 * b.lipschitz
    exact = [
        jaxsmooth.analyze(CASES[name](scan), jaxsmooth.ball(1.0))(xs)
        for scan in (lax.scan, unrolled)
    ]
    np.testing.assert_allclose(exact[0].range, exact[1].range, rtol=1e-6, atol=1e-9)


def test_the_sum_of_many_steps_is_attained():
    # Every step adds |x|, whose error at 0 is μ in both programs: Σ_t μ = eps is attained.
    f = lambda x: lax.scan(lambda c, _: (c + jnp.abs(x), None), 0.0 * x, None, 50)[0]  # noqa: E731
    with jax.enable_x64(True):
        f_eps = jaxsmooth.smooth(f, 0.1, 1.0)
        found = f_eps.certificate(1.0)
        assert 0.999 * 0.1 <= abs(f_eps(0.0) - f(0.0)) <= 0.1
        assert jax.grad(jax.grad(f_eps))(0.0) == pytest.approx(found.smoothness, rel=1e-3)
        assert found.lipschitz == pytest.approx(50.0, rel=1e-9)


def test_one_accuracy_for_every_step():
    f = lambda x: lax.scan(lambda c, s: (jnp.abs(c - s), None), x, jnp.arange(3.0))[0]  # noqa: E731
    x = np.zeros(2, np.float32)
    mu = np.asarray([0.01, 0.02, 0.005])
    f_eps = jaxsmooth.smooth(f, 0.1, jaxsmooth.ball(1.0, x), allocation={"scan/abs": mu})
    (site,) = f_eps.certificate().sites
    assert site.shape == (3, 2)
    np.testing.assert_allclose(site.mu, np.broadcast_to(mu[:, None], (3, 2)))
    assert f_eps.certificate().error == pytest.approx(np.sqrt(2) * mu.sum(), rel=1e-9)
    halves = jaxsmooth.smooth(
        f, 0.1, jaxsmooth.ball(1.0, x), allocation={"scan/abs": jaxsmooth.share(0.5)}
    )
    assert halves.certificate().error == pytest.approx(0.05, rel=1e-6)
    assert np.linalg.norm(f_eps(x) - f(x)) <= 0.1
