"""The normal form that the analysis reads: what is known is folded, the rest is flat.

An equation whose operands are all known is evaluated once, as the program itself would
evaluate it; its value as computed is the constant that f and f_eps both use. What is
computed twice is one value. Complex values are pairs of real ones. Composites are recognised,
and operands of elementwise equations are broadcast to one shape. Of a branch that is known only
the one taken remains, of another one the selection among all. The body of a loop is in normal
form itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import primitives as p

from jaxsmooth._compat import primitive
from jaxsmooth.program import loops
from jaxsmooth.program.cases import cases
from jaxsmooth.program.common import Scope, stops_last, unified
from jaxsmooth.program.complex import complexes
from jaxsmooth.program.complex_functions import PRODUCT
from jaxsmooth.program.determinants import determinants
from jaxsmooth.program.eigenvalues import eigenvalues
from jaxsmooth.program.evaluate import Resolved
from jaxsmooth.program.exponentials import exponentials
from jaxsmooth.program.factors import factors
from jaxsmooth.program.graph import (
    COPY,
    Atom,
    Call,
    Equation,
    Graph,
    Literal,
    Node,
    Switch,
    Value,
    flatten,
    live,
)
from jaxsmooth.program.groups import grouped
from jaxsmooth.program.layout import moves_units
from jaxsmooth.program.lengths import lengths
from jaxsmooth.program.loops import Steps
from jaxsmooth.program.match import COMPOSITES, LENGTH, LOGADDEXP, Composite, composites
from jaxsmooth.program.norms import norms
from jaxsmooth.program.pairs import Pairs
from jaxsmooth.program.selections import selections
from jaxsmooth.program.simplify import simplified
from jaxsmooth.program.spectra import weighed

ELEMENTWISE = frozenset(
    {
        primitive("polynomial_p"),
        p.add_p, p.sub_p, p.mul_p, p.div_p, p.max_p, p.min_p, p.pow_p, p.rem_p, p.atan2_p,
        p.eq_p, p.ne_p, p.ge_p, p.gt_p, p.le_p, p.lt_p, p.and_p, p.or_p, p.xor_p,
        p.select_n_p, p.clamp_p, p.add_jaxvals_p, LOGADDEXP, LENGTH, PRODUCT,
        p.igamma_p, p.igammac_p, p.regularized_incomplete_beta_p, p.polygamma_p, p.zeta_p,
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Normal:
    """A graph in normal form.

    Attributes:
      graph: what it comes from.
      equations: in order; every one reads something unknown.
      known: values of the program that are known.
      varies: values that change with the arguments that derivatives are taken in, and that
        the outputs depend on other than through ``stop_gradient``.
      narrow: for values added by broadcasting an operand or moving its unit axes, that operand;
        for a pair of parts, the complex value.
      loops: the bodies of loops, by their equation.
      resolved: branches taken and trip counts.
      decides: values that choose a branch, with its cond.
      stopped: the ``stop_gradient`` equations of values that change with those arguments.
      instead: for values that the program computes again, the one that stands for them.
      pairs: the pairs of real values that stand for complex ones.
    """

    graph: Graph
    equations: list[Equation]
    known: dict[Value, Any]
    varies: set[Value]
    narrow: dict[Value, Atom]
    loops: dict[Equation, Steps] = field(default_factory=dict)
    resolved: Resolved = field(default_factory=Resolved)
    decides: dict[Value, Switch] = field(default_factory=dict)
    stopped: list[Equation] = field(default_factory=list)
    instead: dict[Value, Value] = field(default_factory=dict)
    pairs: Pairs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", Pairs(self.known, self.narrow, self.varies))

    def all_equations(self) -> Iterator[Equation]:
        """The equations of all levels, a loop's own before those in its body."""
        yield from self._all(self.equations)

    def _all(self, equations: Sequence[Equation]) -> Iterator[Equation]:
        for equation in equations:
            yield equation
            if equation in self.loops:
                yield from self._all(self.loops[equation].equations)

    def original(self, atom: Atom) -> Atom:
        """The atom of the graph that an operand in normal form stands for."""
        while isinstance(atom, Value) and atom in self.narrow:
            atom = self.narrow[atom]
        return atom

    def value_of(self, atom: Atom, shape: tuple[int, ...]) -> Any:
        """The atom's value in the shape that its equation uses, or None if it is unknown."""
        value = atom.value if isinstance(atom, Literal) else self.known.get(atom)
        if value is None or np.shape(value) == shape:
            return value
        return _broadcast_value(value, shape)


