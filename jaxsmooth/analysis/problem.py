"""What passes are run on, and what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import Array
from jaxsmooth.math.kernels import Kernel
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.graph import Atom, Equation, Value, describe, flatten
from jaxsmooth.program.normal import Normal
from jaxsmooth.rules.registry import KinkRule, Site, rule_of


@dataclass(frozen=True, eq=False)
class Term:
    """The second-order response of one equation, as the output feels it.

    Attributes:
      equation: the equation.
      matrix: (J, J), effect on the output of the response to unit changes of leaves i and j.
      pushed: effect on the output of the response to joint unit changes of all leaves.
      site: index of the site whose 1/μ multiplies all this, or None.
    """

    equation: Equation
    matrix: Array
    pushed: Array
    site: int | None


@dataclass(frozen=True, eq=False)
class SitePass:
    """What one pass found about a site.

    Attributes:
      equation: its equation.
      site: how it is smoothed.
      pattern: 2-norm of the error of the whole site for μ = 1.
      effect: error of the output for μ = 1.
      steps: numbers of steps of the loops that it is in, the outermost first.
    """

    equation: Equation
    site: Site
    pattern: Array
    effect: Array
    steps: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its elements, at all steps."""
        return (*self.steps, *self.equation.outputs[0].shape)


@dataclass(frozen=True, eq=False)
class Pass:
    """Result of one pass.

    Attributes:
      outputs: range of every output leaf.
      lipschitz: (J,) Lipschitz constants with respect to the leaves.
      sites: in order of evaluation.
      terms: second-order responses.
    """

    outputs: list[Range]
    lipschitz: Array
    sites: list[SitePass]
    terms: list[Term]


@dataclass(eq=False)
class Problem:
    """What stays the same from pass to pass.

    Attributes:
      normal: the program.
      domain: sets of the arguments (`bounds.Domain`).
      leaves: indices of the leaves that derivatives are taken in.
      kernel: the kernel of all sites.
      norm: "l2" or "linf", in which the error of the output is measured.
      exact: whether f itself is analysed, and not its smoothed versions too.
      static: what rules keep, per equation.
      arguments: ranges of the leaves that are not fixed.
      last: accuracies and result of the last pass, if all was known.
    """

    normal: Normal
    domain: Any
    leaves: list[int]
    kernel: Kernel
    norm: str
    exact: bool = False
    static: dict[Equation, dict[Any, Any]] = field(default_factory=dict)
    arguments: dict[Value, Range] = field(default_factory=dict)
    last: tuple[list[Array], Pass] | None = None
    _steps: dict[Equation, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._enter_loops(self.normal.equations, ())
        total = len(self.domain.leaves)
        for j, (leaf, value) in enumerate(
            zip(self.domain.leaves, self.normal.graph.inputs, strict=True)
        ):
            if not leaf.fixed and is_number(value):
                gains = np.zeros(total)
                gains[j] = 1.0
                self.arguments[value] = enclose(
                    self.domain, leaf.lo, leaf.hi, leaf.center, gains, 0.0
                )

    @cached_property
    def kinks(self) -> list[Equation]:
        """The equations that may be sites, in order."""
        found = [e for e in self.normal.all_equations() if self.is_kink(e)]
        program = flatten(self.normal.graph.body, inside_loops=True)
        computed = {e.outputs[0] for e in program if e.outputs}
        for equation in found:
            # The invariant of every rewrite: what is to be smoothed is computed by f.
            if equation.outputs[0] not in computed:
                raise AssertionError(f"{describe(equation)} has kinks, and is no part of f")
        return found

    def steps_of(self, equation: Equation) -> tuple[int, ...]:
        """Numbers of steps of the loops that an equation is in, the outermost first."""
        return self._steps.get(equation, ())

    def _enter_loops(self, equations: Sequence[Equation], around: tuple[int, ...]) -> None:
        for equation in equations:
            if around:
                self._steps[equation] = around
            steps = self.normal.loops.get(equation)
            if steps is not None:
                self._enter_loops(steps.equations, (*around, steps.length))

    def is_kink(self, equation: Equation) -> bool:
        """Whether an equation may be a site."""
        rule = rule_of(equation)
        varies = not self.normal.varies.isdisjoint(equation.outputs)
        return varies and isinstance(rule, KinkRule) and rule.has_kinks(equation)


def is_number(value: Atom) -> bool:
    """Whether a value is a number, and no random key."""
    return not jnp.issubdtype(value.dtype, jax.dtypes.extended)
