"""Softmax and its kin, recognised by algebra.

    exp(z) / Σ exp(z)   = softmax(z)           softmax(x - t)         = softmax(x)
    log Σ exp(z)        = logsumexp(z)         logsumexp(x - t) + t   = logsumexp(x)
    z - logsumexp(z)    = log_softmax(z)       log_softmax(x - t)     = log_softmax(x)
    w exp(z)            = exp(z + log w)       for known w >= 0, which masks are, too

for every t that is constant along the axes of the sum and may be computed in vain
(`jaxsmooth.program.tame`): the largest entry, which is subtracted for numerical stability, is
then no site, for nothing depends on it.
These are identities, so nothing is recognised by its name, and nothing by mistake. They
hold in every layout (`jaxsmooth.program.layout`), under `jax.vmap` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value, live
from jaxsmooth.program.layout import (
    Axes,
    Producers,
    bare,
    constant_along,
    kept_axes,
    long_axes,
    origin,
    producer,
    reduced,
    spread_over,
    through,
    without,
)
from jaxsmooth.program.simplify import numbers, uniform
from jaxsmooth.program.tame import is_tame

SOFTMAX = Primitive("softmax")
"""``weighed`` tells that its operand is not the program's: logarithms of weights are added."""
LOG_SOFTMAX = Primitive("log_softmax")
LOGSUMEXP = Primitive("logsumexp")


def exponentials(
    equations: Sequence[Equation], outputs: Sequence[Atom], known: dict[Value, Any]
) -> list[Equation]:
    """The equations with softmax and its kin as one equation each, dead ones dropped.

    Their ``params`` hold ``axes``. The shape of a logsumexp is that of its operand without
    the axes, or with axes of length one in their place. ``known`` gets logarithms of weights.
    """
    return rewritten(_REWRITES, equations, outputs, known)


Rewrites = Mapping[
    Primitive, Callable[[Equation, Producers, dict[Value, Any]], list[Equation] | None]
]
"""By the primitive of an equation, what finds equations that compute the same; None if none."""


def rewritten(
    rewrites: Rewrites,
    equations: Sequence[Equation],
    outputs: Sequence[Atom],
    known: dict[Value, Any],
) -> list[Equation]:
    """The equations with those of real numbers rewritten, dead ones dropped."""
    producers: dict[Value, Equation] = {}
    result: list[Equation] = []
    for equation in equations:
        producers.update(dict.fromkeys(equation.outputs, equation))
        rewrite, made = rewrites.get(equation.primitive), None
        if rewrite is not None and jnp.issubdtype(equation.outputs[0].dtype, jnp.floating):
            made = rewrite(equation, producers, known)
        for found in made or [equation]:
            result.append(found)
            producers.update(dict.fromkeys(found.outputs, found))
    return live(result, outputs)


def _along(
    equation: Equation, key: Primitive, operand: Atom, axes: tuple[int, ...], **params: Any
) -> list[Equation]:
    params |= {"axes": axes}
    return [replace(equation, primitive=key, params=params, inputs=(operand,), eqn=None)]


def _sum(atom: Atom, producers: Producers) -> tuple[Atom, tuple[int, ...], Axes] | None:
    """(y, axes, layout) if the atom is a layout of Σ y: its axes as axes of y."""
    found = origin(atom, producers)
    summed = producer(found.root, producers)
    if summed is None or summed.primitive is not p.reduce_sum_p:
        return None
    axes = tuple(int(a) for a in summed.params["axes"])
    kept = kept_axes(len(summed.inputs[0].shape), axes)
    return summed.inputs[0], axes, through(found.axes, kept)


def _exponential(
    atom: Atom, producers: Producers, known: Mapping[Value, Any]
) -> tuple[Atom, np.ndarray] | None:
    """(z, log w) if the atom is w exp(z) with known w >= 0."""
    logs = np.zeros(atom.shape)
    while True:
        equation = producer(atom, producers)
        if equation is None:
            return None
        if equation.primitive is p.exp_p:
            return equation.inputs[0], logs
        found = _weighed(equation, known)
        if found is None or found[0].shape != logs.shape:
            return None
        atom, logs = found[0], logs + found[1]


