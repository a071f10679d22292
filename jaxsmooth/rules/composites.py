"""Composites with closed forms: logsumexp, softmax, log_softmax, logaddexp.

Along the reduced axes let p = softmax(x) and H = diag(p) - p pᵀ, with ‖p‖₂ <= 1 and
‖H‖₂ <= 1/2 (twice the largest p_i(1 - p_i), Gershgorin). Then

    logsumexp    gradient p,           Hessian H:               ℓ = 1,      L = 1/2
    softmax      Jacobian H:                                    ℓ = 1/2,    L = 1/√2
    log_softmax  Jacobian I - 1 pᵀ, of norm at most √n (the norm is convex in p, so its
                 maximum is at a vertex); entry i has gradient e_i - p of norm <= √2

For the second derivative of softmax, v_i = p_i(α_i β_i - E αβ) with α = a - E a: Σ v_i = 0
gives ‖v‖₂ <= ‖v‖₁/√2, and ‖v‖₁ <= 2 E|αβ| <= 2 (Var a Var b)^½ <= ‖a‖‖b‖, since a variable
with values in an interval of width at most √2‖a‖ has variance at most ‖a‖²/2 (Popoviciu).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth import errors
from jaxsmooth.math.array import Array, gamma, is_traced, namespace, norm2, times, up
from jaxsmooth.math.magnitude import (
    Magnitude,
    Response,
    add,
    crossed,
    elementwise_response,
    scale,
    tighten,
)
from jaxsmooth.math.range import Range, enclose, lipschitz_image, within
from jaxsmooth.math.scalar import FACTS, softplus
from jaxsmooth.program.exponentials import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from jaxsmooth.program.graph import Equation
from jaxsmooth.program.match import LOGADDEXP
from jaxsmooth.rules.elementwise import magnitude_of
from jaxsmooth.rules.registry import Local, Rule, define


def _exponentials(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """(top, exp(x - top)) with top finite."""
    xp = namespace(x)
    top = xp.max(x, axis=axes, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)
    return top, xp.exp(x - top)


def _slack(x: Array, axes: tuple[int, ...]) -> float:
    """Relative error bound of a sum of exponentials over the axes."""
    count = math.prod(np.shape(x)[a] for a in axes)
    return gamma(count + 64, x)


def _logsumexp(x: Array, axes: tuple[int, ...], upper: bool) -> Array:
    """Upper or lower bound of log Σ exp(x), kept dimensions."""
    xp = namespace(x)
    peak = xp.max(x, axis=axes, keepdims=True)
    top, e = _exponentials(x, axes)
    total = xp.sum(e, axis=axes, keepdims=True)
    value = top + xp.log(xp.where(total > 0, total, 1.0))
    error = _slack(x, axes) * (1 + abs(top)) + abs(value) * gamma(32, value)
    value = value + error if upper else value - error
    return xp.where(xp.isfinite(peak), value, peak)


def _log_odds(lo: Array, hi: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Bounds of x_i - log Σ_{j≠i} exp(x_j): the logit of softmax's entry i."""
    xp = namespace(lo, hi)

    def others(x: Array, upper: bool) -> Array:
        top, e = _exponentials(x, axes)
        total = xp.sum(e, axis=axes, keepdims=True)
        slack = _slack(x, axes) * total
        rest = total - e + slack if upper else total - e - slack
        safe = xp.where(rest > 0, rest, 1.0)
        value = top + xp.log(safe)
        error = (1 + abs(value) + abs(top)) * gamma(32, value)
        value = value + error if upper else value - error
        return xp.where(rest > 0, value, -np.inf)

    low, high = lo - others(hi, True), hi - others(lo, False)
    low = xp.where(xp.isnan(low) | (hi == np.inf).any(axes, keepdims=True), -np.inf, low)
    high = xp.where(xp.isnan(high) | (lo == np.inf).any(axes, keepdims=True), np.inf, high)
    return low - abs(low) * gamma(2, low), up(high, 2)


