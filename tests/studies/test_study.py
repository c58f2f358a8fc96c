"""Opening studies, and what they remember of their pipelines."""

import warnings
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from toys import declared

from eeipu import (
    Categorical,
    ConfigurationError,
    Float,
    Pipeline,
    SpaceError,
    StudyMismatchError,
    stage,
)
from eeipu.space import suggest
from eeipu.studies.study import (
    open_study,
    study_id,
    warn_of_changed_code,
    warn_of_other_inputs,
)


def opened(pipeline=None, direction="maximize", **arguments):
    return open_study(
        declared() if pipeline is None else pipeline,
        **{
            "directions": [direction],
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
    warn_of_other_inputs(study, "first")
    with pytest.warns(UserWarning, match="other inputs"):
        warn_of_other_inputs(study, "second")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_inputs(study, "first")


# --- code and identity


def test_changed_code_is_told_once(recwarn):
    study, pipeline = opened(), declared()
    warn_of_changed_code(study, pipeline)
    warn_of_changed_code(study, pipeline)
    assert not recwarn

    changed = Pipeline([replace(pipeline.stages[0], version="2"), *pipeline.stages[1:]])
    with pytest.warns(UserWarning, match=r"code of the stages \['prep'\] has changed"):
        warn_of_changed_code(study, changed)
    warn_of_changed_code(study, changed)


def test_a_study_is_named_when_it_is_opened(tmp_path):
    url = f"sqlite:///{tmp_path}/tune.db"
    assert study_id(opened(storage=url)) == study_id(opened(storage=url))


# --- what cannot be compared, or added up


def measuring(objective=None, cost=None, metrics=None):
    """A pipeline whose last stage returns these metrics, or a number."""

    @stage(space={"x": Float(0.0, 1.0)}, version="1", cost=cost)
    def measure(*, x):
        return x if metrics is None else metrics

    return Pipeline([measure], objective=objective, name="s")


METRICS = {"acc": 0.9, "logloss": 0.4}


@pytest.mark.parametrize(("one", "other"), [("acc", "logloss"), (None, "acc"), ("acc", None)])
def test_another_objective_is_refused(one, other):
    storage = optuna.storages.InMemoryStorage()
    opened(measuring(one), storage=storage)
    assert opened(measuring(one), storage=storage).trials == []
    with pytest.raises(StudyMismatchError, match=f"objective {one!r}.*{other!r}.*another study"):
        opened(measuring(other), storage=storage)


def test_the_trials_of_an_earlier_version_say_what_their_objective_was():
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    pipeline = measuring("acc", metrics=METRICS)
    study.optimize(lambda trial: pipeline.run(trial).value, n_trials=1)

    with pytest.raises(StudyMismatchError, match=r"than 'logloss': trial 0 has the value 0\.9"):
        opened(measuring("logloss"), storage=storage)
    assert len(opened(measuring("acc"), storage=storage).trials) == 1


def test_measured_and_declared_costs_are_not_added_up():
    storage = optuna.storages.InMemoryStorage()
    opened(measuring(), storage=storage)
    with pytest.raises(StudyMismatchError, match=r"are in seconds, and this pipeline's are in the"):
        opened(measuring(cost=lambda x: 1.0), storage=storage)
    opened(measuring(cost=lambda x: 1.0), storage=storage, study_name="another")
    with pytest.raises(StudyMismatchError, match="this pipeline's are in seconds"):
        opened(measuring(), storage=storage, study_name="another")


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 3])
def test_a_name_that_databases_cannot_hold_is_refused(name):
    with pytest.raises(ConfigurationError, match=r"name must be text.*choose another"):
        opened(study_name=name)
