"""Complex values as pairs of real ones: an array of shape S as one of shape (*S, 2).

The analysis knows real numbers only. A pair is one value, so that its 2-norm is that of the
complex value, with no factor lost between the parts. The axis of the parts is the last one:
the other axes keep their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer

from jaxsmooth.program.graph import Atom, Equation, Literal, Value


def is_complex(atom: Atom) -> bool:
    """Whether an atom holds complex numbers."""
    return jnp.issubdtype(atom.dtype, np.complexfloating)


def as_pair(z: Any) -> Any:
    """A complex array as the array of its parts."""
    if isinstance(z, Tracer):
        return jnp.stack([z.real, z.imag], -1)
    with jax.ensure_compile_time_eval():
        z = np.asarray(z)
    return np.stack([z.real, z.imag], -1)


def pair_of_type(shape: tuple[int, ...], dtype: Any) -> Value:
    """A new value for the parts of complex numbers of that shape and type."""
    return Value(ShapedArray((*shape, 2), np.zeros((), dtype).real.dtype))


@dataclass(eq=False)
class Pairs:
    """The pairs of a program's complex values.

    Attributes:
      known: values that are known; pairs of known values are added.
      narrow: for values that only the analysis has, what they stand for in the program.
      varies: values that change with the arguments that derivatives are taken in.
      found: the pair of every complex value that was asked for.
    """

    known: dict[Value, Any]
    narrow: dict[Value, Atom]
    varies: set[Value]
    found: dict[Value, Value] = field(default_factory=dict)

    def __call__(self, atom: Atom, stepped: set[Value]) -> Atom:
        """The pair of a complex atom; another atom itself.

        Args:
          atom: an atom of the program.
          stepped: values that are known at every step of the loops around.
        """
        if not is_complex(atom):
            return atom
        if isinstance(atom, Literal):
            pair = pair_of_type(atom.shape, atom.dtype)
            self.known[pair] = as_pair(atom.value)
            return pair
        if atom not in self.found:
            pair = self.found[atom] = pair_of_type(atom.shape, atom.dtype)
            self.narrow[pair] = atom
        pair = self.found[atom]
        if atom in self.known and pair not in self.known:
            self.known[pair] = as_pair(self.known[atom])
        if atom in stepped:
            stepped.add(pair)
        if atom in self.varies:
            self.varies.add(pair)
        return pair

    def whole(self, atom: Atom) -> Atom:
        """The complex value that a pair stands for; another atom itself."""
        found = self.narrow.get(atom, atom) if isinstance(atom, Value) else atom
        return found if is_complex(found) else atom

    def of_whole(self, equation: Equation) -> Equation:
        """An equation of pairs with the complex values that they stand for."""
        inputs, outputs = (
            tuple(map(self.whole, atoms)) for atoms in (equation.inputs, equation.outputs)
        )
        return replace(equation, inputs=inputs, outputs=outputs)

    def all(self, atoms: Sequence[Any], stepped: set[Value]) -> tuple[Any, ...]:
        """`__call__` of several atoms."""
        return tuple(self(a, stepped) for a in atoms)


def zero_beside(value: Any) -> Any:
    """The pair (x, 0) of a known x."""
    xp = jnp if isinstance(value, Tracer) else np
    value = xp.asarray(value)
    return xp.stack([value, xp.zeros_like(value)], -1)


def twice(value: Any) -> Any:
    """A known value for both parts."""
    xp = jnp if isinstance(value, Tracer) else np
    value = xp.asarray(value)
    return xp.broadcast_to(value[..., None], (*value.shape, 2))
