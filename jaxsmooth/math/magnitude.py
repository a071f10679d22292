"""Magnitudes: enclosures of perturbations of a variable.

A `Magnitude` holds a stack of N enclosures, one per source of perturbation (a unit
perturbation of an argument, a unit error of a site, a second-order response), each

    |d| <= entries (elementwise),     ‖d‖₂ <= norm.

The set of perturbations that a linear map J sends the unit ball to has the norms of J's
rows as entries, so 2→∞ operator norms come for free.
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
    """

    entries: Array | None
    norm: Array

    def rows(self, indices: np.ndarray) -> Magnitude:
        """The enclosures at these positions of the stack."""
        return Magnitude(
            None if self.entries is None else self.entries[indices], self.norm[indices]
        )

    def joint_entries(self) -> Array | None:
        """Entries for perturbations of all sources at once, jointly of norm one: sqrt(Σ e²)."""
        return None if self.entries is None else norm2(self.entries, 0)


@dataclass(frozen=True, eq=False)
class Response:
    """Enclosure of a second-order response p''[a, b] over unit perturbations of N leaves.

    Attributes:
      pairs: shape (N, N), symmetric; bound of ‖p''[a_i, b_j]‖₂ (both orders together).
      entries: shape S, or None; elementwise bound of |p''[a, b]| for a and b that perturb
        all leaves jointly with norm one.
    """

    pairs: Array
    entries: Array | None


def column(norm: Array, rank: int) -> Array:
    """Norms (N,) shaped to broadcast against entries of a variable of that rank."""
    return norm.reshape(norm.shape + (1,) * rank)


def tighten(entries: Array | None, norm: Array) -> Magnitude:
    """The enclosure that entries and norms imply together."""
    if entries is None:
        return Magnitude(None, norm)
    rank = entries.ndim - 1
    xp = namespace(entries, norm)
    entries = xp.minimum(entries, column(norm, rank))
    return Magnitude(entries, xp.minimum(norm, norm2(entries, tuple(range(1, rank + 1)))))


def scale(m: Magnitude, factor: Array) -> Magnitude:
    """Enclosure of factor ⊙ d, with factor >= 0 of the variable's shape or a number."""
    xp = namespace(factor, m.norm)
    largest = xp.max(factor, initial=0.0)
    norm = up(times(largest, m.norm))
    if m.entries is None:
        return Magnitude(None, norm)
    return tighten(up(times(factor, m.entries)), norm)


def add(a: Magnitude | None, b: Magnitude | None) -> Magnitude | None:
    """Enclosure of the sum of two perturbations."""
    if a is None or b is None:
        return a if b is None else b
    norm = up(a.norm + b.norm)
    if a.entries is None or b.entries is None:
        return Magnitude(None, norm)
    return tighten(up(a.entries + b.entries), norm)


def elementwise_response(curvature: Array, m: Magnitude) -> Response:
    """Response of an elementwise function with |φ''| <= curvature (the variable's shape).

    ‖φ'' ⊙ a ⊙ b‖ <= max|φ'' a|·‖b‖, and the same with a and b exchanged.
    """
    xp = namespace(curvature, m.norm)
    if m.entries is None:
        peaks = up(times(xp.max(curvature, initial=0.0), m.norm))
    else:
        axes = tuple(range(1, m.entries.ndim))
        peaks = up(xp.max(times(curvature, m.entries), axis=axes, initial=0.0))
    joint = m.joint_entries()
    entries = None if joint is None else up(times(curvature, up(times(joint, joint))), 2)
    return Response(crossed(peaks, m.norm), entries)


def crossed(peaks: Array, norms: Array) -> Array:
    """(N, N) matrix min(peaks_i norms_j, peaks_j norms_i), rounded up."""
    xp = namespace(peaks, norms)
    products = times(peaks[:, None], norms[None, :])
    return up(xp.minimum(products, products.T))