Rewrite = Callable[
    [Sequence[Equation], Sequence[Atom], dict[Value, Any], set[Value]], list[Equation]
]
"""``rewrite(equations, outputs, known, varies)`` gives equations that compute the same."""


def normalise(
    graph: Graph,
    known: Mapping[Value, Any],
    varying: Sequence[Value],
    rewrites: Sequence[Rewrite] = (),
    wanted: Sequence[Composite] = COMPOSITES,
) -> Normal:
    """Bring a graph into normal form.

    Args:
      graph: the traced function.
      known: inputs whose values are known.
      varying: inputs that derivatives are taken in.
      rewrites: further recognisers, applied after `composites`.
      wanted: composites to look for.
    """
    normal = Normal(graph, [], {**graph.constants, **known}, set(varying), {})
    builder = _Normaliser(normal, rewrites, wanted)
    equations, _ = builder.level(graph.body, graph.outputs, set(), top=True)
    normal.equations.extend(equations)
    return normal


@dataclass(eq=False)
class _Normaliser:
    normal: Normal
    rewrites: Sequence[Rewrite]
    wanted: Sequence[Composite]

    def level(
        self,
        body: Sequence[Node],
        outputs: Sequence[Atom],
        stepped: set[Value],
        top: bool = False,
    ) -> tuple[list[Equation], list[Equation]]:
        """Equations of a program or of a loop's body in normal form.

        Args:
          body: nodes in order.
          outputs: what is wanted of them.
          stepped: values that are known at every step of the loops around; those that follow
            from them are added.
          top: whether it is the program and no loop's body. There, what passes through
            ``stop_gradient`` counts as a constant; in a loop it is taken as it is.

        Returns:
          The unknown equations, and those whose results are known at every step.
        """
        found = _Level(self.normal, self, outputs, stepped, stops=top)
        kept = live(list(flatten(body)), outputs)
        found.wanted.update(a for e in kept for a in e.inputs)
        found.walk(body)
        normal = self.normal
        values, narrow = normal.known, normal.narrow
        equations = self._unified(found)
        equations = complexes(equations, normal.pairs, stepped, normal.loops, found.halts)
        outputs = normal.pairs.all(outputs, stepped)
        equations = weighed(equations, outputs, values)
        folded = [*found.folded, *found.ahead]
        equations = cases(equations, outputs, values, folded)
        equations = selections(equations, outputs, folded)
        equations = composites(equations, outputs, folded, self.wanted)
        equations = live([simplified(e, values) for e in equations], outputs)
        equations = factors(equations, outputs, values)
        equations = eigenvalues(equations, outputs)
        equations = grouped(equations, outputs, values)
        equations = exponentials(equations, outputs)
        equations = norms(equations, outputs, values)
        equations = lengths(equations, outputs, values)
        equations = [e for x in equations for e in _broadcast(x, values, narrow, stepped)]
        for equation in equations:
            found.vary(equation)
        if top:
            self._stop(equations, outputs, found.halts)
        for rewrite in self.rewrites:
            before = {v for e in equations for v in e.outputs}
            equations = rewrite(equations, outputs, values, self.normal.varies)
            added = [e for e in equations if before.isdisjoint(e.outputs)]
            narrow.update((e.outputs[0], e.inputs[0]) for e in added if moves_units(e))
        return equations, found.ahead

    def _unified(self, found: _Level) -> list[Equation]:
        """The equations of a level with what is computed again as copies."""
        normal = self.normal
        equations = stops_last(found.equations, found.scopes, found.halts)
        equations, instead = unified(equations, normal.known, found.scopes)
        normal.instead.update(instead)
        for value in normal.decides.keys() & instead.keys():
            normal.decides.setdefault(instead[value], normal.decides[value])
        return equations

    def _stop(
        self, equations: Sequence[Equation], outputs: Sequence[Atom], halts: set[Value]
    ) -> None:
        """Note what is stopped, and that what only it reads does not vary."""
        normal = self.normal
        normal.stopped.extend(
            normal.pairs.of_whole(e)
            for e in equations
            if e.outputs[0] in halts and e.inputs[0] in normal.varies
        )
        felt = {a for a in outputs if isinstance(a, Value)}
        for equation in reversed(equations):
            if not felt.isdisjoint(equation.outputs) and equation.outputs[0] not in halts:
                felt.update(a for a in equation.inputs if isinstance(a, Value))
        here = {v for e in equations for v in e.outputs}.union(normal.graph.inputs)
        normal.varies.difference_update(here - felt)


