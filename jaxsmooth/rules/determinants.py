"""Determinants: log|det S|, its sign, and det S.

With σ >= ‖S⁻¹‖₂, T >= |S⁻¹| and s = ‖S⁻¹‖_F <= min(√n σ, ‖T‖_F) over the range,

    log|det S|   first order  tr(S⁻¹ dS): s‖dS‖_F, Σ T_ji |dS_ij|
                 second order -tr(S⁻¹ dS₁ S⁻¹ dS₂): σ²‖dS₁‖_F ‖dS₂‖_F

for |tr(XY)| <= ‖X‖_F ‖Y‖_F. The set of S is convex and all of it is regular, so that the sign
is that at the center. det S is linear in every row, so that with bounds r_i of the rows'
2-norms (Hadamard's inequality)

    det S        |det S| <= Π r_i
                 first order  (Σ_i Π_{k≠i} r_k²)^½ ‖dS‖_F
                 second order (n - 1) max_{i<j} Π_{k≠i,j} r_k ‖dS₁‖_F ‖dS₂‖_F

where the last one is Σ_{i≠j} ‖dS₁ row i‖‖dS₂ row j‖ with a matrix of norm n - 1. Where S is
regular, from det S = ± exp log|det S|,

                 first order  |det S| s,     second order |det S|(s² + σ²).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsmooth import errors
from jaxsmooth.math.array import Array, gamma, namespace, norm2, times, tiny, up
from jaxsmooth.math.determinant import log_determinants
from jaxsmooth.math.inverse import Inverses, enclose_inverses
from jaxsmooth.math.magnitude import Magnitude, Response, tighten
from jaxsmooth.math.range import Range, enclose, lipschitz_image
from jaxsmooth.program.determinants import DET, LOGDET, SIGN
from jaxsmooth.program.graph import Equation
from jaxsmooth.rules.matrices import (
    MOST_UNKNOWNS,
    System,
    lengths,
    singular,
    whole_change,
    whole_system,
)
from jaxsmooth.rules.registry import Local, Rule, define


class OfMatrices(Rule):
    """Base of the functions of an array of matrices (..., n, n)."""

    def found(self, eq: Local) -> tuple[System, Inverses]:
        """The matrices and their inverses, infinite where one may be singular."""

        def compute() -> tuple[System, Inverses]:
            size = eq.ranges[0].shape[-1]
            if size > MOST_UNKNOWNS:
                raise errors.UnsupportedPrimitiveError(
                    f"{eq} is of a matrix with {size} rows, too many to bound its inverse."
                )
            system = whole_system(eq)
            return system, enclose_inverses(system.matrices)

        return eq.once("system", compute)

    def regular(self, eq: Local) -> tuple[System, Inverses]:
        """The same.

        Raises:
          CertificationError: one of them may be singular.
        """
        system, inverses = self.found(eq)
        if namespace(inverses.norms) is np and not np.isfinite(inverses.norms).all():
            raise errors.CertificationError(singular(eq, system, inverses))
        return system, inverses

    def slopes(self, eq: Local) -> Array:
        """Bounds s of ‖S⁻¹‖_F, shape (P,)."""
        _, inverses = self.found(eq)
        size = inverses.entries.shape[-1]
        xp = namespace(inverses.norms)
        return xp.minimum(
            up(math.sqrt(size) * inverses.norms, 2), norm2(inverses.entries, (-2, -1))
        )

    def radii(self, system: System) -> Array:
        """Bounds of ‖S - C‖_F for every matrix, shape (P,)."""
        by_entries = norm2(system.matrices.spread, (-2, -1))
        return namespace(by_entries, system.radius).minimum(by_entries, system.radius)

    def shaped(self, eq: Local, stack: Array) -> Array:
        """Numbers (..., P) in the result's shape."""
        return stack.reshape((*stack.shape[:-1], *eq.equation.outputs[0].shape))

    def bilinear(self, eq: Local, m: Magnitude, bend: Array) -> Response:
        """Response bounded by bend·‖dS₁‖_F‖dS₂‖_F for every matrix."""
        xp = namespace(bend, m.norm)
        largest = xp.max(bend, initial=0.0)
        totals = up(times(largest, times(m.norm[:, None], m.norm[None, :])), 3)
        if m.entries is None:
            return Response(totals, None, totals)
        joint = norm2(lengths(m), 0)
        entries = up(times(bend, times(joint, joint)), 3)
        return Response(totals, self.shaped(eq, entries), totals)

    def linear(self, eq: Local, m: Magnitude, slopes: Array) -> Magnitude:
        """Magnitude bounded by slopes·‖dS‖_F for every matrix."""
        norm = up(times(namespace(slopes).max(slopes, initial=0.0), m.norm))
        if m.entries is None:
            return Magnitude(None, norm)
        return tighten(self.shaped(eq, up(times(slopes, lengths(m)))), norm)

    def change(self, eq: Local, magnitudes: Sequence[Magnitude | None]) -> Magnitude | None:
        m = magnitudes[0]
        return None if m is None else whole_change(eq, m)


