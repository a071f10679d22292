"""The record of what was proved: `Certificate`, `Analysis`, and their `Site` entries.

All three are pytrees whose leaves are the numbers and whose structure is the text, so that
a jitted function may return them, and their numbers may be differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import jax

from jaxsmooth.report.html import certificate_html
from jaxsmooth.report.notation import number
from jaxsmooth.report.record import from_record, to_record
from jaxsmooth.report.table import analysis_table, certificate_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Number = Any  # a float, a NumPy array, or a JAX tracer

_meta = partial(field, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True)
class Site:
    """One equation that is not differentiable everywhere.

    Attributes:
        path: where it is in the traced program; the key in an explicit allocation.
        primitive: the equation's primitive.
        source: the user's line that made it.
        shape: the shape of its output; `size` is the number of elements.
        range: (lo, hi), a hull of the values of what meets the kink, in f, f_eps and all
            hybrids: x for |x|, a - b for max(a, b), the values for a maximum of many.
        active: how many elements can reach the kink, and are smoothed; the others are exact.
        weight: how far an error of 1 (2-norm) at the site can move the output.
        mu: sup error of the kernel per element, a number or an array of ``shape``; None in
            an `Analysis`.
        error: 2-norm of the site's error over all its elements.
        share: the part of the budget that it spends, in [0, 1].
        kernel: the name of the kernel.
    """

    path: str = _meta()
    primitive: str = _meta()
    source: str = _meta()
    shape: tuple[int, ...] = _meta()
    range: tuple[Number, Number]
    active: Number
    weight: Number = None
    mu: Number = None
    error: Number = None
    share: Number = None
    kernel: str | None = _meta(default=None)

    @property
    def size(self) -> int:
        """The number of elements of the site."""
        return math.prod(self.shape)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Certificate:
    """What is proved about a smoothed function f_eps, on the set that was declared.

    ``‖f_eps(θ) − f(θ)‖ ≤ error ≤ eps`` and ``‖f_eps(θ)‖ ≤ bound`` hold at every point of the
    set, f_eps is `lipschitz`-Lipschitz on it, and its Jacobian is `smoothness`-Lipschitz.

    Attributes:
        eps: the accuracy that was asked for.
        error: the accuracy that is proved.
        bound: m, a bound on the 2-norm of the output.
        lipschitz: ℓ, with respect to all differentiated arguments jointly.
        smoothness: L, likewise.
        lipschitz_per_argument: position of an argument -> ℓ with respect to it.
        smoothness_per_argument: position of an argument -> L with respect to it.
        lipschitz_blocks: ℓ_j with respect to each argument leaf, of shape (J,).
        smoothness_blocks: bounds of the blocks ∂²f_eps/∂θ_i∂θ_j, of shape (J, J).
        range: (lo, hi) per output leaf.
        sites: the equations that were smoothed.
        kernel, allocation, norm: the options in force.
        assumptions: what the proof rests on, the declared set first.
        leaves: the paths of the argument leaves, in the order of the blocks.
        function: the name of f.
        versions: (package, version) pairs; may be given as a mapping.

    Example:
        >>> certificate = Certificate(
        ...     eps=0.1, error=0.1, bound=3.0, lipschitz=2.0, smoothness=40.0, function="f",
        ...     kernel="minimax", allocation="optimal", norm="l2")
        >>> certificate
        Certificate(f: error=0.1 <= eps=0.1, lipschitz=2, smoothness=40, sites=0)
        >>> Certificate.from_json(certificate.to_json()).smoothness
        40.0
    """

    eps: Number
    error: Number
    bound: Number
    lipschitz: Number
    smoothness: Number
    lipschitz_per_argument: dict[int, Number] = field(default_factory=dict)
    smoothness_per_argument: dict[int, Number] = field(default_factory=dict)
    lipschitz_blocks: Number = None
    smoothness_blocks: Number = None
    range: tuple[tuple[Number, Number], ...] = ()
    sites: tuple[Site, ...] = ()
    kernel: str = _meta()
    allocation: str = _meta()
    norm: str = _meta()
    assumptions: tuple[str, ...] = _meta(default=())
    leaves: tuple[str, ...] = _meta(default=())
    function: str = _meta(default="f")
    versions: tuple[tuple[str, str], ...] = _meta(default=())

    def __post_init__(self) -> None:
        if isinstance(self.versions, Mapping):  # hashable, for the pytree's structure
            object.__setattr__(self, "versions", tuple(sorted(self.versions.items())))

    def table(self) -> str:
        """The certificate as plain text of at most 100 columns."""
        return certificate_table(self)

    def plot(self) -> Figure:
        """Plots of μ and shares per site, and of the kernel at each site.

        Raises:
            ImportError: without matplotlib (``pip install jaxsmooth[report]``).
            ArgumentError: if the certificate's numbers are traced.
        """
        from jaxsmooth.report.plots import certificate_figure

        return certificate_figure(self)

    def to_json(self) -> str:
        """The certificate as JSON, from which `from_json` restores every bit.

        Raises:
            ArgumentError: if the certificate's numbers are traced.
        """
        return to_record(self, _SCHEMA, {Site: "site"})

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """The certificate that `to_json` wrote. Arrays come back as NumPy arrays.

        Raises:
            ArgumentError: if the text is no certificate, or one of another schema.
        """
        return from_record(text, cls, _SCHEMA, {"site": Site})

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return (
            f"Certificate({self.function}: error={number(self.error)} <= eps={number(self.eps)}, "
            f"lipschitz={number(self.lipschitz)}, smoothness={number(self.smoothness)}, "
            f"sites={len(self.sites)})"
        )

    def _repr_html_(self) -> str:
        return certificate_html(self)


_SCHEMA = "jaxsmooth.certificate/1"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Analysis:
    """What is proved about a function f itself, on the set that was declared.

    Attributes:
        range: pytree of (lo, hi) arrays, with the structure of f's output.
        bound: m, a bound on the 2-norm of the output.
        lipschitz: ℓ, with respect to all differentiated arguments jointly.
        smoothness: L, likewise; ``inf`` where f has kinks in the set.
        lipschitz_per_argument: position of an argument -> ℓ with respect to it.
        smoothness_per_argument: position of an argument -> L with respect to it.
        lipschitz_blocks: ℓ_j with respect to each argument leaf, of shape (J,).
        smoothness_blocks: bounds of the blocks ∂²f/∂θ_i∂θ_j, of shape (J, J).
        sites: the equations with kinks.
        assumptions: what the proof rests on, the declared set first.
        leaves: the paths of the argument leaves, in the order of the blocks.
        function: the name of f.

    Example:
        >>> Analysis(range=(-1.0, 1.0), bound=1.0, lipschitz=1.0, smoothness=1.0, function="sin")
        Analysis(sin: bound=1, lipschitz=1, smoothness=1, sites=0)
    """

    range: Any
    bound: Number
    lipschitz: Number
    smoothness: Number
    lipschitz_per_argument: dict[int, Number] = field(default_factory=dict)
    smoothness_per_argument: dict[int, Number] = field(default_factory=dict)
    lipschitz_blocks: Number = None
    smoothness_blocks: Number = None
    sites: tuple[Site, ...] = ()
    assumptions: tuple[str, ...] = _meta(default=())
    leaves: tuple[str, ...] = _meta(default=())
    function: str = _meta(default="f")

    def table(self) -> str:
        """The analysis as plain text of at most 100 columns."""
        return analysis_table(self)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return (
            f"Analysis({self.function}: bound={number(self.bound)}, "
            f"lipschitz={number(self.lipschitz)}, smoothness={number(self.smoothness)}, "
            f"sites={len(self.sites)})"
        )
