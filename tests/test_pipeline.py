"""Pipelines: joining stages, and running one configuration from end to end."""

import fractions
import math
import re
from typing import NamedTuple

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.trial import FixedTrial

from eeipu.cache import IN_MEMORY, StageCache
from eeipu.errors import ConfigurationError, PipelineError, SpaceError
from eeipu.fingerprints.keys import inputs_key
from eeipu.pipeline import Pipeline
from eeipu.space import Categorical, Float, Int
from eeipu.stages.declaration import Stage
from eeipu.stages.decorator import stage
from eeipu.stages.runs import StageRun

SPACE = {
    "prep.dims": Int(1, 8, log=True),
    "train.lr": Float(1e-4, 1e-1, log=True),
    "train.loss": Categorical(["l1", "l2"]),
    "score.threshold": Float(0.0, 1.0, step=0.25),
}
PARAMS = {"prep.dims": 2, "train.lr": 1e-2, "train.loss": "l2", "score.threshold": 0.5}


def three_stages(log=None, value=None):
    """A pipeline with declared costs that logs what it runs and returns what it was given."""
    log = [] if log is None else log

    @stage(space={"dims": SPACE["prep.dims"]}, version="1", cost=lambda dims: 10.0 * dims)
    def prep(data, *, dims):
        log.append("prep")
        return [data] * dims

    @stage(
        space={"lr": SPACE["train.lr"], "loss": SPACE["train.loss"]},
        version="1",
        cost=lambda lr, loss: 5.0,
    )
    def train(features, *, lr, loss):
        log.append("train")
        return sum(features) * lr

    @stage(
        space={"threshold": SPACE["score.threshold"]},
        version="1",
        cost=lambda threshold: 1.0,
        memoize=False,
    )
    def score(model, *, threshold):
        log.append("score")
        return model - threshold if value is None else value

    return prep, train, score


@pytest.fixture
def log():
    return []


@pytest.fixture
def pipeline(log):
    return Pipeline(three_stages(log))


def returning(value, objective=None):
    """A pipeline of one stage that returns this."""
    return Pipeline([stage(name="only", version="1")(lambda: value)], objective=objective)


def passing(name, space=None):
    return stage(space=space, name=name, version="1")(lambda data, **_: data)


# --- joining stages -------------------------------------------------------------------------


def test_the_space_names_each_parameter_after_its_stage(pipeline):
    assert pipeline.space == SPACE
    assert list(pipeline.space) == list(SPACE)
    assert pipeline.cube.names == tuple(SPACE)


def test_each_stage_owns_its_columns(pipeline):
    assert pipeline.columns.of_stages == ((0,), (1, 2), (3,))
    assert Pipeline([passing("a"), passing("b")]).columns.of_stages == ((), ())


def test_a_pipeline_is_named_after_its_stages_unless_told_otherwise(pipeline):
    assert pipeline.name == "prep -> train -> score"
    assert pipeline.stage_names == ("prep", "train", "score")
    assert Pipeline(three_stages(), name="mine").name == "mine"
    assert repr(pipeline) == "Pipeline('prep -> train -> score', 4 hyper-parameters)"


def test_stages_may_come_from_any_iterable():
    assert Pipeline(iter(three_stages())).stage_names == ("prep", "train", "score")


def raw(data):
    return data


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least one stage"),
        ([passing("a"), raw], r"raw.* is not a stage; decorate it with @stage"),
        ([passing("a"), passing("b"), passing("a")], "two stages are named 'a'"),
        (
            [passing("a"), stage(name="b")(lambda: 1)],
            "stage 'b' takes no input, but it gets the output of 'a'",
        ),
        (
            [passing("a"), stage(name="b", space={"x": Int(0, 1)})(lambda x, *data: 1)],
            "stage 'b' takes no input",
        ),
        (
            [passing("a"), stage(name="b")(lambda data, alpha, beta=1: 1)],
            r"stage 'b' gets one input, the output of 'a'.*\['alpha'\] have neither",
        ),
    ],
)
def test_stages_that_cannot_be_joined_are_refused_by_name(stages, message):
    with pytest.raises(PipelineError, match=message):
        Pipeline(stages)


