"""What a process hears of the trials that others train, by way of the study's storage."""

import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from trainings import pipeline

from eeipu import ASHA, StageCache, Tuner
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.studies.early_stopping.other_trials import OtherTrials
from eeipu.studies.early_stopping.pauses import StudyWithPauses

DISTRIBUTIONS = pipeline().space
PARAMS = {"prep.dims": 1, "train.lr": 0.5, "score.bonus": 0.0}


@pytest.fixture
def other():
    """The name of another process, which lives."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield str(ProcessIdentity.of(process.pid))
    process.communicate(b"\n")


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return str(folder)


def url(tmp_path):
    return f"sqlite:///{tmp_path}/tune.db"


def add(study, driver, values, state=TrialState.RUNNING, *, params=PARAMS, **attrs):
    """Add a trial as another process has it."""
    trial = create_trial(
        state=TrialState.RUNNING,
        params=params,
        distributions={name: DISTRIBUTIONS[name] for name in params},
        user_attrs={"driver": driver, **attrs},
        intermediate_values=values,
    )
    id_ = study._storage.create_new_trial(study._study_id, template_trial=trial)
    if state.is_finished():
        study._storage.set_trial_state_values(id_, state)
    return id_


def heard(news):
    return [tuple(each and (each.number, dict(each.curve)) for each in pair) for pair in news]


def followed(study, own=()):
    seen = StudyWithPauses.of(study, optuna.pruners.NopPruner())
    return OtherTrials(seen, own, pipeline().cube.is_whole)


def test_values_of_other_processes_are_heard_once_and_again_when_they_change(tmp_path, other):
    study = optuna.create_study(storage=url(tmp_path), direction="minimize")
    id_ = add(study, other, {3: 1.0})
    add(study, str(ProcessIdentity.here()), {3: 2.0})
    add(study, other, {3: 4.0}, params={"prep.dims": 1})  # of another pipeline
    add(study, other, {})  # nothing is known of it yet
    news = followed(study, own=())
    assert heard(news()) == [(None, (0, {3: -1.0}))]
    assert news() == []
    study._storage.set_trial_intermediate_value(id_, 9, 0.5)
    assert heard(news()) == [((0, {3: -1.0}), (0, {3: -1.0, 9: -0.5}))]
    study._storage.set_trial_state_values(id_, TrialState.PRUNED)
    ((_, now),) = news()
    assert now.has_ended
    assert not now.has_failed


def test_a_trial_counts_once_wherever_it_goes_on(tmp_path, other):
    study = optuna.create_study(storage=url(tmp_path), direction="maximize")
    add(study, other, {3: 1.0}, TrialState.PRUNED)
    news = followed(study)
    assert heard(news()) == [(None, (0, {3: 1.0}))]
    add(study, other, {3: 1.0}, goes_on_from=0)
    assert heard(news()) == [((0, {3: 1.0}), None), (None, (1, {3: 1.0}))]


def test_what_a_dead_process_had_begun_counts_when_it_begins_again(tmp_path, other):
    study = optuna.create_study(storage=url(tmp_path), direction="maximize")
    id_ = add(study, other, {3: 1.0})
    add(study, other, {3: 2.0}, TrialState.FAIL, error="diverged")
    news = followed(study)
    failed = {1: True, 0: False}
    assert {now.number: now.has_failed for _, now in news()} == failed
    study._storage.set_trial_state_values(id_, TrialState.FAIL)  # as who finds it dead does
    assert heard(news()) == [((0, {3: 1.0}), None)]


def test_the_trials_that_this_process_has_taken_up_are_its_own(tmp_path, other):
    study = optuna.create_study(storage=url(tmp_path), direction="maximize")
    add(study, other, {3: 1.0}, TrialState.PRUNED)
    assert followed(study, own=(0,))() == []


def test_in_memory_there_are_no_other_processes(other):
    study = optuna.create_study(direction="maximize")
    add(study, other, {3: 1.0})
    assert followed(study)() == []


@pytest.mark.parametrize(("theirs", "promoted"), [(2.0, 0), (-1.0, 3)])
def test_asha_compares_with_the_trials_of_another_driver(tmp_path, notes, other, theirs, promoted):
    """Six trials here, and twelve there that are all better, or all worse."""
    study = optuna.create_study(storage=url(tmp_path), study_name="one", direction="maximize")
    for _ in range(12):
        add(study, other, {3: theirs})
    tuner = Tuner(
        pipeline(None, 9),
        method="random",
        early_stopping=ASHA(min_steps=3),
        storage=url(tmp_path),
        study_name="one",
        cache=StageCache(),
        seed=0,
    )
    tuner.run(notes, max_trials=6, progress=False)
    own = [t for t in tuner.study.trials if t.user_attrs["driver"] != other]
    assert len(own) == 6
    assert sum(9 in t.intermediate_values for t in own) >= promoted
    assert (promoted == 0) == (not any(9 in t.intermediate_values for t in own))


def test_failures_from_before_are_compared_with_nothing(tmp_path, other):
    study = optuna.create_study(storage=url(tmp_path))
    add(study, other, {}, TrialState.FAIL, error="OSError")
    news = followed(study)

    assert news() == []
    add(study, other, {}, TrialState.FAIL, error="OSError")
    assert heard(news()) == [(None, (1, {}))]


def test_a_trial_counts_again_where_the_one_that_went_on_is_cut_off(tmp_path, other):
    study = optuna.create_study(storage=url(tmp_path))
    add(study, other, {1: 0.5}, TrialState.PRUNED)
    id_ = add(study, other, {1: 0.5}, goes_on_from=0)
    news = followed(study)
    assert heard(news()) == [(None, (1, {1: -0.5}))]

    study._storage.set_trial_user_attr(id_, "interrupted", True)
    study._storage.set_trial_state_values(id_, TrialState.FAIL)

    assert heard(news()) == [(None, (0, {1: -0.5})), ((1, {1: -0.5}), None)]
    assert heard(followed(study)()) == [(None, (0, {1: -0.5}))]
