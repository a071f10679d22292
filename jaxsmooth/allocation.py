"""Choosing the μ of every site. What is chosen is checked elsewhere, not trusted.

E(μ) = Σ_k w_k μ_k is what is spent, L(μ) = ‖M_0 + Σ_k M_k/μ_k‖ is what is bought. With
shares s_k >= 0 that sum to one, μ_k = s_k·eps/w_k.

- ``uniform``: s_k = 1/K (algorithm 2 of Roulet and Harchaoui, 2021).
- ``halving``: their composition rule, μ_f = μ/2 and μ_g = μ/(2ℓ_f), applied from the output
  backwards: the last site gets a half, the one before a quarter, …
- ``optimal``: minimises L. For a fixed direction v, Σ_k (vᵀM_k v) w_k/(s_k eps) is least
  at s_k ∝ sqrt((vᵀM_k v) w_k) (Cauchy-Schwarz). At the minimum several directions can be
  worst at once, so they are weighed by a power V of M in place of vvᵀ, which is what
  minimises the Schatten norm of that order; the order is raised step by step, and the best
  shares seen are kept.

No μ is much larger than what meets the kink (`widest`): it would smooth no more, and where the
output hardly feels a site, w_k = 1e-300, its share alone would allow a μ that overflows.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from jaxsmooth.analysis.constants import matrix_of, norm_of
from jaxsmooth.analysis.problem import Pass, SitePass, Term
from jaxsmooth.math.array import Array, is_traced, namespace, times
from jaxsmooth.math.kernels import largest_accuracy, representable_accuracy

ALLOCATIONS = ("halving", "optimal", "uniform")
# Steps at each order 2^t of the Schatten norm that stands in for the spectral norm.
_ORDERS = (2, 3, 4, 5, 6, 8, 10)
_STEPS = 6
# No active site is left without a share, however little its curvature counts.
_LEAST_SHARE = 1e-9
# Smoothed this many times as widely as its variable reaches, a kink is all but a straight line.
_WIDEST = 2.0**10


def solve(name: str, result: Pass, eps: Array, most: Array) -> list[Array]:
    """μ of every site by a named allocation, from what one pass found.

    Args:
      name: one of `ALLOCATIONS`.
      result: a pass.
      eps: the budget.
      most: the largest μ that each site may have, shape (K,).
    """
    if not result.sites:
        return []
    spends = _spending(result)
    if name == "halving":
        shares = _halving(spends)
    else:
        xp = namespace(spends)
        shares = spends / xp.maximum(xp.sum(spends), 1.0)
    if name == "optimal":
        shares = _optimal(result, spends, shares, eps)
    return list(_accuracies(result, shares, eps, most))


def widest(first: Pass, eps: Array) -> Array:
    """The largest μ that each site may have: (K,).

    It goes by how far the variable of the site reaches before anything is smoothed, so that
    the errors of one site do not make room for larger ones at the next.

    Args:
      first: a pass without errors.
      eps: the budget, which every site may have.
    """
    if not first.sites:
        return np.zeros(0)
    xp = namespace(eps, *(end for s in first.sites for end in s.site.location))
    limits = np.array([largest_computed(s) for s in first.sites])
    return xp.minimum(xp.maximum(xp.stack([_widest(s) for s in first.sites]), eps), limits)


def largest_computed(found: SitePass) -> float:
    """The largest μ with which the site can be computed."""
    return representable_accuracy(found.equation.outputs[0].dtype) * min(found.site.parts, 1.0)


def _widest(found: SitePass) -> Array:
    lo, hi = found.site.location
    xp = namespace(lo, hi)
    reach = xp.max(xp.maximum(abs(lo), abs(hi)), initial=0.0)
    limit = largest_accuracy(found.equation.outputs[0].dtype)
    return xp.where(xp.isfinite(reach), _WIDEST * reach, limit)


def _accuracies(result: Pass, shares: Array, eps: Array, most: Array) -> Array:
    """μ_k = s_k·eps/w_k; a site without effect on the output may use all of eps."""
    effects, reached = _effects(result), active(result)
    xp = namespace(shares, effects, reached, eps, most)
    felt = effects > 0
    mu = shares * eps / xp.where(felt, effects, 1.0)
    return xp.where(reached, xp.minimum(xp.where(felt, mu, eps), most), 0.0)


def _effects(result: Pass) -> Array:
    xp = namespace(*(s.effect for s in result.sites))
    return xp.stack([s.effect + 0.0 for s in result.sites])


def active(result: Pass) -> Array:
    """Which sites are within reach of their kinks: (K,)."""
    if not result.sites:
        return np.zeros(0, bool)
    xp = namespace(*(s.site.active for s in result.sites))
    return xp.stack([xp.any(s.site.active) for s in result.sites])


def _spending(result: Pass) -> Array:
    """1 for sites that spend some of the budget, 0 for the others: (K,)."""
    reached, effects = active(result), _effects(result)
    return namespace(reached, effects).where(reached & (effects > 0), 1.0, 0.0)


def _halving(spends: Array) -> Array:
    xp = namespace(spends)
    after = xp.cumsum(spends[::-1])[::-1] - spends
    first = (xp.cumsum(spends) == 1) & (spends > 0)
    # The first site gets what is left: as much as the second.
    return spends * xp.where(first, 0.5 ** xp.maximum(after, 0), 0.5 ** (after + 1))


def _optimal(result: Pass, spends: Array, start: Array, eps: Array) -> Array:
    """Shares that minimise L.

    They are constants to differentiation: at the minimum L does not change with them to
    first order, so dL/deps is right without.
    """
    curve = _Curve(result, spends, eps)
    state = (start, start, curve.smoothness(start))
    if not is_traced(*state, *curve.effects):
        for order in _ORDERS:
            for _ in range(_STEPS):
                state = curve.step(state, order)
        return state[1]
    orders = jax.numpy.repeat(jax.numpy.asarray(_ORDERS), _STEPS)
    state = jax.tree_util.tree_map(jax.numpy.asarray, state)
    state = jax.lax.fori_loop(0, len(orders), lambda i, s: curve.step(s, orders[i]), state)
    return jax.lax.stop_gradient(state[1])


@dataclass(frozen=True, eq=False)
class _Curve:
    """L as a function of the shares."""

    result: Pass
    spends: Array
    eps: Array

    @property
    def effects(self) -> list[Array]:
        return [_constant(s.effect) for s in self.result.sites]

    @property
    def terms(self) -> list[Term]:
        return [
            Term(t.equation, _constant(t.matrix), _constant(t.pushed), t.site)
            for t in self.result.terms
        ]

    def scales(self, shares: Array) -> list[Array]:
        """1/μ of the site of every term."""
        eps = _constant(self.eps)
        xp = namespace(shares, eps)
        one = xp.ones(())
        inverse = [
            times(e, one / (xp.where(s > 0, s, 1.0) * xp.where(eps > 0, eps, 1.0)))
            for e, s in zip(self.effects, shares, strict=True)
        ]
        return [one if t.site is None else inverse[t.site] for t in self.terms]

    def smoothness(self, shares: Array) -> Array:
        return norm_of(self.terms, self.scales(shares))

    def costs(self, shares: Array, order: Array) -> Array:
        """What each site adds to L at the current worst directions: (K,)."""
        scales = self.scales(shares)
        matrices = [matrix_of(t, s) for t, s in zip(self.terms, scales, strict=True)]
        weights = _power(sum(matrices), order)
        xp = namespace(shares, weights)
        costs = [xp.zeros(()) for _ in self.effects]
        for t, m, s in zip(self.terms, matrices, scales, strict=True):
            if t.site is None:
                continue
            pushed = times(t.pushed, s)
            finite = xp.all(xp.isfinite(m))
            along = xp.sum(weights * xp.where(xp.isfinite(m), m, 0.0))
            costs[t.site] += xp.where(finite, xp.minimum(along, pushed), pushed)
        return xp.stack(costs)

    def step(self, state: tuple[Array, Array, Array], order: Array) -> tuple[Array, Array, Array]:
        """(shares, best shares, lowest L) after one damped step."""
        shares, best, lowest = state
        xp = namespace(*state, *self.effects)
        # costs_k = c_k w_k/(s_k eps), so s_k ∝ sqrt(c_k w_k) is sqrt(s_k costs_k).
        ideal = xp.sqrt(xp.maximum(shares * self.costs(shares, order), 0.0)) * self.spends
        ideal = _normalised(xp.where(xp.isfinite(ideal), ideal, 0.0))
        mixed = xp.maximum(shares, _LEAST_SHARE) * xp.maximum(ideal, _LEAST_SHARE)
        shares = _normalised(xp.sqrt(mixed) * self.spends)
        value = self.smoothness(shares)
        better = value < lowest
        return shares, xp.where(better, shares, best), xp.where(better, value, lowest)


def _power(matrix: Array, order: Array) -> Array:
    """M^(2^order) with trace one, for a non-negative symmetric matrix."""
    xp = namespace(matrix, order)
    matrix = xp.where(xp.isfinite(matrix), matrix, 0.0)

    def square(power: Array) -> Array:
        power = power @ power
        trace = xp.trace(power)
        return power / xp.where(trace > 0, trace, 1.0)

    largest = xp.max(matrix, initial=0.0)
    power = matrix / xp.where(largest > 0, largest, 1.0)
    if is_traced(power, order):
        return jax.lax.fori_loop(0, order, lambda _, p: square(p), power)
    for _ in range(order):
        power = square(power)
    return power


def _normalised(shares: Array) -> Array:
    xp = namespace(shares)
    total = xp.sum(shares)
    return shares / xp.where(total > 0, total, 1.0)


def _constant(x: Array) -> Array:
    return jax.lax.stop_gradient(x) if is_traced(x) else x
