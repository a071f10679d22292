"""SGD on several accuracies in lockstep, from the same seeds and in the same batch order.

A *lane* is one accuracy vector μ: lane 0 is the non-smooth network, μ = 0. Lanes and
seeds are mapped in one program, by `jax.vmap` on accelerators and one after the other, with
the memory of one of them, by `jax.lax.map` on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.experiments.data import Images, Split, prepare
from benchmarks.experiments.networks import Network, layer_norms, logistic
from benchmarks.experiments.settings import BATCH, REGULARISATION


@dataclass(frozen=True)
class Optimizer:
    """init(params) -> state; update(gradient, state, step) -> (change, state)."""

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, jax.Array], tuple[Any, Any]]


def from_optax(transform: Any) -> Optimizer:
    """A transformation of gradients by optax, and a step along its result."""

    def update(gradient: Any, state: Any, step: jax.Array) -> tuple[Any, Any]:
        direction, state = transform.update(gradient, state)
        return jax.tree.map(lambda d: -step * d, direction), state

    return Optimizer(transform.init, update)


SGD = Optimizer(
    lambda params: (), lambda g, state, step: (jax.tree.map(lambda q: -step * q, g), state)
)


def batches(count: int, seed: int, first: int, iterations: int, size: int = BATCH) -> np.ndarray:
    """Indices of the images of iterations first, first + 1, …: (iterations, size).

    Every epoch is a permutation of its own, without its last images where they are less
    than a batch; it depends on the seed and the epoch alone.
    """
    size = min(size, count)
    per_epoch = count // size
    rows = []
    for epoch in range(first // per_epoch, (first + iterations - 1) // per_epoch + 1):
        order = np.random.default_rng((seed, epoch)).permutation(count)
        rows.append(order[: per_epoch * size].reshape(per_epoch, size))
    start = first % per_epoch
    return np.concatenate(rows)[start : start + iterations].astype(np.int32)


@dataclass(frozen=True, eq=False)
class Trainer:
    """Compiled training and evaluation of one network.

    Args:
        network: the network.
        images: what it is trained and evaluated on.
        optimizer: SGD, or another one; the step is given to `run`.
        smooth: False for the network itself, whatever μ.
        mapped: "map" or "vmap".
        examples: training images on which the objective is evaluated.
        turns: how far the images of a batch are turned round in each lane, none by default:
            another order of the same sum.
    """

    network: Network
    images: Images
    optimizer: Optimizer = SGD
    smooth: bool = True
    mapped: str = "map"
    examples: int = 2000
    turns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_train", jax.device_put(self.images.train.images))
        object.__setattr__(self, "_labels", jax.device_put(self.images.train.labels))
        object.__setattr__(self, "advance", jax.jit(self._advance, donate_argnums=0))
        object.__setattr__(self, "_measures", jax.jit(self._measured, static_argnums=4))

    def init(self, seeds: list[int], lanes: int) -> Any:
        """(parameters, optimizer state) of every seed and lane."""

        def one(seed: Any) -> Any:
            params = self.network.init(jax.random.key(seed))
            state = (params, self.optimizer.init(params))
            return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (lanes, *leaf.shape)), state)

        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[one(s) for s in seeds])

    def run(
        self,
        state: Any,
        mu: np.ndarray,
        step: float,
        seeds: list[int],
        first: int,
        iterations: int,
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Some iterations of all seeds and lanes: one compiled scan.

        Args:
            state: from `init` or a previous run; its memory is used again.
            mu: (lanes, sites).
            step: the constant step.
            seeds: of the batch order.
            first: iterations done before.
            iterations: how many.

        Returns:
            The state, and per seed, lane and iteration: `loss` (the objective on the batch,
            before the step) and, after it, `norms` of the layers, the parameters' `distance`
            to lane 0, and lane 0's norm as `size`.
        """
        count = len(self.images.train)
        order = np.stack([batches(count, s, first, iterations) for s in seeds], axis=1)
        mu_step = jnp.asarray(mu, float), jnp.asarray(step, float)
        state, records = self.advance(state, *mu_step, self._train, self._labels, order)
        return state, {k: np.moveaxis(np.asarray(v), 0, 2) for k, v in records.items()}

    def measure(self, state: Any, mu: np.ndarray, held: bool) -> dict[str, np.ndarray]:
        """Mean logistic loss and accuracy, per seed and lane.

        Args:
            state: parameters of every seed and lane, and the optimizer's.
            mu: (lanes, sites).
            held: whether on the held splits too, and not only on the first training images,
                where the loss of the non-smooth network at the same point is found as well.
        """
        splits = {"train": self.images.train.first(self.examples)}
        if held:
            splits |= self.images.held
        found: dict[str, np.ndarray] = {}
        for name, split in splits.items():
            totals = None
            for start in range(0, len(split), 500):
                part = Split(split.images[start : start + 500], split.labels[start : start + 500])
                sums = self._measures(
                    state[0], jnp.asarray(mu, float), part.images, part.labels, name == "train"
                )
                totals = sums if totals is None else jax.tree.map(jnp.add, totals, sums)
            assert totals is not None
            for key, total in totals.items():
                found[f"{name}: {key}"] = np.asarray(total) / len(split)
        return found

    def _logits(self, mu: Any, u: Any, images: jax.Array) -> jax.Array:
        inputs = prepare(self.network.name, images)
        return jax.vmap(lambda x: self.network.apply(u, x, mu if self.smooth else None))(inputs)

    def _objective(self, u: Any, mu: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        loss = jnp.mean(jax.vmap(logistic)(self._logits(mu, u, images), labels))
        return loss + REGULARISATION / 2 * jnp.sum(layer_norms(u) ** 2)

    def _over(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """f of one tuple, mapped over the leading axis."""
        if self.mapped == "vmap":
            return jax.vmap(f)
        return lambda xs: jax.lax.map(f, xs)

    def _advance(
        self,
        state: Any,
        mu: jax.Array,
        step: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        order: jax.Array,
    ) -> tuple[Any, dict[str, jax.Array]]:
        turns = jnp.asarray(self.turns or [0] * len(mu))

        def lane(pixels: jax.Array, classes: jax.Array, of: Any) -> Any:
            (params, moments), accuracy, turn = of
            if self.turns is not None:
                pixels, classes = jnp.roll(pixels, turn, 0), jnp.roll(classes, turn, 0)
            loss, gradient = jax.value_and_grad(self._objective)(params, accuracy, pixels, classes)
            change, moments = self.optimizer.update(gradient, moments, step)
            params = jax.tree.map(jnp.add, params, change)
            return (params, moments), {"loss": loss, "norms": layer_norms(params)}

        def seed(of: Any) -> Any:
            state, indices = of
            pixels, classes = images[indices], labels[indices]
            lanes = (state, mu, turns)
            state, record = self._over(lambda each: lane(pixels, classes, each))(lanes)
            squares = [
                jnp.sum((leaf - leaf[:1]) ** 2, axis=tuple(range(1, leaf.ndim)))
                for leaf in jax.tree.leaves(state[0])
            ]
            record["distance"] = jnp.sqrt(sum(squares))
            record["size"] = jnp.sqrt(jnp.sum(record["norms"][:1] ** 2, axis=1)) + 0 * mu[:, 0]
            return state, record

        def iteration(state: Any, indices: jax.Array) -> Any:
            return self._over(seed)((state, indices))

        return jax.lax.scan(iteration, state, order)

    def _measured(
        self, params: Any, mu: jax.Array, images: jax.Array, labels: jax.Array, both: bool
    ) -> dict[str, jax.Array]:
        def one(of: Any) -> dict[str, jax.Array]:
            u, accuracy = of
            logits = self._logits(accuracy, u, images)
            loss = jax.vmap(logistic)
            sums = {
                "loss": jnp.sum(loss(logits, labels)),
                "accuracy": jnp.sum(jnp.argmax(logits, axis=1) == labels),
            }
            if both:
                exact = self._logits(jnp.zeros_like(accuracy), u, images)
                sums["loss without smoothing"] = jnp.sum(loss(exact, labels))
            return sums

        return self._over(lambda u: self._over(one)((u, mu)))(params)
