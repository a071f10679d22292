"""Group normalisation of the libraries is one normalisation, with its constants."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxsmooth import ball, box, smooth
from jaxsmooth.program.graph import trace
from jaxsmooth.program.normal import normalise
from jaxsmooth.program.norms import NORMALISED

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def flax_norm(**options):
    module = nn.GroupNorm(**options, dtype=jnp.float64)

    def apply(x):
        return module.apply(module.init(KEY, x), x)

    return apply


NORMS = {
    "two groups": flax_norm(num_groups=2),
    "two groups, slow variance": flax_norm(num_groups=2, use_fast_variance=False),
    "one group": flax_norm(num_groups=1),
    "groups of one": flax_norm(num_groups=None, group_size=1),
    "without scale and shift": flax_norm(num_groups=2, use_scale=False, use_bias=False),
}
SHAPES = [(2, 3, 2, 4), (3, 5, 6), (2, 8)]


def reference(x, groups, offset=1e-6):
    split = x.reshape(*x.shape[:-1], groups, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, variance = split.mean(axes, keepdims=True), split.var(axes, keepdims=True)
    return ((split - mean) / jnp.sqrt(variance + offset)).reshape(x.shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NORMS)
def test_is_one_normalisation(name, shape):
    graph, _ = trace(NORMS[name], (jax.ShapeDtypeStruct(shape, jnp.float64),))
    equations = normalise(graph, {}, graph.inputs).equations
    assert sum(e.primitive is NORMALISED for e in equations) == 1


@pytest.mark.parametrize("name", ["two groups", "one group", "groups of one"])
def test_constants_are_those_of_the_split_array(name):
    """As if the user had split the axis, and no wider than layer norm of the groups."""
    groups = {"two groups": 2, "one group": 1, "groups of one": 4}[name]
    x = jax.random.normal(KEY, (2, 3, 2, 4))
    near = box(x - 0.05, x + 0.05)
    expected = smooth(lambda v: reference(v, groups), 0.1, near).certificate(x)
    f_eps = smooth(NORMS[name], 0.1, near)
    certificate = f_eps.certificate(x)
    np.testing.assert_allclose(certificate.lipschitz, expected.lipschitz, rtol=1e-6)
    np.testing.assert_allclose(certificate.smoothness, expected.smoothness, rtol=1e-6)
    assert not certificate.sites
    np.testing.assert_allclose(f_eps(x), reference(x, groups), rtol=1e-9)
    jacobian = jax.jacobian(lambda v: f_eps(v).ravel())(x).reshape(x.size, -1)
    assert np.linalg.norm(jacobian, 2) <= certificate.lipschitz <= 3 * np.linalg.norm(jacobian, 2)


def test_with_its_parameters_and_in_a_loop():
    module = nn.GroupNorm(num_groups=2, dtype=jnp.float64)
    x = jax.random.normal(KEY, (2, 4))
    params = module.init(KEY, x)

    def f(params, x):
        step = lambda c, _: (nn.relu(module.apply(params, c)) + x, None)  # noqa: E731
        return lax.scan(step, x, None, length=2)[0]

    bounds = (ball(0.1, center=params), box(x - 0.01, x + 0.01))
    f_eps = smooth(f, 0.1, bounds)
    certificate = f_eps.certificate(params, x)
    rng = np.random.default_rng(0)
    for _ in range(50):
        y = x + rng.uniform(-0.01, 0.01, x.shape)
        error = jnp.linalg.norm(f_eps(params, y) - f(params, y))
        assert error <= certificate.error <= 0.1


def test_other_reshapes_are_left_alone():
    """Merging axes that hold different numbers, and repetitions that nothing is done with."""

    def f(x):
        return jnp.repeat(x, 2).reshape(4, 2).T @ x.reshape(2, -1).reshape(-1)

    f_eps = smooth(f, 0.1, ball(1.0))
    x = jnp.arange(4.0) / 10
    assert f_eps.certificate(x).error == 0
    np.testing.assert_allclose(f_eps(x), f(x))
