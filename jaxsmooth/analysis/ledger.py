"""The sources of one pass: where they arise, and what each does to the output.

Sources are numbered as they arise: the argument leaves first, then for every smoothed
equation its error, and for every nonlinear one its second-order responses. An equation in
a loop adds to the same sources at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsmooth.analysis.problem import Problem, SitePass, Term
from jaxsmooth.analysis.sources import Perturbation, aligned
from jaxsmooth.math.array import Array, namespace, norm2, times, up
from jaxsmooth.math.magnitude import Magnitude, Response
from jaxsmooth.math.perron import perron_bound
from jaxsmooth.program.graph import Equation
from jaxsmooth.rules.registry import Site

# Which response of an equation: that of its result with this index, or that of its site.
SITE = "site"


@dataclass(eq=False)
class _SiteRecord:
    """What a pass found about a site so far.

    Attributes:
      site: how it is smoothed, from the last step.
      active: elements that can reach a kink at some step.
      location: hull of what meets the kink.
      squares: square of the 2-norm of the error of all steps so far, for μ = 1.
      source: its identifier.
    """

    site: Site
    active: Array
    location: tuple[Array, Array]
    squares: Array
    source: int


@dataclass(eq=False)
class _ResponseRecord:
    """Second-order responses of one equation so far.

    Attributes:
      key: what identifies it.
      equation: the equation.
      site: index of the site whose 1/μ multiplies them, or None.
      joint: source of the response to joint changes.
      units: (matrix over the leaves, source) of responses leaf by leaf.
      singular: whether one of them is.
    """

    key: Any
    equation: Equation
    site: int | None
    joint: int = -1
    units: dict[str, tuple[Array, int]] = field(default_factory=dict)
    singular: Array = False


class Ledger:
    """All sources of one pass.

    Args:
      problem: what is analysed.

    Attributes:
      leaves: how many sources are argument leaves.
      indices: the index of every equation with kinks.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self.leaves = len(problem.leaves)
        self.indices = {e: i for i, e in enumerate(problem.kinks)}
        self._count = self.leaves
        self._identifiers: dict[Any, int] = {}
        self._sites: dict[Equation, _SiteRecord] = {}
        self._responses: dict[Any, _ResponseRecord] = {}

    def error(
        self, equation: Equation, site: Site, relative: Array, parts: list[Perturbation]
    ) -> None:
        """Add the error of a site.

        Args:
          equation: what is smoothed.
          site: how, at this step.
          relative: the μ of its elements over the largest one; 0 where nothing is smoothed.
          parts: perturbations of its result, to which that of its error is added.
        """
        largest = max(abs(site.lower), abs(site.upper))
        pattern = norm2(relative)
        entries = up(largest * relative, 2)[None]
        magnitude = Magnitude(entries, up(largest * pattern)[None])
        source = self._source((equation, "error"), parts, magnitude)
        squares = up(pattern * pattern)
        old = self._sites.get(equation)
        if old is None:
            self._sites[equation] = _SiteRecord(site, site.active, site.location, squares, source)
            return
        old.site = site
        old.active = old.active | site.active
        (lo, hi), (a, b) = old.location, site.location
        xp = namespace(lo, hi, a, b)
        old.location = xp.minimum(lo, a), xp.maximum(hi, b)
        old.squares = up(old.squares + squares)

    def response(
        self,
        equation: Equation,
        which: int | str,
        response: Response,
        leaves: np.ndarray,
        parts: list[Perturbation],
        repeated: bool,
    ) -> None:
        """Add a second-order response of an equation.

        Args:
          equation: the equation.
          which: index of the result, or `SITE`.
          response: to changes by the leaves.
          leaves: those that reach the equation.
          parts: perturbations of the result, to which those of the response are added.
          repeated: whether the equation is in a loop.
        """
        norm = perron_bound(response.pairs)
        total = None if response.totals is None else perron_bound(response.totals)
        entries = response.entries
        if entries is not None:
            norm = namespace(norm, entries).minimum(norm, norm2(entries))
            entries = namespace(entries).minimum(entries, norm)[None]
        key = (equation, which)
        record = self._responses.get(key)
        if record is None:
            site = self.indices[equation] if which == SITE else None
            record = self._responses[key] = _ResponseRecord(key, equation, site)
        record.singular = response.singular | record.singular
        magnitude = Magnitude(entries, _stack(norm), _stack(total))
        record.joint = self._source((key, "joint"), parts, magnitude)
        if self.leaves == 1:
            return
        shape = None if entries is None else entries.shape[1:]
        self._units(record, "pairs", response.pairs, leaves, parts, shape, repeated)
        if response.totals is not None:
            self._units(record, "totals", response.totals, leaves, parts, shape, repeated)

    def _source(self, key: Any, parts: list[Perturbation], magnitude: Magnitude) -> int:
        """Add to the source with this key, which is one for all steps of a loop."""
        if key not in self._identifiers:
            self._identifiers[key] = self._count
            self._count += 1
        identifier = self._identifiers[key]
        parts.append(Perturbation(np.array([identifier]), magnitude))
        return identifier

    def _units(
        self,
        record: _ResponseRecord,
        name: str,
        matrix: Array,
        leaves: np.ndarray,
        parts: list[Perturbation],
        shape: tuple[int, ...] | None,
        repeated: bool,
    ) -> None:
        """Responses leaf by leaf: at most matrix_ij times one of unit norm.

        In a loop the unit of every step is the norm of its matrix, and the matrices in these
        units are bounded together: Σ_t matrix_t,ij effect_t <= max_t(matrix_t,ij/s_t) Σ_t s_t
        effect_t.
        """
        full, unit = self._spread(matrix, leaves), 1.0
        if repeated:
            size = perron_bound(matrix)
            xp = namespace(size, full)
            sized = (size > 0) & xp.isfinite(size)
            unit = xp.where(sized, size, 1.0)
            full = up(full / unit)
        xp = namespace(unit)
        norm = xp.reshape(xp.asarray(unit, dtype=None), (1,)) * 1.0
        ones = None
        if shape is not None:
            ones = norm.reshape((1,) * (1 + len(shape))) * np.ones((1, *shape))
        magnitude = Magnitude(ones, norm, norm if name == "totals" else None)
        source = self._source((record.key, name), parts, magnitude)
        if name in record.units:
            old, _ = record.units[name]
            full = namespace(old, full).maximum(old, full)
        record.units[name] = full, source

    def _spread(self, pairs: Array, leaves: np.ndarray) -> Array:
        """The matrix over all leaves of one over those that reach an equation."""
        xp = namespace(pairs)
        where = np.ix_(leaves, leaves)
        if xp is np:
            full = np.zeros((self.leaves, self.leaves))
            full[where] = pairs
            return full
        return jnp.zeros((self.leaves, self.leaves), pairs.dtype).at[where].set(pairs)

    # At the end of a pass.

    def effects(self, changes: Sequence[Perturbation | None], norm: str) -> Array:
        """What every source does to the output.

        Args:
          changes: of the output's leaves.
          norm: of the output, "l2" or "linf".

        Returns:
          (sources,).
        """
        parts = []
        for change in changes:
            if change is None:
                continue
            m = change.magnitude
            size = m.norm
            if norm == "linf" and m.entries is not None:
                xp = namespace(m.entries)
                size = xp.max(m.entries, axis=tuple(range(1, m.entries.ndim)), initial=0.0)
            whole = aligned(
                Perturbation(change.sources, Magnitude(None, size)), np.arange(self._count)
            )
            assert whole is not None
            parts.append(whole.norm)
        if not parts:
            return np.zeros(self._count)
        stacked = namespace(*parts).stack(parts)
        return namespace(stacked).max(stacked, axis=0) if norm == "linf" else norm2(stacked, 0)

    def terms(self, effects: Array) -> list[Term]:
        """The terms of the smoothness constants, for these effects."""
        terms = []
        for record in self._responses.values():
            matrices = [up(times(m, effects[unit])) for m, unit in record.units.values()]
            if not matrices:
                # One leaf: the joint response is all there is.
                matrices = [namespace(effects).reshape(effects[record.joint], (1, 1))]
            smallest = matrices[0]
            for m in matrices[1:]:
                smallest = namespace(smallest, m).minimum(smallest, m)
            pushed = effects[record.joint]
            xp = namespace(record.singular, smallest, pushed)
            smallest, pushed = (xp.where(record.singular, np.inf, x) for x in (smallest, pushed))
            terms.append(Term(record.equation, smallest, pushed, record.site))
        return terms

    def sites(self, effects: Array) -> list[SitePass]:
        """All sites, for these effects."""
        return [self._site(equation, effects) for equation in self.indices]

    def _site(self, equation: Equation, effects: Array) -> SitePass:
        steps = self.problem.steps_of(equation)
        shape = equation.outputs[0].shape
        record = self._sites.get(equation)
        if record is None:
            # No change of the arguments reaches it.
            zeros = np.zeros(shape)
            nowhere = Site(
                zeros > 0, 0.0, 0.0, Response(np.zeros((0, 0)), None), (), _never,
                (zeros, zeros), self.problem.kernel.name,
            )  # fmt: skip
            return SitePass(equation, nowhere, np.float64(0.0), np.float64(0.0))
        site = replace(record.site, active=record.active, location=record.location)
        pattern = up(namespace(record.squares).sqrt(record.squares), 2)
        if not steps:
            return SitePass(equation, site, pattern, effects[record.source])
        active = namespace(site.active).broadcast_to(site.active, (*steps, *shape))
        site = replace(site, active=active)
        return SitePass(equation, site, pattern, effects[record.source], steps)


def _never(*_: Any) -> Any:
    raise AssertionError("an element that cannot reach a kink is not smoothed")


def _stack(x: Array | None) -> Array | None:
    """A number as a stack of one."""
    return None if x is None else namespace(x).reshape(x, (1,))
