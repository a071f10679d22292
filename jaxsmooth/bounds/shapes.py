"""The shapes of the arguments, where the bounds know them.

So that a certificate can be had from the bounds alone, without an example of the arguments.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import all_leaves

from jaxsmooth.bounds.domain import as_set
from jaxsmooth.bounds.numbers import check_dtype, spread_over
from jaxsmooth.bounds.prefix import leaves_with_paths
from jaxsmooth.bounds.sets import Ball, Box, Fixed, LinfBall, Set
from jaxsmooth.errors import BoundsError


def shapes_from_bounds(bounds: Any) -> tuple[Any, ...]:
    """The arguments as pytrees of `jax.ShapeDtypeStruct`, read off the bounds.

    A set carries the shape of its argument if one of its numbers is an array (of rank one
    or more) or a pytree of them; the number in ``fixed(0.5)`` is itself the argument. Arrays of
    integers in ``ball``, ``box`` and ``linf_ball`` stand for arguments of the default float
    dtype.

    Args:
        bounds: a set, or a tuple with one entry per positional argument.

    Raises:
        BoundsError: if the shape of an argument is not known.

    Example:
        >>> import numpy as np
        >>> from jaxsmooth.bounds import box
        >>> shapes_from_bounds((box(np.zeros(3, np.float32), 1.0),))
        (ShapeDtypeStruct(shape=(3,), dtype=float32),)
    """
    if isinstance(bounds, (tuple, list)):
        return tuple(_subtree(entry, f"args[{i}]") for i, entry in enumerate(bounds))
    return (_subtree(bounds, "args[0]"),)


def _subtree(bounds: Any, path: str) -> Any:
    """The shapes of the subtree that these bounds stand on."""
    found = [
        _of_set(as_set(entry, where), where) for where, entry in leaves_with_paths(bounds, path)
    ]
    return jax.tree.unflatten(jax.tree.structure(bounds), found)


def _of_set(declared: Set, path: str) -> Any:
    if isinstance(declared, Fixed):
        return jax.tree.map(lambda x: _typed(x, path, complex_too=True), declared.value)
    if isinstance(declared, Ball):
        trees = [declared.center]
    elif isinstance(declared, LinfBall):
        trees = [declared.center, declared.radius]
    elif isinstance(declared, Box):
        trees = [declared.lo, declared.hi]
    else:
        trees = []
    # The tree with the most structure is the subtree's; the others are its prefixes.
    trees.sort(key=lambda tree: jax.tree.structure(tree).num_nodes, reverse=True)
    if not trees or (all_leaves(trees) and all(np.ndim(tree) == 0 for tree in trees)):
        raise _unknown(declared, path)
    spread = [spread_over(tree, trees[0], path, "numbers of the set") for tree in trees]
    leaves = []
    for numbers in zip(*spread, strict=True):
        arrays = [x for x in numbers if np.ndim(x) > 0]
        if not arrays:
            raise _unknown(declared, path)
        try:
            shape = np.broadcast_shapes(*(np.shape(x) for x in arrays))
        except ValueError:
            shapes = [np.shape(x) for x in arrays]
            raise BoundsError(f"{path}: the shapes {shapes} do not fit together") from None
        dtype = _typed(arrays[0], path).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            dtype = jnp.zeros((), float).dtype
        leaves.append(jax.ShapeDtypeStruct(shape, dtype))
    return jax.tree.unflatten(jax.tree.structure(trees[0]), leaves)


def _typed(x: Any, path: str, complex_too: bool = False) -> jax.ShapeDtypeStruct:
    if not jnp.issubdtype(getattr(x, "dtype", float), jax.dtypes.extended):
        check_dtype(x, path, "number of the set", complex_too)
    seen = jax.eval_shape(lambda y: y, x)
    return jax.ShapeDtypeStruct(seen.shape, seen.dtype)


def _unknown(declared: Set, path: str) -> BoundsError:
    return BoundsError(
        f"{path}: {declared} does not say the shape of the argument; call with the arguments "
        f"or jax.ShapeDtypeStruct(shape, dtype) in their place, or give the set an array (a "
        f"ball or linf_ball its center, a box its lo)"
    )
