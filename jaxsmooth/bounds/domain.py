"""The set D of a certificate as the analysis reads it: one interval per argument leaf.

`resolve` joins what a user declared with the shapes of the arguments. Every leaf has an
elementwise interval; leaves also belong to groups, each with a bound on the joint 2-norm
distance from their centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.tree_util import all_leaves

from jaxsmooth.bounds.intervals import intervals
from jaxsmooth.bounds.numbers import located, spread
from jaxsmooth.bounds.prefix import Match, matches
from jaxsmooth.bounds.sets import Ball, Fixed, Set
from jaxsmooth.errors import BoundsError
from jaxsmooth.math.array import Array, is_traced, namespace, norm2, times, tiny, up


@dataclass(frozen=True, eq=False)
class LeafSet:
    """The interval of one argument leaf.

    Attributes:
        path: where the leaf is, such as ``args[0]['w']``.
        argnum: the position of its argument.
        shape: its shape.
        dtype: its dtype, as JAX sees it.
        lo, hi: elementwise bounds, analysis numbers of the leaf's shape; may be infinite.
        center: a point between them; finite, unless a fixed value is not.
        group: the index of its group in the domain.
        fixed: whether its value is known.
        value: the known value as it was given, of the leaf's shape; else None.
    """

    path: str
    argnum: int
    shape: tuple[int, ...]
    dtype: Any
    lo: Array
    hi: Array
    center: Array
    group: int
    fixed: bool = False
    value: Any = None


@dataclass(frozen=True, eq=False)
class Group:
    """Leaves with a bound on their joint 2-norm distance from their centres.

    Attributes:
        radius: that bound, an analysis number; 0 for known values, ``inf`` for none.
        leaves: the indices of its leaves in the domain.
        path: where the set that the user declared stands.
        declared: that set.
    """

    radius: Array
    leaves: tuple[int, ...]
    path: str
    declared: Set


@dataclass(frozen=True, eq=False)
class Domain:
    """The set D on which a certificate holds.

    Attributes:
        leaves: one set per argument leaf, in the order of `jax.tree.leaves`.
        groups: the joint bounds on them.
        treedef: the structure of the tuple of arguments.
    """

    leaves: tuple[LeafSet, ...]
    groups: tuple[Group, ...]
    treedef: Any

    def radius(self, gains: Array) -> Array:
        """Upper bound of ``Σ_j gains_j ‖θ_j − center_j‖₂`` over the set.

        Args:
            gains: non-negative, one per leaf along the first axis; further axes are kept.

        Returns:
            ``Σ_groups radius · ‖gains of its leaves‖₂``, rounded up, with 0·inf = 0.

        Example:
            >>> from jaxsmooth.bounds import fixed
            >>> domain = resolve((2.0, fixed(1.0)), ((np.ones(3), np.ones(2)), 1.0))
            >>> round(float(domain.radius(np.array([3.0, 4.0, np.inf]))), 9)
            10.0
        """
        total = np.zeros(np.shape(gains)[1:])
        for group in self.groups:
            if not is_traced(group.radius) and group.radius == 0:
                continue
            gain = norm2(gains[np.asarray(group.leaves)], axis=0)
            if not is_traced(gain) and not np.any(gain):
                continue
            total = total + times(group.radius, gain)
        # Products of subnormal numbers lose more than a relative rounding.
        xp = namespace(total)
        return up(total + xp.where(total > 0, tiny(total), 0.0), len(self.groups) + 3)

    def companions(self, leaf: int) -> int:
        """Number of leaves, this one counted, in the set that the leaf lies in."""
        return len(self.groups[self.leaves[leaf].group].leaves)

    def describe(self) -> tuple[str, ...]:
        """What the set says, one line per set that was declared.

        Example:
            >>> from jaxsmooth.bounds import anything
        >>> resolve((2.0, anything()), ((1.0, 1.0), 1.0)).describe()
            ('args[0]: Ball(radius=2.0, center=0)', 'args[1]: Anything()')
        """
        return tuple({g.path: f"{g.path}: {g.declared}" for g in self.groups}.values())


def resolve(bounds: Any, args: Sequence[Any]) -> Domain:
    """The set that the bounds declare for these arguments.

    Args:
        bounds: a pytree prefix of the tuple of arguments, with sets (or numbers R, short
            for ``ball(R)``) for leaves. One set alone stands on all arguments jointly.
        args: the arguments: pytrees of arrays or `jax.ShapeDtypeStruct`.

    Raises:
        BoundsError: if the bounds are malformed or do not fit the arguments.
        ArgumentError: if an argument is not an array.

    Example:
        >>> from jaxsmooth.bounds import ball, box
        >>> domain = resolve((ball(2.0), box(0, 1)), ({"w": np.ones(2), "b": 1.0}, np.ones(3)))
        >>> [leaf.path for leaf in domain.leaves]
        ["args[0]['b']", "args[0]['w']", 'args[1]']
        >>> [group.leaves for group in domain.groups]
        [(0, 1), (2,)]
    """
    args = tuple(args)
    argnums = [i for i, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
    leaves: list[LeafSet] = []
    groups: list[Group] = []
    for path, entry, subtree in _entries(bounds, args):
        declared = as_set(entry, path)
        first = len(leaves)
        found = located(subtree, path, first, argnums)
        with np.errstate(over="ignore"):
            sets = intervals(declared, found, subtree, path)
        joint = isinstance(declared, Ball)
        for index, (leaf, interval) in enumerate(zip(found, sets, strict=True)):
            if not joint or index == 0:
                members = range(first, first + len(found)) if joint else [first + index]
                groups.append(Group(interval.radius, tuple(members), path, declared))
            lo, hi, center = (spread(x, leaf.shape) for x in interval[:3])
            known = isinstance(declared, Fixed)
            group = len(groups) - 1
            leaves.append(LeafSet(*leaf, lo, hi, center, group, known, interval.value))
    return Domain(tuple(leaves), tuple(groups), jax.tree.structure(args))


def as_set(entry: Any, path: str) -> Set:
    """The set that an entry of the bounds stands for: itself, or a ball for a number.

    Raises:
        BoundsError: if it is neither a set nor a number.
    """
    if isinstance(entry, Set):
        return entry
    shape = getattr(entry, "shape", None)
    number = isinstance(entry, (int, float)) if shape is None else shape == ()
    if number and not isinstance(entry, (bool, np.bool_)):
        return Ball(entry)
    shown = repr(entry) if shape is None else f"an array of shape {shape}"
    raise BoundsError(
        f"{path}: {shown} is no set; give ball(radius), box(lo, hi), linf_ball(radius), "
        f"fixed(value), anything(), or a number R for ball(R)"
    )


def _entries(bounds: Any, args: tuple[Any, ...]) -> list[Match]:
    """The entries of the bounds with the subtrees of the arguments they stand on."""
    if isinstance(bounds, (tuple, list)):
        if len(bounds) != len(args):
            raise BoundsError(
                f"bounds has {len(bounds)} entries, but there are {len(args)} arguments: give "
                f"one entry per positional argument"
            )
        return [
            match
            for i, (entry, arg) in enumerate(zip(bounds, args, strict=True))
            for match in matches(entry, arg, f"args[{i}]", "bounds")
        ]
    if not all_leaves([bounds]):  # None and dicts, too
        raise BoundsError(
            f"bounds is a {type(bounds).__name__}: give a tuple with one entry per positional "
            f"argument, (bounds,) if there is one argument"
        )
    if len(args) == 1:  # so that a center or a value has the structure of the argument
        return matches(bounds, args[0], "args[0]", "bounds")
    return [Match("args", bounds, args)]
