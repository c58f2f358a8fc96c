"""Drivers of one study choose one after another."""

import optuna
import pytest
from optuna.trial import TrialState
from test_dead_drivers import dead_driver

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.studies.driver_queue import NAMELESS_PATIENCE_S, PATIENCE_S, await_turn, repeated
from eeipu.studies.storages import open_storage

NAMES = ("x",)


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
    return await_turn(study, number, NAMES, clock=clock, pause=clock.pause)


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


def test_nobody_waits_for_the_dead(study):
    choosing(study, dead_driver())
    assert waited(study, choosing(study, driver_name()).number) == 0.0


@pytest.mark.parametrize(
    ("driver", "patience_s"), [("elsewhere:1:1.0", PATIENCE_S), (None, NAMELESS_PATIENCE_S)]
)
def test_patience_ends(study, driver, patience_s):
    choosing(study, driver)
    seconds = waited(study, choosing(study, driver_name()).number)
    assert patience_s <= seconds < patience_s + 1.0


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


def test_what_others_enqueued_may_repeat(study):
    for _ in range(2):
        study.enqueue_trial({"x": 0.5})
    choosing(study, None)
    assert [repeated(study, number) for number in range(2)] == [None, None]
