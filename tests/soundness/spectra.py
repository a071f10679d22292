"""Spectral norms and singular vectors of batches of matrices."""

from __future__ import annotations

import numpy as np


def norms(matrices: np.ndarray) -> np.ndarray:
    """Spectral norms, from below where they are large; inf where an entry is not finite."""
    if 0 in matrices.shape:
        return np.zeros(len(matrices))
    finite = np.isfinite(matrices).all(axis=(1, 2))
    scale = np.where(finite, np.abs(np.nan_to_num(matrices)).max(axis=(1, 2)), 0.0)
    usual = np.where(finite & (scale > 0), scale, 1.0)[:, None, None]
    m = np.where(finite[:, None, None], np.nan_to_num(matrices), 0.0) / usual
    m = m if m.shape[1] <= m.shape[2] else m.swapaxes(1, 2)
    gram = m @ m.swapaxes(1, 2)
    if len(gram[0]) <= 10:
        square = np.linalg.eigvalsh(gram)[:, -1]
    else:
        v = gram[np.arange(len(gram)), :, np.diagonal(gram, axis1=1, axis2=2).argmax(1)]
        for _ in range(15):  # any vector bounds the norm from below
            v = unit(np.einsum("nij,nj->ni", gram, v))
        square = np.einsum("ni,nij,nj->n", v, gram, v)
    return np.where(finite, scale * np.sqrt(np.maximum(square, 0.0)), np.inf)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of norm one, or zero; squares of tiny entries must not underflow."""
    scale = np.abs(x).max(axis=-1, keepdims=True, initial=0.0)
    x = x / np.where(scale > 0, scale, 1.0)
    return x / np.where(scale > 0, np.linalg.norm(x, axis=-1, keepdims=True), 1.0)


def singular(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Approximate first singular vectors, left and right."""
    right = unit(np.abs(matrices).sum(axis=1) + 1e-300)
    for _ in range(15):
        left = unit(np.einsum("noi,ni->no", matrices, right))
        right = unit(np.einsum("noi,no->ni", matrices, left))
    return unit(np.einsum("noi,ni->no", matrices, right)), right
