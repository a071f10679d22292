"""√(x² + y² + … + c) of separate values: recognised, sound, and sharp where it is attained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import ball, box, smooth
from jaxsmooth.program.graph import trace
from jaxsmooth.program.match import LENGTH
from jaxsmooth.program.normal import normalise


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def plane(x):
    return jnp.hypot(x[0], x[1])


LENGTHS = {
    "hypot": plane,
    "hypot of arrays": lambda x: jnp.hypot(x[:2], x[1:]).sum(),
    "written out": lambda x: jnp.sqrt(x[0] ** 2 + jnp.square(x[1]) + x[2] * x[2]),
    "with a constant": lambda x: jnp.sqrt(x[0] ** 2 + x[1] ** 2 + 1e-3),
    "sum of arrays": lambda x: jnp.sqrt(x**2 + x[::-1] ** 2 + 0.5).sum(),
    "against a number": lambda x: jnp.hypot(x, 0.25).sum(),
}
if "custom_jvp" in str(jax.make_jaxpr(jnp.hypot)(1.0, 1.0)):
    # In older versions of JAX only the absolute values are spread, which have kinks.
    LENGTHS["vmapped over one operand"] = lambda x: jax.vmap(jnp.hypot, (0, None))(x, x[:2]).sum()


@pytest.mark.parametrize("name", LENGTHS)
def test_is_one_equation(name):
    graph, _ = trace(LENGTHS[name], (jax.ShapeDtypeStruct((3,), jnp.float64),))
    found = [e for e in normalise(graph, {}, graph.inputs).equations if e.primitive is LENGTH]
    assert len(found) == 1


def test_other_roots_are_none():
    for f in (lambda x: jnp.sqrt(1 + x**2), lambda x: jnp.sqrt(x[0] ** 2 + x[1] + 3)):
        graph, _ = trace(f, (jax.ShapeDtypeStruct((3,), jnp.float64),))
        equations = normalise(graph, {}, graph.inputs).equations
        assert all(e.primitive is not LENGTH for e in equations)


@pytest.mark.parametrize("radius", [0.5, 3.0])
@pytest.mark.parametrize("name", LENGTHS)
def test_is_sound(name, radius):
    """Values, gradients and Hessians at random points, at the center and at the far end."""
    f, rng = LENGTHS[name], np.random.default_rng(0)
    center = jnp.asarray(rng.normal(size=3)) if radius < 1 else jnp.zeros(3)
    f_eps = smooth(f, 0.05, ball(radius, center=center))
    certificate = f_eps.certificate(center)
    d = rng.normal(size=(60, 3))
    d *= radius * rng.uniform(0, 1, (60, 1)) ** 2 / np.linalg.norm(d, axis=1, keepdims=True)
    points = jnp.concatenate([center[None], center + d])
    assert np.abs(jax.vmap(f_eps)(points) - jax.vmap(f)(points)).max() <= certificate.error + 1e-12
    gradients = jax.vmap(jax.grad(f_eps))(points)
    assert np.linalg.norm(gradients, axis=1).max() <= certificate.lipschitz * (1 + 1e-9)
    hessians = jax.vmap(jax.hessian(f_eps))(points)
    assert np.linalg.norm(hessians, 2, axis=(1, 2)).max() <= certificate.smoothness * (1 + 1e-9)


def test_constants_are_attained():
    """In one operand: slope 1 where the other one is 0, curvature 1/r, and K/μ at the kink."""

    def certified(x, y, eps=0.1):
        bounds = tuple(box(*map(jnp.asarray, ends)) for ends in (x, y))
        f_eps = smooth(jnp.hypot, eps, bounds, argnums=0)
        return f_eps, f_eps.certificate(0.0, 0.0)

    _, far = certified((1.0, 3.0), (-2.0, 2.0))
    assert far.error == 0
    np.testing.assert_allclose(far.lipschitz, 1, rtol=1e-9)
    f_eps, across = certified((-1.0, 1.0), (1.0, 2.0))
    assert across.error == 0
    np.testing.assert_allclose(across.smoothness, 1, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(jax.grad(f_eps))(0.0, 1.0), 1, rtol=1e-9)
    f_eps, near = certified((-1.0, 1.0), (-1.0, 1.0))
    attained = jax.grad(jax.grad(f_eps))(1e-6, 0.0)
    np.testing.assert_allclose(attained, near.smoothness, rtol=1e-6)
    np.testing.assert_allclose(jnp.abs(f_eps(0.0, 0.0)), near.error, rtol=1e-6)


def test_smoothed_constant_under_the_root():
    f_eps = smooth(LENGTHS["with a constant"], 0.1, ball(1.0))
    certificate = f_eps.certificate(jnp.zeros(3))
    assert certificate.error == 0
    # Two parts of one array count as if they could change by one each.
    assert certificate.smoothness <= 2 / np.sqrt(1e-3) * (1 + 1e-6)
    hessian = jax.hessian(f_eps)(jnp.zeros(3))
    np.testing.assert_allclose(jnp.linalg.norm(hessian, 2), 1 / np.sqrt(1e-3), rtol=1e-6)


def test_second_derivatives_where_both_are_equal():
    """Where max and min of the sides tie, and where one of them is 0."""
    f_eps = smooth(plane, 0.01, ball(0.5, center=jnp.ones(2)))
    for x in (jnp.ones(2), jnp.array([1.2, 1.2]), jnp.array([1.0, 0.8])):
        r = jnp.linalg.norm(x)
        expected = (jnp.eye(2) - jnp.outer(x, x) / r**2) / r
        np.testing.assert_allclose(jax.hessian(f_eps)(x), expected, atol=1e-12)


def test_single_precision():
    with jax.enable_x64(False):
        f_eps = smooth(plane, 1e-3, ball(1e-2))
        certificate = f_eps.certificate(jnp.zeros(2))
        points = np.random.default_rng(0).uniform(-7e-3, 7e-3, (100, 2)).astype(np.float32)
        errors = jax.vmap(f_eps)(points) - np.hypot(points[:, 0], points[:, 1])
        assert np.abs(errors).max() <= certificate.error * (1 + 1e-5)


ROOTS = {
    "norm": lambda x: jnp.sqrt(jnp.sum(x**2)),
    "hypot": lambda x: jnp.hypot(x[0], x[1]),
    "std": jnp.std,
}


@pytest.mark.parametrize("kernel", ["centered", "minimax", "softplus", "c2"])
@pytest.mark.parametrize("name", ROOTS)
def test_second_derivatives_near_zero(name, kernel):
    """They are differences of numbers near 1/2 over a length, unless that is written otherwise."""
    f_eps = smooth(ROOTS[name], 0.1, box(-1.0, 1.0), kernel=kernel)
    smoothness = f_eps.certificate(jnp.zeros(3)).smoothness
    points = jnp.asarray([0, 1e-20, 1e-8, 3e-8, 1e-6, 1e-5, 1e-3, 0.03, 0.05, 0.3])[:, None]
    points = jnp.concatenate([points * jnp.asarray(v) for v in ([1.0, 0.3, -0.5], [1.0, 0, 0])])
    for inner in (jax.jacrev, jax.jacfwd):
        norms = np.linalg.norm(jax.vmap(jax.jacfwd(inner(f_eps)))(points), 2, axis=(1, 2))
        assert norms.max() <= smoothness * (1 + 1e-5)
        np.testing.assert_allclose(norms[0], norms[2], rtol=1e-5)
        assert norms[0] >= 0.49 * smoothness


@pytest.mark.parametrize("name", ROOTS)
def test_half_precision_near_zero(name):
    f_eps = smooth(ROOTS[name], 0.1, box(-1.0, 1.0))
    for size in (1e-5, 3e-3):
        x = jnp.asarray([size, 0.0, size], jnp.float16)
        assert f_eps(x).dtype == x.dtype
        assert np.isfinite(jax.jacfwd(f_eps)(x)).all()
        assert np.isfinite(jax.hessian(f_eps)(x)).all()
