"""Discrete Fourier transforms as real matrices between pairs of parts.

With θ_jk = 2πjk/n, along one axis of length n:

    fft    X_k = Σ_j x_j e^{-iθ_jk}                      for k < n
    ifft   x_j = (1/n) Σ_k X_k e^{iθ_jk}
    rfft   the fft of a real x, for k <= n/2
    irfft  x_j = (1/n) Σ_k c_k (Re X_k cos θ_jk - Im X_k sin θ_jk)    over k <= n/2

with c_k = 1 for the frequencies 0 and n/2, which are their own conjugates (and whose imaginary
part meets sin θ = 0: it is ignored), and c_k = 2 for all others. As real matrices all of these
have orthogonal rows or columns: the fft and its inverse are multiples of orthogonal matrices,

    ‖fft‖₂ = √n,      ‖ifft‖₂ = 1/√n,

and with U the matrix whose rows are the orthonormal cosines and sines, rfft = diag(r) U and
irfft = Uᵀ diag(g) with

    r_k = √n,  g_k = 1/√n   where c_k = 1,       r_k = √(n/2),  g_k = √(2/n)   where c_k = 2,

so that ‖rfft‖₂ = √n and ‖irfft‖₂ = √(2/n) (1/√n where n <= 2): both are attained.

In the norm of the whole spectrum, where a frequency counts as often as it or its conjugate is
there, D_k² = 1 or 2 times, D rfft and irfft D⁻¹ are isometries but for √n. Then r_k is D_k
times as large, and g_k 1/D_k times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from jaxsmooth.math.array import Array, gamma, namespace, tiny, up

# Larger matrices of cosines and sines are not made.
_MOST_ENTRIES = 2**20


@dataclass(frozen=True)
class Transform:
    """One of the four transforms along one axis.

    Attributes:
      kind: "FFT", "IFFT", "RFFT" or "IRFFT".
      length: n, the length of the real signal, or of both for the complex ones.
      counted: of the rfft and the irfft, the length of the signals whose whole spectra are
        meant: with it they are D rfft and irfft D⁻¹.
    """

    kind: str
    length: int
    counted: int | None = None

    @property
    def half(self) -> int:
        """Number of frequencies of a real signal."""
        return self.length // 2 + 1

    @property
    def real_input(self) -> bool:
        """Whether the operand is real."""
        return self.kind == "RFFT"

    @property
    def real_output(self) -> bool:
        """Whether the result is real."""
        return self.kind == "IRFFT"

    @property
    def unit(self) -> float:
        """The largest coefficient."""
        unit = {"FFT": 1.0, "IFFT": 1 / self.length}.get(self.kind)
        return float(up(np.max(self.coefficients), 4)) if unit is None else unit

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Of the rfft and the irfft, what multiplies the cosines and sines of a frequency."""
        if self.real_input:
            return self.weights
        return np.where(self.own_conjugate, 1.0, 2.0) / self.length / self.weights

    @cached_property
    def weights(self) -> np.ndarray:
        """D, or ones."""
        k = np.arange(self.half)
        if self.counted is None:
            return np.ones(self.half)
        return np.where((k == 0) | (2 * k == self.counted), 1.0, math.sqrt(2.0))

    @cached_property
    def own_conjugate(self) -> np.ndarray:
        """Which frequencies of a real signal are their own conjugates."""
        k = np.arange(self.half)
        return (k == 0) | (2 * k == self.length)

    @cached_property
    def gains(self) -> np.ndarray:
        """Of the irfft, g_k for both parts: ‖irfft X‖₂ = ‖g X‖₂. Upper bounds."""
        n = self.length
        re = np.where(self.own_conjugate, 1.0, math.sqrt(2.0)) / math.sqrt(n) / self.weights
        return up(np.stack([re, np.where(self.own_conjugate, 0.0, re)], -1), 4)

    @property
    def norm(self) -> float:
        """The 2-norm, rounded up."""
        if self.real_input:
            return float(np.max(self.rows))
        if self.real_output:
            return float(np.max(self.gains))
        root = math.sqrt(self.length)
        return float(up(root if self.kind == "FFT" else 1 / root, 4))

    @cached_property
    def rows(self) -> np.ndarray:
        """2-norms of the rows, rounded up: (results,) or (results, 2)."""
        n = self.length
        if self.kind == "FFT":
            rows = np.full((n, 2), math.sqrt(n))
        elif self.kind == "IFFT":
            rows = np.full((n, 2), 1 / math.sqrt(n))
        elif self.kind == "RFFT":
            re = np.where(self.own_conjugate, math.sqrt(n), math.sqrt(n / 2)) * self.weights
            rows = np.stack([re, np.where(self.own_conjugate, 0.0, re)], -1)
        else:
            rows = np.full(n, math.sqrt(np.sum(self.coefficients**2)))
        return up(rows, self.half + 8)

    @property
    def column(self) -> float:
        """Largest 2-norm of a column, rounded up."""
        if self.kind == "RFFT":
            # That of the entry 0, which meets cosines of one.
            return float(up(math.sqrt(np.sum(self.coefficients**2)), self.half + 8))
        return self.norm

    @property
    def column_sum(self) -> float:
        """Bound of the 1-norms of columns: |cos| + |sin| <= √2."""
        if self.real_output:
            return float(up(self.unit * self.length, 2))
        count = self.half if self.real_input else self.length
        return float(up(self.unit * count * math.sqrt(2.0), 4))

    @property
    def explicit(self) -> bool:
        """Whether its matrix is small enough to be made."""
        return self.length**2 <= _MOST_ENTRIES

    def apply(self, x: Array) -> Array:
        """The transform of (…, n) or (…, n, 2), the axis of the transform before the parts'."""
        xp = namespace(x)
        if self.explicit:
            return self._matrix(x, *_tables(self), signed=True)
        if not self.real_input:
            x = x[..., 0] + 1j * x[..., 1]
        transform = getattr(xp.fft, self.kind.lower())
        if self.real_output:
            return transform(x / self.weights, self.length)
        y = transform(x) * (self.weights if self.real_input else 1.0)
        return xp.stack([y.real, y.imag], -1)

    def rounding(self, x: Array) -> Array:
        """Elementwise bound of the rounding error of `apply`, in a shape that broadcasts.

        Sums of products in any order have the error γ_m Σ|a||x| of m roundings, m <= 2n + 2.
        The tables are off by a few units. Fast transforms (Cooley and Tukey) do fewer roundings
        on the way of every entry; where they go by a convolution (Bluestein), it takes three
        transforms of at most four times the length and a factor of at most 2n.
        """
        terms = 2 * self.length + 32
        if not self.explicit:
            terms = 32 * self.length * (4 + math.ceil(math.log2(self.length)))
        xp = namespace(x)
        axes = (-1,) if self.real_input else (-2, -1)
        total = up(xp.sum(abs(x), axis=axes), 2 * self.length)
        error = self.unit * total * gamma(terms, x) + tiny(x)
        return error[..., None] if self.real_output else error[..., None, None]

    def sizes(self, x: Array) -> Array:
        """Upper bound of |A| x for x >= 0, infinite where an infinite entry is met."""
        xp = namespace(x)
        infinite = xp.isinf(x)
        finite = xp.where(infinite, 0.0, x)
        if self.explicit:
            cosines, sines = (abs(table) for table in _tables(self))
            found = self._matrix(finite, cosines, sines, signed=False)
            found = found + self.rounding(finite)
            if xp is np and not infinite.any():
                return found
            met = self._matrix(
                xp.where(infinite, 1.0, 0.0), (cosines > 0) * 1.0, (sines > 0) * 1.0, signed=False
            )
            return xp.where(met > 0.5, np.inf, found)
        found = self._largest(finite)
        if xp is np and not infinite.any():
            return found
        return xp.where(self._largest(xp.where(infinite, 1.0, 0.0)) > 0, np.inf, found)

    def _largest(self, x: Array) -> Array:
        """|A| x with all coefficients at most the unit."""
        xp = namespace(x)
        axes = (-1,) if self.real_input else (-2, -1)
        total = up(self.unit * xp.sum(x, axis=axes), 2 * self.length + 2)
        shape = (self.length,) if self.real_output else (self.half if self.real_input
                                                         else self.length, 2)  # fmt: skip
        return xp.broadcast_to(
            total.reshape(total.shape + (1,) * len(shape)), (*total.shape, *shape)
        )

    def _matrix(self, x: Array, cosines: np.ndarray, sines: np.ndarray, signed: bool) -> Array:
        """Sums with tables of shape (operand's, result's length); without signs if wanted."""
        xp = namespace(x)
        minus = -1.0 if signed else 1.0
        if self.real_input:
            return xp.stack([x @ cosines, minus * (x @ sines)], -1)
        re, im = x[..., 0], x[..., 1]
        if self.real_output:
            return re @ cosines + minus * (im @ sines)
        # e^{-iθ} forward, e^{iθ} back.
        turn = minus if self.kind == "IFFT" else 1.0
        other = minus if self.kind == "FFT" else 1.0
        return xp.stack(
            [re @ cosines + turn * (im @ sines), other * (re @ sines) + im @ cosines], -1
        )


@lru_cache(maxsize=64)
def _tables(transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of cosines and sines, (operand's length, result's length)."""
    n, half = transform.length, transform.half
    rows = half if transform.real_output else n
    columns = half if transform.real_input else n
    places = np.outer(np.arange(rows), np.arange(columns)) % n
    angles = 2 * np.pi * np.arange(n) / n
    cosines, sines = np.cos(angles), np.sin(angles)
    # Zeros are exact: what they meet may be infinite.
    quarters = 4 * np.arange(n)
    cosines[(quarters == n) | (quarters == 3 * n)] = 0.0
    sines[(quarters == 0) | (quarters == 2 * n)] = 0.0
    factor: Any = 1 / n if transform.kind == "IFFT" else 1.0
    if transform.real_output:
        factor = transform.coefficients[:, None]
    elif transform.real_input:
        factor = transform.coefficients
    return cosines[places] * factor, sines[places] * factor
