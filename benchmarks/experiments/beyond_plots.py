"""The figures of the study beyond the paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import pyplot

_TITLES = {
    "mlp-sgd": "small MLP, SGD, step 0.5",
    "mlp-sgd-small-step": "small MLP, SGD, step 0.05",
    "mlp-momentum": "small MLP, momentum 0.9, step 0.05",
    "mlp-adam": "small MLP, Adam, step 0.002",
    "resnet-sgd": "small ResNet, SGD, step 0.05",
}
_COLORS = {"32": "tab:orange", "64": "tab:blue"}


def figures(result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and figure."""
    yield "beyond-eps", against_eps(result["studies"])
    yield "beyond-signs", signs(result["studies"])
    for name in ("mlp-sgd",):
        if name in result["studies"]:
            yield f"beyond-{name}-paths", growth(result["studies"][name], _TITLES[name])


def lanes_of(run: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The accuracies, and the distances (seeds, accuracies, iterations) of their lanes."""
    which = [k for k, lane in enumerate(run["lanes"]) if not isinstance(lane, str)]
    return np.asarray([run["lanes"][k] for k in which]), np.asarray(run["distance"])[:, which]


def control(run: dict[str, Any], name: str) -> np.ndarray:
    """The distances of a control, (seeds, iterations)."""
    return np.asarray(run["distance"])[:, run["lanes"].index(name)]


def against_eps(studies: dict[str, Any]) -> Any:
    """Distance at the last iteration against eps, medians over the seeds."""
    names = [name for name in _TITLES if name in studies]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(3.3 * columns, 2.9 * rows), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.flat, names, strict=False):
        for bits, color in _COLORS.items():
            run = studies[name][bits]
            size = np.asarray(run["size"])[:, -1]
            eps, distances = lanes_of(run)
            values = distances[:, :, -1] / size[:, None]
            floor = np.median(control(run, "other order")[:, -1] / size)
            middle = np.median(values, axis=0)
            # A difference of no bit at all has no place on a logarithmic axis.
            shown = np.where(middle > 0, middle, np.nan)
            axes.loglog(eps, shown, "o-", ms=3, color=color, label=f"{bits} bits")
            axes.axhline(floor, color=color, ls=":", lw=1)
        axes.set_title(_TITLES[name], fontsize=9)
        axes.set_xlabel(r"$\epsilon$")
    grid[0][0].set_ylabel(r"$\|u_0-u_\epsilon\|/\|u_0\|$ at the last iteration")
    grid[0][0].legend(title="dotted: other order of sums", title_fontsize=7, fontsize=8)
    return figure


def growth(study: dict[str, Any], title: str) -> Any:
    """Distances against the iteration, medians over the seeds, and the controls."""
    figure, grid = pyplot.subplots(1, 2, figsize=(9, 3.8), sharex=True, layout="constrained")
    for axes, (bits, name) in zip(grid, (("32", "32 bits"), ("64", "64 bits")), strict=True):
        run = study[bits]
        eps, distances = lanes_of(run)
        shades = pyplot.get_cmap("viridis")(np.linspace(0, 0.92, len(eps)))
        iterations = np.arange(1, distances.shape[2] + 1)
        for k, accuracy in enumerate(eps):
            middle = np.median(distances[:, k], axis=0)
            axes.semilogy(
                iterations, np.where(middle > 0, middle, np.nan), color=shades[k], lw=1.1,
                label=f"$10^{{{round(np.log10(accuracy))}}}$",
            )  # fmt: skip
        for name_of, style in (("other order", "r:"), ("weights changed", "k--")):
            axes.semilogy(
                iterations, np.median(control(run, name_of), axis=0), style, label=name_of
            )
        axes.set_title(f"{title}, {name}", fontsize=9)
        axes.set_xlabel("iteration")
    grid[0].set_ylabel(r"$\|u_0-u_\epsilon\|$")
    handles, labels = grid[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7, title=r"$\epsilon$")
    return figure


def signs(studies: dict[str, Any]) -> Any:
    """Share of the relus' elements with another sign than on the non-smooth path."""
    figure, axes = pyplot.subplots(figsize=(5.5, 3.6), layout="constrained")
    for name, title in _TITLES.items():
        if name not in studies:
            continue
        run = studies[name]["64"]
        which = [k for k, lane in enumerate(run["lanes"]) if not isinstance(lane, str)]
        share = np.asarray(run["signs changed"])[:, which, -1].mean(axis=0)
        eps = [run["lanes"][k] for k in which]
        axes.loglog(eps, np.where(share > 0, share, np.nan), "o-", ms=3, label=title)
    axes.set_xlabel(r"$\epsilon$")
    axes.set_ylabel("share of signs changed, last iteration, 64 bits")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
