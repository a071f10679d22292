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


def grouped(x):
    return x.reshape(x.shape[0], 2, -1)


def repeated(means, times):
    return jnp.broadcast_to(means[..., None], (*means.shape, times)).reshape(len(means), -1)


def normalised(x):
    means, variances = grouped(x).mean(-1), grouped(x).var(-1)
    return (x - repeated(means, 2)) * lax.rsqrt(repeated(variances, 2) + 0.05)


KINKS = {
    "leaky relu of a normalisation": lambda x: jax.nn.leaky_relu(normalised(x)),
    "leaky relu, scaled and shifted": lambda x: jax.nn.leaky_relu(
        normalised(x) * jnp.arange(1.0, 5.0) + 1
    ),
    "norm": lambda x: jnp.sqrt(repeated((x[..., None] ** 2).sum(-1), 1)),
    "length": lambda x: jnp.sqrt(repeated(x, 2) ** 2 + repeated(x[:, ::-1], 2) ** 2),
    "length with a mean": lambda x: jnp.sqrt(repeated(grouped(x).mean(-1), 2) ** 2 + x**2),
    "choice": lambda x: (lambda d: jnp.where(d > 0, d, 0.1 * d))(
        repeated(grouped(x).sum(-1), 2) - x
    ),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_of_what_is_repeated(name):
    """They are smoothed where f has them, and choices see the same numbers as their options."""
    f, rng = KINKS[name], np.random.default_rng(0)
    f_eps, x = smooth(f, 0.1, box(-1.0, 1.0)), jnp.zeros((1, 4))
    certificate = f_eps.certificate(x)
    assert certificate.sites
    points = jnp.asarray(rng.uniform(-1, 1, (40, 1, 4))).at[0].set(0.0)
    slope = lambda x: jax.jacobian(f_eps)(x).reshape(-1, 4)  # noqa: E731
    values, exact, slopes = jax.jit(jax.vmap(lambda x: (f_eps(x), f(x), slope(x))))(points)
    assert np.linalg.norm((values - exact)[:, 0], axis=-1).max() <= certificate.error + 1e-9
    assert np.linalg.norm(slopes, 2, (1, 2)).max() <= certificate.lipschitz * (1 + 1e-9)


def test_lengths_of_what_is_repeated_are_those_of_hypot():
    def hypot(x):
        return jnp.hypot(repeated(grouped(x).mean(-1), 2), x)

    found, expected = (
        smooth(f, 0.1, box(-1.0, 1.0)).certificate(jnp.zeros((1, 4)))
        for f in (KINKS["length with a mean"], hypot)
    )
    np.testing.assert_allclose(found.lipschitz, expected.lipschitz, rtol=1e-9)
    np.testing.assert_allclose(found.smoothness, expected.smoothness, rtol=1e-9)
