"""Proved upper bounds of the largest eigenvalue of Hermitian matrices.

An eigenvalue solver returns an estimate, which proves nothing. Here the estimate only
proposes a shift c; what proves is a factorisation that anyone can multiply out again:

    c I - A = L Lᴴ + E   implies   lambda_max(A) <= c + ||E||_F,

since L Lᴴ is positive semidefinite. L comes from Cholesky's method, but nothing is
assumed of it: E is computed, and the rounding of that computation is bounded by

    |fl(L Lᴴ) - L Lᴴ| <= gamma |L| |L|ᴴ,   || |L| |L|ᴴ ||_F <= ||L||_F².

This is the idea of Rump, "Verification of positive definiteness" (BIT 46, 2006), with
the residual computed instead of estimated beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxsmooth.math.array import Array, gamma, norm2, tiny, unit_roundoff, up

_DIRECT_SIZE = 128
"""Up to this size all eigenvalues are computed; beyond it Lanczos's method estimates."""

_LANCZOS_STEPS = 192


def largest_eigenvalues(matrices: Array, tolerance: float = 1e-7) -> Array:
    """Upper bounds of the eigenvalues of each of the matrices.

    Args:
        matrices: Finite float64 or complex128 array of shape ``(k, n, n)``, of positive
            semidefinite matrices. Only the lower triangles are read, the diagonals as
            real numbers. Entries should be of the order of one, or they underflow and
            the bound is loose.
        tolerance: How far above the eigenvalues the bounds may be when n > 128, as a part
            of the largest of them all. For smaller n it is 1e-9.

    Returns:
        The bounds, array of shape ``(k,)``.

    Example:
        >>> import numpy as np
        >>> (bound,) = largest_eigenvalues(np.array([[[2.0, 1.0], [1.0, 2.0]]]))
        >>> bool(3.0 <= bound <= 3.0 * (1 + 1e-8))
        True
    """
    if matrices.size == 0:
        return np.zeros(matrices.shape[0])
    lower = np.tril(matrices, -1)
    diagonal = np.real(np.diagonal(matrices, axis1=-2, axis2=-1))
    if matrices.shape[-1] == 1:
        return diagonal[:, 0].copy()
    bound = up(1.5 * norm2(lower, axis=(-2, -1)) + norm2(diagonal, axis=-1), 8)
    hermitian = lower + np.conj(np.swapaxes(lower, -1, -2))
    index = np.arange(matrices.shape[-1])
    hermitian[..., index, index] = diagonal
    for shift in _shifts(hermitian, tolerance):
        proved = _proved_bounds(hermitian, shift)
        if proved is not None:
            return np.minimum(bound, proved)
    return bound


def _shifts(hermitian: Array, tolerance: float) -> Iterator[Array]:
    """Candidates for c, one for each matrix, sharpest and cheapest first."""
    if hermitian.shape[-1] > _DIRECT_SIZE:
        estimates = np.array([_lanczos_estimate(matrix, 10 * tolerance) for matrix in hermitian])
        for margin in (tolerance, 15 * tolerance):
            yield estimates + margin * np.max(estimates)
    try:
        estimates = np.linalg.eigvalsh(hermitian)[..., -1]
    except np.linalg.LinAlgError:
        return
    for margin in (1e-9, 1e-7, 1e-5, 1e-3):
        yield estimates + margin * np.max(estimates)


def _proved_bounds(hermitian: Array, shifts: Array) -> Array | None:
    """``c + ||E||_F`` of the module's inequality, or None if Cholesky's method fails."""
    if not np.all((shifts > 0) & (shifts < np.inf)):
        return None
    size = hermitian.shape[-1]
    index = np.arange(size)
    shifted = -hermitian
    diagonal = np.real(hermitian[..., index, index])
    shifted[..., index, index] = shifts[:, None] - diagonal
    try:
        factor = np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return None
    if not np.all(np.isfinite(factor)):
        return None
    residual = shifted - factor @ np.conj(np.swapaxes(factor, -1, -2))
    # A complex product of length n is two real ones of length 2n, hence at most 4n.
    rounding = gamma(4 * size + 16)
    error = (
        norm2(residual, axis=(-2, -1)) * (1 + 4 * unit_roundoff())
        + rounding * norm2(factor, axis=(-2, -1)) ** 2
        + 2 * unit_roundoff() * norm2(shifts[:, None] + np.abs(diagonal), axis=-1)
        + 4 * size**2 * tiny()
    )
    return up(shifts + error, 16)


def _lanczos_estimate(matrix: Array, tolerance: float) -> float:
    """Estimate (from below, no bound) of a Hermitian matrix's largest eigenvalue."""
    size = matrix.shape[-1]
    steps = min(size, _LANCZOS_STEPS)
    basis = np.zeros((steps, size), matrix.dtype)
    alpha, beta = np.zeros(steps), np.zeros(steps)
    vector = np.random.default_rng(0).normal(size=size).astype(matrix.dtype)
    estimate = 0.0
    for step in range(steps):
        norm = float(np.linalg.norm(vector))
        if norm == 0:
            break
        basis[step] = vector / norm
        vector = matrix @ basis[step]
        alpha[step] = float(np.real(np.vdot(basis[step], vector)))
        for _ in range(2):  # twice is enough for orthogonality to working precision
            vector = vector - basis[: step + 1].T @ (np.conj(basis[: step + 1]) @ vector)
        beta[step] = float(np.linalg.norm(vector))
        last = step == steps - 1 or beta[step] <= 1e-12 * abs(alpha[0])
        if last or step % 16 == 15:
            off = beta[:step]
            ritz, vectors = np.linalg.eigh(
                np.diag(alpha[: step + 1]) + np.diag(off, 1) + np.diag(off, -1)
            )
            estimate = float(ritz[-1])
            if last or beta[step] * abs(vectors[-1, -1]) <= tolerance * abs(estimate):
                break
    return estimate
