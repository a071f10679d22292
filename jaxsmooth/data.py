"""Small image data sets for the demo and the benchmarks.

``digits`` comes with scikit-learn. ``mnist`` and ``cifar10`` are read from a folder
that TensorFlow Datasets has prepared in its array_record format, which needs
``pip install 'jaxsmooth[data]'`` but neither TensorFlow nor a network.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsmooth.errors import ArgumentError

_BATCH = 1024  # images decoded at once


@dataclass(frozen=True)
class Dataset:
    """Images in [0, 1] and their labels.

    Attributes:
        name: name of the data set.
        train_images: float32, (n, *shape), in [0, 1].
        train_labels: int32, (n,).
        test_images: float32, (m, *shape), in [0, 1].
        test_labels: int32, (m,).
        classes: number of classes.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int = 10

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.train_images.shape[1:]

    def flat(self) -> Dataset:
        """The same data with every image as a vector."""
        return Dataset(
            self.name,
            self.train_images.reshape(len(self.train_images), -1),
            self.train_labels,
            self.test_images.reshape(len(self.test_images), -1),
            self.test_labels,
            self.classes,
        )


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a data set by its name.

    Args:
        name: ``"digits"`` (8×8), ``"mnist"`` (28×28) or ``"cifar10"`` (32×32×3).
        data_dir: folder prepared by TensorFlow Datasets; not needed for ``digits``.

    Returns:
        The data set, images as float32 in [0, 1].

    Raises:
        ArgumentError: unknown name, no ``data_dir``, or nothing readable there.

    Example:
        >>> data = load("digits")
        >>> data.train_images.shape, data.test_images.shape
        ((1437, 8, 8), (360, 8, 8))
    """
    if name not in _LOADERS:
        raise ArgumentError(f"unknown data set {name!r}: choose one of {', '.join(_LOADERS)}")
    return _LOADERS[name](name, data_dir)


def _digits(name: str, data_dir: object) -> Dataset:
    """The UCI digits, shuffled with a fixed seed: 80 % to train, 20 % to test."""
    del data_dir
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ArgumentError(
            "the digits data set needs scikit-learn: pip install 'jaxsmooth[demo]'"
        ) from error
    digits: Any = load_digits()
    images = (digits.images / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = np.split(order, [len(order) * 4 // 5])
    return Dataset(name, images[train], labels[train], images[test], labels[test])


def _prepared(name: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    """A data set prepared by TensorFlow Datasets."""
    if data_dir is None:
        raise ArgumentError(
            f"the {name} data set is read from a folder prepared by TensorFlow Datasets: "
            "name it with --data-dir (data_dir=...)"
        )

    def split(which: str) -> tuple[np.ndarray, np.ndarray]:
        bytes_, labels = Stored(name, which, data_dir).read()
        return bytes_.astype(np.float32) / np.float32(255), labels

    return Dataset(name, *split("train"), *split("test"))


class Stored:
    """A split of a data set prepared by TensorFlow Datasets; what is not asked for stays unread.

    Args:
        name: ``"mnist"`` or ``"cifar10"``.
        split: ``"train"`` or ``"test"``.
        data_dir: the prepared folder.

    Raises:
        ArgumentError: tensorflow-datasets is missing, or nothing readable is there.
    """

    def __init__(self, name: str, split: str, data_dir: str | os.PathLike[str]) -> None:
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise ArgumentError(
                f"the {name} data set needs tensorflow-datasets: pip install 'jaxsmooth[data]'"
            ) from error
        try:
            self._source: Any = tfds.data_source(
                name, split=split, data_dir=data_dir, download=False
            )
        except Exception as error:  # TFDS raises whatever its readers raise
            raise ArgumentError(
                f"no prepared {name} data set in {os.fspath(data_dir)!r} ({type(error).__name__})"
            ) from error

    def __len__(self) -> int:
        return len(self._source)

    def read(self, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images as bytes, (stop - start, *shape), and their labels, int32."""
        stop = len(self) if stop is None else stop
        images: list[np.ndarray] = []
        labels: list[int] = []
        for first in range(start, stop, _BATCH):
            examples = self._source.__getitems__(range(first, min(first + _BATCH, stop)))
            images.append(np.stack([example["image"] for example in examples]))
            labels.extend(int(example["label"]) for example in examples)
        stacked = np.concatenate(images)
        if stacked.shape[-1] == 1:
            stacked = stacked[..., 0]
        return stacked, np.asarray(labels, np.int32)


_LOADERS: dict[str, Callable[[str, Any], Dataset]] = {
    "digits": _digits,
    "mnist": _prepared,
    "cifar10": _prepared,
}

NAMES = tuple(_LOADERS)
