"""The search for accuracies: every active site has one, and the budget is used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import box, smooth


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
