"""Eigenvalues and singular values that are asked for without their vectors.

As functions of the matrix they are Lipschitz-continuous, and smooth where no two of them meet.
The vectors turn without bound where two meet, and come with a sign that is arbitrary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation

EIGENVALUES = Primitive("eigenvalues")
"""Eigenvalues, in increasing order, of symmetric matrices; ``lower`` as of `SOLVE`."""

SINGULAR_VALUES = Primitive("singular_values")
"""All singular values of matrices, in decreasing order."""


def eigenvalues(equations: Sequence[Equation], outputs: Sequence[Atom]) -> list[Equation]:
    """The equations with decompositions of which only the values are read as such."""
    read = {a for e in equations for a in e.inputs}.union(outputs)
    return [_values(e) if _alone(e, read) else e for e in equations]


def _place(equation: Equation) -> int:
    """Where the values are among the results."""
    return 1 if equation.primitive is p.eigh_p else 0


def _alone(equation: Equation, read: set[Atom]) -> bool:
    if equation.primitive not in (p.eigh_p, p.svd_p):
        return False
    if equation.params.get("subset_by_index") is not None:
        return False
    # Unsorted, their order is that of the algorithm.
    if not equation.params.get("sort_eigenvalues", True):
        return False
    place = _place(equation)
    return all(v not in read for i, v in enumerate(equation.outputs) if i != place)


def _values(equation: Equation) -> Equation:
    outputs = (equation.outputs[_place(equation)],)
    if equation.primitive is p.svd_p:
        return replace(equation, primitive=SINGULAR_VALUES, params={}, outputs=outputs, eqn=None)
    params = {"lower": bool(equation.params["lower"])}
    return replace(equation, primitive=EIGENVALUES, params=params, outputs=outputs, eqn=None)
