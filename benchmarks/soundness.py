"""Attacks on the certificates of random programs, by the thousand.

    python benchmarks/soundness.py --programs 2000 --seed 0
    python benchmarks/soundness.py --seed 17 --explain
    python benchmarks/soundness.py --programs 2000 --seed 0 --recheck

Each program is a random network with random sets, kernel, allocation and accuracy; each
certificate is attacked by projected gradient ascent and by bisected secants. One JSON line
a program goes to the output file, and seeds that it already holds are not run again. The
exit status is 1 if a certificate was contradicted or a program failed in another way than
by a refusal that the library means.

After a change of the library, ``--recheck`` proves every program of the output file again, and
runs those again whose certificate or accuracies are not the same to the last bit. It tells
nothing of a change in how f_eps is evaluated, or of another JAX or machine.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import multiprocessing
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from jaxsmooth.errors import JaxsmoothError  # noqa: E402
from tests.soundness.attack import Attack, attack  # noqa: E402
from tests.soundness.choices import Seeded  # noqa: E402
from tests.soundness.garbage import collect_seldom  # noqa: E402
from tests.soundness.minimise import minimise  # noqa: E402
from tests.soundness.programs import draw  # noqa: E402

# Seconds without any result after which what is missing has ended its process.
_SILENCE = 600.0
RATIOS = ("error", "lipschitz", "smoothness", "bound", "lipschitz of f", "bound of f")


def examine(task: tuple[int, int]) -> dict[str, Any]:
    """The result of one program, as its JSON line."""
    seed, effort = task
    start = time.perf_counter()
    record: dict[str, Any] = {"seed": seed, "status": "ok"}
    try:
        program = draw(Seeded(seed))
        record["label"] = program.label
        evidence = attack(program, seed, effort)
        record["digest"] = evidence.digest
        record["violations"] = list(evidence.violations)
        record["status"] = "violated" if evidence.violations else "ok"
        record["ratios"] = {
            claim.name: claim.ratio
            for claim in evidence.claims.values()
            if math.isfinite(claim.ratio)
        }
    except JaxsmoothError as error:
        record |= {"status": "refused", "error": f"{type(error).__name__}: {error}"}
    except Exception as error:  # the point is to list them, not to stop at the first
        text = traceback.format_exc(limit=-4)
        record |= {"status": "failed", "error": f"{type(error).__name__}: {error}", "trace": text}
    if seed % 50 == 0:
        jax.clear_caches()
    record["seconds"] = round(time.perf_counter() - start, 3)
    return record


def unchanged(record: dict[str, Any]) -> dict[str, Any] | None:
    """The record if its program was not contradicted and is proved the same now."""
    seed = record["seed"]
    if seed % 50 == 0:
        jax.clear_caches()
    if record["status"] != "ok":
        return None
    program = draw(Seeded(seed))
    if program.label != record["label"]:
        return None
    try:
        with jax.enable_x64(program.double):
            digest = Attack(program, seed).evidence.digest
    except JaxsmoothError:
        return None
    return record if digest == record.get("digest") else None


def results(function: Callable[[Any], Any], tasks: Sequence[Any], processes: int) -> Iterator[Any]:
    """What the function gives for the tasks, in any order, but for those that end their process.

    A program can: XLA aborts where one of its own checks fails.
    """
    if processes == 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, collect_seldom, maxtasksperchild=200) as pool:
        found = pool.imap_unordered(function, tasks)
        for _ in tasks:
            try:
                yield found.next(_SILENCE)
            except multiprocessing.TimeoutError:
                return


def rechecked(
    records: list[dict[str, Any]], processes: int, console: Console
) -> list[dict[str, Any]]:
    """The records of programs that are proved as they were."""
    kept = []
    with Progress(console=console) as progress:
        bar = progress.add_task("proofs", total=len(records))
        for record in results(unchanged, records, processes):
            if record is not None:
                kept.append(record)
            progress.advance(bar)
    console.print(f"{len(kept)} of {len(records)} programs are proved the same")
    return kept


def report(records: list[dict[str, Any]], console: Console) -> None:
    """Counts, tightness and what was refused, contradicted or failed."""
    counts = collections.Counter(r["status"] for r in records)
    seconds = statistics.mean(r["seconds"] for r in records)
    console.print(f"{len(records)} programs, {seconds:.2f} s each: {dict(counts)}")
    table = Table("certified / found", "programs", "tightest", "median", "loosest", "at seed")
    for name in RATIOS:
        found = sorted(
            (r["ratios"][name], r["seed"]) for r in records if name in r.get("ratios", ())
        )
        if found:
            middle = statistics.median(ratio for ratio, _ in found)
            (low, first), (high, last) = found[0], found[-1]
            table.add_row(
                name,
                str(len(found)),
                f"{low:.6g}",
                f"{middle:.3g}",
                f"{high:.3g}",
                f"{first}, {last}",
            )
    console.print(table)
    refusals = collections.Counter(
        r["error"].split(" (")[0][:100] for r in records if r["status"] == "refused"
    )
    for text, count in refusals.most_common(12):
        console.print(f"refused {count} ×: {text}", markup=False)
    for r in records:
        if r["status"] in ("violated", "failed"):
            what = r.get("violations") or r["error"]
            console.print(f"seed {r['seed']} {r['status']}: {what}", markup=False)
            console.print(f"    {r.get('label', '')}", markup=False)


def explain(seed: int, effort: int, console: Console) -> None:
    """One program made smaller, with every claim about it."""
    program, skip = minimise(seed)
    console.print(f"seed {seed} without the steps {sorted(skip)}:\n{program.label}", markup=False)
    evidence = attack(program, seed, effort)
    for claim in evidence.claims.values():
        flag = "  VIOLATED" if claim.violated else ""
        console.print(
            f"{claim.name}: certified {claim.certified:.9g}, found {claim.raw:.9g}{flag}",
            markup=False,
        )
        if claim.violated:
            console.print(f"    at {claim.point.tolist()}", markup=False)
    for text in evidence.contradictions:
        console.print(text, markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=200, help="how many seeds to run")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--effort", type=int, default=1, help="rounds of attack on each program")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--explain", action="store_true", help="only that seed, in detail")
    parser.add_argument("--recheck", action="store_true", help="run again what is proved otherwise")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_suffix(".jsonl"), help="JSON lines"
    )
    arguments = parser.parse_args()
    console = Console()
    if arguments.explain:
        explain(arguments.seed, arguments.effort, console)
        return 0

    wanted = range(arguments.seed, arguments.seed + arguments.programs)
    found = []
    if arguments.output.exists():
        found = [json.loads(line) for line in arguments.output.read_text().splitlines()]
    records = [r for r in found if r["seed"] in wanted]
    if arguments.recheck:
        records = rechecked(records, arguments.processes, console)
        others = [r for r in found if r["seed"] not in wanted]
        lines = [json.dumps(r, ensure_ascii=False) + "\n" for r in (*others, *records)]
        arguments.output.write_text("".join(lines))
    done = {r["seed"] for r in records}
    tasks = [(seed, arguments.effort) for seed in wanted if seed not in done]
    with Progress(console=console) as progress, arguments.output.open("a") as output:
        bar = progress.add_task("programs", total=len(wanted), completed=len(done))
        for record in results(examine, tasks, arguments.processes):
            records.append(record)
            output.write(json.dumps(record, ensure_ascii=False) + "\n")
            output.flush()
            progress.advance(bar)
            if record["status"] in ("violated", "failed"):
                what = record.get("violations") or record["error"]
                progress.console.print(f"seed {record['seed']}: {what}", markup=False)
    report(records, console)
    lost = sorted(set(wanted) - {r["seed"] for r in records})
    for seed in lost:
        console.print(f"seed {seed}: no result, its process ended; try it with --explain")
    return int(bool(lost) or any(r["status"] in ("violated", "failed") for r in records))


if __name__ == "__main__":
    raise SystemExit(main())
