"""Euclidean norms, normalisations and centring along axes.

Per slice z, with r = ‖z‖₂, s = √(a r² + c), and the bounds r₀ <= r <= r₁ over the range:

    norm        s                gradient a z/s: ℓ = a r/s <= √a;  Hessian at most a/s
    normalised  z/s              Jacobian I/s - a z zᵀ/s³: ℓ = 1/s;
                                 L <= √a·min(48/(25√5 c), 2/(√3 s²))
    squares     ‖z‖²             gradient 2z: ℓ = 2r, L = 2
    centered    z - mean(z)      an orthogonal projection: ℓ = 1

The second derivative of z/s is, with u = √a z and up to the factor √a, the third derivative
of √(‖u‖² + c), a symmetric trilinear form, whose norm is attained on the diagonal (Banach):
with t = ⟨u, a⟩ <= ‖u‖ it is 3t/s³·(1 - t²/s²). For fixed s that is largest at t = s/√3,
where it is 2/(√3 s²). Over all u with c > 0 it is largest where t = ‖u‖ = √c/2, where it is
48/(25√5 c).

Between slices z and w, z/s differs by at most 2‖z - w‖/(s(z) + s(w)) (Dunkl and Williams,
"A simple norm inequality", 1964, of the vectors (√a z, √c)).

Where c = 0 and a slice can be 0, its norm has a kink there, and is smoothed as the radial
function φ(r) of a kernel of |r|: both eigenvalues of its Hessian, φ'' and φ'/r, are at most
the kernel's K/μ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsmooth import errors
from jaxsmooth.math.array import Array, down, gamma, namespace, norm2, times, tiny, up
from jaxsmooth.math.kernels import KERNELS, Kernel, working_dtype
from jaxsmooth.math.magnitude import Magnitude, Response, crossed, tighten
from jaxsmooth.math.radial import length
from jaxsmooth.math.range import Range, enclose, lipschitz_image, within
from jaxsmooth.program.graph import Equation
from jaxsmooth.program.norms import CENTERED, NORM, NORMALISED
from jaxsmooth.program.squares import SQUARES
from jaxsmooth.rules.composites import AlongAxes
from jaxsmooth.rules.registry import KinkRule, Local, Rule, Site, define

_STEEPEST = 48 / (25 * math.sqrt(5))
_FARTHER = 2 / math.sqrt(3)


class _Slices(AlongAxes):
    """Base of the two functions of slices' norms."""

    def scale(self, eq: Local) -> float:
        """The number a."""
        return float(eq.params["scale"])

    def offset(self, eq: Local) -> float:
        """The number c."""
        return float(eq.params["offset"])

    def total(self, eq: Local, squares: Array) -> Array:
        """Sums over slices, kept dimensions."""
        return namespace(squares).sum(squares, axis=self.axes(eq), keepdims=True)

    def terms(self, eq: Local) -> int:
        return self.count(eq) + 8

    def ends(self, eq: Local) -> tuple[Array, Array]:
        """(r₀, r₁) of every slice, kept dimensions."""

        def compute() -> tuple[Array, Array]:
            (x,), axes = eq.ranges, self.axes(eq)
            least = down(norm2(x.absmin, axes), 2 * self.terms(eq))
            center, apart = norm2(x.center, axes), x.apart(axes)
            xp = namespace(least, apart)
            by_ball = down(center, 2 * self.terms(eq)) - up(apart)
            least = xp.maximum(least, down(by_ball) - tiny(by_ball))
            shape = [1 if a in axes else n for a, n in enumerate(x.shape)]
            return xp.maximum(least, 0.0).reshape(shape), x.slices(axes).reshape(shape)

        return eq.once("ends", compute)

    def value(self, eq: Local, r: Array, upper: bool) -> Array:
        """Bound of √(a r² + c)."""
        xp = namespace(r)
        value = xp.sqrt(self.scale(eq) * times(r, r) + self.offset(eq))
        return up(value, 8) if upper else xp.maximum(down(value, 8) - math.sqrt(tiny(value)), 0.0)

    def least_value(self, eq: Local) -> Array:
        """Lower bound of s on every slice."""
        low = self.value(eq, self.ends(eq)[0], False)
        return namespace(low).maximum(low, down(math.sqrt(self.offset(eq)), 4))

    def shaped(self, eq: Local, kept: Array) -> Array:
        shape = tuple(eq.equation.outputs[0].shape)
        return kept.reshape(kept.shape[: kept.ndim - len(eq.ranges[0].shape)] + shape)

    def _response(self, eq: Local, m: Magnitude, bend: Array) -> Response:
        """Response bounded by bend·‖a‖‖b‖ on every slice."""
        xp = namespace(bend, m.norm)
        totals = up(times(xp.max(bend, initial=0.0), times(m.norm[:, None], m.norm[None, :])), 3)
        if m.entries is None:
            return Response(totals, None, totals)
        slices = self.slice_norms(eq, m)
        axes = tuple(range(1, slices.ndim))
        peaks = up(xp.max(times(bend, slices), axis=axes, initial=0.0))
        joint = norm2(slices, 0)
        entries = self.shaped(eq, up(times(bend, times(joint, joint)), 3))
        return Response(crossed(peaks, m.norm), entries, totals)


