"""The entry at the argument of the maximum is the maximum.

``x[jnp.argmax(x)]``, `jnp.take_along_axis` of it, and the sum of x times the one-hot vector of
its argmax jump nowhere, though the index does. They are recognised by matching against these
very programs, traced with the JAX that is installed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, live
from jaxsmooth.program.layout import Producers, producer
from jaxsmooth.program.match import matched

_INDICES = {p.argmax_p: (jnp.argmax, p.reduce_max_p), p.argmin_p: (jnp.argmin, p.reduce_min_p)}
_PICKS = frozenset({p.gather_p, p.dynamic_slice_p})
_SHAPED = frozenset({p.squeeze_p, p.reshape_p})


def selections(
    equations: Sequence[Equation], outputs: Sequence[Atom], folded: Sequence[Equation] = ()
) -> list[Equation]:
    """The equations with entries at an argmax or argmin as extrema, dead ones dropped.

    Args:
      equations: live equations in order.
      outputs: what is wanted of them.
      folded: equations whose values are known.
    """
    indices = [_INDICES[e.primitive] for e in equations if e.primitive in _INDICES]
    if not indices:
        return list(equations)
    producers = {v: e for e in (*folded, *equations) for v in e.outputs}
    kinds = list(dict.fromkeys(indices))
    return live([_extremum(e, kinds, producers) or e for e in equations], outputs)


def _extremum(
    equation: Equation, kinds: Sequence[tuple[Callable[..., Any], Any]], producers: Producers
) -> Equation | None:
    if len(equation.outputs) != 1 or not jnp.issubdtype(equation.outputs[0].dtype, jnp.floating):
        return None
    for shape, axis in _candidates(equation, producers):
        operands = (jax.ShapeDtypeStruct(shape, equation.outputs[0].dtype),)
        for index, primitive in kinds:
            for form in _forms(index, shape, axis):
                found = matched(form, operands, equation, producers)
                if found is not None:
                    params = {"axes": (axis,), "out_sharding": None}
                    return Equation(
                        primitive, params, found, equation.outputs, equation.path, equation.source
                    )
    return None


def _candidates(equation: Equation, producers: Producers) -> Iterator[tuple[tuple[int, ...], int]]:
    """Shape of what entries may be picked of, and along which axis."""
    result = equation.outputs[0].shape
    if equation.primitive is p.reduce_sum_p:
        axes = equation.params["axes"]
        if len(axes) == 1:
            yield equation.inputs[0].shape, int(axes[0])
        return
    pick: Equation | None = equation
    while pick is not None and pick.primitive in _SHAPED:
        pick = producer(pick.inputs[0], producers)
    if pick is None or pick.primitive not in _PICKS:
        return
    shape = pick.inputs[0].shape
    for axis in range(len(shape)):
        if (*shape[:axis], *shape[axis + 1 :]) == result:
            yield shape, axis


@functools.lru_cache(maxsize=256)
def _forms(
    index: Callable[..., Any], shape: tuple[int, ...], axis: int
) -> tuple[Callable[..., Any], ...]:
    """Programs that pick the entries at an index along an axis."""
    size, last = shape[axis], axis == len(shape) - 1

    def hot(x: Any, dtype: Any) -> Any:
        return jax.nn.one_hot(index(x, axis), size, axis=axis, dtype=dtype)

    forms: list[Callable[..., Any]] = [
        lambda x: jnp.sum(hot(x, x.dtype) * x, axis),
        lambda x: jnp.sum(hot(x, float) * x, axis),
        lambda x: jnp.sum(jnp.where(hot(x, bool), x, 0.0), axis),
        lambda x: jnp.take_along_axis(x, index(x, axis, keepdims=True), axis).squeeze(axis),
        lambda x: jnp.take_along_axis(x, jnp.expand_dims(index(x, axis), axis), axis).squeeze(axis),
    ]
    if last:
        forms.append(lambda x: jnp.take_along_axis(x, index(x, axis)[..., None], axis)[..., 0])
    if len(shape) == 1:
        forms += [lambda x: x[index(x)], lambda x: jnp.take(x, index(x))]
        forms.append(lambda x: jnp.sum(jnp.where(jnp.arange(size) == index(x), x, 0.0)))
    if len(shape) == 2 and last:
        forms.append(lambda x: x[jnp.arange(shape[0]), index(x, 1)])
        forms += [jax.vmap(form) for form in _forms(index, shape[1:], 0)]
    return tuple(forms)
