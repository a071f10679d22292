"""A ReLU network in plain JAX: the function that the demo smooths."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Layer = dict[str, jax.Array]
Params = list[Layer]


def init_params(sizes: Sequence[int], seed: int) -> Params:
    """He-normal weights and zero biases.

    Args:
        sizes: widths, from the input to the output.
        seed: seed of the random numbers.

    Returns:
        One ``{"w": (out, in), "b": (out,)}`` per layer, float32.

    Example:
        >>> [layer["w"].shape for layer in init_params([64, 32, 10], seed=0)]
        [(32, 64), (10, 32)]
    """
    keys = jax.random.split(jax.random.key(seed), len(sizes) - 1)
    return [
        {
            "w": jax.random.normal(key, (after, before)) * jnp.sqrt(2.0 / before),
            "b": jnp.zeros(after),
        }
        for key, before, after in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def logits(params: Params, image: jax.Array) -> jax.Array:
    """Scores of the classes for one image.

    Args:
        params: the layers, see `init_params`.
        image: one image as a vector.

    Returns:
        One score per class.
    """
    x = image
    for layer in params[:-1]:
        x = jax.nn.relu(layer["w"] @ x + layer["b"])
    return params[-1]["w"] @ x + params[-1]["b"]


def loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy of a batch of images (n, d) with labels (n,)."""
    scores = jax.vmap(logits, (None, 0))(params, images)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], axis=1)
    return -jnp.mean(chosen)


def accuracy(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of the images whose highest score is that of their label."""
    scores = jax.vmap(logits, (None, 0))(params, images)
    return jnp.mean(jnp.argmax(scores, axis=1) == labels)
