"""Smooth functions of one variable by the name of their primitive, with known parameters.

x^y with a known exponent, or P(a, x) with a known parameter, is a function of x. Where entries
of an array have parameters of their own, each has a function of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxsmooth.math.array import Array, namespace
from jaxsmooth.math.bessel import BESSEL
from jaxsmooth.math.enclosure import Interval, ScalarFunction
from jaxsmooth.math.incomplete import incomplete_beta, incomplete_gamma
from jaxsmooth.math.scalar import FACTS, integer_pow, power, softplus
from jaxsmooth.math.special import SPECIAL, polygamma, zeta

Parameters = tuple[float, ...]

SMOOTH: Mapping[str, ScalarFunction] = MappingProxyType(
    {**{n: f for n, f in FACTS.items() if n != "neg"}, **SPECIAL, **BESSEL, "softplus": softplus()}
)
"""Facts of the functions without parameters."""


def _finite(*numbers: float) -> bool:
    return all(map(math.isfinite, numbers))


# Whether parameters are allowed, and the function that has them.
_FAMILIES: Mapping[str, tuple[Callable[..., bool], Callable[..., ScalarFunction]]] = {
    "integer_pow": (lambda n: True, lambda n: integer_pow(int(n))),
    "pow": (_finite, power),
    "igamma": (lambda a: _finite(a) and a > 0, incomplete_gamma),
    "igammac": (lambda a: _finite(a) and a > 0, partial(incomplete_gamma, upper=True)),
    "regularized_incomplete_beta": (
        lambda a, b: _finite(a, b) and min(a, b) > 0,
        incomplete_beta,
    ),
    "polygamma": (
        lambda n: _finite(n) and n >= 0 and float(n).is_integer(),
        lambda n: polygamma(int(n)),
    ),
    "zeta": (lambda s: _finite(s) and s > 1, zeta),
}


def smooth_function(name: str, parameters: Parameters = ()) -> ScalarFunction | None:
    """The function of one variable that a primitive is; None if there are no facts of one.

    Args:
      name: of the primitive.
      parameters: its other operands, in order, or its exponent.

    Example:
        >>> lo, hi = smooth_function("pow", (2.0,)).range(0.0, 3.0)
        >>> print(round(float(hi), 9))
        9.0
    """
    if name not in _FAMILIES:
        return None if parameters else SMOOTH.get(name)
    allowed, function = _FAMILIES[name]
    return function(*parameters) if parameters and allowed(*parameters) else None


@dataclass(frozen=True, eq=False)
class Entrywise:
    """A `ScalarFunction` whose entries are functions of their own.

    Attributes:
      functions: of which there are.
      which: for every entry, the index of its function.
    """

    functions: Sequence[ScalarFunction]
    which: np.ndarray

    @property
    def name(self) -> str:
        """Names of all functions."""
        return ", ".join(f.name for f in self.functions)

    def evaluate(self, x: Array) -> Array:
        """The values, each of its function."""
        (found,) = self._merged(lambda f: (f.evaluate(x),))
        return found

    def range(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of the values."""
        low, high = self._merged(lambda f: f.range(lo, hi))
        return low, high

    def slope(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of the derivatives."""
        low, high = self._merged(lambda f: f.slope(lo, hi))
        return low, high

    def curvature(self, lo: Array, hi: Array) -> Interval:
        """Enclosure of the second derivatives."""
        low, high = self._merged(lambda f: f.curvature(lo, hi))
        return low, high

    def domain_error(self, lo: Array, hi: Array) -> Array:
        """Where an interval leaves its function's domain."""
        (found,) = self._merged(lambda f: (f.domain_error(lo, hi),))
        return found

    def _merged(self, results: Callable[[ScalarFunction], tuple[Any, ...]]) -> tuple[Any, ...]:
        merged = results(self.functions[0])
        for number, function in enumerate(self.functions[1:], start=1):
            pairs = zip(merged, results(function), strict=True)
            here = self.which == number
            merged = tuple(namespace(a, b).where(here, b, a) for a, b in pairs)
        return merged


def entrywise(name: str, parameters: Sequence[np.ndarray]) -> ScalarFunction | None:
    """The function that has these parameters at every entry; None if there are no facts of one.

    Args:
      name: of the primitive.
      parameters: arrays of numbers, of one shape.
    """
    columns = [np.ravel(np.asarray(x, np.float64)) for x in parameters]
    rows, which = np.unique(np.stack(columns, axis=-1), axis=0, return_inverse=True)
    functions = [smooth_function(name, tuple(map(float, row))) for row in rows]
    found = [f for f in functions if f is not None]
    if not found or len(found) < len(functions):
        return None
    return found[0] if len(found) == 1 else Entrywise(found, which.reshape(parameters[0].shape))
