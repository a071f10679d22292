"""Matrix products: dot_general."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth.math.array import Array, namespace, norm2, up
from jaxsmooth.math.norms import spectral_norm
from jaxsmooth.rules.bilinear import BilinearRule
from jaxsmooth.rules.registry import Local, define

# Beyond this many batched matrices their Frobenius norms are used.
_MOST_MATRICES = 64


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
        if count > _MOST_MATRICES:
            return xp.max(norm2(matrices, (1, 2)), initial=0.0)
        norms = [spectral_norm(m) for m in matrices]
        return xp.max(xp.stack(norms)) if norms else 0.0

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


define(DotRule(), p.dot_general_p)
