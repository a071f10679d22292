"""Structural and additive equations of complex values as those of pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from jaxsmooth import errors
from jaxsmooth._compat import primitive_in
from jaxsmooth.program.evaluate import bind
from jaxsmooth.program.graph import COPY, Atom, Equation, Literal, Value, describe
from jaxsmooth.program.pairs import is_complex, pair_of_type, twice, zero_beside
from jaxsmooth.program.rewriter import Rewriter

EMBED = Primitive("complex_embed")
"""The pair (x, 0) of a real x."""
PICK = Primitive("complex_pick")
"""The pair whose entries are those of a real array at ``places`` of it, as it lies in memory."""

Params = dict[str, Any]


def _same(e: Equation) -> Params:
    return {}


def _with(**entries: Any) -> Callable[[Equation], Params]:
    """Parameters with an entry more for the axis of the parts."""
    return lambda e: {
        n: None if e.params[n] is None else (*e.params[n], x) for n, x in entries.items()
    }


def _broadcast(e: Equation) -> Params:
    shape = (*e.outputs[0].shape, 2)
    axes = (*e.params["broadcast_dimensions"], len(shape) - 1)
    return {"shape": shape, "broadcast_dimensions": axes, "sharding": None}


def _reshape(e: Equation) -> Params:
    return {"new_sizes": (*e.params["new_sizes"], 2), "dimensions": None, "sharding": None}


def _transpose(e: Equation) -> Params:
    return {"permutation": (*e.params["permutation"], len(e.inputs[0].shape))}


def _gather(e: Equation) -> Params:
    numbers = e.params["dimension_numbers"]
    numbers = numbers._replace(offset_dims=(*numbers.offset_dims, len(e.outputs[0].shape)))
    return {"dimension_numbers": numbers, "slice_sizes": (*e.params["slice_sizes"], 2)}


def _scatter(e: Equation) -> Params:
    numbers = e.params["dimension_numbers"]
    windows = (*numbers.update_window_dims, len(e.inputs[2].shape))
    return {"dimension_numbers": numbers._replace(update_window_dims=windows)}


_NUMBERS = jax.ShapeDtypeStruct((4,), np.float32)

# Those that `jax.extend.core.primitives` leaves out, or that older versions do not have.
STACK = primitive_in(lambda x: jnp.stack([x, x]), "stack", _NUMBERS)
TILE = primitive_in(lambda x: jnp.tile(x, 2), "tile", _NUMBERS)
SPLIT = primitive_in(lambda x: jnp.split(x, 2), "split", _NUMBERS)
UNSTACK = primitive_in(jnp.unstack, "unstack", _NUMBERS)
_BARRIER = primitive_in(lax.optimization_barrier, "optimization_barrier", _NUMBERS)
_SUBTRACTION = primitive_in(lambda x: x.at[0].subtract(x[1]), "scatter-sub", _NUMBERS)

_PARAMS: dict[Any, Callable[[Equation], Params]] = {
    **dict.fromkeys(
        (
            p.add_p, p.sub_p, p.neg_p, p.add_jaxvals_p, p.copy_p, p.name_p, p.stop_gradient_p,
            p.sharding_constraint_p, p.device_put_p, p.reduce_sum_p, p.cumsum_p, p.rev_p,
            p.squeeze_p, p.concatenate_p, STACK, SPLIT, UNSTACK, _BARRIER,
        ),
        _same,
    ),
    p.broadcast_in_dim_p: _broadcast,
    p.reshape_p: _reshape,
    p.transpose_p: _transpose,
    p.slice_p: _with(start_indices=0, limit_indices=2, strides=1),
    TILE: _with(reps=1),
    p.reduce_window_sum_p: _with(
        window_dimensions=1,
        window_strides=1,
        padding=(0, 0),
        base_dilation=1,
        window_dilation=1,
    ),
    p.gather_p: _gather,
    **dict.fromkeys((p.scatter_p, p.scatter_add_p, _SUBTRACTION), _scatter),
}  # fmt: skip
STRUCTURAL = {primitive: params for primitive, params in _PARAMS.items() if primitive is not None}
"""Parameters that change where the equation is one of pairs."""

# What only moves entries of its one operand to one result.
_MOVES = frozenset({p.slice_p, p.squeeze_p, p.reshape_p, p.transpose_p, p.rev_p, p.copy_p})


def structural(rewriter: Rewriter, equation: Equation) -> None:
    """The same equation of the pairs."""
    if equation.primitive in (p.add_p, p.add_jaxvals_p):
        for one, other in (equation.inputs, equation.inputs[::-1]):
            x, y = (
                facts.get(rewriter.origin(a))
                for facts, a in ((rewriter.real, one), (rewriter.imaginary, other))
            )
            if x is not None and y is not None and x.shape == y.shape:
                _join(rewriter, equation, x, y)
                return
    params = {**equation.params, **STRUCTURAL[equation.primitive](equation)}
    inputs = [rewriter.pair(a) for a in equation.inputs]
    rewriter.become(equation, equation.primitive, inputs, params)
    if equation.primitive is COPY:
        rewriter.copies[equation.outputs[0]] = rewriter.origin(equation.inputs[0])


def converted(rewriter: Rewriter, equation: Equation) -> None:
    """convert_element_type."""
    (x,), (output,) = equation.inputs, equation.outputs
    if is_complex(x):
        rewriter.become(equation, COPY, [rewriter.pair(x)])
    else:
        rewriter.real[output] = x
        rewriter.become(equation, EMBED, [x])


def part(rewriter: Rewriter, equation: Equation) -> None:
    """The real or the imaginary part."""
    z, output = rewriter.origin(equation.inputs[0]), equation.outputs[0]
    whole = rewriter.real.get(z) if equation.primitive is p.real_p else None
    if whole is not None and whole.dtype == output.dtype:
        if whole in rewriter.squared:
            rewriter.squared[output] = rewriter.squared[whole]
        rewriter.add(equation, COPY, [whole], [output])
    else:
        rewriter.parts[output] = z, equation.primitive
        rewriter.add(equation, equation.primitive, [rewriter.pair(z)], [output])


def joined(rewriter: Rewriter, equation: Equation) -> None:
    """The complex number of two parts."""
    _join(rewriter, equation, *equation.inputs)


def _join(rewriter: Rewriter, equation: Equation, x: Atom, y: Atom) -> None:
    found = rewriter.both_parts((x, y))
    if found is not None and found[1] == (p.real_p, p.imag_p):
        rewriter.become(equation, COPY, [rewriter.pair(found[0])])
        return
    (u, at_x), (v, at_y) = (_places(rewriter, a) for a in (x, y))
    if u is v and isinstance(u, Value):
        # Entries of one array: as a selection of these their norm is joint.
        params = {"places": np.stack([at_x, at_y], -1)}
        rewriter.become(equation, PICK, [u], params)
        return
    rewriter.become(equation, p.complex_p, [x, y])


def _places(rewriter: Rewriter, atom: Atom) -> tuple[Atom, np.ndarray]:
    """The array that holds an atom's entries, and where."""
    path = []
    while (equation := rewriter.producers.get(atom)) is not None:
        if equation.primitive not in _MOVES:
            break
        path.append(equation)
        (atom,) = equation.inputs
    places: Any = np.arange(int(np.prod(atom.shape, dtype=int)), dtype=np.int32)
    with jax.ensure_compile_time_eval():
        places = places.reshape(atom.shape)
        for equation in reversed(path):
            (places,) = bind(equation, [places])
        return atom, np.asarray(places)


