"""Bad input and what cannot be smoothed: every error says what it is and what to do."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive

import jaxsmooth
from jaxsmooth import analyze, anything, ball, box, fixed, share, smooth

HERE = re.escape("test_errors.py:")
X = jax.ShapeDtypeStruct((3,), np.float32)


def certificate(f, bounds=None, *args, eps=0.1, **options):
    return smooth(f, eps, ball(1.0) if bounds is None else bounds, **options).certificate(
        *(args or (X,))
    )


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (-0.1, "eps must be finite and not negative, not -0.1"),
        (float("nan"), "eps must be finite and not negative, not nan"),
        (float("inf"), "eps must be finite and not negative"),
        ("0.1", "eps must be one number"),
        (np.ones(2), "eps must be one number"),
        (None, "eps must be one number"),
        (1j, "eps must be one number"),
    ],
)
def test_eps(eps, text):
    with pytest.raises(jaxsmooth.ArgumentError, match=re.escape(text)):
        smooth(jnp.abs, eps, 1.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kernel": "gauss"}, "no kernel 'gauss'; choose from 'paper'"),
        ({"allocation": "best"}, "no allocation 'best'; choose from 'halving'"),
        ({"norm": "l1"}, "no norm 'l1'; choose from 'l2', 'linf'"),
        ({"argnums": 3}, "argnums: 3 is no position"),
        ({"argnums": (0, "x")}, "argnums: 'x' is no position"),
        ({"allocation": {"nowhere": 0.1}}, "no site has the path 'nowhere'"),
        ({"allocation": {}}, "the site 'abs' is missing"),
        ({"allocation": {"abs": -1.0}}, "allocation['abs']: μ must be non-negative"),
        ({"allocation": {"abs": float("nan")}}, "allocation['abs']: μ must be non-negative"),
        ({"allocation": {"abs": np.ones(2)}}, "μ has shape (2,), the site has shape (3,)"),
    ],
)
def test_options(options, text):
    with pytest.raises(jaxsmooth.ArgumentError, match=re.escape(text)):
        certificate(jnp.abs, **options)


def test_allocation_that_spends_too_much():
    with pytest.raises(jaxsmooth.CertificationError, match=r"more than eps = 0\.1; scale them by"):
        certificate(jnp.abs, allocation={"abs": 1.0})
    with pytest.raises(jaxsmooth.ArgumentError, match="not between 0 and 1"):
        share(1.5)


def test_argnums_of_a_fixed_argument():
    with pytest.raises(jaxsmooth.ArgumentError, match=r"args\[0\] has no floating-point leaf"):
        certificate(lambda w, x: w * jnp.abs(x), (fixed(2.0), ball(1.0)), 2.0, X, argnums=0)


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: lax.while_loop(lambda c: c.sum() > 0, lambda c: c - 1, x), "while"),
        (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), "cond|gt"),
        (lambda x: jnp.linalg.qr(jnp.outer(x, x) + jnp.eye(3))[1], "qr"),
        (lambda x: Primitive("mine").bind(x) if False else _mine(x), "mine"),
    ],
)
def test_unsupported_primitives(f, name):
    with pytest.raises(
        (jaxsmooth.UnsupportedPrimitiveError, jaxsmooth.DiscontinuityError),
        match=rf"'({name})' at .*{HERE}\d+",
    ):
        certificate(f)


_PRIMITIVE = Primitive("mine")
_PRIMITIVE.def_impl(lambda x: x)
_PRIMITIVE.def_abstract_eval(lambda x: x)


def _mine(x):
    return _PRIMITIVE.bind(x)


def test_unsupported_says_what_to_do():
    with pytest.raises(jaxsmooth.UnsupportedPrimitiveError, match=r"jaxsmooth\.register_rule"):
        certificate(_mine)


@pytest.mark.parametrize(
    ("f", "name", "way_out"),
    [
        (jnp.sign, "sign", "smooth before you differentiate"),
        (jnp.floor, "floor", "drop it"),
        (jnp.round, "round", "drop it"),
        (lambda x: (x > 0).astype(x.dtype), "gt", "smooth before you differentiate"),
        (lambda x: jnp.argmax(x) * x, "argmax", r"jnp\.max"),
        (lambda x: jnp.where(x > 0, x + 1, x), "select_n", "Make the branches meet"),
        (lambda x: x.astype(jnp.int32) * x, "convert_element_type", "floating point"),
        (lambda x: x[jnp.argmax(x) - 1], "argmax", r"jnp\.max"),
    ],
)
def test_discontinuous_functions(f, name, way_out):
    with pytest.raises(jaxsmooth.DiscontinuityError) as raised:
        certificate(f)
    assert f"'{name}'" in str(raised.value)
    assert re.search(way_out, str(raised.value))
    assert "no continuous" in str(raised.value)


def test_a_jump_between_equal_digits_says_its_size():
    with jax.enable_x64(True):
        f = lambda x: jnp.where(x < 0.5, x, x + 1e-9)  # noqa: E731
        with pytest.raises(jaxsmooth.DiscontinuityError, match=r"from 0\.5 to 0\.5 \(by 1e-09\)"):
            certificate(f, box(0.0, 1.0), jnp.zeros(2))


def test_smooth_of_grad_is_told_to_be_grad_of_smooth():
    with pytest.raises(jaxsmooth.DiscontinuityError, match=r"jax\.grad\(jaxsmooth\.smooth"):
        certificate(jax.grad(lambda x: jnp.abs(x).sum()))


@pytest.mark.parametrize(
    ("f", "bounds", "text"),
    [
        (lambda x: 1 / x, box(-1.0, 1.0), "divides by a number whose range includes 0"),
        (jnp.log, box(0.0, 1.0), "'log'"),
        (jnp.sqrt, box(0.0, 1.0), "'sqrt'"),
        (lambda x: jnp.abs(x) * x * x, anything(), "no finite bound"),
        (jnp.exp, anything(), "'exp'"),
    ],
)
def test_nothing_finite_to_prove(f, bounds, text):
    with pytest.raises(jaxsmooth.CertificationError, match=text):
        certificate(f, bounds)


def test_unbounded_weights_before_a_kink():
    """In x the gradient changes by 1/μ times ‖w‖², which may be anything."""
    f = lambda w, x: jnp.maximum(w @ x, 0.0)  # noqa: E731
    args, bounds = (jnp.ones((2, 3)), jnp.ones(3)), (anything(), box(0.0, 1.0))
    with pytest.raises(jaxsmooth.CertificationError, match=r"what reaches .max. .* without bound"):
        smooth(f, 0.1, bounds).certificate(*args)
    with pytest.raises(jaxsmooth.CertificationError, match="what reaches 'max'"):
        jax.jit(lambda eps: smooth(f, eps, bounds)(*args))(0.1)
    assert np.isfinite(smooth(f, 0.1, bounds, argnums=0).certificate(*args).smoothness)


def test_arguments_at_call_time():
    f = smooth(lambda p, x: p["w"] * jnp.abs(x), 0.1, ({"w": ball(1.0)}, ball(1.0)))
    with pytest.raises(jaxsmooth.BoundsError, match=r"args\[0\]"):
        f({"v": jnp.ones(3)}, jnp.ones(3))
    with pytest.raises(jaxsmooth.ArgumentError, match="no array"):
        smooth(jnp.abs, 0.1, 1.0)("text")
    with pytest.raises(jaxsmooth.ArgumentError, match=r"functools\.partial"):
        smooth(lambda x, *, k: k * jnp.abs(x), 0.1, 1.0)(jnp.ones(3), k=2.0)


def test_complex_outputs():
    with pytest.raises(jaxsmooth.JaxsmoothError, match="complex"):
        certificate(lambda x: x + 1j)


def test_shapes_that_are_not_known():
    with pytest.raises(jaxsmooth.BoundsError, match=r"args\[0\]"):
        smooth(jnp.abs, 0.1, ball(1.0)).certificate()


def test_analyze_refuses_the_same():
    with pytest.raises(jaxsmooth.DiscontinuityError, match="'sign'"):
        analyze(jnp.sign, ball(1.0))(X)
