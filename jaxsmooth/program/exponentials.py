"""Softmax and its kin, recognised by algebra.

    exp(z) / Σ exp(z)   = softmax(z)           softmax(x - t)         = softmax(x)
    log Σ exp(z)        = logsumexp(z)         logsumexp(x - t) + t   = logsumexp(x)
    z - logsumexp(z)    = log_softmax(z)       log_softmax(x - t)     = log_softmax(x)
    logsumexp(x) - x[i] = -log_softmax(x)[i]

for every t that is constant along the axes of the sum, whatever it is: the largest entry,
which is subtracted for numerical stability, is then no site, for nothing depends on it.
These are identities, so nothing is recognised by its name, and nothing by mistake. They
hold in every layout (`jaxsmooth.program.layout`), under `jax.vmap` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
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
    moved,
    origin,
    producer,
    reduced,
    spread_over,
    through,
    without,
)

SOFTMAX = Primitive("softmax")
LOG_SOFTMAX = Primitive("log_softmax")
LOGSUMEXP = Primitive("logsumexp")
CROSS_ENTROPY = Primitive("cross_entropy")
"""``steps`` are the equations that pick one entry of every slice; their indices are operands."""


def exponentials(equations: Sequence[Equation], outputs: Sequence[Atom]) -> list[Equation]:
    """The equations with softmax and its kin as one equation each, dead ones dropped.

    Their ``params`` hold ``axes``. The shape of a logsumexp is that of its operand without
    the axes, or with axes of length one in their place.
    """
    producers: dict[Value, Equation] = {}
    result: list[Equation] = []
    for equation in equations:
        for found in _rewritten(equation, producers) or [equation]:
            result.append(found)
            producers.update(dict.fromkeys(found.outputs, found))
    return live(result, outputs)


def _rewritten(equation: Equation, producers: Producers) -> list[Equation] | None:
    rewrite = _REWRITES.get(equation.primitive)
    if rewrite is None or not jnp.issubdtype(equation.outputs[0].dtype, jnp.floating):
        return None
    return rewrite(equation, producers)


def _along(
    equation: Equation, key: Primitive, operand: Atom, axes: tuple[int, ...]
) -> list[Equation]:
    return [replace(equation, primitive=key, params={"axes": axes}, inputs=(operand,), eqn=None)]


def _sum_of_exponentials(
    atom: Atom, producers: Producers
) -> tuple[Atom, tuple[int, ...], Axes] | None:
    """(z, axes, layout) if the atom is a layout of Σ exp(z): its axes as axes of z."""
    found = origin(atom, producers)
    summed = producer(found.root, producers)
    if summed is None or summed.primitive is not p.reduce_sum_p:
        return None
    exponential = producer(summed.inputs[0], producers)
    if exponential is None or exponential.primitive is not p.exp_p:
        return None
    axes = tuple(int(a) for a in summed.params["axes"])
    kept = kept_axes(len(summed.inputs[0].shape), axes)
    return exponential.inputs[0], axes, through(found.axes, kept)


def _unshifted(z: Atom, axes: tuple[int, ...], producers: Producers) -> Atom:
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
        ]
        if not found:
            return z
        z = found[0]


def _softmax(equation: Equation, producers: Producers) -> list[Equation] | None:
    above, below = equation.inputs
    found, exponential = _sum_of_exponentials(below, producers), producer(above, producers)
    if found is None or exponential is None or exponential.primitive is not p.exp_p:
        return None
    z, axes, layout = found
    if exponential.inputs[0] is not z or z.shape != equation.outputs[0].shape:
        return None
    if not spread_over(z.shape, axes, layout):
        return None
    return _along(equation, SOFTMAX, _unshifted(z, axes, producers), axes)


def _log_of_sum(equation: Equation, producers: Producers) -> list[Equation] | None:
    (operand,) = equation.inputs
    absolute = producer(operand, producers)
    if absolute is not None and absolute.primitive is p.abs_p:
        (operand,) = absolute.inputs
    found = _sum_of_exponentials(operand, producers)
    if found is None:
        return None
    z, axes, layout = found
    places = reduced(z.shape, axes, equation.outputs[0].shape)
    if places is None or layout != long_axes(without(places, axes), z.shape):
        return None
    return _along(equation, LOGSUMEXP, z, axes)


def _logsumexp(atom: Atom, producers: Producers) -> tuple[Equation, Axes] | None:
    """The logsumexp that an atom is a layout of, and its axes as axes of the operand."""
    found = origin(atom, producers)
    equation = producer(found.root, producers)
    if equation is None or equation.primitive is not LOGSUMEXP:
        return None
    shape, axes = equation.inputs[0].shape, equation.params["axes"]
    places = reduced(shape, axes, equation.outputs[0].shape)
    return None if places is None else (equation, through(found.axes, places))  # type: ignore[arg-type]


def _shifted_back(equation: Equation, producers: Producers) -> list[Equation] | None:
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
        if inner.root is outer.root and outer.axes == expected:
            return _along(equation, LOGSUMEXP, x, axes)
    return None


def _difference(equation: Equation, producers: Producers) -> list[Equation] | None:
    first, second = equation.inputs
    found = _logsumexp(second, producers)
    if found is not None:
        logsum, layout = found
        (z,), axes = logsum.inputs, logsum.params["axes"]
        same = bare(first, producers) is bare(z, producers)
        fits = z.shape == equation.outputs[0].shape
        if same and fits and spread_over(z.shape, axes, without(layout, axes)):
            return _along(equation, LOG_SOFTMAX, _unshifted(z, axes, producers), axes)
    return _cross_entropy(equation, producers)


def _cross_entropy(equation: Equation, producers: Producers) -> list[Equation] | None:
    """logsumexp(x) - x[label] = -log_softmax(x)[label]."""
    first, second = equation.inputs
    found = _logsumexp(first, producers)
    if found is None:
        return None
    logsum, layout = found
    (x,), axes = logsum.inputs, logsum.params["axes"]
    chain = _entry_of(second, x, axes, producers)
    if chain is None or long_axes(without(layout, axes), x.shape) != chain[1]:
        return None
    steps = tuple(chain[0])
    indices = tuple(a for step in steps for a in step.inputs[1:])
    params = {"axes": axes, "steps": steps}
    return [
        replace(equation, primitive=CROSS_ENTROPY, params=params, inputs=(x, *indices), eqn=None)
    ]


def _entry_of(
    atom: Atom, x: Atom, axes: tuple[int, ...], producers: Producers
) -> tuple[list[Equation], Axes] | None:
    """The equations that pick one entry of every slice of x, and where the others stay."""
    chain: list[Equation] = []
    layout: Axes = tuple(range(len(atom.shape)))
    while atom is not x:
        equation = producers.get(atom) if isinstance(atom, Value) else None
        step = None if equation is None else _picked(equation)
        if equation is None or step is None:
            return None
        layout = tuple(None if a is None else step[a] for a in layout)
        chain.append(equation)
        atom = equation.inputs[0]
    return chain[::-1], long_axes(without(layout, axes), x.shape)


def _picked(equation: Equation) -> Axes | None:
    """For every axis of the result, the operand's axis along which whole slices are kept.

    None for the axes along which entries are picked.
    """
    primitive, params = equation.primitive, equation.params
    operand, shape = equation.inputs[0].shape, equation.outputs[0].shape
    if primitive in (p.slice_p, p.dynamic_slice_p):
        if primitive is p.slice_p and params["strides"] is not None:
            return None
        return tuple(a if n == operand[a] else None for a, n in enumerate(shape))
    if primitive is p.gather_p:
        return _gathered(equation)
    return moved(equation)


def _gathered(equation: Equation) -> Axes | None:
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    operand, shape = equation.inputs[0].shape, equation.outputs[0].shape
    batching = tuple(numbers.operand_batching_dims)
    gone = set(numbers.collapsed_slice_dims) | set(batching)
    whole = iter(a for a in range(len(operand)) if a not in gone)
    # The axes of the indices but the last, in order, are the result's other axes.
    ahead = iter(range(len(equation.inputs[1].shape) - 1))
    places = dict(zip(numbers.start_indices_batching_dims, batching, strict=True))
    found: list[int | None] = []
    for axis in range(len(shape)):
        if axis in numbers.offset_dims:
            inner = next(whole)
            found.append(inner if sizes[inner] == operand[inner] else None)
        else:
            found.append(places.get(next(ahead)))
    return tuple(found)


_REWRITES = {
    p.div_p: _softmax,
    p.log_p: _log_of_sum,
    p.add_p: _shifted_back,
    p.sub_p: _difference,
}
