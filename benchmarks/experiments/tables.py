"""The tables of docs/experiments.md, from the JSON of the results.

    python -m benchmarks.experiments.tables [--write]

prints them as Markdown, or puts them into the page between its markers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import pages
from benchmarks.experiments import smoothing
from benchmarks.experiments.networks import Network, convnet, mlp
from benchmarks.experiments.plots import FIGURES, RESULTS, ROOT
from benchmarks.experiments.records import numbers, percent_right
from benchmarks.experiments.settings import NETWORKS
from benchmarks.pages import markdown
from tests.reference import paper

PAGE = ROOT / "docs" / "experiments.md"
NOT_RUN = "not run yet"
_PRINTED_LOSS = 2.0  # the paper's Lipschitz constant of the logistic loss; √2 is right


def figure(value: float) -> str:
    """Three digits."""
    return "0" if value == 0 else f"{value:.3g}"


def mean(values: Any) -> str:
    """Mean ± deviation over the seeds whose run did not diverge."""
    if len(values) == 1:
        return figure(float(values[0]))
    finite = np.isfinite(values)
    kept = values[finite]
    spread = f" ± {figure(kept.std())}" if len(kept) > 1 else ""
    return (f"{figure(kept.mean())}{spread}" if len(kept) else "–") + diverged(finite)


def diverged(finite: np.ndarray) -> str:
    """How many seeds did not stay finite, if any."""
    lost = int((~finite).sum())
    return f" ({lost} of {len(finite)} diverged)" if lost else ""


def paper_constants(network: Network, radii: list[float], bound: float, right: bool) -> list[float]:
    """μ of each site (2-norm) at eps = 1 by algorithm 2, printed or right constants."""
    if network.name == "mlp":
        layers = paper.mlp(radii, [s[0] for s in network.shapes[:-1]], "paper")
    else:
        layers = paper.convnet(radii, right=right)
    loss = math.sqrt(2) if right else _PRINTED_LOSS
    return list(paper.certify(layers, 1 / loss, bound, right_m=right).mu)


def accuracies_table(result: dict[str, Any]) -> str:
    """μ per layer at eps = 1: rules and constants."""
    certified = result["certificates"]
    radii, bound = certified["radii"], certified["input norm"]
    network = mlp(tuple(result["settings"]["hidden"])) if result["network"] == "mlp" else convnet()
    rows = []
    for right, name in ((False, "as printed"), (True, "right constants")):
        mu = paper_constants(network, radii, bound, right)
        rows.append([f"paper's rule, {name}", *map(figure, mu), ""])
    for kernel, allocation in (
        ("paper", "uniform"),
        ("paper", "halving"),
        ("minimax", "uniform"),
        ("minimax", "halving"),
        ("minimax", "optimal"),
    ):
        found = smoothing.certificate(
            network, radii, bound, 1.0, kernel=kernel, allocation=allocation
        )
        rows.append(
            [
                f"jaxsmooth, {kernel} kernel, {allocation}",
                *(figure(float(s.error)) for s in found.sites),
                figure(float(found.smoothness)),
            ]
        )
    sites = [f"layer {k + 1}" for k in range(len(rows[0]) - 2)]
    return markdown(["μ of the layer (2-norm) at ε = 1", *sites, "L of the objective"], rows)


def norms_table(result: dict[str, Any]) -> str:
    """Norms of the layers along the non-smooth run."""
    norms = result["norms of the first 50 iterations"]
    rows = [
        ["largest, first 50 iterations, mean ± deviation"]
        + [f"{m:.2f} ± {s:.2f}" for m, s in zip(norms["mean"], norms["std"], strict=True)],
    ]
    if "certificates" in result:
        radii = [f"{r:.4g}" for r in result["certificates"]["radii"]]
        rows.append(["R, largest of all non-smooth runs", *radii])
    return markdown(["", *(f"layer {k + 1}" for k in range(len(norms["mean"])))], rows)


def certificates_table(result: dict[str, Any]) -> str:
    """Certified constants per eps, with the largest gap that was seen."""
    certified, paths = result["certificates"], result["paths"]
    gap = np.nanmax(numbers(paths["train: |F - F_eps|"]), axis=(0, 2))
    rows = []
    for k, eps in enumerate(certified["eps"]):
        row = [f"{eps:g}", *(figure(certified[name][k]) for name in ("error", "m", "l", "L"))]
        seen = figure(gap[paths["eps"].index(eps)]) if eps in paths["eps"] else ""
        rows.append([*row, seen])
    header = ["ε", "certified", "m", "ℓ", "L", "largest F − F_ε seen"]
    return markdown(header, rows)


def results_table(run: dict[str, Any], held: str) -> str:
    """Loss and accuracy at the end of a run, per eps."""
    rows = []
    for lane, eps in enumerate(run["eps"]):
        row = ["not smoothed" if eps == 0 else f"{eps:g}"]
        for split in ("train", held):
            row.append(mean(numbers(run[f"{split}: loss"])[:, lane, -1]))
            row.append(mean(percent_right(run, split)[:, lane, -1]))
        rows.append(row)
    header = ["ε", "train loss", "train accuracy, %", f"loss, {held}", f"accuracy, %, {held}"]
    return markdown(header, rows)


def outside(result: dict[str, Any]) -> str:
    """How far the smoothed runs left the balls of the recorded radii."""
    ratio = numbers(result["paths"]["largest norms"]) / numbers(result["certificates"]["radii"])
    finite = np.isfinite(ratio).all(axis=-1)
    rows = [
        [f"{eps:g}", figure(float(np.nanmax(ratio[:, k]))) + diverged(finite[:, k])]
        for k, eps in enumerate(result["paths"]["eps"])
        if eps
    ]
    return markdown(["ε", "largest ‖u_t‖ / R_t of the smoothed paths"], rows)


def beyond_table(study: dict[str, Any]) -> str:
    """Medians over the seeds at the last iteration, in both precisions."""
    rows = []
    for k, lane in enumerate(study["64"]["lanes"]):
        row = [lane if isinstance(lane, str) else f"{lane:g}"]
        for bits in ("64", "32"):
            run = study[bits]
            row.append(figure(np.median(np.asarray(run["distance"])[:, k, -1])))
            share = 100 * np.median(np.asarray(run["signs changed"])[:, k, -1])
            row.append(figure(share))
        rows.append(row)
    header = ["lane or ε", "‖u_0 − u_ε‖, 64 bits", "signs changed, %"]
    return markdown([*header, "‖u_0 − u_ε‖, 32 bits", "signs changed, %"], rows)


def minimality_table() -> str:
    """The statement of every network whose end point was studied."""
    rows = []
    for network in NETWORKS:
        path = RESULTS / f"experiments-{network}-minimality.json"
        if not path.exists():
            continue
        found = json.loads(path.read_text())
        for key in ("on the recorded balls", "on the ball around the end point"):
            if found[key] is not None:
                values = found[key]["L"], found[key]["eta"]
                eps = found[key].get("eps", found["eps"])
                row = [network, key, figure(eps), figure(found["gradient norm"])]
                rows.append([*row, *map(figure, values), figure(3 * eps)])
    if not rows:
        return ""
    header = ["network", "L certified", "ε", "‖∇F_ε(û)‖", "L", "η", "F(û) within"]
    return markdown(header, rows)


def run_table(results: list[dict[str, Any]]) -> str:
    """How much of each network's experiment is in the results."""
    rows = []
    for result in results:
        stages = ("reference training", "paths", "training")
        seeds = [len(result.get(stage, {}).get("seeds", [])) for stage in stages]
        settings = result["settings"]
        epochs = f"{settings['epochs']} epoch(s)"
        accuracies = ", ".join(f"{eps:g}" for eps in settings["training_accuracies"])
        versions = result["versions"]
        rows.append(
            [
                f"{result['network']}, {result['budget']}",
                f"{seeds[1]} of {settings['seeds']} seeds, "
                f"{settings['path_iterations']} iterations",
                f"{seeds[0]} seed(s), {epochs}",
                f"{seeds[2]} seed(s), {epochs}, ε = {accuracies}" if seeds[2] else NOT_RUN,
                f"{result['step']['chosen']:g}",
                f"{result['device']}, {result['date']}, JAX {versions['jax']}",
            ]
        )
    header = ["network, budget", "paths, all ε", "training, not smoothed", "training, smoothed"]
    return markdown([*header, "step", "on"], rows)


