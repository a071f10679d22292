"""Equations with discrete results: comparisons, logic, rounding, and what selects by them.

A comparison that its operands' ranges decide is a known number. One that does not change
with the arguments (data, labels) gives the same result in f and in f_eps and may be
undecided. Any other jumps, and no continuous function stays within eps of a jump.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth._compat import primitive
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, times, up
from jaxsmooth.math.magnitude import Magnitude, add, scale, tighten
from jaxsmooth.math.range import Range, enclose, within_type
from jaxsmooth.rules.registry import Local, Rule, define

NO_NUMBER = (
    "What it reads may be no number, or infinite, as log(x) is where x is not positive, and what "
    "is too large for its type. Give bounds that exclude that."
)

Decision = Callable[[Range, Range], tuple[Array, Array]]
"""(surely true, surely false) of a comparison of two ranges."""


class DiscreteRule(Rule):
    """Base: refuses results that jump as the arguments change.

    Args:
      way_out: what the user can do instead.
    """

    def __init__(self, way_out: str):
        self.way_out = way_out

    def carries(self, eq: Local) -> bool:
        return True

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        """(lo, hi) of the result."""
        shape = eq.equation.outputs[0].shape
        return np.full(shape, -np.inf), np.full(shape, np.inf)

    def _enclosure(self, eq: Local) -> tuple[Array, Array]:
        """(lo, hi) of the result; nothing is known of what is computed from no number."""
        return DiscreteRule.enclosure(self, eq) if any(eq.undefined) else self.enclosure(eq)

    def range(self, eq: Local) -> list[Range]:
        lo, hi = self._enclosure(eq)
        decided = namespace(lo, hi) is np and bool(np.all(lo == hi))
        if not decided and any(eq.varies):
            way_out = NO_NUMBER if any((*eq.undefined, *eq.infinite)) else self.way_out
            raise errors.DiscontinuityError(
                f"{eq} jumps as its inputs vary: no continuous function stays within eps of it. "
                + way_out
            )
        zeros = np.zeros(eq.leaves)
        center = np.where(np.isfinite(lo), lo, 0.0) if decided else np.zeros(np.shape(lo))
        rest = 0.0 if decided else norm2(namespace(lo, hi).maximum(abs(lo), abs(hi)))
        return [enclose(eq.radii, lo, hi, center, zeros, rest)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        return [None] * len(eq.equation.outputs)


class ComparisonRule(DiscreteRule):
    """A comparison of two operands."""

    def __init__(self, decide: Decision, of_itself: bool):
        super().__init__(
            "Use jnp.maximum, jnp.clip or jax.nn functions instead of comparing and selecting, "
            "make sure that the branches of jnp.where meet, or make the inputs known with "
            "jaxsmooth.fixed. To differentiate a smoothed function, smooth before you "
            "differentiate: jax.grad(jaxsmooth.smooth(f, ...))."
        )
        self.decide = decide
        self.of_itself = of_itself

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        shape = eq.equation.outputs[0].shape
        first, second = eq.equation.inputs
        if first is second:
            value = np.full(shape, float(self.of_itself))
            return value, value
        true, false = self.decide(*(_overflowing(eq, i) for i in range(len(eq.ranges))))
        xp = namespace(true, false)
        lo, hi = xp.where(true, 1.0, 0.0), xp.where(false, 0.0, 1.0)
        return xp.broadcast_to(lo, shape), xp.broadcast_to(hi, shape)


def _overflowing(eq: Local, operand: int) -> Range:
    """The operand's range, with infinities where it may leave the numbers of its type."""
    r = eq.ranges[operand]
    if not any(eq.infinite[operand : operand + 1]):
        return r
    xp = namespace(r.lo, r.hi)
    below, above = within_type(r, eq.equation.inputs[operand].dtype)
    return replace(r, lo=xp.where(below, r.lo, -np.inf), hi=xp.where(above, r.hi, np.inf))


