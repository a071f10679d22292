"""The comparison with other tools: a few cases under jaxsmooth, and the page's tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import pages
from benchmarks.peers import run_jaxsmooth, sampling, tables, verdicts
from benchmarks.peers.__main__ import peer_option
from benchmarks.peers.jax_functions import FUNCTIONS
from benchmarks.peers.table import CASES, chosen

RECORDED = json.loads(tables.RESULTS.read_text())
FEW = ("dropout with a known key", "Huber loss by where", "top_k", "cond, known predicate")


def test_every_case_has_its_function():
    assert [case.name for case in CASES] == list(dict.fromkeys(case.name for case in CASES))
    assert set(FUNCTIONS) == {case.name for case in CASES}


@pytest.mark.parametrize("name", FEW)
def test_ranges_hold_what_random_points_find(name):
    (case,) = chosen([name])
    f = FUNCTIONS[name]
    values = sampling.values_at_points(f, case)
    bounds = run_jaxsmooth.analysed(f, case)
    assert verdicts.judged(bounds, values.min(axis=0), values.max(axis=0))["outcome"] == "handled"


def test_the_search_finds_the_range_of_a_sum():
    (case,) = chosen(["segment_sum, known segments"])
    low, high = sampling.found_range(FUNCTIONS[case.name], case)
    np.testing.assert_allclose(high, [2.0, 1.0, 3.0])
    np.testing.assert_allclose(low, -high)


def test_bounds_that_leave_out_a_value_are_wrong():
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 2.0])

    def outcome(lo, hi):
        return verdicts.judged({"lo": lo, "hi": hi}, low, high)["outcome"]

    assert outcome([-1.0, 0.0], [1.0, 2.0]) == "handled"
    assert outcome([-1.0, 0.1], [1.0, 2.0]) == "wrong"
    assert outcome([-1.0, 0.1], [np.inf, 2.0]) == "wrong"
    assert outcome([-1.0, 0.0], [np.inf, np.nan]) == "infinite"
    assert outcome([-1.0], [1.0]) == "wrong"


def test_another_function_is_no_comparison():
    answer = {"case": "abs", "values": {"at": [[1.0]]}, "methods": {}}
    result = verdicts.of_tool(answer, np.zeros(1), np.ones(1), np.zeros((1, 1)))
    assert result["outcome"] == "another function"


def test_options_name_a_peer_and_its_python():
    assert peer_option("immrax=python3") == ("immrax", "python3")
    with pytest.raises(Exception, match="no PEER=PYTHON"):
        peer_option("python3")


def test_recorded_cases_are_the_table():
    assert list(RECORDED["cases"]) == [case.name for case in CASES]


def test_jaxsmooth_is_contradicted_nowhere():
    results = RECORDED["tools"]["jaxsmooth"]["results"]
    assert set(results) == set(RECORDED["cases"])
    assert not [name for name, result in results.items() if result["outcome"] == "wrong"]


def test_every_tool_had_the_same_functions():
    for tool, record in RECORDED["tools"].items():
        for name, result in record["results"].items():
            assert result["outcome"] != "another function", (tool, name)


def test_the_page_shows_what_is_recorded():
    page = tables.PAGE.read_text(encoding="utf-8")
    assert pages.filled(page, tables.blocks(RECORDED)) == page
