"""A model of a library as a function of its parameters and inputs, and what is asked of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxsmooth import ball, box, fixed, smooth
from tests.soundness.trees import QUICK, evidence_against

EPS = 0.1
# How far inputs (elementwise) and parameters (in 2-norm) move.
INPUTS, PARAMETERS = 0.05, 0.02
# Certified over found: beyond this a Lipschitz constant tells users nothing.
USELESS = 1e4


_quick = functools.partial(jax.jit, compiler_options=QUICK)


class Loose(Exception):
    """A certificate that holds, and tells nothing."""


SLOW = pytest.mark.slow


def known(reason: str, *raises: type[Exception]) -> pytest.MarkDecorator:
    """What the library cannot do yet. A certificate that is contradicted fails in any case."""
    return pytest.mark.xfail(raises=raises or Loose, strict=True, reason=reason)


LAYER_NORM = known(
    "ranges of the residual stream are so wide that the deviation that a layer norm divides by "
    "may be 0: each multiplies the Lipschitz constant by 1/sqrt(epsilon)"
)


def cases(builds: Sequence[Callable], marks: Mapping[Callable, Any] | None = None) -> list[Any]:
    """Parameters of a test, with their marks."""
    marks = marks or {}
    return [pytest.param(build, marks=marks.get(build, ()), id=build.__name__) for build in builds]


@dataclass(frozen=True)
class Model:
    """A model as users train it.

    Attributes:
        apply: (parameters, inputs) to the outputs.
        parameters: a pytree of float32 arrays.
        inputs: likewise.
        loss: outputs to a number.
        jointly: whether parameters move in one ball, else every leaf does in one of its own.
        reach: how far inputs and parameters move, as a part of INPUTS and PARAMETERS.
    """

    apply: Callable[[Any, Any], Any]
    parameters: Any
    inputs: Any
    loss: Callable[[Any], jax.Array]
    jointly: bool = True
    reach: float = 1.0


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def uniform(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def mean_square(outputs: Any) -> jax.Array:
    return sum(jnp.mean(jnp.square(leaf)) for leaf in jax.tree.leaves(outputs))


def cross_entropy(labels: Any) -> Callable[[jax.Array], jax.Array]:
    labels = jnp.asarray(labels)
    return lambda scores: optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()


def near_start(parameters: Any) -> Any:
    """A little away from initial values, many of which are zero."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda p: jnp.asarray(p + 0.1 * rng.normal(size=p.shape), p.dtype),
        jax.device_get(parameters),
    )


def _statistics(initial: Any) -> Any:
    """Running statistics as after some training: known, and away from 0 and 1."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.5, 1.5, s.shape), s.dtype), initial)


def of_linen(
    module: linen.Module,
    x: Any,
    *rest: Any,
    loss: Callable = mean_square,
    rngs: Any = None,
    mutable: Any = False,
    jointly: bool = True,
    **options: Any,
) -> Model:
    """A linen module, with the running statistics of some training."""
    keys = {"params": jax.random.key(0), **(rngs or {})}
    variables = dict(_quick(lambda: module.init(keys, x, *rest, **options))())
    parameters = near_start(variables.pop("params"))
    statistics = _statistics(variables)

    def apply(parameters, x):
        variables = {"params": parameters, **statistics}
        found = module.apply(variables, x, *rest, rngs=rngs, mutable=mutable, **options)
        return found[0] if mutable else found

    return Model(apply, parameters, x, loss, jointly)


def of_nnx(
    model: nnx.Module, x: Any, *rest: Any, loss: Callable = mean_square, jointly: bool = True
) -> Model:
    graph, parameters, other = nnx.split(model, nnx.Param, ...)

    def apply(parameters, x):
        return nnx.merge(graph, parameters, other, copy=True)(x, *rest)

    return Model(apply, near_start(parameters), x, loss, jointly)


def of_haiku(
    function: Callable, x: Any, *rest: Any, loss: Callable = mean_square, jointly: bool = True
) -> Model:
    transformed = hk.without_apply_rng(hk.transform(function))
    parameters = _quick(lambda: transformed.init(jax.random.key(0), x, *rest))()
    return Model(
        lambda parameters, x: transformed.apply(parameters, x, *rest),
        near_start(parameters),
        x,
        loss,
        jointly,
    )


def of_haiku_with_state(function: Callable, x: Any, *, train: bool, loss: Callable) -> Model:
    """A function of (x, is_training), with the running statistics of some training."""
    transformed = hk.without_apply_rng(hk.transform_with_state(function))
    parameters, state = _quick(lambda: transformed.init(jax.random.key(0), x, True))()
    statistics = _statistics(state)
    return Model(
        lambda parameters, x: transformed.apply(parameters, statistics, x, train)[0],
        near_start(parameters),
        x,
        loss,
    )


def of_equinox(
    model: Callable,
    x: Any,
    *rest: Any,
    loss: Callable = mean_square,
    batched: bool = True,
    jointly: bool = True,
) -> Model:
    parameters, static = eqx.partition(model, eqx.is_inexact_array)

    def apply(parameters, x):
        found = eqx.combine(parameters, static)
        return (jax.vmap(found) if batched else found)(x, *rest)

    return Model(apply, near_start(parameters), x, loss, jointly)


@functools.cache
def built(build: Callable[[], Model]) -> Model:
    """The model, once for all tests of it."""
    return build()


def attacked(f: Callable, bounds: Any, *args: Any) -> tuple[Any, Any]:
    """f_eps, once its certificate withstood the attack, and the Lipschitz constant's claim."""
    f_eps = smooth(f, EPS, bounds)
    certificate, evidence = evidence_against(f, f_eps, bounds, args)
    assert not evidence.violations
    assert np.isfinite(certificate.smoothness)
    return f_eps, evidence.claims["lipschitz"]


def check_useful(claim: Any) -> None:
    """The last check, so that what is asked of every certificate holds of loose ones, too.

    Raises:
        Loose: if the constant is beyond all use.
    """
    if claim.certified > USELESS * claim.found:
        raise Loose(f"certified {claim.certified:.3g}, found {claim.found:.3g}")


def check_inputs_in_a_box(model: Model) -> None:
    """Known parameters; inputs move."""
    away = model.reach * INPUTS
    where = jax.tree.map(lambda x: box(x - away, x + away), model.inputs)
    bounds = (fixed(model.parameters), where)
    _, claim = attacked(lambda p, x: model.apply(p, x), bounds, model.parameters, model.inputs)
    check_useful(claim)


def check_training(model: Model) -> None:
    """Parameters move in balls around where they are; one step of training."""
    radius = model.reach * PARAMETERS
    if model.jointly:
        near = ball(radius, center=model.parameters)
    else:
        near = jax.tree.map(lambda p: ball(radius, center=p), model.parameters)

    def f(parameters):
        return model.loss(model.apply(parameters, model.inputs))

    loss, claim = attacked(f, (near,), model.parameters)
    optimiser = optax.adam(1e-3)

    @_quick
    def step(parameters):
        state = optimiser.init(parameters)
        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, _ = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), value, loss(parameters) - f(parameters)

    new, value, away = step(model.parameters)
    assert np.isfinite(value)
    assert abs(away) <= EPS
    assert jax.tree.structure(new) == jax.tree.structure(model.parameters)
    for before, after in zip(jax.tree.leaves(model.parameters), jax.tree.leaves(new), strict=True):
        assert after.dtype == before.dtype == jnp.float32
        assert np.isfinite(after).all()
    check_useful(claim)
