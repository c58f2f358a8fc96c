"""Drivers of one study choose one after another."""

import optuna
import pytest
from optuna.trial import TrialState
from test_dead_drivers import dead_driver

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.studies.drivers.driver_queue import (
    AGAIN,
    CHOOSER,
    NAMELESS_PATIENCE_S,
    NOBODY,
    PATIENCE_S,
    await_turn,
    begun,
    repeated,
)
from eeipu.studies.storages import open_storage

NAMES = ("x",)


def is_whole(params):
    return params.keys() >= set(NAMES)


SPACE = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}


def driver_name():
    return str(ProcessIdentity.here())


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self, at=None):
        self.now_s = 0.0
        self._at = at or {}

    def __call__(self):
        return self.now_s

    def pause(self, seconds):
        self.now_s += seconds
        for due_s in [due_s for due_s in self._at if due_s <= self.now_s]:
            self._at.pop(due_s)()


@pytest.fixture
def study(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/tune.db")
    study = optuna.create_study(storage=storage)
    study._thread_local.in_optimize_loop = True
    yield study
    storage.engine.dispose()


def choosing(study, driver):
    trial = study.ask()
    if driver is not None:
        trial.set_user_attr("driver", driver)
    return trial


def waited(study, number, clock=None):
    clock = Clock() if clock is None else clock
    return await_turn(study, number, is_whole, clock=clock, pause=clock.pause)


def test_the_first_trial_waits_for_nobody(study):
    mine, _later = choosing(study, driver_name()), choosing(study, driver_name())
    assert waited(study, mine.number) == 0.0


@pytest.mark.parametrize("driver", [driver_name(), "elsewhere:1:1.0"], ids=["here", "elsewhere"])
def test_a_trial_waits_until_those_before_it_have_chosen(study, driver):
    before, mine = choosing(study, driver), choosing(study, driver_name())
    clock = Clock({3.0: lambda: before.suggest_float("x", 0.0, 1.0)})
    assert 3.0 <= waited(study, mine.number, clock) < 4.0


def test_a_trial_that_ended_without_a_choice_is_not_waited_for(study):
    before, mine = choosing(study, driver_name()), choosing(study, driver_name())
    study.tell(before, state=TrialState.FAIL)
    assert waited(study, mine.number) == 0.0


@pytest.mark.parametrize("driver", [dead_driver, lambda: NOBODY], ids=["dead", "left"])
def test_nobody_waits_for_the_dead_and_for_what_was_left(study, driver):
    choosing(study, driver())
    assert waited(study, choosing(study, driver_name()).number) == 0.0


@pytest.mark.parametrize(
    ("driver", "patience_s"), [("elsewhere:1:1.0", PATIENCE_S), (None, NAMELESS_PATIENCE_S)]
)
def test_patience_ends(study, driver, patience_s):
    choosing(study, driver)
    seconds = waited(study, choosing(study, driver_name()).number)
    assert patience_s <= seconds < patience_s + 1.0


@pytest.mark.parametrize("name", ["driver", CHOOSER])
def test_a_trial_has_the_name_of_who_chooses_from_the_first_moment(study, name, monkeypatch):
    """However long its process takes to go on, others wait for its configuration."""
    monkeypatch.setattr(optuna.Trial, "set_user_attr", None)
    before = begun(study, {name: driver_name()})
    monkeypatch.undo()

    mine = choosing(study, driver_name())
    clock = Clock({9.0: lambda: before.suggest_float("x", 0.0, 1.0)})
    assert 9.0 <= waited(study, mine.number, clock) < 10.0


def test_an_enqueued_trial_begins_before_new_ones_and_is_named(study):
    study.enqueue_trial({"x": 0.5})
    assert [begun(study, {"driver": "d"}).number for _ in range(2)] == [0, 1]
    assert [trial.user_attrs for trial in study.trials] == [{"driver": "d"}] * 2


def test_an_enqueued_configuration_is_known_before_it_is_chosen(study):
    study.enqueue_trial({"x": 0.5})
    choosing(study, driver_name())
    assert waited(study, choosing(study, driver_name()).number) == 0.0


def test_in_memory_there_is_nobody_else():
    study = optuna.create_study()
    choosing(study, "elsewhere:1:1.0")
    assert waited(study, choosing(study, driver_name()).number) == 0.0


def test_what_two_enqueued_runs_once_and_what_was_interrupted_runs_again(study):
    for x in (0.5, 0.5, 0.25):
        study.enqueue_trial({"x": x}, user_attrs={"warm_up": True})
    assert [repeated(study, number) for number in range(3)] == [None, 0, None]

    first = study.ask()
    first.set_user_attr("interrupted", True)
    study.tell(first, state=TrialState.FAIL)
    assert repeated(study, 1) is None


def test_what_was_enqueued_again_does_not_run_if_it_was_chosen_since(study):
    for x, attrs in ((0.5, {}), (0.25, {}), (0.5, {AGAIN: 0}), (0.25, {AGAIN: 1})):
        study.enqueue_trial({"x": x}, user_attrs=attrs)
    assert [repeated(study, number) for number in range(4)] == [None] * 4

    study.add_trial(optuna.trial.create_trial(value=1.0, params={"x": 0.5}, distributions=SPACE))
    for x, cut_off in ((0.5, 0), (0.25, 1)):
        study.enqueue_trial({"x": x}, user_attrs={AGAIN: cut_off})
    assert [repeated(study, number) for number in (5, 6)] == [4, None]


def test_what_others_enqueued_may_repeat(study):
    for _ in range(2):
        study.enqueue_trial({"x": 0.5})
    choosing(study, None)
    assert [repeated(study, number) for number in range(2)] == [None, None]
