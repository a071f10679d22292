"""Solutions of linear systems: X = S⁻¹B, with B and, where it may, S varying.

Over the ranges of S and B, with centers C and D, M near C⁻¹, Y = MD, and bounds σ of
‖S⁻¹‖₂ and T of |S⁻¹| (`jaxsmooth.math.inverse`),

    range         X - Y = S⁻¹((B - D) + (D - CY) - (S - C)Y)
    first order   dX = S⁻¹(dB - dS X)
    second order  X″ = -S⁻¹(dS₁ dX₂ + dS₂ dX₁)

The first order is exact for finite differences, with S at one of the two points and X at the
other one. Products are bounded by ‖dS X‖_F <= ‖dS‖_F ‖X‖₂, by rows and columns, and entry
by entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxsmooth import errors
from jaxsmooth.math.array import Array, gamma, namespace, norm2, times, up
from jaxsmooth.math.inverse import (
    Inverses,
    enclose_inverses,
    matmul,
    product,
    residual,
    spectral_norms,
)
from jaxsmooth.math.magnitude import Magnitude, Response, add, tighten
from jaxsmooth.math.range import Range, within
from jaxsmooth.rules.matrices import MOST_UNKNOWNS, System, singular
from jaxsmooth.rules.registry import Local, Rule


class SystemRule(Rule):
    """Base: subclasses say what S is and how B is laid out."""

    def side(self, eq: Local) -> int:
        """Position of the operand that is the right-hand side."""
        raise NotImplementedError

    def columns(self, eq: Local, stack: Array) -> Array:
        """A stack (N, *shape of B) as (N, P, n, columns)."""
        raise NotImplementedError

    def back(self, eq: Local, stack: Array) -> Array:
        """The inverse of `columns`."""
        raise NotImplementedError

    def system(self, eq: Local) -> System:
        """The matrices."""
        raise NotImplementedError

    def inverses(self, eq: Local, system: System) -> Inverses:
        """What is known of their inverses."""
        return enclose_inverses(system.matrices)

    def change(self, eq: Local, magnitudes: Sequence[Magnitude | None]) -> Magnitude | None:
        """Changes of the matrices, entries of shape (N, P, n, n)."""
        return None

    # What follows.

    def guarded(self, eq: Local) -> Sequence[Range]:
        return [r for i, r in enumerate(eq.ranges) if i != self.side(eq)]

    def found(self, eq: Local) -> tuple[System, Inverses]:
        """The matrices and their inverses.

        Raises:
          CertificationError: one of them may be singular.
        """

        def compute() -> tuple[System, Inverses]:
            system = self.system(eq)
            if system.matrices.center.shape[-1] > MOST_UNKNOWNS:
                raise errors.UnsupportedPrimitiveError(
                    f"{eq} has {system.matrices.center.shape[-1]} unknowns, too many to bound "
                    "its inverse. Multiply by an inverse that is known."
                )
            inverses = self.inverses(eq, system)
            if namespace(inverses.norms) is np and not np.isfinite(inverses.norms).all():
                raise errors.CertificationError(singular(eq, system, inverses))
            return system, inverses

        if self.fixed(eq):
            return eq.always("system", compute)
        return eq.once("system", compute)

    def fixed(self, eq: Local) -> bool:
        """Whether the matrix is known."""
        return eq.known[0] is not None

    def norm(self, eq: Local) -> Array:
        """Bound of ‖S⁻¹‖₂ for all matrices."""
        return namespace(self.found(eq)[1].norms).max(self.found(eq)[1].norms, initial=0.0)

    def solution(self, eq: Local) -> tuple[Array, Array, Array]:
        """(Y, bounds of |X - Y|, bound of ‖X‖₂, as matrices with the columns)."""
        return eq.once("solution", lambda: self._solve(eq))

    def _solve(self, eq: Local) -> tuple[Array, Array, Array]:
        system, inverses = self.found(eq)
        b, matrices = eq.ranges[self.side(eq)], system.matrices
        center, spread = (self.columns(eq, x[None])[0] for x in (b.center, b.spread))
        solution = matmul(inverses.approximate, center)
        left = self._left(eq, solution, center)
        xp = namespace(solution, spread, left)
        # (S - C)Y of a column, by entries and by norms.
        lengths = up(times(matrices.radii[:, None], norm2(solution, -2)))
        turned = xp.minimum(product(matrices.spread, abs(solution)), lengths[:, None, :])
        right = up(spread + left + turned, 3)
        moved = xp.minimum(norm2(spread, -2), b.radius)
        by_norms = xp.minimum(norm2(right, -2), up(moved + norm2(left, -2) + lengths, 3))
        by_norms = up(times(inverses.norms[:, None], by_norms))
        distance = xp.minimum(product(inverses.entries, right), by_norms[:, None, :])
        around = up(spectral_norms(solution) + norm2(distance, (-2, -1)))
        moved = xp.minimum(norm2(spread, (-2, -1)), b.radius)
        by_side = up(times(inverses.norms, up(spectral_norms(center) + moved)))
        return solution, distance, xp.max(xp.minimum(around, by_side), initial=0.0)

    def _left(self, eq: Local, solution: Array, center: Array) -> Array:
        """Bound of |D - CY|."""
        rest, error = residual(self.found(eq)[0].matrices.center, solution, center)
        return up(abs(rest) + error)

    def most(self, eq: Local) -> Array:
        """Bounds of |X|, shape (P, n, columns)."""
        solution, distance, _ = self.solution(eq)
        return up(abs(solution) + distance)

    def range(self, eq: Local) -> list[Range]:
        system, _ = self.found(eq)
        b, sigma = eq.ranges[self.side(eq)], self.norm(eq)
        solution, distance, _ = self.solution(eq)
        rounding = norm2(self._left(eq, solution, self.columns(eq, b.center[None])[0]))
        at = namespace(solution).max(spectral_norms(solution), initial=0.0)
        center, around = (self.back(eq, x[None])[0] for x in (solution, distance))
        # The ends are rounded once more.
        around = up(around + abs(center) * gamma(2, center), 2)
        parts = [(b.gains, system.gains, 0.0), (b.rest, system.rest, rounding),
                 (b.radius, system.radius, rounding)]  # fmt: skip
        gains, rest, radius = (
            up(times(sigma, up(x + up(times(at, y)) + z, 2))) for x, y, z in parts
        )
        size = up(times(sigma, b.norm))
        return [within(
            eq.radii, center - around, center + around, center, gains, rest, radius, size
        )]  # fmt: skip

    def _right(self, eq: Local, magnitudes: Sequence[Magnitude | None]) -> Magnitude | None:
        """dB - dS X, entries of shape (N, P, n, columns)."""
        ds, db = self.change(eq, magnitudes), magnitudes[self.side(eq)]
        if db is not None and db.entries is not None:
            db = replace(db, entries=self.columns(eq, db.entries))
        return add(db, None if ds is None else self._turned(eq, ds))

    def _turned(self, eq: Local, ds: Magnitude) -> Magnitude:
        """dS X, entries of shape (N, P, n, columns)."""
        most = self.most(eq)
        norm = up(times(self.solution(eq)[2], ds.norm))
        xp = namespace(most, norm)
        total = None
        if ds.total is not None:
            rows = up(xp.sum(most, axis=-1), most.shape[-1])
            total = up(times(xp.max(rows, initial=0.0), ds.total))
        if ds.entries is None:
            return tighten(None, norm, total)
        return tighten(bounded_product(ds.entries, most), norm, total)

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        if all(m is None for m in magnitudes):
            return [None]
        right = self._right(eq, magnitudes)
        assert right is not None
        _, inverses = self.found(eq)
        xp = namespace(inverses.entries, right.norm)
        norm, total = up(times(self.norm(eq), right.norm)), None
        if right.total is not None:
            columns = xp.max(norm2(inverses.entries, -2), initial=0.0)
            norm = xp.minimum(norm, up(times(columns, right.total)))
            sums = up(xp.sum(inverses.entries, axis=-2), inverses.entries.shape[-1])
            total = up(times(xp.max(sums, initial=0.0), right.total))
        if right.entries is None:
            return [tighten(None, norm, total)]
        pushed = product(inverses.entries, right.entries)
        rows = xp.minimum(norm2(inverses.entries, -1), inverses.norms[:, None])[..., None]
        by_rows = up(times(rows, norm2(right.entries, -2)[:, :, None, :]))
        return [tighten(self.back(eq, xp.minimum(pushed, by_rows)), norm, total)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        ds = self.change(eq, magnitudes)
        if ds is None:
            return [None]
        (dx,) = self.first_order(eq, magnitudes)
        assert dx is not None
        _, inverses = self.found(eq)
        crossed = up(times(ds.norm[:, None], dx.norm[None, :]))
        pairs = up(times(self.norm(eq), up(crossed + crossed.T)))
        matrix, change = ds.joint_entries(), dx.joint_entries()
        if matrix is None or change is None:
            return [Response(pairs, None)]
        turned = 2 * bounded_product(matrix, self.columns(eq, change[None])[0])
        return [Response(pairs, self.back(eq, product(inverses.entries, turned)[None])[0])]


def bounded_product(a: Array, b: Array) -> Array:
    """Bounds of |AB| for |A| <= a and |B| <= b, by entries and by Cauchy-Schwarz."""
    lengths = up(times(norm2(a, -1)[..., None], norm2(b, -2)[..., None, :]))
    return namespace(a, b).minimum(product(a, b), lengths)
