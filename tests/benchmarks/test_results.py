"""Result files of runs, and what a result says of its run."""

import json
import math
from dataclasses import replace

import pytest
from benchmark_toys import CALLS, TOY, options, result

from eeipu.benchmarks.registry import REGISTRY
from eeipu.benchmarks.runs.results import read, read_all, write
from eeipu.benchmarks.runs.single_run import run, run_to_file
from eeipu.errors import ConfigurationError


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", TOY["toy"])
    CALLS.clear()


def test_a_result_is_the_same_after_writing_and_reading(tmp_path):
    each = run(options("random-grid+cache"))
    write(tmp_path / "a" / "r.json", each)
    assert read(tmp_path / "a" / "r.json") == each
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["r.json"]


def test_a_file_has_a_line_for_each_trial(tmp_path):
    write(tmp_path / "r.json", result([1.0, None, 3.0]))
    lines = (tmp_path / "r.json").read_text().splitlines()
    trials = [json.loads(line.rstrip(",")) for line in lines if line.startswith('  {"number"')]
    assert [trial["value"] for trial in trials] == [1.0, None, 3.0]
    assert json.loads("\n".join(lines))["options"]["contender"] == "ei"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "options": {}}'])
def test_a_file_that_is_no_result_is_told(tmp_path, text):
    path = tmp_path / "x-seed0-0.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"x-seed0-0\.json' is no result"):
        read_all(tmp_path)


def test_no_results_are_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no results in"):
        read_all(tmp_path)


def test_a_file_that_does_not_name_its_code_is_read(tmp_path):
    path = run_to_file(options(), tmp_path)
    content = json.loads(path.read_text())
    del content["code"]
    path.write_text(json.dumps(content))
    assert read(path).code == ""


def test_improvement_is_over_the_best_warm_up_trial():
    assert result([1.0, 2.0, 1.5, 4.0], start=2.0).improvements == (-1.0, 0.0, 0.0, 2.0)


def test_smaller_is_better_where_the_problem_is_minimised():
    each = result([3.0, 2.0, 1.5], start=2.0, direction="minimize", optimum=1.0)
    assert each.improvements == (-1.0, 0.0, 0.5)
    assert each.shares == (-1.0, 0.0, 0.5)


def test_failed_trials_are_no_candidates():
    each = result([None, 1.0, None, 2.0], start=1.0)
    assert each.candidates == 2
    assert math.isnan(each.improvements[0])
    assert each.improvements[1:] == (0.0, 0.0, 1.0)


def test_the_best_counts_without_its_luck():
    each = result([1.0, 5.0, 3.0], start=1.0)
    for trial, truth in zip(each.trials, (1.0, 2.0, 3.0), strict=True):
        trial["metrics"] = {"noise_free": truth}
    # The second looks best to whoever tunes.
    assert each.improvement == 1.0


def test_a_warm_up_at_the_optimum_leaves_nothing_to_gain():
    assert result([2.0, 2.0], start=2.0, optimum=2.0).shares == (1.0, 1.0)


def test_with_suggestions_charged_a_run_ends_where_its_budget_would_have():
    # Trials end at 2, 4, 6, 8 of 10; with half a unit for each suggestion at 2.5, 5, 7.5, 10.
    run = result([0.0, 1.0, 2.0, 3.0, 4.0])

    charged = run.with_suggestions_charged

    assert [trial["spent"] for trial in charged.trials] == [2.5, 5.0, 7.5, 10.0]
    assert [trial["charged"] for trial in charged.trials] == [2.5] * 4
    assert (charged.improvement, run.improvement) == (3.0, 4.0)
    # The trial that exceeds the budget counts.
    assert replace(run, problem={**run.problem, "budget": 9.9}).with_suggestions_charged == replace(
        charged, problem={**run.problem, "budget": 9.9}
    )
    assert result([0.0, 1.0]).with_suggestions_charged.candidates == 2


def test_the_improvement_at_any_time_is_a_mean_over_the_budget():
    # Trials end at 2, 4, 6 and 8 of 10: nothing until 6, 1 until 8, and 3 until 10.
    assert result([-1.0, 0.0, 1.0, 3.0], budget=10.0).anytime == pytest.approx(0.8)
    # The last ends at 8 of 7: what it brings is left out.
    assert result([-1.0, 0.0, 1.0, 3.0], budget=7.0).anytime == pytest.approx(1.0 / 7.0)
    # Before the first success there is none, nor before the start is reached.
    assert result([None, 1.0, 2.0], start=1.5, budget=10.0).anytime == pytest.approx(0.2)
    assert result([0.0, 1.0], start=1.5).anytime == 0.0
    assert math.isnan(result([None, None]).anytime)


def test_what_noise_makes_worse_counts_at_any_time():
    run = result([0.0, 0.0, 2.0], budget=10.0)
    run.trials[2]["metrics"] = {"noise_free": -1.0}  # it looks best, and is the worst
    assert run.anytime == pytest.approx(-0.4)


def test_anytime_with_suggestions_charged():
    # Trials end at 2.5, 5, 7.5 and 10 of 10, the fifth too late.
    run = result([0.0, 0.0, 1.0, 2.0, 9.0], budget=10.0)
    assert run.with_suggestions_charged.anytime == pytest.approx(0.25)


def test_results_of_the_same_options_in_two_files_are_an_error(tmp_path):
    each = result([0.0, 1.0])
    first, again = (each.options.path(tmp_path / name) for name in ("once", "twice"))
    write(first, each)
    write(again, each)
    with pytest.raises(ConfigurationError, match="move one of them out of") as told:
        read_all(tmp_path)
    assert repr(str(first)) in str(told.value)
    assert repr(str(again)) in str(told.value)
    assert len(read_all(tmp_path / "once")) == 1


def test_results_of_some_problems_are_left_out_unread(tmp_path):
    write(tmp_path / "moved-seed0-0.json", result([0.0, 1.0], problem="noisy"))
    for each in (result([0.0, 1.0]), result([0.0, 1.0], problem="noisy", seed=1)):
        write(each.options.path(tmp_path), each)
    unreadable = tmp_path / "noisy" / "smoke-declared" / "ei-seed2-0.json"
    unreadable.touch()

    (only,) = read_all(tmp_path, leave_out=["noisy"])

    assert only.options.problem == "toy"
    unreadable.unlink()
    assert len(read_all(tmp_path)) == 3
