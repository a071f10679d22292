"""Enclosures, kinks and jumps of one-variable programs."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsmooth.math.interval import Interval
from jaxsmooth.math.jets import Walk
from jaxsmooth.math.piecewise import Discontinuity, piecewise
from jaxsmooth.math.univariate import Operation, Univariate

sys.path.insert(0, str(Path(__file__).parent))
from activations import KINKS, NUMPY, PROGRAMS, program


def drawn_intervals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of all widths around the interesting region."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=count) * 3
    radius = 10.0 ** rng.uniform(-4, 1, count)
    lo, hi = centre - radius, centre + radius
    lo[:8], hi[:8] = [0, -1, -3, 3, 0.3, 0, 1, 0], [1, 0, 3, 9, 0.4, 0.25, 1.5, 1e-6]
    return lo, hi


def samples(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Points of each interval, dense also around kinks."""
    special = np.array([-3.0, -1.0, 0.0, 0.3, 1.0, 3.0])
    special = np.concatenate([special - 1e-7, special, special + 1e-7])
    x = lo[:, None] + np.linspace(0, 1, 400) * (hi - lo)[:, None]
    x = np.concatenate([x, np.broadcast_to(special, (lo.size, special.size))], axis=1)
    return np.sort(np.clip(x, lo[:, None], hi[:, None]), axis=1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_evaluate(name: str) -> None:
    """Programs mean what their names say, in NumPy and in JAX."""
    x = np.linspace(-5, 5, 1001)
    function = piecewise(PROGRAMS[name])
    np.testing.assert_allclose(function.evaluate(x), NUMPY[name](x), rtol=1e-12, atol=1e-14)
    traced = jax.jit(function.evaluate)(x.astype(np.float32))
    assert traced.dtype == jnp.float32
    np.testing.assert_allclose(traced, NUMPY[name](x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_range_and_slope_are_sound_and_sharp(name: str) -> None:
    """Samples and difference quotients are enclosed, and nearly fill the enclosure."""
    function = piecewise(PROGRAMS[name])
    lo, hi = drawn_intervals(500, seed=3)
    x = samples(lo, hi)
    y = NUMPY[name](x)
    low, high = function.range(lo, hi)
    rounding = 1e-13 * (np.abs(y).max(axis=1) + np.abs(x).max(axis=1))
    assert np.all(low <= y.min(axis=1) + rounding)
    assert np.all(high >= y.max(axis=1) - rounding)
    extra = (high - low) - (y.max(axis=1) - y.min(axis=1))
    moderate = hi - lo > 0.05
    assert np.all(extra[moderate] <= 0.05 * (high - low)[moderate] + 1e-3)

    step = np.diff(x, axis=1)
    usable = step > 1e-8
    rate = np.diff(y, axis=1) / np.where(usable, step, 1.0)
    least = np.where(usable, rate, np.inf).min(axis=1)
    most = np.where(usable, rate, -np.inf).max(axis=1)
    slope_low, slope_high = function.slope(lo, hi)
    noise = 1e-6
    assert np.all(slope_low <= least + noise)
    assert np.all(slope_high >= most - noise)
    size = np.maximum(np.abs(slope_low), np.abs(slope_high))
    sampled = moderate & (hi - lo < 2)  # wide ones are sampled too coarsely to compare
    kinks = np.array([k for k, _ in KINKS.get(name, [])] + [np.nan])
    at_end = (np.abs(np.stack([lo, hi])[..., None] - kinks) < 0.01).any(axis=(0, 2))
    sampled &= ~at_end
    loose = 0.05
    assert np.all((slope_high - most)[sampled] <= loose * size[sampled] + 0.01)
    assert np.all((least - slope_low)[sampled] <= loose * size[sampled] + 0.01)


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"log_one_plus_exp"}))
def test_sharp_at_every_width(name: str) -> None:
    """Values are within 5 % of their true range, f' and f'' of their true size.

    What is small against values, slopes or curvatures nearby may be known less well.

    Of log(1 + exp(x)) as it stands this does not hold: programs have softplus in its place.
    """
    function = piecewise(PROGRAMS[name])
    rng = np.random.default_rng(7)
    centre, width = rng.uniform(-6, 6, 120), 10.0 ** rng.uniform(-6, 1, 120)
    lo, hi = centre - width / 2, centre + width / 2
    x = lo[:, None] + np.linspace(0, 1, 1001) * width[:, None]
    with np.errstate(all="ignore"):
        jet = Walk(Interval(x.ravel(), x.ravel())).run(PROGRAMS[name])
    queries = function.range, function.slope, function.curvature
    parts = jet.value, jet.slope, jet.curvature
    for order, (query, part) in enumerate(zip(queries, parts, strict=True)):
        ends = (part.lo, -1), (part.hi, 1)
        known = [np.where(np.isfinite(e), e, -s * np.inf).reshape(x.shape) for e, s in ends]
        least, most = known[0].min(axis=1), known[1].max(axis=1)
        low, high = query(lo, hi)
        size = np.maximum(abs(least), abs(most))
        assert np.all(np.maximum(least - low, high - most) <= 0.05 * size + 1e-3)
        if order == 0:
            assert np.all((high - low) <= 1.05 * (most - least) + 1e-5)


