"""Programs that compute with complex numbers: evaluated as they are, analysed as pairs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import ball, box, fixed, smooth
from jaxsmooth.program.graph import trace
from jaxsmooth.program.normal import normalise
from jaxsmooth.program.pairs import is_complex
from tests.soundness.trees import attack


def like(x):
    """The complex type of a real array's precision."""
    return jnp.result_type(x.dtype, jnp.complex64)


def state_space(x):
    """A linear recurrence with a complex state, whose outputs have kinks."""
    decay = jnp.exp(-0.1 + 1j * jnp.arange(3.0)).astype(like(x))

    def step(state, u):
        state = decay * state + u
        return state, jnp.abs(state).sum() + jax.nn.relu(state.real.sum())

    state, ys = lax.scan(step, jnp.zeros(3, decay.dtype), x)
    return ys + jnp.abs(state).sum()


def known_slices(x):
    turns = jnp.exp(1j * jnp.arange(x.size)).astype(like(x))

    def step(state, slices):
        u, turn = slices
        return state * turn + u * turn, jnp.abs(state)

    state, sizes = lax.scan(step, jnp.zeros((), turns.dtype), (x, turns), reverse=True)
    return sizes.sum() + state.imag


def stacked_states(x):
    z = jnp.fft.fft(x)
    _, states = lax.scan(lambda s, u: (s + u, s * 1j), jnp.zeros((), z.dtype), z)
    return jnp.abs(states).sum()


def turned_by_a_counter(x):
    def body(i, z):
        return z * jnp.exp(1j * i / 8).astype(z.dtype) + 0.1 * jnp.abs(z)

    return jnp.abs(lax.fori_loop(0, 4, body, jnp.fft.fft(x))).sum()


def nested_loops(x):
    def outer(z, turn):
        return lax.scan(lambda z, t: (z * t, jnp.abs(z)), z * turn, turn * jnp.ones(2, z.dtype))

    z = jnp.fft.fft(x)
    z, sizes = lax.scan(outer, z, jnp.exp(1j * jnp.arange(3.0)).astype(z.dtype))
    return sizes.sum() + z.real[0]


def branches(x):
    z = jnp.fft.fft(x)
    chosen = lax.cond(x.size > 3, lambda z: 2 * z, lambda z: z.conj(), z)
    return jnp.abs(chosen).sum()


def rematerialised(x):
    return jax.checkpoint(lambda x: jnp.abs(1j * jnp.fft.fft(x)))(x).sum()


def custom_derivative(x):
    @jax.custom_jvp
    def size(z):
        return jnp.abs(z)

    size.defjvps(lambda t, ans, z: (t * jnp.conj(z)).real / jnp.maximum(ans, 1e-6))
    return size(jnp.fft.fft(x)).sum()


def stopped(x):
    z = jnp.fft.fft(x)
    return jnp.abs(lax.stop_gradient(z) * z).sum() + jnp.abs(lax.stop_gradient(1j * z)).sum()


def norms(x):
    z = jnp.fft.rfft(x)
    by_squares = jnp.sqrt(jnp.sum(jnp.abs(z) ** 2))
    by_conjugates = jnp.sqrt((z * z.conj()).real)
    return jnp.linalg.norm(z) + by_squares + by_conjugates.sum()


def rotary(q, k):
    """Positions as rotations of pairs of features, and a kink behind the scores."""

    def turned(x):
        size = x.shape[-1] // 2
        angles = jnp.outer(jnp.arange(x.shape[0]), 0.01 ** (jnp.arange(size) / size))
        turns = lax.complex(jnp.cos(angles), jnp.sin(angles)).astype(like(x))
        z = lax.complex(x[..., 0::2], x[..., 1::2]) * turns
        return jnp.stack([z.real, z.imag], -1).reshape(x.shape)

    return jax.nn.relu(turned(q) @ turned(k).T)


def mapped(x):
    return jax.vmap(lambda r: jnp.abs(jnp.fft.ifft(r)).max())(jnp.stack([x, 2 * x]))


def of_a_kink(x):
    """Complex numbers behind a site, and a site behind these."""
    return jnp.abs(jnp.fft.fft(jax.nn.relu(x)) / (2 + 1j)).max()


def known_and_complex(x):
    filter_ = jnp.fft.fft(jnp.arange(x.size, dtype=x.dtype)) / 8
    return jax.nn.relu(jnp.fft.ifft(jnp.fft.fft(x) * filter_).real)


