"""Writing equations of complex values as equations of pairs, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxsmooth.program.graph import Atom, Equation, Literal, Value
from jaxsmooth.program.pairs import Pairs, is_complex, pair_of_type


@dataclass(eq=False)
class Rewriter:
    """The equations of a level so far, and what is known of their results.

    Attributes:
      pairs: of all levels of the program.
      stepped: values that are known at every step of the loops around.
      halts: results of ``stop_gradient`` that count as constants; their pairs are added.
      made: the equations so far.
      producers: of real values, the equations before they were rewritten.
      copies: by result, what it is a copy of.
      conjugated: by result, what it is the conjugate of.
      real: by result, the real number that a complex one is.
      imaginary: by result, the y of a complex number iy.
      parts: by result, the complex number that it is a part of, and `real_p` or `imag_p`.
      modulus: by result, the z of |z|.
      squared: by result, the z of |z|².
    """

    pairs: Pairs
    stepped: set[Value]
    halts: set[Value]
    made: list[Equation] = field(default_factory=list)
    producers: dict[Atom, Equation] = field(default_factory=dict)
    copies: dict[Atom, Atom] = field(default_factory=dict)
    conjugated: dict[Atom, Atom] = field(default_factory=dict)
    real: dict[Atom, Atom] = field(default_factory=dict)
    imaginary: dict[Atom, Atom] = field(default_factory=dict)
    parts: dict[Atom, tuple[Atom, Any]] = field(default_factory=dict)
    modulus: dict[Atom, Atom] = field(default_factory=dict)
    squared: dict[Atom, Atom] = field(default_factory=dict)

    def pair(self, atom: Atom) -> Atom:
        """The pair of a complex atom; another atom itself."""
        return self.pairs(atom, self.stepped)

    def value(self, atom: Atom) -> Any | None:
        """The atom's value, if it is known once and for all."""
        return atom.value if isinstance(atom, Literal) else self.pairs.known.get(atom)

    def origin(self, atom: Atom) -> Atom:
        """What an atom is a copy of."""
        return self.copies.get(atom, atom)

    def add(
        self,
        equation: Equation,
        primitive: Any,
        inputs: Sequence[Atom],
        outputs: Sequence[Value] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Value:
        """Add an equation.

        Args:
          equation: the equation of the program that it is for.
          primitive: what it does.
          inputs: its operands.
          outputs: its results; by default a pair that only the analysis has.
          params: its parameters.

        Returns:
          Its first result.
        """
        result = equation.outputs[0]
        if outputs is None:
            outputs = (pair_of_type(result.shape, result.dtype),)
        path = equation.path
        if outputs[0] is not result and outputs[0] is not self.pairs.found.get(result):
            path = f"{path}/part.{len(self.made)}"
        self.made.append(
            Equation(
                primitive,
                dict(params or {}),
                tuple(inputs),
                tuple(outputs),
                path,
                equation.source,
            )
        )
        return outputs[0]

    def become(
        self,
        equation: Equation,
        primitive: Any,
        inputs: Sequence[Atom],
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the equation that has the results of the one given, complex ones as pairs."""
        outputs = self.pairs.all(equation.outputs, self.stepped)
        for pair, output in zip(outputs, equation.outputs, strict=True):
            if output in self.halts:
                self.halts.add(pair)
        self.add(equation, primitive, inputs, outputs, params)

    def both_parts(self, atoms: Sequence[Atom]) -> tuple[Atom, tuple[Any, Any]] | None:
        """The complex number of which two atoms are the two parts, and which is which."""
        if len(atoms) != 2:
            return None
        one, other = (self.parts.get(self.origin(a)) for a in atoms)
        if one is None or other is None:
            return None
        (z, first), (w, second) = one, other
        return (z, (first, second)) if z is w and is_complex(z) else None
