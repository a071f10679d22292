"""The experiments' runner: its pieces, stopping and resuming, and the smoke budget.

What needs the images is skipped where they are not: name their folder with JAXSMOOTH_DATA,
or have it beside the repository as ``shared/tfds``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxsmooth
from benchmarks.experiments import (
    beyond,
    minimality,
    networks,
    records,
    runs,
    settings,
    smoothing,
    training,
)
from benchmarks.experiments.__main__ import main
from benchmarks.experiments.checkpoints import Store
from benchmarks.experiments.data import Images, Split, read
from benchmarks.experiments.progress import Reporter

rich_console = pytest.importorskip("rich.console")
pytest.importorskip("orbax.checkpoint")

# Orbax and TensorFlow Datasets warn of what is theirs.
pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("JAXSMOOTH_DATA", ROOT.parent / "shared" / "tfds"))
needs_data = pytest.mark.skipif(
    not (DATA / "mnist").exists(), reason=f"no images in {DATA}: set JAXSMOOTH_DATA"
)
SMALL = networks.mlp((12, 8))
RADII, NORM = (3.0, 2.0, 2.0), 28.0


def random_images(count: int) -> Images:
    """Bytes for tests of the machinery, of which no figure depends on what they show."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    split = Split(images, rng.integers(0, 10, count).astype(np.int32))
    return Images(split, {"held": split.first(100)})


def trainer(smooth: bool = True, mapped: str = "map") -> training.Trainer:
    return training.Trainer(SMALL, random_images(1024), smooth=smooth, mapped=mapped, examples=200)


def reporter() -> Reporter:
    return Reporter(100, rich_console.Console(quiet=True))


