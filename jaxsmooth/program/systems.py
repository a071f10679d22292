"""Linear systems S x = b, recognised against JAX's own solvers as they trace.

`jnp.linalg.solve` and its kin become a ``custom_linear_solve`` of factors that are computed
without derivatives, and a product for the derivatives. Only together do they say that the
result is S⁻¹ b: that is found by matching all of it against the solvers' traces. Under
`jax.vmap`, as inside `jnp.linalg.solve` with several right-hand sides, every axis that is
added in front belongs to the matrix and the right-hand side, or to the latter alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Equation
from jaxsmooth.program.layout import Producers
from jaxsmooth.program.match import Composite

SOLVE = Primitive("solve")
"""S⁻¹ b of its operands S, of shape (*batch, n, n), and b.

Params: ``axis``, that of b along which a system's right-hand side is; ``shared``, the axes of
b that are the batch axes of S; ``lower``, whether of S only the lower triangle counts, which
stands for the upper one, too (None where all of it counts). Further axes of b are columns.
"""

_MOST_AXES = 3


def _positive(matrix: Any, side: Any) -> Any:
    return jax.scipy.linalg.solve(matrix, side, assume_a="pos")


def _positive_lower(matrix: Any, side: Any) -> Any:
    return jax.scipy.linalg.solve(matrix, side, assume_a="pos", lower=True)


_SOLVERS: tuple[tuple[Callable[..., Any], bool | None], ...] = (
    (jnp.linalg.solve, None),
    (_positive, False),
    (_positive_lower, True),
)


def _added(solver: Callable[..., Any], shared: tuple[bool, ...]) -> Callable[..., Any]:
    """The solver of one system with axes added in front, the first one outermost."""
    for with_matrix in reversed(shared):
        solver = jax.vmap(solver, in_axes=(0 if with_matrix else None, 0))
    return solver


def _operands(shared: tuple[bool, ...]) -> Callable[..., Any]:
    def operands(
        equation: Equation, producers: Producers
    ) -> tuple[jax.ShapeDtypeStruct, ...] | None:
        matrix, side = equation.inputs[0], equation.inputs[-1]
        if len(equation.inputs) < 3 or len(side.shape) != 1 + len(shared):
            return None
        batch = tuple(n for n, both in zip(side.shape, shared, strict=False) if both)
        if matrix.shape != (*batch, side.shape[-1], side.shape[-1]) or matrix.dtype != side.dtype:
            return None
        return tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (matrix, side))

    return operands


SYSTEMS = tuple(
    Composite(
        SOLVE,
        _added(solver, shared),
        frozenset({p.linear_solve_p}),
        _operands(shared),
        {"axis": count, "shared": tuple(i for i in range(count) if shared[i]), "lower": lower},
    )
    for count in range(_MOST_AXES + 1)
    for shared in itertools.product((False, True), repeat=count)
    for solver, lower in _SOLVERS
)
"""The solvers of JAX, with up to three axes in front."""
