"""Rules of matrix products and convolutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.rules.sampling import Ball, Box, check, close

W = np.random.default_rng(0).normal(size=(4, 3))


def convolve(x, kernel, stride=1, padding="SAME", **options):
    return lax.conv_general_dilated(
        x[None],
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **options,
    )[0]


def test_known_matrix_has_its_spectral_norm():
    found = check(lambda x: W @ x, Ball((3,), 2.0))
    assert close(found.lipschitz, np.linalg.norm(W, 2), 1e-3)
    assert close(found.bound, 2 * np.linalg.norm(W, 2), 1e-3)


def test_affine_map_of_a_joint_ball():
    """‖W x + b‖ <= R sqrt(‖x‖² + 1), which is attained."""
    x = np.array([0.6, -0.8, 2.0])

    def f(u):
        return u[:12].reshape(4, 3) @ x + u[12:]

    found = check(f, Ball((16,), 1.5))
    assert found.lipschitz <= (1 + np.sqrt(x @ x + 1)) * (1 + 1e-9)


def test_unknown_matrix_on_a_ball():
    found = check(lambda w, x: w @ x, Ball((4, 3), 2.0), Ball((3,), 3.0))
    assert close(found.bound, 6.0)
    assert close(found.lipschitz, 13**0.5)
    assert close(found.smoothness, 1.0)


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: a @ b.T,
        lambda a, b: jnp.einsum("ij,kj->ki", a, b),
        lambda a, b: jnp.einsum("ij,ij->j", a, b),
        lambda a, b: jnp.einsum("ij,ij->", a, b),
        lambda a, b: jnp.outer(a[0], b[1]),
        lambda a, b: a @ a.T @ b,
    ],
)
def test_contractions(f):
    check(f, Ball((2, 2)), Ball((2, 2), 0.7))
    check(f, Box((2, 2)), Box((2, 2), 0.1, 0.7))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 1), (0, 2))])
def test_known_kernel(stride, padding):
    kernel = np.random.default_rng(1).normal(size=(3, 2, 2, 3))

    def f(x):
        return convolve(x, jnp.asarray(kernel, x.dtype), stride, padding)

    found = check(f, Ball((4, 5, 2)), points=20)
    with jax.enable_x64(True):
        matrix = np.asarray(jax.jacobian(f)(jnp.zeros((4, 5, 2))))
    norm = np.linalg.norm(matrix.reshape(-1, 40), 2)
    assert close(found.lipschitz, norm, 1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"padding": ((2, 1), (0, 2))},
        {"feature_group_count": 2},
        {"lhs_dilation": (1, 2), "padding": ((0, 0), (1, 1))},
        {"rhs_dilation": (2, 1)},
    ],
)
def test_unknown_kernel(options):
    groups = options.get("feature_group_count", 1)
    found = check(
        lambda x, k: convolve(x, k, **options),
        Ball((4, 3, 2)),
        Ball((2, 2, 2 // groups, 2)),
        points=25,
    )
    assert found.bound <= 2 + 1e-6  # ceil(k / s) at most


def test_bias_of_a_convolution_moves_every_position():
    found = check(lambda b: jnp.zeros((5, 5, 3)) + b, Ball((3,)))
    assert close(found.lipschitz, 5.0)
