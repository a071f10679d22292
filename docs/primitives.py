"""Write ``docs/reference/primitives.md`` from the table in `jaxsmooth.rules.support`."""

from __future__ import annotations

from pathlib import Path

from jaxsmooth.rules.support import page

if __name__ == "__main__":
    target = Path(__file__).parent / "reference" / "primitives.md"
    target.write_text(page(), encoding="utf-8")
    print(f"wrote {target}")
