"""One pass through a program: ranges, and the effect of every source on the output.

Ranges enclose the values of f, of f_eps and of every program in between in which only some
sites are smoothed: the range of each site's result is widened by its error. Replacing the
sites one at a time, upstream ones first smoothed, then gives

    ‖f_eps - f‖ <= Σ_k w_k μ_k,      w_k = effect on the output of a unit error at site k,

since the program downstream of site k is then f's own. Differentiating twice,

    D²f_eps[a, b] = Σ_q T_q(p_q''[D v a, D v b]),

the sum over nonlinear equations q of their second-order response, pushed through the
tail T_q. Both sums are over *sources* whose magnitudes `first_order` rules push.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.analysis.sources import Perturbation, affordable, aligned, joined, union
from jaxsmooth.math.array import Array, down, is_traced, namespace, norm2, real, times, up
from jaxsmooth.math.kernels import Kernel
from jaxsmooth.math.magnitude import Magnitude, Response
from jaxsmooth.math.perron import perron_bound
from jaxsmooth.math.range import Radii, Range, enclose, point, widen
from jaxsmooth.program.graph import Atom, Equation, Literal, Value
from jaxsmooth.program.normal import ELEMENTWISE, Normal
from jaxsmooth.rules.registry import KinkRule, Local, Site, describe, rule_of


@dataclass(frozen=True, eq=False)
class Term:
    """The second-order response of one equation, as the output feels it.

    Attributes:
      equation: the equation.
      matrix: (J, J), effect on the output of the response to unit changes of leaves i and j.
      pushed: effect on the output of the response to joint unit changes of all leaves.
      site: index of the site whose 1/μ multiplies all this, or None.
    """

    equation: Equation
    matrix: Array
    pushed: Array
    site: int | None


@dataclass(frozen=True, eq=False)
class SitePass:
    """What one pass found about a site.

    Attributes:
      equation: its equation.
      site: how it is smoothed.
      pattern: 2-norm of the error of the whole site for μ = 1.
      effect: error of the output for μ = 1.
    """

    equation: Equation
    site: Site
    pattern: Array
    effect: Array


@dataclass(frozen=True, eq=False)
class Pass:
    """Result of one pass.

    Attributes:
      outputs: range of every output leaf.
      lipschitz: (J,) Lipschitz constants with respect to the leaves.
      sites: in order of evaluation.
      terms: second-order responses.
    """

    outputs: list[Range]
    lipschitz: Array
    sites: list[SitePass]
    terms: list[Term]


@dataclass(eq=False)
class Problem:
    """What stays the same from pass to pass.

    Attributes:
      normal: the program.
      domain: sets of the arguments (`bounds.Domain`).
      leaves: indices of the leaves that derivatives are taken in.
      kernel: the kernel of all sites.
      norm: "l2" or "linf", in which the error of the output is measured.
      exact: whether f itself is analysed, and not its smoothed versions too.
      static: what rules keep, per equation.
      arguments: ranges of the leaves that are not fixed.
    """

    normal: Normal
    domain: Any
    leaves: list[int]
    kernel: Kernel
    norm: str
    exact: bool = False
    static: dict[Equation, dict[Any, Any]] = field(default_factory=dict)
    arguments: dict[Value, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        total = len(self.domain.leaves)
        for j, (leaf, value) in enumerate(
            zip(self.domain.leaves, self.normal.graph.inputs, strict=True)
        ):
            if not leaf.fixed and _is_number(value):
                gains = np.zeros(total)
                gains[j] = 1.0
                self.arguments[value] = enclose(
                    self.domain, leaf.lo, leaf.hi, leaf.center, gains, 0.0
                )

    def kinks(self) -> list[Equation]:
        """The equations that may be sites, in order."""
        return [e for e in self.normal.equations if self.is_kink(e)]

    def is_kink(self, equation: Equation) -> bool:
        """Whether an equation may be a site."""
        rule = rule_of(equation)
        varies = not self.normal.varies.isdisjoint(equation.outputs)
        return varies and isinstance(rule, KinkRule) and rule.has_kinks(equation)


def propagate(problem: Problem, mu: Sequence[Array]) -> Pass:
    """Run one pass with these accuracies, one (number or array) per kink."""
    return _Pass(problem, list(mu)).run()


class _Pass:
    def __init__(self, problem: Problem, mu: list[Array]):
        self.problem = problem
        self.normal = problem.normal
        self.mu = mu
        self.ranges: dict[Value, Range] = {}
        self.changes: dict[Value, Perturbation] = {}
        self.count = len(problem.leaves)
        self.sources = self.count
        self.sites: list[tuple[Equation, Site, Array, int]] = []
        self.responses: list[tuple[Equation, list[tuple[Array, int]], int | None, int]] = []

    def run(self) -> Pass:
        self._enter_arguments()
        last_use = self._last_uses()
        for step, equation in enumerate(self.normal.equations):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                self._equation(equation)
            for value in last_use.get(step, ()):
                self.ranges.pop(value, None)
                self.changes.pop(value, None)
        return self._result()

    def _enter_arguments(self) -> None:
        self.ranges.update(self.problem.arguments)
        for source, j in enumerate(self.problem.leaves):
            value = self.normal.graph.inputs[j]
            if value not in self.normal.varies:
                continue
            unit = Magnitude(np.ones((1, *value.shape)), np.ones(1))
            self.changes[value] = affordable(Perturbation(np.array([source]), unit))

    def _last_uses(self) -> dict[int, list[Value]]:
        last: dict[Value, int] = {}
        for step, equation in enumerate(self.normal.equations):
            for atom in equation.inputs:
                if isinstance(atom, Value):
                    last[atom] = step
        kept = {a for a in self.normal.graph.outputs if isinstance(a, Value)}
        ends: dict[int, list[Value]] = {}
        for value, step in last.items():
            if value not in kept:
                ends.setdefault(step, []).append(value)
        return ends

    def _operand(self, equation: Equation, atom: Atom) -> tuple[Range, Any]:
        shape = atom.shape
        if len(equation.inputs) > 1 and shape == ():
            broadcasting = isinstance(atom, Literal) or atom in self.normal.known
            if broadcasting and equation.primitive in ELEMENTWISE:
                shape = equation.outputs[0].shape
        known = self.normal.value_of(atom, shape)
        if known is not None:
            return self._point(known, shape), known
        if not _is_number(atom):
            # A random key: what is drawn with it has a range of its own.
            return self._point(np.zeros(shape), shape), None
        assert isinstance(atom, Value)
        return self.ranges[atom], None

    def _point(self, known: Any, shape: tuple[int, ...]) -> Range:
        if not _is_number_dtype(known):
            return point(np.zeros(shape), len(self.problem.domain.leaves))
        if not is_traced(known):
            known = np.asarray(known)
        return point(real(known), len(self.problem.domain.leaves))

    def _equation(self, equation: Equation) -> None:
        rule = rule_of(equation)
        operands = [self._operand(equation, a) for a in equation.inputs]
        felt = [v in self.normal.varies for v in equation.outputs]
        varies = [
            any(felt) and isinstance(a, Value) and a in self.normal.varies for a in equation.inputs
        ]
        local = Local(
            equation,
            self.problem.domain,
            len(self.problem.domain.leaves),
            [r for r, _ in operands],
            [k for _, k in operands],
            varies,
            self.problem.static.setdefault(equation, {}),
            kernel=None if self.problem.exact else self.problem.kernel,
            felt=felt,
        )
        results = [
            representable(r, v.dtype, self.problem.domain, local.leaves)
            for r, v in zip(rule.range(local), equation.outputs, strict=True)
        ]
        local.results = results
        before = [
            self.changes.get(a) if isinstance(a, Value) and changes else None
            for a, changes in zip(equation.inputs, varies, strict=True)
        ]
        sources = union(before)
        if not len(sources):
            self._write(equation, results, [None] * len(results))
            return
        magnitudes = [aligned(b, sources) for b in before]
        pushed = rule.first_order(local, magnitudes)
        after: list[list[Perturbation]] = [
            [] if m is None else [Perturbation(sources, m)] for m in pushed
        ]
        at = np.flatnonzero(sources < self.count)
        moved = [None if m is None else m.rows(at) for m in magnitudes]
        responses = rule.second_order(local, moved)
        if self.problem.is_kink(equation):
            assert isinstance(rule, KinkRule)
            site = rule.site(local, self.problem.kernel, moved)
            results = [self._site(equation, site, results[0], after[0]), *results[1:]]
            index = len(self.sites) - 1
            self._response(equation, site.response, sources[at], after[0], results[0], index)
        for response, parts, r in zip(responses, after, results, strict=True):
            if response is not None:
                self._response(equation, response, sources[at], parts, r, None)
        self._write(equation, results, [joined(p) if p else None for p in after])

    def _write(
        self,
        equation: Equation,
        results: Sequence[Range],
        changes: Sequence[Perturbation | None],
    ) -> None:
        for value, r, change in zip(equation.outputs, results, changes, strict=True):
            _check_shapes(equation, value.shape, r, change)
            self.ranges[value] = r
            if change is not None:
                self.changes[value] = affordable(change)

    def _source(self, parts: list[Perturbation], magnitude: Magnitude) -> int:
        identifier = self.sources
        self.sources += 1
        parts.append(Perturbation(np.array([identifier]), magnitude))
        return identifier

    def _site(
        self, equation: Equation, site: Site, result: Range, parts: list[Perturbation]
    ) -> Range:
        """Add the site's error as a source, and widen the range of its result by it."""
        index = len(self.sites)
        mu = self.mu[index]
        xp = namespace(site.active, mu)
        active = xp.where(site.active, 1.0, 0.0)
        largest = max(abs(site.lower), abs(site.upper))
        # The largest of the μ of its elements is the unit in which the site is measured.
        relative = active if xp.ndim(mu) == 0 else active * _relative(mu)
        relative = xp.broadcast_to(relative, result.shape)
        pattern = norm2(relative)
        entries = up(largest * relative, 2)[None]
        source = self._source(parts, Magnitude(entries, up(largest * pattern)[None]))
        self.sites.append((equation, site, pattern, source))
        error = active * mu
        wider = widen(
            result, self.problem.domain, down(error * site.lower, 2), up(error * site.upper, 2)
        )
        # Where nothing is smoothed an element keeps its bounds, which may be one infinity.
        xp = namespace(site.active, wider.lo, wider.hi, result.lo, result.hi)
        return replace(
            wider,
            lo=xp.where(site.active, wider.lo, result.lo),
            hi=xp.where(site.active, wider.hi, result.hi),
            memo={},
        )

    def _response(
        self,
        equation: Equation,
        response: Response,
        leaves: np.ndarray,
        parts: list[Perturbation],
        result: Range,
        site: int | None,
    ) -> None:
        """Add an equation's second-order response as sources."""
        norm = perron_bound(response.pairs)
        total = None if response.totals is None else perron_bound(response.totals)
        entries = response.entries
        if entries is not None:
            norm = namespace(norm, entries).minimum(norm, norm2(entries))
            entries = namespace(entries).minimum(entries, norm)[None]
        joint = self._source(parts, Magnitude(entries, _stack(norm), _stack(total)))
        units: list[tuple[Array, int]] = []
        if self.count > 1:
            ones = None if entries is None else np.ones((1, *result.shape))
            one = np.ones(1)
            pairs = self._spread(response.pairs, leaves)
            units.append((pairs, self._source(parts, Magnitude(ones, one))))
            if response.totals is not None:
                totals = self._spread(response.totals, leaves)
                units.append((totals, self._source(parts, Magnitude(ones, one, one))))
        self.responses.append((equation, units, site, joint))

    def _spread(self, pairs: Array, leaves: np.ndarray) -> Array:
        """The matrix over all leaves of one over those that reach an equation."""
        xp = namespace(pairs)
        where = np.ix_(leaves, leaves)
        if xp is np:
            full = np.zeros((self.count, self.count))
            full[where] = pairs
            return full
        return jnp.zeros((self.count, self.count), pairs.dtype).at[where].set(pairs)

    # The end.

    def _result(self) -> Pass:
        outputs = [self._output(a) for a in self.normal.graph.outputs]
        ranges = [r for r, _ in outputs]
        changes = [c for _, c in outputs]
        effects = self._effects(changes, "l2")
        deviations = effects if self.problem.norm == "l2" else self._effects(changes, "linf")
        sites = [
            SitePass(equation, site, pattern, deviations[source])
            for equation, site, pattern, source in self.sites
        ]
        terms = []
        for equation, units, site, joint in self.responses:
            matrices = [up(times(m, effects[unit])) for m, unit in units]
            if not matrices:
                # One leaf: the joint response is all there is.
                matrices = [namespace(effects).reshape(effects[joint], (1, 1))]
            smallest = matrices[0]
            for m in matrices[1:]:
                smallest = namespace(smallest, m).minimum(smallest, m)
            terms.append(Term(equation, smallest, effects[joint], site))
        return Pass(ranges, effects[: self.count], sites, terms)

    def _output(self, atom: Atom) -> tuple[Range, Perturbation | None]:
        known = self.normal.value_of(atom, atom.shape)
        if known is not None:
            return self._point(known, atom.shape), None
        assert isinstance(atom, Value)
        return self.ranges[atom], self.changes.get(atom)

    def _effects(self, changes: Sequence[Perturbation | None], norm: str) -> Array:
        """(sources,) size, in this norm of the output, of what every source does to it."""
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
                Perturbation(change.sources, Magnitude(None, size)), np.arange(self.sources)
            )
            assert whole is not None
            parts.append(whole.norm)
        if not parts:
            return np.zeros(self.sources)
        stacked = namespace(*parts).stack(parts)
        return namespace(stacked).max(stacked, axis=0) if norm == "linf" else norm2(stacked, 0)