PROGRAMS = {
    f.__name__: (f, (ball(1.0),) * n, (np.ones(s),) * n)
    for f, n, s in [
        (state_space, 1, 6), (known_slices, 1, 6), (stacked_states, 1, 5),
        (turned_by_a_counter, 1, 5), (nested_loops, 1, 4), (branches, 1, 5),
        (rematerialised, 1, 5), (custom_derivative, 1, 5), (stopped, 1, 5), (norms, 1, 5),
        (rotary, 2, (3, 4)), (mapped, 1, 6), (of_a_kink, 1, 5), (known_and_complex, 1, 6),
    ]
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PROGRAMS)
def test_attacked(name, dtype):
    f, bounds, args = PROGRAMS[name]
    with jax.enable_x64(dtype is np.float64):
        attack(f, bounds, *(a.astype(dtype) for a in args), eps=0.1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_complex_is_left(name):
    f, _, args = PROGRAMS[name]
    graph, _ = trace(f, args)
    normal = normalise(graph, {}, list(graph.inputs))
    atoms = [a for e in normal.all_equations() for a in (*e.inputs, *e.outputs)]
    assert atoms
    assert not any(map(is_complex, atoms))


def test_sizes_are_smoothed_where_they_are_0():
    """The slope of |z| at 0 is 0 in f_eps, and its value is the kernel's."""
    f_eps = smooth(lambda x: jnp.abs(jnp.fft.rfft(x)).sum(), 0.1, ball(1.0))
    zero = jnp.zeros(8)
    assert abs(float(f_eps(zero)) - 0.1) < 1e-6
    assert np.all(jax.grad(f_eps)(zero) == 0)
    (site,) = f_eps.certificate(zero).sites
    assert site.active == 5


def test_sizes_away_from_0_are_kept():
    f_eps = smooth(lambda x: jnp.abs(3 + jnp.fft.fft(x)).sum(), 0.1, ball(1.0))
    assert f_eps.certificate(jnp.ones(4)).error == 0.0


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, lambda f: jax.jit(jax.vmap(f))])
def test_transforms(transform):
    def f(x):
        return jnp.abs(jnp.fft.rfft(x)).sum()

    f_eps, x = smooth(f, 0.1, ball(1.0)), np.eye(4, dtype=np.float32)
    if transform is jax.jit:
        x = x[0]
    assert np.all(abs(transform(f_eps)(x) - transform(f)(x)) <= 0.1 + 1e-5)


def test_derivatives_agree_with_differences():
    with jax.enable_x64(True):
        f_eps = smooth(lambda x: jnp.abs(jnp.fft.rfft(x)).sum(), 0.1, ball(1.0))
        x = np.array([0.01, 0.0, -0.02, 0.01])
        step = 1e-6
        differences = [(f_eps(x + step * e) - f_eps(x - step * e)) / (2 * step) for e in np.eye(4)]
        assert np.allclose(jax.grad(f_eps)(x), differences, atol=1e-6)


def test_known_weights_are_folded():
    """Parameters that are fixed make known complex numbers."""
    w = np.array([[0.3, -0.4], [0.0, 0.5], [0.1, 0.2]])

    def f(w, x):
        return jax.nn.relu(jnp.fft.irfft(jnp.fft.rfft(x) * lax.complex(w[:, 0], w[:, 1]), 4))

    with jax.enable_x64(True):
        found = smooth(f, 0.1, (fixed(w), box(-1.0, 1.0))).certificate(w, np.ones(4))
    assert 0.5 <= found.lipschitz <= 0.5 * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_arguments_may_be_known(dtype):
    w = np.array([0.3 - 0.4j, 0.5j, 0.1 + 0.2j], dtype)

    def f(w, x):
        return jax.nn.relu(jnp.fft.irfft(jnp.fft.rfft(x) * w["w"] * w["one"], 4))

    with jax.enable_x64(dtype is np.complex128):
        bounds = (fixed({"w": w, "one": 1 + 0j}), box(-np.ones(4, w.real.dtype), 1.0))
        f_eps = smooth(f, 0.1, bounds)
        found = f_eps.certificate()
        x = np.linspace(-1, 1, 4, dtype=w.real.dtype)
        given = {"w": w, "one": dtype(1)}
        assert np.all(abs(f_eps(given, x) - f(given, x)) <= 0.1)
        assert np.all(f_eps(x) == f_eps(given, x))
        with pytest.raises(jaxsmooth.ArgumentError, match="declared fixed"):
            f_eps({"w": 2 * w, "one": dtype(1)}, x)
    assert 0.5 <= found.lipschitz * (1 + 1e-6) <= 0.5 * (1 + 1e-5)
    assert "complex" in found.assumptions[0]


def test_complex_arguments_and_results_are_to_be_pairs():
    z = np.ones(3, np.complex64)
    with pytest.raises(jaxsmooth.BoundsError, match="real and imaginary part"):
        smooth(jnp.abs, 0.1, ball(1.0))(z)
    with pytest.raises(jaxsmooth.ArgumentError, match="real and imaginary parts"):
        smooth(lambda x: 1j * x, 0.1, ball(1.0))(np.ones(3, np.float32))


def test_a_while_of_complex_numbers_that_does_not_end():
    def f(x):
        z = lax.while_loop(lambda z: jnp.abs(z).max() < 3, lambda z: 2 * z, jnp.fft.fft(x))
        return z.real

    with pytest.raises(jaxsmooth.JaxsmoothError, match="while") as found:
        smooth(f, 0.1, ball(1.0))(np.ones(3, np.float32))
    assert "test_complex.py" in str(found.value)
