"""Losses with kinks, on a model."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from tests.models.harness import (
    Model,
    cases,
    check_inputs_in_a_box,
    check_training,
    normal,
    of_nnx,
)

TARGETS = normal(9, 4)
SIGNS = jnp.array([1.0, -1.0, 1.0, 1.0])
LABELS = jnp.array([0, 2, 1, 1])


class MLP(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(3, 5, rngs=rngs)
        self.last = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


def hinge(scores):
    return optax.losses.hinge_loss(scores[:, 0], SIGNS).mean()


def multiclass_hinge(scores):
    return optax.losses.multiclass_hinge_loss(scores, LABELS).mean()


def perceptron(scores):
    return optax.losses.multiclass_perceptron_loss(scores, LABELS).mean()


def focal(scores):
    return optax.losses.sigmoid_focal_loss(scores[:, 0], (SIGNS + 1) / 2).mean()


def absolute(scores):
    return jnp.abs(scores[:, 0] - TARGETS).mean()


def quantile(scores):
    away = TARGETS - scores[:, 0]
    return jnp.maximum(0.9 * away, -0.1 * away).mean()


def quantile_by_where(scores):
    away = TARGETS - scores[:, 0]
    return jnp.where(away >= 0, 0.9 * away, -0.1 * away).mean()


def huber(scores):
    return optax.losses.huber_loss(scores[:, 0], TARGETS, delta=0.5).mean()


def gathered_log_softmax(scores):
    return -jax.nn.log_softmax(scores)[jnp.arange(4), LABELS].mean()


def triplet_margin(scores):
    return optax.losses.triplet_margin_loss(scores[:1], scores[1:2], scores[2:3]).mean()


LOSSES = [
    hinge,
    multiclass_hinge,
    perceptron,
    absolute,
    quantile,
    quantile_by_where,
    huber,
    focal,
    gathered_log_softmax,
    triplet_margin,
]


@functools.cache
def model_with(loss):
    """The loss is part of the function, so that it also counts where inputs move."""
    network = of_nnx(MLP(rngs=nnx.Rngs(0)), normal(1, 4, 3))
    return Model(
        lambda parameters, x: loss(network.apply(parameters, x)),
        network.parameters,
        network.inputs,
        lambda value: value,
    )


@pytest.mark.parametrize("loss", cases(LOSSES))
def test_inputs_in_a_box(loss):
    check_inputs_in_a_box(model_with(loss))


@pytest.mark.parametrize("loss", cases(LOSSES))
def test_training(loss):
    check_training(model_with(loss))
