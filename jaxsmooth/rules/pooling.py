"""Maxima of many values: reduce_max, reduce_min, max and min pooling.

The result is max_{p in simplex} <p, window>: its slopes are points p of the simplex, so a
change of the result is at most the largest change in the window, and its 2-norm at most
that of the window's change. Smoothed, its curvature in the directions a, b is
(K(n)/μ)‖a_window‖‖b_window‖, whatever the window's size n. A value that lies in ``overlap``
windows counts in each, which gives the factor sqrt(overlap).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth.math import windows as sliding
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, times, up
from jaxsmooth.math.kernels import Kernel
from jaxsmooth.math.magnitude import Magnitude, Response, crossed, tighten
from jaxsmooth.math.nary import max_kernel
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.rules.registry import KinkRule, Local, Site, define, on_arrays

Windows = Callable[[Any, float], Any]
"""``windows(x, fill)``: the windows of x along a new last axis, padded with ``fill``."""


def reduced_axes(eq: Local) -> Windows:
    """Windows of a reduction: all values along the reduced axes."""
    axes = tuple(eq.params["axes"])

    def windows(x: Any, fill: float) -> Any:
        kept = tuple(a for a in range(x.ndim) if a not in axes)
        moved = jnp.transpose(x, kept + axes)
        return moved.reshape(*moved.shape[: len(kept)], math.prod(x.shape[a] for a in axes))

    return windows


def pooled_windows(eq: Local) -> Windows:
    """Windows of a pooling: one shifted, strided view for each of its positions."""
    size = eq.params["window_dimensions"]
    strides = eq.params["window_strides"]
    padding = eq.params["padding"]
    base, dilation = eq.params["base_dilation"], eq.params["window_dilation"]
    result = eq.equation.outputs[0].shape

    def windows(x: Any, fill: float) -> Any:
        config = [(lo, hi, b - 1) for (lo, hi), b in zip(padding, base, strict=True)]
        padded = lax.pad(x, jnp.asarray(fill, x.dtype), config)
        views = []
        for position in itertools.product(*map(range, size)):
            start = [i * d for i, d in zip(position, dilation, strict=True)]
            limit = [
                s + (n - 1) * step + 1 for s, n, step in zip(start, result, strides, strict=True)
            ]
            views.append(lax.slice(padded, start, limit, strides))
        return jnp.stack(views, axis=-1)

    return windows


KnownWindows = Callable[[Local, np.ndarray, float], np.ndarray]
"""The same for a stack of NumPy arrays."""


def known_reduced_axes(eq: Local, stack: np.ndarray, fill: float) -> np.ndarray:
    """`reduced_axes` of a stack."""
    axes = tuple(a + 1 for a in eq.params["axes"])
    kept = tuple(a for a in range(stack.ndim) if a not in axes)
    moved = np.transpose(stack, kept + axes)
    return moved.reshape(*moved.shape[: len(kept)], math.prod(stack.shape[a] for a in axes))


def known_pooled_windows(eq: Local, stack: np.ndarray, fill: float) -> np.ndarray:
    """`pooled_windows` of a stack."""
    size = eq.params["window_dimensions"]
    view = sliding.windows(
        stack,
        size,
        strides=eq.params["window_strides"],
        padding=eq.params["padding"],
        base_dilation=eq.params["base_dilation"],
        window_dilation=eq.params["window_dilation"],
        fill=fill,
    )
    return view.reshape(*view.shape[: stack.ndim], math.prod(view.shape[stack.ndim :]))


class MaximumRule(KinkRule):
    """Maximum (sign = 1) or minimum (sign = -1) over windows."""

    def __init__(self, sign: int, windows: Callable[[Local], Windows], known_windows: KnownWindows):
        self.sign = sign
        self.windows = windows
        self.known_windows = known_windows

    def gather(self, eq: Local, x: Array, fill: float) -> Array:
        """Windows of an analysis array, along a last axis."""
        return self.gather_stack(eq, x[None], fill)[0]

    def gather_stack(self, eq: Local, stack: Array, fill: float = 0.0) -> Array:
        """Windows of a stack of arrays."""
        if is_traced(stack):
            gather = self.windows(eq)
            return on_arrays(jax.vmap(lambda a: gather(a, fill)), stack)
        return self.known_windows(eq, np.asarray(stack), fill)

    def bounds(self, eq: Local) -> tuple[Array, Array]:
        """Windows of the operand's bounds, turned so that the largest wins."""

        def compute() -> tuple[Array, Array]:
            (x,) = eq.ranges
            lo, hi = (x.lo, x.hi) if self.sign > 0 else (-x.hi, -x.lo)
            return self.gather(eq, lo, -np.inf), self.gather(eq, hi, -np.inf)

        return eq.once("bounds", compute)

    def size(self, eq: Local) -> int:
        """Values in a window."""
        if "axes" in eq.params:
            return math.prod(eq.ranges[0].shape[a] for a in eq.params["axes"])
        return math.prod(eq.params["window_dimensions"])

    def overlap(self, eq: Local) -> float:
        """The most windows that one value is in."""

        def compute() -> float:
            size = math.prod(eq.ranges[0].shape)
            numbers = np.arange(size, dtype=float).reshape(eq.ranges[0].shape)
            places = self.gather(eq, numbers, -1.0).astype(int)
            return float(np.max(np.bincount(places[places >= 0], minlength=1), initial=0))

        return eq.always("overlap", compute)

    def candidates(self, eq: Local) -> tuple[Array, Array]:
        """(which values of each window may win, which results have several such values)."""

        def compute() -> tuple[Array, Array]:
            lo, hi = self.bounds(eq)
            xp = namespace(lo, hi)
            least = xp.max(lo, axis=-1, keepdims=True, initial=-np.inf)
            may_win = (hi >= least) & (hi > -np.inf)
            return may_win, xp.sum(may_win, axis=-1) > 1

        return eq.once("candidates", compute)

    def range(self, eq: Local) -> list[Range]:
        (x,) = eq.ranges
        lo, hi = self.bounds(eq)
        xp = namespace(lo, hi)
        # The largest of nothing.
        lo, hi = (xp.max(end, axis=-1, initial=-np.inf) for end in (lo, hi))
        center = self.gather(eq, self.sign * x.center, -np.inf)
        center = self.sign * xp.max(center, axis=-1, initial=-np.inf)
        if self.sign < 0:
            lo, hi = -hi, -lo
        factor = up(np.sqrt(self.overlap(eq)))
        return [
            enclose(
                eq.radii,
                lo,
                hi,
                center,
                up(times(factor, x.gains)),
                up(times(factor, x.rest)),
                up(times(factor, x.radius)),
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        norm = up(times(up(np.sqrt(self.overlap(eq))), m.norm))
        if m.entries is None:
            return [Magnitude(None, norm)]
        may_win, active = self.candidates(eq)
        # Smoothed, a value that cannot win has a slope too if it comes close enough.
        counts = may_win | active[..., None]
        xp = namespace(m.entries, counts)
        entries = xp.where(counts[None], self.gather_stack(eq, m.entries), 0.0)
        return [tighten(xp.max(entries, axis=-1, initial=0.0), norm)]

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        (m,) = magnitudes
        assert m is not None
        smooth = max_kernel(kernel.name)
        may_win, active = self.candidates(eq)
        windows, sign = self.windows(eq), self.sign

        def compute(mu: Array, x: Any) -> Any:
            # The maximum is among those that may win. Others, however near, are left out:
            # then they have no slope, as `first_order` says.
            values = sign * windows(x, -sign * np.inf)
            return sign * smooth.maximum(jnp.where(may_win, values, -np.inf), mu)

        lo, hi = self.bounds(eq)
        xp = namespace(lo, hi)
        return Site(
            active,
            -1.0,
            1.0,
            self._response(eq, m, active, smooth.smoothness(max(self.size(eq), 1))),
            eq.equation.inputs,
            compute,
            tuple(xp.max(end, axis=-1, initial=-np.inf) for end in (lo, hi)),
            smooth.name,
        )

    def _response(self, eq: Local, m: Magnitude, active: Array, curvature: float) -> Response:
        norm = up(times(up(np.sqrt(self.overlap(eq))), m.norm))
        xp = namespace(active, m.norm)
        if m.entries is None:
            peaks = xp.where(xp.any(active), m.norm, 0.0)
            return Response(up(curvature * crossed(peaks, norm), 2), None)
        may_win, _ = self.candidates(eq)
        slices = norm2(xp.where(may_win[None], self.gather_stack(eq, m.entries), 0.0), -1)
        slices = xp.minimum(slices, m.norm.reshape((-1,) + (1,) * (slices.ndim - 1)))
        slices = xp.where(active[None], slices, 0.0)
        peaks = xp.max(slices, axis=tuple(range(1, slices.ndim)), initial=0.0)
        joint = norm2(slices, 0)
        # Summed over windows, Cauchy-Schwarz: Σ ‖a_w‖‖b_w‖ <= overlap·‖a‖‖b‖.
        totals = up(curvature * times(norm[:, None], norm[None, :]), 3)
        return Response(
            up(curvature * crossed(peaks, norm), 2),
            up(curvature * times(joint, joint), 4),
            totals,
        )


define(MaximumRule(1, reduced_axes, known_reduced_axes), p.reduce_max_p)
define(MaximumRule(-1, reduced_axes, known_reduced_axes), p.reduce_min_p)
define(MaximumRule(1, pooled_windows, known_pooled_windows), p.reduce_window_max_p)
define(MaximumRule(-1, pooled_windows, known_pooled_windows), p.reduce_window_min_p)
