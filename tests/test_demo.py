"""The demo: data, training that stops and resumes, the attack, the page, the whole run."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth import data as datasets
from jaxsmooth.bounds import anything, ball, box, fixed, linf_ball, resolve
from jaxsmooth.cli import main
from jaxsmooth.demo import network
from jaxsmooth.demo import train as training
from jaxsmooth.demo.attack import Effort, attack
from jaxsmooth.demo.figures import along, line_figure
from jaxsmooth.demo.problem import SETS, problem
from jaxsmooth.demo.search import SearchSpace
from jaxsmooth.demo.train import Recipe, train
from jaxsmooth.errors import ArgumentError
from jaxsmooth.math.kernels import KERNELS
from jaxsmooth.report.page import Page

_LITTLE = Effort(samples=512, restarts=8, steps=60, curvature_samples=16)
_RECIPE = Recipe(hidden=(16,), epochs=3)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits").flat()


class TestData:
    def test_digits_are_in_the_unit_box(self, digits):
        assert digits.train_images.dtype == np.float32
        assert digits.train_images.min() == 0.0
        assert digits.train_images.max() == 1.0
        assert set(digits.test_labels) == set(range(10))

    @pytest.mark.parametrize(
        ("name", "data_dir", "message"),
        [("mnits", None, "choose one of digits, mnist, cifar10"), ("mnist", None, "--data-dir")],
    )
    def test_errors(self, name, data_dir, message):
        with pytest.raises(ArgumentError, match=message):
            datasets.load(name, data_dir)

    def test_prepared_data(self, tmp_path, monkeypatch):
        """A stand-in for TFDS: what is asked of it, and what is made of what it gives."""
        asked = []

        class Source(list):
            def __getitems__(self, indices):
                return [self[i] for i in indices]

        class TFDS:
            @staticmethod
            def data_source(name, **options):
                asked.append((name, options))
                image = np.full((28, 28, 1), 255, np.uint8)
                return Source([{"image": image, "label": np.int64(i % 10)} for i in range(1030)])

        monkeypatch.setitem(sys.modules, "tensorflow_datasets", TFDS)
        data = datasets.load("mnist", tmp_path)
        assert data.train_images.shape == (1030, 28, 28)
        assert data.train_images.max() == 1.0
        assert data.train_labels[11] == 1
        assert [options["split"] for _, options in asked] == ["train", "test"]
        assert all(options["download"] is False for _, options in asked)

    def test_missing_packages_are_named(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        for name, extra in {"mnist": "data", "digits": "demo"}.items():
            with pytest.raises(ArgumentError, match=rf"jaxsmooth\[{extra}\]"):
                datasets.load(name, tmp_path)


class TestTraining:
    def test_learns(self, digits):
        trained = train(digits, replace(_RECIPE, epochs=10))
        assert trained.test_accuracy > 0.8
        assert trained.losses[-1] < trained.losses[0]

    def test_resumed_is_the_same_as_uninterrupted(self, digits, tmp_path):
        path = tmp_path / "state.npz"
        train(digits, replace(_RECIPE, epochs=1), checkpoint_path=path)
        resumed = train(digits, _RECIPE, checkpoint_path=path, resume=True)
        straight = train(digits, _RECIPE)
        assert resumed.losses == straight.losses
        jax.tree.map(np.testing.assert_array_equal, resumed.params, straight.params)

    def test_interruption_keeps_what_is_done(self, digits, tmp_path):
        path = tmp_path / "state.npz"

        def press_ctrl_c(epoch, loss):
            if epoch == 2:
                raise KeyboardInterrupt

        stopped = train(digits, _RECIPE, checkpoint_path=path, on_epoch=press_ctrl_c)
        assert (stopped.interrupted, stopped.epoch, len(stopped.losses)) == (True, 2, 2)
        assert train(digits, _RECIPE, checkpoint_path=path, resume=True).epoch == 3
        assert [file.name for file in tmp_path.iterdir()] == ["state.npz"]

    def test_checkpoints_of_other_trainings_are_refused(self, digits, tmp_path):
        path = tmp_path / "state.npz"
        train(digits, replace(_RECIPE, epochs=1), checkpoint_path=path)
        for recipe, message in [
            (replace(_RECIPE, hidden=(8,)), "holds another network"),
            (replace(_RECIPE, seed=1), "was trained with seed = 0"),
        ]:
            with pytest.raises(ArgumentError, match=message):
                train(digits, recipe, checkpoint_path=path, resume=True)
        path.write_bytes(b"no archive")
        with pytest.raises(ArgumentError, match="is not a checkpoint"):
            train(digits, _RECIPE, checkpoint_path=path, resume=True)
        with pytest.raises(ArgumentError, match="cannot write the checkpoint"):
            train(digits, _RECIPE, checkpoint_path=tmp_path / "missing" / "state.npz")


class TestSearchSpace:
    _ARGS = ({"b": jnp.zeros(2), "w": jnp.zeros((2, 3))}, jnp.zeros(3), jnp.zeros(2))
    _BOUNDS = (ball(2.0, center=1.0), box(-1.0, 3.0), fixed(5.0))

    def test_points_lie_in_the_set(self):
        space = SearchSpace(resolve(self._BOUNDS, self._ARGS))
        keys = jax.random.split(jax.random.key(0), 200)
        points = jax.vmap(space.sample)(keys)
        slopes = jax.vmap(space.sample)(keys[::-1])
        moved = jax.vmap(lambda p, g: space.move(p, g, 0.7))(points, slopes)
        for b, w, x in (points, moved):
            distance = np.sqrt(
                np.sum((np.asarray(b, float) - 1) ** 2, axis=1)
                + np.sum((np.asarray(w, float) - 1) ** 2, axis=(1, 2))
            )
            assert distance.max() <= 2.0
            assert distance.max() > 1.99
            assert (x.min(), x.max()) == (-1.0, 3.0)

    def test_fixed_values_are_filled_in(self):
        space = SearchSpace(resolve(self._BOUNDS, self._ARGS))
        _, x, known = space.args(space.center())
        np.testing.assert_array_equal(x, np.ones(3))
        np.testing.assert_array_equal(known, 5.0 * np.ones(2))

    def test_unbounded_sets_are_searched_too(self):
        space = SearchSpace(resolve(anything(), (jnp.zeros(4),)))
        (x,) = space.sample(jax.random.key(0))
        assert np.isfinite(x).all()

    def test_integers_are_refused(self):
        with pytest.raises(ArgumentError, match=r"args\[0\] is int32"):
            SearchSpace(resolve(anything(), (jnp.zeros(4, jnp.int32),)))


_centered = KERNELS["centered"].relu


class TestAttack:
    """Functions whose worst error and constants are known."""

    @pytest.mark.parametrize(("norm", "worst"), [("l2", 0.3 * np.sqrt(3)), ("linf", 0.3)])
    def test_relu(self, norm, worst):
        found = attack(
            jax.nn.relu,
            lambda x: _centered(x, 0.3),
            linf_ball(1.0),
            (jnp.zeros(3),),
            norm=norm,
            effort=_LITTLE,
        )
        assert found.error == pytest.approx(worst, rel=1e-2)
        assert found.error <= worst * (1 + 1e-12)
        assert found.lipschitz == pytest.approx(2.2 / 2.4, rel=1e-6)
        assert found.smoothness == pytest.approx(1 / 2.4, rel=1e-6)
        assert np.abs(found.worst[0]).min() < 0.05

    def test_bilinear(self):
        """x ↦ w·x on balls: the Hessian in (w, x) is the swap, of norm 1."""
        found = attack(
            jnp.vdot,
            lambda w, x: jnp.vdot(w, x) + 0.25,
            (ball(2.0), ball(1.0)),
            (jnp.zeros(3), jnp.zeros(3)),
            effort=_LITTLE,
        )
        assert found.error == pytest.approx(0.25, rel=1e-9)
        assert found.smoothness == pytest.approx(1.0, rel=1e-6)
        assert 2.0 < found.lipschitz <= np.sqrt(5.0)

    def test_the_way_from_afar(self):
        """A narrow kink, met by no random point: a wider function leads to it."""

        def f(x):
            return jax.nn.relu(x - 0.123456)

        def approximation(mu):
            return lambda x: _centered(x - 0.123456, mu)

        args = (f, approximation(1e-7), box(-1.0, 1.0), (jnp.zeros(()),))
        alone = attack(*args, effort=_LITTLE)
        led = attack(*args, effort=_LITTLE, wider=approximation(0.1))
        assert alone.error == 0.0
        assert led.error <= 1e-7 * (1 + 1e-6)

    def test_errors(self):
        with pytest.raises(ArgumentError, match="choose l2 or linf"):
            attack(jnp.abs, jnp.abs, box(-1, 1), (jnp.zeros(1),), norm="l1")
        with pytest.raises(ArgumentError, match="no more than samples"):
            Effort(samples=4, restarts=5)


def test_line_figure_shows_the_kink():
    line = along(
        lambda x: jax.nn.relu(x),
        lambda x: _centered(x, 0.01),
        (jnp.full(2, -1.0),),
        (jnp.full(2, 1.0),),
        output=0,
    )
    found = line(np.linspace(0.0, 1.0, 101))
    assert found.error.max() == pytest.approx(0.01 * np.sqrt(2))
    assert found.t[np.argmax(found.error)] == pytest.approx(0.5)
    assert set(np.unique(found.slope[found.t != 0.5])) == {0.0, 2.0}
    assert 0.0 < found.smooth_slope[50] < 2.0
    assert len(line_figure(line, 0.02).axes) == 4


@pytest.mark.parametrize("which", SETS)
def test_problems_hold_their_own_point(which):
    params = network.init_params([4, 3, 2], seed=0)
    posed = problem(which, params, np.full(4, 0.25, np.float32))
    domain = resolve(posed.bounds, posed.args)
    for leaf, value in zip(domain.leaves, jax.tree.leaves(posed.args), strict=True):
        assert np.all(leaf.lo <= np.asarray(value))
        assert np.all(np.asarray(value) <= leaf.hi)
    assert posed.function(*posed.args).shape == (2,)


def test_page_escapes_and_stands_alone(tmp_path):
    page = Page("a < b", "lead & more")
    page.heading("<script>")
    page.paragraph("1 < 2")
    page.table(["x", "y"], [["<b>", "1"]])
    text = page.html()
    assert "<script>" not in text
    assert "a &lt; b" in text
    assert "<td>&lt;b&gt;</td>" in text
    with pytest.raises(ArgumentError, match="cannot write"):
        page.write(tmp_path / "missing" / "page.html")


@pytest.mark.parametrize("which", SETS)
def test_whole_demo(which, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = ("--hidden", "8", "--epochs", "2", "--samples", "64", "--restarts", "8")
    assert main(["demo", "--set", which, "--eps", "0.5", "--out", "r.html", *sizes]) == 0
    printed = capsys.readouterr().out.split("attacked for")[1]
    for row in ("error ‖f_eps − f‖", "Lipschitz ℓ", "smoothness L"):
        found, proved, _ = re.search(rf"{re.escape(row)}\s+(\S+)\s+(\S+)\s+(\S+)", printed).groups()
        assert float(found) <= float(proved) * (1 + 1e-3), row  # printed with four digits
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("data:image/svg+xml;base64,") == 3
    assert not re.search(r"(src|href)=['\"](?!data:)", text), "the report loads nothing"
    assert str(Path(network.__file__).parent) not in text, "the report names no folders"
    assert (tmp_path / "jaxsmooth-demo.npz").exists()


def test_interrupted_demo_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save = training.checkpoint.save

    def save_then_ctrl_c(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(training.checkpoint, "save", save_then_ctrl_c)
    assert main(["demo", "--hidden", "8", "--epochs", "2"]) == 130
    assert "--resume" in capsys.readouterr().out
