"""`smooth`: a function in, a certified smooth function out."""

from __future__ import annotations

import functools
import inspect
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth import _compat, allocation, errors
from jaxsmooth.analysis import constants
from jaxsmooth.analysis.analyze import constants_of, name_of, scalar, site_of
from jaxsmooth.analysis.prepare import NORMS, Prepared, prepare
from jaxsmooth.bounds import Fixed, shapes_from_bounds
from jaxsmooth.certificate import Certificate
from jaxsmooth.math.array import is_traced, namespace, real
from jaxsmooth.math.kernels import kernel_named
from jaxsmooth.program.determinants import CALLS
from jaxsmooth.program.evaluate import Replacement, downstream, evaluate, exactly
from jaxsmooth.program.graph import Atom, Value, flatten
from jaxsmooth.program.normal import Normal
from jaxsmooth.program.pairs import is_complex
from jaxsmooth.rules.registry import rule_of
from jaxsmooth.verification import Proved, check_smooth, prove


def smooth(
    f: Callable[..., Any],
    eps: Any,
    bounds: Any,
    *,
    kernel: str = "auto",
    allocation: str | Mapping[str, Any] = "optimal",
    norm: str = "l2",
    argnums: int | Sequence[int] | None = None,
) -> Smoothed:
    """A smooth function that stays within eps of f on a set, with the proof.

    Args:
      f: any function of arrays that JAX can trace; it returns a pytree of arrays.
      eps: the error budget, a non-negative number; may be traced.
      bounds: the set: a pytree prefix of the arguments with leaves `ball`, `box`,
        `linf_ball`, `fixed`, `anything`, or a number R for ``ball(R)``. Numbers in them may
        be traced.
      kernel: "paper", "centered", "minimax", "softplus", "c2", or "auto": minimax, whose
        curvature is the least possible for its error; elements whose range excludes the
        kink stay exact under every kernel.
      allocation: "optimal" (least smoothness constant), "uniform", "halving", or a mapping
        from site path to μ per element or to a `share`, which is verified.
      norm: "l2" or "linf": how the error of the output is measured, all its leaves joined.
        Constants are in 2-norms in either case.
      argnums: arguments that derivatives will be taken in; by default all that are not
        fixed. What depends on none of them stays exact.

    Returns:
      A pure function with f's arguments and output structure, and a method
      ``certificate(*args)``. Arguments that are wholly fixed may be left out of a call.

    Raises:
      ArgumentError: an option is malformed. The analysis runs at the first call, and may
        raise BoundsError, UnsupportedPrimitiveError, DiscontinuityError and
        CertificationError then.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> import jaxsmooth
      >>> f = lambda x: jnp.abs(x).sum()
      >>> f_eps = jaxsmooth.smooth(f, 0.1, jaxsmooth.box(-np.ones(3), 1.0))
      >>> certificate = f_eps.certificate()
      >>> certificate.error <= 0.1, round(certificate.smoothness, 3)
      (True, 7.5)
      >>> x = jnp.array([0.0, 0.01, -0.5])
      >>> bool(abs(f_eps(x) - f(x)) <= 0.1)
      True

    Source: Roulet and Harchaoui, *On the Smoothing of Deep Networks* (CISS 2021).
    """
    _check_options(eps, kernel, allocation, norm)
    return Smoothed(f, eps, bounds, Options(kernel, allocation, norm, argnums))


@dataclass(frozen=True)
class Options:
    """Options of `smooth`."""

    kernel: str
    allocation: str | Mapping[str, Any]
    norm: str
    argnums: int | Sequence[int] | None


@dataclass(frozen=True, eq=False)
class _Solved:
    """An analysed function: how to evaluate it, and what was proved."""

    prepared: Prepared
    proved: Proved
    run: Callable[..., list[Any]]


