"""Runs the cases under every tool whose interpreter is given, and under jaxsmooth.

    python -m benchmarks.peers --peer jax_verify=PYTHON --peer immrax=PYTHON \\
        --peer auto_lirpa=PYTHON
    python -m benchmarks.peers.tables --write

Each peer runs in its own interpreter, since their requirements exclude each other; one whose
interpreter is not given keeps its recorded results. The exit status is 1 if jaxsmooth is wrong
about a case, or a peer's version of a function is another function. With cases named, only
their results are replaced, and the others stay where the tool's versions are the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks.peers import run_jaxsmooth, sampling, verdicts
from benchmarks.peers.jax_functions import FUNCTIONS
from benchmarks.peers.table import CASES, Case, chosen
from benchmarks.peers.tables import RESULTS, ROOT, TOOLS
from jaxsmooth import _compat

PEERS = tuple(name for name in TOOLS if name != "jaxsmooth")


def answers(peer: str, python: str, cases: Sequence[Case]) -> dict[str, Any]:
    """What a peer's script says of every case, and its versions.

    Raises:
      RuntimeError: it does not start.
    """
    found: dict[str, Any] = {}
    waiting = [case.name for case in cases]
    while waiting:
        begun = None
        for line in lines(peer, python, waiting):
            if "versions" in line:
                found["versions"] = line["versions"]
            elif "case" in line:
                found[line["case"]] = line
            begun = line.get("begun", begun)
        if begun is None:
            raise RuntimeError(f"{python} does not run benchmarks.peers.run_{peer}")
        # The case at which the process ended, if it did not end well.
        died = {"error": "the process died"}
        found.setdefault(begun, {"case": begun, "methods": {"all": died}})
        waiting = [name for name in waiting if name not in found]
    return found


def lines(peer: str, python: str, names: list[str]) -> Iterator[dict[str, Any]]:
    """The JSON lines of one run of a peer's script."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [python, "-m", f"benchmarks.peers.run_{peer}", *names]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield from map(json.loads, process.stdout)


def record(versions: dict[str, str], results: dict[str, Any]) -> dict[str, Any]:
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": date, "versions": versions, "results": results}


def run(
    cases: Sequence[Case], peers: dict[str, str], console: Console
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of jaxsmooth and of the peers, each as soon as it is whole."""
    with ThreadPoolExecutor(1) as pool, Progress(console=console) as progress:
        started = {peer: pool.submit(answers, peer, at, cases) for peer, at in peers.items()}
        bar = progress.add_task("jaxsmooth", total=len(cases))
        own, seen = {}, {}
        for case in cases:
            f = FUNCTIONS[case.name]
            low, high = sampling.found_range(f, case)
            seen[case.name] = low, high, sampling.values_at_points(f, case)
            methods = {
                "analyze": verdicts.judged(run_jaxsmooth.analysed(f, case), low, high),
                "smooth": run_jaxsmooth.smoothed(f, case),
            }
            own[case.name] = {"outcome": verdicts.worst(methods), "methods": methods}
            progress.advance(bar)
        yield "jaxsmooth", record(_compat.versions(), own)
        for peer, future in started.items():
            bar = progress.add_task(peer, total=None)
            answer = future.result()
            progress.update(bar, total=1, completed=1)
            results = {c.name: verdicts.of_tool(answer[c.name], *seen[c.name]) for c in cases}
            yield peer, record(answer["versions"], results)


def peer_option(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if name not in PEERS or not python:
        raise argparse.ArgumentTypeError(f"{text!r} is no PEER=PYTHON; peers: {', '.join(PEERS)}")
    return name, python


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", help="by default all")
    parser.add_argument(
        "--peer", action="append", default=[], type=peer_option, metavar="PEER=PYTHON"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    cases = chosen(options.cases)
    found = {}
    for tool, recorded in run(cases, dict(options.peer), console):
        found[tool] = recorded
        write(options.output, {tool: recorded})
    outcomes = {
        (tool, result["outcome"])
        for tool, recorded in found.items()
        for result in recorded["results"].values()
    }
    failed = ("jaxsmooth", verdicts.WRONG) in outcomes
    return int(failed or any(outcome == verdicts.OTHER for _, outcome in outcomes))


def write(path: Path, found: dict[str, Any]) -> None:
    """Put tools' records into the file, one line a verdict; the others' stay."""
    tools = json.loads(path.read_text())["tools"] if path.exists() else {}
    for tool, new in found.items():
        old = tools.get(tool, new)
        kept = old["results"] if old["versions"] == new["versions"] else {}
        results = kept | new["results"]
        ordered = {case.name: results[case.name] for case in CASES if case.name in results}
        tools[tool] = new | {"results": ordered}
    text = {
        "eps": run_jaxsmooth.EPS,
        "points": sampling.POINTS,
        "cases": {case.name: case.inputs for case in CASES},
        "tools": {name: tools[name] for name in TOOLS if name in tools},
    }
    dumped = json.dumps(text, ensure_ascii=False)
    path.write_text(dumped.replace('"outcome"', '\n"outcome"') + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