class FiniteRule(DiscreteRule):
    """is_finite: numbers are, also those without bounds."""

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        (x,) = eq.ranges
        xp = namespace(x.lo, x.hi)
        if not any(eq.infinite):
            return xp.ones(x.shape), xp.ones(x.shape)
        below, above = within_type(x, eq.equation.inputs[0].dtype)
        bounded = below & above
        certain = xp.isinf(x.lo) & (x.lo == x.hi)
        return xp.where(bounded, 1.0, 0.0), xp.where(certain, 0.0, 1.0)


class LogicRule(DiscreteRule):
    """and, or, xor, not on booleans."""

    def __init__(self, apply: Callable[..., Any]):
        super().__init__("Avoid conditions on inputs that vary.")
        self.apply = apply

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        if eq.equation.outputs[0].dtype != np.bool_:
            return self.on_integers(eq)
        if namespace(*(r.lo for r in eq.ranges)) is not np:
            shape = eq.equation.outputs[0].shape
            return np.zeros(shape), np.ones(shape)
        corners = [
            self.apply(*(v > 0.5 for v in corner))
            for corner in _corners([(r.lo, r.hi) for r in eq.ranges])
        ]
        return (
            np.min(np.stack(corners), axis=0).astype(float),
            np.max(np.stack(corners), axis=0).astype(float),
        )

    def on_integers(self, eq: Local) -> tuple[Array, Array]:
        """Bounds of the bits; of results on negative numbers nothing is known."""
        name = eq.equation.primitive.name
        xp = namespace(*(side for r in eq.ranges for side in (r.lo, r.hi)))
        if xp is not np or name not in ("and", "or") or any(np.any(r.lo < 0) for r in eq.ranges):
            return super().enclosure(eq)
        x, y = eq.ranges
        if name == "and":
            return np.zeros(x.shape), np.minimum(x.hi, y.hi)
        return np.maximum(x.lo, y.lo), x.hi + y.hi


class LogicReductionRule(DiscreteRule):
    """reduce_and, reduce_or, reduce_xor on booleans."""

    def __init__(self, apply: Callable[..., Any]):
        super().__init__("Avoid conditions on inputs that vary.")
        self.apply = apply

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        (x,) = eq.ranges
        shape, axes = eq.equation.outputs[0].shape, tuple(eq.params["axes"])
        if eq.equation.outputs[0].dtype != np.bool_ or namespace(x.lo, x.hi) is not np:
            return super().enclosure(eq)
        if self.apply is np.logical_xor and not np.all(x.lo == x.hi):
            return np.zeros(shape), np.ones(shape)
        lo, hi = (self.apply.reduce(side > 0.5, axis=axes) for side in (x.lo, x.hi))
        return lo.astype(float), hi.astype(float)


class ShiftRule(DiscreteRule):
    """shift_right_logical of numbers that are not negative, by a known number of bits."""

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        x, by = eq.ranges
        if namespace(x.lo, x.hi, by.lo) is not np or np.any(x.lo < 0) or np.any(by.lo != by.hi):
            return super().enclosure(eq)
        return np.floor(x.lo / 2.0**by.lo), np.floor(x.hi / 2.0**by.lo)


class RemainderRule(DiscreteRule):
    """rem: x - y·trunc(x/y), with slope one in x where the quotient is certain."""

    def _certain(self, eq: Local) -> Array | None:
        """y·trunc(x/y), where the divisor is known and the quotient certain; else None."""
        x, y = eq.ranges
        if namespace(x.lo, x.hi, y.lo, y.hi) is not np or np.any((y.lo != y.hi) | (y.lo == 0)):
            return None
        # A quotient next to an integer may round to either side.
        ends = [np.trunc(side / abs(y.lo) * (1 + e)) for side in (x.lo, x.hi)
                for e in (-1e-15, 1e-15)]  # fmt: skip
        same = all(np.all(e == ends[0]) for e in ends)
        return ends[0] * abs(y.lo) if same else None

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        x, y = eq.ranges
        xp = namespace(x.lo, x.hi, y.lo, y.hi)
        largest = xp.minimum(y.absmax, x.absmax)
        return xp.where(x.lo >= 0, 0.0, -largest), xp.where(x.hi <= 0, 0.0, largest)

    def range(self, eq: Local) -> list[Range]:
        quotient = self._certain(eq)
        if quotient is None or any(eq.undefined):
            return super().range(eq)
        x = eq.ranges[0]
        shift = up(abs(quotient) * 2.0**-52)
        lo, hi = x.lo - quotient - shift, x.hi - quotient + shift
        return [enclose(eq.radii, lo, hi, x.center - quotient, x.gains, up(x.rest + norm2(shift)),
                        up(x.radius + norm2(shift)))]  # fmt: skip

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        product = self._certain(eq)
        if product is None:
            return [None]
        # A set of one divisor may be one that derivatives are taken in.
        dividend, divisor = magnitudes
        quotient = up(abs(product) / abs(eq.ranges[1].lo), 2)
        return [add(dividend, None if divisor is None else scale(divisor, quotient))]


