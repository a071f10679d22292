"""Special functions: constants that are attained, also where parameters vary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import special, stats

import jaxsmooth
from jaxsmooth import box, smooth
from tests.rules.sampling import Box, check
from tests.soundness.trees import attack

SHAPES = np.array([0.6, 1.0, 1.7, 2.0, 6.0])
ORDERS = np.array([1, 2, 3, 1, 2])

# Functions of one variable, elementwise, and where they are looked at.
SMOOTH = {
    "gammainc": (lambda x: special.gammainc(2.5, x), 0.1, 6.0),
    "gammainc from 0": (lambda x: special.gammainc(3.0, x), 0.0, 6.0),
    "gammaincc": (lambda x: special.gammaincc(1.5, x), 0.2, 5.0),
    "gammainc, a shape for each": (lambda x: special.gammainc(SHAPES, x), 0.3, 4.0),
    "betainc": (lambda x: special.betainc(2.0, 3.5, x), 0.0, 1.0),
    "betainc, parameters for each": (lambda x: special.betainc(SHAPES, SHAPES[::-1], x), 0.1, 0.8),
    "polygamma": (lambda x: special.polygamma(1, x), 0.5, 3.0),
    "polygamma, an order for each": (lambda x: special.polygamma(ORDERS, x), 0.8, 3.0),
    "zeta": (lambda x: special.zeta(1.5, x), 0.5, 3.0),
    "i1e": (special.i1e, -3.0, 3.0),
    "i1": (special.i1, -2.0, 2.0),
    "i0, whose kinks cancel": (special.i0, -2.0, 2.0),
    "i0e beside its kink": (special.i0e, 0.5, 3.0),
    "Erlang's queue": (lambda x: x * special.gammaincc(3.0, x), 0.1, 6.0),
    "x log x, of a domain with an end": (lambda x: x * jnp.log(x), 0.05, 3.0),
    "entropy of a coin": (lambda x: -x * jnp.log(x) - (1 - x) * jnp.log(1 - x), 0.1, 0.8),
    "density of a gamma distribution": (lambda x: stats.gamma.logpdf(x, 2.0), 0.4, 3.0),
    "density of a beta distribution": (lambda x: stats.beta.logpdf(x, 2.0, 3.0), 0.1, 0.9),
    "likelihood of a rate": (lambda x: stats.poisson.logpmf(3, x), 0.4, 3.0),
    "smoothstep by betainc": (
        lambda x: jnp.where(x > 0, special.betainc(3.0, 3.0, jnp.clip(x, 0, 1)), 0.0), -0.5, 1.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("f", "lo", "hi"), SMOOTH.values(), ids=SMOOTH.keys())
def test_attained(f, lo, hi):
    found = check(f, Box((5,), lo, hi), smooth=False)
    with jax.enable_x64(True):
        f_eps = smooth(f, 0.1, box(lo, hi))
        assert not f_eps.certificate(jnp.full(5, 0.5)).error
        # Not the ends: JAX has no second derivative there of some.
        points = np.linspace(lo, hi, 4001)[1:-1]
        # JAX's derivative of i0 at 0 is that of a part, where ours is not.
        slope = jax.jit(jax.vmap(lambda t: jax.jvp(f_eps, (t,), (jnp.ones(5),))[1]))
        x = jnp.asarray(points)[:, None] * jnp.ones(5)
        step = 1e-5
        at, aside = np.asarray(slope(x)), np.asarray(slope(x + step * jnp.sign(0.5 - x)))
    largest, bend = np.abs(at).max(), (np.abs(aside - at) / step).max()
    assert largest * (1 - 1e-9) <= found.lipschitz <= 1.02 * largest
    assert bend * (1 - 1e-5) <= found.smoothness <= 1.05 * bend + 1e-6


# Whole powers of x and 1 - x, which have derivatives at the ends.
WHOLE = np.array([1, 2, 3, 4])
AT_ENDS = {
    "gammainc": (
        lambda x: special.gammainc(WHOLE * 1.0, x),
        lambda x: x ** (WHOLE - 1) * jnp.exp(-x) / np.array([1, 1, 2, 6]),
        3.0,
    ),
    "gammaincc": (
        lambda x: special.gammaincc(WHOLE * 1.0, x),
        lambda x: -(x ** (WHOLE - 1)) * jnp.exp(-x) / np.array([1, 1, 2, 6]),
        3.0,
    ),
    "Erlang's queue": (
        lambda x: x * special.gammaincc(2.0, x),
        lambda x: (special.gammaincc(2.0, x) - x**2 * jnp.exp(-x)) * np.ones(4),
        3.0,
    ),
    "betainc": (
        lambda x: special.betainc(WHOLE * 1.0, WHOLE[[1, 0, 3, 0]] * 1.0, x),
        lambda x: (
            jnp.array([2, 2, 60, 4]) * x ** (WHOLE - 1) * (1 - x) ** np.array([1, 0, 3, 0])
        ),
        1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_ENDS)
def test_derivatives_at_the_ends(name):
    """JAX's own are 0·∞ there."""
    f, density, end = AT_ENDS[name]
    with jax.enable_x64(True):
        f_eps = smooth(f, 0.1, box(0.0, end))
        g = lambda x: jnp.sum(f_eps(jnp.full(4, x)) * WHOLE)  # noqa: E731
        wanted = jax.jit(jax.value_and_grad(lambda x: jnp.sum(density(x) * WHOLE)))
        for mode in (jax.grad, jax.jacfwd):
            slope, bend = jax.jit(mode(g)), jax.jit(jax.jacfwd(mode(g)))
            for x in (0.0, 0.3, end):
                found = slope(x), bend(x)
                np.testing.assert_allclose(found, wanted(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("f", [special.gammainc, special.gammaincc])
def test_derivatives_in_parameters(f):
    """JAX's own, and mixed ones where those are 0·∞."""
    with jax.enable_x64(True):
        f_eps = smooth(f, 0.1, (box(2.0, 3.0), box(0.0, 4.0)))
        for x in (0.0, 0.7):
            assert jax.grad(f_eps)(2.5, x) == jax.grad(f)(2.5, x)
        mixed = [jax.jacfwd(jax.grad(g, 1))(2.5, 0.7) for g in (f_eps, f)]
        np.testing.assert_allclose(*mixed, rtol=1e-12)
        assert jax.jacfwd(jax.grad(f_eps, 1))(2.5, 0.0) == 0


def test_the_kink_of_i0e():
    with jax.enable_x64(True):
        certificate = attack(special.i0e, box(-1.0, 2.0), jnp.ones(3), eps=0.05)
    assert certificate.sites


# Functions of parameters that vary, and their set.
VARYING = {
    "gammainc": (special.gammainc, (1.2, 3.0), (0.2, 5.0)),
    "gammaincc": (special.gammaincc, (2.5, 2.6), (0.5, 9.0)),
    "gammainc from 0": (special.gammainc, (2.2, 3.0), (0.0, 4.0)),
    "gammainc to infinity": (special.gammainc, (1.0, 1.5), (1.0, np.inf)),
    "gammainc of large shapes": (special.gammainc, (90.0, 100.0), (60.0, 130.0)),
    "zeta": (special.zeta, (1.5, 3.0), (0.4, 4.0)),
    "zeta of moderate numbers": (special.zeta, (4.0, 4.5), (2.0, 2.5)),
}


FURTHER = {"gammaincc", "gammainc of large shapes", "zeta of moderate numbers"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in FURTHER)) for n in VARYING]
)
def test_varying_parameters(name):
    """Bounds hold at sampled points, and are no more than some times what is found there."""
    f, first, second = VARYING[name]
    a, x = (np.linspace(lo, hi if hi < np.inf else 30.0, 60) for lo, hi in (first, second))
    points = np.stack(np.meshgrid(a, x), -1).reshape(-1, 2)
    points[:, 1] = np.maximum(points[:, 1], 1e-9)
    with jax.enable_x64(True):
        found = jaxsmooth.analyze(f, (box(*first), box(*second)))(1.0, 1.0)
        gradient = jax.jit(jax.vmap(jax.grad(f, (0, 1))))
        slopes = np.stack(gradient(*points.T), -1)
        step = 1e-5
        bends = []
        for direction in ((1, 0), (0, 1), (1, 1), (1, -1)):
            moved = points + step * np.array(direction)
            inside = (moved <= [first[1], second[1]]).all(1) & (moved >= [first[0], second[0]]).all(
                1
            )
            change = np.stack(gradient(*moved[inside].T), -1) - slopes[inside]
            bends.append(np.linalg.norm(change, axis=1) / step / np.linalg.norm(direction))
        values = np.asarray(f(*points.T))
    lo, hi = found.range
    assert lo <= values.min()
    assert values.max() <= hi
    largest, bend = np.linalg.norm(slopes, axis=1).max(), np.concatenate(bends).max()
    # JAX's own derivatives in a parameter are sums of series.
    assert largest * (1 - 1e-6) <= found.lipschitz <= 3 * largest
    assert bend * (1 - 1e-3) <= found.smoothness <= 4.5 * bend


