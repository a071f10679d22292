"""What each kind of set says of an argument leaf: interval, centre, radius.

Everything is rounded outwards. Known numbers are float64, where a sum is off by at most a
unit roundoff of itself; a tracer also rounds the constants it meets, so there the terms of
the sum count, not the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsmooth.bounds.numbers import (
    Leaf,
    analysis,
    check_dtype,
    position,
    read,
    scalar,
    spread,
    spread_over,
)
from jaxsmooth.bounds.sets import Anything, Ball, Box, Fixed, LinfBall, Set
from jaxsmooth.errors import BoundsError
from jaxsmooth.math.array import Array, gamma, is_traced, namespace, norm2, unit_roundoff, up


class Interval(NamedTuple):
    """The set of one leaf: bounds, centre, 2-norm radius, and the value if it is known."""

    lo: Array
    hi: Array
    center: Array
    radius: Array
    value: Any = None


def intervals(declared: Set, leaves: list[Leaf], subtree: Any, path: str) -> list[Interval]:
    """One interval per leaf of the subtree on which a set stands.

    The radius of a `Ball` bounds the distance of all leaves jointly.

    Raises:
        BoundsError: if the set is malformed, or makes no sense for a leaf.
    """
    for leaf in leaves:
        if leaf.is_complex and not isinstance(declared, Fixed):
            raise BoundsError(
                f"{leaf.path}: complex arguments have no intervals; pass real and imaginary part "
                f"as two real arguments, or make it known with jaxsmooth.fixed"
            )
    if not isinstance(declared, (Fixed, Anything)):
        for leaf in leaves:
            if not leaf.is_number or (isinstance(declared, Ball) and leaf.is_discrete):
                kind = type(declared).__name__
                raise BoundsError(
                    f"{leaf.path} has dtype {leaf.dtype}, which cannot be in a {kind}: give it "
                    f"an entry of its own, anything() or fixed(value)"
                )
    return _READERS[type(declared)](declared, leaves, subtree, path)


def _ball(declared: Ball, leaves: list[Leaf], subtree: Any, path: str) -> list[Interval]:
    radius = scalar(declared.radius, path, "radius of the ball")
    _check_radius(radius, path, "radius of the ball")
    centers = read(declared.center, subtree, leaves, path, "center of the ball")
    for center, leaf in zip(centers, leaves, strict=True):
        _check_finite(center, leaf.path, "center of the ball")
    return [Interval(*_around(center, radius), center, radius) for center in centers]


def _linf_ball(declared: LinfBall, leaves: list[Leaf], subtree: Any, path: str) -> list[Interval]:
    radii = read(declared.radius, subtree, leaves, path, "radius of the linf_ball")
    centers = read(declared.center, subtree, leaves, path, "center of the linf_ball")
    found = []
    for leaf, radius, center in zip(leaves, radii, centers, strict=True):
        _check_radius(radius, leaf.path, "radius of the linf_ball")
        _check_finite(center, leaf.path, "center of the linf_ball")
        lo, hi = _around(center, radius)
        found.append(Interval(lo, hi, center, _radius(spread(radius, leaf.shape))))
    return found


def _box(declared: Box, leaves: list[Leaf], subtree: Any, path: str) -> list[Interval]:
    los = read(declared.lo, subtree, leaves, path, "lo of the box")
    his = read(declared.hi, subtree, leaves, path, "hi of the box")
    found = []
    for leaf, lo, hi in zip(leaves, los, his, strict=True):
        _check_order(lo, hi, leaf.path)
        center = _middle(lo, hi)
        half = _half_width(lo, hi, center)
        found.append(Interval(lo, hi, center, _radius(spread(half, leaf.shape))))
    return found


def _fixed(declared: Fixed, leaves: list[Leaf], subtree: Any, path: str) -> list[Interval]:
    values = spread_over(declared.value, subtree, path, "value of fixed")
    return [_fixed_one(v, leaf) for v, leaf in zip(values, leaves, strict=True)]


def _fixed_one(value: Any, leaf: Leaf) -> Interval:
    what = "value of fixed"
    if leaf.is_complex:
        return Interval(*_unbounded(leaf)[:3], np.float64(0.0), _complex_value(value, leaf, what))
    if not leaf.is_number:
        if getattr(value, "dtype", None) != leaf.dtype:
            raise BoundsError(f"{leaf.path} has dtype {leaf.dtype}; {what} must have it too")
        _check_same_shape(np.shape(value), leaf)
        return Interval(*_unbounded(leaf)[:3], np.float64(0.0), value)
    check_dtype(value, leaf.path, what)
    _check_same_shape(np.shape(value), leaf)
    traced = is_traced(value)
    seen = value.astype(leaf.dtype) if traced else np.asarray(value).astype(leaf.dtype)
    center = analysis(seen)
    if not traced:
        given = np.asarray(value).astype(np.float64)
        if np.isnan(given).any():
            raise BoundsError(f"{leaf.path}: {what} has a NaN{position(np.isnan(given))}")
        if leaf.is_discrete and (given != center).any():
            raise BoundsError(
                f"{leaf.path} has dtype {leaf.dtype}, which does not hold the {what}"
                f"{position(given != center)}"
            )
    lo, hi = _enclose_integers(center) if leaf.is_discrete else (center, center)
    same = np.shape(value) == leaf.shape and getattr(value, "dtype", None) == leaf.dtype
    # NumPy's arrays may be changed afterwards.
    kept = same and isinstance(value, jax.Array)
    whole = value if kept else spread(seen, leaf.shape)
    return Interval(lo, hi, center, np.float64(0.0), whole)


def _complex_value(value: Any, leaf: Leaf, what: str) -> Any:
    """The known complex numbers, in the argument's type and shape."""
    check_dtype(value, leaf.path, what, complex_too=True)
    _check_same_shape(np.shape(value), leaf)
    if is_traced(value):
        return spread(value.astype(leaf.dtype), leaf.shape)
    seen = np.asarray(value).astype(leaf.dtype)
    if np.isnan(seen).any():
        raise BoundsError(f"{leaf.path}: {what} has a NaN{position(np.isnan(seen))}")
    return spread(seen, leaf.shape)


