"""Enclosures of f, f' and f'' of a one-variable program over a cell.

A jet is a triple of intervals. Second-order Taylor arithmetic on jets is exact up to
interval dependency, which vanishes as cells shrink. Where a program chooses (max,
where, ...), a cell records its decisions: 1, 0, or 2 where the cell does not decide.
Cells count as open: a tie at an end of a cell does not stop it from deciding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxsmooth.math.enclosure import ScalarFunction
from jaxsmooth.math.interval import Interval
from jaxsmooth.math.univariate import COMPARISONS, IDENTITIES, Operation, Univariate

# An Interval, or the asymptotic number that extends it to the tails.
Number = Any
UNDECIDED = 2
FREE = 3  # among given decisions: one that is to be made


@dataclass(frozen=True)
class Jet:
    """Enclosures of a value and of two derivatives.

    Args:
        value: encloses the value.
        slope: encloses the first derivative.
        curvature: encloses the second derivative.
        bad: where the value is undefined or infinite somewhere in the cell.
        undecided: where the value depends on a decision that the cell does not make.
    """

    value: Number
    slope: Number
    curvature: Number
    bad: np.ndarray
    undecided: np.ndarray

    @property
    def bounded(self) -> np.ndarray:
        """Where the value and both derivatives are enclosed by numbers."""
        parts = (self.value.magnitude, self.slope.magnitude, self.curvature.magnitude)
        return np.isfinite(parts).all(axis=0)

    def flags(self, *others: Jet) -> tuple[np.ndarray, np.ndarray]:
        """Flags of a value computed from this one and others."""
        bad, undecided = self.bad, self.undecided
        for other in others:
            bad, undecided = bad | other.bad, undecided | other.undecided
        return bad, undecided

    def __neg__(self) -> Jet:
        return Jet(-self.value, -self.slope, -self.curvature, *self.flags())

    def __add__(self, other: Jet) -> Jet:
        return Jet(
            self.value + other.value,
            self.slope + other.slope,
            self.curvature + other.curvature,
            *self.flags(other),
        )

    def __mul__(self, other: Jet) -> Jet:
        a, b = self, other
        cross = a.slope * b.slope
        return Jet(
            a.value * b.value,
            _times(b.value, a.slope) + _times(a.value, b.slope),
            _times(b.value, a.curvature) + (cross + cross) + _times(a.value, b.curvature),
            *a.flags(b),
        )

    def __truediv__(self, other: Jet) -> Jet:
        # Solved from f = q g: tighter than products with powers of 1/g.
        inverse = other.value.inverse()
        value = self.value * inverse
        slope = (self.slope - _times(value, other.slope)) * inverse
        cross = slope * other.slope
        rest = self.curvature - (cross + cross) - _times(value, other.curvature)
        bad, undecided = self.flags(other)
        bad = bad | ((other.value.lo <= 0) & (other.value.hi >= 0))
        return Jet(value, slope, rest * inverse, bad, undecided)

    def power(self, n: int) -> Jet:
        """The n-th power for n >= 2."""
        u, du = self.value, self.slope
        first = type(u).constant(n, u) * u.power(n - 1)
        second = type(u).constant(n * (n - 1), u)
        second = second * u.power(n - 2) if n > 2 else second
        curvature = second * du.power(2) + _times(first, self.curvature)
        return Jet(u.power(n), _times(first, du), curvature, *self.flags())

    def compose(self, function: ScalarFunction) -> Jet:
        """The function of this value (the chain rule)."""
        outer = [self.value.apply(function, order) for order in range(3)]
        curvature = _times(self.slope.power(2), outer[2]) + outer[1] * self.curvature
        bad, undecided = self.flags()
        bad = bad | self.value.bad(function)
        return Jet(outer[0], _times(self.slope, outer[1]), curvature, bad, undecided)

    def select(self, decision: np.ndarray, other: Jet) -> Jet:
        """This where the decision is 1, the other where it is 0."""

        def pick(a: np.ndarray, b: np.ndarray, both: np.ndarray) -> np.ndarray:
            return np.where(decision == 1, a, np.where(decision == 0, b, both))

        return Jet(
            self.value.select(decision, other.value),
            self.slope.select(decision, other.slope),
            self.curvature.select(decision, other.curvature),
            pick(self.bad, other.bad, self.bad | other.bad),
            pick(self.undecided, other.undecided, np.ones_like(self.bad)),
        )


def _times(factor: Number, derivative: Number) -> Number:
    """Their product, of which nothing is known where it is 0·∞.

    So it is for derivatives that are computed, as of 0·√x at 0.
    """
    product = factor * derivative
    if not isinstance(product, Interval):
        return product
    unknown = (factor.magnitude == 0) & np.isinf(derivative.magnitude)
    return Interval(np.where(unknown, -np.inf, product.lo), np.where(unknown, np.inf, product.hi))


def order_of(a: Jet, b: Jet, at_ends: bool = False) -> dict[str, np.ndarray]:
    """Which comparisons of a with b certainly hold inside the cell, or at its ends too."""
    x, y = a.value, b.value
    ge, le = x.lo >= y.hi, x.hi <= y.lo
    strict = ((a.slope.lo > b.slope.hi) | (a.slope.hi < b.slope.lo)) & (not at_ends)
    gt, lt = (x.lo > y.hi) | (ge & strict), (x.hi < y.lo) | (le & strict)
    # Beyond an undefined value nothing is certain.
    sure = ~(a.bad | b.bad)
    found = {"gt": gt, "ge": ge, "lt": lt, "le": le, "eq": ge & le, "ne": gt | lt}
    return {name: mask & sure for name, mask in found.items()}


def _of_itself(a: Jet) -> dict[str, np.ndarray]:
    """Which comparisons of a number with itself certainly hold: only NaN differs from itself."""
    return {name: ~a.bad & (name in ("ge", "le", "eq")) for name in COMPARISONS}


_OPPOSITE = {"gt": "le", "ge": "lt", "lt": "ge", "le": "gt", "eq": "ne", "ne": "eq"}


def stacked(decisions: list[np.ndarray], cells: int) -> np.ndarray:
    """Decisions as a matrix (choice, cell)."""
    rows = [np.broadcast_to(d, cells) for d in decisions]
    return np.array(rows, np.int8).reshape(len(rows), cells)


class Walk:
    """One evaluation of a program on cells, making decisions or following given ones.

    Args:
        variable: the cells, as an `Interval` (or its extension to a tail).
        given: decisions to follow, as a matrix (decision, cell), those that are FREE being
            made; None to make all.
        at_ends: whether decisions that are made hold at the ends of the cells, which may
            be single points, too.
        tied: whether what a cell does not decide is decided as between equal numbers.
    """

    def __init__(
        self,
        variable: Number,
        given: np.ndarray | None = None,
        at_ends: bool = False,
        tied: bool = False,
    ):
        self.variable = variable
        self.at_ends = at_ends
        self.tied = tied
        self.given: Iterator[np.ndarray] | None = None if given is None else iter(given)
        self.decisions: list[np.ndarray] = []
        self.values: list[Any] = []

    def run(self, program: Univariate) -> Jet:
        """Jet of the program over the cells; the decisions are in ``decisions``."""
        values: list[Any] = [replace(self._number(0.0), value=self.variable)]
        values[0] = replace(values[0], slope=self._number(1.0).value)

        def operand(v: int | float) -> Any:
            return values[v] if isinstance(v, int) else self._number(v)

        with np.errstate(all="ignore"):
            for operation in program.operations:
                values.append(self.step(operation, [operand(v) for v in operation.operands]))
        self.values = values
        return values[program.output]

    def _number(self, value: float) -> Jet:
        """A constant, on every cell."""
        number = type(self.variable)
        zero = number.constant(0.0, self.variable)
        no = np.zeros(np.shape(self.variable.lo), bool)
        return Jet(number.constant(value, self.variable), zero, zero, no, no)

    def decide(self, yes: np.ndarray, no: np.ndarray, tie: bool = True) -> np.ndarray:
        """Record a decision: 1 where yes, 0 where no; ``tie`` is that between equal numbers."""
        made = np.where(yes, 1, np.where(no, 0, tie if self.tied else UNDECIDED)).astype(np.int8)
        if self.given is not None:
            given = next(self.given)
            made = np.where(given == FREE, made, given)
        self.decisions.append(made)
        return made

    def _order(self, a: Jet, b: Jet) -> dict[str, np.ndarray]:
        return order_of(a, b, self.at_ends)

    def larger(self, a: Jet, b: Jet, swap: bool = False) -> Jet:
        """max(a, b), or min(a, b) if swapped."""
        holds = self._order(a, b)
        decision = self.decide(holds["ge"], holds["le"])
        chosen = b.select(decision, a) if swap else a.select(decision, b)
        extreme = np.minimum if swap else np.maximum
        ends = Interval(extreme(a.value.lo, b.value.lo), extreme(a.value.hi, b.value.hi))
        return replace(chosen, value=chosen.value.meet(ends))

    def step(self, operation: Operation, args: list[Any]) -> Any:
        """Result of one operation: a jet, or the decision of a predicate."""
        name = operation.name
        if name in COMPARISONS:
            holds = self._order(*args) if _differ(operation) else _of_itself(args[0])
            return self.decide(holds[name], holds[_OPPOSITE[name]], name in ("ge", "le", "eq"))
        if name in ("and", "or", "not", "is_finite"):
            return _logic(name, args)
        if name == "select_n":
            return args[2].select(args[0], args[1])
        if name in ("max", "min"):
            return self.larger(*args, swap=name == "min") if _differ(operation) else args[0]
        if name == "clamp":
            return self.larger(self.larger(args[1], args[0]), args[2], swap=True)
        if name in IDENTITIES and isinstance(args[0], np.ndarray):
            return self._number(1.0).select(args[0], self._number(0.0))
        if name in ("abs", "sign"):
            return self._by_sign(name, args[0])
        return _smooth(operation, args)

    def _by_sign(self, name: str, a: Jet) -> Jet:
        number = type(a.value)
        zero = number.constant(0.0, a.value)
        holds = self._order(a, Jet(zero, zero, zero, *(2 * [np.zeros_like(a.bad)])))
        if name == "abs":
            chosen = a.select(self.decide(holds["ge"], holds["le"]), -a)
            positive = Interval(
                np.maximum(np.maximum(a.value.lo, -a.value.hi), 0.0), chosen.value.hi
            )
            return replace(chosen, value=chosen.value.meet(positive))
        decision = self.decide(holds["gt"], holds["lt"])
        one = Jet(number.constant(1.0, a.value), zero, zero, a.bad, np.zeros_like(a.bad))
        found = one.select(decision, -one)
        if not self.tied:
            return found
        decided = (holds["gt"] | holds["lt"]).astype(np.int8)
        return found.select(decided, replace(one, value=zero))


def _differ(operation: Operation) -> bool:
    return operation.operands[0] != operation.operands[1] or any(
        isinstance(v, float) for v in operation.operands
    )


def _logic(name: str, args: list[np.ndarray]) -> np.ndarray:
    if name == "is_finite":
        # Where the operand is undefined the caller sees an infinite enclosure anyway.
        return np.where(args[0].bad, UNDECIDED, 1).astype(np.int8)  # type: ignore[attr-defined]
    a = args[0]
    if name == "not":
        return np.where(a == UNDECIDED, a, 1 - a)
    b = args[1]
    absorbing, neutral = (0, 1) if name == "and" else (1, 0)
    known = np.where((a == neutral) & (b == neutral), neutral, UNDECIDED)
    return np.where((a == absorbing) | (b == absorbing), absorbing, known).astype(np.int8)


def _smooth(operation: Operation, args: list[Jet]) -> Jet:
    name, a = operation.name, args[0]
    if name in IDENTITIES:
        return a
    if name == "neg":
        return -a
    if name == "add":
        return a + args[1]
    if name == "sub":
        return a + (-args[1]) if _differ(operation) else a * _constant(a, 0.0)
    if name == "mul":
        return a * args[1] if _differ(operation) else a.power(2)
    if name == "div":
        return a / args[1]
    exponent = operation.parameters[0] if name == "integer_pow" else 2 * (name == "square")
    if 1 <= exponent <= 16:
        return a if exponent == 1 else a.power(int(exponent))
    function = operation.function()
    assert function is not None, name
    return a.compose(function)


def _constant(like: Jet, value: float) -> Jet:
    number = type(like.value)
    zero = number.constant(0.0, like.value)
    no = np.zeros_like(like.bad)
    return Jet(number.constant(value, like.value), zero, zero, no, no)
