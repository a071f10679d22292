"""Training the demo's network: Adam on the cross-entropy, stoppable and resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.data import Dataset
from jaxsmooth.demo import checkpoint, network
from jaxsmooth.errors import ArgumentError

_RESUMABLE = ("seed", "batch_size", "learning_rate", "decay")


@dataclass(frozen=True)
class Recipe:
    """How the network is made and trained.

    Attributes:
        hidden: widths of the hidden layers.
        epochs: passes over the training images.
        seed: seed of the weights and of the order of the images.
        batch_size: images per step.
        learning_rate: step length of Adam.
        decay: decoupled weight decay; small weights have small certificates.
    """

    hidden: tuple[int, ...] = (64, 32)
    epochs: int = 30
    seed: int = 0
    batch_size: int = 64
    learning_rate: float = 2e-3
    decay: float = 0.02

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ArgumentError("the network needs hidden layers, each of one unit or more")
        if self.epochs < 0 or self.batch_size < 1:
            raise ArgumentError("epochs must be 0 or more and the batch size 1 or more")


@dataclass(frozen=True)
class Training:
    """A network and how well it does.

    Attributes:
        params: the layers, see `jaxsmooth.demo.network`.
        epoch: epochs trained in all.
        losses: mean training loss of each epoch.
        train_accuracy: share of the training images classified right.
        test_accuracy: share of the test images classified right.
        interrupted: whether Ctrl-C ended it before its last epoch.
    """

    params: network.Params
    epoch: int
    losses: tuple[float, ...]
    train_accuracy: float
    test_accuracy: float
    interrupted: bool


def train(
    data: Dataset,
    recipe: Recipe,
    *,
    checkpoint_path: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Training:
    """Train the network; Ctrl-C ends it cleanly with the epochs done so far.

    The order of the images depends on the seed and the epoch alone, so that a training
    that was interrupted and resumed ends with the same weights.

    Args:
        data: images as vectors, see `Dataset.flat`.
        recipe: the widths and the training.
        checkpoint_path: where the state is kept after every epoch, or None.
        resume: start from the checkpoint.
        on_epoch: called with the number of epochs done and the loss of the last one.

    Returns:
        The trained network.

    Raises:
        ArgumentError: the checkpoint cannot be read, or is that of another training.
    """
    optimizer = _adam(recipe)
    sizes = (data.train_images.shape[1], *recipe.hidden, data.classes)
    params = network.init_params(sizes, recipe.seed)
    state = (params, optimizer.init(params))
    epoch, losses = 0, []
    if resume:
        if checkpoint_path is None:
            raise ArgumentError("there is no checkpoint to resume from: name one")
        state, facts = checkpoint.restore(checkpoint_path, state)
        epoch, losses = _resumed(facts, recipe, data.name)
    images, labels = jnp.asarray(data.train_images), jnp.asarray(data.train_labels)
    run_epoch = jax.jit(lambda state, batches: _epoch(optimizer, state, images, labels, batches))
    interrupted = False
    try:
        while epoch < recipe.epochs:
            batches = _batches(len(images), recipe, epoch)
            new_state, loss = run_epoch(state, batches)
            # Waits for the epoch, so that an interruption meets a finished state.
            state, epoch, losses = new_state, epoch + 1, [*losses, float(loss)]
            if checkpoint_path is not None:
                facts = {**asdict(recipe), "data": data.name, "epoch": epoch, "losses": losses}
                checkpoint.save(checkpoint_path, state, facts)
            on_epoch(epoch, losses[-1])
    except KeyboardInterrupt:
        interrupted = True
    measure = jax.jit(network.accuracy)
    return Training(
        params=state[0],
        epoch=epoch,
        losses=tuple(losses),
        train_accuracy=float(measure(state[0], images, labels)),
        test_accuracy=float(measure(state[0], data.test_images, data.test_labels)),
        interrupted=interrupted,
    )


def _adam(recipe: Recipe) -> Any:
    try:
        import optax
    except ImportError as error:
        raise ArgumentError("the demo needs optax: pip install 'jaxsmooth[demo]'") from error
    return optax.adamw(recipe.learning_rate, weight_decay=recipe.decay)


def _resumed(facts: dict[str, Any], recipe: Recipe, data: str) -> tuple[int, list[float]]:
    """Epochs done and their losses, once the checkpoint is seen to be of this training."""
    wanted = {**asdict(recipe), "data": data}
    for name in ("data", *_RESUMABLE):
        if facts.get(name) != wanted[name]:
            raise ArgumentError(
                f"the checkpoint was trained with {name} = {facts.get(name)}, "
                f"not {wanted[name]}: change it back, or leave out --resume"
            )
    return int(facts["epoch"]), list(facts["losses"])


def _batches(count: int, recipe: Recipe, epoch: int) -> np.ndarray:
    """Indices of the images of each step, (steps, batch)."""
    order = np.random.default_rng((recipe.seed, epoch)).permutation(count)
    size = min(recipe.batch_size, count)
    return order[: count - count % size].reshape(-1, size)


def _epoch(
    optimizer: Any, state: Any, images: jax.Array, labels: jax.Array, batches: jax.Array
) -> tuple[Any, jax.Array]:
    """The state after one pass over the batches, and the mean loss."""

    def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
        params, moments = state
        value, gradient = jax.value_and_grad(network.loss)(params, images[batch], labels[batch])
        updates, moments = optimizer.update(gradient, moments, params)
        return (jax.tree.map(jnp.add, params, updates), moments), value

    state, losses = jax.lax.scan(step, state, batches)
    return state, jnp.mean(losses)
