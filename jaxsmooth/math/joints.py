"""What happens where two cells of a one-variable program meet: kinks and jumps.

One-sided limits of f and f' are evaluated at the very point where cells meet, each side
with the decisions that its cell made. So branches that meet smoothly (elu, huber) are
told from those that do not, and a kink inside a branch that is not selected is none.

Branches that were meant to meet may miss each other by rounding: of constants that are no
simple numbers (`jaxsmooth.math.rounding`), and of what they approximate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxsmooth.math.cells import Cells, is_narrow
from jaxsmooth.math.interval import Interval
from jaxsmooth.math.jets import Jet, Walk, stacked
from jaxsmooth.math.rounding import NEGLIGIBLE, Rounding, has_rounded_thresholds, rounding
from jaxsmooth.math.univariate import Univariate


class Discontinuity(ValueError):
    """The function jumps.

    Args:
        location: where.
        left: its limit from the left.
        right: its limit from the right (or its value there, where only that is off).
    """

    def __init__(self, location: float, left: float, right: float):
        text = f"jumps at {location:g} from {left:g} to {right:g}"
        if f"{left:g}" == f"{right:g}":
            text += f" (by {right - left:.2g})"
        super().__init__(text)
        self.location = location
        self.left = left
        self.right = right


@dataclass(frozen=True)
class Seam:
    """A point where f is continuous and the program chooses otherwise than before.

    Args:
        location: where, as the nearest number that could be determined.
        slopes: one-sided first derivatives, from the left and from the right.
        curvatures: one-sided second derivatives.
        width: width of the enclosure of the location, 0 if it is exact.
        gap: largest difference that rounding leaves between the limits of f.
        is_kink: whether the first derivative jumps.
    """

    location: float
    slopes: tuple[float, float]
    curvatures: tuple[float, float]
    width: float
    gap: float
    is_kink: bool

    @property
    def jump(self) -> float:
        """Right derivative minus left derivative."""
        return self.slopes[1] - self.slopes[0]


@dataclass(frozen=True)
class Joints:
    """Seams, jumps and one-sided values at the points where decided cells meet.

    Args:
        seams: in increasing order.
        discontinuities: in increasing order.
        value: encloses f at every end between two cells.
        broken: cells that touch a jump or whose decisions stayed open.
        stray: cells that touch a point with a value of its own.
        singular: where choices change and a side is no number, or has no bounded derivatives.
    """

    seams: tuple[Seam, ...]
    discontinuities: tuple[Discontinuity, ...]
    value: Interval
    broken: np.ndarray
    stray: np.ndarray
    singular: tuple[float, ...]

    @property
    def kinks(self) -> tuple[Seam, ...]:
        """The seams where the derivative jumps."""
        return tuple(s for s in self.seams if s.is_kink)


def _limits(program: Univariate, points: np.ndarray, decisions: np.ndarray) -> Jet:
    return Walk(Interval(points, points), decisions).run(program)


def _decisions(program: Univariate, points: np.ndarray) -> np.ndarray:
    """What the program decides at single points, as x == 0 at 0."""
    walk = Walk(Interval(points, points), at_ends=True)
    walk.run(program)
    return stacked(walk.decisions, points.size)


def _middle(x: Interval) -> np.ndarray:
    return np.where(x.lo == x.hi, x.lo, 0.5 * x.lo + 0.5 * x.hi)


def _apart(a: Interval, b: Interval) -> np.ndarray:
    """Distance between two intervals."""
    return np.maximum(np.maximum(a.lo - b.hi, b.lo - a.hi), 0.0)


def _gap(a: Interval, b: Interval) -> np.ndarray:
    """Largest distance between points of two intervals."""
    return np.maximum(np.maximum(a.hi - b.lo, b.hi - a.lo), 0.0)


def examine(program: Univariate, cells: Cells, relative_gap: float = NEGLIGIBLE) -> Joints:
    """Kinks and jumps of a program, given its cells.

    Args:
        program: the function.
        cells: its partition.
        relative_gap: difference of the one-sided limits of f, relative to the size of
            the function around, that passes for rounding of the program's constants.
    """
    decided = ~cells.undecided
    # Each run of undecided cells is one joint, from its first end to its last.
    left = np.flatnonzero(decided[:-1])
    right = np.flatnonzero(decided)
    left = left[left < right.max(initial=0)]
    right = right[np.searchsorted(right, left + 1)] if left.size else left
    first, last = cells.ends[left + 1], cells.ends[right]
    with np.errstate(all="ignore"):
        sides = [(first, cells.decisions[:, left]), (last, cells.decisions[:, right])]
        before, after = (_limits(program, *side) for side in sides)
        roundings = [rounding(program, *side, relative_gap) for side in sides]
        seams, jumps, broken, stray, singular = _classify(
            program, cells, (left, right), (before, after), roundings, relative_gap
        )
    # Values at all inner ends, from whichever sides are decided.
    inner = cells.ends[1:-1]
    ends = [
        _limits(program, inner, cells.decisions[:, side]) for side in (slice(-1), slice(1, None))
    ]
    value = ends[0].value.hull(ends[1].value)
    # Undecided tails are joints with nothing on their far side.
    reached = np.cumsum(decided), np.cumsum(decided[::-1])[::-1]
    broken |= (reached[0] == 0) | (reached[1] == 0)
    return Joints(seams, jumps, value, broken, stray, singular)


def _classify(
    program: Univariate,
    cells: Cells,
    neighbours: tuple[np.ndarray, np.ndarray],
    limits: tuple[Jet, Jet],
    roundings: list[Rounding],
    relative_gap: float,
) -> tuple[tuple[Seam, ...], tuple[Discontinuity, ...], np.ndarray, np.ndarray, tuple[float, ...]]:
    left, right = neighbours
    before, after = limits
    first, last = cells.ends[left + 1], cells.ends[right]
    width = last - first
    known = np.isfinite(before.value.magnitude) & np.isfinite(after.value.magnitude)
    steep = np.maximum(before.slope.magnitude, after.slope.magnitude)
    steep = np.where(np.isfinite(steep), steep, 0.0)
    # How far rounding may have moved the place.
    shift = np.zeros(first.shape)
    if has_rounded_thresholds(program, relative_gap):
        shift = relative_gap * np.abs(first)
    size = np.maximum(before.value.magnitude, after.value.magnitude)
    allowed = relative_gap * size + sum(r.value for r in roundings) + steep * (2 * width + shift)
    apart = _apart(before.value, after.value)
    gap = _gap(before.value, after.value)
    # With the same decisions on both sides, and between them, there is but one smooth formula.
    here = _decisions(program, first)
    sides = cells.decisions[:, left], cells.decisions[:, right]
    changed = (width > 0) | np.any([(here != side).any(axis=0) for side in sides], axis=0)
    # Values taken only at the point itself, or inside an undecided cell.
    at = [program.evaluate(x) for x in (first, last)]
    hull = before.value.hull(after.value)
    stray = np.maximum.reduce([np.maximum(hull.lo - y, y - hull.hi) for y in at])
    stray = np.where(np.isnan(stray), np.inf, stray)
    within = Walk(Interval(first, last), tied=True).run(program).value
    stray = np.where(width > 0, np.maximum(stray, _apart(hull, within)), stray)
    # A run of undecided cells that is not tiny was given up, not located.
    narrow = is_narrow(first, last)
    jumps = known & narrow & ((changed & (apart > allowed)) | (stray > allowed))
    change = _middle(after.slope) - _middle(before.slope)
    blurred = sum(jet.slope.hi - jet.slope.lo for jet in limits)
    part = NEGLIGIBLE / relative_gap
    curved = np.maximum(before.curvature.magnitude, after.curvature.magnitude)
    turned = np.where(np.isfinite(curved), curved, 0.0) * shift
    doubt = NEGLIGIBLE * steep + part * sum(r.slope for r in roundings) + blurred + turned
    met = known & narrow & changed & ~jumps
    bent = np.abs(change) > doubt

    # The point may be of the side that is infinite; and derivatives there are those to its right.
    singular = narrow & changed & ~(before.bounded & after.bounded)
    safe = after.bounded & (width == 0) & (here == sides[1]).all(axis=0)

    broken, isolated = np.zeros((2, cells.undecided.size), bool)
    for i in np.flatnonzero(jumps | singular | ~narrow):
        broken[left[i] : right[i] + 1 - (singular[i] & safe[i] & ~jumps[i])] = True
    for i in np.flatnonzero(singular & ~known & ~safe):
        isolated[left[i] : right[i] + 1] = True
    for i in np.flatnonzero(jumps & (stray > allowed)):
        isolated[left[i] : right[i] + 1] = True
    # At the end of f's domain, a point that is decided as where f is undefined.
    for side, beyond, decided in zip((left, right), (right, left), sides, strict=True):
        ends = cells.bad[beyond] & ~cells.bad[side] & (here != decided).any(axis=0)
        broken[side[ends]] = True
    exact = _locate(program, first, last) + 0.0  # no negative zero
    slopes, curvatures = (
        np.stack([_middle(a), _middle(b)], axis=1).tolist()
        for a, b in ((before.slope, after.slope), (before.curvature, after.curvature))
    )
    seams = tuple(
        Seam(
            float(exact[i]),
            tuple(slopes[i]),
            tuple(curvatures[i]),
            float(width[i]),
            float(gap[i]),
            bool(bent[i]),
        )
        for i in np.flatnonzero(met)
    )
    found = []
    for i in np.flatnonzero(jumps):
        ends = [float(_middle(x.value)[i]) for x in (before, after)]
        if apart[i] <= allowed[i]:
            ends[1] = float((_middle(within) if width[i] > 0 else at[0])[i])
        found.append(Discontinuity(float(exact[i]), *ends))
    return seams, tuple(found), broken, isolated, tuple(exact[singular].tolist())


def _locate(program: Univariate, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """A constant of the program inside each interval, or else its middle."""
    best = first + 0.5 * (last - first)
    for constant in sorted(program.constants):
        for x in (constant, -constant):
            best = np.where((first <= x) & (x <= last), x, best)
    return best
