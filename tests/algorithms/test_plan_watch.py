"""A plan in which everything fails ends early, with the reason."""

import pytest

from eeipu import Int, StageCache, stage
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.study_run import StudyRun
from eeipu.executors.pool import InlinePool
from eeipu.stage_tree.nodes import RequestState
from eeipu.stage_tree.scheduler import FIFO, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import stage_path
from eeipu.stages.running.worker import Job

UP = "the inputs"


def run(function, xs=range(30), **options):
    """Grid search over `x`; returns the study, its plan and why it has stopped early."""
    one = stage(function, name="fit", space={"x": Int(0, 1000)}, version="1")
    cache = StageCache()
    plan = SearchPlan(cache=cache)
    configs = [{"fit.x": x} for x in xs]
    study = StudyRun(
        "study", FullTraining(configs, 1), lambda config, step: stage_path([one], config, UP, step)
    )
    pool = InlinePool(Job([one], (0,), cache, UP))
    return study, plan, run_studies([study], Scheduler(plan, FIFO), pool, **options)


def broken(data, *, x):
    raise OSError(f"no file {x}")


def misspelt(data, *, x):
    return undefined_name  # noqa: F821


def fussy(data, *, x):
    if x < 45:
        raise ValueError(x)
    return float(x)


def no_number(data, *, x):
    return "good"


def test_ten_failures_in_a_row_stop_a_plan():
    study, plan, reason = run(broken)
    assert len(study.errors) == 10
    assert reason.startswith("stopped: 10 calls in a row have failed")
    assert "no file 9" in reason
    assert sum(r.state is RequestState.OPEN for r in plan.requests()) == 20


def test_max_failures_sets_how_many():
    study, _, reason = run(broken, max_failures=3)
    assert len(study.errors) == 3
    assert "3 calls in a row" in reason


def test_an_error_of_programming_stops_a_plan_at_once():
    study, _, reason = run(misspelt)
    assert len(study.errors) == 1
    assert "other configurations would meet too" in reason
    assert "undefined_name" in reason


@pytest.mark.parametrize("function", [no_number, lambda data, *, x: None])
def test_what_is_no_objective_stops_a_plan(function):
    study, _, reason = run(function)
    assert len(study.errors) < 30
    assert "is no objective" in reason


def test_values_that_do_not_work_may_be_bad_luck_for_longer():
    study, _, reason = run(fussy, range(60))
    assert reason is None
    assert (len(study.errors), len(study.values)) == (45, 15)


def test_a_programming_error_is_a_failure_like_others_once_there_is_a_value():
    def mostly(data, *, x):
        return undefined_name if x % 2 else float(x)  # noqa: F821

    study, _, reason = run(mostly)
    assert reason is None
    assert len(study.errors) == 15


def test_the_reason_is_a_warning_in_the_log(caplog):
    run(broken)
    assert "10 calls in a row have failed" in caplog.text
