"""Perturbations from many sources at once, carried through a program.

A source is anything whose effect on the output is asked for: a unit perturbation of an
argument leaf, a unit error of a site, the second-order response of an equation. Every
value holds the stack of magnitudes of those sources that reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxsmooth.math.array import Array, namespace
from jaxsmooth.math.magnitude import Magnitude, totals_of

# Above this many numbers a stack keeps norms only; bounds stay sound and get looser.
MOST_ENTRIES = 2**24


@dataclass(frozen=True, eq=False)
class Perturbation:
    """What the sources do to one value.

    Attributes:
      sources: increasing identifiers, shape (N,).
      magnitude: stack of N enclosures.
    """

    sources: np.ndarray
    magnitude: Magnitude


def union(perturbations: Sequence[Perturbation | None]) -> np.ndarray:
    """All sources of several perturbations, increasing."""
    present = [p.sources for p in perturbations if p is not None]
    return np.unique(np.concatenate(present)) if present else np.zeros(0, int)


def aligned(p: Perturbation | None, sources: np.ndarray) -> Magnitude | None:
    """The stack over these sources, zero for those that do not reach the value."""
    if p is None or np.array_equal(p.sources, sources):
        return None if p is None else p.magnitude
    rows = np.searchsorted(sources, p.sources)
    m = p.magnitude
    count = len(sources)
    norm = _placed(m.norm, rows, (count,))
    total = None if m.total is None else _placed(m.total, rows, (count,))
    if m.entries is None:
        return Magnitude(None, norm, total)
    return Magnitude(_placed(m.entries, rows, (count, *m.entries.shape[1:])), norm, total)


def _placed(rows_of: Array, rows: np.ndarray, shape: tuple[int, ...]) -> Array:
    xp = namespace(rows_of)
    if xp is np:
        out = np.zeros(shape)
        out[rows] = rows_of
        return out
    return xp.zeros(shape, rows_of.dtype).at[rows].set(rows_of)


def joined(parts: Sequence[Perturbation]) -> Perturbation:
    """One perturbation of a value from parts with increasing, disjoint sources."""
    if len(parts) == 1:
        return parts[0]
    norms = [p.magnitude.norm for p in parts]
    entries = [p.magnitude.entries for p in parts]
    totals = None
    if any(p.magnitude.total is not None for p in parts):
        totals = [totals_of(p.magnitude) for p in parts]
    xp = namespace(*norms, *entries, *(totals or ()))
    stack = None if any(e is None for e in entries) else xp.concatenate(entries)
    magnitude = Magnitude(stack, xp.concatenate(norms), totals and xp.concatenate(totals))
    return Perturbation(np.concatenate([p.sources for p in parts]), magnitude)


def affordable(p: Perturbation) -> Perturbation:
    """The perturbation, with norms only where its entries would take too much memory."""
    entries = p.magnitude.entries
    if entries is None or entries.size <= MOST_ENTRIES:
        return p
    return Perturbation(p.sources, Magnitude(None, p.magnitude.norm, p.magnitude.total))
