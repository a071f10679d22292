"""Norms, rows and columns of Fourier transforms, against NumPy's transforms of unit vectors."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsmooth.math import fourier
from jaxsmooth.math.fourier import Transform

KINDS = ("FFT", "IFFT", "RFFT", "IRFFT")
TRANSFORMS = [
    Transform(kind, n, counted)
    for kind in KINDS
    for n in (1, 2, 3, 4, 7, 12)
    for counted in ((None,) if kind in ("FFT", "IFFT") else (None, n, 6))
]


def operand_shape(t: Transform) -> tuple[int, ...]:
    return (t.length,) if t.real_input else (t.half if t.real_output else t.length, 2)


def reference(t: Transform, x: np.ndarray) -> np.ndarray:
    """The transform of (N, *operand's shape), by NumPy."""
    count = np.where(
        (np.arange(t.half) == 0) | (2 * np.arange(t.half) == t.counted), 1.0, np.sqrt(2.0)
    )
    d = np.ones(t.half) if t.counted is None else count
    z = x if t.real_input else x[..., 0] + 1j * x[..., 1]
    if t.real_output:
        return np.fft.irfft(z / d, t.length)
    y = getattr(np.fft, t.kind.lower())(z)
    y = y * d if t.real_input else y
    return np.stack([y.real, y.imag], -1)


def matrix(t: Transform) -> np.ndarray:
    shape = operand_shape(t)
    size = int(np.prod(shape))
    return reference(t, np.eye(size).reshape(size, *shape)).reshape(size, -1).T


@pytest.mark.parametrize("t", TRANSFORMS, ids=str)
def test_norms_are_attained(t):
    a = matrix(t)
    assert np.allclose(t.norm, np.linalg.norm(a, 2), rtol=1e-12)
    assert np.allclose(t.rows.reshape(-1), np.linalg.norm(a, axis=1), rtol=1e-12, atol=1e-13)
    assert t.norm >= np.linalg.norm(a, 2) * (1 - 1e-14)
    assert t.column >= np.linalg.norm(a, axis=0).max() * (1 - 1e-14)
    assert t.column <= np.linalg.norm(a, axis=0).max() * 1.0000001 or t.real_output
    assert t.column_sum >= abs(a).sum(0).max() * (1 - 1e-14)
    assert t.unit >= abs(a).max() * (1 - 1e-14)


@pytest.mark.parametrize("t", [t for t in TRANSFORMS if t.real_output], ids=str)
def test_gains_give_the_norm_of_every_result(t):
    x = np.random.default_rng(0).normal(size=(20, *operand_shape(t)))
    norms = np.linalg.norm(reference(t, x), axis=1)
    by_gains = np.linalg.norm((t.gains * x).reshape(20, -1), axis=1)
    assert np.allclose(norms, by_gains, rtol=1e-12)
    assert (norms <= by_gains * (1 + 1e-13)).all()


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("t", TRANSFORMS, ids=str)
def test_values_and_sizes(t, explicit, monkeypatch):
    if not explicit:
        monkeypatch.setattr(fourier, "_MOST_ENTRIES", 0)
    assert t.explicit is explicit
    x = np.random.default_rng(1).normal(size=(5, *operand_shape(t)))
    expected = reference(t, x)
    off = abs(t.apply(x) - expected)
    assert (off <= 2 * t.rounding(x)).all()
    assert off.max() < 1e-12
    sizes = t.sizes(abs(x)).reshape(5, -1)
    exact = abs(x).reshape(5, -1) @ abs(matrix(t)).T
    assert (sizes >= exact * (1 - 1e-13)).all()
    if explicit:
        assert np.allclose(sizes, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("explicit", [True, False])
def test_what_is_unbounded_stays_where_it_is_met(explicit, monkeypatch):
    if not explicit:
        monkeypatch.setattr(fourier, "_MOST_ENTRIES", 0)
    # The imaginary part at the frequency 0 is ignored by the irfft, the one at 1 is not.
    t = Transform("IRFFT", 4)
    x = np.zeros((1, 3, 2))
    x[0, 0, 1] = np.inf
    assert np.isfinite(t.sizes(x)).all() or not explicit
    x[0, 0, 1], x[0, 1, 1] = 0.0, np.inf
    found = t.sizes(x)[0]
    assert np.isinf(found[[1, 3]]).all()
    assert not explicit or np.isfinite(found[[0, 2]]).all()
