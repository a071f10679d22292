"""Probabilities as functions of their logarithms: softmax(x) = exp(log_softmax(x)).

In ``p * log(p)``, the entropy's, both factors move together, and as p nears 0 the derivative
of log(p) by p grows without bound, but not that by x. Entry by entry it is one function of
log(p), which the program computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jax.extend.core import primitives as p

from jaxsmooth.program.exponentials import SOFTMAX
from jaxsmooth.program.graph import Atom, Equation, Value
from jaxsmooth.program.log_probabilities import is_whole

_Slices = tuple[Atom, tuple[int, ...]]


@dataclass(eq=False)
class Probabilities:
    """The softmaxes among the equations that were visited, and their logarithms."""

    _fractions: dict[Value, Equation] = field(default_factory=dict)
    _logarithms: dict[_Slices, Value] = field(default_factory=dict)

    def visit(self, equation: Equation) -> None:
        """Note what an equation computes, if it is a softmax or the logarithm of one."""
        if equation.primitive is SOFTMAX:
            self._fractions[equation.outputs[0]] = equation
        if is_whole(equation):
            self._logarithms.setdefault(_slices(equation), equation.outputs[0])

    def exponential(self, value: Value) -> Equation | None:
        """The equation for a softmax as the exponential of its logarithm, if that is there."""
        fraction = self._fractions.get(value)
        logarithm = None if fraction is None else self._logarithms.get(_slices(fraction))
        if fraction is None or logarithm is None or logarithm.shape != value.shape:
            return None
        return Equation(p.exp_p, {}, (logarithm,), fraction.outputs, fraction.path, fraction.source)


def _slices(equation: Equation) -> _Slices:
    return equation.inputs[0], tuple(equation.params["axes"])
