"""Guards against what is not a number: idle where all are numbers, and trusted nowhere else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import CertificationError, DiscontinuityError, anything, box, smooth
from tests.soundness.evaluation import QUICK
from tests.soundness.guards import PARTIAL
from tests.soundness.trees import attack


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


GUARDS = {
    "nan_to_num": (jnp.nan_to_num, lambda x: x),
    "a function": (lambda x: jnp.nan_to_num(jnp.log(x + 2)), lambda x: jnp.log(x + 2)),
    "nanmax": (jnp.nanmax, jnp.max),
    "nansum of kinks": (lambda x: jnp.nansum(jnp.abs(x)), lambda x: jnp.sum(jnp.abs(x))),
    "nanmean": (jnp.nanmean, jnp.mean),
    "isnan": (lambda x: jnp.where(jnp.isnan(x * x[::-1]), 7.0, x), lambda x: x),
    "isfinite": (lambda x: jnp.where(jnp.isfinite(jnp.exp(x) + x[0]), x, 7.0), lambda x: x),
    "isinf": (lambda x: jnp.where(jnp.isinf(x), 7.0, x), lambda x: x),
}  # fmt: skip


@pytest.mark.parametrize(("f", "other"), GUARDS.values(), ids=GUARDS.keys())
def test_idle(f, other):
    x = jnp.linspace(-0.9, 0.9, 4)
    found, expected = (attack(g, box(-1.0, 1.0), x, eps=0.05) for g in (f, other))
    assert found.lipschitz == pytest.approx(expected.lipschitz)
    assert found.smoothness == pytest.approx(expected.smoothness)


def test_idle_without_bounds():
    certificate = smooth(jnp.nan_to_num, 0.1, anything()).certificate(jnp.ones(3))
    assert (certificate.lipschitz, certificate.smoothness) == (pytest.approx(1.0), 0.0)


def repeated(x):
    """A logarithm on its way through a loop."""
    carry, _ = jax.lax.scan(lambda c, _: (jnp.log(c), None), x, length=2)
    return jnp.where(jnp.isnan(jnp.tanh(carry)), 0.0, x[::-1])


def stacked(x):
    _, logs = jax.lax.scan(lambda c, t: (c, jnp.log(t)), 0.0, x)
    return jnp.where(logs < 9.0, x[::-1], 0.0)


def half(x, slope):
    return jnp.where(x > 0, slope * x, 0.0)


JUMPING = {
    "isnan": lambda x: jnp.where(jnp.isnan(jnp.log(x)), 0.0, x[::-1]),
    "isfinite": lambda x: jnp.where(jnp.isfinite(jnp.sqrt(x)), 0.0, x[::-1]),
    "a comparison": lambda x: jnp.where(jnp.tanh(jnp.log(x) + x[0]) < 2, x[::-1], 0.0),
    "clipped": lambda x: jnp.where(jnp.clip(jnp.log(x), -5, 5) + x[0] < 9, x[::-1], 0.0),
    "all": lambda x: jnp.where(jnp.isnan(jnp.log(x)).any(), 0.0, x),
    "a function of one variable": lambda x: jnp.where(
        jnp.isnan(jnp.tanh(jnp.maximum(jnp.arcsin(2 * x), 0.0)) + x[0]), 0.0, x[::-1]
    ),
    "a power": lambda x: jnp.where(jnp.isnan(x**1.5), 0.0, x[::-1]),
    "a special function": lambda x: jnp.where(
        jnp.isnan(jax.scipy.special.gammainc(2.0, x)), 0.0, x[::-1]
    ),
    "through a loop": repeated,
    "from a loop": stacked,
    "a larger one": lambda x: x + 0 * jnp.fmax(jnp.log(x), x[::-1]),
    "a larger one by comparing": lambda x: x + 0 * jnp.where(jnp.log(x) > x[0], jnp.log(x), x[0]),
    "a larger one of one variable": lambda x: x + 0 * jnp.fmax(jnp.log(x), x),
    "a half": lambda x: x + 0 * half(jnp.log(x), x[::-1]),
    "rounded": lambda x: x * jnp.floor(0.5 + 0.1 * jnp.tanh(jnp.log(x) + x[::-1])),
}  # fmt: skip


@pytest.mark.parametrize("f", JUMPING.values(), ids=JUMPING.keys())
def test_what_may_be_no_number_decides_nothing(f):
    """f jumps where an operand stops being a number."""
    with pytest.raises(DiscontinuityError, match="no number"):
        smooth(f, 0.1, box(-1.0, 1.0)).certificate(jnp.ones(3) / 2)


@pytest.mark.parametrize("f", JUMPING.values(), ids=JUMPING.keys())
def test_where_all_are_numbers(f):
    smooth(f, 0.1, box(0.3, 0.4) if f is not repeated else box(1.5, 2.0)).certificate(jnp.ones(3))


def test_data_that_may_be_no_number():
    """Converted, or compared, it may give any result."""

    def f(x, data):
        bounded = jnp.tanh(jnp.log(data))
        chosen = jnp.where(bounded.astype(int) < -5, 3 * x, x)
        return jnp.where(bounded < 2, chosen, 2 * x) + jnp.abs(x)

    certificate = smooth(f, 0.1, box(-1.0, 1.0), argnums=0).certificate(jnp.ones(3), jnp.ones(3))
    assert certificate.lipschitz >= 4


LARGER = {
    "fmax": lambda x, data: jnp.fmax(jnp.tanh(jnp.log(data)), x),
    "fmin": lambda x, data: jnp.fmin(jnp.tanh(jnp.log(data)), x),
    "compared": lambda x, data: jnp.where(jnp.log(data) > x, jnp.log(data), x),
    "sort": lambda x, data: x + jnp.sort(jnp.concatenate([jnp.log(data), 9 + x]))[:3],
    "smallest by top_k": lambda x, data: x + jax.lax.top_k(-jnp.log(data), 2)[0][1],
    "a half": lambda x, data: half(x * jnp.log(data), x[::-1]),
}


@pytest.mark.parametrize("f", LARGER.values(), ids=LARGER.keys())
def test_larger_than_data_that_may_be_no_number(f):
    """f has the other value there, where a maximum has none."""
    data = jnp.array([0.5, -1.0, 2.0])
    assert np.isfinite(f(jnp.ones(3), data)).all()
    with pytest.raises(DiscontinuityError, match="no number"):
        smooth(f, 0.1, box(-1.0, 1.0), argnums=0).certificate(jnp.ones(3), data)
    positive = (box(-1.0, 1.0), box(0.2, 3.0))
    assert smooth(f, 0.1, positive, argnums=0).certificate(jnp.ones(3), abs(data)).error <= 0.1


def constants(f, radius, size=2):
    """ℓ and L over boxes whose radius is traced."""

    def traced(r):
        found = smooth(f, 0.1, box(-r, r)).certificate(jnp.ones(size))
        return jnp.stack([found.lipschitz, found.smoothness])

    return jax.jit(jnp.vectorize(traced, signature="()->(2)"), compiler_options=QUICK)(radius)


def test_traced_sets():
    """With bounds that are traced only functions of all of the line give numbers for sure."""
    guarded = constants(lambda x: jnp.where(jnp.isnan(jnp.exp(x)), 0.0, x), 1.0)
    assert guarded[0] == pytest.approx(1.0)


FAST = ("log", "power 1.5", "x/y")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in PARTIAL]
)
def test_traced_sets_of_functions_with_an_end(name):
    partial = PARTIAL[name]

    def guarded(x):
        return jnp.where(jnp.isfinite(partial(x)), x[::-1], 0.0)

    for f in (guarded, partial):
        with pytest.raises((DiscontinuityError, CertificationError)):
            smooth(f, 0.1, box(-2.0, 2.0)).certificate(jnp.ones(2))
    with pytest.raises((DiscontinuityError, CertificationError)):
        constants(guarded, 2.0)
    try:
        found = constants(partial, 2.0)
    except (DiscontinuityError, CertificationError):
        return
    assert np.isinf(found).any()


def test_sign_of_a_determinant_over_traced_sets():
    """It jumps where the matrix is singular, which the second radius does not exclude."""

    def f(x):
        return jnp.linalg.slogdet(1 + x[None])[0] * x

    within, beyond = constants(f, jnp.array([0.1, 3.0]), 1)
    assert within[0] == pytest.approx(1.0)
    assert np.isinf(beyond).all()
