"""Kernels: one-parameter families of smooth functions near the kink of relu.

A kernel is ``relu_mu(x) = mu * r(x / mu)`` with r = relu_1 convex, r' rising from 0
to 1, and sup error 1: every scalar piecewise smooth function is smoothed with it
(``docs``: max(a, b) = b + relu(a - b), |x| = 2 relu(x) - x, and in general
``phi(x) + sum_j J_j (relu_mu(x - b_j) - relu(x - b_j))`` for kinks b_j with jumps J_j).

How it is evaluated, and why:

- as *function plus correction*, ``relu(x) + mu * c(x / mu)`` with ``c = r - relu``: c is
  a constant outside the window, so that nothing is lost in float32 far from the kink;
- with derivatives of their own (`jax.custom_jvp`), so that the slope is computed as the
  formula of the slope: in [0, 1], increasing, and right at the kink and at the seams. The
  slope of the sum is no sum of slopes: those of relu and of c both jump at the kink, and
  compilers that form x twice, with other roundings, need not agree on its sign. The
  rules are ordinary differentiable code, which gives the second (and, for ``c2``, the
  third) derivatives almost everywhere;
- with formulas whose own derivatives are right everywhere too: before JAX 0.12 the second
  derivative of a loop differentiates what is inside a `custom_jvp` and drops its rule.
  Hence the derivatives that functions and corrections take at the kink must fit;
- behind a mask: x / mu is only ever formed inside the window, where it is bounded. A
  division that overflows would turn the zeros of the branch not taken into NaN;
- mu below the square root of the smallest normal number counts as 0, where the function
  is returned unsmoothed: 1 / mu**2 occurs in derivatives and must not overflow;
- in float32 where x has fewer bits: bfloat16 and float16 go in and come out.

The table of constants is in the field descriptions of `Kernel`; sup errors are exact,
in exact arithmetic.

Source: V. Roulet and Z. Harchaoui, *On the Smoothing of Deep Networks*, CISS 2021
(``paper``); optimality of ``minimax``: any g within mu of relu has smoothness at
least 1 / (16 mu). Proof: let h = g - x/2, made even by averaging, so h'(0) = 0 and
|x|/2 - mu <= h(x) <= h(0) + L x^2/2 <= mu + L x^2/2 for all x, and the quadratic
L x^2/2 - x/2 + 2 mu >= 0 has no positive discriminant: L >= 1 / (16 mu).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jaxsmooth.errors import ArgumentError

Array = Any  # jax.Array, numpy.ndarray or a Python number

# exp(-1100 log 2) underflows to 0 in float64: beyond it softplus is relu to the last bit.
FARTHEST = 1100.0


def working_dtype(*arrays: Any) -> tuple[Any, Any]:
    """The dtype of the arrays, or of others' dtypes, and the one their kernels are evaluated in.

    Raises:
        ArgumentError: If it is not a real floating-point dtype.
    """
    dtype = jnp.result_type(*arrays)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ArgumentError(f"smoothing needs real floating-point values, got {dtype}")
    return dtype, (jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype)


def accuracy(mu: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """mu in the dtype, never above its exact value: a scalar, or broadcast to the shape.

    Raises:
        ArgumentError: If mu does not broadcast to the shape.
    """
    if not isinstance(mu, jax.Array):
        mu = np.asarray(mu, dtype=np.float64)
    rounded = mu.astype(dtype)
    if mu.dtype.itemsize > dtype.itemsize:
        # mu is the error that was proved: rounding to nearest must not exceed it.
        # A factor instead of nextafter, because mu may be differentiated.
        xp = jnp if isinstance(mu, jax.Array) else np
        above = rounded.astype(mu.dtype) > mu
        rounded = rounded * (1 - xp.where(above, jnp.finfo(dtype).eps, 0.0)).astype(dtype)
    mu = jnp.asarray(rounded)
    if mu.ndim == 0 or mu.shape == shape:
        return mu
    try:
        return jnp.broadcast_to(mu, shape)
    except ValueError:
        raise ArgumentError(f"mu of shape {mu.shape} does not broadcast to {shape}") from None


def smallest_accuracy(dtype: Any) -> float:
    """Below this, mu counts as 0: the largest number whose square may underflow."""
    return math.sqrt(float(jnp.finfo(dtype).tiny))


def largest_accuracy(dtype: Any) -> float:
    """Up to this, the squares of windows do not overflow, nor do sums of a few."""
    return math.sqrt(float(jnp.finfo(dtype).max)) / 64


def representable_accuracy(dtype: Any) -> float:
    """Up to this, sums of a few windows do not overflow."""
    return float(jnp.finfo(dtype).max) / 64


@dataclass(frozen=True)
class Kernel:
    """A family of smooth functions relu_mu near relu, with what is proved about it.

    In all methods ``mu >= 0`` is a scalar or broadcasts to the shape of the values,
    may be traced and differentiated, and is converted to the precision that the
    values are computed in. ``mu = 0`` gives the function itself, with the derivative
    that JAX gives it. Results have the dtype of the values. All work under `jax.jit`,
    `jax.vmap`, and forward and reverse differentiation of any order.

    Args:
        name: What users call it.
        lower: ``relu_mu - relu >= lower * mu``, attained or approached.
        upper: ``relu_mu - relu <= upper * mu``, attained or approached.
        smoothness: K; the derivative of relu_mu is (K / mu)-Lipschitz, and no better.
        window: ``relu_mu - relu`` is constant on either side of ``|x| <= window * mu``.
        offset_left: That constant over mu for negative x (or its limit).
        offset_right: That constant over mu for positive x (or its limit).
        unit_correction: relu_1(t) - relu(t) for |t| <= window. `jax.grad` of it at 0 is the
            right derivative.
        unit_slope: The derivative of relu_1 for |t| <= window; differentiable.

    Example:
        >>> import jax
        >>> from jaxsmooth.math.kernels import KERNELS
        >>> centered = KERNELS["centered"]
        >>> float(centered.relu(0.0, 0.5)), float(centered.relu(2.0, 0.5))
        (0.5, 2.0)
        >>> float(jax.grad(centered.relu)(0.0, 0.5))
        0.5

    Source: DESIGN.md, section 4.
    """

    name: str
    lower: float
    upper: float
    smoothness: float
    window: float
    offset_left: float
    offset_right: float
    unit_correction: Callable[[Array], Array] = field(repr=False)
    unit_slope: Callable[[Array], Array] = field(repr=False)

    @property
    def absolute_smoothness(self) -> float:
        """4K: the derivative of `absolute` is (4K / mu)-Lipschitz."""
        return 4 * self.smoothness

    @property
    def maximum_smoothness(self) -> float:
        """2K: the gradient of `maximum` in (a, b) jointly is (2K / mu)-Lipschitz.

        The Hessian is r''(a - b) times [[1, -1], [-1, 1]], whose norm is 2.
        """
        return 2 * self.smoothness

    def relu(self, x: Array, mu: Array) -> jax.Array:
        """relu_mu(x), with error in [lower, upper] * mu and slope in [0, 1].

        At mu = 0 the derivative at the kink is 0, as that of `jax.nn.relu` is.

        Args:
            x: Values of any shape and real floating-point dtype.
            mu: Sup error, non-negative; broadcasts to the shape of x.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            ArgumentError: If x is not real floating point or mu does not broadcast.

        Example:
            >>> from jaxsmooth.math.kernels import KERNELS
            >>> float(KERNELS["paper"].relu(1.0, 0.5))
            0.5
        """
        x, mu, dtype = _operands(x, mu)
        return _maximum(self, 0, x, jnp.zeros_like(x), mu).astype(dtype)

    def correction(self, x: Array, mu: Array, tie: float = 1.0) -> jax.Array:
        """relu_mu(x) - relu(x), to add to a function whose kink is at x = 0.

        Its derivative at the kink is that of relu_mu minus ``tie``: by default it is to be
        added to functions whose derivative at the kink is the right derivative. It is 0,
        with derivative 0 in x, for mu = 0.

        Args:
            x: Distance from the kink: values of any shape and real floating-point dtype.
            mu: Sup error, non-negative; broadcasts to the shape of x.
            tie: Derivative of relu at 0 by the convention of the function it is added to.

        Returns:
            An array of the shape and dtype of x, in [lower, upper] * mu.

        Raises:
            ArgumentError: If x is not real floating point or mu does not broadcast.

        Example:
            >>> from jaxsmooth.math.kernels import KERNELS
            >>> float(KERNELS["minimax"].correction(0.0, 0.25))
            0.25
        """
        x, mu, dtype = _operands(x, mu)
        return _correction(self, x, mu, tie).astype(dtype)

    def slope(self, x: Array, mu: Array) -> jax.Array:
        """The derivative of relu_mu, in [0, 1] and increasing in x; 1/2 at x = 0 = mu.

        Arguments, shape of the result and errors are those of `relu`.

        Example:
            >>> from jaxsmooth.math.kernels import KERNELS
            >>> float(KERNELS["c2"].slope(0.0, 0.25))
            0.5
        """
        x, mu, dtype = _operands(x, mu)
        inside, t = _scaled(self, x, mu)
        return jnp.where(inside, self.unit_slope(t), _step(x, 0.5)).astype(dtype)

    def maximum(self, a: Array, b: Array, mu: Array) -> jax.Array:
        """max(a, b) smoothed as b + relu_mu(a - b): error in [lower, upper] * mu.

        Evaluated as max(a, b) + correction, so it is exact far from ties (up to the
        kernel's offsets) and infinite operands are allowed. At mu = 0 a tie passes
        half of the derivative to each operand, as `jax.lax.max` does.

        Args:
            a: Values; a and b broadcast against each other and have one dtype.
            b: Values.
            mu: Sup error, non-negative; broadcasts to the shape of the result.

        Returns:
            An array of the dtype of the operands.

        Raises:
            ArgumentError: If they are not real floating point or mu does not broadcast.

        Example:
            >>> import jax.numpy as jnp
            >>> from jaxsmooth.math.kernels import KERNELS
            >>> KERNELS["centered"].maximum(jnp.array([1.0, 3.0]), 1.0, 0.25).tolist()
            [1.25, 3.0]
        """
        dtype, working = working_dtype(a, b)
        shape = jnp.broadcast_shapes(jnp.shape(a), jnp.shape(b))
        a = jnp.broadcast_to(jnp.asarray(a, dtype=working), shape)
        b = jnp.broadcast_to(jnp.asarray(b, dtype=working), shape)
        mu = accuracy(mu, shape, working)
        return _maximum(self, 1 / 2, a, b, mu).astype(dtype)

    def minimum(self, a: Array, b: Array, mu: Array) -> jax.Array:
        """min(a, b) smoothed as -max(-a, -b): error in [-upper, -lower] * mu.

        Arguments, result and errors are those of `maximum`.

        Example:
            >>> from jaxsmooth.math.kernels import KERNELS
            >>> float(KERNELS["centered"].minimum(1.0, 1.0, 0.25))
            0.75
        """
        return -self.maximum(-jnp.asarray(a), -jnp.asarray(b), mu)

    def absolute(self, x: Array, mu: Array) -> jax.Array:
        """|x| smoothed as max(x, -x), that is, as 2 relu_(mu/2)(x) - x.

        The error is in [lower, upper] * mu, and the derivative, in [-1, 1], is
        (4K / mu)-Lipschitz: twice K / (mu/2).
        At mu = 0 the derivative at the kink is 1, as that of `jax.numpy.abs` is.

        Args:
            x: Values of any shape and real floating-point dtype.
            mu: Sup error of the result, non-negative; broadcasts to the shape of x.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            ArgumentError: If x is not real floating point or mu does not broadcast.

        Example:
            >>> from jaxsmooth.math.kernels import KERNELS
            >>> float(KERNELS["minimax"].absolute(0.0, 0.5))
            0.5
        """
        x, mu, dtype = _operands(x, mu)
        return _maximum(self, 1, x, -x, mu).astype(dtype)


def _operands(x: Array, mu: Array) -> tuple[Array, Array, Any]:
    """x and mu in the working dtype, and the dtype of the result."""
    dtype, working = working_dtype(x)
    x = jnp.asarray(x, dtype=working)
    return x, accuracy(mu, x.shape, working), dtype


def _step(x: Array, tie: float) -> Array:
    """The derivative of relu, `tie` at 0."""
    one = jnp.ones_like(x)
    return jnp.where(x > 0, one, jnp.where(x < 0, jnp.zeros_like(x), tie * one))


def _positive(mu: Array) -> Array:
    return mu >= smallest_accuracy(mu.dtype)


def _scaled(kernel: Kernel, x: Array, mu: Array) -> tuple[Array, Array]:
    """Where x is inside the window of a positive mu, and x / mu there (0 elsewhere)."""
    reach = min(kernel.window, FARTHEST)
    inside = (jnp.abs(x) <= reach * mu) & _positive(mu)
    return inside, jnp.where(inside, x, 0.0) / jnp.where(inside, mu, 1.0)


def _offset(kernel: Kernel, x: Array) -> Array:
    """(relu_mu - relu) / mu outside the window; where mu = 0, the limit for mu -> 0."""
    one = jnp.ones_like(x)
    at_kink = kernel.unit_correction(jnp.zeros_like(x))
    right, left = kernel.offset_right * one, kernel.offset_left * one
    return jnp.where(x > 0, right, jnp.where(x < 0, left, at_kink))


@partial(jax.custom_jvp, nondiff_argnums=(0, 3))
def _correction(kernel: Kernel, x: Array, mu: Array, tie: float = 1.0) -> Array:
    """relu_mu(x) - relu(x), where the derivative of relu at 0 is `tie` (if mu = 0: none)."""
    inside, t = _scaled(kernel, x, mu)
    return mu * jnp.where(inside, _unit_correction(kernel, t, tie), _offset(kernel, x))


def _unit_correction(kernel: Kernel, t: Array, tie: float) -> Array:
    """relu_1(t) - relu(t), differentiable as a formula, the derivative of relu at 0 `tie`."""
    correction = kernel.unit_correction(t)
    # The added term is 0 everywhere; its derivative is not, at t = 0.
    return correction if tie == 1 else correction + (1 - tie) * jnp.where(t == 0, t, 0.0)


@partial(_correction.defjvp, symbolic_zeros=True)
def _correction_jvp(kernel: Kernel, tie: float, primals: Any, tangents: Any) -> Any:
    (x, mu), (dx, dmu) = primals, tangents
    inside, t = _scaled(kernel, x, mu)
    tangent = jnp.zeros_like(x)
    if not isinstance(dx, SymbolicZero):
        tangent = jnp.where(inside, kernel.unit_slope(t) - _step(t, tie), 0.0) * dx
    if not isinstance(dmu, SymbolicZero):
        tangent += jnp.where(inside, _rate(kernel, t), _offset(kernel, x)) * dmu
    return _correction(kernel, x, mu, tie), tangent


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _maximum(kernel: Kernel, tie: float, a: Array, b: Array, mu: Array) -> Array:
    """b + relu_mu(a - b); where a = b and mu = 0, the derivative in a is `tie`: 0, 1/2 or 1."""
    top = jnp.maximum(a, b)
    # Otherwise a tie is a's: the derivative is the one that the correction expects.
    unsmoothed = {0: b, 1 / 2: top, 1: a}[tie]
    exact = jnp.where(a == b, jnp.where(_positive(mu), a, unsmoothed), top)
    return exact + _correction(kernel, _difference(a, b), mu)


@partial(_maximum.defjvp, symbolic_zeros=True)
def _maximum_jvp(kernel: Kernel, tie: float, primals: Any, tangents: Any) -> Any:
    (a, b, mu), (da, db, dmu) = primals, tangents
    x = _difference(a, b)
    inside, t = _scaled(kernel, x, mu)
    slope = jnp.where(inside, kernel.unit_slope(t), _step(x, tie))
    tangent = jnp.zeros_like(x)
    if not isinstance(da, SymbolicZero):
        tangent += slope * da
    if not isinstance(db, SymbolicZero):
        tangent += (1 - slope) * db
    if not isinstance(dmu, SymbolicZero):
        tangent += jnp.where(inside, _rate(kernel, t), _offset(kernel, x)) * dmu
    return _maximum(kernel, tie, a, b, mu), tangent


def _difference(a: Array, b: Array) -> Array:
    """a - b, which is 0 where both are the same infinity."""
    # A mask that is true at finite ties would cost their Hessian.
    infinite = (a == b) & jnp.isinf(a)
    return jnp.where(infinite, 0.0, a) - jnp.where(infinite, 0.0, b)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _rate(kernel: Kernel, t: Array) -> Array:
    """r(t) - t r'(t) - relu(t) + t relu'(t), inside the window: mu r(x / mu) has it in mu."""
    return kernel.unit_correction(t) - t * (kernel.unit_slope(t) - _step(t, 1.0))


@_rate.defjvp
def _rate_jvp(kernel: Kernel, primals: Any, tangents: Any) -> Any:
    (t,), (dt,) = primals, tangents
    _, turn = jax.jvp(kernel.unit_slope, (t,), (dt,))
    return _rate(kernel, t), -t * turn


def _c2_margin(t: Array) -> Array:
    # Not 6 - |t|: its derivative at 0 must be one of the two sides', for r''(0) = 1/6.
    return jnp.maximum(jnp.where(t < 0, 6 + t, 6 - t), 0.0)


def _c2_slope(t: Array) -> Array:
    rise = _c2_margin(t) ** 2 / 72
    return jnp.where(t < 0, rise, 1 - rise)


_LOG2 = math.log(2.0)

_ALL = (
    Kernel(
        "paper", -1.0, 0.0, 1 / 2, 2.0, 0.0, -1.0,
        unit_correction=lambda t: jnp.where(t < 0, 0.0, t * (t / 4 - 1)),
        unit_slope=lambda t: jnp.where(t <= 0, 0.0, t / 2),
    ),
    Kernel(
        "centered", 0.0, 1.0, 1 / 8, 4.0, 0.0, 0.0,
        unit_correction=lambda t: (4 - jnp.abs(t)) ** 2 / 16,
        unit_slope=lambda t: (t + 4) / 8,
    ),
    Kernel(
        "minimax", -1.0, 1.0, 1 / 16, 8.0, -1.0, -1.0,
        unit_correction=lambda t: (8 - jnp.abs(t)) ** 2 / 32 - 1,
        unit_slope=lambda t: (t + 8) / 16,
    ),
    Kernel(
        "softplus", 0.0, 1.0, _LOG2 / 4, np.inf, 0.0, 0.0,
        unit_correction=lambda t: jnp.log1p(jnp.exp(-_LOG2 * jnp.abs(t))) / _LOG2,
        unit_slope=lambda t: jax.nn.sigmoid(_LOG2 * t),
    ),
    Kernel(
        "c2", 0.0, 1.0, 1 / 6, 6.0, 0.0, 0.0,
        unit_correction=lambda t: _c2_margin(t) ** 3 / 216,
        unit_slope=_c2_slope,
    ),
)  # fmt: skip

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _ALL}
"""All kernels by name."""


def kernel_named(name: str) -> Kernel:
    """The kernel of that name.

    Args:
        name: One of the keys of `KERNELS`.

    Returns:
        The kernel.

    Raises:
        ArgumentError: If there is none of that name; the message lists the choices.

    Example:
        >>> from jaxsmooth.math.kernels import kernel_named
        >>> kernel_named("minimax").smoothness
        0.0625
    """
    if isinstance(name, str) and name in KERNELS:
        return KERNELS[name]
    raise ArgumentError(f"no kernel {name!r}; choose from {', '.join(map(repr, KERNELS))}")
