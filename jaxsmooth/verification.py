"""Finding accuracies that a pass proves to keep the error within the budget.

The pass that proves the certificate knows nothing of how the accuracies were chosen: it is
run with accuracies at least as large as the final ones, and its own weights give the error
that the certificate states. Weights only grow with the accuracies (ranges widen), so
scaling all μ down by eps/E(μ) is always enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsmooth import allocation, errors
from jaxsmooth.analysis import constants
from jaxsmooth.analysis.problem import Pass, Problem, SitePass
from jaxsmooth.analysis.propagate import propagate
from jaxsmooth.math.array import Array, is_traced, namespace, unit_roundoff
from jaxsmooth.rules.registry import describe

# Passes that re-solve the allocation with the weights that the last accuracies gave.
_MOST_SOLVES = 12
# The part of the budget that is tried next where one is too large for the ranges.
_LESS = 0.125
# Part of the budget that is kept back for rounding.
_SLACK = 1e-12
# A budget is used up when this part of it is.
_FULL = 0.999
# The search between a part of the budget that is proved and one that is not ends at this ratio.
_NEAR = 1.5


@dataclass(frozen=True)
class Share:
    """A share of the error budget, for an explicit allocation."""

    value: float


def share(value: float) -> Share:
    """A share of the error budget for one site of an explicit allocation.

    Args:
      value: between 0 and 1; the shares of all sites sum to at most 1.

    Example:
      >>> import jax, numpy as np
      >>> from jaxsmooth import ball, share, smooth
      >>> relu_eps = smooth(jax.nn.relu, 0.1, ball(1.0, np.zeros(3, np.float32)),
      ...                   allocation={"custom_jvp_call/relu/max": share(0.5)})
      >>> round(relu_eps.certificate().error, 6)
      0.05
    """
    if not 0 <= value <= 1:
        raise errors.ArgumentError(f"allocation: share({value}) is not between 0 and 1")
    return Share(float(value))


@dataclass(frozen=True, eq=False)
class Proved:
    """Accuracies with the pass that proves them.

    Attributes:
      mu: one number or array per site.
      result: the pass that was run with these.
      error: the proved error, at most eps.
    """

    mu: list[Array]
    result: Pass
    error: Array


def prove(problem: Problem, eps: Array, wanted: str | Mapping[str, Any]) -> Proved:
    """Accuracies for an error budget, and the pass that proves them.

    Args:
      problem: the program on its set.
      eps: the budget; may be a tracer.
      wanted: the name of an allocation, or μ or `share` by site path.

    Raises:
      CertificationError: the error cannot be bounded, or an explicit allocation spends
        more than the budget.
    """
    if isinstance(wanted, Mapping):
        return _explicit(problem, eps, wanted)
    first = _unspent(problem)
    budget = eps * (1 - _SLACK)
    most = allocation.widest(first, eps)

    def solve(weights: Pass, part: float = 1.0) -> list[Array]:
        return allocation.solve(wanted, weights, part * budget, most)

    mu = solve(first)
    if is_traced(eps, *mu):
        result = propagate(problem, mu)
        active = allocation.active(first)
        if is_traced(active) or not np.all(active):
            # Errors upstream may have brought a kink within reach that has no accuracy yet.
            mu = solve(result)
            result = propagate(problem, mu)
        return _scaled(eps, mu, result)
    found = _searched(problem, eps, solve, first, mu)
    if found is None:
        raise errors.CertificationError(
            f"no accuracies were found that keep the error within eps = {float(eps)}: the ranges "
            "of the values grow without bound with them. Give tighter bounds."
        )
    return _scaled(eps, *found)


def _unspent(problem: Problem) -> Pass:
    """A pass without errors.

    Raises:
      CertificationError: no accuracies have finite effects.
    """
    first = propagate(problem, [np.float64(0.0)] * len(problem.kinks))
    check_finite(first)
    check_smooth(first)
    return first


def _searched(
    problem: Problem,
    eps: Array,
    solve: Callable[[Pass, float], list[Array]],
    first: Pass,
    mu: list[Array],
) -> tuple[list[Array], Pass] | None:
    """Accuracies that a pass proves, with all of the budget if it finds such.

    Args:
      problem: the program on its set.
      eps: the budget.
      solve: makes accuracies of the weights of a pass and a part of the budget.
      first: a pass without errors.
      mu: what it makes of that and all of the budget.

    Returns:
      The accuracies and the pass that was run with them; None if there are none.
    """
    found: tuple[list[Array], Pass] | None = None
    # The part of the budget that is tried, the largest that was proved, the least that was not.
    part, proved, failed = 1.0, 0.0, np.inf
    weights, reached = first, allocation.active(first)
    if not np.any(reached):
        return mu, first
    for _ in range(_MOST_SOLVES):
        result = _try(problem, mu)
        active = reached if result is None else allocation.active(result)
        if result is not None and _covered(mu, reached | active, eps):
            found, proved = (mu, result), part
            # Where fewer kinks are within reach, the weights of the wider ranges stay.
            settled = bool(np.any(active < reached))
            if not settled:
                weights = result
            if settled or _FULL * part * eps <= constants.error(result, mu) <= eps:
                if failed < _NEAR * part or failed == np.inf:
                    break
                part = np.sqrt(part * failed)
        elif result is not None and np.all(active >= reached):
            # A kink came within reach that has no accuracy: it gets one.
            weights, reached = result, active
        else:
            # The ranges diverge at these accuracies, or leave the domain of something
            # downstream: try with a part of the budget.
            failed = part
            if failed < _NEAR * proved:
                break
            part = part * _LESS if found is None else np.sqrt(proved * failed)
        last, mu = mu, solve(weights, part)
        if found is not None and all(map(np.array_equal, last, mu)):
            break
    return found


def _covered(mu: Sequence[Array], active: Array, eps: Array) -> bool:
    """Whether every site within reach has an accuracy, unless there is nothing to spend."""
    return eps == 0 or all(np.any(m > 0) for m, needs in zip(mu, active, strict=True) if needs)


def _try(problem: Problem, mu: list[Array]) -> Pass | None:
    """A pass with these accuracies; None if its error has no finite bound."""
    try:
        result = propagate(problem, mu)
    except errors.CertificationError:
        return None
    return result if np.isfinite(constants.error(result, mu)) else None


def _scaled(eps: Array, mu: Sequence[Array], result: Pass) -> Proved:
    """The accuracies, scaled down until they fit.

    The pass stays a proof: with smaller accuracies the ranges are smaller, so that its
    weights and responses hold for them too.
    """
    spent = constants.error(result, mu)
    xp = namespace(spent, eps)
    margin = 1 - 64 * unit_roundoff(spent, *mu)
    fits = spent <= eps
    factor = xp.where(fits, 1.0, margin * eps / xp.where(fits, 1.0, spent))
    mu = [m * factor for m in mu]
    return Proved(mu, result, constants.error(result, mu))


def check_finite(result: Pass) -> None:
    """Refuse sites whose error moves the output without bound.

    Raises:
      CertificationError: naming the first such site.
    """
    for found in result.sites:
        if not is_traced(found.effect) and not np.isfinite(found.effect):
            raise errors.CertificationError(
                f"the effect of {describe(found.equation)} on the output has no finite bound: "
                "something downstream multiplies it by a number whose range is unbounded. Give "
                "bounds to the arguments that are unbounded (jaxsmooth.ball, box or fixed)."
            )


def check_smooth(result: Pass) -> None:
    """Refuse functions whose gradient is not Lipschitz-continuous at any accuracy.

    Raises:
      CertificationError: naming the first equation that makes it so.
    """
    for term in result.terms:
        if is_traced(term.matrix, term.pushed) or np.isfinite(np.min(term.pushed)):
            continue
        if np.isfinite(term.matrix).all():
            continue
        if term.site is None:
            raise errors.CertificationError(
                f"the second-order response of {describe(term.equation)}, or what multiplies it "
                "on its way to the output, has no finite bound on the declared set, so that no "
                "finite smoothness constant can be proved. "
                "Give tighter bounds: keep arguments away from singularities (log, sqrt and "
                "division at 0), and give a ball or a box to what is multiplied. What is masked "
                "or multiplied by 0 counts, since its derivatives are computed as 0·∞: choose "
                "arguments where it is smooth before it, as sqrt(where(mask, x, 1))."
            )
        raise errors.CertificationError(
            f"what reaches {describe(term.equation)} changes with the arguments without bound on "
            "the declared set, so that no finite smoothness constant can be proved at any "
            "accuracy. Give a ball or a box to the arguments that are unbounded, or leave those "
            "that multiply them out of argnums."
        )


def _explicit(problem: Problem, eps: Array, wanted: Mapping[str, Any]) -> Proved:
    kinks = problem.kinks
    paths = [e.path for e in kinks]
    unknown = sorted(set(wanted) - set(paths))
    missing = [path for path in paths if path not in wanted]
    if unknown or missing:
        raise errors.ArgumentError(
            "allocation: "
            + (f"no site has the path {unknown[0]!r}; " if unknown else "")
            + (f"the site {missing[0]!r} is missing; " if missing else "")
            + f"the sites are {', '.join(map(repr, paths)) or 'none'}"
        )
    first = _unspent(problem)
    most = allocation.widest(first, eps)

    def accuracies(result: Pass) -> list[Array]:
        return [
            _one(wanted[e.path], e.path, found, eps, limit)
            for e, found, limit in zip(kinks, result.sites, most, strict=True)
        ]

    mu = accuracies(first)
    result = propagate(problem, mu)
    for _ in range(_MOST_SOLVES):
        # Shares are of the budget: they follow the weights at the accuracies themselves.
        if not any(isinstance(wanted[path], Share) for path in paths):
            break
        mu = accuracies(result)
        result = propagate(problem, mu)
    spent = constants.error(result, mu)
    if not is_traced(spent, eps):
        if any(isinstance(v, Share) for v in wanted.values()) and spent <= eps * (1 + 1e-6):
            return _scaled(eps, mu, result)
        if not spent <= eps:
            raise errors.CertificationError(
                f"allocation: these accuracies make an error of {float(spent):.6g}, more than "
                f"eps = {float(eps):.6g}; scale them by {float(eps / spent):.6g} or raise eps"
            )
    return Proved(mu, result, spent)


def _one(value: Any, path: str, found: SitePass, eps: Array, most: Array) -> Array:
    effect, shape = found.effect, found.shape
    if isinstance(value, Share):
        xp = namespace(effect, eps, most)
        felt = effect > 0
        mu = value.value * eps / xp.where(felt, effect, 1.0)
        return xp.where(felt, xp.minimum(mu, most), 0.0)
    if is_traced(value):
        return value
    try:
        mu = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise errors.ArgumentError(f"allocation[{path!r}]: {value!r} is no number") from None
    if mu.ndim and mu.shape == found.steps:
        # One for every step of the loop.
        mu = mu.reshape(mu.shape + (1,) * (len(shape) - mu.ndim))
        mu = np.broadcast_to(mu, shape)
    if np.isnan(mu).any() or (mu < 0).any():
        raise errors.ArgumentError(f"allocation[{path!r}]: μ must be non-negative numbers")
    limit = allocation.largest_computed(found)
    if (mu > limit).any():
        raise errors.ArgumentError(
            f"allocation[{path!r}]: μ must not exceed {limit:.3g}, to be computed with in its type"
        )
    if mu.ndim and mu.shape != shape:
        raise errors.ArgumentError(
            f"allocation[{path!r}]: μ has shape {mu.shape}, the site has shape {shape}"
        )
    return mu
