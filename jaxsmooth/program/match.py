"""Recognising composite functions by matching their equations against references.

A composite is recognised by matching the graph backwards against the traced equations of
reference functions, with the JAX that is installed, never by name. The equation that
computes its result is replaced by one `Equation` whose primitive is the composite's key.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.common import stops_last
from jaxsmooth.program.equivalence import same_numbers, same_params, traced_once
from jaxsmooth.program.graph import Atom, Equation, Graph, Literal, Value, from_jaxpr, live
from jaxsmooth.program.layout import Producers, made_by

LOGADDEXP = Primitive("logaddexp")
LENGTH = Primitive("length")
"""√(x² + y² + … + c) of its operands, elementwise; ``offset`` is the number c >= 0."""

_COMMUTATIVE = frozenset({p.add_p, p.mul_p, p.max_p, p.min_p})


OF_NUMBERS: dict[str, Any] = {"of_numbers": True}
"""Params of what stands for another function where all operands are numbers, and only there."""


@dataclass(frozen=True)
class Composite:
    """A function to recognise.

    Attributes:
      key: the primitive of the equation that stands for it.
      function: the reference; it is traced with the JAX that is installed.
      last: primitives that may compute its result.
      operands: ``operands(equation, producers)`` gives shapes and dtypes of the reference's
        operands if the equation computes its result; None if it does not.
      params: those of the equation that stands for it.
      accepts: ``accepts(operands, known)`` tells whether it is one of these operands.
      first: whether it is searched for before repetitions become copies, too: some of what it
        computes from its numbers the program may have computed from other, equal ones.
    """

    key: Primitive
    function: Callable[..., Any]
    last: frozenset[Any]
    operands: Callable[[Equation, Producers], tuple[jax.ShapeDtypeStruct, ...] | None]
    params: dict[str, Any] = field(default_factory=dict)
    accepts: Callable[[Sequence[Atom], Mapping[Value, Any]], bool] = lambda operands, known: True
    first: bool = False


def _scalars(equation: Equation, producers: Producers) -> tuple[jax.ShapeDtypeStruct, ...]:
    # Equations of elementwise functions are the same for all shapes.
    x = jax.ShapeDtypeStruct((), equation.outputs[0].dtype)
    return (x, x)


COMPOSITES = (
    Composite(LOGADDEXP, jnp.logaddexp, frozenset({p.select_n_p}), _scalars),
    Composite(
        LOGADDEXP,
        lambda x, y: jnp.maximum(x, y) + jnp.log1p(jnp.exp(-jnp.abs(x - y))),
        frozenset({p.add_p}),
        _scalars,
    ),
    Composite(LENGTH, jnp.hypot, frozenset({p.select_n_p}), _scalars, {"offset": 0.0}),
    Composite(p.max_p, jnp.fmax, frozenset({p.select_n_p}), _scalars, OF_NUMBERS),
    Composite(p.min_p, jnp.fmin, frozenset({p.select_n_p}), _scalars, OF_NUMBERS),
    # Choices by a comparison of what is chosen from.
    *(
        Composite(key, function, frozenset({p.select_n_p}), _scalars, OF_NUMBERS)
        for above, below in ((operator.gt, operator.lt), (operator.ge, operator.le))
        for key, function in (
            (p.max_p, lambda x, y, c=above: jnp.where(c(x, y), x, y)),
            (p.max_p, lambda x, y, c=below: jnp.where(c(x, y), y, x)),
            (p.min_p, lambda x, y, c=above: jnp.where(c(x, y), y, x)),
            (p.min_p, lambda x, y, c=below: jnp.where(c(x, y), x, y)),
        )
    ),
)
"""Composites that every program is searched for."""


@dataclass(frozen=True, eq=False)
class _Reference:
    graph: Graph
    producers: dict[Value, Equation]


@traced_once
def _reference(
    function: Callable[..., Any], operands: tuple[jax.ShapeDtypeStruct, ...]
) -> _Reference:
    graph = from_jaxpr(jax.make_jaxpr(function)(*operands))
    equations = stops_last(live(list(graph.equations()), graph.outputs), {}, set())
    return _Reference(graph, {v: e for e in equations for v in e.outputs})


def composites(
    equations: Sequence[Equation],
    outputs: Sequence[Atom],
    folded: Sequence[Equation] = (),
    wanted: Sequence[Composite] = COMPOSITES,
    known: Mapping[Value, Any] = MappingProxyType({}),
) -> list[Equation]:
    """The equations with every recognised composite as one equation, dead ones dropped.

    Args:
      equations: live equations in order.
      outputs: what the program returns.
      folded: equations whose values are known; a composite may hold some.
      wanted: the composites to look for.
      known: numbers that values hold.
    """
    return live(recognised(equations, folded, wanted, known), outputs)


def recognised(
    equations: Sequence[Equation],
    folded: Sequence[Equation],
    wanted: Sequence[Composite],
    known: Mapping[Value, Any],
) -> list[Equation]:
    """As `composites`, and dead equations stay."""
    producers = {v: e for e in (*folded, *equations) for v in e.outputs}
    return [_recognise(e, producers, wanted, known) or e for e in equations]


def _recognise(
    equation: Equation,
    producers: Producers,
    wanted: Sequence[Composite],
    known: Mapping[Value, Any],
) -> Equation | None:
    if len(equation.outputs) != 1:
        return None
    if not jnp.issubdtype(equation.outputs[0].dtype, jnp.floating):
        return None
    for composite in wanted:
        if equation.primitive not in composite.last:
            continue
        operands = composite.operands(equation, producers)
        inputs = None if operands is None else matched(
            composite.function, operands, equation, producers
        )  # fmt: skip
        if inputs is not None and composite.accepts(inputs, known):
            return Equation(
                composite.key, composite.params, inputs, equation.outputs, equation.path,
                equation.source,
            )  # fmt: skip
    return None


def matched(
    function: Callable[..., Any],
    operands: tuple[jax.ShapeDtypeStruct, ...],
    equation: Equation,
    producers: Producers,
) -> tuple[Atom, ...] | None:
    """What an equation computes that function of; None if it computes something else.

    Args:
      function: the reference, of which equal objects are traced once.
      operands: shapes and dtypes of its operands.
      equation: the last equation of what may compute it.
      producers: the equations before.
    """
    reference = _reference(function, operands)
    bindings: dict[Value, Atom] = {}
    end = reference.graph.outputs[0]
    if not isinstance(end, Value) or end not in reference.producers:
        return None
    if not _same_equation(reference.producers[end], equation, reference, producers, bindings):
        return None
    return tuple(bindings[v] for v in reference.graph.inputs)


def _same_equation(
    wanted: Equation,
    found: Equation,
    reference: _Reference,
    producers: Producers,
    bindings: dict[Value, Atom],
) -> bool:
    """Whether an equation and all that it reads match the reference's; fills bindings."""
    if wanted.primitive is not found.primitive or not same_params(wanted.params, found.params):
        return False
    orders = [found.inputs]
    if wanted.primitive in _COMMUTATIVE:
        orders.append(found.inputs[::-1])
    for order in orders:
        trial = dict(bindings)
        if all(
            _same_atom(w, f, reference, producers, trial)
            for w, f in zip(wanted.inputs, order, strict=True)
        ):
            bindings.update(trial)
            return True
    return False


def _same_atom(
    wanted: Atom,
    found: Atom,
    reference: _Reference,
    producers: Producers,
    bindings: dict[Value, Atom],
) -> bool:
    if isinstance(wanted, Literal):
        return _identical(wanted, _narrow(found, producers))
    if wanted in bindings:
        return _identical(_narrow(bindings[wanted], producers), _narrow(found, producers))
    producer = reference.producers.get(wanted)
    if producer is None:
        bindings[wanted] = found
        return True
    target = made_by(found, producers)
    if target is None or not _same_equation(producer, target, reference, producers, bindings):
        return False
    if producer.outputs.index(wanted) != target.outputs.index(found):
        return False
    bindings[wanted] = found
    return True


def _narrow(atom: Atom, producers: Producers) -> Atom:
    """The scalar that an array repeats, or the atom itself."""
    equation = made_by(atom, producers)
    if equation is None or equation.primitive is not p.broadcast_in_dim_p:
        return atom
    return equation.inputs[0] if equation.inputs[0].shape == () else atom


def _identical(a: Atom, b: Atom) -> bool:
    if isinstance(a, Literal) and isinstance(b, Literal):
        return same_numbers(a.value, b.value)
    return a is b
