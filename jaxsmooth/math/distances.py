"""How far a matrix of known numbers is from one of squared distances."""

from __future__ import annotations

import numpy as np

from jaxsmooth.math.array import gamma, norm2, up
from jaxsmooth.math.eigenvalue import largest_eigenvalues

_MOST_POINTS = 1024


def excess(distances: np.ndarray) -> float | None:
    """ε >= 0 such that D + ε(11ᵀ - I) is a matrix of squared Euclidean distances.

    That is so where J(D + ε(11ᵀ - I))J = JDJ - εJ has no positive eigenvalue, with J the
    projection onto vectors of sum 0 (I. Schoenberg, "Metric spaces and positive definite
    functions", 1938): ε has to be at least the largest eigenvalue of JDJ.

    Args:
      distances: D, shape (n, n), as computed.

    Returns:
      None if D is not symmetric with a zero diagonal and other entries that are not negative.

    Example:
      >>> x = np.array([0.0, 1.0, 3.0])
      >>> excess((x[:, None] - x) ** 2) < 1e-6
      True
    """
    size = len(distances)
    exact = np.array_equal(distances, distances.T) and not np.diagonal(distances).any()
    if not exact or not 1 < size <= _MOST_POINTS or not np.isfinite(distances).all():
        return None
    if np.any(distances < 0) or not distances.any():
        return None
    means = distances.mean(0)
    centered = distances - means - means[:, None] + distances.mean()
    rounding = 4 * size * float(distances.max()) * gamma(2 * size + 8)
    # Shifted to be positive semidefinite.
    shift = float(norm2(centered))
    (largest,) = largest_eigenvalues((centered + shift * np.eye(size))[None])
    slack = max(0.0, float(largest) - shift) + rounding + 4 * shift * 2.0**-50
    return float(up(slack, 4))
