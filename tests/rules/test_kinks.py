"""Rules of kinks: max, min, abs, clamp, functions of one variable, and maxima over windows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from tests.rules.sampling import Ball, Box, analysed, check, close, jacobian_gap

KERNELS = ("paper", "centered", "minimax", "softplus", "c2")


def pool(x, window, stride, operation=lax.max, initial=-jnp.inf):
    return lax.reduce_window(x, initial, operation, window, stride, "VALID")


TWO = {
    "max": jnp.maximum,
    "min": jnp.minimum,
    "abs of the difference": lambda x, y: jnp.abs(x - y),
    "clip": lambda x, y: jnp.clip(x, -0.3, 0.4) + y,
    "clamp": lambda x, y: lax.clamp(-0.3, x, 0.4) * y,
    "clamp between what varies": lambda x, y: lax.clamp(x - 0.5, y, x + 0.2),
    "max of rows": lambda x, y: jnp.maximum(x[:, None], y[None, :]),
    "max with one": lambda x, y: jnp.maximum(x, y[:1]),
    "largest": lambda x, y: jnp.max(x) * y,
    "smallest": lambda x, y: jnp.min(x + y, keepdims=True),
    "pooled": lambda x, y: pool(x - y, (2,), (1,)),
}


@pytest.mark.parametrize("name", TWO)
def test_values_and_slopes(name):
    check(TWO[name], Ball((3,)), Box((3,), -0.7, 0.9), smooth=False)
    check(TWO[name], Box((3,), 0.1, 0.3), Box((3,), 0.2, 0.9), smooth=False)


# All kernels where they are used as they stand, two elsewhere.
SMOOTHED = [
    (name, kernel)
    for name in TWO
    for kernel in KERNELS
    if name in ("max", "pooled", "clamp") or kernel in ("paper", "minimax")
]


@pytest.mark.parametrize(("name", "kernel"), SMOOTHED)
def test_smoothed(name, kernel):
    """Error, slope and secants of the slope along segments, against the certificate."""
    f, eps = TWO[name], 0.1
    sets = Ball((3,)), Box((3,), -0.7, 0.9)
    with jax.enable_x64(True):
        f_eps = jaxsmooth.smooth(f, eps, tuple(s.declared for s in sets), kernel=kernel)
        certificate = f_eps.certificate(*(np.zeros(3) for _ in sets))
        rng = np.random.default_rng(1)
        xs = [np.stack([s.sample(rng) for _ in range(80)]) for s in sets]
        # Between neighbours that are near ties, where the curvature is.
        near = [x + 0.01 * rng.normal(size=x.shape) * 0.5 for x in xs]
        near = [near[0] / np.maximum(1, np.linalg.norm(near[0], axis=1))[:, None], near[1]]
        near[1] = np.clip(near[1], -0.7, 0.9)
        away = np.asarray(jax.vmap(f_eps)(*xs) - jax.vmap(f)(*xs)).reshape(80, -1)
        jacobian = jax.jit(jax.vmap(jax.jacfwd(f_eps, (0, 1))))

        def joined(points):
            return np.concatenate(
                [np.asarray(j).reshape(80, -1, 3) for j in jacobian(*points)], axis=2
            )

        a, b = joined(xs), joined(near)
    distance = np.sqrt(sum(((p - q) ** 2).sum(1) for p, q in zip(xs, near, strict=True)))
    assert np.linalg.norm(away, axis=1).max() <= certificate.error + 1e-9 <= eps + 1e-8
    assert np.linalg.norm(a, 2, axis=(1, 2)).max() <= certificate.lipschitz + 1e-9
    secants = np.linalg.norm(b - a, 2, axis=(1, 2)) / distance
    assert secants.max() <= certificate.smoothness * (1 + 1e-7)


def test_maximum_over_overlapping_windows_doubles():
    found = check(lambda x: pool(x, (3, 3), (2, 2)), Ball((7, 7)), smooth=False, points=20)
    assert close(found.lipschitz, 2.0)


def test_maximum_over_disjoint_windows():
    found = check(lambda x: pool(x, (2, 2), (2, 2)), Ball((4, 4)), smooth=False)
    assert close(found.lipschitz, 1.0)
    assert close(found.bound, 1.0)


def test_largest_entry_over_a_mapped_axis():
    """A collective over the axis of a vmap, of which JAX has no derivative, is a maximum."""
    f = jax.vmap(lambda x: lax.pmax(x, "i"), axis_name="i", out_axes=None)
    found, plain = (jaxsmooth.smooth(g, 0.1, jaxsmooth.ball(1.0)) for g in (f, jnp.max))
    x = jnp.array([0.3, 0.3, -0.2])
    assert found.certificate(x).smoothness == plain.certificate(x).smoothness
    np.testing.assert_array_equal(jax.grad(found)(x), jax.grad(plain)(x))


def test_largest_entry():
    found = check(jnp.max, Ball((6,)), smooth=False)
    assert close(found.lipschitz, 1.0)
    (site,) = found.sites
    assert site.active == 1


def test_entries_that_cannot_win_have_no_slope():
    """Near the largest or not: f_eps leaves them out, as the analysis does."""
    shift = np.array([0.0, 0.0, -0.201])
    box = jaxsmooth.box(-0.1 * np.ones(3), 0.1)
    f_eps = jaxsmooth.smooth(lambda x: jnp.max(x * jnp.array([1.0, 1.0, 50.0]) * 0.02
                                               + shift), 0.5, box)  # fmt: skip
    slope = jax.grad(f_eps)(jnp.array([0.1, -0.1, 0.1]))
    assert slope[2] == 0
    assert np.linalg.norm(slope) <= f_eps.certificate().lipschitz * (1 + 1e-6)


def test_elements_away_from_the_kink_are_exact():
    found = analysed(lambda x: jax.nn.relu(x + np.array([0.0, 2.0, -2.0])), Box((3,)))
    assert found.sites[0].active == 1


# Functions of one variable whose parts have a derivative of their own at the kink.
TIES = {
    "relu": jax.nn.relu,
    "max": lambda x: jnp.maximum(x, 0),
    "abs": jnp.abs,
    "leaky_relu": jax.nn.leaky_relu,
    "leaky_relu of slope 2": lambda x: jax.nn.leaky_relu(x, 2.0),
    "selu": jax.nn.selu,
    "elu": lambda x: jax.nn.elu(x, 2.0),
    "select": lambda x: jnp.where(x < 0, -0.3 * x, x),
    "select on the other side": lambda x: jnp.where(x <= 0, 0.2 * x, x),
    "relu minus relu": lambda x: jax.nn.relu(x) - 0.5 * jax.nn.relu(x),
    "relu minus max": lambda x: jax.nn.relu(x) - 0.5 * jnp.maximum(x, 0),
    "abs minus relu": lambda x: jnp.abs(x) - 0.5 * jax.nn.relu(x),
    "logaddexp of relu": lambda x: jnp.logaddexp(jax.nn.relu(x), x),
}


@pytest.mark.parametrize("kernel", ["paper", "minimax"])
@pytest.mark.parametrize("name", TIES)
def test_slope_has_no_jump_at_the_kink_itself(name, kernel):
    with jax.enable_x64(True):
        f_eps = jaxsmooth.smooth(TIES[name], 0.01, jaxsmooth.ball(1.0), kernel=kernel)
        certificate = f_eps.certificate(np.float64(0.0))
        gap = jacobian_gap(f_eps, [0.0], 1e-7)
    assert gap <= certificate.smoothness * (1 + 1e-3)
    assert len(certificate.sites) == 1


@pytest.mark.parametrize("f", [jax.nn.leaky_relu, jax.nn.elu, jax.nn.silu, jax.nn.gelu,
                               jax.nn.selu, jax.nn.hard_swish, jax.nn.softplus])  # fmt: skip
def test_activations(f):
    check(f, Box((4,), -3.0, 2.0), smooth=False)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_range_that_ends_at_a_kink(side):
    """There f has the slope of one side only, and f_eps half of the jump on top."""
    f = lambda x: jnp.where(x * side > 0, x, 0.0)  # noqa: E731
    set_ = jaxsmooth.box(-1.0, 0.0) if side > 0 else jaxsmooth.box(0.0, 1.0)
    f_eps = jaxsmooth.smooth(f, 0.1, (set_,))
    certificate = f_eps.certificate(jnp.zeros(3))
    slope = jax.jacobian(f_eps)(jnp.zeros(3))
    assert jnp.linalg.norm(slope, 2) >= 0.4
    assert jnp.linalg.norm(slope, 2) <= certificate.lipschitz


CURVED = {
    "selu": jax.nn.selu,
    "elu with a kink": lambda x: jax.nn.elu(x, 2.0),
    "|tanh|": lambda x: jnp.abs(jnp.tanh(x)),
    "|x² - 1/2|": lambda x: jnp.abs(x**2 - 0.5),
    "where(x > 0, sin, 2x)": lambda x: jnp.where(x > 0, jnp.sin(x), 2 * x),
}


@pytest.mark.parametrize("name", CURVED)
def test_smoothed_versions_of_curved_pieces_are_no_steeper(name):
    """Between the slopes of both sides of a kink, and within what relu_ν' is off the step."""
    f, eps = CURVED[name], 0.05
    with jax.enable_x64(True):
        f_eps = jaxsmooth.smooth(f, eps, jaxsmooth.box(-2.0, 2.0))
        certificate = f_eps.certificate(np.zeros(1))
        x = jnp.linspace(-2, 2, 20_001)
        derivative = lambda g: jax.vmap(jax.grad(lambda t: g(t[None])[0]))(x)  # noqa: E731
        steepest, found = (float(jnp.abs(derivative(g)).max()) for g in (f, f_eps))
        error = float(jnp.abs(jax.vmap(lambda t: f_eps(t[None]) - f(t[None]))(x)).max())
    assert error <= eps * (1 + 1e-12)
    assert found <= certificate.lipschitz * (1 + 1e-12)
    assert certificate.lipschitz <= 1.01 * steepest


