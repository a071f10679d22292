"""Public trained networks: what is proved of them, and how much of it an attack finds.

    python benchmarks/public_networks.py --nets DIR [--json FILE] [--only NAME]

DIR (by default the environment variable JAXSMOOTH_NETS) holds ``nets.py``, the weights and
``baselines.json`` of networks from VNN-COMP; without it nothing is run and the exit status
is 0. Every network is smoothed with its weights fixed on each of its boxes, in float64, and
each certificate is attacked: gradient ascent on the error and on the output, ascent on the
spectral norm of the Jacobian, bisected secants of the Jacobian. The exit status is 1 if
something found exceeds what was certified. The Lipschitz constants are compared with the
products of the layers' norms in ``baselines.json``.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import jaxsmooth
from jaxsmooth import _compat

# The most that ℓ may be, in products of the layers' norms.
TARGETS = {
    "acasxu_1_1": 1.05,
    "mnistfc_256x2": 1.05,
    "mnistfc_256x4": 1.05,
    "oval21_base": 3.0,
    "resnet_2b": 3.0,
    "verivital_maxpool": 3.0,
    "eran_sigmoid_6x200": 1.05,
}
# Methods of auto_LiRPA whose ranges are compared with.
WIDTHS = ("IBP", "CROWN")
EPS = 0.1
SEED = 0
STARTS = 24
STEPS = 24
ROUNDS = 4
HALVINGS = 30
SEGMENTS = 12
# The surrogate whose Jacobian has useful derivatives: μ as a part of each site's range.
SURROGATE = 0.02
# Relative rounding error of what the attack finds (float64), and of what others sampled.
ROUNDING, SAMPLED_ROUNDING = 1e-9, 1e-3


@dataclass(frozen=True)
class Case:
    """One network on one of its boxes."""

    net: str
    box: str
    function: Callable[..., Any]
    params: dict[str, Any]
    lo: np.ndarray
    hi: np.ndarray
    baseline: dict[str, Any]

    @property
    def bounds(self) -> tuple[Any, ...]:
        """Weights known, input in the box."""
        return (jaxsmooth.fixed(self.params), jaxsmooth.box(self.lo, self.hi))

    @property
    def product(self) -> float:
        """Product of the layers' norms."""
        return self.baseline["naive_global_lipschitz"]["l2"]


def cases(nets: Any, baselines: dict[str, Any], names: list[str]) -> Iterator[Case]:
    for name in names:
        function, params, _ = nets.load(name)
        params = {k: jnp.asarray(v, jnp.float64) for k, v in params.items()}
        for label, (lo, hi) in nets.boxes(name).items():
            box = (np.asarray(b, np.float64) for b in (lo, hi))
            yield Case(name, label, function, params, *box, baselines["nets"][name])


