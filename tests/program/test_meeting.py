"""Whether the branches of a function of one variable meet, where rounding or infinity is near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsmooth
from jaxsmooth import box
from jaxsmooth.errors import CertificationError, DiscontinuityError

Function = Callable[[Any], Any]
where = jnp.where
Single = np.float32


def certificate(f: Function, lo: float, hi: float, dtype: Any) -> Any:
    with jax.enable_x64(dtype is np.float64):
        smoothed = jaxsmooth.smooth(f, 0.1, box(lo, hi))
        return smoothed.certificate(jnp.asarray((lo + hi) / 2, dtype))


JUMPS: dict[str, tuple[Function, float, float, Any]] = {
    "far away": (lambda x: where(x > 2e6, 1.0, 0.0), 1e6, 3e6, Single),
    "in large units": (lambda x: where(x * 1e9 > 2.4e9, 1.0, 0.0), 1.0, 3.0, Single),
    "bfloat16": (lambda x: where(x > 20, x, 0 * x), 10.0, 30.0, jnp.bfloat16),
    "a tenth in bfloat16": (lambda x: where(x > 1, x, 0.9 * x), 0.0, 2.0, jnp.bfloat16),
    "float16": (lambda x: where(x > 200, x, 0 * x), 100.0, 300.0, np.float16),
    "large terms": (lambda x: where(x > 1e6, x - 1e6 + 0.5, 0.0), 0.0, 2e6, Single),
    "amplified": (lambda x: where(x > 0.5, x + 9e-7, x) * 1e6, 0.0, 1.0, Single),
    "in an exponent": (
        lambda x: jnp.exp(1e6 * where(x > 0.5, (x + 3e-7) - x, x - x)), 0.0, 1.0, Single
    ),
    "double": (lambda x: where(x * 1e13 > 5e12, x, 0.0), -1.0, 1.0, np.float64),
    "large terms in double": (
        lambda x: where(x > 0, (x + 1e12) - 1e12, x + 0.5), -1.0, 1.0, np.float64
    ),
    "huge": (lambda x: where(x > 1e290, 0.0, x * 0 + 1), 0.0, 1e308, np.float64),
    "at one irrational number": (lambda x: where(x * x == 3, 5.0, x), 0.0, 2.0, Single),
    "at the root of a cube": (lambda x: where(x * x * x == 10, 7.0, x), 0.0, 3.0, Single),
    "where exp is 2": (lambda x: where(jnp.exp(x) == 2, x, 0.0) + x, 0.0, 3.0, Single),
    "sign of it": (lambda x: jnp.sign(x * x - 3) ** 2, -1.0, 2.0, Single),
    "neither more nor less": (
        lambda x: where(x * x > 3, x, where(x * x < 3, x, 9.0)), 0.0, 2.0, Single
    ),
    "infinite in a shorter type": (
        lambda x: where(x.astype(jnp.float16) < jnp.inf, x, 0.0), 0.0, 1e5, Single
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JUMPS)
def test_jumps(name: str) -> None:
    """No rounding excuses them."""
    with pytest.raises(DiscontinuityError, match="jumps"):
        certificate(*JUMPS[name])


SINGULAR: dict[str, tuple[Function, float, float]] = {
    "slope": (lambda x: where(x > 1, jnp.sqrt(x - 1), 0.0), -1.0, 1.0),
    "slope of a line": (lambda x: where(x > 1, jnp.sqrt(x - 1), x - 1), -1.0, 1.0),
    "guarded": (lambda x: where(x > 0, jnp.sqrt(jnp.maximum(x, 0)), 0.0), -1.0, 0.0),
    "curvature": (lambda x: where(x > 1, (x - 1) ** 1.5, 0.0), -1.0, 1.0),
    "value": (lambda x: where(x >= 1, jnp.inf, x), -1.0, 1.0),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_sets_that_end_where_the_other_side_is_infinite(name: str) -> None:
    """The derivative by JAX at the end is that of the other side; elsewhere all is well."""
    f, lo, hi = SINGULAR[name]
    with pytest.raises(CertificationError):
        certificate(f, lo, hi, Single)
    c = certificate(f, lo, hi - 0.01, Single)
    assert c.lipschitz <= 1 + 1e-9
    assert c.smoothness == 0


KINKS: dict[str, tuple[Function, float, Any]] = {
    "clipped in other units": (lambda x: jnp.clip(x * 1e13, -1e12, 1e12) * 1e-13, 1.0, Single),
    "abs in other units": (lambda x: jnp.abs(x * 1e13) * 1e-13, 2.0, Single),
    "relu in volts": (lambda x: jax.nn.relu(x * 6.242e18) / 6.242e18, 1.0, Single),
    "compared in other units": (lambda x: where(x / 1e-13 > 0, x, 0.5 * x), 0.5, Single),
    "beside large terms": (
        lambda x: where(x > 0, 1e12 * x + 0.4 * x, 1e12 * x) - 1e12 * x, 0.4, np.float64
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_kinks_among_large_slopes(name: str) -> None:
    """They are smoothed: curvature is that of a kink of this jump with this error."""
    f, jump, dtype = KINKS[name]
    c = certificate(f, -1.0, 1.0, dtype)
    assert 0.05 <= c.error <= 0.1
    assert c.smoothness >= 0.5 * jump**2 / (16 * 0.1)


MEETING: dict[str, tuple[Function, Any]] = {
    "a third": (lambda x: where(x > 1 / 3, 3 * x - 1, 0.0), Single),
    "huber": (lambda x: where(abs(x) < 0.3, x * x / 2, 0.3 * (abs(x) - 0.15)), Single),
    "huber in bfloat16": (
        lambda x: where(abs(x) < 0.3, x * x / 2, 0.3 * (abs(x) - 0.15)), jnp.bfloat16
    ),
    "biweight": (
        lambda x: where(
            abs(x) < 0.4685, 0.4685**2 / 6 * (1 - (1 - (x / 0.4685) ** 2) ** 3), 0.4685**2 / 6
        ),
        Single,
    ),
    "tangent": (
        lambda x: where(
            x > 0.7, np.tanh(0.7) + (x - 0.7) * (1 - np.tanh(0.7) ** 2), jnp.tanh(x)
        ),
        Single,
    ),
    "parabola": (lambda x: where(x < 0.1, x * x, 0.01 + (x - 0.1) * 0.2), Single),
}  # fmt: skip


@pytest.mark.parametrize("name", MEETING)
def test_constants_may_be_rounded(name: str) -> None:
    f, dtype = MEETING[name]
    assert np.isfinite(certificate(f, -1.0, 1.0, dtype).smoothness)
