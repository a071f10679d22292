"""Lengths of vectors whose entries are separate values: √(x² + y² + … + c), elementwise.

`jnp.hypot`, and the distance that is written out. Equation by equation the root forgets that
its slope x/√(x² + …) is at most one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import Producers, bare, producer
from jaxsmooth.program.match import LENGTH
from jaxsmooth.program.simplify import uniform
from jaxsmooth.program.squares import squared


def lengths(
    equations: Sequence[Equation], outputs: Sequence[Atom], known: Mapping[Value, Any]
) -> list[Equation]:
    """The equations with every root of a sum of squares as one equation, dead ones dropped."""
    finder = _Finder({v: e for e in equations for v in e.outputs}, known)
    return live([finder.visit(e) for e in equations], outputs)


@dataclass(frozen=True, eq=False)
class _Finder:
    producers: Producers
    known: Mapping[Value, Any]

    def visit(self, equation: Equation) -> Equation:
        """The equation, or the length that it is the root of."""
        if equation.primitive is not p.sqrt_p:
            return equation
        parts = self.parts(equation.inputs[0])
        if parts is None:
            return equation
        entries, offset = parts
        # The root of one square is a function of one variable.
        if len({bare(a, self.producers) for a in entries}) < 2 or not offset >= 0:
            return equation
        return replace(
            equation,
            primitive=LENGTH,
            params={"offset": offset},
            inputs=tuple(entries),
            eqn=None,
        )

    def parts(self, atom: Atom) -> tuple[list[Atom], float] | None:
        """The values whose squares are added up to an atom, and the number that is added."""
        number = uniform(atom, self.known)
        if number is not None:
            return [], float(number)
        equation = producer(atom, self.producers)
        if equation is None or equation.outputs[0].shape != atom.shape:
            return None
        if equation.primitive is p.add_p:
            found = [self.parts(a) for a in equation.inputs]
            if found[0] is None or found[1] is None:
                return None
            return [*found[0][0], *found[1][0]], found[0][1] + found[1][1]
        root = squared(equation)
        return None if root is None else ([root], 0.0)
