"""What is made of a method's bounds, given the values that the search found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.peers.table import Array

HANDLED, WRONG, INFINITE, REFUSED = "handled", "wrong", "infinite", "refused"
INEXPRESSIBLE, OTHER = "not expressible", "another function"
# Outcomes of a tool, of which the first that one of its methods has is the tool's.
ORDER = (HANDLED, WRONG, INFINITE, REFUSED, INEXPRESSIBLE, OTHER)
# Tools that compute in float32 are not held to its rounding.
_OF_WIDTH, _OF_VALUE = 1e-4, 1e-5
_AGREEMENT = 1e-4


def judged(bounds: dict[str, Any], low: Array, high: Array) -> dict[str, Any]:
    """The verdict on one method's answer."""
    if "error" in bounds:
        return {"outcome": REFUSED, "error": bounds["error"]}
    lo, hi = np.asarray(bounds["lo"]), np.asarray(bounds["hi"])
    if lo.shape != low.shape or hi.shape != low.shape:
        return {"outcome": WRONG, "why": f"{lo.size} bounds of {low.size} entries"}
    slack = _OF_WIDTH * (high - low) + _OF_VALUE * np.maximum(abs(low), abs(high))
    outside = np.maximum(lo - low, high - hi) - slack
    worst = int(np.argmax(np.where(np.isnan(outside), -math.inf, outside)))
    if outside[worst] > 0:
        return {
            "outcome": WRONG,
            "why": f"entry {worst}: bounds [{lo[worst]:.4g}, {hi[worst]:.4g}], "
            f"values [{low[worst]:.4g}, {high[worst]:.4g}]",
        }
    if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
        return {"outcome": INFINITE, "why": "NaN" if np.isnan(lo + hi).any() else "inf"}
    return {"outcome": HANDLED, "ratio": _significant(np.sum(hi - lo) / np.sum(high - low))}


def of_tool(answer: dict[str, Any], low: Array, high: Array, values: Array) -> dict[str, Any]:
    """The verdicts on all methods of a tool on one case.

    The outcome is OTHER, which is a mistake in the comparison, where the tool's version of the
    function has other values.
    """
    if "inexpressible" in answer:
        return {"outcome": INEXPRESSIBLE, "why": answer["inexpressible"]}
    own = answer.get("values", {})
    if "at" in own:
        own_values = np.asarray(own["at"])
        if own_values.shape != values.shape or not np.allclose(
            own_values, values, rtol=_AGREEMENT, atol=_AGREEMENT
        ):
            return {"outcome": OTHER, "why": f"{own_values.tolist()}, not {values.tolist()}"}
    methods = {name: judged(found, low, high) for name, found in answer["methods"].items()}
    return {"outcome": best(methods), "methods": methods}


def best(methods: dict[str, dict[str, Any]]) -> str:
    """The best outcome among methods."""
    return min((found["outcome"] for found in methods.values()), key=ORDER.index)


def worst(methods: dict[str, dict[str, Any]]) -> str:
    """The worst outcome among methods: all of them are asked for."""
    outcomes = {found["outcome"] for found in methods.values()}
    return WRONG if WRONG in outcomes else max(outcomes, key=ORDER.index)


def _significant(value: float) -> float:
    return float(f"{value:.4g}")
