"""Writing at indices that do not change with the arguments: scatter and its kin.

With known indices the equation is linear in (operand, updates). With unknown ones (the
edges of a graph passed as an argument) every update may land at any place: a hull over
the places. A map that moves every update to one place, where at most k of them meet,
has norm sqrt(k), by the Schur test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth._compat import primitive_in
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, times, up
from jaxsmooth.math.magnitude import Magnitude, Response, add, tighten
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.rules.indexing import positions
from jaxsmooth.rules.linear import LinearRule
from jaxsmooth.rules.products import MulRule
from jaxsmooth.rules.registry import Local, Rule, define, on_arrays

Write = Callable[..., Any]
"""``write(operand, indices, updates)``."""


def write_with(eq: Local, function: Callable[..., Any]) -> Write:
    """A function of `jax.lax`'s scatter family with the equation's parameters."""
    params = eq.params

    def write(operand: Any, indices: Any, updates: Any) -> Any:
        return function(
            operand, indices, updates, params["dimension_numbers"],
            indices_are_sorted=params["indices_are_sorted"], mode=params["mode"],
        )  # fmt: skip

    return write


def known_indices(eq: Local, positions: Sequence[int]) -> list[np.ndarray] | None:
    """The indices, or None where one is unknown.

    Raises:
      DiscontinuityError: an index varies.
    """
    if any(eq.varies[i] for i in positions):
        raise errors.DiscontinuityError(
            f"{eq} writes at an index that varies with the arguments, which jumps: no continuous "
            "function stays within eps of it. Make the index known with jaxsmooth.fixed, or "
            "spread what is written smoothly (softmax)."
        )
    found = [eq.known[i] for i in positions]
    if any(k is None or is_traced(k) for k in found):
        return None
    return [np.asarray(k) for k in found]


def targets(eq: Local, indices: np.ndarray) -> np.ndarray:
    """For every entry of the updates the place that it is written to, -1 if it is dropped."""

    def compute() -> np.ndarray:
        write = write_with(eq, lax.scatter_add)
        operand, updates = eq.ranges[0].shape, eq.ranges[2].shape

        def read(u: Any) -> Any:
            zeros = jnp.zeros(operand, u.dtype)
            numbers = jnp.arange(1.0, 1.0 + math.prod(operand), dtype=u.dtype).reshape(operand)
            _, transpose = jax.vjp(lambda v: write(zeros, indices, v), u)
            return transpose(numbers)[0]

        return np.rint(on_arrays(read, np.zeros(updates))).astype(int).reshape(-1) - 1

    return eq.always("targets", compute)


def meetings(eq: Local, indices: np.ndarray) -> int:
    """The most updates that are written to one place."""
    places = targets(eq, indices)
    return int(np.max(np.bincount(places[places >= 0], minlength=1)))


class _Known(LinearRule):
    """The equation at known indices as a linear one of (operand, updates)."""

    def __init__(self, function: Callable[..., Any], adds: bool, sign: int = 1):
        super().__init__(
            signs=(1, sign) if sign < 0 else None,
            columns=lambda eq: [1.0, 1.0],
            disjoint=not adds,
            terms=lambda eq: eq.static["meetings"] + 1 if adds else 1,
        )
        self.function = function

    def bound(self, eq: Local) -> Any:
        write, indices = write_with(eq, self.function), eq.static["indices"]
        return lambda operand, updates: write(operand, indices, updates)


class ScatterRule(Rule):
    """scatter (every place written once) and scatter-add.

    Args:
      adds: whether updates are added to what is there, or replace it.
      sign: -1 if they are subtracted.
    """

    def __init__(self, adds: bool, sign: int = 1):
        self.adds = adds
        self.sign = sign
        self.known = _Known(lax.scatter_add if adds else lax.scatter, adds, sign)

    def carries(self, eq: Local) -> bool:
        return not self.adds

    def linear(self, eq: Local) -> Local | None:
        """The equation at known indices; None where they are unknown."""
        if not self.adds and eq.params.get("update_jaxpr") is not None:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} applies a function at indices; write f(x[i]) at the same indices instead."
            )
        indices = known_indices(eq, [1])
        if indices is None:
            return None
        eq.static["indices"] = indices[0]
        eq.static["meetings"] = meetings(eq, indices[0])
        if not self.adds and eq.static["meetings"] > 1:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} writes to one place more than once, and JAX does not say which one stays. "
                "Use .at[].add, .at[].max or .at[].min, or indices without repetitions."
            )
        return eq.view([eq.ranges[0], eq.ranges[2]], (0, 2))

    def range(self, eq: Local) -> list[Range]:
        linear = self.linear(eq)
        if linear:
            return self.known.range(linear)
        x, _, u = eq.ranges
        lo, hi = self._hull(eq)
        factor = self._factor(eq)
        # Around the operand's center, updates count in full.
        part = up(times(factor, u.norm), 2)
        rest = up(x.rest + part) if self.adds else norm2(self._apart(lo, hi, x.center))
        gains = x.gains if self.adds else np.zeros(eq.leaves)
        radius = up(x.radius + part) if self.adds else rest
        return [enclose(eq.radii, lo, hi, x.center, gains, rest, radius)]

    def _apart(self, lo: Array, hi: Array, center: Array) -> Array:
        return up(namespace(lo, hi, center).maximum(abs(hi - center), abs(lo - center)))

    def _factor(self, eq: Local) -> Array:
        """Norm of the map that moves updates to unknown places."""
        if not self.adds:
            return 1.0
        shape = eq.equation.inputs[1].shape
        return up(np.sqrt(float(math.prod(shape[:-1]))))

    def _everywhere(self, eq: Local, function: Callable[..., Any]) -> Any:
        """``apply(operand, updates)``: the results with all indices equal, for every value."""
        numbers = eq.params["dimension_numbers"]
        shape, indices = eq.ranges[0].shape, eq.equation.inputs[1]
        window = self._window(eq)
        axes = numbers.scatter_dims_to_operand_dims
        places = positions(eq, [shape[a] - window[a] + 1 for a in axes])
        write = write_with(eq, function)

        def apply(operand: Any, updates: Any) -> Any:
            def at(place: Any) -> Any:
                whole = jnp.broadcast_to(place.astype(indices.dtype), indices.shape)
                return write(operand, whole, updates)

            return jax.vmap(at)(places)

        return apply

    def _window(self, eq: Local) -> list[int]:
        """Size of an update's window along every axis of the operand."""
        numbers = eq.params["dimension_numbers"]
        single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
        kept = iter(numbers.update_window_dims)
        updates = eq.ranges[2].shape
        return [1 if a in single else updates[next(kept)] for a in range(len(eq.ranges[0].shape))]

    def _hull(self, eq: Local) -> tuple[Array, Array]:
        x, _, u = eq.ranges
        xp = namespace(x.lo, x.hi, u.lo, u.hi)
        if self.adds:
            terms = math.prod(u.shape) + 2
            zeros = np.zeros(x.shape)
            low, high = (
                self._added(eq, zeros, side)
                for side in (xp.maximum(-u.lo, 0.0), xp.maximum(u.hi, 0.0))
            )
            low, high = (low, high) if self.sign > 0 else (high, low)
            lo, hi = x.lo - up(low, terms), x.hi + up(high, terms)
            return lo - abs(lo) * 2.0**-50, hi + abs(hi) * 2.0**-50
        lo = on_arrays(self._everywhere(eq, lax.scatter_min), x.lo, u.lo)
        hi = on_arrays(self._everywhere(eq, lax.scatter_max), x.hi, u.hi)
        return namespace(lo).min(lo, axis=0), namespace(hi).max(hi, axis=0)

    def _added(self, eq: Local, zeros: Array, size: Array) -> Array:
        """Per place the sum of the sizes of all updates that may land there."""
        found = on_arrays(self._everywhere(eq, lax.scatter_add), zeros, size)
        return namespace(found).sum(found, axis=0)

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        dx, _, du = magnitudes
        linear = self.linear(eq)
        if linear:
            return self.known.first_order(linear, [dx, du])
        if du is None:
            # What is there stays, or is replaced by what does not change.
            return [dx]
        factor = self._factor(eq)
        if self.adds:
            landed = Magnitude(None, up(times(factor, du.norm)), du.total)
            if du.entries is not None:
                zeros = np.zeros(eq.ranges[0].shape)
                sums = [self._added(eq, zeros, e) for e in du.entries]
                entries = up(namespace(*sums).stack(sums), math.prod(eq.ranges[2].shape) + 1)
                landed = tighten(entries, landed.norm, landed.total)
            return [add(dx, landed)]
        norm = du.norm if dx is None else norm2(namespace(dx.norm).stack([dx.norm, du.norm]), 0)
        return [Magnitude(None, norm)]


