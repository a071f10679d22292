"""Piecewise smooth functions of one variable, enclosed from a table of cells.

Building a `Piecewise` from a program takes some tenths of a second, once per program;
a query is then a pair of binary searches and a few gathers, for arrays of intervals of
any width, known or traced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from jaxsmooth.math.array import Array, is_traced, namespace, times, tiny, unit_roundoff
from jaxsmooth.math.cells import FINE, Cells, discards_singular, enclose, partition
from jaxsmooth.math.choices import chosen_derivatives
from jaxsmooth.math.enclosure import EXTREME, as_pair, cast_outward, everything_where
from jaxsmooth.math.enclosure import Interval as Ends
from jaxsmooth.math.interval import Interval
from jaxsmooth.math.jets import Walk
from jaxsmooth.math.joints import Discontinuity, Joints, Seam, examine
from jaxsmooth.math.range_maximum import Maxima
from jaxsmooth.math.rounding import NEGLIGIBLE
from jaxsmooth.math.seams import misjudged, right_of
from jaxsmooth.math.univariate import Univariate

__all__ = ["Discontinuity", "Piecewise", "Seam", "piecewise"]


@dataclass(frozen=True, eq=False)
class Piecewise:
    """A one-variable program as a `ScalarFunction`, with its kinks and jumps.

    ``slope`` is the hull of one-sided derivatives and ``curvature`` leaves out the kinks.
    Both are infinite over an interval that touches a jump. An infinite end of an
    interval means what it says: the tails are enclosed too.

    Args:
        program: the function.
        relative_gap: relative difference between one-sided limits that passes for
            rounding of the program's constants.
    """

    program: Univariate
    relative_gap: float = NEGLIGIBLE

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.program.name

    @property
    def cells(self) -> Cells:
        """The partition of the line."""
        return self._parts[0]

    @property
    def joints(self) -> Joints:
        """What happens where cells meet."""
        return self._parts[1]

    @cached_property
    def _parts(self) -> tuple[Cells, Joints]:
        cells = partition(self.program)
        joints = examine(self.program, cells, self.relative_gap)
        apart = [*(jump.location for jump in joints.discontinuities), *joints.singular]
        if apart:
            # Of cells that touch such points nothing is known, so they are to be small.
            cells = partition(self.program, apart)
            joints = examine(self.program, cells, self.relative_gap)
        return cells, joints

    @property
    def discontinuities(self) -> tuple[Discontinuity, ...]:
        """All jumps."""
        return self.joints.discontinuities

    @property
    def kinks(self) -> tuple[Seam, ...]:
        """All kinks, in increasing order.

        Raises:
            Discontinuity: the function jumps somewhere.
        """
        return self.kinks_within(-np.inf, np.inf)

    @property
    def located(self) -> bool:
        """Whether all kinks were found, but perhaps in the tails."""
        return not (self.cells.undecided & self.joints.broken)[1:-1].any()

    def kinks_within(self, lo: float, hi: float) -> tuple[Seam, ...]:
        """The kinks in [lo, hi]: all of them wherever the slope over [lo, hi] is finite.

        Raises:
            Discontinuity: the function jumps in [lo, hi].
        """
        for jump in self.discontinuities:
            if lo <= jump.location <= hi:
                raise jump.with_traceback(None)
        return tuple(
            k
            for k in self.joints.kinks
            if lo <= k.location + k.width and k.location - k.width <= hi
        )

    def evaluate(self, x: Array) -> Array:
        """f(x) elementwise, in NumPy or JAX as x is, with f's derivatives in JAX."""
        if namespace(x) is np:
            return self.program.evaluate(x)
        if self._discards_singular:
            return chosen_derivatives(self._beside_seams)(x)
        return self._beside_seams(x) if self._misjudged else self.program.evaluate(x)

    def _beside_seams(self, x: Array) -> Array:
        """f(x), whose choices near a seam are those to the right of it."""
        return self.program.evaluate(x, right_of(x, self.joints.seams))

    @cached_property
    def _misjudged(self) -> bool:
        return misjudged(self.program, self.joints.seams)

    @cached_property
    def _discards_singular(self) -> bool:
        return discards_singular(self.program, self.cells)

    def range(self, lo: Array, hi: Array) -> Ends:
        """Enclosure of f over [lo, hi]."""
        lo, hi = as_pair(lo, hi)
        with np.errstate(all="ignore"):
            found = self._sharpen(lo, hi, self._range(lo, hi), 0)
            return found if is_traced(lo, hi) else self._monotone(lo, hi, found)

    def slope(self, lo: Array, hi: Array) -> Ends:
        """Enclosure of the one-sided derivatives over [lo, hi]."""
        lo, hi = as_pair(lo, hi)
        with np.errstate(all="ignore"):
            return self._sharpen(lo, hi, self._hull(1, lo, hi), 1)

    def curvature(self, lo: Array, hi: Array) -> Ends:
        """Enclosure of f'' over [lo, hi], leaving out the kinks."""
        lo, hi = as_pair(lo, hi)
        with np.errstate(all="ignore"):
            return self._sharpen(lo, hi, self._hull(2, lo, hi), 2)

    def domain_error(self, lo: Array, hi: Array) -> Array:
        """Where [lo, hi] may hold a point at which f is not defined or not finite."""
        lo, hi = as_pair(lo, hi)
        first, last = self._between(lo, hi)
        xp = namespace(lo, hi)
        total = xp.asarray(np.append(0, np.cumsum(self.cells.bad)))
        return (total[last + 1] > total[first]) | ~(lo <= hi)

    @cached_property
    def _tables(self) -> tuple[tuple[Maxima, Maxima], ...]:
        """Range maxima of -lo and hi, for value, slope and curvature."""
        cells, joints = self.cells, self.joints
        tables = []
        for order, part in enumerate((cells.value, cells.slope, cells.curvature)):
            wild = cells.bad | (joints.broken if order > 0 else joints.stray)
            tables.append(
                (Maxima(np.where(wild, np.inf, -part.lo)), Maxima(np.where(wild, np.inf, part.hi)))
            )
        return tuple(tables)

    def _between(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        """First and last cell that [lo, hi] touches; both sides of a single point."""
        xp = namespace(lo, hi)
        dtype = np.result_type(lo.dtype)
        inner = self.cells.ends[1:-1]
        # Casting an end must not move an interval out of a cell.
        above, below = (cast_outward(inner, dtype, side) for side in (np.inf, -np.inf))
        first = xp.searchsorted(xp.asarray(above), lo, side="right")
        last = xp.searchsorted(xp.asarray(below), hi, side="left")
        first, last = first.astype(np.int32), last.astype(np.int32)
        return xp.minimum(first, last), xp.maximum(first, last)

    def _lookup(self, order: int, first: Array, last: Array, dtype: Any) -> Ends:
        """Hull over the cells from first to last."""
        negative, positive = self._tables[order]
        return -negative.over(first, last, dtype), positive.over(first, last, dtype)

    def _hull(self, order: int, lo: Array, hi: Array) -> Ends:
        """Hull over the cells that [lo, hi] touches."""
        first, last = self._between(lo, hi)
        found = self._lookup(order, first, last, np.result_type(lo.dtype))
        return everything_where(~(lo <= hi), found)

    def _range(self, lo: Array, hi: Array) -> Ends:
        xp = namespace(lo, hi)
        dtype = np.result_type(lo.dtype)
        first, last = self._between(lo, hi)
        whole = self._hull(0, lo, hi)
        # Cells strictly inside count whole, those at both ends from their inner node.
        inside = self._lookup(0, xp.minimum(first + 1, last), xp.maximum(last - 1, first), dtype)
        single = first == last
        near = [
            self._from_node(first, 1, lo, xp.where(single, hi, np.inf)),
            self._from_node(last, 0, xp.where(single, lo, -np.inf), hi),
        ]
        low, high = xp.minimum(near[0][0], near[1][0]), xp.maximum(near[0][1], near[1][1])
        between = last - first >= 2
        low = xp.where(between, xp.minimum(low, inside[0]), low)
        high = xp.where(between, xp.maximum(high, inside[1]), high)
        return xp.maximum(low, whole[0]), xp.minimum(high, whole[1])

    def _from_node(self, cell: Array, side: int, lo: Array, hi: Array) -> Ends:
        """Enclosure of f on the part of a cell inside [lo, hi], by its slope from one end."""
        xp = namespace(lo, hi)
        dtype = np.result_type(lo.dtype)
        ends, value = self.cells.ends, self.joints.value
        node = xp.clip(cell - 1 + side, 0, ends.size - 3)

        def gather(x: np.ndarray, towards: float, index: Array) -> Array:
            return xp.asarray(cast_outward(x, dtype, towards))[index]

        start = xp.maximum(lo, gather(ends, -np.inf, cell))
        stop = xp.minimum(hi, gather(ends, np.inf, cell + 1))
        slope = self._lookup(1, cell, cell, dtype)
        base = gather(value.lo, -np.inf, node), gather(value.hi, np.inf, node)
        usable = xp.isfinite(start) & xp.isfinite(stop)
        for x in (*slope, *base):
            usable = usable & xp.isfinite(x)
        # Only finite numbers are multiplied: a derivative would be NaN elsewhere.
        start, stop, *slope = (xp.where(usable, x, 0.0) for x in (start, stop, *slope))
        unit, least = 4 * unit_roundoff(lo, hi), tiny(lo, hi) / EXTREME
        low = start - gather(ends[1:-1], np.inf, node)
        high = stop - gather(ends[1:-1], -np.inf, node)
        offsets = [low - unit * abs(low), high + unit * abs(high)]
        moves = [times(s, o) for s in slope for o in offsets]
        down = xp.minimum(xp.minimum(moves[0], moves[1]), xp.minimum(moves[2], moves[3]))
        up = xp.maximum(xp.maximum(moves[0], moves[1]), xp.maximum(moves[2], moves[3]))
        below = unit * (abs(base[0]) + abs(down)) + xp.where(down < 0, least, 0.0)
        above = unit * (abs(base[1]) + abs(up)) + xp.where(up > 0, least, 0.0)
        return everything_where(~usable, (base[0] + down - below, base[1] + up + above))

    def _monotone(self, lo: np.ndarray, hi: np.ndarray, found: Ends) -> Ends:
        """Where f is monotone, its range is that of both ends."""
        least, most = self.slope(lo, hi)
        useful = np.atleast_1d(((least >= 0) | (most <= 0)) & np.isfinite(lo) & np.isfinite(hi))
        if not useful.any():
            return found
        low, high = (np.array(np.atleast_1d(x)) for x in found)
        values = []
        for x in (lo, hi):
            point = np.atleast_1d(x)[useful]
            values.append(Walk(Interval(point, point)).run(self.program).value)
        hull = values[0].hull(values[1])
        low[useful] = np.maximum(low[useful], hull.lo)
        high[useful] = np.minimum(high[useful], hull.hi)
        return low.reshape(np.shape(lo)), high.reshape(np.shape(lo))

    def _sharpen(self, lo: Array, hi: Array, found: Ends, order: int) -> Ends:
        """Known narrow intervals are enclosed by the program itself, too.

        So are those that reach to where cells are coarse, or into a tail.
        """
        if is_traced(lo, hi):
            return found
        first, last = self._between(lo, hi)
        wanted = (last - first < 4) | (np.maximum(abs(lo), abs(hi)) > FINE)
        narrow = np.atleast_1d(wanted & np.isfinite(lo) & np.isfinite(hi) & (lo <= hi))
        broken = np.append(0, np.cumsum(self.joints.broken | self.cells.bad))
        narrow &= np.atleast_1d(broken[last + 1] == broken[first])
        # A point where cells meet has slopes from both sides.
        narrow &= np.atleast_1d((lo < hi) | (order == 0) | (first == last))
        if not narrow.any():
            return found
        a, b = (np.atleast_1d(np.broadcast_to(x, narrow.shape))[narrow] for x in (lo, hi))
        jet, _ = enclose(self.program, Interval(a, b))
        part = (jet.value, jet.slope, jet.curvature)[order]
        low, high = (np.array(np.atleast_1d(x)) for x in found)
        low[narrow] = np.maximum(low[narrow], part.lo)
        high[narrow] = np.minimum(high[narrow], part.hi)
        shape = np.shape(found[0])
        return low.reshape(shape), high.reshape(shape)


@lru_cache(maxsize=256)
def piecewise(program: Univariate, relative_gap: float = NEGLIGIBLE) -> Piecewise:
    """The program's `Piecewise`, built once.

    Example:
        >>> from jaxsmooth.math.univariate import Operation
        >>> hard_tanh = piecewise(Univariate((Operation("clamp", (-1.0, 0, 1.0)),), 1))
        >>> [(k.location, k.jump) for k in hard_tanh.kinks]
        [(-1.0, 1.0), (1.0, -1.0)]
        >>> [float(end) for end in hard_tanh.range(0.5, 7.0)]
        [0.5, 1.0]
    """
    return Piecewise(program, relative_gap)