def _corners(bounds: Sequence[tuple[Array, Array]]) -> list[list[Array]]:
    corners: list[list[Array]] = [[]]
    for lo, hi in bounds:
        corners = [[*c, v] for c in corners for v in (lo, hi)]
    return corners


class SignRule(DiscreteRule):
    """sign, decided where the range does not include 0."""

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        (x,) = eq.ranges
        xp = namespace(x.lo, x.hi)
        return xp.sign(x.lo), xp.sign(x.hi)


class RoundingRule(DiscreteRule):
    """floor, ceil, round: monotone.

    Args:
      apply: ``apply(xp, x, params)`` rounds x.
    """

    def __init__(self, apply: Callable[[Any, Array, Mapping[str, Any]], Array]):
        super().__init__(
            "Rounding has no smooth approximation; drop it, or make its input known with "
            "jaxsmooth.fixed."
        )
        self.apply = apply

    def enclosure(self, eq: Local) -> tuple[Array, Array]:
        (x,) = eq.ranges
        xp = namespace(x.lo, x.hi)
        return self.apply(xp, x.lo, eq.params), self.apply(xp, x.hi, eq.params)


def _rounded(xp: Any, x: Array, params: Mapping[str, Any]) -> Array:
    """The nearest whole number; of two, the even one or the one away from zero."""
    if params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN:
        return xp.round(x)
    whole = xp.trunc(x)
    # Of infinities there is no rest.
    rest = xp.where(xp.isfinite(x), x, 0.0) - xp.where(xp.isfinite(x), whole, 0.0)
    return whole + xp.where(abs(rest) >= 0.5, xp.sign(rest), 0.0)


