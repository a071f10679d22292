"""Log-probabilities log softmax(x), entries of them, and cross-entropy with integer labels.

One entry of every slice has gradient e_i - p with p = softmax(x), of 2-norm at most √2, where
x[i] and logsumexp taken apart would add to 2. Its Hessian is that of -logsumexp, at most 1/2.
Both hold for all slices jointly, as long as no two entries are of one slice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsmooth.math.array import namespace, times, up
from jaxsmooth.math.magnitude import Magnitude, Response, crossed, tighten
from jaxsmooth.math.range import Range, enclose
from jaxsmooth.program.evaluate import bind
from jaxsmooth.program.graph import Equation
from jaxsmooth.program.log_probabilities import CROSS_ENTROPY, LOG_PROBABILITY
from jaxsmooth.rules.composites import OfLogSoftmax
from jaxsmooth.rules.registry import Local, Rule, define, rule_of


class LogProbabilityRule(OfLogSoftmax):
    """log_softmax(x), picked by the steps."""

    def made(self, equation: Equation, logarithms: Any, *others: Any) -> Any:
        value, indices = logarithms, iter(others)
        for step in equation.params["steps"]:
            (value,) = bind(step, [value, *(next(indices) for _ in step.inputs[1:])])
        return value

    def _steps(self, eq: Local) -> list[tuple[Rule, Local, Range]]:
        """The steps, with their rules and the ranges of their results."""

        def compute() -> list[tuple[Rule, Local, Range]]:
            (current,), used = self.whole.range(self.inner(eq)), 1
            found: list[tuple[Rule, Local, Range]] = []
            for number, step in enumerate(eq.params["steps"]):
                following = used + len(step.inputs) - 1
                local = Local(
                    step,
                    eq.radii,
                    eq.leaves,
                    [current, *eq.ranges[used:following]],
                    [None, *eq.known[used:following]],
                    [eq.varies[0], *eq.varies[used:following]],
                    eq.static.setdefault(("step", number), {}),
                    kernel=eq.kernel,
                )
                used, rule = following, rule_of(step)
                (current,) = rule.range(local)
                found.append((rule, local, current))
            return found

        return eq.once("steps", compute)

    def range(self, eq: Local) -> list[Range]:
        steps = self._steps(eq)
        return [steps[-1][-1]] if steps else self.whole.range(self.inner(eq))

    def leaves_domain(self, eq: Local) -> bool:
        return any(rule.leaves_domain(local) for rule, local, _ in self._steps(eq))

    def _picked(self, eq: Local, m: Magnitude | None) -> Magnitude | None:
        """A magnitude of the shape of x, of the entries that are picked."""
        for rule, local, _ in self._steps(eq):
            (m,) = rule.first_order(local, [m, *([None] * (len(local.ranges) - 1))])
        return m

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = magnitudes[0]
        if m is None:
            return [None]
        (whole,) = self.whole.first_order(self.inner(eq), [m])
        picked = self._picked(eq, whole)
        assert picked is not None
        if not eq.params["single"]:
            return [picked]
        jointly = up(math.sqrt(2) * m.norm, 2)
        xp = namespace(jointly, picked.norm)
        return [tighten(picked.entries, xp.minimum(picked.norm, jointly))]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        m = magnitudes[0]
        if m is None:
            return [None]
        inner = self.inner(eq)
        (whole,) = self.whole.second_order(inner, [m])
        assert whole is not None
        totals = None
        if eq.params["single"]:
            pairs = up(0.5 * crossed(self.whole.peaks(inner, m), m.norm))
            totals = up(0.5 * times(m.norm[:, None], m.norm[None, :]), 2)
        else:
            unit = self._picked(eq, Magnitude(None, np.ones(1)))
            assert unit is not None
            pairs = up(times(unit.norm[0], whole.pairs))
        if whole.entries is None:
            return [Response(pairs, None, totals)]
        # The same number for every entry of a slice: that of logsumexp.
        xp = namespace(whole.entries)
        joint = Magnitude(whole.entries[None], xp.full((1,), xp.inf))
        picked = self._picked(eq, joint)
        return [Response(pairs, None if picked is None or picked.entries is None
                         else picked.entries[0], totals)]  # fmt: skip


class CrossEntropyRule(LogProbabilityRule):
    """-log_softmax(x), picked by the steps."""

    def range(self, eq: Local) -> list[Range]:
        (r,) = super().range(eq)
        gains, rest, radius = r.gains, r.rest, r.radius
        lo, hi = -r.hi, -r.lo
        return [
            enclose(eq.radii, namespace(lo).maximum(lo, 0.0), hi, -r.center, gains, rest, radius)
        ]


define(LogProbabilityRule(), LOG_PROBABILITY)
define(CrossEntropyRule(), CROSS_ENTROPY)
