"""Logarithms of softmax, entries of them, and their weighed sums, which are cross-entropies.

    log softmax(x)[i]    = log_softmax(x)[i]
    logsumexp(x) - x[i]  = -log_softmax(x)[i]
    Σ y log_softmax(x)   = Σ y x - (Σ y) logsumexp(x)

What is picked of every slice, or summed along it, has smaller derivatives than all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.entries import Entries, entries
from jaxsmooth.program.exponentials import (
    LOG_SOFTMAX,
    SOFTMAX,
    Rewrites,
    logsumexp_of,
    rewritten,
)
from jaxsmooth.program.graph import Atom, Equation, Value
from jaxsmooth.program.layout import (
    Producers,
    constant_along,
    long_axes,
    made_by,
    producer,
    without,
)
from jaxsmooth.program.simplify import numbers

LOG_PROBABILITY = Primitive("log_probability")
"""Entries of log softmax(x).

``steps`` are the equations that pick them, of which the indices are operands. ``single`` tells
that no two are of one slice, ``fraction`` that the program computes the softmax first.
"""
CROSS_ENTROPY = Primitive("cross_entropy")
"""logsumexp(x) - x[i], with the params of `LOG_PROBABILITY`; always single."""
EXPECTATION = Primitive("expected_log_probability")
"""Σ y log softmax(x) along ``axes``.

