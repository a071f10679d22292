"""Structural primitives that move entries and that `jax.extend.core.primitives` leaves out.

Newer versions of JAX stack, tile, split and unstack by primitives of their own. They are
looked up where JAX's public functions use them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxsmooth.math.magnitude import Magnitude
from jaxsmooth.math.range import Range
from jaxsmooth.rules.linear import LinearRule
from jaxsmooth.rules.registry import Local, Rule, define, has_rule


def apply_equation(eq: Local, *operands: Any) -> Any:
    """The equation's primitive on these operands."""
    bound = eq.equation.primitive.get_bind_params(eq.params)
    keywords = bound[1] if isinstance(bound, tuple) else bound
    return eq.equation.primitive.bind(*operands, **keywords)


class PartsRule(Rule):
    """An equation with several results, each of which moves entries of the operands."""

    def parts(self, eq: Local) -> list[tuple[LinearRule, Local]]:
        """The linear equation of every result."""

        def part(index: int) -> tuple[LinearRule, Local]:
            rule = LinearRule(lambda eq: lambda *x: apply_equation(eq, *x)[index])
            static = eq.static.setdefault(("part", index), {})
            return rule, replace(eq, static=static, memo={})

        return eq.once("parts", lambda: [part(i) for i in range(len(eq.equation.outputs))])

    def range(self, eq: Local) -> list[Range]:
        return [r for rule, part in self.parts(eq) for r in rule.range(part)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return [m for rule, part in self.parts(eq) for m in rule.first_order(part, magnitudes)]


_MOVED = LinearRule(lambda eq: lambda *x: apply_equation(eq, *x))
_STACKED = LinearRule(lambda eq: lambda *x: apply_equation(eq, *x), disjoint=True)
_USES: tuple[tuple[Rule, Callable[..., Any]], ...] = (
    (_STACKED, lambda x: jnp.stack([x, x])),
    (_MOVED, lambda x: jnp.tile(x, 2)),
    (PartsRule(), lambda x: jnp.split(x, 2)),
    (PartsRule(), lambda x: jnp.unstack(x)),
)


def _define_used(rule: Rule, function: Callable[..., Any]) -> None:
    """Enter the rule for the one primitive that the function uses, where that is new."""
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((4,), jnp.float32))
    used = {eqn.primitive for eqn in closed.jaxpr.eqns}
    if len(used) == 1:
        (found,) = used
        # Older versions use calls, slices and concatenations.
        if not has_rule(found) and found.name in ("stack", "tile", "split", "unstack"):
            define(rule, found)


for _rule, _function in _USES:
    _define_used(_rule, _function)
