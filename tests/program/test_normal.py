"""The normal form, and evaluation of graphs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth.program.graph import trace
from jaxsmooth.program.normal import ELEMENTWISE, normalise


def struct(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: x * y,
        lambda x, y: jnp.maximum(x, y[0]),
        lambda x, y: jnp.where(x > y, x, y),
        lambda x, y: x + y[0, 0],
        lambda x, y: jnp.logaddexp(x, y),
        lambda x, y: x / np.arange(1.0, 3.0, dtype=np.float32)[:, None],
    ],
)
def test_operands_of_elementwise_equations_have_one_shape(f):
    graph, _ = trace(f, (struct(2, 3), struct(1, 3)))
    normal = normalise(graph, {}, graph.inputs)
    for equation in normal.equations:
        if equation.primitive in ELEMENTWISE:
            shape = equation.outputs[0].shape
            assert all(
                a.shape == shape or (a.shape == () and normal.value_of(a, shape) is not None)
                for a in equation.inputs
            )


def test_constants_are_known_while_an_outer_function_is_traced():
    """No value of the analysis becomes a tracer unless a number in it is one."""

    def f(x):
        return jnp.minimum(x, 0.5) * 2.0

    f_eps = jaxsmooth.smooth(f, 0.1, jaxsmooth.ball(1.0))
    seen = []

    @jax.jit
    def outer(x):
        seen.append(f_eps.certificate(x).sites[0].mu)
        return f_eps(x)

    outer(jnp.zeros((2, 3)))
    assert not isinstance(seen[0], jax.core.Tracer)


def test_equations_without_results():
    def f(x):
        jax.lax.scan(lambda c, _: (c, None), None, length=2)
        return jnp.abs(x)

    f_eps = jaxsmooth.smooth(f, 0.1, jaxsmooth.ball(1.0))
    np.testing.assert_allclose(f_eps(jnp.ones(3) * 0.9), 0.9, atol=0.11)