class ScatterMulRule(Rule):
    """scatter-mul at known, distinct indices: the product with updates written into ones."""

    def __init__(self) -> None:
        self.product = MulRule()
        self.written = _Known(lax.scatter, False)

    def _factors(self, eq: Local) -> tuple[Local, Local]:
        """(the product, the equation that writes the updates into ones)."""
        indices = known_indices(eq, [1])
        if indices is None or meetings(eq, indices[0]) > 1:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} multiplies at indices that are unknown or repeated. Make them known with "
                "jaxsmooth.fixed, and distinct."
            )
        eq.static["indices"] = indices[0]
        ones = np.ones(eq.ranges[0].shape)
        constant = Range(ones, ones, ones, 0.0, np.zeros(eq.leaves), 0.0)
        inner = eq.view([constant, eq.ranges[2]], (0, 2))
        factor = eq.once("factor", lambda: self.written.range(inner)[0])
        return eq.view([eq.ranges[0], factor], (0, 2)), inner

    def _pushed(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> tuple[Local, list[Magnitude | None]]:
        product, inner = self._factors(eq)
        dx, _, du = magnitudes
        written = None if du is None else self.written.first_order(inner, [None, du])[0]
        return product, [dx, written]

    def range(self, eq: Local) -> list[Range]:
        return self.product.range(self._factors(eq)[0])

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return self.product.first_order(*self._pushed(eq, magnitudes))

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        return self.product.second_order(*self._pushed(eq, magnitudes))


class _UpdatedSlice(LinearRule):
    """dynamic_update_slice at known starts as a linear equation of (operand, update)."""

    def __init__(self) -> None:
        super().__init__(columns=lambda eq: [1.0, 1.0], disjoint=True)

    def bound(self, eq: Local) -> Any:
        starts = eq.static["indices"]
        return lambda x, u: lax.dynamic_update_slice(x, u, starts)


class DynamicUpdateSliceRule(Rule):
    """dynamic_update_slice(operand, update, *starts)."""

    def carries(self, eq: Local) -> bool:
        return True

    def __init__(self) -> None:
        self.known = _UpdatedSlice()

    def _linear(self, eq: Local) -> Local | None:
        starts = known_indices(eq, range(2, len(eq.ranges)))
        if starts is None:
            return None
        eq.static["indices"] = starts
        return eq.view(eq.ranges[:2], (0, 1))

    def range(self, eq: Local) -> list[Range]:
        linear = self._linear(eq)
        if linear:
            return self.known.range(linear)
        x, u = eq.ranges[:2]
        places = positions(eq, [n - s + 1 for n, s in zip(x.shape, u.shape, strict=True)])

        def everywhere(operand: Any, update: Any) -> Any:
            at = jax.vmap(lambda place: lax.dynamic_update_slice(operand, update, place))
            return at(places)

        lo, hi = on_arrays(everywhere, x.lo, u.lo), on_arrays(everywhere, x.hi, u.hi)
        xp = namespace(lo, hi)
        lo, hi = xp.minimum(x.lo, xp.min(lo, axis=0)), xp.maximum(x.hi, xp.max(hi, axis=0))
        zeros = np.zeros(eq.leaves)
        return [enclose(eq.radii, lo, hi, x.center, zeros, np.inf)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        linear = self._linear(eq)
        if linear:
            return self.known.first_order(linear, magnitudes[:2])
        dx, du = magnitudes[:2]
        if dx is None or du is None:
            return [dx if du is None else Magnitude(None, du.norm, du.total)]
        return [Magnitude(None, norm2(namespace(dx.norm).stack([dx.norm, du.norm]), 0))]


define(ScatterRule(adds=False), p.scatter_p)
define(ScatterRule(adds=True), p.scatter_add_p)
define(
    ScatterRule(adds=True, sign=-1),
    primitive_in(
        lambda x: x.at[0].subtract(1.0), "scatter-sub", jax.ShapeDtypeStruct((2,), jnp.float32)
    ),
)
define(ScatterMulRule(), p.scatter_mul_p)
define(DynamicUpdateSliceRule(), p.dynamic_update_slice_p)
