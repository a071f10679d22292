"""Matrix products: dot_general."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth.math.array import Array, is_traced, namespace, norm2, up
from jaxsmooth.math.norms import spectral_norm
from jaxsmooth.rules.bilinear import BilinearRule
from jaxsmooth.rules.registry import Local, define

# Beyond this many batched matrices their Frobenius norms are used.
MOST_MATRICES = 64


class DotRule(BilinearRule):
    """dot_general: contraction over some axes, batched over others.

    Params: ``dimension_numbers = ((lhs contracting, rhs contracting), (lhs batch, rhs batch))``.
    Result axes: batch, free axes of lhs, free axes of rhs. ‖XY‖_F <= ‖X‖_F ‖Y‖₂, so β = 1.
    """

    def product(self, eq: Local) -> Any:
        numbers = eq.params["dimension_numbers"]

        def product(x: Any, y: Any) -> Any:
            return lax.dot_general(x, y, numbers, precision=lax.Precision.HIGHEST)

        return product

    def multiply(self, eq: Local, x: Array, y: Array) -> Array:
        if is_traced(x, y):
            return super().multiply(eq, x, y)
        return self.multiply_stack(eq, 0, x[None], y)[0]

    def multiply_stack(self, eq: Local, operand: int, stack: Array, held: Array) -> Array:
        if is_traced(stack, held):
            return super().multiply_stack(eq, operand, stack, held)
        # NumPy's matrix product is several times faster here than compiling one for each shape.
        left, right = (stack, held[None]) if operand == 0 else (held[None], stack)
        left, right = self._matrices(eq, 0, left), self._matrices(eq, 1, right)
        result = np.matmul(left, right)
        return result.reshape(len(stack), *eq.equation.outputs[0].shape)

    def _matrices(self, eq: Local, operand: int, stack: Array) -> Array:
        """(N, batch, free, contracted) of operand 0, (N, batch, contracted, free) of 1."""
        contracting, batch = self.axes(eq, operand)
        free = self.free(eq, operand)
        groups = (batch, free, contracting) if operand == 0 else (batch, contracting, free)
        shape = stack.shape[1:]
        moved = np.transpose(stack, (0, *(a + 1 for axes in groups for a in axes)))
        return moved.reshape(len(stack), *(math.prod(shape[a] for a in axes) for axes in groups))

    def terms(self, eq: Local) -> int:
        contracting, _ = self.axes(eq, 0)
        return max(1, math.prod(eq.ranges[0].shape[a] for a in contracting))

    def beta(self, eq: Local) -> float:
        return 1.0

    def axes(self, eq: Local, operand: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(contracting, batch) axes of an operand."""
        contract, batch = eq.params["dimension_numbers"]
        return tuple(contract[operand]), tuple(batch[operand])

    def free(self, eq: Local, operand: int) -> tuple[int, ...]:
        """Axes of an operand that are neither contracted nor batched."""
        contracting, batch = self.axes(eq, operand)
        rank = len(eq.ranges[operand].shape)
        return tuple(a for a in range(rank) if a not in contracting + batch)

    def held_norm(self, eq: Local, held: int, value: Array) -> Array:
        contracting, batch = self.axes(eq, held)
        free = self.free(eq, held)
        xp = namespace(value)
        shape = np.shape(value)
        count, rows = (math.prod(shape[a] for a in axes) for axes in (batch, contracting))
        matrices = xp.transpose(value, batch + contracting + free).reshape(count, rows, -1)
        if count > MOST_MATRICES:
            return xp.max(norm2(matrices, (1, 2)), initial=0.0)
        norms = [spectral_norm(m) for m in matrices]
        return xp.max(xp.stack(norms)) if norms else 0.0

    def live_norm(self, eq: Local, operand: int, live: np.ndarray) -> Array:
        held = 1 - operand
        contracting, batch = self.axes(eq, operand)
        if batch or live.all():
            return np.inf
        # Axes in the order of the contraction, which pairs them with those held.
        reached = live.any(axis=self.free(eq, operand), keepdims=True)
        reached = np.transpose(reached, contracting + self.free(eq, operand))
        reached = reached.reshape(reached.shape[: len(contracting)])
        seen, norm = eq.static.get(("live", held), (None, np.inf))
        if seen is None or not np.array_equal(seen, reached):
            axes, _ = self.axes(eq, held)
            center = eq.ranges[held].center
            shape = [n if a in axes else 1 for a, n in enumerate(center.shape)]
            mask = np.transpose(reached, np.argsort(axes)).reshape(shape)
            norm = self.held_norm(eq, held, np.where(mask, center, 0.0))
            eq.static["live", held] = reached, norm
        return norm

    def slices(self, eq: Local, operand: int, squares: Array, cap: Array) -> Array:
        contracting, batch = self.axes(eq, operand)
        free = self.free(eq, operand)
        xp = namespace(squares, cap)
        moved = xp.transpose(squares, batch + free + contracting)
        kept = len(batch) + len(free)
        norms = norm2(moved, tuple(range(kept, moved.ndim)))
        norms = xp.minimum(norms, cap)
        # Place the free axes where the result has them.
        others = (1,) * len(self.free(eq, 1 - operand))
        b, f = norms.shape[: len(batch)], norms.shape[len(batch) :]
        return up(norms.reshape(b + (f + others if operand == 0 else others + f)))

    def column_norms(self, eq: Local, held: int) -> tuple[Array, Array]:
        r, free = eq.ranges[held], self.free(eq, held)
        xp = namespace(r.lo, r.hi, r.radius)
        size = math.prod(r.shape[a] for a in free)
        sums = up(xp.sum(r.absmax, axis=free), size)
        return xp.max(r.slices(free), initial=0.0), xp.max(sums, initial=0.0)


define(DotRule(), p.dot_general_p)
