"""Elementwise equations of two variables: mul, div, pow.

φ(x, y) elementwise, with bounds over the ranges of |φ_x|, |φ_y|, |φ_xx|, |φ_xy|, |φ_yy|.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math import scalar
from jaxsmooth.math.array import Array, down, namespace, norm2, times, up
from jaxsmooth.math.magnitude import (
    Magnitude,
    Response,
    add,
    elementwise_response,
    scale,
    unbounded,
)
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.rules.elementwise import ScalarRule, exponent_of, image, magnitude_of
from jaxsmooth.rules.registry import Local, Rule, define

_RECIPROCAL = scalar.FACTS["reciprocal"]


def interval_product(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """Enclosure of the products of two intervals; 0·inf = 0."""
    xp = namespace(*a, *b)
    corners = [times(u, v) for u in a for v in b]
    lo = xp.minimum(xp.minimum(corners[0], corners[1]), xp.minimum(corners[2], corners[3]))
    hi = xp.maximum(xp.maximum(corners[0], corners[1]), xp.maximum(corners[2], corners[3]))
    return down(lo), up(hi)


class MulRule(Rule):
    """x·y elementwise."""

    def range(self, eq: Local) -> list[Range]:
        x, y = eq.ranges
        lo, hi = interval_product((x.lo, x.hi), (y.lo, y.hi))
        xp = namespace(lo, hi, x.center, y.center)
        center = times(x.center, y.center)
        rounding = norm2(center * 2.0**-50 if xp is np else up(abs(center)) - abs(center))
        # x y - xc yc = (x - xc) y + xc (y - yc) = (x - xc) yc + x (y - yc).
        largest = [xp.max(r.absmax, initial=0.0) for r in (x, y)]
        centers = [xp.max(abs(r.center), initial=0.0) for r in (x, y)]
        expansions = [(largest[1], centers[0]), (centers[1], largest[0])]
        radii = [up(times(a, x.radius) + times(b, y.radius), 3) for a, b in expansions]
        second = radii[1] < radii[0]
        a = xp.where(second, expansions[1][0], expansions[0][0])
        b = xp.where(second, expansions[1][1], expansions[0][1])
        return [
            enclose(
                eq.radii,
                lo,
                hi,
                center,
                up(times(a, x.gains) + times(b, y.gains), 3),
                up(times(a, x.rest) + times(b, y.rest) + rounding, 4),
                up(xp.minimum(radii[0], radii[1]) + rounding),
                up(xp.minimum(times(largest[1], x.norm), times(largest[0], y.norm))),
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        x, y = eq.ranges
        dx, dy = magnitudes
        return [
            add(
                None if dx is None else scale(dx, y.absmax),
                None if dy is None else scale(dy, x.absmax),
            )
        ]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        dx, dy = magnitudes
        found = mixed_response(np.ones(eq.equation.outputs[0].shape), dx, dy)
        for infinite, change in zip(eq.infinite, (dy, dx), strict=False):
            if infinite and change is not None:
                # Its slope is that infinite number, which a mask may hide but not undo.
                count = len(change.norm)
                return [Response(np.zeros((count, count)), None, singular=True)]
        return [found]


def mixed_response(mixed: Array, a: Magnitude | None, b: Magnitude | None) -> Response | None:
    """Response of φ_xy (a_x b_y + b_x a_y) with |φ_xy| <= mixed."""
    if a is None or b is None:
        return None
    xp = namespace(mixed, a.norm, b.norm)
    largest = xp.max(mixed, initial=0.0)
    whole = up(times(largest, times(a.norm[:, None], b.norm[None, :])), 2)
    totals = up(whole + whole.T)
    if a.entries is None or b.entries is None:
        return Response(totals, None, totals, unbounded(mixed))
    axes = tuple(range(1, a.entries.ndim))
    peaks_a = up(xp.max(times(mixed, a.entries), axis=axes, initial=0.0))
    peaks_b = up(xp.max(times(mixed, b.entries), axis=axes, initial=0.0))
    products = xp.minimum(
        times(peaks_a[:, None], b.norm[None, :]), times(a.norm[:, None], peaks_b[None, :])
    )
    joint = up(times(mixed, times(a.joint_entries(), b.joint_entries())), 3)
    both = xp.any((a.norm > 0) & (b.norm > 0))
    entries = xp.where(both, 2.0, 1.0) * joint
    return Response(up(products + products.T, 2), entries, totals, unbounded(mixed))


class DivRule(Rule):
    """x / y elementwise, y away from zero: x times the reciprocal of y."""

    def reciprocal(self, eq: Local) -> Range:
        def compute() -> Range:
            y = eq.ranges[1]
            if namespace(y.lo, y.hi) is np and np.any((y.lo <= 0) & (y.hi >= 0)):
                raise errors.CertificationError(
                    f"{eq} divides by a number whose range includes 0. Give tighter bounds, or "
                    "keep the divisor away from 0 (for example, add a positive constant)."
                )
            slope = magnitude_of(_RECIPROCAL.slope(y.lo, y.hi))
            return image(eq.radii, _RECIPROCAL, y, slope)

        return eq.once("reciprocal", compute)

    def guarded(self, eq: Local) -> Sequence[Range]:
        return eq.ranges[1:]

    def as_product(self, eq: Local) -> Local:
        return eq.view([eq.ranges[0], self.reciprocal(eq)], (0, 1))

    def range(self, eq: Local) -> list[Range]:
        if not np.issubdtype(eq.equation.outputs[0].dtype, np.integer):
            return MulRule().range(self.as_product(eq))
        # Integers are divided towards zero, whatever by zero.
        y = eq.ranges[1]
        lo, hi = np.full(y.shape, -np.inf), np.full(y.shape, np.inf)
        if namespace(y.lo, y.hi) is np and not np.any((y.lo <= 0) & (y.hi >= 0)):
            (real,) = MulRule().range(self.as_product(eq))
            lo, hi = np.trunc(real.lo), np.trunc(real.hi)
        return [enclose(eq.radii, lo, hi, np.zeros(y.shape), np.zeros(eq.leaves), np.inf)]

    def _reciprocal_magnitude(self, eq: Local, dy: Magnitude | None) -> Magnitude | None:
        y = eq.ranges[1]
        return None if dy is None else scale(dy, magnitude_of(_RECIPROCAL.slope(y.lo, y.hi)))

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        dx, dy = magnitudes
        pushed = [dx, self._reciprocal_magnitude(eq, dy)]
        return MulRule().first_order(self.as_product(eq), pushed)

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        x, y = eq.ranges
        dx, dy = magnitudes
        mixed = mixed_response(
            np.ones(eq.equation.outputs[0].shape), dx, self._reciprocal_magnitude(eq, dy)
        )
        if dy is None:
            return [mixed]
        bend = magnitude_of(_RECIPROCAL.curvature(y.lo, y.hi))
        own = elementwise_response(up(times(x.absmax, bend)), dy)
        return [own if mixed is None else sum_responses(own, mixed)]


def sum_responses(a: Response, b: Response) -> Response:
    """Response of a sum."""
    entries = None if a.entries is None or b.entries is None else up(a.entries + b.entries)
    totals = None if a.totals is None or b.totals is None else up(a.totals + b.totals)
    return Response(up(a.pairs + b.pairs), entries, totals, a.singular | b.singular)


class PowRule(ScalarRule):
    """x^y with one known exponent."""

    def __init__(self) -> None:
        super().__init__(self._facts)

    def _facts(self, eq: Local):
        exponent = exponent_of(eq)
        if exponent is None:
            raise errors.UnsupportedPrimitiveError(
                f"{eq}: powers need one known exponent. Write exp(y * log(x)) for others."
            )
        return eq.once("facts", lambda: scalar.power(exponent))


define(MulRule(), p.mul_p)
define(DivRule(), p.div_p)
