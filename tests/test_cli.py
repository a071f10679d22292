"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsmooth.certificate import Certificate
from jaxsmooth.cli import main
from jaxsmooth.errors import ArgumentError
from jaxsmooth.grammar import load_object, parse_bounds, parse_shapes

_MODULE = """
import jax
import jax.numpy as jnp
from jaxsmooth.bounds import ball, box

BOUNDS = (ball(2.0), box(0.0, 1.0))
NUMBER = 3.0

def layer(params, x):
    return jax.nn.relu(params["w"] @ x + params["b"])

def absolute(x):
    return jnp.abs(x)

def rounded(x):
    return jnp.floor(x)

def broken(x):
    raise RuntimeError("no such thing\\nsecond line")
"""

_COUNT = itertools.count()


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """The name of a module of the user's in the working directory, new for every test."""
    name = f"user_module_{next(_COUNT)}"
    (tmp_path / f"{name}.py").write_text(_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def _fails(capsys, *argv: str) -> str:
    """The error that the command prints, which is one line."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jaxsmooth: error: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


class TestBoundsNotation:
    def test_sets_and_numbers(self):
        bounds = parse_bounds("ball(2.0), {'x': box(0, 1/255), y: [-1.5 + 2, anything()]}")
        assert repr(bounds[0]) == "Ball(radius=2.0, center=0)"
        assert bounds[1]["x"].hi == pytest.approx(1 / 255)
        assert bounds[1]["y"][0] == 0.5

    def test_one_set_is_no_tuple(self):
        assert repr(parse_bounds("linf_ball(radius=0.1)")) == "LinfBall(radius=0.1, center=0)"

    def test_infinity(self):
        assert parse_bounds("box(-inf, inf)").lo == -np.inf

    def test_arrays_are_loaded(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        np.savez("weights.npz", w=np.ones((2, 3)), b=np.zeros(2))
        np.save("x.npy", np.full(3, 0.5))
        weights, x = parse_bounds("fixed(load('weights.npz')), linf_ball(0.1, load('x.npy'))")
        assert sorted(weights.value) == ["b", "w"]
        np.testing.assert_array_equal(x.center, np.full(3, 0.5))

    def test_objects_of_modules(self, user_module):
        assert len(parse_bounds(f"{user_module}:BOUNDS")) == 2

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("ball(1", "'(' was never closed"),
            ("sphere(1)", "'sphere(1)' is not a number or one of ball, box"),
            ("ball()", "missing 1 required positional argument: 'radius'"),
            ("ball(1, 2, 3)", "takes from 1 to 2 positional arguments"),
            ("__import__('os').getcwd()", "is not a number or one of"),
            ("ball(**{'radius': 1})", "** has no meaning here"),
            ("(1).__class__", "is not a number or one of"),
            ("[x for x in (1,)]", "is not a number or one of"),
            ("1/0", "'1 / 0' is not a number"),
            ("-ball(1)", "'ball(1)' is not a number"),
            ("True", "'True' is not a number"),
            ("{1.5: ball(1)}", "a dict whose keys are names or numbers"),
            ("fixed(load('missing.npy'))", "cannot read arrays from 'missing.npy'"),
            ("(" * 300 + "1" + ")" * 300, "too many nested parentheses"),
            ("", "invalid syntax"),
        ],
    )
    def test_what_means_nothing_is_an_error(self, text, message):
        with pytest.raises(ArgumentError) as caught:
            parse_bounds(text)
        assert message in str(caught.value)


class TestShapesNotation:
    def test_arguments(self):
        shapes = parse_shapes("{'w': f32[10, 64], b: bf16[10]}, [i32[], bool, f64[0]]")
        assert jax.tree.map(lambda s: (s.shape, str(s.dtype)), shapes[0]) == {
            "w": ((10, 64), "float32"),
            "b": ((10,), "bfloat16"),
        }
        assert [s.shape for s in shapes[1]] == [(), (), (0,)]

    def test_one_argument(self):
        assert parse_shapes("f32[3]") == (jax.ShapeDtypeStruct((3,), np.float32),)

    def test_one_argument_that_is_a_pair(self):
        (pair,) = parse_shapes("(f32[3], f32[4]),")
        assert [s.shape for s in pair] == [(3,), (4,)]

    @pytest.mark.parametrize("text", ["f33[3]", "f32[-1]", "f32[x]", "f32(3)", "f32[1.5]", "3"])
    def test_what_means_nothing_is_an_error(self, text):
        with pytest.raises(ArgumentError, match="is not a"):
            parse_shapes(text)


class TestObjects:
    def test_dotted_attribute(self):
        assert load_object("os:path.join")("a", "b") == str(Path("a") / "b")

    def test_messages(self, user_module, tmp_path):
        (tmp_path / "needs_missing.py").write_text("import missing_package_of_mine")
        (tmp_path / "fails.py").write_text("1 / 0")
        for name, message in {
            "no_such_module_here:f": "no module 'no_such_module_here'",
            f"{user_module}:missing": "has no 'missing'",
            f"{user_module}.py:f": f"no module '{user_module}.py'",
            "needs_missing:f": "importing 'needs_missing' failed: No module named",
            "fails:f": "importing 'fails' failed: ZeroDivisionError: division by zero",
            "noseparator": "is not of the form module:object",
        }.items():
            with pytest.raises(ArgumentError) as caught:
                load_object(name)
            assert message in str(caught.value)


class TestCertify:
    def test_prints_and_writes(self, user_module, tmp_path, capsys):
        shapes = "{'w': f32[3,4], 'b': f32[3]}, f32[4]"
        files = ("--json", "out.json", "--html", "out.html")
        argv = ("certify", f"{user_module}:layer", "--eps", "0.1", "--shapes", shapes, *files)
        assert main([*argv, "--bounds", f"{user_module}:BOUNDS"]) == 0
        printed = capsys.readouterr().out
        certificate = Certificate.from_json((tmp_path / "out.json").read_text())
        assert certificate.error <= certificate.eps == 0.1
        assert printed == certificate.table() + "\n"
        page = (tmp_path / "out.html").read_text()
        assert page.startswith("<!doctype html>")
        assert "certificate" in page.lower()

    def test_shapes_may_come_from_the_bounds(self, user_module, tmp_path, capsys):
        np.save("x.npy", np.zeros(3, np.float32))
        bounds = "linf_ball(1.0, load('x.npy'))"
        assert main(["certify", f"{user_module}:absolute", "--eps", "0.1", "--bounds", bounds]) == 0
        assert "abs" in capsys.readouterr().out

    def test_options_are_passed_on(self, user_module, tmp_path, capsys):
        options = ("--kernel", "paper", "--allocation", "halving", "--norm", "linf")
        argv = ("certify", f"{user_module}:absolute", "--eps", "0.1", "--bounds", "box(-1,1)")
        assert main([*argv, "--shapes", "f32[3]", "--json", "c.json", *options]) == 0
        record = json.loads((tmp_path / "c.json").read_text())
        assert "paper" in json.dumps(record)
        certificate = Certificate.from_json((tmp_path / "c.json").read_text())
        assert (certificate.allocation, certificate.norm) == ("halving", "linf")

    def test_errors_are_one_line(self, user_module, capsys):
        def certify(function, bounds="box(-1, 1)", eps="0.1", shapes="f32[3]"):
            argv = ("--eps", eps, "--bounds", bounds, "--shapes", shapes)
            return _fails(capsys, "certify", f"{user_module}:{function}", *argv)

        assert "raised RuntimeError: no such thing" in certify("broken")
        assert "is a float, not a function" in certify("NUMBER")
        assert "has no 'missing'" in certify("missing")
        assert "floor" in certify("rounded")
        assert "eps" in certify("absolute", eps="-1")
        assert "lo" in certify("absolute", bounds="box(1, -1)")
        assert "raised TypeError" in certify("layer", bounds="(1.0, 1.0)", shapes="f32[3],f32[3]")

    def test_files_that_cannot_be_written(self, user_module, capsys):
        argv = ("--eps", "0.1", "--bounds", "box(-1,1)", "--shapes", "f32[3]")
        error = _fails(
            capsys, "certify", f"{user_module}:absolute", *argv, "--json", "no/such/folder.json"
        )
        assert "cannot write 'no/such/folder.json'" in error

    def test_traceback_on_request(self, user_module):
        argv = ("certify", f"{user_module}:NUMBER", "--eps", "1", "--bounds", "1", "--traceback")
        with pytest.raises(ArgumentError):
            main(argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("demo", "--hidden", "3,x"), "no comma-separated list of widths"),
        (("demo", "--set", "sphere"), "invalid choice: 'sphere'"),
        (("certify", "a:b", "--eps", "x", "--bounds", "1"), "invalid float value"),
        (("certify", "a:b"), "the following arguments are required: --eps, --bounds"),
    ],
)
def test_usage_errors(argv, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_demo_errors_are_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--data-dir" in _fails(capsys, "demo", "--dataset", "mnist")
    assert "no checkpoint" in _fails(capsys, "demo", "--resume")
    assert "hidden layers" in _fails(capsys, "demo", "--hidden", "0")
    assert "no radius" in _fails(capsys, "demo", "--epochs", "0", "--radius", "1", "--set", "box")


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "jaxsmooth", "--help"], capture_output=True, text=True, check=True
    )
    assert "demo" in done.stdout
    assert "certify" in done.stdout