def test_clamp_between_bounds_that_cross():
    """x is smoothed against the lower bound also where the upper one overrides both."""
    with jax.enable_x64(True):
        sets = (jaxsmooth.box(0.0, 2.0), jaxsmooth.box(1.5, 3.0), jaxsmooth.box(0.0, 1.0))
        f_eps = jaxsmooth.smooth(lax.clamp, 1.0, sets)
        slopes = np.asarray(jax.grad(f_eps, (0, 1, 2))(1.1, 1.5, 1.0))
        certificate = f_eps.certificate(1.1, 1.5, 1.0)
    assert abs(slopes[1]) > 0.2
    for argument, slope in enumerate(slopes):
        assert abs(slope) <= certificate.lipschitz_per_argument[argument]


def test_clamp_on_traced_sets():
    def constants(h):
        f_eps = jaxsmooth.smooth(lambda x: lax.clamp(-0.5, x, 0.5), 0.1, jaxsmooth.box(-h, h))
        return f_eps.certificate(jnp.zeros(3)).lipschitz

    # Wherever it is, x may be inside.
    assert jax.jit(constants)(1.0) == pytest.approx(constants(1.0), rel=1e-5)
    assert jax.jit(constants)(0.4) == pytest.approx(constants(0.4), rel=1e-5)


