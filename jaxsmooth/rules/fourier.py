"""Discrete Fourier transforms along one axis, linear maps of pairs of parts.

    range        A(mid) ± |A|(half widths),      ball around A(center) of radius ‖A‖₂·radius
    first order  entries min(|A| e, row norms·‖d‖),   norm ‖A‖₂‖d‖; of the irfft ‖g e‖, too

Norms, rows and columns are those of `jaxsmooth.math.fourier`, and exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.math.array import Array, namespace, norm2, times, up
from jaxsmooth.math.fourier import Transform
from jaxsmooth.math.magnitude import Magnitude, column, tighten
from jaxsmooth.math.range import Range, lipschitz_image
from jaxsmooth.rules.registry import Local, Rule, define


class FourierRule(Rule):
    """fft, ifft, rfft or irfft along one axis, which ``axis`` counts without that of parts."""

    def transform(self, eq: Local) -> Transform:
        params = eq.params
        return Transform(params["kind"], params["length"], params.get("counted"))

    def first(self, eq: Local, x: Array) -> Array:
        """A stack of operands with the axis of the transform last, but for that of parts."""
        end = x.ndim - 1 if self.transform(eq).real_input else x.ndim - 2
        return namespace(x).moveaxis(x, eq.params["axis"] + 1, end)

    def back(self, eq: Local, y: Array) -> Array:
        """The inverse of `first`, of results."""
        end = y.ndim - 1 if self.transform(eq).real_output else y.ndim - 2
        return namespace(y).moveaxis(y, end, eq.params["axis"] + 1)

    def along(self, eq: Local, per_entry: np.ndarray, rank: int, real: bool) -> np.ndarray:
        """Numbers along the axis (and of parts), shaped for an array of that rank."""
        axis = eq.params["axis"]
        shape = [1] * rank
        shape[axis] = per_entry.shape[0]
        if not real:
            shape[-1] = 2
        return per_entry.reshape(shape)

    def range(self, eq: Local) -> list[Range]:
        (x,), map_ = eq.ranges, self.transform(eq)
        xp = namespace(x.lo, x.hi, x.center, x.radius)
        center, off = self._at(eq, x.center)
        bounded = xp.isfinite(x.lo) & xp.isfinite(x.hi)
        lo, hi = xp.where(bounded, x.lo, x.center), xp.where(bounded, x.hi, x.center)
        middle = lo / 2 + hi / 2
        half = xp.where(bounded, up(xp.maximum(hi - middle, middle - lo)), np.inf)
        value, slack = self._at(eq, middle)
        distance = up(self._sizes(eq, half[None])[0] + slack, 2)
        lo, hi = value - distance, value + distance
        rows = self.along(eq, map_.rows, len(eq.equation.outputs[0].shape), map_.real_output)
        reach = up(up(times(rows, x.radius)) + off, 2)
        lo, hi = xp.maximum(lo, center - reach), xp.minimum(hi, center + reach)
        # Of results, moduli count: of those of intervals only entries are known.
        rounding = norm2(xp.broadcast_to(off, np.shape(center)))
        pad = xp.maximum(abs(lo), abs(hi))
        lo, hi = lo - (up(pad) - pad), hi + (up(pad) - pad)
        return [
            lipschitz_image(
                eq.radii, x, map_.norm, lo, hi, center, rounding, up(times(map_.norm, x.norm))
            )
        ]

    def _at(self, eq: Local, x: Array) -> tuple[Array, Array]:
        """The transform of one array, and a bound of its rounding error."""
        map_, moved = self.transform(eq), self.first(eq, x[None])
        value = map_.apply(moved)
        error = namespace(value).broadcast_to(map_.rounding(moved), np.shape(value))
        return self.back(eq, value)[0], self.back(eq, error)[0]

    def _sizes(self, eq: Local, stack: Array) -> Array:
        return self.back(eq, self.transform(eq).sizes(self.first(eq, stack)))

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,), map_ = magnitudes, self.transform(eq)
        if m is None:
            return [None]
        norm, total = up(times(map_.norm, m.norm)), None
        if m.total is not None:
            norm = namespace(norm, m.total).minimum(norm, up(times(map_.column, m.total)))
            total = up(times(map_.column_sum, m.total))
        if m.entries is None:
            return [tighten(None, norm, total)]
        if map_.real_output:
            gains = self.along(eq, map_.gains, len(eq.ranges[0].shape), real=False)
            axes = tuple(range(1, m.entries.ndim))
            by_gains = norm2(up(times(gains, m.entries)), axes)
            norm = namespace(norm, by_gains).minimum(norm, by_gains)
        rank = len(eq.equation.outputs[0].shape)
        rows = self.along(eq, map_.rows, rank, map_.real_output)
        by_rows = up(times(rows, column(m.norm, rank)))
        pushed = self._sizes(eq, m.entries)
        return [tighten(namespace(pushed, by_rows).minimum(pushed, by_rows), norm, total)]


define(FourierRule(), p.fft_p)
