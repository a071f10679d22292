"""From one pass to numbers: error, Lipschitz and smoothness constants.

E(μ) = Σ_k effect_k μ_k and L(μ) = ‖M_0 + Σ_k M_k/μ_k‖ with M non-negative (J, J) matrices
over the leaves of the arguments: the block (i, j) bounds the second derivative in leaves i
and j, and the norm of the matrix bounds the joint one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxsmooth.analysis.problem import Pass, SitePass, Term
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, times, up
from jaxsmooth.math.kernels import smallest_accuracy, working_dtype
from jaxsmooth.math.perron import perron_bound


def inverse(mu: Array, active: Array, least: float = 0.0) -> Array:
    """1/μ of the smallest active element; 0 where nothing is active.

    Args:
      mu: μ.
      active: which elements are.
      least: what counts as 0 if it is smaller.
    """
    xp = namespace(mu, active)
    smallest = xp.min(xp.where(active, mu, np.inf), initial=np.inf)
    positive = (smallest > 0) & (smallest >= least)
    value = 1 / xp.where(positive, smallest, 1.0)
    return xp.where(xp.any(active), xp.where(positive, up(value), np.inf), 0.0)


def error(result: Pass, mu: Sequence[Array]) -> Array:
    """Proved bound of ‖f_eps - f‖."""
    total: Any = 0.0
    for found, value in zip(result.sites, mu, strict=True):
        total = total + up(times(found.effect, namespace(value).max(value, initial=0.0)), 2)
    return up(total, len(result.sites) + 1)


def factors(result: Pass, mu: Sequence[Array]) -> list[Array]:
    """What every term is multiplied by: 1/μ of its site, or 1."""
    scales = [inverse(m, s.site.active, _least(s)) for s, m in zip(result.sites, mu, strict=True)]
    return [1.0 if t.site is None else scales[t.site] for t in result.terms]


def _least(found: SitePass) -> float:
    """The smallest μ that is known to smooth the site, as it is computed."""
    _, working = working_dtype(found.equation.outputs[0].dtype)
    # In that type μ may be rounded down.
    return 2 * smallest_accuracy(working) * found.site.parts


def matrix_of(term: Term, factor: Array) -> Array:
    """The term's matrix over the leaves."""
    return up(times(term.matrix, factor), 2)


def blocks(result: Pass, mu: Sequence[Array]) -> Array:
    """(J, J) bounds of the second derivatives, leaf by leaf."""
    count = len(result.lipschitz)
    total: Any = np.zeros((count, count))
    for term, factor in zip(result.terms, factors(result, mu), strict=True):
        # A response to two leaves is part of the joint response.
        xp = namespace(term.matrix, term.pushed, factor)
        reached = xp.where(term.matrix > 0, 1.0, 0.0)
        whole = up(times(times(term.pushed, factor), reached), 3)
        total = total + xp.minimum(matrix_of(term, factor), whole)
    return up(total, len(result.terms) + 1)


def smoothness(result: Pass, mu: Sequence[Array], leaves: Sequence[int] | None = None) -> Array:
    """Proved bound of the Lipschitz constant of the Jacobian.

    Args:
      result: a pass.
      mu: the accuracies it was run with.
      leaves: positions of the leaves that vary; all by default.
    """
    scales = factors(result, mu)
    return norm_of(result.terms, scales, leaves)


def norm_of(
    terms: Sequence[Term], scales: Sequence[Array], leaves: Sequence[int] | None = None
) -> Array:
    """Smaller of two bounds of ‖Σ terms‖.

    One is the norm of the sum of the matrices. The other takes, for every term, the pushed
    joint response where that is smaller than the norm of its own matrix, and adds.
    """
    if not terms:
        return 0.0
    matrices = [matrix_of(t, s) for t, s in zip(terms, scales, strict=True)]
    if leaves is not None:
        block = np.ix_(list(leaves), list(leaves))
        matrices = [m[block] for m in matrices]
    pushed = [up(times(t.pushed, s), 2) for t, s in zip(terms, scales, strict=True)]
    xp = namespace(*matrices, *pushed)
    stacked, direct_sum = xp.stack(matrices), xp.stack(pushed)
    direct = direct_sum < _norms(stacked)
    whole = perron_bound(up(xp.sum(stacked, axis=0), len(terms)))
    rest = xp.where(direct[:, None, None], 0.0, stacked)
    total = perron_bound(up(xp.sum(rest, axis=0), len(terms)))
    total = total + xp.sum(xp.where(direct, direct_sum, 0.0))
    return xp.minimum(whole, up(total, len(terms) + 2))


def _norms(matrices: Array) -> Array:
    """Norms of a stack of matrices."""
    if is_traced(matrices):
        return jax.vmap(perron_bound)(matrices)
    return np.stack([perron_bound(m) for m in matrices])


def lipschitz(result: Pass, leaves: Sequence[int] | None = None) -> Array:
    """Lipschitz constant in some leaves jointly; in all by default."""
    constants = result.lipschitz
    return norm2(constants if leaves is None else constants[np.asarray(leaves, dtype=int)])


def output_bound(result: Pass) -> Array:
    """Bound of the output's 2-norm over the set."""
    norms = [r.norm for r in result.outputs]
    return norm2(namespace(*norms).stack(norms)) if norms else 0.0
