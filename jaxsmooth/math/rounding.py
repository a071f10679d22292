"""How far the rounding of its constants may move a one-variable program.

Branches that meet by the mathematics do so only nearly if their constants are rounded: 3 x - 1
is not 0 at the number nearest to 1/3. A jump of that size is none. Constants with few digits
are what was meant, so that nothing that they compute is excused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from jaxsmooth.math.interval import Interval
from jaxsmooth.math.jets import Walk
from jaxsmooth.math.univariate import COMPARISONS, Univariate

NEGLIGIBLE = 2.0**-40  # relative rounding in double precision, several times


@dataclass(frozen=True)
class Rounding:
    """How far the rounding of constants may move f and f' at some points."""

    value: np.ndarray
    slope: np.ndarray


def rounding(
    program: Univariate, points: np.ndarray, decisions: np.ndarray, relative: float
) -> Rounding:
    """How far constants that are off by some part of themselves move the program.

    Args:
        program: the function.
        points: where.
        decisions: matrix (choice, point) of the choices that are made there.
        relative: that part.
    """

    def limits(f: Univariate) -> np.ndarray:
        jet = Walk(Interval(points, points), decisions).run(f)
        found = np.array([0.5 * x.lo + 0.5 * x.hi for x in (jet.value, jet.slope)])
        return np.where(np.isfinite(found), found, 0.0)

    moved, base = np.zeros((2, points.size)), limits(program)
    for constant in sorted(c for c in program.constants if _is_rounded(c, relative)):
        moved += abs(limits(_with(program, constant, constant * (1 + relative))) - base)
    return Rounding(moved[0], moved[1])


def has_rounded_thresholds(program: Univariate, relative: float) -> bool:
    """Whether rounding moves the places where the program chooses otherwise than before."""
    read: set[int] = set()
    for number, operation in reversed(list(enumerate(program.operations, start=1))):
        if not (number in read or operation.name in COMPARISONS):
            continue
        read.update(v for v in operation.operands if isinstance(v, int))
        constants = [v for v in operation.operands if isinstance(v, float)]
        if any(_is_rounded(c, relative) for c in constants):
            return True
    return False


def _with(program: Univariate, old: float, new: float) -> Univariate:
    """The program with another number in place of one of its constants."""

    def operand(v: int | float) -> int | float:
        return new if isinstance(v, float) and v == old else v

    steps = (replace(o, operands=tuple(map(operand, o.operands))) for o in program.operations)
    return replace(program, operations=tuple(steps))


def _is_rounded(constant: float, relative: float) -> bool:
    """Whether a constant has more digits than what is written down, in a type that has few more.

    Whole numbers that the type holds are exact.
    """
    if constant == 0 or not np.isfinite(constant):
        return False
    digits = 3 - np.log2(relative)
    if float(constant).is_integer() and abs(constant) < 2.0**digits:
        return False
    mantissa = int(abs(np.frexp(constant)[0]) * 2**53)
    used = 53 - (mantissa & -mantissa).bit_length() + 1
    return bool(used > digits / 2)
