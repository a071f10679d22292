"""Σ y log softmax(x) along axes, with known y: cross-entropy with soft or one-hot labels.

With s = Σ y its gradient is y - s p, whose norm is convex in p = softmax(x) and thus largest
at a vertex: max_k ‖y - s e_k‖₂, which is √2 for one-hot y. Its Hessian is -s (diag(p) - p pᵀ),
of norm at most |s|/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsmooth.math.array import gamma, namespace, norm2, times, up
from jaxsmooth.math.magnitude import Magnitude, Response, crossed, tighten
from jaxsmooth.math.range import Range, enclose, lipschitz_image
from jaxsmooth.program.graph import Equation
from jaxsmooth.program.log_probabilities import EXPECTATION
from jaxsmooth.rules.composites import OfLogSoftmax, of_slices
from jaxsmooth.rules.registry import Local, define


class ExpectationRule(OfLogSoftmax):
    """Σ y log softmax(x): known y, or one known multiple of a one-hot vector."""

    def made(self, equation: Equation, logarithms: Any, *others: Any) -> Any:
        weights = np.asarray(equation.params["weights"], logarithms.dtype)
        terms = logarithms * weights
        for y in others:
            terms = terms * y
        return jnp.sum(terms, equation.params["axes"])

    def _is_one_hot(self, eq: Local) -> bool:
        return len(eq.equation.inputs) > 1

    def _mass(self, eq: Local) -> np.ndarray:
        """Bound of |s|, kept dimensions."""
        weights, axes = eq.params["weights"], eq.params["axes"]
        if self._is_one_hot(eq):
            return np.max(abs(weights), axis=axes, keepdims=True)
        total = np.sum(weights, axis=axes, keepdims=True)
        return up(abs(total) + self._rounding(eq))

    def _rounding(self, eq: Local) -> np.ndarray:
        """Bound of the rounding error of s, kept dimensions."""
        weights, axes = eq.params["weights"], eq.params["axes"]
        slack = gamma(self.whole.count(eq) + 2, weights)
        return slack * np.sum(abs(weights), axis=axes, keepdims=True)

    def _steepness(self, eq: Local) -> np.ndarray:
        """Bound of the norms of all gradients, kept dimensions."""
        return eq.always("steepness", lambda: self._steepest(eq))

    def _steepest(self, eq: Local) -> np.ndarray:
        weights, axes = eq.params["weights"], eq.params["axes"]
        if self._is_one_hot(eq):
            return up(math.sqrt(2) * self._mass(eq), 2)
        # ‖y - s e_k‖² = ‖y‖² - y_k² + (y_k - s)², without cancellation.
        total = np.sum(weights, axis=axes, keepdims=True)
        squares = weights**2
        others = np.sum(squares, axis=axes, keepdims=True) - squares
        slack = gamma(self.whole.count(eq) + 8, weights)
        others = np.maximum(others, 0.0) + slack * np.sum(squares, axis=axes, keepdims=True)
        own = abs(weights - total) * (1 + slack) + self._rounding(eq)
        largest = np.max(others + own**2, axis=axes, keepdims=True)
        return up(np.sqrt(largest), 4)

    def range(self, eq: Local) -> list[Range]:
        inner, (x, *_) = self.inner(eq), eq.ranges
        (whole,) = self.whole.range(inner)
        weights, axes = eq.params["weights"], eq.params["axes"]
        ends = times(weights, whole.lo), times(weights, whole.hi)
        xp = namespace(*ends)
        lo, hi = xp.minimum(*ends), xp.maximum(*ends)
        if self._is_one_hot(eq):
            lo = xp.minimum(xp.min(lo, axis=axes), 0.0)
            hi = xp.maximum(xp.max(hi, axis=axes), 0.0)
            return [enclose(eq.radii, lo, hi, xp.zeros(lo.shape), np.zeros(eq.leaves), np.inf)]
        slack = gamma(self.whole.count(eq) + 4, weights)
        low, high = (xp.sum(v, axis=axes) for v in (lo, hi))
        low = low - slack * xp.sum(abs(lo), axis=axes)
        high = high + slack * xp.sum(abs(hi), axis=axes)
        center, error = self.whole.center(inner)
        terms = times(weights, center)
        rounding = norm2(up(xp.sum(times(abs(weights), error) + slack * abs(terms), axis=axes), 4))
        factor = np.max(self._steepness(eq), initial=0.0)
        return [lipschitz_image(eq.radii, x, factor, low, high, xp.sum(terms, axis=axes), rounding)]

    def first_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Magnitude | None]:
        m = magnitudes[0]
        if m is None:
            return [None]
        steepness = self._steepness(eq)
        norm = up(times(np.max(steepness, initial=0.0), m.norm))
        inner = self.inner(eq)
        if m.entries is None:
            return [Magnitude(None, norm)]
        slices = up(times(steepness, self.whole.slice_norms(inner, m)))
        (whole,) = self.whole.first_order(inner, [m])
        assert whole is not None
        assert whole.entries is not None
        terms = times(abs(eq.params["weights"]), whole.entries)
        axes = tuple(a + 1 for a in eq.params["axes"])
        xp = namespace(terms)
        combined = xp.max if self._is_one_hot(eq) else xp.sum
        terms = up(combined(terms, axis=axes, keepdims=True), self.whole.count(eq) + 2)
        return [tighten(of_slices(eq, xp.minimum(terms, slices)), norm)]

    def second_order(
        self, eq: Local, magnitudes: Sequence[Magnitude | None]
    ) -> list[Response | None]:
        m = magnitudes[0]
        if m is None:
            return [None]
        inner, mass = self.inner(eq), self._mass(eq)
        half = up(0.5 * np.max(mass, initial=0.0))
        pairs = up(half * crossed(self.whole.peaks(inner, m), m.norm), 2)
        totals = up(half * times(m.norm[:, None], m.norm[None, :]), 2)
        joint = self.whole.joint(inner, m)
        entries = None
        if joint is not None:
            entries = of_slices(eq, up(0.5 * times(mass, times(joint, joint)), 3))
        return [Response(pairs, entries, totals)]


define(ExpectationRule(), EXPECTATION)
