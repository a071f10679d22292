"""Combinations (1 - z)·a + z·b."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from tests.rules.sampling import Ball, Box, check

FORMS = {
    "weights": lambda z, a, b: (1 - z) * a + z * b,
    "turned": lambda z, a, b: b * z + a * (1.0 - z),
    "move": lambda z, a, b: a + z * (b - a),
    "one array": lambda z, a, b: (jnp.ones(3) - z) * a + z * b,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("z", [Box((3,), 0.0, 1.0), Box((3,), 0.2, 0.7), Box((3,), -0.5, 2.0),
                               Ball((3,), 1.0)])  # fmt: skip
def test_bounds(form, z):
    check(FORMS[form], z, Box((3,), -1.0, 2.0), Ball((3,), 1.5))


@pytest.mark.parametrize("form", FORMS)
def test_results_are_between(form):
    found = jaxsmooth.analyze(
        FORMS[form],
        (jaxsmooth.box(np.zeros(3), 1.0), jaxsmooth.box(np.full(3, -1.0), 2.0),
         jaxsmooth.box(np.zeros(3), 3.0)),
    )()  # fmt: skip
    lo, hi = found.range
    np.testing.assert_allclose(lo, -np.ones(3), rtol=1e-12)
    np.testing.assert_allclose(hi, 3 * np.ones(3), rtol=1e-12)


def test_others_are_not_mistaken():
    check(lambda z, a: (1 - z) * a + a * a, Box((3,), -1.0, 1.0), Ball((3,)))
    check(lambda z, a, b: (1 - z) * a + a * b, Box((3,), 0.0, 1.0), Ball((3,)), Ball((3,)))
    check(lambda z, a, b: (2 - z) * a + z * b, Box((3,), 0.0, 1.0), Ball((3,)), Ball((3,)))
    check(lambda z, a, b: b + z * (b - a), Box((3,), 0.0, 1.0), Ball((3,)), Ball((3,)))


def test_a_gate_of_what_it_weighs():
    check(lambda x: (1 - jax.nn.sigmoid(x[::-1])) * x + jax.nn.sigmoid(x[::-1]) * jnp.sin(x),
          Box((3,), -2.0, 1.0))  # fmt: skip
