"""What becomes of every primitive: supported, constant-only, or refused with a reason.

One entry for each primitive of `jax.extend.core.primitives` in any version of JAX that is
supported, and for those that live elsewhere. The page ``docs/reference/primitives.md`` is
written from it (``python docs/primitives.py``), and errors quote it. Tests hold that no
primitive is missing under the JAX that is installed, and that what is called supported
has a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from jax.extend.core import primitives


class Status(Enum):
    """The three lists."""

    SUPPORTED = "supported"
    CONSTANT = "discrete or constant-only"
    REFUSED = "refused"


@dataclass(frozen=True)
class Support:
    """What is done with a primitive.

    Attributes:
      status: the list that it is in.
      family: what kind of primitive it is.
      reason: why it is not smoothed; empty for supported ones.
      way_out: what to do instead.
      note: what its support is limited to.
    """

    status: Status
    family: str
    reason: str = ""
    way_out: str = ""
    note: str = ""


def _supported(family: str, names: str, note: str = "") -> dict[str, Support]:
    return {n: Support(Status.SUPPORTED, family, note=note) for n in names.split()}


def _constant(family: str, names: str, reason: str, way_out: str) -> dict[str, Support]:
    return {n: Support(Status.CONSTANT, family, reason, way_out) for n in names.split()}


def _refused(family: str, names: str, reason: str, way_out: str) -> dict[str, Support]:
    return {n: Support(Status.REFUSED, family, reason, way_out) for n in names.split()}


_ENTRIES: tuple[dict[str, Support], ...] = (
    _supported(
        "smooth functions of one variable",
        "acos acosh asin asinh atan atanh cbrt cos cosh erf erfc exp exp2 expm1 integer_pow log "
        "log1p log2 logistic neg one_minus_square rsqrt sin sinh sqrt square tan tanh",
    ),
    _supported("smooth functions of one variable", "lgamma digamma", "positive arguments"),
    _supported("smooth functions of one variable", "erf_inv bessel_i1e"),
    _supported(
        "smooth functions of one variable", "polygamma regularized_incomplete_beta",
        "other parameters known: JAX has no derivative in them",
    ),
    _supported(
        "smooth functions of several variables", "igamma igammac zeta",
        "where they are finite and smooth; parameters that are known may differ between entries",
    ),
    _supported("smooth functions of several variables", "mul polynomial"),
    _supported("smooth functions of several variables", "div", "divisors away from 0"),
    _supported(
        "smooth functions of several variables", "pow",
        "one known exponent, or a positive base",
    ),
    _supported(
        "smooth functions of several variables", "atan2",
        "away from the origin and from the jump by 2π",
    ),
    _supported(
        "kinks", "abs max min clamp bessel_i0e", "also as parts of functions of one variable"
    ),
    _supported(
        "kinks of many values",
        "reduce_max reduce_min reduce_window_max reduce_window_min cummax cummin",
    ),
    _supported("kinks of many values", "scatter_max scatter_min", "known indices"),
    _supported(
        "kinks of many values", "sort",
        "values of one operand; several operands where the keys are known",
    ),
    _supported("kinks of many values", "top_k", "values; their places are numbers that jump"),
    _supported(
        "linear",
        "add add_jaxvals sub broadcast_in_dim reshape squeeze transpose rev slice pad concatenate "
        "copy name sharding_constraint reduce_sum cumsum reduce_window_sum "
        "split stack unstack tile device_put optimization_barrier",
    ),
    _supported(
        "linear", "reduce_precision convert_element_type",
        "rounding to a shorter type counts as rounding, which certificates leave out; "
        "conversions to integers jump",
    ),
    _supported(
        "linear", "gather dynamic_slice dynamic_update_slice scatter_add scatter-sub",
        "indices that do not vary, known or not",
    ),
    _supported("linear", "scatter", "indices that do not vary and do not repeat"),
    _supported("linear", "select_n", "conditions that do not vary, or branches that meet"),
    _supported(
        "linear", "stop_gradient",
        "what passes through it is exact, and constant in derivatives",
    ),
    _supported(
        "linear systems", "triangular_solve tridiagonal_solve",
        "matrices that vary, too, where all are proved to be regular",
    ),
    _supported(
        "linear systems", "linear_solve",
        "`jnp.linalg.solve`, `jnp.linalg.inv` and `jax.scipy.linalg.solve`: matrices that vary, "
        "too, where all are proved to be regular; solvers of one's own: known matrices",
    ),
    _supported(
        "decompositions", "eigh svd",
        "all values and no vectors (`jnp.linalg.eigvalsh`, `jnp.linalg.svdvals`), where the "
        "values are proved to stay apart",
    ),
    _supported("control flow", "scan"),
    _supported("control flow", "while", "a number of steps that is known"),
    _supported(
        "control flow", "cond", "a choice that is known or does not vary, or branches that meet"
    ),
    _supported("bilinear", "dot_general conv_general_dilated"),
    _supported("bilinear", "scatter_mul", "known, distinct indices"),
    _supported(
        "complex numbers", "complex real imag conj fft",
        "inside a function of real arrays; also what is linear, bilinear, abs, div, exp and "
        "integer_pow of complex numbers",
    ),
    _supported("products and sums of exponentials", "reduce_prod cumprod cumlogsumexp"),
    _supported(
        "calls", "jit closed_call call custom_jvp_call custom_vjp_call remat",
        "entered; custom derivatives are taken for the true ones",
    ),
    _supported(
        "random numbers",
        "random_bits random_seed random_split random_fold_in random_wrap random_unwrap "
        "random_clone rng_bit_generator threefry2x32",
        "from keys that are known, or arguments: what is drawn does not vary",
    ),
    _constant(
        "comparisons and logic",
        "eq ne ge gt le lt and or xor not is_finite reduce_and reduce_or reduce_xor",
        "its result jumps",
        "Use jnp.maximum, jnp.clip or jax.nn functions in place of comparing and selecting, or "
        "make sure that the branches of jnp.where meet.",
    ),
    _constant(
        "rounding", "sign floor ceil round nextafter",
        "its result jumps",
        "Drop it, use a soft version such as jnp.tanh(x / width), or use "
        "x + stop_gradient(round(x) - x), whose derivative is that of x.",
    ),
    _constant(
        "rounding", "rem", "the remainder jumps at multiples of the divisor",
        "Use jnp.sin and jnp.cos for periodicity.",
    ),
    _constant(
        "indices", "argmax argmin", "the place of the largest entry jumps",
        "Use the largest value itself (jnp.max), or jax.nn.softmax with a temperature.",
    ),
    _constant(
        "indices", "call_hi_primitive",
        "it is a function of JAX whose program stays hidden, such as jnp.searchsorted, and jumps",
        "Use jnp.interp between knots that are known, or sums of jnp.clip.",
    ),
    _constant(
        "integers and bits",
        "shift_left shift_right_arithmetic shift_right_logical population_count clz "
        "bitcast_convert_type",
        "bits of a number that varies jump", "Keep to floating-point arithmetic.",
    ),
    _constant(
        "constants", "iota empty2", "it has no operands, and is always known",
        "Nothing is to be done.",
    ),
    _constant(
        "decompositions", "cholesky lu",
        "its factors are no functions of the matrix on their own: the rows that lu exchanges "
        "jump, and above the diagonal cholesky leaves what it finds",
        "Use what is computed with them: `jnp.linalg.cholesky`, `jax.scipy.linalg.cho_factor` and "
        "`cho_solve`, `jnp.linalg.solve`, `inv`, `det` and `slogdet` are supported where all "
        "matrices are proved to be regular, or positive definite.",
    ),
    _constant(
        "decompositions", "qr householder_product tridiagonal hessenberg",
        "its reflections change sign with what they reflect, and its derivatives are bounded only "
        "where the smallest singular value is bounded from below, which is not proved of matrices "
        "that are not square",
        "Use `jnp.linalg.cholesky` of XᵀX plus a multiple of the identity, or "
        "`jnp.linalg.solve` with it.",
    ),
    _constant(
        "decompositions", "eig schur",
        "eigenvalues of a matrix that is not symmetric move like roots where two of them meet, "
        "and are not Lipschitz there",
        "Use symmetric matrices and functions of all eigenvalues (`jnp.linalg.slogdet`, traces), "
        "or decompose outside the function and pass the factors with jaxsmooth.fixed.",
    ),
    _constant(
        "special functions", "igamma_grad_a",
        "JAX has no derivative of it, so that no function that is made of it has a gradient",
        "Smooth before you differentiate: jax.grad(jaxsmooth.smooth(f, ...)).",
    ),
    _constant(
        "random numbers", "random_gamma",
        "it draws by accepting or rejecting proposals, so that for one key the number jumps with "
        "the shape; JAX's derivative is that of the distribution",
        "Draw with a known shape, or transform uniform numbers by a function of the parameters.",
    ),
    _constant(
        "derivatives of kinks", "select_and_scatter select_and_scatter_add "
        "select_and_gather_add",
        "it is the derivative of a maximum, which jumps where the maximum changes places",
        "Smooth before you differentiate: jax.grad(jaxsmooth.smooth(f, ...)).",
    ),
    _constant(
        "comparisons and logic", "eq_to le_to lt_to",
        "it orders all bit patterns, and jumps", "Use jnp.sort or jax.lax.top_k.",
    ),
    _refused(
        "reductions by any function", "reduce reduce_window",
        "it combines by a function of the user's in an order that is left open, so that what it "
        "computes is determined only if that function is associative",
        "Use sums, products, maxima or minima.",
    ),
    _refused(
        "approximate", "approx_top_k",
        "which values it finds depends on the hardware", "Use jax.lax.top_k.",
    ),
    _refused(
        "communication", "psum pmax pmin ppermute all_gather all_to_all ragged_all_to_all "
        "axis_index pbroadcast pvary",
        "it talks between devices, whose other arguments are not part of this call",
        "Smooth the function of one device, inside shard_map or pmap; or use jax.jit with "
        "shardings, which keeps the whole function in one program. Over the axis of a jax.vmap "
        "inside the function it is supported.",
    ),
    _refused(
        "communication", "shard_map",
        "its body sees a part of every array only",
        "Smooth the function inside shard_map, or use jax.jit with shardings.",
    ),
    _refused(
        "no functions", "rng_uniform",
        "it draws other numbers at every call, and is no function, also of operands that are known",
        "Draw with jax.random and a key.",
    ),
    _refused(
        "no functions", "io_callback",
        "what it returns may be another number at every call, also where its operands are known",
        "Call the host outside of the function and pass the result as an argument, or use "
        "jax.pure_callback.",
    ),
    _refused(
        "foreign code", "pure_callback ffi_call pallas_call",
        "its code is not visible to JAX",
        "Write that part in JAX, or give the primitive a rule with jaxsmooth.register_rule.",
    ),
    _refused(
        "mutable arrays", "get swap",
        "it reads and writes arrays in place, and is no function of its operands",
        "Return new arrays (x.at[i].set(v)) in place of references.",
    ),
    _refused(
        "tokens", "after_all create_token",
        "it orders effects, and is no function", "Leave effects out of the function.",
    ),
    _refused(
        "inside transformations", "custom_lin",
        "it stands for a derivative that is being computed",
        "Smooth before you differentiate: jax.grad(jaxsmooth.smooth(f, ...)).",
    ),
)  # fmt: skip

ELSEWHERE = frozenset(
    {
        "split", "stack", "unstack", "tile", "optimization_barrier", "scatter-sub", "random_wrap",
        "random_unwrap", "random_clone", "shard_map", "pure_callback", "io_callback", "ffi_call",
        "pallas_call", "pbroadcast", "pvary", "call_hi_primitive",
    }
)  # fmt: skip
"""Names of those that `jax.extend.core.primitives` leaves out."""

NEWER = frozenset({"log2", "one_minus_square", "polynomial"})
"""Names that the oldest supported version of JAX does not have."""


def _merged() -> dict[str, Support]:
    table: dict[str, Support] = {}
    for entries in _ENTRIES:
        twice = table.keys() & entries.keys()
        if twice:
            raise AssertionError(f"in two lists: {sorted(twice)}")
        table.update(entries)
    return table


TABLE: Mapping[str, Support] = _merged()
"""What is done with every primitive, by its name in `jax.extend.core.primitives`."""

_NAMES = {getattr(primitives, n): n.removesuffix("_p") for n in dir(primitives) if n.endswith("_p")}


def support_of(primitive: Any) -> Support | None:
    """What is done with a primitive; None for those that are not JAX's own."""
    if primitive in _NAMES:
        return TABLE.get(_NAMES[primitive])
    return TABLE.get(primitive.name) if primitive.name in ELSEWHERE else None