``weights`` are known numbers y, of the shape of x. With a second operand, which has a one at
most once in every slice and zeros else, they are those times the operand.
"""


def log_probabilities(
    equations: Sequence[Equation], outputs: Sequence[Atom], known: dict[Value, Any]
) -> list[Equation]:
    """The equations with logarithms of softmax as one equation each, dead ones dropped."""
    return rewritten(_REWRITES, equations, outputs, known)


def is_whole(equation: Equation) -> bool:
    """Whether an equation computes all of log softmax(x)."""
    whole = equation.primitive is LOG_PROBABILITY and not equation.params["steps"]
    return whole or equation.primitive is LOG_SOFTMAX


def _entries_made(
    atom: Atom,
    producers: Producers,
    known: Mapping[Value, Any],
    wanted: Callable[[Equation], bool],
) -> tuple[Entries, Equation] | None:
    """The atom as entries of what a wanted equation computes, and that."""

    def is_wanted(origin: Atom) -> bool:
        made = made_by(origin, producers)
        return made is not None and wanted(made)

    picked = entries(atom, producers, known, is_wanted)
    made = None if picked is None else made_by(picked.origin, producers)
    return None if picked is None or made is None else (picked, made)


def _of(
    picked: Entries, x: Atom, axes: tuple[int, ...], key: Primitive, at: Equation, **params: Any
) -> list[Equation]:
    """The equation that has these entries of what the key computes along the axes of x."""
    indices = tuple(a for step in picked.steps for a in step.inputs[1:])
    params |= {"axes": axes, "steps": picked.steps, "single": picked.are_single(axes)}
    return [replace(at, primitive=key, params=params, inputs=(x, *indices), eqn=None)]


def _logarithm(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    """Logarithms of entries of a softmax."""
    found = _entries_made(
        equation.inputs[0], producers, known, lambda made: made.primitive is SOFTMAX
    )
    if found is None:
        return None
    picked, fraction = found
    # The program does not compute what is added to the exponents in place of weights.
    if "weighed" in fraction.params:
        return None
    (x,), axes = fraction.inputs, fraction.params["axes"]
    return _of(picked, x, axes, LOG_PROBABILITY, equation, fraction=True)


def _pick(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    """One entry of every slice of a log_softmax."""
    found = _entries_made(equation.outputs[0], producers, known, is_whole)
    if found is None:
        return None
    picked, whole = found
    (x,), axes = whole.inputs, whole.params["axes"]
    if not picked.are_single(axes):
        return None
    return _of(picked, x, axes, LOG_PROBABILITY, equation, **_fraction(whole))


def _fraction(whole: Equation) -> dict[str, Any]:
    return {"fraction": True} if "fraction" in whole.params else {}


def _cross_entropy(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    """logsumexp(x) - x[i], for one entry of every slice."""
    first, second = equation.inputs
    found = logsumexp_of(first, producers)
    if found is None:
        return None
    logsum, layout = found
    (x,), axes = logsum.inputs, logsum.params["axes"]
    picked = entries(second, producers, known, lambda atom: atom is x)
    if picked is None or not picked.are_single(axes):
        return None
    if long_axes(without(layout, axes), x.shape) != picked.slices(axes):
        return None
    return _of(picked, x, axes, CROSS_ENTROPY, equation)


def _expectation(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    """Sums of known multiples of a log_softmax along its axes, and maybe others after them."""
    found = _multiple(equation.inputs[0], producers, known)
    if found is None:
        return None
    whole, weights, chosen = found
    x, axes = whole.inputs[0], tuple(whole.params["axes"])
    summed = tuple(int(a) for a in equation.params["axes"])
    if not set(axes) <= set(summed):
        return None
    if any(not _picks_once(y, axes, producers, known) for y in chosen):
        return None
    weights = np.broadcast_to(weights, x.shape)
    params = {"axes": axes, "weights": weights, **_fraction(whole)}
    result = replace(equation, primitive=EXPECTATION, params=params, inputs=(x, *chosen), eqn=None)
    if set(axes) == set(summed):
        return [result]
    if "fraction" in whole.params:
        # The program does not compute the sums along these axes alone.
        return None
    kept = [a for a in range(len(x.shape)) if a not in axes]
    shape = tuple(x.shape[a] for a in kept)
    inner = Value(equation.outputs[0].aval.update(shape=shape))
    others = tuple(i for i, a in enumerate(kept) if a in summed)
    return [
        replace(result, outputs=(inner,), path=f"{equation.path}/slices"),
        replace(equation, params=equation.params | {"axes": others}, inputs=(inner,), eqn=None),
    ]


def _multiple(
    atom: Atom, producers: Producers, known: Mapping[Value, Any]
) -> tuple[Equation, np.ndarray, list[Atom]] | None:
    """(log_softmax, weights, one unknown factor or none) of which the atom is the product."""
    weights, unknown = np.ones(()), []
    while True:
        equation = producer(atom, producers)
        if equation is None:
            return None
        if is_whole(equation):
            finite = np.all(np.isfinite(weights))
            return (equation, weights, unknown) if finite and len(unknown) <= 1 else None
        if equation.primitive is p.neg_p:
            (atom,), weights = equation.inputs, -weights
        elif equation.primitive is p.mul_p:
            arrays = [numbers(a, known) for a in equation.inputs]
            if all(array is None for array in arrays):
                one_hots = [_comparison(a, producers) is not None for a in equation.inputs]
                if one_hots.count(True) != 1:
                    return None
                place = one_hots.index(False)
                unknown.append(equation.inputs[1 - place])
            else:
                place = 0 if arrays[0] is None else 1
                weights = weights * np.asarray(arrays[1 - place], float)
            atom = equation.inputs[place]
        else:
            return None


def _comparison(atom: Atom, producers: Producers) -> Equation | None:
    """The comparison for equality whose truth values the atom has as numbers."""
    equation = producer(atom, producers)
    while equation is not None and equation.primitive is p.convert_element_type_p:
        equation = producer(equation.inputs[0], producers)
    return equation if equation is not None and equation.primitive is p.eq_p else None


def _picks_once(
    atom: Atom, axes: tuple[int, ...], producers: Producers, known: Mapping[Value, Any]
) -> bool:
    """Whether at most one entry of every slice is one, and the others zero: `jax.nn.one_hot`."""
    comparison = _comparison(atom, producers)
    if comparison is None:
        return False
    for label, classes in (comparison.inputs, comparison.inputs[::-1]):
        array = numbers(classes, known)
        if array is None or array.ndim != len(atom.shape):
            continue
        if any(array.shape[a] != atom.shape[a] for a in axes):
            continue
        slices = np.moveaxis(array, axes, range(-len(axes), 0))
        slices = np.sort(slices.reshape(-1, np.prod([array.shape[a] for a in axes], dtype=int)))
        if np.all(slices[:, 1:] != slices[:, :-1]) and constant_along(label, axes, producers):
            return True
    return False


_REWRITES: Rewrites = {
    p.log_p: _logarithm,
    p.gather_p: _pick,
    p.slice_p: _pick,
    p.dynamic_slice_p: _pick,
    p.sub_p: _cross_entropy,
    p.reduce_sum_p: _expectation,
}
