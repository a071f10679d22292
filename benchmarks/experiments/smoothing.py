"""The objective smoothed on the balls of the recorded radii.

Accuracies are certified once for every eps, in 64 bits and outside of the training. The
training takes them as numbers that are traced, so that all eps are one compiled program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsmooth
from benchmarks.experiments.networks import Network, logistic

# For accuracies that were certified before.
_NO_BUDGET = 1e30


def certificate(
    network: Network,
    radii: Sequence[float],
    input_norm: float,
    eps: float,
    *,
    kernel: str = "auto",
    allocation: Any = "optimal",
    label: int = 0,
) -> jaxsmooth.Certificate:
    """What is proved of the loss of one example, smoothed to eps.

    The mean over examples is as close. Renumbering the classes maps the balls onto
    themselves, so that the certificate of one label is that of all.

    Args:
        network: the network.
        radii: R_t of every layer.
        input_norm: bound of ‖x‖₂.
        eps: the accuracy of the objective.
        kernel: see `jaxsmooth.smooth`.
        allocation: see `jaxsmooth.smooth`.
        label: the example's label.
    """

    def objective(u: Any, x: jax.Array) -> jax.Array:
        return logistic(network.apply(u, x), label)

    smoothed = jaxsmooth.smooth(
        objective,
        eps,
        _bounds(radii, input_norm),
        kernel=kernel,
        allocation=allocation,
        argnums=0,
    )
    return smoothed.certificate(_params(network), _struct(network.input_shape))


def largest_difference(
    network: Network, radii: Sequence[float], input_norm: float, found: jaxsmooth.Certificate
) -> float:
    """Between the training's smoothed network and `jaxsmooth.smooth`'s, at random points.

    The training evaluates the smoothed relus itself, since which elements are smoothed is
    decided from the set, and with a traced eps that decision would be in the compiled
    program. Every element of these networks is smoothed, so that both are one function.

    Args:
        network: the network.
        radii: R_t of every layer.
        input_norm: bound of ‖x‖₂.
        found: the certificate.
    """
    if any(np.any(np.asarray(site.active) != site.size) for site in found.sites):
        raise ValueError("a site has elements that are left exact: they cannot be trained so")
    chosen = {site.path: site.mu for site in found.sites}
    smoothed = jaxsmooth.smooth(
        network.apply, _NO_BUDGET, _bounds(radii, input_norm), allocation=chosen, argnums=0
    )
    mu = jnp.asarray(accuracies(found), float)
    u = network.init(jax.random.key(0))
    inputs = jax.random.uniform(jax.random.key(1), (8, *network.input_shape), float)
    ours = jax.vmap(lambda x: network.apply(u, x, mu))(inputs)
    theirs = jax.vmap(lambda x: smoothed(u, x))(inputs)
    return float(jnp.max(jnp.abs(ours - theirs)))


def accuracies(found: jaxsmooth.Certificate) -> np.ndarray:
    """μ per element of every site."""
    return np.asarray([np.max(np.asarray(site.mu)) for site in found.sites])


def _bounds(radii: Sequence[float], input_norm: float) -> Any:
    return ([jaxsmooth.ball(float(r)) for r in radii], jaxsmooth.ball(float(input_norm)))


def _params(network: Network) -> Any:
    return [(_struct(shape), _struct(shape[:1])) for shape in network.shapes]


def _struct(shape: Sequence[int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), jnp.result_type(float))
