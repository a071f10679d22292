"""Arrays of matrices as operands of rules: their ranges, and their changes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import (
    Array,
    concretely,
    down,
    gamma,
    is_traced,
    namespace,
    norm2,
    times,
    up,
)
from jaxsmooth.math.inverse import Inverses, Matrices, enclose_inverses, residual
from jaxsmooth.math.magnitude import Magnitude, tighten
from jaxsmooth.math.range import Range
from jaxsmooth.rules.registry import Local

# Larger systems are not materialised.
MOST_UNKNOWNS = 1024


# Every entry of one triangle stands for two.
_TWICE = math.sqrt(2) * (1 + 2.0**-50)


@dataclass(frozen=True, eq=False)
class System:
    """The matrices of an equation over the ranges of its operands.

    Attributes:
      matrices: enclosures of P matrices.
      gains, rest, radius: of the ball in Frobenius norm around all centers, as of a `Range`.
    """

    matrices: Matrices
    gains: Array
    rest: Array
    radius: Array


def stacked(array: Array, axes: int) -> Array:
    """An array with its axes before the last two, after the first ``axes``, as one."""
    shape = array.shape
    return array.reshape(*shape[:axes], math.prod(shape[axes:-2]), *shape[-2:])


def apart(r: Range) -> Array:
    """Distances of the matrices of an array (..., n, n) from their centers, (P,)."""
    rank = len(r.shape)
    return r.apart((rank - 2, rank - 1)).reshape(-1)


def whole_system(eq: Local) -> System:
    """The matrices of the first operand; ``lower`` and further params as of `SOLVE`."""
    a, lower = eq.ranges[0], eq.params["lower"]
    xp = namespace(a.center, a.spread)
    center, spread = stacked(a.center, 0), stacked(a.spread, 0)
    symmetric = eq.params.get("symmetric", False)
    if lower is None:
        return System(
            Matrices(center, spread, apart(a), lowest(eq, center)), a.gains, a.rest, a.radius
        )
    middle, spread = mirrored(center, lower), mirrored(spread, lower)
    floors: Array | float = 0.0
    gains, rest, radius, radii = (up(_TWICE * x) for x in (a.gains, a.rest, a.radius, apart(a)))
    if symmetric:
        # The center is symmetric but for its rounding.
        off = norm2(middle - center, (-2, -1)) * (1 + 2.0**-20)
        whole = norm2(off)
        gains, rest, radius = a.gains, up(a.rest + whole), up(a.radius + whole)
        radii, floors = up(apart(a) + off), lowest(eq, middle)
    radii = xp.minimum(radii, norm2(spread, (-2, -1)))
    return System(Matrices(middle, spread, radii, floors), gains, rest, radius)


def whole_change(eq: Local, m: Magnitude) -> Magnitude:
    """The change of the matrices, entries of shape (N, P, n, n)."""
    entries, lower = None if m.entries is None else stacked(m.entries, 1), eq.params["lower"]
    if lower is None or eq.params.get("symmetric", False):
        return replace(m, entries=entries)
    # JAX's derivative takes all of the matrix for symmetric.
    if entries is not None:
        xp = namespace(entries)
        entries = xp.maximum(entries, mirrored(entries, lower))
    return tighten(entries, up(_TWICE * m.norm))


def lengths(m: Magnitude) -> Array:
    """Bounds of ‖dS‖_F for every matrix, shape (N, P), of a change as of `whole_change`."""
    assert m.entries is not None
    return namespace(m.norm).minimum(norm2(m.entries, (-2, -1)), m.norm[:, None])


def lowest(eq: Local, center: Array) -> Array:
    """Lower bounds of xᵀSx/‖x‖² over the range and at the centers, shape (P,).

    From the terms of S that are positive (`jaxsmooth.program.positive`) and Gershgorin's
    discs of the rest. At the center, which need not be the value of S at any point, from
    its own inverse.
    """
    size = eq.ranges[0].shape[-1]
    found = _discs(eq.ranges[0], size)
    xp = namespace(found, center)
    if "terms" in eq.params:
        first, count, kernels = eq.params["terms"]
        rest, operands = eq.ranges[first : first + count], eq.ranges[first + count :]
        total = sum((_discs(r, size) for r in rest), np.zeros(1))
        for k, (index, ratio) in enumerate(kernels):
            term, exponent = operands[2 * k], operands[2 * k + 1]
            loss = up(xp.expm1(up(ratio * exponent.absmax[index])), 8)
            total = total - up(times(loss, xp.max(xp.diagonal(term.absmax))))
        found = xp.maximum(found, total - abs(total) * gamma(len(rest) + 8, total))
    found = found * np.ones(len(center))
    if xp is np and not np.any(found > 0):
        return found
    return xp.minimum(found, _at_center(center))


def _discs(r: Range, size: int) -> Array:
    """Lower bounds of the eigenvalues of the symmetric parts of matrices, shape (P,) or (1,)."""
    xp = namespace(r.lo, r.hi)
    if r.shape == ():
        return down(xp.minimum(r.lo * size, 0.0).reshape(1))
    lo, most = stacked(r.lo, 0), stacked(r.absmax, 0)
    most = xp.where(np.eye(size) > 0, 0.0, (most + xp.swapaxes(most, -1, -2)) / 2)
    sums = up(xp.sum(most, -1), size + 1)
    return xp.min(down(xp.diagonal(lo, 0, -2, -1) - sums), -1)


def _at_center(center: Array) -> Array:
    """Lower bounds of the eigenvalues of the symmetric parts of known matrices; 0 if unknown."""
    xp = namespace(center)
    middle = (center + xp.swapaxes(center, -1, -2)) / 2
    nothing = xp.zeros(len(center))
    norms = enclose_inverses(Matrices(middle, 0.0 * middle, nothing)).norms
    positive = definite(middle, norms)[2] & xp.isfinite(norms)
    # The rounding of the middle is below its last place.
    off = norm2(middle, (-2, -1)) * gamma(1, middle)
    least = down(1 / xp.where(positive, norms, 1.0), 2) - off
    return xp.where(positive, xp.maximum(down(least), 0.0), 0.0)


def definite(matrices: Array, norms: Array) -> tuple[Array, Array, Array]:
    """Lower factors L as computed, bounds of ‖LLᵀ - C‖_F, and whether that proves C positive.

    LLᵀ is positive definite, and the segment from it to C regular where σ‖LLᵀ - C‖ < 1.

    Args:
      matrices: symmetric C, shape (P, n, n).
      norms: bounds σ of ‖C⁻¹‖₂, shape (P,).
    """
    xp = namespace(matrices, norms)
    if is_traced(matrices):
        factor = jnp.linalg.cholesky(matrices)
    else:
        with concretely():
            factor = np.asarray(jnp.linalg.cholesky(jnp.asarray(matrices)))
    factor = xp.where(xp.all(xp.isfinite(factor), (-2, -1), keepdims=True), factor, 0.0)
    rest, error = residual(factor, xp.swapaxes(factor, -1, -2), matrices)
    off = norm2(up(abs(rest) + error), (-2, -1))
    regular = xp.all(xp.diagonal(factor, 0, -2, -1) > 0, -1)
    return factor, off, regular & (up(times(norms, off)) < 0.5)


def mirrored(stack: Array, lower: bool) -> Array:
    """Matrices with one triangle in place of the other one, too."""
    xp = namespace(stack)
    other = xp.swapaxes(stack, -1, -2)
    below = np.tri(stack.shape[-1]) > 0
    return xp.where(below, stack, other) if lower else xp.where(below, other, stack)


def singular(eq: Local, system: System, inverses: Inverses) -> str:
    """What to say where a matrix may be singular."""
    worst = int(np.argmax(np.where(np.isfinite(inverses.norms), -np.inf, inverses.defects)))
    defect, fixed = float(inverses.defects[worst]), not np.any(system.matrices.spread)
    if fixed or not np.any(inverses.approximate[worst]):
        return (
            f"{eq} solves a system whose matrix is not proved to be regular"
            f"{'' if fixed else ' at the center of its range'}. Use one that is better "
            "conditioned, or add a multiple of the identity."
        )
    if not np.isfinite(defect):
        return (
            f"{eq} solves a system whose matrix is not bounded, so that it may be singular. Give "
            "bounds for all that it depends on."
        )
    return (
        f"{eq} solves a system whose matrix may be singular on the set: with its center C, "
        f"‖C⁻¹(S - C)‖ may be {defect:.3g}, and below 1 is needed. Shrink the sets of what the "
        f"matrix depends on by a factor of more than {defect:.3g}, or regularise it with a larger "
        "multiple of the identity."
    )
