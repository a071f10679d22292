"""Euclidean norms, normalisations and centring."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import CertificationError, analyze, ball, box, smooth
from jaxsmooth.math.kernels import KERNELS
from jaxsmooth.program.graph import trace
from jaxsmooth.program.normal import normalise
from tests.rules.sampling import Ball, Box, analysed, check, close


def module(layer, *shape):
    variables = layer.init(jax.random.key(0), jnp.ones(shape))
    return lambda x: layer.apply(variables, x)


def names(f, *shape):
    graph, _ = trace(f, [jax.ShapeDtypeStruct(shape, jnp.float32)])
    return [e.name for e in normalise(graph, {}, graph.inputs).equations]


def rms(x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 0.01)


FUNCTIONS = {
    "norm": (lambda x: jnp.linalg.norm(x, axis=1), "norm"),
    "norm kept": (lambda x: jnp.linalg.norm(x, axis=1, keepdims=True), "norm"),
    "norm of columns": (lambda x: jnp.linalg.norm(x, axis=0), "norm"),
    "norm of all": (jnp.linalg.norm, "norm"),
    "by powers": (lambda x: (jnp.sum(x**2.0, 1) + 0.01) ** 0.5, "norm"),
    "by a power of a power": (
        lambda x: jnp.power(jnp.sum(jnp.power(x, 2), 1) + 0.1, 1 / 2),
        "norm",
    ),
    "times a power": (
        lambda x: x * (jnp.sum(x**2.0, 1, keepdims=True) + 0.01) ** -0.5,
        "normalised",
    ),
    "with an offset": (lambda x: jnp.sqrt(jnp.sum(x**2, 1) + 0.01), "norm"),
    "standard deviation": (lambda x: jnp.std(x, 1), "norm"),
    "unit vectors": (lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True), "normalised"),
    "vmapped": (jax.vmap(lambda x: x / jnp.linalg.norm(x)), "normalised"),
    "root mean square": (rms, "normalised"),
    "with a factor": (lambda x: rms(x) * jnp.arange(1.0, 5.0), "normalised"),
    "standardize": (lambda x: jax.nn.standardize(x, epsilon=0.1), "normalised"),
    "along two axes": (lambda x: jax.nn.standardize(x, (0, 1), epsilon=0.1), "normalised"),
    "LayerNorm": (module(nn.LayerNorm(epsilon=0.01), 3, 4), "normalised"),
    "LayerNorm, slow": (
        module(nn.LayerNorm(epsilon=0.01, use_fast_variance=False), 3, 4),
        "normalised",
    ),
    "RMSNorm": (module(nn.RMSNorm(epsilon=0.01), 3, 4), "normalised"),
    "centred": (lambda x: x - jnp.mean(x, 1, keepdims=True), "centered"),
    "centred columns": (lambda x: x - jnp.mean(x, 0), "centered"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_recognised(name):
    f, key = FUNCTIONS[name]
    graph, _ = trace(f, [jax.ShapeDtypeStruct((3, 4), jnp.float32)])
    keys = {e.primitive.name for e in normalise(graph, {}, graph.inputs).equations}
    assert key in keys
    assert "reduce_sum" not in keys


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sound(name):
    """On sets away from zero, and with an offset on sets around it."""
    f, _ = FUNCTIONS[name]
    apart = np.array([1.0, 3.0, -2.0, 5.0])
    check(lambda x: f(x + apart), Box((3, 4), -0.4, 0.6), points=40)
    check(lambda x: f(x + apart), Ball((3, 4), 0.7), points=40)
    if name not in ("norm", "norm kept", "norm of columns", "norm of all", "unit vectors",
                    "vmapped", "standard deviation"):  # fmt: skip
        check(f, Box((3, 4), -1.0, 0.5), points=60)
        check(f, Ball((3, 4), 0.05), points=60)


DIFFERENT = {
    "mean of another axis": lambda x: x - jnp.mean(x, 1)[:, None].T[:, :1],
    "sum, not mean": lambda x: x - 0.5 * jnp.sum(x, 1, keepdims=True),
    "norm of something else": lambda x: x / jnp.sqrt(jnp.sum(x[::-1] ** 2, 1, keepdims=True) + 1),
    "norm along another axis": lambda x: (
        x[:, :3] / jnp.sqrt(jnp.sum(x[:, :3] ** 2, 0) + 1)[:, None]
    ),
    "negative factor": lambda x: jnp.sqrt(20.0 - 0.5 * jnp.sum(x**2, 1)),
    "variance of another": lambda x: jnp.sqrt(jnp.mean(x**2, 1) - jnp.mean(x[::-1], 1) ** 2 + 3.0),
    "power of three": lambda x: jnp.sqrt(jnp.sum(x**3, 1) + 9.0),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_only_resembles_them(name):
    check(DIFFERENT[name], Box((3, 4), -1.0, 0.5), points=60)


class TestSharp:
    """Constants that are attained."""

    def test_norm(self):
        found = check(lambda x: jnp.sqrt(jnp.sum(x**2) + 0.25), Ball((4,), 9.0))
        assert close(found.smoothness, 2.0)
        assert found.lipschitz <= 9.0 / math.sqrt(81.25) * (1 + 1e-9)

    def test_norm_away_from_zero(self):
        found = check(lambda x: jnp.linalg.norm(x + jnp.array([3.0, 0.0])), Ball((2,), 1.0))
        assert close(found.lipschitz, 1.0)
        assert close(found.smoothness, 0.5)

    @pytest.mark.parametrize("offset", [0.01, 4.0])
    def test_normalised(self, offset):
        """L is attained at ‖x‖ = √c/2, in the direction of x."""
        f = lambda x: x / jnp.sqrt(jnp.sum(x**2) + offset)  # noqa: E731
        found = analysed(f, Ball((3,), 5.0))
        assert close(found.lipschitz, offset**-0.5)
        with jax.enable_x64(True):
            x = jnp.array([math.sqrt(offset) / 2, 0.0, 0.0])
            bend = float(jax.hessian(f)(x)[0, 0, 0])
        assert close(found.smoothness, abs(bend), 1e-6)

    def test_layer_norm(self):
        found = analysed(module(nn.LayerNorm(epsilon=1e-5), 8), Box((8,)))
        assert close(found.lipschitz, 1e-5**-0.5, 1e-6)

    def test_centred(self):
        assert close(check(lambda x: x - jnp.mean(x), Ball((5,), 2.0)).lipschitz, 1.0)


class TestNearAPoint:
    """What is normalised stays near its value at the center of a small set."""

    @pytest.fixture(autouse=True)
    def _double(self):
        with jax.enable_x64(True):
            yield

    @pytest.mark.parametrize("offset", [0.0, 0.3])
    @pytest.mark.parametrize("radius", [1e-3, 0.3, 1.2])
    def test_distance(self, offset, radius):
        """At most 2r/(s + s₀) away, and in a small ball r/s₀, which is attained."""
        rng = np.random.default_rng(0)
        center = np.array([1.0, -0.5, 2.0, 0.3])
        shift = np.array([0.4, 0.0, -1.0, 3.0])
        unit = lambda x: x / jnp.sqrt(offset + jnp.sum(x**2, -1, keepdims=True))  # noqa: E731
        f = lambda x: jnp.linalg.norm(unit(x) - unit(jnp.asarray(center)), axis=-1)  # noqa: E731
        found = analyze(f, (ball(radius, center=center),))(center).range[1]
        away = rng.normal(size=(2000, 4)) + shift
        away *= radius / np.linalg.norm(away, axis=1, keepdims=True)
        seen = np.max(f(center + away))
        assert seen <= found
        assert found <= (1.01 if radius < 0.1 else 2.0) * seen

    def test_residual_blocks(self):
        """Layer norms after each other do not lose sight of how small the set is."""

        class Blocks(nn.Module):
            count: int

            @nn.compact
            def __call__(self, x):
                for _ in range(self.count):
                    x = x + nn.Dense(16)(nn.relu(nn.Dense(32)(nn.LayerNorm()(x))))
                return nn.LayerNorm()(x)

        x = jnp.asarray(np.random.default_rng(5).normal(size=16))
        f = module(Blocks(4), 16)
        constants = [analyze(f, (box(x - r, x + r),))(x).lipschitz for r in (1e-6, 1e-3)]
        assert constants[1] <= 1.3 * constants[0]


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("x64", [False, True])
def test_smoothed_norm(kernel, x64):
    with jax.enable_x64(x64):
        f = lambda x: jnp.linalg.norm(x.reshape(2, 3), axis=1)  # noqa: E731
        f_eps = smooth(f, 0.3, box(-np.ones(6), 1.0), kernel=kernel)
        certificate = f_eps.certificate(jnp.zeros(6))
        directions = jax.random.normal(jax.random.key(0), (200, 6))
        x = directions * jnp.linspace(0.0, 0.5, 200)[:, None] ** 2
        slack = 1e-12 if x64 else 1e-5
        gaps = jnp.linalg.norm(jax.vmap(f_eps)(x) - jax.vmap(f)(x), axis=1)
        assert gaps.max() <= certificate.error + slack
        at_zero = jnp.linalg.norm(f_eps(jnp.zeros(6)))
        assert at_zero == pytest.approx(0.3, rel=1e-5)  # attained
        assert np.isfinite(jax.jacobian(f_eps)(jnp.zeros(6))).all()
        np.testing.assert_array_equal(jax.jacobian(f_eps)(jnp.zeros(6)), 0.0)
        bends = jax.vmap(jax.hessian(f_eps))(x[1:])
        turned = jnp.einsum("noij,nj->noi", bends, directions[1:])
        sizes = jnp.linalg.norm(turned, 2, axis=(1, 2)) / jnp.linalg.norm(directions[1:], axis=1)
        assert sizes.max() <= certificate.smoothness * (1 + slack) + slack
        assert sizes.max() >= 0.5 * certificate.smoothness


def test_refused_where_the_norm_can_be_zero():
    with pytest.raises(CertificationError, match="norm that can be 0"):
        analyze(lambda x: x / jnp.linalg.norm(x), ball(1.0))(jnp.zeros(3))


def test_network_with_layer_norm_is_evaluated():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.LayerNorm()(nn.Dense(8)(x))
            return nn.Dense(3)(nn.relu(x) + jnp.clip(nn.RMSNorm()(x), -1.0, 1.0))

    f = module(Net(), 5)
    x = jax.random.normal(jax.random.key(1), (20, 5))
    f_eps = smooth(f, 0.01, box(-4.0, 4.0))
    certificate = f_eps.certificate(x[0])
    assert 0 < certificate.error <= 0.01
    assert np.isfinite(certificate.smoothness)
    gaps = jnp.linalg.norm(jax.vmap(f_eps)(x) - jax.vmap(f)(x), axis=1)
    assert gaps.max() <= 0.01 + 1e-5


FLOORED = {
    "norm": lambda x: jnp.sqrt(jnp.maximum(jnp.sum(x * x), 0.0) + 1.0),
    "reciprocal": lambda x: 1 / jnp.sqrt(jnp.maximum(jnp.sum(x * x), 0.0) + 1.0),
    "rows": lambda x: jnp.sqrt(jax.nn.relu(0.5 * jnp.sum(x[None] ** 2, 1, keepdims=True)) + 1.0),
}


@pytest.mark.parametrize("name", FLOORED)
def test_derivatives_do_not_feel_a_floor(name):
    """Of max(Σ x², 0) JAX takes half of them where x = 0."""
    f, eps = FLOORED[name], 0.1
    with jax.enable_x64(True):
        f_eps, x = smooth(f, eps, box(-1.0, 1.0)), jnp.array([1e-9, -1e-9])
        assert f_eps.certificate(x).error == 0
        found, near = (jax.hessian(f_eps)(at) for at in (jnp.zeros(2), x))
        np.testing.assert_array_equal(f_eps(x), f(x))
    np.testing.assert_allclose(found, near, atol=1e-7)


def test_mean_of_nothing():
    found = analyze(lambda x: x - jnp.sum(jnp.zeros((0,)) * x[0]), ball(1.0))(jnp.zeros(3))
    assert close(found.lipschitz, 1.0)
