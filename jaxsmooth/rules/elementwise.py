"""Smooth elementwise equations of one variable, from declared facts, and conversions.

With s = max|φ'| and c = max|φ''| over the range of every element:

    range        [φ] on the interval;  ball around φ(center) of radius max s·radius
    first order  s ⊙ d
    second order c ⊙ a ⊙ b
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth._compat import primitive
from jaxsmooth.math import scalar
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, times, up
from jaxsmooth.math.enclosure import ScalarFunction
from jaxsmooth.math.families import SMOOTH
from jaxsmooth.math.magnitude import (
    Magnitude,
    Response,
    elementwise_response,
    scale,
    unbounded,
)
from jaxsmooth.math.range import Radii, Range, enclose
from jaxsmooth.program.layout import keeps_numbers
from jaxsmooth.rules.registry import Local, Rule, define, on_arrays


def magnitude_of(interval: tuple[Array, Array]) -> Array:
    """Largest absolute value in an interval."""
    lo, hi = interval
    xp = namespace(lo, hi)
    return xp.maximum(abs(lo), abs(hi))


def has_no_bound(x: Array) -> bool:
    """Whether bounds are known to be infinite somewhere."""
    return not is_traced(x) and bool(unbounded(x))


def image(radii: Radii, function: ScalarFunction, x: Range, slope: Array) -> Range:
    """Range of φ(x) with |φ'| <= slope elementwise."""
    lo, hi = function.range(x.lo, x.hi)
    xp = namespace(lo, hi, slope, x.center)
    # The value at the center, with its rounding error.
    below, above = function.range(x.center, x.center)
    center = xp.where(xp.isfinite(below + above), (below + above) / 2, 0.0)
    rounding = norm2(xp.maximum(up(above - center), up(center - below)))
    largest = xp.max(slope, initial=0.0)
    return enclose(
        radii,
        lo,
        hi,
        center,
        up(times(largest, x.gains)),
        up(times(largest, x.rest) + rounding),
        up(norm2(up(times(slope, x.spread))) + rounding),
    )


def leaves_domain(function: ScalarFunction, x: Range) -> bool:
    """Whether x may be where the function is not defined, or not finite."""
    if not hasattr(function, "domain_error"):
        # Facts of a user's own: outside their domain nothing bounds the range.
        lo, hi = function.range(x.lo, x.hi)
        return is_traced(lo, hi) or bool(np.any(np.isinf(lo) & np.isinf(hi)))
    if not np.any(function.domain_error(np.asarray(-np.inf), np.asarray(np.inf))):
        return False
    return is_traced(x.lo, x.hi) or bool(np.any(function.domain_error(x.lo, x.hi)))


class ScalarRule(Rule):
    """A smooth function of one variable, elementwise.

    Args:
      facts: ``facts(eq)`` gives the function.
      variable: which operand its variable is; the others are known.
    """

    def __init__(self, facts: Callable[[Local], ScalarFunction], variable: int = 0):
        self.facts = facts
        self.variable = variable

    def slope(self, eq: Local) -> Array:
        """Largest |φ'| over the range, per element."""
        x = eq.ranges[self.variable]
        return eq.once("slope", lambda: magnitude_of(self.facts(eq).slope(x.lo, x.hi)))

    def curvature(self, eq: Local) -> Array:
        """Largest |φ''| over the range, per element."""
        x = eq.ranges[self.variable]
        return eq.once("curvature", lambda: magnitude_of(self.facts(eq).curvature(x.lo, x.hi)))

    def is_singular(self, eq: Local) -> bool:
        return bool(eq.varies[self.variable]) and has_no_bound(self.curvature(eq))

    def range(self, eq: Local) -> list[Range]:
        return [image(eq.radii, self.facts(eq), eq.ranges[self.variable], self.slope(eq))]

    def leaves_domain(self, eq: Local) -> bool:
        return leaves_domain(self.facts(eq), eq.ranges[self.variable])

    def carries(self, eq: Local) -> bool:
        if len(eq.ranges) > 1 or eq.equation.eqn is None:
            return False
        ends = np.array([-np.inf, np.inf])
        values = on_arrays(lambda x: eq.equation.primitive.bind(x, **eq.params), ends)
        lo, hi = self.facts(eq).range(ends, ends)
        return bool(np.all((lo <= values) & (values <= hi)))

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = magnitudes[self.variable]
        return [None if m is None else scale(m, self.slope(eq))]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        m = magnitudes[self.variable]
        return [None if m is None else elementwise_response(self.curvature(eq), m)]


class IdentityRule(Rule):
    """A conversion between number types."""

    def carries(self, eq: Local) -> bool:
        return True

    def range(self, eq: Local) -> list[Range]:
        source, target = eq.equation.inputs[0].dtype, eq.equation.outputs[0].dtype
        if keeps_numbers(source, target):
            return [eq.ranges[0]]
        if any(eq.varies):
            raise errors.DiscontinuityError(
                f"{eq} turns a number that varies into {target}, which jumps: no continuous "
                "function stays within eps of it. Keep floating point, or make its input known "
                "with jaxsmooth.fixed."
            )
        x = eq.ranges[0]
        xp = namespace(x.lo, x.hi)
        if target == np.bool_:
            lo, hi = xp.zeros(x.shape), xp.ones(x.shape)
        else:
            # What does not fit, or is no number, may become any other number.
            limits = jnp.iinfo(target)
            lo, hi = xp.trunc(x.lo), xp.trunc(x.hi)
            fits = (lo >= limits.min) & (hi <= limits.max) & (not any(eq.undefined))
            lo = xp.where(fits, lo, float(limits.min))
            hi = xp.where(fits, hi, float(limits.max))
        return [enclose(eq.radii, lo, hi, xp.zeros(x.shape), np.zeros(eq.leaves), np.inf)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return list(magnitudes)


# Of bessel_i0e the facts are of positive numbers only.
for _name, _function in SMOOTH.items():
    if primitive(f"{_name}_p") is not None and _name != "bessel_i0e":
        define(ScalarRule(lambda eq, f=_function: f), primitive(f"{_name}_p"))

define(ScalarRule(lambda eq: scalar.integer_pow(eq.params["y"])), p.integer_pow_p)
define(IdentityRule(), p.convert_element_type_p)


def exponent_of(eq: Local) -> float | None:
    """The exponent of a power, where it is one known number."""
    known: Any = eq.known[1]
    if known is None or is_traced(known) or np.size(known) == 0:
        return None
    # In NumPy, for while an outer function is traced JAX gives tracers.
    values = np.asarray(known)
    first = values.reshape(-1)[0]
    return float(first) if np.all(values == first) else None


def is_trivial(exponent: float) -> bool:
    """Whether x^exponent is 1 or x, of which derivatives by JAX are NaN at 0."""
    return exponent in (0.0, 1.0)
