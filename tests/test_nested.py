"""Smooth inside smooth: what an inner smooth leaves behind is smooth, and no site."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import CertificationError, UnsupportedPrimitiveError, box, smooth
from jaxsmooth.math.kernels import KERNELS
from jaxsmooth.math.nary import simplex_max

BOX = (box(-1.0, 1.0),)
FUNCTIONS = {
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "maximum": lambda x: jnp.maximum(x[:4], x[4:]),
    "minimum": lambda x: jnp.minimum(x[:4], x[4:]),
    "max": jnp.max,
    "min": lambda x: jnp.min(x.reshape(2, 4), 1),
    "pool": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3,), (2,), "VALID"),
    "partly active": lambda x: jnp.max((x + jnp.arange(8.0)).reshape(2, 4), 1),
}


LIFTS = [("plain", k) for k in sorted(KERNELS)] + [
    pytest.param("vmap", k, marks=[pytest.mark.slow] * (k not in ("minimax", "c2")))
    for k in sorted(KERNELS)
]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize(("lift", "kernel"), LIFTS)
def test_no_second_smoothing(name, kernel, lift):
    """f_eps of f_eps is f_eps, with the constants that were proved for it (nearly)."""
    x = jax.random.uniform(jax.random.key(0), (6, 8), minval=-1.0)
    inner = smooth(FUNCTIONS[name], 0.1, BOX, kernel=kernel)
    proved = inner.certificate(x[0])
    if lift == "vmap":
        f, arguments = jax.vmap(inner), x
    else:
        f, arguments = inner, x[0]
    outer = smooth(f, 0.05, BOX)
    certificate = outer.certificate(arguments)
    assert certificate.error == 0.0
    # The region of a scalar function may be compiled apart, and rounded apart.
    np.testing.assert_allclose(outer(arguments), f(arguments), rtol=1e-5, atol=1e-6)
    factor = 2.5 if name == "pool" else 1.001
    assert certificate.lipschitz <= max(proved.lipschitz, 1.0) * np.sqrt(3.1)
    assert proved.smoothness * 0.999 <= certificate.smoothness <= proved.smoothness * factor * 1.01


# They are written with others that are looked at.
LIKE = {"abs", "min"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LIKE)) for n in sorted(FUNCTIONS)]
)
def test_constants_hold(name):
    with jax.enable_x64(True):
        inner = smooth(FUNCTIONS[name], 0.2, BOX)
        f = lambda x: jnp.sum(inner(x) ** 2) + jnp.sum(jnp.abs(x))  # noqa: E731
        f_eps = smooth(f, 0.1, BOX)
        x = jax.random.uniform(jax.random.key(1), (300, 8), minval=-1.0)
        # Close to ties, where curvature is largest.
        x = jnp.concatenate([x, 0.01 * x, jnp.repeat(x[:, :4], 2, 1), jnp.tile(x[:, :4], (1, 2))])
        certificate = f_eps.certificate(x[0])
        assert jnp.max(jnp.abs(jax.vmap(f_eps)(x) - jax.vmap(f)(x))) <= certificate.error + 1e-12
        slopes = jax.vmap(jax.grad(f_eps))(x)
        assert jnp.max(jnp.linalg.norm(slopes, axis=1)) <= certificate.lipschitz
        bends = jax.vmap(jax.hessian(f_eps))(x)
        assert jnp.max(jnp.linalg.norm(bends, 2, axis=(1, 2))) <= certificate.smoothness * (
            1 + 1e-9
        )


def test_accuracy_zero_leaves_a_kink():
    inner = smooth(jnp.max, 0.0, BOX)
    with pytest.raises(CertificationError, match="accuracy 0"):
        smooth(inner, 0.1, BOX).certificate(jnp.zeros(3))


def test_accuracy_that_varies():
    f = lambda mu, x: simplex_max(x, mu)  # noqa: E731
    with pytest.raises(UnsupportedPrimitiveError, match="accuracy that varies"):
        smooth(f, 0.1, (box(0.1, 0.2), box(-1.0, 1.0))).certificate(jnp.float32(0.1), jnp.zeros(3))
