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
from jaxsmooth.program.cases import cases
from jaxsmooth.program.common import stops_last, unified
from jaxsmooth.program.complex import complexes
from jaxsmooth.program.complex_functions import PRODUCT
from jaxsmooth.program.eigenvalues import eigenvalues
from jaxsmooth.program.evaluate import Resolved
from jaxsmooth.program.exponentials import exponentials
from jaxsmooth.program.factors import factors
from jaxsmooth.program.graph import (
    Atom,
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
from jaxsmooth.program.level import Level
from jaxsmooth.program.log_probabilities import log_probabilities
from jaxsmooth.program.loops import Steps
from jaxsmooth.program.match import (
    COMPOSITES,
    LENGTH,
    LOGADDEXP,
    Composite,
    composites,
    recognised,
)
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
      chosen: for results of choices by known conditions, the operand that they are.
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
    chosen: dict[Value, Atom] = field(default_factory=dict)
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
        found = Level(self.normal, self, outputs, stepped, stops=top)
        kept = live(list(flatten(body)), outputs)
        found.wanted.update(a for e in kept for a in e.inputs)
        found.walk(body)
        normal = self.normal
        values, narrow = normal.known, normal.narrow
        equations = self._unified(found)
        equations = complexes(equations, normal.pairs, stepped, normal.loops, found.halts)
        outputs = normal.pairs.all(outputs, stepped)
        equations = weighed(equations, outputs, values)
        folded = found.settled
        equations = cases(equations, outputs, values, folded)
        equations = selections(equations, outputs, folded)
        equations = composites(equations, outputs, folded, self.wanted, values)
        equations = live(simplified(equations, values, normal.chosen), outputs)
        equations = factors(equations, outputs, values)
        equations = eigenvalues(equations, outputs)
        equations = grouped(equations, outputs, values)
        equations = exponentials(equations, outputs, values)
        equations = log_probabilities(equations, outputs, values)
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

    def _unified(self, found: Level) -> list[Equation]:
        """The equations of a level with what is computed again as copies."""
        normal = self.normal
        equations = stops_last(found.equations, found.scopes, found.halts)
        first = [c for c in self.wanted if c.first]
        equations = recognised(equations, found.settled, first, normal.known)
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
