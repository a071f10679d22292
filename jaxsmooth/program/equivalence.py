"""Whether two jaxprs are the same program, up to the names of their variables.

Equations that hold programs (linear solves, custom derivatives) are compared by them: JAX
traces an inner program anew wherever it is called, so that equal ones are other objects.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsmooth._compat import is_jaxpr, is_literal, open_jaxpr

_IGNORED = frozenset({"sharding", "out_sharding", "name", "weak_type"})


def traced_once(trace: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what is traced for the arguments: one for every type that Python numbers become."""
    kept = functools.lru_cache(maxsize=1024)(lambda default, *arguments: trace(*arguments))
    return functools.wraps(trace)(lambda *arguments: kept(jnp.result_type(float), *arguments))


def same_params(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two equations' parameters say the same."""
    keys = (a.keys() | b.keys()) - _IGNORED
    return all(_same_param(a.get(k), b.get(k)) for k in keys)


def _same_param(a: Any, b: Any) -> bool:
    if is_jaxpr(a) and is_jaxpr(b):
        return same_program(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same_param, a, b))
    nan = isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b)
    return nan or bool(a == b)


def same_program(a: Any, b: Any) -> bool:
    """Whether two jaxprs, open or closed, compute the same by the same equations."""
    (one, one_consts), (two, two_consts) = open_jaxpr(a), open_jaxpr(b)
    if len(one_consts) != len(two_consts):
        return False
    if one is two and not one_consts:
        return True
    paired: dict[Any, Any] = {}
    if not _bind((*one.constvars, *one.invars), (*two.constvars, *two.invars), paired):
        return False
    if not all(same_numbers(x, y) for x, y in zip(one_consts, two_consts, strict=True)):
        return False
    if len(one.eqns) != len(two.eqns) or len(one.outvars) != len(two.outvars):
        return False
    for first, second in zip(one.eqns, two.eqns, strict=True):
        if first.primitive is not second.primitive or len(first.invars) != len(second.invars):
            return False
        operands = zip(first.invars, second.invars, strict=True)
        if not all(_same_atom(x, y, paired) for x, y in operands):
            return False
        if not same_params(first.params, second.params):
            return False
        if not _bind(first.outvars, second.outvars, paired):
            return False
    return all(_same_atom(x, y, paired) for x, y in zip(one.outvars, two.outvars, strict=True))


def _bind(first: Sequence[Any], second: Sequence[Any], paired: dict[Any, Any]) -> bool:
    """Pair variables; False where their types differ."""
    if len(first) != len(second):
        return False
    paired.update(zip(first, second, strict=True))
    return all(
        x.aval.shape == y.aval.shape and x.aval.dtype == y.aval.dtype
        for x, y in zip(first, second, strict=True)
    )


def _same_atom(a: Any, b: Any, paired: Mapping[Any, Any]) -> bool:
    if is_literal(a) or is_literal(b):
        return is_literal(a) and is_literal(b) and same_numbers(a.val, b.val)
    return paired.get(a) is b


def same_numbers(a: Any, b: Any) -> bool:
    """Whether two arrays hold the same numbers; NaN is the same as NaN."""
    return a is b or (np.shape(a) == np.shape(b) and np.array_equal(a, b, equal_nan=True))
