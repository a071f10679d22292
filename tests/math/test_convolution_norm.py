"""Norms of convolutions against dense matrices of zero-padded ones."""

import itertools
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxsmooth.math import symbol_norm as symbol_norm_module
from jaxsmooth.math.convolution_norm import bilinear_convolution_norm, convolution_norm
from jaxsmooth.math.symbol_norm import symbol_norm


def taps_along(size, kernel, stride, lhs, rhs, low, high):
    """0/1 array (outputs, inputs, taps) of one axis, from the definition."""
    dilated = (size - 1) * lhs + 1
    outputs = (dilated + low + high - (kernel - 1) * rhs - 1) // stride + 1
    table = np.zeros((max(outputs, 0), size, kernel))
    for n, k in itertools.product(range(max(outputs, 0)), range(kernel)):
        m, rest = divmod(stride * n + rhs * k - low, lhs)
        if rest == 0 and 0 <= m < size:
            table[n, m, k] = 1.0
    return table


def dense_convolution(kernel, sizes, strides, pads, lhs=None, rhs=None, groups=1):
    """Matrix (outputs, inputs) of the convolution of one example, channels first."""
    dims = kernel.ndim - 2
    lhs, rhs = lhs or (1,) * dims, rhs or (1,) * dims
    blocks = []
    for group in np.split(kernel, groups, axis=-1):
        matrix = group
        for d in range(dims):
            table = taps_along(sizes[d], group.shape[d], strides[d], lhs[d], rhs[d], *pads[d])
            matrix = np.tensordot(matrix, table, axes=([0], [2]))
        order = [1, *range(2, 2 + 2 * dims, 2), 0, *range(3, 3 + 2 * dims, 2)]
        matrix = matrix.transpose(order)
        rows = math.prod(matrix.shape[: dims + 1])
        blocks.append(matrix.reshape(rows, math.prod(matrix.shape[dims + 1 :])))
    rows = sum(block.shape[0] for block in blocks)
    columns = sum(block.shape[1] for block in blocks)
    total, i, j = np.zeros((rows, columns)), 0, 0
    for block in blocks:
        total[i : i + block.shape[0], j : j + block.shape[1]] = block
        i, j = i + block.shape[0], j + block.shape[1]
    return total


def same(kernel, rhs=1):
    total = (kernel - 1) * rhs
    return total // 2, total - total // 2


@pytest.mark.parametrize(
    ("stride", "lhs", "rhs", "groups"),
    [
        (1, 1, 1, 1),
        (2, 1, 1, 1),
        (1, 2, 1, 1),
        (1, 1, 2, 2),
        (3, 2, 1, 1),
    ],
)
def test_the_dense_matrix_is_that_of_jax(stride, lhs, rhs, groups):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2, 2, 4))
    sizes, pads = (5, 4), ((1, 0), (2, 1))
    inputs = rng.normal(size=(1, 2 * groups, *sizes))
    expected = lax.conv_general_dilated(
        inputs.astype(np.float32),
        kernel.astype(np.float32),
        (stride, 1),
        pads,
        lhs_dilation=(lhs, 1),
        rhs_dilation=(rhs, 1),
        dimension_numbers=("NCHW", "HWIO", "NCHW"),
        feature_group_count=groups,
    )
    matrix = dense_convolution(kernel, sizes, (stride, 1), pads, (lhs, 1), (rhs, 1), groups)
    np.testing.assert_allclose(matrix @ inputs.ravel(), expected.ravel(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [(1, 1), (2, 3), (3, 2)])
def test_one_axis_within_one_percent_of_a_large_input(size, stride, channels):
    kernel = np.random.default_rng(size).normal(size=(size, *channels))
    true = np.linalg.norm(dense_convolution(kernel, (90,), (stride,), (same(size),)), 2)
    bound = convolution_norm(kernel, strides=(stride,))
    assert true <= bound <= 1.01 * true
    known = convolution_norm(kernel, strides=(stride,), input_spatial=(90,))
    assert true <= known <= 1.01 * true


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 3), (2, 3), (4, 4), (1, 5)])
def test_two_axes(shape, stride, padding):
    kernel = np.random.default_rng(7).normal(size=(*shape, 2, 3))
    pads = tuple(same(k) if padding == "SAME" else (0, 0) for k in shape)
    true = np.linalg.norm(dense_convolution(kernel, (15, 15), (stride, stride), pads), 2)
    for sizes in (None, (15, 15)):
        bound = convolution_norm(kernel, strides=(stride, stride), input_spatial=sizes)
        assert true <= bound <= 1.05 * true