class Smoothed:
    """A smoothed function; see `smooth`.

    It is analysed once for every structure and shapes of its arguments, also when it is
    called inside `jax.jit`, `jax.vmap` or `jax.grad`. With traced numbers in eps, the
    bounds or f itself, the analysis becomes part of the traced program.
    """

    def __init__(self, f: Callable[..., Any], eps: Any, bounds: Any, options: Options):
        functools.update_wrapper(self, f, updated=())
        self._f = f
        self._eps = eps
        self._bounds = bounds
        self._options = options
        self._solved: dict[Any, _Solved] = {}
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """f_eps at the arguments, with the structure of f's output."""
        args = self._positional(args, kwargs)
        solved = self._analysed(args)
        leaves = jax.tree_util.tree_leaves(args)
        arguments = [
            _declared(leaf, value)
            for leaf, value in zip(solved.prepared.domain.leaves, leaves, strict=True)
        ]
        outputs = solved.run(arguments)
        return jax.tree_util.tree_unflatten(
            jax.tree_util.tree_structure(solved.prepared.outputs), outputs
        )

    def certificate(self, *args: Any, **kwargs: Any) -> Certificate:
        """What is proved about the function for arguments of these shapes.

        Args:
          *args: arguments, arrays or ``jax.ShapeDtypeStruct``; none are needed where the
            bounds carry shapes.
          **kwargs: arguments by name.

        Raises:
          BoundsError, UnsupportedPrimitiveError, DiscontinuityError, CertificationError.
        """
        if args or kwargs:
            args = self._positional(args, kwargs)
        else:
            args = shapes_from_bounds(self._bounds)
        return _certificate(self._analysed(args), self._eps, self._options, name_of(self._f))

    def __repr__(self) -> str:
        return f"jaxsmooth.smooth({name_of(self._f)}, eps={self._eps}, bounds={self._bounds})"

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments by position, with the fixed ones that were left out."""
        if kwargs:
            bound = inspect.signature(self._f).bind(*args, **kwargs)
            if bound.kwargs:
                raise errors.ArgumentError(
                    f"{next(iter(bound.kwargs))} can only be passed by name; bounds are for "
                    "positional arguments: fix it with functools.partial before smoothing"
                )
            args = bound.args
        declared = self._bounds if isinstance(self._bounds, (tuple, list)) else None
        if declared is None or len(args) == len(declared):
            return args
        free = [entry for entry in declared if not isinstance(entry, Fixed)]
        if len(args) == len(free):
            rest = iter(args)
            return tuple(e.value if isinstance(e, Fixed) else next(rest) for e in declared)
        return args

    def _analysed(self, args: tuple[Any, ...]) -> _Solved:
        shapes = jax.tree_util.tree_map(_shape_of, args)
        leaves, treedef = jax.tree_util.tree_flatten(shapes)
        key = (treedef, tuple((s.shape, s.dtype) for s in leaves), jnp.result_type(float))
        with self._lock:
            solved = self._solved.get(key)
            if solved is None:
                solved = self._solve(shapes)
                if not solved.prepared.traced and not is_traced(self._eps, *solved.proved.mu):
                    self._solved[key] = solved
        return solved

    def _solve(self, shapes: tuple[Any, ...]) -> _Solved:
        options = self._options
        prepared = prepare(
            self._f, self._bounds, shapes, options.argnums, options.kernel, options.norm
        )
        proved = prove(prepared.problem, real(self._eps), options.allocation)
        check_smooth(proved.result)
        return _Solved(prepared, proved, _evaluator(prepared, proved))


def _evaluator(prepared: Prepared, proved: Proved) -> Callable[..., list[Any]]:
    """The smoothed program, compiled where all that it closes over is known."""
    graph, normal = prepared.graph, prepared.problem.normal
    replaced: dict[Value, Replacement] = {}
    for equation in normal.all_equations():
        instead = rule_of(equation).in_place_of(equation)
        if instead is not None:
            inputs = tuple(normal.original(a) for a in equation.inputs)
            compute = functools.partial(_without_accuracy, _read(instead, normal, equation.inputs))
            replaced[equation.outputs[0]] = Replacement(
                inputs,
                compute,
                np.float64(0.0),
                repairs=True,
                of_call=equation.primitive in CALLS,
            )
    for found, mu in zip(proved.result.sites, proved.mu, strict=True):
        assert normal.pairs.whole(found.equation.outputs[0]) is found.equation.outputs[0]
        active = found.site.active
        if not is_traced(active) and not np.any(active):
            continue
        steps = len(found.steps)
        if steps and not namespace(mu).ndim(mu):
            # All steps of a loop share which elements are active.
            active, steps = active[(0,) * steps], 0
        full = is_traced(active) is False and bool(np.all(active))
        inputs = tuple(normal.original(a) for a in found.site.inputs)
        # μ = 0 leaves an element exactly as it is.
        accuracy = (
            mu
            if full
            else jnp.where(active, mu, 0.0)
            if is_traced(active, mu)
            else (np.where(active, mu, 0.0))
        )
        compute = _read(found.site.compute, normal, found.site.inputs, 1)
        compute = functools.partial(_listed, compute)
        replaced[found.equation.outputs[0]] = Replacement(inputs, compute, accuracy, steps)
    for output, operand in _chosen(normal).items():
        # What is not chosen has no derivatives, whatever JAX multiplies by 0.
        choose = functools.partial(_without_accuracy, lambda value: value)
        replaced.setdefault(output, Replacement((operand,), choose, np.float64(0.0), repairs=True))
    accuracies = [r.accuracy for r in replaced.values()]
    constants_ = list(graph.constants.values())
    stopped = downstream(normal.stopped, graph, list(_repeated(replaced, normal.instead)))

    def run(values: Sequence[Any], accuracies: Any, arguments: Sequence[Any]) -> list[Any]:
        replacements = {
            output: replace(replacement, accuracy=mu)
            for (output, replacement), mu in zip(replaced.items(), accuracies, strict=True)
        }
        closed_over = dict(zip(graph.constants, values, strict=True))
        # What counts as a constant in derivatives is f's own value.
        exact = exactly(graph, stopped, arguments, closed_over, normal.resolved)
        for output, value in exact.items():
            replacements[output] = Replacement((), lambda _, v=value: [v])
        everywhere = _repeated(replacements, normal.instead)
        return evaluate(graph, arguments, everywhere, closed_over, normal.resolved)

    if not is_traced(*accuracies, *constants_):
        run = jax.jit(run)
    return functools.partial(run, constants_, accuracies)


def _chosen(normal: Normal) -> dict[Value, Atom]:
    """The choices by known conditions that the program makes, of what it computes itself."""
    graph = normal.graph
    computed = {*graph.inputs, *graph.constants}
    for equation in flatten(graph.body, inside_loops=True) if normal.chosen else ():
        loop = equation.loop
        computed.update(equation.outputs, () if loop is None else (*loop.carry, *loop.slices))
    return {
        output: operand
        for output, operand in normal.chosen.items()
        if output in computed and (operand in computed or not isinstance(operand, Value))
    }


def _repeated(
    replacements: Mapping[Value, Replacement], instead: Mapping[Value, Value]
) -> dict[Value, Replacement]:
    """The replacements, also of what the program computes again."""
    again = {v: replacements[first] for v, first in instead.items() if first in replacements}
    return {**replacements, **again}


def _without_accuracy(compute: Callable[..., Any], mu: Any, *inputs: Any) -> Sequence[Any]:
    return [compute(*inputs)]


def _read(
    compute: Callable[..., Any], normal: Normal, atoms: Sequence[Atom], first: int = 0
) -> Callable[..., Any]:
    """``compute`` of what the program has where the analysis has pairs of parts or other axes.

    Args:
      compute: reads the values of the atoms, from the argument at position ``first`` on.
      normal: the program.
      atoms: as the analysis has them.
      first: number of arguments before them.
    """
    whole = [normal.original(a) for a in atoms]
    if not any(is_complex(w) or w.shape != a.shape for w, a in zip(whole, atoms, strict=True)):
        return compute

    def as_analysed(x: Any, atom: Atom) -> Any:
        x = jnp.stack([x.real, x.imag], -1) if jnp.iscomplexobj(x) else x
        return jnp.reshape(x, atom.shape) if np.size(x) == math.prod(atom.shape) else x

    def of_program(*operands: Any) -> Any:
        read = map(as_analysed, operands[first:], atoms)
        return compute(*operands[:first], *read)

    return of_program


def _listed(compute: Callable[..., Any], *inputs: Any) -> Sequence[Any]:
    found = compute(*inputs)
    return found if isinstance(found, (tuple, list)) else [found]


def _certificate(solved: _Solved, eps: Any, options: Options, name: str) -> Certificate:
    prepared, proved = solved.prepared, solved.proved
    result = proved.result
    kernel = kernel_named("minimax" if options.kernel == "auto" else options.kernel)
    sites = []
    for found, mu in zip(result.sites, proved.mu, strict=True):
        largest = mu if is_traced(mu) else np.max(mu, initial=0.0)
        spent = found.effect * largest
        xp = jnp if is_traced(spent, eps) else np
        budget = real(eps)
        everywhere = not is_traced(found.site.active) and bool(np.all(found.site.active))
        per_element = mu if everywhere else xp.where(found.site.active, mu, 0.0)
        sites.append(
            site_of(
                found,
                mu=scalar(per_element) if np.ndim(per_element) == 0 else per_element,
                error=scalar(found.pattern * largest),
                share=scalar(xp.where(budget > 0, spent / xp.where(budget > 0, budget, 1.0), 0.0)),
                kernel=found.site.kernel,
            )
        )
    shared = constants_of(prepared, result, proved.mu)
    return Certificate(
        eps=scalar(real(eps)),
        error=scalar(proved.error),
        bound=scalar(constants.output_bound(result)),
        range=tuple((_least(r.lo), _most(r.hi)) for r in result.outputs),
        sites=tuple(sites),
        kernel=kernel.name,
        allocation=options.allocation if isinstance(options.allocation, str) else "explicit",
        norm=options.norm,
        function=name,
        versions=tuple(sorted(_compat.versions().items())),
        **shared,
    )


def _least(lo: Any) -> Any:
    return lo.min(initial=math.inf) if is_traced(lo) else float(np.min(lo, initial=math.inf))


def _most(hi: Any) -> Any:
    return hi.max(initial=-math.inf) if is_traced(hi) else float(np.max(hi, initial=-math.inf))


def _shape_of(x: Any) -> jax.ShapeDtypeStruct:
    if isinstance(x, jax.ShapeDtypeStruct):
        return x
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        if not isinstance(x, (bool, int, float, complex)):
            raise errors.ArgumentError(
                f"an argument is {x!r}, which is no array; pass arrays, and bind other "
                "arguments with functools.partial before smoothing"
            )
        x = jnp.asarray(x)
    keys = jnp.issubdtype(x.dtype, jax.dtypes.extended)
    dtype = x.dtype if keys else jax.dtypes.canonicalize_dtype(x.dtype)
    return jax.ShapeDtypeStruct(x.shape, dtype)


def _declared(leaf: Any, value: Any) -> Any:
    """The declared value of a fixed leaf, else the value passed."""
    if not leaf.fixed:
        return value
    differs = (
        value is not leaf.value
        and not isinstance(value, jax.ShapeDtypeStruct)
        and not is_traced(value, leaf.value)
        and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        and not np.array_equal(np.asarray(value).astype(leaf.dtype), np.asarray(leaf.value))
    )
    if differs:
        raise errors.ArgumentError(
            f"{leaf.path} was declared fixed, and differs from its declared value; the "
            "certificate holds for that value only. Smooth again with jaxsmooth.fixed(new value)."
        )
    return leaf.value


def _check_options(eps: Any, kernel: Any, wanted: Any, norm: Any) -> None:
    if norm not in NORMS:
        raise errors.ArgumentError(f"no norm {norm!r}; choose from {', '.join(map(repr, NORMS))}")
    if kernel != "auto":
        kernel_named(kernel)
    if not isinstance(wanted, Mapping) and wanted not in allocation.ALLOCATIONS:
        names = ", ".join(map(repr, allocation.ALLOCATIONS))
        raise errors.ArgumentError(
            f"no allocation {wanted!r}; choose from {names}, or give a mapping from site path "
            "to μ or share"
        )
    if is_traced(eps):
        if eps.shape != () or not jnp.issubdtype(eps.dtype, jnp.floating):
            raise errors.ArgumentError("eps must be one floating-point number")
        return
    value = np.asarray(eps)
    kinds = (jnp.floating, jnp.integer)
    if value.shape != () or not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
        raise errors.ArgumentError(f"eps must be one number, not {eps!r}")
    if not value >= 0 or np.isinf(value):
        raise errors.ArgumentError(f"eps must be finite and not negative, not {eps!r}")
