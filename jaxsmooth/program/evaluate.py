"""Evaluating a graph with some of its equations replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxsmooth._compat import CUSTOM_DERIVATIVES
from jaxsmooth.program.graph import (
    Atom,
    Call,
    Equation,
    Graph,
    Literal,
    Loop,
    Node,
    Switch,
    Value,
    flatten,
)


@dataclass(frozen=True, eq=False)
class Replacement:
    """What to compute instead of an equation.

    Attributes:
      inputs: what ``compute`` reads.
      compute: ``compute(accuracy, *inputs)`` gives the equation's outputs.
      accuracy: a number or an array.
      steps: how many of its first axes run over the steps of the loops that the equation
        is in, the outermost first; 0 where all steps share one accuracy.
      repairs: whether it has the equation's own values, and the derivatives that JAX does not
        find. A custom derivative around the equation makes it needless.
      of_call: whether the equation stands for a call, whose custom derivative it repairs.
    """

    inputs: tuple[Atom, ...]
    compute: Callable[..., Sequence[Any]]
    accuracy: Any = None
    steps: int = 0
    repairs: bool = False
    of_call: bool = False


Replacements = Mapping[Value, Replacement]
"""Keyed by the first output of the equation that is replaced."""


@dataclass(frozen=True, eq=False)
class Resolved:
    """What is known about control flow.

    Attributes:
      lengths: number of steps of loops whose equation does not say it.
      taken: index of the branch that is taken.
    """

    lengths: dict[Loop, int] = field(default_factory=dict)
    taken: dict[Switch, int] = field(default_factory=dict)


class _Environment:
    def __init__(self, values: Mapping[Value, Any], replacements: Replacements, resolved: Resolved):
        self.values: dict[Value, Any] = dict(values)
        self.replacements = replacements
        self.resolved = resolved
        # The results of what is replaced that read a value; None stands for the caller.
        self.readers: dict[Value, list[Value | None]] = {}
        for output, replacement in replacements.items():
            for atom in replacement.inputs:
                if isinstance(atom, Value):
                    self.readers.setdefault(atom, []).append(output)

    def read(self, atom: Atom) -> Any:
        return atom.value if isinstance(atom, Literal) else self.values[atom]

    def write(self, atoms: Sequence[Atom], results: Sequence[Any]) -> None:
        for atom, result in zip(atoms, results, strict=True):
            if isinstance(atom, Value):
                self.values.setdefault(atom, result)

    def run(self, body: Sequence[Node]) -> None:
        for node in body:
            if isinstance(node, Equation):
                self.write(node.outputs, self.equation(node))
            elif not self.changes(node):
                self.write(node.outputs, bind_equation(node.eqn, map(self.read, node.inputs)))
            elif isinstance(node, Switch):
                self.write(node.outputs, self.switch(node))
            elif node.rematerialised:
                self.rematerialise(node)
            else:
                # The old custom derivative no longer applies, and an outer jit compiles
                # what an inner one would have: the body is inlined.
                self.run(node.body)

    def equation(self, node: Equation) -> Sequence[Any]:
        # An equation without results is an effect, or nothing at all.
        if node.outputs and node.outputs[0] in self.replacements:
            return self.replaced(node.outputs[0])
        if node.loop is not None and self._replaces([node]):
            with node.eqn.ctx.manager:
                return self.loop(node.loop)
        return bind_equation(node.eqn, map(self.read, node.inputs))

    def replaced(self, output: Value) -> Sequence[Any]:
        """What is computed instead of the equation with that first output."""
        replacement = self.replacements[output]
        return replacement.compute(replacement.accuracy, *map(self.read, replacement.inputs))

    def changes(self, node: Call | Switch) -> bool:
        """Whether something inside is replaced, or read by what is replaced outside."""
        if self._replaces([node]):
            return True
        inside = {v for e in flatten([node], inside_loops=True) for v in e.outputs}
        hidden = inside.difference(node.outputs)
        return any(reader not in inside for v in hidden for reader in self.readers.get(v, ()))

    def _replaces(self, body: Sequence[Node], repairs: bool = True) -> bool:
        """Whether something inside is replaced; by repairs, too, or by others only."""
        for node in body:
            if isinstance(node, Call):
                own = node.eqn.primitive in CUSTOM_DERIVATIVES
                found = repairs and self._repaired(node)
                found = found or self._replaces(node.body, repairs and not own)
            elif isinstance(node, Switch):
                branches = [branch for branch, _ in node.branches]
                found = any(self._replaces(b, repairs) for b in (*branches, node.selections()))
            else:
                replacement = self.replacements.get(node.outputs[0]) if node.outputs else None
                found = replacement is not None and (repairs or not replacement.repairs)
                if not found and node.loop is not None:
                    found = repairs and self._counted(node.loop)
                    found = found or self._replaces(node.loop.body, repairs)
            if found:
                return True
        return False

    def _counted(self, loop: Loop) -> bool:
        """Whether it is a while of known length, which has no derivatives in reverse mode."""
        return loop.length is None and loop in self.resolved.lengths

    def _repaired(self, call: Call) -> bool:
        """Whether what is replaced stands for the call itself."""
        found = (self.replacements.get(v) for v in call.outputs if isinstance(v, Value))
        return any(replacement is not None and replacement.of_call for replacement in found)

    def switch(self, node: Switch) -> Sequence[Any]:
        """Results of a cond, of which some may be replaced."""
        if node in self.resolved.taken:
            body, results = node.branches[self.resolved.taken[node]]
            # First: what is replaced may read what the branch computes.
            self.run(body)
            return [
                self.replaced(v)[0] if v in self.replacements else self.read(a)
                for v, a in zip(node.outputs, results, strict=True)
            ]
        found = {v: self.replaced(v)[0] for v in node.outputs if v in self.replacements}
        if len(found) == len(node.outputs):
            return list(found.values())
        return [found.get(v, x) for v, x in zip(node.outputs, self.chosen(node), strict=True)]

    def chosen(self, node: Switch) -> Sequence[Any]:
        """A `jax.lax.switch` over all branches."""

        def branch(body: Sequence[Node], results: Sequence[Atom]) -> Callable[[], list[Any]]:
            def evaluated() -> list[Any]:
                inner = _Environment(self.values, self.replacements, self.resolved)
                inner.run(body)
                return [
                    _typed(inner.read(a), v) for a, v in zip(results, node.outputs, strict=True)
                ]

            return evaluated

        with node.eqn.ctx.manager:
            return lax.switch(self.read(node.which), [branch(*b) for b in node.branches])

    def loop(self, loop: Loop) -> Sequence[Any]:
        """A scan, or a while of known length as a scan, which has derivatives of both modes."""
        length = loop.length if loop.length is not None else self.resolved.lengths.get(loop)
        inside = [e.outputs[0] for e in flatten(loop.body, inside_loops=True) if e.outputs]
        by_step = [v for v in inside if v in self.replacements and self.replacements[v].steps]
        accuracies = [self.replacements[v].accuracy for v in by_step]

        def step(carry: Sequence[Any], read: Any) -> tuple[list[Any], list[Any]]:
            slices, own = read
            inner = self._step(loop, carry, dict(zip(by_step, own, strict=True)))
            inner.write(loop.slices, slices)
            inner.run(loop.body)
            after = [_typed(inner.read(a), v) for a, v in zip(loop.after, loop.carry, strict=True)]
            return after, [inner.read(a) for a in loop.slots]

        start = [_typed(self.read(a), v) for a, v in zip(loop.start, loop.carry, strict=True)]
        stacks = [self.read(a) for a in loop.stacks]
        after, slots = lax.scan(
            step, start, (stacks, accuracies), length, reverse=loop.reverse, unroll=loop.unroll
        )
        return [*after, *slots]

    def _step(
        self, loop: Loop, carry: Sequence[Any], accuracies: Mapping[Value, Any]
    ) -> _Environment:
        """What one step reads: all that is outside, the carry, and its own accuracies."""
        replacements = dict(self.replacements)
        for value, accuracy in accuracies.items():
            old = replacements[value]
            replacements[value] = replace(old, accuracy=accuracy, steps=old.steps - 1)
        inner = _Environment(self.values, replacements, self.resolved)
        inner.write(loop.carry, carry)
        return inner

    def rematerialise(self, call: Call) -> None:
        """The body under `jax.checkpoint`, with all it reads as arguments."""
        equations = list(flatten(call.body, inside_loops=True))
        loops = [e.loop for e in equations if e.loop is not None]
        inside = {v for e in equations for v in e.outputs}
        local = inside.union(*((*x.carry, *x.slices, *x.asked) for x in loops))
        reads = self._reads(call.body)
        outer = list(dict.fromkeys(a for a in reads if isinstance(a, Value) and a not in local))
        level = {v for e in flatten(call.body) for v in e.outputs}
        used = [*call.outputs, *self.readers]
        produced = list(dict.fromkeys(a for a in used if isinstance(a, Value) and a in level))

        def body(*arguments: Any) -> list[Any]:
            environment = _Environment({}, self.replacements, self.resolved)
            environment.write(outer, arguments)
            environment.run(call.body)
            return [environment.values.get(a) for a in produced]

        params = call.eqn.params
        checkpointed = jax.checkpoint(
            body, prevent_cse=params.get("prevent_cse", True), policy=params.get("policy")
        )
        results = checkpointed(*map(self.read, outer))
        for value, result in zip(produced, results, strict=True):
            if result is not None:
                self.values.setdefault(value, result)

    def _reads(self, body: Sequence[Node]) -> Iterator[Atom]:
        """All that a body may read; what is bound as it stands reads all its operands."""
        for node in body:
            yield from node.inputs
            if isinstance(node, Call):
                yield from self._reads(node.body)
            elif isinstance(node, Switch):
                for branch, results in node.branches:
                    yield from (*self._reads(branch), *results)
            else:
                if node.outputs and node.outputs[0] in self.replacements:
                    yield from self.replacements[node.outputs[0]].inputs
                if node.loop is not None:
                    yield from (*self._reads(node.loop.body), *node.loop.after, *node.loop.slots)


def evaluate(
    graph: Graph,
    arguments: Sequence[Any],
    replacements: Replacements,
    constants: Mapping[Value, Any] | None = None,
    resolved: Resolved | None = None,
) -> list[Any]:
    """Outputs of the graph at the arguments, with some equations replaced.

    Args:
      graph: the traced function.
      arguments: one per input of the graph.
      replacements: what to compute instead of some equations.
      constants: in place of the graph's own (so that they may be passed through a jit).
      resolved: what is known about loops and branches.

    An equation, a call or a loop inside which nothing changes is bound again as it stands,
    so that its custom derivatives, shardings and donation survive.
    """
    environment = _Environment(constants or graph.constants, replacements, resolved or Resolved())
    environment.write(graph.inputs, arguments)
    environment.run(graph.body)
    return [environment.read(a) for a in graph.outputs]


def bind(equation: Equation, operands: Sequence[Any]) -> Sequence[Any]:
    """Results of an equation at these operands; also of one that no jaxpr has."""
    if equation.eqn is not None:
        return bind_equation(equation.eqn, operands)
    typed = [
        x if hasattr(x, "dtype") else np.asarray(x, a.dtype)
        for x, a in zip(operands, equation.inputs, strict=True)
    ]
    results = equation.primitive.bind(*typed, **equation.params)
    return results if equation.primitive.multiple_results else [results]


def downstream(
    candidates: Sequence[Equation], graph: Graph, origins: Sequence[Value]
) -> list[Equation]:
    """Those equations that read something computed from these values."""
    reached = set(origins)
    for equation in graph.equations():
        inside = () if equation.loop is None else flatten(equation.loop.body, inside_loops=True)
        reads = any(a in reached for a in equation.inputs if isinstance(a, Value))
        if reads or any(v in reached for e in inside for v in e.outputs):
            reached.update(equation.outputs)
    return [e for e in candidates if any(a in reached for a in e.inputs if isinstance(a, Value))]


def exactly(
    graph: Graph,
    equations: Sequence[Equation],
    arguments: Sequence[Any],
    constants: Mapping[Value, Any],
    resolved: Resolved,
) -> dict[Value, Any]:
    """Results of some equations outside of loops at the arguments, where nothing is replaced."""
    if not equations:
        return {}
    outputs = [v for e in equations for v in e.outputs]
    environment = _Environment(constants, {}, resolved)
    environment.readers.update((v, [None]) for v in outputs)
    environment.write(graph.inputs, arguments)
    environment.run(graph.body)
    return {v: environment.read(v) for v in outputs}


def bind_equation(eqn: Any, operands: Any) -> Sequence[Any]:
    """Results of a jaxpr equation at these operands."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Since JAX 0.9.2 the subfunctions are part of the parameters.
    subfunctions, params = bound if isinstance(bound, tuple) else ((), bound)
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*subfunctions, *operands, **params)
    return results if eqn.primitive.multiple_results else [results]


def _typed(x: Any, like: Value) -> Any:
    """x with the type that a loop or a branch must keep."""
    if jax.numpy.issubdtype(like.dtype, jax.dtypes.extended):
        return x
    return lax.convert_element_type(x, like.dtype)
