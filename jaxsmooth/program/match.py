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
from jaxsmooth.program.layout import Axes, Producers, made_by

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
    end = reference.graph.outputs[0]
    if not isinstance(end, Value) or end not in reference.producers:
        return None
    matcher = _Matcher(reference, producers)
    (result,) = equation.outputs
    axes = tuple(range(len(result.shape)))
    if not matcher.same_equation(reference.producers[end], equation, axes, bindings := {}):
        return None
    found = tuple(bindings[v].atom for v in reference.graph.inputs)
    # Operands of functions of numbers may be narrower, but of the same rank.
    ranks = {0, len(axes)}
    same = all(
        a.shape == v.shape or (v.shape == () and len(a.shape) in ranks)
        for a, v in zip(found, reference.graph.inputs, strict=True)
    )
    return found if same else None


@dataclass(frozen=True, eq=False)
class _Spread:
    """An atom as a value that it repeats.

    Attributes:
      atom: the atom.
      root: what it repeats, or itself.
      axes: for every axis of the root that of the result of the last equation; None for axes
        of length one.
    """

    atom: Atom
    root: Atom
    axes: Axes

    def is_same(self, other: _Spread) -> bool:
        """Whether both are the same numbers at the same places."""
        if isinstance(self.root, Literal) and isinstance(other.root, Literal):
            return same_numbers(self.root.value, other.root.value)
        return self.root is other.root and self.axes == other.axes


_Bindings = dict[Value, _Spread]


@dataclass(frozen=True, eq=False)
class _Matcher:
    """Equations against those of a reference.

    Functions of numbers may be computed before their operands are spread to one shape, as
    `jax.vmap` does where some operands are not mapped.
    """

    reference: _Reference
    producers: Producers

    def same_equation(
        self, wanted: Equation, found: Equation, axes: Axes, bindings: _Bindings
    ) -> bool:
        """Whether an equation and all that it reads match the reference's; fills bindings.

        Args:
          wanted: the reference's.
          found: the program's.
          axes: for the axes of the result, those of the result of the last equation.
          bindings: what stands for the reference's values.
        """
        if wanted.primitive is not found.primitive or not same_params(wanted.params, found.params):
            return False
        orders = [found.inputs]
        if wanted.primitive in _COMMUTATIVE:
            orders.append(found.inputs[::-1])
        for order in orders:
            trial = dict(bindings)
            if all(
                self._same_atom(w, f, axes, trial)
                for w, f in zip(wanted.inputs, order, strict=True)
            ):
                bindings.update(trial)
                return True
        return False

    def _same_atom(self, wanted: Atom, found: Atom, axes: Axes, bindings: _Bindings) -> bool:
        spread = self._spread(found, axes)
        if isinstance(wanted, Literal):
            return spread.is_same(_Spread(wanted, wanted, ()))
        if wanted in bindings:
            if not bindings[wanted].is_same(spread):
                return False
            # What has all axes can be an operand in the place of the result's.
            if len(found.shape) > len(bindings[wanted].atom.shape):
                bindings[wanted] = spread
            return True
        made = self.reference.producers.get(wanted)
        if made is not None:
            value, axes = (spread.root, spread.axes) if self._of_numbers else (found, axes)
            target = made_by(value, self.producers)
            if target is None or not self.same_equation(made, target, axes, bindings):
                return False
            if made.outputs.index(wanted) != target.outputs.index(value):
                return False
        bindings[wanted] = spread
        return True

    @property
    def _of_numbers(self) -> bool:
        return all(v.shape == () for v in self.reference.graph.inputs)

    def _spread(self, atom: Atom, axes: Axes) -> _Spread:
        """An operand of an equation whose result has these axes."""
        if len(atom.shape) != len(axes):
            axes = tuple(range(len(atom.shape)))
        root, places = atom, axes
        while (equation := made_by(root, self.producers)) is not None:
            if equation.primitive is not p.broadcast_in_dim_p:
                break
            places = tuple(places[d] for d in equation.params["broadcast_dimensions"])
            root = equation.inputs[0]
        if root.shape and not self._of_numbers:
            root, places = atom, axes
        long = tuple(a if n > 1 else None for a, n in zip(places, root.shape, strict=True))
        return _Spread(atom, root, long)
