"""Equations of complex numbers: soundness by samples, and constants that are attained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import analyze, ball, box
from tests.rules.sampling import Ball, Box, analysed, check, close


def parts(z):
    return jnp.stack([z.real, z.imag], -1)


def joined(x):
    return lax.complex(x[..., 0], x[..., 1])


_RNG = np.random.default_rng(0)
MATRIX = _RNG.normal(size=(4, 3)) + 1j * _RNG.normal(size=(4, 3))
NUMBERS = _RNG.normal(size=4) + 1j * _RNG.normal(size=4)
KERNEL = _RNG.normal(size=(3, 2, 2)) + 1j * _RNG.normal(size=(3, 2, 2))


def convolved(z, kernel):
    return lax.conv_general_dilated(
        z, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )


SMOOTH = {
    "sum": (lambda x, y: joined(x) + joined(y), [Ball((3, 2)), Box((3, 2))]),
    "difference of a real": (lambda x, y: joined(x) - y, [Ball((3, 2)), Box((3,))]),
    "1j x": (lambda x: 1j * x, [Box((3,))]),
    "x + 1j y": (lambda x, y: x + 1j * y, [Ball((3,)), Box((3,))]),
    "known factors": (lambda x: joined(x) * NUMBERS, [Ball((4, 2))]),
    "product": (lambda x, y: joined(x) * joined(y), [Ball((3, 2)), Box((3, 2), -0.5, 1)]),
    "product with a real": (lambda x, y: joined(x) * y, [Ball((3, 2)), Box((3,))]),
    "square": (lambda x: joined(x) ** 2, [Box((3, 2), -1, 2)]),
    "jnp.square": (lambda x: jnp.square(joined(x)), [Ball((3, 2))]),
    "cube": (lambda x: joined(x) ** 3, [Box((2, 2), -0.5, 1)]),
    "inverse square": (lambda x: (2 + joined(x)) ** -2, [Ball((3, 2))]),
    "first power": (lambda x: lax.integer_pow(joined(x), 1), [Ball((3, 2))]),
    "quotient": (lambda x, y: joined(x) / (2 + joined(y)), [Ball((3, 2)), Box((3, 2), -0.5, 0.5)]),
    "quotient by a number": (lambda x: joined(x) / (1 + 2j), [Ball((3, 2))]),
    "quotient by a real": (lambda x, y: joined(x) / (2 + y), [Ball((3, 2)), Box((3,))]),
    "reciprocal": (lambda x: 1 / (1.5 + joined(x)), [Box((3, 2), -0.5, 0.7)]),
    "exp of imaginary": (lambda x: jnp.exp(1j * x), [Box((3,), -2, 2)]),
    "exp": (lambda x: jnp.exp(joined(x)), [Box((3, 2), -1, 1)]),
    "squared modulus": (lambda x: jnp.abs(joined(x)) ** 2 + 0j, [Ball((3, 2))]),
    "fourth power of a modulus": (lambda x: jnp.abs(joined(x)) ** 4 + 0j, [Ball((3, 2))]),
    "modulus away from 0": (lambda x: jnp.abs(2 + joined(x)) + 0j, [Ball((3, 2))]),
    "z conj(z)": (lambda x: joined(x) * joined(x).conj(), [Ball((3, 2))]),
    "z conj(w)": (lambda x, y: joined(x) * joined(y).conj(), [Ball((3, 2)), Ball((3, 2))]),
    "norm of real part": (lambda x: jnp.sqrt(1 + joined(x).real ** 2) * 1j, [Ball((3, 2))]),
    "angle": (lambda x: jnp.angle(2 + joined(x)) + 0j, [Ball((3, 2))]),
    "known matrix": (lambda x: joined(x) @ MATRIX, [Ball((2, 4, 2))]),
    "real matrix": (lambda x, a: joined(x) @ a, [Ball((2, 4, 2)), Box((4, 3))]),
    "unknown matrix": (lambda x, a: joined(x) @ joined(a), [Ball((2, 2, 2)), Ball((2, 3, 2))]),
    "batched": (
        lambda x, a: jnp.einsum("bix,iox->box", joined(x), joined(a)),
        [Ball((2, 2, 3, 2)), Box((2, 2, 3, 2))],
    ),
    "many batches": (lambda x, a: jnp.einsum("ki,kio->ko", joined(x), joined(a)),
                     [Ball((66, 1, 2)), Ball((66, 1, 1, 2), 2.0)]),
    "vdot": (lambda x, y: jnp.vdot(joined(x), joined(y)), [Ball((4, 2)), Ball((4, 2))]),
    "known kernel": (lambda x: convolved(joined(x), KERNEL), [Ball((1, 4, 2, 2))]),
    "unknown kernel": (
        lambda x, k: convolved(joined(x), joined(k)), [Ball((1, 4, 1, 2)), Box((3, 1, 2, 2))],
    ),
    "convolve": (lambda x, k: jnp.convolve(joined(x), joined(k)), [Ball((4, 2)), Ball((3, 2))]),
}  # fmt: skip


LARGE = {"many batches", "unknown kernel", "convolve"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in SMOOTH]
)
def test_sound(name):
    f, sets = SMOOTH[name]
    check(lambda *xs: parts(f(*xs)), *sets)


STRUCTURE = {
    "reshape": lambda z: z.reshape(2, 6),
    "transpose": lambda z: z.T,
    "flip": lambda z: jnp.flip(z, 0),
    "slices": lambda z: z[1:, ::2],
    "pad": lambda z: jnp.pad(z, ((1, 0), (0, 2))),
    "pad inside": lambda z: lax.pad(z, jnp.zeros((), z.dtype), ((0, 0, 1), (-1, 2, 0))),
    "concatenate": lambda z: jnp.concatenate([z, 1j * z, jnp.ones_like(z)]),
    "stack": lambda z: jnp.stack([z, z.conj()], 1),
    "split": lambda z: jnp.split(z, 2)[1],
    "unstack": lambda z: jnp.unstack(z)[2],
    "tile": lambda z: jnp.tile(z, (2, 1)),
    "repeat": lambda z: jnp.repeat(z, 2, 1),
    "roll": lambda z: jnp.roll(z, 1, 1),
    "broadcast": lambda z: jnp.broadcast_to(z[:, None], (4, 2, 3)),
    "squeeze": lambda z: jnp.squeeze(z[None, :, :, None], (0, 3)),
    "sum": lambda z: z.sum(0),
    "mean": lambda z: z.mean(),
    "cumsum": lambda z: jnp.cumsum(z, 0),
    "window sums": lambda z: lax.reduce_window(
        z, np.zeros((), z.dtype), lax.add, (2, 1), (1, 1), "VALID"
    ),
    "gather": lambda z: z[jnp.array([0, 0, 3])],
    "gather in the middle": lambda z: z[:, jnp.array([[0, 2], [1, 1]])],
    "take along an axis": lambda z: jnp.take_along_axis(z, jnp.array([[0], [1], [2], [0]]), 1),
    "dynamic slice": lambda z: lax.dynamic_slice(z, (1, 0), (2, 2)),
    "dynamic update": lambda z: lax.dynamic_update_slice(z, 2 * z[:1], (1, 0)),
    "set": lambda z: z.at[1].set(z[0] * 1j),
    "set to 0": lambda z: z.at[:, 1].set(0),
    "add at": lambda z: z.at[jnp.array([0, 0, 1])].add(z[1:]),
    "subtract at": lambda z: z.at[jnp.array([0, 0, 1])].subtract(z[1:]),
    "where": lambda z: jnp.where(jnp.arange(3) < 2, z, 0),
    "where by a scalar": lambda z: jnp.where(jnp.array(True), z, 0),
    "barrier": lambda z: lax.optimization_barrier(z),
    "add a scalar": lambda z: z + (0.5 - 1j),
    "add a row": lambda z: z + z[:1],
    "negative": lambda z: -z,
    "parts again": lambda z: lax.complex(z.real, z.imag),
    "parts exchanged": lambda z: lax.complex(z.imag, z.real),
    "conj of real": lambda z: jnp.conj(z.real) + 0j,
    "real of real": lambda z: (z.real + 0j).real + 0j,
    "convert": lambda z: z.astype(jnp.complex64),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name):
    check(lambda x: parts(STRUCTURE[name](joined(x))), Ball((4, 3, 2)))


ATTAINED = {
    "known factors": (lambda x: parts(joined(x) * NUMBERS), (4, 2), abs(NUMBERS).max()),
    "known matrix": (lambda x: parts(joined(x) @ MATRIX), (4, 2), np.linalg.norm(MATRIX, 2)),
    "modulus": (lambda x: jnp.abs(joined(x)), (3, 2), 1.0),
    "squared modulus": (lambda x: jnp.abs(joined(x)) ** 2, (1, 2), 2.0),
    "conj": (lambda x: parts(joined(x).conj()), (3, 2), 1.0),
    "stack of other order": (lambda x: (lambda z: jnp.stack([z.imag, z.real]))(joined(x)),
                             (3, 2), 1.0),
    "exp of imaginary": (lambda x: parts(jnp.exp(1j * x)), (3,), 1.0),
    "quotient by a number": (lambda x: parts(joined(x) / (3 + 4j)), (3, 2), 0.2),
    "rotation": (lambda x: parts(joined(x) * np.exp(1j * np.arange(3.0))), (3, 2), 1.0),
    "interleaved": (lambda x: parts(lax.complex(x[0::2], x[1::2])), (6,), 1.0),
    "halves": (lambda x: parts(x[:3] + 1j * x[3:]), (6,), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTAINED)
def test_attained(name):
    f, shape, expected = ATTAINED[name]
    assert close(analysed(f, Ball(shape)).lipschitz, expected, 1e-6)


def test_products_of_two_balls():
    """|z w| <= 1 has slopes of 1 in each, and a Hessian of norm 1: none loses a factor √2."""
    found = analysed(lambda x, y: parts(joined(x) * joined(y)), Ball((1, 2)), Ball((1, 2)))
    assert close(found.lipschitz_per_argument[0], 1.0, 1e-6)
    assert close(found.lipschitz_per_argument[1], 1.0, 1e-6)
    assert close(found.smoothness, 1.0, 1e-6)


def test_divisors_that_reach_0_are_named():
    analysis = analyze(lambda x: (1 / joined(x)).real, ball(1.0))
    with pytest.raises(jaxsmooth.CertificationError, match=r"range includes 0.*real part") as found:
        analysis(jax.ShapeDtypeStruct((2, 2), np.float32))
    assert "test_complex_numbers.py" in str(found.value)


def test_divisors_on_both_sides_of_0():
    """The box of |z| <= 1 around 2i holds real parts of both signs."""
    check(lambda x: parts(1 / (2j + joined(x))), Ball((1, 2)))


@pytest.mark.parametrize(
    "f",
    [
        lambda z: jnp.tanh(z), lambda z: jnp.sqrt(z), lambda z: jnp.log(2 + z),
        lambda z: jnp.sign(z), lambda z: z**1.5, lambda z: jnp.prod(z), lambda z: jnp.sort(z),
        lambda z: jnp.where(z == 0, z, 1), lambda z: jnp.sinh(z),
        lambda z: lax.pad(z, jnp.ones((), z.dtype), ((1, 1, 0),)) * (1 + 1j),
    ],
)  # fmt: skip
def test_what_has_no_rule_is_refused(f):
    analysis = analyze(lambda x: f(joined(x)).real, box(-1.0, 1.0))
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match=r"complex numbers") as found:
        analysis(jax.ShapeDtypeStruct((3, 2), np.float32))
    assert "test_complex_numbers.py" in str(found.value)
    assert "jax.lax.complex" in str(found.value)
