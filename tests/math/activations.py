"""Activation functions as one-variable programs, beside the same thing in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from jaxsmooth.math.univariate import Operation, Univariate

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def program(*operations: tuple, output: int | None = None) -> Univariate:
    """Program from tuples (name, operands[, exponent])."""
    steps = tuple(Operation(*operation) for operation in operations)
    return Univariate(steps, len(steps) if output is None else output)


def exponential_unit(alpha: float, scale: float = 1.0, rate: float = 1.0) -> Univariate:
    """elu, selu and celu, with jax.nn's inner ``where``."""
    return program(
        ("gt", (0, 0.0)),
        ("select_n", (1, 0, 0.0)),
        ("mul", (2, 1 / rate)),
        ("expm1", (3,)),
        ("mul", (4, alpha)),
        ("select_n", (1, 5, 0)),
        ("mul", (6, scale)),
    )


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf)(x)


SOFTPLUS = (
    ("max", (0, 0.0)),
    ("abs", (0,)),
    ("neg", (2,)),
    ("exp", (3,)),
    ("log1p", (4,)),
    ("add", (1, 5)),
)
GELU_TANH = (
    ("integer_pow", (0,), (3,)),
    ("mul", (1, 0.044715)),
    ("add", (0, 2)),
    ("mul", (3, math.sqrt(2 / math.pi))),
    ("tanh", (4,)),
    ("add", (5, 1.0)),
    ("mul", (6, 0.5)),
    ("mul", (0, 7)),
)

PROGRAMS: dict[str, Univariate] = {
    "elu": exponential_unit(1.0),
    "elu_0.7": exponential_unit(0.7),
    "selu": exponential_unit(SELU_ALPHA, SELU_SCALE),
    "celu": exponential_unit(2.0, 1.0, 2.0),
    "leaky_relu": program(("ge", (0, 0.0)), ("mul", (0, 0.01)), ("select_n", (1, 2, 0))),
    "silu": program(("logistic", (0,)), ("mul", (0, 1))),
    "gelu_tanh": program(*GELU_TANH),
    "gelu_erf": program(
        ("div", (0, math.sqrt(2))),
        ("erf", (1,)),
        ("add", (2, 1.0)),
        ("mul", (0, 0.5)),
        ("mul", (4, 3)),
    ),
    "mish": program(*SOFTPLUS, ("tanh", (6,)), ("mul", (0, 7))),
    "huber": program(
        ("abs", (0,)),
        ("le", (1, 1.0)),
        ("integer_pow", (0,), (2,)),
        ("mul", (3, 0.5)),
        ("sub", (1, 0.5)),
        ("select_n", (2, 5, 4)),
    ),
    "squared_relu": program(("max", (0, 0.0)), ("integer_pow", (1,), (2,))),
    "hard_tanh": program(("clamp", (-1.0, 0, 1.0))),
    "hard_swish": program(
        ("add", (0, 3.0)),
        ("max", (1, 0.0)),
        ("min", (2, 6.0)),
        ("mul", (0, 3)),
        ("div", (4, 6.0)),
    ),
    "softsign": program(("abs", (0,)), ("add", (1, 1.0)), ("div", (0, 2))),
    "x_relu": program(("max", (0, 0.0)), ("mul", (0, 1))),
    "quantile": program(("mul", (0, 0.9)), ("mul", (0, -0.1)), ("max", (1, 2))),
    "softplus": program(*SOFTPLUS),
    "log_one_plus_exp": program(("exp", (0,)), ("add", (1, 1.0)), ("log", (2,))),
    "shifted_relu": program(
        ("mul", (0, 0.1)), ("gt", (1, 0.03)), ("sub", (0, 0.3)), ("select_n", (2, 0.0, 3))
    ),
    "x_sin": program(("sin", (0,)), ("mul", (0, 1))),
    "indicator_relu": program(("gt", (0, 0.0)), ("convert", (1,)), ("mul", (0, 2))),
    "x_sign": program(("sign", (0,)), ("mul", (0, 1))),
    "tent": program(("abs", (0,)), ("sub", (1.0, 1)), ("max", (2, 0.0))),
}
NUMPY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "elu_0.7": lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0))),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_erf": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "huber": lambda x: np.where(abs(x) <= 1, x * x / 2, abs(x) - 0.5),
    "squared_relu": lambda x: np.maximum(x, 0) ** 2,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "softsign": lambda x: x / (1 + abs(x)),
    "x_relu": lambda x: x * np.maximum(x, 0),
    "quantile": lambda x: np.maximum(0.9 * x, -0.1 * x),
    "softplus": lambda x: np.logaddexp(x, 0),
    "log_one_plus_exp": lambda x: np.logaddexp(x, 0),
    "shifted_relu": lambda x: np.maximum(x - 0.3, 0),
    "x_sin": lambda x: x * np.sin(x),
    "indicator_relu": lambda x: np.maximum(x, 0),
    "x_sign": np.abs,
    "tent": lambda x: np.maximum(1 - abs(x), 0),
}
KINKS: dict[str, list[tuple[float, float]]] = {
    "elu_0.7": [(0.0, 0.3)],
    "selu": [(0.0, SELU_SCALE * (1 - SELU_ALPHA))],
    "leaky_relu": [(0.0, 0.99)],
    "hard_tanh": [(-1.0, 1.0), (1.0, -1.0)],
    "hard_swish": [(-3.0, -0.5), (3.0, -0.5)],
    "quantile": [(0.0, 1.0)],
    "shifted_relu": [(0.3, 1.0)],
    "indicator_relu": [(0.0, 1.0)],
    "x_sign": [(0.0, 2.0)],
    "tent": [(-1.0, 1.0), (0.0, -2.0), (1.0, 1.0)],
}
