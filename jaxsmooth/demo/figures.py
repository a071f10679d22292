"""The demo's figures: error and derivative along a line, and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.errors import ArgumentError

_POINTS = 801
_F, _F_EPS, _PROVED = "#d1495b", "#00798c", "#6c757d"


@dataclass(frozen=True)
class Line:
    """f and f_eps along a line segment.

    Attributes:
        t: positions, 0 at the start and 1 at the end.
        error: ‖f_eps − f‖₂ at each.
        slope: derivative by t of one output of f.
        smooth_slope: the same of f_eps.
    """

    t: np.ndarray
    error: np.ndarray
    slope: np.ndarray
    smooth_slope: np.ndarray


def along(
    f: Callable[..., jax.Array],
    f_eps: Callable[..., jax.Array],
    start: tuple[Any, ...],
    end: tuple[Any, ...],
    output: int,
) -> Callable[[np.ndarray], Line]:
    """Evaluates f and f_eps on the line through two points of their arguments.

    Args:
        f: the function, with one vector for output.
        f_eps: its smooth approximation.
        start: arguments at t = 0.
        end: arguments at t = 1.
        output: the index of the output whose derivative is taken.

    Returns:
        A function from positions t to the values there.
    """

    def at(function: Callable[..., jax.Array], t: jax.Array) -> jax.Array:
        return function(*jax.tree.map(lambda a, b: a + t * (b - a), start, end))

    def derivative(function: Callable[..., jax.Array], t: jax.Array) -> jax.Array:
        return jax.jvp(lambda s: at(function, s)[output], (t,), (jnp.ones_like(t),))[1]

    @jax.jit
    def evaluate(ts: jax.Array) -> Any:
        return jax.lax.map(
            lambda t: (
                jnp.linalg.norm(at(f_eps, t) - at(f, t)),
                derivative(f, t),
                derivative(f_eps, t),
            ),
            ts,
            batch_size=64,
        )

    def line(ts: np.ndarray) -> Line:
        with jax.enable_x64(True):
            return Line(ts, *map(np.asarray, evaluate(jnp.asarray(ts, jnp.float64))))

    return line


def line_figure(line: Callable[[np.ndarray], Line], proved: float) -> Any:
    """Error and derivative on the whole segment, and close to its largest error.

    Args:
        line: see `along`.
        proved: the certified error.

    Returns:
        A Matplotlib figure.
    """
    whole = line(np.linspace(0.0, 1.0, _POINTS))
    close = _close_up(line, whole)
    figure = new_figure(9.0, 5.2)
    axes = figure.subplots(2, 2, sharex="col")
    titles = ("from the image to the worst point found", "close to the largest error")
    for column, (part, title) in enumerate(zip((whole, close), titles, strict=True)):
        above, below = axes[0, column], axes[1, column]
        above.plot(part.t, part.error, color=_F_EPS, label="‖f_eps − f‖")
        above.axhline(proved, color=_PROVED, linestyle="--", label="proved")
        above.set_ylim(0, 1.15 * proved if proved > 0 else 1)
        above.set_title(title, fontsize=10)
        below.plot(part.t, part.slope, color=_F, label="f", linewidth=1)
        below.plot(part.t, part.smooth_slope, color=_F_EPS, label="f_eps", linewidth=1)
        below.set_xlabel("t")
        below.locator_params(axis="x", nbins=5)
    axes[0, 0].set_ylabel("error")
    axes[1, 0].set_ylabel("derivative of one score")
    axes[0, 0].legend(fontsize=8, loc="center left")
    axes[1, 0].legend(fontsize=8)
    return figure


def training_figure(losses: Sequence[float]) -> Any:
    """Training loss of each epoch, on a logarithmic axis."""
    figure = new_figure(4.5, 2.6)
    axes = figure.subplots()
    axes.semilogy(range(1, len(losses) + 1), losses, color=_F_EPS, marker=".")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    return figure


def _close_up(line: Callable[[np.ndarray], Line], whole: Line) -> Line:
    """The stretch around the largest error in which one can see it rise and fall."""
    peak = float(whole.t[np.argmax(whole.error)])
    half = 1 / 2**12
    while half < 1 / 4:
        around = line(np.linspace(max(0.0, peak - half), min(1.0, peak + half), _POINTS))
        # At an end of the segment there is no more to show.
        ends = [around.error[0]] * (peak > half) + [around.error[-1]] * (peak + half < 1)
        if ends and max(ends) < 0.7 * np.max(around.error):
            return around
        half *= 2
    return whole


def new_figure(width: float, height: float) -> Any:
    """An empty Matplotlib figure of its own, in inches, outside pyplot's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ArgumentError(
            "the report needs Matplotlib: pip install 'jaxsmooth[report]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
