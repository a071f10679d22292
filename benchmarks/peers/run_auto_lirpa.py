"""auto_LiRPA on the cases: interval bounds, and backward CROWN.

PYTHON -m benchmarks.peers.run_auto_lirpa [CASE ...], with an interpreter that has auto_LiRPA.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from auto_LiRPA import BoundedModule, BoundedTensor
from auto_LiRPA.perturbations import PerturbationLpNorm

from benchmarks.peers.protocol import Method, serve
from benchmarks.peers.table import Array, Case
from benchmarks.peers.torch_functions import FUNCTIONS


def method(name: str) -> Method:
    """One of the library's methods."""

    def bound(f: Any, case: Case) -> tuple[Any, Any]:
        los, his = (inputs(case, side) for side in case.bounds)
        centers = tuple((lo + hi) / 2 for lo, hi in zip(los, his, strict=True))
        module = BoundedModule(f, centers)
        boxes = tuple(
            BoundedTensor(x, PerturbationLpNorm(norm=math.inf, x_L=lo, x_U=hi))
            for x, lo, hi in zip(centers, los, his, strict=True)
        )
        lo, hi = module.compute_bounds(x=boxes, method=name)
        return lo.detach().numpy(), hi.detach().numpy()

    return bound


def inputs(case: Case, vector: Array) -> tuple[Any, ...]:
    return case.split(torch.tensor(vector, dtype=torch.float32))


def evaluate(f: Any, case: Case, x: Array) -> Any:
    return getattr(f, "evaluate", f)(*inputs(case, x)).detach().numpy()


if __name__ == "__main__":
    methods = {"IBP": method("IBP"), "CROWN": method("CROWN")}
    serve(FUNCTIONS, methods, evaluate, ("auto_LiRPA", "torch"))
