"""Cholesky factors: S = LLᵀ with S symmetric, its eigenvalues in [1/σ, Λ] over the range.

Let Φ take the lower triangle of a matrix and half of its diagonal. Then ‖Φ(M)‖_F <= ‖M‖_F/√2
for symmetric M, as ‖M‖_F² counts every entry off the diagonal twice. From S = LLᵀ,
L⁻¹ dS L⁻ᵀ = Φ + Φᵀ with Φ = L⁻¹dL, which is lower triangular, so that

    dL = L Φ(M),     M = L⁻¹ dS L⁻ᵀ,     ‖M‖_F <= σ‖dS‖_F

and ‖dL‖_F <= √Λ σ‖dS‖_F/√2; row i of L has 2-norm √S_ii, hence |dL_ij| <= √S_ii σ‖dS‖_F/√2.

Once more, with Φ_a = Φ(M_a) and L_a = LΦ_a: M_a changes in the direction b by
-(Φ_b M_a + M_a Φ_bᵀ), and M_a = Φ_a + Φ_aᵀ, so that

    L_ab = L(Φ_bΦ_a - Φ(N + Nᵀ + Φ_bΦ_aᵀ + Φ_aΦ_bᵀ)),     N = Φ_bΦ_a.

N is lower triangular, so Φ(N + Nᵀ) = N, and what is left is

    L_ab = -L Φ(Φ_bΦ_aᵀ + Φ_aΦ_bᵀ)

with ‖L_ab‖_F <= √Λ·√2‖Φ_a‖_F‖Φ_b‖_F <= √Λ σ²‖dS_a‖_F‖dS_b‖_F/√2, and rows likewise.

Every diagonal entry is L_ii >= 1/√σ, as L_ii² = 1/(e_iᵀ(leading block of S)⁻¹e_i).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jaxsmooth import errors
from jaxsmooth.math.array import Array, down, gamma, namespace, norm2, times, up
from jaxsmooth.math.inverse import Inverses, spectral_norms
from jaxsmooth.math.magnitude import Magnitude, Response, tighten
from jaxsmooth.math.range import Range, lipschitz_image
from jaxsmooth.program.factors import CHOLESKY
from jaxsmooth.rules.determinants import OfMatrices
from jaxsmooth.rules.matrices import System, definite, lengths
from jaxsmooth.rules.registry import Local, define

_HALF = math.sqrt(0.5) * (1 + 2.0**-50)


class CholeskyRule(OfMatrices):
    """The lower factor of every matrix."""

    def guarded(self, eq: Local) -> Sequence[Range]:
        return eq.ranges

    def positive(self, eq: Local) -> tuple[System, Inverses, Array, Array]:
        """The matrices, their inverses, L at the centers, and bounds of ‖LLᵀ - C‖_F.

        A convex set of regular symmetric matrices that holds a positive definite one, C, has
        no other ones.

        Raises:
          CertificationError: one of them may not be positive definite.
        """
        return eq.once("positive", lambda: self._positive(eq))

    def _positive(self, eq: Local) -> tuple[System, Inverses, Array, Array]:
        system, inverses = self.regular(eq)
        factor, off, proved = definite(system.matrices.center, inverses.norms)
        if namespace(proved) is np and not proved.all():
            raise errors.CertificationError(
                f"{eq} factorises a matrix that is not proved to be positive definite at the "
                "center of its range. Add a larger multiple of the identity."
            )
        return system, inverses, factor, namespace(proved).where(proved, off, np.inf)

    def constants(self, eq: Local) -> tuple[Array, Array, Array]:
        """σ/√2 and σ²/√2 with σ for LLᵀ, too, and √Λ; shape (P,)."""
        return eq.once("constants", lambda: self._constants(eq))

    def _constants(self, eq: Local) -> tuple[Array, Array, Array]:
        system, inverses, _, off = self.positive(eq)
        xp = namespace(inverses.norms, off)
        gap = up(times(inverses.norms, off))
        near = gap < 0.5
        sigma = xp.where(near, up(inverses.norms / xp.where(near, 1 - gap, 1.0), 3), np.inf)
        matrices = system.matrices
        most = up(spectral_norms(matrices.center) + matrices.radii + off, 3)
        by_entries = up(spectral_norms(abs(matrices.center) + matrices.spread) + off, 3)
        root = up(xp.sqrt(xp.minimum(most, by_entries)), 2)
        return up(_HALF * sigma), up(_HALF * times(sigma, sigma), 2), root

    def rows(self, eq: Local) -> Array:
        """Bounds √S_ii of the rows' 2-norms, shape (P, n)."""
        system, _, _, off = self.positive(eq)
        matrices = system.matrices
        xp = namespace(matrices.center, matrices.spread)
        most = abs(matrices.center) + matrices.spread
        diagonal = xp.diagonal(most, 0, -2, -1)
        return up(xp.sqrt(diagonal + off[:, None]), 4)

    def range(self, eq: Local) -> list[Range]:
        system, inverses, factor, off = self.positive(eq)
        slope, _, root = self.constants(eq)
        rows = self.rows(eq)
        xp, size = namespace(slope, rows), rows.shape[-1]
        reach = up(self.radii(system) + off)
        around = up(times(up(times(slope, reach))[:, None], xp.minimum(rows, root[:, None])), 2)
        around = up(around[..., None] + abs(factor) * gamma(2, factor), 2)
        most = rows[..., None] * np.ones(size)
        lo = xp.maximum(factor - around, -most)
        hi = xp.minimum(factor + around, most)
        least = down(1 / xp.sqrt(inverses.norms), 4)[:, None, None]
        lo = xp.where(np.eye(size) > 0, xp.maximum(lo, least), lo)
        below = np.tri(size) > 0
        lo, hi = (xp.where(below, x, 0.0) for x in (lo, hi))
        largest = xp.max(up(times(slope, root)), initial=0.0)
        rounding = up(times(largest, norm2(off)))
        lo, hi, factor = (x.reshape(eq.ranges[0].shape) for x in (lo, hi, factor))
        found = lipschitz_image(eq.radii, system, largest, lo, hi, factor, rounding)  # fmt: skip
        # ‖L⁻¹‖² = ‖S⁻¹‖, for those who divide by it.
        found.memo["inverses"] = up(xp.sqrt(inverses.norms), 2)
        return [found]

    def entries(self, eq: Local, sizes: Array) -> Array:
        """√S_ii·sizes on the lower triangle, for sizes of shape (N, P)."""
        rows = times(sizes[..., None], self.rows(eq))[..., None]
        entries = namespace(rows).where(np.tri(rows.shape[-2]) > 0, rows, 0.0)
        return up(entries).reshape(len(sizes), *eq.ranges[0].shape)

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = self.change(eq, magnitudes)
        if m is None:
            return [None]
        slope, _, root = self.constants(eq)
        xp = namespace(slope, m.norm)
        norm = up(times(xp.max(up(times(slope, root)), initial=0.0), m.norm))
        if m.entries is None:
            return [Magnitude(None, norm)]
        return [tighten(self.entries(eq, up(times(slope, lengths(m)))), norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        m = self.change(eq, magnitudes)
        if m is None:
            return [None]
        _, bend, root = self.constants(eq)
        xp = namespace(bend, m.norm)
        largest = xp.max(up(times(bend, root)), initial=0.0)
        pairs = up(times(largest, times(m.norm[:, None], m.norm[None, :])), 3)
        if m.entries is None:
            return [Response(pairs, None)]
        joint = norm2(lengths(m), 0)
        entries = self.entries(eq, up(times(bend, times(joint, joint)), 3)[None])[0]
        return [Response(pairs, entries)]


define(CholeskyRule(), CHOLESKY)
