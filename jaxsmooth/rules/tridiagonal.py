"""tridiagonal_solve(l, d, u, B): S X = B with the rows (…, l_i, d_i, u_i, …) of S.

The entries of the three diagonals are entries of S, so that ‖dS‖_F² is the sum of theirs. The
first entry of l and the last one of u do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.math.array import Array, namespace, norm2
from jaxsmooth.math.inverse import Matrices
from jaxsmooth.math.magnitude import Magnitude, tighten
from jaxsmooth.rules.matrices import System, stacked
from jaxsmooth.rules.registry import Local, define
from jaxsmooth.rules.systems import SystemRule


def _placed(parts: Sequence[Array | None]) -> Array:
    """Diagonals (*axes, n), below, on and above the main one, as matrices (*axes, n, n)."""
    total: Array = 0.0
    for offset, part in zip((-1, 0, 1), parts, strict=True):
        if part is not None:
            here = np.eye(part.shape[-1], k=offset) > 0
            total = total + namespace(part).where(here, part[..., None], 0.0)
    return total


def _joint(parts: Sequence[Array]) -> Array:
    """Length of what has parts of these lengths."""
    return norm2(namespace(*parts).stack(parts), 0)


class TridiagonalRule(SystemRule):
    """Systems along the last axis of the diagonals, batch axes in front."""

    def side(self, eq: Local) -> int:
        return 3

    def columns(self, eq: Local, stack: Array) -> Array:
        return stacked(stack, 1)

    def back(self, eq: Local, stack: Array) -> Array:
        return stack.reshape(len(stack), *eq.ranges[3].shape)

    def fixed(self, eq: Local) -> bool:
        return all(known is not None for known in eq.known[:3])

    def system(self, eq: Local) -> System:
        diagonals = eq.ranges[:3]
        center = stacked(_placed([r.center for r in diagonals]), 0)
        spread = stacked(_placed([r.spread for r in diagonals]), 0)
        radii = _joint([r.apart((len(r.shape) - 1,)).reshape(-1) for r in diagonals])
        radii = namespace(radii, spread).minimum(radii, norm2(spread, (-2, -1)))
        return System(
            Matrices(center, spread, radii),
            _joint([r.gains for r in diagonals]),
            _joint([r.rest for r in diagonals]),
            _joint([r.radius for r in diagonals]),
        )

    def change(self, eq: Local, magnitudes: Sequence[Magnitude | None]) -> Magnitude | None:
        changes = [m for m in magnitudes[:3] if m is not None]
        if not changes:
            return None
        norm = _joint([m.norm for m in changes])
        if any(m.entries is None for m in changes):
            return tighten(None, norm)
        placed = _placed([None if m is None else m.entries for m in magnitudes[:3]])
        return tighten(stacked(placed, 1), norm)


define(TridiagonalRule(), p.tridiagonal_solve_p)
