"""Plots of a certificate: μ and share of the budget per site, and the kernel at each site."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsmooth.errors import ArgumentError
from jaxsmooth.math.array import is_traced
from jaxsmooth.math.kernels import KERNELS
from jaxsmooth.math.nary import MAX_KERNELS
from jaxsmooth.report.notation import number, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxsmooth.certificate import Certificate, Site

# Beyond these, bars lose their labels, and kernels are shown for the largest shares only.
_MOST_LABELS = 40
_MOST_KERNELS = 8
_ACROSS = 4
_FAINT = "0.6"


def certificate_figure(certificate: Certificate) -> Figure:
    """See `Certificate.plot`."""
    if is_traced(*jax.tree.leaves(certificate)):
        raise ArgumentError(
            "the certificate is traced: return it from the jitted function, then plot it"
        )
    figure_class = _figure_class()
    shown = _largest(certificate.sites)
    kernel_rows = math.ceil(len(shown) / _ACROSS)
    figure = figure_class(figsize=(10, 3.2 + 2.2 * kernel_rows), layout="constrained")
    figure.suptitle(
        f"{certificate.function}: error {number(certificate.error)} ≤ eps "
        f"{number(certificate.eps)}, ℓ = {number(certificate.lipschitz)}, "
        f"L = {number(certificate.smoothness)}"
    )
    if not certificate.sites:
        return figure
    grid = figure.add_gridspec(1 + kernel_rows, _ACROSS, height_ratios=[1.5] + [1.0] * kernel_rows)
    half = _ACROSS // 2
    _draw_accuracies(figure.add_subplot(grid[0, :half]), certificate.sites)
    _draw_shares(figure.add_subplot(grid[0, half:]), certificate.sites)
    for i, site in enumerate(shown):
        _draw_kernel(figure.add_subplot(grid[1 + i // _ACROSS, i % _ACROSS]), site)
    return figure


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib: pip install jaxsmooth[report]") from None
    return Figure


def _largest(sites: tuple[Site, ...]) -> list[Site]:
    """The sites with the largest shares, in the program's order."""
    order = sorted(range(len(sites)), key=lambda i: -_value(sites[i].share))
    return [sites[i] for i in sorted(order[:_MOST_KERNELS])]


def _value(x: Any) -> float:
    return 0.0 if x is None else float(x)


def _accuracies(site: Site) -> np.ndarray:
    """The μ of the elements that are smoothed."""
    mu = np.ravel(np.asarray(0.0 if site.mu is None else site.mu, np.float64))
    positive = mu[(mu > 0) & np.isfinite(mu)]
    return positive if positive.size else np.zeros(1)


def _draw_accuracies(axes: Axes, sites: tuple[Site, ...]) -> None:
    axes.set_title("μ per element")
    places = np.arange(len(sites))
    low = np.array([_accuracies(s).min() for s in sites])
    high = np.array([_accuracies(s).max() for s in sites])
    axes.vlines(places, low, high, color="C0", alpha=0.4, linewidth=6)
    axes.plot(places, high, "o", color="C0")
    if (high > 0).any():
        axes.set_yscale("log")
    _label(axes, sites)


def _draw_shares(axes: Axes, sites: tuple[Site, ...]) -> None:
    axes.set_title("share of the budget, %")
    shares = [100 * _value(s.share) for s in sites]
    axes.bar(np.arange(len(sites)), shares, color="C1")
    _label(axes, sites)


def _label(axes: Axes, sites: tuple[Site, ...]) -> None:
    if len(sites) > _MOST_LABELS:
        axes.set_xlabel("site")
        return
    names = [shortened(s.path, 18) for s in sites]
    axes.set_xticks(range(len(sites)), names, rotation=30, ha="right", fontsize=8)
    axes.set_xlim(-0.6, len(sites) - 0.4)


def _draw_kernel(axes: Axes, site: Site) -> None:
    """The smoothed kink between 0 and x, at the largest μ of the site."""
    mu = float(_accuracies(site).max())
    axes.set_title(f"{shortened(site.path, 22)}\nμ = {number(mu, 3)}", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=5)
    span = 10 * mu if mu > 0 else 1.0
    t = np.linspace(-1.0, 1.0, 401)
    axes.plot(span * t, span * np.maximum(t, 0.0), color=_FAINT, linestyle="--", linewidth=1)
    curve = _smoothed(site.kernel, span * t, mu) if mu > 0 else None
    if curve is not None:
        axes.plot(span * t, curve, color="C0")
        axes.set_ylabel(site.kernel or "", fontsize=8)


def _smoothed(kernel: str | None, x: np.ndarray, mu: float) -> np.ndarray | None:
    """max(x, 0) as the kernel smooths it; None where there is no such kernel."""
    # In units of mu, so that float32 serves at any accuracy.
    unit = jnp.asarray(x / mu)
    if kernel in KERNELS:
        return mu * np.asarray(KERNELS[kernel].relu(unit, 1.0))
    if kernel in MAX_KERNELS:
        pair = jnp.stack([unit, jnp.zeros_like(unit)], axis=-1)
        return mu * np.asarray(MAX_KERNELS[kernel].maximum(pair, 1.0))
    return None
