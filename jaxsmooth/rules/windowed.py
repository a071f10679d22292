"""Smooth functions of many values, over windows: products and running log-sum-exps.

Every result is one function φ of the values in its window, with ‖∇φ‖₂ <= g and
‖∇²φ‖₂ <= h over their ranges. A value that lies in ``overlap`` windows counts in each:

    first order  entries <= Σ |φ_i| e_i,  norm <= max g·sqrt(overlap)·‖d‖
    second order entries <= Σ |φ_ij| a_i b_j <= h‖a_w‖‖b_w‖
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.math.array import Array, gamma, is_traced, namespace, norm2, times, up
from jaxsmooth.math.magnitude import Magnitude, Response, crossed, tighten
from jaxsmooth.math.range import Range, lipschitz_image
from jaxsmooth.rules.extrema import cumulative_windows, known_cumulative_windows
from jaxsmooth.rules.pooling import KnownWindows, Windows, known_reduced_axes, reduced_axes
from jaxsmooth.rules.products import interval_product
from jaxsmooth.rules.registry import Local, Rule, define, on_arrays


class WindowRule(Rule):
    """Base: subclasses enclose φ, its gradient and its Hessian's norm.

    Args:
      windows, known_windows: as in `jaxsmooth.rules.pooling`.
      fill: a value that changes nothing where it fills a window up.
    """

    def __init__(
        self, windows: Callable[[Local], Windows], known_windows: KnownWindows, fill: float
    ):
        self.windows = windows
        self.known_windows = known_windows
        self.fill = fill

    def gather(self, eq: Local, stack: Array, fill: float) -> Array:
        """Windows of a stack of arrays along a last axis."""
        if is_traced(stack):
            gather = self.windows(eq)
            return on_arrays(jax.vmap(lambda a: gather(a, fill)), stack)
        return self.known_windows(eq, np.asarray(stack), fill)

    def sides(self, eq: Local) -> tuple[Array, Array]:
        """Windows of the operand's bounds."""
        (x,) = eq.ranges
        return eq.once(
            "sides",
            lambda: tuple(self.gather(eq, side[None], self.fill)[0] for side in (x.lo, x.hi)),
        )

    def overlap(self, eq: Local) -> float:
        """The most windows that one value is in."""

        def compute() -> float:
            shape = eq.ranges[0].shape
            numbers = np.arange(math.prod(shape), dtype=float).reshape(1, *shape)
            places = self.known_windows(eq, numbers, -1.0).astype(int)
            return float(np.max(np.bincount(places[places >= 0], minlength=1), initial=0))

        return eq.always("overlap", compute)

    def values(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        """Enclosure of φ over windows with these bounds."""
        raise NotImplementedError

    def gradient(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        """(bounds of |φ_i|, bounds of ‖∇φ‖₂)."""
        raise NotImplementedError

    def hessian(self, lo: Array, hi: Array) -> Array:
        """Bounds of ‖∇²φ‖₂."""
        raise NotImplementedError

    def range(self, eq: Local) -> list[Range]:
        (x,) = eq.ranges
        lo, hi = self.values(*self.sides(eq))
        middle = self.gather(eq, x.center[None], self.fill)[0]
        below, above = self.values(middle, middle)
        xp = namespace(lo, hi, below, above)
        center = xp.where(xp.isfinite(below + above), (below + above) / 2, 0.0)
        rounding = norm2(xp.maximum(up(above - center), up(center - below)))
        factor = self._factor(eq)
        return [
            lipschitz_image(eq.radii, x, factor, lo, hi, center, rounding)
        ]  # fmt: skip

    def _gradient(self, eq: Local) -> tuple[Array, Array]:
        return eq.once("gradient", lambda: self.gradient(*self.sides(eq)))

    def _factor(self, eq: Local) -> Array:
        norms = self._gradient(eq)[1]
        root = up(np.sqrt(self.overlap(eq)))
        return up(root * namespace(norms).max(norms, initial=0.0))

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        norm = up(times(self._factor(eq), m.norm))
        if m.entries is None:
            return [Magnitude(None, norm)]
        slopes, norms = self._gradient(eq)
        inside = self.gather(eq, m.entries, 0.0)
        xp = namespace(inside, slopes)
        sums = up(xp.sum(times(slopes[None], inside), axis=-1), inside.shape[-1] + 2)
        products = up(times(norms[None], norm2(inside, -1)), 2)
        return [tighten(xp.minimum(sums, products), norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        bends = eq.once("hessian", lambda: self.hessian(*self.sides(eq)))
        xp = namespace(bends, m.norm)
        most = xp.max(bends, initial=0.0)
        overlap = self.overlap(eq)
        norm = up(times(up(np.sqrt(overlap)), m.norm))
        totals = up(most * overlap * times(m.norm[:, None], m.norm[None, :]), 4)
        if m.entries is None:
            return [Response(up(times(most, crossed(m.norm, norm)), 2), None, totals)]
        slices = norm2(self.gather(eq, m.entries, 0.0), -1)
        slices = xp.minimum(slices, m.norm.reshape((-1,) + (1,) * (slices.ndim - 1)))
        bent = times(bends[None], slices)
        peaks = xp.max(bent, axis=tuple(range(1, bent.ndim)), initial=0.0)
        joint = norm2(slices, 0)
        entries = up(times(bends, times(joint, joint)), 4)
        return [Response(up(crossed(peaks, norm), 3), entries, totals)]


class ProductRule(WindowRule):
    """Products. With m_i >= |x_i|: |φ_i| <= Π_{j≠i} m_j, and the Frobenius norm bounds ‖∇²φ‖."""

    def values(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        total = (lo[..., 0], hi[..., 0])
        for i in range(1, lo.shape[-1]):
            total = interval_product(total, (lo[..., i], hi[..., i]))
        return total

    def _sizes(self, lo: Array, hi: Array) -> Array:
        return namespace(lo, hi).maximum(abs(lo), abs(hi))

    def gradient(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        sizes = self._sizes(lo, hi)
        xp, count = namespace(sizes), sizes.shape[-1]
        ones = xp.ones(sizes.shape[:-1])
        before, after = [ones], [ones]
        for i in range(count - 1):
            before.append(times(before[-1], sizes[..., i]))
            after.append(times(after[-1], sizes[..., count - 1 - i]))
        slopes = up(xp.stack([times(a, b) for a, b in zip(before, after[::-1], strict=True)], -1),
                    2 * count)  # fmt: skip
        return slopes, norm2(slopes, -1)

    def hessian(self, lo: Array, hi: Array) -> Array:
        # Squares of the entries φ_ij, i < j, summed as the second elementary polynomial is.
        squares = self._sizes(lo, hi) ** 2
        xp = namespace(squares)
        shape = squares.shape[:-1]
        none, one, two = xp.ones(shape), xp.zeros(shape), xp.zeros(shape)
        for i in range(squares.shape[-1]):
            s = squares[..., i]
            two = times(two, s) + one
            one = times(one, s) + none
            none = times(none, s)
        return up(xp.sqrt(2 * two), 4 * squares.shape[-1] + 4)


class LogSumExpRule(WindowRule):
    """log Σ exp: slopes in the simplex, Hessian at most 1/2 (docs: theory)."""

    def values(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        ends = []
        for side, value in ((-1, self._value(lo)), (1, self._value(hi))):
            margin = (1 + abs(value)) * gamma(lo.shape[-1] + 64, value)
            ends.append(value + side * namespace(value).where(abs(value) < np.inf, margin, 0.0))
        return ends[0], ends[1]

    def _value(self, x: Array) -> Array:
        xp = namespace(x)
        top = xp.max(x, axis=-1, keepdims=True)
        safe = xp.where(xp.isfinite(top), top, 0.0)
        return xp.log(xp.sum(xp.exp(x - safe), axis=-1)) + safe[..., 0]

    def gradient(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        xp = namespace(lo, hi)
        # p_i is largest with x_i high and all others low.
        below = self._value(lo)[..., None]
        slopes = xp.minimum(1.0, up(xp.exp(xp.minimum(hi - below, 0.0)), 64))
        rest = xp.where(xp.isfinite(hi), slopes, xp.where(hi < 0, 0.0, 1.0))
        return rest, xp.minimum(1.0, norm2(rest, -1))

    def hessian(self, lo: Array, hi: Array) -> Array:
        return namespace(lo, hi).full(lo.shape[:-1], 0.5)


define(ProductRule(reduced_axes, known_reduced_axes, 1.0), p.reduce_prod_p)
define(ProductRule(cumulative_windows, known_cumulative_windows, 1.0), p.cumprod_p)
define(LogSumExpRule(cumulative_windows, known_cumulative_windows, -np.inf), p.cumlogsumexp_p)
