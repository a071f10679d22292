"""Kernels of several variables in the function that is smoothed: smooth inside smooth.

An inner `jaxsmooth.smooth` leaves smooth maxima behind, whose equations hide what they are:
a kink and a correction that takes it away, or a projection onto the simplex. They are
recognised by matching, and enclosed by what is proved about the kernels. Kernels of one
variable need nothing of the kind: they are scalar functions (`jaxsmooth.rules.univariate`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, down, is_traced, namespace, norm2, times, up
from jaxsmooth.math.kernels import KERNELS, Kernel
from jaxsmooth.math.magnitude import (
    Magnitude,
    Response,
    add,
    crossed,
    elementwise_response,
    mix,
    scale,
    tighten,
)
from jaxsmooth.math.nary import MAX_KERNELS, MaxKernel
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.graph import Equation
from jaxsmooth.program.layout import Producers, producer
from jaxsmooth.program.match import Composite
from jaxsmooth.rules.registry import Local, Rule, define

# Equations from the result of a smooth maximum back to its operand.
_REACH = 6


class _SmoothedRule(Rule):
    """Base: the last operand is μ, a known number."""

    def accuracy(self, eq: Local) -> Array:
        """μ, of the result's shape or a number."""
        mu = eq.known[-1]
        if mu is None:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} smooths with an accuracy that varies with the arguments. Give the inner "
                "jaxsmooth.smooth an eps that is a known number."
            )
        return mu if is_traced(mu) else np.asarray(mu, np.float64)

    def bend(self, eq: Local, curvature: float, felt: Array) -> Array:
        """K/μ where several operands count, else 0."""
        mu = self.accuracy(eq)
        xp = namespace(mu, felt)
        positive = mu > 0
        if xp is np and np.any(felt & ~positive):
            raise errors.CertificationError(
                f"{eq} smooths with accuracy 0, which leaves the kink of an inner "
                "jaxsmooth.smooth as it is. Give the inner one a positive eps, or the bounds that "
                "the outer one has."
            )
        bent = up(curvature / xp.where(positive, mu, 1.0), 2)
        return xp.where(felt, xp.where(positive, bent, np.inf), 0.0)


