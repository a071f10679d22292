"""Choices among cases by an index: `jnp.select`, `jnp.piecewise`, `jax.lax.cond` under `jax.vmap`.

The first two find the index as the `argmax` of stacked conditions: the place of the first that
holds, or after a cumulative sum of the last. Written as choices between the conditions' own
places, it is a function of what they read, and what is chosen by it can be seen to meet.

Under `jax.vmap` every branch of a ``cond`` is computed everywhere, on operands

    where(index == i, x, stop_gradient(x)),

which have the value of x. What only case i of a choice by that index reads feels x wherever
it counts, so that it may read x itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.core import ShapedArray
from jax.extend.core import primitives as p

from jaxsmooth.program.complex_structure import STACK
from jaxsmooth.program.graph import Atom, Equation, Literal, Value, live
from jaxsmooth.program.layout import Producers, bare, made_by, origin, producer
from jaxsmooth.program.simplify import uniform
from jaxsmooth.program.tame import is_tame

# All types count as far.
_MOST_CASES = 127


def cases(
    equations: Sequence[Equation],
    outputs: Sequence[Atom],
    known: Mapping[Value, Any],
    folded: Sequence[Equation] = (),
) -> list[Equation]:
    """The equations with choices by conditions for choices by indices, dead ones dropped.

    Args:
      equations: live equations in order.
      outputs: what is wanted of them.
      known: values that are known.
      folded: equations whose values are known.
    """
    if not any(e.primitive in (p.select_n_p, p.argmax_p) for e in equations):
        return list(equations)
    producers = {v: e for e in (*folded, *equations) for v in e.outputs}
    places = {e.outputs[0]: x for e in equations if (x := _places(e, producers, known))}
    found = _unmasked(equations, outputs, producers)
    return live([x for e in found for x in _by_condition(e, producers, places, known)], outputs)


Places = Sequence[tuple[Atom, int]]
"""Conditions and the index where they hold, the last one that holds counting; else it is 0."""


def _places(equation: Equation, producers: Producers, known: Mapping[Value, Any]) -> Places | None:
    """What an argmax of stacked conditions is; None if it is something else."""
    if equation.primitive is not p.argmax_p:
        return None
    (axis,) = equation.params["axes"]
    (source,) = equation.inputs
    # Counts of conditions, few enough for every type.
    last = made_by(bare(source, producers), producers)
    summed = last is not None and last.primitive is p.cumsum_p
    if last is not None and summed:
        if last.params["axis"] != axis or last.params["reverse"]:
            return None
        source = last.inputs[0]
    # Conversions of truth values to numbers keep them.
    conditions = _parts(bare(source, producers), axis, producers, known)
    if conditions is None or len(conditions) > _MOST_CASES:
        return None
    found = [(condition, number) for number, condition in enumerate(conditions)]
    # An argmax is the first of the largest, and the largest sum is first at the last that holds.
    return found if summed else found[::-1]


def _chain(equation: Equation, places: Places, options: Sequence[Atom]) -> list[Equation]:
    """The option at the index as choices by the conditions, one after the other."""
    (result,) = equation.outputs
    made: list[Equation] = []
    chosen = options[0]
    for condition, number in places:
        if isinstance(condition, Literal):
            chosen = options[number] if condition.value else chosen
            continue
        value = Value(ShapedArray(result.shape, result.dtype))
        path = f"{equation.path}/case.{number}"
        inputs = (condition, chosen, options[number])
        made.append(Equation(p.select_n_p, {}, inputs, (value,), path, equation.source))
        chosen = value
    if not made or made[-1].outputs[0] is not chosen:
        key, params = p.copy_p, {}
        if chosen.shape != result.shape:
            params = {"shape": result.shape, "broadcast_dimensions": (), "sharding": None}
            key = p.broadcast_in_dim_p
        return [*made, Equation(key, params, (chosen,), (result,), equation.path, equation.source)]
    return [*made[:-1], replace(made[-1], outputs=(result,), path=equation.path)]


def _integer(value: int, dtype: Any) -> Literal:
    return Literal(np.asarray(value, dtype), ShapedArray((), dtype))


def _parts(
    atom: Atom, axis: int, producers: Producers, known: Mapping[Value, Any]
) -> list[Atom] | None:
    """The slices of stacked truth values along an axis; None if they are not found."""
    if atom.dtype != np.bool_:
        return None
    made = made_by(atom, producers)
    if made is None or made.primitive not in (STACK, p.concatenate_p):
        return None
    stacks = made.primitive is STACK
    if made.params["axis" if stacks else "dimension"] != axis:
        return None
    found: list[Atom] = []
    for operand in made.inputs:
        part = _known(operand, known) or (operand if stacks else _slice(operand, axis, producers))
        if part is not None:
            found.extend([part] if stacks else operand.shape[axis] * [part])
            continue
        inner = None if stacks else _parts(operand, axis, producers, known)
        if inner is None:
            return None
        found.extend(inner)
    return found


def _known(operand: Atom, known: Mapping[Value, Any]) -> Literal | None:
    value = uniform(operand, known)
    return None if value is None else Literal(np.asarray(bool(value)), ShapedArray((), np.bool_))


def _slice(operand: Atom, axis: int, producers: Producers) -> Atom | None:
    """What is concatenated without the axis of length one along which it is put."""
    if operand.shape[axis] != 1:
        return None
    shape = operand.shape[:axis] + operand.shape[axis + 1 :]
    found = origin(operand, producers)
    layout = found.axes[:axis] + found.axes[axis + 1 :]
    kept = tuple(a if n > 1 else None for a, n in enumerate(found.root.shape))
    same = found.root.shape == shape and layout == kept
    return found.root if same else None


def _unmasked(
    equations: Sequence[Equation], outputs: Sequence[Atom], producers: Producers
) -> list[Equation]:
    """The equations with x for where(index == i, x, stop_gradient(x)) that only case i reads."""
    masks = {e.outputs[0]: which for e in equations if (which := _mask(e, producers))}
    if not masks:
        return list(equations)
    readers: dict[Atom, list[tuple[Equation, int]]] = {}
    for equation in equations:
        for position, atom in enumerate(equation.inputs):
            readers.setdefault(atom, []).append((equation, position))

    def counts_elsewhere(value: Value, index: Atom, case: int) -> bool:
        """Whether something but that case of choices by the index depends on the value."""
        pending, seen = [value], {value}
        while pending:
            value = pending.pop()
            if value in outputs:
                return True
            for reader, position in readers.get(value, ()):
                if reader.loop is not None:
                    return True
                chooses = reader.primitive is p.select_n_p and position == case + 1
                if chooses and _root(reader.inputs[0], producers) is index:
                    continue
                pending.extend(v for v in reader.outputs if v not in seen)
                seen.update(reader.outputs)
        return False

    bared: dict[Atom, Atom] = {}
    found = []
    for equation in equations:
        inputs = tuple(bared.get(a, a) for a in equation.inputs)
        if inputs != equation.inputs:
            equation = replace(equation, inputs=inputs)
        found.append(equation)
        value = equation.outputs[0] if equation.outputs else None
        if value in masks and not counts_elsewhere(value, *masks[value]):
            bared[value] = inputs[2]
    return found


def _mask(equation: Equation, producers: Producers) -> tuple[Atom, int] | None:
    """The index and the case of where(index == case, x, stop_gradient(x)); None if it is none."""
    if equation.primitive is not p.select_n_p or len(equation.inputs) != 3:
        return None
    which, stopped, value = equation.inputs
    stop = producer(stopped, producers)
    if stop is None or stop.primitive is not p.stop_gradient_p:
        return None
    if bare(stop.inputs[0], producers) is not bare(value, producers):
        return None
    holds = producer(_root(which, producers), producers)
    if holds is None or holds.primitive is not p.eq_p:
        return None
    index, case = holds.inputs
    number = uniform(case, {})
    return None if number is None else (_root(index, producers), int(number))


def _root(atom: Atom, producers: Producers) -> Atom:
    """What an index or a condition is spread from."""
    return origin(atom, producers).root


def _drops_wild(
    chain: Sequence[Equation],
    options: Sequence[Atom],
    producers: Producers,
    known: Mapping[Value, Any],
) -> bool:
    """Whether a chain of choices leaves out an option that may not be computed in vain."""
    read = {a for e in chain for a in e.inputs}
    kept = [option for option in options if option in read]
    return any(
        not all(is_tame(option, x, producers, known) for x in kept)
        for option in options
        if option not in read and not (isinstance(option, Literal) or option in known)
    )


def _by_condition(
    equation: Equation,
    producers: Producers,
    places: Mapping[Value, Places],
    known: Mapping[Value, Any],
) -> list[Equation]:
    """A choice by the conditions that its index was made of, or that index itself."""
    if equation.primitive is p.argmax_p and equation.outputs[0] in places:
        conditions, dtype = places[equation.outputs[0]], equation.outputs[0].dtype
        return _chain(equation, conditions, [_integer(i, dtype) for i in range(len(conditions))])
    if equation.primitive is not p.select_n_p:
        return [equation]
    which, *options = equation.inputs
    index = bare(which, producers)
    conditions = places.get(index, ()) if isinstance(index, Value) else ()
    # Of a chain of choices only the last one, which f makes, may be smoothed.
    single = sum(isinstance(condition, Value) for condition, _ in conditions) == 1
    if single and len(options) == len(conditions):
        # Without what a known condition overrides.
        chain = live(_chain(equation, conditions, options), equation.outputs)
        return [equation] if _drops_wild(chain, options, producers, known) else chain
    if which.dtype == np.bool_ or index.dtype != np.bool_ or index.shape != which.shape:
        return [equation]
    # A truth value as a number is 0 or 1: further cases are never chosen.
    return [replace(equation, inputs=(index, *options[:2]))]
