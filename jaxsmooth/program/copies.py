"""Copies of a value times known numbers: diagonal matrices, masks, elementwise weights.

`jnp.diag(x)` spreads x over a matrix and keeps its diagonal. One after the other, the norms
are √n and 1; together an entry of x is in the result once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import Producers, origin
from jaxsmooth.program.simplify import numbers, uniform

WEIGHTED_COPIES = Primitive("weighted_copies")
"""weights ⊙ (its operand, spread); ``axes`` of the copies are as of `Origin`."""


def copies(
    equations: Sequence[Equation],
    outputs: Sequence[Atom],
    known: Mapping[Value, Any],
    varies: set[Value],
) -> list[Equation]:
    """The equations with known numbers times something that is spread as one equation."""
    producers = {v: e for e in equations for v in e.outputs}
    return live([_weighted(e, producers, known) or e for e in equations], outputs)


def _weighted(
    equation: Equation, producers: Producers, known: Mapping[Value, Any]
) -> Equation | None:
    if equation.primitive not in (p.select_n_p, p.mul_p):
        return None
    shape = equation.outputs[0].shape
    find = _kept if equation.primitive is p.select_n_p else _scaled
    found = find(equation, known)
    if found is None:
        return None
    weights, spread = found
    if spread.shape != shape or not np.isfinite(weights).all():
        return None
    source = origin(spread, producers)
    repeats = any(a is None and n > 1 for a, n in zip(source.axes, shape, strict=True))
    dropped = [n for a, n in enumerate(source.root.shape) if a not in source.axes and n != 1]
    if not repeats or dropped or source.root.dtype != equation.outputs[0].dtype:
        return None
    params = {"weights": np.broadcast_to(weights, shape), "axes": source.axes}
    return replace(
        equation, primitive=WEIGHTED_COPIES, params=params, inputs=(source.root,), eqn=None
    )


def _kept(equation: Equation, known: Mapping[Value, Any]) -> tuple[np.ndarray, Atom] | None:
    """A choice, known everywhere, between something and 0."""
    which = numbers(equation.inputs[0], known)
    if which is None or which.dtype != bool or len(equation.inputs) != 3:
        return None
    for branch, other in ((1, 2), (2, 1)):
        if uniform(equation.inputs[other], known) == 0:
            return (which == (branch == 2)).astype(np.float64), equation.inputs[branch]
    return None


def _scaled(equation: Equation, known: Mapping[Value, Any]) -> tuple[np.ndarray, Atom] | None:
    """A product with known numbers."""
    for weights, spread in (equation.inputs, equation.inputs[::-1]):
        value = numbers(weights, known)
        if value is not None and value.dtype.kind == "f" and np.size(value) > 1:
            return value.astype(np.float64), spread
    return None
