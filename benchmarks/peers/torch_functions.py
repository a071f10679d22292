"""The cases in PyTorch, with the same weights, as its users write them.

Every entry makes a module; a text says why PyTorch has no such function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from auto_LiRPA.jacobian import JacobianOP
from torch import nn

from benchmarks.peers.table import normal

FUNCTIONS: dict[str, nn.Module | str] = {}


class Function(nn.Module):
    """A module that is a plain function."""

    def __init__(self, f: Callable[..., Any]):
        super().__init__()
        self._f = f

    def forward(self, *inputs: Any) -> Any:
        """The function's output."""
        return self._f(*inputs)


def case(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function under the name of its case."""

    def enter(f: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS[name] = Function(f)
        return f

    return enter


def weights(name: str, *shape: int) -> Any:
    return torch.tensor(normal(name, *shape), dtype=torch.float32)


def set_(parameter: Any, value: Any) -> None:
    with torch.no_grad():
        parameter.copy_(value)


def dense(name: str, inputs: int, size: int, order: Any = None) -> nn.Linear:
    """A layer with the weights that the JAX version has; ``order`` permutes its inputs."""
    layer = nn.Linear(inputs, size)
    matrix = weights(name, inputs, size)
    set_(layer.weight, (matrix if order is None else matrix[order]).T)
    set_(layer.bias, weights(f"{name} bias", size))
    return layer


FUNCTIONS["dense ReLU network"] = nn.Sequential(
    dense("dense 1", 4, 8), nn.ReLU(), dense("dense 2", 8, 8), nn.ReLU(), dense("dense 3", 8, 3)
)
FUNCTIONS["dense ReLU network, W @ x"] = FUNCTIONS["dense ReLU network"]


class Convolutional(nn.Module):
    """Convolution, ReLU, dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 3)
        set_(self.convolution.weight, weights("convolution", 3, 3, 1, 2).permute(3, 2, 0, 1))
        set_(self.convolution.bias, weights("convolution bias", 2))
        # Channels come first here.
        order = torch.arange(32).reshape(4, 4, 2).permute(2, 0, 1).reshape(-1)
        self.dense = dense("dense after convolution", 32, 3, order)

    def forward(self, x: Any) -> Any:
        """Of images with channels last."""
        x = F.relu(self.convolution(x.reshape(1, 1, 6, 6)))
        return self.dense(x.flatten(1))


FUNCTIONS["convolutional ReLU network"] = Convolutional()


@case("max pooling")
def max_pooling(x: Any) -> Any:
    return F.max_pool2d(x.reshape(1, 1, 4, 4), 2)


@case("average pooling")
def average_pooling(x: Any) -> Any:
    return F.avg_pool2d(x.reshape(1, 1, 4, 4), 2)


def batch_normalisation() -> nn.Module:
    layer = nn.BatchNorm1d(4, eps=1e-5)
    set_(layer.running_mean, weights("mean", 4))
    set_(layer.running_var, weights("variance", 4).abs() + 0.5)
    set_(layer.weight, weights("scale", 4))
    set_(layer.bias, weights("offset", 4))
    return layer.eval()


FUNCTIONS["batch normalisation, inference"] = batch_normalisation()


def affine(layer: Any) -> Any:
    set_(layer.weight, weights("scale", 4))
    set_(layer.bias, weights("offset", 4))
    return layer


FUNCTIONS["layer normalisation"] = affine(nn.LayerNorm(4, eps=1e-1))


