"""Pytree prefixes: which entry of one tree stands on which subtree of another.

`jax.vmap` reads its ``in_axes`` the same way. Here every mismatch is named by its path.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax.tree_util import all_leaves, keystr, tree_flatten_with_path

from jaxsmooth.errors import BoundsError


class Match(NamedTuple):
    """An entry of a prefix, and the subtree on which it stands."""

    path: str
    entry: Any
    subtree: Any


def matches(prefix: Any, tree: Any, path: str, what: str) -> list[Match]:
    """The entries of a prefix with the subtrees on which they stand, in the tree's order.

    Args:
        prefix: a pytree; each of its leaves stands on a subtree of ``tree``.
        tree: the pytree that is covered.
        path: where ``tree`` is, for messages.
        what: what the prefix is, for messages.

    Raises:
        BoundsError: if the prefix does not fit, with the path at which it does not.

    Example:
        >>> [m.path for m in matches((1, {"a": 2}), (0, {"a": (3, 4)}), "x", "bounds")]
        ['x[0]', "x[1]['a']"]
    """
    if all_leaves([prefix]):
        return [Match(path, prefix, tree)]
    outer, outer_shape = _children(prefix)
    inner, inner_shape = _children(tree)
    if all_leaves([tree]) or outer_shape != inner_shape:
        raise BoundsError(_mismatch(prefix, tree, path, what))
    found: list[Match] = []
    for (key, entry), (_, subtree) in zip(outer, inner, strict=True):
        found += matches(entry, subtree, path + keystr(key), what)
    return found


def leaves_with_paths(tree: Any, path: str) -> list[tuple[str, Any]]:
    """The leaves of a tree, each with its path below the given one."""
    return [(path + keystr(key), leaf) for key, leaf in tree_flatten_with_path(tree)[0]]


def _children(node: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """The children of a node with their keys, and the node's own structure."""
    return tree_flatten_with_path(node, is_leaf=lambda child: child is not node)


def _mismatch(prefix: Any, tree: Any, path: str, what: str) -> str:
    message = f"{what} at {path}: expected {_describe(tree)}, got {_describe(prefix)}"
    if prefix is None and what == "bounds":
        return f"{message}; where no bound is known write anything()"
    if isinstance(prefix, dict) and isinstance(tree, dict):
        missing = [key for key in tree if key not in prefix]
        unexpected = [key for key in prefix if key not in tree]
        if missing:
            message += f"; missing {missing}"
        if unexpected:
            message += f"; unexpected {unexpected}"
    return f"{message}; give one entry for the whole, or the structure of the argument"


def _describe(node: Any) -> str:
    if node is None:
        return "None"
    if isinstance(node, dict):
        return f"a {type(node).__name__} with keys {sorted(node, key=str)}"
    if isinstance(node, (tuple, list)):
        return f"a {type(node).__name__} of {len(node)}"
    if all_leaves([node]):
        shape = getattr(node, "shape", None)
        return f"a {type(node).__name__}" if shape is None else f"an array of shape {shape}"
    children = len(jax.tree.leaves(node, is_leaf=lambda child: child is not node))
    return f"a {type(node).__name__} with {children} children"