def page() -> str:
    """The page of the documentation, in Markdown."""
    lines = [
        "# Primitives",
        "",
        "What becomes of every JAX primitive. Whatever its inputs are, an equation that depends on",
        "known numbers only (constants, `jaxsmooth.fixed`) is evaluated, and one that only",
        "`stop_gradient` reads is exact. This page is written by `python docs/primitives.py`.",
    ]
    titles = {
        Status.SUPPORTED: ("Supported", ("family", "primitives", "limits")),
        Status.CONSTANT: (
            "Discrete or constant-only: exact where the inputs do not vary",
            ("family", "primitives", "why", "what to do instead"),
        ),
        Status.REFUSED: ("Refused", ("family", "primitives", "why", "what to do instead")),
    }
    for status, (title, columns) in titles.items():
        lines += ["", f"## {title}", "", f"| {' | '.join(columns)} |"]
        lines.append("| " + " | ".join("---" for _ in columns) + " |")
        rows: dict[tuple[str, ...], list[str]] = {}
        for name, entry in TABLE.items():
            if entry.status is status:
                told = (entry.note,) if status is Status.SUPPORTED else (
                    entry.reason, entry.way_out,
                )  # fmt: skip
                rows.setdefault((entry.family, *told), []).append(name)
        for (family, *told), names in rows.items():
            marked = " ".join(f"`{n}`" + ("¹" if n in NEWER else "") for n in sorted(names))
            lines.append(f"| {' | '.join((family, marked, *told))} |")
    lines += ["", "¹ In newer versions of JAX only.", ""]
    return "\n".join(lines)
