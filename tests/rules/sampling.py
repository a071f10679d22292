"""Sampled values, slopes and curvatures of a function, and what `analyze` says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsmooth
from jaxsmooth import Analysis

ROUNDING = 1e-9


@dataclass(frozen=True)
class Ball:
    """‖x‖₂ <= radius."""

    shape: tuple[int, ...]
    radius: float = 1.0

    @property
    def declared(self) -> Any:
        return jaxsmooth.ball(self.radius)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        x = rng.normal(size=self.shape)
        if rng.random() < 0.3:  # few entries
            x *= rng.random(self.shape) < 0.3
        length = 1.0 if rng.random() < 0.6 else rng.random()
        return self.radius * length * x / max(float(np.linalg.norm(x)), 1e-300)


@dataclass(frozen=True)
class Box:
    """lo <= x <= hi."""

    shape: tuple[int, ...]
    lo: float = -1.0
    hi: float = 1.0

    @property
    def declared(self) -> Any:
        return jaxsmooth.box(np.full(self.shape, self.lo), np.full(self.shape, self.hi))

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        t = rng.random(self.shape)
        return self.lo + (self.hi - self.lo) * (np.round(t) if rng.random() < 0.5 else t)


Set = Ball | Box


def analysed(f: Callable[..., Any], *sets: Set) -> Analysis:
    """Analysis of f with one set per argument, in float64."""
    with jax.enable_x64(True):
        structs = [jax.ShapeDtypeStruct(s.shape, jnp.float64) for s in sets]
        return jaxsmooth.analyze(f, tuple(s.declared for s in sets))(*structs)


def check(f: Callable[..., Any], *sets: Set, points: int = 60, smooth: bool = True) -> Analysis:
    """Assert that sampled values and derivatives stay within what is claimed.

    Args:
      f: a function of one array per set that returns an array.
      *sets: sets of the arguments.
      points: how many points to sample.
      smooth: whether to compare second derivatives (f has no kinks).

    Returns:
      The analysis.
    """
    found = analysed(f, *sets)
    sizes = [int(np.prod(s.shape)) for s in sets]
    ends = np.cumsum(sizes)[:-1]

    def flat(vector: Any) -> Any:
        parts = jnp.split(vector, ends)
        return f(*(p.reshape(s.shape) for p, s in zip(parts, sets, strict=True))).reshape(-1)

    rng = np.random.default_rng(0)
    xs = np.stack(
        [np.concatenate([s.sample(rng).reshape(-1) for s in sets]) for _ in range(points)]
    )
    with jax.enable_x64(True):
        wanted = [flat, jax.jacfwd(flat)] + [jax.hessian(flat)] * smooth
        # Compiled as one: operation by operation, compiling takes several times longer.
        sampled = jax.jit(jax.vmap(lambda x: [compute(x) for compute in wanted]))(xs)
        ys, slopes, *second = map(np.asarray, sampled)
    lo, hi = (np.asarray(side).reshape(-1) for side in found.range)
    size = 1 + np.abs(ys).max()
    assert (ys >= lo - ROUNDING * size).all()
    assert (ys <= hi + ROUNDING * size).all()
    assert np.linalg.norm(ys, axis=1).max() <= found.bound * (1 + ROUNDING) + ROUNDING
    norms = np.linalg.norm(slopes, 2, axis=(1, 2))
    assert norms.max() <= found.lipschitz * (1 + ROUNDING) + ROUNDING
    for bends in second:
        directions = rng.normal(size=(points, xs.shape[1]))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        turned = np.einsum("noij,nj->noi", bends, directions)
        curvatures = np.linalg.norm(turned, 2, axis=(1, 2))
        assert curvatures.max() <= found.smoothness * (1 + ROUNDING) + ROUNDING
    return found


def close(value: Any, expected: float, tolerance: float = 1e-9) -> bool:
    """Whether a bound is the expected number, rounded up."""
    return expected * (1 - 1e-12) <= float(value) <= expected * (1 + tolerance)


def jacobian_gap(f: Callable[..., Any], points: Sequence[Any], step: float) -> float:
    """Largest secant of the derivative of a scalar function of one number, at these points."""
    slope = jax.jit(jax.vmap(jax.grad(f)))
    with jax.enable_x64(True):
        x = jnp.asarray(points, jnp.float64)
        at = np.asarray(slope(x))
        sides = [np.abs(np.asarray(slope(x + s)) - at) / step for s in (-step, step)]
    return float(np.max(sides))
