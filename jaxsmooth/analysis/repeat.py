"""Walking a loop of the program step by step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import jax
import numpy as np

from jaxsmooth.analysis.slices import change_of_slice, change_of_stack, slice_of, stack_of
from jaxsmooth.analysis.sources import Perturbation
from jaxsmooth.math.array import is_traced
from jaxsmooth.math.range import Range
from jaxsmooth.program.graph import Atom, Equation, Value
from jaxsmooth.program.loops import Steps


class Walk(Protocol):
    """What a pass lets a loop do."""

    problem: Any
    current: dict[Value, Any]
    positions: list[int]
    collecting: bool
    indices: dict[Equation, int]

    def known(self, atom: Atom, shape: tuple[int, ...]) -> Any:
        """The atom's value at the current step, or None."""
        ...

    def output(self, atom: Atom) -> tuple[Range, Perturbation | None]:
        """The atom's range and change."""
        ...

    def irregular(self, atom: Atom) -> tuple[bool, bool]:
        """Whether the atom may be no number, and whether it may be infinite."""
        ...

    def note(self, value: Value, undefined: bool, infinite: bool) -> None:
        """Note that a value may be no number, or infinite."""
        ...

    def enter(self, value: Value, r: Range, change: Perturbation | None) -> None:
        """Set a value's range and change."""
        ...

    def equation(self, equation: Equation) -> None:
        """Walk one equation."""
        ...


def repeat(walk: Walk, equation: Equation, steps: Steps) -> None:
    """Ranges and changes of a loop's results.

    The carry's range and change go from step to step. What sites do is decided once for all
    steps, so the ranges of their operands are collected first.
    """
    if not walk.positions and not walk.problem.exact and _has_sites(walk, steps):
        walk.collecting = True
        _walk(walk, steps)
        walk.collecting = False
    _walk(walk, steps)


def _has_sites(walk: Walk, steps: Steps) -> bool:
    loops = walk.problem.normal.loops
    return any(
        e in walk.indices or (e in loops and _has_sites(walk, loops[e])) for e in steps.equations
    )


def _pass_on(walk: Walk, passed: Iterable[tuple[Atom, Value]]) -> None:
    """Note which targets may be no numbers, or infinite, as their sources may be."""
    for source, target in passed:
        walk.note(target, *walk.irregular(source))


def _walk(walk: Walk, steps: Steps) -> None:
    domain = walk.problem.domain
    known: list[tuple[Value, Any]] = []
    moving: list[tuple[Value, Range, Perturbation | None]] = []
    for stack, value in steps.slices:
        values = walk.known(stack, stack.shape)
        if values is None:
            moving.append((value, *walk.output(stack)))
            walk.note(value, *walk.irregular(stack))
        else:
            known.append((value, _slices(values)))
    state = [walk.output(start) for start, *_ in steps.carry]
    slots: list[dict[int, tuple[Range, Perturbation | None]]] = [{} for _ in steps.slots]
    _pass_on(walk, ((start, value) for start, value, *_ in steps.carry))
    order = range(steps.length)
    for position in reversed(order) if steps.reverse else order:
        walk.positions.append(position)
        walk.current.update((value, values[position]) for value, values in known)
        for value, r, change in moving:
            part = change_of_slice(change, position)
            walk.enter(value, slice_of(r, position, domain), part)
        for (_, value, *_), (r, change) in zip(steps.carry, state, strict=True):
            walk.enter(value, r, change)
        for inner in steps.equations:
            walk.equation(inner)
        state = [walk.output(after) for _, _, after, _ in steps.carry]
        _pass_on(walk, ((after, value) for _, value, after, _ in steps.carry))
        for found, (atom, _) in zip(slots, steps.slots, strict=True):
            found[position] = walk.output(atom)
        walk.positions.pop()
    for value, _ in known:
        walk.current.pop(value, None)
    _pass_on(walk, ((value, result) for _, value, _, result in steps.carry))
    _pass_on(walk, steps.slots)
    for (*_, result), (r, change) in zip(steps.carry, state, strict=True):
        walk.enter(result, r, change)
    for found, (atom, result) in zip(slots, steps.slots, strict=True):
        r = stack_of([found[i][0] for i in order], domain)
        walk.enter(result, r, change_of_stack([found[i][1] for i in order], atom.shape))


def _slices(values: Any) -> Any:
    """The slices of a known stack, in NumPy where it can be: JAX takes far longer."""
    if is_traced(values):
        return values
    if jax.numpy.issubdtype(values.dtype, jax.dtypes.extended):
        with jax.ensure_compile_time_eval():
            return [values[i] for i in range(len(values))]
    return np.asarray(values)
