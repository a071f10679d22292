"""Constants that the paper prints and that are loose or wrong: a witness of each.

Every test first shows with explicit inputs what the true constant is (or that the printed
one is exceeded), then that the library returns a constant that is right and not looser.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from tests.reference import paper

SLACK = 1 + 1e-5  # float32 of the traced programs' own constants, and outward rounding


def convolve(x, kernel, stride=1, padding="SAME"):
    """Convolution of one image (height, width, channels) with kernel HWIO."""
    return lax.conv_general_dilated(
        x[None], kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def convolve_periodic(x, kernel):
    """Convolution of one channel with one filter, on a torus, in numpy."""
    out = np.zeros_like(x)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            out += kernel[i, j] * np.roll(x, (-i, -j), (0, 1))
    return out


def pool(x, window, stride, operation, initial):
    """Unpadded pooling of one image (height, width)."""
    return lax.reduce_window(x, initial, operation, (window, window), (stride, stride), "VALID")


def average(x):
    return pool(x, 2, 2, lax.add, 0.0) / 4


def maximum(x):
    return pool(x, 3, 2, lax.max, -jnp.inf)


def struct(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def analyze(f, bounds, *args, argnums=None):
    return jaxsmooth.analyze(f, bounds, argnums=argnums)(*args)


def spectral_norm_of_linear(f, *shape):
    jacobian = jax.jacobian(f)(jnp.zeros(shape))
    return np.linalg.norm(np.asarray(jacobian).reshape(-1, math.prod(shape)), 2)


class TestConvolution:
    def test_a_bias_moves_every_position(self):
        """lᵘ: the unit bias alone moves the output by √positions; printed 1 is unsound."""
        side = 32
        bias = np.array([1.0, 0.0, 0.0])
        moved = np.linalg.norm(np.broadcast_to(bias, (side, side, 3)))
        printed = paper.convolution(5, positions=side**2, right=False).parameter
        right = paper.convolution(5, positions=side**2).parameter
        assert moved == pytest.approx(32.0)
        assert moved > printed
        assert moved <= right * SLACK

    def test_analysis_of_the_bias(self):
        side = 8

        def layer(u):
            kernel, bias = u
            return convolve(jnp.zeros((side, side, 2)), kernel) + bias

        found = analyze(layer, jaxsmooth.ball(1.0), (struct(5, 5, 2, 3), struct(3)))
        assert side <= float(found.lipschitz) <= side * SLACK

    @pytest.mark.parametrize(("window", "stride"), [(5, 1), (3, 1), (3, 2), (2, 2), (3, 3)])
    def test_bilinear_constant(self, window, stride):
        """‖W∗x‖ ≤ ⌈k/s⌉ ‖W‖ ‖x‖, attained for stride 1 by constants on a torus."""
        printed = paper.convolution(window, stride, right=False).bilinear
        right = paper.convolution(window, stride).bilinear
        assert printed == right**2
        rng = np.random.default_rng(0)
        worst = 0.0
        for _ in range(3):
            kernel = rng.normal(size=(window, window, 2, 3)).astype(np.float32)
            x = rng.normal(size=(9, 9, 2)).astype(np.float32)

            def out(w, z):
                return convolve(z, w, stride)

            for _ in range(30):  # alternating ascent of the bilinear map
                kernel, x = kernel / jnp.linalg.norm(kernel), x / jnp.linalg.norm(x)
                value, pull = jax.vjp(out, kernel, x)
                worst = max(worst, float(jnp.linalg.norm(value)))
                kernel, x = pull(value)
        assert worst <= right * SLACK
        if stride == 1:
            assert worst > 0.6 * right
            flat = np.ones((window, window)) / window
            image = np.ones((12, 12)) / 12
            attained = np.linalg.norm(convolve_periodic(image, flat))
            assert attained == pytest.approx(right)

    @pytest.mark.parametrize(("window", "stride"), [(5, 1), (3, 1), (3, 2), (2, 2), (3, 3)])
    def test_analysis_of_the_bilinear_constant(self, window, stride):
        def layer(kernel, x):
            return convolve(x, kernel, stride)

        found = analyze(
            layer,
            (jaxsmooth.ball(1.0), jaxsmooth.ball(1.0)),
            struct(window, window, 2, 3),
            struct(9, 9, 2),
        )
        right = math.ceil(window / stride)
        for argument in (0, 1):
            one = analyze(
                layer,
                (jaxsmooth.ball(1.0), jaxsmooth.ball(1.0)),
                struct(window, window, 2, 3),
                struct(9, 9, 2),
                argnums=argument,
            )
            assert float(one.lipschitz) <= right * SLACK
        assert float(found.bound) <= right * SLACK


class TestPooling:
    def test_average_halves(self):
        """Average pooling 2×2: exactly 1/2, attained by a constant image."""
        norm = spectral_norm_of_linear(average, 8, 8)
        assert norm == pytest.approx(0.5)
        assert paper.average_pooling(2, 2).lipschitz == 0.5
        assert paper.average_pooling(2, 2, right=False).lipschitz == 1.0
        image = np.ones((8, 8))
        attained = np.linalg.norm(average(image)) / np.linalg.norm(image)
        assert attained == pytest.approx(0.5)

    def test_analysis_of_average(self):
        found = analyze(average, jaxsmooth.ball(1.0), struct(8, 8))
        assert 0.5 <= float(found.lipschitz) <= 0.5 * SLACK
        assert 0.5 <= float(found.bound) <= 0.5 * SLACK

    def test_overlapping_maximum_doubles(self):
        """Max pooling 3×3 of stride 2: one bright pixel is in 4 windows, so ℓ ≥ 2."""
        image = np.zeros((7, 7), np.float32)
        image[2, 2] = 1.0
        moved = np.linalg.norm(maximum(image) - maximum(np.zeros((7, 7), np.float32)))
        assert moved == 2.0
        assert moved > paper.max_pooling(9, 3, 2, right=False).lipschitz
        assert moved <= paper.max_pooling(9, 3, 2).lipschitz

    def test_analysis_of_overlapping_maximum(self):
        found = analyze(maximum, jaxsmooth.ball(1.0), struct(7, 7))
        assert 2.0 <= float(found.lipschitz) <= 2.0 * SLACK

    def test_disjoint_maximum_is_one(self):
        found = analyze(
            lambda x: pool(x, 2, 2, lax.max, -jnp.inf), jaxsmooth.ball(1.0), struct(8, 8)
        )
        assert 1.0 <= float(found.lipschitz) <= SLACK


def logistic(x):
    return jax.nn.logsumexp(x) - x[0]


class TestLosses:
    def test_logistic_lipschitz(self):
        """ℓ: the gradient p − e_y tends to √2 and never passes it."""
        rng = np.random.default_rng(0)
        slopes = jax.vmap(jax.grad(logistic))(jnp.asarray(rng.normal(size=(500, 5)) * 10))
        assert float(np.linalg.norm(slopes, axis=1).max()) <= math.sqrt(2) * SLACK
        extreme = jax.grad(logistic)(jnp.array([-50.0, 50.0, 0.0]))
        assert float(np.linalg.norm(extreme)) == pytest.approx(math.sqrt(2))
        assert paper.logistic_loss(3).lipschitz == math.sqrt(2)
        assert paper.logistic_loss(3, right=False).lipschitz == 2.0

    def test_logistic_smoothness(self):
        """L: diag(p) − p pᵀ has norm 1/2 where two classes share the mass, never more."""
        half = jax.hessian(logistic)(jnp.array([0.0, 0.0, -80.0]))
        assert float(np.linalg.norm(half, 2)) == pytest.approx(0.5)
        rng = np.random.default_rng(1)
        points = jnp.asarray(rng.normal(size=(500, 5)) * 4)
        norms = np.linalg.norm(jax.vmap(jax.hessian(logistic))(points), 2, axis=(1, 2))
        assert float(norms.max()) <= 0.5 * SLACK

    def test_analysis_of_logistic(self):
        found = analyze(lambda x: -jax.nn.log_softmax(x)[0], jaxsmooth.ball(1000.0), struct(3))
        assert math.sqrt(2) / SLACK <= float(found.lipschitz) <= math.sqrt(2) * SLACK
        assert 0.5 / SLACK <= float(found.smoothness) <= 0.5 * SLACK

    def test_analysis_of_logistic_as_a_difference(self):
        """Term by term ℓ is 1 + 1, as printed."""
        found = analyze(logistic, jaxsmooth.ball(1000.0), struct(3))
        assert math.sqrt(2) / SLACK <= float(found.lipschitz) <= 2 * SLACK
        assert 0.5 / SLACK <= float(found.smoothness) <= 0.5 * SLACK

    def test_softmax_lipschitz(self):
        """ℓ: the Jacobian diag(p) − p pᵀ again."""
        half = jax.jacobian(jax.nn.softmax)(jnp.array([0.0, 0.0, -80.0]))
        assert float(np.linalg.norm(half, 2)) == pytest.approx(0.5)
        assert paper.softmax(3).lipschitz == 0.5
        assert paper.softmax(3, right=False).lipschitz == 2.0

    def test_softmax_smoothness(self):
        """L: directional second derivatives stay below the reference's 1."""
        rng = np.random.default_rng(2)
        points = jnp.asarray(rng.normal(size=(500, 4)) * 3)
        directions = rng.normal(size=(500, 4))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)

        def second(x, v):
            return jax.jvp(lambda y: jax.jvp(jax.nn.softmax, (y,), (v,))[1], (x,), (v,))[1]

        norms = np.linalg.norm(jax.vmap(second)(points, jnp.asarray(directions)), axis=1)
        assert float(norms.max()) <= paper.softmax(4).smoothness

    def test_analysis_of_softmax(self):
        found = analyze(jax.nn.softmax, jaxsmooth.ball(1000.0), struct(3))
        assert 0.5 / SLACK <= float(found.lipschitz) <= 0.5 * SLACK
        assert 0.27 <= float(found.smoothness) <= 4.0
        assert float(found.bound) <= SLACK


