"""Does the difference of the paths vanish with eps? Rounding, kinks and chaos told apart.

    python -m benchmarks.experiments.beyond --data-dir DIR [--only NAME ...]

trains small networks in 32 and in 64 bits, in lockstep: the non-smooth network; itself once
more (a deterministic program gives the same bits); itself with the images of each batch
summed in another order (rounding alone); itself from initial weights that are changed by a
relative 10⁻⁶ or 10⁻¹⁰ (how errors grow, whatever makes them); and smoothed to eps from
10⁻¹² to 10. All lanes of a study are one compiled program.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.experiments import networks, records, smoothing, training
from benchmarks.experiments.data import Images, largest_norm, prepare, read

ACCURACIES = tuple(10.0**k for k in range(-12, 2))
CONTROLS = ("not smoothed", "again", "other order", "weights changed")
_TURN = 97
_CHANGE = {32: 1e-6, 64: 1e-10}  # relative, of the initial weights
_EXAMPLES = 200  # on which signs are compared
_HIDDEN = (128, 64, 128)
OUTPUT = Path(__file__).resolve().parents[1] / "results" / "experiments-beyond.json"


@dataclass(frozen=True)
class Study:
    """One network with one optimizer.

    Attributes:
        network: "mlp" (of small widths) or "resnet".
        optimizer: the optimizer.
        step: its constant step.
        seeds: how many.
        iterations: of batches of 256.
        segment: iterations between two counts of signs.
    """

    network: str
    optimizer: training.Optimizer
    step: float
    seeds: int = 3
    iterations: int = 100
    segment: int = 25


_MOMENTUM = training.from_optax(optax.trace(0.9))
_ADAM = training.from_optax(optax.scale_by_adam())
STUDIES = {
    "mlp-sgd": Study("mlp", training.SGD, 0.5),
    "mlp-sgd-small-step": Study("mlp", training.SGD, 0.05),
    "mlp-momentum": Study("mlp", _MOMENTUM, 0.05),
    "mlp-adam": Study("mlp", _ADAM, 2e-3),
    "resnet-sgd": Study("resnet", training.SGD, 0.05, seeds=1, iterations=50),
}


def run(study: Study, images: Images) -> dict[str, Any]:
    """A study in both precisions."""
    network = networks.mlp(_HIDDEN) if study.network == "mlp" else networks.resnet()
    with jax.enable_x64(True):
        mu, certified = accuracies(study, network, images)
        result: dict[str, Any] = {
            "certified": certified,
            "64": paths(study, network, images, mu, 64),
        }
    with jax.enable_x64(False):
        result["32"] = paths(study, network, images, mu, 32)
    settings = {k: getattr(study, k) for k in ("network", "step", "seeds", "iterations")}
    return result | {"settings": settings}


def accuracies(
    study: Study, network: networks.Network, images: Images
) -> tuple[np.ndarray, dict[str, Any]]:
    """(eps, sites) accuracies, certified on the balls of the non-smooth runs."""
    made = training.Trainer(network, images, study.optimizer, smooth=False)
    radii = np.zeros(len(network.shapes))
    for seed in range(study.seeds):
        state = made.init([seed], 1)
        start = np.asarray(networks.layer_norms(jax.tree.map(lambda v: v[0, 0], state[0])))
        _, found = made.run(state, np.zeros((1, 1)), study.step, [seed], 0, study.iterations)
        radii = np.maximum(radii, np.maximum(start, found["norms"].max(axis=(0, 1, 2))))
    bound = largest_norm(network.name, images)
    made_certificates = [smoothing.certificate(network, radii, bound, eps) for eps in ACCURACIES]
    certified = {
        "eps": list(ACCURACIES),
        "error": [float(c.error) for c in made_certificates],
        "smoothness": [float(c.smoothness) for c in made_certificates],
        "radii": records.rounded(radii),
        "input norm": bound,
    }
    return np.stack([smoothing.accuracies(c) for c in made_certificates]), certified


def paths(
    study: Study, network: networks.Network, images: Images, mu: np.ndarray, bits: int
) -> dict[str, Any]:
    """Distances to the non-smooth path, and signs that differ from it, of every lane."""
    lanes = np.concatenate([np.zeros((len(CONTROLS), mu.shape[1])), mu])
    turns = [0] * len(lanes)
    turns[CONTROLS.index("other order")] = _TURN
    made = training.Trainer(network, images, study.optimizer, turns=tuple(turns))
    inputs = prepare(network.name, jnp.asarray(images.train.images[:_EXAMPLES]))
    signs = jax.jit(lambda params: sign_changes(network, params, inputs))
    distances, sizes, changes, losses = [], [], [], []
    for seed in range(study.seeds):
        params, moments = made.init([seed], len(lanes))
        changed = CONTROLS.index("weights changed")
        params = jax.tree.map(lambda v, at=changed: v.at[:, at].multiply(1 + _CHANGE[bits]), params)
        state, done = (params, moments), 0
        parts: list[dict[str, np.ndarray]] = []
        counted = []
        while done < study.iterations:
            state, found = made.run(state, lanes, study.step, [seed], done, study.segment)
            done += study.segment
            parts.append(found)
            counted.append(signs(jax.tree.map(lambda v: v[0], state[0])))
        distances.append(np.concatenate([p["distance"][0] for p in parts], axis=1))
        losses.append(np.concatenate([p["loss"][0] for p in parts], axis=1))
        sizes.append(np.concatenate([p["size"][0] for p in parts], axis=1)[0])
        changes.append(np.stack(counted, axis=1))
    return {
        "lanes": [*CONTROLS, *ACCURACIES],
        "distance": records.rounded(np.stack(distances), 4),
        "size": records.rounded(np.stack(sizes), 4),
        "signs changed": records.rounded(np.stack(changes), 4),
        "signs changed @": list(range(study.segment, study.iterations + 1, study.segment)),
        "last loss": records.rounded(np.stack(losses)[:, :, -1]),
    }


def sign_changes(network: networks.Network, params: Any, inputs: jax.Array) -> jax.Array:
    """Share of the relus' elements whose sign is not that of lane 0: (lanes,)."""

    def one(u: Any) -> jax.Array:
        def example(x: jax.Array) -> jax.Array:
            gathered = networks.Signs()
            network.apply(u, x, gathered)
            return jnp.concatenate([s.reshape(-1) for s in gathered])

        return jax.vmap(example)(inputs)

    patterns = jax.lax.map(one, params)
    return jnp.mean(patterns != patterns[:1], axis=(1, 2))


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.experiments.beyond", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data-dir", type=Path, help="folder prepared by TensorFlow Datasets")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file to write")
    parser.add_argument("--only", nargs="*", choices=STUDIES, default=list(STUDIES))
    options = parser.parse_args()
    result = json.loads(options.output.read_text()) if options.output.exists() else {"studies": {}}
    data: dict[str, Images] = {}
    for name in options.only:
        study = STUDIES[name]
        if study.network not in data:
            data[study.network] = read(study.network, options.data_dir)
        result["studies"][name] = run(study, data[study.network])
        result |= records.environment() | {"precision": "float64 and float32"}
        options.output.write_text(json.dumps(result, separators=(",", ":")) + "\n")
        print(f"{name}: done", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
