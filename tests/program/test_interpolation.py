"""jnp.interp between known knots is one function of one variable."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import (
    DiscontinuityError,
    JaxsmoothError,
    UnsupportedPrimitiveError,
    anything,
    box,
    fixed,
    smooth,
)
from tests.soundness.trees import attack

KNOTS = np.array([-1.0, 0.5, 1.0, 2.0])
HEIGHTS = np.array([0.0, 1.0, -1.0, 0.5])


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def table(x):
    return jnp.interp(x, KNOTS, HEIGHTS)


FORMS = {
    "vector": (table, (3,)),
    "scalar": (table, ()),
    "matrix": (table, (2, 3)),
    "mapped": (jax.vmap(table), (3,)),
    "rows mapped": (jax.vmap(table), (2, 3)),
    "mapped twice": (jax.vmap(jax.vmap(table)), (2, 3)),
    "ends that meet": (lambda x: jnp.interp(x, KNOTS, HEIGHTS, left=0.0, right=0.5), (3,)),
    "one end": (jax.vmap(lambda x: jnp.interp(x, KNOTS, HEIGHTS, right=0.5)), (3,)),
    "jitted, in a sum": (jax.jit(lambda x: jnp.sum(table(2 * x))), (3,)),
}


@pytest.mark.parametrize("name", FORMS)
def test_sound(name):
    f, shape = FORMS[name]
    certificate = attack(f, box(-2.0, 3.0), jnp.zeros(shape), eps=0.02)
    (site,) = certificate.sites
    assert np.all(site.active == max(1, np.prod(shape, dtype=int)))


def test_constants_are_attained():
    """The steepest slope, and an error that is all of the budget."""
    f_eps = smooth(table, 0.02, box(-2.0, 3.0))
    x = jnp.linspace(-2.0, 3.0, 5001)[:, None]
    certificate = f_eps.certificate(x[0])
    assert certificate.lipschitz == pytest.approx(4.0, rel=1e-6)
    away = jnp.abs(jax.vmap(f_eps)(x) - table(x)).max()
    assert away <= certificate.error == pytest.approx(0.02)
    assert away >= 0.3 * certificate.error


def test_values_stay_without_a_kink_in_reach():
    f_eps = smooth(table, 0.02, box(0.55, 0.95))
    x = jnp.linspace(0.55, 0.95, 50)
    assert not f_eps.certificate(x).sites or f_eps.certificate(x).error == 0
    np.testing.assert_allclose(f_eps(x), table(x), rtol=1e-13)


@pytest.mark.parametrize("knot", [KNOTS[0], KNOTS[-1]])
@pytest.mark.parametrize("ends", [{}, {"left": 0.0, "right": 0.5}])
def test_beside_comparisons_with_its_knots(knot, ends):
    """The comparison with a knot is the program's own, which comes first and is one with it."""

    def f(x):
        return jnp.where(x < knot, knot - x, jnp.where(x > knot, x - knot, 0.0)) + jnp.interp(
            x, KNOTS, HEIGHTS, **ends
        )

    certificate = attack(f, box(-2.0, 3.0), jnp.zeros(3), eps=0.02)
    assert certificate.lipschitz <= 5 * (1 + 1e-9)


def test_again_is_the_same_one():
    """Two calls are one function of the same variable: they share a site, and may cancel."""
    certificate = smooth(lambda x: table(x) + table(x), 0.02, box(-2.0, 3.0)).certificate(
        jnp.zeros(3)
    )
    assert len(certificate.sites) == 1
    assert certificate.lipschitz == pytest.approx(8.0, rel=1e-6)
    certificate = smooth(lambda x: table(x) - jax.jit(table)(x), 0.02, box(-2.0, 3.0)).certificate(
        jnp.zeros(3)
    )
    assert certificate.lipschitz == 0


@pytest.mark.parametrize("ends", [{"left": 0.1}, {"right": 0.0}, {"left": 0.0, "right": 1.0}])
def test_ends_that_do_not_meet(ends):
    f = lambda x: jnp.interp(x, KNOTS, HEIGHTS, **ends)  # noqa: E731
    with pytest.raises(DiscontinuityError, match=r"jumps at (-1 from|2 from)"):
        smooth(f, 0.1, box(-2.0, 3.0)).certificate(jnp.zeros(3))
    assert smooth(f, 0.1, box(-0.999, 1.999)).certificate(jnp.zeros(3)).error <= 0.1


