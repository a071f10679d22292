"""Arrays of the analysis, and the rounding that keeps its bounds outward.

The analysis runs on NumPy arrays in float64 wherever its numbers are known. Where
the accuracy or a bound is a tracer, the same code runs on ``jax.numpy`` in the
ambient precision. `namespace` picks one or the other; nothing else in the
mathematics asks which it is.

Rounding: IEEE arithmetic returns ``(a op b)(1 + d)`` with ``|d| <= u``, ``u`` the unit
roundoff of the dtype. A bound computed with n such operations from non-negative
numbers is therefore below its exact value by at most the factor ``1 - n u``, and
`up` undoes that (Higham, *Accuracy and Stability of Numerical Algorithms*, ch. 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Array = Any  # numpy.ndarray, float, or a JAX tracer


def is_traced(*arrays: Array) -> bool:
    """Whether any of the arrays is a tracer."""
    return any(isinstance(a, Tracer) for a in arrays)


def namespace(*arrays: Array) -> Any:
    """``jax.numpy`` if any of the arrays is a tracer, else ``numpy``."""
    return jnp if is_traced(*arrays) else np


def real(x: Array) -> Array:
    """x as analysis numbers: float64 NumPy, or a tracer in the ambient float dtype."""
    if is_traced(x):
        return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
    return np.asarray(x, dtype=np.float64)


def unit_roundoff(*arrays: Array) -> float:
    """Unit roundoff of the arithmetic that combines the arrays."""
    traced = [a.dtype for a in arrays if is_traced(a)]
    if not traced:
        return 2.0**-53
    # A tracer meets float64 constants in the ambient precision at best.
    return float(max(jnp.finfo(d).eps for d in traced if jnp.issubdtype(d, jnp.floating)) / 2)


def gamma(operations: int | float, *arrays: Array) -> float:
    """Relative error bound of that many roundings: ``n u / (1 - n u)``, doubled.

    The factor two pays for evaluating the bound itself in floating point.
    """
    product = (operations + 1) * unit_roundoff(*arrays)
    return np.inf if product >= 0.5 else 2 * product / (1 - product)


def tiny(*arrays: Array) -> float:
    """Smallest normal number of the arithmetic: pays for underflow."""
    return float(np.finfo(np.float64 if unit_roundoff(*arrays) < 1e-10 else np.float32).tiny)


def up(x: Array, operations: int | float = 1) -> Array:
    """Upper bound of the exact value of x, computed with that many roundings.

    Holds for sums and products of non-negative numbers; for signed x it holds for
    one operation (or a number of them that do not cancel). Zero stays zero.
    """
    return x + abs(x) * gamma(operations, x)


def down(x: Array, operations: int | float = 1) -> Array:
    """Lower bound of the exact value of x; see `up`."""
    return x - abs(x) * gamma(operations, x)


def times(a: Array, b: Array) -> Array:
    """a·b with 0·inf = 0, safe to differentiate: what is infinite does not change."""
    xp = namespace(a, b)
    zero = (a == 0) | (b == 0)
    if xp is np:
        return np.where(zero, 0.0, a) * np.where(zero, 0.0, b)
    infinite = ~zero & (xp.isinf(a) | xp.isinf(b)) & ~xp.isnan(a) & ~xp.isnan(b)
    left_out = zero | infinite
    product = xp.where(left_out, 0.0, a) * xp.where(left_out, 0.0, b)
    return xp.where(infinite, xp.where((a < 0) != (b < 0), -xp.inf, xp.inf), product)


def norm2(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Upper bound of the 2-norm of x along the axes (all by default).

    Entries may be infinite; NaN counts as infinite.
    """
    xp = namespace(x)
    x = xp.abs(x) if xp.iscomplexobj(x) else x
    if xp is np:
        x = np.asarray(x, dtype=np.float64)
        # Squares that neither overflow nor underflow where it matters need no scaling.
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            total = np.sum(np.square(x), axis=axis)
        if np.all((total > 1e-200) & (total < 1e300)):
            return up(np.sqrt(total), _terms(x, total) + 4)
        if not x.any():
            return np.zeros(np.shape(total))
    # Infinite entries are set aside, also for the sake of derivatives.
    infinite = ~xp.isfinite(x)
    x = xp.abs(xp.where(infinite, 0.0, x))
    scale = xp.max(x, axis=axis, keepdims=True, initial=0.0)
    scale = xp.where(scale > 0, scale, 1.0)
    # It cancels: as a constant it keeps derivatives right, and from overflowing.
    scale = jax.lax.stop_gradient(scale) if xp is jnp else scale
    total = xp.sum((x / scale) ** 2, axis=axis)
    positive = total > 0
    root = xp.where(positive, xp.sqrt(xp.where(positive, total, 1.0)), 0.0)
    bound = up(root * xp.reshape(scale, np.shape(total)), _terms(x, total) + 4)
    return xp.where(xp.any(infinite, axis=axis), np.inf, bound)


def _terms(x: Array, total: Array) -> int:
    """Number of entries of x in each of the sums."""
    return max(1, x.size // max(1, int(np.size(total))))


@contextmanager
def concretely() -> Iterator[None]:
    """Evaluate JAX operations now, in 64 bits and on the CPU, also while JAX traces.

    The CPU's float64 arithmetic is IEEE's, which `up` and `down` rely on.
    """
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_device(cpu):
        yield