def _anything(declared: Anything, leaves: list[Leaf], subtree: Any, path: str) -> list[Interval]:
    return [_unbounded(leaf) for leaf in leaves]


def _unbounded(leaf: Leaf) -> Interval:
    if leaf.dtype == np.bool_:
        half = np.float64(0.5)
        return Interval(np.float64(0.0), np.float64(1.0), half, _radius(spread(half, leaf.shape)))
    return Interval(np.float64(-np.inf), np.float64(np.inf), np.float64(0.0), np.float64(np.inf))


_READERS: dict[type[Set], Callable[..., list[Interval]]] = {
    Ball: _ball,
    Box: _box,
    LinfBall: _linf_ball,
    Fixed: _fixed,
    Anything: _anything,
}


def _around(center: Array, radius: Array) -> tuple[Array, Array]:
    """Bounds of ``center ± radius``."""
    lo, hi = center - radius, center + radius
    if is_traced(lo):
        xp = namespace(lo)
        slack = (xp.abs(center) + radius) * gamma(3, lo)
        return lo - slack, hi + slack
    return lo - np.abs(lo) * gamma(1), hi + np.abs(hi) * gamma(1)


def _middle(lo: Array, hi: Array) -> Array:
    """A finite point of [lo, hi], the middle where there is one."""
    xp = namespace(lo, hi)
    bounded = (lo > -np.inf) & (hi < np.inf)
    # No inf - inf on the way, for its derivative would be NaN.
    below, above = xp.where(bounded, lo, 0.0), xp.where(bounded, hi, 0.0)
    middle = xp.clip(0.5 * below + 0.5 * above, below, above)
    return xp.where(bounded, middle, xp.clip(0.0, lo, hi))


def _half_width(lo: Array, hi: Array, center: Array) -> Array:
    """Upper bound of the distance of the points of [lo, hi] from the centre."""
    if not is_traced(center):
        return up(np.maximum(hi - center, center - lo), 1)
    xp = namespace(center)
    bounded = (lo > -np.inf) & (hi < np.inf)
    lo, hi = xp.where(bounded, lo, 0.0), xp.where(bounded, hi, 0.0)
    half = 0.5 * (hi - lo) + (xp.abs(lo) + xp.abs(hi)) * gamma(6, center)
    return xp.where(bounded, half, np.inf)


def _radius(half: Array) -> Array:
    """Upper bound of the 2-norm of the half widths; safe to differentiate where infinite."""
    xp = namespace(half)
    bounded = half < np.inf
    return xp.where(xp.all(bounded), norm2(xp.where(bounded, half, 0.0)), np.inf)


def _enclose_integers(x: Array) -> tuple[Array, Array]:
    """Bounds of integers that the analysis numbers x may have rounded."""
    xp = namespace(x)
    exact = xp.abs(x) < 0.5 / unit_roundoff(x)
    slack = xp.where(exact, 0.0, xp.abs(x) * gamma(1, x))
    return x - slack, x + slack


def _check_same_shape(shape: tuple[int, ...], leaf: Leaf) -> None:
    if shape not in ((), leaf.shape):
        raise BoundsError(
            f"{leaf.path}: value of fixed has shape {shape}, but the argument has shape "
            f"{leaf.shape}; a known value must have the argument's shape, or be one number"
        )


def _check_radius(radius: Array, path: str, what: str) -> None:
    if not is_traced(radius) and (radius < 0).any():
        found = float(radius[radius < 0].flat[0]) if np.ndim(radius) else float(radius)
        raise BoundsError(f"{path}: {what} is negative ({found:g}){position(radius < 0)}")


def _check_finite(center: Array, path: str, what: str) -> None:
    if not is_traced(center) and np.isinf(center).any():
        raise BoundsError(
            f"{path}: {what} is infinite{position(np.isinf(center))}; give a finite center, "
            f"and radius inf where no bound is known"
        )


def _check_order(lo: Array, hi: Array, path: str) -> None:
    if not is_traced(lo) and np.any(lo == np.inf):
        raise BoundsError(
            f"{path}: lo of the box is inf{position(lo == np.inf)}: no number is in it"
        )
    if not is_traced(hi) and np.any(hi == -np.inf):
        raise BoundsError(
            f"{path}: hi of the box is -inf{position(hi == -np.inf)}: no number is in it"
        )
    if is_traced(lo) or is_traced(hi):
        return
    lo, hi = np.broadcast_arrays(lo, hi)
    wrong = lo > hi
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0])
        raise BoundsError(
            f"{path}: the box is empty, lo > hi{position(wrong)} "
            f"({float(lo[first]):g} > {float(hi[first]):g})"
        )
