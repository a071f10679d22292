"""Loops and branches that the normal form leaves as they are: those that must be refused.

Scans, whiles whose number of steps is known, and branches are taken apart when the program is
brought into normal form; passes walk them equation by equation.
"""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.magnitude import Magnitude
from jaxsmooth.math.range import Range
from jaxsmooth.rules.registry import Local, Rule, define


class WhileRule(Rule):
    """A while whose number of steps is unknown."""

    def range(self, eq: Local) -> list[Range]:
        stops = eq.params.get("stops_by", range(len(eq.varies)))
        if any(eq.varies[i] for i in stops):
            raise errors.DiscontinuityError(
                f"{eq} stops by a condition on numbers that vary with the arguments: its number "
                "of steps jumps, and no continuous function stays within eps of a jump. Run a "
                "known number of steps (jax.lax.fori_loop with known bounds, jax.lax.scan), or "
                "make what the condition reads known with jaxsmooth.fixed."
            )
        raise errors.UnsupportedPrimitiveError(
            f"{eq} runs an unknown number of steps: its condition reads numbers that are not "
            "known, or traced, or other ones at every step of a loop around it. Make them known "
            "with jaxsmooth.fixed, or run a known number of steps (jax.lax.fori_loop with known "
            "bounds, jax.lax.scan)."
        )

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        raise NotImplementedError


class LoopRule(WhileRule):
    """A scan or a cond, of which the normal form leaves nothing to a rule."""

    def range(self, eq: Local) -> list[Range]:
        raise errors.UnsupportedPrimitiveError(f"{eq} was not brought into normal form.")


define(WhileRule(), p.while_p)
define(LoopRule(), p.scan_p, p.cond_p)
