"""Searches that learn from earlier studies."""

import math

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import create_trial

from eeipu import ConfigurationError, EEIPUSampler, Float, Pipeline, Tuner
from eeipu.studies.given.earlier_studies import earlier_studies

SPACES = {"prep": {"x": Float(0.0, 1.0)}, "fit": {"y": Float(0.0, 1.0)}}


def value_of(params, *, shift=0.0):
    return math.sin(4 * (params["prep.x"] + shift)) - (params["fit.y"] - 0.7) ** 2


def tuned(trials=8, pipeline=None, factor=1.0, **arguments):
    pipeline = Pipeline.declare(SPACES) if pipeline is None else pipeline
    tuner = Tuner(pipeline, **{"budget": 50.0, "seed": 0, "study_name": "earlier", **arguments})
    for _ in range(trials):
        asked = tuner.ask()
        costs = [None if m else factor * c for m, c in zip(asked.memoized, (3.0, 1.0), strict=True)]
        tuner.tell(asked, value_of(asked.params), stage_costs=costs)
    return tuner


def test_the_best_configuration_of_an_earlier_study_is_evaluated_first():
    earlier = tuned().study
    tuner = tuned(1, learn_from=[earlier], study_name="later")
    assert tuner.study.trials[0].params == earlier.best_params
    assert tuner.n_initial < tuned(0, study_name="alone").n_initial


def test_models_choose_after_a_short_warm_up():
    tuner = tuned(6, learn_from=[tuned(factor=3.0).study], study_name="later")
    assert tuner.study.trials[4].user_attrs["chosen"]["by"] == "models"
    assert tuner.study.best_value > 0.9


def test_a_study_goes_on_with_what_it_learns_from():
    earlier, storage = tuned().study, optuna.storages.InMemoryStorage()
    tuned(3, learn_from=[earlier], storage=storage, study_name="s")
    again = tuned(2, learn_from=[earlier], storage=storage, study_name="s")
    assert len(again.study.trials) == 5


def test_a_pair_of_a_storage_and_a_name_is_loaded(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    earlier = tuned(storage=url).study
    for given in ([(url, "earlier")], (url, "earlier"), earlier, [(earlier._storage, "earlier")]):
        (loaded,) = earlier_studies(given)
        assert [t.params for t in loaded.trials] == [t.params for t in earlier.trials]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sqlite:///s.db", "must be a list of studies"),
        (3, "must be a list of studies"),
        ([3], "3, which is neither"),
        ([("earlier",)], "neither a study nor a pair"),
        ([(optuna.storages.InMemoryStorage(), "none")], r"'none', but its storage has \[\]"),
    ],
)
def test_what_is_no_study_is_refused(given, message):
    with pytest.raises(ConfigurationError, match=message):
        earlier_studies(given)


def test_samplers_of_optunas_cannot_learn_from_studies():
    with pytest.raises(ConfigurationError, match="learn_from needs one of eeipu's methods"):
        tuned(0, method=RandomSampler(), learn_from=[tuned(2).study])


def test_a_study_of_other_stages_is_left_alone():
    other = Tuner(Pipeline.declare({"other": {"z": Float(0.0, 1.0)}, "fit": {}}), budget=9.0)
    other.add_trial({"other.z": 0.5}, 1.0)
    tuner = tuned(2, learn_from=[other.study], study_name="later")
    assert tuner.study.sampler.earlier is None
    assert len(tuner.study.trials) == 2


def test_a_study_that_tells_nothing_is_named(caplog):
    storage = optuna.storages.InMemoryStorage()
    other = optuna.create_study(study_name="another", storage=storage)
    other.add_trial(create_trial(value=1.0))
    empty = optuna.create_study(study_name="empty", storage=storage)
    tuner = tuned(0, learn_from=[other, empty], study_name="later")
    said = [record.getMessage() for record in caplog.records]
    assert any("'another': its trials do not fit the space: " in each for each in said)
    assert any("'empty': it has no trial that has ended" in each for each in said)
    assert tuner.n_initial == tuned(0, study_name="alone").n_initial


def test_where_costs_alone_are_known_the_warm_up_is_as_long_as_ever():
    failed = Tuner(Pipeline.declare(SPACES), budget=9.0, seed=0, study_name="failed")
    failed.tell(failed.ask(), failed=True, stage_costs=[3.0, 1.0])
    tuner = tuned(0, learn_from=[failed.study], study_name="later")
    assert tuner.study.sampler.earlier is not None
    assert tuner.n_initial == tuned(0, study_name="alone").n_initial


def test_a_storage_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no "):
        earlier_studies([(f"sqlite:///{tmp_path}/none.db", "earlier")])
    assert list(tmp_path.iterdir()) == []


def test_trials_outside_of_the_present_space_are_left_out():
    wide = Pipeline.declare({**SPACES, "prep": {"x": Float(-1.0, 1.0)}})
    earlier = Tuner(wide, budget=10.0, seed=0)
    for x in (-0.5, 0.25, 0.5):
        earlier.add_trial({"prep.x": x, "fit.y": 0.5}, x, stage_costs=[1.0, 1.0])
    tuner = tuned(0, learn_from=[earlier.study], study_name="later")
    assert len(tuner.study.sampler.earlier) == 2


def test_the_sampler_learns_in_plain_studies():
    pipeline = Pipeline.declare(SPACES)
    sampler = EEIPUSampler(pipeline, budget=50.0, seed=0, learn_from=[tuned().study])
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial):
        params = {name: trial.suggest_float(name, 0.0, 1.0) for name in pipeline.space}
        trial.set_user_attr("stage_costs", [3.0, 1.0])
        trial.set_user_attr("charged", 4.0)
        return value_of(params)

    study.optimize(objective, n_trials=6)
    assert study.best_value > 0.8


def test_the_sampler_takes_one_study_or_several_and_nothing_else():
    pipeline, earlier = Pipeline.declare(SPACES), tuned(2)
    for given in (earlier.study, [earlier.study], iter([earlier.study])):
        assert len(EEIPUSampler(pipeline, budget=9.0, learn_from=given).earlier) == 2
    for wrong in ([earlier], ("sqlite:///s.db", "earlier"), "sqlite:///s.db", None):
        with pytest.raises(ConfigurationError, match=r"takes studies, but got .*give tuner.study"):
            EEIPUSampler(pipeline, budget=9.0, learn_from=wrong)


def test_with_several_objectives_all_are_learnt():
    pipeline = Pipeline.declare(SPACES, objective=["a", "b"])
    directions = ["maximize", "minimize"]

    def run(tuner, trials):
        for _ in range(trials):
            asked = tuner.ask()
            x, y = asked.params.values()
            tuner.tell(asked, [x - y * y, x + y], stage_costs=[3.0, 1.0])
        return tuner

    earlier = run(Tuner(pipeline, budget=50.0, directions=directions, seed=1), 6).study
    later = Tuner(
        pipeline, budget=50.0, directions=directions, seed=0, learn_from=[earlier], study_name="l"
    )
    run(later, 7)
    assert later.study.trials[0].params in [t.params for t in earlier.best_trials]
    assert later.study.trials[-1].user_attrs["chosen"]["by"] == "models"
