"""Certified upper bounds of operator 2-norms: never below the norm, rounding included.

Power iteration converges from below and proves nothing. Known matrices are bounded
through a verified factorisation (`jaxsmooth.math.eigenvalue`), linear maps that are too
large for that through Schur's test on their absolute values, and traced matrices through
Gram iteration, which converges from above (Delattre, Barthélemy, Araujo and Allauzen,
"Efficient Bound of Lipschitz Constant for Convolutional Layers by Gram Iteration",
ICML 2023).

Trusted: IEEE arithmetic, and that matrix products are sums of products in some order
(no Strassen-like method), which bounds their error by ``gamma_n |A||B|``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import Array, gamma, is_traced, norm2, real, tiny, up
from jaxsmooth.math.eigenvalue import largest_eigenvalues
from jaxsmooth.math.perron import perron, perron_bound

__all__ = [
    "gram_iteration",
    "linear_operator_norm",
    "perron",
    "perron_bound",
    "spectral_norm",
]

_EXACT_SIDE = 4096
"""Largest smaller side for which the norm is proved up to 1e-6, relatively."""

_EXACT_WORK = 2e12
"""Most multiplications spent on the Gram matrix of one known matrix."""

_MATERIALIZED_SIDE = 3000
_MATERIALIZED_ENTRIES = 2**25
_SCHUR_ITERATIONS = 16
_SMALLEST = 5e-324  # the smallest subnormal number: the most that one underflow loses


def spectral_norm(matrix: Array) -> Array:
    """Upper bound of the largest singular value of a matrix.

    Args:
        matrix: Real array of shape ``(m, n)``; a vector stands for one row. NumPy (or a
            concrete JAX array), or a tracer.

    Returns:
        For known numbers a float, less than 1e-6 above the norm (relatively) while
        ``min(m, n) <= 4096``, and infinite if an entry is not finite. For a tracer a
        differentiable scalar, a few percent above the norm.

    Raises:
        TypeError: The matrix is complex.
        ValueError: The array has more than two axes.

    Example:
        >>> import numpy as np
        >>> bound = spectral_norm(np.array([[3.0, 0.0], [4.0, 0.0]]))
        >>> 5.0 <= bound <= 5.0 + 1e-6
        True
    """
    if matrix.ndim > 2:
        raise ValueError(f"expected a matrix, got an array of shape {matrix.shape}")
    if is_traced(matrix):
        return gram_iteration(jnp.atleast_2d(matrix))
    if np.iscomplexobj(matrix):
        raise TypeError("expected a real matrix, got a complex one")
    matrix = np.atleast_2d(real(matrix))
    if matrix.size == 0:
        return 0.0
    if not np.all(np.isfinite(matrix)):
        return math.inf
    scaled, exponent = binary_scaled(matrix)
    return binary_unscaled(_known_norm(scaled), exponent)


def binary_scaled(array: Array) -> tuple[Array, int]:
    """``(scaled, e)`` with ``array = scaled·2^e`` and largest entry in [1/2, 1), or zero.

    Exact but for entries that underflow: those are off by 1e-323 in ``scaled``, far
    below the relative widening of any bound computed from it.
    """
    _, exponent = math.frexp(float(np.max(np.abs(array), initial=0.0)))
    return np.ldexp(array, -exponent), exponent


def binary_unscaled(bound: float, exponent: int) -> float:
    """Upper bound of ``bound·2^exponent``, infinite if that overflows."""
    with np.errstate(over="ignore", under="ignore"):
        result = float(np.ldexp(bound, exponent))
    # Only a subnormal result is rounded, possibly down.
    return math.nextafter(result, math.inf) if bound > 0 and result < tiny() else result


def _known_norm(matrix: Array) -> float:
    """Spectral norm of a finite matrix with entries of the order of one."""
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    length, side = matrix.shape
    rows, columns = norm2(matrix, axis=1), norm2(matrix, axis=0)
    frobenius = float(norm2(columns))
    magnitude = np.abs(matrix)
    sums = np.max(np.sum(magnitude, axis=0)) * np.max(np.sum(magnitude, axis=1))
    bound = min(frobenius, float(up(np.sqrt(sums), length + 4)))
    longest = max(np.max(rows), np.max(columns))
    if side == 1 or bound <= longest * (1 + 1e-9):
        return bound  # a vector, a diagonal, a permutation: nothing left to gain
    if length * side**2 <= _EXACT_WORK:
        if side <= _EXACT_SIDE:
            error = gamma(length + 4) * frobenius**2 + length * side * tiny()
            square = float(largest_eigenvalues((matrix.T @ matrix)[None])[0]) + error
            return min(bound, float(up(math.sqrt(square), 8)))
        bound = min(bound, _schatten4_norm(matrix))
    schur = _schur_test(
        lambda x: magnitude @ x, lambda y: magnitude.T @ y, (side,), operations=length
    )
    return min(bound, schur)


def _schatten4_norm(matrix: Array, width: int = 2048) -> float:
    """``||AᵀA||_F^(1/2) >= ||A||``, with never more than a block of AᵀA in memory."""
    blocks = [matrix[:, start : start + width] for start in range(0, matrix.shape[1], width)]
    norms = [float(norm2(block)) for block in blocks]
    rounding = gamma(matrix.shape[0] + 4)
    entries = []
    for i, left in enumerate(blocks):
        for j, right in enumerate(blocks[: i + 1]):
            entry = float(norm2(left.T @ right)) + rounding * norms[i] * norms[j]
            entries += [entry] if i == j else [entry, entry]
    return float(up(math.sqrt(norm2(np.array(entries))), 8))


def linear_operator_norm(
    apply: Callable[[Array], Array],
    transpose: Callable[[Array], Array],
    in_shape: tuple[int, ...],
    apply_abs: Callable[[Array], Array],
    transpose_abs: Callable[[Array], Array],
    *,
    materialize: Callable[[], Array] | None = None,
    operations: int | None = None,
) -> float:
    """Upper bound of the 2-norm of a linear map A that is given by functions.

    Args:
        apply: x of shape ``in_shape`` to A x, on float64 NumPy arrays.
        transpose: y of the shape of A x to Aᵀ y.
        in_shape: Shape of the inputs.
        apply_abs: x to \\|A\\| x, with the absolute values of A's entries.
        transpose_abs: y to \\|A\\|ᵀ y.
        materialize: Returns A as an array of shape ``(outputs, inputs)``, if that is faster
            than one application per input (or output); called for small maps only.
        operations: Most roundings in one entry of any of the results; by default as many
            as a dense matrix needs.

    Returns:
        The bound. Sharp (1e-6, relatively) where the map has at most 3000 inputs or outputs;
        otherwise the norm of \\|A\\|, which is sharp when no signs cancel.

    Example:
        >>> import numpy as np
        >>> halves = np.cumsum, lambda y: np.cumsum(y[::-1])[::-1]
        >>> bound = linear_operator_norm(*halves, (100,), *halves)
        >>> bool(abs(bound - np.linalg.norm(np.tri(100), 2)) < 1e-4)
        True
    """
    inputs = math.prod(in_shape)
    if inputs == 0:
        return 0.0
    out_shape = np.shape(apply_abs(np.ones(in_shape)))
    outputs = math.prod(out_shape)
    if outputs == 0:
        return 0.0
    if operations is None:
        operations = max(inputs, outputs) + 8
    bound = _schur_test(apply_abs, transpose_abs, in_shape, operations=operations)
    small = min(inputs, outputs) <= _MATERIALIZED_SIDE
    if not 0 < bound < math.inf or not small or inputs * outputs > _MATERIALIZED_ENTRIES:
        return bound
    if materialize is not None:
        matrix = real(materialize()).reshape(outputs, inputs)
    elif inputs <= outputs:
        matrix = _columns(apply, in_shape, outputs).T
    else:
        matrix = _columns(transpose, out_shape, inputs)
    # Column j is computed with an error below gamma |A| e_j, so the matrix with one whose
    # norm is below gamma || |A| ||, and Schur's test has bounded that.
    error = gamma(operations) * bound + inputs * outputs * _SMALLEST
    return min(bound, float(up(spectral_norm(matrix) + error, 2)))


def _columns(apply: Callable[[Array], Array], shape: tuple[int, ...], outputs: int) -> Array:
    """Images of the unit vectors, one a row."""
    size = math.prod(shape)
    images = np.empty((size, outputs))
    for index in range(size):
        unit = np.zeros(size)
        unit[index] = 1.0
        images[index] = np.reshape(apply(unit.reshape(shape)), -1)
    return images


def _schur_test(
    apply_abs: Callable[[Array], Array],
    transpose_abs: Callable[[Array], Array],
    in_shape: tuple[int, ...],
    *,
    operations: int,
) -> float:
    """Upper bound of || |A| ||, hence of ||A||.

    For every x > 0, ``|| |A| ||² = rho(|A|ᵀ|A|) <= max_i (|A|ᵀ|A| x)_i / x_i`` (Collatz and
    Wielandt; with x = 1 after one half step it is Schur's test). Power iteration finds an
    x for which the two are close; the bound holds whether or not it has converged.
    """
    x = np.ones(in_shape)
    underflow = (operations + 1) * _SMALLEST
    bound = math.inf
    for _ in range(_SCHUR_ITERATIONS):
        middle = np.asarray(apply_abs(x), np.float64)
        if not np.any(middle):
            return 0.0
        if not np.all(np.isfinite(middle)):
            return bound
        scaled, exponent = binary_scaled(middle + underflow)
        back = np.asarray(transpose_abs(scaled), np.float64) + underflow
        if not np.all(np.isfinite(back)):
            return bound
        back, back_exponent = binary_scaled(back)
        root = float(up(np.sqrt(np.max(back / x)), 2 * operations + 8))
        total = exponent + back_exponent
        if total % 2:
            root, total = float(up(root * math.sqrt(2), 2)), total - 1
        previous, bound = bound, min(bound, binary_unscaled(root, total // 2))
        if bound >= previous * (1 - 1e-7):
            break
        x = np.maximum(back / np.max(back), 1e-9)
    return bound


def gram_iteration(matrices: Array) -> Array:
    """Differentiable upper bound of the spectral norms of traced matrices.

    With A scaled to Frobenius norm one, ``||A||² <= ||fl(AᵀA)|| + gamma ||A||_F²``; the same
    again for the (symmetric) Gram matrix, and the Frobenius norm in the end. After k steps
    the bound is at most the factor ``n^(1/2^(k+1))`` above the norm.

    Args:
        matrices: Tracer of shape ``(..., m, n)``.

    Returns:
        One scalar, above the norm of each of them; infinite if an entry is not finite.
    """
    matrices = real(matrices)
    if matrices.size == 0:
        return jnp.zeros((), matrices.dtype)
    if matrices.shape[-2] < matrices.shape[-1]:
        matrices = jnp.swapaxes(matrices, -1, -2)
    length, side = matrices.shape[-2:]
    known = jnp.all(jnp.isfinite(matrices))
    matrices = jnp.where(known, matrices, 0.0)
    present = jnp.any(matrices != 0, axis=(-2, -1))
    current, steps = matrices, []
    for inner in [length] + [side] * (7 if side > 128 else 9):
        if side == 1:
            break
        # The scale cancels, so that it may be a constant to the derivative.
        scale = jax.lax.stop_gradient(norm2(current, axis=(-2, -1)))
        scale = jnp.where(scale > 0, scale, 1.0)
        current = current / scale[..., None, None]
        error = gamma(2 * inner + 8, current) + inner * side * tiny(current)
        steps.append((scale, error))
        current = jnp.matmul(
            jnp.swapaxes(current, -1, -2), current, precision=jax.lax.Precision.HIGHEST
        )
    bound = norm2(current, axis=(-2, -1))
    for scale, error in reversed(steps):
        bound = up(scale * jnp.sqrt(bound + error), 8)
    magnitude = jnp.where(present[..., None, None], jnp.abs(matrices), 1.0)
    rows = jnp.max(jnp.sum(magnitude, axis=-1), axis=-1)
    columns = jnp.max(jnp.sum(magnitude, axis=-2), axis=-1)
    bound = jnp.minimum(bound, up(jnp.sqrt(rows) * jnp.sqrt(columns), length + 8))
    bound = jnp.max(jnp.where(present, bound, 0.0))
    return jnp.where(known, bound, jnp.inf)
