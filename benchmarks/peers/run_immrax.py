"""immrax on the cases: natural inclusion, mixed Jacobian inclusion, linear bounds.

PYTHON -m benchmarks.peers.run_immrax [CASE ...], with an interpreter that has immrax.
"""

from __future__ import annotations

from typing import Any

import immrax
import jax.numpy as jnp

from benchmarks.peers.jax_functions import FUNCTIONS
from benchmarks.peers.protocol import serve
from benchmarks.peers.table import Array, Case


def natural(f: Any, case: Case) -> tuple[Any, Any]:
    """``natif``, on the function as it is."""
    lo, hi = (case.split(jnp.asarray(side, jnp.float32)) for side in case.bounds)
    inputs = [immrax.interval(a, b) for a, b in zip(lo, hi, strict=True)]
    found = immrax.natif(f)(*inputs)
    return found.lower, found.upper


def mixed_jacobian(f: Any, case: Case) -> tuple[Any, Any]:
    """``mjacif``, which takes functions from vectors to vectors."""
    lo, hi = (jnp.asarray(side, jnp.float32) for side in case.bounds)
    found = immrax.mjacif(_of_vectors(f, case))(immrax.interval(lo, hi))
    # One Jacobian matrix for each of its corners, of which the first is asked for.
    found = found[0] if isinstance(found, list) else found
    return found.lower, found.upper


def linear(f: Any, case: Case) -> tuple[Any, Any]:
    """``linbp``, its linear bounds evaluated on the box and joined with the constant ones."""
    lo, hi = (jnp.asarray(side, jnp.float32) for side in case.bounds)
    # Its matrix products are of vectors; the functions of one vector need no batch.
    vector = len(case.boxes) == 1 and len(case.boxes[0].shape) == 2
    found = immrax.inclusion.linbp_fn(f if vector else _of_vectors(f, case))(
        immrax.interval(lo, hi)
    )
    below = found.lA.clip(min=0) @ lo + found.lA.clip(max=0) @ hi + found.lb
    above = found.uA.clip(min=0) @ hi + found.uA.clip(max=0) @ lo + found.ub
    return jnp.maximum(below, found.l), jnp.minimum(above, found.u)


def _of_vectors(f: Any, case: Case) -> Any:
    return lambda x: f(*case.split(x)).reshape(-1)


def evaluate(f: Any, case: Case, x: Array) -> Any:
    return f(*case.split(jnp.asarray(x, jnp.float32)))


if __name__ == "__main__":
    serve(
        FUNCTIONS,
        {"natif": natural, "mjacif": mixed_jacobian, "linbp": linear},
        evaluate,
        ("immrax", "jax"),
    )
