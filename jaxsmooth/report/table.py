"""Certificates and analyses as plain text in 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxsmooth.report.notation import fraction, interval, number, percent, place, shape, shortened

if TYPE_CHECKING:
    from jaxsmooth.certificate import Analysis, Certificate, Site

WIDTH = 100
_GAP = "  "
# Columns of text, which may be shortened in this order, and to what at least.
_ELASTIC = {"source": 10, "site": 13, "primitive": 8, "shape": 5}


def certificate_table(certificate: Certificate) -> str:
    """See `Certificate.table`."""
    c = certificate
    distance = "‖f_eps − f‖₂" if c.norm == "l2" else f"‖f_eps − f‖ ({c.norm})"
    head = [
        ("error", f"{distance} ≤ {number(c.error)} proved, eps = {number(c.eps)} asked for"),
        *_constants(c),
        ("options", f"kernel {c.kernel}, allocation {c.allocation}, norm {c.norm}"),
    ]
    columns = ["site", "primitive", "source", "shape", "active", "mu", "error", "weight", "share"]
    rows = [
        [*_where(s), number(s.mu, 3), number(s.error, 3), number(s.weight, 3), percent(s.share)]
        for s in c.sites
    ]
    versions = ", ".join(f"{name} {version}" for name, version in c.versions)
    title = f"Certificate of {c.function}" + (f" ({versions})" if versions else "")
    return _document(title, head, columns, rows, c.assumptions)


def analysis_table(analysis: Analysis) -> str:
    """See `Analysis.table`."""
    a = analysis
    columns = ["site", "primitive", "source", "shape", "active", "range", "weight"]
    rows = [[*_where(s), interval(*s.range), number(s.weight, 3)] for s in a.sites]
    return _document(f"Analysis of {a.function}", _constants(a), columns, rows, a.assumptions)


def _constants(found: Certificate | Analysis) -> list[tuple[str, str]]:
    return [
        ("bound m", number(found.bound)),
        ("Lipschitz ℓ", _with_arguments(found.lipschitz, found.lipschitz_per_argument)),
        ("smoothness L", _with_arguments(found.smoothness, found.smoothness_per_argument)),
    ]


def _with_arguments(joint: object, per_argument: dict[int, object]) -> str:
    if len(per_argument) < 2:
        return number(joint)
    each = ", ".join(f"args[{i}]: {number(x)}" for i, x in sorted(per_argument.items()))
    return f"{number(joint)} jointly ({each})"


def _where(site: Site) -> list[str]:
    active = fraction(site.active, site.size)
    return [site.path, site.primitive, site.source, shape(site.shape), active]


def _document(
    title: str,
    head: Sequence[tuple[str, str]],
    columns: list[str],
    rows: list[list[str]],
    assumptions: Sequence[str],
) -> str:
    margin = max(len(name) for name, _ in head) + len(_GAP)
    lines = [shortened(title, WIDTH)]
    for name, text in head:
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=name.ljust(margin), subsequent_indent=" " * margin
        )
    lines += ["", *_aligned(columns, rows)] if rows else ["", "no sites: nothing to smooth"]
    if assumptions:
        lines += ["", "assumptions"]
    for assumption in assumptions:
        lines += textwrap.wrap(assumption, WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines)


def _aligned(columns: list[str], rows: list[list[str]]) -> list[str]:
    widths = {
        name: max(len(name), *(len(row[i]) for row in rows)) for i, name in enumerate(columns)
    }
    excess = sum(widths.values()) + len(_GAP) * (len(columns) - 1) - WIDTH
    for name, least in _ELASTIC.items():
        if excess > 0:
            cut = min(excess, max(0, widths[name] - least))
            widths[name] -= cut
            excess -= cut
    lines = []
    for row in [columns, ["─" * widths[name] for name in columns], *rows]:
        cells = [_fitted(cell, name, widths[name]) for name, cell in zip(columns, row, strict=True)]
        lines.append(_GAP.join(cells).rstrip())
    return lines


def _fitted(cell: str, column: str, width: int) -> str:
    if column not in _ELASTIC:
        return cell.rjust(width)
    return (place if column == "source" else shortened)(cell, width).ljust(width)
