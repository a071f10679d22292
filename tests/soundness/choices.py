"""Where random decisions come from: a seed, or hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st

T = TypeVar("T")


class Choices(Protocol):
    """A source of decisions."""

    def integer(self, lo: int, hi: int) -> int:
        """An integer in [lo, hi]."""
        ...

    def child(self, name: str) -> Choices:
        """A source for one part, so that other parts do not change when it does."""
        ...


class Seeded:
    """Decisions from a seed; equal seeds decide equally."""

    def __init__(self, *seed: int) -> None:
        self._seed = seed
        self._rng = np.random.default_rng(seed)

    def integer(self, lo: int, hi: int) -> int:
        return int(self._rng.integers(lo, hi, endpoint=True))

    def child(self, name: str) -> Seeded:
        return Seeded(*self._seed, *name.encode())


class Drawn:
    """Decisions drawn by hypothesis, which can then shrink them."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self._draw = draw

    def integer(self, lo: int, hi: int) -> int:
        return self._draw(st.integers(lo, hi))

    def child(self, name: str) -> Drawn:
        del name
        return self


def pick(choices: Choices, options: Sequence[T]) -> T:
    """One of the options."""
    return options[choices.integer(0, len(options) - 1)]


def flag(choices: Choices, percent: int) -> bool:
    """True in that many of a hundred cases."""
    return choices.integer(1, 100) > 100 - percent


def real(choices: Choices, lo: float, hi: float) -> float:
    """A number in [lo, hi] with few digits, exact in float32."""
    return lo + round((hi - lo) * 64) / 64 * choices.integer(0, 64) / 64


def array(choices: Choices, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
    """Normal numbers, exact in float32; sometimes sparse, sometimes with ties."""
    rng = np.random.default_rng(choices.integer(0, 2**31))
    x = rng.normal(size=tuple(shape)) * scale
    form = choices.integer(0, 5)
    if form == 0:
        x = np.where(rng.random(x.shape) < 0.5, 0.0, x)
    elif form == 1:
        x = np.round(x)
    return x.astype(np.float32).astype(np.float64)
