"""(1 - z)·a + z·b, elementwise: between a and b where z is in [0, 1].

With w = 1 - z and bounds over the ranges,

    range        the hull of a and b;  ball around a's center, or w⊙(a - ac) + z⊙(b - bc)
    first order  |b - a| ⊙ dz + w ⊙ da + z ⊙ db, where the last two weigh by w + z = 1
    second order dz ⊙ (db - da), in both orders
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxsmooth.math.array import Array, down, namespace, norm2, times, up
from jaxsmooth.math.magnitude import Magnitude, Response, add, scale, tighten
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.combinations import COMBINATION
from jaxsmooth.rules.products import interval_product, mixed_response
from jaxsmooth.rules.registry import Local, Rule, define


class CombinationRule(Rule):
    """A combination of two values by a third."""

    def weights(self, eq: Local) -> tuple[Array, Array]:
        """Largest |1 - z| and |z|, elementwise."""
        z = eq.ranges[0]
        xp = namespace(z.lo, z.hi)
        return up(xp.maximum(abs(1 - z.lo), abs(1 - z.hi))), z.absmax

    def range(self, eq: Local) -> list[Range]:
        z, a, b = eq.ranges
        xp = namespace(*(x for r in eq.ranges for x in (r.lo, r.hi, r.center, r.radius)))
        rest = down(1 - z.hi), up(1 - z.lo)
        one, two = (
            interval_product(rest, (a.lo, a.hi)),
            interval_product((z.lo, z.hi), (b.lo, b.hi)),
        )
        convex = (z.lo >= 0) & (z.hi <= 1)
        lo, hi = down(one[0] + two[0]), up(one[1] + two[1])
        lo = xp.where(convex, xp.maximum(lo, xp.minimum(a.lo, b.lo)), lo)
        hi = xp.where(convex, xp.minimum(hi, xp.maximum(a.hi, b.hi)), hi)
        # v - c = w (a - ac) + z (b - bc) + (z - zc)(bc - ac), with c the combination of centers.
        center = (1 - z.center) * a.center + z.center * b.center
        size = up(abs(a.center) + abs(b.center)) * (1 + 2 * abs(z.center))
        rounding = norm2(up(up(size, 8) - size))
        w, v = (xp.max(x, initial=0.0) for x in self.weights(eq))
        way = xp.max(up(abs(b.center - a.center)), initial=0.0)
        parts = [(w, a), (v, b), (way, z)]
        return [
            enclose(
                eq.radii,
                lo,
                hi,
                center,
                up(sum(times(f, r.gains) for f, r in parts), 5),
                up(sum(times(f, r.rest) for f, r in parts) + rounding, 5),
                up(sum(times(f, r.radius) for f, r in parts) + rounding, 5),
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        _, a, b = eq.ranges
        dz, da, db = magnitudes
        xp = namespace(a.lo, a.hi, b.lo, b.hi)
        way = up(xp.maximum(abs(b.hi - a.lo), abs(a.hi - b.lo)))
        turned = None if dz is None else scale(dz, way)
        return [add(turned, self._mixed(eq, da, db))]

    def _mixed(self, eq: Local, da: Magnitude | None, db: Magnitude | None) -> Magnitude | None:
        """(1 - z) ⊙ da + z ⊙ db."""
        w, v = self.weights(eq)
        one = None if da is None else scale(da, w)
        two = None if db is None else scale(db, v)
        whole = add(one, two)
        if whole is None or da is None or db is None:
            return whole
        z = eq.ranges[0]
        ends = [(abs(1 - end), abs(end)) for end in (z.lo, z.hi)]
        xp = namespace(whole.norm, *(x for pair in ends for x in pair))
        # ‖w da + z db‖ <= max (w² + z²)^½ (‖da‖² + ‖db‖²)^½; convex in z.
        both = [xp.sqrt(u * u + t * t) for u, t in ends]
        most = up(xp.max(xp.maximum(*both), initial=0.0), 6)
        norm = xp.minimum(whole.norm, up(times(most, norm2(xp.stack([da.norm, db.norm]), 0)), 2))
        if da.entries is None or db.entries is None:
            return tighten(None, norm, whole.total)
        # |1 - z| da + |z| db is convex in z, so largest at an end.
        sums = [times(u, da.entries) + times(t, db.entries) for u, t in ends]
        entries = up(xp.maximum(*sums), 4)
        return tighten(entries, norm, whole.total)

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        dz, da, db = magnitudes
        ones = np.ones(eq.equation.outputs[0].shape)
        return [mixed_response(ones, dz, add(da, db))]


define(CombinationRule(), COMBINATION)
