"""The paper's two networks and a small ResNet, for one example, and their logistic loss.

Their initial weights are uniform on ±1/√(fan in), biases too: the initial norms of the
paper's table are those of this rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxsmooth.math.kernels import KERNELS

CLASSES = 10
_WINDOW = 5
_CHANNELS = (3, 16, 20, 20)

Params = list[tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Network:
    """A network for one example.

    Attributes:
        name: "mlp", "convnet" or "resnet".
        shapes: of each layer's weights; the last axis is the fan in, the first the fan out.
        apply: parameters and input to logits; with a third argument, the accuracies of its
            relus, these are smoothed.
        input_shape: of one input.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    apply: Callable[..., jax.Array]
    input_shape: tuple[int, ...]

    def init(self, key: jax.Array) -> Params:
        """Initial parameters."""
        params = []
        keys = jax.random.split(key, len(self.shapes))
        for shape, layer_key in zip(self.shapes, keys, strict=True):
            weight_key, bias_key = jax.random.split(layer_key)
            reach = 1 / math.sqrt(shape[-1])
            weight = jax.random.uniform(weight_key, shape, float, -reach, reach)
            params.append((weight, jax.random.uniform(bias_key, shape[:1], float, -reach, reach)))
        return params


def mlp(hidden: tuple[int, ...]) -> Network:
    """784-hidden-10 with relu between the layers."""

    def apply(u: Params, x: jax.Array, mu: Any = None) -> jax.Array:
        for k, (weight, bias) in enumerate(u[:-1]):
            x = relu(weight @ x + bias, mu, k)
        weight, bias = u[-1]
        return weight @ x + bias

    widths = (784, *hidden, CLASSES)
    shapes = tuple((after, before) for before, after in itertools.pairwise(widths))
    return Network("mlp", shapes, apply, (784,))


def convnet() -> Network:
    """Three times Conv 5×5, relu, AvgPool 2×2; then a dense layer."""

    def apply(u: Params, x: jax.Array, mu: Any = None) -> jax.Array:
        for k, (weight, bias) in enumerate(u[:-1]):
            x = relu(patches(x) @ weight.T + bias, mu, k)
            x = pooled(x)
        weight, bias = u[-1]
        return weight @ x.reshape(-1) + bias

    shapes = [(c, _WINDOW**2 * before) for before, c in itertools.pairwise(_CHANNELS)]
    return Network("convnet", (*shapes, (CLASSES, 4 * 4 * _CHANNELS[-1])), apply, (32, 32, 3))


def resnet(channels: int = 8) -> Network:
    """A stem and two residual blocks of two 3×3 convolutions, and a dense layer."""

    def apply(u: Params, x: jax.Array, mu: Any = None) -> jax.Array:
        def convolved(x: jax.Array, layer: int) -> jax.Array:
            weight, bias = u[layer]
            return patches(x, 3) @ weight.T + bias

        x = pooled(relu(convolved(x, 0), mu, 0))
        for layer in (1, 3):
            inside = relu(convolved(x, layer), mu, layer)
            x = pooled(relu(x + convolved(inside, layer + 1), mu, layer + 1))
        weight, bias = u[-1]
        return weight @ x.reshape(-1) + bias

    shapes = ((channels, 27), *[(channels, 9 * channels)] * 4, (CLASSES, 16 * channels))
    return Network("resnet", shapes, apply, (32, 32, 3))


def pooled(x: jax.Array) -> jax.Array:
    """Averages over 2×2 windows."""
    height, width, channels = x.shape
    return x.reshape(height // 2, 2, width // 2, 2, channels).sum((1, 3)) / 4


class Signs(list[jax.Array]):
    """In place of accuracies: gathers which elements of the relus are positive."""


def relu(x: jax.Array, mu: Any, site: int) -> jax.Array:
    """relu, or the site's smoothing of it: relu again, to the bit, where μ = 0."""
    if isinstance(mu, Signs):
        mu.append(x > 0)
    if mu is None or isinstance(mu, Signs):
        return jax.nn.relu(x)
    return KERNELS["minimax"].maximum(x, jnp.zeros_like(x), mu[site])


def patches(x: jax.Array, window: int = _WINDOW) -> jax.Array:
    """The window around every position of x, (height, width, window²·channels).

    A convolution is these times its weights. Convolutions inside a scan are twenty times
    slower on CPUs than this product is; the certificate is the same.
    """
    reach = window // 2
    height, width, _ = x.shape
    padded = jnp.pad(x, ((reach, reach), (reach, reach), (0, 0)))
    shifts = itertools.product(range(window), range(window))
    return jnp.concatenate([padded[i : i + height, j : j + width] for i, j in shifts], axis=-1)


def logistic(logits: jax.Array, label: Any) -> jax.Array:
    """The logistic loss of one example."""
    return -jax.nn.log_softmax(logits)[label]


def layer_norms(u: Params) -> jax.Array:
    """‖(W_t, b_t)‖₂ of every layer."""
    return jnp.stack([jnp.sqrt(jnp.sum(w**2) + jnp.sum(b**2)) for w, b in u])
