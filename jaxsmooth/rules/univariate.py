"""Recognised functions of one variable: leaky_relu, elu, silu, a user's own ``where``.

φ is smoothed by adding Σ_j J_j (relu_ν - relu)(x - b_j) over its kinks b_j with jumps J_j.
With the kernel's error in [lower, upper]·ν that is within μ for ν = μ/S,
S = max(Σ_j max(J_j lower, J_j upper), -Σ_j min(J_j lower, J_j upper)), and adds curvature of
at most (K/ν) max(Σ J⁺, Σ J⁻), since convex and concave corrections do not add.

Where the pieces are straight, slopes of the smoothed function are convex combinations of
φ's own. Where they are curved, they can leave φ's slopes by part of the jumps: relu_ν' is off
the step by h in [0, 1/2] before a kink, and by -h after it (1 in place of 1/2 for kernels that
err on one side), so that on every piece the slopes are φ' + Σ_j ±J_j h_j.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.math.array import Array, concretely, down, is_traced, namespace, up
from jaxsmooth.math.kernels import Kernel
from jaxsmooth.math.magnitude import Magnitude, Response, elementwise_response, scale
from jaxsmooth.math.piecewise import Piecewise, Seam, piecewise
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.math.rounding import NEGLIGIBLE
from jaxsmooth.math.univariate import COMPARISONS, Operation, Univariate
from jaxsmooth.program.graph import Equation
from jaxsmooth.program.steps import UNIVARIATE
from jaxsmooth.rules.elementwise import (
    has_no_bound,
    image,
    is_trivial,
    leaves_domain,
    magnitude_of,
)
from jaxsmooth.rules.registry import KinkRule, Local, Site, define

_FIXED = {p.bessel_i0e_p: (Operation("abs", (0,)), Operation("bessel_i0e", (1,)))}
"""Steps of primitives that are functions of one variable with kinks."""


_HALF = 2.0**-16
"""Between the rounding of half precision and that of single precision."""


def _steps(equation: Equation) -> tuple[Operation, ...]:
    if equation.primitive in _FIXED:
        return _FIXED[equation.primitive]
    return tuple(Operation(*step) for step in equation.params["steps"])


def _function(equation: Equation) -> Piecewise:
    # Not cached by the steps themselves: Python holds the constant 1.0 equal to value 1.
    steps = _steps(equation)
    eps = float(jnp.finfo(equation.outputs[0].dtype).eps)
    # Half precision has constants that were rounded once, and not the results of others.
    rounding = (8 if eps < _HALF else 2) * eps
    return piecewise(Univariate(steps, len(steps)), max(NEGLIGIBLE, rounding))


def _evaluate(function: Piecewise, value: Any) -> Any:
    """φ without the custom derivatives of its parts, whose value at a kink is their own.

    Args:
      function: φ.
      value: the variable, behind an optimization barrier: slopes of parts and of corrections
        jump at kinks, and cancel if all of them read one number. Without it, compilers may
        form the variable twice, and round it in two ways.
    """
    return jax.jit(function.evaluate)(value).astype(value.dtype)


def _working(equation: Equation, value: Any) -> Any:
    """The variable, behind a barrier, in a type that holds both it and the result.

    Conversions between the two are steps of the function like others.
    """
    value = jax.lax.optimization_barrier(value)
    return value.astype(jnp.promote_types(value.dtype, equation.outputs[0].dtype))


def is_located(region: Equation) -> bool:
    """Whether all kinks of a region could be found."""
    return _function(region).located


def is_smooth(region: Equation) -> bool:
    """Whether a region was looked at everywhere, and has neither kinks nor jumps."""
    function = _function(region)
    return function.located and not function.joints.kinks and not function.discontinuities


# How far beyond a kink its other side is looked at, in single precision too.
_ASIDE = 2.0**-20


def _before(kink: Seam) -> float:
    return kink.location - kink.width - _ASIDE * max(abs(kink.location), _ASIDE)


def _beyond(kink: Seam) -> float:
    return kink.location + kink.width + _ASIDE * max(abs(kink.location), _ASIDE)


def _until(kink: Seam) -> tuple[float, float]:
    """A short interval that ends at the kink."""
    return _before(kink), kink.location - kink.width


def _after(kink: Seam) -> tuple[float, float]:
    """A short interval that begins at the kink."""
    return kink.location + kink.width, _beyond(kink)


_BENT = COMPARISONS | {"max", "min", "abs", "sign", "clamp", "softplus"}
"""Operations that are not differentiable everywhere, or may be written with such ones."""

_UNDEFINED = {"igamma", "igammac", "regularized_incomplete_beta"}
"""Smooth operations of which derivatives by JAX take the logarithm of 0."""


def _doubtful(step: Operation) -> bool:
    """Whether JAX's derivatives of a step may be wrong somewhere."""
    trivial = step.name == "pow" and is_trivial(step.parameters[0])
    return step.name in _BENT or step.name in _UNDEFINED or trivial