def blocks() -> dict[str, str]:
    """Every table by the name of its marker."""
    found, results = {}, []
    for network in NETWORKS:
        path = RESULTS / f"experiments-{network}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        results.append(result)
        held = next(iter(result["held"]))
        found[f"{network}-norms"] = norms_table(result)
        if "certificates" in result:
            found[f"{network}-mu"] = accuracies_table(result)
        if "paths" in result:
            found[f"{network}-certificates"] = certificates_table(result)
            found[f"{network}-paths"] = results_table(result["paths"], held)
            found[f"{network}-outside"] = outside(result)
        if "reference training" in result:
            trained = {**result["reference training"], "eps": [0.0]}
            found[f"{network}-reference-training"] = results_table(trained, held)
        if "training" in result:
            found[f"{network}-training"] = results_table(result["training"], held)
    found["what-was-run"] = run_table(results)
    path = RESULTS / "experiments-beyond.json"
    if path.exists():
        for name, study in json.loads(path.read_text())["studies"].items():
            found[f"beyond-{name}"] = beyond_table(study)
    minimal = minimality_table()
    if minimal:
        found["minimality"] = minimal
    return found


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with its tables and figures; what was not run is said to be so."""

    def image(match: re.Match[str]) -> str:
        name = f"{match[2]}.png"
        text = f"![{match[3]}](assets/experiments/{name})"
        shown = text if (FIGURES / name).exists() else f"{match[3]}: {NOT_RUN}"
        return f"{match[1]}\n\n{shown}\n\n{match[4]}"

    pattern = r"(<!-- figure: ([\w-]+): (.*?) -->)\n.*?(<!-- end -->)"
    return re.sub(pattern, image, pages.filled(page, tables, NOT_RUN), flags=re.DOTALL)


if __name__ == "__main__":
    raise SystemExit(pages.command(PAGE, blocks, filled))
