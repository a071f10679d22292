"""Tables on pages of the documentation, between the markers that name them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled(page: str, tables: Mapping[str, str], missing: str | None = None) -> str:
    """The page with its tables.

    Args:
        page: its text.
        tables: by the names in the markers.
        missing: what stands for a table that is not among them; None makes that an error.
    """

    def table(match: re.Match[str]) -> str:
        text = tables[match[2]] if missing is None else tables.get(match[2], missing)
        return f"{match[1]}\n\n{text}\n\n{match[3]}"

    pattern = r"(<!-- table: ([\w-]+) -->)\n.*?(<!-- end -->)"
    return re.sub(pattern, table, page, flags=re.DOTALL)


def command(
    page: Path, tables: Callable[[], Mapping[str, str]], fill: Callable[..., str] = filled
) -> int:
    """The command line that prints a page's tables or writes them; returns the exit status."""
    parser = argparse.ArgumentParser(description=f"The tables of docs/{page.name}.")
    parser.add_argument("--write", action="store_true", help="into the page")
    write = parser.parse_args().write
    found = tables()
    if write:
        page.write_text(fill(page.read_text(), found))
    else:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in found.items()))
    return 0
