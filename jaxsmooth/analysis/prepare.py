"""From a function and bounds to the problem that passes are run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsmooth.rules  # noqa: F401  (enters the rules)
from jaxsmooth import errors
from jaxsmooth.analysis.problem import Problem
from jaxsmooth.bounds import Domain, resolve
from jaxsmooth.math.array import is_traced
from jaxsmooth.math.distances import excess
from jaxsmooth.math.kernels import kernel_named
from jaxsmooth.math.univariate import is_known
from jaxsmooth.program.combinations import combinations
from jaxsmooth.program.copies import copies
from jaxsmooth.program.graph import Graph, trace
from jaxsmooth.program.halves import halves
from jaxsmooth.program.interpolation import INTERPOLATIONS, interpolations
from jaxsmooth.program.match import COMPOSITES
from jaxsmooth.program.normal import normalise
from jaxsmooth.program.positive import positive
from jaxsmooth.program.regions import regions
from jaxsmooth.program.squares import squares
from jaxsmooth.program.systems import SYSTEMS
from jaxsmooth.rules.smoothed import SMOOTHED
from jaxsmooth.rules.univariate import is_located, is_smooth

NORMS = ("l2", "linf")
ASSUMPTIONS = (
    "exact arithmetic: rounding of f and f_eps in their own precision comes on top",
    "custom derivatives in f are its true derivatives, and solvers of its own solve",
    "indices into arrays are in range",
)
STOPPED = (
    "what passes through stop_gradient is f's own value, exactly, and counts as a constant in "
    "the Lipschitz and smoothness constants, as it does in JAX's derivatives"
)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A function, traced for some shapes, with the sets of its arguments.

    Attributes:
      problem: what passes are run on.
      graph: the traced function.
      domain: sets of the argument leaves.
      outputs: pytree of ``jax.ShapeDtypeStruct``.
      argnums: arguments that derivatives are taken in.
    """

    problem: Problem
    graph: Graph
    domain: Domain
    outputs: Any
    argnums: tuple[int, ...]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the analysis takes for granted."""
        stopped = (STOPPED,) if self.problem.normal.stopped else ()
        return self.domain.describe() + ASSUMPTIONS + stopped

    @property
    def traced(self) -> bool:
        """Whether constants or bounds are tracers, so that nothing may be kept."""
        leaves = self.domain.leaves
        numbers = [x for leaf in leaves for x in (leaf.lo, leaf.hi, leaf.center, leaf.value)]
        radii = [g.radius for g in self.domain.groups]
        return is_traced(*numbers, *radii, *self.graph.constants.values())


def prepare(
    f: Callable[..., Any],
    bounds: Any,
    args: Sequence[Any],
    argnums: int | Sequence[int] | None,
    kernel: str,
    norm: str,
    exact: bool = False,
) -> Prepared:
    """Trace f, resolve the bounds, and bring the program into normal form.

    Raises:
      BoundsError: the bounds are malformed or do not fit the arguments.
      ArgumentError: an option is malformed.
    """
    if norm not in NORMS:
        raise errors.ArgumentError(f"no norm {norm!r}; choose from {', '.join(map(repr, NORMS))}")
    chosen = kernel_named("minimax" if kernel == "auto" else kernel)
    domain = resolve(bounds, args)
    graph, outputs = trace(f, args)
    graph = halves(graph)
    positions = _argnums(argnums, domain, len(args))
    leaves = [
        j
        for j, leaf in enumerate(domain.leaves)
        if leaf.argnum in positions and not leaf.fixed and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    known = {
        value: leaf.value
        for value, leaf in zip(graph.inputs, domain.leaves, strict=True)
        if leaf.fixed
    }
    varying = [graph.inputs[j] for j in leaves]
    _check_outputs(outputs)
    rewrites = [
        positive(excess),
        interpolations,
        regions(is_known, is_located, is_smooth),
        combinations,
        squares,
        copies,
    ]
    wanted = (*COMPOSITES, *SYSTEMS, *INTERPOLATIONS, *SMOOTHED)
    normal = normalise(graph, known, varying, rewrites, wanted)
    problem = Problem(normal, domain, leaves, chosen, norm, exact)
    return Prepared(problem, graph, domain, outputs, positions)


def _argnums(argnums: int | Sequence[int] | None, domain: Domain, count: int) -> tuple[int, ...]:
    """Positions of the arguments that derivatives are taken in."""
    free = {
        leaf.argnum
        for leaf in domain.leaves
        if not leaf.fixed and jnp.issubdtype(leaf.dtype, jnp.floating)
    }
    if argnums is None:
        return tuple(sorted(free))
    given = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    for position in given:
        whole = isinstance(position, (int, np.integer)) and not isinstance(position, bool)
        if not whole or not -count <= position < count:
            raise errors.ArgumentError(
                f"argnums: {position!r} is no position of one of the {count} arguments"
            )
    wanted = tuple(map(int, given))
    positions = tuple(sorted({position % count for position in wanted}))
    for position in positions:
        if position not in free:
            raise errors.ArgumentError(
                f"argnums: args[{position}] has no floating-point leaf that is not fixed, so "
                "there is nothing to differentiate; leave it out of argnums"
            )
    return positions


def _check_outputs(outputs: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(outputs):
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise errors.ArgumentError(
                f"output{jax.tree_util.keystr(path)} is complex; return its real and imaginary "
                "parts instead"
            )
