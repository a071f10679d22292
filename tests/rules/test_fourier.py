"""Fourier transforms: soundness by samples, and constants that are attained."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import ball, box, fixed, smooth
from tests.rules.sampling import Ball, Box, analysed, check, close
from tests.soundness.trees import attack


def parts(z):
    return jnp.stack([z.real, z.imag], -1)


def joined(x):
    return lax.complex(x[..., 0], x[..., 1])


TRANSFORMS = {
    "fft": (lambda x: jnp.fft.fft(x), [Ball((8,))]),
    "fft of odd length": (lambda x: jnp.fft.fft(x), [Box((7,), -0.3, 1)]),
    "fft of complex": (lambda x: jnp.fft.fft(joined(x)), [Ball((6, 2))]),
    "ifft": (lambda x: jnp.fft.ifft(joined(x)), [Box((6, 2))]),
    "fft of length one": (lambda x: jnp.fft.fft(x), [Box((1,))]),
    "first axis": (lambda x: jnp.fft.fft(x, axis=0), [Box((3, 4))]),
    "cut": (lambda x: jnp.fft.fft(x, 5), [Ball((8,))]),
    "padded": (lambda x: jnp.fft.rfft(x, 8), [Ball((5,))]),
    "rfft": (lambda x: jnp.fft.rfft(x), [Ball((8,))]),
    "rfft of odd length": (lambda x: jnp.fft.rfft(x), [Box((2, 7))]),
    "irfft": (lambda x: jnp.fft.irfft(joined(x)), [Ball((5, 2))]),
    "irfft to odd length": (lambda x: jnp.fft.irfft(joined(x), 7), [Box((4, 2))]),
    "ortho": (lambda x: jnp.fft.rfft(x, norm="ortho"), [Ball((8,))]),
    "fft2": (lambda x: jnp.fft.fft2(x), [Ball((3, 4))]),
    "rfft2": (lambda x: jnp.fft.rfft2(x), [Box((3, 4))]),
    "irfft2": (lambda x: jnp.fft.irfft2(joined(x)), [Box((3, 3, 2))]),
    "rfftn": (lambda x: jnp.fft.rfftn(x), [Ball((2, 3, 4))]),
    "irfftn": (lambda x: jnp.fft.irfftn(joined(x), (2, 3, 5)), [Ball((2, 3, 3, 2))]),
    "shifted": (lambda x: jnp.fft.fftshift(jnp.fft.fft(x)), [Ball((6,))]),
    "hfft": (lambda x: jnp.fft.hfft(joined(x)), [Ball((4, 2))]),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_sound(name):
    f, sets = TRANSFORMS[name]
    check(lambda *xs: parts(z) if jnp.iscomplexobj(z := f(*xs)) else z, *sets)


ATTAINED = {
    "fft": (lambda x: parts(jnp.fft.fft(x)), (8,), math.sqrt(8)),
    "ifft": (lambda x: parts(jnp.fft.ifft(joined(x))), (8, 2), 1 / math.sqrt(8)),
    "rfft": (lambda x: parts(jnp.fft.rfft(x)), (9,), 3.0),
    "irfft": (lambda x: jnp.fft.irfft(joined(x)), (5, 2), math.sqrt(2 / 8)),
    "irfft of its own conjugates": (lambda x: jnp.fft.irfft(joined(x), 2), (2, 2), math.sqrt(0.5)),
    "fft2": (lambda x: parts(jnp.fft.fft2(x)), (3, 4), math.sqrt(12)),
    "irfft2": (lambda x: jnp.fft.irfft2(joined(x)), (3, 3, 2), math.sqrt(2 / 12)),
    "there and back": (lambda x: jnp.fft.irfft(jnp.fft.rfft(x), 7), (7,), 1.0),
    "there and back, all parts": (lambda x: parts(jnp.fft.ifft(jnp.fft.fft(joined(x)))), (5, 2), 1),
    "to a finer grid": (lambda x: jnp.fft.irfft(jnp.fft.rfft(x), 16), (8,), 1.0),
    "masked": (
        lambda x: jnp.fft.irfft(jnp.where(np.arange(5) % 2 == 0, jnp.fft.rfft(x), 0), 8), (8,), 1.0,
    ),
    "low pass": (lambda x: jnp.fft.irfft(jnp.fft.rfft(x).at[3:].set(0), 9), (9,), 1.0),
    "hilbert": (lambda x: jnp.fft.irfft(-1j * jnp.fft.rfft(x), 9), (9,), 1.0),
    "energy": (lambda x: jnp.sum(jnp.abs(jnp.fft.fft(x)) ** 2), (8,), 16.0),
    "energy by conjugates": (lambda x: (lambda z: (z * z.conj()).real.sum())(jnp.fft.fft(x)),
                             (8,), 16.0),
    "norm": (lambda x: jnp.linalg.norm(jnp.fft.fft(x)), (8,), math.sqrt(8)),
}  # fmt: skip


def norm_seen(f, shape):
    """Largest slope found at random points of the unit sphere."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        points = rng.normal(size=(30, *shape))
        points /= np.linalg.norm(points.reshape(30, -1), axis=1).reshape(-1, *[1] * len(shape))
        # The longest vectors are constant ones.
        points[0] = 1 / math.sqrt(points[0].size)
        flat = jax.vmap(jax.jacfwd(lambda x: f(x).reshape(-1)))(points)
    return np.linalg.norm(np.asarray(flat).reshape(30, flat.shape[1], -1), 2, axis=(1, 2)).max()


