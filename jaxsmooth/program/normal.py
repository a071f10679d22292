"""The normal form that the analysis reads: what is known is folded, the rest is flat.

An equation whose operands are all known is evaluated once, as the program itself would
evaluate it; its value as computed is the constant that f and f_eps both use. Composites
are recognised, and operands of elementwise equations are broadcast to one shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import primitives as p

from jaxsmooth._compat import primitive
from jaxsmooth.program.evaluate import bind_equation
from jaxsmooth.program.graph import Atom, Equation, Graph, Literal, Value, live
from jaxsmooth.program.match import LOGADDEXP, composites

ELEMENTWISE = frozenset(
    {
        primitive("polynomial_p"),
        p.add_p, p.sub_p, p.mul_p, p.div_p, p.max_p, p.min_p, p.pow_p, p.rem_p, p.atan2_p,
        p.eq_p, p.ne_p, p.ge_p, p.gt_p, p.le_p, p.lt_p, p.and_p, p.or_p, p.xor_p,
        p.select_n_p, p.clamp_p, p.add_jaxvals_p, LOGADDEXP,
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
      narrow: for values added by broadcasting an operand, that operand.
      stopped: the ``stop_gradient`` equations of values that change with those arguments.
    """

    graph: Graph
    equations: list[Equation]
    known: dict[Value, Any]
    varies: set[Value]
    narrow: dict[Value, Atom]
    stopped: list[Equation] = field(default_factory=list)

    def original(self, atom: Atom) -> Atom:
        """The atom of the graph that an operand in normal form stands for."""
        return self.narrow.get(atom, atom) if isinstance(atom, Value) else atom

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
) -> Normal:
    """Bring a graph into normal form.

    Args:
      graph: the traced function.
      known: inputs whose values are known.
      varying: inputs that derivatives are taken in.
      rewrites: further recognisers, applied after `composites`.
    """
    values = {**graph.constants, **known}
    equations: list[Equation] = []
    folded: list[Equation] = []
    narrow: dict[Value, Atom] = {}
    for equation in live(list(graph.equations()), graph.outputs):
        if all(isinstance(a, Literal) or a in values for a in equation.inputs):
            _fold(equation, values)
            folded.append(equation)
        else:
            equations.append(equation)
    equations = composites(equations, graph.outputs, folded)
    equations = [e for equation in equations for e in _broadcast(equation, values, narrow)]
    changing = _changing(equations, varying)
    varies = changing & _felt(equations, graph.outputs)
    stopped = [e for e in equations if e.primitive is p.stop_gradient_p and e.inputs[0] in changing]
    for rewrite in rewrites:
        equations = rewrite(equations, graph.outputs, values, varies)
    return Normal(graph, equations, values, varies, narrow, stopped)


def _changing(equations: Sequence[Equation], inputs: Sequence[Value]) -> set[Value]:
    """All values that change with these inputs; what is stopped counts as a constant."""
    changing = set(inputs)
    for equation in equations:
        if equation.primitive is p.stop_gradient_p:
            continue
        if any(isinstance(a, Value) and a in changing for a in equation.inputs):
            changing.update(equation.outputs)
    return changing


def _felt(equations: Sequence[Equation], outputs: Sequence[Atom]) -> set[Value]:
    """All values that the outputs depend on other than through ``stop_gradient``."""
    felt = {a for a in outputs if isinstance(a, Value)}
    for equation in reversed(equations):
        if equation.primitive is p.stop_gradient_p or felt.isdisjoint(equation.outputs):
            continue
        felt.update(a for a in equation.inputs if isinstance(a, Value))
    return felt


def _fold(equation: Equation, values: dict[Value, Any]) -> None:
    operands = [a.value if isinstance(a, Literal) else values[a] for a in equation.inputs]
    if any(isinstance(o, Tracer) for o in operands):
        results = bind_equation(equation.eqn, operands)
    else:
        with jax.ensure_compile_time_eval():
            results = bind_equation(equation.eqn, operands)
    values.update(zip(equation.outputs, results, strict=True))


def _broadcast(
    equation: Equation, values: dict[Value, Any], narrow: dict[Value, Atom]
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
        if atom.shape == shape or (known and atom.shape == ()):
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