class AlongAxes(Rule):
    """Base of the composites along axes."""

    def axes(self, eq: Local) -> tuple[int, ...]:
        return tuple(eq.params["axes"])

    def count(self, eq: Local) -> int:
        return math.prod(eq.ranges[0].shape[a] for a in self.axes(eq))

    def slice_norms(self, eq: Local, m: Magnitude) -> Array:
        """2-norms of the perturbation along the axes: (N, *shape with kept dimensions)."""
        assert m.entries is not None
        axes = tuple(a + 1 for a in self.axes(eq))
        shape = list(m.entries.shape)
        for a in axes:
            shape[a] = 1
        norms = norm2(m.entries, axes).reshape(shape)
        xp = namespace(norms, m.norm)
        return xp.minimum(norms, m.norm.reshape((-1,) + (1,) * (len(shape) - 1)))

    def peaks(self, eq: Local, m: Magnitude) -> Array:
        """Largest slice norm of each perturbation: (N,)."""
        if m.entries is None:
            return m.norm
        norms = self.slice_norms(eq, m)
        return namespace(norms).max(norms, axis=tuple(range(1, norms.ndim)), initial=0.0)

    def joint(self, eq: Local, m: Magnitude) -> Array | None:
        """Slice norms of all perturbations jointly, kept dimensions."""
        return None if m.entries is None else norm2(self.slice_norms(eq, m), 0)

    def log_odds(self, eq: Local) -> tuple[Array, Array]:
        """Bounds of the logits of softmax's entries."""
        (x,) = eq.ranges
        return eq.once("log odds", lambda: _log_odds(x.lo, x.hi, self.axes(eq)))

    def refuse_empty(self, eq: Local) -> None:
        """Refuse slices of which a mask leaves nothing: softmax is 0/0 there."""
        (x,) = eq.ranges
        if not is_traced(x.hi) and np.any(np.max(x.hi, axis=self.axes(eq)) == -np.inf):
            raise errors.CertificationError(
                f"{eq} divides 0 by 0 where all entries of a slice are -inf. Leave an entry in "
                "every slice, or mask with a large negative number."
            )


def of_slices(eq: Local, kept: Array) -> Array:
    """Numbers of the slices, dimensions kept, in the result's shape; axes before stay."""
    ahead = kept.ndim - len(eq.ranges[0].shape)
    return kept.reshape(kept.shape[:ahead] + tuple(eq.equation.outputs[0].shape))


