"""`analyze`: range, Lipschitz and smoothness constants of a function itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxsmooth.analysis import constants
from jaxsmooth.analysis.prepare import Prepared, prepare
from jaxsmooth.analysis.problem import Pass, SitePass
from jaxsmooth.analysis.propagate import propagate
from jaxsmooth.bounds import shapes_from_bounds
from jaxsmooth.certificate import Analysis, Site
from jaxsmooth.math.array import Array, is_traced, namespace
from jaxsmooth.report.notation import from_here


def analyze(
    f: Callable[..., Any], bounds: Any, *, argnums: int | Sequence[int] | None = None
) -> Callable[..., Analysis]:
    """Bound the range and the constants of a function on a set.

    Args:
      f: any function of arrays that JAX can trace.
      bounds: the set: a pytree prefix of the arguments with leaves `ball`, `box`,
        `linf_ball`, `fixed`, `anything`, or a number R for ``ball(R)``.
      argnums: arguments that the Lipschitz and smoothness constants are with respect to;
        by default all that are not fixed.

    Returns:
      A function of f's arguments (arrays or ``jax.ShapeDtypeStruct``; none are needed where
      the bounds carry shapes) that returns an `Analysis`. Its ``smoothness`` is infinite
      where f has kinks in the set.

    Raises:
      BoundsError, UnsupportedPrimitiveError, DiscontinuityError: when it is called.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> from jaxsmooth import analyze, box
      >>> found = analyze(lambda x: jnp.sin(x).sum(), box(np.zeros(4, np.float32), 1.0))()
      >>> round(float(found.lipschitz), 6), round(float(found.smoothness), 6)
      (2.0, 0.841471)

    Source: algorithm 1 of Roulet and Harchaoui (2021), on any graph instead of a chain.
    """

    def run(*args: Any) -> Analysis:
        args = args or shapes_from_bounds(bounds)
        prepared = prepare(f, bounds, args, argnums, "auto", "l2", exact=True)
        mu = [np.float64(0.0)] * len(prepared.problem.kinks)
        return analysis_of(prepared, propagate(prepared.problem, mu), name_of(f))

    return run


def name_of(f: Callable[..., Any]) -> str:
    """The name of a function, for people."""
    return getattr(f, "__name__", type(f).__name__)


def analysis_of(prepared: Prepared, result: Pass, name: str) -> Analysis:
    """The `Analysis` of one pass without smoothing."""
    mu = [np.float64(0.0)] * len(result.sites)
    leaves, treedef = jax.tree_util.tree_flatten(prepared.outputs)
    ranges = [
        (namespace(r.lo).reshape(r.lo, o.shape), namespace(r.hi).reshape(r.hi, o.shape))
        for r, o in zip(result.outputs, leaves, strict=True)
    ]
    return Analysis(
        range=jax.tree_util.tree_unflatten(treedef, ranges),
        bound=scalar(constants.output_bound(result)),
        sites=tuple(site_of(s) for s in result.sites),
        function=name,
        **constants_of(prepared, result, mu),
    )


def constants_of(prepared: Prepared, result: Pass, mu: Sequence[Array]) -> dict[str, Any]:
    """Fields that an `Analysis` and a `Certificate` share."""
    domain, wrt = prepared.domain, prepared.problem.leaves
    groups = {
        a: [i for i, j in enumerate(wrt) if domain.leaves[j].argnum == a] for a in prepared.argnums
    }
    return {
        "lipschitz": scalar(constants.lipschitz(result)),
        "smoothness": scalar(constants.smoothness(result, mu)),
        "lipschitz_per_argument": {
            a: scalar(constants.lipschitz(result, ix)) for a, ix in groups.items() if ix
        },
        "smoothness_per_argument": {
            a: scalar(constants.smoothness(result, mu, ix)) for a, ix in groups.items() if ix
        },
        "lipschitz_blocks": result.lipschitz,
        "smoothness_blocks": constants.blocks(result, mu),
        "assumptions": prepared.assumptions,
        "leaves": tuple(domain.leaves[j].path for j in wrt),
    }


def site_of(found: SitePass, **fields: Any) -> Site:
    """The entry of a site."""
    lo, hi = found.site.location
    xp = namespace(lo, hi, found.pattern, found.effect)
    felt = found.pattern > 0
    return Site(
        path=found.equation.path,
        primitive=found.equation.name,
        source=from_here(found.equation.source),
        shape=found.shape,
        range=(scalar(xp.min(lo, initial=np.inf)), scalar(xp.max(hi, initial=-np.inf))),
        active=count(found.site.active),
        weight=scalar(xp.where(felt, found.effect / xp.where(felt, found.pattern, 1.0), 0.0)),
        **fields,
    )


def count(mask: Array) -> Any:
    """Number of true entries."""
    total = namespace(mask).sum(mask)
    return total if is_traced(total) else int(total)


def scalar(x: Array) -> Any:
    """A Python float, or a tracer."""
    return x if is_traced(x) else float(x)
