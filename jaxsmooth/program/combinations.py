"""Combinations (1 - z)·a + z·b of two values, as gates make them.

Equation by equation the weights 1 - z and z are two numbers in [0, 1] that may both be one,
and a gated recurrent unit seems to grow at every step. Recognised as what it is, its result
is between a and b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import made_by
from jaxsmooth.program.simplify import numbers

COMBINATION = Primitive("combination")
"""Key of (1 - z)·a + z·b; its operands are z, a and b."""


def combinations(
    equations: Sequence[Equation],
    outputs: Sequence[Atom],
    known: dict[Value, Any],
    varies: set[Value],
) -> list[Equation]:
    """A rewrite that recognises combinations of two values."""
    producers = {v: e for e in equations for v in e.outputs}
    return live([_recognise(e, producers, known) for e in equations], outputs)


def _recognise(
    equation: Equation, producers: dict[Value, Equation], known: dict[Value, Any]
) -> Equation:
    if equation.primitive not in (p.add_p, p.add_jaxvals_p):
        return equation
    for x, y in (equation.inputs, equation.inputs[::-1]):
        found = _weighted(x, y, producers, known) or _moved(x, y, producers)
        if found is None or any(a.shape != equation.outputs[0].shape for a in found):
            continue
        return replace(equation, primitive=COMBINATION, params={}, inputs=found)
    return equation


def _operands(primitive: Any, atom: Atom, producers: dict[Value, Equation]) -> Sequence[Atom]:
    """Operands of the equation that makes the atom, if it is of this primitive."""
    made = made_by(atom, producers)
    return made.inputs if made is not None and made.primitive is primitive else ()


def _weighted(
    x: Atom, y: Atom, producers: dict[Value, Equation], known: dict[Value, Any]
) -> tuple[Atom, Atom, Atom] | None:
    """(z, a, b) of x = (1 - z)·a and y = z·b."""
    first, second = (_operands(p.mul_p, v, producers) for v in (x, y))
    for weight, a in (first, first[::-1]) if first else ():
        for other, b in (second, second[::-1]) if second else ():
            if _rest(weight, other, known):
                return other, a, b
        one, z = _operands(p.sub_p, weight, producers) or (None, None)
        if z is None or not _is_one(one, known):
            continue
        for other, b in (second, second[::-1]) if second else ():
            if other is z:
                return z, a, b
    return None


def _moved(x: Atom, y: Atom, producers: dict[Value, Equation]) -> tuple[Atom, Atom, Atom] | None:
    """(z, a, b) of x = a and y = z·(b - a)."""
    product = _operands(p.mul_p, y, producers)
    for z, way in (product, product[::-1]) if product else ():
        b, a = _operands(p.sub_p, way, producers) or (None, None)
        if b is not None and a is x:
            return z, x, b
    return None


def _is_one(atom: Any, known: dict[Value, Any]) -> bool:
    value = numbers(atom, known)
    return value is not None and bool(np.all(value == 1))


def _rest(weight: Atom, z: Atom, known: dict[Value, Any]) -> bool:
    """Whether known weights are 1 - z and z."""
    one, other = numbers(weight, known), numbers(z, known)
    return one is not None and other is not None and bool(np.all(one == 1 - other))
