"""Choices by the sign of what is chosen: a parametric relu as its continuous self.

    where(x > 0, u·x, v·x) = v·x + (u - v)·max(x, 0) = u·x + (v - u)·min(x, 0)

for all u and v, also where they vary. Equation by equation the comparison jumps. The factors
may be absent (one) or the branch the number 0; where both are numbers of the program,
`jaxsmooth.program.regions` takes the whole for one function of x. The graph itself is
rewritten, for f_eps has to compute the maximum, which f does not; values are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import (
    Atom,
    Call,
    Equation,
    Graph,
    Node,
    Switch,
    Value,
    equations_of,
)  # fmt: skip
from jaxsmooth.program.layout import is_identity, made_by
from jaxsmooth.program.match import OF_NUMBERS

_TOLD_BY = {p.gt_p: True, p.ge_p: True, p.lt_p: False, p.le_p: False}
"""Comparisons, and whether x > 0 makes them true."""


def halves(graph: Graph) -> Graph:
    """The graph with choices by the sign as maxima and minima."""
    finder = _Finder(graph)
    return replace(graph, body=finder.body(graph.body))


@dataclass(eq=False)
class _Finder:
    graph: Graph
    producers: dict[Value, Equation] = field(default_factory=dict)

    def body(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """The nodes of one level, and those inside."""
        found: list[Node] = []
        for node in nodes:
            if isinstance(node, Call):
                found.append(replace(node, body=self.body(node.body)))
            elif isinstance(node, Switch):
                branches = tuple((self.body(body), results) for body, results in node.branches)
                found.append(replace(node, branches=branches))
            elif node.loop is not None:
                loop = replace(node.loop, body=self.body(node.loop.body))
                found.append(replace(node, loop=loop))
            else:
                found.extend(self.equation(node) or [node])
                self.producers.update(dict.fromkeys(node.outputs, node))
        return tuple(found)

    def equation(self, equation: Equation) -> list[Node] | None:
        """What stands for a choice by the sign; None for other equations."""
        if equation.primitive is not p.select_n_p or len(equation.inputs) != 3:
            return None
        (output,) = equation.outputs
        which, otherwise, chosen = equation.inputs
        compared = self._compared(which)
        if compared is None or not jnp.issubdtype(output.dtype, jnp.floating):
            return None
        x, positive = compared
        if x.shape != output.shape or which.shape != output.shape:
            return None
        above, below = (chosen, otherwise) if positive else (otherwise, chosen)
        u, v = self._factor(above, x), self._factor(below, x)
        if u is None or v is None or not any(isinstance(w, Value) for w in (u, v)):
            return None
        # Factors that follow from x make functions of x, which are recognised as such.
        if any(isinstance(w, Value) and self._follows(w, x, set()) for w in (u, v)):
            return None
        return self._written(equation, x, u, v)

    def _compared(self, which: Atom) -> tuple[Value, bool] | None:
        """(x, whether x > 0 makes it true) of a comparison with 0."""
        equation = made_by(which, self.producers)
        if equation is None or equation.primitive not in _TOLD_BY:
            return None
        first, second = equation.inputs
        positive = _TOLD_BY[equation.primitive]
        if isinstance(first, Value) and self._number(second) == 0:
            return first, positive
        if isinstance(second, Value) and self._number(first) == 0:
            return second, not positive
        return None

    def _number(self, atom: Atom) -> float | None:
        """The number that an atom is everywhere, as the program writes it."""
        while isinstance(atom, Value):
            equation = self.producers.get(atom)
            if equation is None:
                return None
            if equation.primitive is not p.broadcast_in_dim_p and not is_identity(equation):
                return None
            atom = equation.inputs[0]
        return float(atom.value) if np.size(atom.value) == 1 else None

    def _factor(self, atom: Atom, x: Value) -> float | Value | None:
        """w if the atom is w·x: a number of the program, or a value."""
        if atom is x:
            return 1.0
        if self._number(atom) == 0:
            return 0.0
        equation = made_by(atom, self.producers)
        if equation is None or equation.primitive is not p.mul_p:
            return None
        for first, w in (equation.inputs, equation.inputs[::-1]):
            if first is x and w is not x:
                number = self._number(w)
                return w if number is None and isinstance(w, Value) else number
        return None

    def _follows(self, value: Value, x: Value, seen: set[Value]) -> bool:
        """Whether a value is computed from x."""
        if value is x:
            return True
        equation = self.producers.get(value)
        if equation is None or value in seen:
            return False
        seen.add(value)
        return any(isinstance(a, Value) and self._follows(a, x, seen) for a in equation.inputs)

    def _written(
        self, equation: Equation, x: Value, u: float | Value, v: float | Value
    ) -> list[Node]:
        """The equations that compute the choice."""
        values = [w for w in (u, v) if isinstance(w, Value)]

        def choice(x: Any, *varying: Any) -> Any:
            left = iter(lax.broadcast_in_dim(w, x.shape, range(x.ndim)[: w.ndim]) for w in varying)
            above, below = (next(left) if isinstance(w, Value) else w for w in (u, v))
            if v == 0 or (isinstance(v, Value) and u != 0):
                return _combined(above, below, lax.max(x, lax.full_like(x, 0)), x)
            return _combined(below, above, lax.min(x, lax.full_like(x, 0)), x)

        (output,) = equation.outputs
        found = equations_of(choice, [x, *values], output, equation.path, equation.source)
        if u != 0 and v != 0:
            return [*found]
        # Where x is no number the choice may be 0, and the product is none.
        return [replace(e, params=e.params | OF_NUMBERS) for e in found]


def _combined(one: Any, other: Any, part: Any, x: Any) -> Any:
    """(one - other)·part + other·x.

    Where one is 1 it is a combination, whose weights sum to one.
    """
    one, other = (w if isinstance(w, jax.Array) else lax.full_like(x, w) for w in (one, other))
    return lax.add(lax.mul(lax.sub(one, other), part), lax.mul(other, x))
