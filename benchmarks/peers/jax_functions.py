"""The cases in JAX, as its users write them; they run on old versions of JAX too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers.table import normal

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def case(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function under the name of its case."""

    def enter(f: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS[name] = f
        return f

    return enter


def weights(name: str, *shape: int) -> Any:
    return jnp.asarray(normal(name, *shape))


def dense(x: Any, name: str, size: int) -> Any:
    return x @ weights(name, x.shape[-1], size) + weights(f"{name} bias", size)


@case("dense ReLU network")
def dense_network(x: Any) -> Any:
    x = jax.nn.relu(dense(x, "dense 1", 8))
    x = jax.nn.relu(dense(x, "dense 2", 8))
    return dense(x, "dense 3", 3)


@case("dense ReLU network, W @ x")
def dense_network_of_a_vector(x: Any) -> Any:
    x = jnp.ravel(x)
    for name, inputs, size in (("dense 1", 4, 8), ("dense 2", 8, 8)):
        x = jax.nn.relu(weights(name, inputs, size).T @ x + weights(f"{name} bias", size))
    return weights("dense 3", 8, 3).T @ x + weights("dense 3 bias", 3)


@case("convolutional ReLU network")
def convolutional_network(x: Any) -> Any:
    kernel = weights("convolution", 3, 3, 1, 2)
    x = lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + weights("convolution bias", 2))
    return dense(x.reshape(1, -1), "dense after convolution", 3)


