"""Complex numbers as pairs of their parts: linear equations, and magnitudes of moduli.

Joining, splitting, conjugating are linear, and exact in the joint norm of the parts. What is
known of perturbations of pairs passes to their moduli and back:

    |d_k| = ‖(d_k^re, d_k^im)‖₂,      |d_k^re|, |d_k^im| <= |d_k|,
    Σ_k |d_k| <= ‖d‖₁ <= √2 Σ_k |d_k|.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.math.array import Array, namespace, norm2, up
from jaxsmooth.math.magnitude import Magnitude, Response, column
from jaxsmooth.program.complex_structure import EMBED, PICK
from jaxsmooth.rules.linear import LinearRule
from jaxsmooth.rules.registry import Local, define

_SIGNS = np.array([1.0, -1.0])


def twice(x: Array) -> Array:
    """A bound of moduli as one of both parts."""
    xp = namespace(x)
    return xp.broadcast_to(x[..., None], (*np.shape(x), 2))


def moduli(m: Magnitude) -> Magnitude:
    """Magnitudes of the moduli of perturbations of pairs."""
    if m.entries is None:
        return m
    entries = norm2(m.entries, -1)
    norms = column(m.norm, entries.ndim - 1)
    return Magnitude(namespace(entries, norms).minimum(entries, norms), m.norm, m.total)


def of_parts(total: Array | None) -> Array | None:
    """Bound of the 1-norm of pairs whose moduli have this one."""
    return None if total is None else up(math.sqrt(2.0) * total, 2)


def response_of_parts(response: Response | None) -> Response | None:
    """The response of moduli as one of both parts."""
    if response is None:
        return None
    entries = None if response.entries is None else twice(response.entries)
    return Response(response.pairs, entries, of_parts(response.totals), response.singular)


class ConjugateRule(LinearRule):
    """The pair (x, -y) of (x, y)."""

    def __init__(self) -> None:
        super().__init__(lambda xp, eq, x: x, lambda eq: [1.0])

    def signed(self, eq: Local, *operands: Array) -> Array:
        (x,) = operands
        return x * _SIGNS

    def _bounds(self, eq: Local) -> tuple[Array, Array]:
        (x,) = eq.ranges
        xp = namespace(x.lo, x.hi)
        lo = xp.stack([x.lo[..., 0], -x.hi[..., 1]], -1)
        return lo, xp.stack([x.hi[..., 0], -x.lo[..., 1]], -1)


def _part(index: int) -> LinearRule:
    return LinearRule(lambda xp, eq, z: z[..., index], lambda eq: [1.0])


def _joined(xp: Any, eq: Local, x: Array, y: Array) -> Array:
    return xp.stack([x, y], -1)


def _embedded(xp: Any, eq: Local, x: Array) -> Array:
    return xp.stack([x, xp.zeros_like(x)], -1)


def _picked(xp: Any, eq: Local, x: Array) -> Array:
    return x.reshape(len(x), -1)[:, eq.params["places"]]


def _copies(eq: Local) -> list[float]:
    """How often an entry is picked at most."""
    return [float(np.bincount(eq.params["places"].reshape(-1), minlength=1).max(initial=0))]


define(LinearRule(_picked, _copies), PICK)
define(_part(0), p.real_p)
define(_part(1), p.imag_p)
define(LinearRule(_joined, lambda eq: [1.0, 1.0], disjoint=True), p.complex_p)
define(LinearRule(_embedded, lambda eq: [1.0]), EMBED)
define(ConjugateRule(), p.conj_p)
