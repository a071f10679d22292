"""Sets: what they mean for each argument leaf, and what malformed ones are told."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from jaxsmooth.bounds import (
    anything,
    ball,
    box,
    fixed,
    is_traced,
    linf_ball,
    resolve,
    shapes_from_bounds,
)
from jaxsmooth.errors import ArgumentError, BoundsError

PARAMS = {"b": np.zeros(3, np.float32), "w": np.zeros((2, 3), np.float32)}
X = np.zeros(4, np.float32)


class Pair(NamedTuple):
    first: Any
    second: Any


def test_ball_is_joint_over_its_subtree() -> None:
    center = {"b": 1.0, "w": np.arange(6.0).reshape(2, 3)}
    domain = resolve((ball(2.0, center), box(0, 1)), (PARAMS, X))
    b, w, x = domain.leaves
    assert [leaf.path for leaf in domain.leaves] == ["args[0]['b']", "args[0]['w']", "args[1]"]
    assert [leaf.argnum for leaf in domain.leaves] == [0, 0, 1]
    assert [leaf.group for leaf in domain.leaves] == [0, 0, 1]
    assert domain.groups[0].leaves == (0, 1)
    assert domain.groups[0].radius == 2.0
    assert domain.groups[0].declared.center is center
    assert domain.groups[0].path == "args[0]"
    np.testing.assert_array_equal(w.center, center["w"])
    np.testing.assert_allclose(b.hi, 3.0, rtol=1e-15)
    assert (w.lo <= center["w"] - 2).all()
    assert (w.hi >= center["w"] + 2).all()
    assert x.lo.shape == x.hi.shape == (4,)
    assert x.lo.dtype == np.float64
    assert domain.treedef == jax.tree.structure((PARAMS, X))


def test_numbers_are_balls_and_one_set_is_joint_over_all_arguments() -> None:
    for radius in (3, 3.0, np.float32(3), jnp.float32(3), np.array(3)):
        domain = resolve(radius, (PARAMS, X))
        assert [group.leaves for group in domain.groups] == [(0, 1, 2)]
        assert domain.groups[0].radius == 3.0
    assert len(resolve((3, 3), (PARAMS, X)).groups) == 2
    assert len(resolve([{"b": 1, "w": 2}, 3], (PARAMS, X)).groups) == 3


def test_box_and_linf_ball_have_a_group_per_leaf_with_half_width_radius() -> None:
    for declared in (box(-1.0, 3.0), linf_ball(2.0, 1.0)):
        domain = resolve(declared, (PARAMS,))
        assert [group.leaves for group in domain.groups] == [(0,), (1,)]
        for group, leaf in zip(domain.groups, domain.leaves, strict=True):
            exact = 2 * math.sqrt(np.prod(leaf.shape))
            assert exact <= group.radius <= exact * (1 + 1e-13)
            np.testing.assert_array_equal(leaf.center, 1.0)


def test_a_box_with_infinite_sides_has_a_finite_center_inside() -> None:
    lo, hi = np.array([-np.inf, -np.inf, 2.0, 0.0]), np.array([np.inf, -1.0, np.inf, 1.0])
    (leaf,) = (domain := resolve((box(lo, hi),), (X,))).leaves
    np.testing.assert_array_equal(leaf.center, [0.0, -1.0, 2.0, 0.5])
    assert domain.groups[0].radius == np.inf


def test_infinite_radius_and_anything_bound_nothing() -> None:
    for declared in (ball(np.inf), anything(), linf_ball(np.inf), box(-np.inf, np.inf)):
        domain = resolve((declared,), (X,))
        (leaf,) = domain.leaves
        assert (leaf.lo == -np.inf).all()
        assert (leaf.hi == np.inf).all()
        assert (leaf.center == 0).all()
        assert domain.groups[0].radius == np.inf


def test_fixed_values_are_read_in_the_dtype_of_the_argument() -> None:
    value = {"b": 0.1, "w": np.full((2, 3), 0.1)}
    domain = resolve((fixed(value),), (PARAMS,))
    for leaf in domain.leaves:
        assert leaf.fixed
        for bound in (leaf.lo, leaf.hi, leaf.center):
            np.testing.assert_array_equal(bound, np.full(leaf.shape, np.float64(np.float32(0.1))))
        assert domain.groups[leaf.group].radius == 0
        assert leaf.value.dtype == np.float32
        np.testing.assert_array_equal(leaf.value, np.full(leaf.shape, np.float32(0.1)))
    # What cannot be changed afterwards is not copied.
    kept = jnp.full((2, 3), 0.1, jnp.float32)
    domain = resolve((fixed({"b": 0.1, "w": kept}),), (PARAMS,))
    assert domain.leaves[1].value is kept
    assert not resolve((0.0,), (X,)).leaves[0].fixed


def test_fixed_infinite_values_are_kept() -> None:
    (leaf,) = resolve((fixed(np.array([0.0, -np.inf])),), (np.zeros(2),)).leaves
    np.testing.assert_array_equal(leaf.lo, [0.0, -np.inf])


def test_integers_booleans_and_keys() -> None:
    key = jax.random.key(0)
    args = (np.arange(3), np.arange(3), np.zeros(2, bool), key, key)
    domain = resolve((anything(), box(0, 9), anything(), anything(), fixed(key)), args)
    free, digits, flags, any_key, known_key = domain.leaves
    assert (free.lo == -np.inf).all()
    assert (digits.hi == 9).all()
    assert (flags.lo == 0).all()
    assert (flags.hi == 1).all()
    assert any_key.hi == np.inf
    assert known_key.fixed
    assert known_key.value is key
    assert domain.groups[known_key.group].radius == 0


def test_integers_that_float64_rounds_are_enclosed() -> None:
    with jax.enable_x64(True):
        value = np.array([2**53 + 1, 7])
        (leaf,) = resolve((fixed(value),), (value,)).leaves
    assert int(leaf.lo[0]) <= 2**53 + 1 <= int(leaf.hi[0])
    assert leaf.lo[1] == leaf.hi[1] == 7


def test_low_precision_arguments_and_numbers() -> None:
    half = jnp.full(3, 0.1, jnp.bfloat16)
    (leaf,) = resolve((ball(jnp.bfloat16(1.0), half),), (half,)).leaves
    assert leaf.center.dtype == np.float64
    assert leaf.dtype == jnp.bfloat16
    np.testing.assert_array_equal(leaf.center, np.asarray(half, np.float64))


def test_structs_and_python_numbers_are_arguments_too() -> None:
    struct = jax.ShapeDtypeStruct((2,), np.float32)
    domain = resolve((1.0, 2.0, (3.0, None)), (struct, 0.5, (Pair(struct, 1.0), None)))
    assert [leaf.path for leaf in domain.leaves][-2:] == ["args[2][0].first", "args[2][0].second"]
    assert [leaf.shape for leaf in domain.leaves] == [(2,), (), (2,), ()]


def test_describe_has_a_line_per_declared_set() -> None:
    domain = resolve((fixed(PARAMS), box(0.0, np.ones(4))), (PARAMS, X))
    assert domain.describe() == (
        "args[0]: Fixed(value={'b': float32[3], 'w': float32[2,3]})",
        "args[1]: Box(lo=0.0, hi=float64[4])",
    )


@given(
    center=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    radius=st.floats(0, 1e6),
    direction=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_the_interval_of_a_ball_encloses_it(
    center: list[float], radius: float, direction: list[float]
) -> None:
    (leaf,) = resolve((ball(radius, np.array(center)),), (np.zeros(3),)).leaves
    for i, c in enumerate(center):  # exact arithmetic: integers over a power of two
        assert _exactly(leaf.lo[i]) <= _exactly(c) - _exactly(radius)
        assert _exactly(leaf.hi[i]) >= _exactly(c) + _exactly(radius)
        assert leaf.hi[i] - leaf.lo[i] <= 2 * radius + 1e-14 * (abs(c) + radius)


@given(lo=st.floats(-1e300, 1e300), width=st.floats(0, 1e300))
@settings(max_examples=200, deadline=None)
def test_the_radius_of_a_box_bounds_both_sides(lo: float, width: float) -> None:
    hi = lo + width
    domain = resolve((box(lo, hi),), (0.0,))
    center, radius = domain.leaves[0].center, _exactly(domain.groups[0].radius)
    assert lo <= center <= hi
    assert _exactly(hi) - _exactly(center) <= radius
    assert _exactly(center) - _exactly(lo) <= radius


def _exactly(x: Any) -> Any:
    from fractions import Fraction

    return Fraction(float(x))


@given(gains=st.lists(st.floats(0, 1e3), min_size=3, max_size=3), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_radius_bounds_weighted_distances_and_is_attained(gains: list[float], seed: int) -> None:
    domain = resolve((2.0, box(-1.0, 1.0)), ((np.zeros(3), np.zeros(2)), X))
    bound = float(domain.radius(np.array(gains)))
    rng = np.random.default_rng(seed)
    split = rng.dirichlet([1, 1])
    distances = np.array([*2 * np.sqrt(split), 2.0])
    assert np.dot(gains, distances) <= bound * (1 + 1e-12)
    attained = 2 * math.hypot(*gains[:2]) + 2 * gains[2]
    assert attained <= bound <= attained * (1 + 1e-12) + 1e-300


def test_radius_keeps_further_axes_and_zero_times_infinity_is_zero() -> None:
    domain = resolve((anything(), fixed(1.0)), (X, 1.0))
    gains = np.array([[0.0, 1.0], [np.inf, np.inf]])
    np.testing.assert_array_equal(domain.radius(gains), [0.0, np.inf])


def test_traced_numbers_are_enclosed_and_differentiable() -> None:
    center = np.array([1e3, -2e3, 0.1])

    def extent(radius: Any, lo: Any, middle: Any) -> Any:
        bounds = (ball(radius, center), box(lo, np.array([3.0, np.inf])), linf_ball(radius, middle))
        assert is_traced(bounds)
        assert not is_traced((1.0, box(0, 1)))
        domain = resolve(bounds, (np.zeros(3), np.zeros(2), np.zeros(2)))
        first = domain.leaves[0]
        return domain.radius(jnp.array([1.0, 0.0, 1.0])), first.lo, first.hi, domain.leaves[1]

    def numbers(*operands: Any) -> Any:
        total, lo, hi, leaf = extent(*operands)
        return total, lo, hi, leaf.lo, leaf.hi, leaf.center

    total, lo, hi, *side = jax.jit(numbers)(2.0, -1.0, np.ones(2, np.float32))
    exact = 2 + 2 * math.sqrt(2)
    assert exact <= total <= exact * (1 + 1e-5)
    assert (np.asarray(lo, np.float64) <= center - 2).all()
    assert (np.asarray(hi, np.float64) >= center + 2).all()
    assert np.isfinite(side[2]).all()
    slope = jax.grad(lambda *a: numbers(*a)[0], argnums=(0, 1, 2))(2.0, -1.0, jnp.ones(2))
    assert all(np.isfinite(s).all() for s in slope)
    assert float(slope[0]) == pytest.approx(1 + math.sqrt(2), rel=1e-5)


def test_traced_numbers_of_low_precision_are_analysed_in_the_ambient_one() -> None:
    def interval(radius: Any) -> Any:
        return resolve((ball(radius),), (X,)).leaves[0].hi

    assert jax.jit(interval)(jnp.bfloat16(1.0)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert jax.jit(interval)(jnp.float32(1.0)).dtype == jnp.float64


def test_fixed_traced_values() -> None:
    def known(value: Any) -> Any:
        (leaf,) = resolve((fixed(value),), (X,)).leaves
        assert leaf.fixed
        assert leaf.value is value
        return leaf.lo, leaf.hi

    lo, hi = jax.jit(known)(jnp.arange(4.0))
    np.testing.assert_array_equal(lo, hi)


def test_shapes_from_bounds() -> None:
    struct = jax.ShapeDtypeStruct
    bounds = (fixed(PARAMS), box(np.zeros(3, np.float32), 1.0), {"a": ball(1.0, np.zeros(2, int))})
    assert shapes_from_bounds(bounds) == (
        {"b": struct((3,), np.float32), "w": struct((2, 3), np.float32)},
        struct((3,), np.float32),
        {"a": struct((2,), np.float32)},
    )
    assert shapes_from_bounds(fixed(0.5)) == (struct((), np.float32),)
    assert shapes_from_bounds(box({"x": np.zeros((2, 1))}, {"x": np.ones(3)})) == (
        {"x": struct((2, 3), np.float32)},
    )
    assert shapes_from_bounds(linf_ball(1.0, PARAMS)) == (
        {"b": struct((3,), np.float32), "w": struct((2, 3), np.float32)},
    )
    key = jax.random.key(0)
    assert shapes_from_bounds(fixed(key))[0].dtype == key.dtype
    for known in (bounds[:1], (linf_ball(1.0, PARAMS),)):
        assert len(resolve(known, shapes_from_bounds(known)).leaves) == 2


@pytest.mark.parametrize("bounds", [ball(1.0), 2.0, anything(), box(0, 1), ball(1.0, {"a": 0.0})])
def test_unknown_shapes_are_told_how_to_give_them(bounds: Any) -> None:
    with pytest.raises(BoundsError, match=r"args\[1\]: .* does not say the shape .*"
                       r"jax.ShapeDtypeStruct\(shape, dtype\)"):  # fmt: skip
        shapes_from_bounds((fixed(1.0), bounds))


ERRORS = {
    "too few entries": (
        (1.0,),
        (X, X),
        "bounds has 1 entries, but there are 2 arguments: give one entry per positional argument",
    ),
    "dict instead of tuple": (
        {"w": 1.0},
        (PARAMS,),
        "bounds is a dict: give a tuple with one entry per positional argument",
    ),
    "None instead of bounds": (None, (X,), "bounds is a NoneType: give a tuple"),
    "None instead of a set": (
        (None, 1.0),
        (X, X),
        "bounds at args[0]: expected an array of shape (4,), got None; where no bound is known "
        "write anything()",
    ),
    "other keys": (
        ({"w": 1.0, "c": 1.0},),
        (PARAMS,),
        "bounds at args[0]: expected a dict with keys ['b', 'w'], got a dict with keys ['c', 'w']; "
        "missing ['b']; unexpected ['c']; give one entry for the whole",
    ),
    "longer list": (
        ((1.0, [1.0, 2.0]),),
        ((X, [X]),),
        "bounds at args[0][1]: expected a list of 1, got a list of 2",
    ),
    "tuple on an array": (
        ((1.0, 1.0),),
        (X,),
        "bounds at args[0]: expected an array of shape (4,), got a tuple of 2",
    ),
    "other node": (
        (Pair(1.0, 2.0),),
        ((X, X),),
        "bounds at args[0]: expected a tuple of 2, got a Pair of 2",
    ),
    "string": (
        ("unit",),
        (X,),
        "args[0]: 'unit' is no set; give ball(radius), box(lo, hi), linf_ball(radius), "
        "fixed(value), anything(), or a number R for ball(R)",
    ),
    "bool": ((True,), (X,), "args[0]: True is no set"),
    "array": ((np.ones(4),), (X,), "args[0]: an array of shape (4,) is no set"),
    "complex number": ((1j,), (X,), "args[0]: 1j is no set"),
    "negative number": ((-1.0,), (X,), "args[0]: radius of the ball is negative (-1)"),
    "negative radius": (
        (linf_ball(np.array([1.0, 1, -2, 1])),),
        (X,),
        "args[0]: radius of the linf_ball is negative (-2) at index (2,)",
    ),
    "NaN radius": ((ball(np.nan),), (X,), "args[0]: radius of the ball has a NaN"),
    "array radius": (
        (ball(np.ones(4)),),
        (X,),
        "args[0]: radius of the ball has shape (4,); give one number",
    ),
    "string radius": ((ball("1"),), (X,), "args[0]: radius of the ball is '1', not a number"),
    "bool radius": ((ball(True),), (X,), "args[0]: radius of the ball is True; give a number"),
    "object": ((box(object(), 1),), (X,), "args[0]: lo of the box has dtype object; give real"),
    "complex center": (
        (ball(1.0, np.ones(4) * 1j),),
        (X,),
        "args[0]: center of the ball is complex; sets are of real numbers",
    ),
    "infinite center": (
        (ball(1.0, np.array([0, np.inf, 0, 0])),),
        (X,),
        "args[0]: center of the ball is infinite at index (1,); give a finite center, and radius "
        "inf where no bound is known",
    ),
    "center shape": (
        ({"b": 1.0, "w": ball(1.0, np.zeros((3, 2)))},),
        (PARAMS,),
        "args[0]['w']: center of the ball has shape (3, 2), but the argument has shape (2, 3); "
        "give a number or an array that broadcasts to it",
    ),
    "larger center": ((ball(1.0, np.zeros((2, 4))),), (X,), "has shape (2, 4), but the argument"),
    "center structure": (
        (ball(1.0, {"b": 0.0}),),
        (PARAMS,),
        "center of the ball at args[0]: expected a dict with keys ['b', 'w'], got a dict with "
        "keys ['b']; missing ['w']",
    ),
    "NaN center": (
        (ball(1.0, {"b": 0.0, "w": np.array([[0, 0, 0], [0, np.nan, 0]])}),),
        (PARAMS,),
        "args[0]['w']: center of the ball has a NaN at index (1, 1)",
    ),
    "empty box": (
        (1.0, box(np.array([0.0, 3, 0, 0]), 2.0)),
        (X, X),
        "args[1]: the box is empty, lo > hi at index (1,) (3 > 2)",
    ),
    "lo infinite": ((box(np.inf, np.inf),), (X,), "args[0]: lo of the box is inf: no number is in"),
    "hi infinite": ((box(-np.inf, -np.inf),), (X,), "args[0]: hi of the box is -inf: no number is"),
    "None in a box": ((box(None, 1.0),), (X,), "lo of the box at args[0]: expected an array"),
    "NaN in a box": ((box(0.0, np.nan),), (X,), "args[0]: hi of the box has a NaN"),
    "NaN fixed": (
        (fixed(np.array([0, 0, 0, np.nan])),),
        (X,),
        "args[0]: value of fixed has a NaN at index (3,)",
    ),
    "fixed shape": (
        (fixed(np.zeros(1)),),
        (X,),
        "args[0]: value of fixed has shape (1,), but the argument has shape (4,); a known value "
        "must have the argument's shape, or be one number",
    ),
    "fixed structure": (
        (fixed({"w": 1.0, "b": {"a": 1.0}}),),
        (PARAMS,),
        "value of fixed at args[0]['b']: expected an array of shape (3,), got a dict with keys",
    ),
    "fixed fraction": (
        (fixed(0.5),),
        (np.arange(3),),
        "args[0] has dtype int32, which does not hold the value of fixed",
    ),
    "ball over integers": (
        (1.0,),
        ({"w": X, "step": np.int32(3)},),
        "args[0]['step'] has dtype int32, which cannot be in a Ball: give it an entry of its own, "
        "anything() or fixed(value)",
    ),
    "box over keys": (
        (box(0, 1),),
        (jax.random.key(0),),
        "which cannot be in a Box: give it an entry of its own, anything() or fixed(value)",
    ),
    "fixed key": ((fixed(3),), (jax.random.key(0),), "args[0] has dtype key<fry>; value of fixed"),
    "complex argument": (
        (anything(),),
        (np.ones(2) * 1j,),
        "args[0]: complex arguments have no intervals; pass real and imaginary part",
    ),
}


@pytest.mark.parametrize(("bounds", "args", "text"), ERRORS.values(), ids=list(ERRORS))
def test_malformed_bounds_are_named_by_their_path(bounds: Any, args: Any, text: str) -> None:
    with pytest.raises(BoundsError, match=re.escape(text)):
        resolve(bounds, args)


def test_arguments_that_are_no_arrays_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"args\[0\]\['mode'\] is a str, not an array: bind"):
        resolve((anything(),), ({"mode": "train"},))


def test_shapes_of_traced_numbers_are_checked() -> None:
    with pytest.raises(BoundsError, match="center of the ball has shape"):
        jax.jit(lambda c: resolve((ball(1.0, c),), (X,)).leaves[0].lo)(jnp.zeros(3))


def test_shapes_that_do_not_fit_together() -> None:
    with pytest.raises(BoundsError, match=r"args\[0\]: the shapes .* do not fit together"):
        shapes_from_bounds((box(np.zeros(2), np.ones(3)),))
