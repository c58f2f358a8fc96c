"""Trials that a tuner stops after a stage, and goes on from later."""

import math

import optuna
import pytest
from optuna.trial import TrialState

from eeipu import INPUTS, ConfigurationError, Float, Pipeline, StageCache, Tuner, stage
from eeipu.methods.suspension.going_on import Outlook
from eeipu.methods.suspension.suspended import most_promising
from eeipu.sampler import EEIPUSampler

N_INITIAL = 5


def pipeline_of(*, shows=True, memoize=True, cost=lambda **_: 1.0, rest=lambda **_: 4.0):
    @stage(space={"x": Float(0.0, 1.0)}, version="1", cost=cost, memoize=memoize)
    def cheap(data, *, x):
        made = data + math.sin(9.0 * x)
        return made if shows else [made]

    @stage(space={"y": Float(0.0, 1.0)}, version="1", cost=rest)
    def costly(made, *, y):
        made = (made if shows else made[0]) + math.cos(8.0 * y)
        return made if shows else [made]

    @stage(space={"z": Float(0.0, 1.0)}, version="1", cost=rest)
    def score(made, *, z):
        return (made if shows else made[0]) - (z - 0.3) ** 2

    return Pipeline([cheap, costly, score])


def tuner_of(pipeline=None, **arguments):
    usual = {"budget": 60.0, "overhead": 0.0, "n_initial": N_INITIAL, "seed": 0, "suspend": True}
    return Tuner(pipeline or pipeline_of(), **{**usual, **arguments})


@pytest.fixture
def asked(monkeypatch):
    """The trials whose outlook was asked for, which stop the first time if they are even."""
    numbers = []

    def outlook(sampler, history, trial, observations, has_run):
        numbers.append(trial.number)
        is_bad = trial.number % 2 == 0 and numbers.count(trial.number) == 1
        return Outlook(-9.0 if is_bad else 0.0, 0.0, float(sum(has_run)))

    monkeypatch.setattr(EEIPUSampler, "outlook", outlook)
    return numbers


def stopped(study):
    return [trial for trial in study.trials if trial.state is TrialState.PRUNED]


@pytest.mark.parametrize(
    ("executor", "max_parallel"), [(None, 1), ("threads", 2), ("processes", 2)]
)
def test_a_trial_that_stops_pays_for_what_it_has_run_and_keeps_what_it_has_shown(
    asked, executor, max_parallel
):
    tuner = tuner_of(executor=executor, max_parallel=max_parallel)
    study = tuner.run(0.0, progress=False)

    # Beside several workers a choice is often under way, and trials go on meanwhile.
    assert stopped(study) or max_parallel > 1
    for trial in stopped(study):
        assert trial.number % 2 == 0
        ran = [cost for cost in trial.user_attrs["stage_costs"] if cost is not None]
        assert len(ran) < 3
        assert trial.user_attrs["charged"] == pytest.approx(sum(ran))
        assert "cheap" in trial.user_attrs["observations"]
        assert "error" not in trial.user_attrs
        assert trial.user_attrs["suspended"]["worth"] < 0.001
    assert tuner.spent == pytest.approx(sum(t.user_attrs["charged"] for t in study.trials))
    assert all(trial.state.is_finished() for trial in study.trials)


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_a_graph_stops_between_its_stages_and_keeps_the_branches_that_have_run(asked, max_parallel):
    @stage(space={"x": Float(0.0, 1.0)}, version="1", inputs=INPUTS, cost=lambda **_: 1.0)
    def left(data, *, x):
        return data + math.sin(9.0 * x)

    @stage(space={"y": Float(0.0, 1.0)}, version="1", inputs=INPUTS, cost=lambda **_: 1.0)
    def right(data, *, y):
        return data + math.cos(8.0 * y)

    @stage(
        space={"z": Float(0.0, 1.0)},
        version="1",
        inputs=("left", "right"),
        cost=lambda *_, **__: 6.0,
    )
    def join(one, other, *, z):
        return one + other - (z - 0.3) ** 2

    cache = StageCache()
    tuner = tuner_of(
        Pipeline([left, right, join]), cache=cache, executor="threads", max_parallel=max_parallel
    )
    study = tuner.run(0.0, progress=False)

    # Beside several workers a choice is often under way, and trials go on meanwhile.
    assert stopped(study) or max_parallel > 1
    for trial in stopped(study):
        assert trial.user_attrs["stage_costs"][2] is None
        assert "error" not in trial.user_attrs
    for trial in most_promising(tuner._trials.history):
        keys = zip(trial.user_attrs["stage_keys"], trial.user_attrs["stage_costs"], strict=True)
        assert all(key in cache for key, cost in keys if cost is not None)


