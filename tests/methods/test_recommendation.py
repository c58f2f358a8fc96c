"""Which configuration the models believe to be best."""

import math

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

from eeipu import (
    ConfigurationError,
    EEIPUSampler,
    Float,
    OneOf,
    Pipeline,
    StageCache,
    Tuner,
    stage,
)
from eeipu.methods.history import History
from eeipu.methods.search_models import SearchModels

BEST = 0.5


def tuner_of(rows, method="eeipu", direction="maximize", **options):
    """A tuner that has been told the values of these points."""
    pipeline = Pipeline.declare({"only": {"x": Float(0.0, 1.0)}})
    tuner = Tuner(pipeline, method=method, direction=direction, seed=0, **options)
    for x, value in rows:
        tuner.add_trial({"only.x": x}, value)
    return tuner


def hill(lucky=0.9, noise=0.02):
    """Values of a hill at .5, with a little noise, and one at .9 that is far too high by luck."""
    rng = np.random.default_rng(0)
    x = np.linspace(0.0, 1.0, 41)
    values = 1.0 - 4.0 * (x - BEST) ** 2 + noise * rng.standard_normal(41)
    values[np.argmin(abs(x - lucky))] = 1.2
    return list(zip(x.tolist(), values.tolist(), strict=True))


def test_the_luckiest_configuration_is_not_recommended():
    tuner = tuner_of(hill())

    found = tuner.recommend()

    assert tuner.study.best_params["only.x"] == pytest.approx(0.9)
    assert found.params["only.x"] == pytest.approx(BEST, abs=0.1)
    assert found.mean == pytest.approx(1.0, abs=0.15)
    assert 0.0 < found.std < 0.2
    assert tuner.study.trials[found.number].params == found.params
    assert found.values == (tuner.study.trials[found.number].value,)


def test_with_minimisation_it_is_the_lowest():
    tuner = tuner_of([(x, -value) for x, value in hill()], direction="minimize")

    found = tuner.recommend()

    assert found.params["only.x"] == pytest.approx(BEST, abs=0.1)
    assert found.mean == pytest.approx(-1.0, abs=0.15)


def test_whatever_method_chose_the_trials():
    assert tuner_of(hill(), RandomSampler()).recommend() == tuner_of(hill()).recommend()


def test_a_sampler_of_a_plain_study_recommends_too():
    tuner = tuner_of(hill())
    sampler = EEIPUSampler(tuner.pipeline, budget=1.0)

    assert sampler.recommend(tuner.study) == tuner.recommend()


def test_one_value_is_enough():
    found = tuner_of([(0.25, 3.0)]).recommend()

    assert found.params == {"only.x": 0.25}
    assert found.mean == pytest.approx(3.0)


def test_of_a_configuration_that_ran_several_times_all_values_are_told():
    rng = np.random.default_rng(0)

    @stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 1.0, memoize=False, version="1")
    def only(data, *, x):
        return 1.0 + 0.1 * rng.standard_normal()

    tuner = Tuner(Pipeline([only]), budget=None, cache=StageCache(), seed=0)
    for _ in range(3):
        tuner.study.enqueue_trial({"only.x": 0.5})
    tuner.run(0.0, max_trials=3, progress=False)

    found = tuner.recommend()

    assert sorted(found.values) == sorted(trial.value for trial in tuner.study.trials)
    assert tuner.study.trials[found.number].value == max(found.values)


def test_where_stages_show_numbers_their_model_has_a_say():
    @stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 1.0, version="1")
    def prep(rng, *, x):
        return math.sin(20.0 * x)

    @stage(space={"y": Float(0.0, 1.0)}, cost=lambda y: 1.0, version="1")
    def score(shown, *, y):
        return shown - y**2

    tuner = Tuner(Pipeline([prep, score]), budget=None, cache=StageCache(), seed=0)
    study = tuner.run(0.0, max_trials=14, progress=False)

    assert SearchModels(History.of(study, tuner.pipeline)).weighed_chain is not None
    # Without noise the best value is to be believed.
    assert tuner.recommend().params == study.best_params


def test_of_alternatives_the_parameters_of_the_chosen_one_are_told():
    def stage_of(name):
        return stage(lambda data, x: -((x - 0.5) ** 2), name=name, space={"x": Float(0.0, 1.0)})

    pipeline = Pipeline([OneOf("model", [stage_of("a"), stage_of("b")])])
    tuner = Tuner(pipeline, method="random", cache=None, seed=0)
    study = tuner.run(0.0, max_trials=6, progress=False)

    found = tuner.recommend()

    assert found.params == study.trials[found.number].params
    assert len(found.params) == 2


def test_what_a_study_has_besides_is_left_out():
    pipeline = Pipeline.declare({"only": {"x": Float(0.0, 1.0)}})
    study = optuna.create_study(direction="maximize")
    study.optimize(
        lambda trial: trial.suggest_float("only.x", 0, 1) + trial.suggest_float("other", 0, 1),
        n_trials=4,
    )

    assert [*EEIPUSampler(pipeline, budget=1.0).recommend(study).params] == ["only.x"]


def test_pruned_and_failed_trials_are_no_candidates():
    tuner = tuner_of(hill())
    for state in (optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL):
        trial = tuner.study.ask({"only.x": Float(0.0, 1.0)})
        trial.report(5.0, 1)
        tuner.study.tell(trial, state=state)

    assert tuner.recommend().params["only.x"] == pytest.approx(BEST, abs=0.1)


def test_without_a_value_there_is_none_to_recommend():
    with pytest.raises(ConfigurationError, match="no trial that is within all limits has a value"):
        tuner_of([]).recommend()


def test_with_several_objectives_there_is_none():
    only = stage(lambda data, x: {"a": x, "b": 1.0 - x}, name="only", space={"x": Float(0.0, 1.0)})
    tuner = Tuner(Pipeline([only], objective=["a", "b"]), directions=["maximize", "minimize"])

    with pytest.raises(ConfigurationError, match="several objectives"):
        tuner.recommend()


def test_a_study_of_optunas_is_recommended_from():
    pipeline = Pipeline.declare({"only": {"x": Float(0.0, 1.0)}})
    study = optuna.create_study(direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("only.x", 0.0, 1.0), n_trials=5)

    assert EEIPUSampler(pipeline, budget=1.0).recommend(study).params == study.best_params
