"""Piecewise linear interpolation between knots that are known: `jnp.interp`.

It is matched against the installed JAX's own program, and becomes one function of one variable,

    y_j + (x - x_j) / (x_{j+1} - x_j) · (y_{j+1} - y_j)    for x_j < x <= x_{j+1},

as accurate as JAX's own: in a sum of all pieces, those that are steep would drown the others.
It is constant before the first knot and after the last, or with ``left`` and ``right`` other
numbers there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from jaxsmooth.program.simplify import numbers
from jaxsmooth.program.steps import UNIVARIATE, Steps

INTERPOLATION = Primitive("interpolation")
"""Operands are the points, the knots, the values at them, and those beyond them.

Params: ``ends``, the names of those that are given, of ``left`` and ``right``.
"""

_MOST_KNOTS = 256
_MOST_MAPPED = 3


def _mapped(count: int, ends: Sequence[str]) -> Callable[..., Any]:
    """`jnp.interp` with these ends, under that many `jax.vmap`."""

    def function(x: Any, knots: Any, heights: Any, *beyond: Any) -> Any:
        return jnp.interp(x, knots, heights, **dict(zip(ends, beyond, strict=True)))

    for _ in range(count):
        function = jax.vmap(function, (0, *(2 + len(ends)) * [None]))
    return function


def _operands(
    count: int, ends: Sequence[str]
) -> Callable[[Equation, Producers], tuple[Any, ...] | None]:
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
        shapes = (output.shape, *2 * [last.inputs[0].shape], *len(ends) * [()])
        return tuple(jax.ShapeDtypeStruct(shape, output.dtype) for shape in shapes)

    return operands


def _table(given: Sequence[Atom], known: Mapping[Value, Any]) -> list[np.ndarray] | None:
    """Knots, values at them and beyond them, if these make a function of one variable."""
    found = [numbers(a, known) for a in given]
    if any(v is None for v in found):
        return None
    table = [np.asarray(v, np.float64) for v in found]
    knots = table[0]
    # Between knots that are nearer, JAX has the height of the first of them.
    least = np.spacing(jnp.finfo(given[0].dtype).eps)
    if not 1 < len(knots) <= _MOST_KNOTS or not np.all(np.diff(knots) > least):
        return None
    return table if all(np.isfinite(v).all() for v in table) else None


INTERPOLATIONS = tuple(
    Composite(
        INTERPOLATION,
        _mapped(count, ends),
        frozenset({p.select_n_p}),
        _operands(count, ends),
        {"ends": ends},
        lambda inputs, known: _table(inputs[1:], known) is not None,
        first=True,
    )
    for ends in ((), ("left",), ("right",), ("left", "right"))
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
    table = _table(given, known)
    assert table is not None  # else it is not taken for one
    knots, heights, *beyond = table
    ends = dict(zip(equation.params["ends"], map(float, beyond), strict=True))
    params = {"steps": tuple(_steps(knots, heights, ends))}
    return replace(equation, primitive=UNIVARIATE, params=params, inputs=(x,))


def _steps(knots: np.ndarray, heights: np.ndarray, ends: Mapping[str, float]) -> Steps:
    steps: Steps = []
    total: Any = float(heights[0])
    rises = np.diff(heights)
    # From the end where the digits of the height are.
    near = np.arange(len(rises)) + (abs(heights[1:]) < abs(heights[:-1]))
    for knot, width, rise, end in zip(knots, np.diff(knots), rises, near, strict=False):
        piece: Any = float(heights[end])
        if rise:
            steps.append(("sub", (0, float(knots[end])), ()))
            steps.append(("div", (len(steps), float(width)), ()))
            steps.append(("mul", (len(steps), float(rise)), ()))
            steps.append(("add", (len(steps), piece), ()))
            piece = len(steps)
        total = _beyond(steps, "gt", knot, total, piece)
    total = _beyond(steps, "gt", knots[-1], total, ends.get("right", float(heights[-1])))
    if "left" in ends:
        _beyond(steps, "lt", knots[0], total, ends["left"])
    return steps


def _beyond(steps: Steps, comparison: str, knot: float, within: Any, beyond: Any) -> int:
    """Add the choice of one value up to a knot, and of another one beyond it; its number."""
    steps.append((comparison, (0, float(knot)), ()))
    steps.append(("select_n", (len(steps), within, beyond), ()))
    return len(steps)
