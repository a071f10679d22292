"""Rules of the primitives, one file per family. Importing this package enters them all."""

from jaxsmooth.rules import (
    bilinear,
    combination,
    composites,
    control,
    convolution,
    discrete,
    dot,
    elementwise,
    indexing,
    kinks,
    linear,
    pooling,
    products,
    structural,
    univariate,
)

__all__ = [
    "bilinear",
    "combination",
    "composites",
    "control",
    "convolution",
    "discrete",
    "dot",
    "elementwise",
    "indexing",
    "kinks",
    "linear",
    "pooling",
    "products",
    "structural",
    "univariate",
]
