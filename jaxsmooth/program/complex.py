"""Equations of complex values, written as equations of their pairs of parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth.program import complex_functions as functions
from jaxsmooth.program import complex_structure as structure
from jaxsmooth.program.graph import COPY, Equation, Value, describe
from jaxsmooth.program.loops import Steps
from jaxsmooth.program.pairs import Pairs, is_complex
from jaxsmooth.program.rewriter import Rewriter

_HANDLERS: dict[Any, Callable[[Rewriter, Equation], None]] = {
    p.convert_element_type_p: structure.converted,
    p.real_p: structure.part,
    p.imag_p: structure.part,
    p.complex_p: structure.joined,
    p.conj_p: structure.conjugate,
    p.select_n_p: structure.chosen,
    p.pad_p: structure.padded,
    p.dynamic_slice_p: structure.moved,
    p.dynamic_update_slice_p: structure.moved,
    p.abs_p: functions.size,
    p.mul_p: functions.product,
    p.square_p: functions.square,
    p.div_p: functions.quotient,
    p.integer_pow_p: functions.power,
    p.exp_p: functions.exponential,
    p.dot_general_p: functions.bilinear,
    p.conv_general_dilated_p: functions.bilinear,
    p.fft_p: functions.transform,
}
"""What writes an equation of complex values as one or more of pairs."""


def complexes(
    equations: Sequence[Equation],
    pairs: Pairs,
    stepped: set[Value],
    loops: dict[Equation, Steps],
    halts: set[Value],
) -> list[Equation]:
    """The equations with all complex values as pairs.

    Args:
      equations: in order.
      pairs: of all levels of the program.
      stepped: values that are known at every step of the loops around.
      loops: bodies of loops, by their equation; that of an equation that changes moves along.
      halts: results of ``stop_gradient`` that count as constants; their pairs are added.

    Raises:
      UnsupportedPrimitiveError: naming the first equation of complex values without a rule.
    """
    if not any(is_complex(a) for e in equations for a in (*e.inputs, *e.outputs)):
        return list(equations)
    rewriter = Rewriter(pairs, stepped, halts)
    for equation in equations:
        if not any(map(is_complex, (*equation.inputs, *equation.outputs))):
            _real(rewriter, equation)
        elif equation.loop is not None:
            _loop(rewriter, equation, loops)
        elif equation.primitive in _HANDLERS:
            _HANDLERS[equation.primitive](rewriter, equation)
        elif equation.primitive in structure.STRUCTURAL:
            structure.structural(rewriter, equation)
        else:
            raise errors.UnsupportedPrimitiveError(
                f"{describe(equation)} of complex numbers has no rule. Write that part of the "
                "function with their real and imaginary parts (z.real, z.imag, jax.lax.complex), "
                "or make its inputs known with jaxsmooth.fixed."
            )
    return rewriter.made


def _real(rewriter: Rewriter, equation: Equation) -> None:
    """An equation of real values, which may be the parts or the sizes of complex ones."""
    rewriter.producers.update(dict.fromkeys(equation.outputs, equation))
    if not equation.inputs or not equation.outputs:
        rewriter.made.append(equation)
        return
    operand = rewriter.origin(equation.inputs[0])
    if equation.primitive is COPY:
        rewriter.copies[equation.outputs[0]] = operand
    if functions.power_of_size(rewriter, equation):
        return
    if operand in rewriter.squared and equation.primitive is p.reduce_sum_p:
        z, axes = rewriter.squared[operand], equation.params["axes"]
        functions.squares(rewriter, equation, z, axes, equation.outputs)
        return
    stacks = structure.STACK is not None and equation.primitive is structure.STACK
    found = rewriter.both_parts(equation.inputs) if stacks else None
    if found is not None and found[1] in ((p.real_p, p.imag_p), (p.imag_p, p.real_p)):
        structure.stacked(rewriter, equation, *found)
        return
    rewriter.made.append(equation)


def _loop(rewriter: Rewriter, equation: Equation, loops: dict[Equation, Steps]) -> None:
    """A loop; its body has its pairs already."""
    inputs, outputs = (
        rewriter.pairs.all(atoms, rewriter.stepped) for atoms in (equation.inputs, equation.outputs)
    )
    changed = replace(equation, inputs=inputs, outputs=outputs)
    if equation in loops:
        loops[changed] = loops.pop(equation)
    rewriter.made.append(changed)
