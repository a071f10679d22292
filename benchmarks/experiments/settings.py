"""What is run: the networks' names, the accuracies, and how much of it each budget does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

NETWORKS = ("mlp", "convnet")
ACCURACIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
STEPS = tuple(2.0**k for k in range(-8, 3))
REGULARISATION = 1e-6
BATCH = 256


@dataclass(frozen=True)
class Budget:
    """How much is run.

    Attributes:
        seeds: seeds of the paths.
        accuracies: the eps of the paths.
        path_iterations: iterations of the paths.
        training_seeds: seeds that are trained for `epochs`.
        training_accuracies: the eps that are trained.
        epochs: passes over the training images.
        burn_in_seeds: seeds whose burn-in chooses the step.
        burn_in_iterations: iterations of the burn-in.
        segment: iterations between two evaluations, and checkpoints, of the paths.
        examples: training images on which the objective is evaluated (the first ones).
        train_images: training images in all, None for all of them.
        held_images: images of each split that is not trained on, None for all of them.
        hidden: widths of the MLP's hidden layers.
    """

    seeds: int = 10
    accuracies: tuple[float, ...] = ACCURACIES
    path_iterations: int = 100
    training_seeds: int = 10
    training_accuracies: tuple[float, ...] = ACCURACIES
    epochs: int = 200
    burn_in_seeds: int = 10
    burn_in_iterations: int = 10
    segment: int = 20
    examples: int = 2000
    train_images: int | None = None
    held_images: int | None = None
    hidden: tuple[int, ...] = (4000, 1000, 4000)

    def changed(self, **changes: Any) -> Budget:
        """The same budget with what is not None in changes."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})


BUDGETS = {
    "smoke": Budget(
        seeds=2,
        accuracies=(1e-3, 1.0),
        path_iterations=4,
        training_seeds=1,
        training_accuracies=(1.0,),
        epochs=1,
        burn_in_seeds=1,
        burn_in_iterations=2,
        segment=2,
        examples=500,
        train_images=1024,
        held_images=500,
        hidden=(64, 32, 64),
    ),
    "standard": Budget(
        training_seeds=1,
        training_accuracies=(1e-3, 1.0),
        epochs=4,
        burn_in_seeds=1,
        segment=25,
        examples=500,
        held_images=2000,
    ),
    "full": Budget(),
}
