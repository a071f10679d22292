"""The function that the demo smooths, and the set on which it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.bounds import ball, box, linf_ball
from jaxsmooth.demo import network
from jaxsmooth.errors import ArgumentError

DEFAULT_RADIUS = {"data": 0.05, "box": None, "params": 0.1}
SETS = tuple(DEFAULT_RADIUS)


@dataclass(frozen=True)
class Problem:
    """A function, a set, and a point of the set.

    Attributes:
        function: the function to smooth.
        bounds: the set, as `jaxsmooth.smooth` takes it.
        args: the arguments at a point of the data.
        description: the set in words.
    """

    function: Callable[..., jax.Array]
    bounds: Any
    args: tuple[Any, ...]
    description: str


def problem(
    which: str, params: network.Params, image: np.ndarray, radius: float | None = None
) -> Problem:
    """The network as a function of one image, or of its parameters too.

    Args:
        which: ``"data"``: images around the given one, weights known; ``"box"``: all
            images, weights known; ``"params"``: all images, and weights around the
            trained ones.
        params: the trained network.
        image: one image as a vector.
        radius: of ``"data"`` (per pixel) or of ``"params"`` (2-norm, per layer).

    Returns:
        The function with its set.

    Raises:
        ArgumentError: unknown set, or a radius where the set has none.

    Example:
        >>> params = network.init_params([4, 3, 2], seed=0)
        >>> problem("data", params, np.full(4, 0.5, np.float32)).description
        'images within 0.05 per pixel of a test image, weights as trained'
    """
    if which not in SETS:
        raise ArgumentError(f"unknown set {which!r}: choose one of {', '.join(SETS)}")
    if radius is None:
        radius = DEFAULT_RADIUS[which]
    elif which == "box":
        raise ArgumentError("the set 'box' is that of all images: it has no radius")
    x = jnp.asarray(image)

    def trained(x: jax.Array) -> jax.Array:
        return network.logits(params, x)

    if which == "data":
        return Problem(
            trained,
            linf_ball(radius, center=image),
            (x,),
            f"images within {radius:g} per pixel of a test image, weights as trained",
        )
    if which == "box":
        return Problem(trained, box(0, 1), (x,), "all images, weights as trained")
    layers = [ball(radius, center=layer) for layer in params]
    return Problem(
        network.logits,
        (layers, box(0, 1)),
        (params, x),
        f"all images, and each layer's weights within {radius:g} (2-norm) of the trained ones",
    )
