"""Networks of graphs and of sets."""

from __future__ import annotations

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from tests.models.harness import (
    SLOW,
    built,
    cases,
    check_inputs_in_a_box,
    check_training,
    cross_entropy,
    normal,
    of_equinox,
    of_haiku,
    of_linen,
    of_nnx,
)


class TNet(nnx.Module):
    def __init__(self, k, *, rngs):
        self.k = k
        self.point = nnx.Linear(k, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, k * k, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.point(x)))
        x = jnp.max(x, axis=1)
        x = self.head(x) + jnp.eye(self.k).reshape(-1)
        return x.reshape(-1, self.k, self.k)


class PointNet(nnx.Module):
    def __init__(self, *, rngs):
        self.transform = TNet(3, rngs=rngs)
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm1 = nnx.BatchNorm(4, rngs=rngs)
        self.second = nnx.Linear(4, 6, rngs=rngs)
        self.norm2 = nnx.BatchNorm(6, rngs=rngs)
        self.head = nnx.Sequential(
            nnx.Linear(6, 5, rngs=rngs), nnx.relu, nnx.Linear(5, 3, rngs=rngs)
        )

    def __call__(self, points):
        points = jnp.matmul(points, self.transform(points))
        x = nnx.relu(self.norm1(self.first(points)))
        x = nnx.relu(self.norm2(self.second(x)))
        return self.head(jnp.max(x, axis=1))


def pointnet():
    model = PointNet(rngs=nnx.Rngs(0))
    model.eval()
    return of_nnx(model, normal(1, 2, 5, 3), loss=cross_entropy([0, 2]))


SENDERS = jnp.array([0, 1, 2, 3, 0, 2])
RECEIVERS = jnp.array([1, 2, 3, 0, 2, 1])


def graph_network(aggregate):
    def network(graph):
        nodes, edges = graph
        for _ in range(2):
            ends = [nodes[SENDERS], nodes[RECEIVERS], edges]
            edges = hk.nets.MLP([4, 3])(jnp.concatenate(ends, axis=-1))
            received = aggregate(edges, RECEIVERS, num_segments=4)
            nodes = hk.nets.MLP([4, 3])(jnp.concatenate([nodes, received], axis=-1))
        return hk.Linear(2)(nodes.mean(axis=0))

    return of_haiku(network, (normal(2, 4, 3), normal(3, 6, 2)), loss=cross_entropy(1))


def graph_network_of_sums():
    return graph_network(jax.ops.segment_sum)


def graph_network_of_maxima():
    return graph_network(jax.ops.segment_max)


class GCN(nn.Module):
    @nn.compact
    def __call__(self, x):
        degree = jax.ops.segment_sum(jnp.ones_like(SENDERS), RECEIVERS, 4)
        for features in (4, 3):
            x = nn.Dense(features)(x)
            x = x * jax.lax.rsqrt(jnp.maximum(degree, 1.0))[:, None]
            x = jax.ops.segment_sum(x[SENDERS], RECEIVERS, 4)
            x = nn.relu(x)
        return nn.Dense(2)(x)


def gcn():
    return of_linen(GCN(), normal(2, 4, 3), loss=cross_entropy([0, 1, 1, 0]))


def segment_softmax(logits, segment_ids, num_segments):
    """As in jraph."""
    maxs = jax.ops.segment_max(logits, segment_ids, num_segments)
    logits = logits - maxs[segment_ids]
    logits = jnp.exp(logits)
    normalizers = jax.ops.segment_sum(logits, segment_ids, num_segments)
    return logits / normalizers[segment_ids]


class GAT(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(4)(x)
        score = nn.leaky_relu(nn.Dense(1)(jnp.concatenate([h[SENDERS], h[RECEIVERS]], axis=-1)))
        weights = segment_softmax(score, RECEIVERS, 4)
        h = jax.ops.segment_sum(weights * h[SENDERS], RECEIVERS, 4)
        return nn.Dense(2)(nn.elu(h))


def gat():
    return of_linen(GAT(), normal(2, 4, 3), loss=cross_entropy([0, 1, 1, 0]))


class Lipschitz(nn.Module):
    @nn.compact
    def __call__(self, x):
        def group_sort(x):
            return jnp.sort(x.reshape(*x.shape[:-1], -1, 2)).reshape(x.shape)

        x = group_sort(nn.Dense(6)(x))
        x = group_sort(nn.Dense(6)(x))
        return nn.Dense(2)(x)


def groupsort():
    return of_linen(Lipschitz(), normal(4, 2, 3), jointly=False)


class Maxout(eqx.Module):
    layers: list
    head: eqx.nn.Linear

    def __init__(self, key):
        k = jax.random.split(key, 3)
        self.layers = [eqx.nn.Linear(3, 8, key=k[0]), eqx.nn.Linear(4, 8, key=k[1])]
        self.head = eqx.nn.Linear(4, 2, key=k[2])

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.max(layer(x).reshape(4, 2), axis=-1)
        return self.head(x)


def maxout():
    return of_equinox(Maxout(jax.random.key(0)), normal(5, 2, 3))


class DeepSets(eqx.Module):
    phi: eqx.nn.MLP
    rho: eqx.nn.MLP

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.phi = eqx.nn.MLP(3, 4, 5, 1, key=a)
        self.rho = eqx.nn.MLP(4, 2, 5, 1, activation=jax.nn.elu, key=b)

    def __call__(self, x):
        return self.rho(jax.vmap(self.phi)(x).sum(0))


def deep_sets():
    return of_equinox(DeepSets(jax.random.key(0)), normal(5, 2, 4, 3))


MODELS = [
    pointnet,
    graph_network_of_sums,
    graph_network_of_maxima,
    gcn,
    gat,
    groupsort,
    maxout,
    deep_sets,
]
MARKS = {
    pointnet: SLOW,
    graph_network_of_sums: SLOW,
    graph_network_of_maxima: SLOW,
    gcn: SLOW,
    gat: SLOW,
    deep_sets: SLOW,
}


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_inputs_in_a_box(build):
    check_inputs_in_a_box(built(build))


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_training(build):
    check_training(built(build))
