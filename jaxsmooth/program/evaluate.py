"""Evaluating a graph with some of its equations replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxsmooth.program.graph import Atom, Call, Equation, Graph, Literal, Value, _flatten, live


@dataclass(frozen=True, eq=False)
class Replacement:
    """What to compute instead of an equation: ``compute(*inputs)`` gives its outputs."""

    inputs: tuple[Atom, ...]
    compute: Callable[..., Sequence[Any]]


Replacements = Mapping[Value, Replacement]
"""Keyed by the first output of the equation that is replaced."""


class _Environment:
    def __init__(self, constants: Mapping[Value, Any], replacements: Replacements):
        self.values: dict[Value, Any] = dict(constants)
        self.replacements = replacements

    def read(self, atom: Atom) -> Any:
        return atom.value if isinstance(atom, Literal) else self.values[atom]

    def write(self, atoms: Sequence[Atom], results: Sequence[Any]) -> None:
        for atom, result in zip(atoms, results, strict=True):
            if isinstance(atom, Value):
                self.values.setdefault(atom, result)

    def run(self, body: Sequence[Equation | Call]) -> None:
        for node in body:
            if isinstance(node, Equation):
                self.write(node.outputs, self.equation(node))
            elif not self.changes(node):
                self.write(node.outputs, bind_equation(node.eqn, map(self.read, node.inputs)))
            elif node.rematerialised:
                self.write(node.outputs, self.rematerialise(node))
            else:
                # The old custom derivative no longer applies, and an outer jit compiles
                # what an inner one would have: the body is inlined.
                self.run(node.body)

    def equation(self, node: Equation) -> Sequence[Any]:
        # An equation without results is an effect, or nothing at all.
        replacement = self.replacements.get(node.outputs[0]) if node.outputs else None
        if replacement is not None:
            return replacement.compute(*map(self.read, replacement.inputs))
        return bind_equation(node.eqn, map(self.read, node.inputs))

    def changes(self, call: Call) -> bool:
        return any(e.outputs and e.outputs[0] in self.replacements for e in _flatten(call.body))

    def rematerialise(self, call: Call) -> Sequence[Any]:
        """The body under `jax.checkpoint`, with all it reads as arguments."""
        inside = {v for e in _flatten(call.body) for v in e.outputs}
        reads = [a for e in _flatten(call.body) for a in self._reads(e)]
        outer = list(dict.fromkeys(a for a in reads if isinstance(a, Value) and a not in inside))
        produced = [a for a in call.outputs if isinstance(a, Value) and a in inside]

        def body(*arguments: Any) -> list[Any]:
            environment = _Environment({}, self.replacements)
            environment.write(outer, arguments)
            environment.run(call.body)
            return [environment.read(a) for a in produced]

        params = call.eqn.params
        checkpointed = jax.checkpoint(
            body, prevent_cse=params.get("prevent_cse", True), policy=params.get("policy")
        )
        results = dict(zip(produced, checkpointed(*map(self.read, outer)), strict=True))
        return [results[a] if a in results else self.read(a) for a in call.outputs]

    def _reads(self, equation: Equation) -> Sequence[Atom]:
        replacement = self.replacements.get(equation.outputs[0]) if equation.outputs else None
        return equation.inputs if replacement is None else replacement.inputs


def evaluate(
    graph: Graph,
    arguments: Sequence[Any],
    replacements: Replacements,
    constants: Mapping[Value, Any] | None = None,
) -> list[Any]:
    """Outputs of the graph at the arguments, with some equations replaced.

    Args:
      graph: the traced function.
      arguments: one per input of the graph.
      replacements: what to compute instead of some equations.
      constants: in place of the graph's own (so that they may be passed through a jit).

    An equation or a call inside which nothing changes is bound again as it stands, so
    that its custom derivatives, shardings and donation survive.
    """
    environment = _Environment(constants or graph.constants, replacements)
    environment.write(graph.inputs, arguments)
    environment.run(graph.body)
    return [environment.read(a) for a in graph.outputs]


def downstream(
    candidates: Sequence[Equation], graph: Graph, origins: Sequence[Value]
) -> list[Equation]:
    """Those equations that read something computed from these values."""
    reached = set(origins)
    for equation in graph.equations():
        if any(a in reached for a in equation.inputs if isinstance(a, Value)):
            reached.update(equation.outputs)
    return [e for e in candidates if any(a in reached for a in e.inputs if isinstance(a, Value))]


def exactly(
    graph: Graph,
    equations: Sequence[Equation],
    arguments: Sequence[Any],
    constants: Mapping[Value, Any],
) -> dict[Value, Any]:
    """Results of some equations at the arguments, where nothing is replaced."""
    if not equations:
        return {}
    outputs = tuple(v for e in equations for v in e.outputs)
    # Without the calls around them, whose inner values could not be read.
    body = tuple(live(list(graph.equations()), outputs))
    whole = Graph(graph.inputs, outputs, dict(constants), body)
    return dict(zip(outputs, evaluate(whole, arguments, {}, constants), strict=True))


def bind_equation(eqn: Any, operands: Any) -> Sequence[Any]:
    """Results of a jaxpr equation at these operands."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Since JAX 0.9.2 the subfunctions are part of the parameters.
    subfunctions, params = bound if isinstance(bound, tuple) else ((), bound)
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*subfunctions, *operands, **params)
    return results if eqn.primitive.multiple_results else [results]
