"""Reading the numbers of a set: one checked array per argument leaf.

Numbers that are known become float64; tracers keep their precision, but at least the
ambient one. Values are checked where they are known, shapes always.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.bounds.prefix import leaves_with_paths, matches
from jaxsmooth.errors import ArgumentError, BoundsError
from jaxsmooth.math.array import Array, is_traced, namespace, real


class Leaf(NamedTuple):
    """An argument leaf: where it is, and its type."""

    path: str
    argnum: int
    shape: tuple[int, ...]
    dtype: Any

    @property
    def is_number(self) -> bool:
        """Whether intervals make sense for it: not so for keys."""
        return self.is_discrete or jnp.issubdtype(self.dtype, jnp.floating)

    @property
    def is_complex(self) -> bool:
        """Whether it holds complex numbers."""
        return jnp.issubdtype(self.dtype, jnp.complexfloating)

    @property
    def is_discrete(self) -> bool:
        """Whether it holds integers or booleans."""
        return jnp.issubdtype(self.dtype, jnp.integer) or self.dtype == np.bool_


def argument_leaf(path: str, argnum: int, value: Any) -> Leaf:
    """The type of an argument leaf as JAX sees it, whatever the leaf is made of."""
    try:
        seen = jax.eval_shape(lambda x: x, value)
    except TypeError:
        raise ArgumentError(
            f"{path} is a {type(value).__name__}, not an array: bind arguments that are no "
            f"arrays with functools.partial"
        ) from None
    return Leaf(path, argnum, tuple(seen.shape), seen.dtype)


def read(numbers: Any, subtree: Any, leaves: list[Leaf], path: str, what: str) -> list[Array]:
    """The numbers for each of the leaves of a subtree, checked, not yet broadcast.

    Raises:
        BoundsError: if they do not fit the subtree, are no real numbers, or are NaN.
    """
    spread = spread_over(numbers, subtree, path, what)
    return [_read_one(x, leaf, what) for x, leaf in zip(spread, leaves, strict=True)]


def spread_over(numbers: Any, subtree: Any, path: str, what: str) -> list[Any]:
    """The entry of ``numbers`` that stands on each leaf of the subtree."""
    return [
        entry
        for _, entry, below in matches(numbers, subtree, path, what)
        for _ in jax.tree.leaves(below)
    ]


def scalar(x: Any, path: str, what: str) -> Array:
    """One real number, checked.

    Raises:
        BoundsError: if it is none.
    """
    number = _number(x, path, what)
    if np.shape(number) != ():
        raise BoundsError(f"{path}: {what} has shape {np.shape(number)}; give one number")
    return number


def _read_one(x: Any, leaf: Leaf, what: str) -> Array:
    number = _number(x, leaf.path, what)
    check_shape(np.shape(number), leaf, what)
    return number


def check_shape(shape: tuple[int, ...], leaf: Leaf, what: str) -> None:
    """Raise unless numbers of this shape broadcast to the leaf."""
    try:
        fits = np.broadcast_shapes(shape, leaf.shape) == leaf.shape
    except ValueError:
        fits = False
    if not fits:
        raise BoundsError(
            f"{leaf.path}: {what} has shape {shape}, but the argument has shape {leaf.shape}; "
            f"give a number or an array that broadcasts to it"
        )


def check_dtype(x: Any, path: str, what: str, complex_too: bool = False) -> None:
    """Raise unless x holds real numbers, or complex ones where these make sense."""
    if x is None or isinstance(x, (str, bytes)):
        raise BoundsError(f"{path}: {what} is {x!r}, not a number")
    dtype = getattr(x, "dtype", None)
    dtype = np.asarray(x).dtype if dtype is None else dtype
    if jnp.issubdtype(dtype, jnp.complexfloating) and not complex_too:
        raise BoundsError(f"{path}: {what} is complex; sets are of real numbers")
    if not jnp.issubdtype(dtype, jnp.number) and dtype != np.bool_:
        raise BoundsError(f"{path}: {what} has dtype {dtype}; give real numbers")


def _number(x: Any, path: str, what: str) -> Array:
    check_dtype(x, path, what)
    if isinstance(x, (bool, np.bool_)):
        raise BoundsError(f"{path}: {what} is {x!r}; give a number")
    number = analysis(x)
    if not is_traced(number) and np.isnan(number).any():
        raise BoundsError(f"{path}: {what} has a NaN{position(np.isnan(number))}")
    return number


def analysis(x: Any) -> Array:
    """x as analysis numbers, tracers in no less than the ambient precision."""
    x = real(x)
    if is_traced(x):
        ambient = jnp.zeros((), float).dtype
        if jnp.finfo(x.dtype).bits < jnp.finfo(ambient).bits:
            return x.astype(ambient)
    return x


def position(where: Any) -> str:
    """Where the first of the flagged elements is, for messages; nothing for a scalar."""
    where = np.asarray(where)
    if where.ndim == 0:
        return ""
    return f" at index {tuple(int(i) for i in np.argwhere(where)[0])}"


def spread(x: Array, shape: tuple[int, ...]) -> Array:
    """x in that shape, without a copy where it is NumPy's."""
    return namespace(x).broadcast_to(x, shape)


def located(subtree: Any, path: str, first: int, argnums: list[int]) -> list[Leaf]:
    """The leaves of a subtree of the arguments, whose first is the first-th of all."""
    found = leaves_with_paths(subtree, path)
    return [argument_leaf(p, argnums[first + k], x) for k, (p, x) in enumerate(found)]
