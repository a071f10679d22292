"""Certified smoothing of any JAX function.

``f_eps = jaxsmooth.smooth(f, eps, bounds)`` stays within ``eps`` of ``f`` on the set that
``bounds`` declares, and has a Lipschitz-continuous gradient there;
``f_eps.certificate()`` holds the numbers that prove it.
"""

from jaxsmooth.analysis.analyze import analyze
from jaxsmooth.bounds import anything, ball, box, fixed, linf_ball
from jaxsmooth.certificate import Analysis, Certificate, Site
from jaxsmooth.errors import (
    ArgumentError,
    BoundsError,
    CertificationError,
    DiscontinuityError,
    JaxsmoothError,
    UnsupportedPrimitiveError,
)
from jaxsmooth.extension import register_rule
from jaxsmooth.smoothing import smooth
from jaxsmooth.verification import share

__version__ = "0.1.0"

__all__ = [
    "Analysis",
    "ArgumentError",
    "BoundsError",
    "Certificate",
    "CertificationError",
    "DiscontinuityError",
    "JaxsmoothError",
    "Site",
    "UnsupportedPrimitiveError",
    "analyze",
    "anything",
    "ball",
    "box",
    "fixed",
    "linf_ball",
    "register_rule",
    "share",
    "smooth",
]
