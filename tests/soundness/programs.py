"""Random programs with random sets, accuracies, kernels, allocations and norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import jaxsmooth
from tests.soundness.choices import Choices, array, flag, pick, real
from tests.soundness.composites import layers
from tests.soundness.regions import Ball, Box, Region
from tests.soundness.steps import Shape, Step

KERNELS = ("paper", "centered", "minimax", "softplus", "c2", "auto")
# "explicit": a mapping from the paths of the sites to μ, a part of the uniform one's.
ALLOCATIONS = ("halving", "uniform", "optimal", "optimal", "explicit")


@dataclass(frozen=True)
class Program:
    """A program, the sets of its arguments, and how it is to be smoothed.

    Attributes:
        label: everything about it, for reports.
        function: of ``arguments``; returns an array or a pytree of arrays.
        arguments: shapes and dtypes of the arguments, a pytree each.
        bounds: the sets as the library takes them.
        region: the same sets over the flat vector of all arguments.
        argnums: the arguments to certify for; None for all.
        options: eps, kernel, allocation and norm.
        double: whether it runs in 64 bits.
        traced: whether eps is to be a tracer, in short programs: XLA compiles their analysis.
        reverse: whether JAX can differentiate it in reverse mode.
        forward: whether in forward mode; it can in one of them.
        free: the arguments that are not fixed; None for all.
    """

    label: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    bounds: Any
    region: Region
    argnums: int | tuple[int, ...] | None
    options: dict[str, Any]
    double: bool
    traced: bool
    reverse: bool = True
    forward: bool = True
    free: tuple[int, ...] | None = None

    @property
    def dtype(self) -> type:
        return np.float64 if self.double else np.float32

    def unflatten(self, vector: Any) -> tuple[Any, ...]:
        """The arguments whose numbers are the flat vector."""
        leaves, tree = jax.tree.flatten(self.arguments)
        ends = np.cumsum([math.prod(leaf.shape) for leaf in leaves])
        parts = [
            vector[end - math.prod(leaf.shape) : end].reshape(leaf.shape).astype(leaf.dtype)
            for leaf, end in zip(leaves, ends, strict=True)
        ]
        return jax.tree.unflatten(tree, parts)

    def columns(self, argument: int) -> slice:
        """Where an argument is in the flat vector."""
        return _columns(self.arguments)[argument]

    @property
    def varied(self) -> tuple[int, ...]:
        """The arguments that constants are certified with respect to."""
        if self.argnums is None:
            return self.free if self.free is not None else tuple(range(len(self.arguments)))
        return (self.argnums,) if isinstance(self.argnums, int) else tuple(self.argnums)


def _columns(arguments: tuple[Any, ...]) -> list[slice]:
    """Where each argument is in the flat vector of all."""
    sizes = [sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(a)) for a in arguments]
    return [slice(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes))]


def _numbers(values: np.ndarray, tree: Any) -> Any:
    """The flat numbers as a pytree with the structure of the subtree."""
    leaves, structure = jax.tree.flatten(tree)
    parts, start = [], 0
    for leaf in leaves:
        size = math.prod(leaf.shape)
        parts.append(values[start : start + size].reshape(leaf.shape))
        start += size
    return jax.tree.unflatten(structure, parts)


def _declare(
    choices: Choices, tree: Any, start: int, sections: list, notes: list[str], depth: int = 0
) -> Any:
    """A random set on the subtree, or on each of its children."""
    leaves = jax.tree.leaves(tree)
    size = sum(math.prod(leaf.shape) for leaf in leaves)
    children = jax.tree.flatten(tree, is_leaf=lambda node: node is not tree)
    descend = not isinstance(tree, jax.ShapeDtypeStruct) and len(children[0]) > 0
    if descend and flag(choices, 45 + 40 * (depth == 0)):
        sets = []
        for child in children[0]:
            sets.append(_declare(choices, child, start, sections, notes, depth + 1))
            start += sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(child))
        return jax.tree.unflatten(children[1], sets)
    if size == 0:
        return tree
    where = slice(start, start + size)
    kind = pick(choices, ["ball", "ball", "ball", "number", "box", "linf", "linf", "fixed", "free"])
    radius = max(real(choices, 0.0, 2.0), 2.0**-6 if flag(choices, 90) else 0.0)
    center = array(choices, (size,), 0.5)
    spread = np.abs(array(choices, (size,), 0.7))
    if kind == "free" and flag(choices, 75):
        kind = "ball"
    notes.append(f"{kind} {radius:g} on {[leaf.shape for leaf in leaves]}")
    if kind == "number":
        sections.append((where, Ball(np.zeros(size), radius)))
        return radius
    if kind == "ball":
        if flag(choices, 50):
            sections.append((where, Ball(np.zeros(size), radius)))
            return jaxsmooth.ball(radius)
        sections.append((where, Ball(center, radius)))
        return jaxsmooth.ball(radius, center=_numbers(center, tree))
    if kind == "box":
        lo, hi = center - spread, center + spread
        lo, hi = (x.astype(np.float32).astype(np.float64) for x in (lo, hi))
        sections.append((where, Box(lo, hi)))
        return jaxsmooth.box(_numbers(lo, tree), _numbers(hi, tree))
    if kind == "linf":
        exact = center.astype(np.float64)
        inner = radius * (1 - 1e-6)  # the float32 of center ± radius may be outside
        sections.append((where, Box(exact - inner, exact + inner)))
        return jaxsmooth.linf_ball(radius, center=_numbers(exact, tree))
    if kind == "fixed":
        sections.append((where, Box(center, center, fixed=True)))
        return jaxsmooth.fixed(_numbers(center, tree))
    sections.append((where, Box(np.full(size, -np.inf), np.full(size, np.inf))))
    return jaxsmooth.anything()


def draw(choices: Choices, skip: frozenset[int] = frozenset()) -> Program:
    """A random program.

    Args:
        choices: where the decisions come from.
        skip: steps to leave out, to make a program smaller.
    """
    form = choices.child("form")
    double = flag(form, 75)
    dtype = np.float64 if double else np.float32
    shape: Shape = pick(form, [(3,), (4,), (2,), (5,), (2, 3), (4, 4, 1), (5, 4, 2), (1,)])
    depth = form.integer(1, 6)
    chain = layers(choices, shape, depth, skip)
    for index in range(depth):
        if any(_modes(chain)):
            break
        chain = layers(choices, shape, depth, skip := skip | {index})
    reverse, forward = _modes(chain)

    structs = [
        {key: jax.ShapeDtypeStruct(s, dtype) for key, s in step.parameters.items()}
        for step in chain
    ]
    x = jax.ShapeDtypeStruct(shape, dtype)
    has_parameters = any(structs)
    # A second output after the half of the network, so that there is a tree of outputs.
    two = flag(form, 15) and len(chain) > 1

    def function(*arguments):
        parameters, value = arguments if has_parameters else (structs, arguments[0])
        middle = value
        for index, (step, own) in enumerate(zip(chain, parameters, strict=True)):
            value = step.apply(own, value)
            if index == len(chain) // 2 - 1:
                middle = value
        return {"last": value, "middle": middle} if two else value

    arguments = (structs, x) if has_parameters else (x,)
    sections: list = []
    notes: list[str] = []
    # A set alone is that of the only argument.
    declared = arguments if has_parameters else x
    bounds = _declare(choices.child("bounds"), declared, 0, sections, notes)
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(arguments))

    argnums = None
    free = tuple(
        argument
        for argument, columns in enumerate(_columns(arguments))
        if not all(
            isinstance(section, Box) and section.fixed
            for where, section in sections
            if where.start < columns.stop and columns.start < where.stop
        )
    )
    if has_parameters:
        argnums = pick(form, [None, None, 0, 1, (0, 1), (1, 0), (1,)])
        wanted = (argnums,) if isinstance(argnums, int) else argnums
        # What is fixed cannot be differentiated in.
        if wanted is not None and not set(wanted) <= set(free):
            argnums = None
    options = {
        "eps": 10.0 ** form.integer(-3, 0) * pick(form, [1.0, 3.0]),
        "kernel": pick(form, KERNELS),
        "allocation": pick(form, ALLOCATIONS),
        "norm": "linf" if flag(form, 20) else "l2",
    }
    lines = [step.name for step in chain]
    label = (
        f"x {shape} {'f64' if double else 'f32'}: {' → '.join(lines)}"
        f" | {'; '.join(notes)} | argnums {argnums} | {options}"
    )
    return Program(
        label=label + (" | middle is an output too" if two else ""),
        function=function,
        arguments=arguments,
        bounds=bounds,
        region=Region(tuple(sections), size),
        argnums=argnums,
        options=options,
        double=double,
        traced=flag(form, 4) and depth <= 2 and not _has_loops(function, arguments, double),
        reverse=reverse,
        forward=forward,
        free=free,
    )


def _modes(chain: list[Step]) -> tuple[bool, bool]:
    """Whether JAX can differentiate the steps in reverse and in forward mode."""
    kinds = ("while_loop", "custom_vjp")
    return tuple(not any(kind in step.name for step in chain) for kind in kinds)


def _has_loops(function: Callable, arguments: tuple, double: bool) -> bool:
    """Whether the program has loops: with a traced eps their analysis is unrolled, and slow."""
    with jax.enable_x64(double):
        text = str(jax.make_jaxpr(function)(*arguments))
    return "scan[" in text or "while[" in text
