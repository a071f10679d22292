"""Control, reinforcement learning, implicit surfaces, equations of physics."""

from __future__ import annotations

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen as nn
from flax import nnx

from jaxsmooth import ball, smooth
from jaxsmooth.errors import DiscontinuityError
from tests.models.harness import (
    SLOW,
    Model,
    built,
    cases,
    check_inputs_in_a_box,
    check_training,
    near_start,
    normal,
    of_equinox,
    of_haiku,
    of_nnx,
    uniform,
)


def dueling():
    def network(x):
        x = hk.nets.MLP([6, 6], activate_final=True)(x)
        value = hk.Linear(1)(x)
        advantage = hk.Linear(3)(x)
        return value + advantage - jnp.mean(advantage, axis=-1, keepdims=True)

    actions = jnp.array([0, 2])
    targets = jnp.array([0.5, -0.3])

    def loss(q):
        chosen = jnp.take_along_axis(q, actions[:, None], axis=-1)[:, 0]
        return jnp.mean(optax.huber_loss(chosen, targets))

    return of_haiku(network, normal(1, 2, 4), loss=loss)


def q_learning():
    """The temporal difference to a target that counts as constant."""
    model = dueling()
    actions, following = jnp.array([0, 2]), normal(8, 2, 4)

    def apply(parameters, states):
        q = model.apply(parameters, states)
        target = 0.1 + 0.9 * jnp.max(model.apply(parameters, following), axis=-1)
        chosen = jnp.sum(q * jax.nn.one_hot(actions, 3), axis=-1)
        return optax.huber_loss(chosen - jax.lax.stop_gradient(target))

    return Model(apply, model.parameters, model.inputs, jnp.mean)


def mean_absolute(x):
    return jnp.mean(jnp.abs(x))


class Siren(eqx.Module):
    layers: list
    last: eqx.nn.Linear
    w0: float = eqx.field(static=True)

    def __init__(self, w0=30.0, *, key):
        k = jax.random.split(key, 3)
        self.w0 = w0
        self.layers = [eqx.nn.Linear(2, 4, key=k[0]), eqx.nn.Linear(4, 4, key=k[1])]
        self.last = eqx.nn.Linear(4, 1, key=k[2])

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.sin(self.w0 * layer(x))
        return self.last(x)


def siren():
    return of_equinox(Siren(5.0, key=jax.random.key(0)), normal(2, 4, 2), loss=mean_absolute)


class Surface(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(3, 4, rngs=rngs)
        self.b = nnx.Linear(4, 4, rngs=rngs)
        self.c = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        x = nnx.softplus(100 * self.a(x)) / 100
        x = nnx.softplus(100 * self.b(x)) / 100
        return self.c(x)[..., 0]


def surface():
    return of_nnx(Surface(nnx.Rngs(0)), normal(3, 3, 3), loss=mean_absolute)


def siren_eikonal():
    """On the surface the distance is zero, everywhere its gradient has length one."""
    model = siren()

    def apply(parameters, points):
        def distance(point):
            return model.apply(parameters, point[None])[0, 0]

        gradient = jax.vmap(jax.grad(distance))(points)
        off = jnp.abs(jnp.linalg.norm(gradient, axis=-1) - 1)
        return jnp.mean(jnp.abs(model.apply(parameters, points))) + 0.1 * jnp.mean(off)

    return Model(apply, model.parameters, model.inputs, lambda loss: loss)


def heat(activation=jnp.tanh):
    network = eqx.nn.MLP(2, "scalar", 4, 2, activation=activation, key=jax.random.key(2))
    params, static = eqx.partition(network, eqx.is_inexact_array)

    def apply(params, points):
        u = eqx.combine(params, static)

        def residual(point):
            u_t = jax.grad(u)(point)[1]
            u_xx = jax.hessian(u)(point)[0, 0]
            return u_t - 0.1 * u_xx

        return jax.vmap(residual)(points)

    return Model(apply, near_start(params), uniform(4, 3, 2), lambda r: jnp.mean(r**2))


class Solution(nn.Module):
    @nn.compact
    def __call__(self, t, x):
        h = jnp.stack([t, x], axis=-1)
        for _ in range(2):
            h = nn.tanh(nn.Dense(4)(h))
        return nn.Dense(1)(h)[..., 0]


def burgers():
    network = Solution()
    params = network.init(jax.random.key(0), 0.0, 0.0)

    def apply(params, points):
        def u(t, x):
            return network.apply(params, t, x)

        def residual(point):
            t, x = point
            u_t, u_x = jax.grad(u, (0, 1))(t, x)
            u_xx = jax.grad(jax.grad(u, 1), 1)(t, x)
            return u_t + u(t, x) * u_x - 0.01 * u_xx

        return jax.vmap(residual)(points)

    return Model(apply, near_start(params), uniform(4, 3, 2), mean_absolute, jointly=False)


def rollout():
    """A policy whose torque and speed are clipped, over a few steps of a pendulum."""
    policy = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(3))
    params, static = eqx.partition(policy, eqx.is_inexact_array)

    def apply(params, states):
        act = eqx.combine(params, static)

        def step(state, _):
            angle, speed = state
            torque = jnp.clip(act(state)[0], -1.0, 1.0)
            speed = jnp.clip(speed + 0.1 * (jnp.sin(angle) + torque), -2.0, 2.0)
            new = jnp.stack([angle + 0.1 * speed, speed])
            return new, angle**2 + 0.1 * speed**2 + 0.01 * torque**2

        def cost(state):
            last, costs = jax.lax.scan(step, state, None, length=3)
            return costs.sum() + jnp.sum(jnp.abs(last))

        return jax.vmap(cost)(states)

    return Model(apply, near_start(params), normal(5, 2, 2), jnp.mean)


MODELS = [dueling, q_learning, siren, surface, siren_eikonal, heat, burgers, rollout]
MARKS = {dueling: SLOW, q_learning: SLOW, siren: SLOW, burgers: SLOW}


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_inputs_in_a_box(build):
    check_inputs_in_a_box(built(build))


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_training(build):
    check_training(built(build))


def test_derivative_of_a_kink_is_refused():
    model = heat(jax.nn.relu)

    def f(parameters):
        return model.apply(parameters, model.inputs)

    bounds = (ball(0.1, center=model.parameters),)
    with pytest.raises(DiscontinuityError, match="smooth before you differentiate"):
        smooth(f, 0.1, bounds).certificate(model.parameters)
