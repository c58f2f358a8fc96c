"""Failures that are no fault of the configuration, and small regions that do not fail."""

import optuna
import pytest
from snapshots import snapshot

from eeipu import ConfigurationError, Float, OneOf, Pipeline, StageRun, Tuner, stage
from eeipu.studies.displays.snapshot import outcome, result


class Broken:
    """A stage that fails while `error` is set; how often it ran is in `calls`."""

    def __init__(self, error=None):
        self.error = error
        self.calls = 0

        @stage(space={"x": Float(0, 1), "y": Float(0, 1)}, cost=lambda x, y: 1.0, version="1")
        def fit(*, x, y):
            self.calls += 1
            if self.error is not None:
                raise self.error
            return -((x - 0.3) ** 2) - y

        self.pipeline = Pipeline([fit])


def run(tuner, trials):
    return tuner.run(max_trials=trials, progress=False)


def states(tuner):
    return [trial.state.name for trial in tuner.study.trials]


def test_ten_trials_without_their_file_are_forgotten_when_it_is_back(caplog):
    toy = Broken(FileNotFoundError("data.csv"))
    tuner = Tuner(toy.pipeline, seed=0)
    run(tuner, 20)
    assert states(tuner) == ["FAIL"] * 10
    toy.error = None
    caplog.clear()

    run(tuner, 3)

    message = "\n".join(record.getMessage() for record in caplog.records)
    assert (
        "10 failed trials no longer count, the last with 'FileNotFoundError: data.csv'" in message
    )
    tuner.study.sampler._n_initial = 3
    run(tuner, 1)  # from models of three successes
    assert states(tuner) == ["FAIL"] * 10 + ["COMPLETE"] * 4


def test_failures_are_tried_again_first():
    toy = Broken(ValueError("no"))
    tuner = Tuner(toy.pipeline, seed=0)
    run(tuner, 2)
    toy.error = OSError("disk")
    run(tuner, 1)
    failed = [trial.params for trial in tuner.study.trials]
    toy.error = None

    assert tuner.retry_failed("ValueError") == 2
    run(tuner, 2)

    assert [trial.params for trial in tuner.study.trials[3:]] == failed[:2]
    assert states(tuner) == ["FAIL"] * 3 + ["COMPLETE"] * 2
    assert tuner.retry_failed() == 1
    assert tuner.retry_failed() == 0


def test_what_is_tried_again_is_enqueued_before_it_is_forgotten(monkeypatch):
    """No driver can choose it in between."""
    tuner = Tuner(Broken(ValueError("no")).pipeline, seed=0)
    run(tuner, 1)
    enqueued = []
    told = optuna.Study.set_user_attr
    monkeypatch.setattr(
        optuna.Study,
        "set_user_attr",
        lambda study, *of: enqueued.append(states(tuner)) or told(study, *of),
    )
    assert tuner.retry_failed() == 1
    assert enqueued == [["FAIL", "WAITING"]]


def test_a_retry_that_fails_may_be_tried_again():
    toy = Broken(ValueError("no"))
    tuner = Tuner(toy.pipeline, seed=0)
    run(tuner, 1)
    for _ in range(2):
        assert tuner.retry_failed() == 1
        run(tuner, 1)

    assert len({tuple(trial.params.values()) for trial in tuner.study.trials}) == 1
    assert len(tuner.study.trials) == 3


def test_failures_that_the_user_names_do_not_count():
    toy = Broken(ValueError("busy"))
    tuner = Tuner(toy.pipeline, seed=0, n_initial=3, forget="busy")
    run(tuner, 2)
    toy.error = None
    run(tuner, 3)

    assert tuner.study.sampler.n_initial == 3
    run(tuner, 1)  # the models have no failure to learn from
    assert tuner.study.sampler._refits._starts.keys() == {"objective", "costs"}


def test_the_number_of_failures_in_a_row_can_be_set():
    tuner = Tuner(Broken(OSError("disk")).pipeline, seed=0, max_failures=3)
    run(tuner, 20)

    assert len(tuner.study.trials) == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_search_goes_on_where_a_tenth_of_the_space_is_feasible(seed):
    @stage(space={"x": Float(0, 1), "y": Float(0, 1)}, cost=lambda x, y: 1.0, version="1")
    def fit(*, x, y):
        if x > 0.4 or y > 0.25:
            raise ValueError("infeasible")
        return -((x - 0.3) ** 2) - y

    tuner = Tuner(Pipeline([fit]), seed=seed)
    run(tuner, 40)

    assert len(tuner.study.trials) == 40
    assert states(tuner).count("COMPLETE") >= 8  # a tenth would be four


