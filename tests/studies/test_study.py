"""Opening studies, and taking over what a dead process left."""

import os
import socket
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.samplers import RandomSampler
from toys import declared

from eeipu import Categorical, ConfigurationError, Float, Pipeline, SpaceError, StudyMismatchError
from eeipu.methods.history import is_interrupted
from eeipu.pipeline import suggest
from eeipu.studies.study import (
    driver_name,
    open_study,
    reclaim_dead_trials,
    same_code,
    same_inputs,
    study_id,
)


def opened(pipeline=None, **arguments):
    return open_study(
        declared() if pipeline is None else pipeline,
        **{
            "direction": "maximize",
            "sampler": RandomSampler(seed=0),
            "storage": None,
            "study_name": None,
            **arguments,
        },
    )


def choosing(choices):
    return Pipeline.declare({"only": {"a": Categorical(choices)}})


# --- opening


def test_a_study_has_its_pipelines_name_unless_it_is_given_one():
    assert opened().study_name == "prep -> fit -> score"
    assert opened(study_name="mine").study_name == "mine"


def test_a_study_is_opened_again_with_its_trials(tmp_path):
    url = f"sqlite:///{tmp_path}/tune.db"
    study = opened(storage=url)
    study.enqueue_trial({"prep.x": 0.5, "fit.y": 0.5})

    assert len(opened(storage=url).trials) == 1
    assert opened(storage=url, study_name="another").trials == []


def test_the_sampler_is_the_new_one():
    storage, sampler = optuna.storages.InMemoryStorage(), RandomSampler(seed=1)
    opened(storage=storage)

    assert opened(storage=storage, sampler=sampler).sampler is sampler


def test_equal_spaces_written_otherwise_are_the_same_study():
    storage = optuna.storages.InMemoryStorage()
    opened(declared(x=Float(0, 1)), storage=storage)

    assert opened(declared(x=Float(0.0, 1.0)), storage=storage).trials == []


def test_the_order_of_parameters_in_a_stage_does_not_matter_but_that_of_stages_does():
    storage = optuna.storages.InMemoryStorage()
    a, b = Float(0.0, 1.0), Float(0.0, 2.0)
    opened(Pipeline.declare({"one": {"a": a, "b": b}, "two": {}}), storage=storage, study_name="s")

    opened(Pipeline.declare({"one": {"b": b, "a": a}, "two": {}}), storage=storage, study_name="s")
    with pytest.raises(StudyMismatchError, match=r"\['two', 'one'\]"):
        opened(
            Pipeline.declare({"two": {}, "one": {"a": a, "b": b}}), storage=storage, study_name="s"
        )


def test_a_plain_optuna_study_of_the_same_parameters_is_taken_over():
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    study.optimize(lambda trial: sum(suggest(trial, declared().space).values()), n_trials=2)

    assert len(opened(storage=storage, study_name="s").trials) == 2


def test_a_plain_optuna_study_of_other_parameters_is_refused():
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("lr", 0.0, 1.0), n_trials=1)

    with pytest.raises(StudyMismatchError, match=r"parameters that this pipeline does not have"):
        opened(storage=storage, study_name="s")


def test_a_mismatch_names_the_remedy():
    storage = optuna.storages.InMemoryStorage()
    opened(storage=storage)

    with pytest.raises(StudyMismatchError, match="Choose another study_name, or another storage"):
        opened(storage=storage, direction="minimize")


@pytest.mark.parametrize("storage", ["tune.db", Path("tune.db"), 3])
def test_a_storage_that_is_none_is_refused(storage):
    with pytest.raises(ConfigurationError, match=r'"sqlite:///tune\.db".*but got'):
        opened(storage=storage)


def test_choices_that_a_storage_cannot_hold_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="persistent storage"):
        pipeline = choosing([(50,), (50, 50)])

    with pytest.raises(SpaceError, match=r"only\.a.*\(50,\).*string or a number"):
        opened(pipeline, storage=f"sqlite:///{tmp_path}/tune.db")
    assert list(tmp_path.iterdir()) == []


def test_choices_of_all_kinds_that_storages_hold_are_kept(tmp_path):
    pipeline = choosing(["a", 2, 3.5, True, None])
    url = f"sqlite:///{tmp_path}/tune.db"
    opened(pipeline, storage=url)

    assert opened(pipeline, storage=url).trials == []


@pytest.mark.parametrize("storage", [None, optuna.storages.InMemoryStorage()])
def test_choices_of_any_kind_are_held_in_memory(storage):
    with pytest.warns(UserWarning, match="persistent storage"):
        pipeline = choosing([abs, (1, 2)])

    assert opened(pipeline, storage=storage).trials == []


