"""The cases: a name, and the box of each input. The functions are in files of their own.

Every input has a leading axis of length 1, as the batch that some tools ask for. Nothing here
needs JAX or PyTorch, so that every tool's interpreter can read it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_POINTS = 3  # at which every tool's version of a function is compared


@dataclass(frozen=True)
class Box:
    """All arrays of a shape whose entries are between two numbers."""

    shape: tuple[int, ...]
    lo: float = -1.0
    hi: float = 1.0

    def __str__(self) -> str:
        size = "×".join(map(str, self.shape[1:]))
        return f"{size} in [{self.lo:g}, {self.hi:g}]"


@dataclass(frozen=True)
class Case:
    """A function, by its name, on a product of boxes."""

    name: str
    boxes: tuple[Box, ...]

    @property
    def inputs(self) -> str:
        """The boxes, for people."""
        return "; ".join(map(str, self.boxes))

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Both sides of the boxes as flat vectors, all inputs joined."""
        lo, hi = ([np.full(b.shape, getattr(b, s)).ravel() for b in self.boxes] for s in SIDES)
        return np.concatenate(lo), np.concatenate(hi)

    def split(self, vector: Any) -> tuple[Any, ...]:
        """The inputs whose numbers are a flat vector."""
        ends = np.cumsum([np.prod(b.shape) for b in self.boxes])
        return tuple(
            vector[end - np.prod(b.shape) : end].reshape(b.shape)
            for end, b in zip(ends, self.boxes, strict=True)
        )

    def points(self) -> Array:
        """A few points of the boxes, the same for all tools."""
        lo, hi = self.bounds
        parts = np.random.default_rng(0).uniform(size=(_POINTS, len(lo)))
        return lo + parts * (hi - lo)


SIDES = ("lo", "hi")


def normal(name: str, *shape: int) -> Array:
    """Known weights: normal numbers that depend on the name, over the root of the fan-in."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    fan_in = max(1, int(np.prod(shape[:-1])))
    return rng.normal(size=shape) / np.sqrt(fan_in)


def _case(name: str, *boxes: Box) -> Case:
    return Case(name, boxes)


def _vector(size: int, lo: float = -1.0, hi: float = 1.0) -> Box:
    return Box((1, size), lo, hi)


_ACTIVATIONS = (
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "hard_swish",
    "softplus",
    "sigmoid",
    "tanh",
)

CASES = (
    # Networks and their layers.
    _case("dense ReLU network", _vector(4)),
    _case("dense ReLU network, W @ x", _vector(4)),
    _case("convolutional ReLU network", Box((1, 6, 6, 1))),
    _case("max pooling", Box((1, 4, 4, 1))),
    _case("average pooling", Box((1, 4, 4, 1))),
    _case("batch normalisation, inference", _vector(4)),
    _case("layer normalisation", _vector(4)),
    _case("group normalisation", Box((1, 2, 2, 4))),
    _case("dropout with a known key", _vector(6)),
    _case("attention", *[Box((1, 3, 2))] * 3),
    _case("resize, bilinear", Box((1, 3, 3, 1))),
    # Losses.
    _case("softmax", _vector(4)),
    _case("log_softmax", _vector(4)),
    _case("logsumexp", _vector(4)),
    _case("cross-entropy", _vector(4)),
    _case("Huber loss by where", _vector(3, -2.0, 2.0)),
    # Functions of one variable.
    *[_case(name, _vector(3, -4.0, 2.0)) for name in _ACTIVATIONS],
    _case("abs", _vector(3)),
    _case("clip", _vector(3, -2.0, 2.0)),
    _case("sqrt", _vector(3, 0.25, 2.0)),
    _case("sin and cos", _vector(3, -2.0, 2.0)),
    _case("exp and log", _vector(3)),
    _case("powers", _vector(3, 0.5, 2.0)),
    # Several variables.
    _case("maximum and minimum", _vector(3), _vector(3)),
    _case("division", _vector(3), _vector(3, 1.0, 2.0)),
    _case("matmul of two inputs", Box((1, 2, 3)), Box((1, 3, 2))),
    _case("2-norm", _vector(4)),
    _case("max of many", _vector(5)),
    _case("product of many", _vector(4, 0.5, 1.5)),
    _case("cumulative max", _vector(5)),
    _case("sort", _vector(5)),
    _case("top_k", _vector(5)),
    _case("median", _vector(5)),
    # Indexing and linear algebra.
    _case("gather, known indices", _vector(4)),
    _case("dynamic_slice, known start", _vector(4)),
    _case("segment_sum, known segments", _vector(6)),
    _case("segment_max, known segments", _vector(6)),
    _case("Fourier transform", _vector(6)),
    _case("linear solve, known matrix", _vector(3)),
    _case("Cholesky factor", _vector(3, 1.0, 2.0)),
    # Control flow and derivatives.
    _case("RNN by scan", Box((1, 3, 2))),
    _case("LSTM by scan", Box((1, 3, 2))),
    _case("fori_loop", _vector(3)),
    _case("while, known number of steps", _vector(3)),
    _case("cond, known predicate", _vector(3)),
    _case("stop_gradient, straight through", _vector(3, -2.0, 2.0)),
    _case("gradient inside", _vector(3)),
)


def chosen(names: list[str] | None) -> list[Case]:
    """The cases of these names, by default all.

    Raises:
      ValueError: a name is not in the table.
    """
    known = {case.name: case for case in CASES}
    for name in names or ():
        if name not in known:
            raise ValueError(f"no case {name!r}; the cases are {', '.join(known)}")
    return [known[name] for name in names or known]
