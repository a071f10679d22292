"""Enclosure of the inverse of a known matrix.

With M near S⁻¹ and R = I - MS, ‖R‖ = r < 1: S is regular and S⁻¹ - M = R S⁻¹, so that
S⁻¹ = (I - R)⁻¹ M and ‖S⁻¹ - M‖₂ <= r‖M‖₂/(1 - r) (S. Rump, *Verification methods*, Acta
Numerica 2010, section 10).
"""

from __future__ import annotations

import numpy as np

from jaxsmooth.math.array import gamma, norm2
from jaxsmooth.math.norms import spectral_norm


def enclose_inverse(matrix: np.ndarray, rounding: float = 0.0) -> tuple[np.ndarray, float] | None:
    """(M, δ) with ‖S⁻¹ - M‖₂ <= δ for every S within ``rounding`` of the matrix in 2-norm.

    Args:
      matrix: shape (n, n), float64.
      rounding: bound of ‖S - matrix‖₂.

    Returns:
      None where regularity cannot be proved.

    Example:
      >>> inverse, error = enclose_inverse(np.array([[2.0, 0.0], [1.0, 4.0]]))
      >>> inverse.tolist(), error < 1e-14
      ([[0.5, 0.0], [-0.125, 0.25]], True)
    """
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(inverse).all():
        return None
    size = len(matrix)
    residual = np.eye(size) - inverse @ matrix
    # The product is off by gamma_n |M||S|, the difference by one rounding more.
    slack = (abs(inverse) @ abs(matrix) + np.eye(size)) * gamma(size + 2)
    norm = float(spectral_norm(inverse))
    r = float(norm2(abs(residual) + slack)) + norm * rounding * (1 + 2.0**-40)
    if not r < 0.5:
        return None
    return inverse, norm * r / (1 - r) * (1 + 2.0**-40)
