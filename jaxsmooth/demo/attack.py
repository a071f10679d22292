"""An adversary of a certificate: the worst it can find, to be held against what is proved.

What it finds are lower bounds of the true error, Lipschitz and smoothness constants on
the set; what the certificate proves are upper bounds of the same. Found above proved
would be a soundness bug; found close to proved says that the certificate is tight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxsmooth.bounds import resolve
from jaxsmooth.demo.search import Point, SearchSpace
from jaxsmooth.errors import ArgumentError


@dataclass(frozen=True)
class Attack:
    """The largest values found on the set; every one is attained by some point of it.

    Attributes:
        error: of ‖f_eps − f‖.
        lipschitz: of the 2-norm of the Jacobian of f_eps.
        smoothness: of ‖D²f_eps[a, b]‖₂ over unit vectors a and b.
        worst: the arguments at which the error is attained.
    """

    error: float
    lipschitz: float
    smoothness: float
    worst: tuple[Any, ...]


@dataclass(frozen=True)
class Effort:
    """How hard the adversary tries.

    Attributes:
        samples: random points to start from.
        restarts: the best of them, from which it climbs.
        steps: of projected gradient ascent.
        curvature_samples: points at which the constants are measured, the worst included.
        iterations: of the power methods that measure them.
        seed: of the random numbers.
    """

    samples: int = 4096
    restarts: int = 64
    steps: int = 200
    curvature_samples: int = 512
    iterations: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.restarts <= self.samples:
            raise ArgumentError("an attack needs 1 restart or more, and no more than samples")


def attack(
    f: Callable[..., Any],
    f_eps: Callable[..., Any],
    bounds: Any,
    args: tuple[Any, ...],
    *,
    norm: str = "l2",
    effort: Effort | None = None,
    wider: Callable[..., Any] | None = None,
) -> Attack:
    """Search the set for the largest error, Jacobian and Hessian.

    Random points first, then projected gradient ascent from the best. Runs in float64, so
    that what it finds is not rounding.

    Args:
        f: the function.
        f_eps: its smooth approximation.
        bounds: the set, as `jaxsmooth.smooth` takes it.
        args: arguments, for their shapes.
        norm: ``"l2"`` or ``"linf"``: how the error is measured.
        effort: how hard to try.
        wider: f smoothed with a larger eps. Its error shows the way to kinks from farther
            away, and the ascent climbs it first.

    Returns:
        The largest values found.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsmooth.bounds import box
        >>> found = attack(jnp.abs, lambda x: jnp.sqrt(x**2 + 0.01), box(-1, 1), (jnp.zeros(1),))
        >>> round(found.error, 3), round(found.smoothness, 1)
        (0.1, 10.0)
    """
    effort = Effort() if effort is None else effort
    with jax.enable_x64(True):
        space = SearchSpace(resolve(bounds, args), jnp.float64)
        smooth_at = jax.jit(f_eps)
        measure = _error_norm(norm)

        def error_of(approximation: Callable[..., Any]) -> Callable[[Point], jax.Array]:
            def error(point: Point) -> jax.Array:
                at = space.args(point)
                difference = jax.tree.map(jnp.subtract, approximation(*at), f(*at))
                return measure(ravel_pytree(difference)[0])

            return error

        def values(point: Point) -> jax.Array:
            return ravel_pytree(smooth_at(*space.args(point)))[0]

        error = error_of(smooth_at)
        key = jax.random.key(effort.seed)
        start_key, more_key, direction_key = jax.random.split(key, 3)
        first = error if wider is None else error_of(jax.jit(wider))
        points = jax.jit(lambda k: space.best_of(first, k, effort.samples, effort.restarts))(
            start_key
        )
        for objective in [error] if wider is None else [first, error]:
            points = jax.jit(jax.vmap(_ascent(objective, space, effort.steps)))(points)
        errors = jax.jit(jax.vmap(error))(points)
        worst = jax.tree.map(lambda x: x[jnp.argmax(errors)], points)

        extra = max(1, effort.curvature_samples - effort.restarts)
        drawn = jax.vmap(space.sample)(jax.random.split(more_key, extra))
        probes = jax.tree.map(lambda *xs: jnp.concatenate(xs), points, drawn)
        constants = _constants(values, worst, direction_key, effort.iterations)
        lipschitz, smoothness = jax.jit(lambda p: jax.lax.map(constants, p, batch_size=32))(probes)
        return Attack(
            error=float(jnp.max(errors)),
            lipschitz=float(jnp.max(lipschitz)),
            smoothness=float(jnp.max(smoothness)),
            worst=space.args(worst),
        )


def _error_norm(norm: str) -> Callable[[jax.Array], jax.Array]:
    if norm == "l2":
        # Its gradient at 0 is 0, not NaN.
        return lambda e: _safe_sqrt(jnp.sum(e * e))
    if norm == "linf":
        return lambda e: jnp.max(jnp.abs(e), initial=0.0)
    raise ArgumentError(f"unknown norm {norm!r}: choose l2 or linf")


def _safe_sqrt(x: jax.Array) -> jax.Array:
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _ascent(
    objective: Callable[[Point], jax.Array], space: SearchSpace, steps: int
) -> Callable[[Point], Point]:
    """Projected gradient ascent with shrinking steps; the best point seen, not the last."""

    def climb(start: Point) -> Point:
        def body(i: jax.Array, state: tuple[Point, Point, jax.Array]) -> Any:
            point, best, best_value = state
            value, gradient = jax.value_and_grad(objective)(point)
            better = value > best_value
            best = jax.tree.map(lambda a, b: jnp.where(better, a, b), point, best)
            step = 0.3 * 1e-3 ** (i / steps)
            return space.move(point, gradient, step), best, jnp.maximum(value, best_value)

        return jax.lax.fori_loop(0, steps, body, (start, start, jnp.asarray(-jnp.inf)))[1]

    return climb


def _constants(
    values: Callable[[Point], jax.Array], like: Point, key: jax.Array, iterations: int
) -> Callable[[Point], tuple[jax.Array, jax.Array]]:
    """‖J‖₂ and max ‖D²f[a, b]‖₂ at a point, from below, by power methods."""
    flat, unravel = ravel_pytree(like)
    start = _unit(jax.random.normal(key, flat.shape, flat.dtype))

    def at(point: Point) -> tuple[jax.Array, jax.Array]:
        x = ravel_pytree(point)[0]

        def f(v: jax.Array) -> jax.Array:
            return values(unravel(v))

        y, pull = jax.vjp(f, x)

        def push(a: jax.Array) -> jax.Array:
            return jax.jvp(f, (x,), (a,))[1]

        def bend(a: jax.Array, b: jax.Array) -> jax.Array:
            """D²f[a, b]."""
            return jax.jvp(lambda v: jax.jvp(f, (v,), (a,))[1], (x,), (b,))[1]

        def hessian(w: jax.Array, a: jax.Array) -> jax.Array:
            """D²(w·f) a."""
            return jax.jvp(jax.grad(lambda v: jnp.vdot(w, f(v))), (x,), (a,))[1]

        a = jax.lax.fori_loop(0, iterations, lambda _, a: _unit(pull(push(a))[0], a), start)
        lipschitz = jnp.linalg.norm(push(a))

        def improve(_: int, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            a, b, w = state
            # a and b apart: a Hessian with eigenvalues ±λ has no a with ‖Ha‖ = |a·Ha| = λ
            # on the way that its powers take.
            a, b = b, _unit(hessian(w, b), b)
            return a, b, _unit(bend(a, b), w)

        # Towards the curvature of a mixture of the outputs at first.
        w = _unit(jnp.cos(jnp.arange(y.size, dtype=y.dtype)))
        first = _unit(a + start)
        a, b, w = jax.lax.fori_loop(0, iterations, improve, (first, first, w))
        return lipschitz, jnp.linalg.norm(bend(a, b))

    return at


def _unit(x: jax.Array, otherwise: jax.Array | None = None) -> jax.Array:
    """x / ‖x‖₂; ``otherwise`` where x is 0."""
    length = jnp.linalg.norm(x)
    unit = x / jnp.where(length > 0, length, 1.0)
    return unit if otherwise is None else jnp.where(length > 0, unit, otherwise)
