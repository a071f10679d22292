"""Functions of one array that compute with complex numbers."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax


def _parts(z):
    return jnp.stack([z.real, z.imag])


def _as_complex(x):
    """Numbers that move together as real and imaginary parts."""
    return lax.complex(x, 0.5 * jnp.flip(x, -1))


def _mixed_frequencies(x):
    size = x.shape[-1]
    weights = jnp.exp(1j * jnp.arange(size // 2 + 1)).astype(jnp.result_type(x.dtype, 1j))
    return jnp.fft.irfft(jnp.fft.rfft(x) * weights, size)


COMPLEX = {
    "spectrum": lambda x: _parts(jnp.fft.fft(x)) / x.shape[-1],
    "spectrum over the first axis": lambda x: jnp.fft.fft(x, axis=0).imag,
    "half spectrum": lambda x: _parts(jnp.fft.rfft(x)),
    "inverse spectrum": lambda x: _parts(jnp.fft.ifft(_as_complex(x))),
    "real inverse": lambda x: jnp.fft.irfft(_as_complex(x), 2 * x.shape[-1] - 1),
    "spectrum of all axes": lambda x: jnp.abs(jnp.fft.rfftn(x)) / x.size,
    "mixed frequencies": _mixed_frequencies,
    "low frequencies": lambda x: jnp.fft.irfft(jnp.fft.rfft(x).at[..., 2:].set(0), x.shape[-1]),
    "convolved with itself": lambda x: jnp.fft.irfft(jnp.fft.rfft(x) ** 2, x.shape[-1]),
    "autocorrelation": lambda x: jnp.fft.ifft((lambda z: z * z.conj())(jnp.fft.fft(x))).real,
    "spectral l1": lambda x: jnp.abs(jnp.fft.rfft(x)).sum(-1),
    "energy": lambda x: (jnp.abs(_as_complex(x)) ** 2).sum(-1),
    "modulus": lambda x: jnp.abs(_as_complex(x)),
    "norm of a spectrum": lambda x: jnp.linalg.norm(jnp.fft.fft(x), axis=-1),
    "rotation": lambda x: (_as_complex(x) * (0.6 + 0.8j)).real,
    "turned by itself": lambda x: (_as_complex(x) * jnp.exp(1j * x)).imag,
    "complex exponential": lambda x: _parts(jnp.exp(_as_complex(jnp.tanh(x)))),
    "quotient": lambda x: _parts(_as_complex(x) / (2 + 1j * x)),
    "quotient by a complex number": lambda x: (_as_complex(x) / (1 - 2j)).real,
    "cube of complex numbers": lambda x: (_as_complex(jnp.tanh(x)) ** 3).imag,
    "angle": lambda x: jnp.angle(2 + _as_complex(jnp.tanh(x))),
    "complex matrix": lambda x: jnp.abs(
        _as_complex(x)
        @ jnp.exp(1j * jnp.arange(x.shape[-1]))[:, None].astype(jnp.result_type(x.dtype, 1j))
    ),
    "pairs of halves": lambda x: (
        jnp.abs(lax.complex(x[..., ::2], x[..., 1::2])) if x.shape[-1] % 2 == 0 else x
    ),
    "conjugates in a row": lambda x: _parts(
        jnp.concatenate([_as_complex(x), _as_complex(x).conj()[..., ::-1]], -1)
    ),
    "complex recurrence": lambda x: lax.scan(
        lambda s, u: ((0.5 + 0.5j) * s + u, jnp.abs(s)), 0j * x[0], x
    )[1],
}
