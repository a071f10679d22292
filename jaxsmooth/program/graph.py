"""A traced function as a graph of equations in single-assignment form.

Inner programs (``jit``, ``custom_jvp``, ``custom_vjp``, ``remat``) appear as `Call`
nodes. JAX shares one inner jaxpr between its call sites, so every entry gets fresh
`Value` objects; the operands and results of a call are the same `Value` objects
inside and outside, which makes the equations of all levels one flat graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.extend.core import primitives

from jaxsmooth import _compat


class Value:
    """A variable of the program; identity is its name."""

    __slots__ = ("aval",)

    def __init__(self, aval: Any):
        self.aval = aval

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        """Its dtype."""
        return self.aval.dtype


@dataclass(frozen=True, eq=False)
class Literal:
    """A number written in the program."""

    value: Any
    aval: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return np.shape(self.value)

    @property
    def dtype(self) -> Any:
        """Its dtype."""
        return self.aval.dtype


Atom = Value | Literal


@dataclass(frozen=True, eq=False)
class Equation:
    """One primitive applied to atoms, or a composite that stands for several equations.

    Attributes:
      primitive: the JAX primitive, or the key of a composite.
      params: the primitive's parameters.
      inputs: operands.
      outputs: results.
      path: where it stands, for example ``"relu.1/max"``; unique in the graph.
      source: ``file:line (function)`` of the user's code.
      eqn: the jaxpr equation; None for a composite.
    """

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Atom, ...]
    outputs: tuple[Value, ...]
    path: str
    source: str
    eqn: Any = None

    @property
    def name(self) -> str:
        """The primitive's name; for a composite, that of the equation with its result."""
        return (self.primitive if self.eqn is None else self.eqn.primitive).name


@dataclass(frozen=True, eq=False)
class Call:
    """A call-like equation with its inlined body."""

    eqn: Any
    inputs: tuple[Atom, ...]
    outputs: tuple[Atom, ...]
    body: tuple[Equation | Call, ...]
    path: str

    @property
    def rematerialised(self) -> bool:
        """Whether the body is to be recomputed in the backward pass."""
        return self.eqn.primitive is primitives.remat_p


@dataclass(frozen=True, eq=False)
class Graph:
    """A traced function.

    Attributes:
      inputs: one value per argument leaf.
      outputs: one atom per output leaf.
      constants: arrays that the function closes over.
      body: equations and calls in order.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Atom, ...]
    constants: dict[Value, Any]
    body: tuple[Equation | Call, ...]

    def equations(self) -> Iterator[Equation]:
        """All equations of all levels, in order of evaluation."""
        yield from _flatten(self.body)


def _flatten(body: Sequence[Equation | Call]) -> Iterator[Equation]:
    for node in body:
        if isinstance(node, Call):
            yield from _flatten(node.body)
        else:
            yield node


@dataclass
class _Builder:
    constants: dict[Value, Any] = field(default_factory=dict)

    def body(
        self,
        jaxpr: Any,
        consts: Sequence[Any],
        arguments: Sequence[Atom],
        prefix: str = "",
        caller: str = "",
    ) -> tuple[tuple[Equation | Call, ...], tuple[Atom, ...]]:
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            env[var] = value = Value(var.aval)
            self.constants[value] = const

        def read(atom: Any) -> Atom:
            if _compat.is_literal(atom):
                return Literal(atom.val, atom.aval)
            return env[atom]

        nodes: list[Equation | Call] = []
        seen: dict[str, int] = {}
        for eqn in jaxpr.eqns:
            name = str(eqn.params.get("name") or eqn.primitive.name)
            count = seen[name] = seen.get(name, -1) + 1
            path = f"{prefix}{name}.{count}" if count else f"{prefix}{name}"
            inputs = tuple(map(read, eqn.invars))
            inner = _compat.call_body(eqn)
            # Library code is hidden from the summary: then the user's line is the call's.
            source = _compat.source_line(eqn) or caller
            if inner is None:
                outputs = tuple(Value(v.aval) for v in eqn.outvars)
                nodes.append(
                    Equation(eqn.primitive, eqn.params, inputs, outputs, path, source, eqn)
                )
            else:
                body, outputs = self.body(*inner, inputs, path + "/", source)
                nodes.append(Call(eqn, inputs, outputs, body, path))
            env.update(zip(eqn.outvars, outputs, strict=True))
        return tuple(nodes), tuple(map(read, jaxpr.outvars))


def trace(f: Callable[..., Any], args: Sequence[Any]) -> tuple[Graph, Any]:
    """Trace ``f(*args)``.

    Args:
      f: the function.
      args: its arguments: pytrees of arrays or ``jax.ShapeDtypeStruct``.

    Returns:
      The graph, and the pytree of ``jax.ShapeDtypeStruct`` of the output.
    """
    closed, out = jax.make_jaxpr(f, return_shape=True)(*args)
    return from_jaxpr(closed), out


def from_jaxpr(closed: Any) -> Graph:
    """The graph of a closed jaxpr."""
    jaxpr, consts = _compat.open_jaxpr(closed)
    builder = _Builder()
    inputs = tuple(Value(v.aval) for v in jaxpr.invars)
    body, outputs = builder.body(jaxpr, consts, inputs)
    return Graph(inputs, outputs, builder.constants, body)


def live(equations: Sequence[Equation], outputs: Sequence[Atom]) -> list[Equation]:
    """The equations that the outputs depend on, in order."""
    wanted = {a for a in outputs if isinstance(a, Value)}
    kept: list[Equation] = []
    for equation in reversed(equations):
        if wanted.isdisjoint(equation.outputs):
            continue
        wanted.update(a for a in equation.inputs if isinstance(a, Value))
        kept.append(equation)
    return kept[::-1]