@pytest.mark.parametrize("name", ATTAINED)
def test_attained(name):
    f, shape, expected = ATTAINED[name]
    found = analysed(f, Ball(shape))
    assert close(found.lipschitz, expected)
    assert close(norm_seen(f, shape), expected, 1e-9) or norm_seen(f, shape) > expected * (1 - 1e-9)


def test_known_factors_count_by_their_largest_modulus():
    w = np.array([0.3 - 0.4j, 1 + 2j, 0.1j, -0.5, 1 - 1j])
    found = check(lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * w), Ball((8,)))
    assert close(found.lipschitz, abs(1 + 2j), 1e-6)


def test_known_matrices_count_by_their_largest_norm():
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 2, 4)) + 1j * rng.normal(size=(3, 2, 4))

    def layer(x):
        spectrum = jnp.einsum("ki,kio->ko", jnp.fft.rfft(x, axis=0)[:3], w)
        return jnp.fft.irfft(jnp.pad(spectrum, ((0, 2), (0, 0))), 8, axis=0)

    found = check(layer, Ball((8, 2)))
    assert close(found.lipschitz, np.linalg.norm(w, 2, axis=(1, 2)).max(), 1e-6)


WRITTEN = {
    "pad": lambda y: jnp.pad(y, ((0, 0), (0, 2))),
    "at set": lambda y: jnp.zeros((4, 5), y.dtype).at[:, :3].set(y),
    "at set in both axes": lambda y: jnp.zeros((4, 5), y.dtype).at[:4, :3].set(y),
    "concatenate": lambda y: jnp.concatenate([y, jnp.zeros((4, 2), y.dtype)], 1),
    "update slice": lambda y: lax.dynamic_update_slice(jnp.zeros((4, 5), y.dtype), y, (0, 0)),
    "transposed": lambda y: jnp.pad(y.T[:, ::-1], ((0, 2), (0, 0))).T,
    "reshaped": lambda y: jnp.pad(y.reshape(2, 2, 3), ((0, 0), (0, 0), (0, 2))).reshape(4, 5),
    "sum over the others": lambda y: jnp.pad(y.sum(0, keepdims=True) / 2, ((0, 3), (0, 2))),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_truncated_spectra_are_isometric(name):
    """However the high frequencies are dropped, a layer's constant is the one of its weights."""
    found = check(
        lambda x: jnp.fft.irfft2(WRITTEN[name](0.5j * jnp.fft.rfft2(x)[:, :3]), (4, 8)),
        Ball((4, 8)),
    )
    assert found.lipschitz <= 0.5 * (1 + 1e-9)


def test_spectra_that_are_read_elsewhere_too():
    def f(x):
        z = jnp.fft.rfft(x)
        return jnp.concatenate([jnp.fft.irfft(2 * z, 8), z.imag, jnp.abs(z) ** 2])

    check(f, Ball((8,)))


def operator(params, x):
    """A Fourier neural operator: two spectral layers with skips."""
    h = x
    for spectral, skip in params:
        w = lax.complex(spectral[..., 0], spectral[..., 1])
        spectrum = jnp.fft.rfft(h, axis=0)
        low = jnp.einsum("ki,kio->ko", spectrum[: w.shape[0]], w)
        low = jnp.pad(low, ((0, spectrum.shape[0] - w.shape[0]), (0, 0)))
        h = jax.nn.relu(jnp.fft.irfft(low, h.shape[0], axis=0) + h @ skip)
    return h.mean(0)


def operator_parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    layers = [[rng.normal(size=(3, 2, 2, 2)), rng.normal(size=(2, 2))] for _ in range(2)]
    return jax.tree.map(lambda a: (0.4 * a / np.linalg.norm(a)).astype(dtype), layers)


PROGRAMS = {
    "operator": (operator, (ball(1.0), box(-1.0, 1.0)), (operator_parameters(), np.ones((8, 2)))),
    "trained operator": (
        lambda x: operator(operator_parameters(), x), (box(-1.0, 1.0),), (np.ones((8, 2)),),
    ),
    "spectral loss": (lambda x: jnp.abs(jnp.fft.rfft(x)).sum(), (ball(1.0),), (np.ones(8),)),
    "distance of spectra": (
        lambda x, y: jnp.abs(jnp.abs(jnp.fft.rfft(x)) - jnp.abs(jnp.fft.rfft(y))).mean(),
        (ball(1.0), box(-1.0, 1.0)), (np.ones(6), np.ones(6)),
    ),
    "convolution": (
        lambda x, k: jax.nn.relu(jnp.fft.irfft(jnp.fft.rfft(x, 12) * jnp.fft.rfft(k, 12)))[:6],
        (ball(1.0), ball(1.0)), (np.ones(6), np.ones(6)),
    ),
    "correlation": (
        lambda x, y: jnp.max(jnp.fft.ifft(jnp.fft.fft(x) * jnp.fft.fft(y).conj()).real),
        (ball(1.0), ball(1.0)), (np.ones(6), np.ones(6)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PROGRAMS)
def test_attacked(name, dtype):
    f, bounds, args = PROGRAMS[name]
    with jax.enable_x64(dtype is np.float64):
        args = jax.tree.map(lambda a: a.astype(dtype), args)
        attack(f, bounds, *args, eps=0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_operator_in_training(dtype):
    with jax.enable_x64(dtype is np.float64):
        params, x = operator_parameters(dtype), jnp.ones((8, 2), dtype)
        f_eps = smooth(operator, 0.05, (ball(1.0), fixed(x)))
        slope = jax.jit(jax.grad(lambda p: f_eps(p, x).sum()))(params)
        away = float(jnp.abs(f_eps(params, x) - operator(params, x)).max())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    assert away <= 0.05
    assert f_eps.certificate(params, x).error <= 0.05


def test_a_traced_budget():
    """What is traced is computed in the ambient precision."""

    def error(eps):
        f_eps = smooth(lambda x: jnp.abs(jnp.fft.rfft(x)).sum(), eps, (ball(1.0),))
        return f_eps.certificate(jnp.ones(8)).smoothness

    with jax.enable_x64(True):
        assert np.allclose(jax.jit(error)(0.1), error(0.1))


def test_large_transforms():
    """Beyond the size of matrices that are made."""
    n = 2048
    found = analysed(lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * 0.5), Ball((n,)))
    assert close(found.lipschitz, 0.5)
    lo, hi = found.range
    assert hi.max() <= 0.5 * (1 + 1e-9)
    assert lo.min() >= -0.5 * (1 + 1e-9)


def test_a_transform_of_an_unbounded_signal():
    f = jaxsmooth.analyze(lambda x: parts(jnp.fft.fft(x)), jaxsmooth.anything())
    found = f(jax.ShapeDtypeStruct((4,), np.float32))
    assert close(found.lipschitz, 2.0)
    assert np.isinf(found.bound)
