"""Choosing the μ of every site. What is chosen is checked elsewhere, not trusted.

E(μ) = Σ_k w_k μ_k is what is spent, L(μ) = ‖M_0 + Σ_k M_k/μ_k‖ is what is bought. With
shares s_k >= 0 that sum to one, μ_k = s_k·eps/w_k.

- ``uniform``: s_k = 1/K (algorithm 2 of Roulet and Harchaoui, 2021).
- ``halving``: their composition rule, μ_f = μ/2 and μ_g = μ/(2ℓ_f), applied from the output
  backwards: the last site gets a half, the one before a quarter, …
- ``optimal``: minimises L. For a fixed direction v, Σ_k (vᵀM_k v) w_k/(s_k eps) is least
  at s_k ∝ sqrt((vᵀM_k v) w_k) (Cauchy-Schwarz); v is the Perron vector at the shares, so
  the two are iterated, damped, and the best shares seen are kept.
"""

from __future__ import annotations

from jaxsmooth.analysis.constants import matrix_of, norm_of
from jaxsmooth.analysis.propagate import Pass
from jaxsmooth.math.array import Array, namespace, times
from jaxsmooth.math.perron import perron

ALLOCATIONS = ("halving", "optimal", "uniform")
_STEPS = 24
# No active site is left without a share, however little its curvature counts.
_LEAST_SHARE = 1e-9


def accuracies(shares: Array, effects: Array, active: Array, eps: Array) -> Array:
    """μ_k = s_k·eps/w_k; a site without effect on the output may use all of eps.

    Args:
      shares, effects: shape (K,).
      active: shape (K,), whether any element of the site can reach its kink.
      eps: the budget.
    """
    xp = namespace(shares, effects, active, eps)
    felt = effects > 0
    mu = shares * eps / xp.where(felt, effects, 1.0)
    return xp.where(active, xp.where(felt, mu, eps), 0.0)


def shares_of(name: str, result: Pass, eps: Array) -> Array:
    """Shares (K,) of a named allocation, from what one pass found.

    Args:
      name: one of `ALLOCATIONS`.
      result: a pass.
      eps: the budget.
    """
    spends = spending(result)
    if name == "halving":
        return _halving(spends)
    xp = namespace(spends)
    uniform = spends / xp.maximum(xp.sum(spends), 1.0)
    return uniform if name == "uniform" else _optimal(result, spends, uniform, eps)


def spending(result: Pass) -> Array:
    """1 for sites that spend some of the budget, 0 for the others: (K,)."""
    xp = namespace(*(s.effect for s in result.sites), *(s.site.active for s in result.sites))
    spends = [
        xp.where(xp.any(s.site.active) & (s.effect > 0), 1.0, 0.0) for s in result.sites
    ]
    return xp.stack(spends)


def _halving(spends: Array) -> Array:
    xp = namespace(spends)
    after = xp.cumsum(spends[::-1])[::-1] - spends
    first = (xp.cumsum(spends) == 1) & (spends > 0)
    # The first site gets what is left: as much as the second.
    return spends * xp.where(first, 0.5 ** xp.maximum(after, 0), 0.5 ** (after + 1))


def _optimal(result: Pass, spends: Array, start: Array, eps: Array) -> Array:
    effects = [s.effect for s in result.sites]
    terms = result.terms
    xp = namespace(spends, eps, *(t.pairs for t in terms), *(t.pushed for t in terms))
    unit = xp.ones(())

    def scales(shares: Array) -> list[Array]:
        factor = [
            times(e, 1 / (xp.where(s > 0, s, 1.0) * xp.where(eps > 0, eps, 1.0)))
            for e, s in zip(effects, shares, strict=True)
        ]
        return [unit if t.site is None else factor[t.site] for t in terms]

    def improved(shares: Array) -> Array:
        values = scales(shares)
        matrices = [matrix_of(t, s) for t, s in zip(terms, values, strict=True)]
        pushed = [times(t.pushed, s) for t, s in zip(terms, values, strict=True)]
        _, v = perron(sum(matrices))
        costs = [xp.zeros(()) for _ in effects]
        for t, m, p in zip(terms, matrices, pushed, strict=True):
            if t.site is not None:
                cost = xp.minimum(v @ xp.where(xp.isfinite(m), m, 0.0) @ v, p)
                direct = xp.all(xp.isfinite(m))
                costs[t.site] = costs[t.site] + xp.where(direct, cost, p)
        # costs_k = c_k w_k / (s_k eps): s_k ∝ sqrt(c_k w_k) = sqrt(s_k costs_k eps).
        ideal = xp.sqrt(xp.maximum(shares * xp.stack(costs), 0.0)) * spends
        ideal = xp.where(xp.isfinite(ideal), ideal, 0.0)
        total = xp.sum(ideal)
        ideal = xp.where(total > 0, ideal / xp.where(total > 0, total, 1.0), start)
        mixed = xp.sqrt(xp.maximum(shares, _LEAST_SHARE) * xp.maximum(ideal, _LEAST_SHARE)) * spends
        total = xp.sum(mixed)
        return mixed / xp.where(total > 0, total, 1.0)

    shares = best = start
    lowest = norm_of(terms, scales(start))
    for _ in range(_STEPS):
        shares = improved(shares)
        value = norm_of(terms, scales(shares))
        better = value < lowest
        best = xp.where(better, shares, best)
        lowest = xp.where(better, value, lowest)
    return best


def solve(name: str, result: Pass, eps: Array) -> list[Array]:
    """μ of every site from one pass.

    Args:
      name: one of `ALLOCATIONS`.
      result: a pass.
      eps: the budget.
    """
    if not result.sites:
        return []
    shares = shares_of(name, result, eps)
    xp = namespace(shares, eps)
    effects = xp.stack([s.effect + 0.0 for s in result.sites])
    active = xp.stack([xp.any(s.site.active) for s in result.sites])
    return list(accuracies(shares, effects, active, eps))
