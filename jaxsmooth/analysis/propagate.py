"""One pass through a program: ranges, and the effect of every source on the output.

Ranges enclose the values of f, of f_eps and of every program in between in which only some
sites are smoothed: the range of each site's result is widened by its error. Replacing the
sites one at a time, upstream ones first smoothed, then gives

    ‖f_eps - f‖ <= Σ_k w_k μ_k,      w_k = effect on the output of a unit error at site k,

since the program downstream of site k is then f's own. Differentiating twice,

    D²f_eps[a, b] = Σ_q T_q(p_q''[D v a, D v b]),

the sum over nonlinear equations q of their second-order response, pushed through the
tail T_q. Both sums are over *sources* whose magnitudes `first_order` rules push.

A loop is walked step by step. What an equation of its body adds at one step is added to what
it added at the steps before: one source holds the sum over all steps (docs: theory).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth import errors
from jaxsmooth.analysis.ledger import SITE, Ledger
from jaxsmooth.analysis.problem import Pass, Problem, is_number
from jaxsmooth.analysis.repeat import repeat
from jaxsmooth.analysis.slices import hull, sum_of
from jaxsmooth.analysis.sources import Perturbation, affordable, aligned, joined, union
from jaxsmooth.math.array import Array, down, is_traced, namespace, real, up
from jaxsmooth.math.magnitude import Magnitude
from jaxsmooth.math.range import Radii, Range, enclose, point, widen, within_type
from jaxsmooth.program.graph import Atom, Equation, Literal, Value
from jaxsmooth.program.normal import ELEMENTWISE
from jaxsmooth.rules.discrete import NO_NUMBER
from jaxsmooth.rules.registry import KinkRule, Local, Rule, Site, describe, rule_of


def propagate(problem: Problem, mu: Sequence[Array]) -> Pass:
    """Run one pass with these accuracies, one (number or array) per kink."""
    if is_traced(*mu):
        return _Pass(problem, list(mu)).run()
    last = problem.last
    if last is None or not all(map(np.array_equal, last[0], mu)):
        result = _Pass(problem, list(mu)).run()
        traced = is_traced(*(x for s in result.sites for x in (s.effect, s.pattern)))
        if traced or is_traced(result.lipschitz):
            return result
        problem.last = last = list(mu), result
    return last[1]


class _Pass:
    def __init__(self, problem: Problem, mu: list[Array]):
        self.problem = problem
        self.normal = problem.normal
        self.mu = mu
        self.ranges: dict[Value, Range] = {}
        self.changes: dict[Value, Perturbation] = {}
        # Values that may not be numbers, as log(x) where x may be negative, and those that
        # may be infinite, as what a mask fills with infinities.
        self.undefined: set[Value] = set()
        self.infinite: set[Value] = set()
        # Values known at the current steps of loops, and these steps.
        self.current: dict[Value, Any] = {}
        self.positions: list[int] = []
        # Whether only the operands' ranges of sites in a loop are collected.
        self.collecting = False
        self.collected: dict[Equation, list[Range]] = {}
        self.ledger = Ledger(problem)
        self.indices = self.ledger.indices
        self._points: dict[Any, tuple[Range, Any]] = {}
        self._wide: dict[Equation, Local] = {}

    def run(self) -> Pass:
        self._enter_arguments()
        last_use = self._last_uses()
        for step, equation in enumerate(self.normal.equations):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                self.equation(equation)
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

    def known(self, atom: Atom, shape: tuple[int, ...]) -> Any:
        """The atom's value in this shape, at the current step; None if it is unknown."""
        if isinstance(atom, Value) and atom in self.current:
            value = self.current[atom]
            if np.shape(value) == shape:
                return value
            return (jnp if is_traced(value) else np).broadcast_to(value, shape)
        return self.normal.value_of(atom, shape)

    def _operand(self, equation: Equation, atom: Atom) -> tuple[Range, Any]:
        shape = atom.shape
        known = isinstance(atom, Literal) or atom in self.normal.known or atom in self.current
        broadcasting = len(equation.inputs) > 1 and equation.primitive in ELEMENTWISE
        if known and broadcasting and shape == ():
            shape = equation.outputs[0].shape
        # What is known once and for all has one range, which keeps what rules compute of it.
        if (atom, shape) in self._points:
            return self._points[atom, shape]
        known = self.known(atom, shape)
        if known is not None:
            found = self._point(known, shape), known
            if isinstance(atom, Literal) or atom not in self.current:
                self._points[atom, shape] = found
            return found
        if not is_number(atom):
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

    def _local(
        self, equation: Equation, ranges: list[Range], known: list[Any], by_step: bool
    ) -> Local:
        irregular = [
            _irregular(r) if k is not None else (a in self.undefined, a in self.infinite)
            for a, r, k in zip(equation.inputs, ranges, known, strict=True)
        ]
        felt = [v in self.normal.varies for v in equation.outputs]
        # What rules keep from pass to pass must not depend on what the step makes known.
        static = {} if by_step else self.problem.static.setdefault(equation, {})
        return Local(
            equation,
            self.problem.domain,
            len(self.problem.domain.leaves),
            ranges,
            known,
            [
                any(felt) and isinstance(a, Value) and a in self.normal.varies
                for a in equation.inputs
            ],
            static,
            kernel=None if self.problem.exact else self.problem.kernel,
            felt=felt,
            undefined=[nan for nan, _ in irregular],
            infinite=[infinite for _, infinite in irregular],
        )

    def equation(self, equation: Equation) -> None:
        """Ranges and changes of an equation's results."""
        steps = self.normal.loops.get(equation)
        if steps is not None:
            repeat(self, equation, steps)
            return
        rule = rule_of(equation)
        operands = [self._operand(equation, a) for a in equation.inputs]
        ranges, known = [r for r, _ in operands], [k for _, k in operands]
        by_step = any(a in self.current for a in equation.inputs if isinstance(a, Value))
        local = self._local(equation, ranges, known, by_step)
        results = self._range(rule, local)
        local.results = results
        self._note_results(rule, local)
        index = self.indices.get(equation)
        if self.collecting:
            self._collect(equation, results)
            return
        before = [
            self.changes.get(a) if isinstance(a, Value) and changes else None
            for a, changes in zip(equation.inputs, local.varies, strict=True)
        ]
        if index is not None and self.positions:
            local = self._smoothed(rule, local, by_step)
        if (
            self.positions
            and all(b is None for b in before)
            and (index is not None or rule.is_singular(local))
        ):
            # At this step, too, it is smoothed, and has no bound where it has none.
            before = [self._nothing(r.shape) if v else None
                      for r, v in zip(ranges, local.varies, strict=True)]  # fmt: skip
        sources = union(before)
        if not len(sources):
            self.write(equation, results, [None] * len(results))
            return
        magnitudes = [aligned(b, sources) for b in before]
        pushed = rule.first_order(local, magnitudes)
        after: list[list[Perturbation]] = [
            [] if m is None else [Perturbation(sources, m)] for m in pushed
        ]
        at = np.flatnonzero(sources < self.ledger.leaves)
        moved = [None if m is None else m.rows(at) for m in magnitudes]
        responses = rule.second_order(local, moved)
        leaves, repeated = sources[at], bool(self.positions)
        if index is not None:
            assert isinstance(rule, KinkRule)
            site = rule.site(local, self.problem.kernel, moved)
            results = [self._site(equation, index, site, results[0], after[0]), *results[1:]]
            self.ledger.response(equation, SITE, site.response, leaves, after[0], repeated)
        for i, (response, parts) in enumerate(zip(responses, after, strict=True)):
            if response is not None:
                self.ledger.response(equation, i, response, leaves, parts, repeated)
        self.write(equation, results, [_sum(p) if p else None for p in after])

    def _note_results(self, rule: Rule, local: Local) -> None:
        """Note which results may be no numbers, or infinite.

        Infinite is also what leaves the numbers of its type where no operand does.
        """
        reads = rule.reads(local)
        infinite = any(map(operator.and_, local.infinite, reads))
        undefined = any(map(operator.and_, local.undefined, reads)) or rule.leaves_domain(local)
        undefined = undefined or (infinite and not rule.carries(local))
        if undefined and rule.of_numbers(local):
            raise errors.DiscontinuityError(
                f"{local} jumps where an operand stops being a number: its value is another "
                f"operand's there. {NO_NUMBER}"
            )
        for value, r in zip(local.equation.outputs, local.results, strict=True):
            if jnp.issubdtype(value.dtype, jnp.floating):
                beyond = not _is_finite(r, value.dtype)
                self.note(value, undefined, beyond and (infinite or _overflows(local, r)))

    def note(self, value: Value, undefined: bool, infinite: bool) -> None:
        """Note that a value may be no number, or infinite."""
        if undefined:
            self.undefined.add(value)
        if infinite:
            self.infinite.add(value)

    def irregular(self, atom: Atom) -> tuple[bool, bool]:
        """Whether the atom may be no number, and whether it may be infinite."""
        known = self.known(atom, atom.shape)
        if known is not None:
            return _irregular(self._point(known, atom.shape))
        return atom in self.undefined, atom in self.infinite

    def _range(self, rule: Rule, local: Local) -> list[Range]:
        try:
            return [
                representable(r, v.dtype, self.problem.domain, local.leaves)
                for r, v in zip(rule.range(local), local.equation.outputs, strict=True)
            ]
        except errors.DiscontinuityError as error:
            found = [self.normal.decides.get(v) for v in local.equation.outputs]
            if not found or found[0] is None:
                raise
            raise errors.DiscontinuityError(
                f"{describe(found[0])} chooses a branch by numbers that vary with the "
                "arguments, so that the function may jump from one branch to another: no "
                "continuous function stays within eps of a jump. Choose by jnp.where between "
                "branches that meet, use jnp.maximum or jnp.clip, give bounds on which one "
                "branch is always taken, or make what chooses known with jaxsmooth.fixed. "
                f"({error})"
            ) from error

    def write(
        self,
        equation: Equation,
        results: Sequence[Range],
        changes: Sequence[Perturbation | None],
    ) -> None:
        """Set the ranges and the changes of an equation's results."""
        for value, r, change in zip(equation.outputs, results, changes, strict=True):
            _check_shapes(equation, value.shape, r, change)
            self.enter(value, r, change)

    def enter(self, value: Value, r: Range, change: Perturbation | None) -> None:
        """Set the range and the change of a value."""
        self.ranges[value] = r
        if change is None:
            # Of the step before.
            self.changes.pop(value, None)
        else:
            self.changes[value] = affordable(change)

    # Sites in loops: what is decided from ranges is decided for all steps at once.

    def _collect(self, equation: Equation, results: list[Range]) -> None:
        """In a loop, ahead: ranges with all elements of all sites smoothed."""
        index = self.indices.get(equation)
        if index is not None:
            operands = [self._operand(equation, a)[0] for a in equation.inputs]
            seen = self.collected.get(equation)
            if seen is not None:
                domain = self.problem.domain
                operands = [hull(a, b, domain) for a, b in zip(seen, operands, strict=True)]
            self.collected[equation] = operands
            mu = self.mu[index]
            largest = up(namespace(mu).max(mu, initial=0.0))
            error = namespace(largest).broadcast_to(largest, results[0].shape)
            results = [widen(results[0], self.problem.domain, -error, error), *results[1:]]
        self.write(equation, results, [None] * len(results))

    def _smoothed(self, rule: Rule, local: Local, by_step: bool) -> Local:
        """The equation as it is smoothed: over its operands' ranges at all steps."""
        if self.problem.exact:
            return local
        equation = local.equation
        if equation not in self._wide:
            known = [None if isinstance(a, Value) and a in self.current else k
                     for a, k in zip(equation.inputs, local.known, strict=True)]  # fmt: skip
            wide = self._local(equation, self.collected[equation], known, by_step)
            wide.results = rule.range(wide)
            self._wide[equation] = wide
        return self._wide[equation]

    def _nothing(self, shape: tuple[int, ...]) -> Perturbation:
        """A perturbation that is none."""
        return Perturbation(np.array([0]), Magnitude(np.zeros((1, *shape)), np.zeros(1)))

    def _site(
        self,
        equation: Equation,
        index: int,
        site: Site,
        result: Range,
        parts: list[Perturbation],
    ) -> Range:
        """Add the site's error to its source, and widen the range of its result by it."""
        mu, relative = self.mu[index], 1.0
        if namespace(mu).ndim(mu):
            relative = _relative(mu)
            if self.positions:
                position = tuple(self.positions)
                mu, relative = mu[position], relative[position]
        xp = namespace(site.active, mu)
        active = xp.where(site.active, 1.0, 0.0)
        # The largest of the μ of its elements is the unit in which the site is measured.
        relative = xp.broadcast_to(active * relative, result.shape)
        self.ledger.error(equation, site, relative, parts)
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

    # The end.

    def _result(self) -> Pass:
        outputs = [self.output(a) for a in self.normal.graph.outputs]
        ranges = [r for r, _ in outputs]
        changes = [c for _, c in outputs]
        effects = self.ledger.effects(changes, "l2")
        deviations = effects if self.problem.norm == "l2" else self.ledger.effects(changes, "linf")
        return Pass(
            ranges,
            effects[: self.ledger.leaves],
            self.ledger.sites(deviations),
            self.ledger.terms(effects),
        )

    def output(self, atom: Atom) -> tuple[Range, Perturbation | None]:
        """Range and change of what a program or a step gives."""
        known = self.known(atom, atom.shape)
        if known is not None:
            return self._point(known, atom.shape), None
        assert isinstance(atom, Value)
        return self.ranges[atom], self.changes.get(atom)


