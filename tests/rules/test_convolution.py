"""Convolutions in full generality: groups of channels and of images, dilations, transposes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.rules.sampling import Ball, Box, check

NUMBERS = ("NHC", "HIO", "NHC")
# Options, shape of the images, shape of the kernel.
FORMS = {
    "images in groups": ({"batch_group_count": 2}, (2, 4, 1), (2, 1, 2)),
    "images in groups, strided": (
        {"batch_group_count": 2, "window_strides": (2,)}, (2, 5, 2), (3, 2, 2),
    ),
    "four images in two groups": ({"batch_group_count": 2}, (4, 3, 1), (2, 1, 2)),
    "channels in groups": ({"feature_group_count": 2}, (1, 4, 2), (2, 1, 4)),
    "transposed": ({"lhs_dilation": (2,), "padding": ((1, 2),)}, (1, 3, 1), (3, 1, 2)),
    "dilated": ({"rhs_dilation": (2,), "padding": ((2, 0),)}, (1, 5, 1), (2, 1, 2)),
    "cropped": ({"padding": ((-1, 1),)}, (1, 5, 2), (2, 2, 1)),
}  # fmt: skip


def convolve(options, x, k):
    keywords = {"window_strides": (1,), "padding": "VALID", **options}
    return lax.conv_general_dilated(x, k, dimension_numbers=NUMBERS, **keywords)


@pytest.mark.parametrize("name", FORMS)
def test_known_kernels(name):
    options, images, kernel = FORMS[name]
    k = np.random.default_rng(0).normal(size=kernel)
    found = check(lambda x: convolve(options, x, jnp.asarray(k)), Ball(images))
    check(lambda x: convolve(options, x, jnp.asarray(k)), Box(images, -0.1, 1.0), points=20)
    with jax.enable_x64(True):
        jacobian = jax.jacobian(lambda x: convolve(options, x, jnp.asarray(k)))(jnp.zeros(images))
    size = int(np.prod(images))
    exact = np.linalg.norm(np.asarray(jacobian).reshape(-1, size), 2)
    assert exact * (1 - 1e-9) <= found.lipschitz <= exact * (1 + 1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_kernels_that_vary(name):
    options, images, kernel = FORMS[name]
    check(lambda x, k: convolve(options, x, k), Ball(images), Ball(kernel), points=30)


def test_gradient_of_a_grouped_convolution_in_its_kernel():
    """It is the convolution that has groups of images."""
    x = np.random.default_rng(0).normal(size=(2, 5, 2))

    def f(k):
        y = lambda k: convolve({"feature_group_count": 2}, jnp.asarray(x), k)  # noqa: E731
        out, pull = jax.vjp(y, k)
        return pull(0.3 * out)[0]

    check(f, Ball((2, 1, 4)), points=30)
