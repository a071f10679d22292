"""Functions that jump, on intervals around, beside and up to their jumps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxsmooth import JaxsmoothError, analyze, box, smooth

FUNCTIONS = {
    "floor": jnp.floor,
    "floor of a square": lambda x: jnp.floor(x * x),
    "floor of a line": lambda x: jnp.floor(2 * x - 1),
    "ceil": jnp.ceil,
    "trunc": jnp.trunc,
    "round to even": jnp.round,
    "round away from zero": lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
    "sign": jnp.sign,
    "whole": lambda x: x.astype(jnp.int32).astype(x.dtype),
    "truth": lambda x: x.astype(bool).astype(x.dtype),
    "modulo 1": lambda x: jnp.mod(x, 1.0),
    "modulo -1": lambda x: jnp.mod(x, -1.0),
    "remainder": lambda x: jnp.fmod(x, 1.0),
    "quotient": lambda x: x // 1.0,
    "fraction": lambda x: jnp.modf(x)[0],
    "above": lambda x: jnp.where(x > 0, 1.0, 0.0),
    "from": lambda x: jnp.where(x >= 0, 1.0, 0.0),
    "at": lambda x: jnp.where(x == 0, 1.0, 0.0),
    "not at": lambda x: jnp.where(x != 0.5, 1.0, 0.0),
    "step": lambda x: jnp.heaviside(x, 0.5),
    "branches apart": lambda x: jnp.where(x < 0.5, x, 2 * x + 1),
    "largest at": lambda x: jnp.argmax(x)[None] * 1.0,
    "how many": lambda x: jnp.count_nonzero(x > 0)[None] * 1.0,
    "with the sign of": lambda x: jnp.copysign(1.0, x),
}
# Refused wherever their operand varies.
ALWAYS = {"whole", "truth", "largest at", "with the sign of"}
ENDS = (-1.0, -0.9, -0.5, -0.4, -0.1, 0.0, 0.1, 0.4, 0.5, 0.9, 1.0)
BESIDE = 10.0 ** -np.array([16, 15, 12, 9, 6, 3])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_refused_or_true(name):
    """Where a jump is not refused there is none, also where the interval ends at one."""
    f = FUNCTIONS[name]
    rng, accepted = np.random.default_rng(0), 0
    with jax.enable_x64(True):
        evaluate = jax.jit(jax.vmap(f))
        for lo in ENDS:
            for hi in ENDS[ENDS.index(lo) :]:
                try:
                    certificate = smooth(f, 0.1, box(lo, hi)).certificate(jnp.full(3, lo))
                except JaxsmoothError:
                    continue
                accepted += 1
                found = analyze(f, box(lo, hi))(jnp.full(3, lo))
                shifts = np.concatenate([[0.0], BESIDE, -BESIDE])
                ends = np.array([[a, b, c] for a in (lo, hi) for b in (lo, hi) for c in (lo, hi)])
                points = [ends + d for d in shifts] + [rng.uniform(lo, hi, (20, 3))]
                x = np.clip(np.concatenate(points), lo, hi)
                y = np.asarray(evaluate(x))
                assert np.all((found.range[0] <= y + 1e-12) & (y <= found.range[1] + 1e-12))
                apart = np.linalg.norm(x[:, None] - x, axis=-1)
                moved = np.linalg.norm(y[:, None] - y, axis=-1)
                slope = min(float(found.lipschitz), float(certificate.lipschitz))
                assert np.all(moved <= slope * apart + 1e-12)
    assert accepted >= len(ENDS) // 2 or name in ALWAYS


@pytest.mark.parametrize("divisor", [2.0, -2.0])
def test_remainder_moves_with_its_divisor(divisor):
    """5.2 - 2y near y = 2, where the set of the divisor is one number."""
    sets = (box(5.0, 5.5), box(divisor, divisor))
    certificate = smooth(lax.rem, 0.1, sets).certificate(5.2, divisor)
    slopes = jax.grad(lambda x, y: x - y * jnp.trunc(5.2 / divisor), (0, 1))(5.2, divisor)
    for argument, slope in enumerate(slopes):
        np.testing.assert_allclose(
            certificate.lipschitz_per_argument[argument], abs(slope), rtol=1e-6
        )
