"""Enclosures of the eigenvalues and singular values of known matrices.

Let C = XDYᵀ + R with D diagonal, as computed by any means, and X and Y nearly orthogonal. By
Weyl's theorem R moves no value by more than ‖R‖₂, and by that of Ostrowski those of XDYᵀ are
those of D times factors between the squares (eigenvalues, X = Y) or the products (singular
values) of extreme singular values of X and Y (R. Horn and C. Johnson, *Matrix Analysis*,
theorems 4.5.9 and 7.4.52). These are within ‖XᵀX - I‖ + ‖YᵀY - I‖ + their product of 1.
"""

from __future__ import annotations

import numpy as np

from jaxsmooth.math.array import Array, gamma, namespace, norm2, times, tiny, up
from jaxsmooth.math.inverse import matmul, residual


def symmetric_eigenvalues(matrices: Array) -> tuple[Array, Array]:
    """Eigenvalues in increasing order, and how far each may be from the true one.

    Args:
      matrices: symmetric, shape (P, n, n).

    Returns:
      Two arrays of shape (P, n).

    Example:
      >>> import numpy as np
      >>> values, off = symmetric_eigenvalues(np.array([[[0.0, 2.0], [2.0, 0.0]]]))
      >>> bool(np.all(abs(values - [-2.0, 2.0]) <= off)), bool(off.max() < 1e-13)
      (True, True)
    """
    xp = namespace(matrices)
    values, vectors = xp.linalg.eigh(matrices)
    return values, _off(matrices, vectors, values, vectors)


def singular_values(matrices: Array) -> tuple[Array, Array]:
    """Singular values in decreasing order, and how far each may be from the true one.

    Args:
      matrices: shape (P, m, n).

    Returns:
      Two arrays of shape (P, min(m, n)).
    """
    xp = namespace(matrices)
    left, values, right = xp.linalg.svd(matrices, full_matrices=False)
    return values, _off(matrices, left, values, xp.swapaxes(right, -1, -2))


def _off(matrices: Array, left: Array, values: Array, right: Array) -> Array:
    xp = namespace(matrices, values)
    scaled, turned = left * values[:, None, :], xp.swapaxes(right, -1, -2)
    rest, error = residual(scaled, turned, matrices)
    # The columns were rounded when they were scaled.
    terms = values.shape[-1]
    sizes = up(matmul(abs(scaled), abs(turned)), terms + 2)
    error = error + sizes * gamma(1, values) + 2 * terms * tiny(values)
    moved = norm2(up(abs(rest) + error, 2), (-2, -1))
    apart = _from_orthogonal(left), _from_orthogonal(right)
    factor = up(apart[0] + apart[1] + apart[0] * apart[1], 4)
    return up(moved[:, None] + times(factor[:, None], abs(values)), 3)


def _from_orthogonal(columns: Array) -> Array:
    """Bounds of ‖XᵀX - I‖ of matrices with orthonormal columns but for rounding."""
    xp = namespace(columns)
    rest, error = residual(xp.swapaxes(columns, -1, -2), columns, np.eye(columns.shape[-1]))
    return norm2(up(abs(rest) + error), (-2, -1))
