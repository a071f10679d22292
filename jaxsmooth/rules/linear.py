"""Linear equations: results are sums of operands' entries times fixed coefficients.

All that a linear map A needs is A itself, |A| and A∘A (coefficients' magnitudes and
squares). For structural equations (reshape, slice, sums, …) the coefficients are 0, 1 or
-1, so |A| = A∘A is the primitive itself with its minus signs dropped.

With ``n_i`` the bound ‖A restricted to operand i‖₂, computed once by the Schur test
‖A‖₂² <= max_row Σ|A|·max_column Σ|A| (exact for selections, broadcasts and sums):

    range        A(mid) ± |A|(half widths),      ball around A(center) of radius Σ n_i radius_i
    first order  entries min(|A| e, row norms·‖d‖),   norm Σ n_i ‖d_i‖
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth._compat import primitive
from jaxsmooth.math.array import Array, gamma, namespace, norm2, times, tiny, up
from jaxsmooth.math.magnitude import Magnitude, column, tighten, totals_of
from jaxsmooth.math.range import Range, enclose, rounding_of
from jaxsmooth.rules.registry import Local, Rule, define, on_arrays


class LinearRule(Rule):
    """A linear equation with coefficients of magnitude 0 or 1.

    Args:
      absolute: ``absolute(eq)`` gives |A| as a JAX function of the operands.
      signed: the same for A; by default A = |A|.
      disjoint: whether every result entry reads one operand only (concatenate), so that
        norms of the operands' parts combine as a root of squares and not as a sum.
      terms: ``terms(eq)`` is the largest number of entries summed into one result entry.
    """

    def __init__(
        self,
        absolute: Callable[[Local], Callable[..., Any]],
        signed: Callable[[Local], Callable[..., Any]] | None = None,
        disjoint: bool = False,
        terms: Callable[[Local], int] = lambda eq: 1,
    ):
        self.absolute = absolute
        self.signed = signed or absolute
        self.disjoint = disjoint
        self.terms = terms

    def factors(self, eq: Local) -> list[float]:
        """Norm of A restricted to each operand."""

        def compute() -> list[float]:
            rows = [np.max(r, initial=0.0) ** 2 for r in self.operand_rows(eq)]
            columns = self.column_sums(eq)
            return [float(up(np.sqrt(r * c), 4)) for r, c in zip(rows, columns, strict=True)]

        return eq.always("factors", compute)

    def column_sums(self, eq: Local) -> list[float]:
        """Largest column sum of |A| restricted to each operand.

        It bounds ‖A d‖₁ by ‖d‖₁, and since A∘A = |A| its root bounds ‖A d‖₂ by ‖d‖₁.
        """
        return eq.always("columns", lambda: self._column_sums(eq))

    def _column_sums(self, eq: Local) -> list[float]:
        apply = self.absolute(eq)
        ones = [np.ones(r.shape) for r in eq.ranges]

        def column_sums(*operands: Any) -> Any:
            result, transpose = jax.vjp(apply, *operands)
            return transpose(jnp.ones_like(result))

        return [float(np.max(c, initial=0.0)) for c in on_arrays(column_sums, *ones)]

    def operand_rows(self, eq: Local) -> list[np.ndarray]:
        """2-norms of the rows of A restricted to each operand, in the result's shape."""
        return eq.always("rows", lambda: self._operand_rows(eq))

    def _operand_rows(self, eq: Local) -> list[np.ndarray]:
        apply = self.absolute(eq)
        rows = []
        for i in range(len(eq.ranges)):
            units = [
                np.ones(r.shape) if i == j else np.zeros(r.shape) for j, r in enumerate(eq.ranges)
            ]
            rows.append(up(np.sqrt(on_arrays(apply, *units)), 2))
        return rows

    def combine(self, parts: Sequence[Array]) -> Array:
        """Bound of the result's norm from bounds of what each operand contributes."""
        xp = namespace(*parts)
        stacked = xp.stack(xp.broadcast_arrays(*parts))
        if len(parts) == 1:
            return stacked[0]
        if self.disjoint:
            return norm2(stacked, 0)
        return up(xp.sum(stacked, axis=0), len(parts))

    def range(self, eq: Local) -> list[Range]:
        absolute, signed = self.absolute(eq), self.signed(eq)
        terms = self.terms(eq)
        xp = namespace(*(r.lo for r in eq.ranges), *(r.hi for r in eq.ranges))
        lows = [r.lo for r in eq.ranges]
        highs = [r.hi for r in eq.ranges]
        if terms == 1 and self.signed is self.absolute:
            # Entries are moved, not added: bounds move along with them, exactly.
            lo, hi = _select(absolute, lows), _select(absolute, highs)
        else:
            open_lo = [xp.where(xp.isinf(a), 1.0, 0.0) for a in lows]
            open_hi = [xp.where(xp.isinf(a), 1.0, 0.0) for a in highs]
            finite_lo = [xp.where(xp.isinf(a), 0.0, a) for a in lows]
            finite_hi = [xp.where(xp.isinf(a), 0.0, a) for a in highs]
            mid = on_arrays(signed, *((a + b) / 2 for a, b in zip(finite_lo, finite_hi)))
            half = on_arrays(absolute, *((b - a) / 2 for a, b in zip(finite_lo, finite_hi)))
            size = on_arrays(
                absolute, *(xp.maximum(abs(a), abs(b)) for a, b in zip(finite_lo, finite_hi))
            )
            slack = up(half, terms + 3) - half + size * gamma(terms + 3, size) + tiny(size)
            # A positive coefficient carries -inf of the operand's lower bound, a negative
            # one +inf of its upper bound.
            sums = [a + b for a, b in zip(open_lo, open_hi)]
            differences = [a - b for a, b in zip(open_lo, open_hi)]
            both, signs = on_arrays(absolute, *sums), on_arrays(signed, *differences)
            lo = xp.where(both + signs > 0.5, -np.inf, mid - half - slack)
            hi = xp.where(both - signs > 0.5, np.inf, mid + half + slack)
        factors = self.factors(eq)
        center = on_arrays(signed, *(r.center for r in eq.ranges))
        rounding = 0.0
        if terms > 1:
            size = on_arrays(absolute, *(abs(r.center) for r in eq.ranges))
            rounding = rounding_of(size, terms + 1)
        gains = self.combine([up(f * r.gains) for f, r in zip(factors, eq.ranges)])
        rests = self.combine([up(f * r.rest) for f, r in zip(factors, eq.ranges)])
        radius = self.combine([up(f * r.radius) for f, r in zip(factors, eq.ranges)])
        return [
            enclose(
                eq.radii, lo, hi, center, gains, up(rests + rounding), up(radius + rounding)
            )
        ]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        factors, rows = self.factors(eq), self.operand_rows(eq)
        changing = [i for i, m in enumerate(magnitudes) if m is not None]
        norms = [magnitudes[i].norm for i in changing]
        norm = self.combine([up(factors[i] * n) for i, n in zip(changing, norms)])
        total = None
        if any(magnitudes[i].total is not None for i in changing):
            columns = self.column_sums(eq)
            totals = [totals_of(magnitudes[i]) for i in changing]
            parts = [times(columns[i], t) for i, t in zip(changing, totals)]
            roots = [times(up(np.sqrt(columns[i])), t) for i, t in zip(changing, totals)]
            total = up(sum(parts), len(parts) + 1)
            norm = namespace(norm, total).minimum(norm, up(self.combine(roots), 2))
        if any(magnitudes[i].entries is None for i in changing):
            return [tighten(None, norm, total)]
        absolute = self.absolute(eq)

        def push(*entries: Any) -> Any:
            operands = [jnp.zeros(r.shape, entries[0].dtype) for r in eq.ranges]
            for i, e in zip(changing, entries, strict=True):
                operands[i] = e
            return absolute(*operands)

        xp = namespace(norm, *(magnitudes[i].entries for i in changing))
        entries = [magnitudes[i].entries for i in changing]
        huge = [xp.where(xp.isinf(e), 0.0, e) for e in entries]
        pushed = up(on_arrays(jax.vmap(push), *huge), self.terms(eq) + 1)
        if xp is jnp or any(np.isinf(e).any() for e in entries):
            infinite = on_arrays(jax.vmap(push), *(xp.where(xp.isinf(e), 1.0, 0.0) for e in entries))
            pushed = xp.where(infinite > 0.5, np.inf, pushed)
        rank = pushed.ndim - 1
        by_rows = sum(
            xp.where(rows[i] == 0, 0.0, rows[i] * xp.where(rows[i] == 0, 0.0, column(n, rank)))
            for i, n in zip(changing, norms)
        )
        return [tighten(xp.minimum(pushed, up(by_rows, len(changing) + 1)), norm, total)]


