"""A traced function as a graph of equations in single-assignment form.

Inner programs (``jit``, ``custom_jvp``, ``custom_vjp``, ``remat``) appear as `Call`
nodes. JAX shares one inner jaxpr between its call sites, so every entry gets fresh
`Value` objects; the operands and results of a call are the same `Value` objects
inside and outside, which makes the equations of all levels one flat graph. The branches
of a ``cond`` (`Switch`) read what it reads in the same way. A loop (``scan``, ``while``) is
one equation with a `Loop`, whose body reads the loop's constants as they are outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import primitives

from jaxsmooth import _compat
from jaxsmooth.program.collectives import reduction

COPY = primitives.copy_p
SELECT = primitives.select_n_p


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
      loop: the body of a scan or a while; else None.
    """

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[Atom, ...]
    outputs: tuple[Value, ...]
    path: str
    source: str
    eqn: Any = None
    loop: Loop | None = None

    @property
    def name(self) -> str:
        """The primitive's name; for a composite, that of the equation with its result."""
        return (self.primitive if self.eqn is None else self.eqn.primitive).name

    @property
    def repeatable(self) -> bool:
        """Whether its results are the same whenever its operands are."""
        if self.loop is not None:
            return all(e.repeatable for e in flatten(self.loop.body, inside_loops=True))
        if self.eqn is None or not self.outputs:
            return True
        return not self.eqn.effects and self.primitive is not primitives.rng_uniform_p


@dataclass(frozen=True, eq=False)
class Loop:
    """What a scan or a while repeats.

    Attributes:
      start: operands of the equation that the carry starts from.
      carry: the carry as the body reads it.
      stacks: operands that are read slice by slice.
      slices: their slices as the body reads them.
      body: equations and calls of one step, in order.
      after: the carry after the step.
      slots: what the step adds to the stacked results.
      length: number of steps; None for a while.
      reverse: whether slices are read from the last one to the first.
      unroll: as `jax.lax.scan` takes it.
      going: of a while, the body of its condition and the condition; it reads ``asked``.
      asked: the carry as the condition reads it.
    """

    start: tuple[Atom, ...]
    carry: tuple[Value, ...]
    stacks: tuple[Atom, ...]
    slices: tuple[Value, ...]
    body: tuple[Node, ...]
    after: tuple[Atom, ...]
    slots: tuple[Atom, ...]
    length: int | None
    reverse: bool = False
    unroll: Any = 1
    going: tuple[tuple[Node, ...], Atom] | None = None
    asked: tuple[Value, ...] = ()


@dataclass(frozen=True, eq=False)
class Switch:
    """A cond or a switch: the branches, and what chooses among them.

    Attributes:
      eqn: the jaxpr equation.
      which: index of the branch.
      inputs: the index and the operands.
      branches: body and results of every branch.
      outputs: results.
      path: where it stands.
      source: ``file:line (function)`` of the user's code.
    """

    eqn: Any
    which: Atom
    inputs: tuple[Atom, ...]
    branches: tuple[tuple[tuple[Node, ...], tuple[Atom, ...]], ...]
    outputs: tuple[Value, ...]
    path: str
    source: str

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.eqn.primitive.name

    def selections(self) -> list[Equation]:
        """Equations that choose every result from those of all branches."""
        return [
            Equation(
                SELECT,
                {},
                (self.which, *(results[i] for _, results in self.branches)),
                (output,),
                f"{self.path}/result.{i}",
                self.source,
            )
            for i, output in enumerate(self.outputs)
        ]

    def copies(self, index: int) -> list[Equation]:
        """Equations that take the results of one branch."""
        _, results = self.branches[index]
        return [
            Equation(COPY, {}, (r,), (output,), f"{self.path}/result.{i}", self.source)
            for i, (r, output) in enumerate(zip(results, self.outputs, strict=True))
        ]


@dataclass(frozen=True, eq=False)
class Call:
    """A call-like equation with its inlined body."""

    eqn: Any
    inputs: tuple[Atom, ...]
    outputs: tuple[Atom, ...]
    body: tuple[Node, ...]
    path: str

    @property
    def rematerialised(self) -> bool:
        """Whether the body is to be recomputed in the backward pass."""
        return self.eqn.primitive is primitives.remat_p

    @property
    def plain(self) -> bool:
        """Whether its body may stand in its place: no derivative of its own, no recomputation."""
        own = self.eqn.primitive in _compat.CUSTOM_DERIVATIVES
        return not own and not self.rematerialised


Node = Equation | Call | Switch


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
    body: tuple[Node, ...]

    def equations(self) -> Iterator[Equation]:
        """All equations in order of evaluation; a loop is one, and all branches count."""
        yield from flatten(self.body)


