"""Eigenvalues of symmetric matrices, and singular values.

Both move by no more than the matrix does, each by ‖dS‖₂ and all of them by ‖dS‖_F (Weyl;
Hoffman and Wielandt; Mirsky). Second order, with orthonormal vectors V and E = VᵀdSV,

    d²λ_i = 2 Σ_{j≠i} E_ij²/(λ_i - λ_j).

The weights E_ij² count twice in ‖E‖_F² = ‖dS‖_F², so that with gaps of at least g_i beside λ_i,
and of at least g beside all,

    |d²λ_i| <= ‖dS‖_F²/g_i,     ‖d²λ‖₂ = ‖Σ_{i<j} 2E_ij²/(λ_i - λ_j)·(e_i - e_j)‖ <= √2‖dS‖_F²/g

which 2×2 matrices attain, and polarisation gives two directions the same bound. The gaps are
those at the center less min(2‖S - C‖₂, √2‖S - C‖_F), for the sum of the squares of what the
values move by is at most ‖S - C‖_F².

Singular values are the positive eigenvalues of [[0, A], [Aᵀ, 0]]. With X = UᵀdAV, its parts
s = (X + Xᵀ)/2 and a = (X - Xᵀ)/2, and Y what is left of dA where A is not square,

    d²σ_i = 2 Σ_{j≠i} (s_ij²/(σ_i - σ_j) + a_ij²/(σ_i + σ_j)) + Σ_l Y_li²/σ_i.

Sums are larger than gaps, so only the last term adds: g_i is σ_i, too, in the bound of one, and
the larger of √2/g and 1/σ that of all, where A is not square. The smallest value has a kink at 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, down, namespace, norm2, times, up
from jaxsmooth.math.eigenvalues import singular_values, symmetric_eigenvalues
from jaxsmooth.math.inverse import spectral_norms
from jaxsmooth.math.magnitude import Magnitude, Response, tighten, unbounded
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.eigenvalues import EIGENVALUES, SINGULAR_VALUES
from jaxsmooth.rules.matrices import apart, lengths, stacked, whole_change, whole_system
from jaxsmooth.rules.registry import Local, Rule, define

_ROOT_OF_TWO = math.sqrt(2) * (1 + 2.0**-50)


@dataclass(frozen=True, eq=False)
class Values:
    """The values of P matrices over the ranges of their entries.

    Attributes:
      center: those of the centers, shape (P, k).
      off: how far each of these may be from the true one, shape (P, k).
      reach: bounds of ‖S - C‖₂, shape (P,).
      gaps: lower bounds of the distances of neighbours, shape (P, k - 1); 0 where there is none.
      gains, rest, radius: of the ball around all centers, as of a `Range`.
      least: lower bounds of all values, shape (P,).
      size: a bound of the 2-norm of all.
    """

    center: Array
    off: Array
    reach: Array
    gaps: Array
    gains: Array
    rest: Array
    radius: Array
    least: Array
    size: Array

    @property
    def lowest(self) -> Array:
        """Lower bounds, shape (P, k)."""
        xp = namespace(self.center, self.reach, self.least)
        lo = down(self.center - up(self.reach[:, None] + self.off))
        return xp.maximum(lo, self.least[:, None])


def _values(
    center: Array, off: Array, spread: Array, distances: Array,
    ball: tuple[Array, Array, Array], least: Array, size: Array,
) -> Values:  # fmt: skip
    """Values at the centers, and the sets around them.

    Args:
      distances: bounds of ‖S - C‖_F, shape (P,).
      ball: gains, rest and radius.
    """
    xp = namespace(center, spread, distances)
    distances = xp.minimum(distances, norm2(spread, (-2, -1)))
    reach = xp.minimum(distances, spectral_norms(spread))
    closer = xp.minimum(up(2 * reach), up(_ROOT_OF_TWO * distances))
    rounding = up(off[:, 1:] + off[:, :-1])
    between = down(abs(center[:, 1:] - center[:, :-1]))
    gaps = xp.maximum(down(between - up(closer[:, None] + rounding)), 0.0)
    return Values(center, off, reach, gaps, *ball, least, size)


class ValuesRule(Rule):
    """Base of both: values that move no farther than their matrices."""

    def values(self, eq: Local) -> Values:
        return eq.once("values", lambda: self._values(eq))

    def _values(self, eq: Local) -> Values:
        raise NotImplementedError

    def change(self, eq: Local, m: Magnitude) -> Magnitude:
        """The change of the matrices, entries of shape (N, P, m, n)."""
        raise NotImplementedError

    def bends(self, eq: Local) -> tuple[Array, Array]:
        """Bounds of |d²λ| for ‖dS‖_F = 1: of each value (P, k), and of all of a matrix (P,)."""
        raise NotImplementedError

    def range(self, eq: Local) -> list[Range]:
        found = self.values(eq)
        around, whole = up(found.reach[:, None] + found.off), norm2(found.off)
        shape = eq.equation.outputs[0].shape
        return [
            enclose(
                eq.radii,
                found.lowest.reshape(shape),
                up(found.center + around).reshape(shape),
                found.center.reshape(shape),
                found.gains,
                up(found.rest + whole),
                up(found.radius + whole),
                found.size,
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        if magnitudes[0] is None:
            return [None]
        m = self.change(eq, magnitudes[0])
        if m.entries is None:
            return [Magnitude(None, m.norm)]
        shape = eq.equation.outputs[0].shape
        each = lengths(m)[..., None] * np.ones(shape[-1])
        return [tighten(each.reshape(len(each), *shape), m.norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        if magnitudes[0] is None:
            return [None]
        m = self.change(eq, magnitudes[0])
        each, joint = self.bends(eq)
        xp = namespace(each, joint, m.norm)
        largest = xp.max(joint, initial=0.0)
        pairs = up(times(largest, times(m.norm[:, None], m.norm[None, :])), 3)
        if m.entries is None:
            return [Response(pairs, None, None, unbounded(joint))]
        length = norm2(lengths(m), 0)[:, None]
        entries = up(times(each, times(length, length)), 3)
        shape = eq.equation.outputs[0].shape
        return [Response(pairs, entries.reshape(shape), None, unbounded(joint))]


def _inverse(x: Array) -> Array:
    """1/x rounded up; infinite at 0."""
    xp = namespace(x)
    return xp.where(x > 0, up(1 / xp.where(x > 0, x, 1.0), 2), np.inf)


def _by_gaps(found: Values) -> tuple[Array, Array]:
    """1/g_i of every value, and √2/g of every matrix."""
    xp = namespace(found.gaps)
    alone = xp.full((len(found.gaps), 1), np.inf)
    beside = xp.minimum(
        xp.concatenate([alone, found.gaps], -1), xp.concatenate([found.gaps, alone], -1)
    )
    return _inverse(beside), up(_ROOT_OF_TWO * _inverse(xp.min(beside, -1)))


class EigenvaluesRule(ValuesRule):
    """Eigenvalues of symmetric matrices."""

    def _values(self, eq: Local) -> Values:
        system = whole_system(eq)
        matrices = system.matrices
        xp = namespace(matrices.center, matrices.floors)
        center, off = symmetric_eigenvalues(matrices.center)
        distances = xp.minimum(matrices.radii, system.radius)
        floors = matrices.floors * np.ones(len(center))
        least = xp.where(floors > 0, floors, -np.inf)
        size = eq.ranges[0].size
        size = size if eq.params.get("symmetric", False) else up(_ROOT_OF_TWO * size)
        ball = system.gains, system.rest, system.radius
        return _values(center, off, matrices.spread, distances, ball, least, size)

    def change(self, eq: Local, m: Magnitude) -> Magnitude:
        return whole_change(eq, m)

    def bends(self, eq: Local) -> tuple[Array, Array]:
        return _by_gaps(self.values(eq))


class SingularValuesRule(ValuesRule):
    """Singular values."""

    def _values(self, eq: Local) -> Values:
        (a,) = eq.ranges
        center, off = singular_values(stacked(a.center, 0))
        spread = stacked(a.spread, 0)
        distances = namespace(spread, a.radius).minimum(apart(a), a.radius)
        ball = a.gains, a.rest, a.radius
        return _values(center, off, spread, distances, ball, np.zeros(len(center)), a.size)

    def change(self, eq: Local, m: Magnitude) -> Magnitude:
        return m if m.entries is None else Magnitude(stacked(m.entries, 1), m.norm, m.total)

    def bends(self, eq: Local) -> tuple[Array, Array]:
        found = self.values(eq)
        each, joint = _by_gaps(found)
        xp = namespace(each, joint)
        from_zero = _inverse(found.lowest)
        rows, columns = eq.ranges[0].shape[-2:]
        if rows != columns:
            return xp.maximum(each, from_zero), xp.maximum(joint, xp.max(from_zero, -1))
        # The smallest one is the absolute value of something smooth.
        kink = xp.where(xp.isinf(from_zero), np.inf, 0.0)
        last = np.arange(each.shape[-1]) == each.shape[-1] - 1
        return xp.where(last, xp.maximum(each, kink), each), xp.maximum(joint, kink[:, -1])


class VectorsRule(Rule):
    """Decompositions whose vectors are read."""

    def range(self, eq: Local) -> list[Range]:
        raise errors.UnsupportedPrimitiveError(
            f"{eq} gives vectors that turn without bound where two values meet, and whose signs "
            "are arbitrary, or some of the values only. Ask for all values without vectors "
            "(jnp.linalg.eigvalsh, jnp.linalg.svdvals), decompose outside the function and pass "
            "the factors with jaxsmooth.fixed, or iterate a fixed number of products."
        )


define(EigenvaluesRule(), EIGENVALUES)
define(SingularValuesRule(), SINGULAR_VALUES)
define(VectorsRule(), p.eigh_p, p.svd_p)