@pytest.mark.parametrize(
    "arguments", [{"max_failures": 0}, {"max_failures": 1.5}, {"forget": [3]}, {"forget": ""}]
)
def test_arguments_about_failures_are_checked(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        Tuner(Broken().pipeline, **arguments)


# --- pruning


def pruning(above, error=optuna.TrialPruned):
    """A pipeline whose second stage prunes its trial where `y` is larger."""

    @stage(space={"x": Float(0, 1)}, cost=lambda x: 2.0, version="1")
    def prep(*, x):
        return x

    @stage(space={"y": Float(0, 1)}, cost=lambda y: 1.0, version="1")
    def fit(x, *, y):
        if y > above:
            raise error("not worth it")
        return -((x - 0.3) ** 2) + y

    return Pipeline([prep, fit])


def test_a_stage_may_prune_its_trial():
    tuner = Tuner(pruning(0.0), seed=0)
    study = run(tuner, 12)  # which are not ten failures in a row

    assert states(tuner) == ["PRUNED"] * 12
    attrs = study.trials[0].user_attrs
    assert attrs["charged"] == 3.0
    assert attrs["stage_costs"] == [2.0, 1.0]
    assert attrs["pruned_stage"] == "fit"
    assert "error" not in attrs


def test_workers_in_other_processes_prune_too():
    tuner = Tuner(pruning(0.0), seed=0, max_parallel=2)
    run(tuner, 2)

    assert states(tuner) == ["PRUNED"] * 2


def test_a_pruned_trial_is_no_failure_to_the_models():
    tuner = Tuner(pruning(0.6), seed=0, n_initial=8)
    run(tuner, 9)

    assert "PRUNED" in states(tuner)
    assert tuner.study.sampler._refits._starts.keys() == {"objective", "chain", "costs"}


def test_the_search_leaves_a_region_that_is_pruned_without_a_report():
    tuner = Tuner(pruning(0.6), seed=0, n_initial=8)
    run(tuner, 16)

    later = states(tuner)[8:]
    assert later.count("COMPLETE") > later.count("PRUNED")


def test_a_plain_study_prunes_with_what_was_reported_last():
    pipeline = pruning(0.0)

    def objective(trial):
        trial.report(0.25, step=3)
        return pipeline.run(trial).value

    study = optuna.create_study()
    study.optimize(objective, n_trials=1)

    assert study.trials[0].state.name == "PRUNED"
    assert study.trials[0].value == 0.25
    assert pipeline.run(study.trials[0]).is_pruned  # a trial that has ended is not pruned again


def test_a_caller_may_tell_that_a_trial_was_pruned():
    tuner = Tuner(Pipeline.declare({"a": {"x": Float(0, 1)}, "b": {"y": Float(0, 1)}}), budget=1e3)
    tuner.tell(tuner.ask(), 0.25, pruned=True, stage_costs=[2.0, 1.0])
    tuner.tell(tuner.ask(), pruned=True, stage_costs=[2.0, None])

    assert states(tuner) == ["PRUNED"] * 2
    assert [trial.value for trial in tuner.study.trials] == [0.25, None]
    assert [t.user_attrs["pruned_stage"] for t in tuner.study.trials] == ["b", "a"]
    assert tuner.spent == 5.0
    with pytest.raises(ConfigurationError, match="both failed=True and pruned=True"):
        tuner.tell(tuner.ask(), failed=True, pruned=True)


def test_a_pruned_trial_is_shown_as_such():
    run_ = StageRun("fit", "key", cost=1.0, error="TrialPruned", is_pruned=True)
    seen = snapshot(value=None, stage_runs=(run_,))

    assert result(seen) == "pruned"
    assert seen.failure is None
    assert outcome(run_, " s") == "1 s, pruned"


@pytest.mark.parametrize("are_all_broken", [False, True])
def test_an_alternative_that_cannot_run_leaves_the_others(are_all_broken, caplog):
    def unavailable(data, *, b):
        raise ImportError("No module named 'xgboost'")

    def plain(data, *, a):
        if are_all_broken:
            raise NameError("name 'unknown' is not defined")
        return a

    alternatives = [
        stage(unavailable, name="boosting", space={"b": Float(0, 1)}),
        stage(plain, name="forest", space={"a": Float(0, 1)}),
    ]
    pipeline = Pipeline([OneOf("model", alternatives)])
    tuner = Tuner(pipeline, budget=None, method="random", cache=None, seed=0, max_failures=100)
    for model, value in (("boosting", 0.2), ("boosting", 0.4), ("forest", 0.3)):
        tuner.enqueue({"model": model, ("forest.a" if model == "forest" else "boosting.b"): value})

    study = tuner.run(0.0, max_trials=6, progress=False)

    assert len(study.trials) == (3 if are_all_broken else 6)
    assert ("would meet too" in caplog.text) == are_all_broken