def _least(a: Array, b: Array) -> Array:
    """The smaller one; what is no number counts as infinite."""
    xp = namespace(a, b)
    return xp.minimum(*(xp.where(xp.isnan(x), np.inf, x) for x in (a, b)))


class LogDetRule(OfMatrices):
    """factor·log|det S|."""

    def guarded(self, eq: Local) -> Sequence[Range]:
        return eq.ranges

    def range(self, eq: Local) -> list[Range]:
        system, inverses = self.regular(eq)
        factor, matrices = eq.params["factor"], system.matrices
        value, error, _ = log_determinants(matrices.center, inverses.norms)
        slopes = self.slopes(eq)
        xp = namespace(slopes, value)
        turned = xp.swapaxes(inverses.entries, -1, -2)
        by_entries = up(xp.sum(times(turned, matrices.spread), (-2, -1)), turned[0].size)
        away = xp.minimum(by_entries, up(times(slopes, self.radii(system))))
        center = self.shaped(eq, value) * factor
        around = self.shaped(eq, up(factor * up(away + error), 2))
        # The ends are rounded once more.
        around = up(around + abs(center) * gamma(2, center), 2)
        largest, rounding = up(factor * xp.max(slopes, initial=0.0)), norm2(factor * error)
        return [
            lipschitz_image(
                eq.radii, system, largest, center - around, center + around, center, rounding
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = self.change(eq, magnitudes)
        if m is None:
            return [None]
        _, inverses = self.regular(eq)
        factor = eq.params["factor"]
        found = self.linear(eq, m, up(factor * self.slopes(eq)))
        if m.entries is None:
            return [found]
        xp = namespace(m.entries, inverses.entries)
        turned = xp.swapaxes(inverses.entries, -1, -2)
        sums = xp.sum(times(turned, m.entries), (-2, -1))
        sums = self.shaped(eq, up(factor * up(sums, turned[0].size), 2))
        return [tighten(xp.minimum(found.entries, sums), found.norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        m = self.change(eq, magnitudes)
        if m is None:
            return [None]
        norms = self.regular(eq)[1].norms
        return [self.bilinear(eq, m, up(eq.params["factor"] * times(norms, norms), 3))]


class SignRule(OfMatrices):
    """The sign of det S: one number as long as no S is singular."""

    def range(self, eq: Local) -> list[Range]:
        sign, known = self._sign(eq)
        xp = namespace(sign, known)
        lo, hi = (self.shaped(eq, xp.where(known, sign, end)) for end in (-1.0, 1.0))
        nothing = np.zeros(eq.leaves)
        rest = norm2(hi - lo)
        return [enclose(eq.radii, lo, hi, (lo + hi) / 2, nothing, rest)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m, jumps = self.change(eq, magnitudes), self._jumps(eq)
        return [None if m is None or jumps is None else self.linear(eq, m, jumps)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        m, jumps = self.change(eq, magnitudes), self._jumps(eq)
        return [None if m is None or jumps is None else self.bilinear(eq, m, jumps)]

    def _sign(self, eq: Local) -> tuple[Array, Array]:
        """The signs at the centers, and whether they are proved to be those of all."""

        def compute() -> tuple[Array, Array]:
            system, inverses = self.regular(eq)
            _, error, sign = log_determinants(system.matrices.center, inverses.norms)
            xp = namespace(error, inverses.norms)
            return sign, xp.isfinite(error) & xp.isfinite(inverses.norms)

        return eq.once("sign", compute)

    def _jumps(self, eq: Local) -> Array | None:
        """Bounds of the derivatives: infinite where the sign may jump, None where none does."""
        _, known = self._sign(eq)
        # Ranges that are not traced are proved to hold no singular matrix.
        xp = namespace(known)
        return None if xp is np else xp.where(known, 0.0, np.inf)


_MOST_EXPANDED = 10


def _determinant(matrix: Any) -> Any:
    """det S, with derivatives that are right at singular matrices too.

    JAX's derivative of det S is wrong where a column is 0: it assumes that of a singular matrix
    the last pivot vanishes. The second derivative is no number at some singular matrices, or is
    wrong; that of large ones is left so.
    """
    size = matrix.shape[-1]
    twin = (_expanded if size <= _MOST_EXPANDED else _reflected)(matrix)
    return twin + (jnp.linalg.det(lax.stop_gradient(matrix)) - lax.stop_gradient(twin))


def _expanded(matrix: Any) -> Any:
    """det S without a division, row by row: the minors of the first k rows in all k columns."""
    size = matrix.shape[-1]
    minors = jnp.ones_like(matrix[..., 0, :1])
    places: dict[tuple[int, ...], int] = {(): 0}
    for row in range(size):
        columns = list(itertools.combinations(range(size), row + 1))
        # Expanded by the last row: every column in turn, and the minor of the others.
        last = np.array(columns)
        rest = [[places[c[:i] + c[i + 1 :]] for i in range(row + 1)] for c in columns]
        signs = (-1.0) ** (row - np.arange(row + 1))
        terms = jnp.asarray(signs, matrix.dtype) * matrix[..., row, last]
        minors = jnp.sum(terms * minors[..., np.array(rest)], axis=-1)
        places = {c: i for i, c in enumerate(columns)}
    return minors[..., 0]


def _reflected(matrix: Any) -> Any:
    """-det SH with a reflection H without structure, which leaves no column 0 in its place."""
    size = matrix.shape[-1]
    normal = np.sqrt(np.arange(1.0, size + 1))
    reflection = np.eye(size) - 2 * np.outer(normal, normal) / np.sum(normal**2)
    return -jnp.linalg.det(jnp.matmul(matrix, reflection.astype(matrix.dtype), precision="highest"))


class DetRule(OfMatrices):
    """det S, which may be 0."""

    def in_place_of(self, equation: Equation) -> Callable[..., Any] | None:
        return _determinant if equation.inputs[0].shape[-1] > 1 else None

    def rows(self, eq: Local) -> Array:
        """Bounds r_i of the rows' 2-norms, shape (P, n); of the columns' if that is better."""
        x = eq.ranges[0]
        rank = len(x.shape)
        best = None
        for axis in (rank - 1, rank - 2):
            lengths = x.slices((axis,)).reshape(math.prod(x.shape[:-2]), x.shape[-1])
            volume = namespace(lengths).prod(lengths, axis=-1, keepdims=True)
            if best is None:
                best = lengths, volume
                continue
            better = volume < best[1]
            xp = namespace(better, lengths)
            best = xp.where(better, lengths, best[0]), xp.where(better, volume, best[1])
        assert best is not None
        return best[0]

    def constants(self, eq: Local) -> tuple[Array, Array, Array]:
        """Bounds of |det S| and of both derivatives, shape (P,)."""
        return eq.once("constants", lambda: self._constants(eq))

    def _constants(self, eq: Local) -> tuple[Array, Array, Array]:
        rows = self.rows(eq)
        xp, size = namespace(rows), rows.shape[-1]
        ones = xp.ones((len(rows), 1))
        before = xp.concatenate([ones, xp.cumprod(rows, -1)[:, :-1]], -1)
        after = xp.concatenate([xp.cumprod(rows[:, ::-1], -1)[:, ::-1][:, 1:], ones], -1)
        # What underflows is below the smallest normal number.
        value = up(xp.prod(rows, axis=-1), size) + tiny(rows)
        slope = norm2(up(before * after, size) + tiny(rows), -1)
        # Without two rows a product is at most that without the two smallest.
        rest = up(xp.prod(xp.sort(rows, -1)[:, 2:], axis=-1), size) + tiny(rows)
        bend = up((size - 1) * rest)
        system, inverses = self.found(eq)
        logs, error, _ = log_determinants(system.matrices.center, inverses.norms)
        s = self.slopes(eq)
        most = xp.exp(logs + up(error + up(times(s, self.radii(system))), 3))
        most = up(most, 8)
        squares = up(times(s, s) + times(inverses.norms, inverses.norms), 3)
        found = value, slope, bend
        value = _least(value, most)
        by_inverses = value, up(times(value, s)), up(times(value, squares))
        value, slope, bend = map(_least, found, by_inverses)
        return value, slope, bend

    def range(self, eq: Local) -> list[Range]:
        value, slope, _ = self.constants(eq)
        system, inverses = self.found(eq)
        logs, error, sign = log_determinants(system.matrices.center, inverses.norms)
        xp = namespace(value, logs)
        # Where the center is not proved to be regular, 0 is as good as any.
        proved = xp.isfinite(error)
        logs, error = xp.where(proved, logs, 0.0), xp.where(proved, error, 0.0)
        center = xp.where(proved, sign * xp.exp(logs), 0.0)
        rounding = up(abs(center) * (xp.expm1(error) + gamma(8, center)), 8)
        reach = up(times(slope, self.radii(system)))
        away = xp.where(proved, up(reach + rounding, 3), value)
        lo, hi = xp.maximum(center - away, -value), xp.minimum(center + away, value)
        largest = xp.max(slope, initial=0.0)
        rest = norm2(xp.where(proved, rounding, value))
        lo, hi, center = (self.shaped(eq, x) for x in (lo, hi, center))
        return [
            lipschitz_image(eq.radii, system, largest, lo, hi, center, rest, norm2(value))
        ]  # fmt: skip

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = self.change(eq, magnitudes)
        return [None if m is None else self.linear(eq, m, self.constants(eq)[1])]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        m = self.change(eq, magnitudes)
        return [None if m is None else self.bilinear(eq, m, self.constants(eq)[2])]


define(LogDetRule(), LOGDET)
define(SignRule(), SIGN)
define(DetRule(), DET)
