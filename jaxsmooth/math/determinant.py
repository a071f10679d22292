"""Logarithms and signs of determinants of known matrices, with proved errors.

A factorisation gives L, U and a permutation, of which nothing is assumed: with C the rows of
a matrix in that order, E = C - LU is computed, its rounding bounded. L has ones on its
diagonal, so det LU is the product of U's. With ‖C⁻¹‖ <= σ and q = σ‖E‖ < 1, every C - tE for
t in [0, 1] is regular, so that the signs agree, and

    |log|det C| - log|det LU|| = |log det(I - C⁻¹E)| <= -n log(1 - q) <= n q/(1 - q).
"""

from __future__ import annotations

import numpy as np
from jax import lax

from jaxsmooth.math.array import Array, concretely, gamma, is_traced, namespace, norm2, up
from jaxsmooth.math.inverse import residual


def log_determinants(matrices: Array, inverses: Array) -> tuple[Array, Array, Array]:
    """Logarithms of the sizes of determinants, bounds of their errors, and signs.

    Args:
      matrices: shape (P, n, n).
      inverses: bounds of the 2-norms of the inverses, shape (P,).

    Returns:
      Three arrays (P,); errors are infinite where nothing is proved.

    Example:
      >>> import numpy as np
      >>> found = log_determinants(np.array([[[0.0, 2.0], [3.0, 0.0]]]), np.array([0.5]))
      >>> bool(abs(found[0][0] - np.log(6)) <= found[1][0] < 1e-13), float(found[2][0])
      (True, -1.0)
    """
    if is_traced(matrices, inverses):
        whole, pivots, order = lax.linalg.lu(matrices + 0.0 * inverses[:, None, None])
    else:
        with concretely():
            whole, pivots, order = (np.asarray(x) for x in lax.linalg.lu(matrices))
    xp = namespace(whole, matrices)
    size = matrices.shape[-1]
    ordered = xp.take_along_axis(matrices, order[..., None], -2)
    lower = xp.where(np.tri(size, k=-1) > 0, whole, np.eye(size))
    upper = xp.where(np.tri(size).T > 0, whole, 0.0)
    rest, error = residual(lower, upper, ordered)
    q = up(inverses * norm2(up(abs(rest) + error), (-2, -1)))
    diagonal = xp.diagonal(upper, 0, -2, -1)
    regular = xp.all(diagonal != 0, -1) & (q < 0.5)
    logs = xp.log(xp.where(diagonal != 0, abs(diagonal), 1.0))
    # Logarithms are off by a few units of their last place, and by those of their argument's.
    rounding = up(xp.sum(abs(logs) + 1.0, -1), size) * gamma(size + 16, logs)
    errors = up(size * q / xp.where(regular, 1 - q, 1.0) + rounding, 4)
    swaps = xp.sum(pivots != np.arange(size), -1) + xp.sum(diagonal < 0, -1)
    signs = 1.0 - 2.0 * (swaps % 2)
    return xp.sum(logs, -1), xp.where(regular, errors, np.inf), signs
