"""Enclosures of a one-variable program on cells where its choices are not decided.

Where a choice is open, its result is the hull of both options, and what is computed from the
hull may be far from both: of ``y = where(x > 8, -x, x)`` at 8 it is [-8, 8], although no y
is near 0, and ``where(x > 8, -exp(y), log(y))`` seems to be unbounded. Here the program is
followed once for each way in which a choice may turn out, with all that depends on it.
"""

from __future__ import annotations

import numpy as np

from jaxsmooth.math.interval import Interval
from jaxsmooth.math.jets import FREE, UNDECIDED, Jet, Walk, stacked
from jaxsmooth.math.univariate import Univariate

MOST_BRANCHES = 4096  # of all cells together; with more, the open choices are left open


def branched(program: Univariate, cells: Interval) -> Jet:
    """Jet of the program on cells, the hull of those of its branches.

    Args:
        program: the function.
        cells: on which some choices need not be decided.
    """
    size = cells.lo.size
    branch, follow = np.arange(size), None
    leaves: list[tuple[np.ndarray, Jet]] = []
    while branch.size:
        walk = Walk(Interval(cells.lo[branch], cells.hi[branch]), follow)
        jet = walk.run(program)
        made = stacked(walk.decisions, branch.size)
        if follow is None:
            follow = np.full_like(made, FREE)
        open_ = (made == UNDECIDED).any(axis=0)
        if len(leaves) and 2 * open_.sum() > MOST_BRANCHES:
            open_[:] = False
        leaves.append((branch[~open_], _take(jet, ~open_)))
        branch, follow = branch[open_], follow[:, open_]
        # The first open choice, both ways: later ones may depend on it.
        first = np.argmax(made[:, open_] == UNDECIDED, axis=0)
        ways = [follow.copy(), follow.copy()]
        for decision, way in enumerate(ways):
            way[first, np.arange(branch.size)] = decision
        branch, follow = np.tile(branch, 2), np.concatenate(ways, axis=1)
    return _hull(leaves, size)


def _take(jet: Jet, index: np.ndarray) -> Jet:
    parts = (jet.value, jet.slope, jet.curvature)
    value, slope, curvature = (Interval(x.lo[index], x.hi[index]) for x in parts)
    return Jet(value, slope, curvature, jet.bad[index], jet.undecided[index])


def _hull(leaves: list[tuple[np.ndarray, Jet]], size: int) -> Jet:
    """The hull, on every cell, of the jets of its branches."""

    def over(parts: list[Interval]) -> Interval:
        lo, hi = np.full(size, np.inf), np.full(size, -np.inf)
        for (branch, _), part in zip(leaves, parts, strict=True):
            np.minimum.at(lo, branch, part.lo)
            np.maximum.at(hi, branch, part.hi)
        return Interval(lo, hi)

    bad, undecided = np.zeros((2, size), bool)
    for branch, jet in leaves:
        np.logical_or.at(bad, branch, jet.bad)
        np.logical_or.at(undecided, branch, jet.undecided)
    value, slope, curvature = (
        over([getattr(jet, name) for _, jet in leaves]) for name in ("value", "slope", "curvature")
    )
    return Jet(value, slope, curvature, bad, undecided)
