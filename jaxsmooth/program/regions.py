"""Elementwise sub-programs of one variable, recognised as single scalar functions.

``jnp.where(x > 0, x, 0.1 * x)`` and ``x * jax.nn.sigmoid(x)`` read one variable several
times. Equation by equation the comparison is a jump, and the product forgets that its
factors move together. A value r *dominates* a value v if v is computed elementwise from r
and known uniform numbers alone; where an equation has several varying operands with a
common dominator, it and all that lies between become one equation of that variable.

So does a chain such as ``log(1 + x**2)`` or ``relu(1 - x)**2``, if it has no kinks: its slope
is not the product of the largest slopes of its parts, and kinks of parts need no smoothing
where the whole has none. A chain with kinks is cut at the last of them.

Axes of length one do not matter: ``jnp.piecewise`` drops those of the conditions and of the
variable apart. A region whose result has others than its variable reads the variable moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import primitives as p

from jaxsmooth.program.graph import Atom, Equation, Literal, Value, live
from jaxsmooth.program.layout import is_identity, moves_units, shortens
from jaxsmooth.program.match import OF_NUMBERS
from jaxsmooth.program.probabilities import Probabilities
from jaxsmooth.program.simplify import uniform
from jaxsmooth.program.squares import squared
from jaxsmooth.program.steps import (
    EXPANDED,
    PARAMETERS,
    PASSED,
    UNIVARIATE,
    Steps,
    passed_on,
    stable,
    steps_of,
)

# The largest number of steps that is worth enclosing as one function.
_MOST_STEPS = 200
# All whole numbers up to here are floating-point numbers of every type.
_MOST_COUNTED = 256
_EQUALITIES = frozenset({p.eq_p, p.ne_p})
_EXTREMA = frozenset({p.max_p, p.min_p})
# Steps that equation by equation would be refused where they are not decided.
_JUMPING = frozenset({"select_n", "sign", "gt", "ge", "lt", "le", "eq", "ne", "is_finite"})
_BENT = frozenset({p.max_p, p.min_p, p.abs_p, p.clamp_p, p.sign_p, p.select_n_p, p.bessel_i0e_p})
_AFFINE = frozenset(
    {p.add_p, p.add_jaxvals_p, p.sub_p, p.neg_p, p.copy_p, p.convert_element_type_p}
)


def regions(
    known_operation: Callable[[str, tuple[float, ...]], bool],
    located: Callable[[Equation], bool] = lambda region: True,
    smooth: Callable[[Equation], bool] = lambda region: False,
) -> Callable[[Sequence[Equation], Sequence[Atom], dict[Value, Any], set[Value]], list[Equation]]:
    """A rewrite that replaces regions of operations with these names.

    Args:
      known_operation: whether a region may hold an operation of that name and parameters.
      located: whether the kinks of a region could be found. One whose kinks could not keeps
        its equations if each of them is continuous, for each is then smoothed by itself.
      smooth: whether a region has a slope everywhere that is continuous.
    """

    def rewrite(
        equations: Sequence[Equation],
        outputs: Sequence[Atom],
        known: dict[Value, Any],
        varies: set[Value],
    ) -> list[Equation]:
        finder = _Finder(known_operation, located, smooth, known, varies)
        found = [finder.visit(e) for e in equations]
        chains = finder.chains(equations, outputs)
        found = [chains.get(e.outputs[0], e) if e.outputs else e for e in found]
        return live([x for e in found for x in (*finder.moves(e), e)], outputs)

    return rewrite


@dataclass(eq=False)
class _Finder:
    known_operation: Callable[[str, tuple[float, ...]], bool]
    located: Callable[[Equation], bool]
    smooth: Callable[[Equation], bool]
    known: dict[Value, Any]
    varies: set[Value]
    producers: dict[Value, Equation] = field(default_factory=dict)
    # Dominators of every elementwise value, nearest first.
    dominators: dict[Value, list[Value]] = field(default_factory=dict)
    # Bounds of whole numbers that are counted without leaving their type.
    whole: dict[Value, Ends] = field(default_factory=dict)
    # The primitives that read every value.
    readers: dict[Atom, list[Any]] = field(default_factory=dict)
    # Variables of regions in other shapes, by what they are and the shape.
    moved: dict[tuple[Value, tuple[int, ...]], Equation] = field(default_factory=dict)
    probabilities: Probabilities = field(default_factory=Probabilities)

    def visit(self, equation: Equation) -> Equation:
        """The equation, or the region that ends in it."""
        self.probabilities.visit(equation)
        # What a shorter type holds is rounded, and may be infinite.
        if shortens(equation) or not (self._elementwise(equation) or moves_units(equation)):
            return equation
        (output,) = equation.outputs
        varying = [a for a in equation.inputs if isinstance(a, Value) and a in self.varies]
        if not varying or not all(a in varying or self._uniform(a) for a in equation.inputs):
            return equation
        self.producers[output] = equation
        above = [self.dominators.get(a, [a]) for a in varying]
        common = _common(above)
        if not common:
            common = _common([self._with_logarithm(roots) for roots in above])
        self.dominators[output] = [output, *common]
        selects = equation.primitive is p.select_n_p and equation.inputs[0] in varying
        clips = self._clips(equation, varying)
        if not (len(varying) > 1 or selects or clips) or not _is_real(output):
            return equation
        roots = [v for v in common[clips:] if _is_real(v)]
        return self._region(equation, roots[0]) if roots else equation

    def _with_logarithm(self, roots: list[Value]) -> list[Value]:
        """The dominators, and the logarithm of the last one if that is a probability."""
        made = self.probabilities.exponential(roots[-1])
        if made is None:
            return roots
        self.producers[roots[-1]] = made
        self.dominators[roots[-1]] = roots[-1:]
        return [*roots, *(a for a in made.inputs if isinstance(a, Value))]

    def moves(self, region: Equation) -> list[Equation]:
        """What moves the axes of a region's variable; once each."""
        found = [(key, e) for key, e in self.moved.items() if e.outputs[0] in region.inputs]
        for key, _ in found:
            del self.moved[key]
        return [e for _, e in found]

    def chains(
        self, equations: Sequence[Equation], outputs: Sequence[Atom]
    ) -> dict[Value, Equation]:
        """Chains without kinks as one equation each, by their results."""
        found: dict[Value, Equation] = {}
        ends = set(outputs)
        for equation in equations:
            for a in equation.inputs:
                self.readers.setdefault(a, []).append(equation.primitive)
            output = equation.outputs[0] if equation.outputs else None
            if output not in self.producers or self.dominators[output] == [output]:
                ends.update(equation.inputs)
        for value in list(self.producers):
            if value in ends:
                self._chain(value, self._roots(value), found)
        return found

    def _roots(self, value: Value) -> list[Value]:
        return self.dominators.get(value, [value])

    def _chain(self, end: Value, roots: list[Value], found: dict[Value, Equation]) -> None:
        """Enter the longest chain without kinks that ends there, and those before its start."""
        final = self.producers.get(end)
        if final is None or end in found or not _is_real(end):
            return
        if moves_units(final) and not is_identity(final):
            self._chain(roots[1], roots[1:], found)
            return
        starts = [v for v in roots if v is not end and _is_real(v)]
        within = self._between(end, starts[-1]) if starts else []
        if sum(map(self._curved, within)) < 2:
            return
        root = squared(final)
        summed = {p.reduce_sum_p} == set(self.readers.get(end, ()))
        if isinstance(root, Value) and summed and _BENT.isdisjoint(e.primitive for e in within):
            # The sum is that of its operand's squares, whose slope is twice their norm.
            self._chain(root, self._roots(root), found)
            return
        region = self._region(final, starts[-1])
        if region.primitive is UNIVARIATE and self.smooth(region):
            found[end] = region
            return
        bent = next((e for e in reversed(within) if e.primitive in _BENT), None)
        if bent is None:
            return
        if bent is not final and bent.outputs[0] in roots:
            self._chain(end, roots[: roots.index(bent.outputs[0]) + 1], found)
        for a in bent.inputs:
            if isinstance(a, Value) and a in self.producers:
                self._chain(a, self._roots(a), found)

    def _curved(self, equation: Equation) -> bool:
        """Whether the equation is not affine in what varies."""
        if equation.primitive in (p.mul_p, p.div_p):
            first, second = (isinstance(a, Value) and a in self.varies for a in equation.inputs)
            return second and (first or equation.primitive is p.div_p)
        return equation.primitive not in _AFFINE and not moves_units(equation)

    def _between(self, end: Value, start: Value) -> list[Equation]:
        """The equations that compute one value from another, in order."""
        found: dict[Value, Equation] = {}

        def collect(value: Value) -> None:
            if value is start or value in found or value not in self.producers:
                return
            for a in self.producers[value].inputs:
                if isinstance(a, Value):
                    collect(a)
            found[value] = self.producers[value]

        collect(end)
        return list(found.values())

    def _clips(self, equation: Equation, varying: list[Value]) -> bool:
        """Whether the equation is a second bound of what has one, as in min(max(x, a), b).

        Its kinks never meet, which two sites, one after the other, could not know.
        """
        if equation.primitive not in _EXTREMA or len(varying) != 1:
            return False
        inner = self.producers.get(varying[0])
        if inner is None or inner.primitive not in _EXTREMA:
            return False
        return sum(isinstance(a, Value) and a in self.varies for a in inner.inputs) == 1

    def _elementwise(self, equation: Equation) -> bool:
        if len(equation.outputs) != 1:
            return False
        if jnp.issubdtype(equation.outputs[0].dtype, jnp.integer) and not self._counts(equation):
            return False
        shape = equation.outputs[0].shape
        same = all(a.shape in ((), shape) for a in equation.inputs)
        if not same:
            return False
        if any(isinstance(a, Value) and a in self.varies and a.shape != shape
               for a in equation.inputs):  # fmt: skip
            return False
        if equation.primitive is p.is_finite_p:
            return False  # functions of one variable are of finite numbers
        if equation.primitive in _EQUALITIES and equation.inputs[0].dtype == np.bool_:
            return False
        if is_identity(equation) or equation.outputs[0] in self.whole:
            return True
        if equation.primitive in EXPANDED:
            return True
        parameters = [equation.inputs[i] for i in PARAMETERS.get(equation.primitive, ())]
        numbers = tuple(self._number(a) for a in parameters if self._uniform(a))
        if len(numbers) < len(parameters):
            return False
        if equation.primitive is p.integer_pow_p:
            numbers = (equation.params["y"],)
        return self.known_operation(equation.primitive.name, numbers)

    def _counts(self, equation: Equation) -> bool:
        """Whether whole numbers stay within their type, so that they are numbers like others."""
        bounds = [self._bounds(a) for a in equation.inputs]
        if equation.primitive in PASSED or moves_units(equation):
            found = bounds[0]
        elif equation.primitive in _COUNTED and None not in bounds:
            found = _COUNTED[equation.primitive](*bounds)
        else:
            return False
        limits = jnp.iinfo(equation.outputs[0].dtype)
        least, most = max(limits.min, -_MOST_COUNTED), min(limits.max, _MOST_COUNTED)
        if found is None or not least <= found[0] <= found[1] <= most:
            return False
        self.whole[equation.outputs[0]] = found
        return True

    def _bounds(self, atom: Atom) -> Ends | None:
        """Bounds of whole numbers or truth values."""
        if atom.dtype == np.bool_:
            return 0.0, 1.0
        number = uniform(atom, self.known)
        if number is not None and jnp.issubdtype(atom.dtype, jnp.integer):
            return float(number), float(number)
        return self.whole.get(atom) if isinstance(atom, Value) else None

    def _uniform(self, atom: Atom) -> bool:
        """Whether the atom is one known number everywhere."""
        return uniform(atom, self.known) is not None

    def _number(self, atom: Atom) -> float:
        value = atom.value if isinstance(atom, Literal) else self.known[atom]
        return float(np.asarray(value).reshape(-1)[0])

    def _variable(self, final: Equation, root: Value) -> Value:
        """The root with the axes of the region's result."""
        shape = final.outputs[0].shape
        if root.shape == shape:
            return root
        for value in self.dominators[final.outputs[0]]:
            if value.shape == shape and self._is_moved(value, root):
                return value
        if (root, shape) not in self.moved:
            # The program need not have it, or have it in a branch only.
            value = Value(ShapedArray(shape, root.dtype))
            params = {"new_sizes": shape, "dimensions": None, "sharding": None}
            path = f"{final.path}/variable"
            move = Equation(p.reshape_p, params, (root,), (value,), path, final.source)
            self.moved[root, shape] = move
            self.varies.add(value)
        return self.moved[root, shape].outputs[0]

    def _is_moved(self, value: Value, root: Value) -> bool:
        """Whether a value is the root, but for its axes."""
        while value is not root:
            made = self.producers.get(value)
            if made is None or not moves_units(made) or not isinstance(made.inputs[0], Value):
                return False
            value = made.inputs[0]
        return True

    def _region(self, final: Equation, root: Value) -> Equation:
        if final.primitive is p.mul_p and final.inputs == (root, root):
            return _replaced(final, p.integer_pow_p, {"y": 2}, (root,))
        steps: Steps = []
        numbers: dict[Value, int] = {root: 0}
        if not self._collect(final.outputs[0], steps, numbers):
            return final
        if numbers[final.outputs[0]] != len(steps):
            steps.append(("identity", (numbers[final.outputs[0]],), ()))
        restated = stable(steps)
        params: dict[str, Any] = {"steps": tuple(restated)}
        if restated != steps:
            params["restated"] = True
        made = (self.producers[v] for v in numbers if v is not root)
        if any(OF_NUMBERS.keys() <= e.params.keys() for e in made):
            params |= OF_NUMBERS
        region = _replaced(final, UNIVARIATE, params, (self._variable(final, root),))
        if _JUMPING.isdisjoint(name for name, *_ in steps) and not self.located(region):
            return final
        return region

    def _collect(
        self,
        value: Value,
        steps: Steps,
        numbers: dict[Value, int],
    ) -> bool:
        """Append the steps that compute a value; False if there are too many."""
        if value in numbers:
            return True
        equation = self.producers[value]
        for atom in equation.inputs:
            if not isinstance(atom, Value) or atom not in self.varies:
                continue
            if not self._collect(atom, steps, numbers):
                return False
        operands = tuple(
            numbers[a] if isinstance(a, Value) and a in numbers else self._number(a)
            for a in equation.inputs
        )
        passed = passed_on(equation, operands)
        if passed is not None:
            numbers[value] = passed
            return True
        for step in steps_of(equation, operands, len(steps)):
            steps.append(step)
        numbers[value] = len(steps)
        return len(steps) <= _MOST_STEPS