def test_far_cells_are_refined() -> None:
    """No cells are left whose enclosures are far too wide, where others only are a little."""
    function = piecewise(program(("cosh", (0,)), ("log", (1,))))
    for end in (20.0, 80.0):
        assert function.slope(-end, end)[1] <= 1.2
        assert function.curvature(-end, end)[1] <= 1.05


@pytest.mark.parametrize("name", PROGRAMS)
def test_curvature_is_sound(name: str) -> None:
    """Changes of the slope away from kinks are what the curvature allows."""
    function = piecewise(PROGRAMS[name])
    x = np.linspace(-6, 6, 4001) + 1e-4
    step = 1e-3
    second = (NUMPY[name](x + step) - 2 * NUMPY[name](x) + NUMPY[name](x - step)) / step**2
    low, high = function.curvature(x - step, x + step)
    smooth = np.ones(x.size, bool)
    for location, _ in KINKS.get(name, []):
        smooth &= np.abs(x - location) > 2 * step
    assert np.all((low <= second + 1e-6) | ~smooth)
    assert np.all((high >= second - 1e-6) | ~smooth)
    third = np.abs(np.diff(second[smooth])).max() + 1e-3
    assert np.median((high - low)[smooth]) <= 10 * third + 0.05


@pytest.mark.parametrize("name", PROGRAMS)
def test_kinks(name: str) -> None:
    """All kinks are found with their jumps, and smooth joints are none."""
    kinks = piecewise(PROGRAMS[name]).kinks
    expected = KINKS.get(name, [])
    assert [k.location for k in kinks] == [location for location, _ in expected]
    np.testing.assert_allclose([k.jump for k in kinks], [j for _, j in expected], rtol=1e-12)
    assert all(k.width <= 1e-15 and k.gap <= 1e-14 for k in kinks)


def test_global_constants() -> None:
    """Constants known from the literature come out over the whole line."""
    known = {
        "silu": ((-0.0998393, 1.0998393), 0.5),
        "gelu_erf": ((-0.1289157, 1.1289157), 0.7978846),
        "softplus": ((0.0, 1.0), 0.25),
        "softsign": ((0.0, 1.0), 2.0),
        "huber": ((-1.0, 1.0), 1.0),
        "elu": ((0.0, 1.0), 1.0),
    }
    for name, (slopes, curvature) in known.items():
        function = piecewise(PROGRAMS[name])
        np.testing.assert_allclose(function.slope(-np.inf, np.inf), slopes, atol=2e-3)
        found = np.abs(function.curvature(-np.inf, np.inf)).max()
        assert curvature * (1 - 1e-6) <= found <= 1.02 * curvature
    low, high = piecewise(PROGRAMS["silu"]).range(-np.inf, 0.0)
    assert (float(low), float(high)) == pytest.approx((-0.2784645, 0.0), abs=1e-4)
    low, high = piecewise(PROGRAMS["gelu_tanh"]).range(-np.inf, 3.0)
    assert float(low) == pytest.approx(-0.170041, abs=1e-4)
    assert float(high) == pytest.approx(2.99636, abs=1e-4)


