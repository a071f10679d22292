"""What the certificates say of the end point: minimal within eps, in which neighbourhood.

    python -m benchmarks.experiments.minimality mlp --eps 1 --data-dir DIR

If ‖∇F_eps(û)‖η + Lη²/2 ≤ eps and F_eps is L-smooth on the ball of radius η around û, then
F_eps(û) is within eps of its least value there; and since |F − F_eps| ≤ eps on it, F(û) is
within 3·eps of F's. L is certified on the ball itself, around the trained weights, and so
is the accuracy: eps is what the trained μ amount to there.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsmooth
from benchmarks.experiments import records
from benchmarks.experiments.__main__ import RESULTS, experiment_of, parser
from benchmarks.experiments.data import Split, prepare
from benchmarks.experiments.networks import Network, layer_norms, logistic
from benchmarks.experiments.runs import Experiment
from benchmarks.experiments.settings import REGULARISATION

_BATCH = 500
_ROUNDS = 12  # of radius and constant, in turn


def radius(gradient: float, smoothness: float, eps: float) -> float:
    """The largest η with gradient·η + smoothness·η²/2 ≤ eps."""
    # This form of the root does not cancel.
    return 2 * eps / (gradient + math.sqrt(gradient**2 + 2 * smoothness * eps))


def local_certificate(
    network: Network, end: Any, eta: float, bound: float, mu: dict[str, float]
) -> jaxsmooth.Certificate:
    """The loss of one example, smoothed with the trained μ, on the η-ball around û."""

    def objective(u: Any, x: jax.Array) -> jax.Array:
        return logistic(network.apply(u, x), 0)

    set_ = (jaxsmooth.ball(eta, center=end), jaxsmooth.ball(bound))
    smoothed = jaxsmooth.smooth(objective, 1e30, set_, allocation=mu, argnums=0)
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), end)
    return smoothed.certificate(shapes, jax.ShapeDtypeStruct(network.input_shape, float))


def gradient_norm(network: Network, end: Any, mu: np.ndarray, split: Split) -> float:
    """‖∇F_eps(û)‖₂ over the split; the batches are added in 64 bits."""

    @jax.jit
    def of_batch(u: Any, images: jax.Array, labels: jax.Array) -> Any:
        def total(u: Any) -> jax.Array:
            logits = jax.vmap(lambda x: network.apply(u, x, jnp.asarray(mu)))(
                prepare(network.name, images)
            )
            return jnp.sum(jax.vmap(logistic)(logits, labels))

        return jax.grad(total)(u)

    sums = [np.zeros(leaf.shape) for leaf in jax.tree.leaves(end)]
    count = len(split) // _BATCH * _BATCH
    for start in range(0, count, _BATCH):
        part = slice(start, start + _BATCH)
        found = of_batch(end, split.images[part], split.labels[part])
        sums = [a + np.asarray(g, float) for a, g in zip(sums, jax.tree.leaves(found), strict=True)]
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(end)]
    total = [g / count + REGULARISATION * u for g, u in zip(sums, leaves, strict=True)]
    return math.sqrt(sum(float(np.sum(t**2)) for t in total))


def study(experiment: Experiment, eps: float) -> dict[str, Any]:
    """The statement for the first trained seed."""
    budget, network = experiment.budget, experiment.network
    kept = experiment.store.kept("training-0")
    certified = experiment.store.finished("certificates")
    if kept is None or certified is None:
        raise SystemExit("nothing is trained yet: run the experiment first")
    lane = budget.training_accuracies.index(eps)
    like = network.init(jax.random.key(0))
    end = jax.tree.unflatten(jax.tree.structure(like), [leaf[0, lane] for leaf in kept])
    row = list(certified["eps"]).index(eps)
    mu, bound = certified["mu"][row], float(certified["input norm"])
    norm = gradient_norm(network, end, mu, experiment.images.train)
    worst = float(certified["L"][row]) + REGULARISATION
    result: dict[str, Any] = {
        "eps": eps,
        "gradient norm": norm,
        "on the recorded balls": {"L": worst, "eta": radius(norm, worst, eps)},
        "norms": records.rounded(np.asarray(layer_norms(end))),
    }
    chosen = {str(path): float(m) for path, m in zip(certified["paths"], mu, strict=True)}
    # The constant grows with the ball: the largest ball that its own constant allows.
    eta, best = radius(norm, worst, eps), None
    for _ in range(_ROUNDS):
        found = local_certificate(network, end, eta, bound, chosen)
        smoothness = float(found.smoothness) + REGULARISATION
        allowed = radius(norm, smoothness, float(found.error))
        if allowed >= eta:
            best = {"L": smoothness, "eta": eta, "eps": float(found.error)}
        if abs(allowed - eta) <= 0.01 * eta:
            break
        eta = math.sqrt(eta * allowed)
    result["on the ball around the end point"] = best
    return result


def main() -> int:
    """The command line; returns the exit status."""
    command = parser("python -m benchmarks.experiments.minimality", str(__doc__))
    command.add_argument("--eps", type=float, default=1.0, help="a trained accuracy")
    options = command.parse_args()
    experiment = experiment_of(options)
    output = options.output or RESULTS / f"experiments-{options.network}-minimality.json"
    result = records.environment() | study(experiment, options.eps)
    Path(output).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