class SmoothExtremumRule(_SmoothedRule):
    """b + relu_μ(a - b): slopes (σ, 1 - σ), curvature K/μ in the direction a - b."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel

    def counts(self, eq: Local) -> tuple[Array, Array]:
        """Where each operand has a slope."""

        def compute() -> tuple[Array, Array]:
            a, b, _ = eq.ranges
            reach = up(times(self.kernel.window, self.accuracy(eq)), 2)
            return a.hi >= down(b.lo - reach), b.hi >= down(a.lo - reach)

        return eq.once("counts", compute)

    def range(self, eq: Local) -> list[Range]:
        a, b, _ = eq.ranges
        mu = self.accuracy(eq)
        xp = namespace(a.lo, b.lo, mu)
        largest = max(abs(self.kernel.lower), abs(self.kernel.upper))
        center = xp.maximum(a.center, b.center)
        # Both programs lie within the kernel's error of max, whose slopes are the simplex.
        apart = up(2 * norm2(xp.broadcast_to(largest * mu, np.shape(a.lo))), 2)
        return [
            enclose(
                eq.radii,
                down(xp.maximum(a.lo, b.lo) + down(self.kernel.lower * mu)),
                up(xp.maximum(a.hi, b.hi) + up(self.kernel.upper * mu)),
                center,
                up(a.gains + b.gains),
                up(a.rest + up(b.rest + apart), 3),
                up(norm2(xp.stack([a.radius, b.radius])) + apart),
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        masked = [
            None if m is None else scale(m, namespace(c).where(c, 1.0, 0.0))
            for m, c in zip(magnitudes[:2], self.counts(eq), strict=True)
        ]
        return [mix(*masked)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        change = add(*magnitudes[:2])
        if change is None:
            return [None]
        first, second = self.counts(eq)
        return [elementwise_response(self.bend(eq, self.kernel.smoothness, first & second), change)]


class SmoothMaximumRule(_SmoothedRule):
    """A smooth maximum along the last axis, whose gradient is a point of the simplex."""

    def __init__(self, kernel: MaxKernel):
        self.kernel = kernel

    def size(self, eq: Local) -> int:
        return eq.ranges[0].shape[-1]

    def counts(self, eq: Local) -> tuple[Array, Array]:
        """(values that may have a slope, results in which several do)."""

        def compute() -> tuple[Array, Array]:
            x, mu = eq.ranges[0], self.accuracy(eq)
            xp = namespace(x.lo, x.hi, mu)
            mu = xp.broadcast_to(mu, x.shape[:-1])[..., None]
            reach = up(times(self.kernel.window(self.size(eq)), mu), 2)
            top = xp.max(x.lo, axis=-1, keepdims=True)
            near = (x.hi >= down(top - reach)) & (x.hi > -np.inf)
            return near, xp.sum(near, axis=-1) > 1

        return eq.once("counts", compute)

    def range(self, eq: Local) -> list[Range]:
        x, mu = eq.ranges[0], self.accuracy(eq)
        xp = namespace(x.lo, x.hi, mu)
        apart = up(2 * norm2(xp.broadcast_to(mu, x.shape[:-1])), 2)
        return [
            enclose(
                eq.radii,
                down(xp.max(x.lo, axis=-1) - mu),
                up(xp.max(x.hi, axis=-1) + mu),
                xp.max(x.center, axis=-1),
                x.gains,
                up(x.rest + apart),
                up(x.radius + apart),
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = magnitudes[0]
        if m is None or m.entries is None:
            return [m]
        near, _ = self.counts(eq)
        xp = namespace(near, m.entries)
        return [tighten(xp.max(xp.where(near[None], m.entries, 0.0), axis=-1), m.norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        m = magnitudes[0]
        if m is None:
            return [None]
        near, several = self.counts(eq)
        bend = self.bend(eq, self.kernel.smoothness(self.size(eq)), several)
        xp = namespace(bend, m.norm)
        largest = xp.max(bend, initial=0.0)
        totals = up(times(largest, times(m.norm[:, None], m.norm[None, :])), 3)
        if m.entries is None:
            return [Response(totals, None, totals)]
        slices = norm2(xp.where(near[None], m.entries, 0.0), -1)
        slices = xp.minimum(slices, m.norm.reshape((-1,) + (1,) * (slices.ndim - 1)))
        axes = tuple(range(1, slices.ndim))
        peaks = up(xp.max(times(bend, slices), axis=axes, initial=0.0))
        joint = norm2(slices, 0)
        return [Response(crossed(peaks, m.norm), up(times(bend, times(joint, joint)), 3), totals)]


Operands = tuple[jax.ShapeDtypeStruct, ...]


def _pair(places: int | None, equation: Equation, producers: Producers) -> Operands | None:
    """Operands of a smooth maximum of two, with μ over the result's axes from that place on.

    One μ for all elements is None.
    """
    above = producer(equation.inputs[0], producers)
    shape, dtype = equation.outputs[0].shape, equation.outputs[0].dtype
    if above is None or above.primitive is not p.select_n_p or len(shape) <= (places or 0):
        return None
    x = jax.ShapeDtypeStruct(shape, dtype)
    mu = jax.ShapeDtypeStruct(() if places is None else shape[places:], dtype)
    return x, x, mu


def _window(places: int, equation: Equation, producers: Producers) -> Operands | None:
    """Operands of a smooth maximum along the last axis, with μ likewise."""
    shape, dtype = equation.outputs[0].shape, equation.outputs[0].dtype
    above = producer(equation.inputs[0], producers)
    for _ in range(_REACH):
        if above is None or not above.inputs or len(shape) < places:
            return None
        if above.primitive is p.reduce_max_p:
            operand = above.inputs[0].shape
            if operand[:-1] != shape:
                return None
            mu = jax.ShapeDtypeStruct(shape[places:], dtype)
            return jax.ShapeDtypeStruct(operand, dtype), mu
        above = producer(above.inputs[-1], producers)
    return None


def _composites() -> list[Composite]:
    found = []
    last = frozenset({p.add_p})
    for kernel in KERNELS.values():
        key = Primitive(f"smooth_extremum_{kernel.name}")
        define(SmoothExtremumRule(kernel), key)
        batched = jax.vmap(kernel.maximum, (0, 0, None))
        for function, places in (
            (kernel.maximum, None),
            (kernel.maximum, 0),
            (batched, None),
            (batched, 1),
        ):
            found.append(Composite(key, function, last, functools.partial(_pair, places)))
    for kernel in MAX_KERNELS.values():
        key = Primitive(f"smooth_maximum_{kernel.name}")
        define(SmoothMaximumRule(kernel), key)
        for function, places in (
            (kernel.maximum, 0),
            (jax.vmap(kernel.maximum, (0, None)), 1),
        ):
            found.append(Composite(key, function, last, functools.partial(_window, places)))
    return found


SMOOTHED: tuple[Any, ...] = tuple(_composites())
"""The kernels of several variables, to be recognised."""
