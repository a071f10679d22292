"""Elementwise equations as the steps of a function of one variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth._compat import primitive
from jaxsmooth.program.graph import Equation
from jaxsmooth.program.layout import moves_units
from jaxsmooth.program.match import LOGADDEXP

UNIVARIATE = Primitive("scalar_function")
"""Key of a recognised function of one variable.

Params: ``steps``, a tuple of (operation, operands, parameters), with operands as in
`jaxsmooth.math.univariate`.
"""

PASSED = frozenset({p.copy_p, p.convert_element_type_p})
"""Operations whose result is their operand, as a number of some type."""

Steps = list[tuple[str, tuple[Any, ...], Any]]
"""(operation, operands, parameters) each; operands as in `jaxsmooth.math.univariate`."""


def _logaddexp(operands: tuple[Any, ...], before: int) -> Steps:
    """log(e^x + e^y) = y + softplus(x - y)."""
    x, y = operands
    return [
        ("sub", (x, y), ()),
        ("softplus", (before + 1,), ()),
        ("add", (before + 2, y), ()),
    ]


def _chosen(operands: tuple[Any, ...], before: int) -> Steps:
    """A choice among cases by a whole number, as XLA makes it: by comparisons."""
    index, *options = operands
    steps: Steps = [("lt", (index, i + 1.0), ()) for i in range(len(options) - 1)]
    total = options[-1]
    for i in reversed(range(len(options) - 1)):
        steps.append(("select_n", (before + i + 1, total, options[i]), ()))
        total = before + len(steps)
    return steps


def _one_minus_square(operands: tuple[Any, ...], before: int) -> Steps:
    return [("integer_pow", operands, (2,)), ("sub", (1.0, before + 1), ())]


def _polynomial(operands: tuple[Any, ...], before: int) -> Steps:
    """Σ c_k x^k by Horner's scheme."""
    x, *coefficients, total = operands
    steps: Steps = []
    for c in reversed(coefficients):
        steps += [
            ("mul", (total, x), ()),
            ("add", (before + len(steps) + 1, c), ()),
        ]
        total = before + len(steps)
    return steps or [("add", (total, 0.0), ())]


EXPANDED: dict[Any, Callable[[tuple[Any, ...], int], Steps]] = {
    LOGADDEXP: _logaddexp,
    p.add_jaxvals_p: lambda operands, before: [("add", operands, ())],
    # Facts of it are of positive numbers.
    p.bessel_i0e_p: lambda operands, before: [
        ("abs", operands, ()),
        ("bessel_i0e", (before + 1,), ()),
    ],
    primitive("one_minus_square_p"): _one_minus_square,
    primitive("polynomial_p"): _polynomial,
}
"""Operations that are written with others."""


PARAMETERS: dict[Any, tuple[int, ...]] = {
    p.pow_p: (1,),
    p.igamma_p: (0,),
    p.igammac_p: (0,),
    p.regularized_incomplete_beta_p: (0, 1),
    p.polygamma_p: (0,),
    p.zeta_p: (0,),
}
"""Operands of functions of one variable that must be known."""


_NOTHING: tuple[str, tuple[Any, ...], Any] = ("", (), ())


def stable(steps: Steps) -> Steps:
    """The steps with softplus, the logistic function and tanh for what is written with exp.

    Interval by interval, e^x / (1 + e^x) forgets how its parts belong together; and its
    derivatives by JAX overflow.
    """
    found: Steps = []
    places = [0]

    def step(value: Any) -> tuple[str, tuple[Any, ...], Any]:
        return found[value - 1] if isinstance(value, int) and value > 0 else _NOTHING

    for name, operands, parameter in steps:
        moved = tuple(places[o] if isinstance(o, int) else o for o in operands)
        found += _stable(name, moved, len(found), step) or [(name, moved, parameter)]
        places.append(len(found))
    return found


