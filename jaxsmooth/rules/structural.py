"""Structural primitives that `jax.extend.core.primitives` leaves out.

Newer versions of JAX stack, tile, split and unstack by primitives of their own. They are
looked up where JAX's public functions use them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives as p

from jaxsmooth._compat import primitive_in
from jaxsmooth.math.magnitude import Magnitude
from jaxsmooth.math.range import Range
from jaxsmooth.rules.linear import LinearRule, bind_with
from jaxsmooth.rules.registry import Local, Rule, define


class _PartRule(LinearRule):
    """One result of an equation that moves entries into several."""

    def __init__(self, index: int):
        super().__init__(columns=lambda eq: [1.0] * len(eq.ranges))
        self.index = index

    def bound(self, eq: Local) -> Callable[..., Any]:
        return lambda *operands: bind_with(eq, eq.params, *operands)[self.index]


class PartsRule(Rule):
    """An equation with several results, each of which holds entries of the operand."""

    def parts(self, eq: Local) -> list[tuple[LinearRule, Local]]:
        """The linear equation of every result."""

        def part(index: int) -> tuple[LinearRule, Local]:
            # What linear rules keep differs from result to result.
            static = eq.static.setdefault(("part", index), {})
            return _PartRule(index), replace(eq, static=static, memo={})

        return eq.once("parts", lambda: [part(i) for i in range(len(eq.equation.outputs))])

    def carries(self, eq: Local) -> bool:
        return True

    def range(self, eq: Local) -> list[Range]:
        return [r for rule, part in self.parts(eq) for r in rule.range(part)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return [m for rule, part in self.parts(eq) for m in rule.first_order(part, magnitudes)]


class IdentitiesRule(Rule):
    """Results that are the operands."""

    def carries(self, eq: Local) -> bool:
        return True

    def range(self, eq: Local) -> list[Range]:
        return list(eq.ranges)

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return list(magnitudes)


_RULES: dict[str, tuple[Rule, Callable[..., Any]]] = {
    "stack": (LinearRule(disjoint=True), lambda x: jnp.stack([x, x])),
    "tile": (LinearRule(), lambda x: jnp.tile(x, 2)),
    "split": (PartsRule(), lambda x: jnp.split(x, 2)),
    "unstack": (PartsRule(), jnp.unstack),
    "optimization_barrier": (IdentitiesRule(), jax.lax.optimization_barrier),
}
"""Rules, and functions that use the primitives of these names where there are such."""


define(IdentitiesRule(), p.device_put_p)
for _name, (_rule, _function) in _RULES.items():
    # Older versions use slices and concatenations.
    define(_rule, primitive_in(_function, _name, jax.ShapeDtypeStruct((4,), jnp.float32)))
