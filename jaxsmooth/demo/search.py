"""Points of a declared set: drawing them, moving them uphill, and bringing them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.bounds import Ball, Domain
from jaxsmooth.errors import ArgumentError

Point = tuple[jax.Array, ...]  # the moving leaves of the arguments


@dataclass(frozen=True)
class _Part:
    """Leaves that one bound holds jointly.

    Attributes:
        leaves: which of the moving leaves.
        lo, hi, center, width: of each leaf; the width is 1 where a leaf has no bound.
        radius: radius of the joint ball, None where only the intervals bound the leaves.
    """

    leaves: tuple[int, ...]
    lo: tuple[jax.Array, ...]
    hi: tuple[jax.Array, ...]
    center: tuple[jax.Array, ...]
    width: tuple[jax.Array, ...]
    radius: float | None


class SearchSpace:
    """The points of a domain, as the attack walks over them.

    Args:
        domain: the set, see `jaxsmooth.bounds.resolve`.
        dtype: floating dtype of the points.

    Raises:
        ArgumentError: an argument that is not fixed holds no real numbers.
    """

    def __init__(self, domain: Domain, dtype: Any = jnp.float32) -> None:
        self._domain = domain
        self._dtype = dtype
        self._moving = tuple(i for i, leaf in enumerate(domain.leaves) if not leaf.fixed)
        for i in self._moving:
            leaf = domain.leaves[i]
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ArgumentError(
                    f"{leaf.path} is {leaf.dtype}: an attack moves real numbers only; "
                    "fix its value with fixed(...)"
                )
        self._parts = tuple(
            self._part(group)
            for group in domain.groups
            if not any(domain.leaves[i].fixed for i in group.leaves)
        )

    def _part(self, group: Any) -> _Part:
        leaves = [self._domain.leaves[i] for i in group.leaves]
        halves = [(np.asarray(leaf.hi) - np.asarray(leaf.lo)) / 2 for leaf in leaves]
        joint = isinstance(group.declared, Ball) and np.isfinite(group.radius)

        def numbers(arrays: Iterable[Any]) -> tuple[jax.Array, ...]:
            return tuple(jnp.asarray(a, self._dtype) for a in arrays)

        return _Part(
            leaves=tuple(self._moving.index(i) for i in group.leaves),
            lo=numbers(leaf.lo for leaf in leaves),
            hi=numbers(leaf.hi for leaf in leaves),
            center=numbers(leaf.center for leaf in leaves),
            width=numbers(np.where(np.isfinite(half), half, 1.0) for half in halves),
            radius=float(group.radius) if joint else None,
        )

    def args(self, point: Point) -> tuple[Any, ...]:
        """The arguments at a point: moving leaves from it, the others at their fixed values."""
        leaves = [leaf.value for leaf in self._domain.leaves]
        for i, value in zip(self._moving, point, strict=True):
            leaves[i] = value
        return jax.tree.unflatten(self._domain.treedef, leaves)

    def center(self) -> Point:
        """The centre of the set."""
        return tuple(jnp.asarray(self._domain.leaves[i].center, self._dtype) for i in self._moving)

    def sample(self, key: jax.Array) -> Point:
        """A random point: corners, faces, spheres and insides all have their chance."""
        part_keys = jax.random.split(key, len(self._parts))
        drawn: dict[int, jax.Array] = {}
        for part, part_key in zip(self._parts, part_keys, strict=True):
            if part.radius is None:
                values = self._in_box(part, part_key)
            else:
                values = self._in_ball(part, part.radius, part_key)
            drawn.update(zip(part.leaves, values, strict=True))
        return self.project(tuple(drawn[i] for i in range(len(self._moving))))

    def _in_ball(self, part: _Part, radius: float, key: jax.Array) -> list[jax.Array]:
        """On the sphere half of the time, else at a uniform distance from the centre."""
        *leaf_keys, side, distance = jax.random.split(key, len(part.leaves) + 2)
        directions = [
            jax.random.normal(k, c.shape, self._dtype)
            for k, c in zip(leaf_keys, part.center, strict=True)
        ]
        length = jnp.where(
            jax.random.bernoulli(side), 1.0, jax.random.uniform(distance, (), self._dtype)
        )
        scale = radius * length / jnp.maximum(_norm(directions), 1e-30)
        return [c + scale * d for c, d in zip(part.center, directions, strict=True)]

    def _in_box(self, part: _Part, key: jax.Array) -> list[jax.Array]:
        """Each coordinate at an end or inside, the share of the ends being random too."""
        points = []
        keys = jax.random.split(key, len(part.leaves))
        for c, w, k in zip(part.center, part.width, keys, strict=True):
            share, inside, at_end, end = jax.random.split(k, 4)
            uniform = jax.random.uniform(inside, c.shape, self._dtype, -1.0, 1.0)
            sign = jax.random.rademacher(end, c.shape, self._dtype)
            ends = jax.random.bernoulli(at_end, jax.random.uniform(share), c.shape)
            points.append(c + w * jnp.where(ends, sign, uniform))
        return points

    def move(self, point: Point, gradient: Point, step: jax.Array | float) -> Point:
        """A step uphill: steepest in the geometry of each bound, then back into the set.

        Args:
            point: where from.
            gradient: of the function to climb.
            step: length, as a share of the set's radius.
        """
        moved = list(point)
        for part in self._parts:
            slopes = [gradient[i] for i in part.leaves]
            if part.radius is None:
                for i, slope, width in zip(part.leaves, slopes, part.width, strict=True):
                    moved[i] = point[i] + step * width * jnp.sign(slope)
            else:
                scale = step * part.radius / jnp.maximum(_norm(slopes), 1e-30)
                for i, slope in zip(part.leaves, slopes, strict=True):
                    moved[i] = point[i] + scale * slope
        return self.project(tuple(moved))

    def project(self, point: Point) -> Point:
        """The point of the set that is nearest, bound by bound."""
        projected = list(point)
        for part in self._parts:
            inside = [
                jnp.clip(projected[i], lo, hi)
                for i, lo, hi in zip(part.leaves, part.lo, part.hi, strict=True)
            ]
            if part.radius is not None:
                offsets = [x - c for x, c in zip(inside, part.center, strict=True)]
                # A shade inside, so that rounding cannot leave the ball.
                radius = part.radius * (1 - 8 * float(jnp.finfo(self._dtype).eps))
                scale = jnp.minimum(1.0, radius / jnp.maximum(_norm(offsets), 1e-30))
                inside = [c + scale * o for c, o in zip(part.center, offsets, strict=True)]
            for i, x in zip(part.leaves, inside, strict=True):
                projected[i] = x.astype(self._dtype)
        return tuple(projected)

    def best_of(
        self, objective: Callable[[Point], jax.Array], key: jax.Array, samples: int, keep: int
    ) -> Point:
        """The best of many random points, stacked along a new first axis.

        Only their keys are kept meanwhile, so that memory does not grow with ``samples``.
        """
        keys = jax.random.split(key, samples)
        values = jax.lax.map(lambda k: objective(self.sample(k)), keys, batch_size=64)
        chosen = jax.lax.top_k(values, keep)[1]
        return jax.vmap(self.sample)(keys[chosen])


def _norm(leaves: list[jax.Array]) -> jax.Array:
    """Joint 2-norm."""
    return jnp.sqrt(sum(jnp.sum(x * x) for x in leaves))
