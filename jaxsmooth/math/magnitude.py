"""Magnitudes: enclosures of perturbations of a variable.

A `Magnitude` holds a stack of N enclosures, one per source of perturbation (a unit
perturbation of an argument, a unit error of a site, a second-order response), each

    |d| <= entries (elementwise),     ‖d‖₂ <= norm,     ‖d‖₁ <= total.

The set of perturbations that a linear map J sends the unit ball to has the norms of J's
rows as entries, so 2→∞ operator norms come for free. The 1-norm is for second-order
responses: that of an elementwise function, φ''⊙a⊙b, is at most max|φ''| ‖a‖‖b‖ in 1-norm,
by Cauchy-Schwarz, and a linear map sends it to at most the largest norm of a *column*,
which is far below the operator norm for wide layers and for scalar outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxsmooth.math.array import Array, namespace, norm2, times, up


@dataclass(frozen=True, eq=False)
class Magnitude:
    """Enclosures of N perturbations of a variable of shape S.

    Attributes:
      entries: shape (N, *S), or None where only norms are kept.
      norm: shape (N,).
      total: shape (N,), infinite where nothing is known; None if nothing is known of any.
    """

    entries: Array | None
    norm: Array
    total: Array | None = None

    def rows(self, indices: np.ndarray) -> Magnitude:
        """The enclosures at these increasing positions of the stack."""
        if len(indices) == len(self.norm):
            return self
        return Magnitude(
            None if self.entries is None else self.entries[indices],
            self.norm[indices],
            None if self.total is None else self.total[indices],
        )

    def joint_entries(self) -> Array | None:
        """Entries for perturbations of all sources at once, jointly of norm one: sqrt(Σ e²)."""
        if self.entries is None:
            return None
        return self.entries[0] if len(self.entries) == 1 else norm2(self.entries, 0)


@dataclass(frozen=True, eq=False)
class Response:
    """Enclosure of a second-order response p''[a, b] over unit perturbations of N leaves.

    Attributes:
      pairs: shape (N, N), symmetric; bound of ‖p''[a_i, b_j]‖₂ (both orders together).
      entries: shape S, or None; elementwise bound of |p''[a, b]| for a and b that perturb
        all leaves jointly with norm one.
      totals: shape (N, N), or None; bound of ‖p''[a_i, b_j]‖₁.
      singular: whether p'' may be infinite. Then nothing bounds derivatives that are
        computed, not even to changes that are 0 or behind a factor 0: they are 0·∞.
    """

    pairs: Array
    entries: Array | None
    totals: Array | None = None
    singular: Array = False


def column(norm: Array, rank: int) -> Array:
    """Norms (N,) shaped to broadcast against entries of a variable of that rank."""
    return norm.reshape(norm.shape + (1,) * rank)


def tighten(entries: Array | None, norm: Array, total: Array | None = None) -> Magnitude:
    """The enclosure that entries, norms and totals imply together."""
    if total is not None:
        norm = namespace(norm, total).minimum(norm, total)
    if entries is None:
        return Magnitude(None, norm, total)
    rank, size = entries.ndim - 1, entries.size
    axes = tuple(range(1, rank + 1))
    xp = namespace(entries, norm, total)
    entries = xp.minimum(entries, column(norm, rank))
    if total is not None:
        total = xp.minimum(total, up(xp.sum(entries, axis=axes), size))
    return Magnitude(entries, xp.minimum(norm, norm2(entries, axes)), total)


def scale(m: Magnitude, factor: Array) -> Magnitude:
    """Enclosure of factor ⊙ d, with factor >= 0 of the variable's shape or a number."""
    xp = namespace(factor, m.norm)
    largest = xp.max(factor, initial=0.0)
    norm = up(times(largest, m.norm))
    total = None if m.total is None else up(times(largest, m.total))
    if m.entries is None:
        return tighten(None, norm, total)
    return tighten(up(times(factor, m.entries)), norm, total)


def add(a: Magnitude | None, b: Magnitude | None) -> Magnitude | None:
    """Enclosure of the sum of two perturbations."""
    if a is None or b is None:
        return a if b is None else b
    norm = up(a.norm + b.norm)
    total = None
    # A source that does not reach one of the two has norm 0 there.
    if a.total is not None or b.total is not None:
        total = up(totals_of(a) + totals_of(b))
    if a.entries is None or b.entries is None:
        return tighten(None, norm, total)
    return tighten(up(a.entries + b.entries), norm, total)


def mix(a: Magnitude | None, b: Magnitude | None) -> Magnitude | None:
    """Enclosure of σ ⊙ d + (1 - σ) ⊙ e for any σ with elements in [0, 1]."""
    if a is None or b is None:
        return a if b is None else b
    xp = namespace(a.norm, b.norm, a.entries, b.entries)
    # |σ d + (1 - σ) e| <= max(|d|, |e|), whose square is at most d² + e².
    norm = norm2(xp.stack([a.norm, b.norm]), 0)
    if a.entries is None or b.entries is None:
        return Magnitude(None, norm)
    return tighten(xp.maximum(a.entries, b.entries), norm)


def totals_of(m: Magnitude) -> Array:
    """1-norms of a stack: 0 for perturbations that vanish, infinite where not known."""
    xp = namespace(m.norm, m.total)
    known = np.inf if m.total is None else m.total
    return xp.where(m.norm > 0, known, 0.0)


def elementwise_response(curvature: Array, m: Magnitude) -> Response:
    """Response of an elementwise function with |φ''| <= curvature (the variable's shape).

    ‖φ'' ⊙ a ⊙ b‖₂ <= max|φ'' a|·‖b‖₂, the same with a and b exchanged, and in 1-norm
    max|φ''|·‖a‖₂‖b‖₂.
    """
    xp = namespace(curvature, m.norm)
    largest = xp.max(curvature, initial=0.0)
    if m.entries is None:
        peaks = up(times(largest, m.norm))
    else:
        axes = tuple(range(1, m.entries.ndim))
        peaks = up(xp.max(times(curvature, m.entries), axis=axes, initial=0.0))
    joint = m.joint_entries()
    entries = None if joint is None else up(times(curvature, up(times(joint, joint))), 2)
    totals = up(times(largest, times(m.norm[:, None], m.norm[None, :])), 3)
    return Response(crossed(peaks, m.norm), entries, totals, unbounded(curvature))


def unbounded(curvature: Array) -> Array:
    """Whether bounds of curvature are infinite somewhere."""
    xp = namespace(curvature)
    return ~xp.all(xp.isfinite(curvature))


def crossed(peaks: Array, norms: Array) -> Array:
    """(N, N) matrix min(peaks_i norms_j, peaks_j norms_i), rounded up."""
    xp = namespace(peaks, norms)
    products = times(peaks[:, None], norms[None, :])
    return up(xp.minimum(products, products.T))
