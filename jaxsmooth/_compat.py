"""What differs between JAX versions, and nothing else."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.extend import core, source_info_util
from jax.extend.core import primitives

_HERE = str(Path(__file__).parent)


def call_body(eqn: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """The (jaxpr, consts) that a call-like equation runs once on its operands, or None.

    The parameter is ``jaxpr`` or ``call_jaxpr``, an open or a closed jaxpr, depending
    on the primitive and the version of JAX.
    """
    if eqn.primitive not in CALLS and eqn.primitive is not primitives.remat_p:
        return None
    body = eqn.params["call_jaxpr"] if "call_jaxpr" in eqn.params else eqn.params["jaxpr"]
    return open_jaxpr(body)


def open_jaxpr(body: Any) -> tuple[Any, tuple[Any, ...]]:
    """(jaxpr, consts) of an open or a closed jaxpr."""
    if hasattr(body, "jaxpr"):
        return body.jaxpr, tuple(body.consts)
    return body, ()


def is_jaxpr(param: Any) -> bool:
    """Whether a parameter of an equation is a jaxpr, open or closed."""
    return isinstance(getattr(param, "jaxpr", param), core.Jaxpr)


CUSTOM_DERIVATIVES = frozenset({primitives.custom_jvp_call_p, primitives.custom_vjp_call_p})
"""Calls whose derivative is not that of their body."""

CALLS = CUSTOM_DERIVATIVES | {primitives.jit_p, primitives.closed_call_p, primitives.call_p}
"""Call-like primitives whose body may be inlined when something inside it changes."""


def scan_layout(params: Mapping[str, Any]) -> tuple[int, int]:
    """(number of constants, number of carries): a scan's first operands, in this order.

    Since JAX 0.11 they are counted by a tree of the operands.
    """
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts.vals), len(carry.vals)


def primitive(name: str) -> Any | None:
    """The primitive of that name in `jax.extend.core.primitives`, or None where absent.

    Rules name primitives that only some versions have.
    """
    return getattr(primitives, name, None)


def primitive_in(function: Callable[..., Any], name: str, *args: Any) -> Any | None:
    """The primitive of that name that the traced function uses, or None.

    Some primitives are not in `jax.extend.core.primitives`, and some exist in newer
    versions only: they are looked up where JAX's public functions use them.
    """
    for eqn in jax.make_jaxpr(function)(*args).jaxpr.eqns:
        if eqn.primitive.name == name:
            return eqn.primitive
    return None


def source_line(eqn: Any) -> str:
    """``file:line (function)`` of the user's code that made the equation, if that is known.

    JAX keeps what it traced first, of `jnp.where` for example, which may have been by this library.
    """
    line = source_info_util.summarize(eqn.source_info)
    return "" if line.startswith(_HERE) else line


def is_literal(atom: Any) -> bool:
    """Whether an operand of an equation is a literal."""
    return isinstance(atom, core.Literal)


def versions() -> dict[str, str]:
    """Versions that a record names."""
    packages = ("jaxsmooth", "jax", "jaxlib", "numpy")
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return {"python": platform.python_version(), **found}
