"""Rules of the primitives, one file per family. Importing this package enters them all."""

from jaxsmooth.rules import (
    bilinear,
    composites,
    convolution,
    discrete,
    dot,
    elementwise,
    indexing,
    kinks,
    linear,
    pooling,
    products,
    scatter,
    structural,
    univariate,
)

__all__ = [
    "bilinear",
    "composites",
    "convolution",
    "discrete",
    "dot",
    "elementwise",
    "indexing",
    "kinks",
    "linear",
    "pooling",
    "products",
    "scatter",
    "structural",
    "univariate",
]
