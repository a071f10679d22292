"""The paper's two networks: its printed constants against what the library proves.

    python benchmarks/paper_constants.py [--output FILE]

prints, for the smoothness constant of the MLP with respect to all parameters (accuracy
1/2 of the logits, the printed parameter norms) and for the error budget of the ConvNet's
first site, the printed formulas and the certificates, and writes them as JSON with the
date and the versions. The networks are described by shapes only: nothing is trained. A
figure that misses its target makes the exit status 1.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jaxsmooth  # noqa: E402
from tests.reference import paper  # noqa: E402

EPS = 0.5  # of the logits: the paper's 1 on a loss that it takes to be 2-Lipschitz
CONVNET_INPUT = 55.5  # ‖x‖ of a 32×32×3 image with values of size 1

# (kernel, allocation) of each certificate of the MLP, and the smoothness it has to reach.
MLP_TARGETS = {
    ("paper", "uniform"): 1.8e12,
    ("minimax", "uniform"): 2.2e11,
    ("minimax", "optimal"): 1.8e11,
}
PRINTED_BUDGET = 2e-6  # μ of the ConvNet's first layer in the paper's table
BUDGET_GAIN = 100.0


def struct(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def mlp(u, x):
    """784-4000-1000-4000-10 with relu between the layers."""
    for weight, bias in u[:-1]:
        x = jax.nn.relu(weight @ x + bias)
    weight, bias = u[-1]
    return weight @ x + bias


def convnet(u, x):
    """Three times Conv 5×5, relu, AvgPool 2×2; then a dense layer."""
    for weight, bias in u[:-1]:
        x = lax.conv_general_dilated(
            x[None], weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]
        x = jax.nn.relu(x + bias)
        x = lax.reduce_window(x, 0.0, lax.add, (2, 2, 1), (2, 2, 1), "VALID") / 4
    weight, bias = u[-1]
    return weight @ x.reshape(-1) + bias


MLP_LAYERS = [
    (struct(4000, 784), struct(4000)),
    (struct(1000, 4000), struct(1000)),
    (struct(4000, 1000), struct(4000)),
    (struct(10, 4000), struct(10)),
]
CONVNET_LAYERS = [
    (struct(5, 5, 3, 16), struct(16)),
    (struct(5, 5, 16, 20), struct(20)),
    (struct(5, 5, 20, 20), struct(20)),
    (struct(10, 320), struct(10)),
]


def certificate(network, radii, input_bound, layers, image, kernel, allocation):
    bounds = ([jaxsmooth.ball(r) for r in radii], jaxsmooth.ball(input_bound))
    f_eps = jaxsmooth.smooth(network, EPS, bounds, kernel=kernel, allocation=allocation, argnums=0)
    return f_eps.certificate(layers, image)


def row(name, figure, value, target=None, met=None, seconds=None, sites=()):
    """One line of the report; ``met`` says whether the value reaches its target."""
    return {
        "name": name,
        "figure": figure,
        "value": float(value),
        "target": target,
        "met": None if met is None else bool(met),
        "seconds": seconds,
        "sites": [float(s) for s in sites],
    }


def mlp_rows():
    for kernel, right_m, name in (
        ("paper", False, "printed formulas"),
        ("paper", True, "printed formulas, m right"),
        ("minimax", True, "the same, minimax kernel"),
    ):
        layers = paper.mlp(paper.MLP_RADII, paper.MLP_HIDDEN, kernel)
        found = paper.certify(layers, EPS, paper.MLP_INPUT, right_m=right_m)
        yield row(f"MLP, {name}", "smoothness", found.smoothness[-1], sites=found.mu)
    for (kernel, allocation), target in MLP_TARGETS.items():
        start = time.perf_counter()
        found = certificate(
            mlp, paper.MLP_RADII, paper.MLP_INPUT, MLP_LAYERS, struct(784), kernel, allocation
        )
        yield row(
            f"MLP, jaxsmooth, {kernel}, {allocation}",
            "smoothness",
            found.smoothness,
            target,
            found.smoothness <= target,
            time.perf_counter() - start,
            [s.error for s in found.sites],
        )


def convnet_rows():
    for right, name in ((False, "printed formulas"), (True, "right constants")):
        layers = paper.convnet(paper.CONVNET_RADII, right=right)
        found = paper.certify(layers, EPS, CONVNET_INPUT, right_m=right)
        yield row(f"ConvNet, {name}", "first μ (2-norm)", found.mu[0], sites=found.mu)
    for kernel, allocation in MLP_TARGETS:
        start = time.perf_counter()
        found = certificate(
            convnet,
            paper.CONVNET_RADII,
            CONVNET_INPUT,
            CONVNET_LAYERS,
            struct(32, 32, 3),
            kernel,
            allocation,
        )
        errors = [s.error for s in found.sites]
        target = PRINTED_BUDGET * BUDGET_GAIN if allocation == "uniform" else None
        yield row(
            f"ConvNet, jaxsmooth, {kernel}, {allocation}",
            "first μ (2-norm)",
            errors[0],
            target,
            None if target is None else errors[0] >= target,
            time.perf_counter() - start,
            errors,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_suffix(".json")
    parser.add_argument("--output", type=Path, default=default, help="JSON file to write")
    arguments = parser.parse_args()

    table = Table("network, constants", "figure", "value", "target", "met", "s")
    rows = []
    for entry in (*mlp_rows(), *convnet_rows()):
        rows.append(entry)
        table.add_row(
            entry["name"],
            entry["figure"],
            f"{entry['value']:.3g}",
            "" if entry["target"] is None else f"{entry['target']:.3g}",
            {None: "", True: "yes", False: "NO"}[entry["met"]],
            "" if entry["seconds"] is None else f"{entry['seconds']:.1f}",
        )
    Console().print(table)
    arguments.output.write_text(
        json.dumps(
            {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "versions": {
                    "python": platform.python_version(),
                    "jax": jax.__version__,
                    "numpy": np.__version__,
                    "jaxsmooth": getattr(jaxsmooth, "__version__", "unknown"),
                },
                "eps": EPS,
                "radii": {"mlp": paper.MLP_RADII, "convnet": paper.CONVNET_RADII},
                "input": {"mlp": paper.MLP_INPUT, "convnet": CONVNET_INPUT},
                "rows": rows,
            },
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
    )
    return int(any(entry["met"] is False for entry in rows))


if __name__ == "__main__":
    raise SystemExit(main())