@case("max pooling")
def max_pooling(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@case("average pooling")
def average_pooling(x: Any) -> Any:
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


@case("batch normalisation, inference")
def batch_normalisation(x: Any) -> Any:
    mean, variance = weights("mean", 4), jnp.abs(weights("variance", 4)) + 0.5
    x = (x - mean) / jnp.sqrt(variance + 1e-5)
    return x * weights("scale", 4) + weights("offset", 4)


def normalised(x: Any, axis: Any) -> Any:
    mean = jnp.mean(x, axis=axis, keepdims=True)
    variance = jnp.var(x, axis=axis, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-1)


@case("layer normalisation")
def layer_normalisation(x: Any) -> Any:
    return normalised(x, -1) * weights("scale", 4) + weights("offset", 4)


@case("group normalisation")
def group_normalisation(x: Any) -> Any:
    grouped = normalised(x.reshape(1, 4, 2, 2), (1, 3))
    return grouped.reshape(x.shape) * weights("scale", 4) + weights("offset", 4)


@case("dropout with a known key")
def dropout(x: Any) -> Any:
    # Which are kept depends on the precision of the probability.
    kept = jax.random.bernoulli(jax.random.PRNGKey(0), jnp.float32(0.5), x.shape)
    return jnp.where(kept, x / 0.5, 0.0)


@case("attention")
def attention(q: Any, k: Any, v: Any) -> Any:
    scores = q @ jnp.swapaxes(k, 1, 2) / np.sqrt(2.0)
    return jax.nn.softmax(scores, axis=-1) @ v


@case("resize, bilinear")
def resize(x: Any) -> Any:
    return jax.image.resize(x, (1, 6, 6, 1), "bilinear")


@case("softmax")
def softmax(x: Any) -> Any:
    return jax.nn.softmax(x, axis=-1)


@case("log_softmax")
def log_softmax(x: Any) -> Any:
    return jax.nn.log_softmax(x, axis=-1)


@case("logsumexp")
def logsumexp(x: Any) -> Any:
    return jax.nn.logsumexp(x, axis=-1)


@case("cross-entropy")
def cross_entropy(x: Any) -> Any:
    return -jnp.sum(jax.nn.log_softmax(x, axis=-1) * jnp.eye(4)[:1], axis=-1)


@case("Huber loss by where")
def huber(x: Any) -> Any:
    return jnp.where(jnp.abs(x) <= 1, 0.5 * x**2, jnp.abs(x) - 0.5)


FUNCTIONS |= {
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "hard_swish": jax.nn.hard_swish,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "abs": jnp.abs,
    "sqrt": jnp.sqrt,
}


@case("clip")
def clip(x: Any) -> Any:
    return jnp.clip(x, -1.0, 1.0)


@case("sin and cos")
def sin_and_cos(x: Any) -> Any:
    return jnp.sin(2 * x) + jnp.cos(x)


@case("exp and log")
def exp_and_log(x: Any) -> Any:
    return jnp.exp(x) + jnp.log(x + 2)


@case("powers")
def powers(x: Any) -> Any:
    return jnp.power(x, 2.5) + x**3


@case("maximum and minimum")
def maximum_and_minimum(x: Any, y: Any) -> Any:
    return jnp.maximum(x, y) + jnp.minimum(y, 0.5)


@case("division")
def division(x: Any, y: Any) -> Any:
    return x / y


@case("matmul of two inputs")
def matmul(x: Any, y: Any) -> Any:
    return x @ y


@case("2-norm")
def norm(x: Any) -> Any:
    return jnp.linalg.norm(x, axis=-1)


@case("max of many")
def max_of_many(x: Any) -> Any:
    return jnp.max(x, axis=-1)


@case("product of many")
def product_of_many(x: Any) -> Any:
    return jnp.prod(x, axis=-1)


@case("cumulative max")
def cumulative_max(x: Any) -> Any:
    return lax.cummax(x, axis=1)


@case("sort")
def sort(x: Any) -> Any:
    return jnp.sort(x, axis=-1)


@case("top_k")
def top_k(x: Any) -> Any:
    return lax.top_k(x, 2)[0]


@case("median")
def median(x: Any) -> Any:
    return jnp.median(x, axis=-1)


@case("gather, known indices")
def gather(x: Any) -> Any:
    return x[:, jnp.array([2, 0, 0, 3])]


@case("dynamic_slice, known start")
def dynamic_slice(x: Any) -> Any:
    return lax.dynamic_slice(x, (0, 1), (1, 2))


SEGMENTS = np.array([0, 0, 1, 2, 2, 2])


@case("segment_sum, known segments")
def segment_sum(x: Any) -> Any:
    return jax.ops.segment_sum(x.reshape(6), SEGMENTS, num_segments=3)


@case("segment_max, known segments")
def segment_max(x: Any) -> Any:
    return jax.ops.segment_max(x.reshape(6), SEGMENTS, num_segments=3)


@case("Fourier transform")
def fourier(x: Any) -> Any:
    z = jnp.fft.rfft(x, axis=-1)
    return jnp.concatenate([z.real, z.imag], axis=-1)


@case("linear solve, known matrix")
def solve(x: Any) -> Any:
    return jnp.linalg.solve(weights("matrix", 3, 3) + 2 * jnp.eye(3), x.reshape(3))


@case("Cholesky factor")
def cholesky(x: Any) -> Any:
    return jnp.linalg.cholesky(jnp.full((3, 3), 0.5) + jnp.eye(3) * x)


@case("RNN by scan")
def rnn(x: Any) -> Any:
    def step(h: Any, u: Any) -> tuple[Any, None]:
        return jnp.tanh(h @ weights("recurrent", 3, 3) + dense(u, "input", 3)), None

    return lax.scan(step, jnp.zeros((1, 3), x.dtype), jnp.swapaxes(x, 0, 1))[0]


@case("LSTM by scan")
def lstm(x: Any) -> Any:
    def step(state: Any, u: Any) -> tuple[Any, None]:
        h, c = state
        gates = h @ weights("gates of the state", 3, 12) + dense(u, "gates of the input", 12)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((1, 3), x.dtype)
    return lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))[0][0]


@case("fori_loop")
def fori_loop(x: Any) -> Any:
    return lax.fori_loop(0, 4, lambda _, y: jnp.tanh(dense(y, "loop", 3)), x)


@case("while, known number of steps")
def while_loop(x: Any) -> Any:
    def step(state: Any) -> tuple[Any, Any]:
        k, y = state
        return k + 1, jax.nn.relu(dense(y, "loop", 3))

    return lax.while_loop(lambda state: state[0] < 3, step, (0, x))[1]


@case("cond, known predicate")
def cond(x: Any) -> Any:
    even = jnp.arange(4)[2] % 2 == 0
    return lax.cond(even, jax.nn.relu, jnp.negative, x)


@case("stop_gradient, straight through")
def straight_through(x: Any) -> Any:
    return x + lax.stop_gradient(jnp.clip(x, -1.0, 1.0) - x)


@case("gradient inside")
def gradient_inside(x: Any) -> Any:
    def energy(x: Any) -> Any:
        return jnp.sum(dense(jnp.tanh(dense(x, "energy 1", 4)), "energy 2", 1))

    return jax.grad(energy)(x)
