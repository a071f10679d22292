"""Cholesky factors, and what is computed with them, recognised by algebra.

With L the lower triangle of ``cholesky(S)``, which is what JAX keeps of it,

    L                              = cholesky(S)
    L⁻ᵀ(L⁻¹ b)                     = S⁻¹ b          (cho_solve)
    Σ log(diagonal of L)           = ½ log det S

where S stands for its lower triangle and the mirror image of that. As functions of S the last
two have far smaller derivatives than as functions of L.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.determinants import LOGDET
from jaxsmooth.program.evaluate import bind_equation
from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import origin, producer
from jaxsmooth.program.simplify import numbers, uniform
from jaxsmooth.program.systems import SOLVE

CHOLESKY = Primitive("cholesky_factor")
"""The lower factor of the matrices of an array; the param ``lower`` is as of `SOLVE`."""


def factors(
    equations: Sequence[Equation],
    outputs: Sequence[Atom],
    known: Mapping[Value, Any],
) -> list[Equation]:
    """The equations with Cholesky factors and their uses as one equation each."""
    finder = _Finder(known)
    return live([finder.visit(e) for e in equations], outputs)


@dataclass(eq=False)
class _Finder:
    known: Mapping[Value, Any]
    producers: dict[Value, Equation] = field(default_factory=dict)

    def visit(self, equation: Equation) -> Equation:
        rewrite = _REWRITES.get(equation.primitive)
        found = None if rewrite is None else rewrite(self, equation)
        found = found or equation
        self.producers.update(dict.fromkeys(found.outputs, found))
        return found

    def value(self, atom: Atom) -> np.ndarray | None:
        """The atom's value if it is known and no tracer."""
        return numbers(atom, self.known)

    def factor(self, equation: Equation) -> Equation | None:
        """The lower triangle of what ``cholesky`` gives."""
        if len(equation.inputs) != 3:
            return None
        which, other, whole = equation.inputs
        shape = equation.outputs[0].shape
        inner = producer(whole, self.producers)
        if inner is None or inner.primitive is not p.cholesky_p or uniform(other, self.known) != 0:
            return None
        mask = self.value(which)
        if mask is None or not np.array_equal(np.broadcast_to(mask, shape), _lower(shape)):
            return None
        return replace(
            equation, primitive=CHOLESKY, params={"lower": True}, inputs=inner.inputs, eqn=None
        )

    def root(self, equation: Equation) -> Equation | None:
        """The factor of matrices of one number, of which all is the lower triangle."""
        if equation.outputs[0].shape[-1] != 1:
            return None
        return replace(equation, primitive=CHOLESKY, params={"lower": True}, eqn=None)

    def of_factor(self, atom: Atom) -> tuple[Equation, bool] | None:
        """The Cholesky equation of which an atom is the factor, and whether transposed."""
        found = origin(atom, self.producers)
        equation = producer(found.root, self.producers)
        if equation is None or equation.primitive is not CHOLESKY:
            return None
        straight = tuple(range(len(atom.shape)))
        turned = (*straight[:-2], *straight[:-3:-1])
        for transposed, wanted in ((False, straight), (True, turned)):
            if _same_axes(found.axes, wanted, atom.shape):
                return equation, transposed
        return None

    def triangular(self, equation: Equation) -> tuple[Equation, bool] | None:
        """The factor of which the equation multiplies by the inverse; whether of its transpose."""
        params = equation.params
        found = self.of_factor(equation.inputs[0])
        if found is None or not params["left_side"] or params["unit_diagonal"]:
            return None
        factor, transposed = found
        if bool(params["lower"]) == transposed:
            return None  # of the other triangle only the diagonal is left
        return factor, transposed != bool(params["transpose_a"])

    def solution(self, equation: Equation) -> Equation | None:
        """L⁻ᵀ(L⁻¹ b)."""
        outer = self.triangular(equation)
        if outer is None or not outer[1]:
            return None
        found = origin(equation.inputs[1], self.producers)
        inside = producer(found.root, self.producers)
        shape = equation.inputs[1].shape
        if inside is None or inside.primitive is not p.triangular_solve_p:
            return None
        same = inside.outputs[0].shape == shape
        if not same or not _same_axes(found.axes, tuple(range(len(shape))), shape):
            return None
        inner = self.triangular(inside)
        if inner is None or inner[1] or inner[0] is not outer[0]:
            return None
        rank = len(shape)
        params = {"axis": rank - 2, "shared": tuple(range(rank - 2)), "lower": True}
        inputs = (outer[0].inputs[0], inside.inputs[1])
        return replace(equation, primitive=SOLVE, params=params, inputs=inputs, eqn=None)

    def logarithm(self, equation: Equation) -> Equation | None:
        """Σ log(diagonal of L)."""
        (logs,) = equation.inputs
        log = producer(logs, self.producers)
        if log is None or log.primitive is not p.log_p:
            return None
        if tuple(equation.params["axes"]) != (len(logs.shape) - 1,):
            return None
        diagonal = producer(log.inputs[0], self.producers)
        if diagonal is None or diagonal.primitive is not p.gather_p or diagonal.eqn is None:
            return None
        matrix = diagonal.inputs[0]
        found = self.of_factor(matrix)
        if found is None or diagonal.outputs[0].shape != matrix.shape[:-1]:
            return None
        if not self._is_diagonal(diagonal):
            return None
        params = {"lower": True, "factor": 0.5}
        return replace(equation, primitive=LOGDET, params=params, inputs=found[0].inputs, eqn=None)

    def _is_diagonal(self, gather: Equation) -> bool:
        """Whether what is gathered is the diagonal of every matrix, found by gathering places."""
        shape = gather.inputs[0].shape
        indices = self.value(gather.inputs[1])
        if indices is None:
            return False
        places = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        with jax.ensure_compile_time_eval():
            (found,) = bind_equation(gather.eqn, [jnp.asarray(places), jnp.asarray(indices)])
        return np.array_equal(np.asarray(found), np.diagonal(places, axis1=-2, axis2=-1))


def _lower(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.tri(shape[-1]) > 0, shape)


def _same_axes(found: Sequence[int | None], wanted: Sequence[int], shape: tuple[int, ...]) -> bool:
    return all(a == w or n == 1 for a, w, n in zip(found, wanted, shape, strict=True))


_REWRITES: dict[Any, Callable[[_Finder, Equation], Equation | None]] = {
    p.cholesky_p: _Finder.root,
    p.select_n_p: _Finder.factor,
    p.triangular_solve_p: _Finder.solution,
    p.reduce_sum_p: _Finder.logarithm,
}
