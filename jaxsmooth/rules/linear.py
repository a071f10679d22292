"""Linear equations: results are sums of operands' entries times fixed coefficients.

Here all coefficients are 0, 1 or -1 (reshape, slice, sums, …), and the sign is that of the
whole operand. With |A| the map without signs, which is also A∘A, and with ``n_i`` the bound
of ‖A restricted to operand i‖₂ by the Schur test, ‖A‖₂² <= max_row Σ|A|·max_column Σ|A|
(exact for selections, broadcasts and sums):

    range        A(mid) ± |A|(half widths),      ball around A(center) of radius Σ n_i radius_i
    first order  entries min(|A| e, row norms·‖d‖),   norm Σ n_i ‖d_i‖
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from jaxsmooth.math import windows as sliding
from jaxsmooth.math.array import Array, gamma, is_traced, namespace, norm2, times, tiny, up
from jaxsmooth.math.magnitude import Magnitude, column, tighten, totals_of
from jaxsmooth.math.range import Range, enclose, rounding_of
from jaxsmooth.rules.registry import Local, Rule, define, on_arrays

Apply = Callable[..., Array]
"""``apply(xp, eq, *stacks)``: |A| of every operand in stacks along a first axis."""


class LinearRule(Rule):
    """A linear equation with coefficients of magnitude 0 or 1.

    Args:
      apply: |A|; by default the primitive itself, bound by JAX.
      columns: ``columns(eq)`` gives for each operand the largest number of result entries
        that one of its entries is part of; by default it is counted.
      signs: sign of every operand; positive by default.
      disjoint: whether every result entry reads one operand only (concatenate), so that
        norms of the operands' parts combine as a root of squares and not as a sum.
      terms: ``terms(eq)`` is the largest number of entries summed into one result entry.
    """

    def __init__(
        self,
        apply: Apply | None = None,
        columns: Callable[[Local], Sequence[float]] | None = None,
        signs: Sequence[int] | None = None,
        disjoint: bool = False,
        terms: Callable[[Local], int] = lambda eq: 1,
    ):
        self.direct = apply
        self.columns = columns
        self.signs = signs
        self.disjoint = disjoint
        self.terms = terms

    def bound(self, eq: Local) -> Callable[..., Any]:
        """|A| as a JAX function: the primitive itself."""
        return lambda *operands: bind_with(eq, eq.params, *operands)

    def stacked(self, eq: Local, *stacks: Array) -> Array:
        """|A| of stacks."""
        if self.direct is not None:
            return self.direct(namespace(*stacks), eq, *stacks)
        return on_arrays(jax.vmap(self.bound(eq)), *stacks)

    def absolute(self, eq: Local, *operands: Array) -> Array:
        """|A| of one array per operand."""
        return self.stacked(eq, *(namespace(a).asarray(a)[None] for a in operands))[0]

    def signed(self, eq: Local, *operands: Array) -> Array:
        """A of one array per operand."""
        if self.signs is not None:
            operands = tuple(a if s > 0 else -a for a, s in zip(operands, self.signs, strict=True))
        return self.absolute(eq, *operands)

    def factors(self, eq: Local) -> list[float]:
        """Norm of A restricted to each operand."""

        def compute() -> list[float]:
            rows = [np.max(r, initial=0.0) ** 2 for r in self.operand_rows(eq)]
            columns = self.column_sums(eq)
            return [float(up(np.sqrt(r * c), 4)) for r, c in zip(rows, columns, strict=True)]

        return eq.always("factors", compute)

    def column_sums(self, eq: Local) -> Sequence[float]:
        """Largest column sum of |A| restricted to each operand.

        It bounds ‖A d‖₁ by ‖d‖₁, and since A∘A = |A| its root bounds ‖A d‖₂ by ‖d‖₁.
        """
        count = self.columns or self._count_columns
        return eq.always("columns", lambda: count(eq))

    def _count_columns(self, eq: Local) -> list[float]:
        apply = self.bound(eq)

        def transposed(*operands: Any) -> Any:
            result, transpose = jax.vjp(apply, *operands)
            return transpose(jnp.ones_like(result))

        zeros = [np.zeros(r.shape) for r in eq.ranges]
        return [float(np.max(c, initial=0.0)) for c in on_arrays(transposed, *zeros)]

    def operand_rows(self, eq: Local) -> list[np.ndarray]:
        """2-norms of the rows of A restricted to each operand, in the result's shape."""

        def compute() -> list[np.ndarray]:
            count = len(eq.ranges)
            units = [
                [np.ones(r.shape) if i == j else np.zeros(r.shape) for j, r in enumerate(eq.ranges)]
                for i in range(count)
            ]
            return [up(np.sqrt(self.absolute(eq, *unit)), 2) for unit in units]

        return eq.always("rows", compute)

    def carries(self, eq: Local) -> bool:
        # Two infinities may cancel, an infinity and a number do not.
        return self.terms(eq) == 1 or (self.terms(eq) == 2 and sum(eq.infinite) == 1)

    def combine(self, parts: Sequence[Array]) -> Array:
        """Bound of the result's norm from bounds of what each operand contributes."""
        if len(parts) == 1:
            return parts[0]
        xp = namespace(*parts)
        stacked = xp.stack(xp.broadcast_arrays(*parts))
        if self.disjoint:
            return norm2(stacked, 0)
        return up(xp.sum(stacked, axis=0), len(parts))

    def range(self, eq: Local) -> list[Range]:
        lo, hi = self._bounds(eq)
        factors, terms = self.factors(eq), self.terms(eq)
        center = self.signed(eq, *(r.center for r in eq.ranges))
        rounding = 0.0
        if terms > 1:
            size = self.absolute(eq, *(abs(r.center) for r in eq.ranges))
            rounding = rounding_of(size, terms + 1)
        gains, rest, radius, size = (
            self.combine([up(times(f, part)) for f, part in zip(factors, parts, strict=True)])
            for parts in (
                [r.gains for r in eq.ranges],
                [r.rest for r in eq.ranges],
                [r.radius for r in eq.ranges],
                [r.size for r in eq.ranges],
            )
        )
        rest, radius = up(rest + rounding), up(radius + rounding)
        return [enclose(eq.radii, lo, hi, center, gains, rest, radius, size)]

    def _bounds(self, eq: Local) -> tuple[Array, Array]:
        """Elementwise bounds of the result."""
        lows, highs = [r.lo for r in eq.ranges], [r.hi for r in eq.ranges]
        if self.signs is not None:
            pairs = [
                (lo, hi) if s > 0 else (-hi, -lo)
                for lo, hi, s in zip(lows, highs, self.signs, strict=True)
            ]
            lows, highs = [lo for lo, _ in pairs], [hi for _, hi in pairs]
        terms = self.terms(eq)
        if terms == 1:
            # Entries are moved, not added: bounds move along with them, exactly.
            return self.absolute(eq, *lows), self.absolute(eq, *highs)
        return self._sum(eq, lows, terms, -1), self._sum(eq, highs, terms, 1)

    def _sum(self, eq: Local, bounds: Sequence[Array], terms: int, side: int) -> Array:
        """|A| of bounds on one side, rounded to that side; infinite where one is.

        It is infinite on that side, or where all that are infinite are certain to be, as what a
        mask fills is, on the other.
        """
        xp = namespace(*bounds)
        finite = [xp.where(xp.isinf(b), 0.0, b) for b in bounds]
        value = self.absolute(eq, *finite)
        size = self.absolute(eq, *(abs(b) for b in finite))
        value = value + side * (size * gamma(terms + 3, size) + tiny(size))
        if xp is np and not any(np.isinf(b).any() for b in bounds):
            return value
        for end in (-side * np.inf, side * np.inf):
            there = self.absolute(eq, *(xp.where(b == end, 1.0, 0.0) for b in bounds))
            value = xp.where(there > 0.5, end, value)
        return value

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        factors, rows = self.factors(eq), self.operand_rows(eq)
        changing = {i: m for i, m in enumerate(magnitudes) if m is not None}
        norm = self.combine([up(times(factors[i], m.norm)) for i, m in changing.items()])
        total = None
        if any(m.total is not None for m in changing.values()):
            columns = self.column_sums(eq)
            totals = {i: totals_of(m) for i, m in changing.items()}
            parts = [times(columns[i], t) for i, t in totals.items()]
            roots = [times(up(np.sqrt(columns[i])), t) for i, t in totals.items()]
            total = up(sum(parts), len(parts) + 1)
            norm = namespace(norm, total).minimum(norm, up(self.combine(roots), 2))
        if any(m.entries is None for m in changing.values()):
            return [tighten(None, norm, total)]
        pushed = self._push(eq, {i: m.entries for i, m in changing.items()})
        rank = pushed.ndim - 1
        by_rows = sum(times(rows[i], column(m.norm, rank)) for i, m in changing.items())
        xp = namespace(pushed, by_rows)
        return [tighten(xp.minimum(pushed, up(by_rows, len(changing) + 1)), norm, total)]

    def _push(self, eq: Local, entries: dict[int, Array]) -> Array:
        """|A| of stacks of entries; operands that do not change contribute nothing."""
        xp = namespace(*entries.values())
        count = len(next(iter(entries.values())))

        def apply(change: Callable[[Array], Array]) -> Array:
            stacks = [
                change(entries[i]) if i in entries else np.zeros((count, *r.shape))
                for i, r in enumerate(eq.ranges)
            ]
            return self.stacked(eq, *stacks)

        pushed = up(apply(lambda e: xp.where(xp.isinf(e), 0.0, e)), self.terms(eq) + 1)
        if xp is np and not any(np.isinf(e).any() for e in entries.values()):
            return pushed
        infinite = apply(lambda e: xp.where(xp.isinf(e), 1.0, 0.0))
        return xp.where(infinite > 0.5, np.inf, pushed)


