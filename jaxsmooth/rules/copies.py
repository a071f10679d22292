"""Copies of an operand's entries times known weights W.

An entry x_i that is in the result with the weights W_i1, W_i2, … moves it by |dx_i|·‖W_i‖₂, so
that the norm of this linear map is the largest ‖W_i‖₂; in 1-norms it is the largest ‖W_i‖₁.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxsmooth.math.array import Array, down, namespace, norm2, times, tiny, up
from jaxsmooth.math.magnitude import Magnitude, tighten
from jaxsmooth.math.range import Range, enclose, rounding_of
from jaxsmooth.program.copies import WEIGHTED_COPIES
from jaxsmooth.rules.registry import Local, Rule, define


class WeightedCopiesRule(Rule):
    """weights ⊙ copies."""

    def spread(self, eq: Local, stack: Array) -> Array:
        """The copies of the operands in a stack along a first axis."""
        axes, shape = eq.params["axes"], eq.equation.outputs[0].shape
        moved = [a for a in axes if a is not None]
        rest = [a for a in range(stack.ndim - 1) if a not in moved]
        xp = namespace(stack)
        turned = xp.transpose(stack, (0, *(a + 1 for a in (*moved, *rest))))
        wide = [1 if a is None else n for a, n in zip(axes, shape, strict=True)]
        return xp.broadcast_to(turned.reshape(len(stack), *wide), (len(stack), *shape))

    def norms(self, eq: Local) -> tuple[float, float]:
        """Norm of the map in 2-norms and in 1-norms."""

        def compute() -> tuple[float, float]:
            weights = eq.params["weights"]
            along = tuple(i for i, a in enumerate(eq.params["axes"]) if a is None)
            euclidean = np.max(norm2(weights, along), initial=0.0)
            sums = up(np.sum(abs(weights), axis=along), weights.size)
            return float(euclidean), float(np.max(sums, initial=0.0))

        return eq.always("norms", compute)

    def range(self, eq: Local) -> list[Range]:
        (x,), weights, (factor, _) = eq.ranges, eq.params["weights"], self.norms(eq)
        copies = [self.spread(eq, side[None])[0] for side in (x.lo, x.hi, x.center)]
        low, high, center = (times(weights, c) for c in copies)
        xp = namespace(low, high)
        lo, hi = xp.minimum(low, high), xp.maximum(low, high)
        rounding: Array = 0.0
        # Zeros and ones, of either sign, move entries exactly.
        if not np.all((weights == 0) | (abs(weights) == 1)):
            least = xp.where(weights == 0, 0.0, tiny(lo))
            lo, hi = down(lo) - least, up(hi) + least
            rounding = rounding_of(abs(center), 2)
        gains, rest, radius, size = (
            up(times(factor, part), 2) for part in (x.gains, x.rest, x.radius, x.size)
        )
        rest, radius = up(rest + rounding), up(radius + rounding)
        return [enclose(eq.radii, lo, hi, center, gains, rest, radius, size)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        factor, largest = self.norms(eq)
        norm = up(times(factor, m.norm))
        total = None if m.total is None else up(times(largest, m.total))
        if m.entries is None:
            return [tighten(None, norm, total)]
        entries = up(times(abs(eq.params["weights"]), self.spread(eq, m.entries)))
        return [tighten(entries, norm, total)]


define(WeightedCopiesRule(), WEIGHTED_COPIES)
