"""Bounds of convolutions that count how often windows overlap.

Along each axis a convolution relates input m, tap k and output n by

    s n + r k = l m + p        (stride s, kernel dilation r, input dilation l, padding p).

Taps that meet a given input are therefore equal modulo ``s' = s/gcd(r, s)``, and those that
meet a given output modulo ``l' = l/gcd(r, l)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import Array, is_traced, up
from jaxsmooth.math.norms import gram_iteration, spectral_norm


def bilinear_convolution_norm(
    kernel_spatial: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    input_spatial: Sequence[int] | None = None,
    output_spatial: Sequence[int] | None = None,
) -> float:
    """Upper bound of ``||conv(x, k)|| / (||x|| ||k||)``, in 2-norms of all entries.

    Any two of input, tap and output determine the third. By the module's congruences the
    product is a sum over pairs of residues of products of disjoint parts of x, k and the
    output (with parts of k that differ from pair to pair), and by Cauchy and Schwarz its
    norm is the largest of theirs. In such a part an output is a sum of at most
    ``c = ceil(K / lcm(s', l'))`` terms, each pair (m, k) occurs in one output, and therefore

        sum_n (sum_{m,k} x_m k_k)² <= sum_n c sum_{m,k} x_m² k_k² <= c ||x||² ||k||².

    An output is also a sum of no more terms than there are inputs; and, with the roles of
    taps and outputs exchanged (the trilinear form ``<y, conv(x, k)>`` is symmetric in its
    arguments), c may be the number of outputs. Channels contract in pairs, with constant
    one; batches and groups are disjoint; and bounds of the axes multiply, by the inequality
    of Cauchy and Schwarz for contractions.

    Args:
        kernel_spatial: Spatial shape of the kernel.
        strides: One per spatial axis; ones by default, as for the dilations.
        lhs_dilation: Dilation of the inputs.
        rhs_dilation: Dilation of the kernel.
        input_spatial: Spatial shape of the inputs (before dilation), if known.
        output_spatial: Spatial shape of the outputs, if known.

    Returns:
        The bound, for any padding, and any numbers of channels and groups.

    Example:
        >>> bilinear_convolution_norm((4, 4), strides=(2, 2)) - 2.0 < 1e-12
        True
    """
    count = 1
    for axis, size in enumerate(kernel_spatial):
        s, d, r = (
            int(given[axis]) if given is not None else 1
            for given in (strides, lhs_dilation, rhs_dilation)
        )
        meets = -(-size // math.lcm(s // math.gcd(r, s), d // math.gcd(r, d)))
        for shape in (input_spatial, output_spatial):
            meets = min(meets, int(shape[axis])) if shape is not None else meets
        count *= meets
    return float(up(math.sqrt(count), 2))


def overlap_bound(
    kernel: Array, strides: Sequence[int], lhs: Sequence[int], rhs: Sequence[int]
) -> Array:
    """Upper bound of the norm of ``x -> conv(x, kernel)`` by the norm of one window.

    An output is the image of its window of inputs under the matrix of shape (taps·in, out),
    and an input lies in at most ``prod ceil(K/s')`` windows. The adjoint likewise, with the
    matrix of shape (taps·out, in) and l' for s'.

    Args:
        kernel: Shape ``(groups, *spatial, in, out)``, NumPy or a tracer.
        strides: One per spatial axis.
        lhs: Dilation of the inputs.
        rhs: Dilation of the kernel.
    """
    groups, *spatial, inputs, outputs = kernel.shape
    windows, adjoint_windows = 1, 1
    for size, s, d, r in zip(spatial, strides, lhs, rhs, strict=True):
        windows *= -(-size // (s // math.gcd(r, s)))
        adjoint_windows *= -(-size // (d // math.gcd(r, d)))
    forward = kernel.reshape(groups, -1, outputs)
    if is_traced(kernel):
        backward = jnp.swapaxes(kernel, -1, -2).reshape(groups, -1, inputs)
        norm, adjoint_norm = gram_iteration(forward), gram_iteration(backward)
        return jnp.minimum(
            up(norm * math.sqrt(windows), 4), up(adjoint_norm * math.sqrt(adjoint_windows), 4)
        )
    backward = np.swapaxes(kernel, -1, -2).reshape(groups, -1, inputs)
    norm = max(spectral_norm(matrix) for matrix in forward)
    adjoint_norm = max(spectral_norm(matrix) for matrix in backward)
    return min(
        float(up(norm * math.sqrt(windows), 4)),
        float(up(adjoint_norm * math.sqrt(adjoint_windows), 4)),
    )
