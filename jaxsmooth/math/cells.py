"""A partition of the line into cells on which a one-variable program is well enclosed.

The line is cut at zero, at powers of two, at the program's constants and at infinity's
doorstep; cells are then halved until every choice of the program is decided and the
enclosures of f' and f'' are narrow. Thresholds that are not hit exactly end up between
two neighbouring floats, in a cell of their own that stays undecided: there every way in
which the choices may turn out is enclosed by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxsmooth.math.asymptotics import Tail
from jaxsmooth.math.branches import branched
from jaxsmooth.math.interval import Interval
from jaxsmooth.math.jets import Jet, Walk, stacked
from jaxsmooth.math.univariate import Univariate

TAIL_BITS = (16.0, 24.0, 40.0, 80.0)
FARTHEST = 2.0**1000  # tails begin before it: a choice beyond it stays undecided
TOLERANCES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
CORE = 2.0  # |x| up to here sets the scale of f' and f''
FLOOR = 0.02  # of that scale: below it, relative accuracy is given up
MOST_CELLS = 8192
# Cells near zero are refined first, and leave some to those farther away.
FINE = 32.0  # |x| up to here
REACHES = (
    (8.0, MOST_CELLS // 2),
    (FINE, 3 * MOST_CELLS // 4),
    (128.0, 7 * MOST_CELLS // 8),
    (np.inf, MOST_CELLS),
)
BESIDE = 2.0**-20  # relative width of small cells beside a point
NEAREST = 2.0**-40  # distances from a pole that are told apart
BESIDE_POLE = 2.0**-12  # distance from a pole below which cells may be wider
RELAXED = 2.0**-5  # what their widths count for
SPARSE = 2.0**-5  # relative width of cells where f is undefined
MOST_ROUNDS = 90
FEW = 8  # parts of the room that is left, of which one is used at a time,
LEAST = MOST_CELLS // 64  # but no fewer cells: every round takes time
MOST_ISOLATED = 256  # undecided cells a few units wide


@dataclass(frozen=True)
class Cells:
    """Cells in increasing order, the first and the last being the tails.

    Args:
        ends: the cells are [ends[i], ends[i+1]]; the outermost ends are infinite.
        value: encloses f on each cell.
        slope: encloses f'.
        curvature: encloses f''.
        bad: where f is undefined or infinite.
        undecided: where the program's choices are not decided.
        decisions: matrix (choice, cell) of 1, 0 and 2 (undecided).
    """

    ends: np.ndarray
    value: Interval
    slope: Interval
    curvature: Interval
    bad: np.ndarray
    undecided: np.ndarray
    decisions: np.ndarray


@dataclass
class _Batch:
    """Evaluated cells in any order."""

    lo: np.ndarray
    hi: np.ndarray
    numbers: np.ndarray  # (6, cell): value, slope, curvature
    bad: np.ndarray
    undecided: np.ndarray
    decisions: np.ndarray

    def take(self, index: np.ndarray) -> _Batch:
        return _Batch(
            self.lo[index],
            self.hi[index],
            self.numbers[:, index],
            self.bad[index],
            self.undecided[index],
            self.decisions[:, index],
        )

    def join(self, *others: _Batch) -> _Batch:
        parts = (self, *others)
        return _Batch(
            np.concatenate([p.lo for p in parts]),
            np.concatenate([p.hi for p in parts]),
            np.concatenate([p.numbers for p in parts], axis=1),
            np.concatenate([p.bad for p in parts]),
            np.concatenate([p.undecided for p in parts]),
            np.concatenate([p.decisions for p in parts], axis=1),
        )


def is_narrow(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Whether [lo, hi] is as small as what a threshold between two numbers leaves undecided."""
    return hi - lo <= 2.0**-36 * np.abs(lo) + 2.0**-1000


def discards_singular(program: Univariate, cells: Cells) -> bool:
    """Whether a choice discards, on some cell, what is undefined or has no bound there.

    Args:
        program: the function.
        cells: its partition.
    """
    inner = slice(1, -1)
    variable = Interval(cells.ends[1:-2], cells.ends[2:-1])
    walk = Walk(variable, cells.decisions[:, inner])
    result = walk.run(program)

    def singular(jet: Jet) -> np.ndarray:
        return jet.bad | ~jet.bounded

    computed = [singular(v) for v in walk.values if isinstance(v, Jet)]
    return bool(np.any(np.any(computed, axis=0) & ~singular(result)))


def enclose(program: Univariate, cells: Interval) -> tuple[Jet, np.ndarray]:
    """Jet of the program on cells, sharpened by mean values, and the decisions."""
    walk = Walk(cells)
    jet = walk.run(program)
    decisions = stacked(walk.decisions, cells.lo.size)
    with np.errstate(all="ignore"):
        middle = np.clip(_middle(cells.lo, cells.hi), cells.lo, cells.hi)
    centre = Interval(middle, middle)
    at = Walk(centre, decisions).run(program)
    with np.errstate(all="ignore"):
        offset = cells - centre
        sure = ~(jet.undecided | jet.bad | at.bad)
        slope = jet.slope.meet(at.slope + jet.curvature * offset)
        slope = slope.select(sure.astype(np.int8), jet.slope)
        value = jet.value.meet(at.value + slope * offset)
        value = value.select(sure.astype(np.int8), jet.value)
    return replace(jet, value=value, slope=slope), decisions