def test_constant_beyond_the_knots():
    certificate = smooth(table, 0.1, anything()).certificate(jnp.zeros(1))
    assert certificate.lipschitz == pytest.approx(4.0, rel=1e-6)
    assert certificate.bound == pytest.approx(1.0, abs=0.11)


@pytest.mark.parametrize("ends", [{}, {"left": 2.0, "right": -1.0}])
def test_values_that_vary_between_points_that_are_known(ends):
    points = np.array([-3.0, 0.1, 0.2, 7.0])
    f = lambda heights: jnp.interp(points, KNOTS, heights, **ends)  # noqa: E731
    certificate = attack(f, box(-1.0, 1.0), jnp.zeros(4), eps=0.02)
    assert certificate.error == certificate.smoothness == 0
    assert certificate.lipschitz <= 2 * (1 + 1e-9)


def test_knots_as_arguments():
    def f(x, knots, heights):
        return jnp.interp(x, knots, heights)

    x = jnp.zeros(3)
    known = (box(-2.0, 3.0), fixed(KNOTS), fixed(HEIGHTS))
    assert smooth(f, 0.1, known).certificate(x, KNOTS, HEIGHTS).lipschitz <= 4 * (1 + 1e-6)
    moving = (box(-2.0, 3.0), fixed(KNOTS), box(HEIGHTS - 0.1, HEIGHTS + 0.1))
    with pytest.raises(UnsupportedPrimitiveError):
        smooth(f, 0.1, moving).certificate(x, KNOTS, HEIGHTS)


@pytest.mark.parametrize(
    ("knots", "heights", "dtype", "eps"),
    [
        ([0, 0.3, 0.30001, 0.7, 1], [0, 0.1, 1.1, 0.7, 0.3], np.float32, 1e-4),
        ([0, 0.1, 0.1 + 1e-12, 1], [0, 0.3, 0.7, 0.9], np.float64, 1e-8),
        ([0, 0.4, 0.5, 0.6, 1], [0, 0.1, 1e6, 0.1, 0.2], np.float32, 1e-4),
    ],
)
def test_accurate_beside_a_steep_piece(knots, heights, dtype, eps):
    knots, heights = np.array(knots, dtype), np.array(heights, dtype)
    f = lambda x: jnp.interp(x, knots, heights)  # noqa: E731
    x = jnp.linspace(0.0, 1.0, 2001, dtype=dtype)
    f_eps = smooth(f, eps, box(0.0, 1.0))
    away = jnp.abs(f_eps(x) - f(x))
    certificate = f_eps.certificate(x)
    # Rounding is of the heights on both sides.
    right = np.clip(np.searchsorted(knots, x), 1, len(knots) - 1)
    sizes = np.maximum(1.0, np.maximum(heights[right - 1], heights[right]))
    assert np.all(away <= certificate.error + 4 * np.finfo(dtype).eps * sizes)


@pytest.mark.parametrize("knots", [[0.0, 1e-14, 1.0], [0.0, 1e-15, 2e-15, 1.0]])
def test_knots_that_jax_takes_for_one(knots):
    """Between those nearer than about 1e-14, jnp.interp has the height of the first: it jumps."""
    at, heights = jnp.asarray(knots, jnp.float32), jnp.arange(len(knots), dtype=jnp.float32)
    f_eps = smooth(lambda x: jnp.interp(x, at, heights), 0.1, box(-1.0, 1.0))
    with pytest.raises(JaxsmoothError):
        f_eps.certificate(jnp.float32(0))


def test_steep_descents():
    """From 2^60 to 1: the digits are those of the lower end."""
    f = lambda x: jnp.interp(x, jnp.asarray([-1.0, 0, 0.5, 1]), jnp.asarray([0, 2.0**60, 1, 3]))  # noqa: E731
    f_eps = smooth(f, 0.1, box(0.5, 1.0))
    x = jnp.linspace(0.5, 1.0, 11)
    np.testing.assert_allclose(f_eps(x), f(x), atol=0.11)