def _weighed(equation: Equation, known: Mapping[Value, Any]) -> tuple[Atom, np.ndarray] | None:
    """(y, log w) if the equation computes w y with known w >= 0."""
    if equation.primitive is p.mul_p:
        for y, factor in (equation.inputs, equation.inputs[::-1]):
            weights = numbers(factor, known)
            if weights is not None and np.all((weights >= 0) & (weights < np.inf)):
                with np.errstate(divide="ignore"):
                    return y, np.log(weights.astype(float))
    if equation.primitive is p.select_n_p and len(equation.inputs) == 3:
        which, *cases = equation.inputs
        chosen = numbers(which, known)
        for i, y in enumerate(cases):
            if chosen is not None and uniform(cases[1 - i], known) == 0:
                return y, np.where(chosen == i, 0.0, -np.inf)
    return None


def _weighs_some(logs: np.ndarray, axes: tuple[int, ...]) -> bool:
    """Whether no slice has weights 0 alone: derivatives of the program are no numbers there."""
    return bool(np.all(np.any(logs > -np.inf, axis=axes)))


def _plus_log(
    z: Atom, logs: np.ndarray, at: Equation, producers: Producers, known: dict[Value, Any]
) -> tuple[list[Equation], Atom]:
    """Equations for z + log w, which is -∞ where w = 0; x - t becomes (x + log w) - t."""
    if not np.any(logs):
        return [], z
    added: list[Equation] = []

    def constant(array: np.ndarray) -> Value:
        value = Value(ShapedArray(z.shape, array.dtype))
        known[value] = array
        return value

    def compute(primitive: Primitive, *operands: Atom) -> Value:
        result, path = Value(z.aval), f"{at.path}/weights.{len(added)}"
        added.append(Equation(primitive, {}, operands, (result,), path, at.source))
        return result

    result, subtracted, shift = z, None, producer(z, producers)
    if shift is not None and shift.primitive is p.sub_p and shift.inputs[0].shape == z.shape:
        result, subtracted = shift.inputs
    logs = np.broadcast_to(logs, z.shape)
    mask = logs > -np.inf
    if not mask.all():
        least = np.full(z.shape, -np.inf, z.dtype)
        result = compute(p.select_n_p, constant(mask), constant(least), result)
    logs = np.where(mask, logs, 0.0).astype(z.dtype)
    if np.any(logs):
        result = compute(p.add_p, result, constant(logs))
    if subtracted is not None:
        result = compute(p.sub_p, result, subtracted)
    return added, result


_TAME = frozenset({SOFTMAX, LOG_SOFTMAX, LOGSUMEXP})


def _unshifted(
    z: Atom, axes: tuple[int, ...], producers: Producers, known: Mapping[Value, Any]
) -> Atom:
    """x if z is x - t with t constant along the axes, over and over."""
    # Along axes of length one all is: what is left does not matter.
    alone = all(z.shape[a] == 1 for a in axes)
    while True:
        equation = producer(z, producers)
        if equation is None or equation.primitive not in (p.sub_p, p.add_p):
            return z
        orders = [equation.inputs]
        if equation.primitive is p.add_p:
            orders.append(equation.inputs[::-1])
        found = [
            x
            for x, t in orders
            if isinstance(x, Value)
            and x.shape == z.shape
            and constant_along(t, axes, producers)
            and (alone or not constant_along(x, axes, producers))
            and is_tame(t, x, producers, known, _TAME)
        ]
        if not found:
            return z
        z = found[0]


