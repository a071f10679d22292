"""Every primitive is in one of the three lists, and each list means what it says."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback
from jax.extend.core import primitives

import jaxsmooth
import jaxsmooth.rules
from jaxsmooth import _compat, analyze, ball
from jaxsmooth.rules.registry import has_rule
from jaxsmooth.rules.support import ELSEWHERE, NEWER, TABLE, Status, page

INSTALLED = {
    n.removesuffix("_p"): getattr(primitives, n) for n in dir(primitives) if n.endswith("_p")
}


def test_none_is_missing():
    assert INSTALLED.keys() <= TABLE.keys(), INSTALLED.keys() - TABLE.keys()


def test_none_is_made_up():
    assert TABLE.keys() - INSTALLED.keys() <= ELSEWHERE | NEWER


@pytest.mark.parametrize("name", sorted(INSTALLED))
def test_what_is_called_supported_has_a_rule(name):
    primitive, status = INSTALLED[name], TABLE[name].status
    entered = primitive in _compat.CALLS or primitive is primitives.remat_p
    if status is Status.SUPPORTED:
        assert has_rule(primitive) or entered
    if status is Status.REFUSED:
        assert not has_rule(primitive)
        assert not entered


def test_reasons_are_given():
    for name, entry in TABLE.items():
        if entry.status is not Status.SUPPORTED:
            assert entry.reason, name
            assert entry.way_out.endswith("."), name


def test_the_page_is_current():
    """The same under every version of JAX; ``python docs/primitives.py`` writes it."""
    written = Path(__file__).parents[2] / "docs" / "reference" / "primitives.md"
    assert written.read_text(encoding="utf-8") == page()


def _sharded(x):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("i")
    return jax.shard_map(jnp.tanh, mesh=mesh, in_specs=spec, out_specs=spec)(x)


def _drawn():
    return jax.lax.rng_uniform(0.0, 1.0, ())


REFUSED = {
    "tanh of complex numbers": (lambda x: jnp.tanh(1j * x).imag, r"z\.real, z\.imag"),
    "lu": (lambda x: jax.scipy.linalg.lu(jnp.outer(x, x) + jnp.eye(3))[2], "slogdet"),
    "qr": (lambda x: jnp.linalg.qr(jnp.outer(x, x) + jnp.eye(3))[1], "smallest singular value"),
    "eigh": (lambda x: jnp.linalg.eigh(jnp.outer(x, x))[1], "values without vectors"),
    "svd": (lambda x: jnp.linalg.svd(jnp.outer(x, x))[0], "values without vectors"),
    "derivative of igamma": (
        lambda x: jax.grad(lambda a: jax.scipy.special.gammainc(a, 1.0))(x.sum() + 4),
        "no derivative of it",
    ),
    "betainc": (lambda x: jax.scipy.special.betainc(x + 2, 1.0, 0.5), "no derivative in them"),
    "random gamma": (lambda x: jax.random.gamma(jax.random.key(0), x + 2), "rejecting"),
    "shard_map": (_sharded, "Smooth the function inside shard_map"),
    "pure_callback": (
        lambda x: jax.pure_callback(np.tanh, jax.ShapeDtypeStruct((3,), x.dtype), x),
        "not visible to JAX",
    ),
    "reduce": (
        lambda x: jax.lax.reduce(x, jnp.float32(0), lambda a, b: a + jnp.tanh(b), (0,)),
        "order that is left open",
    ),
    "rng_uniform": (lambda x: x * jax.lax.rng_uniform(0.0, 1.0, (3,)), "at every call"),
    "rng_uniform in a known loop": (
        lambda x: x * jax.lax.fori_loop(0, 2, lambda _, y: y * _drawn(), 1.0), "at every call",
    ),
    "io_callback": (
        lambda x: x * io_callback(lambda: np.float32(2), jax.ShapeDtypeStruct((), x.dtype)),
        "at every call",
    ),
    "approx_max_k": (lambda x: jax.lax.approx_max_k(x, 2)[0], "hardware"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why_and_what_to_do(name):
    f, text = REFUSED[name]
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match=text) as raised:
        analyze(f, ball(1.0))(jax.ShapeDtypeStruct((3,), np.float32))
    assert "test_support.py:" in str(raised.value)


def test_derivatives_of_pooling_are_told_to_smooth_first():
    def pooled(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2,), (1,), "VALID").sum()

    with pytest.raises(jaxsmooth.JaxsmoothError, match=r"jax\.grad\(jaxsmooth\.smooth"):
        analyze(jax.grad(pooled), ball(1.0))(jax.ShapeDtypeStruct((4,), np.float32))
