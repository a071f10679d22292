"""Certificates and analyses as records: pytrees, text, HTML, plots, JSON."""

from __future__ import annotations

import builtins
import dataclasses
import json
from html.parser import HTMLParser
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsmooth.certificate import Analysis, Certificate, Site
from jaxsmooth.errors import ArgumentError


def make_site(index: int = 0, **changes: Any) -> Site:
    facts = {
        "path": f"jit(relu)[{index}]/max",
        "primitive": "max",
        "source": "network.py:12 (layer)",
        "shape": (2, 3),
        "range": (-1.5, float("inf")),
        "active": np.int64(4),
        "weight": np.float64(2.5),
        "mu": np.array([[0.1, 0.2, 0.3], [0.1, 1 / 3, 0.0]]),
        "error": 0.5,
        "share": 0.25,
        "kernel": "minimax",
    }
    return Site(**{**facts, **changes})


def make(**changes: Any) -> Certificate:
    facts = {
        "eps": 0.1,
        "error": 1 / 3 * 0.3,
        "bound": np.inf,
        "lipschitz": np.float64(3.25),
        "smoothness": 1.5e12,
        "lipschitz_per_argument": {0: 1.0, 2: 3.0},
        "smoothness_per_argument": {0: np.nan, 2: 1e12},
        "lipschitz_blocks": np.array([1.0, 3.0]),
        "smoothness_blocks": np.array([[np.nan, 1.0], [np.inf, -0.0]]),
        "range": ((-1.0, 2.0),),
        "sites": (make_site(0), make_site(1, mu=np.full((2, 3), 0.1), kernel="simplex")),
        "kernel": "minimax",
        "allocation": "optimal",
        "norm": "l2",
        "assumptions": ("args[0]: Ball(radius=1.0, center=0)", "exact arithmetic <not float32>"),
        "leaves": ("args[0]", "args[2]"),
        "function": "<lambda>",
        "versions": {"jaxsmooth": "0.1.0", "jax": "0.10.2"},
    }
    return Certificate(**{**facts, **changes})


