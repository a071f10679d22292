"""The command ``jaxsmooth``: a demo, and certificates of functions in the user's modules.

What can go wrong ends with one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsmooth.errors import ArgumentError, JaxsmoothError

_KERNELS = ("auto", "paper", "centered", "minimax", "softplus", "c2")
_ALLOCATIONS = ("optimal", "uniform", "halving")
_NORMS = ("l2", "linf")
_FAILED = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments, those of the process by default.

    Returns:
        The exit code: 0 on success, 2 on an error, 130 after Ctrl-C.
    """
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("jaxsmooth: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except JaxsmoothError as error:
        if options.traceback:
            raise
        print(f"jaxsmooth: error: {error}", file=sys.stderr)
        return _FAILED


def _demo(options: argparse.Namespace) -> int:
    from jaxsmooth.demo import run as demo
    from jaxsmooth.demo.attack import Effort
    from jaxsmooth.demo.train import Recipe

    recipe = Recipe(hidden=options.hidden, epochs=options.epochs, seed=options.seed)
    effort = Effort(samples=options.samples, restarts=options.restarts, seed=options.seed)
    return demo.run(
        demo.Options(
            dataset=options.dataset,
            data_dir=options.data_dir,
            eps=options.eps,
            set=options.set,
            radius=options.radius,
            kernel=options.kernel,
            allocation=options.allocation,
            recipe=recipe,
            effort=effort,
            out=options.out,
            checkpoint=options.checkpoint,
            resume=options.resume,
        )
    )


def _certify(options: argparse.Namespace) -> int:
    from jaxsmooth.grammar import load_object, parse_bounds, parse_shapes
    from jaxsmooth.report.page import Page, write_text
    from jaxsmooth.smoothing import smooth

    function = load_object(options.function)
    if not callable(function):
        raise ArgumentError(f"{options.function} is a {type(function).__name__}, not a function")
    bounds = parse_bounds(options.bounds)
    args = () if options.shapes is None else parse_shapes(options.shapes)
    choices: dict[str, Any] = {
        "kernel": options.kernel,
        "allocation": options.allocation,
        "norm": options.norm,
    }
    try:
        certificate = smooth(function, options.eps, bounds, **choices).certificate(*args)
    except JaxsmoothError:
        raise
    except Exception as error:  # whatever the user's function raises while it is traced
        first_line = (str(error).strip() or "no message").splitlines()[0]
        raise ArgumentError(
            f"{options.function} raised {type(error).__name__}: {first_line}"
        ) from error
    print(certificate.table())
    if options.json is not None:
        write_text(options.json, certificate.to_json() + "\n")
    if options.html is not None:
        page = Page(f"Certificate of {options.function}", f"bounds: {options.bounds}")
        page.fragment(certificate._repr_html_())
        page.write(options.html)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxsmooth", description="Certified smooth approximations of JAX programs."
    )
    parser.set_defaults(traceback=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="train a small ReLU network, smooth it, attack the certificate",
        description="Trains a small ReLU network, smooths it, certifies the smooth network, "
        "attacks the certificate, and writes a report. Ctrl-C stops the training cleanly.",
    )
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--dataset", choices=("digits", "mnist"), default="digits", help="images (%(default)s)"
    )
    demo.add_argument("--data-dir", metavar="DIR", help="TensorFlow Datasets folder with mnist")
    demo.add_argument(
        "--eps", type=float, default=0.1, help="accuracy of the smooth network (%(default)s)"
    )
    demo.add_argument(
        "--set",
        choices=("data", "box", "params"),
        default="box",
        help="images close to a test image; all images; all images and weights close to "
        "the trained ones (%(default)s)",
    )
    demo.add_argument(
        "--radius", type=float, help="per pixel (data, 0.05) or per layer (params, 0.1)"
    )
    demo.add_argument(
        "--hidden", type=_widths, default=(64, 32), help="widths, comma-separated (64,32)"
    )
    demo.add_argument(
        "--epochs", type=int, default=30, help="passes over the training images (%(default)s)"
    )
    demo.add_argument(
        "--seed", type=int, default=0, help="of the training and of the attack (%(default)s)"
    )
    demo.add_argument(
        "--samples", type=int, default=4096, help="random points of the attack (%(default)s)"
    )
    demo.add_argument(
        "--restarts", type=int, default=64, help="points from which it climbs (%(default)s)"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("jaxsmooth-report.html"), help="the report (%(default)s)"
    )
    demo.add_argument(
        "--checkpoint",
        type=Path,
        default=Path("jaxsmooth-demo.npz"),
        help="state of the training (%(default)s)",
    )
    demo.add_argument("--resume", action="store_true", help="go on from the checkpoint")

    certify = commands.add_parser(
        "certify",
        help="certify the smooth approximation of a function of yours",
        description="Prints the certificate of the smooth approximation of a function.",
        epilog="example:\n  jaxsmooth certify mynet:forward --eps 0.1 "
        "--bounds 'ball(2.0), box(0, 1)' \\\n"
        "      --shapes \"{'w': f32[10,64], 'b': f32[10]}, f32[64]\"",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    certify.set_defaults(run=_certify)
    certify.add_argument(
        "function", metavar="MODULE:FUNCTION", help="looked for in the working directory too"
    )
    certify.add_argument("--eps", type=float, required=True, help="accuracy")
    certify.add_argument(
        "--bounds",
        required=True,
        help="sets for the arguments: ball(R), box(lo, hi), linf_ball(r), fixed(load('w.npz')), "
        "anything(), in tuples, lists and dicts; or MODULE:OBJECT",
    )
    certify.add_argument(
        "--shapes", help="dtype[shape] of the arguments; not needed where the bounds have shapes"
    )
    certify.add_argument(
        "--norm", choices=_NORMS, default="l2", help="norm of the error (%(default)s)"
    )
    certify.add_argument("--json", type=Path, metavar="FILE", help="also write it as JSON")
    certify.add_argument("--html", type=Path, metavar="FILE", help="also write it as HTML")

    for command in (demo, certify):
        command.add_argument(
            "--kernel", choices=_KERNELS, default="auto", help="smoothing kernel (%(default)s)"
        )
        command.add_argument(
            "--allocation",
            choices=_ALLOCATIONS,
            default="optimal",
            help="split of eps (%(default)s)",
        )
        command.add_argument(
            "--traceback", action="store_true", help="show where an error came from"
        )
    return parser


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no comma-separated list of widths") from None