def test_a_later_stage_may_take_its_input_in_any_way():
    Pipeline(
        [
            passing("a"),
            stage(name="b")(lambda data: data),
            stage(name="c")(lambda data, /, extra=None: data),
            stage(name="d")(lambda *data: data),
            stage(name="e")(lambda data=None: data),
        ]
    )


# --- declaring without functions ------------------------------------------------------------


def test_a_declared_pipeline_has_a_space_and_keys_but_no_functions():
    declared = Pipeline.declare({"prep": {"dims": Int(1, 8)}, "train": {}}, name="remote")
    assert (declared.name, declared.stage_names) == ("remote", ("prep", "train"))
    assert declared.space == {"prep.dims": Int(1, 8)}
    assert not declared.layout.is_runnable
    assert len({call.key for call in declared.calls({"prep.dims": 3})}) == 2


def test_a_pipeline_with_all_functions_is_runnable(pipeline):
    assert pipeline.layout.is_runnable


def test_running_a_declared_pipeline_says_what_to_do():
    declared = Pipeline.declare({"prep": {"dims": Int(1, 8)}})
    with pytest.raises(PipelineError, match=r"'prep'.*Tuner\.ask and Tuner\.tell"):
        declared.run({"prep.dims": 3})


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ({"prep": Int(1, 8)}, "'prep'.*must be a dict"),
        ({"prep": {"dims": 8}}, "'prep'.*'dims'.*8"),
        ({"pre.p": {}}, r"without dots.*'pre\.p'"),
        ({}, "at least one stage"),
    ],
)
def test_a_declaration_of_no_use_is_refused_by_name(spaces, message):
    with pytest.raises(PipelineError, match=message):
        Pipeline.declare(spaces)


# --- keys -----------------------------------------------------------------------------------


def test_equal_configurations_have_equal_keys_however_they_are_written(pipeline):
    written = {name: PARAMS[name] for name in reversed(PARAMS)} | {"prep.dims": np.int64(2)}
    assert pipeline.calls(written) == pipeline.calls(PARAMS)


def test_calls_get_the_parameters_without_the_name_of_their_stage(pipeline):
    assert [dict(call.params) for call in pipeline.calls(PARAMS)] == [
        {"dims": 2},
        {"lr": 1e-2, "loss": "l2"},
        {"threshold": 0.5},
    ]


def test_a_configuration_that_differs_late_shares_the_early_keys(pipeline):
    one = pipeline.calls(PARAMS)
    other = pipeline.calls(PARAMS | {"train.lr": 2e-2})
    assert [x.key == y.key for x, y in zip(one, other, strict=True)] == [True, False, False]


def test_the_keys_of_a_run_are_those_that_calls_tells(pipeline):
    run = pipeline.run(PARAMS, 1.0)
    calls = pipeline.calls(PARAMS, inputs_key((1.0,)))
    assert [each.key for each in run.stage_runs] == [call.key for call in calls]


