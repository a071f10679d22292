"""Products, transforms and functions of complex values as equations of pairs.

They get equations of their own, whose rules know that a complex number's modulus, and not the
sum of its parts' sizes, is what it multiplies by. |z| is the norm of the pair, |z|² the sum of
its squares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.complex_structure import EMBED, embedded
from jaxsmooth.program.graph import Atom, Equation, Value
from jaxsmooth.program.norms import NORM
from jaxsmooth.program.pairs import is_complex, pair_of_type
from jaxsmooth.program.rewriter import Rewriter

# Functions of one variable are recognised by the names of primitives: these have their own.
PRODUCT = Primitive("complex_mul")
"""The product of two pairs, elementwise."""
DOT = Primitive("complex_dot_general")
CONVOLUTION = Primitive("complex_conv_general_dilated")
"""Those of pairs; ``of`` is the equation of complex values that they stand for."""
EXP = Primitive("complex_exp")
RECIPROCAL = Primitive("complex_reciprocal")
POWER = Primitive("complex_integer_pow")
"""Functions of one complex variable, elementwise on pairs; ``y`` is the power."""

_BILINEAR = {p.dot_general_p: DOT, p.conv_general_dilated_p: CONVOLUTION}
_POWERS = frozenset({p.square_p, p.integer_pow_p, p.mul_p})


def size(rewriter: Rewriter, equation: Equation) -> None:
    """|z|."""
    (z,) = equation.inputs
    rewriter.modulus[equation.outputs[0]] = z
    params = {"axes": (len(z.shape),), "scale": 1.0, "offset": 0.0, "floored": False}
    rewriter.add(equation, NORM, [rewriter.pair(z)], equation.outputs, params)


def power_of_size(rewriter: Rewriter, equation: Equation) -> bool:
    """An even power of |z|, which has no kink; whether the equation is one."""
    operand = rewriter.origin(equation.inputs[0])
    z, power = rewriter.modulus.get(operand), equation.params.get("y", 2)
    same = all(rewriter.origin(a) is operand for a in equation.inputs)
    if z is None or equation.primitive not in _POWERS or not same or power <= 0 or power % 2:
        return False
    if power == 2:
        rewriter.squared[equation.outputs[0]] = z
        squares(rewriter, equation, z, (), equation.outputs)
    else:
        square = squares(rewriter, equation, z, ())
        params = {"y": power // 2}
        rewriter.add(equation, p.integer_pow_p, [square], equation.outputs, params)
    return True


def squares(
    rewriter: Rewriter,
    equation: Equation,
    z: Atom,
    axes: Sequence[int],
    outputs: Sequence[Value] | None = None,
) -> Value:
    """Add Σ |z|² over some axes; the result."""
    pair = rewriter.pair(z)
    square = rewriter.add(equation, p.square_p, [pair], [Value(pair.aval)])
    outputs = outputs or [Value(ShapedArray(z.shape, pair.dtype))]
    params = {"axes": (*axes, len(z.shape)), "out_sharding": None}
    return rewriter.add(equation, p.reduce_sum_p, [square], outputs, params)


def product(rewriter: Rewriter, equation: Equation) -> None:
    """z·w; z times its conjugate is |z|², and i times a real number an imaginary one."""
    (z, w), output = map(rewriter.origin, equation.inputs), equation.outputs[0]
    for one, other in ((z, w), (w, z)):
        if rewriter.conjugated.get(other) is one and is_complex(one):
            total = squares(rewriter, equation, one, ())
            rewriter.real[output] = total
            rewriter.squared[total] = one
            rewriter.become(equation, EMBED, [total])
            return
        y, unit = rewriter.real.get(other), rewriter.value(one)
        if y is None or y.shape != output.shape or unit is None or isinstance(unit, Tracer):
            continue
        if np.all(np.asarray(unit) == 1j):
            rewriter.imaginary[output] = y
    rewriter.become(equation, PRODUCT, [rewriter.pair(z), rewriter.pair(w)])


def square(rewriter: Rewriter, equation: Equation) -> None:
    """z²."""
    pair = rewriter.pair(equation.inputs[0])
    rewriter.become(equation, PRODUCT, [pair, pair])


def quotient(rewriter: Rewriter, equation: Equation) -> None:
    """z/w, z times the reciprocal of w."""
    z, w = equation.inputs
    inverse = pair_of_type(w.shape, w.dtype)
    rewriter.add(equation, RECIPROCAL, [rewriter.pair(w)], [inverse])
    rewriter.become(equation, PRODUCT, [rewriter.pair(z), inverse])


def power(rewriter: Rewriter, equation: Equation) -> None:
    """zⁿ with an integer n of either sign."""
    y, pair = equation.params["y"], rewriter.pair(equation.inputs[0])
    if y < 0:
        pair = rewriter.add(equation, RECIPROCAL, [pair])
    if abs(y) == 2:
        rewriter.become(equation, PRODUCT, [pair, pair])
    else:
        rewriter.become(equation, POWER, [pair], {"y": abs(y)})


def exponential(rewriter: Rewriter, equation: Equation) -> None:
    """e^z."""
    rewriter.become(equation, EXP, [rewriter.pair(equation.inputs[0])])


def bilinear(rewriter: Rewriter, equation: Equation) -> None:
    """Matrix products and convolutions, of which one operand may be real."""
    inputs = [embedded(rewriter, equation, a) for a in equation.inputs]
    rewriter.become(equation, _BILINEAR[equation.primitive], inputs, {"of": equation})


def transform(rewriter: Rewriter, equation: Equation) -> None:
    """A Fourier transform, axis by axis: a real array's last axis is the one that is halved."""
    (x,) = equation.inputs
    kind, lengths = equation.params["fft_type"].name, equation.params["fft_lengths"]
    first = len(x.shape) - len(lengths)
    steps = [(first + i, int(n), kind.replace("RFFT", "FFT")) for i, n in enumerate(lengths)]
    last = (*steps.pop()[:2], kind)
    steps = [last, *steps] if kind == "RFFT" else [*steps, last]
    value, shape = rewriter.pair(x), list(x.shape)
    for i, (axis, n, which) in enumerate(steps):
        params = {"axis": axis, "length": n, "kind": which}
        if i == len(steps) - 1:
            rewriter.become(equation, p.fft_p, [value], params)
            return
        shape[axis] = n // 2 + 1 if which == "RFFT" else n
        between = Value(ShapedArray((*shape, 2), value.dtype))
        value = rewriter.add(equation, p.fft_p, [value], [between], params)
