"""Sets, written once more and independently of the library: to sample and to project on.

All float arguments of a program are one flat vector; a `Section` is the part of it that
one declared set stands on, and a `Region` is their product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Points stay inside by this much, so that float32 arguments still are in the set.
INSIDE = 1 - 2e-6


@dataclass(frozen=True)
class Ball:
    """‖θ − center‖₂ ≤ radius."""

    center: np.ndarray
    radius: float

    @property
    def scale(self) -> np.ndarray:
        return np.full(self.center.shape, self.radius)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        size = self.center.size
        x = rng.normal(size=(count, size))
        form = rng.integers(0, 4, size=(count, 1))
        one = np.zeros_like(x)
        one[np.arange(count), rng.integers(0, size, count)] = rng.choice([-1.0, 1.0], count)
        x = np.where(form == 0, np.sign(x), np.where(form == 1, one, x))
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
        inside = rng.random((count, 1)) ** (1 / max(1, size // 4))
        length = np.where(rng.random((count, 1)) < 0.5, 1.0, inside)
        return self.center + self.radius * INSIDE * length * x

    def project(self, x: np.ndarray) -> np.ndarray:
        away = x - self.center
        norm = np.linalg.norm(away, axis=-1, keepdims=True)
        limit = self.radius * INSIDE
        return self.center + away * np.minimum(1.0, limit / np.maximum(norm, 1e-300))

    def ascend(self, x: np.ndarray, gradient: np.ndarray, step: float) -> np.ndarray:
        norm = np.linalg.norm(gradient, axis=-1, keepdims=True)
        return self.project(x + step * self.radius * gradient / np.maximum(norm, 1e-300))


@dataclass(frozen=True)
class Box:
    """lo ≤ θ ≤ hi; infinite sides are sampled at many sizes.

    ``fixed`` says that it is declared as a known value.
    """

    lo: np.ndarray
    hi: np.ndarray
    fixed: bool = False

    @property
    def scale(self) -> np.ndarray:
        width = self.hi - self.lo
        return np.where(np.isfinite(width), width / 2, 1.0)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        shape = (count, self.lo.size)
        form = rng.integers(0, 3, size=(count, 1))
        part = rng.random(shape)
        part = np.where(form == 0, np.round(part), part)
        part = np.where((form == 1) & (rng.random(shape) < 0.5), np.round(part), part)
        far = rng.normal(size=shape) * 10.0 ** rng.uniform(-1, 2, size=(count, 1))
        with np.errstate(invalid="ignore"):
            x = self.lo + (self.hi - self.lo) * part
        return self.project(np.where(np.isfinite(self.hi - self.lo), x, far))

    def project(self, x: np.ndarray) -> np.ndarray:
        return np.clip(x, self.lo, self.hi)

    def ascend(self, x: np.ndarray, gradient: np.ndarray, step: float) -> np.ndarray:
        return self.project(x + step * self.scale * np.sign(gradient))


@dataclass(frozen=True)
class Region:
    """A product of sections, each on the next numbers of the flat vector."""

    sections: Sequence[tuple[slice, Ball | Box]]
    size: int

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        x = np.empty((count, self.size))
        for where, section in self.sections:
            x[:, where] = section.sample(rng, count)
        return x

    def ascend(self, x: np.ndarray, gradient: np.ndarray, step: float) -> np.ndarray:
        """A step of that relative length up the gradient of a function, projected."""
        out = np.empty_like(x)
        for where, section in self.sections:
            out[:, where] = section.ascend(x[:, where], gradient[:, where], step)
        return out

    def near(self, rng: np.random.Generator, x: np.ndarray, distance: float) -> np.ndarray:
        """Points of the region at most that relative distance from x."""
        return self.ascend(x, rng.normal(size=x.shape), distance)

    @property
    def diameter(self) -> float:
        """A typical size of the region."""
        if not self.sections:
            return 0.0
        return math.sqrt(sum(float(np.max(s.scale, initial=0.0)) ** 2 for _, s in self.sections))
