"""What trials record of their stages on the way: on workers, told by a caller, and to callbacks."""

import math
import os

import optuna
import pytest
from engines import check_observes_what_one_observes

from eeipu import Categorical, ConfigurationError, Float, Pipeline, StageCache, Tuner, stage
from eeipu.methods.history import History
from eeipu.studies.trials import StageCallback

POINT = {"prep.x": 1, "score.z": 0.5}


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
@pytest.mark.parametrize("is_kept", [True, False], ids=["cache", "no cache"])
def test_trials_record_the_same_on_all_workers_with_and_without_a_cache(
    executor, is_kept, tmp_path
):
    looks = tmp_path / "looks"
    looks.mkdir()
    cache = StageCache(tmp_path / "cache") if is_kept else None
    parallel = {} if executor else {"max_parallel": 1}
    counts = check_observes_what_one_observes(executor, looks, cache=cache, **parallel)
    # Each of two outputs is seen once by each observer; without a cache, at every call.
    assert counts == ([2, 2, 2] if is_kept else [8, 16, 8])


def test_what_must_be_observed_again_is_loaded_by_a_worker(tmp_path):
    cache, here = StageCache(tmp_path / "cache"), os.getpid()
    tuner_of(POINT, observe=None, cache=cache).run(1.0, max_trials=1, progress=False)
    watcher = Watcher()
    tuner = tuner_of(
        POINT,
        POINT | {"score.z": 0.25},
        observe=lambda made: {"elsewhere": os.getpid() != here},
        cache=cache,
        executor="processes",
        callbacks=[watcher],
    )
    study = tuner.run(1.0, max_trials=2, progress=False)
    for trial, score, is_reused in zip(study.trials, [2.5, 2.25], [True, False], strict=True):
        assert trial.user_attrs["observations"] == {"prep.elsewhere": 1.0, "score": score}
        assert trial.user_attrs["memoized"] == [True, is_reused]
    # The kept objective is told at once, and the output before it when a worker has seen it.
    assert sorted(each[:2] for each in watcher.seen) == [
        (n, name) for n in (0, 1) for name in ("prep", "score")
    ]


def pipeline_of(observe=None, **options):
    @stage(space={"x": Categorical([1, 2])}, version="1", observe=observe, **options)
    def prep(data, *, x):
        return {"n": data + x}

    @stage(space={"z": Float(0.0, 1.0)}, version="1")
    def score(made, *, z):
        return made["n"] + z

    return Pipeline([prep, score])


def count(made):
    return {"n": made["n"]}


def tuner_of(*points, observe=count, **arguments):
    tuner = Tuner(
        pipeline_of(observe), **{"budget": 1e3, "method": "random", "seed": 0, **arguments}
    )
    for each in points:
        tuner.enqueue(each)
    return tuner


# --- Callbacks


class Watcher:
    def __init__(self, stop_at=None):
        self.seen = []
        self.stop_at = stop_at

    def on_stage(self, study, trial, run):
        assert trial.state.name == "RUNNING"
        observed = dict(trial.user_attrs.get("observations", {}))
        self.seen.append((trial.number, run.name, run.memoized, run.observation, observed))
        if run.name == self.stop_at:
            study.stop()


class Both(Watcher):
    def __call__(self, study, trial):
        self.seen.append((trial.number, trial.state.name, trial.user_attrs["observations"]))


def test_callbacks_see_observations_when_they_come():
    watcher = Both()
    assert isinstance(watcher, StageCallback)
    points = [POINT, POINT | {"score.z": 0.25}]
    tuner_of(*points, callbacks=[watcher]).run(1.0, max_trials=2, progress=False)
    assert watcher.seen == [
        (0, "prep", False, {"n": 2.0}, {"prep.n": 2.0}),
        (0, "score", False, 2.5, {"prep.n": 2.0, "score": 2.5}),
        (0, "COMPLETE", {"prep.n": 2.0, "score": 2.5}),
        (1, "prep", True, {"n": 2.0}, {"prep.n": 2.0}),
        (1, "score", False, 2.25, {"prep.n": 2.0, "score": 2.25}),
        (1, "COMPLETE", {"prep.n": 2.0, "score": 2.25}),
    ]


def test_a_callback_need_not_be_a_function_and_may_stop_the_run():
    watcher = Watcher(stop_at="prep")
    study = tuner_of(callbacks=[watcher]).run(1.0, max_trials=5, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]
    assert [each[1] for each in watcher.seen] == ["prep", "score"]


@pytest.mark.parametrize("stop_at", ["prep", "score"])
def test_a_callback_that_raises_leaves_no_trial_open(stop_at):
    class Raising(Watcher):
        def on_stage(self, study, trial, run):
            if run.name == stop_at:
                raise RuntimeError("no more")

    tuner = tuner_of(callbacks=[Raising()])
    with pytest.raises(RuntimeError, match="no more"):
        tuner.run(1.0, max_trials=2, progress=False)
    assert not any(trial.state.name == "RUNNING" for trial in tuner.study.trials)


def test_what_is_no_callback_is_refused():
    with pytest.raises(ConfigurationError, match="or of objects with a method on_stage"):
        tuner_of(callbacks=[3])
    with pytest.raises(ConfigurationError, match="callbacks must be a list"):
        tuner_of(callbacks=3)


