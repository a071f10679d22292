"""Certified upper bounds of the norms of convolutions, and of convolution as a product.

A zero-padded, strided, dilated convolution of any input size is a part of the convolution
on the infinite lattice (restrict the inputs, drop outputs), so its norm is at most that
one's. Along each axis the lattice convolution relates input m, tap k and output n by

    s n + r k = l m + p        (stride s, kernel dilation r, input dilation l, padding p),

and commutes with shifting inputs by s/g and outputs by l/g, g = gcd(s, l). Cut into that
many phases, which become channels, it is a plain convolution with matrix taps W_t, and its
norm is the supremum over frequencies w of the spectral norm of the symbol
``W(w) = sum_t W_t exp(i t w)`` (Sedghi, Gupta and Long, "The Singular Values of
Convolutional Layers", ICLR 2019, have the circular case).

An axis with at most Q inputs per phase is also a part of a circular convolution of any
length N >= Q + D, D the number of taps less one (the outputs take Q + D consecutive places,
different modulo N). For those the frequencies ``2 pi j / N`` are enough.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import Array, is_traced, real
from jaxsmooth.math.convolution_overlap import bilinear_convolution_norm, overlap_bound
from jaxsmooth.math.norms import binary_scaled, binary_unscaled
from jaxsmooth.math.symbol_norm import symbol_norm

__all__ = ["bilinear_convolution_norm", "convolution_norm"]


@dataclass(frozen=True)
class _Axis:
    """How one spatial axis of the kernel becomes taps of a plain convolution.

    Attributes:
        selection: 0/1 array (taps, output phases, input phases, kernel size).
        spacing: Distance of neighbouring taps; the lattice splits into as many copies.
        inputs: Inputs per phase and copy; None if not known.
    """

    selection: Array
    spacing: int
    inputs: int | None

    @property
    def circle(self) -> int | None:
        """Length of a circular convolution that this axis is a part of."""
        return None if self.inputs is None else self.inputs + self.selection.shape[0] - 1


def convolution_norm(
    kernel: Array,
    *,
    strides: Sequence[int] | None = None,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    input_spatial: Sequence[int] | None = None,
) -> Array:
    """Upper bound of the 2-norm of ``x -> conv(x, kernel)``, whatever the padding.

    Args:
        kernel: Shape ``(*spatial, in channels / feature groups, out channels)``, any number
            of spatial axes. A flipped kernel has the same norm.
        strides: One per spatial axis; ones by default, as for the dilations.
        lhs_dilation: Dilation of the inputs (transposed convolutions).
        rhs_dilation: Dilation of the kernel.
        feature_group_count: Groups of channels, as in `jax.lax.conv_general_dilated`.
        batch_group_count: Groups of the batch, likewise.
        input_spatial: Spatial shape of the inputs (before dilation); makes the bound of
            convolutions of small inputs sharper and cheaper.

    Returns:
        For a known kernel a float, usually less than 1 % above the norm on the infinite
        lattice (more for many channels, whose grid is coarser), and infinite if an entry
        is not finite. For a tracer a differentiable scalar, up to the square root of the
        number of overlapping windows too large.

    Example:
        >>> import numpy as np
        >>> kernel = np.array([1.0, 2.0, 1.0]).reshape(3, 1, 1)
        >>> 4.0 <= convolution_norm(kernel) <= 4.01
        True
    """
    spatial = kernel.shape[:-2]
    ones = (1,) * len(spatial)
    strides, lhs_dilation, rhs_dilation = (
        tuple(int(i) for i in given) if given is not None else ones
        for given in (strides, lhs_dilation, rhs_dilation)
    )
    groups = feature_group_count * batch_group_count
    if not is_traced(kernel):
        kernel = real(kernel)
    if kernel.size == 0:
        return 0.0
    # Groups share no input and no output: the norm is the largest of theirs.
    kernel = kernel.reshape(*kernel.shape[:-1], groups, kernel.shape[-1] // groups)
    kernel = np.moveaxis(kernel, -2, 0) if not is_traced(kernel) else jnp.moveaxis(kernel, -2, 0)
    if is_traced(kernel):
        return overlap_bound(kernel, strides, lhs_dilation, rhs_dilation)
    if not np.all(np.isfinite(kernel)):
        return math.inf
    scaled, exponent = binary_scaled(kernel)
    if not np.any(scaled):
        return 0.0
    sizes = input_spatial if input_spatial is not None else (None,) * len(spatial)
    steps = [math.gcd(s, d) for s, d in zip(strides, lhs_dilation, strict=True)]
    # Shifting inputs or outputs moves the padding by s and by l: it matters modulo the gcd.
    bound = max(
        _lattice_norm(
            scaled,
            [
                _axis(*numbers)
                for numbers in zip(
                    spatial, strides, lhs_dilation, rhs_dilation, offsets, sizes, strict=True
                )
            ],
        )
        for offsets in itertools.product(*map(range, steps))
    )
    if bound == math.inf:
        bound = overlap_bound(scaled, strides, lhs_dilation, rhs_dilation)
    return binary_unscaled(float(bound), exponent)


def _axis(size: int, stride: int, lhs: int, rhs: int, offset: int, inputs: int | None) -> _Axis:
    """Solve ``stride·n + rhs·k = lhs·m + offset`` for the taps of the phases of n and m."""
    common = math.gcd(stride, lhs)
    in_phases, out_phases = stride // common, lhs // common
    period = stride * out_phases
    found = []
    for phases in itertools.product(range(out_phases), range(in_phases), range(size)):
        out_phase, in_phase, k = phases
        tap, rest = divmod(stride * out_phase + rhs * k - offset - lhs * in_phase, period)
        if rest == 0:
            found.append((tap, phases))
    taps = [tap for tap, _ in found]
    first = min(taps, default=0)
    spacing = math.gcd(*(tap - first for tap in taps)) or 1
    number = (max(taps, default=0) - first) // spacing + 1
    selection = np.zeros((number, out_phases, in_phases, size))
    for tap, phases in found:
        selection[((tap - first) // spacing, *phases)] = 1.0
    if inputs is not None:
        inputs = max(1, math.ceil(math.ceil(int(inputs) / in_phases) / spacing))
    return _Axis(selection, spacing, inputs)


def _lattice_norm(kernel: Array, axes: list[_Axis]) -> float:
    """Norm of the lattice convolution; infinite if there are too many channels for it.

    Args:
        kernel: Shape ``(groups, *spatial, in, out)``, entries of the order of one.
        axes: One per spatial axis.
    """
    taps = _matrix_taps(kernel, axes)
    lengths = [axis.selection.shape[0] for axis in axes]
    return symbol_norm(taps, lengths, [axis.circle for axis in axes])


def _matrix_taps(kernel: Array, axes: list[_Axis]) -> Array:
    """Taps of the plain convolution, shape ``(taps, groups, out·phases, in·phases)``."""
    dims = len(axes)
    # Each product and sum has one term that is not zero: nothing is rounded.
    for axis in axes:
        kernel = np.tensordot(kernel, axis.selection, axes=([1], [3]))
    # Now (groups, in, out, then per axis: taps, out phases, in phases).
    order = [3 + 3 * d for d in range(dims)] + [0]
    order += [2] + [4 + 3 * d for d in range(dims)]
    order += [1] + [5 + 3 * d for d in range(dims)]
    shape = kernel.shape
    kernel = kernel.transpose(order).reshape(
        math.prod(shape[3::3]),
        shape[0],
        shape[2] * math.prod(shape[4::3]),
        shape[1] * math.prod(shape[5::3]),
    )
    # Phases that no tap reaches are rows and columns of zeros.
    used = np.any(kernel, axis=(0, 1))
    return kernel[:, :, np.any(used, axis=1)][:, :, :, np.any(used, axis=0)]
