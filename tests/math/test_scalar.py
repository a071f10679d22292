"""Soundness and sharpness of the facts of elementary functions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsmooth.math.bessel import BESSEL
from jaxsmooth.math.enclosure import SmoothFunction
from jaxsmooth.math.incomplete import incomplete_beta, incomplete_gamma
from jaxsmooth.math.scalar import FACTS, integer_pow, power, softplus
from jaxsmooth.math.special import SPECIAL, polygamma, zeta

# Parameters on all sides of those where limits at the ends of the domain change, and some
# between which turning points appear, meet and vanish.
PAIRS = (
    (0.3, 0.3), (0.3, 2.7), (1.0, 1.0), (2.7, 1.0), (1.4, 2.0), (1.5, 1.5), (9.0, 1.4), (2.7, 9.0),
)  # fmt: skip
WITH_PARAMETERS = {
    **{f"polygamma[{n}]": polygamma(n) for n in (0, 1, 2, 5)},
    **{f"zeta[{s}]": zeta(s) for s in (1.1, 3.5)},
    **{f"gammainc[{a}]": incomplete_gamma(a) for a in (0.3, 1.0, 1.4, 2.0, 2.7, 60.0)},
    **{f"gammaincc[{a}]": incomplete_gamma(a, upper=True) for a in (0.3, 2.7)},
    **{f"betainc[{a}, {b}]": incomplete_beta(a, b) for a, b in PAIRS},
}
FUNCTIONS = {
    **FACTS,
    **SPECIAL,
    **BESSEL,
    **WITH_PARAMETERS,
    "softplus": softplus(),
    **{f"integer_pow[{n}]": integer_pow(n) for n in (-3, -2, -1, 0, 1, 2, 3, 4, 7)},
    **{f"pow[{p}]": power(p) for p in (-1.5, -0.3, 0.3, 1.5, 2.5, 3.0)},
}
# Of families compiled again for every parameter, one each.
ONE_EACH = {"polygamma[2]", "zeta[3.5]", "gammainc[1.4]", "gammaincc[2.7]", "betainc[1.4, 2.0]"}
TRACED = [n for n in FUNCTIONS if n not in WITH_PARAMETERS or n in ONE_EACH]
LARGE = 30.0


def _turned(function):
    """The Bessel function's integral, by the trapezoidal rule; derivatives from the right at 0."""
    cosine = np.cos(np.linspace(0, 2 * np.pi, 256, endpoint=False))
    return lambda size: jnp.mean(function(cosine) * jnp.exp(-size * (1 - cosine)))


def _size(t):
    return jnp.where(t >= 0, t, -t)


_I0E, _I1E = _turned(np.ones_like), _turned(lambda cosine: cosine)


def exact(name: str, order: int, x: np.ndarray) -> np.ndarray:
    """Derivatives by JAX, in float64: independent of the declared formulas."""
    unary = {
        "neg": jnp.negative,
        "logistic": jax.nn.sigmoid,
        "square": jnp.square,
        "reciprocal": lambda t: 1 / t,
        "softplus": jax.nn.softplus,
        "erf": jax.scipy.special.erf,
        "erfc": jax.scipy.special.erfc,
        "rsqrt": jax.lax.rsqrt,
        "lgamma": jax.scipy.special.gammaln,
        "digamma": jax.scipy.special.digamma,
        "erf_inv": jax.scipy.special.erfinv,
        "one_minus_square": lambda t: (1 - t) * (1 + t),
        "bessel_i0e": lambda t: _I0E(_size(t)),
        "bessel_i1e": lambda t: jnp.where(t >= 0, 1, -1) * _I1E(_size(t)),
    }
    if name in WITH_PARAMETERS:
        special, _, parameters = name.removesuffix("]").partition("[")
        known = tuple(map(float, parameters.split(", ")))
        if special == "polygamma":
            known = (int(known[0]),)

        def function(t):
            return getattr(jax.scipy.special, special)(*known, t)

    elif name.startswith(("pow", "integer_pow")):
        exponent = float(name[name.index("[") + 1 : -1])
        exponent = int(exponent) if exponent.is_integer() else exponent

        def function(t):
            return t**exponent

    else:
        function = unary.get(name) or getattr(jnp, name)
    for _ in range(order):
        function = jax.grad(function)
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.vmap(function))(jnp.ravel(x))).reshape(x.shape)


