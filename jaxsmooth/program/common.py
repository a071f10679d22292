"""Equations that compute the same from the same operands, made one.

``jnp.where(x[0] > 0, x[0], 0.1 * x[0])`` reads ``x[0]`` three times, and JAX traces three
slices. Only as one value is it seen that they move together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.core import Tracer
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import COPY, Atom, Equation, Literal, Value

Scope = tuple[int, ...]
"""The bodies that an equation is in, the outermost first, of which no value is read outside."""

# The largest known operands that are compared entry by entry, and not by identity.
_SMALL = 16


def stops_last(
    equations: Sequence[Equation], scopes: dict[Value, Scope], halts: set[Value]
) -> list[Equation]:
    """The equations with transposes of stopped values as stopped transposes.

    Under `jax.vmap` the matrix of ``jnp.linalg.solve`` is transposed both as it is and stopped:
    now that is one transpose.

    Args:
      equations: in order.
      scopes: of the first results of equations; those of added ones are added.
      halts: results of ``stop_gradient`` that count as constants; new ones are added.
    """
    stops: dict[Atom, Equation] = {}
    found: list[Equation] = []
    for equation in equations:
        stop = stops.get(equation.inputs[0]) if len(equation.inputs) == 1 else None
        if stop is not None and equation.primitive is p.transpose_p:
            (output,) = equation.outputs
            before = Value(output.aval)
            found.append(replace(equation, inputs=stop.inputs, outputs=(before,)))
            if output in scopes:
                scopes[before] = scopes[output]
            if stop.outputs[0] in halts:
                halts.add(output)
            equation = replace(stop, inputs=(before,), outputs=(output,))
        if equation.primitive is p.stop_gradient_p:
            stops[equation.outputs[0]] = equation
        found.append(equation)
    return found


def unified(
    equations: Sequence[Equation],
    known: Mapping[Value, Any],
    scopes: Mapping[Value, Scope],
) -> tuple[list[Equation], dict[Value, Value]]:
    """The equations with every repetition as a copy of the first result.

    Loops stay as they are; so do equations with effects. What is taken instead is from the
    same scope or one around it: of a branch that is not taken no value can be read, and a call
    with a derivative of its own would lose it.

    Args:
      equations: in order.
      known: values that are known.
      scopes: of the first results of equations; the outermost one by default.

    Returns:
      The equations; and for every value that is repeated the one that is taken instead.
    """
    table = _Table(known, scopes)
    return [table.visit(e) for e in equations], table.instead


@dataclass(eq=False)
class _Table:
    known: Mapping[Value, Any]
    scopes: Mapping[Value, Scope]
    instead: dict[Value, Value] = field(default_factory=dict)
    # Equations of which no two are the same, by what they compute.
    first: dict[Hashable, list[Equation]] = field(default_factory=dict)

    def visit(self, equation: Equation) -> Equation:
        """The equation on the values that are taken, or a copy of another one's result."""
        if equation.loop is not None:
            return equation  # its body reads what it reads
        inputs = tuple(self.instead.get(a, a) if isinstance(a, Value) else a
                       for a in equation.inputs)  # fmt: skip
        if inputs != equation.inputs:
            equation = replace(equation, inputs=inputs)
        if len(equation.outputs) != 1 or not equation.repeatable:
            return equation
        try:
            same = self.first.setdefault(self.key(equation), [])
        except TypeError:  # a parameter that cannot be hashed
            return equation
        scope = self.scope(equation)
        for other in same:
            outer = self.scope(other)
            if outer == scope[: len(outer)]:
                self.instead[equation.outputs[0]] = other.outputs[0]
                return replace(equation, primitive=COPY, params={}, inputs=other.outputs, eqn=None)
        same.append(equation)
        return equation

    def key(self, equation: Equation) -> Hashable:
        """Equal only for equations that compute the same."""
        aval = equation.outputs[0].aval
        return (
            equation.primitive,
            tuple(sorted(equation.params.items(), key=lambda item: item[0])),
            tuple(map(self.operand, equation.inputs)),
            (aval.shape, aval.dtype),
            None if equation.eqn is None else equation.eqn.ctx,
        )

    def operand(self, atom: Atom) -> Hashable:
        value = atom.value if isinstance(atom, Literal) else self.known.get(atom)
        if value is None or isinstance(value, Tracer) or np.size(value) > _SMALL:
            return atom
        dtype = atom.dtype
        if not isinstance(dtype, np.dtype):
            return atom
        array = np.asarray(value, dtype)
        return (dtype, array.shape, array.tobytes())

    def scope(self, equation: Equation) -> Scope:
        return self.scopes.get(equation.outputs[0], ())