def test_batches_continue_and_cover_every_epoch():
    whole = training.batches(1000, seed=3, first=0, iterations=7)
    parts = [training.batches(1000, 3, first, n) for first, n in ((0, 2), (2, 3), (5, 2))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    epochs = whole[:6].reshape(2, -1)
    assert all(len(set(epoch)) == 3 * 256 for epoch in epochs)
    assert not np.array_equal(*epochs)
    assert not np.array_equal(whole, training.batches(1000, 4, 0, 7))


@pytest.mark.slow
def test_patches_are_a_convolution():
    x = jax.random.normal(jax.random.key(0), (8, 8, 3))
    weight = jax.random.normal(jax.random.key(1), (4, 75))
    kernel = weight.reshape(4, 5, 5, 3).transpose(1, 2, 3, 0)
    expected = lax.conv_general_dilated(
        x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]
    np.testing.assert_allclose(networks.patches(x) @ weight.T, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("network", [networks.mlp((4000, 1000, 4000)), networks.convnet()])
def test_initial_norms_are_those_of_the_rule(network: networks.Network):
    norms = networks.layer_norms(network.init(jax.random.key(0)))
    # Uniform on ±1/√n has variance 1/(3n); there are n + 1 numbers per output.
    expected = [np.sqrt(shape[0] * (1 + 1 / shape[1]) / 3) for shape in network.shapes]
    np.testing.assert_allclose(norms, expected, rtol=0.1)


@pytest.mark.slow
def test_the_certificate_is_that_of_every_label():
    found = [smoothing.certificate(SMALL, RADII, NORM, 0.1, label=k) for k in (0, 4, 9)]
    for other in found[1:]:
        np.testing.assert_allclose(smoothing.accuracies(other), smoothing.accuracies(found[0]))
        assert other.smoothness == pytest.approx(found[0].smoothness)
    assert found[0].error <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("network", [SMALL, networks.convnet()])
def test_the_trained_network_is_the_smoothed_one(network: networks.Network):
    radii = (3.0,) * len(network.shapes)
    found = smoothing.certificate(network, radii, NORM, 1.0)
    assert smoothing.largest_difference(network, radii, NORM, found) < 1e-6


@pytest.mark.slow
def test_the_smoothed_objective_is_within_eps_where_an_attack_looks():
    eps = 1.0
    found = smoothing.certificate(SMALL, RADII, NORM, eps)
    mu = jnp.asarray(smoothing.accuracies(found))

    def gap(point):
        u, x = point
        smooth, exact = SMALL.apply(u, x, mu), SMALL.apply(u, x)
        return jnp.abs(networks.logistic(smooth, 0) - networks.logistic(exact, 0))

    def project(point):
        u, x = point
        layers = [
            jax.tree.map(lambda p, r=r, n=n: p * jnp.minimum(1, r / n), layer)
            for layer, r, n in zip(u, RADII, networks.layer_norms(u), strict=True)
        ]
        return layers, x * jnp.minimum(1, NORM / jnp.linalg.norm(x))

    climb = jax.jit(lambda p: project(jax.tree.map(lambda v, g: v + 0.3 * g, p, jax.grad(gap)(p))))
    point = project((SMALL.init(jax.random.key(2)), jnp.ones(784)))
    largest = 0.0
    for _ in range(60):
        point = climb(point)
        largest = max(largest, float(gap(point)))
    assert 1e-3 < largest <= eps


@pytest.mark.slow
def test_lanes_of_no_smoothing_are_the_network_itself():
    mu = np.zeros((2, 2))
    smooth, exact = trainer(True), trainer(False)
    _, ours = smooth.run(smooth.init([0], 2), mu, 0.1, [0], 0, 5)
    _, theirs = exact.run(exact.init([0], 1), mu[:1], 0.1, [0], 0, 5)
    np.testing.assert_array_equal(ours["distance"], 0.0)
    np.testing.assert_allclose(ours["loss"][:, :1], theirs["loss"], rtol=1e-5)


def test_runs_that_diverge_have_no_radius(tmp_path):
    norms = np.ones((2, 1, 5, 3))
    norms[0, 0, 2:] = np.inf
    norms[1, 0, 3] = 1.5
    part = {"norms": norms, "initial norms": np.full((2, 1, 3), 0.5)}
    store = Store(tmp_path, {})
    store.finish("reference-0", part)
    budget = settings.BUDGETS["smoke"]
    made = runs.Experiment(SMALL, random_images(512), budget, store, "map", 1)
    np.testing.assert_array_equal(made.radii(), 1.5)
    store.finish("reference-0", part | {"norms": norms[:1], "initial norms": np.ones((1, 1, 3))})
    with pytest.raises(ArithmeticError, match="diverged"):
        made.radii()


@pytest.mark.slow
def test_one_program_serves_all_accuracies():
    made = trainer()
    for scale in (0.0, 1e-3, 1.0):
        mu = np.full((2, 2), scale)
        made.run(made.init([0], 2), mu, 0.1 + scale, [0], 0, 3)
    assert made.advance._cache_size() == 1


@pytest.mark.slow
def test_map_and_vmap_agree():
    mu = np.asarray([[0.0, 0.0], [1e-2, 1e-2]])
    ends = []
    for mapped in ("map", "vmap"):
        made = trainer(mapped=mapped)
        state, _ = made.run(made.init([0, 1], 2), mu, 0.1, [0, 1], 0, 4)
        ends.append(state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *ends)


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_stopping_and_resuming_changes_no_bit(tmp_path):
    stop_after = 2
    mu = np.asarray([[0.0, 0.0], [1e-2, 1e-2]])
    arguments = (mu, 0.2, [0, 1], 7, 3)
    whole = Store(tmp_path / "whole", {})
    expected, recorded = runs.run_part(whole, "part", trainer(), *arguments, reporter())

    class Stopping(Reporter):
        calls = 0

        def add(self, units, what):
            self.calls += 1
            if self.calls == stop_after:
                raise Stopped

    store = Store(tmp_path / "stopped", {})
    console = rich_console.Console(quiet=True)
    with pytest.raises(Stopped):
        runs.run_part(store, "part", trainer(), *arguments, Stopping(100, console))
    assert store.restore("part", trainer().init([0, 1], 2))[0] == 3 * stop_after
    state, records = runs.run_part(store, "part", trainer(), *arguments, reporter())
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    assert records.keys() == recorded.keys()
    for key, value in recorded.items():
        np.testing.assert_array_equal(records[key], value, err_msg=key)


def test_a_folder_of_other_settings_is_refused(tmp_path):
    Store(tmp_path, {"epochs": 1})
    Store(tmp_path, {"epochs": 1})
    with pytest.raises(ValueError, match="other settings"):
        Store(tmp_path, {"epochs": 2})


@pytest.mark.slow
@needs_data
def test_held_out_images_are_not_trained_on():
    images = read("mlp", DATA)
    assert len(images.train) == 60_000
    assert list(images.held) == ["test"]
    first = images.first(512, 300)
    assert (len(first.train), list(first.held)) == (512, ["first 300 of test"])


@needs_data
def test_smoke_budget(tmp_path, capsys):
    output = tmp_path / "smoke.json"
    arguments = ["mlp", "--budget", "smoke", "--data-dir", str(DATA)]
    arguments += ["--output", str(output), "--work-dir", str(tmp_path / "work")]
    assert main(arguments) == 0
    result = json.loads(output.read_text())
    certified = result["certificates"]
    gaps = (
        np.asarray(result["paths"]["train: loss"])
        - result["paths"]["train: loss without smoothing"]
    )
    allowed = np.asarray([0.0, *certified["eps"]]) + 1e-6
    assert np.all(np.abs(gaps) <= allowed[None, :, None])
    assert np.asarray(result["paths"]["distance"]).shape == (2, 3, 4)
    assert result["settings"]["accuracies"] == certified["eps"]
    assert jaxsmooth.__version__ == result["versions"]["jaxsmooth"]
    # Done already: nothing is run again, and the figures are the same.
    assert main(arguments) == 0
    assert json.loads(output.read_text()) == result


@pytest.mark.slow
def test_sums_in_another_order_differ_by_rounding_alone():
    made = training.Trainer(SMALL, random_images(1024), turns=(0, 0, 97))
    state, found = made.run(made.init([0], 3), np.zeros((3, 2)), 0.1, [0], 0, 4)
    same, turned = found["distance"][0, 1], found["distance"][0, 2]
    np.testing.assert_array_equal(same, 0.0)
    assert 0 < turned[0] < 1e-5
    changes = beyond.sign_changes(SMALL, jax.tree.map(lambda v: v[0], state[0]), jnp.ones((5, 784)))
    assert changes.shape == (3,)
    assert changes[1] == 0


@pytest.mark.slow
def test_signs_differ_where_weights_do():
    u = SMALL.init(jax.random.key(0))
    lanes = jax.tree.map(lambda v: jnp.stack([v, -v]), u)
    changes = beyond.sign_changes(SMALL, lanes, jax.random.uniform(jax.random.key(1), (20, 784)))
    assert changes[0] == 0 < 0.4 < changes[1]


def test_long_curves_are_thinned():
    norms = np.ones((1, 2, 2500, 3))
    part = {"seeds": np.asarray([0]), "loss": np.arange(5000.0).reshape(1, 2, 2500), "norms": norms}
    result = records.joined([part, part])
    assert (result["stride"], np.shape(result["loss"])) == (3, (2, 2, 834))
    assert np.shape(result["largest norms"]) == (2, 2, 3)


def test_radius_spends_all_of_eps():
    eta = minimality.radius(0.3, 50.0, 0.1)
    assert 0.3 * eta + 50 * eta**2 / 2 == pytest.approx(0.1)
    assert minimality.radius(0.0, 2.0, 1.0) == pytest.approx(1.0)


@pytest.mark.slow
def test_end_point_is_minimal_in_its_certified_ball():
    network, eps = networks.mlp((6, 5)), 0.5
    images = random_images(500)
    radii, bound = (4.0, 4.0, 4.0), 28.0
    found = smoothing.certificate(network, radii, bound, eps)
    mu = smoothing.accuracies(found)
    end = network.init(jax.random.key(0))
    slope = minimality.gradient_norm(network, end, mu, images.train)
    chosen = {site.path: float(m) for site, m in zip(found.sites, mu, strict=True)}
    eta = minimality.radius(slope, float(found.smoothness), eps)
    local = minimality.local_certificate(network, end, eta, bound, chosen)
    assert local.smoothness <= found.smoothness * (1 + 1e-6)
    assert local.error <= eps * (1 + 1e-6)

    pixels = images.train.images.reshape(500, -1) / np.float32(255)

    def value(u):
        logits = jax.vmap(lambda x: network.apply(u, x, jnp.asarray(mu)))(pixels)
        return jnp.mean(jax.vmap(networks.logistic)(logits, images.train.labels))

    gradient = jax.grad(value)(end)
    length = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
    lowest = value(jax.tree.map(lambda v, g: v - eta * g / length, end, gradient))
    assert 0 < value(end) - lowest <= eps
