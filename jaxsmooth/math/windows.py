"""Sliding windows and convolutions of NumPy arrays.

The analysis applies the same convolution to a few arrays only. NumPy does that without
compiling it for every shape, which is what most of the time would go to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(
    x: np.ndarray,
    size: Sequence[int],
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
    fill: float = 0.0,
) -> np.ndarray:
    """Windows over the last axes of x.

    Args:
      x: shape (*lead, *spatial).
      size: window size, one per spatial axis.
      strides, padding, base_dilation, window_dilation: one per spatial axis, as in
        `jax.lax.reduce_window`; padding may be negative.
      fill: value of the padding.

    Returns:
      A read-only view of shape (*lead, *result, *size).

    Example:
      >>> windows(np.arange(4.0), [2], strides=[2], padding=[(1, 1)], base_dilation=[1],
      ...         window_dilation=[1]).tolist()
      [[0.0, 0.0], [1.0, 2.0], [3.0, 0.0]]
    """
    rank = len(size)
    axes = tuple(range(x.ndim - rank, x.ndim))
    for axis, (low, high), dilation in zip(axes, padding, base_dilation, strict=True):
        x = _padded(x, axis, low, high, dilation, fill)
    reach = [(k - 1) * d + 1 for k, d in zip(size, window_dilation, strict=True)]
    if any(x.shape[axis] < r for axis, r in zip(axes, reach, strict=True)):
        counts = [
            max(0, x.shape[axis] - r + s) // s
            for axis, r, s in zip(axes, reach, strides, strict=True)
        ]
        return np.zeros((*x.shape[: x.ndim - rank], *counts, *size), x.dtype)
    view = sliding_window_view(x, reach, axis=axes) if rank else x
    lead = (slice(None),) * len(range(x.ndim - rank))
    steps = tuple(slice(None, None, s) for s in (*strides, *window_dilation))
    return view[lead + steps]


def _padded(
    x: np.ndarray, axis: int, low: int, high: int, dilation: int, fill: float
) -> np.ndarray:
    length = x.shape[axis]
    dilated = max(0, (length - 1) * dilation + 1) if length else 0
    shape = list(x.shape)
    shape[axis] = dilated + low + high
    if dilation == 1 and low == high == 0:
        return x
    out = np.full(shape, fill, x.dtype)
    positions = low + dilation * np.arange(length)
    kept = (positions >= 0) & (positions < shape[axis])
    target = (slice(None),) * axis + (positions[kept],)
    source = (slice(None),) * axis + (np.flatnonzero(kept),)
    out[target] = x[source]
    return out


def convolution(
    x: np.ndarray,
    kernel: np.ndarray,
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    groups: int,
) -> np.ndarray:
    """Convolution (cross-correlation), groups allowed.

    Args:
      x: shape (batch, in features, *spatial).
      kernel: shape (out features, in features / groups, *window).
      strides, padding, lhs_dilation, rhs_dilation: one per spatial axis.
      groups: number of groups of features.

    Returns:
      An array of shape (batch, out features, *result).
    """
    size = kernel.shape[2:]
    views = windows(
        x,
        size,
        strides=strides,
        padding=padding,
        base_dilation=lhs_dilation,
        window_dilation=rhs_dilation,
    )
    rank = len(size)
    batch, result = x.shape[0], views.shape[2 : 2 + rank]
    channels = x.shape[1] // groups
    # (batch, groups, positions, channels per group · window)
    order = (0, 1, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    grouped = views.reshape(batch, groups, channels, *result, *size).transpose(order)
    patches = grouped.reshape(batch, groups, math.prod(result), channels * math.prod(size))
    filters = kernel.reshape(groups, kernel.shape[0] // groups, -1)
    out = np.matmul(patches, filters.transpose(0, 2, 1))
    return out.transpose(0, 1, 3, 2).reshape(batch, kernel.shape[0], *result)
