"""What the tools' scripts share: cases are named on the command line, results are JSON lines.

Needs NumPy alone, so that every tool's interpreter can run it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks.peers.table import Array, Case, chosen

SECONDS = 60  # of processor time, for one method on one case
_LENGTH = 160  # of an error's first line

Method = Callable[[Any, Case], "tuple[Any, Any]"]


class TooLongError(Exception):
    """A method took more than its time."""


class NotExpressibleError(Exception):
    """The tool's language has no such function."""


def serve(
    functions: dict[str, Any],
    methods: dict[str, Method],
    evaluate: Callable[[Any, Case, Array], Any],
    packages: tuple[str, ...],
) -> None:
    """Run every method on every case of the command line.

    Args:
      functions: the cases' functions, by name; a text says why there is none.
      methods: each maps a function and its case to both sides of the output's bounds.
      evaluate: a function's output at a flat vector.
      packages: whose versions are reported.
    """
    # What the tools print themselves goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    versions = {name: metadata.version(name) for name in packages}
    answer(versions={"python": platform.python_version()} | versions)
    for case in chosen(sys.argv[1:]):
        function = functions[case.name]
        answer(begun=case.name)
        if isinstance(function, str):
            answer(case=case.name, inexpressible=function)
            continue
        values = attempt(lambda f=function, c=case: values_at_points(evaluate, f, c))
        found = {
            name: attempt(lambda m=method, f=function, c=case: bounds(m, f, c))
            for name, method in methods.items()
        }
        answer(case=case.name, values=values, methods=found)


def values_at_points(evaluate: Callable[..., Any], function: Any, case: Case) -> dict[str, Any]:
    """The function at the points where all tools' versions are compared."""
    return {"at": [flat(evaluate(function, case, x)) for x in case.points()]}


def bounds(method: Method, function: Any, case: Case) -> dict[str, Any]:
    """Both sides of a method's bounds."""
    lo, hi = method(function, case)
    return {"lo": flat(lo), "hi": flat(hi)}


def flat(values: Any) -> list[float]:
    """A list of numbers; JSON has names for those that are not finite."""
    return np.asarray(values, np.float64).ravel().tolist()


def attempt(task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the task returns, or its error."""
    try:
        with limited(SECONDS):
            return task()
    except BaseException as error:  # tools fail in every way, SystemExit included
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"error": first_line(error)}


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TooLongError after that much processor time: a busy machine changes no result."""

    def stop(*_: Any) -> None:
        raise TooLongError(f"more than {seconds} s of processor time")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def first_line(error: BaseException) -> str:
    """The type and the first line of an error, without addresses and paths."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"0x[0-9a-f]+", "0x…", lines[0] if lines else "")
    text = re.sub(r"(/[\w.+-]+){2,}/", "…/", text)
    text = text if len(text) <= _LENGTH else text[:_LENGTH] + "…"
    return f"{type(error).__name__}: {text}".rstrip(": ")
