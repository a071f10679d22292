"""Equations in their simplest form: decided choices, neutral elements, powers that have a name.

What returns an operand as it is stands between the parts of what is to be recognised: `jnp.var`
chooses by a known count, a layer without a mean subtracts zeros. A length may be written
``sum(x ** 2.0) ** 0.5``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.core import Tracer
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Literal, Value

_NEUTRAL = {
    p.add_p: (0.0, True),
    p.sub_p: (0.0, False),
    p.mul_p: (1.0, True),
    p.div_p: (1.0, False),
}
"""The number that changes nothing as second operand, and whether also as the first."""
_ROOTS = {0.5: p.sqrt_p, -0.5: p.rsqrt_p}
# Not 0 and 1: JAX's second derivatives of these are no numbers at 0, and must be mended.
_POWERS = frozenset(range(-64, 65)) - {0, 1}
_SETTLING = {p.or_p: True, p.and_p: False}
"""The truth value that one operand gives to the result, whatever the other is."""


def numbers(atom: Atom, known: Mapping[Value, Any]) -> np.ndarray | None:
    """The numbers that an atom holds; None if they are unknown or traced."""
    value = atom.value if isinstance(atom, Literal) else known.get(atom)
    # As NumPy's: of an array of JAX's, an outer trace would make a tracer again.
    return None if value is None or isinstance(value, Tracer) else np.asarray(value)


def uniform(atom: Atom, known: Mapping[Value, Any]) -> Any | None:
    """The one known number that an atom is everywhere; None if there is none."""
    value = atom.value if isinstance(atom, Literal) else known.get(atom)
    if value is None or isinstance(value, Tracer) or not np.size(value):
        return None
    if not hasattr(value, "dtype") or not isinstance(value.dtype, np.dtype):
        return value if isinstance(value, (bool, int, float)) else None
    flat = np.asarray(value).reshape(-1)
    return flat[0] if flat.dtype.kind in "biufV" and np.all(flat == flat[0]) else None


def simplified(
    equations: Sequence[Equation], known: dict[Value, Any], chosen: dict[Value, Atom]
) -> list[Equation]:
    """The equations, those that return an operand as copies of it.

    Without those whose truth value a known operand decides alone; ``known`` gets it.
    ``chosen`` gets the operands that choices by known conditions return, of unknown ones.
    """
    found: list[Equation] = []
    for equation in equations:
        truth = _settled(equation, known)
        if truth is not None:
            known[equation.outputs[0]] = truth
            continue
        found.append(_simplified(equation, known))
        if equation.primitive is p.select_n_p and found[-1] is not equation:
            (operand,) = found[-1].inputs
            others = {a for a in equation.inputs[1:] if isinstance(a, Value)} - {operand}
            if not others <= known.keys():
                chosen[equation.outputs[0]] = operand
    return found


def _settled(equation: Equation, known: Mapping[Value, Any]) -> np.ndarray | None:
    """The truth values of ``x or True``, ``x and False``."""
    settling = _SETTLING.get(equation.primitive)
    if settling is None or equation.outputs[0].dtype != np.bool_:
        return None
    if not any(uniform(a, known) == settling for a in equation.inputs):
        return None
    return np.full(equation.outputs[0].shape, settling)


def _simplified(equation: Equation, known: Mapping[Value, Any]) -> Equation:
    if equation.primitive is p.pow_p:
        return _power(equation, known)
    operand = _returned(equation, known)
    same = operand is not None and operand.shape == equation.outputs[0].shape
    if operand is None or not same or operand.dtype != equation.outputs[0].dtype:
        return equation
    return replace(equation, primitive=p.copy_p, params={}, inputs=(operand,), eqn=None)


def _power(equation: Equation, known: Mapping[Value, Any]) -> Equation:
    """A power with a known exponent as a root or an integer power, if it is one."""
    base, exponent = equation.inputs
    number = uniform(exponent, known)
    if number is None or base.shape != equation.outputs[0].shape:
        return equation
    if number in _ROOTS:
        primitive, params = _ROOTS[number], {"accuracy": None}
    elif number in _POWERS:
        primitive, params = p.integer_pow_p, {"y": int(number)}
    else:
        return equation
    return replace(equation, primitive=primitive, params=params, inputs=(base,), eqn=None)


def _returned(equation: Equation, known: Mapping[Value, Any]) -> Atom | None:
    if equation.primitive is p.select_n_p:
        which = uniform(equation.inputs[0], known)
        return None if which is None else equation.inputs[1 + int(which)]
    if equation.primitive not in _NEUTRAL:
        return None
    neutral, commutes = _NEUTRAL[equation.primitive]
    first, second = equation.inputs
    orders: Sequence[tuple[Atom, Atom]] = [(first, second), (second, first)]
    for operand, other in orders[: 2 if commutes else 1]:
        if uniform(other, known) == neutral:
            return operand
    return None
