"""Every error that jaxsmooth raises on purpose.

Each message names the argument by its pytree path, or the primitive with its
source line, and says what to do.
"""

from __future__ import annotations


class JaxsmoothError(Exception):
    """Base of all errors that jaxsmooth raises on purpose."""


class ArgumentError(JaxsmoothError, ValueError):
    """An option or an argument is malformed (eps, kernel, allocation, shapes)."""


class BoundsError(ArgumentError):
    """A declared set is malformed; the message names it by its pytree path."""


class UnsupportedPrimitiveError(JaxsmoothError, NotImplementedError):
    """The program has an equation for which there is no rule."""


class DiscontinuityError(JaxsmoothError, ValueError):
    """The function jumps: no continuous function stays within eps of it."""


class CertificationError(JaxsmoothError, ValueError):
    """No finite certificate can be proved with the bounds that were given."""
