"""jax_verify on the cases: interval bounds, and backward CROWN.

PYTHON -m benchmarks.peers.run_jax_verify [CASE ...], with an interpreter that has jax_verify.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax_verify

from benchmarks.peers.jax_functions import FUNCTIONS
from benchmarks.peers.protocol import Method, serve
from benchmarks.peers.table import Array, Case


def method(propagation: Callable[..., Any]) -> Method:
    """One of the library's bound propagations."""

    def bound(f: Any, case: Case) -> tuple[Any, Any]:
        lo, hi = (case.split(jnp.asarray(side, jnp.float32)) for side in case.bounds)
        inputs = [jax_verify.IntervalBound(a, b) for a, b in zip(lo, hi, strict=True)]
        found = propagation(f, *inputs)
        return found.lower, found.upper

    return bound


def evaluate(f: Any, case: Case, x: Array) -> Any:
    return f(*case.split(jnp.asarray(x, jnp.float32)))


if __name__ == "__main__":
    # Random numbers as newer versions of JAX draw them by default.
    jax.config.update("jax_threefry_partitionable", True)
    serve(
        FUNCTIONS,
        {
            "IBP": method(jax_verify.interval_bound_propagation),
            "CROWN": method(jax_verify.backward_crown_bound_propagation),
        },
        evaluate,
        ("jax_verify", "jax"),
    )
