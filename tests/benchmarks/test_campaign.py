"""Comparisons of several contenders, several runs at a time."""

import json

import numpy as np
import pytest
from benchmark_toys import CALLS, TOY, options

from eeipu.benchmarks.registry import REGISTRY, Entry
from eeipu.benchmarks.runs import single_run as runs
from eeipu.benchmarks.runs.campaign import comparison, run_all
from eeipu.benchmarks.runs.options import Options
from eeipu.benchmarks.runs.results import read_all
from eeipu.benchmarks.runs.single_run import run_to_file
from eeipu.errors import ConfigurationError, PipelineError


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", TOY["toy"])
    CALLS.clear()


def test_a_comparison_is_seed_by_seed_with_each_contender_once():
    names = ["ei", "eeipu+top-q=1+cache", "eeipu+cache+top-q=1"]
    found = comparison(["toy"], names, range(2), preset="smoke", n_initial=3)
    assert [(each.contender, each.seed) for each in found] == [
        ("ei", 0),
        ("eeipu+cache+top-q=1", 0),
        ("ei", 1),
        ("eeipu+cache+top-q=1", 1),
    ]
    assert {each.setting for each in found} == {
        Options("toy", "smoke", "measured", "ei", 0, n_initial=3).setting
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"problems": ["rastrigin"]}, "'rastrigin' is no problem"),
        ({"methods": ["anneal"]}, "no method 'anneal'"),
        ({"seeds": [0, -1]}, "a seed must be 0 to 4294967295, but one is -1"),
        ({"n_initial": 1}, "n_initial must be 2 or more, but got 1"),
        ({"budget": 0.0}, "budget must be positive and finite, but got 0.0"),
        ({"budget": 1.0, "budget_factor": 2.0}, "exclude each other"),
    ],
)
def test_what_cannot_be_compared_is_told(changed, message):
    with pytest.raises(ConfigurationError, match=message):
        comparison(**{"problems": ["toy"], "methods": ["ei"], "seeds": [0]} | changed)


def test_a_comparison_is_plain_data_whatever_its_numbers_are(tmp_path):
    (seeded,) = comparison(["toy"], ["ei"], np.array([3, 3]), data=tmp_path)
    assert seeded.path(tmp_path).name.startswith("ei-seed3-")
    assert seeded.data == str(tmp_path)


@pytest.mark.parametrize("count", ["jobs", "threads"])
def test_a_campaign_of_no_processes_is_told(tmp_path, count):
    with pytest.raises(ConfigurationError, match=f"{count} must be 1 or more, but got 0"):
        run_all([options()], tmp_path, **{count: 0})


def test_a_campaign_makes_what_is_missing(tmp_path):
    done = []
    wanted = [options(text, seed) for text in ("random", "random+cache") for seed in (0, 1)]
    run_to_file(wanted[0], tmp_path)

    run_all(wanted, tmp_path, on_done=done.append)

    assert set(done) == {each.path(tmp_path) for each in wanted}
    assert len(read_all(tmp_path)) == 4
    assert not list(tmp_path.rglob("warm-up*"))  # the problem has a budget


def test_contenders_share_a_budget_that_is_measured(tmp_path):
    wanted = [options(text, cost="measured", budget_factor=2.0) for text in ("random", "tpe")]

    run_all(wanted, tmp_path)

    budgets = {each.problem["budget"] for each in read_all(tmp_path)}
    (warm_up,) = tmp_path.rglob("warm-up-0-*.json")
    assert budgets == {2.0 * json.loads(warm_up.read_text())["spent"]}


def test_a_campaign_looks_at_all_contenders_first(tmp_path):
    with pytest.raises(ConfigurationError, match="no method 'anneal'"):
        run_all([options(), options("anneal")], tmp_path)
    assert not CALLS


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    broken = Entry("toys", "benchmark_toys:broken", "", ("measured", "declared"))
    monkeypatch.setitem(REGISTRY, "broken", broken)
    with pytest.raises(PipelineError, match=r"(?s)1 of 2 runs failed.*broken on purpose"):
        run_all([options(problem="broken"), options()], tmp_path)
    assert len(read_all(tmp_path)) == 1


def test_a_run_that_breaks_shows_where(tmp_path, monkeypatch):
    def fall(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(runs, "load", fall)
    with pytest.raises(PipelineError, match=r"(?s)1 of 1 runs failed.*in fall.*a bug"):
        run_all([options()], tmp_path)


@pytest.mark.slow
def test_runs_in_other_processes_give_the_same(tmp_path):
    wanted = [options("random", seed, "cheap-early") for seed in (0, 1)]
    run_all(wanted, tmp_path / "two", jobs=2)
    run_all(wanted, tmp_path / "one")
    one, two = (
        [[trial["value"] for trial in each.trials] for each in read_all(tmp_path / name)]
        for name in ("one", "two")
    )
    assert one == two
