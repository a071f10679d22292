"""The sets on which a certificate holds: how users declare them, what the analysis reads.

`sets` are what a user writes, one per subtree of the arguments (a pytree prefix, as
``in_axes`` is for `jax.vmap`); `resolve` turns them into a `Domain`, one `LeafSet` per
argument leaf.
"""

from jaxsmooth.bounds.domain import Domain, Group, LeafSet, resolve
from jaxsmooth.bounds.sets import (
    Anything,
    Ball,
    Box,
    Fixed,
    LinfBall,
    Set,
    anything,
    ball,
    box,
    fixed,
    is_traced,
    linf_ball,
)
from jaxsmooth.bounds.shapes import shapes_from_bounds

__all__ = [
    "Anything",
    "Ball",
    "Box",
    "Domain",
    "Fixed",
    "Group",
    "LeafSet",
    "LinfBall",
    "Set",
    "anything",
    "ball",
    "box",
    "fixed",
    "is_traced",
    "linf_ball",
    "resolve",
    "shapes_from_bounds",
]
