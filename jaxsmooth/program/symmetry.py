"""Which values are transposes of each other, whatever the arguments are.

``B = transpose(A, axes)`` is proved by walking both programs at once: through copies,
broadcasts and transposes by their layout (`jaxsmooth.program.layout`), through elementwise
equations operand by operand, through sums and matrix products by their axes. A matrix is
symmetric if it is its own transpose: X Xᵀ, a function of ‖x_i - x_j‖², their sums.

What is proved holds for every smoothed version of the program, too: nothing is concluded about
the result of an equation with kinks, which may be smoothed at some places only, but that it is
what it is wherever it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.program.equivalence import same_params
from jaxsmooth.program.graph import Atom, Equation, Value
from jaxsmooth.program.layout import Producers, origin, producer
from jaxsmooth.program.simplify import numbers

Axes = tuple[int, ...]

_COMMUTATIVE = frozenset({p.add_p, p.mul_p})
_EVEN = frozenset({p.square_p, p.cos_p, p.cosh_p})
_ELEMENTWISE = _COMMUTATIVE | _EVEN | frozenset(
    {
        p.sub_p, p.div_p, p.pow_p, p.neg_p, p.exp_p, p.exp2_p, p.expm1_p, p.log_p, p.log1p_p,
        p.sqrt_p, p.rsqrt_p, p.cbrt_p, p.tanh_p, p.logistic_p, p.sin_p, p.sinh_p, p.tan_p,
        p.erf_p, p.erfc_p, p.atan_p, p.asinh_p, p.integer_pow_p,
    }
)  # fmt: skip
_DEEPEST = 64


def swapped(rank: int) -> Axes:
    """The axes of the transposes of an array of matrices."""
    return (*range(rank - 2), rank - 1, rank - 2)


@dataclass(eq=False)
class Symmetry:
    """What is known of the values of a program.

    Attributes:
      known: values that are known.
      producers: the equation that computes each value.
    """

    known: Mapping[Value, Any]
    producers: Producers

    def symmetric(self, atom: Atom) -> bool:
        """Whether an array of matrices (..., n, n) is one of symmetric matrices."""
        return self.transposed(atom, atom, swapped(len(atom.shape)))

    def value(self, atom: Atom) -> np.ndarray | None:
        """The atom's value if it is known and no tracer."""
        return numbers(atom, self.known)

    def diagonal(self, atom: Atom) -> bool:
        """Whether an array of matrices (..., n, n) is one of diagonal matrices."""
        value = self.value(atom)
        if value is not None:
            return value.ndim > 1 and not np.any(value[..., ~np.eye(value.shape[-1], dtype=bool)])
        equation = producer(atom, self.producers)
        if equation is None or len(atom.shape) < 2:
            return False
        same = [a for a in equation.inputs if a.shape == atom.shape]
        if equation.primitive is p.mul_p:
            return any(map(self.diagonal, same))
        if equation.primitive is p.div_p:
            return equation.inputs[0] in same and self.diagonal(equation.inputs[0])
        if equation.primitive is p.add_p:
            return len(same) == 2 and all(map(self.diagonal, same))
        if equation.primitive is not p.select_n_p or len(same) != 3:
            return False
        which, other, _ = equation.inputs
        return self.diagonal(which) and self.diagonal(other)

    def transposed(self, a: Atom, b: Atom, axes: Axes, depth: int = 0) -> bool:
        """Whether b is ``transpose(a, axes)``, proved."""
        if depth > _DEEPEST or tuple(a.shape[i] for i in axes) != b.shape:
            return False
        values = self.value(a), self.value(b)
        if values[0] is not None and values[1] is not None:
            return np.array_equal(np.transpose(values[0], axes), values[1])
        first, second = origin(a, self.producers), origin(b, self.producers)
        moved = tuple(first.axes[i] for i in axes)
        one, two = first.root, second.root
        inner = _between(moved, second.axes, one.shape, two.shape)
        if inner is None:
            return False
        if producer(one, self.producers) is None and producer(two, self.producers) is None:
            values = self.value(one), self.value(two)
            if values[0] is not None and values[1] is not None:
                return np.array_equal(np.transpose(values[0], inner), values[1])
        if one is two and all(i == k or one.shape[i] == 1 for k, i in enumerate(inner)):
            return True
        if one is two and inner == swapped(len(inner)) and self.diagonal(one):
            return True
        return self._computed(one, two, inner, depth + 1)

    def _computed(self, a: Atom, b: Atom, axes: Axes, depth: int) -> bool:
        """The same by the equations that compute them."""
        one, two = producer(a, self.producers), producer(b, self.producers)
        if one is None or two is None or one.primitive is not two.primitive:
            return False
        if not same_params(one.params, two.params):
            return False
        if one.primitive in _ELEMENTWISE:
            return self._elementwise(one, two, axes, depth)
        if one.primitive is p.reduce_sum_p:
            return self._sum(one, two, axes, depth)
        if one.primitive is p.dot_general_p:
            return self._product(one, two, axes, depth)
        return False

    def _operand(self, a: Atom, b: Atom, axes: Axes, depth: int) -> bool:
        """An operand of an elementwise equation, which may be a scalar."""
        if a.shape == () or b.shape == ():
            return a.shape == b.shape and self.transposed(a, b, (), depth)
        return self.transposed(a, b, axes, depth)

    def _elementwise(self, one: Equation, two: Equation, axes: Axes, depth: int) -> bool:
        orders = [two.inputs]
        if one.primitive in _COMMUTATIVE:
            orders.append(two.inputs[::-1])
        if any(
            all(self._operand(a, b, axes, depth) for a, b in zip(one.inputs, order, strict=True))
            for order in orders
        ):
            return True
        even = one.primitive in _EVEN
        even = even or (one.primitive is p.integer_pow_p and one.params["y"] % 2 == 0)
        squares = one.primitive is p.mul_p and all(e.inputs[0] is e.inputs[1] for e in (one, two))
        if not even and not squares:
            return False
        return self.opposite(one.inputs[0], two.inputs[0], axes, depth)

    def opposite(self, a: Atom, b: Atom, axes: Axes, depth: int = 0) -> bool:
        """Whether b is ``-transpose(a, axes)``: differences the other way round."""
        one, two = producer(a, self.producers), producer(b, self.producers)
        values = self.value(a), self.value(b)
        if values[0] is not None and values[1] is not None:
            return np.array_equal(-np.transpose(values[0], axes), values[1])
        if one is None or two is None or one.primitive is not two.primitive:
            return False
        if one.primitive in (p.div_p, p.mul_p):
            pairs = zip(one.inputs, two.inputs, strict=True)
            (a, b), (c, d) = pairs
            if self._operand(c, d, axes, depth) and a.shape == one.outputs[0].shape:
                return self.opposite(a, b, axes, depth + 1)
            return False
        if one.primitive is not p.sub_p:
            return False
        pairs = zip(one.inputs, two.inputs[::-1], strict=True)
        return all(self._operand(x, y, axes, depth) for x, y in pairs)

    def _sum(self, one: Equation, two: Equation, axes: Axes, depth: int) -> bool:
        gone = tuple(one.params["axes"])
        a, b = one.inputs[0], two.inputs[0]
        kept = [i for i in range(len(a.shape)) if i not in gone]
        whole = list(range(len(a.shape)))
        for k, i in enumerate(axes):
            whole[kept[k]] = kept[i]
        return self.transposed(a, b, tuple(whole), depth)

    def _product(self, one: Equation, two: Equation, axes: Axes, depth: int) -> bool:
        straight = tuple(range(len(axes)))
        sides = [straight, swapped(len(axes))] if len(axes) > 1 else [straight]
        if axes not in sides:
            return False
        if axes == straight:
            return all(
                self.transposed(a, b, tuple(range(len(a.shape))), depth)
                for a, b in zip(one.inputs, two.inputs, strict=True)
            )
        return all(self.paired(one, i, two, 1 - i, depth) for i in (0, 1))

    def paired(self, one: Equation, i: int, two: Equation, j: int, depth: int = 0) -> bool:
        """Whether operand j of one product is operand i of another one in the other's place."""
        first, second = _groups(one, i), _groups(two, j)
        if any(len(x) != len(y) for x, y in zip(first, second, strict=True)):
            return False
        if len(first[2]) != 1:
            return False
        a, b = one.inputs[i], two.inputs[j]
        axes = [0] * len(b.shape)
        for x, y in zip(sum(first, ()), sum(second, ()), strict=True):
            axes[y] = x
        return self.transposed(a, b, tuple(axes), depth)

    def gram(self, product: Equation) -> bool:
        """Whether a product is X Xᵀ, of matrices."""
        return product.primitive is p.dot_general_p and self.paired(product, 0, product, 1)


def _groups(product: Equation, operand: int) -> tuple[Axes, Axes, Axes]:
    """(batch, contracted, free) axes of an operand of a matrix product."""
    contracting, batch = product.params["dimension_numbers"]
    c, b = tuple(contracting[operand]), tuple(batch[operand])
    rank = len(product.inputs[operand].shape)
    return b, c, tuple(a for a in range(rank) if a not in b + c)


def _between(
    first: Sequence[int | None],
    second: Sequence[int | None],
    one: tuple[int, ...],
    two: tuple[int, ...],
) -> Axes | None:
    """The axes of a root whose copy has layout ``first`` as those of another root's copy."""
    if len(one) != len(two):
        return None
    found: list[int | None] = [None] * len(two)
    for a, b in zip(first, second, strict=True):
        if (a is None) != (b is None):
            return None
        if a is None or b is None:
            continue
        if found[b] not in (None, a):
            return None
        found[b] = a
    rest = [i for i in range(len(one)) if i not in found]
    filled = [rest.pop(0) if i is None else i for i in found]
    if rest or tuple(one[i] for i in filled) != two:
        return None
    # Axes of which the copies hold one place only are compared in their order.
    return tuple(filled)
