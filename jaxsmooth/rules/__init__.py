"""Rules of the primitives, one file per family. Importing this package enters them all."""

from jaxsmooth.rules import (
    bilinear,
    composites,
    convolution,
    cross_entropy,
    discrete,
    dot,
    elementwise,
    indexing,
    kinks,
    linear,
    norms,
    pooling,
    products,
    smoothed,
    structural,
    univariate,
)

__all__ = [
    "bilinear",
    "composites",
    "convolution",
    "cross_entropy",
    "discrete",
    "dot",
    "elementwise",
    "indexing",
    "kinks",
    "linear",
    "norms",
    "pooling",
    "products",
    "smoothed",
    "structural",
    "univariate",
]
