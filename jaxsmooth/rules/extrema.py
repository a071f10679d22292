"""Maxima whose windows are not rectangular: cummax, cummin, scatter_max, scatter_min.

cummax is a maximum over the values so far; scatter_max (`jax.ops.segment_max`) one over
what is written to a place and what was there. Both are `MaximumRule` on other windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, namespace, norm2
from jaxsmooth.math.kernels import Kernel
from jaxsmooth.math.magnitude import Magnitude, tighten, totals_of
from jaxsmooth.math.range import Range
from jaxsmooth.rules.pooling import MaximumRule, Windows
from jaxsmooth.rules.registry import KinkRule, Local, Site, define
from jaxsmooth.rules.scatter import known_indices, targets


def cumulative_windows(eq: Local) -> Windows:
    """All values up to each one (from it on, in reverse) along a new last axis."""
    axis, reverse = eq.params["axis"], eq.params["reverse"]

    def windows(x: Any, fill: float) -> Any:
        return _cumulative(jnp, x, axis, reverse, fill)

    return windows


def known_cumulative_windows(eq: Local, stack: np.ndarray, fill: float) -> np.ndarray:
    """The same of a stack of NumPy arrays."""
    return _cumulative(np, stack, eq.params["axis"] + 1, eq.params["reverse"], fill)


def _cumulative(xp: Any, x: Array, axis: int, reverse: bool, fill: float) -> Array:
    size = x.shape[axis]
    places = np.arange(size)
    before = places[:, None] <= places if reverse else places[:, None] >= places
    rows = xp.expand_dims(xp.moveaxis(x, axis, -1), -2)
    inside = xp.where(before, rows, fill)
    return xp.moveaxis(inside, -2, axis)


class CumulativeRule(MaximumRule):
    """cummax (sign = 1) and cummin (sign = -1)."""

    def __init__(self, sign: int):
        super().__init__(sign, cumulative_windows, known_cumulative_windows)

    def size(self, eq: Local) -> int:
        return eq.ranges[0].shape[eq.params["axis"]]


def _table(eq: Local) -> np.ndarray:
    """For each place the positions of its values in (operand, updates, filling)."""
    return eq.static["table"]


def _listed(eq: Local) -> Windows:
    table = _table(eq)

    def windows(x: Any, fill: float) -> Any:
        return jnp.append(x, jnp.asarray(fill, x.dtype))[table]

    return windows


def _known_listed(eq: Local, stack: np.ndarray, fill: float) -> np.ndarray:
    filled = np.concatenate([stack, np.full((len(stack), 1), fill)], axis=1)
    return filled[:, _table(eq)]


class _ListedRule(MaximumRule):
    """Maxima over listed values of one vector."""

    def __init__(self, sign: int):
        super().__init__(sign, _listed, _known_listed)

    def size(self, eq: Local) -> int:
        return _table(eq).shape[-1]


class ScatterExtremumRule(KinkRule):
    """scatter_max (sign = 1) and scatter_min (sign = -1) at known indices."""

    def __init__(self, sign: int):
        self.sign = sign
        self.listed = _ListedRule(sign)

    def joined(self, eq: Local) -> Local:
        """The equation as one of the vector (operand, updates)."""
        indices = known_indices(eq, [1])
        if indices is None:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} compares what is written at indices that are not known. Make them known "
                "with jaxsmooth.fixed."
            )
        if "table" not in eq.static:
            eq.static["table"] = self._tabulate(eq, targets(eq, indices[0]))
        return eq.once("joined", lambda: eq.view([self._joined_range(eq)], (0,)))

    def _tabulate(self, eq: Local, places: np.ndarray) -> np.ndarray:
        shape = eq.ranges[0].shape
        size = int(np.prod(shape))
        written = np.flatnonzero(places >= 0)
        order = written[np.argsort(places[written], kind="stable")]
        counts = np.bincount(places[written], minlength=size)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        # The number past the end stands for the filling.
        table = np.full((size, 1 + int(counts.max(initial=0))), size + len(places))
        table[:, 0] = np.arange(size)
        column = 1 + np.arange(len(order)) - starts[places[order]]
        table[places[order], column] = size + order
        return table.reshape(*shape, -1)

    def _joined_range(self, eq: Local) -> Range:
        x, _, u = eq.ranges
        xp = namespace(x.lo, x.hi, u.lo, u.hi)

        def both(a: Array, b: Array) -> Array:
            return xp.concatenate([xp.reshape(a, (-1,)), xp.reshape(b, (-1,))])

        def root(a: Array, b: Array) -> Array:
            # Minkowski's inequality, leaf by leaf.
            return norm2(xp.stack([xp.asarray(a), xp.asarray(b)]), 0)

        center, radius, rest = x.center, x.radius, x.rest
        if eq.known[0] is not None:
            # Infinite ones, which never win, have no finite distance from anything.
            center, radius, rest = x.lo, 0.0, 0.0
        return Range(
            both(x.lo, u.lo), both(x.hi, u.hi), both(center, u.center), root(radius, u.radius),
            root(x.gains, u.gains), root(rest, u.rest),
        )  # fmt: skip

    def _joined_magnitude(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> Magnitude | None:
        dx, _, du = magnitudes
        if dx is None and du is None:
            return None
        sizes = [int(np.prod(eq.ranges[i].shape)) for i in (0, 2)]
        parts = [dx, du]
        count = len(next(m for m in parts if m is not None).norm)
        xp = namespace(*(m.norm for m in parts if m is not None))
        norms = [np.zeros(count) if m is None else m.norm for m in parts]
        norm = norm2(xp.stack(norms), 0)
        if any(m is not None and m.entries is None for m in parts):
            return Magnitude(None, norm)
        entries = [
            np.zeros((count, n)) if m is None else xp.reshape(m.entries, (count, n))
            for m, n in zip(parts, sizes, strict=True)
        ]
        total = None
        if all(m is None or m.total is not None for m in parts):
            total = sum(totals_of(m) for m in parts if m is not None) * (1 + 2.0**-20)
        return tighten(xp.concatenate(entries, axis=1), norm, total)

    def range(self, eq: Local) -> list[Range]:
        joined = self.joined(eq)
        (found,) = self.listed.range(joined)
        # Places that nothing was written to may hold an infinity, as jax.ops.segment_max does.
        lo, hi = (np.max(b, axis=-1) for b in self.listed.bounds(joined))
        if namespace(lo, hi) is not np or not np.any(np.isinf(lo) & (lo == hi)):
            return [found]
        empty = np.isinf(lo) & (lo == hi)
        lo, hi = (lo, hi) if self.sign > 0 else (-hi, -lo)
        center = np.where(empty | ~np.isfinite(found.center), 0.0, found.center)
        return [
            Range(lo, hi, np.clip(center, np.where(empty, 0.0, lo), np.where(empty, 0.0, hi)),
                  np.inf, found.gains, np.inf)
        ]  # fmt: skip

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = self._joined_magnitude(eq, magnitudes)
        return self.listed.first_order(self.joined(eq), [m])

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        m = self._joined_magnitude(eq, magnitudes)
        site = self.listed.site(self.joined(eq), kernel, [m])

        def compute(mu: Array, operand: Any, updates: Any) -> Any:
            return site.compute(mu, jnp.concatenate([operand.reshape(-1), updates.reshape(-1)]))

        operand, _, updates = eq.equation.inputs
        return Site(
            site.active, site.lower, site.upper, site.response, (operand, updates), compute,
            site.location, site.kernel,
        )  # fmt: skip


define(CumulativeRule(1), p.cummax_p)
define(CumulativeRule(-1), p.cummin_p)
define(ScatterExtremumRule(1), p.scatter_max_p)
define(ScatterExtremumRule(-1), p.scatter_min_p)
