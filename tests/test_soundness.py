"""Random programs under attack: nothing that is certified may be contradicted.

A small sample of what ``python benchmarks/soundness.py`` runs by the thousand; a failure
prints the seed, and ``python benchmarks/soundness.py --seed SEED --explain`` makes the program
smaller.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jax.extend.core import primitives

import jaxsmooth
from jaxsmooth.errors import JaxsmoothError
from jaxsmooth.rules.support import TABLE, Status
from tests.soundness.attack import Attack, attack
from tests.soundness.choices import Drawn, Seeded
from tests.soundness.coverage import primitives_drawn
from tests.soundness.programs import Program, draw
from tests.soundness.regions import Ball, Region

BLOCKS, BLOCK = 4, 4


@pytest.mark.parametrize(
    "block", [*range(BLOCKS - 1), pytest.param(BLOCKS - 1, marks=pytest.mark.slow)]
)
def test_random_programs(block):
    refused = 0
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        program = draw(Seeded(seed))
        try:
            evidence = attack(program, seed)
        except JaxsmoothError:
            refused += 1
            continue
        assert not evidence.violations, f"seed {seed}: {evidence.violations}\n{program.label}"
    assert refused <= BLOCK // 2


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_drawn_programs(data):
    program = draw(Drawn(data.draw))
    try:
        evidence = attack(program)
    except JaxsmoothError:
        return
    assert not evidence.violations, f"{evidence.violations}\n{program.label}"


NOT_DRAWN = {
    "call": "no public function of JAX makes one",
    "closed_call": "no public function of JAX makes one",
}


def test_programs_draw_from_every_supported_primitive():
    names = dir(primitives)
    installed = {n.removesuffix("_p"): getattr(primitives, n) for n in names if n.endswith("_p")}
    supported = {n for n, p in installed.items() if TABLE[n].status is Status.SUPPORTED}
    drawn = primitives_drawn()
    assert {n for n in supported if installed[n] not in drawn} == NOT_DRAWN.keys()


@pytest.fixture(scope="module")
def known():
    """V relu(W x + 0.1) on a ball, whose constants are known in closed form."""
    w = np.random.default_rng(0).normal(size=(4, 3))
    v = np.random.default_rng(1).normal(size=(2, 4))
    program = Program(
        label="known",
        function=lambda x: v @ jax.nn.relu(w @ x + 0.1),
        arguments=(jax.ShapeDtypeStruct((3,), np.float64),),
        bounds=(jaxsmooth.ball(1.0),),
        region=Region(((slice(0, 3), Ball(np.zeros(3), 1.0)),), 3),
        argnums=None,
        options={"eps": 0.05, "kernel": "minimax", "allocation": "uniform", "norm": "l2"},
        double=True,
        traced=False,
    )
    with jax.enable_x64(True):
        found = Attack(program)
        found.run()
    return program, found, w, v


class TestPower:
    """The attack finds what there is to find: otherwise its silence would mean nothing."""

    def test_finds_the_curvature_in_its_window(self, known):
        _, found, w, v = known
        (site,) = found.certificate.sites
        mu = np.broadcast_to(site.mu, 4)
        true = np.linalg.norm(v, axis=0) * np.linalg.norm(w, axis=1) ** 2 / (16 * mu)
        claim = found.evidence.claims["smoothness"]
        assert claim.found >= 0.999 * true.max()

    def test_finds_most_of_the_error(self, known):
        _, found, _, v = known
        (site,) = found.certificate.sites
        mu = np.broadcast_to(site.mu, 4)
        signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
        true = np.linalg.norm((v * mu) @ signs, axis=0).max()
        assert 0.7 * true <= found.evidence.claims["error"].found <= true * (1 + 1e-6)

    def test_finds_the_slope(self, known):
        _, found, w, v = known
        patterns = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1).T
        true = max(np.linalg.norm((v * p) @ w, 2) for p in patterns)
        assert 0.9 * true <= found.evidence.claims["lipschitz"].found <= true * (1 + 1e-6)

    @pytest.mark.parametrize("name", ["error", "bound", "lipschitz", "smoothness"])
    def test_refutes_what_is_too_good(self, known, name):
        _, found, _, _ = known
        claim = found.evidence.claims[name]
        assert not claim.violated
        certified, claim.certified = claim.certified, claim.found * 0.99
        assert found.evidence.violations
        claim.certified = certified
