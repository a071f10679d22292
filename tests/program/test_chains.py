"""Chains of functions of one variable as one function: attained constants, no needless kinks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import analyze, box, smooth
from jaxsmooth.analysis.prepare import prepare
from tests.rules.sampling import Box, check

SMOOTH = {
    "log(1 + x²)": lambda x: jnp.log(1 + x**2),
    "exp(-x²)": lambda x: jnp.exp(-(x**2)),
    "(0.3 + x²)^1.5": lambda x: (0.3 + x * x) ** 1.5,
    "acosh(1.1 + x²)": lambda x: jnp.arccosh(1.1 + x**2),
    "sin(x²)": lambda x: jnp.sin(x**2),
    "tanh²": lambda x: jnp.tanh(x) ** 2,
    "tanh of sin of 2x + 1": lambda x: jnp.tanh(jnp.sin(2 * x + 1)),
    "squared hinge": lambda x: jax.nn.relu(1 - x) ** 2,
    "|x|³": lambda x: jnp.abs(x) ** 3,
    "exp(-relu(x)²)": lambda x: jnp.exp(-(jax.nn.relu(x) ** 2)),
    "softplus by hand": lambda x: jnp.log(1 + jnp.exp(3 * x)),
    "softplus by log1p": lambda x: jnp.log1p(jnp.exp(-2 * x)),
    "logistic by hand": lambda x: 1 / (1 + jnp.exp(-x)),
    "logistic by its odds": lambda x: jnp.exp(2 * x) / (1 + jnp.exp(2 * x)),
    "logarithm of the logistic function": lambda x: jnp.log(jax.nn.sigmoid(x)),
    "logarithm of its complement": lambda x: jnp.log(1 - jax.nn.sigmoid(2 * x)),
    "logarithm of its complement, log1p": lambda x: jnp.log1p(-jax.nn.sigmoid(x)),
    "cross-entropy by hand": lambda x: (
        -0.3 * jnp.log(jax.nn.sigmoid(x)) - 0.7 * jnp.log(1 - jax.nn.sigmoid(x))
    ),
    "axes of length one": lambda x: jnp.log(1 + (x[:, None] ** 2)[None])[0, :, 0],
    "derivative inside": lambda x: jax.grad(lambda z: jnp.sum(z * jnp.sin(z)))(x),
}


def names(f, shape=(3,)):
    args = (jax.ShapeDtypeStruct(shape, jnp.float32),)
    problem = prepare(f, (box(-2.0, 2.0),), args, None, "minimax", "l2").problem
    return [e.primitive.name for e in problem.normal.equations]


# What is computed of them by themselves is accurate far out, too.
WIDE = [
    "softplus by hand", "softplus by log1p", "logistic by hand", "logistic by its odds",
    "logarithm of the logistic function", "log(1 + x²)", "exp(-x²)", "tanh²",
]  # fmt: skip
INTERVALS = [(name, 2.0) for name in SMOOTH] + [(name, 80.0) for name in WIDE]


@pytest.mark.parametrize(("name", "end"), INTERVALS)
def test_attained(name, end):
    """No site, and constants within 5 % of the largest derivatives on the interval."""
    f = SMOOTH[name]
    moves = {"reshape", "squeeze", "broadcast_in_dim"}
    assert [n for n in names(f) if n not in moves] == ["scalar_function"]
    found = check(f, Box((3,), -end, end))
    with jax.enable_x64(True):
        x = jnp.linspace(-end, end, 20_001)
        scalar = lambda z: jnp.sum(f(z[None]))  # noqa: E731
        # Compiled as one: operation by operation, compiling takes several times longer.
        wanted = jax.jit(jax.vmap(jax.value_and_grad(jax.grad(scalar))))
        slope, bend = (np.nanmax(np.abs(values)) for values in wanted(x))
    assert found.lipschitz <= 1.05 * slope
    assert found.smoothness <= 1.05 * bend


def test_no_smoothing_where_kinks_cancel():
    with jax.enable_x64(True):
        f = SMOOTH["squared hinge"]
        f_eps = smooth(f, 0.1, box(-2.0, 2.0))
        x = jnp.linspace(-2.0, 2.0, 301)
        certificate = f_eps.certificate(x)
        assert not certificate.sites
        assert certificate.error == 0
        np.testing.assert_array_equal(f_eps(x), f(x))


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        # A kink stays a site of its own, and what comes before and after it are chains.
        (
            lambda x: jnp.log1p(jnp.exp(jax.nn.relu(jnp.sin(x**2)))),
            ["scalar_function", "max", "scalar_function"],
        ),
        # What cannot be reached past a kink is left as it is.
        (lambda x: jnp.log1p(jnp.abs(x)), ["abs", "log1p"]),
        # Affine links alone make no chain.
        (lambda x: jnp.tanh(2 * x + 1), ["mul", "add", "tanh"]),
        # The squares of a sum are its own, but not those that take kinks away.
        (lambda x: jnp.sum(jnp.tanh(x) ** 2), ["tanh", "sum_of_squares"]),
        (lambda x: jnp.sum(jnp.sin(x**3) ** 2), ["scalar_function", "sum_of_squares"]),
        (lambda x: jnp.sum(jax.nn.relu(1 - x) ** 2), ["scalar_function", "reduce_sum"]),
        # What another equation mixes up ends a chain.
        (
            lambda x: jnp.sin(jnp.cumsum(jnp.exp(-(x**2)))),
            ["scalar_function", "cumsum", "sin"],
        ),
    ],
)
def test_cut(f, expected):
    assert names(f) == expected


BY_HAND = {
    "sigmoid": (lambda x: 1 / (1 + jnp.exp(-x)), jax.nn.sigmoid),
    "sigmoid of e^x": (lambda x: jnp.exp(x) / (1 + jnp.exp(x)), jax.nn.sigmoid),
    "sigmoid, turned": (lambda x: 1 / (jnp.exp(x) + 1), lambda x: jax.nn.sigmoid(-x)),
    "silu": (lambda x: x / (1 + jnp.exp(-x)), jax.nn.silu),
    "three": (lambda x: 3 / (1 + jnp.exp(x)), lambda x: 3 * jax.nn.sigmoid(-x)),
    "tanh": (
        lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)), jnp.tanh
    ),
    "bipolar": (
        lambda x: (1 - jnp.exp(-x)) / (1 + jnp.exp(-x)), lambda x: jnp.tanh(x / 2)
    ),
    "tanh of e^x": (
        lambda x: (jnp.exp(x) - 1) / (jnp.exp(x) + 1), lambda x: jnp.tanh(x / 2)
    ),
    "tanh by expm1": (
        lambda x: jnp.expm1(x) / (1 + jnp.exp(x)), lambda x: jnp.tanh(x / 2)
    ),
    "tanh, turned": (
        lambda x: (1 - jnp.exp(-2 * x)) / (1 + jnp.exp(-2 * x)), jnp.tanh
    ),
}  # fmt: skip


@pytest.mark.parametrize(("f", "function"), BY_HAND.values(), ids=BY_HAND.keys())
def test_what_is_written_with_exp(f, function):
    """Derivatives in single precision as it is written are no numbers far out, or are wrong."""
    f_eps, expected = (smooth(g, 0.1, box(-100.0, 100.0)) for g in (f, function))
    x = jnp.concatenate([jnp.linspace(-99.0, 99.0, 21), jnp.linspace(-9.0, 9.0, 21)])
    found, constants = f_eps.certificate(x[0]), expected.certificate(x[0])
    assert found.lipschitz <= constants.lipschitz * (1 + 1e-9)
    assert found.smoothness <= constants.smoothness * (1 + 1e-9)
    np.testing.assert_allclose(f_eps(x), function(x), rtol=1e-5, atol=1e-6)
    for derivative in (jax.grad, jax.jacfwd):
        slope = jax.vmap(derivative(f_eps))(x)
        bend = jax.vmap(jax.jacfwd(derivative(f_eps)))(x)
        np.testing.assert_allclose(slope, jax.vmap(jax.grad(function))(x), rtol=1e-4, atol=1e-6)
        curved = jax.vmap(jax.grad(jax.grad(function)))(x)
        np.testing.assert_allclose(bend, curved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-2 * x)),
        lambda x: (jnp.exp(x) - 2) / (jnp.exp(x) + 2),
        lambda x: (jnp.exp(x) - 1) / (jnp.exp(2 * x) + 1),
        lambda x: x / (2 + jnp.exp(x)),
        lambda x: jnp.exp(x) / (2 + jnp.exp(x)),
        lambda x: jnp.log(2 + jnp.exp(x)),
    ],
)
def test_what_only_resembles_it(f):
    f_eps = smooth(f, 0.1, box(-3.0, 3.0))
    x = jnp.linspace(-3.0, 3.0, 31)
    np.testing.assert_allclose(f_eps(x), f(x), rtol=1e-5, atol=1e-6)
    steepest = abs(jax.vmap(jax.grad(f))(x)).max()
    assert steepest <= f_eps.certificate(x[0]).lipschitz <= 1.1 * steepest


def test_links_that_are_read_elsewhere():
    """A kink inside a chain is a site for those that read it by themselves, and only there."""

    def f(x):
        inner = jax.nn.relu(x)
        return jnp.stack([inner**2, jnp.flip(inner)])

    assert sorted(names(f)).count("max") == 1
    found = smooth(f, 0.01, box(-1.0, 1.0)).certificate(jnp.zeros(3))
    assert len(found.sites) == 1
    assert found.sites[0].weight == pytest.approx(1.0, rel=1e-6)


def test_partly_defined():
    """Chains that are defined on a part of the line only, inside that part."""
    check(lambda x: jnp.log(jnp.log(x)), Box((2,), 1.5, 3.0))
    check(lambda x: jnp.sqrt(1 - x**2), Box((2,), -0.9, 0.9))
    check(lambda x: jnp.exp(-1 / x), Box((2,), 0.5, 2.0))
    check(lambda x: jnp.tan(jnp.sin(x)), Box((2,), -1.0, 9.0))


@pytest.mark.parametrize("half", [1.0, 30.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("outer", [jnp.log1p, jnp.sin, jnp.tanh, lambda y: jnp.sqrt(1 + y)])
def test_never_looser_than_link_by_link(outer, half):
    """Far out too, where the line is not cut any more: |f''| <= |outer''| (2x)² + 2 |outer'|."""
    with jax.enable_x64(True):
        found = analyze(lambda x: outer(x**2), box(-half, half))(jnp.zeros(2))
    assert found.lipschitz <= 2 * half * (1 + 1e-6)
    assert found.smoothness <= ((2 * half) ** 2 + 2) * (1 + 1e-6)
