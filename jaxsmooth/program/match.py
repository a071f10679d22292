"""Recognising composite functions by their equations.

Softmax and its kin hide their structure when they are enclosed equation by equation. A
composite is recognised by matching the graph backwards against the traced equations of
reference functions, with the JAX that is installed, never by name: a user's own
``jnp.exp(x) / jnp.exp(x).sum()`` matches, a user's function called ``softmax`` that does
something else does not.

The equation that computes the composite's result is replaced by one `Equation` whose
primitive is the composite's key. The numerical-stability ``max`` inside is then dead: it
is no site, for the function does not depend on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Graph, Literal, Value, from_jaxpr, live

SOFTMAX = Primitive("softmax")
LOG_SOFTMAX = Primitive("log_softmax")
LOGSUMEXP = Primitive("logsumexp")
LOGADDEXP = Primitive("logaddexp")

# How many equations back from a result its reduction may stand.
_REACH = 12
_IGNORED = frozenset({"sharding", "out_sharding", "name", "weak_type"})
_COMMUTATIVE = frozenset({p.add_p, p.mul_p, p.max_p, p.min_p})


def _shifted(x: Any, axes: tuple[int, ...], frozen: bool) -> tuple[Any, Any]:
    top = jnp.max(x, axes, keepdims=True)
    top = jax.lax.stop_gradient(top) if frozen else top
    return top, jnp.exp(x - top)


def _softmax(frozen: bool) -> Callable[..., Any]:
    def reference(x: Any, axes: tuple[int, ...]) -> Any:
        _, e = _shifted(x, axes, frozen)
        return e / jnp.sum(e, axes, keepdims=True)

    return reference


def _log_softmax(frozen: bool) -> Callable[..., Any]:
    def reference(x: Any, axes: tuple[int, ...]) -> Any:
        top, e = _shifted(x, axes, frozen)
        return x - top - jnp.log(jnp.sum(e, axes, keepdims=True))

    return reference


def _logsumexp(frozen: bool, keepdims: bool) -> Callable[..., Any]:
    def reference(x: Any, axes: tuple[int, ...]) -> Any:
        top, e = _shifted(x, axes, frozen)
        if not keepdims:
            top = jnp.squeeze(top, axes)
        return jnp.log(jnp.sum(e, axes, keepdims=keepdims)) + top

    return reference


_ALONG_AXES: tuple[tuple[Primitive, Callable[..., Any]], ...] = (
    (SOFTMAX, lambda x, axes: jax.nn.softmax(x, axes)),
    (SOFTMAX, _softmax(True)),
    (SOFTMAX, _softmax(False)),
    (SOFTMAX, lambda x, axes: jnp.exp(x) / jnp.sum(jnp.exp(x), axes, keepdims=True)),
    (LOG_SOFTMAX, lambda x, axes: jax.nn.log_softmax(x, axes)),
    (LOG_SOFTMAX, _log_softmax(True)),
    (LOG_SOFTMAX, _log_softmax(False)),
    (LOG_SOFTMAX, lambda x, axes: x - jax.nn.logsumexp(x, axes, keepdims=True)),
    (LOGSUMEXP, lambda x, axes: jax.nn.logsumexp(x, axes)),
    (LOGSUMEXP, lambda x, axes: jax.nn.logsumexp(x, axes, keepdims=True)),
    (LOGSUMEXP, _logsumexp(True, False)),
    (LOGSUMEXP, _logsumexp(True, True)),
    (LOGSUMEXP, _logsumexp(False, False)),
    (LOGSUMEXP, _logsumexp(False, True)),
    (LOGSUMEXP, lambda x, axes: jnp.log(jnp.sum(jnp.exp(x), axes))),
    (LOGSUMEXP, lambda x, axes: jnp.log(jnp.sum(jnp.exp(x), axes, keepdims=True))),
)
_ELEMENTWISE: tuple[tuple[Primitive, Callable[..., Any]], ...] = (
    (LOGADDEXP, jnp.logaddexp),
    (LOGADDEXP, lambda x, y: jnp.maximum(x, y) + jnp.log1p(jnp.exp(-jnp.abs(x - y)))),
)


@dataclass(frozen=True, eq=False)
class _Reference:
    key: Primitive
    graph: Graph
    producers: dict[Value, Equation]


def _traced(key: Primitive, function: Callable[..., Any], *args: Any) -> _Reference:
    graph = from_jaxpr(jax.make_jaxpr(function)(*args))
    equations = live(list(graph.equations()), graph.outputs)
    return _Reference(key, graph, {v: e for e in equations for v in e.outputs})


@functools.lru_cache(maxsize=1024)
def _references(shape: tuple[int, ...], dtype: Any, axes: tuple[int, ...]) -> list[_Reference]:
    x = jax.ShapeDtypeStruct(shape, dtype)
    return [_traced(key, functools.partial(f, axes=axes), x) for key, f in _ALONG_AXES]


@functools.lru_cache(maxsize=64)
def _elementwise_references(dtype: Any) -> list[_Reference]:
    x = jax.ShapeDtypeStruct((), dtype)
    return [_traced(key, f, x, x) for key, f in _ELEMENTWISE]


def composites(
    equations: Sequence[Equation], outputs: Sequence[Atom], folded: Sequence[Equation] = ()
) -> list[Equation]:
    """The equations with every recognised composite as one equation, dead ones dropped.

    Args:
      equations: live equations in order.
      outputs: what the program returns.
      folded: equations whose values are known; a composite may hold some, such as the
        zeros that `jax.nn.logsumexp` puts in place of an infinite maximum.

    Returns:
      Equations; a composite's ``params`` hold ``axes`` where it runs along axes.
    """
    producers = {v: e for e in (*folded, *equations) for v in e.outputs}
    result: list[Equation] = []
    for equation in equations:
        result.append(_recognise(equation, producers) or equation)
    return live(result, outputs)


def _recognise(equation: Equation, producers: dict[Value, Equation]) -> Equation | None:
    if equation.eqn is None or len(equation.outputs) != 1:
        return None
    for reference, params in _candidates(equation, producers):
        bindings: dict[Value, Atom] = {}
        end = reference.graph.outputs[0]
        if not isinstance(end, Value) or end not in reference.producers:
            continue
        if not _same_equation(reference.producers[end], equation, reference, producers, bindings):
            continue
        inputs = tuple(bindings[v] for v in reference.graph.inputs)
        return Equation(
            reference.key, params, inputs, equation.outputs, equation.path, equation.source
        )
    return None


def _candidates(
    equation: Equation, producers: dict[Value, Equation]
) -> Iterator[tuple[_Reference, dict[str, Any]]]:
    dtype = equation.outputs[0].dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        return
    if equation.primitive in (p.select_n_p, p.add_p):
        for reference in _elementwise_references(dtype):
            yield reference, {}
    if equation.primitive in (p.div_p, p.sub_p, p.add_p, p.log_p):
        found = _reduction(equation, producers)
        if found is not None:
            shape, axes = found
            for reference in _references(shape, dtype, axes):
                yield reference, {"axes": axes}


def _reduction(
    equation: Equation, producers: dict[Value, Equation]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Shape and axes of the nearest sum of exponentials upstream."""
    frontier = [equation]
    for _ in range(_REACH):
        following: list[Equation] = []
        for e in frontier:
            for atom in e.inputs:
                producer = producers.get(atom) if isinstance(atom, Value) else None
                if producer is None:
                    continue
                if producer.primitive is p.reduce_sum_p:
                    summed = producer.inputs[0]
                    source = producers.get(summed) if isinstance(summed, Value) else None
                    if source is not None and source.primitive is p.exp_p:
                        return tuple(summed.shape), tuple(producer.params["axes"])
                following.append(producer)
        frontier = following
    return None


