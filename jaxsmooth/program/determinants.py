"""Determinants and their logarithms, recognised by the program that JAX calls for them.

`jnp.linalg.det` and `jnp.linalg.slogdet` are calls with a derivative of their own, around a
factorisation whose pivots jump. Such a call is one of them if its program is the one that
they call, as the installed JAX traces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth._compat import call_body
from jaxsmooth.program.equivalence import same_program, traced_once
from jaxsmooth.program.graph import Call, Equation, Value

SIGN = Primitive("sign_of_determinant")
LOGDET = Primitive("log_of_determinant")
"""log |det S|, times the param ``factor``; the param ``lower`` is as of `SOLVE`."""

DET = Primitive("determinant")

CALLS = frozenset({SIGN, LOGDET, DET})
"""What stands for calls."""

_WHOLE: dict[str, Any] = {"lower": None, "factor": 1.0}
_FUNCTIONS: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = (
    (jnp.linalg.slogdet, (SIGN, LOGDET)),
    (jnp.linalg.det, (DET,)),
)


def determinants(node: Call) -> list[Equation] | None:
    """The equations that stand for a call, one per result; None if it is another one."""
    if node.eqn.primitive is not p.custom_jvp_call_p or len(node.inputs) != 1:
        return None
    (matrix,) = node.inputs
    if len(matrix.shape) < 2 or matrix.shape[-1] != matrix.shape[-2]:
        return None
    body = node.eqn.params["call_jaxpr"]
    for function, keys in _FUNCTIONS:
        if len(keys) != len(node.outputs):
            continue
        if any(same_program(body, b) for b in _bodies(function, matrix.shape, matrix.dtype)):
            return [
                Equation(key, _WHOLE, node.inputs, (output,), f"{node.path}/{key.name}",
                         _source(node))
                for key, output in zip(keys, node.outputs, strict=True)
                if isinstance(output, Value)
            ]  # fmt: skip
    return None


def _source(node: Call) -> str:
    """Where the call is, by the first equation inside that says it."""
    for inner in node.body:
        source = _source(inner) if isinstance(inner, Call) else inner.source
        if source:
            return source
    return ""


@traced_once
def _bodies(function: Callable[..., Any], shape: tuple[int, ...], dtype: Any) -> tuple[Any, ...]:
    """The programs that the function calls for arrays of matrices, also under `jax.vmap`."""
    found: list[Any] = []
    for mapped in range(len(shape) - 1):
        batched = function
        for _ in range(mapped):
            batched = jax.vmap(batched)
        closed = jax.make_jaxpr(batched)(jax.ShapeDtypeStruct(shape, dtype))
        call = next(_calls(closed.jaxpr), None)
        found += [] if call is None else [call.params["call_jaxpr"]]
    return tuple(found)


def _calls(jaxpr: Any) -> Iterator[Any]:
    """The outermost calls with a derivative of their own."""
    for eqn in jaxpr.eqns:
        body = call_body(eqn)
        if eqn.primitive is p.custom_jvp_call_p:
            yield eqn
        elif body is not None:
            yield from _calls(body[0])
