"""Maxima over ranges of a fixed array, in constant time, known or traced."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsmooth.math.array import Array, namespace
from jaxsmooth.math.enclosure import cast_outward


class Maxima:
    """Maxima over ranges of an array, each from two overlapping powers of two.

    Args:
        values: one number per cell.
    """

    def __init__(self, values: np.ndarray):
        levels = [values]
        while 2 ** len(levels) <= values.size:
            step = 2 ** (len(levels) - 1)
            longer = levels[-1].copy()
            longer[:-step] = np.maximum(longer[:-step], levels[-1][step:])
            levels.append(longer)
        self.levels = np.array(levels)

    def over(self, first: Array, last: Array, dtype: Any = np.float64) -> Array:
        """Maximum of values[first..last], rounded upward to the dtype."""
        xp = namespace(first, last)
        first, last = first.astype(np.int32), last.astype(np.int32)
        table = cast_outward(self.levels, dtype, np.inf)
        # An exact floor(log2(length)): a table, as floating point logarithms may be off.
        logs = np.repeat(np.arange(len(table)), 2 ** np.arange(len(table))).astype(np.int32)
        level = xp.asarray(logs)[xp.maximum(last - first, 0)]
        count = xp.asarray(2 ** np.arange(len(table), dtype=np.int32))[level]
        flat = xp.asarray(table.ravel())
        start = level * table.shape[1]
        return xp.maximum(flat[start + first], flat[start + last - count + 1])
