"""What a program computes twice is one value, in the analysis and in f_eps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth.program.graph import trace
from jaxsmooth.program.normal import normalise

POINTS = np.linspace(-1.0, 1.0, 41)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def smoothed(f, eps=0.1, shape=(3,)):
    return jaxsmooth.smooth(f, eps, jaxsmooth.box(-jnp.ones(shape), jnp.ones(shape)))


def count(f, name, shape=(3,)):
    """Equations with that primitive in the normal form."""
    graph, _ = trace(f, (jax.ShapeDtypeStruct(shape, jnp.float64),))
    equations = normalise(graph, {}, graph.inputs).all_equations()
    return sum(e.primitive.name == name for e in equations)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.where(x[0] > 0, x[0], 0.1 * x[0]),
        lambda x: jnp.where(x[1:] > x[:-1], x[1:], x[:-1]).sum(),
        lambda x: jnp.where(x @ x > 1, x @ x, 1.0),
    ],
)
def test_choices_by_what_is_computed_again(f):
    """Each is continuous, which only shows where equal slices are one value."""
    f_eps = smoothed(f)
    certificate = f_eps.certificate(jnp.zeros(3))
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    errors = jax.vmap(f_eps)(points) - jax.vmap(f)(points)
    assert np.abs(errors).max() <= certificate.error <= 0.1
    assert np.isfinite(certificate.smoothness)


def test_every_repetition_is_smoothed():
    """The second relu is not left with its kink."""
    once = smoothed(lambda x: 2 * jnp.maximum(x[0], 0))
    again = smoothed(lambda x: jnp.maximum(x[0], 0) + jnp.maximum(x[0], 0))
    assert len(again.certificate(jnp.zeros(3)).sites) == 1
    for value in POINTS:
        x = jnp.array([value, 0, 0])
        np.testing.assert_allclose(again(x), once(x), atol=1e-15)
        np.testing.assert_allclose(jax.grad(again)(x), jax.grad(once)(x), atol=1e-14)


def test_repetitions_in_a_loop_with_an_accuracy_of_its_own_at_every_step():
    def step(c, w):
        return jnp.maximum(c * w, -0.5) + 0.1 * jnp.maximum(c * w, -0.5), None

    weights = jnp.asarray([1.0, -2.0, 0.5])
    f_eps = smoothed(lambda x: lax.scan(step, x, weights)[0].sum())
    certificate = f_eps.certificate(jnp.zeros(3))
    assert len(certificate.sites) == 1
    points = np.random.default_rng(0).uniform(-1, 1, (100, 3))
    exact = jax.vmap(lambda x: lax.scan(step, x, weights)[0].sum())(points)
    assert np.abs(jax.vmap(f_eps)(points) - exact).max() <= certificate.error <= 0.1


def test_stopped_repetitions_keep_their_values():
    def f(x):
        first = lax.stop_gradient(jnp.abs(x[0]))
        return jnp.abs(x[0]) * (first + lax.stop_gradient(jnp.abs(x[0])))

    f_eps = smoothed(f)
    certificate = f_eps.certificate(jnp.zeros(3))
    for value in POINTS:
        x = jnp.array([value, 0, 0])
        # Of |x|·(|x| + |x|) the second factor is exact, the first one is smoothed.
        assert abs(f_eps(x) - f(x)) <= certificate.error
        if value == 0:
            assert f_eps(x) == 0


def test_nothing_is_taken_from_a_branch_that_may_not_run():
    def f(x):
        return lax.cond(
            x[0] > 0,
            lambda: jnp.maximum(jnp.sin(x[0]), -0.5),
            lambda: jnp.maximum(jnp.sin(x[0]), -0.5) + jnp.maximum(x[0], -2.0) - x[0],
        )

    f_eps = smoothed(f)
    certificate = f_eps.certificate(jnp.zeros(3))
    for value in POINTS:
        x = jnp.array([value, 0, 0])
        assert abs(f_eps(x) - f(x)) <= certificate.error <= 0.1


def test_custom_derivatives_around_repetitions_survive():
    @jax.custom_jvp
    def square(x):
        return jnp.exp(x) * jnp.exp(x)

    @square.defjvp
    def _(primals, tangents):
        (x,), (dx,) = primals, tangents
        return square(x), 2 * square(x) * dx

    def f(x):
        return square(x[0]) + jnp.maximum(jnp.exp(x[0]), 1.0)

    text = str(jax.make_jaxpr(smoothed(f))(jnp.zeros(3)))
    assert "custom_jvp_call" in text


def test_effects_and_other_parameters_are_not_one():
    assert count(lambda x: x[0] + x[0], "slice") == 1
    assert count(lambda x: x[0] + x[1], "slice") == 2
    assert count(lambda x: jnp.sum(x) + jnp.sum(x) * jnp.max(x) * jnp.max(x), "reduce_sum") == 1
    assert count(lambda x: lax.integer_pow(x, 3) + lax.integer_pow(x, 5), "integer_pow") == 2
    assert count(lambda x: (x + 1.0) * (x + 2.0), "add") == 2