# --- Broken observers


def broken(made):
    return made["loss"]


def test_a_broken_observer_is_told_at_once_and_costs_no_output(tmp_path, caplog):
    cache, storage = StageCache(tmp_path / "cache"), f"sqlite:///{tmp_path}/study.db"
    options = {"cache": cache, "storage": storage, "study_name": "s"}
    study = tuner_of(POINT, observe=broken, **options).run(1.0, max_trials=5, progress=False)
    assert [trial.state.name for trial in study.trials] == ["FAIL"]
    assert "raised by observe=... of stage 'prep'" in caplog.text
    assert "KeyError: 'loss'" in study.trials[0].user_attrs["error"]

    tuner = tuner_of(observe=count, **options)
    history = History.of(tuner.study, tuner.pipeline)
    assert (len(history), len(history.forgotten)) == (0, 1)  # the observer was corrected
    assert tuner.retry_failed() == 1
    trial = tuner.run(1.0, max_trials=1, progress=False).trials[-1]
    assert trial.user_attrs["observations"] == {"prep.n": 2.0, "score": 2.5}
    assert trial.user_attrs["memoized"] == [True, False]


def test_an_observer_that_fails_later_fails_its_trials_alone_and_their_outputs_stay():
    def sometimes(made):
        if made["n"] > 2:
            raise ZeroDivisionError("no rows")
        return 1.0

    cache = StageCache()
    tuner = tuner_of(POINT, POINT | {"prep.x": 2}, observe=sometimes, top_q=1, cache=cache)
    study = tuner.run(1.0, max_trials=2, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"]
    assert study.trials[1].user_attrs["stage_keys"][0] in cache


def test_a_failure_of_the_same_observer_counts():
    tuner = tuner_of(POINT, observe=broken)
    tuner.run(1.0, max_trials=1, progress=False)
    assert len(History.of(tuner.study, tuner.pipeline)) == 1


def test_an_observer_may_prune():
    def poor(made):
        raise optuna.TrialPruned

    study = tuner_of(POINT, observe=poor).run(1.0, max_trials=1, progress=False)
    assert study.trials[0].state.name == "PRUNED"
    assert study.trials[0].user_attrs["pruned_stage"] == "prep"


# --- Plain Optuna, the best run, and what was told


def test_plain_optuna_users_have_them_too():
    pipeline, cache, study = pipeline_of(count), StageCache(), optuna.create_study()
    for _ in range(2):
        study.enqueue_trial(POINT)
    study.optimize(lambda trial: pipeline.run(trial, 1.0, cache=cache).value, n_trials=2)
    for trial in study.trials:
        assert trial.user_attrs["observations"] == {"prep.n": 2.0, "score": 2.5}


def test_the_best_run_has_what_was_observed():
    tuner = tuner_of(POINT)
    tuner.run(1.0, max_trials=1, progress=False)
    run = tuner.best_run(1.0)
    assert run.observations == {"prep.n": 2.0, "score": 2.5}
    assert run.stage_runs[0].observation == {"n": 2.0}


def declared():
    return Tuner(
        Pipeline.declare({"prep": {"x": Float(0, 1)}, "score": {"z": Float(0, 1)}}),
        budget=10.0,
        method="random",
        seed=0,
    )


@pytest.mark.parametrize(
    ("observations", "noted"),
    [
        ({"prep": 0.5}, {"prep": 0.5}),
        ({"prep": {"loss": 0.5, "auc": math.nan}}, {"prep.loss": 0.5}),
        ({"prep.loss": 0.5, "score": 1}, {"prep.loss": 0.5, "score": 1.0}),
        ({"prep": math.inf}, None),
        ({"prep.loss": None, "score": 1.0}, {"score": 1.0}),
        ({}, None),
        (None, None),
    ],
)
def test_observations_can_be_told(observations, noted):
    tuner = declared()
    tuner.tell(tuner.ask(), 1.0, stage_costs=[1.0, 1.0], observations=observations)
    assert tuner.study.trials[0].user_attrs.get("observations") == noted


def test_they_can_be_told_of_a_failure_too():
    tuner = declared()
    tuner.tell(tuner.ask(), failed=True, stage_costs=[1.0, 1.0], observations={"prep": 0.5})
    assert tuner.study.trials[0].user_attrs["observations"] == {"prep": 0.5}


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ({"train": 0.5}, "names none of the stages"),
        ({"prep": "low"}, "observations has under 'prep' str 'low', which is not a number"),
        ({"prep.loss": [0.5]}, r"observations has under 'prep.loss' list \[0.5\]"),
        ({"prep": 0.5, "prep.loss": 0.25}, "a number for stage 'prep' and numbers under its name"),
        ([0.5, 0.25], "observations must be a dict such as"),
    ],
)
def test_what_does_not_fit_is_refused_and_can_be_told_again(observations, message):
    tuner = declared()
    suggestion = tuner.ask()
    with pytest.raises(ConfigurationError, match=message):
        tuner.tell(suggestion, 1.0, observations=observations)
    tuner.tell(suggestion, 1.0, observations={"prep": 0.5})
