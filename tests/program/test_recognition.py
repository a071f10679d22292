"""Functions are recognised by what their programs say, not by which objects hold them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import DiscontinuityError, analyze, box, smooth


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.interp(
            x,
            jnp.array([-1, 0.5, 2], x.dtype),
            jnp.array([0, 1, 0.5], x.dtype),
            left=0.0,
            right=0.5,
        ),
        lambda x: jnp.linalg.det(jnp.outer(x, x) + 4 * jnp.eye(3, dtype=x.dtype)),
        lambda x: jnp.linalg.slogdet(jnp.outer(x, x) + 4 * jnp.eye(3, dtype=x.dtype))[1],
    ],
    ids=["interp", "det", "slogdet"],
)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_whatever_was_traced_before(function, precision):
    """JAX forgets traces, and makes other ones in 64 bits."""
    x = np.zeros(3, precision)
    found = set()
    for double in (False, True, False, True):
        if precision is np.float64 and not double:
            continue
        with jax.enable_x64(double):
            certificate = smooth(lambda x: function(x), 0.1, box(x - 1, x + 1)).certificate()
            found.add((round(certificate.lipschitz, 3), len(certificate.sites)))
        jax.clear_caches()
    assert len(found) == 1


def larger(x, y):
    return jnp.where(x > y, x, y)


HALF_MAPPED = {
    "rows": (jax.vmap(larger, (0, None)), lambda x, y: jnp.maximum(x[:, None], y)),
    "columns": (jax.vmap(larger, (None, 0), 1), lambda x, y: jnp.maximum(x[:, None], y)),
    "numbers": (lambda x, y: jax.vmap(larger, (0, None))(x, y[0]), lambda x, y: larger(x, y[0])),
    "exponentials": (
        jax.vmap(jnp.logaddexp, (0, None)), lambda x, y: jnp.logaddexp(x[:, None], y),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HALF_MAPPED)
def test_operands_that_are_not_mapped(name):
    """They are computed with before they are spread."""
    x, y = np.zeros(3, np.float32), np.zeros(3, np.float32)
    found, expected = (analyze(f, (box(-1.0, 1.0),) * 2)(x, y) for f in HALF_MAPPED[name])
    np.testing.assert_allclose(found.lipschitz, expected.lipschitz, rtol=1e-9)
    assert len(found.sites) == len(expected.sites)


def test_operands_that_are_spread_along_different_axes():
    """What is compared is not what is chosen from."""

    def f(x, y):
        return jnp.where(x[:, None] > y, x, y[:, None])

    with pytest.raises(DiscontinuityError, match="jumps"):
        analyze(f, (box(-1.0, 1.0),) * 2)(np.zeros(3, np.float32), np.zeros(3, np.float32))
