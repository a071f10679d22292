"""Linear systems: triangular_solve, `jnp.linalg.solve` and its kin, custom_linear_solve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, up
from jaxsmooth.math.inverse import (
    Inverses,
    Matrices,
    enclose_inverses,
    spectral_norms,
    triangular_inverses,
)
from jaxsmooth.math.magnitude import Magnitude, tighten
from jaxsmooth.program.systems import SOLVE
from jaxsmooth.rules.matrices import (
    MOST_UNKNOWNS,
    System,
    apart,
    stacked,
    whole_change,
    whole_system,
)
from jaxsmooth.rules.matvec import matrix_of
from jaxsmooth.rules.registry import Local, define
from jaxsmooth.rules.systems import SystemRule

# Substitution is written out row by row for traced numbers.
_MOST_ROWS = 64


def masked(m: Magnitude, mask: np.ndarray) -> Magnitude:
    """The magnitude with the matrices' entries off the mask left out."""
    if m.entries is None:
        return m
    entries = namespace(m.entries).where(mask, m.entries, 0.0)
    return tighten(stacked(entries, 1), m.norm, m.total)


class TriangularRule(SystemRule):
    """triangular_solve(A, B): X with op(A) X = B, or X op(A) = B; batch axes in front."""

    def side(self, eq: Local) -> int:
        return 1

    def columns(self, eq: Local, stack: Array) -> Array:
        stack = stacked(stack, 1)
        return stack if eq.params["left_side"] else namespace(stack).swapaxes(stack, -1, -2)

    def back(self, eq: Local, stack: Array) -> Array:
        if not eq.params["left_side"]:
            stack = namespace(stack).swapaxes(stack, -1, -2)
        return stack.reshape(len(stack), *eq.ranges[1].shape)

    def _transposed(self, eq: Local) -> bool:
        # X op(A) = B is op(A)ᵀ Xᵀ = Bᵀ.
        return bool(eq.params["transpose_a"]) == bool(eq.params["left_side"])

    def _turn(self, eq: Local, stack: Array) -> Array:
        return namespace(stack).swapaxes(stack, -1, -2) if self._transposed(eq) else stack

    def _mask(self, eq: Local) -> np.ndarray:
        """Which entries of A count."""
        size, unit = eq.ranges[0].shape[-1], int(bool(eq.params["unit_diagonal"]))
        lower = np.tri(size, k=-unit) > 0
        return lower if eq.params["lower"] else lower.T

    def system(self, eq: Local) -> System:
        a, mask = eq.ranges[0], self._mask(eq)
        xp = namespace(a.center, a.spread)
        fixed = np.eye(len(mask)) if eq.params["unit_diagonal"] else 0.0
        center = stacked(xp.where(mask, a.center, fixed), 0)
        spread = stacked(xp.where(mask, a.spread, 0.0), 0)
        radii = xp.minimum(apart(a), norm2(spread, (-2, -1)))
        matrices = Matrices(self._turn(eq, center), self._turn(eq, spread), radii)
        return System(matrices, a.gains, a.rest, a.radius)

    def inverses(self, eq: Local, system: System) -> Inverses:
        found, a = enclose_inverses(system.matrices), eq.ranges[0]
        if "inverses" in a.memo and not eq.params["unit_diagonal"] and eq.params["lower"]:
            norms = namespace(found.norms, a.memo["inverses"]).minimum(
                found.norms, a.memo["inverses"]
            )
            entries = namespace(norms, found.entries).minimum(found.entries, norms[:, None, None])
            found = replace(found, norms=norms, entries=entries)
        if eq.known[0] is not None or (is_traced(a.lo, a.hi) and a.shape[-1] > _MOST_ROWS):
            return found
        # A bound that needs no small set, only a diagonal away from 0.
        least = namespace(a.lo, a.hi).diagonal(stacked(a.absmin, 0), 0, -2, -1)
        if eq.params["unit_diagonal"]:
            least = np.ones(least.shape)
        size = up(abs(system.matrices.center) + system.matrices.spread)
        upper = bool(eq.params["lower"]) == self._transposed(eq)
        flip = (slice(None), slice(None, None, -1), slice(None, None, -1))
        if upper:
            least, size = least[:, ::-1], size[flip]
        entries = triangular_inverses(least, size)
        entries = entries[flip] if upper else entries
        xp = namespace(entries, found.entries)
        return replace(
            found,
            norms=xp.minimum(found.norms, spectral_norms(entries)),
            entries=xp.minimum(found.entries, entries),
        )

    def change(self, eq: Local, magnitudes: Sequence[Magnitude | None]) -> Magnitude | None:
        m = magnitudes[0]
        if m is None:
            return None
        m = masked(m, self._mask(eq))
        return m if m.entries is None else replace(m, entries=self._turn(eq, m.entries))


