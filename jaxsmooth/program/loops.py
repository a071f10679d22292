"""What can be told of a loop before it runs: what is read, what is known, how often it runs.

A value inside a loop is known once and for all, or known at every step (a counter, a slice
of known data), or unknown. The part of the body that computes what is known at every step
is evaluated ahead for all steps at once; the rest of the body reads its results as slices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import Primitive

from jaxsmooth.program.evaluate import bind
from jaxsmooth.program.graph import Atom, Equation, Literal, Loop, Value, flatten, live

AHEAD = Primitive("known_steps")
"""Key of an equation that evaluates the known part of a loop; params: ``compute``."""


@dataclass(frozen=True, eq=False)
class Steps:
    """The unknown part of a loop in normal form.

    Attributes:
      equations: one step.
      length: number of steps.
      reverse: whether slices are read from the last one to the first.
      carry: (start, carry in the body, carry after the step, final result) of what is carried.
      slices: (stack, slice in the body).
      slots: (part in the body, stacked result).
    """

    equations: list[Equation]
    length: int
    reverse: bool
    carry: list[tuple[Atom, Value, Atom, Value]]
    slices: list[tuple[Atom, Value]]
    slots: list[tuple[Atom, Value]]

    def reads(self) -> list[Atom]:
        """Operands that are read outside the body."""
        return [*(start for start, *_ in self.carry), *(stack for stack, _ in self.slices)]


def used(
    loop: Loop, outputs: Sequence[Value], wanted: Collection[Atom]
) -> tuple[list[int], list[int], list[Equation]]:
    """Positions of the carries and of the stacked results that matter, and the equations.

    Args:
      loop: the loop.
      outputs: results of its equation.
      wanted: values that are read outside.
    """
    count = len(loop.carry)
    carries = [i for i in range(count) if outputs[i] in wanted]
    slots = [i for i in range(len(loop.slots)) if outputs[count + i] in wanted]
    equations = list(flatten(loop.body))
    while True:
        ends = [loop.after[i] for i in carries] + [loop.slots[i] for i in slots]
        kept = live(equations, ends)
        read = {a for e in kept for a in e.inputs}.union(ends)
        more = [i for i in range(count) if i not in carries and loop.carry[i] in read]
        if not more:
            return sorted(carries), slots, kept
        carries += more


def closure(equations: Sequence[Equation], known: Callable[[Atom], bool]) -> set[Value]:
    """Results of equations all of whose operands are known."""
    found: set[Value] = set()
    for e in equations:
        if all(isinstance(a, Literal) or a in found or known(a) for a in e.inputs):
            found.update(e.outputs)
    return found


def known_carries(
    loop: Loop,
    carries: Sequence[int],
    equations: Sequence[Equation],
    known: Callable[[Atom], bool],
) -> list[int]:
    """The carries whose value is known at every step."""
    found = [i for i in carries if known(loop.start[i])]
    slices = {v for stack, v in zip(loop.stacks, loop.slices, strict=True) if known(stack)}
    while True:
        given = slices.union(loop.carry[i] for i in found)

        def at_step(atom: Atom, given: Collection[Value] = given) -> bool:
            return atom in given or known(atom)

        results = closure(equations, at_step)
        kept = [i for i in found if at_step(loop.after[i]) or loop.after[i] in results]
        if kept == found:
            return found
        found = kept


def varying(
    loop: Loop, carries: Sequence[int], equations: Sequence[Equation], varies: Collection[Value]
) -> set[Value]:
    """Values of the body that change with what varies outside."""
    found = {v for stack, v in zip(loop.stacks, loop.slices, strict=True) if stack in varies}
    found |= {loop.carry[i] for i in carries if loop.start[i] in varies}
    while True:
        before = len(found)
        for e in equations:
            if any(a in found or a in varies for a in e.inputs):
                found.update(e.outputs)
        found |= {loop.carry[i] for i in carries if loop.after[i] in found | set(varies)}
        if len(found) == before:
            return found


def compute(equation: Equation, operands: Sequence[Any]) -> Sequence[Any]:
    """Results of an equation at known operands."""
    if equation.primitive is AHEAD:
        return equation.params["compute"](*operands)
    return bind(equation, operands)


class _Evaluation:
    """Values of a list of equations."""

    def __init__(self, known: Mapping[Value, Any]):
        self.known = known
        self.found: dict[Value, Any] = {}

    def read(self, atom: Atom) -> Any:
        if isinstance(atom, Literal):
            return atom.value
        return self.found[atom] if atom in self.found else self.known[atom]

    def run(self, equations: Sequence[Equation]) -> None:
        for e in equations:
            results = compute(e, [self.read(a) for a in e.inputs])
            self.found.update(zip(e.outputs, results, strict=True))


def _like(x: Any, value: Value) -> Any:
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.extended):
        return x
    return lax.convert_element_type(x, value.dtype)


def ahead(
    equation: Equation,
    length: int,
    equations: Sequence[Equation],
    carries: Sequence[int],
    slots: Sequence[int],
    residuals: Sequence[Value],
    known: Mapping[Value, Any],
) -> tuple[Equation, list[tuple[Atom, Value]]]:
    """The equation that evaluates the known part of a loop for all steps.

    Args:
      equation: the loop's equation.
      length: number of steps.
      equations: those of the body whose values are known at every step.
      carries, slots: positions of those that are known.
      residuals: values whose stacks the rest of the loop reads.
      known: what is known once and for all.

    Returns:
      The equation, and (stack, value in the body) for every residual.
    """
    loop = equation.loop
    assert loop is not None
    carry = [loop.carry[i] for i in carries]
    after = [loop.after[i] for i in carries]
    parts = [loop.slots[i] for i in slots]
    equations = live(equations, [*after, *parts, *residuals])
    inside = {v for e in equations for v in e.outputs}.union(carry, loop.slices)
    reads = {a for e in equations for a in e.inputs}.union(after, parts, residuals)
    stacks = [(s, v) for s, v in zip(loop.stacks, loop.slices, strict=True) if v in reads]
    outer = sorted(
        (a for a in reads if isinstance(a, Value) and a not in inside and a not in known), key=id
    )
    start = [loop.start[i] for i in carries]

    def run(*operands: Any) -> list[Any]:
        first, second = len(start), len(start) + len(stacks)
        begin = [_like(x, v) for x, v in zip(operands[:first], carry, strict=True)]
        outside = dict(zip(outer, operands[second:], strict=True))

        def step(state: Sequence[Any], slices: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            body = _Evaluation(known)
            body.found.update(outside)
            body.found.update(zip(carry, state, strict=True))
            body.found.update(zip((v for _, v in stacks), slices, strict=True))
            body.run(equations)
            following = [_like(body.read(a), v) for a, v in zip(after, carry, strict=True)]
            return following, [body.read(a) for a in (*parts, *residuals)]

        end, stacked = lax.scan(
            step, begin, list(operands[first:second]), length, reverse=loop.reverse
        )
        return [*end, *stacked]

    count = len(loop.carry)
    results = [equation.outputs[i] for i in carries]
    results += [equation.outputs[count + i] for i in slots]
    stacked = [Value(v.aval.update(shape=(length, *v.shape))) for v in residuals]
    inputs = (*start, *(s for s, _ in stacks), *outer)
    closed_over = [known[a] for a in reads if isinstance(a, Value) and a in known]
    traced = [x for x in closed_over if isinstance(x, Tracer)]
    params = {"compute": run, "traced": traced}
    path = f"{equation.path}/known"
    found = Equation(AHEAD, params, inputs, (*results, *stacked), path, equation.source)
    return found, list(zip(stacked, residuals, strict=True))


def trip_count(loop: Loop, known: Mapping[Value, Any]) -> int | None:
    """How often a while runs; None if its condition is not known."""
    assert loop.going is not None
    condition, going = loop.going
    asks = live(list(flatten(condition)), [going])
    carries = conditions(loop)
    equations = live(list(flatten(loop.body)), [loop.after[i] for i in carries])

    def at_start(atom: Atom) -> bool:
        if isinstance(atom, Literal):
            return True
        return atom in known and not isinstance(known[atom], Tracer)

    given = {v for i in carries for v in (loop.carry[i], loop.asked[i])}
    inside = given.union(v for e in (*asks, *equations) for v in e.outputs)
    reads = [loop.start[i] for i in carries]
    reads += [a for e in (*asks, *equations) for a in e.inputs]
    reads += [going, *(loop.after[i] for i in carries)]
    if not all(at_start(a) for a in reads if a not in inside):
        return None

    def goes(state: tuple[Any, Sequence[Any]]) -> Any:
        body = _Evaluation(known)
        body.found.update(zip((loop.asked[i] for i in carries), state[1], strict=True))
        body.run(asks)
        return body.read(going)

    def step(state: tuple[Any, Sequence[Any]]) -> tuple[Any, list[Any]]:
        body = _Evaluation(known)
        body.found.update(zip((loop.carry[i] for i in carries), state[1], strict=True))
        body.run(equations)
        return state[0] + 1, [_like(body.read(loop.after[i]), loop.carry[i]) for i in carries]

    at = _Evaluation(known)
    with jax.ensure_compile_time_eval():
        start = [_like(at.read(loop.start[i]), loop.carry[i]) for i in carries]
        count, _ = lax.while_loop(goes, step, (np.int32(0), start))
    return int(count)


def conditions(loop: Loop) -> list[int]:
    """The carries that the condition of a while depends on."""
    assert loop.going is not None
    condition, going = loop.going
    asks = live(list(flatten(condition)), [going])
    read = {a for e in asks for a in e.inputs}.union([going])
    carries = [i for i, v in enumerate(loop.asked) if v in read]
    equations = list(flatten(loop.body))
    while True:
        ends = [loop.after[i] for i in carries]
        read = {a for e in live(equations, ends) for a in e.inputs}.union(ends)
        more = [i for i, v in enumerate(loop.carry) if v in read and i not in carries]
        if not more:
            return sorted(carries)
        carries += more
