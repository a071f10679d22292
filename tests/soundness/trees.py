"""Attacks on functions of pytrees that are written by hand: models of libraries, losses.

The points are those of `tests.soundness.attack`, for sets that the library itself resolves:
corners and boundaries, the inside, secants of the Jacobian bisected towards the kinks, and
gradient ascent on the error. Only the rounding of the evaluation is allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxsmooth import smooth
from jaxsmooth.bounds import Ball, resolve
from tests.soundness.claims import Evidence
from tests.soundness.spectra import norms

INSIDE = 1 - 1e-9
POINTS = 12
ASCENTS = 6
# Secants over less than the rounding of their ends say nothing.
HALVINGS = {np.dtype(np.float64): 24, np.dtype(np.float32): 10}
# Programs run for a moment and are compiled anew every time.
QUICK = {"xla_backend_optimization_level": 0}


class Region:
    """The set, as vectors of all floating-point leaves that are not fixed."""

    def __init__(self, bounds: Any, args: Sequence[Any]) -> None:
        self.domain = resolve(bounds, args)
        self.leaves, self.treedef = jax.tree.flatten(args)
        self.free = [
            i
            for i, leaf in enumerate(self.domain.leaves)
            if not leaf.fixed and jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        flat, self.unravel = ravel_pytree([self.leaves[i] for i in self.free])
        self.dtype = np.dtype(flat.dtype)
        ends = np.cumsum([0, *(self._size(i) for i in self.free)])
        self.place = {i: slice(*ends[k : k + 2]) for k, i in enumerate(self.free)}

    def _size(self, leaf: int) -> int:
        return math.prod(self.domain.leaves[leaf].shape)

    def arguments(self, theta: jax.Array) -> Any:
        leaves = list(self.leaves)
        for i, value in zip(self.free, self.unravel(theta), strict=True):
            leaves[i] = value
        return jax.tree.unflatten(self.treedef, leaves)

    def _balls(self):
        """(places, center, radius) of every ball."""
        for group in self.domain.groups:
            free = [i for i in group.leaves if i in self.place]
            if free and isinstance(group.declared, Ball):
                where = np.concatenate([np.r_[self.place[i]] for i in free])
                centers = (self.domain.leaves[i] for i in free)
                center = np.concatenate(
                    [np.broadcast_to(leaf.center, leaf.shape).ravel() for leaf in centers]
                )
                yield where, center, float(group.radius)

    def _boxes(self):
        """(place, lo, hi) of every leaf that is in no ball."""
        for group in self.domain.groups:
            if not isinstance(group.declared, Ball):
                for i in set(group.leaves) & set(self.place):
                    leaf = self.domain.leaves[i]
                    sides = (np.broadcast_to(s, leaf.shape).ravel() for s in (leaf.lo, leaf.hi))
                    yield self.place[i], *sides

    def draw(self, rng: np.random.Generator, form: int) -> np.ndarray:
        """A point: 0 in a corner or on a sphere, 1 on an axis, 2 and above inside."""
        theta = np.zeros(sum(map(self._size, self.free)))
        for where, center, radius in self._balls():
            size = len(where)
            away = np.sign(rng.normal(size=size)) if form == 0 else rng.normal(size=size)
            if form == 1:
                away = np.eye(size)[rng.integers(size)] * rng.choice([-1, 1])
            length = 1.0 if form < 2 else rng.random() ** (1 / form)
            theta[where] = center + away * radius * INSIDE * length / np.linalg.norm(away)
        for where, lo, hi in self._boxes():
            part = rng.random(len(lo))
            theta[where] = lo + (np.round(part) if form < 2 else part) * (hi - lo)
        return theta

    def ascend(self, theta: np.ndarray, gradient: np.ndarray, step: float) -> np.ndarray:
        """Steps of that relative length up the gradients, projected."""
        theta = np.array(theta, np.float64)
        for where, center, radius in self._balls():
            slope = gradient[:, where]
            size = np.linalg.norm(slope, axis=1, keepdims=True)
            away = theta[:, where] - center + step * radius * slope / np.maximum(size, 1e-300)
            length = np.linalg.norm(away, axis=1, keepdims=True)
            limit = radius * INSIDE
            theta[:, where] = center + away * np.minimum(1, limit / np.maximum(length, 1e-300))
        for where, lo, hi in self._boxes():
            moved = theta[:, where] + step * (hi - lo) / 2 * np.sign(gradient[:, where])
            theta[:, where] = np.clip(moved, lo, hi)
        return theta


class _Attack:
    """One smoothed function under attack."""

    def __init__(self, f: Callable, f_eps: Callable, bounds: Any, args: Any, seed: int) -> None:
        self.region = Region(bounds, args)
        self.rng = np.random.default_rng(seed)
        self.evidence = Evidence()
        self.roundoff = float(np.finfo(self.region.dtype).eps)

        def flat(function):
            return lambda theta: ravel_pytree(function(*self.region.arguments(theta)))[0]

        def everything(theta):
            value, pull = jax.vjp(flat(f), theta)
            smoothed, pull_smoothed = jax.vjp(flat(f_eps), theta)
            jacobian = jax.vmap(pull_smoothed)(jnp.eye(smoothed.size, dtype=smoothed.dtype))[0]
            away = smoothed - value
            return value, smoothed, jacobian, away @ jacobian - pull(away)[0]

        # One point at a time: a batch takes longer to compile than its points to run.
        self._compiled = jax.jit(everything, compiler_options=QUICK)

    def look(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The Jacobians of f_eps and the gradients of the error; compares what it sees."""
        points = np.asarray(theta, self.region.dtype)
        values = [self._compiled(point) for point in points]
        f, g, jacobian, ascent = (np.stack(x).astype(np.float64) for x in zip(*values, strict=True))
        if not (np.isfinite(g).all() and np.isfinite(jacobian).all()):
            self.evidence.contradict("f_eps or its Jacobian is not finite")
        slope = norms(jacobian)
        place = 1 + np.linalg.norm(points, axis=1)
        noise = 100 * self.roundoff * (1 + np.linalg.norm(f, axis=1) + slope * place)
        self.evidence.observe("error", np.linalg.norm(g - f, axis=1), noise, points)
        self.evidence.observe("bound", np.linalg.norm(g, axis=1), noise, points)
        self.evidence.observe("lipschitz", slope, 1e3 * self.roundoff * (1 + slope), points)
        # f itself may have no finite derivative at a kink.
        return jacobian, np.nan_to_num(ascent, posinf=0.0, neginf=0.0)

    def secant(self, a, b, at_a, at_b) -> np.ndarray:
        distance = np.linalg.norm(a - b, axis=1)
        safe = np.maximum(distance, 1e-300)
        ratio = np.where(distance > 0, norms(at_a - at_b) / safe, 0.0)
        size = np.maximum(norms(at_a), norms(at_b))
        place = 1 + np.linalg.norm(a, axis=1)
        noise = 300 * self.roundoff * (size + ratio) * place / safe
        self.evidence.observe("smoothness", ratio, noise, (a + b) / 2)
        return ratio

    def run(self) -> None:
        a = np.stack([self.region.draw(self.rng, i % 4) for i in range(POINTS)])
        b = np.roll(a, 1, axis=0)
        at_a, gradient = self.look(a)
        at_b = np.roll(at_a, 1, axis=0)
        climbing = a
        for i in range(ASCENTS):
            climbing = self.region.ascend(climbing, gradient, 0.5 * 0.6**i)
            _, gradient = self.look(climbing)
        self.secant(a, b, at_a, at_b)
        for _ in range(HALVINGS[self.region.dtype]):
            # One half has at least the secant of the whole: this walks into the windows.
            middle = (a + b) / 2
            at_middle, _ = self.look(middle)
            first = self.secant(a, middle, at_a, at_middle)
            second = self.secant(middle, b, at_middle, at_b)
            left = (first > second)[:, None]
            a, b = np.where(left, a, middle), np.where(left, middle, b)
            left = left[..., None]
            at_a, at_b = np.where(left, at_a, at_middle), np.where(left, at_middle, at_b)


def evidence_against(
    f: Callable, f_eps: Any, bounds: Any, args: Sequence[Any], seed: int = 0
) -> tuple[Any, Evidence]:
    """The certificate of f_eps, and what was found when trying to contradict it."""
    certificate = f_eps.certificate(*args)
    attack_ = _Attack(f, f_eps, bounds, args, seed)
    for name in ("error", "bound", "lipschitz", "smoothness"):
        attack_.evidence.claim(name, getattr(certificate, name))
    if certificate.error > certificate.eps:
        attack_.evidence.contradict(f"the error is {certificate.error}")
    attack_.run()
    return certificate, attack_.evidence


def attack(f: Callable, bounds: Any, *args: Any, eps: float = 0.1, seed: int = 0, **options: Any):
    """The certificate of f_eps, after trying to contradict it."""
    f_eps = smooth(f, eps, bounds, **options)
    certificate, evidence = evidence_against(f, f_eps, bounds, args, seed)
    assert not evidence.violations
    for figure in (certificate.bound, certificate.lipschitz, certificate.smoothness):
        assert np.isfinite(figure)
    return certificate
