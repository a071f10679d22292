"""Random numbers from keys that are arguments, integers and bits: ranges hold what is drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth import analyze, anything, ball, box, smooth

KEYS = {
    "new": (jax.eval_shape(lambda: jax.random.key(0)), jax.random.key),
    "old": (jax.ShapeDtypeStruct((2,), np.uint32), jax.random.PRNGKey),
}
DRAWS = {
    "uniform": lambda k, x: x * jax.random.uniform(k, (3,)),
    "uniform in an interval": lambda k, x: x + jax.random.uniform(k, (3,), minval=-2, maxval=5),
    "normal": lambda k, x: x + jax.random.normal(k, (3,)),
    "dropout": lambda k, x: jnp.where(jax.random.bernoulli(k, 0.5, (3,)), 2 * jax.nn.relu(x), 0.0),
    "integers": lambda k, x: x * jax.random.randint(k, (3,), 2, 7),
    "choice": lambda k, x: x[jax.random.randint(k, (), 0, 3)],
    "split": lambda k, x: x * jax.random.uniform(jax.random.split(k)[1], (3,)),
    "fold in": lambda k, x: x * jax.random.uniform(jax.random.fold_in(k, 3), (3,)),
    "sign": lambda k, x: x * jax.random.rademacher(k, (3,), dtype=jnp.float32),
    "exponential": lambda k, x: x * jnp.minimum(jax.random.exponential(k, (3,)), 4.0),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("name", DRAWS)
def test_ranges_hold_what_is_drawn(name, kind):
    f = DRAWS[name]
    key, make = KEYS[kind]
    x = jax.ShapeDtypeStruct((3,), np.float32)
    found = analyze(f, (anything(), box(-1.0, 2.0)))(key, x)
    assert np.isfinite(found.bound)
    for seed in range(40):
        value = np.random.default_rng(seed).choice([-1.0, 2.0, 0.3], 3).astype(np.float32)
        y = np.asarray(f(make(seed), value))
        assert (y >= np.asarray(found.range[0]) - 1e-5).all()
        assert (y <= np.asarray(found.range[1]) + 1e-5).all()
        slope = np.asarray(jax.jacobian(f, 1)(make(seed), jnp.asarray(value))).reshape(y.size, 3)
        assert np.linalg.norm(slope, 2) <= found.lipschitz * (1 + 1e-5)


def test_dropout_with_the_key_as_an_argument():
    f = DRAWS["dropout"]
    f_eps = smooth(f, 0.1, (anything(), ball(1.0)))
    key = jax.random.key(3)
    x = jnp.array([0.01, -0.02, 0.5])
    certificate = f_eps.certificate(key, x)
    assert certificate.lipschitz <= 2 * (1 + 1e-6)
    for seed in range(10):
        away = np.linalg.norm(f_eps(jax.random.key(seed), x) - f(jax.random.key(seed), x))
        assert away <= certificate.error * (1 + 1e-5)
    jax.jit(jax.grad(lambda x: f_eps(key, x).sum()))(x)


INTEGERS = {
    "halves": lambda i: i // 2,
    "lax division": lambda i: jax.lax.div(i, jnp.int32(3)),
    "remainder": lambda i: i % 5,
    "rem": lambda i: jax.lax.rem(i, jnp.int32(4)),
    "mask": lambda i: i & 6,
    "union": lambda i: i | 8,
    "xor": lambda i: i ^ 3,
    "not": lambda i: ~i,
    "shift": lambda i: i << 3,
    "shift right": lambda i: i >> 1,
    "wraps": lambda i: i * 200000000,
    "unsigned": lambda i: i.astype(jnp.uint32),
    "small": lambda i: i.astype(jnp.int8),
    "parity": lambda i: (i % 2) == 0,
    "truth": lambda i: i.astype(bool),
    "bits": lambda i: jax.lax.population_count(i),
    "any": lambda i: jnp.any(i > 3),
    "all": lambda i: jnp.all(i.reshape(2, 3) > 3, axis=1),
    "odd number of": lambda i: jax.lax.reduce_xor((i > 3).reshape(2, 3), (0,)),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_that_are_not_known(name):
    """Whatever they are, they do not vary, and their range is right."""
    f = INTEGERS[name]

    def g(i, x):
        return f(i) * x[0]

    i = jax.ShapeDtypeStruct((6,), np.int32)
    found = analyze(g, (box(-20, 20), ball(1.0)))(i, jax.ShapeDtypeStruct((1,), np.float32))
    rng = np.random.default_rng(0)
    for _ in range(50):
        value = rng.integers(-20, 20, 6, endpoint=True).astype(np.int32)
        y = np.asarray(g(value, jnp.ones(1)))
        size = 1e-6 * np.abs(y)
        assert (y >= np.asarray(found.range[0]) - size).all()
        assert (y <= np.asarray(found.range[1]) + size).all()


def test_bits_of_what_varies():
    with pytest.raises(jaxsmooth.DiscontinuityError, match="bits of numbers that vary"):
        analyze(
            lambda x: jax.lax.bitcast_convert_type(
                jax.lax.bitcast_convert_type(x, jnp.uint32), jnp.float32
            ),
            ball(1.0),
        )(np.zeros(3, np.float32))


def test_remainders_whose_quotient_is_certain():
    f = lambda x: (x + 5) % 2.0  # noqa: E731
    found = analyze(f, box(np.full(3, -0.9), 0.9))(np.zeros(3))
    assert found.lipschitz == pytest.approx(1.0)
    with pytest.raises(jaxsmooth.DiscontinuityError, match=r"rem|mod"):
        analyze(f, box(np.full(3, -1.1), 0.9))(np.zeros(3))
