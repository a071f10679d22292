"""Bilinear equations: matrix products and convolutions.

B(x, y) with x in xc + ball(rx), y in yc + ball(ry), and β the bilinear norm,
‖B(x, y)‖ <= β‖x‖‖y‖. Write N(y) = ‖B(·, y)‖ for the operator norm with one operand held.

    range        |B(x,y) - B(xc,yc)| by intervals, by Cauchy-Schwarz over the slices that are
                 contracted, and by either expansion
                 B(x-xc, yc) + B(x, y-yc)   or   B(x-xc, y) + B(xc, y-yc)
    first order  B(dx, y') + B(x, dy): N(y)‖dx‖ + N(x)‖dy‖, entries likewise
    second order B(a_x, b_y) + B(b_x, a_y): β(‖a_x‖‖b_y‖ + ‖b_x‖‖a_y‖)

The first expansion charges the second operand's distance from its center at the full size
of the first. That is the one which keeps ‖W x + b‖ <= R sqrt(‖x‖² + 1) on a joint ball.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxsmooth.math.array import Array, gamma, is_traced, namespace, norm2, times, tiny, up
from jaxsmooth.math.magnitude import Magnitude, Response, add, tighten
from jaxsmooth.math.range import Range, enclose, rounding_of
from jaxsmooth.rules.registry import Local, Rule, on_arrays

_MOST_NORMS = 4096
_NORMS: dict[Any, float] = {}


class BilinearRule(Rule):
    """Base of the bilinear equations; subclasses say what B is and how large."""

    # What a subclass gives.

    def product(self, eq: Local) -> Any:
        """B as a JAX function, exact dtype of its operands kept."""
        raise NotImplementedError

    def multiply(self, eq: Local, x: Array, y: Array) -> Array:
        """B(x, y) of analysis arrays."""
        return on_arrays(self.product(eq), x, y)

    def multiply_sizes(self, eq: Local, x: Array, y: Array) -> Array:
        """|B|(x, y), with B's coefficients without their signs; here they have none."""
        return self.multiply(eq, x, y)

    def multiply_stack(self, eq: Local, operand: int, stack: Array, held: Array) -> Array:
        """|B| of every array of a stack, as this operand, with the other one held."""
        product = self.product(eq)

        def one(moving: Any, fixed: Any) -> Any:
            return product(*((moving, fixed) if operand == 0 else (fixed, moving)))

        return on_arrays(jax.vmap(one, in_axes=(0, None)), stack, held)

    def terms(self, eq: Local) -> int:
        """Number of products summed into one entry of the result."""
        raise NotImplementedError

    def beta(self, eq: Local) -> float:
        """Bilinear norm."""
        raise NotImplementedError

    def held_norm(self, eq: Local, held: int, value: Array) -> Array:
        """Bound of the operator norm of B with operand ``held`` equal to a known value."""
        raise NotImplementedError

    def slices(self, eq: Local, operand: int, squares: Array, cap: Array) -> Array:
        """2-norms of the operand's slices that meet in one result entry, in the result's shape.

        Args:
          eq: the equation.
          operand: 0 or 1.
          squares: non-negative array of the operand's shape: entries' magnitudes.
          cap: bound of the 2-norm of the whole operand.
        """
        raise NotImplementedError

    def live_norm(self, eq: Local, operand: int, live: np.ndarray) -> Array:
        """Operator norm on perturbations of an operand that vanish where it is not live.

        Units that never fire take their columns of the next layer's weights away.
        """
        return np.inf

    def column_norms(self, eq: Local, held: int) -> tuple[Array, Array]:
        """What `columns` returns, over the range of the operand that is held."""
        raise NotImplementedError

    # What follows.

    def sizes(self, eq: Local) -> list[Array]:
        """N(x) and N(y): bounds over the operands' ranges of the operator norm of B."""
        return eq.once("sizes", lambda: [self._size(eq, i) for i in (0, 1)])

    def _size(self, eq: Local, held: int) -> Array:
        r = eq.ranges[held]
        whole = up(self.beta(eq) * r.norm)
        around = up(self.center_norms(eq)[held] + up(self.beta(eq) * r.radius))
        best = namespace(whole, around).minimum(whole, around)
        if eq.known[1 - held] is not None or is_traced(best, r.lo, r.hi):
            return best
        # ‖Y‖ <= ‖|Y|‖ pays for boxes, whose 2-norm is that of their entries.
        if np.any(r.radius > 0) and norm2(r.absmax) <= 1.5 * r.norm:
            best = min(best, self._norm_of(eq, held, r.absmax))
        return best

    def columns(self, eq: Local, held: int) -> tuple[Array, Array]:
        """(largest 2-norm, largest 1-norm) of a column of B with one operand held.

        A column holds what one entry of the other operand is multiplied by.
        """
        return eq.once(("columns", held), lambda: self.column_norms(eq, held))

    def center_norms(self, eq: Local) -> list[Array]:
        """N at the centers."""
        return eq.once("centers", lambda: [self._center_norm(eq, i) for i in (0, 1)])

    def _center_norm(self, eq: Local, held: int) -> Array:
        center = eq.ranges[held].center
        bound = up(self.beta(eq) * norm2(center))
        # With the other operand known, this norm is multiplied by nothing.
        if eq.known[1 - held] is not None:
            return bound
        if is_traced(center):
            return namespace(center).minimum(bound, self.held_norm(eq, held, center))
        seen, norm = eq.static.get(("center", held), (None, None))
        if seen is None or not np.array_equal(seen, center):
            norm = min(bound, self._norm_of(eq, held, center)) if np.any(center) else 0.0
            eq.static["center", held] = center, norm
        return norm

    def _norm_of(self, eq: Local, held: int, value: np.ndarray) -> float:
        """`held_norm` of a known value, computed once for all analyses of the same weights.

        A certified norm takes far longer than all the rest, and one network is analysed on
        many sets and for many accuracies.
        """
        digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes()).digest()
        shapes = tuple(r.shape for r in eq.ranges)
        key = (self, held, shapes, self.options(eq), digest)
        if key not in _NORMS:
            while len(_NORMS) >= _MOST_NORMS:
                _NORMS.pop(next(iter(list(_NORMS))), None)
            _NORMS[key] = float(self.held_norm(eq, held, value))
        return _NORMS[key]

    def options(self, eq: Local) -> tuple[Any, ...]:
        """What B depends on besides the shapes of its operands."""
        return tuple(sorted(eq.params.items()))

    def range(self, eq: Local) -> list[Range]:
        x, y = eq.ranges
        xp = namespace(x.lo, x.hi, y.lo, y.hi, x.radius, y.radius)
        center = self.multiply(eq, x.center, y.center)
        rounding, slack = self._rounding(eq, x.center, y.center)
        # Elementwise distance from the center, three ways.
        by_intervals = self._interval_distance(eq, (x.center, y.center), (x.spread, y.spread))
        s = self.range_slices(eq)
        d = self.spread_slices(eq)
        c = self.center_slices(eq)
        by_slices = xp.minimum(
            times(d[0], c[1]) + times(s[0], d[1]), times(d[0], s[1]) + times(c[0], d[1])
        )
        distance = up(xp.minimum(by_intervals, up(by_slices, 4)) + slack, 2)
        most = up(times(s[0], s[1]), 2)
        lo = xp.maximum(center - distance, -most)
        hi = xp.minimum(center + distance, most)
        around = self._around_midpoints(eq)
        if around is not None:
            lo, hi = xp.maximum(lo, around[0]), xp.minimum(hi, around[1])
        lo, hi = lo - abs(lo) * gamma(2, lo), hi + abs(hi) * gamma(2, hi)
        gains, rest, radius = self._ball(eq)
        rest, radius = up(rest + rounding), up(radius + rounding)
        full = self.sizes(eq)
        size = up(xp.minimum(times(full[1], x.norm), times(full[0], y.norm)))
        return [enclose(eq.radii, lo, hi, center, gains, rest, radius, size)]

    def _rounding(self, eq: Local, x: Array, y: Array) -> tuple[Array, Array]:
        """Bounds of the 2-norm and of the entries of the rounding error of B(x, y)."""
        terms = self.terms(eq)
        sizes = self.multiply_sizes(eq, abs(x), abs(y))
        return rounding_of(sizes, terms + 1), sizes * gamma(terms + 1, sizes) + tiny(sizes)

    def _around_midpoints(self, eq: Local) -> tuple[Array, Array] | None:
        """Elementwise bounds from the intervals alone, or None where the centers do as well.

        The center of a ball that went through a kink is not the midpoint of its interval,
        and bounds around it are up to twice as wide.
        """
        xp = namespace(*(side for r in eq.ranges for side in (r.lo, r.hi)))
        middles, halves, wider = [], [], False
        for r in eq.ranges:
            bounded = xp.isfinite(r.lo) & xp.isfinite(r.hi)
            lo, hi = xp.where(bounded, r.lo, r.center), xp.where(bounded, r.hi, r.center)
            middle = lo / 2 + hi / 2
            half = xp.where(bounded, up(xp.maximum(hi - middle, middle - lo)), np.inf)
            middles.append(middle)
            halves.append(half)
            if xp is not np or np.any(half < 0.99 * r.spread):
                wider = True
        if not wider:
            return None
        value = self.multiply(eq, *middles)
        distance = self._interval_distance(eq, middles, halves)
        distance = up(distance + self._rounding(eq, *middles)[1], 2)
        return value - distance, value + distance

    def _interval_distance(
        self, eq: Local, points: Sequence[Array], distances: Sequence[Array]
    ) -> Array:
        """Bound of |B(x,y) - B(xp,yp)| from |x-xp| and |y-yp| entry by entry."""
        x, y = eq.ranges
        terms = self.terms(eq)
        xp = namespace(x.lo, x.hi, y.lo, y.hi)

        def finite(a: Array) -> Array:
            return xp.where(xp.isinf(a), 0.0, a)

        total = self.multiply_sizes(eq, finite(distances[0]), finite(y.absmax))
        total = total + self.multiply_sizes(eq, abs(points[0]), finite(distances[1]))
        total = up(total, terms + 3)
        if xp is np and np.isfinite(x.absmax).all() and np.isfinite(y.absmax).all():
            return total

        def indicator(condition: Array) -> Array:
            return xp.where(condition, 1.0, 0.0)

        infinite = self.multiply_sizes(
            eq, indicator(xp.isinf(x.absmax)), indicator(y.absmax > 0)
        ) + self.multiply_sizes(eq, indicator(x.absmax > 0), indicator(xp.isinf(y.absmax)))
        return xp.where(infinite > 0.5, np.inf, total)

    def _ball(self, eq: Local) -> tuple[Array, Array, Array]:
        """(gains, rest, radius) of the better expansion around the centers."""
        x, y = eq.ranges
        full = self.sizes(eq)
        at_center = self.center_norms(eq)
        expansions = [(at_center[1], full[0]), (full[1], at_center[0])]
        if _companions(eq, x) > _companions(eq, y):
            expansions.reverse()
        best = None
        for to_x, to_y in expansions:
            gains = up(times(to_x, x.gains) + times(to_y, y.gains), 3)
            rest = up(times(to_x, x.rest) + times(to_y, y.rest), 3)
            radius = up(times(to_x, x.radius) + times(to_y, y.radius), 3)
            if best is None:
                best = gains, rest, radius
                continue
            xp = namespace(best[2], radius)
            # Ties go to the first, which charges the operand that shares its set with most
            # others: the bias that is added next is then bounded jointly with the weights.
            better = radius < best[2] * (1 - 1e-6)
            best = (
                xp.where(better, gains, best[0]),
                xp.where(better, rest, best[1]),
                xp.minimum(radius, best[2]),
            )
        assert best is not None
        return best

    def range_slices(self, eq: Local) -> list[Array]:
        """Slice norms of the operands over their ranges."""
        centers, spreads = self.center_slices(eq), self.spread_slices(eq)

        def compute(i: int, r: Range) -> Array:
            by_ball = up(centers[i] + spreads[i])
            return namespace(by_ball, r.lo).minimum(self.slices(eq, i, r.absmax, r.norm), by_ball)

        return self._of_operands(eq, "slices", compute)

    def spread_slices(self, eq: Local) -> list[Array]:
        """Slice norms of the operands' distances from their centers."""
        return self._of_operands(eq, "spreads", lambda i, r: self.slices(eq, i, r.spread, r.radius))

    def center_slices(self, eq: Local) -> list[Array]:
        """Slice norms of the operands' centers."""
        return self._of_operands(
            eq, "centers", lambda i, r: self.slices(eq, i, abs(r.center), norm2(r.center))
        )

    def _of_operands(
        self, eq: Local, name: str, compute: Callable[[int, Range], Array]
    ) -> list[Array]:
        """A quantity of each operand, computed once in the life of its range."""
        found = []
        for i, r in enumerate(eq.ranges):
            key = (eq.equation, i, name)
            if key not in r.memo:
                r.memo[key] = compute(i, r)
            found.append(r.memo[key])
        return found

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        total = None
        for operand, m in enumerate(magnitudes):
            if m is not None:
                total = add(total, self._push(eq, operand, m))
        return [total]

    def _push(self, eq: Local, operand: int, m: Magnitude) -> Magnitude:
        """Magnitude of B(dx, y) (operand 0) or B(x, dy) (operand 1)."""
        other = 1 - operand
        size = self.sizes(eq)[other]
        entries, traced = m.entries, is_traced(size, m.entries, eq.ranges[other].center)
        if eq.known[other] is not None and entries is not None and not traced:
            size = min(size, self.live_norm(eq, operand, np.any(entries > 0, axis=0)))
        norm, total = up(times(size, m.norm)), None
        if m.total is not None:
            squares, sums = self.columns(eq, other)
            norm = namespace(norm, m.total).minimum(norm, up(times(squares, m.total)))
            total = up(times(sums, m.total))
        if m.entries is None:
            return tighten(None, norm, total)
        held = eq.ranges[other].absmax
        by_slices = self.pushed_slices(eq, operand, m)
        known = namespace(m.entries, held) is np
        if known and np.isfinite(m.entries).all() and np.isfinite(held).all():
            entries = up(self.multiply_stack(eq, operand, m.entries, held), self.terms(eq) + 1)
            return tighten(np.minimum(entries, by_slices), norm, total)
        return tighten(by_slices, norm, total)

    def pushed_slices(self, eq: Local, operand: int, m: Magnitude) -> Array:
        """Entries of the pushed perturbation by Cauchy-Schwarz: (N, *result)."""
        other = self.range_slices(eq)[1 - operand]
        return up(times(self.stacked_slices(eq, operand, m), other[None]), 2)

    def stacked_slices(self, eq: Local, operand: int, m: Magnitude) -> Array:
        """Slice norms of a stack of perturbations of one operand: (N, *result)."""
        assert m.entries is not None
        xp = namespace(m.norm, m.entries)
        return xp.stack(
            [self.slices(eq, operand, e, n) for e, n in zip(m.entries, m.norm, strict=True)]
        )

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        a, b = magnitudes
        if a is None or b is None:
            return [None]
        crossed = times(a.norm[:, None], b.norm[None, :])
        pairs = up(self.beta(eq) * (crossed + crossed.T), 3)
        if a.entries is None or b.entries is None:
            return [Response(pairs, None)]
        return [Response(pairs, self._joint_response(eq, a, b))]

    def _joint_response(self, eq: Local, a: Magnitude, b: Magnitude) -> Array:
        # B(a_x, b_y) + B(b_x, a_y) with (a_x, a_y) jointly of norm one: where no leaf
        # moves both operands, Cauchy-Schwarz saves a factor two.
        xp = namespace(a.norm, b.norm)
        both = xp.any((a.norm > 0) & (b.norm > 0))
        factor = xp.where(both, 2.0, 1.0)
        ja, jb = a.joint_entries(), b.joint_entries()
        sa = self.slices(eq, 0, ja, norm2(a.norm))
        sb = self.slices(eq, 1, jb, norm2(b.norm))
        return up(factor * times(sa, sb), 4)


def _companions(eq: Local, r: Range) -> int:
    """Leaves in the joint set of the leaf whose range this is; 0 if it is not a leaf's."""
    if is_traced(r.gains, r.rest) or r.rest != 0:
        return 0
    (leaves,) = np.nonzero(r.gains)
    if len(leaves) != 1 or r.gains[leaves[0]] > 1 + 1e-9:
        return 0
    return eq.radii.companions(int(leaves[0]))