def stacked(rewriter: Rewriter, equation: Equation, z: Atom, order: tuple[Any, Any]) -> None:
    """Both parts of a complex number along an axis: as one value their norm is joint."""
    axis, last = equation.params["axis"], len(z.shape)
    axes = [*range(last)]
    axes.insert(axis, last)
    pair = rewriter.pair(z)
    if order == (p.imag_p, p.real_p):
        flipped = Value(pair.aval)
        pair = rewriter.add(equation, p.rev_p, [pair], [flipped], {"dimensions": (last,)})
    params = {"permutation": tuple(axes)}
    rewriter.add(equation, p.transpose_p, [pair], equation.outputs, params)


def conjugate(rewriter: Rewriter, equation: Equation) -> None:
    """conj, of a real array, too."""
    (z,) = equation.inputs
    rewriter.conjugated[equation.outputs[0]] = rewriter.origin(z)
    rewriter.become(equation, p.conj_p, [embedded(rewriter, equation, z)])


def embedded(rewriter: Rewriter, equation: Equation, atom: Atom) -> Atom:
    """The pair of an atom that may be real."""
    if is_complex(atom):
        return rewriter.pair(atom)
    wide = pair_of_type(atom.shape, np.result_type(atom.dtype, np.complex64))
    value = rewriter.value(atom)
    if value is None:
        return rewriter.add(equation, EMBED, [atom], [wide])
    rewriter.pairs.known[wide] = zero_beside(value)
    return wide


def chosen(rewriter: Rewriter, equation: Equation) -> None:
    """select_n, whose condition is one for both parts."""
    which, *cases = equation.inputs
    if which.shape:
        shape = (*equation.outputs[0].shape, 2)
        wide, value = Value(ShapedArray(shape, which.dtype)), rewriter.value(which)
        if value is None:
            axes = tuple(range(len(shape) - 1))
            params = {"shape": shape, "broadcast_dimensions": axes, "sharding": None}
            rewriter.add(equation, p.broadcast_in_dim_p, [which], [wide], params)
        else:
            rewriter.pairs.known[wide] = twice(value)
        which = wide
    rewriter.become(equation, p.select_n_p, [which, *map(rewriter.pair, cases)])


def padded(rewriter: Rewriter, equation: Equation) -> None:
    """pad by a number whose parts are the same: 0."""
    z, filling = map(rewriter.pair, equation.inputs)
    value = rewriter.value(filling)
    if value is None or isinstance(value, Tracer) or value[0] != value[1]:
        raise errors.UnsupportedPrimitiveError(
            f"{describe(equation)} pads complex numbers with another number than 0. Pad their "
            "real and imaginary parts, and join them by jax.lax.complex."
        )
    number = Literal(value[0], ShapedArray((), z.dtype))
    config = (*equation.params["padding_config"], (0, 0, 0))
    rewriter.become(equation, p.pad_p, [z, number], {"padding_config": config})


def moved(rewriter: Rewriter, equation: Equation) -> None:
    """dynamic_slice and dynamic_update_slice, which start at an index on every axis."""
    params = dict(equation.params)
    if "slice_sizes" in params:
        params["slice_sizes"] = (*params["slice_sizes"], 2)
    count = 1 if equation.primitive is p.dynamic_slice_p else 2
    starts = equation.inputs[count:]
    dtype = starts[-1].dtype if starts else np.dtype(np.int32)
    zero = Literal(np.zeros((), dtype), ShapedArray((), dtype))
    inputs = [*map(rewriter.pair, equation.inputs), zero]
    rewriter.become(equation, equation.primitive, inputs, params)
