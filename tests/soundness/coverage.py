"""Which primitives the building blocks of random programs are made of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from tests.soundness.choices import Seeded
from tests.soundness.complexes import COMPLEX
from tests.soundness.composites import BRANCHES, KINDS, LOSSES
from tests.soundness.functions import ALGEBRA, KINKED, REDUCTIONS, SMOOTH, STRUCTURE, WHOLE
from tests.soundness.steps import LEAVES, Shape, Step

SHAPES: tuple[Shape, ...] = ((4,), (2, 3), (4, 4, 2))
# What tables do not list is drawn this many times.
SEEDS = 60


def building_blocks() -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Functions, and the shapes of arguments that they take."""
    for shape in SHAPES:
        x = jax.ShapeDtypeStruct(shape, np.float32)
        for table in (KINKED, SMOOTH, REDUCTIONS, WHOLE, STRUCTURE, COMPLEX, ALGEBRA, LOSSES):
            yield from ((use, (x,)) for use in table.values())
        yield from ((join, (x, x)) for join in BRANCHES.values())
        for factory, seed in itertools.product(dict.fromkeys((*KINDS, *LEAVES)), range(SEEDS)):
            step: Step | None = factory(Seeded(seed), shape)
            if step is not None:
                structs = {k: jax.ShapeDtypeStruct(s, x.dtype) for k, s in step.parameters.items()}
                yield step.apply, (structs, x)


def _inside(jaxpr: Any) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        yield eqn.primitive
        for inner in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _inside(inner)


def primitives_drawn() -> set[Any]:
    """The primitives in the building blocks, those in inner jaxprs too."""
    found: set[Any] = set()
    for function, structs in building_blocks():
        try:
            jaxpr = jax.make_jaxpr(function)(*structs)
        except (TypeError, ValueError, IndexError):  # does not fit the shape
            continue
        found.update(_inside(jaxpr.jaxpr))
    return found
