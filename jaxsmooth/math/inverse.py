"""Enclosures of the inverses of matrices that are known, or known up to a distance.

S is in a set: |S - C| <= E entry by entry, ‖S - C‖₂ <= r. Let M be near C⁻¹, computed by any
means, and G = I - MS. Then

    ‖G‖₂ <= ρ = ‖I - MC‖ + min(‖M‖ r, ‖|M|E‖)

and if ρ < 1, every S of the set is regular and S⁻¹ = (I - G)⁻¹ M, so that

    ‖S⁻¹‖₂ <= σ = ‖M‖/(1 - ρ)

(S. Rump, *Verification methods*, Acta Numerica 2010, section 10). With κ = ‖C⁻¹‖ this is
κ/(1 - κr). Where every S is symmetric with eigenvalues above a > 0, σ <= 1/a besides.

Entry by entry, with H = I - SM and |H| <= Γ = |I - CM| + E|M|,

    S⁻¹ - M = S⁻¹H = MH + (S⁻¹ - M)H,     |S⁻¹ - M| <= |M|Γ + τ c,     <= σ c

where c_j bounds the 2-norm of column j of H, and τ = σ‖H‖₂ that of S⁻¹ - M.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jax import lax

from jaxsmooth.math.array import Array, gamma, namespace, norm2, times, tiny, up
from jaxsmooth.math.norms import spectral_norm

# Of more matrices than these at once, and of larger ones, the Frobenius norms are used.
_MOST_NORMS = 64


@dataclass(frozen=True, eq=False)
class Matrices:
    """Enclosures of P matrices.

    Attributes:
      center: C, shape (P, n, n).
      spread: E >= |S - C|, shape (P, n, n).
      radii: bounds of ‖S - C‖₂, shape (P,).
      floors: lower bounds of the eigenvalues of S where all are symmetric, shape (P,); 0 or
        less where none is known.
    """

    center: Array
    spread: Array
    radii: Array
    floors: Array | float = 0.0


@dataclass(frozen=True, eq=False)
class Inverses:
    """Enclosures of the inverses of P matrices; infinite where one may be singular.

    Attributes:
      approximate: M, shape (P, n, n).
      norms: σ >= ‖S⁻¹‖₂, shape (P,).
      entries: bounds of |S⁻¹|, shape (P, n, n).
      defects: ρ, shape (P,).
    """

    approximate: Array
    norms: Array
    entries: Array
    defects: Array


def spectral_norms(matrices: Array) -> Array:
    """Bounds of the 2-norms of the matrices of a stack (P, m, n)."""
    frobenius = norm2(matrices, (-2, -1))
    if len(matrices) > _MOST_NORMS:
        return frobenius
    xp = namespace(matrices)
    if xp is np and not np.isfinite(matrices).all():
        return frobenius
    found = [spectral_norm(m) for m in matrices]
    return xp.minimum(frobenius, xp.stack(found)) if found else frobenius


def matmul(a: Array, b: Array) -> Array:
    """a @ b in the precision of the operands, also on an accelerator."""
    xp = namespace(a, b)
    return a @ b if xp is np else xp.matmul(a, b, precision=lax.Precision.HIGHEST)


def product(a: Array, b: Array) -> Array:
    """a @ b of non-negative matrices, rounded up, with 0·inf = 0."""
    xp = namespace(a, b)
    terms = a.shape[-1] + 2
    infinite_a, infinite_b = xp.isinf(a), xp.isinf(b)
    if xp is np and not infinite_a.any() and not infinite_b.any():
        return up(a @ b, terms)
    finite = up(matmul(xp.where(infinite_a, 0.0, a), xp.where(infinite_b, 0.0, b)), terms)
    open_ = matmul(xp.where(infinite_a, 1.0, 0.0), xp.where(b > 0, 1.0, 0.0))
    open_ = open_ + matmul(xp.where(a > 0, 1.0, 0.0), xp.where(infinite_b, 1.0, 0.0))
    return xp.where(open_ > 0.5, np.inf, finite)


def residual(a: Array, x: Array, b: Array) -> tuple[Array, Array]:
    """b - a @ x as computed, and a bound of its rounding error, entry by entry."""
    sizes = matmul(abs(a), abs(x)) + abs(b)
    # The product is off by gamma |a||x|, the difference by one rounding more.
    error = sizes * gamma(a.shape[-1] + 4, sizes) + a.shape[-1] * tiny(sizes)
    return b - matmul(a, x), error


def enclose_inverses(matrices: Matrices) -> Inverses:
    """Enclosures of the inverses of all S of the sets.

    Example:
      >>> import numpy as np
      >>> center = np.array([[[2.0, 0.0], [0.0, 4.0]]])
      >>> found = enclose_inverses(Matrices(center, 0.0 * center + 0.5, np.array([0.5])))
      >>> bool(2 / 3 <= found.norms[0] <= 0.6667), bool(found.entries[0, 1, 1] < 0.35)
      (True, True)
    """
    center, spread = matrices.center, matrices.spread
    near = _approximate(center)
    xp = namespace(near, spread, matrices.radii, matrices.floors)
    eye = np.eye(center.shape[-1])
    size, columns = abs(near), norm2(near, -2)
    radii = xp.minimum(matrices.radii, spectral_norms(spread))
    norms = spectral_norms(near)
    left, error = residual(near, center, eye)
    moved = xp.minimum(times(norms, radii), spectral_norms(product(size, spread)))
    defects = up(norm2(abs(left) + error, (-2, -1)) + up(moved), 3)
    regular = defects < 1
    norms_of_inverses = up(norms / xp.where(regular, 1 - defects, 1.0), 4)
    floors = matrices.floors * np.ones(len(center))
    bounded = floors > 0
    by_floors = up(1 / xp.where(bounded, floors, 1.0))
    sigma = xp.minimum(
        xp.where(regular, norms_of_inverses, np.inf), xp.where(bounded, by_floors, np.inf)
    )
    right, error = residual(center, near, eye)
    right = up(abs(right) + error)
    gamma_ = up(right + product(spread, size))
    by_columns = up(norm2(right, -2) + up(times(radii[:, None], columns)))
    apart = xp.minimum(norm2(gamma_, -2), by_columns)
    whole = up(norm2(right, (-2, -1)) + up(times(radii, norms)))
    tau = up(times(sigma, whole))
    off = up(product(size, gamma_) + up(times(tau[:, None], apart))[:, None, :])
    off = xp.minimum(off, up(times(sigma[:, None], apart))[:, None, :])
    entries = xp.minimum(up(size + off), sigma[:, None, None])
    return Inverses(near, sigma, entries, defects)


def triangular_inverses(least: Array, spread: Array) -> Array:
    """Bounds of |S⁻¹| for all lower triangular S, entry by entry; infinite where none is.

    S = D(I - N) with D its diagonal and N nilpotent, so |S⁻¹| <= Σ_k |N|^k |D|⁻¹, which is
    found by substitution (Higham, *Accuracy and Stability*, section 8.2: the inverse of the
    comparison matrix).

    Args:
      least: lower bounds of the sizes of the diagonals, shape (P, n).
      spread: bounds of |S|, shape (P, n, n), of which the part below the diagonal counts.
    """
    xp = namespace(least, spread)
    size = least.shape[-1]
    regular = least > 0
    inverse = xp.where(regular, up(1 / xp.where(regular, least, 1.0)), np.inf)
    rows: list[Array] = []
    for i in range(size):
        row = np.eye(size)[i] * xp.ones((len(least), 1))
        if i:
            row = up(row + product(spread[:, i : i + 1, :i], xp.stack(rows, -2))[:, 0])
        rows.append(up(times(inverse[:, i : i + 1], row)))
    return xp.stack(rows, -2)


def _approximate(center: Array) -> Array:
    """Inverses as computed; 0 where there is none."""
    xp = namespace(center)
    if xp is not np:
        found = xp.linalg.inv(center)
        return xp.where(xp.all(xp.isfinite(found), (-2, -1), keepdims=True), found, 0.0)
    try:
        found = np.linalg.inv(center)
    except np.linalg.LinAlgError:
        found = np.stack([_one(m) for m in center])
    return np.where(np.isfinite(found).all((-2, -1), keepdims=True), found, 0.0)


def _one(matrix: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.zeros_like(matrix)
