"""Functions of one variable, given as small straight-line programs.

An activation function that a user wrote with ``where``, ``maximum`` and elementary
functions is one scalar function. Enclosing it as such (`jaxsmooth.math.piecewise`) is
far tighter than enclosing its operations one after the other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxsmooth.math.array import Array, namespace
from jaxsmooth.math.enclosure import ScalarFunction
from jaxsmooth.math.families import Parameters, smooth_function

COMPARISONS = frozenset({"gt", "ge", "lt", "le", "eq", "ne"})
IDENTITIES = frozenset({"convert", "copy", "identity"})
_EVALUATE: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "add": lambda xp, a, b: a + b,
        "sub": lambda xp, a, b: a - b,
        "mul": lambda xp, a, b: a * b,
        "div": lambda xp, a, b: a / b,
        "neg": lambda xp, a: -a,
        "max": lambda xp, a, b: xp.maximum(a, b),
        "min": lambda xp, a, b: xp.minimum(a, b),
        "abs": lambda xp, a: abs(a),
        "sign": lambda xp, a: xp.sign(a),
        "clamp": lambda xp, low, a, high: xp.minimum(xp.maximum(a, low), high),
        "select_n": lambda xp, p, no, yes: xp.where(p, yes, no),
        "gt": lambda xp, a, b: a > b,
        "ge": lambda xp, a, b: a >= b,
        "lt": lambda xp, a, b: a < b,
        "le": lambda xp, a, b: a <= b,
        "eq": lambda xp, a, b: a == b,
        "ne": lambda xp, a, b: a != b,
        "and": lambda xp, a, b: xp.logical_and(a, b),
        "or": lambda xp, a, b: xp.logical_or(a, b),
        "not": lambda xp, a: xp.logical_not(a),
        "is_finite": lambda xp, a: xp.isfinite(a),
        **{name: (lambda xp, a: a) for name in IDENTITIES},
    }
)


_ARITY = dict.fromkeys(("add", "sub", "mul", "div", "max", "min", *COMPARISONS), 2)
_ARITY["clamp"] = 3
_PREDICATE_OPERANDS = {
    "select_n": (True, False, False),
    "and": (True, True),
    "or": (True, True),
    "not": (True,),
}


@dataclass(frozen=True, eq=False)
class Operation:
    """One step of a program.

    Args:
        name: name of the operation (a primitive's name).
        operands: an int is the number of an earlier value (0 is the variable, n the
            result of the n-th operation), a float is a constant.
        parameters: exponents, and what else of a function of one variable is known.
    """

    name: str
    operands: tuple[int | float, ...]
    parameters: Parameters = ()

    def __post_init__(self) -> None:
        operands = (
            operator.index(v) if isinstance(v, (int, np.integer)) else float(v)
            for v in self.operands
        )
        object.__setattr__(self, "operands", tuple(operands))

    # Python holds 0 and 0.0 equal; here one is the variable and one a constant.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operation) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def function(self) -> ScalarFunction | None:
        """Facts of the operation if it is a smooth function of one operand."""
        return smooth_function(self.name, self.parameters)


@dataclass(frozen=True)
class Univariate:
    """A function R -> R as a straight-line program; immutable and hashable.

    Args:
        operations: the steps; the n-th (from 1) defines value n.
        output: number of the value that is returned.
        name: what to call the function.

    Raises:
        ValueError: an operation is unknown or refers to a later value.

    Example:
        >>> leaky = Univariate(
        ...     (
        ...         Operation("gt", (0, 0.0)),
        ...         Operation("mul", (0, 0.25)),
        ...         Operation("select_n", (1, 2, 0)),
        ...     ),
        ...     output=3,
        ... )
        >>> leaky.evaluate(np.array([-4.0, 3.0])).tolist()
        [-1.0, 3.0]
    """

    operations: tuple[Operation, ...]
    output: int
    name: str = "function"

    def __post_init__(self) -> None:
        predicates = [False]
        for number, operation in enumerate(self.operations, start=1):
            predicates.append(_check(number, operation, predicates))
        if not 0 <= self.output <= len(self.operations) or predicates[self.output]:
            raise ValueError(f"there is no value {self.output}")

    @property
    def constants(self) -> frozenset[float]:
        """All finite constants of the program."""
        found = (x for op in self.operations for x in op.operands if isinstance(x, float))
        return frozenset(x for x in found if np.isfinite(x))

    def evaluate(self, x: Array, beside: Array | None = None) -> Array:
        """f(x) elementwise, in NumPy or JAX as x is.

        Args:
            x: the variable.
            beside: where the program's choices are made that x leaves open (between equal
                numbers), so that derivatives at x are those of f on that side of x.
        """
        xp = namespace(x)
        values: list[Any] = [x if xp is not np else np.asarray(x, dtype=np.float64)]
        aside: list[Any] = [] if beside is None else [beside]
        with np.errstate(all="ignore"):
            for operation in self.operations:
                operands = _operands(operation, values)
                if beside is not None:
                    others = _operands(operation, aside)
                    aside.append(_result(xp, operation, others))
                    if operation.name in _TIES:
                        values.append(_TIES[operation.name](xp, operands, others))
                        continue
                values.append(_result(xp, operation, operands))
        return values[self.output]


def _operands(operation: Operation, values: list[Any]) -> list[Any]:
    operands: list[Any] = [values[v] if isinstance(v, int) else v for v in operation.operands]
    if operation.name in IDENTITIES and operands[0].dtype == bool:
        operands[0] = operands[0].astype(values[0].dtype)
    return operands


def _result(xp: Any, operation: Operation, operands: list[Any]) -> Any:
    function = operation.function()
    if function is not None:
        return function.evaluate(operands[0])
    return _EVALUATE[operation.name](xp, *operands)


def _larger(xp: Any, operands: list[Any], others: list[Any]) -> Any:
    (a, b), (p, q) = operands, others
    return xp.where(xp.where(a == b, p > q, (a > b) | (a != a)), a, b)


def _smaller(xp: Any, operands: list[Any], others: list[Any]) -> Any:
    (a, b), (p, q) = operands, others
    return xp.where(xp.where(a == b, p < q, (a < b) | (a != a)), a, b)


def _clamped(xp: Any, operands: list[Any], others: list[Any]) -> Any:
    (low, a, high), (p, q, r) = operands, others
    lifted = _larger(xp, [a, low], [q, p])
    return _smaller(xp, [lifted, high], [xp.maximum(q, p), r])


def _compared(name: str) -> Callable[..., Any]:
    compare = _EVALUATE[name]

    def compared(xp: Any, operands: list[Any], others: list[Any]) -> Any:
        a, b = operands
        return xp.where(a == b, compare(xp, *others), compare(xp, a, b))

    return compared


_TIES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "max": _larger,
        "min": _smaller,
        "clamp": _clamped,
        "abs": lambda xp, x, y: _larger(xp, [x[0], -x[0]], [y[0], -y[0]]),
        "sign": lambda xp, x, y: xp.sign(xp.where(x[0] == 0, y[0], x[0])),
        **{name: _compared(name) for name in COMPARISONS},
    }
)
"""Operations that choose: (xp, operands, operands beside them), the latter where the first tie."""


def _check(number: int, operation: Operation, predicates: list[bool]) -> bool:
    """Whether a well-formed operation defines a predicate; ValueError if malformed."""
    name, operands = operation.name, operation.operands
    if not is_known(name, operation.parameters):
        raise ValueError(f"unknown operation {number}: {operation}")
    for operand in operands:
        if isinstance(operand, int) and not 0 <= operand < number:
            raise ValueError(f"operation {number} refers to value {operand}")
    if name in IDENTITIES and len(operands) == 1:
        return False  # of a predicate it is its indicator, 1.0 or 0.0
    kinds = tuple(isinstance(v, int) and predicates[v] for v in operands)
    expected = _PREDICATE_OPERANDS.get(name, (False,) * _ARITY.get(name, 1))
    if kinds != expected:
        raise ValueError(f"operation {number} takes other operands: {operation}")
    if all(isinstance(v, float) for v in operands):
        raise ValueError(f"operation {number} is a constant: fold it first")
    return name in COMPARISONS or name in ("and", "or", "not", "is_finite")


def is_known(name: str, parameters: Parameters = ()) -> bool:
    """Whether programs may hold an operation of that name with these parameters."""
    if name in _EVALUATE:
        return not parameters
    return smooth_function(name, parameters) is not None