def _common(above: Sequence[Sequence[Value]]) -> list[Value]:
    """What is in all of these lists."""
    return [v for v in above[0] if all(v in other for other in above[1:])]


def _is_real(value: Value) -> bool:
    return jnp.issubdtype(value.dtype, jnp.floating)


Ends = tuple[float, float]


def _product(a: Ends, b: Ends) -> Ends:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


_COUNTED: dict[Any, Callable[..., Ends]] = {
    p.add_p: lambda a, b: (a[0] + b[0], a[1] + b[1]),
    p.sub_p: lambda a, b: (a[0] - b[1], a[1] - b[0]),
    p.neg_p: lambda a: (-a[1], -a[0]),
    p.mul_p: _product,
    p.max_p: lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    p.min_p: lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    p.clamp_p: lambda low, a, high: (
        min(max(a[0], low[0]), high[0]), min(max(a[1], low[1]), high[1])
    ),
    p.select_n_p: lambda which, *options: (
        min(a for a, _ in options), max(b for _, b in options)
    ),
}  # fmt: skip
"""Bounds of what is computed from whole numbers within bounds."""


def _replaced(
    final: Equation, kind: Any, params: dict[str, Any], inputs: tuple[Atom, ...]
) -> Equation:
    return Equation(kind, params, inputs, final.outputs, final.path, final.source, final.eqn)