def _softmax(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    above, below = equation.inputs
    return _fraction(equation, above, 0.0, below, producers, known)


def _masked_softmax(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    """A softmax with zeros where a known mask says so: what its sum leaves out."""
    masked = _weighed(equation, known)
    fraction = None if masked is None else producer(masked[0], producers)
    if masked is None or fraction is None or fraction.primitive is not p.div_p:
        return None
    above, below = fraction.inputs
    return _fraction(equation, above, masked[1], below, producers, known)


def _fraction(
    equation: Equation,
    above: Atom,
    factor: np.ndarray | float,
    below: Atom,
    producers: Producers,
    known: dict[Value, Any],
) -> list[Equation] | None:
    """softmax(z + log w), if exp(factor) · above / below is w exp(z) / Σ w exp(z)."""
    found, exponential = _sum(below, producers), _exponential(above, producers, known)
    if found is None or exponential is None:
        return None
    (summands, axes, layout), (z, logs) = found, exponential
    summed = _exponential(summands, producers, known)
    if summed is None or summed[0] is not z or z.shape != equation.outputs[0].shape:
        return None
    if not np.array_equal(summed[1], logs + factor) or not spread_over(z.shape, axes, layout):
        return None
    if not _weighs_some(summed[1], axes):
        return None
    added, z = _plus_log(z, summed[1], equation, producers, known)
    producers = {**producers, **{e.outputs[0]: e for e in added}} if added else producers
    weighed = {"weighed": True} if added else {}
    return [
        *added,
        *_along(equation, SOFTMAX, _unshifted(z, axes, producers, known), axes, **weighed),
    ]


def _log_of_sum(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    (operand,) = equation.inputs
    absolute = producer(operand, producers)
    if absolute is not None and absolute.primitive is p.abs_p:
        (operand,) = absolute.inputs
    found = _sum(operand, producers)
    summand = None if found is None else _exponential(found[0], producers, known)
    if found is None or summand is None:
        return None
    (_, axes, layout), (z, logs) = found, summand
    places = reduced(z.shape, axes, equation.outputs[0].shape)
    if places is None or layout != long_axes(without(places, axes), z.shape):
        return None
    if not _weighs_some(logs, axes):
        return None
    added, z = _plus_log(z, logs, equation, producers, known)
    return [*added, *_along(equation, LOGSUMEXP, z, axes)]


def logsumexp_of(atom: Atom, producers: Producers) -> tuple[Equation, Axes] | None:
    """The logsumexp that an atom is a layout of, and its axes as axes of the operand."""
    found = origin(atom, producers)
    equation = producer(found.root, producers)
    if equation is None or equation.primitive is not LOGSUMEXP:
        return None
    shape, axes = equation.inputs[0].shape, equation.params["axes"]
    places = reduced(shape, axes, equation.outputs[0].shape)
    return None if places is None else (equation, through(found.axes, places))  # type: ignore[arg-type]


def _shifted_back(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    """logsumexp(x - t) + t."""
    for summand, t in (equation.inputs, equation.inputs[::-1]):
        logsum = producer(summand, producers)
        if logsum is None or logsum.primitive is not LOGSUMEXP:
            continue
        (z,), axes = logsum.inputs, logsum.params["axes"]
        shift = producer(z, producers)
        places = reduced(z.shape, axes, equation.outputs[0].shape)
        if shift is None or shift.primitive is not p.sub_p or places is None:
            continue
        x, subtracted = shift.inputs
        if not isinstance(x, Value) or x.shape != z.shape:
            continue
        inner, outer = origin(subtracted, producers), origin(t, producers)
        # In axes of z: what was subtracted along the axes, and what is added, agree.
        if len(inner.axes) != len(z.shape) or any(inner.axes[a] is not None for a in axes):
            continue
        expected = tuple(None if a in axes else inner.axes[a] for a in places)  # type: ignore[index]
        same = inner.root is outer.root and outer.axes == expected
        if same and is_tame(t, x, producers, known, _TAME):
            return _along(equation, LOGSUMEXP, x, axes)
    return None


def _difference(
    equation: Equation, producers: Producers, known: dict[Value, Any]
) -> list[Equation] | None:
    first, second = equation.inputs
    found = logsumexp_of(second, producers)
    if found is not None:
        logsum, layout = found
        (z,), axes = logsum.inputs, logsum.params["axes"]
        same = bare(first, producers) is bare(z, producers)
        fits = z.shape == equation.outputs[0].shape
        if same and fits and spread_over(z.shape, axes, without(layout, axes)):
            return _along(equation, LOG_SOFTMAX, _unshifted(z, axes, producers, known), axes)
    return None


_REWRITES: Rewrites = {
    p.div_p: _softmax,
    p.select_n_p: _masked_softmax,
    p.log_p: _log_of_sum,
    p.add_p: _shifted_back,
    p.sub_p: _difference,
}
