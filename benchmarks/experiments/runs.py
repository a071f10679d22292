"""The stages of an experiment, each in parts of some seeds that can be stopped and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.experiments import smoothing, training
from benchmarks.experiments.checkpoints import Records, Store
from benchmarks.experiments.data import Images, largest_norm
from benchmarks.experiments.networks import Network
from benchmarks.experiments.progress import Reporter
from benchmarks.experiments.settings import BATCH, STEPS, Budget


@dataclass(frozen=True, eq=False)
class Experiment:
    """One network on its data, with one budget.

    Args:
        network: the network.
        images: its data.
        budget: how much is run.
        store: where states and records are kept.
        mapped: "map" or "vmap", see `training`.
        seeds_at_once: seeds that are run together; results do not depend on it under "map".
    """

    network: Network
    images: Images
    budget: Budget
    store: Store
    mapped: str = "map"
    seeds_at_once: int = 1

    @property
    def per_epoch(self) -> int:
        """Iterations of one epoch."""
        count = len(self.images.train)
        return count // min(BATCH, count)

    @property
    def work(self) -> int:
        """Iterations in all, counted for every seed and lane."""
        b = self.budget
        trained = b.training_seeds * b.epochs * self.per_epoch
        return (
            b.burn_in_seeds * len(STEPS) * b.burn_in_iterations
            + b.seeds * b.path_iterations * (2 + len(b.accuracies))
            + trained * (1 + len(b.training_accuracies))
        )

    def run(self, reporter: Reporter) -> None:
        """All stages; what is in the store is not done again."""
        step = self.step(reporter)
        self.reference(step, reporter)
        self.certify()
        budget = self.budget
        self._smoothed("paths", step, budget.accuracies, budget.seeds, True, reporter)
        self._smoothed(
            "training", step, budget.training_accuracies, budget.training_seeds, False, reporter
        )

    def step(self, reporter: Reporter) -> float:
        """The step with the least objective after the burn-in of the non-smooth network."""
        found = self.store.finished("step")
        budget = self.budget
        seeds = list(range(budget.burn_in_seeds))
        units = len(seeds) * len(STEPS) * budget.burn_in_iterations
        if found is None:
            losses = []
            trainer = self._trainer(False)
            for step in STEPS:
                state, _ = trainer.run(
                    trainer.init(seeds, 1), _EXACT, step, seeds, 0, budget.burn_in_iterations
                )
                losses.append(trainer.measure(state, _EXACT, False)["train: loss"].mean())
                reporter.add(units // len(STEPS), "burn-in")
            found = {"steps": np.asarray(STEPS), "losses": np.asarray(losses)}
            self.store.finish("step", found)
        else:
            reporter.skip(units)
        return chosen_step(found)

    def reference(self, step: float, reporter: Reporter) -> None:
        """The non-smooth runs along which the radii are recorded."""
        budget, trainer = self.budget, self._trainer(False)
        each = (trainer, _EXACT, step)
        path = (budget.seeds, budget.path_iterations, budget.segment)
        self._stage("reference", *each, *path, reporter)
        whole = (budget.training_seeds, budget.epochs * self.per_epoch, self.per_epoch)
        self._stage("reference-training", *each, *whole, reporter)

    def radii(self) -> np.ndarray:
        """R_t: the largest norm of each layer along the non-smooth runs, rounded up.

        A run that diverges is left out: there is no ball that it stays in.
        """
        largest = []
        for stage in ("reference", "reference-training"):
            for part in self.parts(stage):
                # (seeds, lanes, iterations, layers), and the same without iterations.
                for run, start in zip(part["norms"], part["initial norms"], strict=True):
                    if np.isfinite(run).all():
                        largest += [run.max(axis=(0, 1)), start.max(axis=0)]
        if not largest:
            raise ArithmeticError("every non-smooth run diverged: the step is too long")
        return np.ceil(np.max(np.stack(largest), axis=0).astype(np.float64) * 1e4) / 1e4

    def certify(self) -> None:
        """Certificates of all accuracies on the balls of the recorded radii."""
        if self.store.finished("certificates") is not None:
            return
        radii, bound = self.radii(), largest_norm(self.network.name, self.images)
        budget = self.budget
        accuracies = sorted({*budget.accuracies, *budget.training_accuracies})
        rows: dict[str, list[Any]] = {}
        for eps in accuracies:
            found = smoothing.certificate(self.network, radii, bound, eps)
            figures = {
                "eps": eps,
                "error": found.error,
                "m": found.bound,
                "l": found.lipschitz,
                "L": found.smoothness,
                "mu": smoothing.accuracies(found),
                "site errors": [s.error for s in found.sites],
                "weights": [s.weight for s in found.sites],
            }
            for name, figure in figures.items():
                rows.setdefault(name, []).append(figure)
        records = {name: np.asarray(row, np.float64) for name, row in rows.items()}
        records |= {"radii": radii, "input norm": np.asarray(bound)}
        # The analysis is the expensive part: the largest accuracy stands for all.
        difference = smoothing.largest_difference(self.network, radii, bound, found)
        records["largest difference"] = np.asarray(difference)
        records["paths"] = np.asarray([s.path for s in found.sites])
        self.store.finish("certificates", records)

    def parts(self, stage: str) -> list[Records]:
        """The records of the parts of a stage that are done, one per group of seeds."""
        found = []
        for k in range(self.budget.seeds + self.budget.training_seeds):
            records = self.store.finished(f"{stage}-{k}")
            if records is not None:
                found.append(records)
        return found

    def _smoothed(
        self,
        stage: str,
        step: float,
        accuracies: Sequence[float],
        seeds: int,
        exact: bool,
        reporter: Reporter,
    ) -> None:
        """A stage of smoothed networks, with the non-smooth one as lane 0 if ``exact``."""
        certified = self.store.finished("certificates")
        assert certified is not None
        rows = [certified["mu"][list(certified["eps"]).index(eps)] for eps in accuracies]
        mu = np.stack(([np.zeros_like(rows[0])] if exact else []) + rows)
        budget, trainer = self.budget, self._trainer(True)
        iterations, segment = budget.path_iterations, budget.segment
        if stage == "training":
            iterations, segment = budget.epochs * self.per_epoch, self.per_epoch
        self._stage(stage, trainer, mu, step, seeds, iterations, segment, reporter)

    def _trainer(self, smooth: bool) -> training.Trainer:
        return training.Trainer(
            self.network,
            self.images,
            smooth=smooth,
            mapped=self.mapped,
            examples=self.budget.examples,
        )

    def _stage(
        self,
        stage: str,
        trainer: training.Trainer,
        mu: np.ndarray,
        step: float,
        seeds: int,
        iterations: int,
        segment: int,
        reporter: Reporter,
    ) -> None:
        for k, start in enumerate(range(0, seeds, self.seeds_at_once)):
            group = list(range(start, min(start + self.seeds_at_once, seeds)))
            name = f"{stage}-{k}"
            units = len(group) * len(mu) * iterations
            if self.store.finished(name) is not None:
                reporter.skip(units)
                continue
            state, records = run_part(
                self.store, name, trainer, mu, step, group, iterations, segment, reporter
            )
            if "training" in stage:
                self.store.keep(name, state[0])
            self.store.finish(name, records)
            reporter.on_part()


_EXACT = np.zeros((1, 1))


def chosen_step(found: Records) -> float:
    """The step with the least burn-in objective."""
    return float(found["steps"][np.nanargmin(found["losses"])])


def run_part(
    store: Store,
    name: str,
    trainer: training.Trainer,
    mu: np.ndarray,
    step: float,
    seeds: list[int],
    iterations: int,
    segment: int,
    reporter: Reporter,
) -> tuple[Any, Records]:
    """One group of seeds from its last checkpoint, or from the beginning.

    Returns:
        The state at the end; and what `Trainer.run` records for every iteration, what
        `Trainer.measure` finds after every segment (with the axis of segments third) with,
        as ``… @``, the iterations done.
    """
    state = trainer.init(seeds, len(mu))
    restored = store.restore(name, state)
    if restored is None:
        done = 0
        records: Records = {
            "seeds": np.asarray(seeds),
            "mu": mu,
            "initial norms": _initial_norms(state),
        }
        _append(records, trainer.measure(state, mu, False), 0)
    else:
        done, state, records = restored
        reporter.skip(done * len(seeds) * len(mu))
    while done < iterations:
        length = min(segment, iterations - done)
        state, found = trainer.run(state, mu, step, seeds, done, length)
        for key, value in found.items():
            records[key] = (
                np.concatenate([records[key], value], axis=2) if key in records else value
            )
        done += length
        whole = done == iterations or length == segment == _epoch_of(trainer)
        _append(records, trainer.measure(state, mu, whole), done)
        if done < iterations:
            store.save(name, done, state, records)
        reporter.add(length * len(seeds) * len(mu), name)
    return state, records


def _epoch_of(trainer: training.Trainer) -> int:
    count = len(trainer.images.train)
    return count // min(BATCH, count)


def _initial_norms(state: Any) -> np.ndarray:
    """(seeds, lanes, layers)."""
    layers = [
        np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64), axis=tuple(range(2, leaf.ndim)))
                    for leaf in (np.asarray(w), np.asarray(b))))
        for w, b in state[0]
    ]  # fmt: skip
    return np.stack(layers, axis=-1)


def _append(records: Records, found: dict[str, np.ndarray], done: int) -> None:
    """Add an evaluation; each figure has the iterations it was found at beside it."""
    for key, value in found.items():
        at = f"{key} @"
        value = value[:, :, None]
        records[key] = np.concatenate([records[key], value], axis=2) if key in records else value
        records[at] = np.append(records.get(at, np.zeros(0, int)), done)
