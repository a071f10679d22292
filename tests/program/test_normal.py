"""The normal form, and evaluation of graphs."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import primitives as p

import jaxsmooth
from jaxsmooth.program.graph import Equation, Value, trace
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


def test_what_f_does_not_compute_is_no_site(monkeypatch):
    """A rewrite that puts kinks where f computes nothing would leave them in f_eps."""

    def split(equations, outputs, known, varies):
        found = []
        for e in equations:
            if e.primitive is p.max_p:
                inner = Value(e.outputs[0].aval)
                varies.add(inner)
                found.append(dataclasses.replace(e, outputs=(inner,)))
                e = Equation(p.copy_p, {}, (inner,), e.outputs, e.path, e.source)
            found.append(e)
        return found

    monkeypatch.setattr(jaxsmooth.analysis.prepare, "copies", split)
    f_eps = jaxsmooth.smooth(lambda x: jnp.maximum(x, 0), 0.1, jaxsmooth.ball(1.0))
    with pytest.raises(AssertionError, match="no part of f"):
        f_eps.certificate(jnp.ones(2))
