"""Rules for a user's own primitives."""

from __future__ import annotations

from jax.extend.core import Primitive

from jaxsmooth import errors
from jaxsmooth.math.enclosure import ScalarFunction
from jaxsmooth.rules.elementwise import ScalarRule
from jaxsmooth.rules.registry import Rule, define


def register_rule(primitive: Primitive, rule: Rule | ScalarFunction) -> None:
    """Give a primitive a rule, so that functions that use it can be smoothed.

    Args:
      primitive: the primitive.
      rule: a `Rule` (``range``, ``first_order``, ``second_order``), a `KinkRule` for one that
        is to be smoothed, or the facts of an elementwise function: an object with methods
        ``range``, ``slope`` and ``curvature``, each from the bounds (lo, hi) of the argument
        to bounds of f, f' and f'', elementwise, on NumPy and JAX arrays.

    Raises:
      ArgumentError: the primitive has a rule already, or the rule lacks a method.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> from jax.extend.core import Primitive
      >>> from jaxsmooth import analyze, box, register_rule
      >>> double = Primitive("double")
      >>> _ = double.def_impl(lambda x: 2 * x); _ = double.def_abstract_eval(lambda x: x)
      >>> class Double:
      ...     def range(self, lo, hi): return 2 * lo, 2 * hi
      ...     def slope(self, lo, hi): return 0 * lo + 2, 0 * hi + 2
      ...     def curvature(self, lo, hi): return 0 * lo, 0 * hi
      >>> register_rule(double, Double())
      >>> float(analyze(double.bind, box(np.zeros(3, np.float32), 1.0))().lipschitz) < 2.0000001
      True
    """
    if isinstance(rule, Rule):
        define(rule, primitive)
        return
    missing = [n for n in ("range", "slope", "curvature") if not callable(getattr(rule, n, None))]
    if missing:
        raise errors.ArgumentError(
            f"the rule of '{primitive.name}' has no method {missing[0]!r}; give a Rule, or an "
            "object with methods range, slope and curvature"
        )
    define(ScalarRule(lambda eq: rule), primitive)
