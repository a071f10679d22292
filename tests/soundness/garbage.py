"""How often Python looks for garbage."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Leave garbage for longer: looking for it takes a tenth of the time on Python 3.11."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
