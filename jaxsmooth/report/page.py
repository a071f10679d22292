"""One self-contained HTML page: text, tables, and figures as inline pictures."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from typing import Any

from jaxsmooth.errors import ArgumentError

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #212529; background: #fff;
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #dee2e6; }
th { background: #f1f3f5; } .number { text-align: right; }
img { max-width: 100%; height: auto; } .wide { overflow-x: auto; }
.lead { color: #495057; margin-top: 0; } figure { margin: 1rem 0; }
figcaption { color: #495057; font-size: 13px; }
"""


class Page:
    """A page that is written section by section.

    Args:
        title: its heading.
        lead: one paragraph below it.

    Example:
        >>> page = Page("Certificate", "of a network")
        >>> page.table(["what", "value"], [["error", "0.1"]])
        >>> "<td class='number'>0.1</td>" in page.html()
        True
    """

    def __init__(self, title: str, lead: str) -> None:
        self._title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>", f"<p class='lead'>{html.escape(lead)}</p>"]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; its first column is text, the others are numbers."""

        def line(tag: str, cells: Sequence[str]) -> str:
            kinds = ["", *[" class='number'"] * (len(cells) - 1)]
            return "".join(
                f"<{tag}{kind}>{html.escape(cell)}</{tag}>"
                for kind, cell in zip(kinds, cells, strict=True)
            )

        body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
        self._parts.append(
            f"<table><thead><tr>{line('th', header)}</tr></thead><tbody>{body}</tbody></table>"
        )

    def fragment(self, markup: str) -> None:
        """Add HTML as it stands."""
        self._parts.append(f"<div class='wide'>{markup}</div>")

    def figure(self, figure: Any, caption: str) -> None:
        """Add a Matplotlib figure.

        It becomes a picture of its own, since SVGs that stand in one document share
        their identifiers.
        """
        import matplotlib

        stream = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "jaxsmooth"}):
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        picture = base64.b64encode(stream.getvalue()).decode()
        text = html.escape(caption)
        self._parts.append(
            f"<figure><img alt='{text}' src='data:image/svg+xml;base64,{picture}'>"
            f"<figcaption>{text}</figcaption></figure>"
        )

    def html(self) -> str:
        """The whole page."""
        return (
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{html.escape(self._title)}</title><style>{_STYLE}</style></head>\n<body>"
            + "\n".join(self._parts)
            + "</body></html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file.

        Raises:
            ArgumentError: the file cannot be written.
        """
        write_text(path, self.html())


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file, in UTF-8.

    Args:
        path: where to.
        text: what.

    Raises:
        ArgumentError: the file cannot be written.
    """
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ArgumentError(f"cannot write {os.fspath(path)!r}: {error.strerror}") from error