def test_keys_are_the_same_for_a_float_that_a_storage_gave_back(pipeline, tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask(pipeline.space)
        stored = optuna.load_study(study_name=study.study_name, storage=storage)
        assert pipeline.calls(stored.trials[-1].params) == pipeline.calls(trial.params)
        study.tell(trial, 0.0)


# --- running --------------------------------------------------------------------------------


def test_a_run_gives_the_value_and_accounts_for_every_stage(pipeline, log):
    run = pipeline.run(PARAMS, 10.0)
    assert log == ["prep", "train", "score"]
    assert run.value == pytest.approx(20.0 * 1e-2 - 0.5)
    assert (run.error, run.metrics) == (None, {})
    assert run.stage_costs == [20.0, 5.0, 1.0]
    assert run.charged == 26.0
    assert run.memoized == [False, False, False]


def test_a_second_run_reuses_the_prefix_that_it_shares(pipeline, log):
    cache = StageCache()
    pipeline.run(PARAMS, 10.0, cache=cache)
    run = pipeline.run(PARAMS | {"train.loss": "l1"}, 10.0, cache=cache)
    assert log == ["prep", "train", "score", "train", "score"]
    assert run.memoized == [True, False, False]
    assert run.stage_costs == [None, 5.0, 1.0]
    assert (run.charged, run.saved) == (6.0, 20.0)


def test_other_inputs_share_nothing(pipeline, log):
    cache = StageCache()
    pipeline.run(PARAMS, 10.0, cache=cache)
    assert not any(pipeline.run(PARAMS, 11.0, cache=cache).memoized)


@pytest.mark.parametrize("location", ["directory", "memory://eeipu-test-pipeline"])
def test_outputs_outlive_the_pipeline_that_made_them(location, tmp_path):
    place = tmp_path if location == "directory" else location
    StageCache(place).clear()
    Pipeline(three_stages()).run(PARAMS, 10.0, cache=StageCache(place))
    run = Pipeline(three_stages()).run(PARAMS, 10.0, cache=StageCache(place))
    assert run.memoized == [True, True, False]


def test_a_pipeline_may_have_no_inputs_and_no_hyper_parameters():
    assert returning(2.5).run({}).value == 2.5


def test_the_clock_measures_the_stages():
    ticks = iter(range(100))
    run = returning(1.0).run({}, clock=lambda: float(next(ticks)))
    assert run.stage_costs == [1.0]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), r"'prep', takes the inputs \['data'\], but got 0"),
        ((1, 2), r"'prep', takes the inputs \['data'\], but got 2"),
    ],
)
def test_a_wrong_number_of_inputs_is_told_before_any_stage_runs(pipeline, log, inputs, message):
    with pytest.raises(PipelineError, match=message):
        pipeline.run(PARAMS, *inputs)
    assert log == []


def test_a_first_stage_may_take_any_number_of_inputs():
    total = Pipeline([stage(name="total", version="1")(lambda *numbers: sum(numbers))])
    assert [total.run({}, *range(n)).value for n in (0, 1, 4)] == [0.0, 0.0, 6.0]


def test_a_first_stage_may_leave_inputs_out_that_have_defaults():
    pair = Pipeline([stage(name="pair", version="1")(lambda x, y=10: x + y)])
    assert (pair.run({}, 1).value, pair.run({}, 1, 2).value) == (11.0, 3.0)


@pytest.mark.parametrize("cache", ["cache/", IN_MEMORY, {}])
def test_a_cache_of_another_kind_is_refused(pipeline, log, cache):
    with pytest.raises(ConfigurationError, match="cache must be a StageCache or None"):
        pipeline.run(PARAMS, 1.0, cache=cache)
    assert log == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (PARAMS | {"prep.dims": 9}, r"prep\.dims=9 lies outside"),
        ({"dims": 2}, r"unknown: \['dims'\].*prep\.dims"),
        ([2], "dict of parameters, but got list"),
    ],
)
def test_a_configuration_out_of_the_space_is_told_before_any_stage_runs(
    pipeline, log, params, message
):
    with pytest.raises(SpaceError, match=message):
        pipeline.run(params, 1.0)
    assert log == []


def test_iterators_as_inputs_are_refused_before_any_stage_runs(pipeline, log):
    with pytest.raises(PipelineError, match="input 0 of the run is an iterator, a generator"):
        pipeline.run(PARAMS, (x for x in "abc"))
    assert log == []


# --- objectives -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        2,
        2.0,
        np.float32(2.0),
        np.int64(2),
        np.array(2.0),
        torch.tensor(2.0),
        fractions.Fraction(2),
    ],
)
def test_any_number_is_an_objective(value):
    run = returning(value).run({})
    assert (run.value, type(run.value)) == (2.0, float)


