"""Sums of squares along axes: Σ x², the square of a norm.

Entry by entry the slopes 2|x_i| are bounded one at a time, and their vector seems to be √n
times as long as that of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import Producers, is_modular, producer

SQUARES = Primitive("sum_of_squares")
"""Σ x² over ``axes``."""


def squares(
    equations: Sequence[Equation],
    outputs: Sequence[Atom],
    known: dict[Value, Any],
    varies: set[Value],
) -> list[Equation]:
    """A rewrite that recognises sums of squares."""
    producers = {v: e for e in equations for v in e.outputs}
    return live([_recognise(e, producers) for e in equations], outputs)


def _recognise(equation: Equation, producers: Producers) -> Equation:
    if equation.primitive is not p.reduce_sum_p or is_modular(equation):
        return equation
    square = producer(equation.inputs[0], producers)
    root = None if square is None else squared(square)
    if root is None or root.shape != equation.inputs[0].shape:
        return equation
    params = {"axes": tuple(int(a) for a in equation.params["axes"])}
    return replace(equation, primitive=SQUARES, params=params, inputs=(root,), eqn=None)


def squared(equation: Equation) -> Atom | None:
    """The value that an equation squares."""
    if equation.primitive is p.square_p:
        return equation.inputs[0]
    if equation.primitive is p.integer_pow_p and equation.params["y"] == 2:
        return equation.inputs[0]
    if equation.primitive is p.mul_p and equation.inputs[0] is equation.inputs[1]:
        return equation.inputs[0]
    return None
