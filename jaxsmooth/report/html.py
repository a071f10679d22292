"""A certificate as one self-contained HTML table, for notebooks and reports."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from jaxsmooth.report.notation import fraction, interval, number, percent, shape

if TYPE_CHECKING:
    from jaxsmooth.certificate import Certificate, Site

# Styles stand on the elements: notebooks drop style sheets, and reports join fragments.
_CELL = "padding:2px 10px;border-bottom:1px solid #ccc;"
_COLUMNS = {
    "site": "left",
    "primitive": "left",
    "source": "left",
    "shape": "left",
    "kernel": "left",
    "range": "right",
    "active": "right",
    "μ": "right",
    "error": "right",
    "weight": "right",
    "share": "right",
}


def certificate_html(certificate: Certificate) -> str:
    """The certificate as an HTML fragment without outside resources."""
    c = certificate
    facts = {
        "eps": number(c.eps),
        "proved error": number(c.error),
        "bound m": number(c.bound),
        "Lipschitz ℓ": number(c.lipschitz) + _each(c.lipschitz_per_argument),
        "smoothness L": number(c.smoothness) + _each(c.smoothness_per_argument),
        "kernel": c.kernel,
        "allocation": c.allocation,
        "norm": c.norm,
    }
    head = "".join(
        f'<tr><th style="{_CELL}text-align:left">{escape(name)}</th>'
        f'<td style="{_CELL}text-align:left">{escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    titles = "".join(
        f'<th style="{_CELL}text-align:{side}">{escape(name)}</th>'
        for name, side in _COLUMNS.items()
    )
    body = "".join(_row(site) for site in c.sites)
    assumptions = "".join(f"<li>{escape(text)}</li>" for text in c.assumptions)
    versions = ", ".join(f"{name} {version}" for name, version in c.versions)
    return (
        '<div class="jaxsmooth-certificate" style="overflow-x:auto">'
        f"<p><strong>Certificate of <code>{escape(c.function)}</code></strong> "
        f"<small>{escape(versions)}</small></p>"
        f'<table style="border-collapse:collapse"><tbody>{head}</tbody></table>'
        f'<table style="border-collapse:collapse;margin-top:1em"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
        f"<p>Assumptions</p><ul>{assumptions}</ul></div>"
    )


def _each(per_argument: dict[int, object]) -> str:
    if len(per_argument) < 2:
        return ""
    return "".join(f"; args[{i}]: {number(x)}" for i, x in sorted(per_argument.items()))


def _row(site: Site) -> str:
    cells = [
        site.path,
        site.primitive,
        site.source,
        shape(site.shape),
        site.kernel or "–",
        interval(*site.range),
        fraction(site.active, site.size),
        number(site.mu, 3),
        number(site.error, 3),
        number(site.weight, 3),
        percent(site.share),
    ]
    return "<tr>{}</tr>".format(
        "".join(
            f'<td style="{_CELL}text-align:{side}">{escape(cell)}</td>'
            for side, cell in zip(_COLUMNS.values(), cells, strict=True)
        )
    )
