"""Algorithms 1 and 2 of Roulet & Harchaoui (CISS 2021) in plain Python floats.

Written from the paper alone and sharing no code with the library, so that the two can
disagree. A network is a list of layers ``a_k ∘ … ∘ a_1 ∘ b(x, u)`` with ``b`` bi-affine;
only its constants are described here, never its weights.

Where the constants that the paper prints are loose or wrong, each constructor takes
``right``: False gives the number as printed, True what can be proved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Smoothness · μ, value at 0 over μ, and slope at 0 of the smoothed relu with sup error μ.
KERNELS = {
    "paper": (1 / 2, 0.0, 0.0),
    "centered": (1 / 8, 1.0, 1 / 2),
    "minimax": (1 / 16, 1.0, 1 / 2),
    "softplus": (math.log(2) / 4, 1.0, 1 / 2),
    "c2": (1 / 6, 1.0, 1 / 2),
}


@dataclass(frozen=True)
class BiAffine:
    """Constants of b(x, u) = β(x, u) + β_u(u) + β_x(x) + β_0.

    Attributes:
        bilinear: L_b, with ‖β(x, u)‖ ≤ L_b ‖x‖ ‖u‖.
        parameter: lᵘ = ‖∇_u b(0, 0)‖.
        input: lˣ = ‖∇_x b(0, 0)‖.
        offset: ‖b(0, 0)‖.
    """

    bilinear: float
    parameter: float
    input: float = 0.0
    offset: float = 0.0


@dataclass(frozen=True)
class Activation:
    """Constants of an activation, or of a pooling or a loss.

    Attributes:
        lipschitz: ℓ_a.
        smoothness: L_a; for a site the L of (L, K)-smoothability.
        kink: K of (L, K)-smoothability, with μ in 2-norm; 0 where smooth.
        size: number of elements of a site: μ per element is μ/√size.
        bound: m_a, the largest norm it can return.
        value_at_zero: ‖a(0)‖ (of the smoothed site: per unit of its 2-norm μ).
        slope_at_zero: ‖∇a(0)‖.
    """

    lipschitz: float = 1.0
    smoothness: float = 0.0
    kink: float = 0.0
    size: int = 1
    bound: float = math.inf
    value_at_zero: float = 0.0
    slope_at_zero: float = math.inf


@dataclass(frozen=True)
class Layer:
    """One layer: its bi-affine map, the radius R of its parameters, its activations."""

    map: BiAffine
    radius: float
    activations: tuple[Activation, ...] = ()


@dataclass(frozen=True)
class Certified:
    """What the two algorithms return.

    Attributes:
        mu: μ of each site, in 2-norm, from the input to the output.
        mu_per_element: the same, divided by √size.
        weights: Lipschitz constant of all that follows each site.
        m, lipschitz, smoothness: (m, ℓ, L) after each layer; ℓ and L with respect to the
            parameters of all layers up to it, jointly.
    """

    mu: tuple[float, ...]
    mu_per_element: tuple[float, ...]
    weights: tuple[float, ...]
    m: tuple[float, ...]
    lipschitz: tuple[float, ...]
    smoothness: tuple[float, ...]


def dense() -> BiAffine:
    """W x + b with u = (W, b); the printed constants are right."""
    return BiAffine(bilinear=1.0, parameter=1.0)


def convolution(
    window: int, stride: int = 1, positions: int = 1, *, bias: bool = True, right: bool = True
) -> BiAffine:
    """Two-dimensional convolution with a square window.

    Args:
        window: side k of the filters.
        stride: s.
        positions: number of output positions, height times width.
        bias: whether u holds a bias per output channel.
        right: False for the printed L_b = ⌈k/s⌉² and lᵘ = 1.
    """
    overlap = math.ceil(window / stride)
    if not right:
        return BiAffine(bilinear=float(overlap**2), parameter=1.0)
    return BiAffine(bilinear=float(overlap), parameter=math.sqrt(positions) if bias else 0.0)


def relu(size: int, kernel: str = "paper") -> Activation:
    """Smoothed relu of that many elements: K of a concatenation is √size·K of each."""
    kink, value, slope = KERNELS[kernel]
    return Activation(
        kink=math.sqrt(size) * kink, size=size, value_at_zero=value, slope_at_zero=slope
    )


def average_pooling(window: int, stride: int, *, right: bool = True) -> Activation:
    """Average over square windows, unpadded.

    Each output is ⟨1/k², patch⟩ ≤ ‖patch‖/k and a pixel is in at most ⌈k/s⌉² patches.
    """
    lipschitz = math.ceil(window / stride) / window if right else 1.0
    return Activation(lipschitz=lipschitz, slope_at_zero=lipschitz)


def max_pooling(size: int, window: int, stride: int, *, right: bool = True) -> Activation:
    """Maximum over square windows, smoothed by projection onto the simplex, not centred.

    With n = k² entries, parameter β: error β(1 − 1/n)/2 and smoothness 1/β for each
    output; c = ⌈k/s⌉² windows hold a pixel, so ℓ = √c and the smoothness of all the
    outputs together is √c/β.
    """
    overlap = math.ceil(window / stride) if right else 1
    entries = window**2
    per_element = (1 - 1 / entries) / 2
    return Activation(
        lipschitz=float(overlap),
        kink=math.sqrt(size) * per_element * overlap,
        size=size,
        value_at_zero=1.0,
        slope_at_zero=float(overlap),
    )


def logistic_loss(classes: int, *, right: bool = True) -> Activation:
    """log Σ exp(x) − x_y: its gradient is p − e_y, its Hessian diag(p) − p pᵀ."""
    lipschitz, smoothness = (math.sqrt(2), 1 / 2) if right else (2.0, 2.0)
    return Activation(
        lipschitz=lipschitz,
        smoothness=smoothness,
        value_at_zero=math.log(classes),
        slope_at_zero=math.sqrt(1 - 1 / classes),
    )


def softmax(classes: int, *, right: bool = True) -> Activation:
    """exp(x)/Σ exp(x): its Jacobian is diag(p) − p pᵀ, its values are at most 1 in norm.

    With c_i = v_i − ⟨p, v⟩ the second derivative of p_i along v is p_i (c_i² − var), where
    var = Σ p_i c_i² ≤ ‖v‖²/2; their sum of sizes is at most 2·var, so L ≤ 1.
    """
    lipschitz, smoothness = (1 / 2, 1.0) if right else (2.0, 4.0)
    return Activation(
        lipschitz=lipschitz,
        smoothness=smoothness,
        bound=1.0,
        value_at_zero=1 / math.sqrt(classes),
        slope_at_zero=1 / classes,
    )


def backward(layers: Sequence[Layer], eps: float) -> tuple[list[float], list[float]]:
    """Algorithm 2: μ of every site (2-norm) with equal shares of eps, and the weights."""
    sites = sum(a.kink > 0 for layer in layers for a in layer.activations)
    tail, mu, weights = 1.0, [], []
    for layer in reversed(layers):
        for activation in reversed(layer.activations):
            if activation.kink > 0:
                weights.append(tail)
                mu.append(eps / (sites * tail) if tail > 0 else math.inf)
            tail *= activation.lipschitz
        tail *= layer.radius * layer.map.bilinear + layer.map.input
    return mu[::-1], weights[::-1]


def forward(
    layers: Sequence[Layer], mu: Sequence[float], input_bound: float, *, right_m: bool = True
) -> tuple[list[float], list[float], list[float]]:
    """Algorithm 1: (m, ℓ, L) after each layer of the network smoothed with those μ.

    Args:
        layers: the network.
        mu: μ of each site in 2-norm, in the order of the layers.
        input_bound: ‖x‖.
        right_m: False counts the bilinear term of the bi-affine map twice, as printed.
    """
    remaining = iter(mu)
    m, lipschitz, smoothness = input_bound, 0.0, 0.0
    history: tuple[list[float], list[float], list[float]] = ([], [], [])
    for layer in layers:
        b, radius = layer.map, layer.radius
        l_x = b.bilinear * radius + b.input
        l_u = b.bilinear * m + b.parameter
        if right_m:
            m = b.bilinear * m * radius + b.parameter * radius + b.input * m + b.offset
        else:
            m = l_x * m + l_u * radius + b.offset
        slope, curvature = 1.0, 0.0
        for a in layer.activations:
            scale = next(remaining) if a.kink > 0 else 0.0
            smoothness_a = a.smoothness + (a.kink / scale if a.kink > 0 else 0.0)
            at_zero = a.value_at_zero * (scale if a.kink > 0 else 1.0)
            local = min(a.lipschitz, a.slope_at_zero + smoothness_a * m)
            m = min(a.bound, at_zero + local * m)
            curvature = curvature * a.lipschitz + smoothness_a * slope**2
            slope *= local
        smoothness = (
            smoothness * l_x * slope
            + l_x**2 * curvature * lipschitz**2
            + 2 * (l_u * l_x * curvature + b.bilinear * slope) * lipschitz
            + l_u**2 * curvature
        )
        lipschitz = slope * (l_x * lipschitz + l_u)
        for values, value in zip(history, (m, lipschitz, smoothness), strict=True):
            values.append(value)
    return history


def certify(
    layers: Sequence[Layer], eps: float, input_bound: float, *, right_m: bool = True
) -> Certified:
    """Algorithm 2, then Algorithm 1 with its μ."""
    mu, weights = backward(layers, eps)
    sizes = [a.size for layer in layers for a in layer.activations if a.kink > 0]
    m, lipschitz, smoothness = forward(layers, mu, input_bound, right_m=right_m)
    return Certified(
        mu=tuple(mu),
        mu_per_element=tuple(x / math.sqrt(n) for x, n in zip(mu, sizes, strict=True)),
        weights=tuple(weights),
        m=tuple(m),
        lipschitz=tuple(lipschitz),
        smoothness=tuple(smoothness),
    )


def mlp(
    radii: Sequence[float], hidden: Sequence[int], kernel: str = "paper", final: bool = False
) -> list[Layer]:
    """Dense layers with relu between them (and after the last where ``final``)."""
    active = list(hidden) if final else [*hidden, None]
    return [
        Layer(dense(), radius, () if size is None else (relu(size, kernel),))
        for radius, size in zip(radii, active, strict=True)
    ]


def convnet(radii: Sequence[float], kernel: str = "paper", *, right: bool = True) -> list[Layer]:
    """The paper's network for CIFAR-10: three times Conv 5×5, relu, AvgPool 2×2; then dense."""
    layers = []
    for radius, channels, side in zip(radii[:3], (16, 20, 20), (32, 16, 8), strict=True):
        activations = (
            relu(channels * side**2, kernel),
            average_pooling(2, 2, right=right),
        )
        layers.append(Layer(convolution(5, 1, side**2, right=right), radius, activations))
    return [*layers, Layer(dense(), radii[3])]


# Parameter norms of PAPER's table, ‖x‖ of a normalised MNIST image, hidden sizes.
MLP_RADII = (36.84, 19.01, 36.76, 5.24)
MLP_HIDDEN = (4000, 1000, 4000)
MLP_INPUT = 9.2
CONVNET_RADII = (4.17, 3.90, 4.46, 4.44)
