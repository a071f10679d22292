"""Bilinear equations of complex numbers, on pairs of their parts.

A product B of complex arrays with real coefficients without signs (of numbers, matrices,
images and kernels) is bilinear in the pairs of parts, too:

    B(x, y)^re = B(x^re, y^re) - B(x^im, y^im)
    B(x, y)^im = B(x^re, y^im) + B(x^im, y^re)

All norms of `BilinearRule` are those of complex numbers: |B(x, y)_o| <= B(|x|, |y|)_o gives it
the bilinear norm and the slices of the real one at the moduli, and as an operator a known
complex W has the norm of the real matrix ((W^re, -W^im), (W^im, W^re)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxsmooth.math.array import Array, namespace, norm2, up
from jaxsmooth.math.magnitude import Magnitude, Response
from jaxsmooth.math.norms import spectral_norm
from jaxsmooth.math.range import Range
from jaxsmooth.program.complex_functions import CONVOLUTION, DOT, PRODUCT
from jaxsmooth.rules.bilinear import BilinearRule
from jaxsmooth.rules.complex import moduli, of_parts, response_of_parts, twice
from jaxsmooth.rules.convolution import ConvolutionRule
from jaxsmooth.rules.dot import MOST_MATRICES, DotRule
from jaxsmooth.rules.products import mixed_response
from jaxsmooth.rules.registry import Local, define


class PairsRule(BilinearRule):
    """A bilinear equation of complex arrays.

    Args:
      parts: the rule of the equation of real arrays.
    """

    def __init__(self, parts: BilinearRule):
        self.parts = parts

    def of_moduli(self, eq: Local) -> Local:
        """The equation of real arrays, on the ranges of the moduli."""

        def compute() -> Local:
            ranges = [_modulus(r, eq.leaves) for r in eq.ranges]
            static = eq.static.setdefault("moduli", {})
            equation = eq.params.get("of", eq.equation)
            return replace(eq, equation=equation, ranges=ranges, static=static, memo={})

        return eq.once("moduli", compute)

    def multiply(self, eq: Local, x: Array, y: Array) -> Array:
        return self._multiply(eq, x, y, -1)

    def multiply_sizes(self, eq: Local, x: Array, y: Array) -> Array:
        return self._multiply(eq, x, y, 1)

    def _multiply(self, eq: Local, x: Array, y: Array, sign: int) -> Array:
        inner, product = self.of_moduli(eq), self.parts.multiply
        (a, b), (c, d) = _split(x), _split(y)
        re = product(inner, a, c) + sign * product(inner, b, d)
        im = product(inner, a, d) + product(inner, b, c)
        return namespace(re, im).stack([re, im], -1)

    def multiply_stack(self, eq: Local, operand: int, stack: Array, held: Array) -> Array:
        inner = self.of_moduli(eq)
        (a, b), (c, d) = _split(stack), _split(held)

        def product(moving: Array, fixed: Array) -> Array:
            return self.parts.multiply_stack(inner, operand, moving, fixed)

        re, im = product(a, c) + product(b, d), product(a, d) + product(b, c)
        return namespace(re, im).stack([re, im], -1)

    def options(self, eq: Local) -> tuple[Any, ...]:
        return self.parts.options(self.of_moduli(eq))

    def terms(self, eq: Local) -> int:
        return 2 * self.parts.terms(self.of_moduli(eq)) + 1

    def beta(self, eq: Local) -> float:
        return self.parts.beta(self.of_moduli(eq))

    def held_norm(self, eq: Local, held: int, value: Array) -> Array:
        # B(W, ·) = B(W^re, ·) + i B(W^im, ·).
        inner = self.of_moduli(eq)
        norms = [self.parts.held_norm(inner, held, part) for part in _split(value)]
        by_modulus = self.parts.held_norm(inner, held, norm2(value, -1))
        return namespace(*norms, by_modulus).minimum(up(norms[0] + norms[1]), by_modulus)

    def slices(self, eq: Local, operand: int, squares: Array, cap: Array) -> Array:
        return twice(self.parts.slices(self.of_moduli(eq), operand, norm2(squares, -1), cap))

    def column_norms(self, eq: Local, held: int) -> tuple[Array, Array]:
        norm, total = self.parts.column_norms(self.of_moduli(eq), held)
        return norm, of_parts(total)


class PairsDotRule(PairsRule):
    """Matrix products."""

    def __init__(self) -> None:
        self.matrices = DotRule()
        super().__init__(self.matrices)

    def held_norm(self, eq: Local, held: int, value: Array) -> Array:
        inner = self.of_moduli(eq)
        contracting, batch = self.matrices.axes(inner, held)
        free = self.matrices.free(inner, held)
        xp, shape = namespace(value), np.shape(value)
        count, rows, columns = (
            int(np.prod([shape[a] for a in axes], dtype=int)) for axes in (batch, contracting, free)
        )
        moved = xp.transpose(value, (*batch, *contracting, *free, len(shape) - 1))
        re, im = _split(moved.reshape(count, rows, columns, 2))
        if count > MOST_MATRICES:
            return xp.max(norm2(xp.concatenate([re, im], 1), (1, 2)), initial=0.0)
        if not re.size:
            return 0.0
        whole = xp.concatenate([xp.concatenate([re, -im], 2), xp.concatenate([im, re], 2)], 1)
        return xp.max(xp.stack([spectral_norm(m) for m in whole]))


class _Elementwise(BilinearRule):
    """x·y of numbers, of which every result entry has its own."""

    def multiply(self, eq: Local, x: Array, y: Array) -> Array:
        return x * y

    def multiply_stack(self, eq: Local, operand: int, stack: Array, held: Array) -> Array:
        return stack * held

    def terms(self, eq: Local) -> int:
        return 1

    def beta(self, eq: Local) -> float:
        return 1.0

    def held_norm(self, eq: Local, held: int, value: Array) -> Array:
        return namespace(value).max(abs(value), initial=0.0)

    def slices(self, eq: Local, operand: int, squares: Array, cap: Array) -> Array:
        return namespace(squares, cap).minimum(squares, cap)

    def column_norms(self, eq: Local, held: int) -> tuple[Array, Array]:
        r = eq.ranges[held]
        largest = namespace(r.lo, r.hi).max(r.absmax, initial=0.0)
        return largest, largest


class PairsProductRule(PairsRule):
    """Products of numbers."""

    def __init__(self) -> None:
        super().__init__(_Elementwise())

    def held_norm(self, eq: Local, held: int, value: Array) -> Array:
        return namespace(value).max(norm2(value, -1), initial=0.0)

    def _size(self, eq: Local, held: int) -> Array:
        # The operator is diagonal: its norm is the largest modulus.
        largest = self.of_moduli(eq).ranges[held].absmax
        return namespace(largest).max(largest, initial=0.0)

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        ones = np.ones(eq.equation.outputs[0].shape[:-1])
        sizes = [None if m is None else moduli(m) for m in magnitudes]
        return [response_of_parts(mixed_response(ones, *sizes))]


def _modulus(r: Range, leaves: int) -> Range:
    """The range of moduli of a pair; its center is 0."""
    size = r.slices((len(r.shape) - 1,))
    xp = namespace(size)
    return Range(-size, size, xp.zeros(np.shape(size)), r.norm, np.zeros(leaves), r.norm, r.norm)


def _split(x: Any) -> tuple[Array, Array]:
    return x[..., 0], x[..., 1]


define(PairsProductRule(), PRODUCT)
define(PairsDotRule(), DOT)
define(PairsRule(ConvolutionRule()), CONVOLUTION)
