"""Flax and optax as they are: modules, losses, regularisers, a training step.

Every certificate is attacked at points of its set, corners and boundaries among them:
distance to f, range, Jacobian, and secants of the Jacobian bisected towards the kinks.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsmooth import anything, ball, box, fixed, smooth
from tests.soundness.trees import attack

LABELS = np.array([2, 0, 1])


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def wide(tree):
    """Parameters in float64; flax makes float32."""
    single = lambda x: x.dtype == np.float32  # noqa: E731
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if single(x) else x, tree)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(6)(x))
        x = nn.relu(nn.Dense(5)(x))
        return nn.Dense(3)(x)


class CNN(nn.Module):
    """Convolutions, both poolings, batch norm, dropout."""

    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=not self.train)(x)
        x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        x = nn.avg_pool(nn.relu(nn.Conv(3, (2, 2))(x)), (2, 2), (2, 2))
        x = nn.Dropout(0.5, deterministic=not self.train)(x.reshape(x.shape[0], -1))
        return nn.Dense(3)(x)


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        branch = nn.Conv(2, (3, 3))(nn.relu(nn.Conv(2, (3, 3))(x)))
        return nn.relu(branch + nn.Conv(2, (1, 1), use_bias=False)(x)).mean(axis=(1, 2))


def module(kind, shape):
    """(apply, variables, a batch) of a linen module, running statistics away from 0 and 1."""
    x = normal(1, *shape)
    variables = wide(kind().init(jax.random.key(0), x))
    if "batch_stats" in variables:
        rng = np.random.default_rng(2)
        variables["batch_stats"] = jax.tree.map(
            lambda s: jnp.asarray(rng.uniform(0.5, 1.5, s.shape)), variables["batch_stats"]
        )
    return kind().apply, variables, x


IMAGES = (2, 4, 4, 1)


class TestLinen:
    @pytest.mark.parametrize(
        ("kind", "shape"),
        [
            (MLP, (2, 4)),
            pytest.param(CNN, IMAGES, marks=pytest.mark.slow),
            (Residual, IMAGES),
        ],
    )
    def test_trained_weights(self, kind, shape):
        apply, variables, x = module(kind, shape)
        bounds = (fixed(variables), box(x - 0.3, x + 0.3))
        certificate = attack(apply, bounds, variables, x)
        assert certificate.error >= 0.099
        assert all(0 <= site.active <= site.size for site in certificate.sites)

    def test_trained_mlp_is_no_looser_than_norms(self):
        apply, variables, x = module(MLP, (2, 4))
        certificate = smooth(apply, 0.1, (fixed(variables), anything())).certificate(variables, x)
        layers = [np.linalg.norm(p["kernel"], 2) for p in variables["params"].values()]
        assert certificate.lipschitz <= np.prod(layers) * (1 + 1e-6)
        # μ of the last site: its weight is the last layer's norm.
        assert certificate.sites[-1].weight <= layers[-1] * (1 + 1e-6)

    @pytest.mark.parametrize(("kind", "shape"), [(MLP, (2, 4)), (CNN, IMAGES), (Residual, IMAGES)])
    @pytest.mark.parametrize("inputs", ["fixed", "box"])
    def test_weights_in_balls(self, kind, shape, inputs):
        apply, variables, x = module(kind, shape)
        params = variables.pop("params")

        def f(params, statistics, x):
            return apply({"params": params, **statistics}, x)

        where = fixed(x) if inputs == "fixed" else box(x - 0.1, x + 0.1)
        bounds = ({name: ball(1.5) for name in params}, fixed(variables), where)
        certificate = attack(f, bounds, params, variables, x)
        assert set(certificate.lipschitz_per_argument) == {0} | ({2} if inputs == "box" else set())

    def test_around_trained_weights(self):
        apply, variables, x = module(CNN, IMAGES)
        params, statistics = variables["params"], {"batch_stats": variables["batch_stats"]}

        def f(params, x):
            return apply({"params": params, **statistics}, x)

        near = {name: ball(0.05, center=value) for name, value in params.items()}
        attack(f, (near, fixed(x)), params, x)

    def test_other_kernels(self):
        apply, variables, x = module(CNN, IMAGES)
        for kernel in ("centered", "softplus"):
            attack(apply, (fixed(variables), box(x - 0.3, x + 0.3)), variables, x, kernel=kernel)

    @pytest.mark.parametrize("activation", [nn.relu6, nn.tanh, nn.sigmoid, nn.softplus])
    def test_activations(self, activation):
        dense = nn.Dense(4)
        x = normal(3, 3)
        variables = wide(dense.init(jax.random.key(1), x))

        def f(variables, x):
            return activation(5 * dense.apply(variables, x))

        attack(f, (ball(1.0, center=variables), box(-1.0, 1.0)), variables, x)


def logits():
    """(f, bounds, params, x) of an MLP with its weights in balls."""
    apply, variables, x = module(MLP, (3, 4))
    return apply, {"params": {n: ball(1.5) for n in variables["params"]}}, variables, x


def cross_entropy(scores, labels):
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def one_hot_cross_entropy(scores, labels):
    return optax.softmax_cross_entropy(scores, jax.nn.one_hot(labels, 3)).mean()


class TestLosses:
    @pytest.mark.parametrize("loss", [cross_entropy, one_hot_cross_entropy])
    def test_alone_needs_no_smoothing(self, loss):
        scores = normal(4, 3, 3)
        certificate = attack(loss, (ball(4.0), fixed(LABELS)), scores, LABELS)
        assert certificate.error == 0
        assert not certificate.sites
        assert certificate.lipschitz <= np.sqrt(2) * (1 + 1e-6)
        assert certificate.smoothness <= 0.5 * (1 + 1e-6)

    @pytest.mark.parametrize("loss", [cross_entropy, one_hot_cross_entropy])
    @pytest.mark.parametrize("known", [True, False])
    def test_of_a_network(self, loss, known):
        apply, balls, params, x = logits()

        def f(params, x, labels):
            return loss(apply(params, x), labels)

        bounds = (balls, fixed(x), fixed(LABELS) if known else anything())
        certificate = attack(f, bounds, params, x, jnp.asarray(LABELS))
        assert len(certificate.sites) == 2  # the relus; the loss adds none
        if not known:
            other = smooth(f, 0.1, bounds)
            for labels in ([0, 0, 0], [1, 2, 2]):
                away = other(params, x, jnp.array(labels)) - f(params, x, jnp.array(labels))
                assert abs(away) <= certificate.error

    def test_hinge(self):
        apply, balls, params, x = logits()

        def f(params, x, signs):
            return optax.hinge_loss(apply(params, x)[:, 0], signs).mean()

        signs = jnp.array([1.0, -1.0, 1.0])
        certificate = attack(f, (balls, fixed(x), fixed(signs)), params, x, signs)
        assert len(certificate.sites) == 3

    def test_hinge_alone_is_sharp(self):
        signs = jnp.array([1.0, -1.0, 1.0, -1.0])
        bounds = (ball(4.0), fixed(signs))
        f = lambda s, y: optax.hinge_loss(s, y).mean()  # noqa: E731
        certificate = attack(f, bounds, normal(5, 4), signs, eps=0.2)
        assert certificate.lipschitz == pytest.approx(0.5, rel=1e-6)
        # Mean of four hinges, each off by eps at most: 1/(16 eps)/4.
        assert certificate.smoothness == pytest.approx(1 / (16 * 0.2) / 4, rel=1e-3)

    @pytest.mark.parametrize("loss", [optax.sigmoid_binary_cross_entropy, optax.huber_loss])
    def test_elementwise(self, loss):
        target = jnp.array([1.0, 0.0, 1.0])
        f = lambda s, y: loss(s, y).mean()  # noqa: E731
        attack(f, (ball(4.0), fixed(target)), normal(6, 3), target)

    @pytest.mark.parametrize("norm", ["l1", "l2"])
    def test_regularised(self, norm):
        apply, balls, params, x = logits()

        def f(params, x, labels):
            if norm == "l1":
                penalty = sum(jnp.sum(jnp.abs(p)) for p in jax.tree.leaves(params))
            else:
                penalty = optax.tree.norm(params, squared=True) / 2
            return cross_entropy(apply(params, x), labels) + 0.01 * penalty

        certificate = attack(f, (balls, fixed(x), fixed(LABELS)), params, x, LABELS)
        assert len(certificate.sites) == (2 + 6 if norm == "l1" else 2)

    def test_l2_alone_is_exact(self):
        params = {"w": normal(7, 3, 2), "b": normal(8, 2)}
        f = lambda p: optax.tree.norm(p, squared=True) / 2  # noqa: E731
        certificate = attack(f, (ball(2.0),), params)
        assert certificate.smoothness == pytest.approx(1.0, rel=1e-6)
        assert certificate.error == 0

    def test_l1_alone(self):
        params = {"w": normal(9, 3, 2), "b": normal(10, 2)}
        f = lambda p: sum(jnp.sum(jnp.abs(q)) for q in jax.tree.leaves(p))  # noqa: E731
        certificate = attack(f, (ball(2.0),), params)
        # ‖w‖₁ is sqrt(6)-Lipschitz, ‖b‖₁ sqrt(2).
        assert certificate.lipschitz == pytest.approx(np.sqrt(8), rel=1e-6)


class TestTraining:
    @pytest.mark.parametrize("double", [False, True])
    def test_one_step(self, double):
        """One jitted gradient step of length 1/L does what theory says it does."""
        apply, balls, params, x = logits()
        if not double:
            params, x = jax.tree.map(lambda p: p.astype(jnp.float32), (params, x))
        with jax.enable_x64(double):

            def f(params, x, labels):
                return cross_entropy(apply(params, x), labels)

            loss = smooth(f, 0.1, (balls, fixed(x), anything()))
            # A copy: of a NumPy array in a living jit with 64 bits, JAX gives 64 bits again.
            labels = jnp.asarray(LABELS.copy())
            params = jax.tree.map(lambda p: 0.5 * p, params)
            certificate = loss.certificate(params, x, labels)
            optimiser = optax.sgd(1 / certificate.smoothness)

            @jax.jit
            def step(params, state):
                value, gradient = jax.value_and_grad(loss)(params, x, labels)
                updates, state = optimiser.update(gradient, state)
                size = optax.tree.norm(gradient, squared=True)
                return optax.apply_updates(params, updates), state, value, size

            new, _, value, size = step(params, optimiser.init(params))
            exact = jax.grad(f)(params, x, labels)
            assert jax.tree.structure(new) == jax.tree.structure(exact)
            assert np.sqrt(size) <= certificate.lipschitz
            assert abs(value - f(params, x, labels)) <= certificate.error
            if double:
                # The descent lemma.
                after = loss(new, x, labels)
                assert after <= value - size / (2 * certificate.smoothness) + 1e-12
            else:
                assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(new))

    def test_per_example(self):
        apply, balls, params, x = logits()

        def f(params, x, label):
            return cross_entropy(apply(params, x[None]), label[None])

        loss = smooth(f, 0.1, (balls, box(-3.0, 3.0), anything()))
        inputs, labels = jnp.clip(x, -3, 3), jnp.asarray(LABELS)
        params = jax.tree.map(lambda p: 0.5 * p, params)
        values = jax.jit(jax.vmap(loss, (None, 0, 0)))(params, inputs, labels)
        exact = jax.vmap(f, (None, 0, 0))(params, inputs, labels)
        assert np.max(np.abs(values - exact)) <= 0.1
        gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(params, inputs, labels)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


class Pooled(nnx.Module):
    def __init__(self, rngs):
        self.convolution = nnx.Conv(1, 2, (3, 3), rngs=rngs)
        self.last = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.convolution(x))
        x = nnx.avg_pool(nnx.max_pool(x, (2, 2), (2, 2)), (2, 2), (2, 2))
        return self.last(x.reshape(x.shape[0], -1))


def network(kind):
    found = kind(nnx.Rngs(0))
    found.eval()
    nnx.update(found, wide(nnx.state(found, (nnx.Param, nnx.BatchStat))))
    return found


class TestNNX:
    def test_split_and_merge(self):
        graph, params, statistics, rest = nnx.split(network(Network), nnx.Param, nnx.BatchStat, ...)
        x = normal(11, 2, 4)

        def f(params, statistics, x):
            return nnx.merge(graph, params, statistics, rest)(x)

        certificate = attack(f, (ball(2.0), fixed(statistics), fixed(x)), params, statistics, x)
        assert certificate.leaves[0].startswith("args[0]['first']")
        near = (ball(0.1, center=params), fixed(statistics), box(x - 0.1, x + 0.1))
        attack(f, near, params, statistics, x)

    def test_random_state_as_an_argument(self):
        graph, params, rest = nnx.split(network(Network), nnx.Param, ...)
        x = normal(11, 2, 4)
        f = lambda p, r, x: nnx.merge(graph, p, r)(x)  # noqa: E731
        attack(f, (ball(2.0), fixed(rest), fixed(x)), params, rest, x)

    @pytest.mark.parametrize(("kind", "shape"), [(Network, (2, 4)), (Pooled, IMAGES)])
    def test_closure(self, kind, shape):
        model = network(kind)
        x = normal(12, *shape)
        bounds = (box(x - 0.5, x + 0.5),)
        by_closure = attack(lambda x: model(x), bounds, x)
        assert attack(model, bounds, x).lipschitz == by_closure.lipschitz

    def test_training_step(self):
        graph, params, rest = nnx.split(network(Network), nnx.Param, ...)
        x, labels = normal(13, 3, 4), jnp.asarray(LABELS)

        def f(params):
            return cross_entropy(nnx.merge(graph, params, rest)(x), labels)

        loss = smooth(f, 0.1, ball(0.5, center=params))
        certificate = loss.certificate(params)
        optimiser = optax.sgd(1 / certificate.smoothness)

        @jax.jit
        def step(params):
            value, gradient = jax.value_and_grad(loss)(params)
            updates, _ = optimiser.update(gradient, optimiser.init(params))
            return optax.apply_updates(params, updates), value

        new, value = step(params)
        assert loss(new) < value
        assert abs(value - f(params)) <= certificate.error
        nnx.merge(graph, new, rest)(x)