def _inverse(s: Array) -> Array:
    xp = namespace(s)
    return xp.where(s > 0, up(1 / xp.where(s > 0, s, 1.0)), np.inf)


class NormRule(_Slices, KinkRule):
    """√(a Σ z² + c) along axes."""

    def has_kinks(self, equation: Equation) -> bool:
        return equation.params["offset"] == 0

    def active(self, eq: Local) -> Array:
        """Slices that can be 0 where that is a kink, kept dimensions."""
        least = self.least_value(eq)
        return (least <= 0) & (self.offset(eq) == 0)

    def root(self, eq: Local) -> float:
        return float(up(math.sqrt(self.scale(eq)), 2))

    def slopes(self, eq: Local) -> Array:
        """Largest gradient of every slice, kept dimensions."""
        r, root = self.ends(eq)[1], self.root(eq)
        if self.offset(eq) == 0:
            return namespace(r).full(np.shape(r), root)
        xp = namespace(r)
        finite = xp.isfinite(r)
        r = xp.where(finite, r, 0.0)
        slope = up(self.scale(eq) * r / self.value(eq, r, False), 6)
        return xp.where(finite, xp.minimum(slope, root), root)

    def range(self, eq: Local) -> list[Range]:
        (x,) = eq.ranges
        low, high = self.ends(eq)
        lo = self.shaped(eq, self.least_value(eq))
        hi = self.shaped(eq, self.value(eq, high, True))
        at = norm2(x.center, self.axes(eq)).reshape(low.shape)
        center = self.shaped(eq, self.value(eq, at, True))
        rounding = norm2(center * gamma(2 * self.terms(eq) + 16, center) + tiny(center))
        slope = namespace(self.slopes(eq)).max(self.slopes(eq), initial=0.0)
        return [lipschitz_image(eq.radii, x, slope, lo, hi, center, rounding)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        slopes = self.slopes(eq)
        norm = up(times(namespace(slopes).max(slopes, initial=0.0), m.norm))
        if m.entries is None:
            return [Magnitude(None, norm)]
        return [tighten(self.shaped(eq, up(times(slopes, self.slice_norms(eq, m)))), norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        active = self.active(eq)
        xp = namespace(active, m.norm)
        bend = up(times(self.scale(eq), _inverse(self.least_value(eq))), 2)
        # Where a slice is smoothed, its kernel has all of the curvature.
        return [self._response(eq, m, xp.where(active, 0.0, bend))]

    def in_place_of(self, equation: Equation) -> Callable[..., Any] | None:
        # Of max(Σ z², 0) JAX takes half of the derivatives where Σ z² = 0.
        if not equation.params["floored"]:
            return None
        (result,), params = equation.outputs, equation.params
        axes, scale, offset = (params[name] for name in ("axes", "scale", "offset"))

        def compute(z: Any) -> Any:
            z = z.astype(working_dtype(z, result.dtype)[1])
            root = jnp.sqrt(scale * jnp.sum(z * z, axis=axes) + offset)
            return root.reshape(result.shape).astype(result.dtype)

        return compute

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        (m,) = magnitudes
        assert m is not None
        # The kernel of |r| has to be even.
        kernel = KERNELS["minimax"] if kernel.name == "paper" else kernel
        active, axes, scale = self.active(eq), self.axes(eq), self.scale(eq)
        xp = namespace(active)
        curvature = up(kernel.absolute_smoothness * scale, 2)
        low, high = self.ends(eq)
        (result,) = eq.equation.outputs
        shape = result.shape

        def compute(mu: Array, z: Any) -> Any:
            # A total that is zero in one place is zero wherever it is formed again.
            z = lax.optimization_barrier(z)
            z = z.astype(working_dtype(z, result.dtype)[1])
            total = scale * jnp.sum(z * z, axis=axes).reshape(shape)

            def away(inside: Any) -> Any:
                positive = (total > 0) & ~inside
                return jnp.where(positive, jnp.sqrt(jnp.where(positive, total, 1.0)), inside * 1.0)

            def square(inside: Any, unit: Any) -> Any:
                return jnp.where(inside, total, 0.0) / unit / unit

            return length(kernel, away, square, mu).astype(result.dtype)

        root = self.root(eq)
        return Site(
            self.shaped(eq, active),
            kernel.lower,
            kernel.upper,
            self._response(eq, m, xp.where(active, curvature, 0.0)),
            eq.equation.inputs,
            compute,
            (self.shaped(eq, down(root * low, 2)), self.shaped(eq, up(root * high, 2))),
            kernel.name,
        )


class SquaresRule(_Slices, Rule):
    """Σ z² along axes."""

    def total(self, eq: Local, squares: Array) -> Array:
        return self.shaped(eq, super().total(eq, squares))

    def range(self, eq: Local) -> list[Range]:
        (x,), axes, terms = eq.ranges, self.axes(eq), self.terms(eq)
        low, high = self.ends(eq)
        xp = namespace(x.center, low, high)
        at = norm2(x.center, axes).reshape(np.shape(high))
        center = self.total(eq, x.center * x.center)
        rounding = norm2(center * gamma(terms, center) + tiny(center) * self.count(eq))
        # ‖z‖² - ‖c‖² = ⟨z + c, z - c⟩.
        slope = up(xp.max(up(high + at), initial=0.0))
        return [
            lipschitz_image(
                eq.radii,
                x,
                slope,
                self.shaped(eq, xp.maximum(down(low * low, 4) - tiny(low), 0.0)),
                self.shaped(eq, up(high * high, 4) + tiny(high)),
                center,
                rounding,
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,), (x,) = magnitudes, eq.ranges
        if m is None:
            return [None]
        slopes = up(2 * self.ends(eq)[1])
        norm = up(times(namespace(slopes).max(slopes, initial=0.0), m.norm))
        if m.entries is None:
            return [Magnitude(None, norm)]
        # |⟨z + w, z - w⟩| by Cauchy-Schwarz, and entry by entry.
        by_slices = self.shaped(eq, up(times(slopes, self.slice_norms(eq, m))))
        products = times(up(2 * x.absmax), m.entries)
        axes = tuple(a + 1 for a in self.axes(eq))
        xp = namespace(by_slices, products)
        by_entries = up(xp.sum(products, axis=axes), self.terms(eq))
        return [tighten(xp.minimum(by_slices, by_entries), norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        kept = np.shape(self.ends(eq)[1])
        return [self._response(eq, m, np.full(kept, 2.0))]


class NormalisedRule(_Slices, Rule):
    """z / √(a Σ z² + c) along axes."""

    def guarded(self, eq: Local) -> Sequence[Range]:
        return () if self.offset(eq) > 0 else eq.ranges

    def inverse(self, eq: Local) -> Array:
        """Largest 1/s of every slice, kept dimensions.

        Raises:
          CertificationError: where s can be 0.
        """

        def compute() -> Array:
            least = self.least_value(eq)
            if namespace(least) is np and np.any(least <= 0):
                raise errors.CertificationError(
                    f"{eq} divides by a norm that can be 0. Add a positive constant under the "
                    "root, or give bounds that keep what is normalised away from 0."
                )
            return _inverse(least)

        return eq.once("inverse", compute)

    def range(self, eq: Local) -> list[Range]:
        (x,) = eq.ranges
        xp = namespace(x.lo, x.hi)
        a, c, terms = self.scale(eq), self.offset(eq), self.terms(eq)
        inverse = self.inverse(eq)
        # Of the other entries of the slice, the sum of squares at least and at most.
        small, large = x.absmin, x.absmax
        least = self.total(eq, small * small) - small * small
        least = xp.maximum(least - up(self.total(eq, small * small)) * gamma(terms, least), 0.0)
        most = self.total(eq, large * large) - large * large
        most = xp.where(xp.isnan(most), np.inf, most)
        most = up(most + self.total(eq, large * large) * gamma(terms, most), 2)

        def bound(v: Array, others: Array) -> Array:
            """|v| / √(a (v² + others) + c)."""
            v = abs(v)
            infinite = xp.isinf(v)
            divisor = xp.sqrt(a * (times(v, v) + others) + c)
            ratio = xp.where(infinite, 1 / math.sqrt(a), v / xp.where(divisor > 0, divisor, 1.0))
            ratio = xp.where(divisor > 0, ratio, xp.where(v > 0, 1 / math.sqrt(a), 0.0))
            return xp.where(xp.isnan(ratio), 0.0, ratio)

        def end(v: Array, outward: bool) -> Array:
            """Bound of the size that v can have."""
            if outward:
                return up(bound(v, least), 12) + tiny(v)
            return xp.maximum(down(bound(v, most), 12) - tiny(v), 0.0)

        hi = xp.where(x.hi > 0, end(x.hi, True), -end(x.hi, False))
        lo = xp.where(x.lo < 0, -end(x.lo, True), end(x.lo, False))
        # Below the least value of s, what is continued there has slope 1/s as well.
        at = xp.sqrt(a * self.total(eq, x.center * x.center) + c)
        at = xp.maximum(at, 1 / inverse)
        center = x.center / at
        rounding = norm2(center * gamma(terms + 16, center) + tiny(center))
        slopes = up(2 / (down(at, terms + 8) + down(1 / inverse, 2)), 4)
        slopes = xp.where(inverse == np.inf, np.inf, xp.minimum(slopes, inverse))
        largest = xp.max(slopes, initial=0.0)
        gains = up(times(largest, x.gains))
        rest = up(times(largest, x.rest) + rounding, 2)
        apart = norm2(times(slopes, x.apart(self.axes(eq)).reshape(slopes.shape)))
        radius = up(xp.minimum(times(largest, x.radius), apart) + rounding, 2)
        # Every slice has 2-norm at most 1/√a.
        whole = up(math.sqrt(center.size / max(1, self.count(eq)) / a), 8)
        return [within(eq.radii, lo, hi, center, gains, rest, radius, whole)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        inverse = self.inverse(eq)
        xp = namespace(inverse, m.norm)
        norm = up(times(xp.max(inverse, initial=0.0), m.norm))
        if m.entries is None:
            return [Magnitude(None, norm)]
        entries = up(times(inverse, self.slice_norms(eq, m)))
        return [tighten(xp.broadcast_to(entries, m.entries.shape), norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        inverse, c = self.inverse(eq), self.offset(eq)
        xp = namespace(inverse, m.norm)
        bend = up(_FARTHER * times(inverse, inverse), 4)
        if c > 0:
            bend = xp.minimum(bend, up(_STEEPEST / c, 4))
        bend = up(math.sqrt(self.scale(eq)) * bend, 4)
        largest = xp.max(bend, initial=0.0)
        if m.entries is None:
            return [Response(up(largest * times(m.norm[:, None], m.norm[None, :]), 3), None)]
        slices = self.slice_norms(eq, m)
        axes = tuple(range(1, slices.ndim))
        peaks = up(xp.max(times(bend, slices), axis=axes, initial=0.0))
        joint = norm2(slices, 0)
        entries = xp.broadcast_to(up(times(bend, times(joint, joint)), 3), eq.ranges[0].shape)
        whole = times(largest, times(m.norm[:, None], m.norm[None, :]))
        totals = up(math.sqrt(self.count(eq)) * whole, 5)
        return [Response(crossed(peaks, m.norm), entries, totals)]


class CenteredRule(AlongAxes):
    """z - mean(z) along axes."""

    def _spread(self, eq: Local, sums: Array, own: Array) -> Array:
        """(1 - 1/n) own + (sums - own)/n of non-negative arrays, rounded up."""
        n = self.count(eq)
        return up((1 - 1 / n) * own + namespace(sums).maximum(sums - own, 0.0) / n + tiny(own), 8)

    def range(self, eq: Local) -> list[Range]:
        (x,), axes, n = eq.ranges, self.axes(eq), self.count(eq)
        xp = namespace(x.lo, x.hi)

        def mean(v: Array) -> Array:
            return xp.sum(v, axis=axes, keepdims=True) / n

        size = x.absmax + mean(x.absmax)
        slack = size * gamma(n + 12, size) + tiny(size)
        lo = (1 - 1 / n) * x.lo - (mean(x.hi) - x.hi / n) - slack
        hi = (1 - 1 / n) * x.hi - (mean(x.lo) - x.lo / n) + slack
        center = x.center - mean(x.center)
        error = abs(x.center) + mean(abs(x.center))
        rounding = norm2(error * gamma(n + 12, error) + tiny(error))
        rest, radius = up(x.rest + rounding), up(x.radius + rounding)
        found = enclose(eq.radii, lo, hi, center, x.gains, rest, radius, x.size)
        # A projection of every slice, too.
        apart = found.apart(axes)
        found.memo["apart", axes] = xp.minimum(apart, up(x.apart(axes) + rounding))
        return [found]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        total = None if m.total is None else up(2.0 * m.total, 1)
        if m.entries is None:
            return [tighten(None, m.norm, total)]
        xp = namespace(m.entries, m.norm)
        sums = up(
            xp.sum(m.entries, axis=tuple(a + 1 for a in self.axes(eq)), keepdims=True),
            self.count(eq),
        )
        entries = xp.minimum(self._spread(eq, sums, m.entries), self.slice_norms(eq, m))
        return [tighten(entries, m.norm, total)]


define(NormRule(), NORM)
define(NormalisedRule(), NORMALISED)
define(CenteredRule(), CENTERED)
define(SquaresRule(), SQUARES)
