"""What a certificate claims, as named numbers, and the evidence against each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Claim:
    """One certified number and the largest value found so far.

    Attributes:
        name: what it bounds.
        certified: the bound.
        found: the largest value found, less what rounding may have added to it.
        point: where it was found.
        raw: the value found there, rounding and all.
    """

    name: str
    certified: float
    found: float = 0.0
    raw: float = 0.0
    point: Any = None

    @property
    def violated(self) -> bool:
        """Whether the value found contradicts the claim."""
        return bool(np.isnan(self.certified)) or self.found > self.certified * (1 + 1e-7)

    @property
    def ratio(self) -> float:
        """Certified over found: 1 is tight, below 1 is unsound."""
        if self.found <= 1e-9:  # nothing was found, up to rounding
            return np.inf
        return self.certified / self.found


@dataclass
class Evidence:
    """The claims about a program, and what was found.

    Attributes:
        claims: by name.
        contradictions: those that are no number, in words.
        digest: of all numbers that are claimed and of the accuracies of f_eps.
    """

    claims: dict[str, Claim] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    digest: str = ""

    def claim(self, name: str, certified: Any) -> None:
        self.claims[name] = Claim(name, float(certified))

    def observe(
        self, name: str, values: np.ndarray, noise: np.ndarray | float, points: Any
    ) -> None:
        """Values that the claim has to bound, each up to its noise."""
        claim = self.claims.get(name)
        if claim is None or len(values) == 0:
            return
        sure = np.asarray(values) - noise
        best = int(np.argmax(np.where(np.isnan(sure), -np.inf, sure)))
        if sure[best] > claim.found:
            claim.found, claim.raw = float(sure[best]), float(values[best])
            claim.point = np.asarray(points)[best]

    def exceeds(self, name: str, values: np.ndarray) -> np.ndarray:
        """Which of the values contradict the claim."""
        claim = self.claims.get(name)
        if claim is None:
            return np.zeros(len(values), bool)
        return np.asarray([dataclasses.replace(claim, found=v).violated for v in values], bool)

    def contradict(self, text: str) -> None:
        """A contradiction that is no number."""
        if text not in self.contradictions:
            self.contradictions.append(text)

    @property
    def violations(self) -> Sequence[str]:
        """Every claim that does not hold, in words."""
        words = [
            f"{c.name}: certified {c.certified:.9g}, found {c.raw:.9g}"
            for c in self.claims.values()
            if c.violated
        ]
        return [*self.contradictions, *words]


def flat_range(pairs: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, ...]:
    """(lo, hi) of each output leaf as one flat vector each."""
    sides: list[np.ndarray] = []
    for side in (0, 1):
        leaves = [
            np.broadcast_to(np.asarray(pair[side], np.float64), shape).reshape(-1)
            for pair, shape in zip(pairs, shapes, strict=True)
        ]
        sides.append(np.concatenate(leaves))
    return tuple(sides)