def test_three_axes_and_none():
    rng = np.random.default_rng(8)
    kernel = rng.normal(size=(2, 2, 3, 1, 2))
    pads = tuple(same(k) for k in (2, 2, 3))
    true = np.linalg.norm(dense_convolution(kernel, (6, 6, 6), (1, 2, 1), pads), 2)
    assert true <= convolution_norm(kernel, strides=(1, 2, 1)) <= 1.12 * true
    known = convolution_norm(kernel, strides=(1, 2, 1), input_spatial=(6, 6, 6))
    assert true <= known <= 1.12 * true
    matrix = rng.normal(size=(4, 3))
    assert np.linalg.norm(matrix, 2) <= convolution_norm(matrix)
    assert convolution_norm(matrix) <= np.linalg.norm(matrix, 2) * (1 + 1e-6)


@settings(max_examples=80, deadline=None)
@given(
    size=st.integers(1, 9),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    lhs=st.integers(1, 4),
    rhs=st.integers(1, 4),
    low=st.integers(-1, 5),
    high=st.integers(0, 4),
    groups=st.integers(1, 2),
    seed=st.integers(0, 999),
)
def test_any_dilation_stride_and_padding(size, kernel, stride, lhs, rhs, low, high, groups, seed):
    weights = np.random.default_rng(seed).normal(size=(kernel, 2, 2 * groups))
    matrix = dense_convolution(weights, (size,), (stride,), ((low, high),), (lhs,), (rhs,), groups)
    true = np.linalg.norm(matrix, 2) if matrix.size else 0.0
    options = {
        "strides": (stride,),
        "lhs_dilation": (lhs,),
        "rhs_dilation": (rhs,),
        "feature_group_count": groups,
    }
    for sizes in (None, (size,)):
        bound = convolution_norm(weights, **options, input_spatial=sizes)
        assert bound >= true * (1 - 1e-13)


