"""Elementwise functions of one variable, the last operand, whose other operands are known.

These parameters need not be the same at all entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math import regularised
from jaxsmooth.math.array import is_traced
from jaxsmooth.math.enclosure import ScalarFunction
from jaxsmooth.math.families import entrywise
from jaxsmooth.program.graph import Equation
from jaxsmooth.rules.elementwise import ScalarRule
from jaxsmooth.rules.registry import EitherRule, Local, Rule, define

_REGULARISED = {
    p.igamma_p: regularised.lower_gamma,
    p.igammac_p: regularised.upper_gamma,
    p.regularized_incomplete_beta_p: regularised.beta,
}
"""Those of which derivatives by JAX are NaN at the ends of the domain."""


def known_parameters(eq: Local) -> list[np.ndarray] | None:
    """All operands but the last, in the shape of the result; None if one is unknown."""
    known = eq.known[:-1]
    if any(x is None for x in known) or is_traced(*known):
        return None
    shape = eq.equation.outputs[0].shape
    return [np.broadcast_to(np.asarray(x, np.float64), shape) for x in known]


class ParametricRule(ScalarRule):
    """φ(parameters, x) with known parameters.

    Args:
      named: what the parameters are called.
      allowed: what they must be.
      reason: why they may not vary.
    """

    def __init__(self, named: str, allowed: str, reason: str = ""):
        super().__init__(lambda eq: eq.always("facts", lambda: self._function(eq)), variable=-1)
        self._named, self._allowed, self._reason = named, allowed, reason

    def _function(self, eq: Local) -> ScalarFunction:
        parameters = known_parameters(eq)
        if parameters is None:
            raise errors.UnsupportedPrimitiveError(
                f"{eq} is a function of its last argument alone where {self._named} known, which "
                f"they are not here{self._reason}. Make them known with jaxsmooth.fixed, or give "
                "the primitive a rule with jaxsmooth.register_rule."
            )
        found = entrywise(eq.equation.primitive.name, parameters)
        if found is None:
            raise errors.CertificationError(
                f"{eq} is not defined for its parameters: {self._allowed}. Change them."
            )
        return found

    def in_place_of(self, equation: Equation) -> Callable[..., Any] | None:
        return _REGULARISED.get(equation.primitive)


class _WhereKnown(EitherRule):
    def __init__(self, known: Rule, otherwise: Rule):
        super().__init__(lambda eq: otherwise if known_parameters(eq) is None else known)
        self._known = known

    def in_place_of(self, equation: Equation) -> Callable[..., Any] | None:
        return self._known.in_place_of(equation)


def where_known(known: Rule, otherwise: Rule) -> Rule:
    """One rule where all operands but the last are known, another one where they are not.

    Both compute the same function in place of the equation.
    """
    return _WhereKnown(known, otherwise)


_NO_DERIVATIVE = "; JAX has no derivative in them, so that no smoothed function would have one"

define(
    ParametricRule("a and b are", "a and b must be positive", _NO_DERIVATIVE),
    p.regularized_incomplete_beta_p,
)
define(
    ParametricRule("the order is", "the order must be a whole number from 0", _NO_DERIVATIVE),
    p.polygamma_p,
)
