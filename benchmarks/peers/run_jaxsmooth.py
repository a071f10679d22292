"""jaxsmooth on one case: the range by `analyze`, and the certificate by `smooth`, attacked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsmooth
from benchmarks.peers.protocol import attempt, flat
from benchmarks.peers.table import Case
from benchmarks.peers.verdicts import HANDLED, INFINITE, REFUSED, WRONG
from tests.soundness.attack import attack
from tests.soundness.programs import Program
from tests.soundness.regions import Box, Region

EPS = 0.05
EFFORT = 2
# Forward derivatives only.
_FORWARD = ("while, known number of steps",)
_CLAIMS = ("error", "lipschitz", "smoothness")


def analysed(f: Callable[..., Any], case: Case) -> dict[str, Any]:
    """Both sides of the range, or the error."""

    def task() -> dict[str, Any]:
        with jax.enable_x64(True):
            lo, hi = jaxsmooth.analyze(f, bounds_of(case))(*shapes_of(case)).range
        return {"lo": flat(lo), "hi": flat(hi)}

    return attempt(task)


def smoothed(f: Callable[..., Any], case: Case) -> dict[str, Any]:
    """The verdict on the certificate, with certified numbers over what the attack found."""

    def task() -> dict[str, Any]:
        evidence = attack(program_of(f, case), seed=0, effort=EFFORT)
        claims = {name: evidence.claims[name] for name in _CLAIMS}
        found = {
            "certified": {name: _number(c.certified) for name, c in claims.items()},
            "ratios": {name: _number(c.ratio) for name, c in claims.items()},
        }
        if evidence.violations:
            return {"outcome": WRONG, "why": "; ".join(evidence.violations)} | found
        finite = all(math.isfinite(c.certified) for c in claims.values())
        return {"outcome": HANDLED if finite else INFINITE} | found

    verdict = attempt(task)
    return verdict if "outcome" in verdict else {"outcome": REFUSED} | verdict


def bounds_of(case: Case) -> tuple[Any, ...]:
    return tuple(jaxsmooth.box(np.full(b.shape, b.lo), b.hi) for b in case.boxes)


def shapes_of(case: Case) -> tuple[Any, ...]:
    return tuple(jax.ShapeDtypeStruct(b.shape, jnp.float64) for b in case.boxes)


def program_of(f: Callable[..., Any], case: Case) -> Program:
    """The case as the attack on certificates takes it."""
    lo, hi = case.bounds
    with jax.enable_x64(True):
        shapes = shapes_of(case)
    return Program(
        label=case.name,
        function=f,
        arguments=shapes,
        bounds=bounds_of(case),
        region=Region([(slice(0, len(lo)), Box(lo, hi))], len(lo)),
        argnums=None,
        options={"eps": EPS, "kernel": "auto", "allocation": "optimal", "norm": "l2"},
        double=True,
        traced=False,
        reverse=case.name not in _FORWARD,
    )


def _number(value: float) -> float | None:
    """Four digits; None where it is not finite, or nothing was found."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
