"""What a rule is, and the table of rules, keyed by primitive.

A rule gives three things (docs: theory):

1. ``range``: ranges of the results from ranges of the operands;
2. ``first_order``: magnitudes of the results' change from those of the operands' changes,
   valid for any two points of the operands' ranges (not only infinitesimally);
3. ``second_order``: magnitude of the second-order response p''[a, b]; None where linear.

A `KinkRule` also says how its equation is smoothed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxsmooth import errors
from jaxsmooth.math.array import Array, concretely, is_traced
from jaxsmooth.math.kernels import Kernel
from jaxsmooth.math.magnitude import Magnitude, Response
from jaxsmooth.math.range import Radii, Range
from jaxsmooth.program.graph import Atom, Equation, describe
from jaxsmooth.program.match import OF_NUMBERS
from jaxsmooth.rules.support import support_of


@dataclass(eq=False)
class Local:
    """One equation with all that its rule may look at.

    Attributes:
      equation: the equation.
      radii: sets of the arguments.
      leaves: number of leaves of the arguments.
      ranges: ranges of the operands; None for operands that are not numbers (keys).
      known: the operand's value where it is known, else None.
      varies: whether the operand changes with the arguments that derivatives are taken in;
        False for all operands of an equation that only ``stop_gradient`` reads.
      felt: whether the output depends on each result, and it varies.
      undefined: whether the operand may not be a number at all, as log(x) where x may be negative.
      infinite: whether the operand may be infinite, as what a mask fills with infinities.
      results: ranges of the results, once known.
      memo: for constants that several rules of the equation need.
      kernel: the kernel of the sites; None where f itself is analysed.
      static: like memo, but kept from pass to pass: for what depends on the equation alone.
    """

    equation: Equation
    radii: Radii
    leaves: int
    ranges: list[Range]
    known: list[Any]
    varies: list[bool]
    static: dict[Any, Any]
    results: list[Range] = field(default_factory=list)
    memo: dict[Any, Any] = field(default_factory=dict)
    kernel: Kernel | None = None
    felt: Sequence[bool] = ()
    undefined: Sequence[bool] = ()
    infinite: Sequence[bool] = ()

    @property
    def params(self) -> dict[str, Any]:
        return self.equation.params

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """``compute()``, evaluated at most once in this pass."""
        if key not in self.memo:
            self.memo[key] = compute()
        return self.memo[key]

    def always(self, key: Any, compute: Callable[[], Any]) -> Any:
        """``compute()``, evaluated once for all passes unless it gives a tracer."""
        if key in self.static:
            return self.static[key]
        value = self.once(key, compute)
        if not is_traced(*jax.tree_util.tree_leaves(value)):
            self.static[key] = value
        return value

    def view(self, ranges: list[Range], operands: Sequence[int]) -> Local:
        """The same equation seen by another rule, with these operands only."""
        known = [self.known[i] for i in operands]
        varies = [self.varies[i] for i in operands]
        return Local(
            self.equation, self.radii, self.leaves, ranges, known, varies, self.static,
            kernel=self.kernel, felt=self.felt,
            undefined=[self.undefined[i] for i in operands] if self.undefined else (),
            infinite=[self.infinite[i] for i in operands] if self.infinite else (),
        )  # fmt: skip

    def __str__(self) -> str:
        return describe(self.equation)


class Rule:
    """Base of all rules; the default is a linear equation's second order."""

    def range(self, eq: Local) -> list[Range]:
        """Ranges of the results."""
        raise NotImplementedError

    def guarded(self, eq: Local) -> Sequence[Range]:
        """Ranges that are refused where they are known and reach out of the rule's domain."""
        return ()

    def leaves_domain(self, eq: Local) -> bool:
        """Whether a result may be no number, or infinite, where all operands are numbers."""
        return is_traced(*(end for r in self.guarded(eq) for end in (r.lo, r.hi)))

    def carries(self, eq: Local) -> bool:
        """Whether results are numbers, or infinite, where operands are infinite."""
        return False

    def reads(self, eq: Local) -> Sequence[bool]:
        """Which operands the results may be computed from."""
        return [True] * len(eq.ranges)

    def of_numbers(self, eq: Local) -> bool:
        """Whether the rule holds only where all operands are numbers, though results may be."""
        return OF_NUMBERS.keys() <= eq.params.keys()

    def is_singular(self, eq: Local) -> bool:
        """Whether derivatives by an operand that varies may be infinite.

        They count even where a loop begins, at a number that does not change: 0·∞.
        """
        return False

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        """Magnitudes of the results' changes; None stands for no change."""
        raise NotImplementedError

    def in_place_of(self, equation: Equation) -> Callable[..., Any] | None:
        """What to compute in f_eps where nothing is smoothed; None for the equation itself.

        It has the equation's values, and derivatives where JAX's of the equation may be wrong.
        """
        return None

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        """Responses to first-order changes of the operands; None where there is none."""
        return [None] * len(eq.equation.outputs)