def _select(apply: Callable[..., Any], bounds: Sequence[Array]) -> Array:
    """Bounds moved by a selection; entries that nothing is moved to are 0."""
    return on_arrays(apply, *bounds)


def _bound(eq: Local, **changes: Any) -> Callable[..., Any]:
    """The equation's primitive as a function, with some parameters changed."""
    params = {**eq.params, **changes}

    def apply(*operands: Any) -> Any:
        bound = eq.equation.primitive.get_bind_params(params)
        keywords = bound[1] if isinstance(bound, tuple) else bound
        return eq.equation.primitive.bind(*operands, **keywords)

    return apply


def _sum_terms(eq: Local) -> int:
    """Entries summed into one entry by a reduction: bounded by the operand's size."""
    return max(1, int(np.prod(eq.ranges[0].shape)))


def _window_terms(eq: Local) -> int:
    return max(1, int(np.prod(eq.params["window_dimensions"])))


_MOVED = LinearRule(_bound)
"""Entries are moved, repeated or dropped."""

define(
    _MOVED,
    p.reshape_p,
    p.transpose_p,
    p.squeeze_p,
    p.broadcast_in_dim_p,
    p.slice_p,
    p.rev_p,
    p.copy_p,
    p.reduce_precision_p,
    p.sharding_constraint_p,
    primitive("name_p"),
)
define(LinearRule(lambda eq: lambda x: x), p.stop_gradient_p, primitive("optimization_barrier_p"))
define(LinearRule(_bound, disjoint=True), p.concatenate_p, p.pad_p)
define(LinearRule(lambda eq: jnp.add, terms=lambda eq: 2), p.add_p, p.add_jaxvals_p)
define(
    LinearRule(
        lambda eq: jnp.add,
        lambda eq: jnp.subtract,
        terms=lambda eq: 2,
    ),
    p.sub_p,
)
define(LinearRule(lambda eq: lambda x: x, lambda eq: jnp.negative), p.neg_p)
define(LinearRule(_bound, terms=_sum_terms), p.reduce_sum_p, p.cumsum_p)
define(LinearRule(_bound, terms=_window_terms), p.reduce_window_sum_p)
