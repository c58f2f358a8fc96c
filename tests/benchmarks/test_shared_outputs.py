"""Stage outputs that runs of one comparison share."""

from collections import Counter

import pytest
from benchmark_toys import CALLS, TOY, options
from toys import Toy, config

from eeipu import Float, Pipeline, StageCache, stage
from eeipu.benchmarks.problem import Problem
from eeipu.benchmarks.registry import REGISTRY
from eeipu.benchmarks.runs import machine
from eeipu.benchmarks.runs import single_run as runs
from eeipu.benchmarks.runs.results import read
from eeipu.benchmarks.runs.shared_outputs import sharing
from eeipu.benchmarks.runs.single_run import run, run_to_file

COLUMNS = ("state", "warm_up", "value", "spent", "charged", "stage_costs", "memoized", "params")


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(REGISTRY, "toy", TOY["toy"])
    CALLS.clear()


def rows(result):
    return [[trial[column] for column in COLUMNS] for trial in result.trials]


def test_runs_that_share_outputs_report_what_they_report_alone(tmp_path):
    for contender in ("random", "random+cache", "random-grid+cache"):
        asked = options(contender)
        assert rows(read(run_to_file(asked, tmp_path))) == rows(run(asked))


def test_what_one_run_has_computed_no_other_computes(tmp_path):
    run_to_file(options("random"), tmp_path)
    first = Counter(CALLS)
    run_to_file(options("random+cache"), tmp_path)
    assert (CALLS["prep"], CALLS["fit"]) == (first["prep"], first["fit"])


def test_measured_stages_are_all_run(tmp_path):
    first = read(run_to_file(options("random", cost="measured"), tmp_path))
    assert CALLS["prep"] == 3 + first.candidates  # the warm-up's cost is found beforehand


def test_what_other_code_has_computed_is_computed_anew(tmp_path, monkeypatch):
    run_to_file(options("random"), tmp_path)
    first = CALLS["prep"]
    monkeypatch.setattr(runs, "code_of_stages", lambda: "other code")
    run_to_file(options("random+cache"), tmp_path)
    assert CALLS["prep"] == 2 * first


def test_a_cost_sees_what_its_stage_gets():
    @stage(space={"x": Float(0.0, 1.0)}, cost=lambda *, x: 1.0)
    def prep(data, *, x):
        return data + x

    @stage(space={"y": Float(0.0, 1.0)}, cost=lambda made, *, y: 10.0 * made + y)
    def score(made, *, y):
        return made * y

    pipeline = Pipeline([prep, score])
    shared = sharing(Problem("two", pipeline, (2.0,), "maximize"), StageCache())
    for cache in (None, StageCache()):
        each = shared.pipeline.run({"prep.x": 0.5, "score.y": 0.25}, 2.0, cache=cache)
        assert (each.value, each.stage_costs) == (0.625, [1.0, 25.25])


def test_a_stage_that_fails_is_the_one_that_failed():
    def fail(name, params):
        if name == "fit":
            raise ValueError("fit failed on purpose")

    made = Toy(fail).pipeline
    shared = sharing(Problem("toy", made, (0.0,), "maximize"), StageCache())
    each = shared.pipeline.run(config(), 0.0)
    assert [r.error is None for r in each.stage_runs] == [True, False]
    assert "fit failed on purpose" in each.error
    assert each.stage_costs == made.run(config(), 0.0).stage_costs


def test_code_of_stages_is_told_by_sources_data_and_versions(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    (tmp_path / "stacking").mkdir()
    seen = [machine.code_of_stages()]
    for text in ("one", "two"):
        (tmp_path / "stacking" / "models.py").write_text(text)
        seen.append(machine.code_of_stages())
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "0"})
    seen.append(machine.code_of_stages())
    assert len(set(seen)) == 4
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "models.pyc").touch()
    assert machine.code_of_stages() == seen[-1]


def test_changed_code_shares_nothing_with_what_it_was():
    outputs = StageCache()
    for version, value in (("1", 1.0), ("2", 2.0)):
        made = stage(space={}, cost=lambda: 1.0, version=version)(lambda value=value: value)
        shared = sharing(Problem("one", Pipeline([made]), (), "maximize"), outputs)
        assert shared.pipeline.run({}).value == value
