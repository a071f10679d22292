"""The building blocks of random programs: functions of one array, with and without weights.

A `Step` maps an array to an array. Its weights are either parameters (an argument of the
program, so that a set is declared for them) or constants of the program (a trained
network). Factories look at the shape that comes in and return None where they do not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.soundness.choices import Choices, array, flag, pick
from tests.soundness.complexes import COMPLEX
from tests.soundness.functions import ALGEBRA, KINKED, REDUCTIONS, SMOOTH, STRUCTURE, WHOLE
from tests.soundness.guards import GUARDED

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: what it does, for reports.
        apply: (parameters, x) to the next array.
        parameters: shapes of its parameters by name; empty without any.
    """

    name: str
    apply: Callable[[Any, Any], Any]
    parameters: dict[str, Shape] = field(default_factory=dict)


def _weights(choices: Choices, name: str, shapes: dict[str, Shape], use: Callable) -> Step:
    """A step with those weights, as parameters or as constants."""
    if flag(choices, 60):
        return Step(name, use, shapes)
    values = {key: array(choices, shape, 0.6) for key, shape in shapes.items()}

    def apply(_, x):
        return use({key: jnp.asarray(v, x.dtype) for key, v in values.items()}, x)

    return Step(f"{name} with constants", apply)


def elementwise(choices: Choices, shape: Shape) -> Step | None:
    table = pick(choices, [KINKED, KINKED, SMOOTH])
    name = pick(choices, sorted(table))
    use = table[name]
    return Step(name, lambda _, x: use(x))


def against_constant(choices: Choices, shape: Shape) -> Step | None:
    """A kink at another place in every element."""
    value = array(choices, shape, 0.5)
    operation = pick(choices, [jnp.maximum, jnp.minimum])
    return Step(
        f"{operation.__name__} with constants",
        lambda _, x: operation(x, jnp.asarray(value, x.dtype)),
    )


def dense(choices: Choices, shape: Shape) -> Step | None:
    if not shape or shape[-1] > 32:
        return None
    out = choices.integer(1, 5)
    shapes: dict[str, Shape] = {"w": (shape[-1], out)}
    if flag(choices, 70):
        shapes["b"] = (out,)
    return _weights(choices, f"dense {out}", shapes, lambda p, x: x @ p["w"] + p.get("b", 0))


def convolution(choices: Choices, shape: Shape) -> Step | None:
    if len(shape) != 3:
        return None
    height, width, channels = shape
    groups = channels if flag(choices, 25) else 1
    out = groups * choices.integer(1, 2)
    window = (choices.integer(1, min(3, height)), choices.integer(1, min(3, width)))
    stride = (choices.integer(1, 2), choices.integer(1, 3))
    padding = pick(choices, ["SAME", "VALID", ((1, 0), (0, 2)), ((2, 2), (1, 1))])
    dilation = (1, 1) if flag(choices, 75) else (2, 1)
    spread = (1, 1) if flag(choices, 85) or isinstance(padding, str) else (1, 2)
    shapes: dict[str, Shape] = {"w": (*window, channels // groups, out)}
    if flag(choices, 60):
        shapes["b"] = (out,)

    def use(p, x):
        y = lax.conv_general_dilated(
            x[None],
            p["w"],
            stride,
            padding,
            lhs_dilation=spread,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )[0]
        return y + p.get("b", 0)

    name = f"conv {window} out {out} stride {stride} pad {padding} groups {groups}"
    return _weights(choices, f"{name} dilations {dilation} {spread}", shapes, use)


def pooling(choices: Choices, shape: Shape) -> Step | None:
    if len(shape) != 3:
        return None
    window = (choices.integer(1, 3), choices.integer(1, 3), 1)
    stride = (choices.integer(1, 2), choices.integer(1, 2), 1)
    padding = pick(choices, ["SAME", "VALID"])
    kind = pick(choices, ["average", "max", "min"])

    def apply(_, x):
        if kind == "average":
            return lax.reduce_window(x, 0.0, lax.add, window, stride, padding) / (
                window[0] * window[1]
            )
        if kind == "max":
            return lax.reduce_window(x, -jnp.inf, lax.max, window, stride, padding)
        return lax.reduce_window(x, jnp.inf, lax.min, window, stride, padding)

    return Step(f"{kind} pool {window} stride {stride} {padding}", apply)


def batch_norm(choices: Choices, shape: Shape) -> Step | None:
    """As it is evaluated: fixed statistics, scale and shift that may be parameters."""
    if not shape:
        return None
    n = shape[-1]
    mean, variance = array(choices, (n,), 0.5), array(choices, (n,)) ** 2

    def use(p, x):
        m, v = jnp.asarray(mean, x.dtype), jnp.asarray(variance, x.dtype)
        return (x - m) * lax.rsqrt(v + 0.1) * p["scale"] + p["shift"]

    return _weights(choices, "batch norm", {"scale": (n,), "shift": (n,)}, use)


def parametric_relu(choices: Choices, shape: Shape) -> Step | None:
    """Slopes of the negative half, or of both, that may be parameters."""
    if not shape:
        return None
    both = flag(choices, 30)

    def use(p, x):
        above = p["b"] * x if both else x
        return jnp.where(x > 0, above, p["a"] * x)

    shapes: dict[str, Shape] = {"a": shape[-1:]} | ({"b": ()} if both else {})
    return _weights(choices, "parametric relu", shapes, use)


def whole(choices: Choices, shape: Shape) -> Step | None:
    if not shape or 0 in shape:
        return None
    table = pick(choices, [REDUCTIONS, WHOLE, STRUCTURE, COMPLEX, ALGEBRA, GUARDED])
    name = pick(choices, sorted(table))
    use = table[name]
    return Step(name, lambda _, x: use(x))


def _softmax_attention(_, x):
    return jax.nn.softmax(x @ x.T) @ x


def attention(choices: Choices, shape: Shape) -> Step | None:
    del choices
    return Step("self attention", _softmax_attention) if len(shape) == 2 else None


LEAVES = [elementwise, elementwise, elementwise, dense, dense, convolution, convolution]
LEAVES += [pooling, whole, whole, batch_norm, against_constant, attention, parametric_relu]


def leaf(choices: Choices, shape: Shape) -> Step:
    """A step without steps inside, that fits the shape."""
    for _ in range(20):
        step = pick(choices, LEAVES)(choices, shape)
        if step is not None and out_shape(step, shape) is not None:
            return step
    return Step("abs", lambda _, x: jnp.abs(x))


def out_shape(step: Step, shape: Shape) -> Shape | None:
    """The shape that the step returns; None where it does not apply, or is too large."""
    structs = {k: jax.ShapeDtypeStruct(s, np.float32) for k, s in step.parameters.items()}
    try:
        out = jax.eval_shape(step.apply, structs, jax.ShapeDtypeStruct(shape, np.float32))
    except (TypeError, ValueError, IndexError):
        return None
    return out.shape if 0 < np.prod(out.shape, dtype=int) <= 48 else None
