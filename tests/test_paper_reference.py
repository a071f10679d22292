"""The paper's Algorithms 1 and 2, by hand and against the engine.

The engine runs on ordinary JAX functions and knows no layers; on the paper's networks it
has to return what the paper's algorithms do, or better, at every layer.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from tests.reference import paper

SLACK = 1 + 1e-5


class TestReference:
    """The reference itself, against computations by hand."""

    def test_one_layer_by_hand(self):
        # m = 2·3 + 3, μ = ε, L_a = √4/(2μ), lᵘ = 2 + 1: L = lᵘ² L_a, ℓ = lᵘ.
        certified = paper.certify(paper.mlp([3.0], [4], final=True), 0.5, 2.0)
        assert certified.mu == (0.5,)
        assert certified.mu_per_element == (0.25,)
        assert certified.m == (9.0,)
        assert certified.lipschitz == (3.0,)
        assert certified.smoothness == (9.0 * 2.0,)

    def test_two_layers_by_hand(self):
        # ε = 1, x = 1, R = (2, 3), one site of one element with ℓ = 3 downstream: μ = 1/3,
        # L_a = 3/2. Layer 1: m = 2 + 2, ℓ = 2, L = 2²·3/2. Layer 2: m = 3·4 + 3,
        # ℓ = 3·2 + 5, L = 6·3 + 2·1·2.
        certified = paper.certify(paper.mlp([2.0, 3.0], [1]), 1.0, 1.0)
        assert certified.mu == pytest.approx((1 / 3,))
        assert certified.weights == (3.0,)
        assert certified.m == (4.0, 15.0)
        assert certified.lipschitz == (2.0, 11.0)
        assert certified.smoothness == pytest.approx((6.0, 22.0))

    @pytest.mark.parametrize(
        ("kernel", "right_m", "smoothness"),
        [("paper", False, 2.23e13), ("paper", True, 5.54e12), ("minimax", True, 6.92e11)],
    )
    def test_the_papers_network(self, kernel, right_m, smoothness):
        layers = paper.mlp(paper.MLP_RADII, paper.MLP_HIDDEN, kernel)
        certified = paper.certify(layers, 1 / 2, paper.MLP_INPUT, right_m=right_m)
        assert certified.smoothness[-1] == pytest.approx(smoothness, rel=2e-3)

    def test_convolutional_budget_is_two_hundred_times_larger(self):
        printed, right = (
            paper.certify(paper.convnet(paper.CONVNET_RADII, right=flag), 1 / 2, 30.0)
            for flag in (False, True)
        )
        assert printed.mu[0] == pytest.approx(2e-6, rel=1)
        assert right.mu[0] / printed.mu[0] == pytest.approx(5 * 5 * 8, rel=1e-9)

    def test_bounded_activation(self):
        layers = [paper.Layer(paper.dense(), 3.0, (paper.softmax(5),))]
        (m,), (lipschitz,), (smoothness,) = paper.forward(layers, (), 2.0)
        assert m == 1.0
        assert lipschitz == 0.5 * 3.0
        assert smoothness == 9.0

    def test_bounds_hold_on_a_small_network(self):
        """ℓ and L with the right constants enclose what random parameters attain."""
        radii, hidden, eps = (1.5, 2.0), (3,), 0.3
        certified = paper.certify(paper.mlp(radii, hidden), eps, 1.0)
        (mu,) = certified.mu_per_element
        x = np.array([0.6, -0.8])
        sizes = ((3, 2), (3,)), ((2, 3), (2,))

        def unpack(u):
            parts, start = [], 0
            for weight, bias in sizes:
                w = u[start : start + math.prod(weight)].reshape(weight)
                start += math.prod(weight)
                parts.append((w, u[start : start + bias[0]]))
                start += bias[0]
            return parts

        def network(u):
            (w1, b1), (w2, b2) = unpack(u)
            z = w1 @ x + b1
            z = jnp.where(z <= 0, 0.0, jnp.where(z < 2 * mu, z**2 / (4 * mu), z - mu))
            return w2 @ z + b2

        split = 9
        rng = np.random.default_rng(0)

        def draw():
            u = rng.normal(size=split + 8)
            u[:split] *= radii[0] / np.linalg.norm(u[:split])
            u[split:] *= radii[1] / np.linalg.norm(u[split:])
            return u * rng.uniform(0.2, 1.0)

        jacobian = jax.jit(jax.vmap(jax.jacobian(network)))
        points = np.stack([draw() for _ in range(200)])
        near = points + 1e-2 * rng.normal(size=points.shape) * (rng.random((200, 1)) < 0.5)
        near[:split] *= 0.95
        with jax.enable_x64(True):
            a, b = jacobian(points), jacobian(near)
            values = jax.vmap(network)(points)
        assert np.linalg.norm(values, axis=1).max() <= certified.m[-1]
        assert np.linalg.norm(a, 2, axis=(1, 2)).max() <= certified.lipschitz[-1]
        ratio = np.linalg.norm(a - b, 2, axis=(1, 2)) / np.maximum(
            np.linalg.norm(points - near, axis=1), 1e-300
        )
        assert ratio.max() <= certified.smoothness[-1]


def struct(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def dense_layers(sizes):
    return [(struct(n, m), struct(n)) for m, n in itertools.pairwise(sizes)]


def dense_network(depth, final=False):
    """The first ``depth`` dense layers, with relu between them (and after the last)."""

    def f(u, x):
        for t, (weight, bias) in enumerate(u[:depth]):
            x = weight @ x + bias
            if final or t < depth - 1:
                x = jax.nn.relu(x)
        return x

    return f


def convolve(x, kernel):
    return lax.conv_general_dilated(
        x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def convolutional_network(depth):
    """The first ``depth`` layers: Conv 5×5, relu, AvgPool 2×2 each; the fourth is dense."""

    def f(u, x):
        for t, (weight, bias) in enumerate(u[:depth]):
            if t == 3:
                x = weight @ x.reshape(-1) + bias
            else:
                x = jax.nn.relu(convolve(x, weight) + bias)
                x = lax.reduce_window(x, 0.0, lax.add, (2, 2, 1), (2, 2, 1), "VALID") / 4
        return x

    return f


CONVOLUTIONAL_LAYERS = [
    (struct(5, 5, 3, 16), struct(16)),
    (struct(5, 5, 16, 20), struct(20)),
    (struct(5, 5, 20, 20), struct(20)),
    (struct(10, 320), struct(10)),
]


def check(certificate, m, lipschitz, smoothness):
    """The certificate's (m, ℓ, L) are at most the reference's."""
    assert certificate.bound <= m * SLACK
    assert certificate.lipschitz <= lipschitz * SLACK
    assert certificate.smoothness <= smoothness * SLACK


def compare(prefix, structs, image, layers, eps, input_bound, kernel):
    """The engine agrees with or beats the reference, at every site and every layer.

    ``prefix(t)`` is the function of the first t layers.
    """
    radii = [layer.radius for layer in layers]
    bounds = ([jaxsmooth.ball(r) for r in radii], jaxsmooth.ball(input_bound))
    expected = paper.certify(layers, eps, input_bound)

    def certify(depth, accuracy, allocation):
        f_eps = jaxsmooth.smooth(
            prefix(depth),
            accuracy,
            (bounds[0][:depth], bounds[1]),
            kernel=kernel,
            allocation=allocation,
            argnums=0,
        )
        return f_eps.certificate(structs[:depth], image)

    certificate = certify(len(layers), eps, "uniform")
    assert certificate.error <= eps
    assert len(certificate.sites) == len(expected.mu)
    for site, mu, each, weight in zip(
        certificate.sites, expected.mu, expected.mu_per_element, expected.weights, strict=True
    ):
        assert site.error >= mu / SLACK
        assert np.max(site.mu) >= each / SLACK
        assert site.weight <= weight * SLACK
    check(certificate, expected.m[-1], expected.lipschitz[-1], expected.smoothness[-1])

    # Every prefix with the paper's own μ, so that only the recursion is compared.
    for depth in range(1, len(layers) + 1):
        sites = sum(a.kink > 0 for layer in layers[:depth] for a in layer.activations)
        mu, each = expected.mu[:sites], expected.mu_per_element[:sites]
        weights = paper.backward(layers[:depth], 1.0)[1]
        room = 1.01 * sum(w * e for w, e in zip(weights, mu, strict=True))
        paths = [site.path for site in certify(depth, room, "uniform").sites]
        found = certify(depth, room, dict(zip(paths, each, strict=True)))
        for site, value in zip(found.sites, each, strict=True):
            assert np.max(site.mu) == pytest.approx(value)
        check(found, *(values[-1] for values in paper.forward(layers[:depth], mu, input_bound)))


@pytest.mark.parametrize("kernel", ["paper", "minimax"])
@pytest.mark.parametrize("eps", [1e-3, 0.5])
class TestEngine:
    def test_small_dense_network(self, kernel, eps):
        sizes, radii = (5, 8, 6, 7, 3), (1.7, 0.6, 2.5, 1.1)
        compare(
            lambda depth: dense_network(depth, final=depth < 4),
            dense_layers(sizes),
            struct(5),
            paper.mlp(radii, sizes[1:-1], kernel),
            eps,
            2.0,
            kernel,
        )


@pytest.mark.parametrize(
    ("kernel", "eps"),
    [
        pytest.param("paper", 1e-3, marks=pytest.mark.slow),
        pytest.param("minimax", 1e-3, marks=pytest.mark.slow),
        pytest.param("paper", 0.5, marks=pytest.mark.slow),
        ("minimax", 0.5),
    ],
)
class TestThePapersNetworks:
    """At full size."""

    @pytest.mark.slow
    def test_dense(self, kernel, eps):
        compare(
            lambda depth: dense_network(depth, final=depth < 4),
            dense_layers((784, *paper.MLP_HIDDEN, 10)),
            struct(784),
            paper.mlp(paper.MLP_RADII, paper.MLP_HIDDEN, kernel),
            eps,
            paper.MLP_INPUT,
            kernel,
        )

    def test_convolutional(self, kernel, eps):
        compare(
            convolutional_network,
            CONVOLUTIONAL_LAYERS,
            struct(32, 32, 3),
            paper.convnet(paper.CONVNET_RADII, kernel),
            eps,
            30.0,
            kernel,
        )
