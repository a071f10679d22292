"""Values that nothing depends on, and that the program computes all the same.

softmax(x - t) does not depend on t, but its derivative by t is computed, as 0 times that of t:
0·∞ is no number. What is computed in vain has to have values and derivatives that are numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Value
from jaxsmooth.program.layout import Producers, made_by
from jaxsmooth.program.simplify import uniform

_TAME = frozenset(
    {
        p.add_p, p.add_jaxvals_p, p.sub_p, p.neg_p, p.mul_p, p.square_p, p.abs_p, p.max_p, p.min_p,
        p.clamp_p, p.select_n_p, p.is_finite_p, p.eq_p, p.ne_p, p.lt_p, p.le_p, p.gt_p, p.ge_p,
        p.and_p, p.or_p, p.not_p, p.tanh_p, p.logistic_p, p.sin_p, p.cos_p, p.stop_gradient_p,
        p.reduce_max_p, p.reduce_min_p, p.reduce_sum_p, p.cumsum_p, p.cummax_p, p.dot_general_p,
        p.broadcast_in_dim_p, p.reshape_p, p.squeeze_p, p.transpose_p, p.rev_p, p.slice_p,
        p.concatenate_p, p.copy_p, p.convert_element_type_p,
    }
)  # fmt: skip
"""Equations that give numbers for numbers, with derivatives that are numbers."""


def is_tame(
    t: Atom,
    x: Atom,
    producers: Producers,
    known: Mapping[Value, Any],
    others: frozenset[Primitive] = frozenset(),
) -> bool:
    """Whether t may be computed in vain.

    Args:
      t: the value.
      x: one that counts: what it is computed from is looked at for its own sake.
      producers: the equations that compute values.
      known: values that are known.
      others: further primitives that give numbers for numbers, with their derivatives.
    """
    counts: set[Value] | None = None
    pending, seen = [t], {t, x}
    while pending:
        made = made_by(pending.pop(), producers)
        if made is None:
            continue
        if not (made.primitive in _TAME or made.primitive in others or _divides(made, known)):
            counts = _behind(x, producers) if counts is None else counts
            if not counts.issuperset(made.outputs):
                return False
            continue
        fresh = [a for a in made.inputs if a not in seen and a not in known]
        pending.extend(fresh)
        seen.update(fresh)
    return True


def _divides(equation: Equation, known: Mapping[Value, Any]) -> bool:
    """Whether an equation divides by one known number that is not 0."""
    return equation.primitive is p.div_p and bool(uniform(equation.inputs[1], known))


def _behind(x: Atom, producers: Producers) -> set[Value]:
    """All that a value is computed from, and it itself."""
    pending, found = [x], set[Value]()
    while pending:
        atom = pending.pop()
        if isinstance(atom, Value) and atom not in found:
            found.add(atom)
            made = producers.get(atom)
            pending.extend(() if made is None else made.inputs)
    return found
