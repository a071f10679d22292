"""Conversions between number types: those that jump are refused wherever they hide."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from jaxsmooth import box, errors

WEIGHTS = np.arange(9.0, dtype=np.float32).reshape(3, 3)


def whole(x):
    return x.astype(jnp.int32).astype(x.dtype)


def truth(x):
    return x.astype(bool).astype(x.dtype)


# Functions that programs are searched for, of whole numbers.
SEARCHED = {
    "absolute value": lambda x: jnp.abs(whole(x)),
    "truth": lambda x: jnp.abs(truth(x)),
    "chain": lambda x: jnp.tanh(whole(x)) ** 2 + 1,
    "choice": lambda x: jnp.where(whole(x) > 0, whole(x), 0.1 * whole(x)),
    "choice of one branch": lambda x: jnp.where(x >= 0, x, whole(x)),
    "relu of two": lambda x: jnp.maximum(whole(x), x),
    "length": lambda x: jnp.hypot(whole(x), 2 * whole(x)),
    "norm": lambda x: jnp.linalg.norm(whole(x)),
    "normalised": lambda x: whole(x) / jnp.sqrt(1 + jnp.sum(whole(x) ** 2)),
    "standardised": lambda x: jax.nn.standardize(whole(x)),
    "softmax": lambda x: jax.nn.softmax(whole(x)),
    "logsumexp": lambda x: jax.nn.logsumexp(whole(x)),
    "determinant": lambda x: jnp.linalg.slogdet(jnp.eye(3) + jnp.outer(whole(x), whole(x)))[1],
    "not symmetric": lambda x: jnp.linalg.slogdet(jnp.eye(3) + jnp.outer(x, whole(x)))[1],
    "diagonal": lambda x: jnp.diag(whole(x)),
    "weights": lambda x: WEIGHTS * whole(x)[:, None],
    "weights of truth": lambda x: WEIGHTS * truth(x),
    "weights of bytes": lambda x: WEIGHTS * x.astype(jnp.int8),
    "repeated": lambda x: (whole(x)[:, None] * jnp.ones((3, 2))).sum(1),
    "remainder": lambda x: x - whole(x),
    "product": lambda x: x * whole(x),
    "sum of squares": lambda x: jnp.sum(whole(x) ** 2),
}


@pytest.mark.parametrize("f", SEARCHED.values(), ids=SEARCHED.keys())
def test_whole_numbers_are_refused(f):
    where = box(np.full(3, -3.0, np.float32), 3.0)
    with pytest.raises(errors.DiscontinuityError, match="jumps"):
        jaxsmooth.analyze(f, where)(jnp.zeros(3))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_shorter_floating_point_passes(dtype):
    """Its rounding is left out, as all is."""
    where = box(np.full(3, -1.0, np.float32), 1.0)
    found = jaxsmooth.analyze(lambda x: jnp.diag(x.astype(dtype).astype(x.dtype)), where)
    assert float(found(jnp.zeros(3)).lipschitz) == pytest.approx(1.0)


WHOLE = {
    "too large a byte": (lambda i: i.astype(jnp.int8).astype(jnp.float32), [300.0, -200.0, 5.0]),
    "unsigned": (lambda i: i.astype(jnp.uint32).astype(jnp.float32), [300.0, -200.0, 5.0]),
    "truth": (lambda i: i.astype(bool).astype(jnp.float32), [300.0, -200.0, 5.0]),
    "wider": (lambda i: i.astype(jnp.float32), [300.0, -200.0, 5.0]),
}


@pytest.mark.parametrize(("f", "values"), WHOLE.values(), ids=WHOLE.keys())
def test_whole_arguments_that_do_not_fit(f, values):
    """Numbers that a type does not hold become others of it."""
    labels = jnp.asarray(values, jnp.int32)
    where = (box(np.zeros(3, np.float32), 1.0), box(labels - 1, labels + 1))
    found = jaxsmooth.analyze(lambda x, i: x + f(i), where)(jnp.zeros(3), labels)
    lo, hi = found.range
    for away in (-1, 0, 1):
        value = np.asarray(f(labels + away))
        assert np.all(lo <= value)
        assert np.all(value + 1 <= hi)


MIXED = {
    "short result": lambda x, short: jax.nn.relu(x - 0.1).astype(short) * (2 * x).astype(short),
    "long result": lambda x, short: (
        jax.nn.relu(x.astype(short).astype(x.dtype) - 0.1) * (2 * x.astype(short)).astype(x.dtype)
    ),
    "of probabilities": lambda x, short: (
        jax.nn.relu(jax.nn.softmax(x).astype(short) - 0.1) * jax.nn.log_softmax(x).astype(short)
    ),
    "of short probabilities": lambda x, short: (
        jax.nn.relu(jax.nn.softmax(x.astype(short)).astype(x.dtype) - 0.1)
        * jax.nn.log_softmax(x.astype(short))
    ),
}


@pytest.mark.parametrize("short", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("f", MIXED.values(), ids=MIXED.keys())
def test_types_of_functions_of_one_variable(f, short):
    """The variable and the result of one function may have different types."""
    f_eps = jaxsmooth.smooth(lambda x: f(x, short), 0.05, box(-3.0, 3.0))
    x = jnp.array([1.0, -2.0, 0.3])
    found, exact = f_eps(x), f(x, short)
    assert len(f_eps.certificate(x).sites) == 1
    assert found.dtype == exact.dtype
    # Rounded to the short type, of numbers up to 6.
    np.testing.assert_allclose(found.astype(float), exact.astype(float), atol=0.05 + 6 / 256)


ROOTS = {
    "standard deviation": jnp.std,
    "and what it is added to": lambda x: x + jnp.std(x),
    "norm of a long sum": lambda x: jnp.sqrt(jnp.sum(x * x, dtype=jnp.float32)),
    "long length": lambda x: jnp.sqrt(
        (x * x).astype(jnp.float32) + (x[::-1] * x[::-1]).astype(jnp.float32)
    ),
}


@pytest.mark.parametrize("short", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("f", ROOTS.values(), ids=ROOTS.keys())
def test_types_of_smoothed_roots(f, short):
    """The sum of the squares and the root may have other types than the operand."""
    f_eps = jaxsmooth.smooth(f, 0.1, box(-1.0, 1.0))
    x = jnp.array([1.0, -0.5, 0.25], short)
    found, exact = f_eps(x), f(x)
    assert f_eps.certificate(x).sites
    assert found.dtype == exact.dtype
    np.testing.assert_allclose(found.astype(float), exact.astype(float), atol=0.12)


# Divisors that are no norms, since whole numbers wrap and their division truncates.
WRAPPED = {
    "squares of bytes": (
        lambda i, x: x / jnp.sum(i * i).astype(float), (100, 110), jnp.array([104, 108], jnp.int8),
    ),
    "norm": (
        lambda i, x: x / jnp.sqrt(jnp.sum(i * i).astype(float)),
        (65536, 65537), jnp.array([65537, 65537], jnp.int32),
    ),
    "quotient": (
        lambda i, x: x / (0.001 + jnp.sqrt(lax.div(jnp.sum(i * i), 4).astype(float))),
        (1, 1), jnp.array([1], jnp.int32),
    ),
    "length": (
        lambda i, x: x / jnp.sqrt((i[0] * i[0] + i[1] * i[1]).astype(float) + 1.0),
        (100, 110), jnp.array([104, 108], jnp.int8),
    ),
    "semidefinite": (
        lambda i, x: jnp.linalg.solve(
            jnp.outer(x, x) + (i * i).astype(float) + 337 * jnp.eye(3), jnp.ones(3)
        ),
        (11, 12), jnp.asarray(12, jnp.int8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_algebra_of_whole_numbers(name):
    """What wraps or is cut off is refused, or certified as it is."""
    f, where, i = WRAPPED[name]
    x = jnp.zeros(3) if name == "semidefinite" else jnp.ones(())
    f_eps = jaxsmooth.smooth(f, 0.1, (box(*where), box(-1.0, 1.0)))
    try:
        certificate = f_eps.certificate(i, x)
    except errors.CertificationError:
        return
    assert np.linalg.norm(f(i, x)) <= certificate.bound * (1 + 1e-6)
    slope = np.linalg.norm(jax.jacobian(f_eps, 1)(i, x))
    assert slope <= certificate.lipschitz * (1 + 1e-6)


def test_root_of_whole_numbers():
    """It is no length, whose operands and result would be whole numbers."""

    def f(i, j):
        return jnp.sqrt((i * i + j * j).astype(jnp.float32))

    one = jnp.asarray(1, jnp.int32)
    f_eps = jaxsmooth.smooth(f, 0.1, (box(1, 5), box(0, 5)))
    found = f_eps(one, one)
    assert found.dtype == jnp.float32
    assert found == f(one, one)
    assert np.sqrt(50) <= f_eps.certificate(one, one).bound <= np.sqrt(50) * (1 + 1e-6)
