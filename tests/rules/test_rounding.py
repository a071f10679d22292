"""Slopes of f_eps do not hang on how its variables are rounded where they are read.

Compilers form a value again wherever it is cheap, and contract a x - b y into one rounding
in one place and not in another, so that two readers of one variable need not agree on its
sign. A slope that is a sum of jumps which cancel at a kink would be wrong by those jumps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth.math.kernels import KERNELS
from jaxsmooth.program.evaluate import bind_equation

INLINED = {"pjit": "jaxpr", "jit": "jaxpr", "custom_jvp_call": "call_jaxpr"}


class Rounded:
    """Runs a jaxpr in which every reader of a number sees a rounding of its own."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def read(self, value):
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            return value
        value = np.asarray(value)
        shift = self.rng.choice([-1.0, 0.0, 1.0], value.shape)
        finite = np.where(np.isfinite(value), value, 0.0)
        return value + shift * 2.0**-50 * (1 + abs(finite))

    def run(self, jaxpr, consts, arguments, settled=()):
        """Results, and which of them are settled: formed from what is behind barriers alone."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))
        behind = {v for v, known in zip(jaxpr.invars, settled, strict=False) if known}
        behind.update(jaxpr.constvars)
        is_settled = lambda v: hasattr(v, "val") or v in behind  # noqa: E731
        value = lambda v: v.val if hasattr(v, "val") else values[v]  # noqa: E731
        for eqn in jaxpr.eqns:
            known = [is_settled(v) for v in eqn.invars]
            # One equation reads one number once: x != x is false.
            apart = {v: self.read(values[v]) for v in eqn.invars if not is_settled(v)}
            read = [value(v) if is_settled(v) else apart[v] for v in eqn.invars]
            inner = eqn.params.get(INLINED.get(eqn.primitive.name))
            if inner is None:
                results = bind_equation(eqn, read)
                all_known = all(known) or eqn.primitive.name == "optimization_barrier"
                behind.update(eqn.outvars if all_known else ())
            else:
                results, known = self.run(inner.jaxpr, inner.consts, read, known)
                behind.update(v for v, k in zip(eqn.outvars, known, strict=True) if k)
            values.update(zip(eqn.outvars, results, strict=True))
        return [value(v) for v in jaxpr.outvars], [is_settled(v) for v in jaxpr.outvars]


def spread(function, *arguments):
    """How far results come apart, over roundings, from those of the function itself."""
    traced = jax.make_jaxpr(function)(*arguments)
    expected = np.asarray(function(*arguments))
    runs = [Rounded(seed).run(traced.jaxpr, traced.consts, arguments)[0][0] for seed in range(6)]
    return max(np.abs(np.asarray(run) - expected).max() for run in runs)


def test_the_search_finds_slopes_that_cancel():
    with jax.enable_x64(True):
        assert spread(jax.grad(lambda x: jnp.abs(x) - jnp.abs(x)), jnp.zeros(())) >= 1
        once = lambda x: jax.lax.optimization_barrier(x)  # noqa: E731
        assert spread(jax.grad(lambda x: jnp.sin(once(x)) ** 2), jnp.ones(())) < 1e-12


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_kernels(kernel):
    functions = [
        lambda x, mu: kernel.relu(x, mu),
        lambda x, mu: kernel.absolute(x, mu),
        lambda x, mu: kernel.maximum(x, 2 * x, mu),
        lambda x, mu: kernel.minimum(x, jnp.sin(2 * x), mu),
    ]
    reach = min(kernel.window, 4.0)
    with jax.enable_x64(True):
        x, mu = jnp.array([0.0, 0.25, -0.125]) * reach, jnp.full(3, 0.25)
        for function in functions:
            slopes = jax.vmap(jax.grad(function, (0, 1)))
            assert spread(lambda x, mu, slopes=slopes: jnp.stack(slopes(x, mu)), x, mu) < 1e-9


FUNCTIONS = {
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "leaky_relu": jax.nn.leaky_relu,
    "relu6": jax.nn.relu6,
    "clip": lambda x: jnp.clip(x, 0.0, 1.0),
    "hard_swish": jax.nn.hard_swish,
    "huber": lambda x: jnp.where(abs(x) < 1, x * x / 2, abs(x) - 0.5),
    "elu": lambda x: jax.nn.elu(x, 2.0),
    "softshrink": lambda x: jnp.where(abs(x) > 1, x - jnp.sign(x), 0.0),
    "waves": lambda x: jnp.abs(x) * jnp.cos(x) + jnp.maximum(jnp.sin(x), 0),
    "kinks that cancel": lambda x: jax.nn.relu(x) - jax.nn.relu(-x),
    "maximum": lambda x: jnp.maximum(x, 2 * x[::-1]),
    "largest": lambda x: jnp.max(x),
    "sorted": jnp.sort,
    "median": jnp.median,
    "length": lambda x: jnp.linalg.norm(x),
    "hypot": lambda x: jnp.hypot(x, 2 * x[::-1]),
    "running maximum": lambda x: jax.lax.cummax(x),
    "interpolated": lambda x: jnp.interp(x, jnp.array([-1.0, 0, 1]), jnp.array([0.0, 1, 0])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_smoothed_functions(name):
    with jax.enable_x64(True):
        smoothed = jaxsmooth.smooth(FUNCTIONS[name], 0.1, jaxsmooth.linf_ball(4.0), kernel="paper")

        def value(x):
            y = smoothed(x).ravel()
            return jnp.arange(1, 1 + len(y)) @ y

        for x in ([0.0, 0.0, 0.0], [1.0, -1.0, 1.0], [3.0, 0.5, -3.0]):
            assert spread(jax.grad(value), jnp.array(x)) < 1e-8
