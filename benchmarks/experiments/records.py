"""The results as JSON: versions, seeds, device class, date, and what has been run so far."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import math
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.experiments.checkpoints import Records
from benchmarks.experiments.runs import Experiment, chosen_step
from benchmarks.experiments.settings import BATCH, REGULARISATION

_DIGITS = 6
_CURVES = ("loss", "distance", "size")
_MOST_POINTS = 1000  # of a curve over the iterations
_NORMS_AT = 50  # iterations of the paper's table of norms


def write(path: Path, experiment: Experiment, budget: str) -> None:
    """Write what is done so far of an experiment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary(experiment, budget), indent=None, separators=(",", ":"))
    path.write_text(
        text.replace('"paths":', '\n"paths":').replace('"training":', '\n"training":') + "\n"
    )


def environment() -> dict[str, Any]:
    """Date, versions and device class."""
    packages = ("jax", "jaxlib", "numpy", "jaxsmooth")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "device": jax.devices()[0].device_kind,
        "precision": str(np.dtype(jax.dtypes.canonicalize_dtype(float))),
    }


def summary(experiment: Experiment, budget: str) -> dict[str, Any]:
    """All figures of an experiment, as far as it has come."""
    b = experiment.budget
    result: dict[str, Any] = environment() | {
        "network": experiment.network.name,
        "budget": budget,
        "settings": dataclasses.asdict(b) | {"batch": BATCH, "regularisation": REGULARISATION},
        "train images": len(experiment.images.train),
        "held": {name: len(split) for name, split in experiment.images.held.items()},
        "mapped": experiment.mapped,
    }
    found = experiment.store.finished("step")
    if found is not None:
        result["step"] = {
            "chosen": chosen_step(found),
            "grid": rounded(found["steps"]),
            "losses": rounded(found["losses"]),
        }
    reference = experiment.parts("reference")
    if reference:
        norms = np.concatenate([p["norms"] for p in reference])[:, 0, :_NORMS_AT].max(axis=1)
        result["norms of the first 50 iterations"] = {
            "seeds": len(norms),
            "mean": rounded(norms.mean(axis=0)),
            "std": rounded(norms.std(axis=0)),
        }
    certified = experiment.store.finished("certificates")
    if certified is not None:
        result["certificates"] = {k: rounded(v, 10) for k, v in certified.items()}
    accuracies = list(b.accuracies)
    paths = experiment.parts("paths")
    if paths:
        result["paths"] = {"eps": [0.0, *accuracies]} | joined(paths)
    trained = experiment.parts("reference-training")
    if trained:
        result["reference training"] = joined(trained)
    smooth = experiment.parts("training")
    if smooth:
        result["training"] = {"eps": list(b.training_accuracies)} | joined(smooth)
    return result


def joined(parts: list[Records]) -> dict[str, Any]:
    """Parts joined along the seeds.

    Of long curves over the iterations every ``stride``-th point is kept; of the norms the
    largest and the last.
    """
    shared = [k for k in parts[0] if k.endswith(" @")]
    result: dict[str, Any] = {k: parts[0][k].tolist() for k in shared}
    for key in parts[0]:
        if key in shared or key in ("mu", "norms", "initial norms"):
            continue
        values = np.concatenate([p[key] for p in parts])
        if key in _CURVES:
            stride = -(-values.shape[2] // _MOST_POINTS)
            result["stride"] = stride
            values = values[:, :, ::stride]
        result[key] = rounded(values)
    if "train: loss" in parts[0]:
        gaps = [p["train: loss"] - p["train: loss without smoothing"] for p in parts]
        result["train: |F - F_eps|"] = rounded(np.abs(np.concatenate(gaps)))
    norms = np.concatenate([p["norms"] for p in parts])
    result["largest norms"] = rounded(norms.max(axis=2))
    result["last norms"] = rounded(norms[:, :, -1])
    return result


def numbers(values: Any) -> np.ndarray:
    """What `rounded` made of an array, with NaN where it was not finite: a run that diverged."""
    return np.asarray(values, object).astype(float)


def rounded(values: np.ndarray, digits: int = _DIGITS) -> Any:
    """Nested lists, with that many significant digits."""
    values = np.asarray(values)
    if values.dtype.kind in "iub":
        return values.tolist()
    if values.dtype.kind in "US":
        return values.tolist()
    if values.ndim:
        return [rounded(v, digits) for v in values]
    value = float(values)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def percent_right(run: dict[str, Any], split: str) -> np.ndarray:
    """Accuracies on a split in percent, with NaN where the run had diverged."""
    return np.where(
        np.isfinite(numbers(run[f"{split}: loss"])),
        100 * numbers(run[f"{split}: accuracy"]),
        np.nan,
    )