def representable(r: Range, dtype: Any, radii: Radii, leaves: int) -> Range:
    """The range of an integer or a boolean, which wraps around where it leaves its type."""
    if dtype == np.bool_:
        least, most = 0.0, 1.0
    elif jnp.issubdtype(dtype, jnp.integer):
        least, most = float(jnp.iinfo(dtype).min), float(jnp.iinfo(dtype).max)
    else:
        return r
    if is_traced(r.lo, r.hi) or (np.all(r.lo >= least) and np.all(r.hi <= most)):
        return r
    lo, hi = np.full(r.shape, least), np.full(r.shape, most)
    return enclose(radii, lo, hi, np.zeros(r.shape), np.zeros(leaves), np.inf)


def _check_shapes(
    equation: Equation, shape: tuple[int, ...], r: Range, change: Perturbation | None
) -> None:
    """The invariant of every rule: what it returns has the shape of the result."""
    found = [np.shape(x) for x in (r.lo, r.hi, r.center)]
    if change is not None and change.magnitude.entries is not None:
        found.append(np.shape(change.magnitude.entries)[1:])
    if any(s != shape for s in found):
        raise AssertionError(f"rule of {describe(equation)}: shapes {found} are not {shape}")


def _stack(x: Array | None) -> Array | None:
    """A number as a stack of one."""
    return None if x is None else namespace(x).reshape(x, (1,))


def _relative(mu: Array) -> Array:
    """mu over its largest element; 0 if all are."""
    xp = namespace(mu)
    top = xp.max(mu, initial=0.0)
    return mu / xp.where(top > 0, top, 1.0)


def _is_number(value: Atom) -> bool:
    return not jnp.issubdtype(value.dtype, jax.dtypes.extended)


def _is_number_dtype(known: Any) -> bool:
    dtype = getattr(known, "dtype", None)
    return dtype is None or not jnp.issubdtype(dtype, jax.dtypes.extended)