class EitherRule(Rule):
    """The rule that ``choose(eq)`` gives: one of several, by what is known of the operands."""

    def __init__(self, choose: Callable[[Local], Rule]):
        self._choose = choose

    def range(self, eq: Local) -> list[Range]:
        return self._choose(eq).range(eq)

    def guarded(self, eq: Local) -> Sequence[Range]:
        return self._choose(eq).guarded(eq)

    def leaves_domain(self, eq: Local) -> bool:
        return self._choose(eq).leaves_domain(eq)

    def carries(self, eq: Local) -> bool:
        return self._choose(eq).carries(eq)

    def reads(self, eq: Local) -> Sequence[bool]:
        return self._choose(eq).reads(eq)

    def of_numbers(self, eq: Local) -> bool:
        return self._choose(eq).of_numbers(eq)

    def is_singular(self, eq: Local) -> bool:
        return self._choose(eq).is_singular(eq)

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return self._choose(eq).first_order(eq, magnitudes)

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        return self._choose(eq).second_order(eq, magnitudes)


@dataclass(frozen=True, eq=False)
class Site:
    """How one equation is smoothed.

    Attributes:
      active: which elements of the result can reach a kink; the others stay as they are.
      lower, upper: the error of an active element lies in [lower·μ, upper·μ].
      response: second-order response times μ, on active elements.
      inputs: atoms that ``compute`` takes.
      compute: ``compute(mu, active, *inputs)`` gives the smoothed result.
      location: enclosure (lo, hi) of the variable that meets the kink.
      kernel: name of the kernel.
      parts: what μ is divided by to give the kernel's own.
    """

    active: Array
    lower: float
    upper: float
    response: Response
    inputs: tuple[Atom, ...]
    compute: Callable[..., Any]
    location: tuple[Array, Array]
    kernel: str
    parts: float = 1.0


class KinkRule(Rule):
    """A rule of an equation that is not differentiable everywhere.

    Its ``second_order`` is the response away from the kinks.
    """

    def carries(self, eq: Local) -> bool:
        return True

    def has_kinks(self, equation: Equation) -> bool:
        """Whether the equation has kinks at all."""
        return True

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        """How the equation is smoothed with this kernel."""
        raise NotImplementedError


_RULES: dict[Any, Rule] = {}


def define(rule: Rule, *primitives: Any) -> None:
    """Enter the rule of some primitives; None (absent in this JAX) is skipped."""
    for primitive in primitives:
        if primitive is None:
            continue
        if primitive in _RULES:
            raise errors.ArgumentError(f"'{primitive.name}' has a rule already")
        _RULES[primitive] = rule


def rule_of(equation: Equation) -> Rule:
    """The rule of an equation.

    Raises:
      UnsupportedPrimitiveError: there is none.
    """
    try:
        return _RULES[equation.primitive]
    except KeyError:
        found = support_of(equation.primitive)
        if found is not None and found.reason:
            known = " Where its inputs are known (jaxsmooth.fixed) it needs none."
            raise errors.UnsupportedPrimitiveError(
                f"{describe(equation)} has no rule: {found.reason}. {found.way_out}"
                f"{known if equation.repeatable else ''}"
            ) from None
        raise errors.UnsupportedPrimitiveError(
            f"no rule for {describe(equation)}. Write that part of the function with supported "
            "operations, make its inputs known with jaxsmooth.fixed, or give the primitive a "
            "rule with jaxsmooth.register_rule."
        ) from None


def has_rule(primitive: Any) -> bool:
    """Whether the primitive has a rule."""
    return primitive in _RULES


def on_arrays(function: Callable[..., Any], *arrays: Array) -> Any:
    """Apply a JAX function to analysis numbers.

    Known numbers are evaluated now, in float64, also while an outer function traces.
    """
    if is_traced(*arrays):
        return function(*(jax.numpy.asarray(a, dtype=_ambient(a)) for a in arrays))
    with concretely():
        result = function(*(jax.numpy.asarray(np.asarray(a, np.float64)) for a in arrays))
        return jax.tree_util.tree_map(np.asarray, result)


def _ambient(array: Array) -> Any:
    return array.dtype if is_traced(array) else jax.numpy.result_type(float)
