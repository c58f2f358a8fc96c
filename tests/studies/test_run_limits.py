"""When a run begins no further trial."""

from dataclasses import replace
from types import SimpleNamespace

import optuna
import pytest
from toys import FIT_COST, PREP_COST, SCORE_COST, Toy, config

from eeipu import Float, Pipeline, StageCache, StageRun, stage
from eeipu.algorithms.failure_streak import MAX_BAD_VALUES, MAX_FAILURES
from eeipu.methods.budget import Budget
from eeipu.stages.runs import PipelineRun
from eeipu.studies.run_limits import RunLimits
from eeipu.studies.trial_run import TrialRun

FAILED = PipelineRun(("a",), (StageRun("a", "key", error="what went wrong"),))
SUCCEEDED = PipelineRun(("a",), (StageRun("a", "key", cost=1.0),), value=1.0)


def limits_of(budget=100.0, max_trials=None, spent=0.0):
    study = optuna.create_study()
    pipeline = Pipeline.declare({"a": {"x": Float(0.0, 1.0)}})
    trials = SimpleNamespace(study=study, spent=spent, pipeline=pipeline)
    return RunLimits(trials, Budget(budget), max_trials)


def trial_run(pipeline, params, cache=None):
    return TrialRun(None, pipeline.calls(params, "inputs"), cache)


def measured():
    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def first(data, *, a):
        return data

    @stage(version="1")
    def second(data):
        return data

    return Pipeline([first, second])


def allowed_budget(limits, underway, now_s=0.0):
    """The smallest of some budgets that allows another trial beside these."""
    for budget in range(100):
        limits._budget = Budget(budget + 0.5)
        if limits.allow_trial(underway, now_s):
            return budget
    raise AssertionError


def test_a_run_begins_as_many_trials_as_it_may():
    limits = limits_of(max_trials=2)
    for _ in range(2):
        assert limits.allow_trial([], 0.0)
        limits.count_trial()
    assert not limits.allow_trial([], 0.0)


def test_study_stop_ends_a_run():
    limits = limits_of()
    limits._trials.study._stop_flag = True
    assert not limits.allow_trial([], 0.0)


def test_declared_costs_of_calls_to_come_are_due():
    run = trial_run(Toy().pipeline, config())
    whole = PREP_COST + FIT_COST + SCORE_COST
    assert limits_of(budget=whole + 1.1, spent=1.0).allow_trial([run], 0.0)
    assert not limits_of(budget=whole + 1.0, spent=1.0).allow_trial([run], 0.0)
    run.states.runs[0] = StageRun("prep", run.calls[0].key, cost=PREP_COST)
    assert limits_of(budget=FIT_COST + SCORE_COST + 0.1).allow_trial([run], 0.0)


def test_a_call_that_two_trials_share_is_due_once():
    pipeline, cache = Toy().pipeline, StageCache()
    pair = [trial_run(pipeline, config(y=y), cache) for y in (0.25, 0.5)]
    both = PREP_COST + 2 * (FIT_COST + SCORE_COST)
    assert limits_of(budget=both + 0.1).allow_trial(pair, 0.0)
    assert not limits_of(budget=both).allow_trial(pair, 0.0)


def test_without_a_cache_each_trial_pays():
    pair = [trial_run(Toy().pipeline, config(y=y)) for y in (0.25, 0.5)]
    both = 2 * (PREP_COST + FIT_COST + SCORE_COST)
    assert limits_of(budget=both + 0.1).allow_trial(pair, 0.0)
    assert not limits_of(budget=both).allow_trial(pair, 0.0)


def test_measured_calls_are_expected_to_take_what_their_stage_took_on_average():
    limits, run = limits_of(), trial_run(measured(), {"first.a": 0.5})
    assert allowed_budget(limits, [run]) == 0  # nothing is known yet
    for seconds in (2.0, 4.0):
        limits.learn(StageRun("first", "key", cost=seconds))
    limits.learn(StageRun("second", "key", cost=5.0))
    limits.learn(StageRun("second", "key", memoized=True))  # says nothing about its cost
    assert allowed_budget(limits, [run]) == 3 + 5


