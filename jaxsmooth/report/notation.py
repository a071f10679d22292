"""How numbers and long names are written in tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxsmooth.math.array import is_traced


def number(x: Any, digits: int = 4) -> str:
    """A number as a reader wants it; an array as the largest of its elements.

    Example:
        >>> number(0.125), number(float("inf")), number(None), number(np.array([1.0, 2.0]))
        ('0.125', '∞', '–', '≤2')
    """
    if x is None:
        return "–"
    if is_traced(x):
        return "traced"
    values = np.asarray(x, dtype=np.float64)
    if values.size == 0:
        return "–"
    largest = float(values.max())
    sign = "" if values.min() == largest or np.isnan(largest) else "≤"
    if np.isinf(largest):
        return sign + ("∞" if largest > 0 else "-∞")
    return f"{sign}{largest:.{digits}g}"


def percent(x: Any) -> str:
    """A share of the budget in percent.

    Example:
        >>> percent(0.25)
        '25.0%'
    """
    return number(x) if x is None or is_traced(x) else f"{100 * float(x):.1f}%"


def interval(lo: Any, hi: Any) -> str:
    """An interval in brackets.

    Example:
        >>> interval(-1.0, np.inf)
        '[-1, ∞]'
    """
    return f"[{number(lo, 3)}, {number(hi, 3)}]"


def shape(dimensions: tuple[int, ...]) -> str:
    """A shape.

    Example:
        >>> shape((2, 3)), shape(())
        ('2×3', 'scalar')
    """
    return "×".join(map(str, dimensions)) or "scalar"


def fraction(active: Any, size: int) -> str:
    """How many of the elements; in percent where the numbers are long.

    Example:
        >>> fraction(3, 4), fraction(50_000, 200_000)
        ('3/4', '25%')
    """
    if is_traced(active):
        return f"{number(active)}/{size}"
    shown = f"{int(active)}/{size}"
    return shown if len(shown) <= 11 else f"{100 * int(active) / size:.3g}%"


def shortened(text: str, width: int) -> str:
    """The text in at most that many columns, its middle left out; ends tell names apart.

    Example:
        >>> shortened("jit(network)/jit(relu)/max", 16)
        'jit(n…(relu)/max'
    """
    if len(text) <= width:
        return text
    head = (width - 1) // 3
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


def place(source: str, width: int) -> str:
    """A source line in at most that many columns: the line number outlasts the rest.

    Example:
        >>> place("models/network.py:12 (layer)", 20), place("models/network.py:12 (layer)", 12)
        ('models/network.py:12', '…twork.py:12')
    """
    if len(source) <= width:
        return source
    line = source.partition(" ")[0]
    return line if len(line) <= width else "…" + line[len(line) - width + 1 :]


def from_here(source: str) -> str:
    """A source line with its file named from the working directory, or by its name alone.

    Records are handed around: they do not say where on a machine the code was.

    Example:
        >>> from_here(f"{Path.cwd()}/models/network.py:12:4 (layer)")
        'models/network.py:12:4 (layer)'
        >>> from_here("/elsewhere/network.py:12 (layer)")
        'network.py:12 (layer)'
    """
    found = _FILE.match(source)
    if found is None:
        return source
    path = Path(found["file"])
    if path.is_absolute():
        here = path.is_relative_to(Path.cwd())
        path = path.relative_to(Path.cwd()) if here else Path(path.name)
    return path.as_posix() + source[found.end("file") :]


_FILE = re.compile(r"(?P<file>.+?):\d+")
