"""The images, held on the device as bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from jaxsmooth.data import Stored

DATASETS = {"mlp": "mnist", "convnet": "cifar10", "resnet": "cifar10"}
HELD_OUT = 5000  # of CIFAR-10's training images: train[45000:]


@dataclass(frozen=True)
class Split:
    """Images as bytes, and their labels."""

    images: np.ndarray
    labels: np.ndarray

    def first(self, count: int | None) -> Split:
        """The first images, or all of them."""
        return Split(self.images[:count], self.labels[:count])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Unread:
    """A part of a split that is read when its images or labels are asked for."""

    source: Stored
    start: int
    stop: int

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self.source.read(self.start, self.stop)

    @property
    def images(self) -> np.ndarray:
        """Images as bytes."""
        return self._arrays[0]

    @property
    def labels(self) -> np.ndarray:
        """Their labels."""
        return self._arrays[1]

    def first(self, count: int | None) -> Unread:
        """The first images, or all of them."""
        size = len(self) if count is None else min(count, len(self))
        return Unread(self.source, self.start, self.start + size)

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Images:
    """What a network is trained and evaluated on.

    Attributes:
        train: what it is trained on.
        held: evaluation splits by the name that figures on them are labelled with.
    """

    train: Split | Unread
    held: dict[str, Split | Unread]

    def first(self, train: int | None, held: int | None) -> Images:
        """The first images of each split; the names say so."""
        parts: dict[str, Split | Unread] = {}
        for name, split in self.held.items():
            whole = held is None or held >= len(split)
            parts[name if whole else f"first {held:,} of {name}"] = split.first(held)
        return Images(self.train.first(train), parts)


def read(network: str, data_dir: str | os.PathLike[str] | None) -> Images:
    """The data set of a network, through TensorFlow Datasets.

    CIFAR-10's last 5,000 training images are held out, because a prepared folder may have
    only a part of its test split: the name of the test split says how many it has.

    Args:
        network: "mlp" (MNIST), "convnet" or "resnet" (CIFAR-10).
        data_dir: a prepared folder; None downloads to where TFDS keeps its data.
    """
    name = DATASETS[network]
    if data_dir is None:
        import tensorflow_datasets as tfds

        data_dir = os.environ.get("TFDS_DATA_DIR", os.path.expanduser("~/tensorflow_datasets"))
        tfds.data_source(name, split="train", data_dir=data_dir)  # downloads what is missing
    train, test = Stored(name, "train", data_dir), Stored(name, "test", data_dir)
    kept = len(train) - (0 if name == "mnist" else HELD_OUT)
    held: dict[str, Split | Unread] = {}
    if kept < len(train):
        held[f"train[{kept}:]"] = Unread(train, kept, len(train))
    part = "test" if len(test) == 10_000 else f"first {len(test):,} test images"
    held[part] = Unread(test, 0, len(test))
    return Images(Unread(train, 0, kept), held)


def prepare(network: str, images: jax.Array) -> jax.Array:
    """Bytes as the network's inputs: [0, 1] flat for the MLP, [-1, 1] for the others."""
    values = images.astype(float) / 255
    if network == "mlp":
        return values.reshape(len(images), -1)
    return 2 * values - 1


def largest_norm(network: str, images: Images) -> float:
    """An upper bound of ‖x‖₂ over all inputs, rounded up."""
    squares = []
    for split in (images.train, *images.held.values()):
        for start in range(0, len(split), 4096):
            values = split.images[start : start + 4096].astype(np.float64) / 255
            if network != "mlp":
                values = 2 * values - 1
            squares.append(np.square(values).reshape(len(values), -1).sum(1).max())
    return float(np.ceil(np.sqrt(np.max(squares)) * 1000) / 1000)
