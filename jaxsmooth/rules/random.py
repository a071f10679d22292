"""Random numbers from keys that are arguments, and other numbers that never vary.

What is drawn does not change with the arguments that derivatives are taken in: it is the
same in f and in f_eps, and only its range is needed. Bits shifted into the mantissa of a
number between 1 and 2 (`jax.random.uniform`) keep theirs through the conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth._compat import primitive_in
from jaxsmooth.math.array import Array, is_traced
from jaxsmooth.math.magnitude import Magnitude
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.rules.registry import Local, Rule, define


def everything(dtype: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Bounds of all numbers of a type; (0, 0) for keys."""
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return np.zeros(shape), np.zeros(shape)
    if dtype == np.bool_:
        return np.zeros(shape), np.ones(shape)
    if jnp.issubdtype(dtype, jnp.integer):
        info = jnp.iinfo(dtype)
        return np.full(shape, float(info.min)), np.full(shape, float(info.max))
    return np.full(shape, -np.inf), np.full(shape, np.inf)


class ConstantRule(Rule):
    """Results that do not vary, and are any number of their type."""

    def bounds(self, eq: Local) -> list[tuple[Array, Array]]:
        """(lo, hi) of every result."""
        return [everything(v.dtype, v.shape) for v in eq.equation.outputs]

    def range(self, eq: Local) -> list[Range]:
        if any(eq.varies):
            raise errors.DiscontinuityError(
                f"{eq} reads bits of numbers that vary, which jump: no continuous function stays "
                "within eps of it. Keep to floating-point arithmetic, or stop the gradient "
                "(jax.lax.stop_gradient) of what it reads."
            )
        return [
            enclose(eq.radii, lo, hi, np.zeros(np.shape(lo)), np.zeros(eq.leaves), np.inf)
            for lo, hi in self.bounds(eq)
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return [None] * len(eq.equation.outputs)


class BitcastRule(ConstantRule):
    """bitcast_convert_type: increasing from non-negative integers to finite numbers."""

    def bounds(self, eq: Local) -> list[tuple[Array, Array]]:
        source, target = eq.equation.inputs[0].dtype, eq.equation.outputs[0].dtype
        (x,) = eq.ranges
        pairs = {np.dtype(np.uint32): np.float32, np.dtype(np.uint64): np.float64}
        if is_traced(x.lo, x.hi) or pairs.get(np.dtype(source)) != target:
            return super().bounds(eq)
        largest = float(np.finfo(target).max.view(source))
        if np.any(x.lo < 0) or np.any(x.hi >= largest):
            return super().bounds(eq)
        # Integers above 2^53 are not exact here, and rounded to the nearest of their kind.
        spacing = np.where(x.hi > 2.0**53, np.spacing(x.hi), 0.0)
        lo, hi = np.maximum(x.lo - spacing, 0.0), x.hi + spacing
        return [(_cast(lo, source, target), _cast(hi, source, target))]


def _cast(x: np.ndarray, source: Any, target: Any) -> np.ndarray:
    return np.asarray(x).astype(source).view(target).astype(np.float64)


_KEY = jax.eval_shape(lambda: jax.random.key(0))
_ELSEWHERE: dict[str, tuple[Callable[..., Any], Any]] = {
    "random_wrap": (
        jax.random.wrap_key_data, jax.ShapeDtypeStruct((2,), jnp.uint32),
    ),
    "random_unwrap": (jax.random.key_data, _KEY),
    "random_clone": (jax.random.clone, _KEY),
}  # fmt: skip
"""Functions that use the primitives of these names, and what to trace them with."""

define(
    ConstantRule(),
    p.random_bits_p,
    p.random_seed_p,
    p.random_split_p,
    p.random_fold_in_p,
    p.rng_bit_generator_p,
    p.threefry2x32_p,
    *(primitive_in(function, name, arg) for name, (function, arg) in _ELSEWHERE.items()),
)
define(BitcastRule(), p.bitcast_convert_type_p)