def _same_equation(
    wanted: Equation,
    found: Equation,
    reference: _Reference,
    producers: dict[Value, Equation],
    bindings: dict[Value, Atom],
) -> bool:
    """Whether an equation and all that it reads match the reference's; fills bindings."""
    if wanted.primitive is not found.primitive or not _same_params(wanted.params, found.params):
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
    producers: dict[Value, Equation],
    bindings: dict[Value, Atom],
) -> bool:
    if isinstance(wanted, Literal):
        return isinstance(found, Literal) and np.array_equal(wanted.value, found.value)
    if wanted in bindings:
        return _identical(bindings[wanted], found)
    producer = reference.producers.get(wanted)
    if producer is None:
        bindings[wanted] = found
        return True
    target = producers.get(found) if isinstance(found, Value) else None
    if target is None or not _same_equation(producer, target, reference, producers, bindings):
        return False
    bindings[wanted] = found
    return True


def _identical(a: Atom, b: Atom) -> bool:
    if isinstance(a, Literal) and isinstance(b, Literal):
        return np.array_equal(a.value, b.value)
    return a is b


def _same_params(a: dict[str, Any], b: dict[str, Any]) -> bool:
    keys = (a.keys() | b.keys()) - _IGNORED
    return all(a.get(k) == b.get(k) for k in keys)