def test_of_several_metrics_the_objective_is_optimised():
    run = returning({"f1": np.float64(0.5), "loss": 2, "auc": math.nan}, objective="f1").run({})
    assert run.value == 0.5
    assert run.metrics["f1"] == 0.5
    assert run.metrics["loss"] == 2.0
    assert math.isnan(run.metrics["auc"])


class Metrics(NamedTuple):
    loss: float
    f1: float


@pytest.mark.parametrize(
    "value", [Metrics(loss=2.0, f1=0.5), pd.Series({"loss": 2.0, "f1": 0.5})], ids=type
)
def test_metrics_with_names_of_their_own_are_never_taken_by_position(value):
    several = returning(value, objective=["f1", "loss"]).run({})
    one = returning(value, objective="loss").run({})
    assert several.metrics == one.metrics == {"loss": 2.0, "f1": 0.5}
    assert (several.values, one.values) == ((0.5, 2.0), (2.0,))


def test_a_name_that_stands_twice_in_a_series_is_no_metric():
    run = returning(pd.Series([0.5, 2.0], index=["f1", "f1"]), objective="f1").run({})
    assert run.value is None
    assert "must return a number or a dict of numbers" in run.error


def test_a_series_without_names_is_a_list():
    run = returning(pd.Series([0.5, 2.0]), objective=["f1", "loss"]).run({})
    assert run.metrics == {"f1": 0.5, "loss": 2.0}


@pytest.mark.parametrize(
    ("metric", "remedy"),
    [
        ([0.1, 0.2], "leave 'extra' out, or let a stage before the last one return it"),
        ("rbf", "leave 'extra' out"),
        (None, "give 'extra' a value in every trial, which may be math.nan"),
        (np.array([0.5]), r"return its one element with .item\(\)"),
    ],
)
def test_a_metric_that_is_no_number_comes_with_its_remedy(metric, remedy):
    run = returning({"f1": 0.5, "extra": metric}, objective="f1").run({})
    assert re.search(rf"'extra'.*{remedy}", run.error)


@pytest.mark.parametrize(
    ("value", "objective", "message"),
    [
        (math.nan, None, "objective must be finite.*nan"),
        (math.inf, None, "objective must be finite.*inf"),
        (None, None, "a number or a dict of numbers.*NoneType: None"),
        ("0.9", None, "a number or a dict of numbers.*str: '0.9'"),
        (np.zeros(3), None, "a number or a dict of numbers.*ndarray"),
        (np.array(1j), None, "a number or a dict of numbers.*1[.]j"),
        ({"f1": 0.5}, None, r"metrics \['f1'\].*none of them is named.*Pipeline\(objective=...\)"),
        ({"f1": 0.5}, "auc", r"metrics \['f1'\].*objective is 'auc'"),
        ({"f1": math.nan}, "f1", "objective must be finite"),
        ({"f1": 0.5, "matrix": [[1]]}, "f1", r"number as the metric 'matrix'.*list: \[\[1\]\]"),
    ],
)
def test_an_objective_of_no_use_is_a_failure_with_its_cost(value, objective, message):
    ticks = iter(range(100))
    run = returning(value, objective).run({}, clock=lambda: float(next(ticks)))
    assert (run.value, run.metrics) == (None, {})
    assert re.search(message, run.error)
    assert (run.stage_costs, run.charged) == ([1.0], 1.0)


def test_a_failure_ends_the_run_and_keeps_what_was_paid(log):
    prep, _, score = three_stages(log)

    @stage(space=three_stages()[1].space, version="1")
    def train(features, *, lr, loss):
        raise RuntimeError("diverged")

    cache = StageCache()
    ticks = iter(range(100))
    run = Pipeline([prep, train, score]).run(
        PARAMS, 1.0, cache=cache, clock=lambda: float(next(ticks))
    )
    assert log == ["prep"]
    assert run.value is None
    assert "RuntimeError: diverged" in run.error
    assert run.stage_costs == [20.0, 1.0, None]
    assert run.charged == 21.0
    assert list(cache) == [run.stage_runs[0].key]


