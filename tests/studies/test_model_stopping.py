"""A tuner whose trainings are begun, stopped and gone on with by a model of their curves."""

from collections import Counter

import pytest
from trainings import STEPS, pipeline, steps_run

from eeipu import Float, FreezeThaw, StageCache, Tuner
from eeipu.errors import ConfigurationError
from eeipu.executors.simulated_pool import SimulatedPool

SPACE = {"lr": Float(0.0, 1.0)}


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return str(folder)


def tuned(notes, *, trials, rule="model", **options):
    tuner = Tuner(pipeline(SPACE), early_stopping=rule, seed=0, **options)
    return tuner, tuner.run(notes, max_trials=trials, progress=False)


def each_step_costs_one(cache):
    """A worker in virtual time, so that what is chosen does not depend on the machine's load."""
    return SimulatedPool(
        1,
        cache,
        lambda task: task.call.stop - task.call.start,
        driving_s=lambda _: 0.0,
        thinking_s=lambda _: 0.0,
    )


def steps_reached(study):
    reached = {}
    for trial in study.trials:
        key = trial.params["prep.dims"], trial.params["train.lr"]
        reached[key] = max(reached.get(key, 0), *trial.intermediate_values)
    return sum(reached.values())


def test_the_model_begins_trials_and_goes_on_with_the_best(notes):
    cache, rule = StageCache(), FreezeThaw(min_steps=3, reduction=3)
    pool = each_step_costs_one(cache)
    tuner, study = tuned(notes, trials=9, rule=rule, cache=cache, executor=pool)
    states = Counter(trial.state.name for trial in study.trials)
    assert states["COMPLETE"] + states["PRUNED"] == len(study.trials) == 9
    assert states["COMPLETE"] < states["PRUNED"]
    assert {step for t in study.trials for step in t.intermediate_values} <= {3, 9, 27}
    values = [max(t.intermediate_values.values()) for t in study.trials]
    assert study.best_value == pytest.approx(max(values))
    assert study.best_value > 1.1  # of 1.25; a random trial has .6
    assert steps_run(notes) == steps_reached(study)
    assert tuner.best_schedule()["lr"](0) == study.best_params["train.lr"]


def test_smaller_values_are_better_where_it_is_asked_for(notes):
    cache = StageCache()
    pool = each_step_costs_one(cache)
    _, study = tuned(notes, trials=9, direction="minimize", cache=cache, executor=pool)
    assert study.best_value < 0.2


def test_several_workers_and_a_method_that_does_not_learn(notes):
    _, study = tuned(
        notes, trials=8, method="random", executor="threads", max_parallel=3, cache=StageCache()
    )
    assert len(study.trials) == 8
    assert any(trial.state.name == "COMPLETE" for trial in study.trials)
    assert steps_run(notes) == steps_reached(study)


def test_a_run_goes_on_where_the_last_one_stopped(notes, tmp_path):
    options = {"storage": f"sqlite:///{tmp_path}/tune.db", "cache": StageCache(tmp_path / "cache")}
    _, first = tuned(notes, trials=5, **options)
    before = {t.number: t.params for t in first.trials}
    _, study = tuned(notes, trials=3, **options)
    assert {t.number: t.params for t in study.trials[: len(before)]} == before
    new = [t for t in study.trials if "goes_on_from" not in t.user_attrs]
    assert len(new) == 8
    assert steps_run(notes) == steps_reached(study)  # no step ran twice
    assert max(max(t.intermediate_values) for t in study.trials) == STEPS


def test_another_word_is_refused(notes):
    with pytest.raises(ConfigurationError, match='"model"'):
        Tuner(pipeline(SPACE), early_stopping="models")