def _evaluate(program: Univariate, lo: np.ndarray, hi: np.ndarray) -> _Batch:
    jet, decisions = enclose(program, Interval(lo, hi))
    return _batch(lo, hi, jet, decisions)


def _batch(lo: np.ndarray, hi: np.ndarray, jet: Jet, decisions: np.ndarray) -> _Batch:
    return _Batch(lo, hi, _numbers(jet), jet.bad, jet.undecided, decisions)


def _numbers(jet: Jet) -> np.ndarray:
    triple = (jet.value, jet.slope, jet.curvature)
    return np.array([end for part in triple for end in (part.lo, part.hi)])


def _by_branches(program: Univariate, batch: _Batch) -> _Batch:
    """The cells, of which small ones that stay undecided are enclosed branch by branch."""
    small = batch.undecided & is_narrow(batch.lo, batch.hi)
    if not 0 < small.sum() <= MOST_ISOLATED:
        return batch
    jet = branched(program, Interval(batch.lo[small], batch.hi[small]))
    numbers, bad = batch.numbers.copy(), batch.bad.copy()
    numbers[:, small], bad[small] = _numbers(jet), jet.bad
    return replace(batch, numbers=numbers, bad=bad)


def _tail(program: Univariate, bits: float, sign: float) -> _Batch:
    variable = Tail.variable(bits, sign)
    walk = Walk(variable)
    jet = walk.run(program)
    decisions = stacked(walk.decisions, 1)
    return _batch(variable.lo, variable.hi, jet, decisions)


def _tails(program: Univariate) -> tuple[float, _Batch, _Batch]:
    """Tails on which slope and curvature are bounded, if there are such."""
    sizes = [abs(c) for c in program.constants if 0 < abs(c) < FARTHEST]
    first = max([TAIL_BITS[0], *(np.log2(size) + 2 for size in sizes)])
    found = []
    for bits in (first, *(b for b in TAIL_BITS if b > first)):
        left, right = (_tail(program, float(np.ceil(bits)), sign) for sign in (-1.0, 1.0))
        both = left.join(right)
        unbounded = int((~np.isfinite(both.numbers[2:])).any(axis=0).sum())
        found.append((unbounded + int(both.undecided.sum()), bits, left, right))
    _, bits, left, right = min(found, key=lambda item: item[:2])
    return float(np.ceil(bits)), left, right


def _seeds(program: Univariate, bits: float, apart: np.ndarray) -> np.ndarray:
    powers = 2.0 ** np.arange(-30, bits + 1)
    constants = np.array([s * c for c in program.constants for s in (-1.0, 1.0)])
    beside = BESIDE * np.maximum(abs(apart), BESIDE)
    points = np.concatenate([[0.0], powers, -powers, constants, apart - beside, apart + beside])
    return np.unique(points[np.abs(points) <= 2.0**bits])