def _sum(parts: list[Perturbation]) -> Perturbation:
    """The sum of perturbations of one value."""
    later = [int(p.sources[0]) for p in parts[1:]]
    before = [int(p.sources[-1]) for p in parts[:-1]]
    if all(a < b for a, b in zip(before, later, strict=True)):
        return joined(parts)
    return sum_of(parts)


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


def _relative(mu: Array) -> Array:
    """mu over its largest element; 0 if all are."""
    xp = namespace(mu)
    top = xp.max(mu, initial=0.0)
    return mu / xp.where(top > 0, top, 1.0)


def _irregular(known: Range) -> tuple[bool, bool]:
    """Whether a known number is none, and whether it is infinite; tracers are neither."""
    if is_traced(known.lo) or np.isfinite(known.rest):
        return False, False
    return bool(np.isnan(known.lo).any()), bool(np.isinf(known.lo).any())


def _is_finite(r: Range, dtype: Any) -> bool:
    """Whether a range is known to hold finite numbers of the type alone."""
    return not is_traced(r.lo, r.hi) and bool(np.all(within_type(r, dtype)))


def _overflows(local: Local, result: Range) -> bool:
    """Whether a known result is of operands that are finite numbers of their types alone."""
    operands = zip(local.ranges, local.equation.inputs, strict=True)
    return not is_traced(result.lo, result.hi) and all(_is_finite(r, a.dtype) for r, a in operands)


def _is_number_dtype(known: Any) -> bool:
    dtype = getattr(known, "dtype", None)
    return dtype is None or not jnp.issubdtype(dtype, jax.dtypes.extended)
