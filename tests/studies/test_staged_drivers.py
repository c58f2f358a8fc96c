"""Several processes on one study whose trainings stop early, and several studies on one cache."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from math import fsum
from pathlib import Path

import optuna
import pytest
from trainings import noted, pipeline, steps_run

from eeipu import ASHA, Categorical, StageCache, Tuner
from eeipu.studies.early_stopping.earlier_trials import superseded

SCRIPT = """
import sys
from trainings import pipeline
from eeipu import ASHA, Categorical, StageCache, Tuner

notes, folder, name, trials, others = sys.argv[1:]
space = {"lr": Categorical(["naps"]), "other": Categorical(list(range(int(others))))}
tuner = Tuner(pipeline(space, 9), method="random", early_stopping=ASHA(min_steps=3),
              study_name=name, storage=f"sqlite:///{folder}/tune.db",
              cache=StageCache(f"{folder}/cache"))
tuner.run(notes, max_trials=int(trials), progress=False)
"""


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return str(folder)


def started(notes, folder, name="study", trials=6, others=8):
    numbers = str(trials), str(others)
    command = [sys.executable, "-c", SCRIPT, notes, str(folder), name, *numbers]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": paths}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=env)


def ended(process):
    _, errors = process.communicate(timeout=240)
    return process.returncode, errors.decode()


def study_of(folder, name="study"):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/tune.db")


def steps_reached(study):
    reached = {}
    for trial in study.trials:
        key = trial.params["prep.dims"], trial.params["train.other"]
        reached[key] = max(reached.get(key, 0), *trial.intermediate_values)
    return reached


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def test_two_processes_share_one_study(notes, tmp_path):
    first = started(notes, tmp_path)
    wait_for(lambda: steps_run(notes) > 0, first)
    second = started(notes, tmp_path)
    for process in (first, second):
        code, errors = ended(process)
        assert code == 0, errors
    trials = study_of(tmp_path).trials
    fresh = [t for t in trials if "goes_on_from" not in t.user_attrs]
    assert len(fresh) == 12
    assert Counter(t.state.name for t in trials).keys() == {"COMPLETE", "PRUNED"}
    assert len({t.user_attrs["driver"] for t in trials}) == 2
    assert len({tuple(sorted(t.params.items())) for t in fresh}) == 12
    ran = {dims: noted(notes)[f"prep {dims}"] for dims in (1, 2)}
    assert max(ran.values()) == 1
    assert fsum(t.user_attrs["charged"] for t in trials) > 0


def test_what_a_killed_process_had_begun_goes_on_in_another(notes, tmp_path):
    first = started(notes, tmp_path, trials=300, others=100)
    wait_for(lambda: steps_run(notes) > 0, first)
    second = started(notes, tmp_path, trials=12, others=100)
    wait_for(lambda: len(list(Path(notes).iterdir())) == 2, second)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    code, errors = ended(second)
    assert code == 0, errors
    trials = study_of(tmp_path).trials
    assert Counter(t.state.name for t in trials)["RUNNING"] == 0
    cut_off = [t for t in trials if t.state.name == "FAIL"]
    assert cut_off
    for trial in cut_off:  # it has begun again, or is enqueued to
        later = [t.params or t.system_attrs.get("fixed_params") for t in trials[trial.number + 1 :]]
        assert not trial.params or trial.params in later


def test_studies_of_other_processes_share_checkpoints_without_being_told(notes, tmp_path):
    code, errors = ended(started(notes, tmp_path, "one", trials=16))
    assert code == 0, errors
    before = steps_run(notes)
    reached = steps_reached(study_of(tmp_path, "one"))
    space = {"lr": Categorical(["naps"]), "other": Categorical(list(range(8)))}
    tuner = Tuner(
        pipeline(space, 9),
        method="grid",
        early_stopping=ASHA(min_steps=3),
        cache=StageCache(tmp_path / "cache"),
    )
    study = tuner.run(notes, max_trials=100, progress=False)
    here = steps_reached(study)
    more = sum(max(0, steps - reached.get(key, 0)) for key, steps in here.items())
    assert steps_run(notes) - before == more
    assert max(noted(notes)[f"prep {dims}"] for dims in (1, 2)) == 1


def test_a_trial_that_goes_on_elsewhere_is_not_taken_up_again(notes):
    tuner = Tuner(pipeline(), early_stopping=ASHA(min_steps=3), method="random", seed=0)
    for _ in range(4):
        tuner.run(notes, max_trials=7, progress=False)
    trials = tuner.study.trials
    again = [t.user_attrs["goes_on_from"] for t in trials if "goes_on_from" in t.user_attrs]
    assert len(again) == len(set(again))
    assert superseded(trials) == set(again)
