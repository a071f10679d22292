"""The matrix of a linear program, read off its values at the unit vectors.

What does not depend on the vector is computed as the program does. The rest is computed in 64
bits, whatever types the program uses, together with a majorant: the same with absolute values
of all numbers and sums for differences. After k roundings the error is at most k·2⁻⁵² of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import concretely
from jaxsmooth.program.complex_structure import SPLIT, STACK, TILE, UNSTACK
from jaxsmooth.program.evaluate import bind
from jaxsmooth.program.graph import Atom, Equation, Literal, Value, flatten, from_jaxpr, live

_MOVING = frozenset(
    {
        p.broadcast_in_dim_p, p.reshape_p, p.squeeze_p, p.transpose_p, p.slice_p, p.rev_p,
        p.concatenate_p, p.pad_p, p.gather_p, p.dynamic_slice_p, p.select_n_p,
        STACK, TILE, SPLIT, UNSTACK,
    }
)  # fmt: skip
_KEEPING = frozenset({p.copy_p, p.convert_element_type_p, p.reduce_precision_p, p.stop_gradient_p})
_ADDING = {p.add_p: p.add_p, p.sub_p: p.add_p, p.add_jaxvals_p: p.add_jaxvals_p}
"""Sums and differences of two, and what they are in the majorant."""
_PRODUCTS = frozenset({p.mul_p, p.div_p, p.dot_general_p, p.conv_general_dilated_p})


def matrix_of(
    product: Any, constants: Sequence[Any], shape: tuple[int, ...], named: object
) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of a product with a vector, and by how much rounding may have moved it.

    Args:
      product: a closed jaxpr of constants and the vector, linear in it.
      constants: their values.
      shape: of the vector.
      named: the equation, as an error names it.

    Raises:
      UnsupportedPrimitiveError: it consists of other than sums, products and moved entries.
    """
    graph = from_jaxpr(product)
    *before, vector = graph.inputs
    (result,) = graph.outputs
    equations = live(list(flatten(graph.body)), graph.outputs)
    with concretely():
        known = dict(zip(before, map(jnp.asarray, constants), strict=True)) | graph.constants
        of_vector = _split(equations, vector, known)
        roundings = _roundings(of_vector, vector, named).get(result, 0)

        def column(unit: Any) -> tuple[Any, Any]:
            pair = _pair(of_vector, {**known}, {vector: (unit.reshape(shape),) * 2}, result)
            return tuple(x.reshape(-1) for x in pair)

        units = jnp.eye(math.prod(shape), dtype=jnp.float64)
        matrix, majorant = (np.asarray(x).T for x in jax.vmap(column)(units))
    # Twice, for the roundings of the majorant.
    return matrix, majorant * roundings * 2.0**-51


def _split(equations: Sequence[Equation], vector: Value, known: dict[Value, Any]) -> list[Equation]:
    """The equations that depend on the vector; what the others compute becomes known."""
    varies, found = {vector}, []
    for equation in equations:
        if varies.isdisjoint(equation.inputs):
            operands = [_read(a, known) for a in equation.inputs]
            known.update(zip(equation.outputs, bind(equation, operands), strict=True))
            continue
        varies.update(equation.outputs)
        found.append(equation)
    return found


def _roundings(equations: Sequence[Equation], vector: Value, named: object) -> dict[Atom, int]:
    """How often what depends on the vector is rounded."""
    counts: dict[Atom, int] = {vector: 0}
    for equation in equations:
        operands = [a for a in equation.inputs if a in counts]
        own = _own_roundings(equation, [a in counts for a in equation.inputs])
        if own is None:
            raise errors.UnsupportedPrimitiveError(
                f"{named} multiplies by its matrix with '{equation.name}', of which the matrix is "
                "not read off. Write the product with jnp.dot, sums, and products with numbers "
                "that are known, or make the matrix and use jnp.linalg.solve."
            )
        count = max(counts[a] for a in operands) + own
        counts.update(dict.fromkeys(equation.outputs, count))
    return counts


def _own_roundings(equation: Equation, varies: Sequence[bool]) -> int | None:
    """How often an equation rounds; None if it is not linear, or unknown."""
    primitive, params = equation.primitive, equation.params
    if not all(jnp.issubdtype(v.dtype, jnp.floating) for v in equation.outputs):
        return None
    if primitive in _MOVING or primitive in _KEEPING or primitive is p.neg_p:
        places = [
            v
            for v, a in zip(varies, equation.inputs, strict=True)
            if not jnp.issubdtype(a.dtype, jnp.floating)
        ]
        return None if any(places) else 0
    if primitive in _ADDING:
        return 1
    if primitive is p.reduce_sum_p:
        return math.prod(equation.inputs[0].shape[a] for a in params["axes"])
    if primitive is p.cumsum_p:
        return equation.inputs[0].shape[params["axis"]]
    if primitive not in _PRODUCTS or all(varies) or (primitive is p.div_p and varies[1]):
        return None
    if primitive is p.dot_general_p:
        (contracted, _), _ = params["dimension_numbers"]
        return 1 + math.prod(equation.inputs[0].shape[a] for a in contracted)
    return 1 if primitive in (p.mul_p, p.div_p) else 1 + math.prod(equation.inputs[1].shape)


def _pair(
    equations: Sequence[Equation],
    known: dict[Value, Any],
    pairs: dict[Value, tuple[Any, Any]],
    result: Atom,
) -> tuple[Any, Any]:
    """The result and its majorant, of the equations that depend on the vector."""

    def read(atom: Atom) -> tuple[Any, Any]:
        if isinstance(atom, Value) and atom in pairs:
            return pairs[atom]
        value = jnp.asarray(_read(atom, known))
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return value, value
        value = value.astype(jnp.float64)
        return value, jnp.abs(value)

    for equation in equations:
        values, sizes = zip(*map(read, equation.inputs), strict=True)
        if equation.primitive in _KEEPING:
            found = [values, sizes]
        elif equation.primitive is p.neg_p:
            found = [[-values[0]], sizes]
        else:
            exact = _in_64_bits(equation)
            larger = replace(exact, primitive=_ADDING.get(exact.primitive, exact.primitive))
            found = [bind(exact, values), bind(larger, sizes)]
        pairs.update(zip(equation.outputs, zip(*found, strict=True), strict=True))
    return read(result)


def _in_64_bits(equation: Equation) -> Equation:
    params = equation.params
    if "preferred_element_type" in params:
        params = {
            **params,
            "preferred_element_type": np.dtype(np.float64),
            "precision": lax.Precision.HIGHEST,
        }
    return replace(equation, params=params, eqn=None)


def _read(atom: Atom, known: dict[Value, Any]) -> Any:
    return atom.value if isinstance(atom, Literal) else known[atom]
