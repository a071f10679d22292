"""Values and derivatives of f and f_eps at batches of flat vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.soundness.programs import Program

BATCH = 48

# Programs run for a moment and are compiled anew every time.
QUICK = {"xla_backend_optimization_level": 0}


def _concatenated(tree: Any) -> jax.Array:
    """The numbers of all leaves, as one vector."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


@dataclass(frozen=True)
class Values:
    """f, its Jacobian, f_eps and its Jacobian, at each point of a batch."""

    points: np.ndarray
    f: np.ndarray
    f_jacobian: np.ndarray
    g: np.ndarray
    g_jacobian: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        """The points at which f itself is finite."""
        return np.isfinite(self.f).all(axis=1)

    def __getitem__(self, rows: np.ndarray) -> Values:
        return Values(
            self.points[rows],
            self.f[rows],
            self.f_jacobian[rows],
            self.g[rows],
            self.g_jacobian[rows],
        )


class Evaluation:
    """Compiled once for a program, then evaluated at many batches.

    Args:
        program: the program.
        smoothed: (eps, *arguments) to the output of f_eps.
    """

    def __init__(self, program: Program, smoothed: Callable) -> None:
        def flat(function):
            return lambda vector: _concatenated(function(*program.unflatten(vector)))

        def both(eps, vector):
            f, g = flat(program.function), flat(lambda *a: smoothed(eps, *a))
            jacobian = jax.jacfwd if program.forward else jax.jacrev

            def values(v):
                found = f(v), g(v)
                return found, found

            slopes, (f_here, g_here) = jacobian(values, has_aux=True)(vector)
            return f_here, slopes[0], g_here, slopes[1]

        def contracted(eps, vector, left, right):
            held = program.unflatten(vector)

            def g(varied):
                # Of derivatives in what is held nothing is claimed: they may be NaN.
                moved = program.unflatten(varied)
                arguments = [
                    mine if i in program.varied else fixed
                    for i, (mine, fixed) in enumerate(zip(moved, held, strict=True))
                ]
                return _concatenated(smoothed(eps, *arguments))

            if program.forward:
                return left @ jax.jvp(g, (vector,), (right,))[1]
            return jax.grad(lambda v: left @ g(v))(vector) @ right

        def contract(eps, vector, left, right):
            gradient = jax.grad if program.reverse else jax.jacfwd
            return gradient(lambda v: contracted(eps, v, left, right))(vector)

        self._eps = program.dtype(program.options["eps"])
        self._dtype = program.dtype
        self._both = jax.jit(jax.vmap(both, (None, 0)), compiler_options=QUICK)
        self._contract = jax.jit(jax.vmap(contract, (None, 0, 0, 0)), compiler_options=QUICK)

    def __call__(self, points: np.ndarray) -> Values:
        """Values at at most BATCH points."""
        count = len(points)
        points = points.astype(self._dtype)
        full = np.concatenate([points, np.repeat(points[:1], BATCH - count, axis=0)])
        out = [np.asarray(x, np.float64)[:count] for x in self._both(self._eps, full)]
        return Values(points.astype(np.float64), *out)

    def contract(self, points: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """∇_θ of left·(J(θ) right): the second derivative of f_eps, contracted twice."""
        count = len(points)
        fill = [
            np.concatenate([x, np.repeat(x[:1], BATCH - count, axis=0)]).astype(self._dtype)
            for x in (points, left, right)
        ]
        return np.asarray(self._contract(self._eps, *fill), np.float64)[:count]
