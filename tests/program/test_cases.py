"""Choices by an index that conditions make are functions, continuous where branches meet."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxsmooth import DiscontinuityError, box, fixed, smooth
from tests.soundness.trees import attack


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def mapped(which, *branches):
    """A choice of each entry by itself."""
    return jax.vmap(lambda t: lax.switch(which(t), branches, t))


# What is written, and what it is.
FORMS = {
    "select": (
        lambda x: jnp.select([x > 0.5, x <= -0.5], [x, -x], 0.5),
        lambda x: jnp.maximum(jnp.abs(x), 0.5),
    ),
    "select, the first of several that hold": (
        lambda x: jnp.select([x > 0.5, x > -0.5, x > -0.7], [2 * x - 0.5, x, -0.5 + 0 * x], -0.5),
        lambda x: jnp.maximum(jnp.maximum(2 * x - 0.5, x), -0.5),
    ),
    "select with a known condition": (
        lambda x: jnp.select([np.zeros(3, bool), x > 0], [x**2, x], 0.0),
        jax.nn.relu,
    ),
    "select among maxima": (
        lambda x: jnp.select([x > x[::-1]], [x], x[::-1]), lambda x: jnp.maximum(x, x[::-1]),
    ),
    "piecewise": (
        lambda x: jnp.piecewise(x, [x < 0, x >= 0], [lambda t: -t, lambda t: t]), jnp.abs,
    ),
    "piecewise, the last of several that hold": (
        lambda x: jnp.piecewise(x, [x > -2, x > 0, x > 0.5], [0.0, lambda t: t, 0.5]),
        lambda x: jnp.clip(x, 0, 0.5),
    ),
    "an index of conditions of which some are known": (
        lambda x: x * jnp.argmax(jnp.concatenate([np.zeros((2, 3), bool), (x > 0)[None]]), axis=0),
        lambda x: 2 * jax.nn.relu(x),
    ),
    "piecewise with a default": (
        lambda x: jnp.piecewise(x, [x < -0.5, x > 0.5], [-1.0, 1.0, lambda t: 2 * t]),
        lambda x: 2 * jnp.clip(x, -0.5, 0.5),
    ),
    "by the larger of two conditions": (
        lambda x: jnp.where(jnp.maximum(x < -0.5, x > 0.5), jnp.abs(x), 0.5),
        lambda x: jnp.maximum(jnp.abs(x), 0.5),
    ),
    "the smaller of two conditions as a number": (
        lambda x: jnp.minimum(x > 0, x < 1) * x * (1 - x), lambda x: jax.nn.relu(x * (1 - x)),
    ),
    "a condition among three cases": (
        lambda x: lax.select_n((x > 0).astype(jnp.int32), -x, x, 5 * x), jnp.abs,
    ),
    "cond under vmap": (
        jax.vmap(lambda t: lax.cond(t > 0, lambda t: t, lambda t: -t, t)), jnp.abs,
    ),
    "cond that closes over its operand": (
        jax.vmap(lambda t: lax.cond(t > 0, lambda: t, lambda: 0.1 * t)),
        lambda x: jax.nn.leaky_relu(x, 0.1),
    ),
    "cond of two": (
        lambda x: jax.vmap(lambda t, u: lax.cond(t > u, lambda t, u: t, lambda t, u: u, t, u))(
            x, x[::-1]
        ),
        lambda x: jnp.maximum(x, x[::-1]),
    ),
    "cond in a cond": (
        jax.vmap(
            lambda t: lax.cond(
                t > 0, lambda t: lax.cond(t > 0.5, lambda t: 2 * t - 0.5, lambda t: t, t),
                lambda t: -t, t,
            )
        ),
        lambda x: jnp.maximum(jnp.abs(x), 2 * x - 0.5),
    ),
    "switch": (
        mapped(
            lambda t: jnp.int32(t > -0.5) + jnp.int32(t > 0.5),
            lambda t: -0.5, lambda t: t, lambda t: 0.5,
        ),
        lambda x: jnp.clip(x, -0.5, 0.5),
    ),
    "switch by other whole numbers": (
        mapped(
            lambda t: jnp.maximum(3 * jnp.int8(t > 0) - 1, 1),
            lambda t: t**3, lambda t: 0 * t, lambda t: t,
        ),
        jax.nn.relu,
    ),
    "cond under two vmaps": (
        lambda x: jax.vmap(
            jax.vmap(lambda t: lax.cond(t > 0, lambda t: t, lambda t: 0.0 * t, t))
        )(x[None])[0],
        jax.nn.relu,
    ),
    "counted": (lambda x: x * (jnp.int32(x > 0) - jnp.int32(x < 0)), jnp.abs),
    "fmax": (lambda x: jnp.fmax(x, x[::-1]), lambda x: jnp.maximum(x, x[::-1])),
    "fmin": (lambda x: jnp.fmin(x, 0.2 * x[::-1]), lambda x: jnp.minimum(x, 0.2 * x[::-1])),
}  # fmt: skip
SET = box(-1.0, 1.0)


@pytest.mark.parametrize(("f", "other"), FORMS.values(), ids=FORMS.keys())
def test_is_what_it_says(f, other):
    x = jnp.linspace(-1.0, 1.0, 3)
    np.testing.assert_allclose(f(x), other(x))
    found, expected = (attack(g, SET, x, eps=0.05) for g in (f, other))
    assert found.sites
    assert found.lipschitz <= expected.lipschitz * (1 + 1e-9)
    assert found.smoothness <= 2.5 * expected.smoothness


UNIT_AXES = {
    name: FORMS[name]
    for name in (
        "piecewise", "piecewise with a default", "piecewise, the last of several that hold",
        "counted",
    )
}  # fmt: skip
UNIT_AXES["where of what lost its axes"] = (
    lambda x: jnp.where(jnp.squeeze(x > 0), jnp.squeeze(x), jnp.squeeze(0.1 * x)).reshape(x.shape),
    lambda x: jax.nn.leaky_relu(x, 0.1),
)
UNIT_AXES["cond in which axes are dropped"] = (
    lambda x: lax.cond(
        jnp.squeeze(x) > 0, lambda: 2 * jnp.squeeze(x), lambda: jnp.zeros((), x.dtype)
    ).reshape(x.shape),
    lambda x: 2 * jax.nn.relu(x),
)


@pytest.mark.parametrize("shape", [(), (1,), (2, 1, 2)], ids=str)
@pytest.mark.parametrize("name", UNIT_AXES)
def test_unit_axes_do_not_matter(name, shape):
    """JAX drops those of conditions and of the variable apart."""
    f, other = UNIT_AXES[name]
    size = int(np.prod(shape))
    if size > 1 and name.startswith("cond"):
        pytest.skip("a predicate is a scalar")
    x = jnp.linspace(-1.0, 1.0, size).reshape(shape)
    f_eps, other_eps = (smooth(g, 0.05, SET) for g in (f, other))
    found, expected = f_eps.certificate(x), other_eps.certificate(x)
    assert found.sites
    assert found.lipschitz <= expected.lipschitz * (1 + 1e-9)
    assert found.smoothness <= 2.5 * expected.smoothness
    points = jnp.linspace(-1.0, 1.0, 200 * size).reshape(200, *shape)
    errors = jax.vmap(f_eps)(points) - jax.vmap(other)(points)
    assert jnp.max(jnp.linalg.norm(errors.reshape(200, -1), axis=1)) <= 0.05
    assert jnp.linalg.norm(jax.grad(lambda z: f_eps(z).sum())(x)) <= found.lipschitz * size**0.5


def test_derivatives_where_nothing_is_smoothed():
    """A cond without a kink keeps its program, in which masks stop what is not chosen."""
    f = jax.vmap(lambda t: lax.cond(t > 0, lambda t: jnp.sin(t), lambda t: jnp.tan(t), t))
    f_eps, x = smooth(f, 0.1, SET), jnp.linspace(-1.0, 1.0, 21)
    certificate = f_eps.certificate(x)
    assert certificate.error == 0
    assert certificate.lipschitz == pytest.approx(1 + np.tan(1.0) ** 2, rel=1e-2)
    np.testing.assert_allclose(jax.jacobian(f_eps)(x), jax.jacobian(f)(x))


JUMPS = {
    "select": lambda x: jnp.select([x > 0.5, x <= 0], [x, 0 * x], x * 2),
    "piecewise": lambda x: jnp.piecewise(x, [x > 0], [1.0, 0.0]),
    "cond": jax.vmap(lambda t: lax.cond(t > 0, jnp.exp, lambda t: t, t)),
    "wraps around": mapped(
        lambda t: jnp.int8(100) * jnp.int8(t > 0) + jnp.int8(100), lambda t: t, lambda t: -t
    ),
    "a gate of the user's": lambda x: jnp.where(
        jnp.int32(x > 0) == 1, x, lax.stop_gradient(x)
    ),
}  # fmt: skip


@pytest.mark.parametrize("f", JUMPS.values(), ids=JUMPS.keys())
def test_jumps_are_refused(f):
    with pytest.raises(DiscontinuityError):
        smooth(f, 0.1, SET).certificate(jnp.ones(3))


def test_conditions_on_data():
    """What is known may choose as it likes."""

    def f(x, data):
        chosen = jnp.select([data > 0.5, data > 0], [jnp.abs(x), jnp.sin(x)], 2.0)
        return chosen + jax.vmap(lambda t, d: lax.cond(d > 0, jnp.tanh, jnp.exp, t))(x, data)

    data = jnp.array([-1.0, 0.2, 0.7])
    attack(f, (SET, fixed(data)), jnp.ones(3), data, eps=0.05)
