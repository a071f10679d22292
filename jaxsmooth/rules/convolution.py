"""Convolutions: conv_general_dilated."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth.math.array import Array, concretely, is_traced, namespace, norm2, up
from jaxsmooth.math.convolution_norm import convolution_norm
from jaxsmooth.math.convolution_overlap import bilinear_convolution_norm
from jaxsmooth.math.norms import spectral_norm
from jaxsmooth.math.windows import convolution
from jaxsmooth.rules.bilinear import BilinearRule
from jaxsmooth.rules.registry import Local, define

# Operators up to this many rows or columns are materialised to bound their norm.
_MOST_ROWS = 2500
# Convolutions with more products than this are left to XLA, which is slow to compile them.
_MOST_PRODUCTS = 2**28


class ConvolutionRule(BilinearRule):
    """conv_general_dilated with operands (images, kernel).

    Params read: window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
    feature_group_count, batch_group_count. The operator norm of a known kernel is the
    smaller of the supremum of the symbol over all frequencies (no padding can exceed it)
    and, for small operators, the norm of the operator itself.

    With ``batch_group_count`` the g-th part of the batch meets the g-th part of the filters
    only: the operator is a block of the one with all filters, which bounds its norm.
    """

    def keywords(self, eq: Local) -> dict[str, Any]:
        names = (
            "window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers",
            "feature_group_count", "batch_group_count",
        )  # fmt: skip
        return {name: eq.params[name] for name in names}

    def product(self, eq: Local) -> Any:
        keywords = self.keywords(eq)

        def product(x: Any, k: Any) -> Any:
            return lax.conv_general_dilated(x, k, precision=lax.Precision.HIGHEST, **keywords)

        return product

    def multiply(self, eq: Local, x: Array, y: Array) -> Array:
        if is_traced(x, y):
            return super().multiply(eq, x, y)
        return self.multiply_stack(eq, 0, x[None], y)[0]

    def multiply_stack(self, eq: Local, operand: int, stack: Array, held: Array) -> Array:
        result = eq.equation.outputs[0].shape
        window = eq.ranges[1].shape
        numbers = math.prod(result) * math.prod(window) * len(stack)
        grouped = eq.params["batch_group_count"] != 1
        if is_traced(stack, held) or numbers > _MOST_PRODUCTS or grouped:
            return super().multiply_stack(eq, operand, stack, held)
        if operand == 1:
            return np.stack([self._known(eq, held[None], k)[0] for k in stack])
        return self._known(eq, stack, held)

    def _known(self, eq: Local, stack: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """Convolutions of a stack of image batches with one kernel, by NumPy."""
        numbers = eq.params["dimension_numbers"]
        images = np.transpose(stack, (0, *(a + 1 for a in numbers.lhs_spec)))
        count, batch = images.shape[:2]
        out = convolution(
            images.reshape(count * batch, *images.shape[2:]),
            np.transpose(kernel, numbers.rhs_spec),
            strides=eq.params["window_strides"],
            padding=eq.params["padding"],
            lhs_dilation=eq.params["lhs_dilation"],
            rhs_dilation=eq.params["rhs_dilation"],
            groups=eq.params["feature_group_count"],
        )
        out = out.reshape(count, batch, *out.shape[1:])
        places = np.argsort(numbers.out_spec)
        return np.transpose(out, (0, *(a + 1 for a in places)))

    def _kernel_axes(self, eq: Local) -> tuple[int, int, tuple[int, ...]]:
        """(out features, in features, spatial) axes of the kernel."""
        out, features, *spatial = eq.params["dimension_numbers"].rhs_spec
        return out, features, tuple(spatial)

    def terms(self, eq: Local) -> int:
        out, _, _ = self._kernel_axes(eq)
        shape = eq.ranges[1].shape
        return max(1, math.prod(shape) // max(1, shape[out]))

    def beta(self, eq: Local) -> float:
        return eq.always("beta", lambda: self._beta(eq))

    def _beta(self, eq: Local) -> float:
        _, _, spatial = self._kernel_axes(eq)
        return bilinear_convolution_norm(
            tuple(eq.ranges[1].shape[a] for a in spatial),
            strides=eq.params["window_strides"],
            lhs_dilation=eq.params["lhs_dilation"],
            rhs_dilation=eq.params["rhs_dilation"],
            input_spatial=[
                eq.ranges[0].shape[a] for a in eq.params["dimension_numbers"].lhs_spec[2:]
            ],
            output_spatial=[
                eq.equation.outputs[0].shape[a] for a in eq.params["dimension_numbers"].out_spec[2:]
            ],
        )

    def held_norm(self, eq: Local, held: int, value: Array) -> Array:
        if held == 0:
            return up(self.beta(eq) * norm2(value))
        out, features, spatial = self._kernel_axes(eq)
        xp = namespace(value)
        bound = convolution_norm(
            xp.transpose(value, (*spatial, features, out)),
            strides=eq.params["window_strides"],
            lhs_dilation=eq.params["lhs_dilation"],
            rhs_dilation=eq.params["rhs_dilation"],
            feature_group_count=eq.params["feature_group_count"],
            batch_group_count=eq.params["batch_group_count"],
            input_spatial=[
                eq.ranges[0].shape[a] for a in eq.params["dimension_numbers"].lhs_spec[2:]
            ],
        )
        if is_traced(value):
            return bound
        explicit = self._explicit_norm(eq, value)
        return bound if explicit is None else min(bound, explicit)

    def _explicit_norm(self, eq: Local, kernel: Array) -> float | None:
        """Norm of the operator on one image, materialised, where that is small."""
        batch = eq.params["dimension_numbers"].lhs_spec[0]
        shape = list(eq.ranges[0].shape)
        shape[batch] = eq.params["batch_group_count"]
        size = math.prod(shape)
        product = self.product(eq)
        if min(size, self._result_size(eq)) > _MOST_ROWS:
            return None

        def matrix() -> np.ndarray:
            with concretely():
                k = jnp.asarray(kernel)
                columns = jax.vmap(lambda e: product(e.reshape(shape), k).reshape(-1))
                if size <= self._result_size(eq):
                    return np.asarray(columns(jnp.eye(size, dtype=k.dtype)))
                flat = lambda e: product(e.reshape(shape), k).reshape(-1)  # noqa: E731
                _, transpose = jax.vjp(flat, jnp.zeros(size, k.dtype))
                rows = jax.vmap(lambda e: transpose(e)[0])
                return np.asarray(rows(jnp.eye(self._result_size(eq), dtype=k.dtype)))

        # An entry of the matrix is one tap of the kernel, without rounding.
        return float(spectral_norm(matrix()))

    def _result_size(self, eq: Local) -> int:
        """Entries of the result for one image."""
        shape = eq.equation.outputs[0].shape
        batch = eq.params["dimension_numbers"].out_spec[0]
        return math.prod(s for a, s in enumerate(shape) if a != batch)

    def slices(self, eq: Local, operand: int, squares: Array, cap: Array) -> Array:
        # Squares summed over each window (operand 0) or over each filter (operand 1) by the
        # convolution itself. Zero padding only shortens them.
        xp = namespace(squares, cap)
        largest = xp.max(squares, initial=0.0)
        unit = xp.where((largest > 0) & (largest < np.inf), largest, 1.0)
        square = (xp.where(xp.isinf(squares), 0.0, squares) / unit) ** 2
        other = np.ones(eq.ranges[1 - operand].shape)
        ones = (square, other) if operand == 0 else (other, square)
        sums = self.multiply(eq, *ones)
        positive = sums > 0
        norms = unit * xp.where(positive, xp.sqrt(xp.where(positive, sums, 1.0)), 0.0)
        norms = up(norms, self.terms(eq) + 6)
        infinite = xp.where(xp.isinf(squares), 1.0, 0.0)
        opened = (infinite, other) if operand == 0 else (other, infinite)
        open_sums = self.multiply(eq, *opened) if xp is jnp or infinite.any() else 0.0
        norms = xp.where(open_sums > 0.5, np.inf, norms)
        return xp.minimum(norms, cap)

    def column_norms(self, eq: Local, held: int) -> tuple[Array, Array]:
        if held == 0:
            return self.sizes(eq)[0], np.inf
        # One pixel of one input channel meets each tap for each output channel at most once.
        kernel, (out, _, spatial) = eq.ranges[1], self._kernel_axes(eq)
        # With groups a channel meets the filters of its own group only, which are fewer.
        axes = (out, *spatial)
        xp = namespace(kernel.lo, kernel.hi, kernel.radius)
        size = math.prod(kernel.shape[a] for a in axes)
        sums = up(xp.sum(kernel.absmax, axis=axes), size)
        norms = kernel.slices(axes)
        return xp.max(norms, initial=0.0), xp.max(sums, initial=0.0)


define(ConvolutionRule(), p.conv_general_dilated_p)
