"""Eigenvalues and singular values: attained where they can be, refused where values meet."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxsmooth
from jaxsmooth import ball, box, errors, smooth
from jaxsmooth.math.eigenvalues import singular_values, symmetric_eigenvalues
from tests.rules.sampling import Ball, Box, analysed, check, close
from tests.soundness.trees import attack


def diagonal():
    return jnp.diag(jnp.array([1.0, 4.0, 9.0]))


def moved(x):
    """Eigenvalues of a symmetric matrix near a diagonal one."""
    return jnp.linalg.eigvalsh(diagonal() + x + x.T)


def of_a_triangle(x):
    return jnp.linalg.eigvalsh(diagonal() + x, symmetrize_input=False)


def of_the_other_triangle(x):
    return jnp.linalg.eigvalsh(diagonal() + x, UPLO="U", symmetrize_input=False)


def stacked(x):
    return jnp.linalg.eigvalsh(jnp.stack([diagonal() + x @ x.T, 2 * diagonal() - x @ x.T]))


def singular(x):
    return jnp.linalg.svdvals(diagonal() + x)


def tall(x):
    return jnp.linalg.svd(jnp.eye(3, 2) * jnp.array([3.0, 1.5]) + x, compute_uv=False)


def wide(x):
    return tall(x.T)


def mapped(x):
    return jax.vmap(lambda v: jnp.linalg.eigvalsh(diagonal() + jnp.outer(v, v)))(x)


@pytest.mark.parametrize(
    ("f", "where"),
    [
        (moved, Ball((3, 3), 0.4)),
        (moved, Box((3, 3), -0.1, 0.2)),
        (of_a_triangle, Ball((3, 3), 0.7)),
        (of_the_other_triangle, Box((3, 3), -0.2, 0.1)),
        (stacked, Ball((3, 3), 0.6)),
        (singular, Ball((3, 3), 0.9)),
        (singular, Box((3, 3), -0.2, 0.1)),
        (tall, Ball((3, 2), 0.7)),
        (wide, Box((2, 3), -0.1, 0.2)),
        (mapped, Ball((4, 3), 1.0)),
    ],
)
def test_sound(f, where):
    found = check(f, where)
    assert np.isfinite(found.smoothness)


def test_in_a_network():
    def f(x):
        active = jax.nn.relu(x)
        gram = diagonal() + jnp.outer(active, active)
        return jnp.log(jnp.linalg.eigvalsh(gram)).sum() + jnp.linalg.norm(gram, "nuc")

    attack(f, box(-0.2, 0.3), jnp.zeros(3))


@pytest.mark.parametrize("values", [jnp.linalg.eigvalsh, jnp.linalg.svdvals])
def test_attained(values):
    """diag(1, 3) moved along the antidiagonal: λ = 2 ± √(1 + t²)."""
    gap, radius = 2.0, 1e-4

    def f(t):
        return values(jnp.diag(jnp.array([1.0, 1.0 + gap])) + t * jnp.array([[0, 1.0], [1.0, 0]]))

    # ‖dS‖_F = √2, so ‖d²λ‖ is √2·2/gap, and |d²λ_i| is 2/gap.
    found = analysed(f, Ball((), radius))
    assert close(found.smoothness, 2 * np.sqrt(2) / gap, 1e-3)
    assert close(analysed(lambda t: f(t)[0], Ball((), radius)).smoothness, 2 / gap, 1e-3)
    with jax.enable_x64(True):
        bend = np.asarray(jax.hessian(f)(0.0))
    assert np.linalg.norm(bend) == pytest.approx(2 * np.sqrt(2) / gap)


def test_slopes_are_attained():
    found = analysed(lambda x: jnp.linalg.eigvalsh(diagonal() + jnp.diag(x)), Ball((3,), 0.1))
    assert close(found.lipschitz, 1.0)
    lo, hi = found.range
    assert np.allclose(lo, [0.9, 3.9, 8.9])
    assert np.allclose(hi, [1.1, 4.1, 9.1])


def test_away_from_zero():
    """σ of a column is its norm, whose curvature is 1/‖x‖."""
    center = np.array([[3.0], [4.0]])
    found = analysed(lambda x: jnp.linalg.svdvals(center + x), Ball((2, 1), 1e-4))
    assert close(found.smoothness, 1 / 5, 1e-3)


def test_positive_terms_bound_the_smallest():
    found = analysed(lambda x: jnp.linalg.eigvalsh(x @ x.T + 0.5 * jnp.eye(3)), Ball((3, 3), 2.0))
    assert 0.5 * (1 - 1e-9) <= float(found.range[0].min()) <= 0.5


MEETING = {
    "eigenvalues": lambda x: jnp.linalg.eigvalsh(jnp.diag(x) + 0.1),
    "singular values": lambda x: jnp.linalg.svdvals(jnp.diag(x) + 0.1),
    "one singular value at 0": lambda x: jnp.linalg.svdvals(x[:1, None]),
    "a column at 0": lambda x: jnp.linalg.svdvals(x[:, None]),
}


@pytest.mark.parametrize("f", MEETING.values(), ids=MEETING.keys())
def test_values_that_may_meet(f):
    x = np.zeros(3)
    where = box(x - 1, x + 1)
    found = jaxsmooth.analyze(f, where)(x)
    assert np.isfinite(found.lipschitz)
    assert found.smoothness == np.inf
    with pytest.raises(errors.CertificationError, match="second-order"):
        smooth(f, 0.1, where).certificate()


def test_vectors_are_refused():
    x = np.zeros((3, 3))
    near = ball(0.1, center=x)
    for f in (
        lambda x: jnp.linalg.eigh(diagonal() + x)[1],
        lambda x: jnp.linalg.svd(diagonal() + x)[0],
        lambda x: jax.lax.linalg.eigh(diagonal() + x, subset_by_index=(0, 2))[1],
    ):
        with pytest.raises(errors.UnsupportedPrimitiveError, match="values without vectors"):
            smooth(f, 0.1, near).certificate()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.sampled_from([0, 8, 60]))
def test_enclosures_of_known_matrices(seed, rows, columns, spread):
    """Against matrices whose values are known by construction, graded and with equal ones."""
    rng = np.random.default_rng(seed)
    count = min(rows, columns)
    exact = np.sort(2.0 ** rng.integers(-spread, 1, count))[::-1]
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (rows, columns))
    # Products of reflections by numbers with few bits are exact: permutations and signs.
    flips = np.eye(rows)[rng.permutation(rows)][:, :count] * rng.choice([-1, 1], count)
    turns = np.eye(columns)[rng.permutation(columns)][:, :count]
    values, off = singular_values((flips * exact @ turns.T)[None])
    assert np.all(abs(values[0] - exact) <= off[0])
    values, off = symmetric_eigenvalues((flips * exact @ flips.T)[None])
    whole = np.sort(np.concatenate([exact, np.zeros(rows - count)]))
    assert np.all(abs(values[0] - whole) <= off[0])
    # And two computations of the same values, one of them of a rotated matrix.
    dense = (left[:, :count] * exact) @ right[:, :count].T
    values, off = singular_values(dense[None])
    assert np.all(off <= 1e-13 * rows * columns)
    assert np.all(abs(values[0] - exact) <= off[0] + 1e-14 * rows * columns)


@pytest.mark.slow
def test_traced_bounds():
    """The same constants, and their derivatives, where the radius is traced."""

    def smoothness(radius):
        bounds = ball(radius, center=np.zeros((3, 3)))
        return jaxsmooth.analyze(moved, bounds)(jnp.zeros((3, 3))).smoothness

    known = smoothness(0.2)
    traced, slope = jax.jit(jax.value_and_grad(smoothness))(0.2)
    assert float(traced) == pytest.approx(float(known), rel=1e-3)
    assert slope > 0


def test_under_transformations():
    f_eps = smooth(moved, 0.1, ball(0.4, center=np.zeros((3, 3))))
    x = 0.05 * jnp.arange(9.0).reshape(3, 3) / 9
    for transform in (lambda f: f, jax.jit, lambda f: lambda x: jax.vmap(f)(x[None])[0]):
        assert jnp.allclose(transform(f_eps)(x), moved(x), atol=1e-6)
    one, two = (jax.jacobian(f)(x) for f in (f_eps, moved))
    assert jnp.allclose(one, two, atol=1e-5)


def test_orders_of_all_kinds():
    for lower, n in itertools.product((True, False), (1, 2)):
        found = analysed(
            lambda x, lower=lower: jax.lax.linalg.eigh(
                jnp.diag(jnp.array([1.0, 5.0])[: x.shape[0]]) + x, lower=lower,
                symmetrize_input=False,
            )[1],
            Ball((n, n), 0.1),
        )  # fmt: skip
        assert np.isfinite(found.smoothness)
