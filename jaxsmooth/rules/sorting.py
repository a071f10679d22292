"""Order statistics: sort and top_k, hence median and quantiles.

The values are smoothed as in `jaxsmooth.math.order`: the slopes are a mean of permutations,
so that a change keeps its norm, its 1-norm and its largest entry along the axis. Where the
intervals of the values cannot overlap, the order is certain and the equation exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, times, up
from jaxsmooth.math.kernels import Kernel
from jaxsmooth.math.magnitude import Magnitude, Response, crossed, tighten
from jaxsmooth.math.order import largest_values, order_smoothness
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.evaluate import bind_equation
from jaxsmooth.program.graph import Equation
from jaxsmooth.rules.registry import KinkRule, Local, Site, define

_WAY_OUT = (
    "The order of values that vary jumps. Use the sorted values themselves (jnp.sort, "
    "jax.lax.top_k(x, k)[0]), weigh all entries smoothly (jax.nn.softmax), or stop the gradient "
    "(jax.lax.stop_gradient) of what decides the order."
)


class OrderRule(KinkRule):
    """Sorted values along an axis.

    Args:
      axis: ``axis(eq)`` is the axis that is sorted along.
      count: ``count(eq)`` is how many of the values are kept.
      largest_first: whether the values descend.
    """

    def __init__(
        self,
        axis: Callable[[Equation], int],
        count: Callable[[Equation], int],
        largest_first: bool,
    ):
        self.axis = axis
        self.count = count
        self.largest_first = largest_first

    def has_kinks(self, equation: Equation) -> bool:
        return equation.params.get("num_keys", 1) == len(equation.inputs) == 1

    def of_numbers(self, eq: Local) -> bool:
        # What is no number is sorted to the end.
        return self.has_kinks(eq.equation)

    # Values.

    def kept(self, equation: Equation, x: Array) -> Array:
        """Sorted values of an array, or of a stack of arrays (the axis counts from the end)."""
        xp = namespace(x)
        axis = self.axis(equation) - len(equation.inputs[0].shape)
        moved = xp.sort(xp.moveaxis(x, axis, -1), axis=-1)
        if self.largest_first:
            moved = xp.flip(moved, -1)[..., : self.count(equation)]
        return xp.moveaxis(moved, -1, axis)

    def range(self, eq: Local) -> list[Range]:
        if not self.has_kinks(eq.equation):
            return self._permuted_ranges(eq)
        self._check_indices(eq)
        (x,) = eq.ranges
        lo, hi, center = (self.kept(eq.equation, a) for a in (x.lo, x.hi, x.center))
        found = [enclose(eq.radii, lo, hi, center, x.gains, x.rest, x.radius)]
        for _ in eq.equation.outputs[1:]:
            places = np.zeros(lo.shape)
            last = float(x.shape[self.axis(eq.equation)] - 1)
            found.append(
                enclose(eq.radii, places, places + last, places, np.zeros(eq.leaves), np.inf)
            )
        return found

    def _check_indices(self, eq: Local) -> None:
        if any(eq.varies) and any(eq.felt[1:]):
            raise errors.DiscontinuityError(
                f"{eq} finds the places of sorted values, which jump as its inputs vary: no "
                f"continuous function stays within eps of it. {_WAY_OUT}"
            )

    # Several operands, sorted by the first: a known permutation, or a jump.

    def _permutation(self, eq: Local) -> np.ndarray:
        keys = eq.params["num_keys"]
        if any(eq.varies[:keys]):
            raise errors.DiscontinuityError(
                f"{eq} sorts by numbers that vary, and its order jumps: no continuous function "
                f"stays within eps of it. {_WAY_OUT}"
            )
        known = [np.asarray(k) for k in eq.known[:keys] if k is not None and not is_traced(k)]
        if len(known) < keys:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} sorts by numbers that are not known. Make them known with jaxsmooth.fixed."
            )
        # The last key of lexsort is the first one of sort; both are stable.
        return np.lexsort(known[::-1], axis=eq.params["dimension"])

    def _permuted_ranges(self, eq: Local) -> list[Range]:
        order, axis = self._permutation(eq), eq.params["dimension"]

        def moved(a: Array) -> Array:
            return namespace(a).take_along_axis(a, order, axis)

        return [
            enclose(eq.radii, moved(r.lo), moved(r.hi), moved(r.center), r.gains, r.rest, r.radius)
            for r in eq.ranges
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        if not self.has_kinks(eq.equation):
            order, axis = self._permutation(eq)[None], eq.params["dimension"] + 1
            return [
                m
                if m is None or m.entries is None
                else Magnitude(
                    namespace(m.entries).take_along_axis(m.entries, order, axis), m.norm, m.total
                )
                for m in magnitudes
            ]
        (m,) = magnitudes
        rest = [None] * (len(eq.equation.outputs) - 1)
        if m is None or m.entries is None:
            return [m, *rest]
        shape = eq.equation.outputs[0].shape
        xp = namespace(m.entries)
        largest = xp.max(m.entries, axis=self.axis(eq.equation) + 1, keepdims=True, initial=0.0)
        entries = xp.broadcast_to(largest, (len(m.norm), *shape))
        return [tighten(entries, m.norm, m.total), *rest]

    # The site.

    def active(self, eq: Local) -> Array:
        """Slices in which the order of the values that are kept is not certain."""
        (x,) = eq.ranges
        axis, count = self.axis(eq.equation), self.count(eq.equation)
        xp = namespace(x.lo, x.hi)
        lo, hi = xp.moveaxis(x.lo, axis, -1), xp.moveaxis(x.hi, axis, -1)
        order = xp.argsort(lo, axis=-1)
        lo, hi = xp.take_along_axis(lo, order, -1), xp.take_along_axis(hi, order, -1)
        highest = xp.maximum.accumulate(hi, axis=-1) if xp is np else _running(hi)
        crossing = highest[..., :-1] >= lo[..., 1:]
        # Only the boundaries between values that are kept, and the one below them, count.
        crossing = crossing[..., max(0, lo.shape[-1] - 1 - count) :]
        some = xp.any(crossing, axis=-1, keepdims=True)
        kept = xp.broadcast_to(some, (*some.shape[:-1], count))
        return xp.moveaxis(kept, -1, axis)

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        (x,), (m,) = eq.ranges, magnitudes
        assert m is not None
        equation = eq.equation
        axis, count, descending = self.axis(equation), self.count(equation), self.largest_first
        active = self.active(eq)

        def compute(mu: Array, value: Any) -> Any:
            # One accuracy along the axis: the least is right for all.
            whole = jnp.broadcast_to(jnp.asarray(mu), active.shape)
            least = jnp.min(whole, axis=axis, initial=jnp.inf)
            found = largest_values(jnp.moveaxis(value, axis, -1), least, count)
            found = found if descending else jnp.flip(found, -1)
            others = bind_equation(equation.eqn, [value])[1:] if len(equation.outputs) > 1 else []
            return [jnp.moveaxis(found, -1, axis), *others]

        return Site(
            active,
            -1.0,
            1.0,
            self._response(eq, m, active),
            equation.inputs,
            compute,
            (self.kept(equation, x.lo), self.kept(equation, x.hi)),
            "order",
        )

    def _response(self, eq: Local, m: Magnitude, active: Array) -> Response:
        axis, count = self.axis(eq.equation), self.count(eq.equation)
        curvature = order_smoothness(eq.ranges[0].shape[axis], count)
        xp = namespace(active, m.norm)
        # One value feels (K/μ)‖a‖‖b‖, all values of a slice at most the root of their number.
        together = up(curvature * float(np.sqrt(count)), 3)
        totals = up(curvature * count * times(m.norm[:, None], m.norm[None, :]), 4)
        if m.entries is None:
            peaks = xp.where(xp.any(active), m.norm, 0.0)
            return Response(up(together * crossed(peaks, m.norm), 2), None, totals)
        slices = norm2(m.entries, axis + 1)
        slices = xp.minimum(slices, m.norm.reshape((-1,) + (1,) * (slices.ndim - 1)))
        slices = xp.where(xp.any(active, axis=axis)[None], slices, 0.0)
        peaks = xp.max(slices, axis=tuple(range(1, slices.ndim)), initial=0.0)
        joint = norm2(slices, 0)
        entries = xp.expand_dims(up(curvature * times(joint, joint), 4), axis)
        entries = xp.broadcast_to(entries, eq.equation.outputs[0].shape)
        return Response(up(together * crossed(peaks, m.norm), 2), entries, totals)


def _running(x: Array) -> Array:
    return lax.cummax(x, axis=x.ndim - 1)


def _sorted_axis(equation: Equation) -> int:
    return equation.params["dimension"]


def _top_axis(equation: Equation) -> int:
    # Without the parameter the last axis is meant.
    return equation.params.get("axis", len(equation.inputs[0].shape) - 1)


define(OrderRule(_sorted_axis, lambda e: e.inputs[0].shape[e.params["dimension"]], False), p.sort_p)
define(OrderRule(_top_axis, lambda e: e.params["k"], True), p.top_k_p)