def assert_same(a: Any, b: Any) -> None:
    """Equal to the last bit, NaN and signs of zero included, and equal in their text."""
    leaves_a, structure_a = jax.tree.flatten(a)
    leaves_b, structure_b = jax.tree.flatten(b)
    assert structure_a == structure_b
    for x, y in zip(leaves_a, leaves_b, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def test_json_restores_every_bit() -> None:
    certificate = make()
    text = certificate.to_json()
    json.loads(text, parse_constant=pytest.fail)  # strict: no Infinity, no NaN
    again = Certificate.from_json(text)
    assert_same(again, certificate)
    assert again.sites[0].size == 6
    assert again.to_json() == text
    assert dict(again.versions)["jax"] == "0.10.2"


def test_json_keeps_dtypes_and_stores_constant_arrays_once() -> None:
    mu = np.full((100, 100), 0.1, np.float32)
    certificate = make(sites=(make_site(mu=mu, shape=(100, 100)),))
    text = certificate.to_json()
    assert len(text) < 4000
    assert_same(Certificate.from_json(text).sites[0].mu, mu)
    signs = make(lipschitz_blocks=np.array([0.0, -0.0]))
    assert_same(Certificate.from_json(signs.to_json()), signs)
    empty = make(lipschitz_blocks=np.zeros((0,)), smoothness_blocks=np.zeros((0, 3)))
    assert_same(Certificate.from_json(empty.to_json()), empty)
    of_jax = make(lipschitz_blocks=jnp.array([0.1, jnp.inf]))
    assert_same(Certificate.from_json(of_jax.to_json()).lipschitz_blocks, of_jax.lipschitz_blocks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is no Certificate: not JSON"),
        ("[1]", "it has no schema; expected jaxsmooth.certificate/1"),
        ('{"schema": "jaxsmooth.certificate/9"}', "another schema than jaxsmooth.certificate/1"),
        ('{"schema": "jaxsmooth.certificate/1", "colour": 1}', r"unexpected \['colour'\], missing"),
    ],
)
def test_text_that_is_no_certificate(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Certificate.from_json(text)


def test_unknown_tags_are_refused() -> None:
    text = make().to_json().replace('"float"', '"quaternion"')
    with pytest.raises(ArgumentError, match="unknown tag 'quaternion'"):
        Certificate.from_json(text)


def test_a_jitted_function_returns_a_certificate() -> None:
    def scaled(eps: Any) -> Certificate:
        certificate = make(eps=eps, smoothness=2 / eps, sites=(make_site(mu=eps),))
        assert "traced" in certificate.table()
        assert "traced" in certificate._repr_html_()
        for written in (certificate.to_json, certificate.plot):
            with pytest.raises(ArgumentError, match="traced"):
                written()
        return certificate

    certificate = jax.jit(scaled)(0.5)
    assert float(certificate.smoothness) == 4.0
    assert float(certificate.sites[0].mu) == 0.5
    assert certificate.kernel == "minimax"
    assert certificate.lipschitz_per_argument.keys() == {0, 2}
    slope = jax.grad(lambda eps: scaled(eps).smoothness)(0.5)
    assert float(slope) == -8.0
    assert "≤ 0.1 proved, eps = 0.5" in certificate.table()
    batch = jax.vmap(scaled)(jnp.array([0.5, 1.0]))
    assert batch.smoothness.shape == (2,)


def test_the_analysis_is_a_pytree_too() -> None:
    analysis = Analysis(
        range={"y": (np.zeros(2), np.ones(2))},
        bound=1.0,
        lipschitz=2.0,
        smoothness=np.inf,
        sites=(make_site(mu=None, error=None, share=None, kernel=None),),
        function="network",
    )
    again = jax.tree.map(lambda x: x, analysis)
    assert_same(again, analysis)
    table = analysis.table()
    assert str(analysis) == table
    assert "smoothness L  ∞" in table
    assert "[-1.5, ∞]" in table
    assert "mu" not in table


def test_table_shows_what_a_reader_needs() -> None:
    certificate = make()
    table = certificate.table()
    assert str(certificate) == table
    assert "Certificate of <lambda> (jax 0.10.2, jaxsmooth 0.1.0)" in table
    assert "‖f_eps − f‖₂ ≤ 0.1 proved, eps = 0.1 asked for" in table
    assert "bound m       ∞" in table
    assert "3.25 jointly (args[0]: 1, args[2]: 3)" in table
    assert "kernel minimax, allocation optimal, norm l2" in table
    row = next(line for line in table.splitlines() if line.startswith("jit(relu)[0]/max"))
    assert row.split() == ["jit(relu)[0]/max", "max", "network.py:12", "(layer)", "2×3", "4/6",
                           "≤0.333", "0.5", "2.5", "25.0%"]  # fmt: skip
    assert "- exact arithmetic <not float32>" in table


def test_table_fits_100_columns_with_names_of_any_length() -> None:
    site = make_site(
        path="jit(network)/" * 9 + "max",
        primitive="reduce_window_max",
        source="/a/very/long/path/of/a/user/network.py:1234 (call)",
        shape=(128, 112, 112, 64),
        active=128 * 112 * 112 * 64,
        mu=1.234e-10,
        error=1.234e-10,
        weight=1.234e100,
    )
    per_argument = dict.fromkeys(range(20), 1.234e100)
    certificate = make(
        sites=(site, make_site()),
        assumptions=("words " * 60,),
        function="f" * 300,
        lipschitz_per_argument=per_argument,
    )
    lines = certificate.table().splitlines()
    assert max(map(len, lines)) <= 100
    assert any("…k.py:1234  " in line for line in lines)
    assert any("…" in line and "/max" in line for line in lines)


def test_table_without_sites() -> None:
    assert "no sites: nothing to smooth" in make(sites=()).table()


class Tags(HTMLParser):
    """Checks that tags nest, and collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[int] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert not {name for name, _ in attrs} & {"src", "href"}
        self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_well_formed_escaped_and_self_contained() -> None:
    html = make()._repr_html_()
    parsed = Tags()
    parsed.feed(html)
    parsed.close()
    assert not parsed.open
    assert parsed.rows[-3:] == [11, 11, 11]
    assert "<lambda>" in parsed.text
    assert "exact arithmetic <not float32>" in parsed.text
    assert "http" not in html
    assert "<script" not in html


@pytest.mark.parametrize("count", [0, 1, 2, 11, 60])
def test_plot_shows_accuracies_shares_and_kernels(count: int) -> None:
    kernels = ["minimax", "simplex", "logsumexp", "softplus", "unheard of", None]
    mus = [np.array([[0.0, 1e-6], [1e-3, 1e-3]]), 1e-30, 0.0, None]
    sites = tuple(
        make_site(i, mu=mus[i % 4], kernel=kernels[i % 6], share=i / 60) for i in range(count)
    )
    figure = make(sites=sites).plot()
    assert len(figure.axes) == (0 if count == 0 else 2 + min(count, 8))
    figure.canvas.draw()


def test_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install jaxsmooth\[report\]"):
        make().plot()


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().eps = 1.0  # type: ignore[misc]
