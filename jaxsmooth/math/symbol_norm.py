"""Certified supremum of the spectral norm of a matrix-valued trigonometric polynomial.

Between frequencies where it is computed, the norm of ``W(w) = sum_t W_t exp(i t·w)`` cannot
rise much. For a fixed unit vector u, ``p(w) = |W(w) u|²`` is along axis d a trigonometric
polynomial of degree D_d (the number of taps less one), and p >= 0. Let P be the maximum of
p, and ``T = 2p/P - 1 = cos(a)`` with a in [0, pi]. By the inequality of Bernstein and Szegő,
``(dT/dw_d)² + D_d² T² <= D_d²``, so ``|da/dw_d| <= D_d``: from the place w* of the maximum,
where a = 0, to g, the angle a grows to at most ``S = sum_d D_d |g_d - w*_d|``. Hence
``p(g) >= P (1 + cos S)/2 = P cos²(S/2)`` if S <= pi (in one variable this is a lemma of
M. Riesz, 1914). With u the top singular vector at the place of the supremum:

    sup ||W|| <= ||W(g)|| / cos(S/2)      if the supremum is within the cell around g,

S for the corner of the cell. The largest of these numbers over any cells that cover all
frequencies is a bound of the supremum; cells that are large in it are halved until it is
close to the largest norm found, or the work is spent. W(-w) is the conjugate of W(w), so
half of the first axis is enough.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from jaxsmooth.math.array import Array, down, gamma, norm2, tiny, up
from jaxsmooth.math.eigenvalue import largest_eigenvalues

_TOLERANCE = 1e-3
"""Relative gap between the bound and the largest norm found, if work allows."""

_SECONDS = 4.0
"""Estimated time (see `_seconds`) after which no cell is halved any more."""

_DENSITIES = (2.5, 2.0, 1.5)
"""First cells along an axis, per degree and axis: the most that can be afforded. More than
one, so that S < pi."""

_MOST_SECONDS = 20.0
"""Estimated time that the first cells may take."""

_CHUNK_ENTRIES = 2**20


def symbol_norm(taps: Array, lengths: Sequence[int], circles: Sequence[int | None]) -> float:
    """Upper bound of the spectral norm of ``W(w) = sum_t W_t exp(i t·w)`` over frequencies w.

    Args:
        taps: Real float64 array of shape ``(prod(lengths), groups, rows, columns)``: the
            coefficients W_t of several polynomials, entries of the order of one.
        lengths: Number of taps along each axis; t runs over ``np.indices(lengths)``.
        circles: For each axis None, or a number N if only the frequencies ``2 pi j / N``
            matter along it.

    Returns:
        The largest norm of all the groups, about 0.1 % too large (more if the matrices are
        so large that few frequencies can be afforded, and infinite if hardly any).

    Example:
        >>> import numpy as np
        >>> taps = np.array([1.0, 2.0, 1.0]).reshape(3, 1, 1, 1)
        >>> 4.0 <= symbol_norm(taps, [3], [None]) <= 4.0 * (1 + 2e-3)
        True
    """
    if taps.size == 0:
        return 0.0
    price = _seconds(taps.shape)
    for density in _DENSITIES:
        counts, discrete = _first_grid(lengths, circles, density)
        if math.prod(counts) / 2 * price <= _SECONDS:
            break
    if math.prod(counts) / 2 * price > _MOST_SECONDS and math.prod(counts) > 1:
        return math.inf
    # All in turns: one is a full circle.
    centers = _half_grid(counts)
    fixed = np.array(discrete, bool)
    half = np.tile(np.where(fixed, 0.0, 0.5 / np.array(counts)), (len(centers), 1))
    offsets = np.array(list(itertools.product(*((0,) if f else (-0.5, 0.5) for f in fixed))))
    degrees = np.array(lengths) - 1.0
    tolerance = 1e-7 if np.all(fixed) else _TOLERANCE
    norms = _norms(taps, lengths, centers, tolerance)
    cosines = np.cos(np.where(fixed, 0.0, np.pi * degrees / (2 * np.array(counts))))
    grid_bound = up(np.max(norms) / down(np.prod(cosines), 8 * len(counts) + 8), 4)
    spent = price * len(centers)
    while True:
        bounds = _cell_bounds(norms, half, degrees)
        affordable = int((_SECONDS - spent) / (price * len(offsets)))
        order = np.argsort(-bounds)
        order = order[bounds[order] > np.max(norms) * (1 + _TOLERANCE)][: max(0, affordable)]
        if len(order) == 0 or np.all(fixed):
            return float(min(grid_bound, np.max(bounds)))
        new_centers = centers[order, None] + half[order, None] * offsets
        new_centers = new_centers.reshape(-1, len(counts))
        new_half = np.repeat(half[order] / 2, len(offsets), axis=0)
        new_norms = _norms(taps, lengths, new_centers, tolerance)
        spent += price * len(new_centers)
        centers = np.concatenate([np.delete(centers, order, axis=0), new_centers])
        half = np.concatenate([np.delete(half, order, axis=0), new_half])
        norms = np.concatenate([np.delete(norms, order), new_norms])


def _first_grid(
    lengths: Sequence[int], circles: Sequence[int | None], density: float
) -> tuple[list[int], list[bool]]:
    """Numbers of frequencies along the axes, and whether no others matter."""
    counts, discrete = [], []
    for length, circle in zip(lengths, circles, strict=True):
        count = math.ceil(density * len(lengths) * (length - 1))
        few = circle is not None and circle <= 2 * count
        counts.append(1 if length == 1 else circle if few else count)
        discrete.append(length == 1 or few)
    return counts, discrete


def _half_grid(counts: Sequence[int]) -> Array:
    """Frequencies in turns, without the upper half of the first axis."""
    if not counts:
        return np.zeros((1, 0))
    indices = np.indices([counts[0] // 2 + 1, *counts[1:]])
    return np.stack([i.ravel() / n for i, n in zip(indices, counts, strict=True)], axis=-1)


def _cell_bounds(norms: Array, half: Array, degrees: Array) -> Array:
    """Bounds of the supremum, if it is within the cells: ``||W(g)|| / cos(S/2)``."""
    # The centres are rounded: cells a little larger than theirs overlap.
    angles = np.where(half > 0, 2 * np.pi * half + 1e-13, 0.0) @ degrees
    angles = up(angles, len(degrees) + 8)
    cosines = down(np.cos(angles / 2), 8)
    inside = angles < np.pi
    bounds = np.where(inside, up(norms / np.where(inside, cosines, 1.0), 8), np.inf)
    return np.where(angles > 0, bounds, norms)


def _norms(taps: Array, lengths: Sequence[int], frequencies: Array, tolerance: float) -> Array:
    """Upper bounds of the norms at the frequencies, shape ``(frequencies,)``."""
    number, groups, rows, columns = taps.shape
    dims = len(lengths)
    places = np.indices(lengths).reshape(dims, number)
    # exp: per axis the turn t·w is rounded, relatively to its size (below the length), then
    # its fraction and the angle; sine and cosine are good to a few units in the last place.
    unit_error = 64 * (sum(lengths) + dims + 1) * 2.0**-53
    total = float(np.max(norm2(np.sum(np.abs(taps), axis=0), axis=(-2, -1))))
    symbol_error = total * (unit_error + gamma(8 * number + 16))
    flat = taps.reshape(number, -1).astype(complex)
    chunk = max(1, _CHUNK_ENTRIES // (groups * rows * columns))
    results = []
    for start in range(0, len(frequencies), chunk):
        turns = frequencies[start : start + chunk]
        phases = np.ones((len(turns), number), complex)
        for axis in range(dims):
            angle = 2 * np.pi * np.mod(np.outer(turns[:, axis], places[axis]), 1.0)
            phases *= np.cos(angle) + 1j * np.sin(angle)
        symbol = (phases @ flat).reshape(-1, rows, columns)
        adjoint = np.conj(np.swapaxes(symbol, -1, -2))
        gram = adjoint @ symbol if columns <= rows else symbol @ adjoint
        frobenius = norm2(symbol, axis=(-2, -1))
        error = gamma(4 * max(rows, columns) + 16) * frobenius**2 + rows * columns * tiny()
        squares = largest_eigenvalues(gram, tolerance) + error
        results.append(np.max(np.sqrt(squares).reshape(-1, groups), axis=1) + symbol_error)
    return up(np.concatenate(results), 16)


def _seconds(shape: tuple[int, ...]) -> float:
    """Rough time for one frequency on two cores; fixed, so that results are reproducible."""
    _, groups, rows, columns = shape
    short, long = min(rows, columns), max(rows, columns)
    products = short**2 * (8 * long + 30 * short) / 3e10
    eigenvalues = 4e-9 * min(short, 128) ** 3
    return groups * ((2e-5 if short > 1 else 1e-6) + products + eigenvalues)