class GroupNormalisation(nn.Module):
    """Two groups of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = affine(nn.GroupNorm(2, 4, eps=1e-1))

    def forward(self, x: Any) -> Any:
        """Of images with channels last."""
        return self.layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


FUNCTIONS["group normalisation"] = GroupNormalisation()
FUNCTIONS["dropout with a known key"] = "PyTorch's dropout draws from a global generator"


@case("attention")
def attention(q: Any, k: Any, v: Any) -> Any:
    scores = q.matmul(k.transpose(1, 2)) / 2.0**0.5
    return F.softmax(scores, dim=-1).matmul(v)


@case("resize, bilinear")
def resize(x: Any) -> Any:
    return F.interpolate(x.reshape(1, 1, 3, 3), size=(6, 6), mode="bilinear", align_corners=False)


@case("softmax")
def softmax(x: Any) -> Any:
    return F.softmax(x, dim=-1)


@case("log_softmax")
def log_softmax(x: Any) -> Any:
    return F.log_softmax(x, dim=-1)


@case("logsumexp")
def logsumexp(x: Any) -> Any:
    return torch.logsumexp(x, dim=-1)


@case("cross-entropy")
def cross_entropy(x: Any) -> Any:
    return -(F.log_softmax(x, dim=-1) * torch.eye(4)[:1]).sum(dim=-1)


@case("Huber loss by where")
def huber(x: Any) -> Any:
    return torch.where(x.abs() <= 1, 0.5 * x**2, x.abs() - 0.5)


FUNCTIONS |= {
    "relu6": nn.ReLU6(),
    "leaky_relu": nn.LeakyReLU(0.01),
    "elu": nn.ELU(),
    "selu": nn.SELU(),
    "gelu": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(),
    "hard_swish": nn.Hardswish(),
    "softplus": nn.Softplus(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "abs": Function(torch.abs),
    "sqrt": Function(torch.sqrt),
}


@case("clip")
def clip(x: Any) -> Any:
    return x.clamp(-1.0, 1.0)


@case("sin and cos")
def sin_and_cos(x: Any) -> Any:
    return torch.sin(2 * x) + torch.cos(x)


@case("exp and log")
def exp_and_log(x: Any) -> Any:
    return torch.exp(x) + torch.log(x + 2)


@case("powers")
def powers(x: Any) -> Any:
    return x**2.5 + x**3


@case("maximum and minimum")
def maximum_and_minimum(x: Any, y: Any) -> Any:
    return torch.maximum(x, y) + torch.minimum(y, torch.tensor(0.5))


@case("division")
def division(x: Any, y: Any) -> Any:
    return x / y


@case("matmul of two inputs")
def matmul(x: Any, y: Any) -> Any:
    return x.matmul(y)


@case("2-norm")
def norm(x: Any) -> Any:
    return torch.linalg.norm(x, dim=-1)


@case("max of many")
def max_of_many(x: Any) -> Any:
    return x.amax(dim=-1)


@case("product of many")
def product_of_many(x: Any) -> Any:
    return x.prod(dim=-1)


@case("cumulative max")
def cumulative_max(x: Any) -> Any:
    return torch.cummax(x, dim=1)[0]


@case("sort")
def sort(x: Any) -> Any:
    return torch.sort(x, dim=-1)[0]


@case("top_k")
def top_k(x: Any) -> Any:
    return torch.topk(x, 2, dim=-1)[0]


@case("median")
def median(x: Any) -> Any:
    return x.median(dim=-1)[0]


@case("gather, known indices")
def gather(x: Any) -> Any:
    return x[:, torch.tensor([2, 0, 0, 3])]


@case("dynamic_slice, known start")
def dynamic_slice(x: Any) -> Any:
    return x[:, 1:3]


SEGMENTS = torch.tensor([[0, 0, 1, 2, 2, 2]])


@case("segment_sum, known segments")
def segment_sum(x: Any) -> Any:
    return torch.zeros(1, 3).scatter_add(1, SEGMENTS, x)


@case("segment_max, known segments")
def segment_max(x: Any) -> Any:
    return torch.zeros(1, 3).scatter_reduce(1, SEGMENTS, x, "amax", include_self=False)


@case("Fourier transform")
def fourier(x: Any) -> Any:
    z = torch.fft.rfft(x, dim=-1)
    return torch.cat([z.real, z.imag], dim=-1)


@case("linear solve, known matrix")
def solve(x: Any) -> Any:
    return torch.linalg.solve(weights("matrix", 3, 3) + 2 * torch.eye(3), x.reshape(3))


@case("Cholesky factor")
def cholesky(x: Any) -> Any:
    return torch.linalg.cholesky(torch.full((3, 3), 0.5) + torch.eye(3) * x)


class Recurrent(nn.Module):
    """A loop over time, which tracing unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.input = dense("input", 2, 3)
        self.recurrent = nn.Linear(3, 3, bias=False)
        set_(self.recurrent.weight, weights("recurrent", 3, 3).T)

    def forward(self, x: Any) -> Any:
        """The last state."""
        h = torch.zeros(1, 3)
        for t in range(3):
            h = torch.tanh(self.recurrent(h) + self.input(x[:, t]))
        return h


FUNCTIONS["RNN by scan"] = Recurrent()


class LSTM(nn.Module):
    """A loop over time, which tracing unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.input = dense("gates of the input", 2, 12)
        self.state = nn.Linear(3, 12, bias=False)
        set_(self.state.weight, weights("gates of the state", 3, 12).T)

    def forward(self, x: Any) -> Any:
        """The last state."""
        h = c = torch.zeros(1, 3)
        for t in range(3):
            gates = self.state(h) + self.input(x[:, t])
            i, f, g, o = (gates[:, 3 * k : 3 * k + 3] for k in range(4))
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


FUNCTIONS["LSTM by scan"] = LSTM()
_LOOP = dense("loop", 3, 3)
FUNCTIONS["fori_loop"] = nn.Sequential(*[_LOOP, nn.Tanh()] * 4)
FUNCTIONS["while, known number of steps"] = nn.Sequential(*[_LOOP, nn.ReLU()] * 3)


@case("cond, known predicate")
def cond(x: Any) -> Any:
    return F.relu(x) if torch.arange(4)[2] % 2 == 0 else -x


@case("stop_gradient, straight through")
def straight_through(x: Any) -> Any:
    return x + (x.clamp(-1.0, 1.0) - x).detach()


class GradientInside(nn.Module):
    """By the operator that auto_LiRPA has for Jacobians."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = dense("energy 1", 3, 4), dense("energy 2", 4, 1)

    def energy(self, x: Any) -> Any:
        """A small network."""
        return self.second(torch.tanh(self.first(x)))

    def forward(self, x: Any) -> Any:
        """The gradient, for bounds only: the operator has no values."""
        x = x.requires_grad_()
        return JacobianOP.apply(self.energy(x), x)

    def evaluate(self, x: Any) -> Any:
        """The gradient's values."""
        return torch.func.jacrev(self.energy)(x)


FUNCTIONS["gradient inside"] = GradientInside()