def test_what_a_suspended_trial_has_made_is_kept_and_offered(asked):
    cache = StageCache()
    tuner = tuner_of(cache=cache)
    study = tuner.run(0.0, progress=False)

    promising = most_promising(tuner._trials.history)
    assert promising
    for trial in promising:
        reached = sum(cost is not None for cost in trial.user_attrs["stage_costs"])
        assert trial.user_attrs["stage_keys"][reached - 1] in cache
    made = {key for trial in stopped(study) for key in trial.user_attrs["stage_keys"][:1]}
    reused = {
        trial.user_attrs["stage_keys"][0]
        for trial in study.trials
        if trial.user_attrs["memoized"][0] and trial.state is TrialState.COMPLETE
    }
    assert made & reused, "nobody has gone on from a suspended trial"


def test_another_tuner_goes_on_from_what_was_suspended(asked, tmp_path):
    storage, cache = f"sqlite:///{tmp_path / 'study.db'}", StageCache(tmp_path / "cache")
    usual = {"storage": storage, "study_name": "s", "cache": cache}
    before = stopped(tuner_of(**usual, budget=40.0).run(0.0, progress=False))

    tuner = tuner_of(**usual, budget=60.0)
    assert before
    assert {t.number for t in most_promising(tuner._trials.history)} <= {t.number for t in before}
    study = tuner.run(0.0, progress=False)

    assert study.user_attrs
    assert len(study.trials) > len(before)
    assert sum(t.user_attrs["charged"] for t in study.trials) == pytest.approx(tuner.spent)


@pytest.mark.parametrize(
    ("pipeline", "arguments", "bound"),
    [
        ({}, {}, {"max_trials": N_INITIAL + 2}),
        ({"shows": False}, {}, {}),
        ({"memoize": False}, {}, {}),
        ({}, {"suspend": False}, {}),
    ],
)
def test_nobody_asks_where_there_is_nothing_to_save_or_to_keep(asked, pipeline, arguments, bound):
    study = tuner_of(pipeline_of(**pipeline), **arguments).run(0.0, **bound, progress=False)

    assert len(study.trials) > N_INITIAL
    assert asked == []


def test_a_trial_goes_on_that_no_other_could_follow(asked):
    tuner = tuner_of(budget=1000.0)
    tuner.run(0.0, max_trials=N_INITIAL, progress=False)
    tuner = tuner_of(
        storage=tuner.study._storage, budget=tuner.spent + 0.5, study_name=tuner.study.study_name
    )
    study = tuner.run(0.0, progress=False)

    assert len(study.trials) == N_INITIAL + 1
    assert study.trials[-1].state is TrialState.COMPLETE
    assert asked == []


def test_stages_that_take_less_than_a_look_are_run(asked):
    """Seconds are measured; all of these stages take next to nothing, but the first look."""
    pipeline, most = pipeline_of(cost=None, rest=None), N_INITIAL + 4

    def stop(study, trial):
        if trial.number + 1 >= most:
            study.stop()

    study = tuner_of(pipeline, callbacks=[stop]).run(0.0, progress=False)

    assert len(study.trials) == most
    assert len(asked) <= 2


# --- What the sampler says


def test_the_warm_up_and_what_the_user_has_enqueued_are_not_asked_about(monkeypatch):
    seen = []
    real = EEIPUSampler.outlook

    def outlook(sampler, history, trial, *rest):
        found = real(sampler, history, trial, *rest)
        seen.append((trial.number, found is not None))
        return found

    monkeypatch.setattr(EEIPUSampler, "outlook", outlook)
    tuner = tuner_of(n_initial=8, budget=120.0)
    tuner.enqueue({"cheap.x": 0.1, "costly.y": 0.1, "score.z": 0.1})
    study = tuner.run(0.0, progress=False)

    by = [trial.user_attrs.get("chosen", {}).get("by") for trial in study.trials]
    assert any(found for _, found in seen)
    assert all(by[number] == "models" for number, found in seen if found)
    assert by[0] is None


@pytest.mark.parametrize("max_parallel", [1, 3])
def test_a_search_with_suspensions_ends_well(max_parallel):
    """Whatever is suspended, everything that began has ended and the best trial is whole."""
    tuner = tuner_of(budget=90.0, max_parallel=max_parallel, executor="threads")
    study = tuner.run(0.0, progress=False)

    assert all(trial.state.is_finished() for trial in study.trials)
    assert study.best_trial.user_attrs["observations"].keys() == {"cheap", "costly", "score"}
    assert not any("error" in trial.user_attrs for trial in study.trials)


@pytest.mark.parametrize("method", ["ei", optuna.samplers.RandomSampler(seed=0)])
def test_only_a_method_that_sees_stages_can_suspend(method):
    with pytest.raises(ConfigurationError, match=r"suspend=True needs a method.*choose 'eeipu'"):
        tuner_of(method=method)
    with pytest.raises(ConfigurationError, match="suspend must be True or False, not 'yes'"):
        tuner_of(suspend="yes")


def test_what_cannot_be_suspended_leaves_no_study_behind(tmp_path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    with pytest.raises(ConfigurationError, match="suspend=True needs a cache"):
        tuner_of(cache=None, storage=storage)
    assert optuna.get_all_study_names(storage) == []
