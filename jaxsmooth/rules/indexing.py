"""Gathering and slicing by indices that do not change with the arguments.

With known indices the equation moves entries. With unknown ones (labels passed as an
argument) every result entry is one of the entries that any index in the array could
select: a hull over the index's values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p
from jax.lax import GatherScatterMode

from jaxsmooth import errors
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, times, up
from jaxsmooth.math.magnitude import Magnitude, tighten
from jaxsmooth.math.range import Range, enclose, lipschitz_image
from jaxsmooth.rules.linear import LinearRule, bind_with
from jaxsmooth.rules.registry import Local, Rule, define, on_arrays

_MOST_POSITIONS = 4096


class _AtKnownIndices(LinearRule):
    """The equation as a linear one of its first operand."""

    def bound(self, eq: Local) -> Any:
        indices = eq.static["indices"]
        params = {**eq.params, **_no_fill(eq)}
        return lambda x: bind_with(eq, params, x, *indices)


class IndexedRule(Rule):
    """An equation that is linear in its first operand, given the others (its indices)."""

    def __init__(self) -> None:
        self.known = _AtKnownIndices()

    def carries(self, eq: Local) -> bool:
        return True

    def _linear(self, eq: Local) -> Local | None:
        """The equation as one of its first operand, or None where an index is unknown."""
        if any(eq.varies[1:]):
            raise errors.DiscontinuityError(
                f"{eq} reads at an index that varies with the arguments, which jumps. Make the "
                "index known with jaxsmooth.fixed, or weigh all entries smoothly (softmax)."
            )
        indices = eq.known[1:]
        if any(k is None or is_traced(k) for k in indices):
            return None
        eq.static["indices"] = [np.asarray(k) for k in indices]
        return eq.view(eq.ranges[:1], (0,))

    def range(self, eq: Local) -> list[Range]:
        linear = self._linear(eq)
        return self.known.range(linear) if linear else self.unknown_range(eq)

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        linear = self._linear(eq)
        if linear:
            return self.known.first_order(linear, magnitudes[:1])
        (m, *_) = magnitudes
        return [None if m is None else self.unknown_first_order(eq, m)]

    # Unknown indices.

    def choices(self, eq: Local, x: Array) -> Array:
        """The results for every value of the index, along a new first axis."""
        return on_arrays(self._choose(eq), x)

    def _choose(self, eq: Local) -> Any:
        """The equation at every value of its index, as a function of its first operand."""
        raise NotImplementedError

    def overlap(self, eq: Local) -> float:
        """The most result entries that one operand entry is a choice of."""

        def count(x: Any) -> Any:
            result, transpose = jax.vjp(self._choose(eq), x)
            return transpose(jnp.ones_like(result))[0]

        ones = np.zeros(eq.ranges[0].shape)
        return eq.always("overlap", lambda: float(np.max(on_arrays(count, ones), initial=0.0)))

    def unknown_range(self, eq: Local) -> list[Range]:
        x = eq.ranges[0]
        lo, hi = self.choices(eq, x.lo), self.choices(eq, x.hi)
        centers = self.choices(eq, x.center)
        xp = namespace(lo, hi, centers)
        low, high = xp.min(centers, axis=0), xp.max(centers, axis=0)
        center = (low + high) / 2
        apart = up(norm2(xp.maximum(high - center, center - low)), 2)
        factor = up(np.sqrt(self.overlap(eq)))
        return [
            lipschitz_image(
                eq.radii, x, factor, xp.min(lo, axis=0), xp.max(hi, axis=0), center, apart
            )
        ]

    def unknown_first_order(self, eq: Local, m: Magnitude) -> Magnitude:
        norm = up(times(up(np.sqrt(self.overlap(eq))), m.norm))
        if m.entries is None:
            return Magnitude(None, norm)
        chosen = on_arrays(jax.vmap(self._choose(eq)), m.entries)
        return tighten(namespace(chosen).max(chosen, axis=1), norm)


class GatherRule(IndexedRule):
    """gather: every index of an array of indices selects for itself.

    Entries out of range are those next to it, or a number that stands for them.
    """

    def range(self, eq: Local) -> list[Range]:
        (found,) = super().range(eq)
        fill = _fill(eq)
        if fill is None or np.isnan(fill):
            return [found]
        outside = self._outside(eq)
        if outside is None:
            xp = namespace(found.lo, found.hi)
            apart = norm2(abs(found.center - fill))
            return [
                enclose(
                    eq.radii,
                    xp.minimum(found.lo, fill),
                    xp.maximum(found.hi, fill),
                    found.center,
                    found.gains,
                    up(found.rest + apart),
                    up(found.radius + apart),
                )
            ]
        # There the linear equation gives 0.
        lo, hi, center = (
            a + np.where(outside, fill, 0.0) for a in (found.lo, found.hi, found.center)
        )
        return [enclose(eq.radii, lo, hi, center, found.gains, found.rest, found.radius)]

    def leaves_domain(self, eq: Local) -> bool:
        fill = _fill(eq)
        if fill is None or not np.isnan(fill):
            return False
        outside = self._outside(eq)
        return outside is None or bool(outside.any())

    def _outside(self, eq: Local) -> np.ndarray | None:
        """Which results are out of range; None where the indices are unknown."""
        linear = self._linear(eq)
        if linear is None:
            return None
        ones = np.ones(linear.ranges[0].shape)
        return linear.always("outside", lambda: self.known.absolute(linear, ones) == 0)

    def _choose(self, eq: Local) -> Any:
        axes = eq.params["dimension_numbers"].start_index_map
        shape, sizes = eq.ranges[0].shape, eq.params["slice_sizes"]
        places = positions(eq, [shape[a] - sizes[a] + 1 for a in axes])
        indices = eq.equation.inputs[1]
        params = {**eq.params, **_no_fill(eq)}

        def choose(x: Any) -> Any:
            def at(place: Any) -> Any:
                whole = jnp.broadcast_to(place.astype(indices.dtype), indices.shape)
                return bind_with(eq, params, x, whole)

            return jax.vmap(at)(places)

        return choose


class DynamicSliceRule(IndexedRule):
    """dynamic_slice; JAX moves a start that is out of range inwards."""

    def _choose(self, eq: Local) -> Any:
        sizes = eq.params["slice_sizes"]
        shape = eq.ranges[0].shape
        places = positions(eq, [n - s + 1 for n, s in zip(shape, sizes, strict=True)])
        return lambda x: jax.vmap(lambda place: jax.lax.dynamic_slice(x, place, sizes))(places)


def positions(eq: Local, counts: Sequence[int]) -> np.ndarray:
    """All index vectors below the counts, one a row."""
    total = math.prod(counts)
    if total > _MOST_POSITIONS:
        raise errors.UnsupportedPrimitiveError(
            f"{eq}: its indices are unknown, and {total} places are too many to enclose. "
            "Make them known with jaxsmooth.fixed."
        )
    return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(
        total, len(counts)
    )


def _no_fill(eq: Local) -> dict[str, Any]:
    """Without what stands for entries out of range, so that the equation is linear."""
    return {"fill_value": 0} if "fill_value" in eq.params else {}


def _fill(eq: Local) -> float | None:
    """What stands for entries out of range; None if other entries do."""
    if eq.params.get("mode") != GatherScatterMode.FILL_OR_DROP:
        return None
    value, dtype = eq.params["fill_value"], eq.equation.outputs[0].dtype
    if value is not None:
        return float(value)
    if dtype == np.bool_ or not jnp.issubdtype(dtype, jnp.integer):
        return 1.0 if dtype == np.bool_ else np.nan
    limits = jnp.iinfo(dtype)
    return float(limits.min if limits.min < 0 else limits.max)


define(GatherRule(), p.gather_p)
define(DynamicSliceRule(), p.dynamic_slice_p)