# --- inputs


def test_other_inputs_than_before_are_warned_of_where_run_was_called(tmp_path):
    from eeipu import Tuner, stage

    @stage(space={"a": Float(0.0, 1.0)}, version="1")
    def only(data, *, a):
        return data + a

    tuner = Tuner(Pipeline([only]), budget=100.0, method="random", study_name="digits")
    tuner.run(1.0, max_trials=1)
    tuner.run(1.0, max_trials=1)  # the same: nothing to say
    with pytest.warns(UserWarning, match=r"'digits' began with other inputs.*study_name") as caught:
        tuner.run(2.0, max_trials=1)

    assert caught[0].filename == __file__


def test_the_first_inputs_stay_the_studys_inputs():
    study = opened()
    same_inputs(study, "first")
    with pytest.warns(UserWarning, match="other inputs"):
        same_inputs(study, "second")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same_inputs(study, "first")


# --- trials of the dead

HOST = socket.gethostname()


def name_of(pid):
    return f"{HOST}:{pid}:{psutil.Process(pid).create_time():.2f}"


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


def test_a_driver_is_named_by_host_process_and_start():
    assert driver_name() == name_of(os.getpid())


@pytest.mark.parametrize(
    "driver",
    [dead_driver, lambda: f"{HOST}:{os.getppid()}:1.0"],
    ids=["ended", "number given to another process"],
)
def test_what_a_dead_driver_ran_is_closed_and_enqueued_again(driver):
    study = opened()
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
    study = opened()
    begun(study, driver())
    reclaim_dead_trials(study, declared())

    assert states(study) == ["RUNNING"]


def test_what_was_asked_for_is_left_alone():
    study = opened()
    suggest(study.ask(), declared().space)
    reclaim_dead_trials(study, declared())

    assert states(study) == ["RUNNING"]


def test_a_warm_up_trial_is_warm_up_again():
    study = opened()
    begun(study, dead_driver(), warm_up=True)
    begun(study, dead_driver())
    reclaim_dead_trials(study, declared())

    assert [trial.user_attrs.get("warm_up") for trial in study.trials[2:]] == [True, None]


def test_a_driver_that_died_before_it_had_a_configuration_leaves_nothing_to_repeat():
    study = opened()
    study.ask().set_user_attr("driver", dead_driver())
    half = study.ask()
    half.suggest_float("prep.x", 0.0, 1.0)
    half.set_user_attr("driver", dead_driver())
    reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "FAIL"]


def test_a_driver_that_died_with_an_enqueued_configuration_leaves_all_of_it():
    study = opened()
    study.enqueue_trial({"prep.x": 0.125, "fit.y": 0.25})
    study.ask().set_user_attr("driver", dead_driver())
    reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "WAITING"]
    assert suggest(study.ask(), declared().space) == {"prep.x": 0.125, "fit.y": 0.25}


def test_what_kills_its_process_three_times_has_failed():
    study = opened()
    study.enqueue_trial({"prep.x": 0.125, "fit.y": 0.25})
    for _ in range(3):
        trial = study.ask()
        trial.set_user_attr("driver", dead_driver())
        suggest(trial, declared().space)
        reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "FAIL", "FAIL"]
    assert [is_interrupted(trial) for trial in study.trials] == [True, True, False]
    assert "died 3 times in a row" in study.trials[2].user_attrs["error"]


def test_changed_code_is_told_once(recwarn):
    study, pipeline = opened(), declared()
    same_code(study, pipeline)
    same_code(study, pipeline)
    assert not recwarn

    changed = Pipeline([replace(pipeline.stages[0], version="2"), *pipeline.stages[1:]])
    with pytest.warns(UserWarning, match=r"code of the stages \['prep'\] has changed"):
        same_code(study, changed)
    same_code(study, changed)


@pytest.mark.filterwarnings("ignore:Argument ``heartbeat_interval``")
def test_what_a_silent_driver_on_another_host_ran_is_taken_over(tmp_path, monkeypatch):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/tune.db", heartbeat_interval=60)
    study = opened(storage=storage)
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
    study = opened()
    begun(study, dead_driver())
    found = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    monkeypatch.setattr("eeipu.studies.study._abandoned", lambda study: found)
    reclaim_dead_trials(study, declared())
    reclaim_dead_trials(study, declared())

    assert states(study) == ["FAIL", "WAITING"]


def test_a_study_is_named_when_it_is_opened(tmp_path):
    url = f"sqlite:///{tmp_path}/tune.db"
    assert study_id(opened(storage=url)) == study_id(opened(storage=url))