def test_a_call_that_runs_costs_at_least_what_it_has_taken():
    limits, run = limits_of(), trial_run(measured(), {"first.a": 0.5})
    limits.learn(StageRun("first", "key", cost=3.0))
    limits.learn(StageRun("second", "key", cost=5.0))
    run.begin_call(0, now_s=10.0)
    assert allowed_budget(limits, [run], now_s=12.0) == 3 + 5
    assert allowed_budget(limits, [run], now_s=17.0) == 7 + 5


def test_failures_in_a_row_stop_the_search():
    limits = limits_of()
    for result in [FAILED] * (MAX_FAILURES - 1) + [SUCCEEDED] + [FAILED] * (MAX_FAILURES - 1):
        limits.judge(result)
    assert limits.reason is None
    limits.judge(FAILED)
    assert "trials in a row have failed" in limits.reason
    assert "'a':\nwhat went wrong" in limits.reason


def test_repetitions_in_a_row_stop_the_search(monkeypatch):
    monkeypatch.setattr("eeipu.studies.run_limits.MAX_REPEATS", 3)
    limits = limits_of()
    repeated = replace(SUCCEEDED, stage_runs=(StageRun("a", "key", memoized=True),))
    for result in [repeated, repeated, SUCCEEDED, repeated, repeated]:
        limits.judge(result)
    assert limits.reason is None
    limits.judge(repeated)
    assert "configurations that had run before" in limits.reason


@pytest.mark.parametrize("reasons", [["one"], ["one", "another"]])
def test_the_first_reason_stays(reasons):
    limits = limits_of()
    for reason in reasons:
        limits.stop(reason)
    assert limits.reason == "stopped: one"


BROKEN = PipelineRun(("a",), (StageRun("a", "key", error="NameError: oops", is_bug=True),))


def test_an_error_of_programming_stops_the_search_at_once():
    limits = limits_of()
    limits.judge(BROKEN)
    assert limits.is_broken
    assert "stage 'a' has failed with an error that other configurations" in limits.reason
    assert "NameError: oops" in limits.reason


def test_after_a_success_an_error_of_programming_counts_like_any_failure():
    limits = limits_of()
    limits._trials.study.add_trial(optuna.trial.create_trial(value=1.0))
    for _ in range(MAX_FAILURES - 1):
        limits.judge(BROKEN)
    assert (limits.reason, limits.is_broken) == (None, False)
    limits.judge(BROKEN)
    assert "trials in a row have failed" in limits.reason


REFUSED = PipelineRun(("a",), (StageRun("a", "key", error="no", is_about_values=True),))


def test_values_that_do_not_work_may_come_more_often():
    limits = limits_of()
    for result in [REFUSED] * (MAX_BAD_VALUES - 1):
        limits.judge(result)
    assert limits.reason is None
    limits.judge(REFUSED)
    assert f"{MAX_BAD_VALUES} trials in a row have failed" in limits.reason


def test_among_failures_in_a_row_those_of_other_kinds_are_counted():
    limits = limits_of()
    for result in [REFUSED, FAILED] * (MAX_FAILURES - 1) + [REFUSED]:
        limits.judge(result)
    assert limits.reason is None
    limits.judge(FAILED)
    assert "trials in a row have failed" in limits.reason


@pytest.mark.parametrize("result", [FAILED, REFUSED])
def test_the_user_may_set_how_many_failures_end_the_search(result):
    limits = RunLimits(limits_of()._trials, Budget(1e3), None, max_failures=3)
    for _ in range(2):
        limits.judge(result)
    assert limits.reason is None
    limits.judge(result)
    assert "3 trials in a row have failed" in limits.reason