def starts(case: Case) -> np.ndarray:
    """The centre, corners and points inside: (STARTS, *shape)."""
    rng = np.random.default_rng(SEED)
    inside = rng.uniform(size=(STARTS, *case.lo.shape))
    inside[STARTS // 2 :] = np.round(inside[STARTS // 2 :])
    inside[0] = 0.5
    return case.lo + inside * (case.hi - case.lo)


def ascend(objective: Callable[..., Any], x: Any, case: Case, steps: int = STEPS) -> Any:
    """The largest value met on the way, and the last points, of signed gradient ascent."""
    value = jax.vmap(jax.value_and_grad(objective))

    def step(state: Any, size: Any) -> Any:
        x, best = state
        found, slope = value(x)
        x = x + size * (case.hi - case.lo) * jnp.sign(slope)
        return (jnp.clip(x, case.lo, case.hi), jnp.maximum(best, jnp.max(found))), None

    sizes = 0.25 * 0.8 ** jnp.arange(steps)
    (x, best), _ = jax.lax.scan(step, (x, jnp.zeros(())), sizes)
    return jnp.maximum(best, jnp.max(jax.vmap(objective)(x))), x


def squares(y: Any) -> Any:
    return jnp.sum(y * y)


def top(jacobian: Any) -> tuple[Any, Any]:
    """Spectral norm and first left singular vector of (outputs, *inputs)."""
    rows = jacobian.reshape(len(jacobian), -1)
    _, vectors = jnp.linalg.eigh(rows @ rows.T)
    return jnp.linalg.norm(vectors[:, -1] @ rows), vectors[:, -1]


def attack(case: Case, smoothed: Any, surrogate: Any) -> dict[str, float]:
    """The largest error, output, slope and curvature found."""

    def reference(x: Any) -> Any:
        return case.function(case.params, x)

    jacobians = jax.vmap(jax.jacrev(smoothed))
    norms = jax.vmap(top)

    @jax.jit
    def values(x: Any) -> tuple[Any, Any]:
        error, _ = ascend(lambda z: squares(smoothed(z) - reference(z)), x, case)
        bound, _ = ascend(lambda z: squares(smoothed(z)), x, case)
        return jnp.sqrt(error), jnp.sqrt(bound)

    @jax.jit
    def slopes(x: Any) -> tuple[Any, Any]:
        size, left = norms(jacobians(x))

        def slope(at: Any) -> Any:
            z, u = at
            return squares(jax.vjp(surrogate, z)[1](u)[0])

        def step(z: Any, size: Any) -> Any:
            rise = jax.vmap(jax.grad(lambda z, u: slope((z, u))))(z, left)
            return jnp.clip(z + size * (case.hi - case.lo) * jnp.sign(rise), case.lo, case.hi), None

        x, _ = jax.lax.scan(step, x, 0.25 * 0.7 ** jnp.arange(STEPS // 2))
        return jnp.max(size), x

    @jax.jit
    def secants(a: Any, b: Any) -> Any:
        def halve(state: Any, _: Any) -> Any:
            (a, b), (at_a, at_b), best = state
            middle = (a + b) / 2
            at_middle = jacobians(middle)

            def secant(p: Any, q: Any, at_p: Any, at_q: Any) -> Any:
                away = jnp.sqrt(jax.vmap(squares)(p - q))
                return norms(at_p - at_q)[0] / jnp.where(away > 0, away, jnp.inf)

            # One of the halves has at least the secant of the whole.
            first, second = secant(a, middle, at_a, at_middle), secant(middle, b, at_middle, at_b)
            left = (first > second).reshape(-1, *(1,) * (a.ndim - 1))
            best = jnp.maximum(best, jnp.max(jnp.maximum(first, second)))
            ends = jnp.where(left, a, middle), jnp.where(left, middle, b)
            left = left[..., None]
            slopes_ = jnp.where(left, at_a, at_middle), jnp.where(left, at_middle, at_b)
            return (ends, slopes_, best), None

        state = (a, b), (jacobians(a), jacobians(b)), jnp.zeros(())
        return jax.lax.scan(halve, state, None, HALVINGS)[0][2]

    x = jnp.asarray(starts(case))
    error, bound = values(x)
    lipschitz, at = 0.0, x
    for _ in range(ROUNDS):
        found, at = slopes(at)
        lipschitz = max(lipschitz, float(found))
    lipschitz = max(lipschitz, float(slopes(at)[0]))
    ends = jnp.concatenate([at, x])[np.random.default_rng(SEED).permutation(2 * STARTS)]
    curvature = secants(ends[:SEGMENTS], ends[SEGMENTS : 2 * SEGMENTS])
    found = {"error": error, "bound": bound, "lipschitz": lipschitz, "smoothness": curvature}
    return {name: float(value) for name, value in found.items()}


def blurred(case: Case, certificate: Any) -> Any:
    """f smoothed so much that the derivatives of its Jacobian say where to go."""
    widths = {s.path: SURROGATE * float(s.range[1] - s.range[0]) for s in certificate.sites}
    if not widths:
        return lambda x: case.function(case.params, x)
    return jaxsmooth.smooth(case.function, 1e30, case.bounds, allocation=widths, kernel="softplus")


def sampled_violations(case: Case, analysis: Any) -> list[str]:
    """Where values that others sampled contradict the analysis of f."""
    sampled = case.baseline["boxes"].get(case.box, {}).get("sampled", {})
    found = []
    if sampled.get("l2", 0.0) > analysis.lipschitz * (1 + SAMPLED_ROUNDING):
        found.append(f"ℓ of f {analysis.lipschitz:.6g} < sampled {sampled['l2']:.6g}")
    lo, hi = (np.asarray(side).ravel() for side in jax.tree.leaves(analysis.range))
    slack = SAMPLED_ROUNDING * (1 + np.abs(lo) + np.abs(hi))
    if "out_min" in sampled and (
        np.any(np.array(sampled["out_min"]) < lo - slack)
        or np.any(np.array(sampled["out_max"]) > hi + slack)
    ):
        found.append("the range of f leaves out sampled values")
    return found


def widths(case: Case, analysis: Any) -> dict[str, float]:
    """Mean width of the range of f, over that which auto_LiRPA's methods give."""
    lo, hi = jax.tree.leaves(analysis.range)
    methods = case.baseline["boxes"].get(case.box, {}).get("value", {})
    return {
        method: float(np.mean(hi - lo)) / methods[method]["mean_width"]
        for method in WIDTHS
        if methods.get(method) and methods[method].get("mean_width")
    }


def examine(case: Case, say: Callable[[str], None]) -> dict[str, Any]:
    """All figures of one network on one box."""
    x = jax.ShapeDtypeStruct(case.lo.shape, jnp.float64)
    say("analyse")
    start = time.perf_counter()
    analysis = jaxsmooth.analyze(case.function, case.bounds)(case.params, x)
    analysed = time.perf_counter()
    say("certify")
    smoothed = jaxsmooth.smooth(case.function, EPS, case.bounds)
    certificate = smoothed.certificate(case.params, x)
    certified = time.perf_counter()
    say("attack")
    found = attack(case, smoothed, blurred(case, certificate))
    attacked = time.perf_counter()

    proved = {name: float(getattr(certificate, name)) for name in found}
    violations = sampled_violations(case, analysis)
    for name, value in found.items():
        if value > proved[name] * (1 + ROUNDING) + (1e-12 * proved["bound"]):
            violations.append(f"{name}: certified {proved[name]:.9g} < found {value:.9g}")
    if certificate.error > EPS:
        violations.append(f"error {certificate.error} > eps")
    excess = float(certificate.lipschitz) / case.product
    return {
        "net": case.net,
        "box": case.box,
        "certified": proved,
        "found": found,
        "ratio": {n: proved[n] / v if v > 0 else None for n, v in found.items()},
        "analysis": {"bound": float(analysis.bound), "lipschitz": float(analysis.lipschitz)},
        "range_width_over": widths(case, analysis),
        "product_of_norms": case.product,
        "lipschitz_over_product": excess,
        "target": TARGETS[case.net],
        "met": excess <= TARGETS[case.net],
        "sites": [
            {
                "path": s.path,
                "mu": float(np.max(s.mu, initial=0.0)),
                "share": float(s.share),
                "weight": float(s.weight),
                "active": int(s.active),
                "size": s.size,
            }
            for s in certificate.sites
        ],
        "violations": violations,
        "seconds": {
            "analyze": round(analysed - start, 2),
            "certificate": round(certified - analysed, 2),
            "attack": round(attacked - certified, 2),
        },
    }


def table(rows: list[dict[str, Any]]) -> Table:
    def ratio(row: dict[str, Any], name: str) -> str:
        value = row["ratio"][name]
        return "exact" if value is None else f"{value:.3g}"

    result = Table(title=f"eps = {EPS:g}; “/” is certified over found")
    headings = (
        "network, box, range × IBP, × CROWN, m, /, error, /, ℓ, /, ℓ × product of norms, L, /, "
        "active, analyze s, certify s"
    )
    for heading in headings.split(", "):
        result.add_column(heading)
    for row in rows:
        c = row["certified"]
        active = sum(s["active"] for s in row["sites"])
        size = sum(s["size"] for s in row["sites"])
        verdict = "pass" if row["met"] else "FAIL"
        result.add_row(
            row["net"], row["box"],
            *(f"{row['range_width_over'].get(method, math.nan):.3g}" for method in WIDTHS),
            f"{c['bound']:.3g}", ratio(row, "bound"),
            f"{c['error']:.3g}", ratio(row, "error"),
            f"{c['lipschitz']:.3g}", ratio(row, "lipschitz"),
            f"{row['lipschitz_over_product']:.4g} (<= {row['target']:g}: {verdict})",
            f"{c['smoothness']:.3g}", ratio(row, "smoothness"),
            f"{active} of {size}",
            f"{row['seconds']['analyze']:.1f}", f"{row['seconds']['certificate']:.1f}",
        )  # fmt: skip
    return result


def machine() -> dict[str, Any]:
    """What kind of machine this is, without its name."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        model = named[0].split(":", 1)[1].strip() if named else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system()}


def load_nets(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("nets", folder / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=Path, default=os.environ.get("JAXSMOOTH_NETS"))
    parser.add_argument(
        "--json",
        type=Path,
        help="file to write; by default results/public_networks.json, and none with --only",
    )
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="one network")
    arguments = parser.parse_args()
    console = Console()
    if arguments.nets is None or not (Path(arguments.nets) / "nets.py").exists():
        console.print(
            "skipped: the folder of the public networks is not there; name it with --nets or "
            "JAXSMOOTH_NETS"
        )
        return 0
    output = arguments.json
    if output is None and not arguments.only:
        output = Path(__file__).parent / "results" / "public_networks.json"

    jax.config.update("jax_enable_x64", True)
    folder = Path(arguments.nets)
    nets = load_nets(folder)
    baselines = json.loads((folder / "baselines.json").read_text())
    names = arguments.only or list(TARGETS)
    start = time.perf_counter()
    rows = []
    with Progress(console=console) as progress:
        everything = list(cases(nets, baselines, names))
        bar = progress.add_task("networks", total=len(everything))
        for case in everything:

            def say(stage: str, at: Case = case) -> None:
                progress.update(bar, description=f"{at.net} {at.box}: {stage}")

            rows.append(examine(case, say))
            progress.advance(bar)
            for text in rows[-1]["violations"]:
                progress.console.print(f"VIOLATED {case.net} {case.box}: {text}", markup=False)
    console.print(table(rows))
    seconds = time.perf_counter() - start
    violated, missed = (
        sum(bool(r["violations"]) for r in rows),
        sum(not r["met"] for r in rows),
    )
    console.print(f"{seconds:.0f} s; contradicted: {violated}; targets missed: {missed}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "versions": _compat.versions(),
            "machine": machine(),
            "seed": SEED,
            "eps": EPS,
            "kernel": "minimax",
            "dtype": "float64",
            "seconds": round(seconds, 1),
            "rows": rows,
        }
        text = json.dumps(_finite(record), indent=1, ensure_ascii=False)
        output.write_text(text + "\n")
    return int(violated > 0)


def _finite(value: Any) -> Any:
    """The record, with None for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    raise SystemExit(main())