@dataclass(eq=False)
class _Level:
    """One level of the program while it is brought into normal form."""

    normal: Normal
    builder: _Normaliser
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

    def fixed(self, atom: Atom) -> bool:
        """Whether the atom is known once and for all."""
        return isinstance(atom, Literal) or atom in self.normal.known

    def known(self, atom: Atom) -> bool:
        """Whether the atom is known, at least at every step."""
        return self.fixed(atom) or atom in self.stepped

    def vary(self, equation: Equation) -> None:
        if equation in self.normal.loops or not self.halts.isdisjoint(equation.outputs):
            return
        varies = self.normal.varies
        if any(isinstance(a, Value) and a in varies for a in equation.inputs):
            varies.update(equation.outputs)

    def walk(self, body: Sequence[Node]) -> None:
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
        equation = self.unmasked(equation)
        if all(map(self.fixed, equation.inputs)):
            _fold(equation, self.normal.known)
            self.folded.append(equation)
        elif all(map(self.known, equation.inputs)):
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
        level = _Level(normal, self.builder, (), stepped)
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


def _broadcast(
    equation: Equation,
    values: dict[Value, Any],
    narrow: dict[Value, Atom],
    stepped: set[Value],
) -> list[Equation]:
    """The equation with all operands in the shape of its result.

    Operands of elementwise equations may be scalars and have axes of length one. Unknown
    ones are broadcast by equations of their own. Known scalars stay as they are.
    """
    if equation.primitive not in ELEMENTWISE:
        return [equation]
    shape = equation.outputs[0].shape
    added, inputs = [], []
    for position, atom in enumerate(equation.inputs):
        known = isinstance(atom, Literal) or atom in values
        if atom.shape == shape or ((known or atom in stepped) and atom.shape == ()):
            inputs.append(atom)
            continue
        wide = Value(ShapedArray(shape, atom.dtype))
        narrow[wide] = atom
        inputs.append(wide)
        if known:
            value = atom.value if isinstance(atom, Literal) else values[atom]
            values[wide] = _broadcast_value(value, shape)
            continue
        axes = tuple(range(len(shape) - len(atom.shape), len(shape)))
        params = {"shape": shape, "broadcast_dimensions": axes, "sharding": None}
        path = f"{equation.path}/operand.{position}"
        added.append(
            Equation(p.broadcast_in_dim_p, params, (atom,), (wide,), path, equation.source)
        )
    if not added and tuple(inputs) == equation.inputs:
        return [equation]
    return [*added, replace(equation, inputs=tuple(inputs))]


def _broadcast_value(value: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(value, Tracer):
        return jax.numpy.broadcast_to(value, shape)
    with jax.ensure_compile_time_eval():
        return jax.numpy.broadcast_to(value, shape)
