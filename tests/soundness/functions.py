"""Functions of one array that programs are made of: elementwise, reductions, structural."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.random import threefry_2x32
from jax.scipy.linalg import solve_triangular


def _custom_relu() -> Callable:
    @jax.custom_jvp
    def custom(x):
        return jnp.maximum(x, 0)

    custom.defjvps(lambda t, _, x: t * (x > 0))
    return custom


def _custom_abs() -> Callable:
    @jax.custom_vjp
    def custom(x):
        return jnp.abs(x)

    custom.defvjp(lambda x: (jnp.abs(x), x), lambda x, t: (t * jnp.sign(x),))
    return custom


def _known_matrix(n, dtype):
    """Regular, neither triangular nor symmetric."""
    return jnp.asarray(2 * np.eye(n) + np.sin(np.arange(n * n).reshape(n, n)) / n, dtype)


def _key():
    return jax.random.split(jax.random.fold_in(jax.random.key(0), 1))[0]


def _noise(x):
    key = jax.random.clone(_key())
    other = jax.random.wrap_key_data(jax.random.key_data(jax.random.key(1)))
    return x + jax.random.normal(key, x.shape, x.dtype) * jax.random.uniform(other, (), x.dtype)


def _bits_of_keys(x):
    """Numbers drawn by what random functions are made of."""
    words = threefry_2x32(jnp.asarray([1, 2], jnp.uint32), jnp.arange(4, dtype=jnp.uint32))
    _, bits = lax.rng_bit_generator(jnp.arange(4, dtype=jnp.uint32), (2,))
    return x * (jnp.mean(words % 8) + jnp.mean(bits % 4)).astype(x.dtype)


def _piecewise(x):
    return jnp.where(x < -1, -1.0 - 2 * (x + 1), jnp.where(x < 0.5, x, 0.5 + 3 * (x - 0.5)))


def _each(which, *branches):
    """A branch for every entry, as `jax.vmap` makes of a switch."""

    def chosen(x):
        return jax.vmap(lambda t: lax.switch(which(t), branches, t))(x.ravel()).reshape(x.shape)

    return chosen


def _huber(x):
    return jnp.where(jnp.abs(x) < 1, 0.5 * x**2, jnp.abs(x) - 0.5)


KINKED = {
    "relu": jax.nn.relu,
    "maximum(x, 0)": lambda x: jnp.maximum(x, 0),
    "abs": jnp.abs,
    "minimum(x, 0.5)": lambda x: jnp.minimum(x, 0.5),
    "clip": lambda x: jnp.clip(x, -0.5, 0.75),
    "leaky_relu": jax.nn.leaky_relu,
    "leaky_relu(slope=2)": lambda x: jax.nn.leaky_relu(x, 2.0),
    "leaky_relu(slope=-0.5)": lambda x: jax.nn.leaky_relu(x, -0.5),
    "relu6(4x)": lambda x: jax.nn.relu6(4 * x),
    "hard_tanh": jax.nn.hard_tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_swish": jax.nn.hard_swish,
    "where(x > 0, x, 0.3x)": lambda x: jnp.where(x > 0, x, 0.3 * x),
    "where(0.1 < x, x - 0.1, 0)": lambda x: jnp.where(x > 0.1, x - 0.1, 0.0),
    "select pieces": _piecewise,
    "soft shrink": lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.2, 0),
    "tent": lambda x: jnp.maximum(1 - jnp.abs(x), 0),
    "soft_sign": jax.nn.soft_sign,
    "elu(alpha=2)": lambda x: jax.nn.elu(x, 2.0),
    "selu": jax.nn.selu,
    "x relu(x)": lambda x: x * jax.nn.relu(x),
    "relu(x)²": lambda x: jax.nn.relu(x) ** 2,
    "x|x|": lambda x: x * jnp.abs(x),
    "|tanh|": lambda x: jnp.abs(jnp.tanh(x)),
    "|x² − 0.3|": lambda x: jnp.abs(x**2 - 0.3),
    "log1p|x|": lambda x: jnp.log1p(jnp.abs(x)),
    "exp(−|x|)": lambda x: jnp.exp(-jnp.abs(x)),
    "abs of abs": lambda x: jnp.abs(jnp.abs(x) - 0.4),
    "max(x, 2x, −x)": lambda x: jnp.maximum(jnp.maximum(x, 2 * x), -x),
    "custom_jvp relu": _custom_relu(),
    "relu(x) − relu(x)": lambda x: jax.nn.relu(x) - 0.5 * jax.nn.relu(x),
    "relu(x) relu(−x)": lambda x: jax.nn.relu(x) * jax.nn.relu(0.2 - x),
    "custom_vjp abs": _custom_abs(),
    "interp": lambda x: jnp.interp(
        x, jnp.array([-1.0, -0.2, 0.3, 2.0], x.dtype), jnp.array([0.5, -0.4, 0.4, 0.1], x.dtype)
    ),
    "select": lambda x: jnp.select([x > 0.5, x > -0.4], [0.5 + 0 * x, x], -0.4),
    "piecewise": lambda x: jnp.piecewise(
        x, [x < 0.2, x > 1], [lambda t: 0.4 - t, lambda t: 2 * t - 1, lambda t: t]
    ),
    "piecewise with axes of length one": lambda x: jnp.piecewise(
        x[..., None], [x[..., None] < -0.3], [lambda t: -0.3 + 0 * t, lambda t: t]
    )[..., 0],
    "switch of each": _each(
        lambda t: jnp.int32(t > -0.3) + jnp.int32(t > 0.6),
        lambda t: -0.3 - 2 * (t + 0.3),
        lambda t: t,
        lambda t: 0.6 + jnp.sin(t - 0.6) / 2,
    ),
    "guarded against NaN": lambda x: jnp.nan_to_num(jnp.abs(x - 0.1)),
    "interp with zeros outside": lambda x: jnp.interp(
        x,
        jnp.array([-1.0, 0.3, 1.0], x.dtype),
        jnp.array([0.0, 0.7, 0.0], x.dtype),
        left=0.0,
        right=0.0,
    ),
    "i0e": jax.scipy.special.i0e,
    "stop_gradient gate": lambda x: jax.nn.relu(x) + 0 * lax.stop_gradient(jnp.abs(x)),
}

SMOOTH = {
    "elu": jax.nn.elu,
    "celu": jax.nn.celu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "gelu exact": lambda x: jax.nn.gelu(x, approximate=False),
    "mish": jax.nn.mish,
    "log_sigmoid": jax.nn.log_sigmoid,
    "squareplus": jax.nn.squareplus,
    "logaddexp(x, 0.5)": lambda x: jnp.logaddexp(x, 0.5),
    "square": jnp.square,
    "cube": lambda x: x**3,
    "x⁴": lambda x: x**4,
    "sin(3x)": lambda x: jnp.sin(3 * x),
    "cos": jnp.cos,
    "atan": jnp.arctan,
    "sinh of tanh": lambda x: jnp.sinh(jnp.tanh(x)),
    "sqrt(1 + x²)": lambda x: jnp.sqrt(1 + x**2),
    "rsqrt(0.5 + x²)": lambda x: lax.rsqrt(0.5 + x**2),
    "1/(1 + x²)": lambda x: 1 / (1 + x**2),
    "exp(tanh)": lambda x: jnp.exp(jnp.tanh(x)),
    "log(1 + x²)": lambda x: jnp.log(1 + x * x),
    "erf": jax.scipy.special.erf,
    "huber": _huber,
    "power 1.5": lambda x: (0.3 + x**2) ** 1.5,
    "affine": lambda x: 0.7 - 1.5 * x,
    "x / 3": lambda x: x / 3.0,
    "x sigmoid(x)": lambda x: x * jax.nn.sigmoid(x),
    "x tanh(x)": lambda x: x * jnp.tanh(x),
    "sin(x) cos(x)": lambda x: jnp.sin(x) * jnp.cos(x),
    "asinh": jnp.arcsinh,
    "exp2(tanh)": lambda x: jnp.exp2(jnp.tanh(x)),
    "cbrt(1 + x²)": lambda x: jnp.cbrt(1 + x**2),
    "gammaln(1 + x²)": lambda x: jax.scipy.special.gammaln(1 + x**2),
    "digamma(1 + x²)": lambda x: jax.scipy.special.digamma(1 + x**2),
    "polygamma(1, 1 + x²)": lambda x: jax.scipy.special.polygamma(1, 1 + x**2),
    "zeta(2.5, 1 + x²)": lambda x: jax.scipy.special.zeta(2.5, 1 + x**2),
    "gammainc(3, x²)": lambda x: jax.scipy.special.gammainc(3.0, 0.1 + x**2),
    "gammaincc of many": lambda x: jax.scipy.special.gammaincc(
        1.0 + jnp.arange(x.shape[-1], dtype=x.dtype), 0.1 + x**2
    ),
    "betainc(2.5, 3, logistic)": lambda x: jax.scipy.special.betainc(
        2.5, 3.0, 0.05 + 0.9 * jax.nn.sigmoid(x)
    ),
    "i1e": jax.scipy.special.i1e,
    "erf_inv of tanh": lambda x: jax.scipy.special.erfinv(0.9 * jnp.tanh(x)),
    "(1 + x²)^tanh": lambda x: (1 + x**2) ** jnp.tanh(jnp.flip(x, -1)) if x.ndim else x,
    "atan2": lambda x: jnp.arctan2(jnp.flip(x, -1), 0.3 + x**2) if x.ndim else x,
    "polynomial": lambda x: jnp.polyval(jnp.array([0.2, -1.0, 0.0, 0.5], x.dtype), jnp.tanh(x)),
    "acos of tanh": lambda x: jnp.arccos(0.9 * jnp.tanh(x)),
    "asin of tanh": lambda x: jnp.arcsin(0.9 * jnp.tanh(x)),
    "tan of tanh": lambda x: jnp.tan(1.2 * jnp.tanh(x)),
    "atanh of tanh": lambda x: jnp.arctanh(0.9 * jnp.tanh(x)),
    "acosh(1.1 + x²)": lambda x: jnp.arccosh(1.1 + x**2),
    "cosh of tanh": lambda x: jnp.cosh(jnp.tanh(x)),
    "log2(1 + x²)": lambda x: jnp.log2(1 + x**2),
    "cond of each": _each(lambda t: jnp.int32(t > 0), jnp.tanh, jnp.sin),
    "derivative inside": lambda x: jax.grad(lambda z: jnp.sum(z**2 * jnp.tanh(z)))(x),
    "reduce precision": lambda x: lax.reduce_precision(x, 11, 52),
}


REDUCTIONS = {
    "sum": lambda x: jnp.sum(x, -1),
    "mean": lambda x: jnp.mean(x, -1),
    "mean of all": jnp.mean,
    "max": lambda x: jnp.max(x, -1),
    "min": lambda x: jnp.min(x, -1),
    "max over the first axis": lambda x: jnp.max(x, 0),
    "l1": lambda x: jnp.sum(jnp.abs(x), -1),
    "variance": lambda x: jnp.var(x, -1),
    "smooth norm": lambda x: jnp.sqrt(0.1 + jnp.sum(x**2, -1)),
    "entries at the argmax": lambda x: (
        jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1], dtype=x.dtype) * x
    ).sum(-1),
    "norm": lambda x: jnp.linalg.norm(x, axis=-1),
    "logsumexp": lambda x: jax.nn.logsumexp(x, -1),
    "norm by powers": lambda x: (0.1 + jnp.sum(x**2.0, -1)) ** 0.5,
    "logsumexp with weights": lambda x: jax.scipy.special.logsumexp(x, -1, b=_weights(x)),
    "logsumexp of some": lambda x: jax.nn.logsumexp(x, -1, where=_weights(x) > 0),
    "logsumexp by hand": lambda x: jnp.log(jnp.sum(jnp.exp(jnp.tanh(x)), -1)),
    "product": lambda x: jnp.prod(x, -1),
    "dot itself": lambda x: jnp.sum(x * jnp.flip(x, -1), -1),
    "max − min": lambda x: jnp.max(x, -1) - jnp.min(x, -1),
    "linf norm": lambda x: jnp.max(jnp.abs(x), -1),
    "median": lambda x: jnp.median(x, -1),
    "lower quartile": lambda x: jnp.quantile(x, 0.25, axis=-1),
    "product of all": lambda x: jnp.prod(jnp.tanh(x)),
    "largest number": jnp.nanmax,
    "second largest": lambda x: lax.top_k(x, min(2, x.shape[-1]))[0][..., -1],
}


def _vector(x):
    """At most three entries, of moderate size."""
    return jnp.tanh(jnp.ravel(x)[:3])


def _matrix(x):
    """A matrix that is regular for every x, and not symmetric."""
    v = _vector(x)
    return 4 * jnp.eye(v.size, dtype=v.dtype) + 0.3 * jnp.outer(v, jnp.cos(jnp.flip(v)))


def _definite(x):
    """A positive definite matrix, of any x."""
    v = _vector(x)
    return 0.5 * jnp.eye(v.size, dtype=v.dtype) + jnp.outer(v, v)


def _apart(x):
    """A symmetric matrix with eigenvalues that stay apart, for every x."""
    v = _vector(x)
    return jnp.diag(8 * jnp.arange(1, v.size + 1, dtype=v.dtype)) + jnp.outer(v, v)


def _kernel(x):
    v = jnp.ravel(x)[:3]
    distances = (v[:, None] - v[None]) ** 2
    return jnp.exp(-0.5 * distances) + 0.5 * jnp.eye(v.size, dtype=v.dtype)


ALGEBRA = {
    "solve": lambda x: jnp.linalg.solve(_matrix(x), jnp.ravel(x)[:3]),
    "inverse": lambda x: jnp.linalg.inv(_matrix(x)).ravel()[:4],
    "ridge": lambda x: jnp.linalg.solve(_definite(x), jnp.ravel(x)[:3]),
    "solve positive": lambda x: jax.scipy.linalg.solve(
        _kernel(x), jnp.ravel(x)[:3], assume_a="pos"
    ),
    "solve triangular": lambda x: jax.scipy.linalg.solve_triangular(
        _matrix(x), jnp.ravel(x)[:3], lower=True
    ),
    "solve tridiagonal": lambda x: lax.linalg.tridiagonal_solve(
        0.5 * _vector(x), 4 + _vector(x), jnp.flip(_vector(x)), jnp.ravel(x)[:3, None]
    )[:, 0],
    "cholesky": lambda x: jnp.linalg.cholesky(_definite(x)).ravel()[:4],
    "cho_solve": lambda x: jax.scipy.linalg.cho_solve(
        jax.scipy.linalg.cho_factor(_kernel(x)), jnp.ravel(x)[:3]
    ),
    "whiten": lambda x: jax.scipy.linalg.solve_triangular(
        jnp.linalg.cholesky(_definite(x)), jnp.ravel(x)[:3], lower=True
    ),
    "log-determinant": lambda x: jnp.linalg.slogdet(_kernel(x))[1] * jnp.ravel(x)[:2],
    "eigenvalues": lambda x: jnp.linalg.eigvalsh(_apart(x)),
    "singular values": lambda x: jnp.linalg.svdvals(_apart(x)[:, :2]),
    "determinant": lambda x: jnp.linalg.det(_matrix(x)) / 64 + jnp.ravel(x)[:2],
}

WHOLE = {
    "softmax": jax.nn.softmax,
    "softmax of 5x": lambda x: jax.nn.softmax(5 * x),
    "softmax of some": lambda x: jax.nn.softmax(x, where=_weights(x) > 0),
    "softmax with weights": lambda x: (
        _weights(x) * jnp.exp(x) / jnp.sum(_weights(x) * jnp.exp(x), -1, keepdims=True)
    ),
    "log_softmax": jax.nn.log_softmax,
    "standardise": lambda x: jax.nn.standardize(x, epsilon=0.1),
    "l2 normalise": lambda x: x * lax.rsqrt(0.2 + jnp.sum(x**2, -1, keepdims=True)),
    "l2 normalise by powers": lambda x: x * (0.2 + jnp.sum(x**2.0, -1, keepdims=True)) ** -0.5,
    "cumsum": lambda x: jnp.cumsum(x, -1),
    "cummax": lambda x: lax.cummax(x, axis=x.ndim - 1),
    "cummin": lambda x: lax.cummin(x, axis=x.ndim - 1),
    "sort": lambda x: jnp.sort(x, -1),
    "sort the first axis": lambda x: jnp.sort(x, 0),
    "sort pairs": lambda x: jnp.sort(x.reshape(-1, 2), -1) if x.size % 2 == 0 else x,
    "top 2": lambda x: lax.top_k(x, min(2, x.shape[-1]))[0],
    "trimmed": lambda x: jnp.sort(x, -1)[..., :-1] if x.shape[-1] > 1 else x,
    "cumprod of tanh": lambda x: lax.cumprod(jnp.tanh(x), axis=x.ndim - 1),
    "cumlogsumexp": lambda x: lax.cumlogsumexp(x, axis=x.ndim - 1, reverse=True),
    "top_k": lambda x: lax.top_k(x, 1)[0],
    "centre": lambda x: x - jnp.mean(x, -1, keepdims=True),
    "linear solve": lambda x: jnp.linalg.solve(_known_matrix(x.shape[0], x.dtype), x),
    "triangular solve": lambda x: solve_triangular(
        _known_matrix(x.shape[0], x.dtype), x, lower=True
    ),
    "noise": _noise,
    "bits of keys": _bits_of_keys,
    "dropout": lambda x: jnp.where(jax.random.bernoulli(_key(), 0.7, x.shape), x / 0.7, 0.0),
    "divide by 1 + l1": lambda x: x / (1 + jnp.sum(jnp.abs(x), -1, keepdims=True)),
    "times its max": lambda x: x * jnp.max(x, -1, keepdims=True),
    "maxout of halves": lambda x: jnp.maximum(x, jnp.flip(x, -1)),
}


def _weights(x):
    """Of entries: of the first 1, of every third 0."""
    return ((jnp.arange(x.shape[-1]) + 1) % 3).astype(x.dtype)


def _masked(x, value):
    """Every second entry, at least the first one."""
    return jnp.where(jnp.arange(x.shape[-1]) % 2 == 0, x, value)


def _finite(x):
    """With a number for every infinity."""
    return jnp.where(jnp.isinf(x), 0.2, x)


STRUCTURE = {
    "flip": lambda x: jnp.flip(x, -1),
    "transpose": jnp.transpose,
    "flatten": jnp.ravel,
    "drop first": lambda x: x[1:] if x.shape[0] > 1 else x,
    "every second": lambda x: x[..., ::2],
    "roll": lambda x: jnp.roll(x, 1, -1),
    "pad with 1": lambda x: jnp.pad(x, [(0, 1)] * x.ndim, constant_values=1.0),
    "pad with edges": lambda x: jnp.pad(x, [(1, 1)] + [(0, 0)] * (x.ndim - 1), mode="edge"),
    "tile": lambda x: jnp.tile(x, 2),
    "gather with repeats": lambda x: x[jnp.array([0, 0, -1])],
    "x, −x": lambda x: jnp.concatenate([x, -x], -1),
    "stack": lambda x: jnp.stack([x, 2 * x]).sum(0),
    "scatter add": lambda x: jnp.zeros_like(x).at[jnp.zeros(x.shape[0], int)].add(x),
    "set first": lambda x: x.at[0].set(x[-1] * 0.5),
    "expand and squeeze": lambda x: jnp.squeeze(x[None, ..., None], (0, x.ndim + 1)),
    "differences": lambda x: x[..., 1:] - x[..., :-1] if x.shape[-1] > 1 else x,
    "dynamic slice": lambda x: lax.dynamic_slice_in_dim(x, 0, 1, 0),
    "segment max": lambda x: jax.ops.segment_max(
        x, jnp.arange(x.shape[0]) % min(2, x.shape[0]), min(2, x.shape[0])
    ),
    "segment min": lambda x: jax.ops.segment_min(x, jnp.zeros(x.shape[0], int), 1),
    "scatter max": lambda x: x.at[0].max(x[-1]),
    "scatter mul": lambda x: x.at[0].multiply(x[-1], unique_indices=True),
    "scatter subtract": lambda x: x.at[jnp.zeros(x.shape[0], int)].subtract(jnp.flip(x, 0)),
    "update slice": lambda x: lax.dynamic_update_slice_in_dim(x, 2 * x[-1:], 0, 0),
    "segment sum": lambda x: jax.ops.segment_sum(x, jnp.arange(x.shape[0]) % 2, 2),
    "split": lambda x: jnp.concatenate(jnp.split(x, 2, -1)[::-1]) if x.shape[-1] % 2 == 0 else x,
    "unstack": lambda x: sum(jnp.unstack(x)),
    "named": lambda x: checkpoint_name(x, "x"),
    "barrier": lambda x: lax.optimization_barrier(2 * x),
    "put": jax.device_put,
    "sharded": lambda x: lax.with_sharding_constraint(
        x, jax.sharding.SingleDeviceSharding(jax.devices()[0])
    ),
    "hypot": lambda x: jnp.hypot(x, jnp.roll(x, 1, -1)),
    "hypot with 0.3": lambda x: jnp.hypot(x, jnp.asarray(0.3, x.dtype)),
    "length written out": lambda x: jnp.sqrt(x**2 + jnp.flip(x, -1) ** 2 + 0.05),
    "where of what is read again": lambda x: jnp.where(x[0] > 0, x[0], 0.1 * x[0]) * x,
    "larger of neighbours by where": lambda x: jnp.where(
        x > jnp.roll(x, 1, -1), x, jnp.roll(x, 1, -1)
    ),
    "smaller of two numbers": lambda x: jnp.fmin(x, 0.3 + jnp.flip(x, -1)),
    "larger of neighbours by cond": lambda x: jax.vmap(
        lambda t, u: lax.cond(t > u, lambda t, u: t, lambda t, u: u, t, u)
    )(x.ravel(), jnp.roll(x.ravel(), 1)),
    "smaller than the mean by where": lambda x: jnp.where(x <= x.mean(), x, x.mean()),
    "what is computed again": lambda x: jax.nn.relu(x[-1]) * x - jnp.abs(jax.nn.relu(x[-1])),
    "branches that meet": lambda x: (
        lax.cond(
            x.ravel()[0] > 0.1, lambda: 0.05 + 0.5 * x.ravel()[0], lambda: jnp.abs(x.ravel()[0])
        )
        + x
    ),
    "larger of two by branches": lambda x: (
        lax.cond(jnp.sum(x) < x.ravel()[0], lambda: x.ravel()[0], lambda: jnp.sum(x)) * x
    ),
    "outer product": lambda x: jnp.outer(x, x)[:3, :3] if x.ndim == 1 else x,
    "empty segment": lambda x: _finite(jax.ops.segment_max(x, 2 * (jnp.arange(x.shape[0]) % 2), 3)),
    "sorted behind a mask": lambda x: _finite(jnp.sort(_masked(x, jnp.inf), -1)),
    "largest of a mask": lambda x: lax.top_k(_masked(x, -jnp.inf), min(2, x.shape[-1]))[0][..., :1],
    "running maximum behind a mask": lambda x: _finite(
        lax.cummax(_masked(jnp.flip(x, -1), -jnp.inf), axis=x.ndim - 1)
    ),
    "masked attention weights": lambda x: jax.nn.softmax(_masked(x, -jnp.inf)),
    "filled": lambda x: x.at[jnp.array([0, 9])].get(mode="fill", fill_value=0.4),
}
