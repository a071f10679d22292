"""Cells whose choices stay open: every branch is enclosed by itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth.math.branches import branched
from jaxsmooth.math.interval import Interval
from jaxsmooth.math.jets import Walk
from jaxsmooth.math.univariate import Operation, Univariate


def program(*operations: tuple) -> Univariate:
    return Univariate(tuple(Operation(*o) for o in operations), len(operations))


FLIPPED = (("mul", (0, 3.0)), ("gt", (1, 8.0)), ("neg", (1,)), ("select_n", (2, 1, 3)))
"""where(3 x > 8, -3 x, 3 x)"""


def neighbours(x: float) -> Interval:
    return Interval(np.nextafter([x], 0.0), np.nextafter([x], np.inf))


def test_what_depends_on_a_choice_follows_it() -> None:
    """exp(y) where y = -3x and log(y) where y = 3x: neither sees the other's y."""
    of_it = (*FLIPPED, ("exp", (4,)), ("log", (4,)), ("select_n", (2, 6, 5)))
    cell = neighbours(8 / 3)
    assert not np.isfinite(Walk(cell).run(program(*of_it)).value.magnitude)
    jet = branched(program(*of_it), cell)
    assert not jet.bad
    np.testing.assert_allclose((jet.value.lo[0], jet.value.hi[0]), (np.exp(-8), np.log(8)))
    np.testing.assert_allclose((jet.slope.lo[0], jet.slope.hi[0]), (-3 * np.exp(-8), 3 / 8))


def test_a_branch_that_is_unbounded_is_not_left_out() -> None:
    """log(y) is taken also where y < 0."""
    jet = branched(program(*FLIPPED, ("log", (4,))), neighbours(8 / 3))
    assert jet.bad
    assert not np.isfinite(jet.value.magnitude)


def test_decided_cells_are_enclosed_as_ever() -> None:
    cells = Interval(np.array([0.0, 3.0]), np.array([1.0, 4.0]))
    found, expected = branched(program(*FLIPPED), cells), Walk(cells).run(program(*FLIPPED))
    np.testing.assert_array_equal(found.value.lo, expected.value.lo)
    np.testing.assert_array_equal(found.slope.hi, expected.slope.hi)


@pytest.mark.parametrize("seed", range(40))
def test_random_choices(seed: int) -> None:
    """What a program computes inside a cell is enclosed, in every choice that it makes there."""
    rng = np.random.default_rng(seed)
    at = float(rng.uniform(0.5, 2.0))
    operations: list[tuple] = [("mul", (0, 1 / at)), ("gt", (1, 1.0))]
    numbers, choices = [0, 1], [2]
    for _ in range(12):
        name = str(rng.choice(["add", "mul", "neg", "max", "select_n", "gt", "abs", "sin"]))
        count = {"neg": 1, "abs": 1, "sin": 1}.get(name, 2)
        operands = tuple(int(v) for v in rng.choice(numbers, count))
        if name == "gt":
            choices.append(len(operations) + 1)
        else:
            numbers.append(len(operations) + 1)
        if name == "select_n":
            operands = (int(rng.choice(choices)), *operands)
        operations.append((name, operands))
    function = Univariate(tuple(Operation(*o) for o in operations), numbers[-1])
    cells = neighbours(at)
    cells = Interval(cells.lo - 1e-14 * rng.random(), cells.hi + 1e-14 * rng.random())
    jet, whole = branched(function, cells), Walk(cells).run(function)
    x = cells.lo + np.linspace(0, 1, 50) * (cells.hi - cells.lo)
    y = function.evaluate(np.clip(x, cells.lo, cells.hi))
    rounding = 1e-12 * (1 + abs(y).max())
    assert (y >= jet.value.lo - rounding).all()
    assert (y <= jet.value.hi + rounding).all()
    assert jet.value.lo >= whole.value.lo
    assert jet.value.hi <= whole.value.hi
    assert jet.curvature.magnitude <= whole.curvature.magnitude


def test_guards_behind_arithmetic() -> None:
    """log of the normal distribution changes its formula at 8, which is at no float here."""

    def f(x: jax.Array) -> jax.Array:
        y = 3.0 * x + 1.0
        far = y > 8.0
        erf, erfc = jax.scipy.special.erf, jax.scipy.special.erfc
        near = jnp.log(0.5 * (1 + erf(jnp.where(far, -y, y) / 2)))
        return jnp.where(far, jnp.log1p(-0.5 * erfc(y / 2)), near)

    with jax.enable_x64(True):
        f_eps = jaxsmooth.smooth(f, 1e-3, jaxsmooth.box(-1.0, 5.0))
        c = f_eps.certificate(0.0)
        # f's own derivative by JAX is 0·∞ in the branch that is not taken.
        steepest = float(abs(jax.vmap(jax.grad(f_eps))(jnp.linspace(-1.0, 5.0, 20001))).max())
    assert steepest <= c.lipschitz <= 1.05 * steepest
