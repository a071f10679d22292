"""Ranges and perturbations of slices, of stacks, and of what takes several ranges.

A slice is in the ball of the whole. With v = (v_1, …, v_T) a stack and c likewise,

    ‖v - c‖ <= (Σ_t (Σ_j g_tj ‖θ_j - c_j‖ + r_t)²)^½ <= Σ_j ‖g_·j‖ ‖θ_j - c_j‖ + ‖r‖

by Minkowski's inequality, and the 2-norm of a perturbation of it is the root of the sum of
the squares of its slices'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxsmooth.analysis.sources import MOST_ENTRIES, Perturbation, aligned, union
from jaxsmooth.math.array import Array, namespace, norm2, up
from jaxsmooth.math.magnitude import Magnitude, tighten, totals_of
from jaxsmooth.math.range import Radii, Range, enclose


def slice_of(r: Range, index: int, radii: Radii) -> Range:
    """The range of one slice along the first axis."""
    return enclose(radii, r.lo[index], r.hi[index], r.center[index], r.gains, r.rest, r.radius)


def change_of_slice(p: Perturbation | None, index: int) -> Perturbation | None:
    """What a perturbation of a stack does to one slice."""
    if p is None:
        return None
    m = p.magnitude
    entries = None if m.entries is None else m.entries[:, index]
    return Perturbation(p.sources, tighten(entries, m.norm, m.total))


def stack_of(ranges: Sequence[Range], radii: Radii) -> Range:
    """The range of a stack of variables."""
    xp = namespace(*(x for r in ranges for x in (r.lo, r.hi, r.center, r.radius, r.rest)))
    return enclose(
        radii,
        xp.stack([r.lo for r in ranges]),
        xp.stack([r.hi for r in ranges]),
        xp.stack([r.center for r in ranges]),
        norm2(xp.stack([r.gains for r in ranges]), 0),
        norm2(xp.stack([xp.asarray(r.rest) for r in ranges])),
        norm2(xp.stack([xp.asarray(r.radius) for r in ranges])),
    )


def change_of_stack(
    changes: Sequence[Perturbation | None], shape: tuple[int, ...]
) -> Perturbation | None:
    """What is done to a stack of variables of this shape, from what is done to each."""
    sources = union(changes)
    if not len(sources):
        return None
    length, count = len(changes), len(sources)
    parts = [aligned(p, sources) for p in changes]
    present = [m for m in parts if m is not None]
    xp = namespace(*(x for m in present for x in (m.entries, m.norm, m.total)))
    nothing = np.zeros(count)
    norm = norm2(xp.stack([nothing if m is None else m.norm for m in parts]), 0)
    total = None
    if any(m.total is not None for m in present):
        total = up(sum(totals_of(m) for m in present), length)
    size = count * length * int(np.prod(shape, dtype=int))
    if size > MOST_ENTRIES or any(m.entries is None for m in present):
        return Perturbation(sources, tighten(None, norm, total))
    empty = np.zeros((count, *shape))
    entries = xp.stack([empty if m is None else m.entries for m in parts], axis=1)
    return Perturbation(sources, tighten(entries, norm, total))


def hull(a: Range, b: Range, radii: Radii) -> Range:
    """A range of what lies in one of two, around the center of the first."""
    if a is b:
        return a
    xp = namespace(a.lo, a.hi, a.center, b.lo, b.hi, b.center, a.radius, b.radius)
    apart = norm2(b.center - a.center)
    return enclose(
        radii,
        xp.minimum(a.lo, b.lo),
        xp.maximum(a.hi, b.hi),
        a.center,
        xp.maximum(a.gains, b.gains),
        xp.maximum(a.rest, up(b.rest + apart, 2)),
        xp.maximum(a.radius, up(b.radius + apart, 2)),
    )


def sum_of(parts: Sequence[Perturbation]) -> Perturbation:
    """The sum of perturbations of one value, whose sources may coincide."""
    sources = union(parts)
    count = len(parts) + 1
    whole = [aligned(p, sources) for p in parts]
    summed = [m for m in whole if m is not None]
    norm = up(sum(m.norm for m in summed), count)
    total: Array | None = None
    if any(m.total is not None for m in summed):
        total = up(sum(totals_of(m) for m in summed), count)
    stacks = [m.entries for m in summed if m.entries is not None]
    if len(stacks) < len(summed):
        return Perturbation(sources, Magnitude(None, norm, total))
    return Perturbation(sources, tighten(up(sum(stacks), count), norm, total))
