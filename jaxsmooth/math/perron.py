"""Norms of small non-negative matrices, by the theorem of Perron and Frobenius."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import Array, is_traced, namespace, real, tiny, unit_roundoff, up

_SQUARINGS = 28
"""The power iteration takes 2^28 steps, so that eigenvalues 1e-8 apart are told apart."""


def perron_bound(matrix: Array) -> Array:
    """Upper bound of the spectral norm of a symmetric non-negative matrix; see `perron`.

    Example:
        >>> import numpy as np
        >>> bound = perron_bound(np.array([[2.0, 1.0], [1.0, 2.0]]))
        >>> bool(3.0 <= bound <= 3.0 + 1e-8)
        True
    """
    return perron(matrix)[0]


def perron(matrix: Array) -> tuple[Array, Array]:
    """Upper bound of the norm of a symmetric non-negative matrix, with its Perron vector.

    For every x > 0 the norm is at most ``max_i (M x)_i / x_i`` (Collatz and Wielandt). The
    derivative of the bound is that of the norm, ``x xᵀ / xᵀx``, not that of the maximum,
    which knows a single row of M.

    Args:
        matrix: Array of shape ``(n, n)``, NumPy or a tracer. Entries may be infinite. One
            that is not symmetric or not non-negative is replaced by the smallest one that
            is and has entries at least as large; that only increases its norm.

    Returns:
        ``(bound, x)``: a scalar, and a positive array of shape ``(n,)`` with 2-norm one. An
        infinite (or NaN) entry makes the bound infinite, and x constant.

    Example:
        >>> import numpy as np
        >>> bound, x = perron(np.array([[0.0, 4.0], [4.0, 0.0]]))
        >>> bool(4.0 <= bound <= 4.0 + 1e-8), np.round(x, 4).tolist()
        (True, [0.7071, 0.7071])
    """
    xp = namespace(matrix)
    matrix = real(matrix)
    size = matrix.shape[-1]
    if size == 0:
        return xp.zeros((), matrix.dtype), xp.zeros((0,), matrix.dtype)
    if size == 1:
        entry = xp.abs(matrix[0, 0])
        return xp.where(xp.isnan(entry), np.inf, entry), xp.ones((1,), matrix.dtype)
    known = xp.all(xp.isfinite(matrix))
    magnitude = xp.abs(xp.where(known, matrix, 0.0))
    magnitude = xp.maximum(magnitude, magnitude.T)
    scale = _constant(xp.max(magnitude))
    present = scale > 0
    scale = xp.where(present, scale, 1.0)
    scaled = magnitude / scale  # now 1 <= norm <= n
    vector = _constant(_perron_vector(scaled))
    product = xp.sum(scaled * vector[None, :], axis=-1)
    quotient = xp.sum(vector * product) / xp.sum(vector * vector)
    # Underflow in `scaled` and in the products is below one `tiny` an entry each.
    ratios = (product + 2 * size * tiny(matrix)) / vector
    highest = up(xp.max(ratios), size + 8)
    # Value: the proved one. Derivative: that of the Rayleigh quotient.
    bound = up(quotient + _constant(highest - quotient), 4)
    bound = up(scale * bound, 2)
    bound = xp.where(known, xp.where(present, bound, 0.0), np.inf)
    return bound, vector


def _constant(x: Array) -> Array:
    return jax.lax.stop_gradient(x) if is_traced(x) else x


def _perron_vector(matrix: Array) -> Array:
    """Approximate Perron vector (positive, 2-norm one) of a matrix with entries up to one.

    A small constant makes the matrix positive, so that the vector stays positive on parts
    that are not connected; a shift keeps the eigenvalue -rho, if there is one, away.
    """
    xp = namespace(matrix)
    size = matrix.shape[-1]
    connection = 1e-11 if unit_roundoff(matrix) < 1e-10 else 1e-6
    power = matrix + connection + 0.25 * xp.eye(size, dtype=matrix.dtype)
    if is_traced(matrix):
        power = jax.lax.stop_gradient(power)
        power = jax.lax.fori_loop(0, _SQUARINGS, lambda _, p: _squared(p), power)
    else:
        for _ in range(_SQUARINGS):
            last, power = power, _squared(power)
            # Every eigenvalue is now 0 or the largest one, up to rounding.
            if abs(power - last).max() < 1e-15:
                break
    vector = xp.sum(power, axis=-1)
    vector = xp.maximum(vector / xp.max(vector), 1e-12)
    return vector / xp.sqrt(xp.sum(vector * vector))


def _squared(power: Array) -> Array:
    if is_traced(power):
        power = jnp.matmul(power, power, precision=jax.lax.Precision.HIGHEST)
        return power / jnp.max(power)
    power = power @ power
    return power / np.max(power)
