"""Random expressions in one variable: certificates hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth.errors import JaxsmoothError

Function = Callable[[Any], Any]

# Many with 1 and with what e^x is added to: so are softplus and the logistic function written.
CONSTANTS = (1.0, 1.0, 1.0, 2.0, 0.5, -1.0, 3.0)
UNARY: tuple[Function, ...] = (
    lambda v: -v,
    jnp.exp,
    jnp.exp,
    jnp.expm1,
    jnp.log,
    jnp.log1p,
    jnp.square,
    jnp.tanh,
    jnp.abs,
    jax.nn.relu,
    jax.nn.sigmoid,
    jnp.sqrt,
)
BINARY: tuple[Callable[[Any, Any], Any], ...] = (
    lambda v, w: v + w,
    lambda v, w: v - w,
    lambda v, w: v * w,
    lambda v, w: v / w,
    lambda v, w: v / w,
    jnp.maximum,
)
GRID = np.linspace(-3.0, 3.0, 2001)
LARGEST = 1e4


def expression(seed: int) -> Function:
    """A random expression that is finite on the grid."""
    rng = np.random.default_rng(seed)
    steps: list[tuple[Function, tuple[int, ...]]] = []
    values: list[np.ndarray] = [GRID]

    def constant(f: Callable[[Any, Any], Any], c: float, first: bool) -> Function:
        return (lambda v: f(c, v)) if first else (lambda v: f(v, c))

    while len(steps) < rng.integers(2, 7):
        recent = [int(len(values) - 1 - min(rng.geometric(0.6) - 1, len(values) - 1)) for _ in "ab"]
        kind = rng.integers(3)
        if kind == 0:
            step, reads = UNARY[rng.integers(len(UNARY))], (recent[0],)
        else:
            f = BINARY[rng.integers(len(BINARY))]
            step, reads = f, tuple(recent)
            if kind == 1:
                step = constant(f, float(rng.choice(CONSTANTS)), bool(rng.integers(2)))
                reads = (recent[0],)
        with np.errstate(all="ignore"):
            found = np.asarray(step(*(values[i] for i in reads)))
        if np.all(np.isfinite(found)) and np.max(abs(found)) < LARGEST:
            steps.append((step, reads))
            values.append(found)

    def run(x: Any) -> Any:
        made = [x]
        for step, reads in steps:
            made.append(step(*(made[i] for i in reads)))
        return made[-1]

    return run


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(10, 100, 10))]
)
def test_constants_hold(first: int) -> None:
    with jax.enable_x64(True):
        refused = sum(not holds(expression(seed)) for seed in range(first, first + 10))
    # Where the grid misses a pole, or meets a point without a slope.
    assert refused <= 3


def holds(f: Function) -> bool:
    """Whether what is certified holds on the grid; False if nothing is."""
    f_eps = jaxsmooth.smooth(f, 1e-3, jaxsmooth.box(-3.0, 3.0))
    try:
        c = f_eps.certificate(np.zeros(()))
    except JaxsmoothError:
        return False
    functions = (f, f_eps, jax.grad(f_eps), jax.grad(jax.grad(f_eps)))
    exact, value, slope, bend = (np.asarray(jax.jit(jax.vmap(g))(GRID)) for g in functions)
    assert np.max(abs(value - exact)) <= c.error + 1e-9 * (1 + np.max(abs(exact)))
    for found, bound in ((value, c.bound), (slope, c.lipschitz), (bend, c.smoothness)):
        assert np.max(abs(found)) <= bound * (1 + 1e-9) + 1e-9
    low, high = c.range[0]
    assert low <= value.min()
    assert value.max() <= high
    return True
