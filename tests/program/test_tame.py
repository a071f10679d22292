"""What nothing depends on is computed all the same: its derivatives are 0, and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth import box
from jaxsmooth.errors import JaxsmoothError

Function = Callable[..., Any]
UNIT = box(-1.0, 1.0)
X = np.array([0.3, -0.2, 0.1])


def loop(f: Function) -> Function:
    """f of both, twice, in a loop."""
    return lambda x, y: jax.lax.scan(lambda c, _: (f(c, y), None), x, None, 2)[0]


def carried(x: jax.Array, y: jax.Array) -> jax.Array:
    """A shift by what a loop carries for it alone."""

    def step(c: Any, _: None) -> Any:
        return (jax.nn.softmax(c[0] - c[1]), jnp.linalg.norm(y) * c[1]), None

    return jax.lax.scan(step, (x, 1.0), None, 2)[0][0]


def shared(x: jax.Array, y: jax.Array) -> jax.Array:
    shift = jnp.linalg.norm(y)
    return jax.lax.scan(lambda c, _: (jax.nn.softmax(c - shift), None), x, None, 2)[0]


def of(f: Function) -> Function:
    return lambda x, y: jax.nn.softmax(x - f(y))


SHIFTS: dict[str, Function] = {
    "norm": of(jnp.linalg.norm),
    "own norm": lambda x, y: jax.nn.softmax(x + y - jnp.linalg.norm(x + y)),
    "std": of(jnp.std),
    "log_softmax": lambda x, y: jax.nn.log_softmax(x - jnp.linalg.norm(y)),
    "logsumexp": lambda x, y: (
        jax.nn.logsumexp(x - jnp.linalg.norm(y)) + jnp.linalg.norm(y)
    ),
    "in a loop": loop(of(jnp.linalg.norm)),
    "around a loop": shared,
    "carried": carried,
    "rematerialised": jax.checkpoint(of(jnp.linalg.norm)),
}  # fmt: skip
CHOICES: dict[str, Function] = {
    "where": lambda x, y: jnp.where(jnp.arange(3) < 5, x, jnp.linalg.norm(y)),
    "nothing": lambda x, y: x + jnp.where(jnp.zeros(3, bool), jnp.hypot(y, y[::-1]), 0.0),
    "select_n": lambda x, y: jax.lax.select_n(np.int32(0), x, jnp.sqrt(jnp.abs(y))),
    "and on": lambda x, y: jax.nn.relu(jnp.where(jnp.ones(3, bool), x, jnp.sqrt(jnp.abs(y)))),
    "in a loop": loop(lambda x, y: jnp.where(jnp.ones(3, bool), x, jnp.linalg.norm(y))),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts(name: str) -> None:
    """Derivatives are numbers within the constants, also where the shift has none."""
    check(SHIFTS[name])


@pytest.mark.parametrize("name", CHOICES)
def test_known_choices(name: str) -> None:
    check(CHOICES[name])


def check(f: Function) -> None:
    smoothed = jaxsmooth.smooth(f, 0.1, (UNIT, UNIT))
    c = smoothed.certificate(X, X)
    for x, y in ((X, np.zeros(3)), (np.zeros(3), np.zeros(3)), (X, X)):
        x, y = np.float32(x), np.float32(y)
        np.testing.assert_allclose(smoothed(x, y), f(x, y), atol=c.error + 1e-5)
        for jacobian in (jax.jacfwd, jax.jacrev):
            found = np.concatenate(jacobian(smoothed, (0, 1))(x, y), axis=-1)
            assert np.linalg.norm(found, 2) <= c.lipschitz * (1 + 1e-5)
        assert np.isfinite(jax.hessian(smoothed, (0, 1))(x, y)).all()


REFUSED: dict[str, Function] = {
    "undefined": of(lambda y: jnp.log(y[0])),
    "infinite slope": of(lambda y: jnp.cbrt(y[0])),
    "select": lambda x, y: jnp.select([jnp.ones(3, bool), x > 0], [x, jnp.sqrt(y + 1)], 0.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_number_is_not_overlooked(name: str) -> None:
    """log(y) is no number for y < 0, nor is softmax(x - log(y))."""
    with pytest.raises(JaxsmoothError):
        jaxsmooth.smooth(REFUSED[name], 0.1, (UNIT, UNIT)).certificate(X, X)


def test_what_numbers_are_shifted_by_is_no_site() -> None:
    """Not the largest entry, nor a mean, nor what is stopped."""
    for shift in (
        lambda x: x.max(keepdims=True),
        lambda x: x.mean(),
        lambda x: jax.lax.stop_gradient(jnp.max(x)),
        lambda x: jnp.where(jnp.isfinite(x.max()), x.max(), 0.0),
    ):
        c = jaxsmooth.smooth(lambda x, t=shift: jax.nn.softmax(x - t(x)), 0.1, UNIT).certificate(X)
        assert c.sites == ()
        assert c.lipschitz <= 0.5 * (1 + 1e-9)