def _scale(batch: _Batch, attained: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """What is attained near each cell: within two or so, or a factor of two or so.

    What is attained much nearer to a pole does not count.
    """
    x = _middle(batch.lo, batch.hi)
    far = np.sign(x) * (26 + np.log2(np.maximum(np.abs(x), 1.0)))
    place = np.floor(np.where(np.abs(x) < 64, x / 2, far)).astype(int)
    place -= place.min() - 1
    away = np.floor(np.log2(np.clip(distance, NEAREST, 1 / NEAREST))).astype(int)
    away -= away.min()
    most = np.zeros((place.max() + 2, away.max() + 1))
    np.maximum.at(most, (place, away), attained)
    inner, core = np.abs(x) <= CORE, np.zeros(away.max() + 1)
    np.maximum.at(core, away[inner], attained[inner])
    # At this distance from the poles, or farther away.
    most, core = (np.maximum.accumulate(t[..., ::-1], axis=-1)[..., ::-1] for t in (most, core))
    return np.maximum.reduce([core[away], *(most[place + i, away] for i in (-1, 0, 1))])


def _distance(batch: _Batch) -> np.ndarray:
    """Distance of each cell's middle from where something is unbounded."""
    x = _middle(batch.lo, batch.hi)
    wild = batch.bad | ~np.isfinite(batch.numbers).all(axis=0)
    lo, hi = np.sort(batch.lo[wild]), np.sort(batch.hi[wild])
    after = np.searchsorted(lo, x)
    return np.minimum(x - np.append(-np.inf, hi)[after], np.append(lo, np.inf)[after] - x)


def _excess(batch: _Batch) -> np.ndarray:
    """How wide the enclosures of slope and curvature are, relative to what they may be."""
    excess = np.zeros(batch.lo.size)
    distance = _distance(batch)
    for low, high in (batch.numbers[2:4], batch.numbers[4:6]):
        magnitude = np.maximum(np.abs(low), np.abs(high))
        attained = np.maximum(np.maximum(low, -high), 0.0)
        scale = _scale(batch, np.where(np.isfinite(attained), attained, 0.0), distance)
        # A magnitude far above what is attained is the enclosure's, and the worst of all.
        size = np.where(scale > 0, np.minimum(magnitude, scale), magnitude)
        width = (high - low) / np.maximum(size, FLOOR * scale)
        width = np.where(high == low, 0.0, width)
        excess = np.maximum(excess, np.where(np.isnan(width), np.inf, width))
    excess = np.where(distance < BESIDE_POLE, excess * RELAXED, excess)
    length = batch.hi - batch.lo
    fine = length <= 2.0**-24 * np.maximum(np.abs(batch.lo), 2.0**-10)
    # Beyond the end of a domain there is little to be found.
    fine |= _among_bad(batch) & (length <= SPARSE * np.maximum(np.abs(batch.lo), SPARSE))
    return np.where(fine | batch.undecided | ~_splittable(batch), 0.0, excess)


def _among_bad(batch: _Batch) -> np.ndarray:
    """Cells that are bad, between others that are."""
    order = np.argsort(batch.lo, kind="stable")
    bad = np.concatenate([[True], batch.bad[order], [True]])
    found = np.empty(batch.bad.shape, bool)
    found[order] = bad[:-2] & bad[1:-1] & bad[2:]
    return found


Middles = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Where cells (lo, hi) are split."""


def _middle(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    return lo + 0.5 * (hi - lo)


def _towards_zero(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """The middle; of cells that end at zero a point near it: floats are dense there."""
    size = np.maximum(abs(lo), abs(hi))
    ends = (np.minimum(abs(lo), abs(hi)) == 0) & (size < 2.0**-30) & (size > 2.0**-1000)
    return np.where(ends, (lo + hi) * 2.0**-32, _middle(lo, hi))


def _worst(excess: np.ndarray, tolerance: float, most: int) -> np.ndarray:
    """The cells above the tolerance, or the worst of them where there is no room for all.

    Those are few at a time, since their halves may be worse than the others.
    """
    chosen = excess > tolerance
    if chosen.sum() > most:
        few = max(0, min(most, max(most // FEW, LEAST)))
        chosen[np.argsort(-excess, kind="stable")[few:]] = False
    return chosen


def _split(
    program: Univariate, batch: _Batch, which: np.ndarray, middles: Middles = _middle
) -> _Batch:
    chosen = batch.take(which)
    middle = middles(chosen.lo, chosen.hi)
    lo = np.concatenate([chosen.lo, middle])
    hi = np.concatenate([middle, chosen.hi])
    return batch.take(~which).join(_evaluate(program, lo, hi))


def _splittable(batch: _Batch) -> np.ndarray:
    middle = _middle(batch.lo, batch.hi)
    return (middle > batch.lo) & (middle < batch.hi)


def _within(batch: _Batch, reach: float) -> np.ndarray:
    return np.maximum(np.abs(batch.lo), np.abs(batch.hi)) <= reach


def partition(program: Univariate, apart: Sequence[float] = ()) -> Cells:
    """The cells of a program.

    Args:
        program: the function.
        apart: points that are to have small cells on both sides.
    """
    with np.errstate(all="ignore"):
        bits, left, right = _tails(program)
        seeds = _seeds(program, bits, np.array(apart))
        batch = _evaluate(program, seeds[:-1], seeds[1:])
        for (reach, _), _ in itertools.product(REACHES, range(MOST_ROUNDS)):
            open_ = batch.undecided & _splittable(batch) & _within(batch, reach)
            # An isolated threshold keeps few cells undecided; more is not a threshold.
            isolated = open_ & (batch.hi - batch.lo < 2.0**-40 * np.abs(batch.lo))
            open_ &= ~isolated | (isolated.sum() < MOST_ISOLATED)
            if open_.any() and batch.lo.size + open_.sum() <= MOST_CELLS:
                batch = _split(program, batch, open_, _towards_zero)
        batch = _by_branches(program, batch)
        for (reach, most), tolerance in itertools.product(REACHES, TOLERANCES):
            for _ in range(MOST_ROUNDS):
                room = most - batch.lo.size
                excess = np.where(_within(batch, reach), _excess(batch), 0.0)
                coarse = _worst(excess, tolerance, room)
                if not coarse.any():
                    break
                batch = _split(program, batch, coarse)
        batch = batch.take(np.argsort(batch.lo, kind="stable"))
        batch = left.join(batch, right)
    value, slope, curvature = (Interval(batch.numbers[i], batch.numbers[i + 1]) for i in (0, 2, 4))
    ends = np.append(batch.lo, np.inf)
    return Cells(ends, value, slope, curvature, batch.bad, batch.undecided, batch.decisions)
