"""One trial on its way through its stage calls."""

import optuna
import pytest

from eeipu import Float, Pipeline, StageCache, StageRun, stage
from eeipu.executors.pool import Ended
from eeipu.stages.running.tasks import Load, TaskResult
from eeipu.stages.running.trial_notes import TrialNotes
from eeipu.studies.trial_run import MAX_LOST_OUTPUTS, TrialRun


@stage(space={"a": Float(0.0, 1.0)}, version="1", retries=1)
def prep(data, *, a):
    return data + a


@stage(version="1")
def score(total):
    return total


PIPELINE = Pipeline([prep, score])


def clock():
    return 0.0


@pytest.fixture
def run():
    return TrialRun(None, PIPELINE.calls({"prep.a": 0.5}, "up"), StageCache())


def ended(run, *, output=None, cost=1.0, is_kept=False, **event):
    """Let the next call run and end."""
    (place,) = run.states.ready
    task = run.begin_call(place, 0.0)
    if not event:
        name, key = task.call.stage.name, task.call.key
        done = StageRun(name, key, cost=cost, charged=cost, output=output)
        event = {"result": TaskResult(done, is_kept=is_kept)}
    run.end_call(Ended(task, **event), clock)
    return task


def died(run, elapsed_s=2.0):
    return ended(run, error=RuntimeError("killed"), is_death=True, elapsed_s=elapsed_s)


def test_the_first_call_finds_the_inputs_and_the_next_one_gets_its_output(run):
    first = ended(run, output=1.5)
    assert (first.args, first.upstream, first.is_last) == (None, "up", False)
    second = run.begin_call(1, 3.0)
    assert (second.args, second.upstream, second.is_last) == ((1.5,), first.call.key, True)
    assert (run.states.began_s, run.states.ready) == ({1: 3.0}, [])


def test_an_output_that_the_cache_keeps_does_not_travel(run):
    ended(run, output=None, is_kept=True)
    assert run.begin_call(1, 0.0).args is None


def test_no_result_keeps_an_output_alive_but_the_last(run):
    ended(run, output=1.5)
    ended(run, output=2.5)
    assert [each.output for each in run.states.stage_runs] == [None, 2.5]
    assert run.states.have_ended
    assert run.states.began_s == {}


def test_a_worker_that_died_is_charged_to_the_call_that_ends(run):
    died(run)
    assert run.states.runs == {}
    assert run.account.lost_cost == 2.0
    ended(run, output=1.5)
    assert (run.states.runs[0].charged, run.states.runs[0].cost) == (3.0, 1.0)
    assert (run.account.lost_cost, run.worker_deaths[0]) == (0.0, 0)


def test_more_deaths_than_retries_are_a_failure(run):
    died(run)
    died(run, elapsed_s=3.0)
    (failed,) = run.states.stage_runs
    assert run.states.have_ended
    assert failed.charged == 5.0
    assert "'prep' ended its worker 2 times in a row, the last time after 3 s" in failed.error


def test_an_error_in_place_of_a_result_is_a_failure_at_once(run):
    ended(run, error=TypeError("cannot travel"))
    assert "TypeError: cannot travel" in run.states.runs[0].error


def test_an_output_that_is_gone_is_made_again_but_not_for_ever(run):
    for _ in range(MAX_LOST_OUTPUTS):
        ended(run, is_kept=True)
        ended(run, result=TaskResult(None))
        assert (run.states.runs, run.states.ready) == ({}, [0])
    ended(run, is_kept=True)
    ended(run, result=TaskResult(None))
    assert run.states.have_ended
    assert (
        f"had disappeared from {run.cache!r} {MAX_LOST_OUTPUTS + 1} times"
        in run.states.runs[1].error
    )
    assert [each.charged for each in run.states.stage_runs] == [MAX_LOST_OUTPUTS + 1.0, 0.0]


def test_outputs_in_the_cache_are_reused_from_the_deepest_on(run):
    run.cache.put(run.calls[0].key, 1.5, cost=4.0)
    run.reuse_outputs(clock)
    assert [(each.memoized, each.saved, each.output) for each in run.states.stage_runs] == [
        (True, 4.0, None)
    ]
    assert run.states.ready == [1]
    assert run._arguments(1) is None

    run.cache.put(run.calls[1].key, 2.5, cost=1.0)
    run.reuse_outputs(clock)
    assert [(each.memoized, each.output) for each in run.states.stage_runs] == [
        (True, None),
        (True, 2.5),
    ]
    assert run.states.have_ended


def test_outputs_are_held_until_they_are_released(run):
    keys = {call.key for call in run.calls}
    run.hold_outputs()
    assert run.cache.holders.used() == keys
    run.release_outputs()
    assert run.cache.holders.used() == set()


def test_costs_are_written_also_those_of_calls_that_returned_nothing(run):
    study = optuna.create_study()
    run.account.trial = study.ask()
    ended(run, output=1.5)
    died(run)
    notes = TrialNotes(run.account.trial)
    run.account.note_progress(notes, run.so_far(PIPELINE))
    notes.write()
    attrs = study.trials[0].user_attrs
    assert attrs == {
        "stage_costs": [1.0, None],
        "memoized": [False, False],
        "charged": 3.0,
    }


def test_loading_keeping_and_choosing_are_charged_and_told_apart_and_are_no_stage_cost(run):
    study = optuna.create_study()
    run.account.trial, run.account.overhead = study.ask(), 8.0
    ended(run, is_kept=True)
    task = run.begin_call(1, 0.0)
    done = StageRun("score", task.call.key, cost=2.0, charged=2.0, output=1.0)
    run.end_call(
        Ended(task, TaskResult(done, loads=(Load(run.calls[0].key, 0.25),), keep_s=0.5)), clock
    )
    run.account.write_result(run.calls, run.so_far(PIPELINE), epoch_s=0.0)

    attrs = study.trials[0].user_attrs
    assert (attrs["charged"], attrs["load_s"], attrs["keep_s"]) == (11.75, 0.25, 0.5)
    assert attrs["stage_costs"] == [1.0, 2.0]