def test_saturated_slopes_are_small() -> None:
    """Narrow sets deep in a flat part keep their tiny slopes (trained networks)."""
    low, high = piecewise(PROGRAMS["silu"]).slope(np.array([-30.0]), np.array([-29.9]))
    assert low[0] > -4e-12
    assert high[0] < 0
    low, high = piecewise(PROGRAMS["hard_tanh"]).slope(np.array([1.0]), np.array([5.0]))
    assert (low[0], high[0]) == (0.0, 0.0)
    low, high = piecewise(PROGRAMS["hard_tanh"]).slope(np.array([1.0]), np.array([1.0]))
    assert (low[0], high[0]) == (0.0, 1.0)


JUMPS = {
    "where": (program(("gt", (0, 0.0)), ("add", (0, 1.0)), ("select_n", (1, 0, 2))), 0.0, 0.0, 1.0),
    "single point": (program(("eq", (0, 0.5)), ("select_n", (1, 0, 9.0))), 0.5, 0.5, 9.0),
    "sign": (program(("sub", (0, 0.7)), ("sign", (1,))), 0.7, -1.0, 1.0),
    "off the grid": (
        program(("mul", (0, 0.1)), ("gt", (1, 0.0777)), ("select_n", (2, 1.0, 2.0))),
        0.777,
        1.0,
        2.0,
    ),
}


@pytest.mark.parametrize("name", JUMPS)
def test_jumps(name: str) -> None:
    """A jump is an error where it is met, and makes slopes infinite around it."""
    function_program, location, left, right = JUMPS[name]
    function = piecewise(function_program)
    with pytest.raises(Discontinuity) as caught:
        _ = function.kinks
    assert caught.value.location == pytest.approx(location, abs=1e-15)
    assert (caught.value.left, caught.value.right) == pytest.approx((left, right))
    assert function.kinks_within(location + 0.1, 50.0) == ()
    lo, hi = np.array([location, location - 1, location + 1]), np.array([location + 1.0] * 3)
    for low, high in (function.slope(lo, hi), function.curvature(lo, hi)):
        assert np.isinf(low[:2]).all()
        assert np.isinf(high[:2]).all()
        assert np.isfinite(low[2])
        assert np.isfinite(high[2])
    low, high = function.range(lo, hi)
    assert low[1] <= min(left, right)
    assert high[1] >= max(left, right)


@pytest.mark.parametrize("name", JUMPS)
def test_beside_a_jump(name: str) -> None:
    """A set that leaves the jump out has finite constants, however near it comes."""
    function_program, location, *_ = JUMPS[name]
    function, near = piecewise(function_program), 1e-5
    lo, hi = np.array([location + near, -3.0]), np.array([5.0, location - near])
    for low, high in (function.slope(lo, hi), function.curvature(lo, hi), function.range(lo, hi)):
        assert np.isfinite(low).all()
        assert np.isfinite(high).all()


def test_unselected_branches_do_not_matter() -> None:
    """The double-where idiom: a branch that is not taken may be undefined or kinked."""
    guarded = program(
        ("gt", (0, 1.0)), ("log", (0,)), ("sub", (0, 1.0)), ("select_n", (1, 3, 2))
    )  # log(x) above 1, x - 1 below: meets with slope 1 on both sides
    function = piecewise(guarded)
    assert function.kinks == ()
    assert not function.domain_error(-5.0, 5.0)
    hidden = program(("abs", (0,)), ("gt", (0, 1.0)), ("select_n", (2, 0, 1)))
    assert [k.location for k in piecewise(hidden).kinks] == []


