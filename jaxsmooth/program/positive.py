"""Matrices that are positive semidefinite whatever the arguments are, and what they add to.

    X Xᵀ, x xᵀ, sums, products by numbers that are not negative
    elementwise products (Schur)
    exp of a conditionally positive matrix (Schoenberg): kernels exp(-c‖x_i - x_j‖²)

with a matrix conditionally positive where xᵀZx >= 0 for Σx = 0: -‖x_i - x_j‖² is. Of distances
that are known numbers the rounding counts: with ε such that D + ε(11ᵀ - I) is a matrix of
squared distances, exp(-cD) >= -(exp(cε) - 1) I.

So of S = P + R, with P the positive terms, xᵀSx >= xᵀRx: the rest R, and the loss by rounding,
say how far S is from singular.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.program.complex_structure import UNSTACK
from jaxsmooth.program.determinants import LOGDET, SIGN
from jaxsmooth.program.eigenvalues import EIGENVALUES
from jaxsmooth.program.factors import CHOLESKY
from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import is_identity, origin, producer
from jaxsmooth.program.symmetry import Symmetry, swapped
from jaxsmooth.program.systems import SOLVE

_DEEPEST = 64


_OF_MATRICES = frozenset({SOLVE, LOGDET, SIGN, CHOLESKY, EIGENVALUES})


def positive(excess: Callable[[np.ndarray], float | None]) -> Callable[..., list[Equation]]:
    """The rewrite that tells functions of matrices what is known of their matrix.

    Their params get ``symmetric``: whether it is; and where some of its terms are positive,
    ``terms``: how many operands the equation has without those that are added, how many of
    these are of the rest, and (index, ratio) of every kernel, whose two operands follow.

    Args:
      excess: how far a matrix of numbers is from one of squared distances.
    """

    def rewrite(
        equations: Sequence[Equation],
        outputs: Sequence[Atom],
        known: Mapping[Value, Any],
        varies: set[Value],
    ) -> list[Equation]:
        producers = {v: e for e in equations for v in e.outputs}
        finder = Positive(Symmetry(known, producers), excess)
        told = [finder.told(e) if e.primitive in _OF_MATRICES else e for e in equations]
        return live(told, outputs)

    return rewrite


@dataclass(frozen=True, eq=False)
class Terms:
    """S = positive terms + rest.

    Attributes:
      rest: the atoms that the rest is the sum of, matrices or numbers that all entries share.
      kernels: (term, exponent, index, ratio) of kernels of known distances D: the term is at
        least -(exp(ratio·|exponent at index|) - 1) times its largest diagonal entry.
      positive: whether there is any positive term.
    """

    rest: tuple[Atom, ...] = ()
    kernels: tuple[tuple[Atom, Atom, tuple[int, ...], float], ...] = ()
    positive: bool = False


@dataclass(eq=False)
class Positive:
    """What is positive among the values of a program."""

    symmetry: Symmetry
    excess: Callable[[np.ndarray], float | None]

    def told(self, equation: Equation) -> Equation:
        """The equation with what is known of its matrix."""
        matrix, *others = equation.inputs
        if self.symmetry.value(matrix) is not None:
            return equation
        inner = self.half(matrix)
        if inner is not matrix and self.symmetry.symmetric(inner):
            matrix = inner
        symmetric = self.symmetry.symmetric(matrix)
        params: dict[str, Any] = {**equation.params, "symmetric": symmetric}
        inputs = [matrix, *others]
        if symmetric or equation.params["lower"] is None:
            found = self.terms(inner)
            if found.positive:
                kernels = tuple((index, ratio) for _, _, index, ratio in found.kernels)
                params["terms"] = len(inputs), len(found.rest), kernels
                inputs += [*found.rest, *(a for k in found.kernels for a in k[:2])]
        return replace(equation, params=params, inputs=tuple(inputs), eqn=None)

    def half(self, atom: Atom) -> Atom:
        """A for (A + Aᵀ)/2, which `jnp.linalg.cholesky` takes, and for Aᵀ; else the matrix.

        As quadratic forms they are the same.
        """
        straight = tuple(range(len(atom.shape)))
        equation = self._producer(atom)
        while equation is not None and equation.primitive is p.transpose_p:
            if tuple(equation.params["permutation"]) not in (straight, swapped(len(straight))):
                return atom
            atom = equation.inputs[0]
            equation = self._producer(atom)
        if equation is None or equation.primitive is not p.div_p:
            return atom
        both, two = self._producer(equation.inputs[0]), self.symmetry.value(equation.inputs[1])
        if both is None or both.primitive is not p.add_p or two is None or np.any(two != 2):
            return atom
        matrix, other = both.inputs
        if matrix.shape != atom.shape:
            return atom
        same = self.symmetry.transposed(matrix, other, swapped(len(straight)))
        return self.half(matrix) if same else atom

    def terms(self, atom: Atom) -> Terms:
        """The terms of a matrix."""
        if self.semidefinite(atom):
            return Terms(positive=True)
        kernel = self._kernel(atom, atom)
        if kernel is not None:
            return Terms(kernels=(kernel,), positive=True)
        equation = self._producer(atom)
        if equation is not None and equation.primitive is p.add_p:
            shape = atom.shape
            if all(x.shape == shape or self._constant(x) for x in equation.inputs):
                one, two = (self.terms(x) for x in equation.inputs)
                return Terms(
                    one.rest + two.rest, one.kernels + two.kernels, one.positive or two.positive
                )
        return Terms(rest=(atom,))

    def _producer(self, atom: Atom) -> Equation | None:
        return producer(atom, self.symmetry.producers)

    def _constant(self, atom: Atom) -> bool:
        """Whether all entries of every matrix are one number."""
        if len(atom.shape) < 2:
            return atom.shape == ()
        found = origin(atom, self.symmetry.producers)
        return found.axes[-2:] == (None, None)

    def nonnegative(self, atom: Atom, depth: int = 0) -> bool:
        """Whether all entries are at least 0, also where sites are smoothed."""
        value = self.symmetry.value(atom)
        if value is not None:
            return bool(np.all(value >= 0))
        equation = self._producer(origin(atom, self.symmetry.producers).root)
        if equation is None or depth > _DEEPEST:
            return False
        primitive, inputs = equation.primitive, equation.inputs
        if primitive in _NONNEGATIVE:
            return True
        if primitive is p.integer_pow_p and equation.params["y"] % 2 == 0:
            return True
        if primitive is p.mul_p and inputs[0] is inputs[1]:
            return True
        if primitive in _KEEPING or primitive is p.integer_pow_p or is_identity(equation):
            return all(self.nonnegative(a, depth + 1) for a in inputs)
        return False

    def semidefinite(self, atom: Atom, depth: int = 0) -> bool:
        """Whether all matrices are symmetric and positive semidefinite."""
        if depth > _DEEPEST:
            return False
        if self._constant(atom):
            return self.nonnegative(atom)
        equation = self._producer(atom)
        if equation is None:
            return False
        primitive, inputs = equation.primitive, equation.inputs
        if primitive is p.dot_general_p:
            return self.symmetry.gram(equation)
        if primitive is p.transpose_p:
            axes = tuple(equation.params["permutation"])
            straight = tuple(range(len(axes)))
            return axes in (straight, swapped(len(axes))) and self.semidefinite(
                inputs[0], depth + 1
            )
        if primitive is p.add_p or primitive is p.mul_p:
            if all(self.semidefinite(a, depth + 1) for a in inputs):
                return True
            return primitive is p.mul_p and self.outer(*inputs)
        if primitive is p.div_p:
            return (
                self._constant(inputs[1])
                and self.nonnegative(inputs[1])
                and self.semidefinite(inputs[0], depth + 1)
            )
        if primitive is p.exp_p:
            return self.conditional(inputs[0], 1, depth + 1)
        return False

    def outer(self, a: Atom, b: Atom) -> bool:
        """Whether a and b are x_i and x_j of the entries (i, j)."""
        if a.shape != b.shape or len(a.shape) < 2:
            return False
        along = origin(a, self.symmetry.producers).axes[-2:]
        return None in along and self.symmetry.transposed(a, b, swapped(len(a.shape)))

    def conditional(self, atom: Atom, sign: int, depth: int = 0) -> bool:
        """Whether sign times the matrix is conditionally positive."""
        if depth > _DEEPEST:
            return False
        if self._constant(atom) or (sign > 0 and self.semidefinite(atom, depth + 1)):
            return True
        equation = self._producer(atom)
        if equation is None:
            return False
        primitive, inputs = equation.primitive, equation.inputs
        if primitive is p.neg_p:
            return self.conditional(inputs[0], -sign, depth + 1)
        if primitive is p.add_p:
            return self.outer(*inputs) or all(self.conditional(a, sign, depth + 1) for a in inputs)
        if primitive is p.sub_p:
            return self.conditional(inputs[0], sign, depth + 1) and self.conditional(
                inputs[1], -sign, depth + 1
            )
        scaled = self.scaled(equation)
        if scaled is not None:
            return self.conditional(scaled[0], sign * scaled[1], depth + 1)
        return sign < 0 and self._distances(equation)

    def scaled(self, equation: Equation) -> tuple[Atom, int] | None:
        """(matrix, sign) if the equation is a matrix times or over a number of that sign."""
        inputs = equation.inputs
        if equation.primitive is p.mul_p:
            orders = [inputs, inputs[::-1]]
        elif equation.primitive is p.div_p:
            orders = [inputs]
        else:
            return None
        for matrix, number in orders:
            if matrix.shape != equation.outputs[0].shape or not self._constant(number):
                continue
            if self.nonnegative(number):
                return matrix, 1
            value = self.symmetry.value(number)
            if value is not None and np.all(value <= 0):
                return matrix, -1
            inner = self._producer(origin(number, self.symmetry.producers).root)
            negated = inner is not None and inner.primitive is p.neg_p
            if inner is not None and negated and self.nonnegative(inner.inputs[0]):
                return matrix, -1
        return None

    def _distances(self, equation: Equation) -> bool:
        """Squares of differences x_i - x_j, or sums of such over further axes."""
        if equation.primitive is p.reduce_sum_p:
            rank = len(equation.inputs[0].shape)
            if any(a < rank - len(equation.params["axes"]) for a in equation.params["axes"]):
                return False
            inner = self._producer(equation.inputs[0])
            if inner is None:
                return False
            return self._squared_difference(inner, rank - len(equation.params["axes"]))
        return self._squared_difference(equation, len(equation.outputs[0].shape))

    def _squared_difference(self, equation: Equation, rank: int) -> bool:
        """(x_i - x_j)², with i and j the last two of the first ``rank`` axes."""
        squares = equation.primitive is p.square_p
        squares |= equation.primitive is p.integer_pow_p and equation.params["y"] == 2
        squares |= equation.primitive is p.mul_p and equation.inputs[0] is equation.inputs[1]
        difference = self._producer(equation.inputs[0]) if squares else None
        if difference is None or difference.primitive is not p.sub_p or rank < 2:
            return False
        a, b = difference.inputs
        if a.shape != b.shape or a.shape != difference.outputs[0].shape:
            return False
        axes = (*swapped(rank), *range(rank, len(a.shape)))
        along = origin(a, self.symmetry.producers).axes[rank - 2 : rank]
        return None in along and self.symmetry.transposed(a, b, axes)

    def _kernel(self, term: Atom, atom: Atom) -> tuple[Atom, Atom, tuple[int, ...], float] | None:
        """A positive multiple of exp(-cD) with D known, up to its rounding."""
        equation = self._producer(atom)
        if equation is None:
            return None
        scaled = self.scaled(equation)
        if scaled is not None and scaled[1] > 0:
            return self._kernel(term, scaled[0])
        if equation.primitive is not p.exp_p:
            return None
        exponent, sign, inner = equation.inputs[0], 1, equation.inputs[0]
        while self.symmetry.value(inner) is None:
            step = self._producer(inner)
            if step is None:
                return None
            found = self.scaled(step)
            if step.primitive is p.neg_p:
                inner, sign = step.inputs[0], -sign
            elif found is not None:
                inner, sign = found[0], sign * found[1]
            else:
                return None
        distances = np.asarray(self.symmetry.value(inner), np.float64) * -sign
        if distances.ndim != 2 or exponent.shape != distances.shape:
            return None
        slack = self.excess(distances)
        if slack is None:
            return None
        index = np.unravel_index(int(np.argmax(distances)), distances.shape)
        return term, exponent, tuple(map(int, index)), slack / float(distances[index])


_NONNEGATIVE = frozenset(
    {p.exp_p, p.exp2_p, p.square_p, p.logistic_p, p.cosh_p, p.erfc_p, p.sqrt_p, p.rsqrt_p}
)
_KEEPING = frozenset(
    {p.add_p, p.mul_p, p.div_p, p.log1p_p, p.expm1_p, p.tanh_p, p.reduce_sum_p,
     p.slice_p, p.reshape_p, p.rev_p, UNSTACK}
)  # fmt: skip
