"""Progress with the time that is left: a bar on a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 20.0  # seconds between lines


class Reporter:
    """Counts units of work, where one is an iteration of one seed and lane.

    Args:
        total: units in all.
        console: where to.
        on_part: called when some seeds of a stage are done, so that partial results can be
            written.
    """

    def __init__(self, total: int, console: Console, on_part: Callable[[], None] = lambda: None):
        self.console = console
        self.on_part = on_part
        self._total, self._done, self._measured = total, 0, 0
        self._start = self._said = time.monotonic()
        self._bar: Any = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console)
            self._bar.start()
            self._task = self._bar.add_task("", total=total)

    def skip(self, units: int) -> None:
        """Units that were done in an earlier run."""
        self._advance(units, "resumed")

    def add(self, units: int, what: str) -> None:
        """Units just done."""
        self._measured += units
        self._advance(units, what)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()

    def _advance(self, units: int, what: str) -> None:
        self._done += units
        if self._bar is not None:
            self._bar.update(self._task, advance=units, description=what)
            return
        now = time.monotonic()
        if now - self._said < _EVERY and self._done < self._total:
            return
        self._said = now
        each = (now - self._start) / max(self._measured, 1)
        left = each * (self._total - self._done) / 60
        self.console.print(
            f"{what}: {self._done}/{self._total} iterations, {each:.3f} s each, {left:.0f} min left"
        )