def test_branches_that_meet_at_zero_with_other_slopes() -> None:
    """max(x, x²/2) has kinks at 0 and 2: near 0 the two differ by less than any cell shows."""
    squared = program(("mul", (0, 0)), ("mul", (1, 0.5)), ("max", (0, 2)))
    function = piecewise(squared)
    assert function.located
    np.testing.assert_allclose([k.location for k in function.kinks], [0.0, 2.0], atol=1e-15)
    np.testing.assert_allclose([k.jump for k in function.kinks], [1.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(function.slope(-1.0, 1.0), (-1.0, 1.0), rtol=1e-12)


def test_infinitely_many_kinks() -> None:
    """Near zero the kinks of |sin| are found; where they are not, slopes are infinite."""
    function = piecewise(program(("sin", (0,)), ("abs", (1,))))
    locations = [k.location for k in function.kinks_within(-10.0, 10.0)]
    np.testing.assert_allclose(locations, np.pi * np.arange(-3, 4), atol=1e-13)
    np.testing.assert_allclose(function.slope(-10.0, 10.0), (-1.0, 1.0), atol=1e-6)
    assert np.isinf(function.slope(-np.inf, np.inf)).all()
    np.testing.assert_allclose(function.range(-np.inf, np.inf), (0.0, 1.0), atol=1e-12)


POLES = {
    "logit": (program(("log", (0,)), ("sub", (1.0, 0)), ("log", (2,)), ("sub", (1, 3))), 0, 1),
    "barrier": (program(("log", (0,)), ("sub", (1.0, 0)), ("log", (2,)), ("add", (1, 3))), 0, 1),
    "barrier far from 0": (
        program(
            ("sub", (0, 10.0)), ("log", (1,)), ("sub", (12.0, 0)), ("log", (3,)), ("add", (2, 4))
        ),
        10, 12,
    ),
    "barrier of a square": (program(("mul", (0, 0)), ("sub", (1.0, 1)), ("log", (2,))), -1, 1),
    "reciprocal": (program(("div", (1.0, 0)), ("add", (0, 1))), 0, 4),
    "log(x) / x": (program(("log", (0,)), ("div", (1, 0))), 0, 4),
    "root": (program(("sqrt", (0,)), ("add", (0, 1))), 0, 4),
    "entropy": (
        program(("log", (0,)), ("mul", (0, 1)), ("sub", (1.0, 0)), ("log", (3,)), ("mul", (3, 4)),
                ("add", (2, 5))),
        0, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", POLES)
def test_sharp_between_poles(name: str) -> None:
    """Values and derivatives are enclosed within 5 % where they are unbounded elsewhere."""
    function_program, first, last = POLES[name]
    function, length = piecewise(function_program), last - first
    rng = np.random.default_rng(5)
    lo = rng.uniform(first + 0.02 * length, last - 0.05 * length, 300)
    hi = np.minimum(lo + length * 10 ** rng.uniform(-2, 0, 300), last - 0.02 * length)
    x = lo[:, None] + np.linspace(0, 1, 1500) * (hi - lo)[:, None]
    flat = Interval(x.ravel(), x.ravel())
    jet = Walk(flat).run(function_program)
    queries = function.range, function.slope, function.curvature
    for query, part in zip(queries, (jet.value, jet.slope, jet.curvature), strict=True):
        exact = part.lo.reshape(x.shape), part.hi.reshape(x.shape)
        low, high = query(lo, hi)
        assert np.all(low <= exact[0].min(axis=1))
        assert np.all(high >= exact[1].max(axis=1))
        size = np.maximum(abs(exact[0]), abs(exact[1])).max(axis=1)
        loose = np.maximum(exact[0].min(axis=1) - low, high - exact[1].max(axis=1))
        assert np.all(loose <= 0.05 * size)


def test_undefined_values() -> None:
    """Outside the domain enclosures are infinite and the mask says so."""
    function = piecewise(program(("log", (0,)), ("mul", (0, 1))))
    lo, hi = np.array([-1.0, 0.5]), np.array([1.0, 2.0])
    assert function.domain_error(lo, hi).tolist() == [True, False]
    low, high = function.range(lo, hi)
    assert np.isinf(low[0])
    assert np.isinf(high[0])
    assert low[1] == pytest.approx(0.5 * np.log(0.5), abs=0.01)
    root = piecewise(program(("mul", (0, 0)), ("sqrt", (1,))))
    assert np.isinf(root.slope(-1.0, 1.0)[1])  # |x| in disguise: refused, not missed


@pytest.mark.parametrize(
    ("name", "x64"), [(n, False) for n in PROGRAMS] + [(n, True) for n in ("silu", "hard_swish")]
)
def test_traced_queries(name: str, x64: bool) -> None:
    """Traced intervals of either precision are enclosed, with finite derivatives."""
    function = piecewise(PROGRAMS[name])
    dtype = np.float64 if x64 else np.float32
    lo, hi = (x.astype(dtype) for x in drawn_intervals(300, seed=4))
    x = samples(lo.astype(float), hi.astype(float))
    y = NUMPY[name](x)

    def ends(a, b):
        return [e(a, b) for e in (function.range, function.slope, function.curvature)]

    def total(a, b, c, d):
        found = ends(a, b)
        return sum(end.sum() for end in found[0]), (found, ends(c, d))

    infinite = np.array([-np.inf, 0.0], dtype), np.array([np.inf, np.inf], dtype)
    strict = jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise")
    with jax.enable_x64(x64), strict[0], strict[1]:
        derivative = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
        (_, (found, unbounded)), gradients = derivative(jnp.asarray(lo), jnp.asarray(hi), *infinite)
    assert all(np.isfinite(g).all() for g in gradients)
    low, high = (np.asarray(end, np.float64) for end in found[0])
    rounding = 1e-13 * (np.abs(y).max(axis=1) + np.abs(x).max(axis=1))
    assert np.all(low <= y.min(axis=1) + rounding)
    assert np.all(high >= y.max(axis=1) - rounding)
    for order, exact in enumerate(ends(lo.astype(float), hi.astype(float))):
        # Known intervals may be sharpened further; both are sound.
        low, high = (np.asarray(end, np.float64) for end in found[order])
        assert np.all(low <= exact[0] + 1e-12 * np.abs(exact[0]) + 1e-12)
        assert np.all(high >= exact[1] - 1e-12 * np.abs(exact[1]) - 1e-12)
        assert not np.isnan(np.asarray(unbounded[order])).any()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(PROGRAMS)),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e3),
    st.floats(0, 1),
)
def test_far_intervals(name: str, lo: float, width: float, t: float) -> None:
    """Anywhere on the line, also beyond the cells."""
    hi = lo + width
    x = min(max(lo + t * width, lo), hi)
    low, high = piecewise(PROGRAMS[name]).range(lo, hi)
    with np.errstate(over="ignore"):
        value = float(PROGRAMS[name].evaluate(x))
    rounding = 1e-9 * max(abs(value), abs(x)) * 1e-3
    assert np.isinf(value) or low - rounding <= value <= high + rounding


@settings(max_examples=200, deadline=None)
@given(*[st.floats(-1e100, 1e100) for _ in range(4)])
def test_interval_arithmetic(a: float, b: float, c: float, d: float) -> None:
    """Corners, computed in exact rational arithmetic, are enclosed."""
    from fractions import Fraction

    x = Interval(np.array([min(a, b)]), np.array([max(a, b)]))
    y = Interval(np.array([min(c, d)]), np.array([max(c, d)]))
    with np.errstate(all="ignore"):
        total, product, cube = x + y, x * y, x.power(3)
        inverse = x.inverse()

    def inside(value: Fraction, z: Interval) -> bool:
        lo, hi = float(z.lo[0]), float(z.hi[0])
        above = lo == -np.inf or Fraction(lo) <= value
        return above and (hi == np.inf or value <= Fraction(hi))

    for p in (a, b):
        for q in (c, d):
            assert inside(Fraction(p) + Fraction(q), total)
            assert inside(Fraction(p) * Fraction(q), product)
        assert inside(Fraction(p) ** 3, cube)
        assert p == 0 or inside(1 / Fraction(p), inverse)


def test_programs_are_told_apart() -> None:
    """Value 0 and the constant 0.0 are equal in Python and not the same operand."""
    minus = Univariate((Operation("sub", (0, 0.0)),), 1)
    plus = Univariate((Operation("sub", (0.0, 0)),), 1)
    assert minus != plus
    assert piecewise(minus).slope(0.0, 1.0)[0] == 1.0
    assert piecewise(plus).slope(0.0, 1.0)[0] == -1.0
    assert piecewise(minus) is piecewise(Univariate((Operation("sub", (0, 0.0)),), 1))


def test_malformed_programs() -> None:
    """Unknown operations and later values are errors."""
    with pytest.raises(ValueError, match="unknown operation"):
        program(("floor", (0,)))
    with pytest.raises(ValueError, match="refers to value 2"):
        program(("add", (0, 2)))
    for operation in (("select_n", (0, 0, 0)), ("integer_pow", (0,)), ("max", (0, 0, 1.0))):
        with pytest.raises(ValueError, match="operation 1"):
            program(operation)
    with pytest.raises(ValueError, match="operation 2 takes"):
        program(("gt", (0, 0.0)), ("mul", (0, 1)))
    with pytest.raises(ValueError, match="constant"):
        program(("exp", (1.0,)))
    with pytest.raises(ValueError, match="no value"):
        program(("neg", (0,)), output=4)


def test_choices_between_equal_numbers_are_made_beside_them() -> None:
    """Values stay what they are, and derivatives are those of the chosen side."""
    bent = {
        "max": (Operation("max", (0, 0.0)), (0.0, 1.0)),
        "min": (Operation("min", (0.0, 0)), (1.0, 0.0)),
        "abs": (Operation("abs", (0,)), (-1.0, 1.0)),
        "low": (Operation("clamp", (0.0, 0, 1.0)), (0.0, 1.0)),
        "high": (Operation("clamp", (-1.0, 0, 0.0)), (1.0, 0.0)),
    }
    for operation, slopes in bent.values():
        function = Univariate((operation,), 1)
        for beside, slope in zip((-0.25, 0.25), slopes, strict=True):
            value, found = jax.value_and_grad(function.evaluate)(0.0, beside)
            assert (value, found) == (0.0, slope)
        x = jnp.array([-2.0, -1.0, 0.5, 1.0, 2.0, jnp.nan])
        np.testing.assert_array_equal(function.evaluate(x, x), function.evaluate(x))
    chosen = (Operation("ge", (0, 0.0)), Operation("neg", (0,)), Operation("select_n", (1, 2, 0)))
    for name, operations in (("ge", chosen), ("gt", (Operation("gt", (0, 0.0)), *chosen[1:]))):
        for beside, slope in ((-0.25, -1.0), (0.25, 1.0)):
            found = jax.grad(Univariate(operations, 3).evaluate)(0.0, beside)
            assert found == slope, name


def test_seams_are_all_points_where_choices_change() -> None:
    softplus = Univariate(
        (
            Operation("max", (0, 0.0)),
            Operation("abs", (0,)),
            Operation("neg", (2,)),
            Operation("exp", (3,)),
            Operation("log1p", (4,)),
            Operation("add", (1, 5)),
        ),
        6,
    )
    function = piecewise(softplus)
    assert function.kinks == ()
    (seam,) = function.joints.seams
    assert seam.location == 0
    np.testing.assert_allclose((seam.slopes, seam.curvatures), ((0.5, 0.5), (0.25, 0.25)))


HUGE_ELSEWHERE = {
    "beside a pole": ((("min", (0, 0.0)), ("add", (1, 0.2)), ("div", (0.01, 2))), 0.25),
    "beside a steep square": (
        (("integer_pow", (0,), (2,)), ("mul", (1, 1e15)), ("abs", (0,)), ("mul", (3, 1e-3)),
         ("add", (2, 4))),
        2e-3,
    ),
    "beside an exponential": (
        (("mul", (0, 60.0)), ("exp", (1,)), ("max", (0, 0.0)), ("add", (2, 3))),
        1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE_ELSEWHERE)
def test_kinks_of_functions_that_are_huge_elsewhere(name: str) -> None:
    """Rounding is told from kinks by what is computed at the point alone."""
    steps, jump = HUGE_ELSEWHERE[name]
    function = piecewise(program(*steps), 1e-6)
    (kink,) = function.kinks_within(-0.1, 0.1)
    assert kink.location == 0
    assert kink.jump == pytest.approx(jump, rel=1e-9)


def test_jumps_of_functions_that_are_huge_elsewhere() -> None:
    steps = (
        ("integer_pow", (0,), (2,)), ("mul", (1, 1e12)), ("gt", (0, 0.0)),
        ("select_n", (3, 0.0, 0.1)), ("add", (2, 4)),
    )  # fmt: skip
    with pytest.raises(Discontinuity):
        piecewise(program(*steps), 1e-6).kinks_within(-0.1, 0.1)