@functools.lru_cache(maxsize=1024)
def _tie(function: Piecewise, kink: Seam) -> float:
    """Where JAX's derivative at the kink is: 0 at the left derivative, 1 at the right one.

    It need not be between the two: parts of the function have derivatives of their own.
    """
    with concretely():
        at = float(jax.grad(function.evaluate)(jnp.asarray(kink.location, jnp.float64)))
    fraction = (at - kink.slopes[0]) / kink.jump
    return fraction if np.isfinite(fraction) else 1.0


class UnivariateRule(KinkRule):
    """A scalar function, elementwise."""

    def function(self, eq: Local) -> Piecewise:
        return eq.always("function", lambda: _function(eq.equation))

    def has_kinks(self, equation: Equation) -> bool:
        return bool(_function(equation).joints.kinks)

    def in_place_of(self, equation: Equation) -> Any:
        # Kinks of the parts may cancel, but custom derivatives at them need not: relu(x) -
        # relu(-x) has slope 1 at 0, where jax.nn.relu has 0.
        # What is written with exp may overflow in derivatives, though it does not itself.
        restated = "restated" in equation.params
        if not (restated or any(map(_doubtful, _steps(equation)))):
            return None
        function, (result,) = _function(equation), equation.outputs
        return lambda value: _evaluate(function, _working(equation, value)).astype(result.dtype)

    def kinks(self, eq: Local) -> tuple[Seam, ...]:
        """Kinks in the hull of the variable's range."""

        def compute() -> tuple[Seam, ...]:
            (x,) = eq.ranges
            lo, hi = -np.inf, np.inf
            if not is_traced(x.lo, x.hi) and np.size(x.lo):
                lo, hi = float(np.min(x.lo)), float(np.max(x.hi))
            self._check_jumps(eq, lo, hi)
            return self.function(eq).kinks_within(lo, hi)

        return eq.once("kinks", compute)

    def _check_jumps(self, eq: Local, lo: float, hi: float) -> None:
        for jump in self.function(eq).discontinuities:
            if lo <= jump.location <= hi:
                raise errors.DiscontinuityError(
                    f"{eq} ends a function of one variable that {jump}: no continuous "
                    "function stays within eps of it. Make the branches meet there, "
                    "or give bounds that exclude that point. To differentiate a smoothed "
                    "function, smooth before you differentiate: "
                    "jax.grad(jaxsmooth.smooth(f, ...))."
                )

    def slope(self, eq: Local) -> Array:
        """Largest |slope| of φ and of its smoothed versions."""
        return eq.once("slope", lambda: self._slope(eq))

    def _slope(self, eq: Local) -> Array:
        (x,), function, kinks = eq.ranges, self.function(eq), self.kinks(eq)
        if not kinks or eq.kernel is None:
            return magnitude_of(function.slope(x.lo, x.hi))
        if self._straight(eq):
            # An active element feels the transitions at all kinks, not only those it reaches,
            # and at each of them the slopes of both sides, also where its range ends there.
            active = self.active(eq)
            xp = namespace(active, x.lo)
            first, last = _before(kinks[0]), _beyond(kinks[-1])
            lo = xp.where(active, xp.minimum(x.lo, first), x.lo)
            hi = xp.where(active, xp.maximum(x.hi, last), x.hi)
            return magnitude_of(function.slope(lo, hi))
        return self._curved(eq)

    def _curved(self, eq: Local) -> Array:
        """Largest |slope| of smoothed versions, piece by piece."""
        (x,), function, kinks, active = (
            eq.ranges,
            self.function(eq),
            self.kinks(eq),
            self.active(eq),
        )
        assert eq.kernel is not None
        xp = namespace(active, x.lo)
        # How far relu_ν' is from the step: a half, but for kernels that err on one side.
        over = 0.5 if eq.kernel.lower + eq.kernel.upper >= 0 else 1.0
        found = magnitude_of(function.slope(x.lo, x.hi))
        largest = up(found + over * sum(abs(k.jump) for k in kinks), len(kinks) + 2)
        by_piece = found
        for i in range(len(kinks) + 1):
            # An active element feels the transitions at all kinks, not only those it reaches.
            pushes = [-k.jump for k in kinks[:i]] + [k.jump for k in kinks[i:]]
            below = over * sum(min(push, 0.0) for push in pushes)
            above = over * sum(max(push, 0.0) for push in pushes)
            lo, hi, parts = x.lo, x.hi, []
            if i > 0:
                lo = xp.maximum(lo, kinks[i - 1].location + kinks[i - 1].width)
                parts.append((_after(kinks[i - 1]), self._reaches(x, kinks[i - 1])))
            if i < len(kinks):
                hi = xp.minimum(hi, kinks[i].location - kinks[i].width)
                parts.append((_until(kinks[i]), self._reaches(x, kinks[i])))
            parts.append(((xp.minimum(lo, hi), hi), lo <= hi))
            for (first, last), there in parts:
                low, high = function.slope(first, last)
                low, high = low + below, high + above
                size = up(xp.maximum(abs(low), abs(high)), len(kinks) + 4)
                by_piece = xp.where(there, xp.maximum(by_piece, size), by_piece)
        return xp.where(active, xp.minimum(by_piece, largest), found)

    def _reaches(self, x: Range, kink: Seam) -> Array:
        """Which elements can reach a kink."""
        return (x.lo <= kink.location + kink.width) & (x.hi >= kink.location - kink.width)

    def active(self, eq: Local) -> Array:
        """Which elements can reach a kink."""
        (x,) = eq.ranges
        active = namespace(x.lo, x.hi).zeros(x.shape, bool)
        for k in self.kinks(eq):
            active = active | self._reaches(x, k)
        return active

    def _straight(self, eq: Local) -> bool:
        """Whether all pieces in the hull of the range are straight."""
        (x,) = eq.ranges
        if is_traced(x.lo, x.hi) or not np.size(x.lo):
            return False
        curvature = self.function(eq).curvature(np.min(x.lo), np.max(x.hi))
        return not np.any(magnitude_of(curvature) > 0)

    def curvature(self, eq: Local) -> Array:
        """Largest |φ''| away from the kinks."""
        (x,) = eq.ranges
        return eq.once("curvature", lambda: magnitude_of(self.function(eq).curvature(x.lo, x.hi)))

    def is_singular(self, eq: Local) -> bool:
        return any(eq.varies) and has_no_bound(self.curvature(eq))

    def range(self, eq: Local) -> list[Range]:
        self.kinks(eq)
        found = image(eq.radii, self.function(eq), eq.ranges[0], self.slope(eq))
        return [self._with_exceptions(eq, found) if any((*eq.undefined, *eq.infinite)) else found]

    def _exceptions(self, eq: Local) -> tuple[float, ...]:
        """Values at -∞, ∞ and at what is no number."""
        points = np.array([-np.inf, np.inf, np.nan])
        return tuple(self.function(eq).program.evaluate(points).tolist())

    def _with_exceptions(self, eq: Local, found: Range) -> Range:
        """The range where the variable may be infinite, or no number."""
        (x,) = eq.ranges
        xp = namespace(x.lo, x.hi, found.lo, found.hi)
        certain = xp.isinf(x.lo) & (x.lo == x.hi) & (not any(eq.undefined))
        lo, hi = xp.where(certain, np.inf, found.lo), xp.where(certain, -np.inf, found.hi)
        where = (x.lo == -np.inf, x.hi == np.inf, any(eq.undefined))
        for value, at in zip(self._exceptions(eq), where, strict=True):
            if not np.isnan(value):
                lo = xp.where(at, xp.minimum(lo, down(value, 64)), lo)
                hi = xp.where(at, xp.maximum(hi, up(value, 64)), hi)
        # Of what is no number either way nothing is known.
        lo, hi = xp.where(lo > hi, -np.inf, lo), xp.where(lo > hi, np.inf, hi)
        return enclose(eq.radii, lo, hi, found.center, np.zeros(eq.leaves), np.inf)

    def carries(self, eq: Local) -> bool:
        return not np.isnan(self._exceptions(eq)[:2]).any()

    def leaves_domain(self, eq: Local) -> bool:
        return leaves_domain(self.function(eq), eq.ranges[0])

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        return [None if m is None else scale(m, self.slope(eq))]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None or self._straight(eq):
            return [None]
        return [elementwise_response(self.curvature(eq), m)]

    def site(self, eq: Local, kernel: Kernel, magnitudes: Sequence[Magnitude | None]) -> Site:
        (x,), (m,) = eq.ranges, magnitudes
        assert m is not None
        kinks = self.kinks(eq)
        active = self.active(eq)
        xp = namespace(active)
        ends = [sorted((k.jump * kernel.lower, k.jump * kernel.upper)) for k in kinks]
        lowest, highest = (float(sum(e[i] for e in ends)) for i in (0, 1))
        size = max(highest, -lowest) or 1.0
        convex = sum(max(k.jump, 0.0) for k in kinks)
        concave = sum(max(-k.jump, 0.0) for k in kinks)
        curvature = up(kernel.smoothness * size * max(convex, concave), len(kinks) + 4)
        function = self.function(eq)

        def compute(mu: Array, value: Any) -> Any:
            value = _working(eq.equation, value)
            result = _evaluate(function, value)
            for k in kinks:
                tie = _tie(function, k)
                distance = value - np.asarray(k.location, value.dtype)
                correction = kernel.correction(distance, mu / size, tie)
                result = result + np.asarray(k.jump, value.dtype) * correction
            return result.astype(eq.equation.outputs[0].dtype)

        return Site(
            active,
            lowest / size,
            highest / size,
            elementwise_response(xp.where(active, curvature, 0.0), m),
            eq.equation.inputs,
            compute,
            (x.lo, x.hi),
            kernel.name,
            size,
        )


define(UnivariateRule(), UNIVARIATE, *_FIXED)
