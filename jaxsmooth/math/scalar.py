"""Facts of the elementary functions: one entry for each smooth elementwise primitive.

Errors are in units of roundoff. NumPy and XLA evaluate elementary functions to a few
units each; formulas such as ``exp(-x*x)`` amplify the rounding of the exponent (at
most 745 before it underflows in float64), and XLA forms ``exp2``, ``sinh`` or
``pow`` by such formulas in float32. The declared errors are several times what was
measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxsmooth.math import formulas
from jaxsmooth.math.array import Array
from jaxsmooth.math.enclosure import Derivative, ScalarFunction, SmoothFunction
from jaxsmooth.math.trigonometric import COS, SIN, TAN

INF = math.inf


def _odd_turns(location: float, value: float) -> tuple[tuple[float, float], ...]:
    """Turning points of an odd function: zero at zero, value at the location."""
    return ((-location, -value), (0.0, 0.0), (location, value))


def _function(
    name: str,
    f: Derivative,
    slope: Derivative,
    curvature: Derivative,
    domain: tuple[float, float] = (-INF, INF),
    anchor: float = 0.5,
) -> SmoothFunction:
    return SmoothFunction(name, (f, slope, curvature), domain, anchor)


def _scaled(
    factor: float, function: Callable[[Any, Array], Array]
) -> Callable[[Any, Array], Array]:
    return lambda xp, x: factor * function(xp, x)


def _monomial(factor: float, exponent: float, whole_line: bool) -> Derivative:
    """Facts of factor·x^exponent on [0, inf), or on the whole line for integers."""
    if factor == 0 or exponent == 0:
        return Derivative(lambda xp, x: factor + 0.0 * x, (factor, factor))
    top = math.copysign(INF, factor)
    power = int(exponent) if whole_line else exponent
    units = 256 + 4 * abs(exponent)

    def value(xp: Any, x: Array) -> Array:
        # XLA knows integer powers of negative numbers only from integer exponents.
        return factor * x ** (float(power) if xp is np else power)

    at_zero, at_infinity = (0.0, top) if exponent > 0 else (top, 0.0)
    if not whole_line:
        return Derivative(value, (at_zero, at_infinity), units=units)
    sign = 1.0 if power % 2 == 0 else -1.0
    limits = (sign * at_infinity, at_infinity)
    if exponent > 0:
        return Derivative(value, limits, turns=((0.0, 0.0),), units=units)
    return Derivative(
        value, limits, poles=((0.0, sign * at_zero, at_zero),), units=units, amplified=True
    )


@cache
def integer_pow(exponent: int) -> ScalarFunction:
    """x^exponent for an integer exponent of either sign.

    Example:
        >>> integer_pow(2).range(-1.0, 2.0)[0].item()
        0.0
    """
    n = int(exponent)
    return SmoothFunction(
        f"integer_pow[{n}]",
        (_monomial(1.0, n, True), _monomial(n, n - 1, True), _monomial(n * (n - 1), n - 2, True)),
    )


@cache
def power(exponent: float) -> ScalarFunction:
    """x^exponent for a real constant exponent; defined for x >= 0 unless it is an integer."""
    p = float(exponent)
    if p.is_integer():
        return integer_pow(int(p))
    return SmoothFunction(
        f"pow[{p:g}]",
        (
            _monomial(1.0, p, False),
            _monomial(p, p - 1, False),
            _monomial(p * (p - 1), p - 2, False),
        ),
        domain=(0.0, INF),
    )


@cache
def softplus() -> ScalarFunction:
    """log(1 + exp(x)), whose equations would be enclosed loosely one by one."""
    return _function(
        "softplus",
        Derivative(formulas.softplus, (0.0, INF), amplified=True),
        *_LOGISTIC.derivatives[:2],
    )


_LOGISTIC = _function(
    "logistic",
    Derivative(formulas.logistic, (0.0, 1.0), ((0.0, 0.5),)),
    Derivative(formulas.logistic_slope, (0.0, 0.0), ((0.0, 0.25),)),
    Derivative(
        formulas.logistic_curvature,
        (0.0, 0.0),
        _odd_turns(math.log(2 + math.sqrt(3)), -1 / (6 * math.sqrt(3))),
    ),
)
_EXP = Derivative(lambda xp, x: xp.exp(x), (0.0, INF), ((0.0, 1.0),))
_SINH = Derivative(lambda xp, x: xp.sinh(x), (-INF, INF), ((0.0, 0.0),), amplified=True)
_COSH = Derivative(lambda xp, x: xp.cosh(x), (INF, INF), ((0.0, 1.0),), amplified=True)
_TANH_TURNS = _odd_turns(math.atanh(1 / math.sqrt(3)), -4 / (3 * math.sqrt(3)))
_ERF_TURNS = _odd_turns(math.sqrt(0.5), -4 / math.sqrt(math.pi) * math.sqrt(0.5) * math.exp(-0.5))


def _exp2(order: int) -> Derivative:
    scale = math.log(2) ** order
    turns = ((0.0, scale),)
    return Derivative(lambda xp, x: scale * xp.exp2(x), (0.0, INF), turns, amplified=True)


def _logarithm(name: str, function: Callable[[Any, Array], Array], scale: float, start: float):
    """Facts of scale·log(x - start)."""
    return _function(
        name,
        Derivative(function, (-INF, INF), ((start + 1.0, 0.0),), amplified=True),
        Derivative(lambda xp, x: scale / (x - start), (INF, 0.0)),
        Derivative(lambda xp, x: -scale / (x - start) / (x - start), (-INF, 0.0)),
        domain=(start, INF),
    )


def _asin(sign: float, value: Derivative, name: str) -> SmoothFunction:
    def slope(xp: Any, x: Array) -> Array:
        return sign / xp.sqrt((1.0 - x) * (1.0 + x))

    def curvature(xp: Any, x: Array) -> Array:
        return sign * x / ((1.0 - x) * (1.0 + x)) / xp.sqrt((1.0 - x) * (1.0 + x))

    end = sign * INF
    return _function(
        name,
        value,
        Derivative(slope, (end, end), ((0.0, sign),)),
        Derivative(curvature, (-end, end), ((0.0, 0.0),)),
        domain=(-1.0, 1.0),
    )


def _error_function(sign: float, value: Derivative, name: str) -> SmoothFunction:
    peak = sign * 2 / math.sqrt(math.pi)
    slope = Derivative(_scaled(sign, formulas.bell), (0.0, 0.0), ((0.0, peak),), amplified=True)
    curvature = Derivative(
        lambda xp, x: sign * -2.0 * x * formulas.bell(xp, x),
        (0.0, 0.0),
        tuple((x, sign * y) for x, y in _ERF_TURNS),
        amplified=True,
    )
    return _function(name, value, slope, curvature)


def _renamed(name: str, function: ScalarFunction) -> SmoothFunction:
    assert isinstance(function, SmoothFunction)
    return SmoothFunction(name, function.derivatives, function.domain, function.anchor)


_FUNCTIONS: tuple[ScalarFunction, ...] = (
    _function("exp", _EXP, _EXP, _EXP),
    _function("exp2", _exp2(0), _exp2(1), _exp2(2)),
    _function(
        "expm1", Derivative(lambda xp, x: xp.expm1(x), (-1.0, INF), ((0.0, 0.0),)), _EXP, _EXP
    ),
    _logarithm("log", lambda xp, x: xp.log(x), 1.0, 0.0),
    _logarithm("log2", lambda xp, x: xp.log2(x), 1 / math.log(2), 0.0),
    _logarithm("log1p", lambda xp, x: xp.log1p(x), 1.0, -1.0),
    _function(
        "tanh",
        Derivative(lambda xp, x: xp.tanh(x), (-1.0, 1.0), ((0.0, 0.0),)),
        Derivative(formulas.sech2, (0.0, 0.0), ((0.0, 1.0),)),
        Derivative(
            lambda xp, x: -2.0 * xp.tanh(x) * formulas.sech2(xp, x), (0.0, 0.0), _TANH_TURNS
        ),
    ),
    _LOGISTIC,
    SIN,
    COS,
    TAN,
    _asin(
        1.0,
        Derivative(lambda xp, x: xp.arcsin(x), (-math.pi / 2, math.pi / 2), ((0.0, 0.0),)),
        "asin",
    ),
    _asin(-1.0, Derivative(lambda xp, x: xp.arccos(x), (math.pi, 0.0), amplified=True), "acos"),
    _function(
        "atan",
        Derivative(lambda xp, x: xp.arctan(x), (-math.pi / 2, math.pi / 2), ((0.0, 0.0),)),
        Derivative(formulas.lorentz, (0.0, 0.0), ((0.0, 1.0),)),
        Derivative(
            lambda xp, x: -2.0 * (x * formulas.lorentz(xp, x)) * formulas.lorentz(xp, x),
            (0.0, 0.0),
            _odd_turns(1 / math.sqrt(3), -9 / (8 * math.sqrt(3))),
        ),
    ),
    _function("sinh", _SINH, _COSH, _SINH),
    _function("cosh", _COSH, _SINH, _COSH),
    _function(
        "asinh",
        Derivative(lambda xp, x: xp.arcsinh(x), (-INF, INF), ((0.0, 0.0),), amplified=True),
        Derivative(formulas.asinh_slope, (0.0, 0.0), ((0.0, 1.0),)),
        Derivative(
            lambda xp, x: (
                -(x * formulas.asinh_slope(xp, x))
                * formulas.asinh_slope(xp, x)
                * formulas.asinh_slope(xp, x)
            ),
            (0.0, 0.0),
            _odd_turns(math.sqrt(0.5), -2 / (3 * math.sqrt(3))),
        ),
    ),
    _function(
        "acosh",
        Derivative(lambda xp, x: xp.arccosh(x), (0.0, INF), amplified=True),
        Derivative(lambda xp, x: 1.0 / xp.sqrt(x - 1.0) / xp.sqrt(x + 1.0), (INF, 0.0)),
        Derivative(
            lambda xp, x: -(x / (x + 1.0)) / (x - 1.0) / xp.sqrt(x - 1.0) / xp.sqrt(x + 1.0),
            (-INF, 0.0),
        ),
        domain=(1.0, INF),
        anchor=2.0,
    ),
    _function(
        "atanh",
        Derivative(lambda xp, x: xp.arctanh(x), (-INF, INF), ((0.0, 0.0),), amplified=True),
        Derivative(lambda xp, x: 1.0 / ((1.0 - x) * (1.0 + x)), (INF, INF), ((0.0, 1.0),)),
        Derivative(
            lambda xp, x: 2.0 * x / ((1.0 - x) * (1.0 + x)) / ((1.0 - x) * (1.0 + x)),
            (-INF, INF),
            ((0.0, 0.0),),
        ),
        domain=(-1.0, 1.0),
    ),
    _renamed("sqrt", power(0.5)),
    _renamed("rsqrt", power(-0.5)),
    _function(
        "cbrt",
        Derivative(lambda xp, x: xp.cbrt(x), (-INF, INF), ((0.0, 0.0),)),
        Derivative(
            lambda xp, x: 1.0 / (3.0 * xp.cbrt(x) ** 2), (0.0, 0.0), poles=((0.0, INF, INF),)
        ),
        Derivative(
            lambda xp, x: -2.0 / (9.0 * xp.cbrt(x) ** 2 * x), (0.0, 0.0), poles=((0.0, INF, -INF),)
        ),
    ),
    _error_function(1.0, Derivative(formulas.erf, (-1.0, 1.0), ((0.0, 0.0),)), "erf"),
    _error_function(
        -1.0, Derivative(formulas.erfc, (2.0, 0.0), ((0.0, 1.0),), amplified=True), "erfc"
    ),
    _renamed("square", integer_pow(2)),
    _renamed("reciprocal", integer_pow(-1)),
    _function(
        "neg",
        Derivative(lambda xp, x: -x, (INF, -INF), units=0),
        Derivative(lambda xp, x: -1.0 + 0.0 * x, (-1.0, -1.0)),
        Derivative(lambda xp, x: 0.0 * x, (0.0, 0.0)),
    ),
)

FACTS: Mapping[str, ScalarFunction] = MappingProxyType({f.name: f for f in _FUNCTIONS})
"""Facts of every smooth elementwise function of one variable, by primitive name."""