@pytest.mark.parametrize(
    ("f", "eps"),
    [
        (jnp.abs, 1e-20),
        (jax.nn.relu, 1e-20),
        # In units of its jump the kink has less.
        (lambda x: jnp.where(x > 0, 1e4 * x, 0.0), 1e-16),
        (lambda x: jnp.clip(x, -0.5, 0.5), 2e-19),
        (lambda x: jnp.max(jnp.stack([x, -x, 0.5 * x])), 1e-20),
    ],
)
def test_accuracies_too_small_to_be_computed_with_smooth_nothing(f, eps):
    """Their squares are 0 in single precision: f_eps has the kink of f."""
    assert smoothed_bound(f, eps) == np.inf
    assert smoothed_bound(f, 1e3 * eps) < np.inf
    with jax.enable_x64(True):
        assert smoothed_bound(f, eps) < np.inf


def smoothed_bound(f, eps):
    return jaxsmooth.smooth(f, eps, jaxsmooth.box(-1.0, 1.0)).certificate(0.0).smoothness


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
@pytest.mark.parametrize(
    "f",
    [
        jax.nn.relu6,
        jnp.abs,
        lambda x: jnp.maximum(x, 1 - x),
        lambda x: jnp.where(x > 0, x / 128, x / 64),
        lambda x: jnp.median(jnp.stack([x, 1 - x, 2 * x])),
    ],
)
def test_accuracies_too_large_to_be_computed_with(f, dtype):
    f_eps = jaxsmooth.smooth(f, 1e39, jaxsmooth.box(-2.0, 2.0))
    x = jnp.asarray(-1.0, dtype)
    certificate = f_eps.certificate(x)
    away = f_eps(x).astype(jnp.float32) - f(x).astype(jnp.float32)
    assert abs(away) <= certificate.error * (1 + 1e-3) < 1e39
    assert abs(jax.grad(f_eps)(x)) <= certificate.lipschitz
    assert abs(jax.grad(jax.grad(f_eps))(x)) <= certificate.smoothness * (1 + 1e-3) + 1e-6