class TestBoundOfBiAffine:
    """The printed m counts the bilinear term twice: 2 m R + R where m R + R is enough."""

    radius, m = 3.0, 2.0

    def attained(self):
        """Largest ‖W x + b‖ over ‖(W, b)‖ ≤ R, ‖x‖ ≤ m, by its maximiser: R √(m² + 1)."""
        x = np.array([self.m, 0.0])
        y = np.array([0.6, 0.8])
        weight, bias = np.outer(y, x), y
        scale = self.radius / math.sqrt(np.sum(weight**2) + np.sum(bias**2))
        return float(np.linalg.norm(scale * (weight @ x + bias)))

    def test_reference(self):
        layers = [paper.Layer(paper.dense(), self.radius)]
        (printed,), _, _ = paper.forward(layers, (), self.m, right_m=False)
        (right,), _, _ = paper.forward(layers, (), self.m)
        assert printed == 2 * self.m * self.radius + self.radius
        assert right == self.m * self.radius + self.radius
        assert self.attained() == pytest.approx(self.radius * math.sqrt(self.m**2 + 1))
        assert self.attained() <= right < printed

    def test_analysis(self):
        found = analyze(
            lambda u, x: u[0] @ x + u[1],
            (jaxsmooth.ball(self.radius), jaxsmooth.ball(self.m)),
            (struct(2, 2), struct(2)),
            struct(2),
        )
        assert self.attained() / SLACK <= float(found.bound)
        assert float(found.bound) <= (self.m * self.radius + self.radius) * SLACK
