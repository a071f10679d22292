"""Entries at an argmax are maxima, and other uses of an index that jumps are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import DiscontinuityError, box, smooth

FORMS = {
    "indexing": lambda x: x[0][jnp.argmax(x[0])],
    "one entry": lambda x: x[:, 0][jnp.argmin(x[:, 0])],
    "one-hot": lambda x: (jax.nn.one_hot(jnp.argmax(x, -1), 4) * x).sum(-1),
    "one-hot along the first axis": lambda x: jnp.sum(
        x * jax.nn.one_hot(jnp.argmax(x, 0), 3, axis=0), 0
    ),
    "where": lambda x: jnp.where(jnp.arange(4) == jnp.argmax(x[0]), x[0], 0.0).sum(),
    "take_along_axis": lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1)[:, 0],
    "kept axis": lambda x: jnp.take_along_axis(x, jnp.argmin(x, 0, keepdims=True), 0).squeeze(0),
    "fancy indexing": lambda x: x[jnp.arange(3), jnp.argmax(x, 1)],
    "under vmap": jax.vmap(lambda v: v[jnp.argmax(v)]),
    "one-hot under vmap": jax.vmap(lambda v: jnp.sum(jax.nn.one_hot(jnp.argmin(v), 4) * v)),
}
SET = box(-jnp.ones((3, 4)), jnp.ones((3, 4)))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_is_an_extremum(name, double):
    with jax.enable_x64(double):
        f = FORMS[name]
        x = np.random.default_rng(0).uniform(-1, 1, (50, 3, 4)).astype(float if double else "f4")
        f_eps = smooth(f, 0.1, box(-np.ones_like(x[0]), np.ones_like(x[0])))
        certificate = f_eps.certificate(x[0])
        assert [s.primitive for s in certificate.sites] in (["reduce_max"], ["reduce_min"])
        x[:, :, 1] = x[:, :, 0]  # ties
        errors = jax.vmap(f_eps)(x) - jax.vmap(f)(x)
        norms = np.linalg.norm(np.asarray(errors).reshape(len(x), -1), axis=1)
        assert 0 < norms.max() <= certificate.error * (1 + 1e-5) <= 0.1 * (1 + 1e-5)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.argmax(x[0]) * 1.0,
        lambda x: x[0][jnp.argmax(x[1])],
        lambda x: x[0][jnp.argmin(x[0]) - 1],
        lambda x: (jax.nn.one_hot(jnp.argmax(x, 1), 4) * x[::-1]).sum(1),
        lambda x: x[jnp.argmax(x[:, 0])],
    ],
)
def test_other_uses_of_an_index_are_refused(f):
    with pytest.raises(DiscontinuityError, match="argm"):
        smooth(f, 0.1, SET).certificate(jnp.zeros((3, 4)))