def test_stage_runs_that_end_early_have_no_value(pipeline):
    run = pipeline.join([StageRun("prep", "k", cost=1.0, output=0.5)])
    assert (run.value, run.error, run.stage_names) == (None, None, pipeline.stage_names)


# --- Optuna trials --------------------------------------------------------------------------


def study_of(seed=0):
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


def test_a_trial_suggests_the_configuration_and_gets_the_account(pipeline):
    study = study_of()
    trial = study.ask()
    run = pipeline.run(trial, 10.0)
    study.tell(trial, run.value)
    (frozen,) = study.trials
    assert frozen.distributions == SPACE
    assert frozen.value == run.value
    assert frozen.user_attrs == {
        "stage_keys": [each.key for each in run.stage_runs],
        "stage_costs": run.stage_costs,
        "memoized": [False, False, False],
        "charged": run.charged,
        "saved": 0.0,
        "observations": {
            each.name: each.output for each in run.stage_runs if isinstance(each.output, float)
        },
    }


def test_a_trial_that_reused_stages_says_so(pipeline):
    study, cache = study_of(), StageCache()
    for loss in ("l1", "l2"):
        study.enqueue_trial(PARAMS | {"train.loss": loss})
    study.optimize(lambda trial: pipeline.run(trial, 10.0, cache=cache).value, n_trials=2)
    attrs = study.trials[1].user_attrs
    assert attrs["memoized"] == [True, False, False]
    assert attrs["stage_costs"] == [None, 5.0, 1.0]
    assert (attrs["charged"], attrs["saved"]) == (6.0, 20.0)


def test_a_trial_gets_the_metrics():
    trial = study_of().ask()
    returning({"f1": 0.5, "loss": 2}, objective="f1").run(trial)
    assert trial.user_attrs["metrics"] == {"f1": 0.5, "loss": 2.0}


def test_a_trial_that_failed_gets_the_stage_and_the_traceback():
    def explode():
        raise RuntimeError("bang")

    study = study_of()
    failing = Pipeline([stage(version="1", cost=lambda: 3.0)(explode)])
    study.optimize(lambda trial: failing.run(trial).value, n_trials=1)
    (frozen,) = study.trials
    assert frozen.state is optuna.trial.TrialState.FAIL
    assert frozen.user_attrs["failed_stage"] == "explode"
    assert "RuntimeError: bang" in frozen.user_attrs["error"]
    assert (frozen.user_attrs["stage_costs"], frozen.user_attrs["charged"]) == ([3.0], 3.0)


def test_a_wrong_call_leaves_the_trial_untouched(pipeline):
    trial = study_of().ask()
    with pytest.raises(PipelineError, match="takes the inputs"):
        pipeline.run(trial)
    assert (trial.params, trial.user_attrs) == ({}, {})


def test_finished_and_fixed_trials_can_be_run_again(pipeline):
    study = study_of()
    study.enqueue_trial(PARAMS)
    study.optimize(lambda trial: pipeline.run(trial, 10.0).value, n_trials=1)
    assert pipeline.run(study.best_trial, 10.0).value == study.best_value
    assert pipeline.run(FixedTrial(PARAMS), 10.0).value == study.best_value


def test_a_declared_stage_can_stand_among_others():
    mixed = Pipeline([passing("a"), Stage(name="b"), passing("c")])
    assert not mixed.layout.is_runnable
    with pytest.raises(PipelineError, match="'b'"):
        mixed.layout.check_inputs((1,))


def test_a_declared_cost_sees_what_its_stage_gets():
    @stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 1.0)
    def first(data, *, x):
        return data * x

    @stage(space={"y": Float(0.0, 1.0)}, cost=lambda data, y: data + y)
    def second(data, *, y):
        return data - y

    run = Pipeline([first, second]).run({"first.x": 0.5, "second.y": 0.25}, 8.0)

    assert run.stage_costs == [1.0, 4.25]
