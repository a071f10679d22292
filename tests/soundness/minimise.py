"""Make a program that violates its certificate smaller."""

from __future__ import annotations

from collections.abc import Callable

from tests.soundness.attack import attack
from tests.soundness.choices import Seeded
from tests.soundness.programs import Program, draw


def violates(program: Program, seed: int) -> bool:
    """Whether the attack finds a violation; refusals are none."""
    try:
        return bool(attack(program, seed).violations)
    except Exception:  # whatever goes wrong in a smaller program is another story
        return False


def minimise(
    seed: int, fails: Callable[[Program, int], bool] = violates
) -> tuple[Program, frozenset[int]]:
    """The seed's program with as many steps left out as still fail.

    Returns:
        The program, and the steps left out (the ``skip`` that `draw` takes).
    """
    skip: frozenset[int] = frozenset()
    for step in range(6):
        trial = skip | {step}
        if fails(draw(Seeded(seed), trial), seed):
            skip = trial
    return draw(Seeded(seed), skip), skip
