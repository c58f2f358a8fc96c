"""Trials underway: ready, running, or waiting for another's output."""

from types import SimpleNamespace

import pytest
from toys import Toy, config

from eeipu import StageCache, StageRun
from eeipu.studies.trial_run import TrialRun
from eeipu.studies.underway import TRIALS_PER_WORKER, TrialsUnderway


@pytest.fixture
def underway():
    return TrialsUnderway(workers=2)


def trial_run(number, cache=None, **params):
    trial = SimpleNamespace(number=number)
    calls = Toy().pipeline.calls(config(**params), "inputs")
    return TrialRun(trial, calls, cache)


def added(underway, number, cache=None, **params):
    run = trial_run(number, cache, **params)
    underway.add(run)
    underway.calls.add_ready(run)
    return run


def test_trials_nearest_to_their_end_come_first_then_the_oldest(underway):
    runs = [added(underway, number) for number in (3, 1, 2)]
    runs[2].states.runs[0] = StageRun("prep", "key", cost=1.0)
    assert [run.trial.number for run, _ in underway.calls.ready()] == [2, 1, 3]


def test_a_trial_waits_for_the_output_that_another_computes(underway):
    cache = StageCache()
    first, second = (added(underway, n, cache, y=y) for n, y in enumerate((0.25, 0.5)))
    other = added(underway, 2, cache, x=0.125)
    assert not underway.calls.must_wait(second, 0)
    task = underway.calls.start(first, 0, 0.0)
    assert underway.calls.must_wait(second, 0)
    assert not underway.calls.must_wait(other, 0)

    underway.calls.wait(second, 0)
    assert underway.calls.ready() == [(other, 0)]
    assert underway.activity() == "running prep of 0; 1 waiting for other trials' outputs"
    assert underway.calls.finish(task) is first
    assert underway.calls.take_waiting(task.call.key) == [second]
    assert underway.calls.take_waiting(task.call.key) == []


def test_without_a_cache_nobody_waits(underway):
    first, second = (added(underway, n, y=y) for n, y in enumerate((0.25, 0.5)))
    underway.calls.start(first, 0, 0.0)
    assert not underway.calls.must_wait(second, 0)


def test_a_trial_is_chosen_while_a_worker_would_be_idle(underway):
    assert underway.lacks_trials
    added(underway, 0)
    assert underway.lacks_trials
    underway.is_choosing = True
    assert not underway.lacks_trials
    assert underway.activity() == "choosing a configuration"
    underway.is_choosing = False
    underway.calls.start(added(underway, 1), 0, 0.0)
    assert not underway.lacks_trials


def test_a_worker_waits_for_a_choice_while_it_has_nothing_to_run(underway):
    assert not underway.waits_for_choice
    underway.is_choosing = True
    assert underway.waits_for_choice
    underway.calls.start(added(underway, 0), 0, 0.0)
    assert underway.waits_for_choice  # the second worker
    added(underway, 1)
    assert not underway.waits_for_choice


def test_trials_that_wait_are_limited(underway):
    cache = StageCache()
    underway.calls.start(added(underway, 0, cache), 0, 0.0)
    for number in range(1, 2 * TRIALS_PER_WORKER):
        assert underway.lacks_trials
        underway.calls.wait(added(underway, number, cache), 0)
    assert not underway.lacks_trials


def test_one_worker_needs_no_numbers_of_trials():
    underway = TrialsUnderway(workers=1)
    underway.calls.start(added(underway, 0), 0, 0.0)
    assert underway.activity() == "running prep"


def test_a_trial_that_ends_is_in_no_state(underway):
    runs = [added(underway, number) for number in range(2)]
    underway.calls.start(runs[0], 0, 0.0)
    for run in runs:
        underway.remove(run)
    assert list(underway) == underway.calls.ready() == []