def test_parameters_outside():
    with pytest.raises(jaxsmooth.CertificationError, match="must be positive"):
        smooth(lambda x: special.gammainc(-1.0, x), 0.1, box(1.0, 2.0)).certificate(1.0)
    with pytest.raises(jaxsmooth.CertificationError, match="may not be above 1"):
        smooth(special.zeta, 0.1, box(1.0, 2.0)).certificate(1.5, 1.5)
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match="no derivative in them"):
        smooth(special.betainc, 0.1, box(1.0, 2.0)).certificate(1.5, 1.5, 0.5)


@pytest.mark.parametrize(
    ("f", "lo", "hi", "outside"),
    [
        (special.zeta, (1.5, 0.4), (3.0, 4.0), (0.5, 0.4)),
        pytest.param(special.gammainc, (1.2, 0.2), (3.0, 5.0), (-1.2, 0.2), marks=pytest.mark.slow),
    ],
)
def test_traced_sets_of_parameters(f, lo, hi, outside):
    """Like known ones; where they may leave the domain nothing is finite."""

    def constants(lo, hi):
        sets = (box(lo[0], hi[0]), box(lo[1], hi[1]))
        certificate = smooth(f, 0.1, sets).certificate(jnp.ones(2), jnp.ones(2))
        return certificate.lipschitz, certificate.smoothness

    traced = jax.jit(constants)
    np.testing.assert_allclose(traced(np.array(lo), np.array(hi)), constants(lo, hi), rtol=1e-2)
    assert np.all(np.isinf(traced(np.array(outside), np.array(hi))))
