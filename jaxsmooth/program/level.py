"""One level of a program, the whole or a loop's body, while it is brought into normal form.

What is known is folded, calls and branches become the equations of their bodies, and loops
have their bodies in normal form themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import primitives as p

from jaxsmooth.program import loops
from jaxsmooth.program.common import Scope
from jaxsmooth.program.determinants import determinants
from jaxsmooth.program.graph import (
    COPY,
    Atom,
    Call,
    Equation,
    Literal,
    Node,
    Switch,
    Value,
)
from jaxsmooth.program.loops import Steps

if TYPE_CHECKING:
    from jaxsmooth.program.normal import Normal


class Builder(Protocol):
    """What brings the levels inside into normal form."""

    def level(
        self, body: Sequence[Node], outputs: Sequence[Atom], stepped: set[Value]
    ) -> tuple[list[Equation], list[Equation]]:
        """The unknown equations, and those whose results are known at every step."""
        ...


@dataclass(eq=False)
class Level:
    """One level of the program while it is brought into normal form."""

    normal: Normal
    builder: Builder
    outputs: Sequence[Atom]
    stepped: set[Value]
    equations: list[Equation] = field(default_factory=list)
    folded: list[Equation] = field(default_factory=list)
    ahead: list[Equation] = field(default_factory=list)
    wanted: set[Atom] = field(default_factory=set)
    # What stop_gradient was applied to, by its results.
    stops_of: dict[Atom, Atom] = field(default_factory=dict)
    # Whether stop_gradient makes a constant here, and the results that are such.
    stops: bool = False
    halts: set[Value] = field(default_factory=set)
    # How many scopes there are, where the walk is, and where the equations are.
    count: int = 0
    scope: Scope = ()
    scopes: dict[Value, Scope] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wanted.update(self.outputs)

    @property
    def settled(self) -> list[Equation]:
        """Equations whose results are known, at least at every step."""
        return [*self.folded, *self.ahead]

    def fixed(self, atom: Atom) -> bool:
        """Whether the atom is known once and for all."""
        return isinstance(atom, Literal) or atom in self.normal.known

    def known(self, atom: Atom) -> bool:
        """Whether the atom is known, at least at every step."""
        return self.fixed(atom) or atom in self.stepped

    def vary(self, equation: Equation) -> None:
        """Note that the results vary if an operand does."""
        if equation in self.normal.loops or not self.halts.isdisjoint(equation.outputs):
            return
        varies = self.normal.varies
        if any(isinstance(a, Value) and a in varies for a in equation.inputs):
            varies.update(equation.outputs)

    def walk(self, body: Sequence[Node]) -> None:
        """Take in the nodes of a body, of which what is wanted."""
        for node in body:
            if isinstance(node, Call):
                self.call(node)
            elif isinstance(node, Switch):
                if not self.wanted.isdisjoint(node.outputs):
                    self.switch(node)
            elif not self.wanted.isdisjoint(node.outputs):
                self.equation(node)

    def call(self, node: Call) -> None:
        """A call: the functions that stand for it, or its body."""
        known = all(map(self.known, node.inputs))
        found = None if known else determinants(node)
        if found is not None:
            for equation in found:
                if equation.outputs[0] in self.wanted:
                    self.equation(equation)
        elif node.plain:
            self.walk(node.body)
        else:
            self.within(node.body)

    def within(self, body: Sequence[Node]) -> None:
        """Walk a body of whose values none is to be read outside."""
        around, self.count = self.scope, self.count + 1
        self.scope = (*around, self.count)
        self.walk(body)
        self.scope = around

    def equation(self, equation: Equation) -> None:
        """Take in an equation: fold it, keep it for ahead of the steps, or keep it."""
        equation = _logical(self.unmasked(equation))
        repeatable = equation.repeatable
        if repeatable and all(map(self.fixed, equation.inputs)):
            _fold(equation, self.normal.known)
            self.folded.append(equation)
        elif repeatable and all(map(self.known, equation.inputs)):
            self.stepped.update(equation.outputs)
            self.ahead.append(equation)
        elif equation.loop is not None:
            self.loop(equation)
        else:
            if self.stops and equation.primitive is p.stop_gradient_p:
                self.halts.update(equation.outputs)
            self.equations.append(equation)
            self.vary(equation)
            if self.scope and equation.outputs:
                self.scopes[equation.outputs[0]] = self.scope

    def unmasked(self, equation: Equation) -> Equation:
        """The number x for where(condition, x, stop_gradient(x)), as `jax.vmap` makes of a cond."""
        if equation.primitive is p.stop_gradient_p:
            self.stops_of[equation.outputs[0]] = equation.inputs[0]
        if equation.primitive is p.select_n_p and len(equation.inputs) == 3:
            _, stopped, value = equation.inputs
            if self.stops_of.get(stopped) is value and self.fixed(value):
                return replace(equation, primitive=COPY, params={}, inputs=(value,), eqn=None)
        return equation

    def switch(self, node: Switch) -> None:
        """A choice of a branch: the one that is taken, or a selection among all."""
        which = node.which
        value = which.value if isinstance(which, Literal) else self.normal.known.get(which)
        if value is not None and not isinstance(value, Tracer):
            index = int(np.clip(int(value), 0, len(node.branches) - 1))
            self.normal.resolved.taken[node] = index
            self.walk(node.branches[index][0])
            results = node.copies(index)
        else:
            which = self.decided_by(node)
            # Of a branch that may not be taken no value can be read.
            stops, self.stops = self.stops, False
            for body, _ in node.branches:
                self.within(body)
            self.stops = stops
            results = [replace(e, inputs=(which, *e.inputs[1:])) for e in node.selections()]
        for equation in results:
            if equation.outputs[0] in self.wanted:
                self.equation(equation)

    def decided_by(self, node: Switch) -> Atom:
        """Note what the index of a branch is computed from by comparisons and logic.

        Returns:
          The index; of a choice between two, the truth value that it was made of if it was.
        """
        producers = {v: e for e in self.equations for v in e.outputs}
        pending: list[Atom] = [node.which]
        while pending:
            atom = pending.pop()
            if not isinstance(atom, Value) or jax.numpy.issubdtype(atom.dtype, np.inexact):
                continue
            self.normal.decides.setdefault(atom, node)
            if atom in producers:
                pending.extend(producers[atom].inputs)
        made = producers.get(node.which) if isinstance(node.which, Value) else None
        if made is None or made.primitive is not p.convert_element_type_p:
            return node.which
        (truth,) = made.inputs
        return truth if truth.dtype == np.bool_ and len(node.branches) == 2 else node.which

    def loop(self, equation: Equation) -> None:
        """A loop of which something is unknown."""
        normal, loop = self.normal, equation.loop
        assert loop is not None
        length = loop.length
        if length is None:
            length = loops.trip_count(loop, normal.known)
            if length is None:
                self.equations.append(self.endless(equation))
                normal.varies.update(equation.outputs)
                return
            normal.resolved.lengths[loop] = length
        count = len(loop.carry)
        finals, stacked = equation.outputs[:count], equation.outputs[count:]
        carries, slots, kept = loops.used(loop, equation.outputs, self.wanted)
        if length == 0:
            for i in carries:
                copy = Equation(COPY, {}, (loop.start[i],), (finals[i],), equation.path, "")
                self.equation(copy)
            normal.known.update({stacked[i]: np.zeros(stacked[i].shape) for i in slots})
            return
        at_steps: list[int] = []
        if equation.repeatable:
            at_steps = loops.known_carries(loop, carries, kept, self.known)
        for i in list(at_steps):
            # What every step passes on as it is.
            if loop.after[i] is loop.carry[i] and self.fixed(loop.start[i]):
                start = loop.start[i]
                value = start.value if isinstance(start, Literal) else normal.known[start]
                normal.known[loop.carry[i]] = normal.known[finals[i]] = value
                at_steps.remove(i)
                carries.remove(i)
        vary = loops.varying(loop, carries, kept, normal.varies)
        normal.varies.update(vary)
        normal.varies.update(finals[i] for i in carries if loop.carry[i] in vary)
        normal.varies.update(stacked[i] for i in slots if loop.slots[i] in normal.varies)
        # The body.
        slices = list(zip(loop.stacks, loop.slices, strict=True))
        here = {v for stack, v in slices if self.known(stack)}
        here.update(loop.carry[i] for i in at_steps)
        stepped = self.stepped | here
        ends = [loop.after[i] for i in carries] + [loop.slots[i] for i in slots]
        body, ahead = self.builder.level(loop.body, ends, stepped)
        # What is known at every step, ahead.
        level = Level(normal, self.builder, (), stepped)
        known_slots = [i for i in slots if level.known(loop.slots[i])]
        open_carries = [i for i in carries if i not in at_steps]
        open_slots = [i for i in slots if i not in known_slots]
        reads = [a for e in body for a in e.inputs]
        reads += [a for e in body if e in normal.loops for a in normal.loops[e].reads()]
        reads += [loop.after[i] for i in open_carries] + [loop.slots[i] for i in open_slots]
        reads = [normal.pairs.whole(a) for a in reads]
        own = stepped.difference(self.stepped, (v for _, v in slices))
        residuals = list(dict.fromkeys(a for a in reads if a in own))
        known, stacks = loops.ahead(
            equation, length, ahead, at_steps, known_slots, residuals, normal.known
        )
        if known.outputs:
            self.equation(known)
        if not open_carries and not open_slots:
            return
        carried = [(loop.start[i], loop.carry[i], loop.after[i], finals[i]) for i in open_carries]
        slots_ = [(loop.slots[i], stacked[i]) for i in open_slots]
        carried, sliced, added = (
            [normal.pairs.all(atoms, self.stepped) for atoms in group]
            for group in (carried, [*slices, *stacks], slots_)
        )
        normal.loops[equation] = Steps(body, length, loop.reverse, carried, sliced, added)
        self.equations.append(equation)

    def endless(self, equation: Equation) -> Equation:
        """A while whose trip count is unknown, saying which operands it depends on."""
        loop = equation.loop
        assert loop is not None
        fixed = equation.params["cond_nconsts"] + equation.params["body_nconsts"]
        stops = {fixed + i for i in loops.conditions(loop)}
        stops.update(range(equation.params["cond_nconsts"]))
        return replace(equation, params={**equation.params, "stops_by": frozenset(stops)})


_LOGIC = {p.max_p: p.or_p, p.min_p: p.and_p}


def _logical(equation: Equation) -> Equation:
    """The larger and the smaller of two truth values as logic."""
    if equation.primitive not in _LOGIC or equation.outputs[0].dtype != np.bool_:
        return equation
    return replace(equation, primitive=_LOGIC[equation.primitive], params={}, eqn=None)


def _fold(equation: Equation, values: dict[Value, Any]) -> None:
    operands = [a.value if isinstance(a, Literal) else values[a] for a in equation.inputs]
    # What the known part of a loop closes over may be traced, too.
    traced = equation.params.get("traced", ()) if equation.eqn is None else ()
    if any(isinstance(o, Tracer) for o in (*operands, *traced)):
        results = loops.compute(equation, operands)
    else:
        with jax.ensure_compile_time_eval():
            results = loops.compute(equation, operands)
    values.update(zip(equation.outputs, results, strict=True))