def bind_with(eq: Local, params: dict[str, Any], *operands: Any) -> Any:
    """The equation's primitive with these parameters, on one-result operands."""
    bound = eq.equation.primitive.get_bind_params(params)
    keywords = bound[1] if isinstance(bound, tuple) else bound
    return eq.equation.primitive.bind(*operands, **keywords)


def _one(eq: Local) -> list[float]:
    return [1.0] * len(eq.ranges)


def _reshaped(xp: Any, eq: Local, x: Array) -> Array:
    return x.reshape(x.shape[0], *eq.equation.outputs[0].shape)


def _transposed(xp: Any, eq: Local, x: Array) -> Array:
    return xp.transpose(x, (0, *(a + 1 for a in eq.params["permutation"])))


def _sliced(xp: Any, eq: Local, x: Array) -> Array:
    start, limit = eq.params["start_indices"], eq.params["limit_indices"]
    strides = eq.params["strides"] or (1,) * len(start)
    return x[(slice(None), *map(slice, start, limit, strides))]


def _reversed(xp: Any, eq: Local, x: Array) -> Array:
    return xp.flip(x, tuple(a + 1 for a in eq.params["dimensions"]))


def _broadcast(xp: Any, eq: Local, x: Array) -> Array:
    shape = eq.equation.outputs[0].shape
    wide = [1] * len(shape)
    for axis, size in zip(eq.params["broadcast_dimensions"], x.shape[1:], strict=True):
        wide[axis] = size
    return xp.broadcast_to(x.reshape(x.shape[0], *wide), (x.shape[0], *shape))


