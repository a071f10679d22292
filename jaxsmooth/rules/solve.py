"""Linear systems with a known matrix: triangular_solve, custom_linear_solve.

The solution is T b with T = S⁻¹, and M an approximation with ‖T - M‖₂ <= δ proved:

    range        M c ± (|M| spread + δ‖b‖),   ball of radius (‖M‖ + δ) radius
    first order  entries |M| e + δ‖d‖,        norm (‖M‖ + δ)‖d‖
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, concretely, gamma, is_traced, namespace, norm2, times, up
from jaxsmooth.math.inverse import enclose_inverse
from jaxsmooth.math.magnitude import Magnitude, column, tighten
from jaxsmooth.math.norms import spectral_norm
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.rules.registry import Local, Rule, define

# Larger systems are not materialised.
_MOST_UNKNOWNS = 1024

Solution = tuple[np.ndarray, float, float]
"""(M, δ, bound of ‖T‖₂)."""


class SolveRule(Rule):
    """Base: subclasses give the matrix of the system and the axis of the right-hand side."""

    def system(self, eq: Local) -> tuple[np.ndarray, float]:
        """The matrix S, and a bound of its own rounding error in 2-norm."""
        raise NotImplementedError

    def side(self, eq: Local) -> int:
        """Position of the operand that is the right-hand side."""
        raise NotImplementedError

    def columns(self, eq: Local, stack: Array) -> Array:
        """A stack of right-hand sides as (N, …, n), the unknowns last."""
        raise NotImplementedError

    def back(self, eq: Local, stack: Array) -> Array:
        """The inverse of `columns`."""
        raise NotImplementedError

    def solution(self, eq: Local) -> Solution:
        """M, δ and the norm."""

        def compute() -> Solution:
            matrix, rounding = self.system(eq)
            found = enclose_inverse(matrix, rounding)
            if found is None:
                raise errors.CertificationError(
                    f"{eq} solves a system whose matrix is not proved to be regular. Use one that "
                    "is better conditioned."
                )
            inverse, error = found
            return inverse, error, float(up(spectral_norm(inverse) + error, 2))

        return eq.always("solution", compute)

    def check(self, eq: Local) -> None:
        """Refuse matrices that are not known."""
        rest = [i for i in range(len(eq.ranges)) if i != self.side(eq)]
        if any(eq.known[i] is None or is_traced(eq.known[i]) for i in rest):
            raise errors.UnsupportedPrimitiveError(
                f"{eq} solves a system whose matrix is not known, and bounds of unknown inverses "
                "are not proved here. Make the matrix known with jaxsmooth.fixed, or iterate a "
                "fixed number of products (as Newton and Jacobi do)."
            )

    def _apply(self, eq: Local, matrix: np.ndarray, stack: Array) -> Array:
        moved = self.columns(eq, stack)
        return self.back(eq, namespace(moved).matmul(moved, matrix.T))

    def _sizes(self, eq: Local, stack: Array) -> Array:
        """|M| of a stack of sizes, infinite where one of them is met."""
        inverse, _, _ = self.solution(eq)
        size, terms = abs(inverse), len(inverse) + 2
        xp = namespace(stack)
        finite = up(self._apply(eq, size, xp.where(xp.isinf(stack), 0.0, stack)), terms)
        open_ = self._apply(eq, (size > 0) * 1.0, xp.where(xp.isinf(stack), 1.0, 0.0))
        return xp.where(open_ > 0.5, np.inf, finite)

    def range(self, eq: Local) -> list[Range]:
        self.check(eq)
        inverse, error, norm = self.solution(eq)
        x = eq.ranges[self.side(eq)]
        xp = namespace(x.lo, x.hi, x.radius)
        center = self._apply(eq, inverse, x.center[None])[0]
        rounding = self._apply(eq, abs(inverse), abs(x.center)[None])[0]
        rounding = rounding * gamma(len(inverse) + 2, rounding)
        off = up(times(error, norm2(x.center)), 2)
        distance = self._sizes(eq, x.spread[None])[0] + up(times(error, x.norm + x.radius), 2)
        distance = up(xp.minimum(distance, up(times(norm, x.radius)) + off) + rounding + off, 4)
        apart = up(norm2(rounding) + off, 2)
        return [
            enclose(
                eq.radii, center - distance, center + distance, center,
                up(times(norm, x.gains)),
                up(times(norm, x.rest) + apart, 2),
                up(times(norm, x.radius) + apart, 2),
            )
        ]  # fmt: skip

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = magnitudes[self.side(eq)]
        if m is None:
            return [None]
        _, error, norm = self.solution(eq)
        whole = up(times(norm, m.norm))
        if m.entries is None:
            return [Magnitude(None, whole)]
        spread = column(times(error, m.norm), m.entries.ndim - 1)
        return [tighten(up(self._sizes(eq, m.entries) + spread, 2), whole)]


class TriangularRule(SolveRule):
    """triangular_solve(A, B): X with op(A) X = B, or X op(A) = B."""

    def side(self, eq: Local) -> int:
        return 1

    def system(self, eq: Local) -> tuple[np.ndarray, float]:
        params = eq.params
        a = np.asarray(eq.known[0], np.float64)
        if a.ndim != 2 or len(a) > _MOST_UNKNOWNS:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} solves many or large systems; vmap over right-hand sides only, or multiply "
                "by an inverse that is known."
            )
        a = np.tril(a) if params["lower"] else np.triu(a)
        if params["unit_diagonal"]:
            np.fill_diagonal(a, 1.0)
        a = a.T if params["transpose_a"] else a
        # X op(A) = B is op(A)ᵀ Xᵀ = Bᵀ.
        return (a if params["left_side"] else a.T), 0.0

    def columns(self, eq: Local, stack: Array) -> Array:
        return namespace(stack).moveaxis(stack, -2 if eq.params["left_side"] else -1, -1)

    def back(self, eq: Local, stack: Array) -> Array:
        return namespace(stack).moveaxis(stack, -1, -2 if eq.params["left_side"] else -1)


class LinearSolveRule(SolveRule):
    """custom_linear_solve (jnp.linalg.solve): the matrix is read off its matrix product."""

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

    def system(self, eq: Local) -> tuple[np.ndarray, float]:
        shape = eq.ranges[self.side(eq)].shape
        size = int(np.prod(shape))
        if size > _MOST_UNKNOWNS:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} has {size} unknowns, too many to bound its inverse. Multiply by an inverse "
                "that is known."
            )
        product = jaxpr_as_fun(eq.params["jaxprs"].matvec)
        constants = eq.known[: self._counts(eq)[0]]

        def column_of(unit: Any) -> Any:
            (found,) = product(*constants, unit.reshape(shape))
            return found.reshape(-1)

        with concretely():
            constants = [
                jnp.asarray(np.asarray(k, np.float64 if np.asarray(k).dtype.kind == "f" else None))
                for k in constants
            ]
            matrix = np.asarray(jax.vmap(column_of)(jnp.eye(size)), np.float64).T
        # A product with a unit vector has one term that is not 0.
        return matrix, float(norm2(matrix)) * 2.0**-48

    def columns(self, eq: Local, stack: Array) -> Array:
        return stack.reshape(len(stack), -1)

    def back(self, eq: Local, stack: Array) -> Array:
        return stack.reshape(len(stack), *eq.ranges[self.side(eq)].shape)


define(TriangularRule(), p.triangular_solve_p)
define(LinearSolveRule(), p.linear_solve_p)
