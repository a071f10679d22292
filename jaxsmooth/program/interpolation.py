"""Piecewise linear interpolation between knots that are known: `jnp.interp`.

It is matched against the installed JAX's own program, and becomes one function of one variable,

    c + Σ_j s_j·clip(x, x_j, x_{j+1}),

with the slopes s_j between the knots: constant before the first and after the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value
from jaxsmooth.program.layout import Producers, origin, producer
from jaxsmooth.program.match import Composite
from jaxsmooth.program.regions import UNIVARIATE, Steps
from jaxsmooth.program.simplify import numbers

INTERPOLATION = Primitive("interpolation")
"""Operands are the points, the knots, and the values at them."""

_MOST_KNOTS = 256
_MOST_MAPPED = 3


def _mapped(count: int) -> Callable[..., Any]:
    """`jnp.interp` under that many `jax.vmap`."""
    function = jnp.interp
    for _ in range(count):
        function = jax.vmap(function, (0, None, None))
    return function


def _operands(count: int) -> Callable[[Equation, Producers], tuple[Any, ...] | None]:
    """Of the reference, if the equation chooses the last value beyond the last knot."""

    def operands(
        equation: Equation, producers: Producers
    ) -> tuple[jax.ShapeDtypeStruct, ...] | None:
        (output,) = equation.outputs
        beyond = producer(equation.inputs[0], producers)
        if beyond is None or beyond.primitive is not p.gt_p or len(output.shape) < count:
            return None
        last = producer(origin(beyond.inputs[1], producers).root, producers)
        if last is None or last.primitive is not p.slice_p or len(last.inputs[0].shape) != 1:
            return None
        shapes = (output.shape, last.inputs[0].shape, last.inputs[0].shape)
        return tuple(jax.ShapeDtypeStruct(shape, output.dtype) for shape in shapes)

    return operands


INTERPOLATIONS = tuple(
    Composite(INTERPOLATION, _mapped(count), frozenset({p.select_n_p}), _operands(count))
    for count in range(_MOST_MAPPED + 1)
)
"""Composites that programs are searched for."""


def interpolations(
    equations: Sequence[Equation],
    outputs: Sequence[Atom],
    known: dict[Value, Any],
    varies: set[Value],
) -> list[Equation]:
    """A rewrite of interpolations as functions of one variable."""
    del outputs, varies
    return [_function(e, known) if e.primitive is INTERPOLATION else e for e in equations]


def _function(equation: Equation, known: dict[Value, Any]) -> Equation:
    x, *given = equation.inputs
    knots, heights = (numbers(a, known) for a in given)
    if knots is None or heights is None:
        return equation
    knots, heights = knots.astype(np.float64), heights.astype(np.float64)
    if not 1 < len(knots) <= _MOST_KNOTS or not np.all(np.diff(knots) > 0):
        return equation
    if not np.isfinite(knots).all() or not np.isfinite(heights).all():
        return equation
    params = {"steps": tuple(_steps(knots, heights)), "final": equation}
    return replace(equation, primitive=UNIVARIATE, params=params, inputs=(x,))


def _steps(knots: np.ndarray, heights: np.ndarray) -> Steps:
    slopes = np.diff(heights) / np.diff(knots)
    steps: Steps = []
    total: Any = float(heights[0] - np.sum(slopes * knots[:-1]))
    for low, high, slope in zip(knots, knots[1:], slopes, strict=False):
        steps.append(("clamp", (float(low), 0, float(high)), None))
        steps.append(("mul", (len(steps), float(slope)), None))
        steps.append(("add", (len(steps), total), None))
        total = len(steps)
    return steps