@pytest.mark.parametrize(("stride", "lhs", "rhs"), [(1, 1, 1), (2, 1, 1), (1, 3, 1), (2, 3, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_traced_kernel(stride, lhs, rhs, groups):
    kernel = np.random.default_rng(14).normal(size=(4, 2, 2 * groups)).astype(np.float32)
    options = {
        "strides": (stride,),
        "lhs_dilation": (lhs,),
        "rhs_dilation": (rhs,),
        "feature_group_count": groups,
    }
    known = convolution_norm(kernel, **options)
    traced = float(jax.jit(lambda k: convolution_norm(k, **options))(kernel))
    assert known * (1 - 2e-3) <= traced <= 1.1 * 2 * known
    gradient = jax.jit(jax.grad(lambda k: convolution_norm(k, **options)))(kernel * 0)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("stride", "lhs", "rhs"),
    [
        (1, 2, 1),
        (1, 3, 1),
        (1, 1, 3),
        (2, 1, 2),
        (2, 3, 1),
        (2, 2, 1),
        (4, 2, 3),
        (3, 3, 2),
    ],
)
def test_dilated_convolutions_are_sharp(stride, lhs, rhs):
    kernel = np.random.default_rng(9).normal(size=(4, 2, 2))
    # The worst over all paddings is what is bounded.
    true = max(
        np.linalg.norm(dense_convolution(kernel, (80,), (stride,), ((low, 9),), (lhs,), (rhs,)), 2)
        for low in range(4)
    )
    bound = convolution_norm(kernel, strides=(stride,), lhs_dilation=(lhs,), rhs_dilation=(rhs,))
    assert true <= bound <= 1.01 * true


def test_transposed_convolution_is_the_adjoint():
    kernel = np.random.default_rng(10).normal(size=(4, 3, 2))
    flipped = np.swapaxes(kernel[::-1], 1, 2)
    forward = convolution_norm(kernel, strides=(2,))
    assert convolution_norm(flipped, lhs_dilation=(2,)) == pytest.approx(forward, rel=2e-3)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_scale_and_degenerate_kernels(scale):
    kernel = np.random.default_rng(11).normal(size=(3, 3, 2, 2))
    bound = convolution_norm(kernel)
    assert convolution_norm(kernel * scale) == pytest.approx(bound * scale, rel=1e-9)
    assert convolution_norm(np.zeros((3, 2, 2))) == 0.0
    assert convolution_norm(np.zeros((3, 0, 2))) == 0.0
    assert convolution_norm(np.full((3, 1, 1), np.inf)) == np.inf
    assert convolution_norm(np.full((3, 1, 1), np.nan)) == np.inf
    assert 3.0 <= convolution_norm(np.ones((3, 1, 1))) <= 3.0 * (1 + 2e-3)
    # An isometry: the norm is the same at every frequency.
    delta = np.zeros((3, 3, 4, 4))
    delta[1, 1] = np.eye(4)
    assert 1.0 <= convolution_norm(delta) <= 1.0 + 3e-3


def test_groups_of_channels_and_of_the_batch():
    kernel = np.random.default_rng(12).normal(size=(3, 3, 2, 6))
    parts = [convolution_norm(part) for part in np.split(kernel, 3, axis=-1)]
    for name in ("feature_group_count", "batch_group_count"):
        assert convolution_norm(kernel, **{name: 3}) == pytest.approx(max(parts), rel=2e-3)


def test_many_channels_are_bounded_by_windows(monkeypatch):
    kernel = np.random.default_rng(13).normal(size=(3, 2, 2, 3))
    true = convolution_norm(kernel)
    monkeypatch.setattr(symbol_norm_module, "_SECONDS", 0.0)
    assert true * (1 - 2e-3) <= convolution_norm(kernel) <= 1.5 * true
    monkeypatch.setattr(symbol_norm_module, "_MOST_SECONDS", 0.0)
    assert true * (1 - 2e-3) <= convolution_norm(kernel) <= math.sqrt(6) * true


@pytest.mark.parametrize("lengths", [(2,), (7,), (3, 2), (5, 5), (3, 1), (1, 4), (2, 2, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_supremum_over_frequencies(lengths, seed):
    taps = np.random.default_rng(seed).normal(size=(math.prod(lengths), 2, 2, 3))
    places = np.indices(lengths).reshape(len(lengths), -1)
    turns = np.random.default_rng(seed + 10).uniform(size=(4000, len(lengths)))
    symbols = np.tensordot(np.exp(2j * np.pi * turns @ places), taps, axes=1)
    found = np.max(np.linalg.norm(symbols, 2, axis=(-2, -1)))
    bound = symbol_norm(taps, lengths, [None] * len(lengths))
    assert found <= bound <= 1.03 * found
    # Only the frequencies of a circle of five.
    turns = np.indices((5,) * len(lengths)).reshape(len(lengths), -1).T / 5
    symbols = np.tensordot(np.exp(2j * np.pi * turns @ places), taps, axes=1)
    found = np.max(np.linalg.norm(symbols, 2, axis=(-2, -1)))
    on_circle = symbol_norm(taps, lengths, [5] * len(lengths))
    assert found * (1 - 1e-12) <= on_circle <= bound * (1 + 1e-12)
    if min(lengths) > 2:  # few enough to be looked at one by one
        assert on_circle <= found * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 8),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    lhs=st.integers(1, 4),
    rhs=st.integers(1, 4),
    low=st.integers(0, 5),
    high=st.integers(0, 4),
    seed=st.integers(0, 999),
)
def test_bilinear_norm_is_not_exceeded(size, kernel, stride, lhs, rhs, low, high, seed):
    table = taps_along(size, kernel, stride, lhs, rhs, low, high)
    options = {"strides": (stride,), "lhs_dilation": (lhs,), "rhs_dilation": (rhs,)}
    bound = bilinear_convolution_norm((kernel,), **options)
    sized = bilinear_convolution_norm(
        (kernel,), **options, input_spatial=(size,), output_spatial=table.shape[:1]
    )
    assert sized <= bound
    if not table.size:
        return
    # Alternating maximisation of <y, conv(x, k)> over unit vectors.
    rng = np.random.default_rng(seed)
    x, k = np.abs(rng.normal(size=size)), np.abs(rng.normal(size=kernel))
    value = 0.0
    for _ in range(60):
        y = np.einsum("nmk,m,k->n", table, x, k)
        x = np.einsum("nmk,n,k->m", table, y, k)
        k = np.einsum("nmk,n,m->k", table, y, x)
        norms = [np.linalg.norm(v) for v in (x, k)]
        if not all(norms):
            return
        x, k = x / norms[0], k / norms[1]
        value = np.linalg.norm(np.einsum("nmk,m,k->n", table, x, k))
    assert value <= sized * (1 + 1e-12)


def test_bilinear_norm_is_attained_on_long_inputs():
    for kernel, stride in ((3, 1), (4, 2), (5, 5), (3, 2)):
        table = taps_along(400, kernel, stride, 1, 1, 0, 0)
        taps = np.zeros(kernel)
        taps[::stride] = 1.0  # the taps that one residue of the inputs meets
        taps /= np.linalg.norm(taps)
        value = np.linalg.norm(np.tensordot(table, taps, axes=1), 2)
        bound = bilinear_convolution_norm((kernel,), strides=(stride,))
        assert value <= bound * (1 + 1e-12)
        assert value >= 0.999 * bound
    product = bilinear_convolution_norm((3, 5), strides=(1, 2))
    assert product == pytest.approx(3.0)
    assert bilinear_convolution_norm(()) >= 1.0
    assert bilinear_convolution_norm((7, 7), input_spatial=(1, 1)) == pytest.approx(1.0)
