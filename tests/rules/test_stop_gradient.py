"""What the output depends on only through ``stop_gradient`` is exact, and no site."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import analyze, ball, box, smooth

X = jax.ShapeDtypeStruct((3,), np.float32)
BOX = box(-2.0, 2.0)


def straight_through(x):
    return x + lax.stop_gradient(jnp.round(x) - x)


def test_straight_through_rounding_is_exact():
    f_eps = smooth(straight_through, 0.1, BOX)
    certificate = f_eps.certificate(X)
    assert certificate.sites == ()
    assert certificate.error == 0
    assert certificate.lipschitz == pytest.approx(1.0)
    assert certificate.smoothness == 0
    x = jnp.array([0.4, -1.6, 1.5])
    np.testing.assert_array_equal(f_eps(x), straight_through(x))
    np.testing.assert_array_equal(jax.grad(lambda x: f_eps(x).sum())(x), np.ones(3))


def test_the_claim_is_stated():
    assert any(
        "stop_gradient" in a for a in smooth(straight_through, 0.1, BOX).certificate(X).assumptions
    )
    assert not any(
        "stop_gradient" in a for a in smooth(jnp.abs, 0.1, BOX).certificate(X).assumptions
    )


DISCRETE = {
    "sign": lambda x: x * lax.stop_gradient(jnp.sign(x)),
    "comparison": lambda x: jnp.where(lax.stop_gradient(x) > 0, x, 2 * x),
    "largest index": lambda x: x[jnp.argmax(lax.stop_gradient(x))],
    "one-hot": lambda x: x * jax.nn.one_hot(jnp.argmax(lax.stop_gradient(x)), 3),
    "integers": lambda x: x * lax.stop_gradient(x.astype(jnp.int32).astype(jnp.float32)),
    "metric": lambda x: jnp.concatenate([x, lax.stop_gradient(jnp.floor(x))]),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_jumps_behind_stop_gradient_are_no_error(name):
    f = DISCRETE[name]
    f_eps = smooth(f, 0.1, BOX)
    assert f_eps.certificate(X).sites == ()
    for x in np.random.default_rng(0).uniform(-2, 2, (20, 3)).astype(np.float32):
        np.testing.assert_array_equal(f_eps(x), f(x))
        ours = jax.jacobian(f_eps)(x)
        np.testing.assert_array_equal(ours, jax.jacobian(f)(x))
        assert np.linalg.norm(ours, 2) <= f_eps.certificate(X).lipschitz * (1 + 1e-6)


@pytest.mark.parametrize("name", DISCRETE)
def test_ranges_enclose_what_is_stopped(name):
    found = analyze(DISCRETE[name], BOX)(X)
    xs = np.random.default_rng(1).uniform(-2, 2, (200, 3)).astype(np.float32)
    ys = np.asarray(jax.vmap(DISCRETE[name])(xs))
    lo, hi = found.range
    assert (ys >= np.asarray(lo) - 1e-6).all()
    assert (ys <= np.asarray(hi) + 1e-6).all()
    assert np.linalg.norm(ys.reshape(200, -1), axis=1).max() <= found.bound * (1 + 1e-6)


def test_a_site_upstream_of_both_counts_where_it_is_felt():
    """The stopped branch reads f's own relu, so that its rounding does not jump by one."""

    def f(x):
        y = jax.nn.relu(x)
        return y + lax.stop_gradient(jnp.round(100 * y) - y)

    f_eps = smooth(f, 0.05, BOX)
    certificate = f_eps.certificate(X)
    assert len(certificate.sites) == 1
    # Dense near the kink, where relu and its smoothed version differ.
    xs = np.linspace(-0.2, 0.2, 4001, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    away = np.linalg.norm(np.asarray(jax.vmap(f_eps)(xs) - jax.vmap(f)(xs)), axis=1)
    assert 0.9 * certificate.error <= away.max() <= certificate.error * (1 + 1e-3)


def test_a_site_that_only_a_stopped_value_reads_is_exact():
    f_eps = smooth(lambda x: x * lax.stop_gradient(jnp.abs(x)), 0.1, BOX)
    certificate = f_eps.certificate(X)
    assert certificate.sites == ()
    assert certificate.lipschitz == pytest.approx(2.0)
    assert certificate.smoothness == 0


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: f])
def test_inside_calls(wrap):
    @wrap
    def inner(x):
        y = jnp.abs(x)
        return y * lax.stop_gradient(jnp.floor(8 * jnp.tanh(y)))

    def f(x):
        return jnp.sum(inner(x - 0.1))

    f_eps = smooth(f, 0.1, BOX)
    for x in np.random.default_rng(0).uniform(-0.2, 0.3, (50, 3)).astype(np.float32):
        assert abs(f_eps(x) - f(x)) <= 0.1 * (1 + 1e-5)
        jax.grad(f_eps)(x)


def test_a_target_network():
    """Loss against a stopped target: no derivative in the target's own path."""

    def f(w, x):
        q = jax.nn.relu(w @ x).sum()
        target = lax.stop_gradient(jax.nn.relu(0.9 * w @ x).max())
        return (q - target) ** 2

    sets = (ball(1.0), ball(1.0))
    f_eps = smooth(f, 0.1, sets)
    w = jax.ShapeDtypeStruct((2, 3), np.float32)
    certificate = f_eps.certificate(w, X)
    assert len(certificate.sites) == 1
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = rng.normal(size=(2, 3)), rng.normal(size=3)
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        assert abs(f_eps(a, b) - f(a, b)) <= 0.1 * (1 + 1e-5)
        slope = np.concatenate([np.ravel(g) for g in jax.grad(f_eps, (0, 1))(a, b)])
        assert np.linalg.norm(slope) <= certificate.lipschitz * (1 + 1e-5)


def test_not_stopped_is_refused():
    with pytest.raises(jaxsmooth.DiscontinuityError):
        smooth(lambda x: x + (jnp.round(x) - x), 0.1, BOX).certificate(X)
