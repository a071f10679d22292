"""The search for accuracies: every active site has one, and the budget is used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import anything, box, share, smooth


@pytest.mark.parametrize("allocation", ["optimal", "uniform", "halving"])
@pytest.mark.parametrize("traced", [False, True])
def test_kinks_that_only_errors_bring_within_reach(allocation, traced):
    """An accuracy for every site that is active, also where it was not before smoothing."""

    def f(x):
        # Without errors the sum is at least -2, and the second kink out of reach.
        return jnp.maximum(jnp.sum(jnp.minimum(x, 0.5)), -2.05)

    def constants(eps):
        f_eps = smooth(f, eps, box(-jnp.ones(2), jnp.ones(2)), allocation=allocation)
        certificate = f_eps.certificate(jnp.zeros(2))
        return certificate.error, certificate.smoothness

    error, smoothness = (jax.jit(constants) if traced else constants)(0.1)
    assert error <= 0.1
    assert np.isfinite(smoothness)


def test_much_of_the_budget_is_used_where_all_of_it_is_too_much():
    """The ranges allow errors up to a bound that is found by bisection."""

    def f(x):
        return 0.01 / (0.2 + jnp.minimum(jnp.sum(x), 0.0))

    spent = []
    for limit in (0.1, 0.15):
        f_eps = smooth(f, 0.1, box(-limit * jnp.ones(1), jnp.ones(1)))
        spent.append(f_eps.certificate(jnp.zeros(1)).error)
    assert all(0.02 < s <= 0.1 for s in spent)


@pytest.mark.parametrize("allocation", ["optimal", "uniform", "halving", "share"])
@pytest.mark.parametrize("bounded", [True, False])
def test_what_the_output_hardly_feels_is_not_smoothed_without_end(allocation, bounded):
    """The error function is flat there: its share alone would allow a μ of 1e155, in float32."""

    def f(x):
        for _ in range(4):
            x = 1 - jnp.hypot(x[0], x[1]) + 0 * x
        return jax.scipy.special.erf(20 + jnp.tanh(jnp.sum(jnp.abs(x)) ** 3))

    x = jnp.full(2, 0.1)
    bounds = box(-jnp.ones(2), jnp.ones(2)) if bounded else anything()
    if allocation == "share":
        sites = smooth(f, 0.1, bounds).certificate(x).sites
        allocation = {site.path: share(1 / len(sites)) for site in sites}
    f_eps = smooth(f, 0.1, bounds, allocation=allocation)
    assert f_eps(x) == 1
    assert np.isfinite(jax.jacrev(jax.jacfwd(f_eps))(x)).all()
    limit = 1e4 if bounded else 1e18
    assert all(0 < np.max(site.mu) < limit for site in f_eps.certificate(x).sites)


@pytest.mark.parametrize("bounded", [True, False])
def test_a_traced_budget_does_not_smooth_without_end(bounded):
    """The share of the length would be 1e29, whose square is not a number of float32."""

    def f(x):
        return 1e-30 * jnp.hypot(x[0], x[1])

    x = jnp.full(2, 0.1)
    bounds = box(-jnp.ones(2), jnp.ones(2)) if bounded else anything()

    @jax.jit
    def at(eps):
        f_eps = smooth(f, eps, bounds)
        return jax.hessian(f_eps)(x), f_eps.certificate(x).sites[0].mu

    hessian, mu = at(0.1)
    assert np.isfinite(hessian).all()
    assert 0.1 < mu < (1e4 if bounded else 1e18)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_accuracies_follow_the_units(size):
    """A large μ is no less good where values are as large."""

    def f(x):
        return jax.nn.relu(x) + jnp.abs(x - 0.3 * size)

    certificate = smooth(f, 0.1 * size, box(-size * jnp.ones(()), size)).certificate(jnp.zeros(()))
    assert certificate.error == pytest.approx(0.1 * size, rel=1e-3)
