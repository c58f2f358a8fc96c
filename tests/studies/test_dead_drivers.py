"""Taking over the trials that a dead driver left."""

import os
import subprocess
import sys
from dataclasses import replace

import optuna
import pytest
from toys import declared

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.methods.trials.ledger import is_interrupted
from eeipu.space import suggest
from eeipu.studies.drivers.dead_drivers import reclaim_dead_trials
from eeipu.studies.drivers.driver_queue import NOBODY


def study_in(storage):
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(storage=storage, direction="maximize", sampler=sampler)


def name_of(pid):
    return str(ProcessIdentity.of(pid))


def driver_name():
    return name_of(os.getpid())


def dead_driver():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = name_of(process.pid)
    process.communicate(b"\n", timeout=60)
    return name


def begun(study, driver, **attrs):
    trial = study.ask()
    suggest(trial, declared().space)
    trial.set_user_attr("driver", driver)
    for name, value in attrs.items():
        trial.set_user_attr(name, value)
    return trial


def states(study):
    return [trial.state.name for trial in study.trials]


@pytest.mark.parametrize(
    "driver",
    [dead_driver, lambda: str(replace(ProcessIdentity.of(os.getppid()), created_s=1.0))],
    ids=["ended", "number given to another process"],
)
def test_what_a_dead_driver_ran_is_closed_and_enqueued_again(driver):
    study = study_in(None)
    trial = begun(study, driver(), charged=4.0)
    reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "WAITING"]
    assert study.trials[0].user_attrs["charged"] == 4.0
    assert study.ask().number == 1
    assert suggest(optuna.Trial(study, study.trials[1]._trial_id), declared().space) == trial.params


@pytest.mark.parametrize(
    "driver",
    [lambda: name_of(os.getppid()), driver_name, lambda: "elsewhere:1:1.0"],
    ids=["alive", "in another thread of this process", "on another host"],
)
def test_what_others_run_is_left_alone(driver):
    study = study_in(None)
    begun(study, driver())
    reclaim_dead_trials(study, declared())

    assert states(study) == ["RUNNING"]


def test_what_was_asked_for_is_left_alone():
    study = study_in(None)
    suggest(study.ask(), declared().space)
    reclaim_dead_trials(study, declared())

    assert states(study) == ["RUNNING"]


def test_a_warm_up_trial_is_warm_up_again():
    study = study_in(None)
    begun(study, dead_driver(), warm_up=True)
    begun(study, dead_driver())
    reclaim_dead_trials(study, declared())

    assert [trial.user_attrs.get("warm_up") for trial in study.trials[2:]] == [True, None]


def test_a_driver_that_died_before_it_had_a_configuration_leaves_nothing_to_repeat():
    study = study_in(None)
    study.ask().set_user_attr("driver", dead_driver())
    half = study.ask()
    half.suggest_float("prep.x", 0.0, 1.0)
    half.set_user_attr("driver", dead_driver())
    reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "FAIL"]


def test_a_driver_that_died_with_an_enqueued_configuration_leaves_all_of_it():
    study = study_in(None)
    study.enqueue_trial({"prep.x": 0.125, "fit.y": 0.25})
    study.ask().set_user_attr("driver", dead_driver())
    reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "WAITING"]
    assert suggest(study.ask(), declared().space) == {"prep.x": 0.125, "fit.y": 0.25}


def test_what_kills_its_process_three_times_has_failed():
    study = study_in(None)
    study.enqueue_trial({"prep.x": 0.125, "fit.y": 0.25})
    for _ in range(3):
        trial = study.ask()
        trial.set_user_attr("driver", dead_driver())
        suggest(trial, declared().space)
        reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "FAIL", "FAIL"]
    assert [is_interrupted(trial) for trial in study.trials] == [True, True, False]
    assert "died 3 times in a row" in study.trials[2].user_attrs["error"]


@pytest.mark.filterwarnings("ignore:Argument ``heartbeat_interval``")
def test_what_a_silent_driver_on_another_host_ran_is_taken_over(tmp_path, monkeypatch):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/tune.db", heartbeat_interval=60)
    study = study_in(storage)
    study._thread_local.in_optimize_loop = True
    silent, alive = begun(study, "elsewhere:1:1.0"), begun(study, "elsewhere:2:1.0")
    nameless = study.ask()
    here = begun(study, name_of(os.getppid()))
    for trial in (silent, nameless, here):
        storage.record_heartbeat(trial._trial_id)
    reclaim_dead_trials(study, declared())
    assert states(study) == ["RUNNING"] * 4

    storage.grace_period = -1  # all heartbeats are old now; this host's process is seen alive
    reclaim_dead_trials(study, declared())
    assert states(study) == ["FAIL", "RUNNING", "FAIL", "RUNNING", "WAITING"]
    assert alive.number == 1


def test_of_two_drivers_that_find_a_dead_ones_trial_one_takes_it(monkeypatch):
    study = study_in(None)
    begun(study, dead_driver())
    found = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    monkeypatch.setattr("eeipu.studies.drivers.dead_drivers.abandoned_trials", lambda study: found)
    reclaim_dead_trials(study, declared())
    reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "WAITING"]


def test_what_did_not_run_when_its_driver_died_three_times_begins_again():
    study = study_in(None)
    trial = begun(study, dead_driver(), deaths=2, runs=False)
    left_alive = begun(study, NOBODY, deaths=2)
    reclaim_dead_trials(study, declared())
    assert states(study) == ["FAIL", "FAIL", "WAITING", "WAITING"]
    assert [t.user_attrs["deaths"] for t in study.trials[2:]] == [2, 2]
    assert all(is_interrupted(study.trials[t.number]) for t in (trial, left_alive))