class SolveRule(SystemRule):
    """S⁻¹ b, recognised as one function; see `jaxsmooth.program.systems`."""

    def side(self, eq: Local) -> int:
        return 1

    def _order(self, eq: Local) -> tuple[int, ...]:
        """Axes of b: those that S shares, that of the unknowns, and the others."""
        shared, axis = eq.params["shared"], eq.params["axis"]
        rank = len(eq.ranges[1].shape)
        return (*shared, axis, *(a for a in range(rank) if a != axis and a not in shared))

    def columns(self, eq: Local, stack: Array) -> Array:
        shape, order = eq.ranges[1].shape, self._order(eq)
        moved = namespace(stack).transpose(stack, (0, *(a + 1 for a in order)))
        count = math.prod(shape[a] for a in eq.params["shared"])
        rest = math.prod(shape[a] for a in order[len(eq.params["shared"]) + 1 :])
        return moved.reshape(len(stack), count, shape[eq.params["axis"]], rest)

    def back(self, eq: Local, stack: Array) -> Array:
        shape, order = eq.ranges[1].shape, self._order(eq)
        stack = stack.reshape(len(stack), *(shape[a] for a in order))
        return namespace(stack).transpose(stack, (0, *(1 + np.argsort(order)).tolist()))

    def system(self, eq: Local) -> System:
        return whole_system(eq)

    def change(self, eq: Local, magnitudes: Sequence[Magnitude | None]) -> Magnitude | None:
        m = magnitudes[0]
        return None if m is None else whole_change(eq, m)


class LinearSolveRule(SystemRule):
    """custom_linear_solve of a known matrix, which is read off its product."""

    def _counts(self, eq: Local) -> tuple[int, int]:
        """(constants of the product, constants of all functions)."""
        lengths = eq.params["const_lengths"]
        return lengths.matvec, sum(lengths)

    def side(self, eq: Local) -> int:
        constants = self._counts(eq)[1]
        if len(eq.ranges) != constants + 1:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} has several right-hand sides; stack them."
            )
        return constants

    def system(self, eq: Local) -> System:
        constants = eq.known[: self.side(eq)]
        if any(k is None or is_traced(k) for k in constants):
            raise errors.UnsupportedPrimitiveError(
                f"{eq} solves a system by a function of its own, with a matrix that is not known. "
                "Make the matrix known with jaxsmooth.fixed, use jnp.linalg.solve, or iterate a "
                "fixed number of products (as Newton and Jacobi do)."
            )
        shape = eq.ranges[self.side(eq)].shape
        size = math.prod(shape)
        if size > MOST_UNKNOWNS:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} has {size} unknowns, too many to bound its inverse. Multiply by an inverse "
                "that is known."
            )
        product, count = eq.params["jaxprs"].matvec, self._counts(eq)[0]
        matrix, spread = matrix_of(product, constants[:count], shape, eq)
        matrices = Matrices(matrix[None], spread[None], norm2(spread)[None])
        return System(matrices, np.zeros(eq.leaves), norm2(spread), norm2(spread))

    def columns(self, eq: Local, stack: Array) -> Array:
        return stack.reshape(len(stack), 1, -1, 1)

    def back(self, eq: Local, stack: Array) -> Array:
        return stack.reshape(len(stack), *eq.ranges[self.side(eq)].shape)


define(TriangularRule(), p.triangular_solve_p)
define(SolveRule(), SOLVE)
define(LinearSolveRule(), p.linear_solve_p)