def _repeats(eq: Local) -> list[float]:
    """How often a broadcast repeats an entry."""
    return [math.prod(eq.equation.outputs[0].shape) / max(1, math.prod(eq.ranges[0].shape))]


def _concatenated(xp: Any, eq: Local, *xs: Array) -> Array:
    return xp.concatenate(xs, axis=eq.params["dimension"] + 1)


def _summed(xp: Any, eq: Local, x: Array) -> Array:
    return xp.sum(x, axis=tuple(a + 1 for a in eq.params["axes"]))


def _same(xp: Any, eq: Local, x: Array) -> Array:
    return x


def _size(eq: Local) -> int:
    """Entries summed into one entry by a reduction: bounded by the operand's size."""
    return max(2, math.prod(eq.ranges[0].shape))


class WindowSumRule(LinearRule):
    """reduce_window_sum: sums over windows (average pooling)."""

    def __init__(self) -> None:
        super().__init__(terms=_window)

    def stacked(self, eq: Local, *stacks: Array) -> Array:
        if is_traced(*stacks):
            return super().stacked(eq, *stacks)
        (stack,) = stacks
        return _windows(eq, stack).sum(axis=tuple(range(-(stack.ndim - 1), 0)))

    def _count_columns(self, eq: Local) -> list[float]:
        shape = eq.ranges[0].shape
        numbers = np.arange(math.prod(shape), dtype=float).reshape(1, *shape)
        places = _windows(eq, numbers, -1.0).astype(int).reshape(-1)
        return [float(np.max(np.bincount(places[places >= 0], minlength=1), initial=0))]


def _windows(eq: Local, stack: Array, fill: float = 0.0) -> Array:
    return sliding.windows(
        np.asarray(stack),
        eq.params["window_dimensions"],
        strides=eq.params["window_strides"],
        padding=eq.params["padding"],
        base_dilation=eq.params["base_dilation"],
        window_dilation=eq.params["window_dilation"],
        fill=fill,
    )


def _window(eq: Local) -> int:
    return max(2, math.prod(eq.params["window_dimensions"]))


define(LinearRule(_reshaped, _one), p.reshape_p, p.squeeze_p)
define(LinearRule(_transposed, _one), p.transpose_p)
define(LinearRule(_sliced, _one), p.slice_p)
define(LinearRule(_reversed, _one), p.rev_p)
define(LinearRule(_broadcast, _repeats), p.broadcast_in_dim_p)
define(
    LinearRule(_same, _one),
    p.copy_p,
    p.reduce_precision_p,
    p.sharding_constraint_p,
    p.name_p,
    p.stop_gradient_p,  # no change comes through it: the program's normal form says so
)
define(LinearRule(_concatenated, _one, disjoint=True), p.concatenate_p)
define(LinearRule(disjoint=True), p.pad_p)
define(LinearRule(lambda xp, eq, x, y: x + y, _one, terms=lambda eq: 2), p.add_p, p.add_jaxvals_p)
define(LinearRule(lambda xp, eq, x, y: x + y, _one, signs=(1, -1), terms=lambda eq: 2), p.sub_p)
define(LinearRule(_same, _one, signs=(-1,)), p.neg_p)
define(LinearRule(_summed, _one, terms=_size), p.reduce_sum_p)
define(LinearRule(terms=_size), p.cumsum_p)
define(WindowSumRule(), p.reduce_window_sum_p)
