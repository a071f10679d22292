"""Collectives over axes of one array, as `jax.vmap` makes of its own axis, are reductions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax
from jax.extend.core import primitives as p

_REDUCTIONS: Mapping[Any, Callable[..., Any]] = {
    p.psum_p: lax.reduce_sum,
    p.pmax_p: lax.reduce_max,
    p.pmin_p: lax.reduce_min,
}


def reduction(eqn: Any) -> tuple[Any, dict[str, Any]]:
    """Primitive and parameters of the reduction that an equation is, or else its own."""
    function, params = _REDUCTIONS.get(eqn.primitive), eqn.params
    if function is None or len(eqn.invars) != 1 or params["axis_index_groups"] is not None:
        return eqn.primitive, params
    # Axes of devices have names.
    if not all(isinstance(axis, int) for axis in params["axes"]):
        return eqn.primitive, params
    aval, axes = eqn.invars[0].aval, sorted(params["axes"])
    struct = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
    (same,) = jax.make_jaxpr(lambda x: function(x, axes))(struct).jaxpr.eqns
    return same.primitive, same.params
