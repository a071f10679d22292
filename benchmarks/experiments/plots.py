"""The figures, in the paper's form, from the JSON of the results.

    python -m benchmarks.experiments.plots

draws every figure of docs/experiments.md whose results are there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.experiments.records import numbers, percent_right
from benchmarks.experiments.settings import NETWORKS

matplotlib.use("Agg")
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = ROOT / "docs" / "assets" / "experiments"
NAMES = {"mlp": "MLP, MNIST", "convnet": "ConvNet, CIFAR-10"}
_STYLE = {
    "figure.dpi": 90,
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def power(eps: float) -> str:
    """An accuracy as a power of ten."""
    return f"$10^{{{round(np.log10(eps))}}}$"


def colors(count: int) -> Any:
    """From the smallest accuracy to the largest."""
    return pyplot.get_cmap("viridis")(np.linspace(0.0, 0.92, count))


def band(axes: Axes, x: Any, values: np.ndarray, color: Any, label: str, log: bool) -> None:
    """Mean over the first axis, of runs that did not diverge, and a deviation around it."""
    values = values[np.isfinite(values).all(axis=1)]
    mean, spread = values.mean(axis=0), values.std(axis=0)
    low = mean - spread
    if log:
        low = np.where(low > 0, low, mean / 10)
    axes.plot(x, mean, color=color, lw=1.2, label=label)
    axes.fill_between(x, low, mean + spread, color=color, alpha=0.15, lw=0)


def path_figure(result: dict[str, Any]) -> Any:
    """‖u_0 − u_eps‖ against the iteration: relative and absolute, linear and log."""
    paths = result["paths"]
    distance, size = numbers(paths["distance"]), numbers(paths["size"])
    iterations = np.arange(1, distance.shape[2] + 1)
    figure, grid = pyplot.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    shades = colors(len(paths["eps"]) - 1)
    for column, (values, name) in enumerate(
        (
            (distance / size, r"$\|u_0-u_\epsilon\|\,/\,\|u_0\|$"),
            (distance, r"$\|u_0-u_\epsilon\|$"),
        )
    ):
        for row, log in enumerate((False, True)):
            axes = grid[row][column]
            for lane, eps in enumerate(paths["eps"]):
                if eps:
                    color = shades[lane - 1]
                    band(axes, iterations, values[:, lane], color, power(eps), log)
            axes.set_ylabel(name)
            if log:
                axes.set_yscale("log")
                axes.set_xlabel("iteration")
    grid[0][0].legend(title=r"$\epsilon$", ncols=2, fontsize=8)
    figure.suptitle(
        f"{NAMES[result['network']]}: smooth against non-smooth path, {len(distance)} seeds "
        f"(mean ± deviation), step {result['step']['chosen']:g}"
    )
    return figure


def gap_figure(result: dict[str, Any]) -> Any:
    """The true |F − F_eps| along the runs, the certified eps, and m, ℓ, L against eps."""
    paths, certified = result["paths"], result["certificates"]
    at = np.asarray(paths["train: loss @"])
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    eps = np.asarray(paths["eps"][1:])
    largest = np.nanmax(numbers(paths["train: |F - F_eps|"])[:, 1:], axis=(0, 2))
    # On a logarithmic axis there is no 0.
    largest = np.where(largest > 0, largest, np.nan)
    left.loglog(certified["eps"], certified["error"], "k--", label="certified")
    left.loglog(eps, largest, "o-", label=f"largest seen, iterations to {at[-1]}")
    left.set_xlabel(r"$\epsilon$")
    left.set_ylabel(r"$|F-F_\epsilon|$")
    left.legend()
    for name, label in (("m", "m"), ("l", "ℓ"), ("L", "L")):
        right.loglog(certified["eps"], certified[name], "o-", label=label, ms=3)
    right.set_xlabel(r"$\epsilon$")
    right.set_ylabel("certified constants of the objective")
    right.legend()
    figure.suptitle(NAMES[result["network"]])
    return figure


def training_figure(result: dict[str, Any]) -> Any:
    """Batch loss and accuracies, means of the seeds that did not diverge."""
    lanes = [("not smoothed", result["reference training"], 0, "k")]
    if "training" in result:
        smooth = result["training"]
        shades = colors(len(smooth["eps"]))
        lanes += [
            (rf"$\epsilon=${power(eps)}", smooth, k, shades[k])
            for k, eps in enumerate(smooth["eps"])
        ]
    held = next(iter(result["held"]))
    per_epoch = result["train images"] // result["settings"]["batch"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, run, lane, color in lanes:
        loss = numbers(run["loss"])[:, lane]
        kept = np.isfinite(loss).all(axis=1)
        if not kept.any():
            continue
        loss = loss[kept].mean(axis=0)
        epochs = np.arange(len(loss)) * run["stride"] / per_epoch
        left.semilogy(epochs, loss, color=color, lw=0.8, label=name)
        for split, style in (("train", "-o"), (held, "--s")):
            at = np.asarray(run[f"{split}: accuracy @"]) / per_epoch
            values = percent_right(run, split)[kept, lane].mean(axis=0)
            right.plot(at, values, style, color=color, ms=3, lw=1)
    left.set_xlabel("epoch")
    left.set_ylabel("objective on the batch")
    left.legend(fontsize=8)
    right.set_xlabel("epoch")
    right.set_ylabel(f"accuracy, %; solid: train, dashed:\n{held}", fontsize=8)
    figure.suptitle(f"{NAMES[result['network']]}: {len(lanes[0][1]['seeds'])} seed(s)")
    return figure


def save(figure: Any, name: str) -> Path:
    """Write a figure for the documentation."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / f"{name}.png"
    figure.savefig(path)
    pyplot.close(figure)
    return path


def main() -> int:
    """Draw what can be drawn; returns the exit status."""
    with pyplot.rc_context(_STYLE):
        for network in NETWORKS:
            path = RESULTS / f"experiments-{network}.json"
            if not path.exists():
                continue
            result = json.loads(path.read_text())
            if "paths" in result:
                print(save(path_figure(result), f"{network}-paths"))
                print(save(gap_figure(result), f"{network}-certified"))
            if "reference training" in result:
                print(save(training_figure(result), f"{network}-training"))
        path = RESULTS / "experiments-beyond.json"
        if path.exists():
            from benchmarks.experiments import beyond_plots

            result = json.loads(path.read_text())
            for name, figure in beyond_plots.figures(result):
                print(save(figure, name))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
