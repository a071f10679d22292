"""The sets a user declares for arguments: balls, boxes, known values, or nothing.

A set is a leaf of the pytree of bounds, never an inner node: it stands on a whole subtree
of the arguments. Its numbers may be scalars, arrays that broadcast to every array of that
subtree, or pytrees with the subtree's structure; they may be JAX tracers. Nothing is
checked here: `jaxsmooth.bounds.resolve` checks, when it can name the argument.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np

from jaxsmooth.math import array

Numbers = Any  # a number, an array, a tracer, or a pytree of them


def _brief(numbers: Numbers) -> str:
    """Numbers as a reader wants them in a message: scalars in full, arrays by shape."""

    def leaf(x: Any) -> Any:
        dtype, shape = getattr(x, "dtype", None), getattr(x, "shape", None)
        if dtype is None or shape is None:
            return x
        number = isinstance(dtype, np.dtype) and not array.is_traced(x)
        if shape == () and number:
            return _Verbatim(f"{np.asarray(x).item():g}")
        return _Verbatim(f"{dtype.name}[{','.join(map(str, shape))}]")

    return repr(jax.tree.map(leaf, numbers))


class _Verbatim(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, eq=False, repr=False)
class Set:
    """A set of values for a subtree of the arguments; base of all sets."""

    def __repr__(self) -> str:
        shown = (f"{field.name}={_brief(getattr(self, field.name))}" for field in fields(self))
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, eq=False, repr=False)
class Ball(Set):
    """Joint 2-norm ball; see `ball`."""

    radius: Any
    center: Numbers = 0


@dataclass(frozen=True, eq=False, repr=False)
class Box(Set):
    """Elementwise interval; see `box`."""

    lo: Numbers
    hi: Numbers


@dataclass(frozen=True, eq=False, repr=False)
class LinfBall(Set):
    """Elementwise interval about a centre; see `linf_ball`."""

    radius: Numbers
    center: Numbers = 0


@dataclass(frozen=True, eq=False, repr=False)
class Fixed(Set):
    """Known values; see `fixed`."""

    value: Numbers


@dataclass(frozen=True, eq=False, repr=False)
class Anything(Set):
    """All values; see `anything`."""


def ball(radius: Any, center: Numbers = 0) -> Ball:
    """All values within a 2-norm distance of a centre, jointly over a subtree.

    On a subtree with arrays θ₁, …, θ_n it says ``sqrt(Σ_j ‖θ_j − c_j‖₂²) ≤ radius``: on the
    pair of a layer's weights and bias, it is the paper's ‖u_t‖₂ ≤ R_t. A number R in the
    bounds is short for ``ball(R)``.

    Args:
        radius: a number ≥ 0; ``inf`` means no bound.
        center: a number, an array that broadcasts to every array of the subtree, or a
            pytree with the structure of the subtree. Finite.

    Returns:
        A set, to be put at the place of the subtree in the bounds.

    Raises:
        BoundsError: when the bounds are used, if the numbers are malformed.

    Example:
        >>> ball(2.0)
        Ball(radius=2.0, center=0)

    Source: V. Roulet and Z. Harchaoui, *On the Smoothing of Deep Networks*, CISS 2021.
    """
    return Ball(radius, center)


def box(lo: Numbers, hi: Numbers) -> Box:
    """All values with ``lo ≤ θ ≤ hi`` in every element.

    Args:
        lo: a number, an array that broadcasts to every array of the subtree, or a pytree
            with the structure of the subtree; ``-inf`` means no bound.
        hi: the same, with ``inf``.

    Returns:
        A set, to be put at the place of the subtree in the bounds.

    Raises:
        BoundsError: when the bounds are used, if the numbers are malformed.

    Example:
        >>> box(0.0, 1.0)
        Box(lo=0.0, hi=1.0)
    """
    return Box(lo, hi)


def linf_ball(radius: Numbers, center: Numbers = 0) -> LinfBall:
    """All values with ``|θ − center| ≤ radius`` in every element.

    Args:
        radius: a number ≥ 0, an array that broadcasts to every array of the subtree, or a
            pytree with the structure of the subtree; ``inf`` means no bound.
        center: likewise, finite.

    Returns:
        A set, to be put at the place of the subtree in the bounds.

    Raises:
        BoundsError: when the bounds are used, if the numbers are malformed.

    Example:
        >>> import numpy as np
        >>> linf_ball(8 / 255, center=np.full((28, 28), 0.5))
        LinfBall(radius=0.03137254901960784, center=float64[28,28])
    """
    return LinfBall(radius, center)


def fixed(value: Numbers) -> Fixed:
    """Known values, such as the parameters of a trained network.

    Args:
        value: a pytree with the structure and the shapes of the subtree, or a number
            for all of it. It is read in the dtype of the argument.

    Returns:
        A set, to be put at the place of the subtree in the bounds.

    Raises:
        BoundsError: when the bounds are used, if the numbers are malformed.

    Example:
        >>> import numpy as np
        >>> fixed({"w": np.ones((2, 3)), "b": 0.5})
        Fixed(value={'b': 0.5, 'w': float64[2,3]})
    """
    return Fixed(value)


def anything() -> Anything:
    """All values: for arguments of which no bound is known, integers and keys too.

    Returns:
        A set, to be put at the place of the subtree in the bounds.

    Example:
        >>> anything()
        Anything()
    """
    return Anything()


def is_traced(bounds: Any) -> bool:
    """Whether any number in the bounds is a JAX tracer.

    Args:
        bounds: a pytree of sets and numbers.

    Example:
        >>> is_traced((ball(1.0), {"w": box(0, 1)}))
        False
    """
    return any(
        array.is_traced(*jax.tree.leaves([getattr(entry, f.name) for f in fields(entry)]))
        if isinstance(entry, Set)
        else array.is_traced(entry)
        for entry in jax.tree.leaves(bounds)
    )