def flatten(body: Sequence[Node], inside_loops: bool = False) -> Iterator[Equation]:
    """The equations of a body and of what it calls.

    Args:
      body: nodes in order.
      inside_loops: whether the equations of loops' bodies are given too, after the loop.
    """
    for node in body:
        if isinstance(node, Call):
            yield from flatten(node.body, inside_loops)
        elif isinstance(node, Switch):
            for branch, _ in node.branches:
                yield from flatten(branch, inside_loops)
            yield from node.selections()
        else:
            yield node
            if inside_loops and node.loop is not None:
                yield from flatten(node.loop.body, inside_loops)


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
    ) -> tuple[tuple[Node, ...], tuple[Atom, ...]]:
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            env[var] = value = Value(var.aval)
            # NumPy's arrays may be changed afterwards.
            self.constants[value] = const.copy() if isinstance(const, np.ndarray) else const

        def read(atom: Any) -> Atom:
            if _compat.is_literal(atom):
                return Literal(atom.val, atom.aval)
            return env[atom]

        nodes: list[Node] = []
        seen: dict[str, int] = {}
        for eqn in jaxpr.eqns:
            name = str(eqn.params.get("name") or eqn.primitive.name)
            count = seen[name] = seen.get(name, -1) + 1
            path = f"{prefix}{name}.{count}" if count else f"{prefix}{name}"
            inputs = tuple(map(read, eqn.invars))
            inner = _compat.call_body(eqn)
            # Library code is hidden from the summary: then the user's line is the call's.
            source = _compat.source_line(eqn) or caller
            outputs: tuple[Atom, ...]
            if inner is not None:
                body, outputs = self.body(*inner, inputs, path + "/", source)
                nodes.append(Call(eqn, inputs, outputs, body, path))
            elif eqn.primitive is primitives.cond_p:
                nodes.append(self.switch(eqn, inputs, path, source))
                outputs = nodes[-1].outputs
            else:
                results = outputs = tuple(Value(v.aval) for v in eqn.outvars)
                loop = self.loop(eqn, inputs, path, source)
                kind, params = reduction(eqn)
                nodes.append(Equation(kind, params, inputs, results, path, source, eqn, loop))
            env.update(zip(eqn.outvars, outputs, strict=True))
        return tuple(nodes), tuple(map(read, jaxpr.outvars))

    def switch(self, eqn: Any, inputs: tuple[Atom, ...], path: str, source: str) -> Switch:
        """A cond; its operands are the index and what every branch reads."""
        branches = tuple(
            self.body(*_compat.open_jaxpr(branch), inputs[1:], f"{path}/{i}/", source)
            for i, branch in enumerate(eqn.params["branches"])
        )
        outputs = tuple(Value(v.aval) for v in eqn.outvars)
        return Switch(eqn, inputs[0], inputs, branches, outputs, path, source)

    def loop(self, eqn: Any, inputs: tuple[Atom, ...], path: str, source: str) -> Loop | None:
        """What a scan or a while repeats; None for other equations."""
        if eqn.primitive is primitives.scan_p:
            jaxpr, consts = _compat.open_jaxpr(eqn.params["jaxpr"])
            fixed, carried = _compat.scan_layout(eqn.params)
            arguments = tuple(Value(v.aval) for v in jaxpr.invars[fixed:])
            body, results = self.body(
                jaxpr, consts, (*inputs[:fixed], *arguments), path + "/", source
            )
            return Loop(
                inputs[fixed : fixed + carried],
                arguments[:carried],
                inputs[fixed + carried :],
                arguments[carried:],
                body,
                results[:carried],
                results[carried:],
                eqn.params["length"],
                eqn.params["reverse"],
                eqn.params["unroll"],
            )
        if eqn.primitive is primitives.while_p:
            jaxpr, consts = _compat.open_jaxpr(eqn.params["body_jaxpr"])
            of_condition, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
            fixed = of_condition + of_body
            carry = tuple(Value(v.aval) for v in jaxpr.invars[of_body:])
            body, results = self.body(
                jaxpr, consts, (*inputs[of_condition:fixed], *carry), path + "/", source
            )
            jaxpr, consts = _compat.open_jaxpr(eqn.params["cond_jaxpr"])
            asked = tuple(Value(v.aval) for v in jaxpr.invars[of_condition:])
            condition, (going,) = self.body(
                jaxpr, consts, (*inputs[:of_condition], *asked), path + "/condition/", source
            )
            return Loop(
                inputs[fixed:], carry, (), (), body, results, (), None,
                going=(condition, going), asked=asked,
            )  # fmt: skip
        return None


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


def equations_of(
    f: Callable[..., Any], inputs: Sequence[Atom], output: Value, path: str, source: str
) -> list[Equation]:
    """The equations of a function of atoms, the last one with that result.

    It consists of single primitives: calls and closures over arrays have no place here.
    """
    closed = jax.make_jaxpr(f)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in inputs))
    jaxpr, consts = _compat.open_jaxpr(closed)
    nodes, _ = _Builder().body(jaxpr, consts, tuple(inputs), f"{path}/")
    found = [replace(n, source=source) for n in nodes if isinstance(n, Equation)]
    assert len(found) == len(nodes)
    assert not consts
    return [*found[:-1], replace(found[-1], outputs=(output,))]


def describe(node: Equation | Switch) -> str:
    """The equation as an error names it: primitive, source line, path."""
    where = f" at {node.source}" if node.source else ""
    return f"'{node.name}'{where} (path {node.path})"


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