def window(function) -> tuple[float, float]:
    """Part of the domain to sample."""
    lo, hi = getattr(function, "domain", (-LARGE, LARGE))
    return max(lo, -LARGE), min(hi, LARGE)


def intervals(function, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of all widths inside the domain, away from poles on half of them."""
    rng = np.random.default_rng(seed)
    lo, hi = window(function)
    scale = 10.0 ** rng.uniform(-3, 0, count)
    a = np.clip(rng.uniform(lo, hi, count) * scale, lo, hi)
    b = np.clip(a + rng.normal(size=count) * scale * (hi - lo) / 4, lo, hi)
    return np.minimum(a, b), np.maximum(a, b)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sound_and_sharp(name: str) -> None:
    """The enclosure contains all samples, and their hull almost fills it."""
    function = FUNCTIONS[name]
    los, his = intervals(function, 60, seed=1)
    t = np.linspace(0, 1, 1001)
    near = np.concatenate([10.0 ** np.linspace(-8, 1, 500), -(10.0 ** np.linspace(-8, 1, 500))])
    x = los[:, None] + np.concatenate([t, 0 * near]) * (his - los)[:, None]
    x[:, t.size :] = near  # turning points are near zero
    x = np.clip(x, los[:, None], his[:, None])
    singular = np.array(function.domain_error(los, his))
    assert (~singular).sum() > 5
    for order, enclose in enumerate((function.range, function.slope, function.curvature)):
        lower, upper = enclose(los, his)
        assert not np.isnan(lower).any()
        assert not np.isnan(upper).any()
        assert np.all(lower <= upper)
        y = exact(name, order, x)
        usable = np.isfinite(y).all(axis=1) & ~singular
        slack = 1e-11 * (1e-3 + np.abs(np.where(np.isfinite(y), y, 0.0)))  # autodiff's own
        inside = (y >= lower[:, None] - slack) & (y <= upper[:, None] + slack)
        assert inside[usable].all(), (name, order)
        # Samples miss a smooth extremum by the square of their distance.
        y = np.where(np.isfinite(y), y, 0.0)
        least, most = y.min(axis=1), y.max(axis=1)
        size = most - least + 1e-9 * np.maximum(np.abs(least), np.abs(most)) + 1e-12
        bounded = usable & np.isfinite(lower) & np.isfinite(upper)
        assert (bounded & (least - lower > 2e-3 * size)).sum() == 0, (name, order)
        assert (bounded & (upper - most > 2e-3 * size)).sum() == 0, (name, order)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_points_are_enclosed_to_rounding(name: str) -> None:
    """On a degenerate interval only rounding is left."""
    function = FUNCTIONS[name]
    lo, hi = window(function)
    x = np.linspace(lo, hi, 101)[1:-1]
    poles = [p[0] for d in getattr(function, "derivatives", ()) for p in d.poles]
    x = x[~function.domain_error(x, x) & ~np.isin(x, poles)]
    for enclose in (function.range, function.slope, function.curvature):
        lower, upper = enclose(x, x)
        finite = np.isfinite(lower) & np.isfinite(upper)
        assert finite.sum() >= x.size - 1
        size = np.abs(lower[finite]) + np.abs(upper[finite])
        assert np.all(upper[finite] - lower[finite] <= 1e-9 * size + 1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_stationary_values_are_attained(name: str) -> None:
    """Declared extrema are values at the declared places, and derivatives vanish there."""
    function = FUNCTIONS[name]
    if not isinstance(function, SmoothFunction):
        pytest.skip("no declared turning points")
    for order, facts in enumerate(function.derivatives):
        for location, value in facts.turns:
            found = exact(name, order, np.array([location]))[0]
            assert found == pytest.approx(value, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_whole_line_and_nan(name: str) -> None:
    """Infinite and broken intervals give enclosures without NaN."""
    function = FUNCTIONS[name]
    lo = np.array([-np.inf, -np.inf, 0.5, np.nan, 2.0, 1e300, 0.0])
    hi = np.array([np.inf, 0.5, np.inf, 1.0, 1.0, np.inf, 0.0])
    for enclose in (function.range, function.slope, function.curvature):
        lower, upper = enclose(lo, hi)
        assert not np.isnan(lower).any()
        assert not np.isnan(upper).any()
        assert np.all(lower <= upper)


@pytest.mark.parametrize(
    ("name", "x64"), [(n, False) for n in TRACED] + [(n, True) for n in ("tanh", "sin", "sqrt")]
)
def test_traced_encloses_known(name: str, x64: bool) -> None:
    """Tracers give a slightly wider enclosure than float64 numbers, differentiably."""
    function = FUNCTIONS[name]
    dtype = np.float64 if x64 else np.float32
    los, his = (x.astype(dtype) for x in intervals(function, 200, seed=2))
    lo, hi = window(function)
    infinite = np.array([-np.inf, np.inf], dtype)
    los = np.concatenate([los, np.array([lo, lo, 0.5], dtype), infinite[:1]])
    his = np.concatenate([his, np.array([hi, 0.5, hi], dtype), infinite[1:]])

    def ends(a, b):
        return [e(a, b) for e in (function.range, function.slope, function.curvature)]

    def total(a, b):
        found = ends(a, b)
        return sum(end.sum() for pair in found for end in pair), found

    known = ends(los.astype(np.float64), his.astype(np.float64))
    with jax.enable_x64(x64):
        derivative = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
        (_, found), gradients = derivative(los, his)
    finite = np.all([np.isfinite(y) for pair in found for y in pair], axis=0)
    for gradient in gradients:
        assert not np.isnan(np.asarray(gradient)[finite]).any()
    # Both are sound and neither need contain the other in the last units.
    with np.errstate(over="ignore", invalid="ignore"):
        for (lower, upper), (below, above) in zip(known, found, strict=True):
            assert below.dtype == dtype
            assert above.dtype == dtype
            below, above = np.asarray(below, np.float64), np.asarray(above, np.float64)
            assert not np.isnan(below).any()
            assert not np.isnan(above).any()
            shrunk = [np.where(np.isinf(y), 0.0, np.abs(y)) * 1e-10 for y in (lower, upper)]
            assert np.all(below <= lower + shrunk[0] + 1e-290)
            assert np.all(above >= upper - shrunk[1] - 1e-290)
            size = 1e-3 * (1 + np.abs(lower) + np.abs(upper))
            moderate = (np.abs(lower) < 1e20) & (np.abs(upper) < 1e20)
            assert np.all((lower - below <= size) | ~moderate)
            assert np.all((above - upper <= size) | ~moderate)


def test_a_known_end_is_cast_outward() -> None:
    """A float64 bound that meets a float32 tracer must not move inward."""
    hi = np.nextafter(1.0, 2.0)
    below, above = jax.jit(lambda lo: FACTS["neg"].range(lo, hi))(jnp.float32(0.0))
    assert float(below) <= -hi
    assert float(above) >= 0.0


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["sin", "cos", "tan"]),
    st.floats(-1e17, 1e17),
    st.floats(0, 20),
    st.floats(0, 1),
)
def test_periodic_functions_at_any_distance(name: str, lo: float, width: float, t: float) -> None:
    """Turning points far from zero are not missed."""
    hi = lo + width
    x = min(max(lo + t * width, lo), hi)
    function = FACTS[name]
    lower, upper = function.range(lo, hi)
    value = getattr(math, name)(x)
    assert lower <= value <= upper


def test_periodic_functions_are_sharp() -> None:
    """Extrema belong to an interval exactly when they are inside."""
    pi = math.pi
    for k in range(-5, 6):
        lo, hi = FACTS["sin"].range(pi * k - 0.1, pi * k + 0.1)
        assert max(abs(lo), abs(hi)) == pytest.approx(math.sin(0.1), rel=1e-12)
        lo, hi = FACTS["cos"].range(pi * k - 0.1, pi * k + 0.2)
        assert (float(hi), float(lo)) == pytest.approx(
            (1.0, math.cos(0.2)) if k % 2 == 0 else (-math.cos(0.2), -1.0)
        )
    assert tuple(map(float, FACTS["sin"].range(0.0, 0.0))) == (0.0, 0.0)
    assert tuple(map(float, FACTS["cos"].slope(0.0, 0.0))) == (0.0, 0.0)
    assert next(map(float, FACTS["tan"].slope(-0.5, 0.5))) == 1.0
    assert np.isinf(FACTS["tan"].range(1.0, 2.0)).all()


def test_singularities() -> None:
    """Ends of a domain have infinite slope or value, and leaving it is reported."""
    assert tuple(map(float, FACTS["sqrt"].range(0.0, 4.0))) == pytest.approx((0.0, 2.0))
    assert FACTS["sqrt"].range(0.0, 4.0)[0] == 0.0
    assert FACTS["sqrt"].slope(0.0, 4.0)[1] == np.inf
    assert FACTS["log"].range(0.0, 1.0) == (-np.inf, 0.0)
    assert FACTS["log"].domain_error(np.array([-1.0, 0.0, 1e-300]), 1.0).tolist() == [
        True,
        True,
        False,
    ]
    assert FACTS["sqrt"].domain_error(np.array([-1e-300, 0.0]), 1.0).tolist() == [True, False]
    assert FACTS["reciprocal"].range(-1.0, 1.0) == (-np.inf, np.inf)
    assert FACTS["reciprocal"].domain_error(-1.0, 0.0)
    assert FACTS["cbrt"].slope(-1.0, 8.0)[1] == np.inf
    assert FACTS["cbrt"].slope(-1.0, 8.0)[0] == pytest.approx(1 / 12)
    assert not FACTS["cbrt"].domain_error(-1.0, 1.0)
    assert integer_pow(-2).range(-1.0, 2.0)[0] == pytest.approx(0.25)
    assert np.isinf(FACTS["sqrt"].range(-1.0, 1.0)).all()


def test_signs_are_exact() -> None:
    """What a following log or sqrt needs: no lower bound falls below the infimum."""
    x = np.array([-1e4, -50.0, 0.0, 50.0, 1e4])
    assert np.all(FACTS["exp"].range(x, x)[0] >= 0)
    assert np.all(FACTS["square"].range(x, x)[0] >= 0)
    assert np.all(FACTS["tanh"].range(x, x)[1] <= 1)
    assert np.all(FACTS["logistic"].range(x, x)[0] >= 0)
    assert FACTS["square"].range(-3.0, 2.0)[0] == 0
    assert FACTS["tanh"].range(0.0, 1.0)[0] == 0
    assert FACTS["exp"].range(800.0, 900.0)[0] < np.inf


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(FUNCTIONS)),
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.floats(0, 1),
)
def test_sound_at_drawn_points(name: str, a: float, b: float, t: float) -> None:
    """Any point of any interval (and both its ends) is enclosed."""
    function = FUNCTIONS[name]
    lo, hi = min(a, b), max(a, b)
    if np.any(function.domain_error(lo, hi)):
        return
    lower, upper = function.range(lo, hi)
    for x in (lo, hi, min(max(lo + t * (hi - lo), lo), hi)):
        with np.errstate(all="ignore"):
            assert lower <= function.evaluate(x) <= upper


@pytest.mark.parametrize("name", FUNCTIONS)
def test_evaluate(name: str) -> None:
    """Both namespaces evaluate the function."""
    function = FUNCTIONS[name]
    x = np.array([1.25, 2.0]) if name in ("acosh",) else np.array([0.25, 0.75])
    with jax.enable_x64(True):
        traced = jax.jit(function.evaluate)(x)
    np.testing.assert_allclose(function.evaluate(x), exact(name, 0, x), rtol=1e-12)
    np.testing.assert_allclose(traced, exact(name, 0, x), rtol=1e-12)
