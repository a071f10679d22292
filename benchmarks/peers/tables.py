"""The tables of docs/comparison.md, from the recorded results.

    python -m benchmarks.peers.tables [--write]

prints them as Markdown, or puts them into the page between its markers.
"""

from __future__ import annotations

import collections
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.pages import command, markdown
from benchmarks.peers.verdicts import HANDLED, INEXPRESSIBLE, INFINITE, REFUSED, WRONG

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "comparison.md"
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
# Tools by the name of their script, and as they write themselves.
TOOLS = {
    "jaxsmooth": "jaxsmooth",
    "jax_verify": "jax_verify",
    "immrax": "immrax",
    "auto_lirpa": "auto_LiRPA",
}


def cell(result: dict[str, Any]) -> str:
    """The best method's ratio, or why there is none; wrong methods are always named."""
    if "methods" not in result:
        return result["outcome"]
    methods = result["methods"]
    wrong = [f"**{name} wrong**" for name, found in methods.items() if found["outcome"] == WRONG]
    ratios = {name: found["ratio"] for name, found in methods.items() if "ratio" in found}
    if ratios:
        name = min(ratios, key=lambda key: ratios[key])
        return ", ".join([f"{ratios[name]:.2f} {name}", *wrong])
    return ", ".join(wrong) or result["outcome"]


def outcome(found: dict[str, Any]) -> str:
    """The outcome of one method."""
    return f"**{WRONG}**" if found["outcome"] == WRONG else found["outcome"]


def certificate(found: dict[str, Any]) -> str:
    """Certified over found: error, ℓ, L."""
    if found["outcome"] != HANDLED:
        return outcome(found)
    return ", ".join(
        "exact" if not found["certified"][name] else "–" if ratio is None else f"{ratio:.3g}"
        for name, ratio in found["ratios"].items()
    )


def cases_table(recorded: dict[str, Any]) -> str:
    """Every case under every tool."""
    rows = []
    for name, inputs in recorded["cases"].items():
        row = [name, inputs]
        for tool in TOOLS:
            result = recorded["tools"].get(tool, {"results": {}})["results"].get(name)
            if tool == "jaxsmooth":
                analysed = result["methods"]["analyze"]
                row.append(f"{analysed['ratio']:.2f}" if "ratio" in analysed else outcome(analysed))
                row.append(certificate(result["methods"]["smooth"]))
            else:
                row.append(cell(result) if result else "not run")
        rows.append(row)
    header = ["case", "inputs", "jaxsmooth: range", "jaxsmooth: error, ℓ, L"]
    return markdown([*header, *[TOOLS[tool] for tool in TOOLS if tool != "jaxsmooth"]], rows)


def summary_table(recorded: dict[str, Any]) -> str:
    """How many cases each tool handles."""
    rows = []
    for tool, title in TOOLS.items():
        if tool not in recorded["tools"]:
            continue
        found = recorded["tools"][tool]
        results = found["results"].values()
        outcomes = collections.Counter(result["outcome"] for result in results)
        wrong = sum(
            any(m["outcome"] == WRONG for m in result.get("methods", {}).values())
            for result in results
        )
        ratios = [
            min(m["ratio"] for m in result["methods"].values() if "ratio" in m)
            for result in results
            if result["outcome"] == HANDLED
        ]
        versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
        rows.append(
            [
                title,
                f"{outcomes[HANDLED]} of {len(results) - outcomes[INEXPRESSIBLE]}",
                str(wrong),
                str(outcomes[INFINITE]),
                str(outcomes[REFUSED]),
                f"{statistics.median(ratios):.2f}, {max(ratios):.2f}" if ratios else "",
                f"{found['date']}, {versions}",
            ]
        )
    header = ["tool", "handled", "a method is wrong", "infinite or NaN only", "refused"]
    return markdown([*header, "ratio: median, largest", "run"], rows)


def wrong_table(recorded: dict[str, Any]) -> str:
    """Every method that is contradicted."""
    rows = [
        [TOOLS[tool], name, method, found["why"]]
        for tool, record in recorded["tools"].items()
        for name, result in record["results"].items()
        for method, found in result.get("methods", {}).items()
        if found["outcome"] == WRONG
    ]
    return markdown(["tool", "case", "method", "contradicted at"], rows) if rows else "None."


def refused_table(recorded: dict[str, Any]) -> str:
    """Why cases that a tool handles by no method are refused: its first method's error."""
    rows = []
    for tool, record in recorded["tools"].items():
        for name, result in record["results"].items():
            errors = [m["error"] for m in result.get("methods", {}).values() if "error" in m]
            if result["outcome"] == REFUSED and errors:
                rows.append([TOOLS[tool], name, _inline(errors[0])])
            elif result["outcome"] == INEXPRESSIBLE:
                rows.append([TOOLS[tool], name, f"not expressible: {result['why']}"])
    return markdown(["tool", "case", "what it says"], rows)


def _inline(text: str) -> str:
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def blocks(recorded: dict[str, Any]) -> dict[str, str]:
    """Every table by the name of its marker."""
    return {
        "summary": summary_table(recorded),
        "cases": cases_table(recorded),
        "wrong": wrong_table(recorded),
        "refused": refused_table(recorded),
    }


if __name__ == "__main__":
    raise SystemExit(command(PAGE, lambda: blocks(json.loads(RESULTS.read_text()))))