def _stable(
    name: str,
    operands: tuple[Any, ...],
    before: int,
    step: Callable[[Any], tuple[str, tuple[Any, ...], Any]],
) -> Steps | None:
    """What stands for a step after so many others, if that is one of the functions above.

    Args:
      name: the operation.
      operands: of the steps that stand for those before.
      before: how many these are.
      step: gives the step that an operand is the result of.
    """

    def exponent(value: Any) -> Any:
        """v of 1 + exp(v)."""
        name, operands, _ = step(value)
        if name == "add" and any(map(_is_one, operands)):
            rest = [v for v in operands if isinstance(v, int)]
            name, operands, _ = step(rest[0]) if len(rest) == 1 else _NOTHING
            return operands[0] if name == "exp" else None
        return None

    inner = step(operands[0])
    if name == "log1p" and inner[0] == "exp":
        return [("softplus", inner[1], ())]
    if name == "log" and exponent(operands[0]) is not None:
        return [("softplus", (exponent(operands[0]),), ())]
    if name == "log1p" and inner[0] == "neg" and step(inner[1][0])[0] == "logistic":
        return [("softplus", step(inner[1][0])[1], ()), ("neg", (before + 1,), ())]
    if name == "log" and inner[0] == "logistic":
        return [
            ("neg", inner[1], ()),
            ("softplus", (before + 1,), ()),
            ("neg", (before + 2,), ()),
        ]
    if name == "sub" and _is_one(operands[0]) and step(operands[1])[0] == "logistic":
        return [("neg", step(operands[1])[1], ()), ("logistic", (before + 1,), ())]
    ratio = _tanh(operands, before, step) if name == "div" else None
    if ratio is not None:
        return ratio
    if name == "div" and exponent(operands[1]) is not None:
        v = exponent(operands[1])
        if inner[0] == "exp" and inner[1][0] == v:
            return [("logistic", (v,), ())]
        turned = step(v)[1] if step(v)[0] == "neg" else (before + 1,)
        made: Steps = [] if step(v)[0] == "neg" else [("neg", (v,), ())]
        made += [("logistic", turned, ())]
        if not _is_one(operands[0]):
            made += [("mul", (operands[0], before + len(made)), ())]
        return made
    return None


def _tanh(
    operands: tuple[Any, ...], before: int, step: Callable[[Any], tuple[str, tuple[Any, ...], Any]]
) -> Steps | None:
    """tanh((p - q)/2) = (e^p - e^q)/(e^p + e^q), where one of p and q may be 0."""

    def exponent(value: Any) -> Any:
        name, inner, _ = step(value)
        return inner[0] if name == "exp" else _NAUGHT if _is_one(value) else None

    above, below = (step(v) for v in operands)
    if above[0] == "expm1":
        difference: list[Any] = [above[1][0], _NAUGHT]
    elif above[0] == "sub":
        difference = list(map(exponent, above[1]))
    else:
        return None
    added = list(map(exponent, below[1])) if below[0] == "add" else []
    if None in difference or difference not in (added, added[::-1]):
        return None
    # Constants are floats, and values are numbered.
    first, second = (0.0 if e is _NAUGHT else e for e in difference)
    if isinstance(first, int) and isinstance(second, int) and step(second) == ("neg", (first,), ()):
        return [("tanh", (first,), ())]
    return [
        ("sub", (first, second), ()),
        ("mul", (before + 1, 0.5), ()),
        ("tanh", (before + 2,), ()),
    ]


_NAUGHT = "0"
"""The exponent of 1, which is no number of a value."""


def _is_one(value: Any) -> bool:
    return isinstance(value, float) and value == 1


def passed_on(equation: Equation, operands: tuple[Any, ...]) -> int | None:
    """The operand that is the result: moved, or the other one is known and does not matter."""
    if moves_units(equation) and equation.inputs[0].dtype == equation.outputs[0].dtype:
        return operands[0]
    if equation.primitive is p.select_n_p and not isinstance(operands[0], int):
        chosen = operands[1 + int(operands[0])]
        return chosen if isinstance(chosen, int) else None
    neutral = {p.and_p: 1.0, p.or_p: 0.0}.get(equation.primitive)
    rest = [o for o in operands if isinstance(o, int)]
    constants = [o for o in operands if not isinstance(o, int)]
    return rest[0] if len(rest) == 1 and constants == [neutral] else None


def steps_of(equation: Equation, operands: tuple[Any, ...], before: int) -> Steps:
    """The steps that an equation is, after so many others."""
    if equation.primitive in PASSED:
        return [("identity", operands, ())]
    if equation.primitive is p.integer_pow_p:
        return [("integer_pow", operands, (equation.params["y"],))]
    if equation.primitive in PARAMETERS:
        places = PARAMETERS[equation.primitive]
        variable = tuple(o for i, o in enumerate(operands) if i not in places)
        return [(equation.primitive.name, variable, tuple(operands[i] for i in places))]
    if equation.primitive is p.select_n_p and equation.inputs[0].dtype != np.bool_:
        return _chosen(operands, before)
    if equation.primitive in EXPANDED:
        return EXPANDED[equation.primitive](operands, before)
    return [(equation.primitive.name, operands, ())]
