"""``jaxsmooth demo``: train, smooth, certify, attack, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxsmooth import data as datasets
from jaxsmooth.certificate import Certificate
from jaxsmooth.demo.attack import Attack, Effort, attack
from jaxsmooth.demo.figures import along, line_figure, training_figure
from jaxsmooth.demo.problem import Problem, problem
from jaxsmooth.demo.train import Recipe, Training, train
from jaxsmooth.errors import ArgumentError
from jaxsmooth.report.notation import number
from jaxsmooth.report.page import Page
from jaxsmooth.smoothing import smooth

# The windows of the kernels are narrow where eps is small: an ascent from points outside of
# all of them stands still. The error at 30 eps leads it closer first.
_WIDER = 30.0

INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


@dataclass(frozen=True)
class Options:
    """What the command line says; see ``jaxsmooth demo --help``."""

    dataset: str = "digits"
    data_dir: str | None = None
    eps: float = 0.1
    set: str = "box"
    radius: float | None = None
    kernel: str = "auto"
    allocation: str = "optimal"
    recipe: Recipe = field(default_factory=Recipe)
    effort: Effort = field(default_factory=Effort)
    out: Path = Path("jaxsmooth-report.html")
    checkpoint: Path = Path("jaxsmooth-demo.npz")
    resume: bool = False


def run(options: Options) -> int:
    """Run the demo and print what it finds.

    Args:
        options: what to do.

    Returns:
        The exit code: 0, or `INTERRUPTED` if Ctrl-C stopped the training.

    Raises:
        ArgumentError: an option is malformed, or an optional package is missing.
    """
    console = _console()
    loaded = datasets.load(options.dataset, options.data_dir).flat()
    training = _train(console, loaded, options)
    console.print(
        f"{loaded.name}: network {_widths(loaded, options.recipe)}, {training.epoch} epochs, "
        f"accuracy {training.train_accuracy:.1%} on training images, "
        f"{training.test_accuracy:.1%} on test images"
    )
    if training.interrupted:
        console.print(
            f"stopped after epoch {training.epoch}; go on with the same options and --resume"
        )
        return INTERRUPTED
    posed = problem(options.set, training.params, loaded.test_images[0], options.radius)
    choices: dict[str, Any] = {"kernel": options.kernel, "allocation": options.allocation}
    f_eps = smooth(posed.function, options.eps, posed.bounds, **choices)
    with console.status(f"certifying: {posed.description}"):
        start = time.perf_counter()
        certificate = f_eps.certificate(*posed.args)
        certified_in = time.perf_counter() - start
    console.print(f"\non {posed.description}\n")
    console.print(certificate.table(), markup=False, highlight=False)
    with console.status("attacking the certificate"):
        start = time.perf_counter()
        found = attack(
            posed.function,
            f_eps,
            posed.bounds,
            posed.args,
            effort=options.effort,
            wider=smooth(posed.function, _WIDER * options.eps, posed.bounds, **choices),
        )
        attacked_in = time.perf_counter() - start
    rows = comparison(certificate, found)
    console.print(f"\nproved in {certified_in:.1f} s; attacked for {attacked_in:.1f} s")
    console.print(_table(("", "found", "proved", "proved / found"), rows))
    with console.status("writing the report"):
        page = report(options, training, posed, certificate, found, f_eps)
    page.write(options.out)
    console.print(f"report: {options.out}", highlight=False)
    return 0


def comparison(certificate: Certificate, found: Attack) -> list[tuple[str, str, str, str]]:
    """Rows of what the attack found, what is proved, and their ratio."""
    pairs = (
        ("error ‖f_eps − f‖", found.error, certificate.error),
        ("Lipschitz ℓ", found.lipschitz, certificate.lipschitz),
        ("smoothness L", found.smoothness, certificate.smoothness),
    )
    return [
        (name, number(low), number(high), number(float(high) / low, 3) if low > 0 else "–")
        for name, low, high in pairs
    ]


def report(
    options: Options,
    training: Training,
    posed: Problem,
    certificate: Certificate,
    found: Attack,
    f_eps: Any,
) -> Page:
    """The report as one HTML page.

    Args:
        options: what was asked for.
        training: the network.
        posed: the function and its set.
        certificate: what is proved.
        found: what the attack found.
        f_eps: the smooth function.
    """
    page = Page(
        "jaxsmooth: a ReLU network and its certified smooth approximation",
        f"{options.dataset}, test accuracy {training.test_accuracy:.1%}; set: {posed.description}.",
    )
    page.heading("Proved and found")
    page.paragraph(
        "Proved holds at every point of the set. Found is the most that random points and "
        "projected gradient ascent attained on it, in 64-bit arithmetic."
    )
    page.table(("", "found", "proved", "proved / found"), comparison(certificate, found))
    page.heading("Smooth and not")
    winner = int(jnp.argmax(posed.function(*posed.args)))
    start = jax.tree.map(jnp.asarray, posed.args)
    line = along(posed.function, f_eps, start, found.worst, winner)
    page.figure(
        line_figure(line, float(certificate.error)),
        "Above: the error on the line from a test image to the worst point found, and the "
        f"proved bound. Below: the derivative of the score of class {winner}.",
    )
    page.heading("Certificate")
    page.fragment(certificate._repr_html_())
    page.heading("Kernels, μ and shares")
    page.figure(certificate.plot(), "The kernel at each site, its μ, and its share of eps.")
    if training.losses:
        page.heading("Training")
        page.figure(training_figure(training.losses), "Mean loss of each epoch.")
    return page


def _train(console: Any, loaded: datasets.Dataset, options: Options) -> Training:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = ("training", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=options.recipe.epochs, loss="")

        def on_epoch(epoch: int, loss: float) -> None:
            progress.update(task, completed=epoch, loss=f"loss {loss:.4f}")

        return train(
            loaded,
            options.recipe,
            checkpoint_path=options.checkpoint,
            resume=options.resume,
            on_epoch=on_epoch,
        )


def _widths(loaded: datasets.Dataset, recipe: Recipe) -> str:
    widths = (loaded.train_images.shape[1], *recipe.hidden, loaded.classes)
    return "-".join(map(str, widths))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _console() -> Any:
    try:
        from rich.console import Console
    except ImportError as error:
        raise ArgumentError("the demo needs rich: pip install 'jaxsmooth[demo]'") from error
    return Console(soft_wrap=True)
