"""The paper's experiments on the real data.

    python -m benchmarks.experiments mlp --budget standard --data-dir DIR

chooses the step, records the radii along the non-smooth runs, certifies every accuracy on
them, and trains all of them in lockstep. Stopped, it goes on where it was with the same
command. The figures so far are written after every seed.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax
from rich.console import Console

from benchmarks.experiments import records
from benchmarks.experiments.checkpoints import Store
from benchmarks.experiments.data import read
from benchmarks.experiments.networks import convnet, mlp
from benchmarks.experiments.progress import Reporter
from benchmarks.experiments.runs import Experiment
from benchmarks.experiments.settings import BUDGETS, NETWORKS

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parser("python -m benchmarks.experiments", str(__doc__)).parse_args(arguments)
    console = Console()
    experiment = experiment_of(options)
    output = options.output or RESULTS / f"{name_of(options)}.json"

    def write() -> None:
        records.write(output, experiment, options.budget)

    reporter = Reporter(experiment.work, console, write)
    try:
        experiment.run(reporter)
    except KeyboardInterrupt:
        console.print("stopped: the same command goes on from the last checkpoint")
        return 130
    finally:
        reporter.close()
    write()
    console.print(f"wrote {output}")
    return 0


def experiment_of(options: argparse.Namespace) -> Experiment:
    """The experiment that the options describe."""
    budget = BUDGETS[options.budget].changed(
        epochs=options.epochs,
        training_seeds=options.training_seeds,
        seeds=options.seeds,
        path_iterations=options.path_iterations,
        held_images=options.held_images,
        training_accuracies=options.training_eps and tuple(options.training_eps),
    )
    images = read(options.network, options.data_dir)
    images = images.first(budget.train_images, budget.held_images)
    network = mlp(budget.hidden) if options.network == "mlp" else convnet()
    on_cpu = jax.default_backend() == "cpu"
    mapped = options.mapped or ("map" if on_cpu else "vmap")
    at_once = options.seeds_at_once or (1 if on_cpu else budget.seeds)
    settings = dataclasses.asdict(budget) | {"mapped": mapped, "at once": at_once}
    folder = options.work_dir or Path.cwd() / ".experiments" / name_of(options)
    return Experiment(network, images, budget, Store(folder, settings), mapped, at_once)


def name_of(options: argparse.Namespace) -> str:
    """The name of the results."""
    suffix = "" if options.budget == "standard" else f"-{options.budget}"
    return f"experiments-{options.network}{suffix}"


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """The options that describe an experiment."""
    made = argparse.ArgumentParser(
        program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("network", choices=NETWORKS, help="what is trained")
    made.add_argument(
        "--budget",
        choices=BUDGETS,
        default="standard",
        help="smoke: below a minute; standard: about two hours on two cores; full: accelerator",
    )
    made.add_argument(
        "--data-dir", type=Path, help="folder prepared by TensorFlow Datasets (else: download)"
    )
    made.add_argument("--output", type=Path, help="JSON file (default: benchmarks/results)")
    made.add_argument(
        "--work-dir", type=Path, help="folder of the checkpoints (default: .experiments)"
    )
    made.add_argument("--epochs", type=int, help="instead of the budget's")
    made.add_argument("--seeds", type=int, help="instead of the budget's")
    made.add_argument("--training-seeds", type=int, help="instead of the budget's")
    made.add_argument("--path-iterations", type=int, help="instead of the budget's")
    made.add_argument("--held-images", type=int, help="of each split; instead of the budget's")
    made.add_argument("--training-eps", type=float, nargs="*", help="instead of the budget's")
    made.add_argument("--mapped", choices=("map", "vmap"), help="default: map on CPUs")
    made.add_argument("--seeds-at-once", type=int, help="default: 1 on CPUs, else all")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