class LogsumexpRule(AlongAxes):
    """log Σ exp(x) along axes."""

    def range(self, eq: Local) -> list[Range]:
        (x,), axes = eq.ranges, self.axes(eq)
        lo, hi = (_logsumexp(v, axes, u) for v, u in ((x.lo, False), (x.hi, True)))
        below, above = (_logsumexp(x.center, axes, u) for u in (False, True))
        center = (below + above) / 2
        rounding = norm2(up(above - below))
        lo, hi, center = (of_slices(eq, v) for v in (lo, hi, center))
        return [
            enclose(
                eq.radii, lo, hi, center, x.gains, up(x.rest + rounding), up(x.radius + rounding)
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None or m.entries is None:
            return [m]
        largest = namespace(m.entries).max(
            m.entries, axis=tuple(a + 1 for a in self.axes(eq)), keepdims=True
        )
        # Entries are below the largest one in the slice (p is a convex combination).
        return [tighten(of_slices(eq, largest), m.norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        joint = self.joint(eq, m)
        entries = None if joint is None else of_slices(eq, up(0.5 * times(joint, joint), 3))
        totals = up(0.5 * times(m.norm[:, None], m.norm[None, :]), 2)
        return [Response(up(0.5 * crossed(self.peaks(eq, m), m.norm)), entries, totals)]


class SoftmaxRule(AlongAxes):
    """exp(x) / Σ exp(x) along axes."""

    def probabilities(self, eq: Local) -> tuple[Array, Array]:
        """Bounds of p."""

        def compute() -> tuple[Array, Array]:
            return FACTS["logistic"].range(*self.log_odds(eq))

        return eq.once("probabilities", compute)

    def variance(self, eq: Local) -> Array:
        """Upper bound of p(1 - p)."""
        lo, hi = self.probabilities(eq)
        xp = namespace(lo, hi)
        nearest = xp.clip(0.5, lo, hi)
        return up(nearest * (1 - nearest), 4)

    def range(self, eq: Local) -> list[Range]:
        self.refuse_empty(eq)
        (x,), axes = eq.ranges, self.axes(eq)
        lo, hi = self.probabilities(eq)
        xp = namespace(lo, hi)
        lo, hi = xp.maximum(lo, 0.0), xp.minimum(hi, 1.0)
        _, e = _exponentials(x.center, axes)
        center = e / xp.sum(e, axis=axes, keepdims=True)
        rounding = norm2(center * _slack(x.center, axes))
        gains, rest = 0.5 * x.gains, up(0.5 * x.rest + rounding)
        radius = up(0.5 * x.radius + rounding)
        # Every slice has 2-norm at most one.
        whole = up(np.sqrt(center.size / max(1, self.count(eq))), 2)
        return [within(eq.radii, lo, hi, center, gains, rest, radius, whole)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None or m.entries is None:
            return [None if m is None else Magnitude(None, 0.5 * m.norm)]
        # Row i of H is p_i (e_i - p), and ‖e_i - p‖₂ <= √2 (1 - p_i).
        return [tighten(_centred(self, eq, m, self.variance(eq)), 0.5 * m.norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        pairs = up(math.sqrt(0.5) * crossed(self.peaks(eq, m), m.norm), 2)
        joint = self.joint(eq, m)
        totals = up(times(m.norm[:, None], m.norm[None, :]), 2)
        if joint is None:
            return [Response(pairs, None, totals)]
        entries = up(math.sqrt(0.5) * times(joint, joint), 3)
        wide = namespace(entries).broadcast_to(entries, eq.ranges[0].shape)
        return [Response(pairs, wide, totals)]


def _centred(rule: AlongAxes, eq: Local, m: Magnitude, factor: Array) -> Array:
    """Bound of factor_i |a_i - Σ p_j a_j| / (1 - p_i)."""
    xp = namespace(m.entries, factor)
    largest = xp.max(m.entries, axis=tuple(a + 1 for a in rule.axes(eq)), keepdims=True)
    by_norm = up(math.sqrt(2) * rule.slice_norms(eq, m), 2)
    return up(times(factor, xp.minimum(up(m.entries + largest), by_norm)))


class LogSoftmaxRule(AlongAxes):
    """x - log Σ exp(x) along axes."""

    def _log_probabilities(self, eq: Local) -> tuple[Array, Array]:
        # log p = -softplus(-logit).
        low, high = self.log_odds(eq)
        upper, lower = _softplus(-low, True), _softplus(-high, False)
        return -upper, -lower

    def center(self, eq: Local) -> tuple[Array, Array]:
        """log_softmax at the center of the operand, and bounds of its rounding errors."""

        def compute() -> tuple[Array, Array]:
            (x,), axes = eq.ranges, self.axes(eq)
            below, above = (_logsumexp(x.center, axes, u) for u in (False, True))
            center = x.center - (below + above) / 2
            return center, up(above - below) + (abs(center) + abs(below)) * gamma(4, center)

        return eq.once("center", compute)

    def others(self, eq: Local) -> Array:
        """Upper bound of 1 - p."""

        def compute() -> Array:
            low, _ = self.log_odds(eq)
            _, most = FACTS["logistic"].range(-low, -low)
            return namespace(most).minimum(most, 1.0)

        return eq.once("others", compute)

    def range(self, eq: Local) -> list[Range]:
        self.refuse_empty(eq)
        (x,) = eq.ranges
        lo, hi = self._log_probabilities(eq)
        center, error = self.center(eq)
        rounding = norm2(error)
        factor = up(math.sqrt(self.count(eq)))
        return [lipschitz_image(eq.radii, x, factor, lo, hi, center, rounding)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        norm = up(math.sqrt(self.count(eq)) * m.norm, 2)
        if m.entries is None:
            return [Magnitude(None, norm)]
        return [tighten(_centred(self, eq, m, self.others(eq)), norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        (m,) = magnitudes
        if m is None:
            return [None]
        factor = 0.5 * math.sqrt(self.count(eq))
        pairs = up(factor * crossed(self.peaks(eq, m), m.norm), 3)
        joint = self.joint(eq, m)
        if joint is None:
            return [Response(pairs, None)]
        entries = up(0.5 * times(joint, joint), 3)
        return [Response(pairs, namespace(entries).broadcast_to(entries, eq.ranges[0].shape))]


class OfLogSoftmax(Rule):
    """Base of what is made of log_softmax(x), with further operands that do not vary."""

    def __init__(self) -> None:
        self.whole = LogSoftmaxRule()

    def inner(self, eq: Local) -> Local:
        """The equation as one of x."""
        return eq.once("inner", lambda: eq.view(eq.ranges[:1], (0,)))

    def made(self, equation: Equation, logarithms: Any, *others: Any) -> Any:
        """The result of the equation."""
        raise NotImplementedError

    def in_place_of(self, equation: Equation) -> Callable[..., Any] | None:
        # The logarithm of a probability that is 0 in its type has no derivative.
        if "fraction" not in equation.params:
            return None
        (result,), axes = equation.outputs, equation.params["axes"]

        def compute(x: Any, *others: Any) -> Any:
            # The logarithm of a short fraction has a smaller rounding error than a short logarithm.
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            logarithms = jax.nn.log_softmax(wide, axes)
            return self.made(equation, logarithms, *others).astype(result.dtype)

        return compute


def _softplus(x: Array, upper: bool) -> Array:
    lo, hi = softplus().range(x, x)
    return hi if upper else lo


class LogaddexpRule(Rule):
    """log(exp(x) + exp(y)) elementwise: slopes (σ, 1 - σ) with σ = logistic(x - y)."""

    def in_place_of(self, equation: Equation) -> Callable[..., Any]:
        # Derivatives of max(x, y) + log1p(exp(-|x - y|)) are wrong where x = y.
        return lambda x, y: jnp.logaddexp(x, y).astype(equation.outputs[0].dtype)

    def weights(self, eq: Local) -> tuple[Array, Array, Array]:
        """Upper bounds of σ, 1 - σ and σ(1 - σ)."""

        def compute() -> tuple[Array, Array, Array]:
            x, y = eq.ranges
            xp = namespace(x.lo, y.lo)
            lo, hi = x.lo - y.hi, x.hi - y.lo
            lo = xp.where(xp.isfinite(lo), lo - abs(lo) * gamma(1, lo), lo)
            hi = xp.where(xp.isfinite(hi), hi + abs(hi) * gamma(1, hi), hi)
            lo, hi = xp.where(xp.isnan(lo), -np.inf, lo), xp.where(xp.isnan(hi), np.inf, hi)
            logistic = FACTS["logistic"]
            low, high = logistic.range(lo, hi)
            return high, up(1 - low), magnitude_of(logistic.slope(lo, hi))

        return eq.once("weights", compute)

    def range(self, eq: Local) -> list[Range]:
        x, y = eq.ranges
        xp = namespace(x.lo, y.lo, x.center, y.center)

        def bound(a: Array, b: Array, upper: bool) -> Array:
            top, low = xp.maximum(a, b), xp.minimum(a, b)
            gap = xp.where(xp.isfinite(top) & xp.isfinite(low), low - top, -np.inf)
            value = _softplus(gap, upper)
            total = xp.where(xp.isfinite(top), top, 0.0) + value
            error = abs(total) * gamma(4, total)
            total = total + error if upper else total - error
            return xp.where(xp.isfinite(top), total, top)

        below, above = (bound(x.center, y.center, u) for u in (False, True))
        rounding = norm2(up(above - below))
        sigma, other, _ = self.weights(eq)
        a, b = xp.max(sigma, initial=0.0), xp.max(other, initial=0.0)
        return [
            enclose(
                eq.radii,
                bound(x.lo, y.lo, False),
                bound(x.hi, y.hi, True),
                (below + above) / 2,
                up(times(a, x.gains) + times(b, y.gains), 2),
                up(times(a, x.rest) + times(b, y.rest) + rounding, 3),
                up(times(a, x.radius) + times(b, y.radius) + rounding, 3),
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        a, b = magnitudes
        sigma, other, _ = self.weights(eq)
        return [add(None if a is None else scale(a, sigma), None if b is None else scale(b, other))]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        change = add(*magnitudes)
        return [None if change is None else elementwise_response(self.weights(eq)[2], change)]


define(LogsumexpRule(), LOGSUMEXP)
define(SoftmaxRule(), SOFTMAX)
define(LogSoftmaxRule(), LOG_SOFTMAX)
define(LogaddexpRule(), LOGADDEXP)