class SelectRule(Rule):
    """select_n(which, *cases) where ``which`` does not change with the arguments."""

    def carries(self, eq: Local) -> bool:
        return True

    def reads(self, eq: Local) -> Sequence[bool]:
        # Of traced conditions each may be true.
        return [True, *(is_traced(p) or bool(np.any(p)) for p in self.possible(eq))]

    def possible(self, eq: Local) -> list[Array]:
        """Where each case may be the one selected."""

        def compute() -> list[Array]:
            which = eq.ranges[0]
            shape = eq.equation.outputs[0].shape
            xp = namespace(which.lo, which.hi)
            lo, hi = (xp.broadcast_to(a, shape) for a in (which.lo, which.hi))
            return [(lo <= i) & (hi >= i) for i in range(len(eq.ranges) - 1)]

        return eq.once("possible", compute)

    def range(self, eq: Local) -> list[Range]:
        possible, cases = self.possible(eq), eq.ranges[1:]
        xp = namespace(*possible, *(c.lo for c in cases), *(c.hi for c in cases))
        chosen = list(zip(possible, cases, strict=True))
        lo = xp.min(xp.stack([xp.where(w, c.lo, np.inf) for w, c in chosen]), axis=0)
        hi = xp.max(xp.stack([xp.where(w, c.hi, -np.inf) for w, c in chosen]), axis=0)
        center = xp.zeros(np.shape(lo))
        for which, case in reversed(chosen):
            center = xp.where(which, case.center, center)
        # The other possible cases are centered elsewhere.
        apart = norm2(
            xp.max(xp.stack([xp.where(w, abs(c.center - center), 0.0) for w, c in chosen]), axis=0)
        )
        used = [xp.where(xp.any(w), 1.0, 0.0) for w in possible]
        gains, rest, radii = (
            [times(u, part) for u, part in zip(used, parts, strict=True)]
            for parts in (
                [c.gains for c in cases],
                [c.rest for c in cases],
                [c.radius for c in cases],
            )
        )
        count = len(cases) + 2
        return [
            enclose(
                eq.radii,
                lo,
                hi,
                center,
                up(sum(gains), count),
                up(sum(rest) + apart, count),
                up(norm2(xp.stack(radii)) + up(apart, 3)),
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        masked = [
            scale(m, namespace(which).where(which, 1.0, 0.0))
            for which, m in zip(self.possible(eq), magnitudes[1:], strict=True)
            if m is not None
        ]
        if not masked:
            return [None]
        xp = namespace(*(m.norm for m in masked))
        norm = norm2(xp.stack([m.norm for m in masked]), 0)
        if any(m.entries is None for m in masked):
            return [Magnitude(None, norm)]
        entries = masked[0].entries
        for m in masked[1:]:
            entries = namespace(entries, m.entries).maximum(entries, m.entries)
        return [tighten(entries, norm)]


define(ComparisonRule(lambda x, y: (x.lo > y.hi, x.hi <= y.lo), False), p.gt_p)
define(ComparisonRule(lambda x, y: (x.lo >= y.hi, x.hi < y.lo), True), p.ge_p)
define(ComparisonRule(lambda x, y: (x.hi < y.lo, x.lo >= y.hi), False), p.lt_p)
define(ComparisonRule(lambda x, y: (x.hi <= y.lo, x.lo > y.hi), True), p.le_p)


def _same(x: Range, y: Range) -> Array:
    return (x.lo == x.hi) & (y.lo == y.hi) & (x.lo == y.lo)


def _apart(x: Range, y: Range) -> Array:
    return (x.lo > y.hi) | (x.hi < y.lo)


define(ComparisonRule(lambda x, y: (_same(x, y), _apart(x, y)), True), p.eq_p)
define(ComparisonRule(lambda x, y: (_apart(x, y), _same(x, y)), False), p.ne_p)
define(FiniteRule(""), p.is_finite_p)
define(LogicRule(np.logical_and), p.and_p)
define(LogicRule(np.logical_or), p.or_p)
define(LogicRule(np.logical_xor), p.xor_p)
define(LogicRule(np.logical_not), p.not_p)
define(
    SignRule(
        "Use a soft sign such as jnp.tanh(x / width), or smooth before you differentiate: "
        "jax.grad(jaxsmooth.smooth(f, ...)), not jaxsmooth.smooth(jax.grad(f), ...)."
    ),
    p.sign_p,
)
define(RoundingRule(lambda xp, x, params: xp.floor(x)), p.floor_p)
define(RoundingRule(lambda xp, x, params: xp.ceil(x)), p.ceil_p)
define(RoundingRule(_rounded), p.round_p)
define(
    DiscreteRule(
        "The index of the largest entry jumps. Use the largest value itself (jnp.max), or "
        "jax.nn.softmax with a temperature."
    ),
    p.argmax_p,
    p.argmin_p,
)
define(
    RemainderRule("The remainder jumps at multiples of the divisor; use jnp.sin for periodicity."),
    p.rem_p,
)
define(LogicReductionRule(np.logical_and), p.reduce_and_p)
define(LogicReductionRule(np.logical_or), p.reduce_or_p)
define(LogicReductionRule(np.logical_xor), p.reduce_xor_p)
define(ShiftRule("Integer operations on numbers that vary jump."), p.shift_right_logical_p)
define(SelectRule(), p.select_n_p)
define(
    DiscreteRule("Integer operations on numbers that vary jump."),
    p.shift_left_p,
    p.shift_right_arithmetic_p,
    p.population_count_p,
    p.clz_p,
    primitive("nextafter_p"),
)
