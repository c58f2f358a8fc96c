"""Calling observers, and what they may return."""

import functools
import math
import operator
import pickle
import threading
from collections import OrderedDict
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from eeipu import Float, Pipeline, PipelineError, StageCache, stage
from eeipu.fingerprints.code import CodeReader
from eeipu.serialization import copies
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.observing.observers import MAX_NUMBERS, Observer, as_observation, look_at
from eeipu.stages.runs import error_line

LIMIT = {"top": 1.0}


def top(output):
    return max(output) / LIMIT["top"]


# --- Numbers


@pytest.mark.parametrize(
    ("found", "number"),
    [
        (2, 2.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.bool_(False), 0.0),
        (np.array(1.5), 1.5),
        (torch.tensor(2.5, requires_grad=True), 2.5),
        (torch.nn.Parameter(torch.tensor(1.0)), 1.0),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
        (pd.Series([1.0, 2.0]).mean(), 1.5),
        (math.nan, None),
        (-math.inf, None),
        (np.float64("nan"), None),
        (np.ma.masked, None),
        (np.ma.array([1.0], mask=[True]).mean(), None),
        (Decimal("NaN"), None),
        ({}, None),
        ({"a": math.nan, "b": None}, None),
        ({"loss": torch.tensor(0.5), "auc": math.inf, "f1": None, 3: 1}, {"loss": 0.5, "3": 1.0}),
        (OrderedDict(a=1), {"a": 1.0}),
        (MappingProxyType({"a": np.float16(1)}), {"a": 1.0}),
    ],
)
def test_numbers_of_all_libraries_are_floats_and_what_is_not_finite_is_missing(found, number):
    observation = as_observation(found, "f returned")
    assert observation == number
    assert pickle.loads(pickle.dumps(observation)) == number
    for each in observation.values() if isinstance(observation, dict) else [observation]:
        assert type(each) in (float, type(None))


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        ("0.9", TypeError, "f returned str '0.9', which is not a number"),
        (None, TypeError, "f returned NoneType None"),
        ([0.9], TypeError, "f returned list"),
        (np.ones(1), TypeError, "f returned ndarray"),
        (1 + 0j, TypeError, "f returned complex"),
        ({"loss": {"val": 1.0}}, TypeError, "f returned 'loss': dict"),
        ({"loss": "low"}, TypeError, "f returned 'loss': str 'low'"),
        (10**400, TypeError, "which is not a number"),
        (pd.Series({"a": 1.0}), TypeError, "f returned Series"),
        ({"": 1.0}, ValueError, "without a name"),
        (dict.fromkeys(range(MAX_NUMBERS + 1), 1.0), ValueError, f"return at most {MAX_NUMBERS}"),
    ],
)
def test_anything_else_is_an_error_that_names_what_was_returned(found, error, message):
    with pytest.raises(error, match=message):
        as_observation(found, "f returned")


# --- The function


@pytest.mark.parametrize(
    ("observe", "message"),
    [
        (0.5, "observe must be a function of the stage's output, but got 0.5"),
        (lambda: 1.0, "observe is called with the stage's output alone"),
        (lambda output, labels: 1.0, "missing a required argument: 'labels'"),
    ],
)
def test_what_cannot_observe_is_refused_when_the_stage_is_made(observe, message):
    with pytest.raises(PipelineError, match=message):
        stage(lambda data: data, name="prep", observe=observe)


class Scorer:
    def __init__(self, by):
        self.by = by

    def __call__(self, output):
        return output["n"] * self.by

    def score(self, output):
        return output["n"] / self.by


@stage
def counting(output):
    return float(len(output))


@pytest.mark.parametrize(
    ("observe", "found"),
    [
        (len, 1.0),
        (lambda output: output["n"], 3.0),
        (operator.itemgetter("n"), 3.0),
        (functools.partial(lambda by, output: by * output["n"], 2), 6.0),
        (Scorer(4), 12.0),
        (Scorer(2).score, 1.5),
        (functools.lru_cache(lambda output: 1.0), None),
        (counting, 1.0),
        (np.size, 1.0),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_any_callable_observes_and_has_a_fingerprint_of_its_own(observe, found):
    observer = Observer(observe, "prep")
    look = look_at({"n": 3}, observer, "prep")
    assert look.observation == found
    assert (look.error is None) is (found is not None)  # a dict has no hash
    assert observer.fingerprint == Observer(observe, "prep").fingerprint
    assert observer.fingerprint != Observer(Scorer(99), "prep").fingerprint


def test_the_fingerprint_follows_what_the_function_uses(monkeypatch):
    observer = Observer(top, "prep")
    before = observer.fingerprint
    observer.refresh(CodeReader())
    assert observer.fingerprint == before
    monkeypatch.setitem(LIMIT, "top", 2.0)
    with pytest.warns(RuntimeWarning, match=r"'prep' uses \(the global LIMIT\) have changed"):
        observer.refresh(CodeReader())
    assert observer.fingerprint != before


SEEN, LOG = [], {"n": 0}


def logging(output):
    SEEN.append(output)
    LOG["n"] += 1
    return len(output) / LIMIT["top"]


def test_what_an_observer_notes_down_itself_is_no_part_of_its_code(monkeypatch):
    monkeypatch.setattr(f"{__name__}.SEEN", [])
    calls = 0

    def counting_calls(output):
        nonlocal calls
        calls += 1
        return logging(output)

    observer = Observer(counting_calls, "prep")
    before = observer.fingerprint
    assert observer([1, 2]) == 2.0
    observer.refresh(CodeReader())
    assert observer.fingerprint == Observer(counting_calls, "prep").fingerprint == before
    assert (calls, SEEN) == (1, [[1, 2]])
    monkeypatch.setitem(LIMIT, "top", 2.0)
    with pytest.warns(RuntimeWarning, match="LIMIT"):
        observer.refresh(CodeReader())
    assert observer.fingerprint != before


def test_code_that_cannot_be_read_asks_for_a_version():
    unreadable = eval("lambda output: 1.0")
    observed = stage(lambda data: data, name="prep", observe=unreadable)
    with pytest.raises(PipelineError, match=r"stage 'prep': the code of observe=.*version"):
        refresh_code([observed])
    versioned = replace(observed, version="3")
    refresh_code([versioned])
    assert versioned.observer.fingerprint == "version 3"


def test_an_observer_does_not_change_the_key():
    def prep(data, *, x):
        return data * x

    options = {"space": {"x": Float(0, 1)}, "name": "prep"}
    keys = {
        Pipeline([stage(prep, observe=observe, **options)]).calls({"prep.x": 0.5})[0].key
        for observe in (None, top, len)
    }
    assert len(keys) == 1


def test_a_stage_keeps_the_function_that_it_was_given():
    observed = stage(lambda data: data, name="prep", observe=top)
    assert observed.observe is top
    assert replace(observed, name="other").observer.function is top


def test_an_observer_that_came_from_another_process_keeps_its_fingerprint():
    observer = Observer(top, "prep")
    expected = observer.fingerprint
    observer._reading = pickle.loads(pickle.dumps(observer._reading))
    observer._calling = eval("lambda output: 1.0")
    observer.refresh(CodeReader())
    assert observer.fingerprint == expected


# --- The output stays as it is


def spoil(output):
    output["rows"].clear()
    output["array"][:] = 0.0
    del output["frame"]["a"]
    output["net"].eval()
    output["net"].weight.data.zero_()
    return 1.0


@pytest.mark.parametrize("cache", [None, StageCache()])
def test_an_observer_that_changes_the_output_changes_neither_what_is_kept_nor_what_is_handed_on(
    cache,
):
    @stage(observe=spoil, version="1")
    def prep(data):
        return {
            "rows": [1, 2],
            "array": np.ones(9),
            "frame": pd.DataFrame({"a": [1.0]}),
            "net": torch.nn.Linear(2, 2),
        }

    @stage(version="1")
    def score(made):
        is_whole = made["net"].training and bool((made["net"].weight != 0).all())
        return len(made["rows"]) + made["array"].sum() + len(made["frame"].columns) + is_whole

    pipeline = Pipeline([prep, score])
    for _ in range(2):
        run = pipeline.run({}, 0, cache=cache)
        assert run.value == 2 + 9 + 1 + 1
        assert run.observations == {"prep": 1.0, "score": 13.0}
    if cache is not None:
        assert cache.get(run.stage_runs[0].key)["rows"] == [1, 2]


def test_an_output_that_cannot_be_copied_is_shown_itself():
    lock = threading.Lock()
    seen = []
    look = look_at(lock, Observer(lambda output: seen.append(output) or 1.0, "prep"), "prep")
    assert look.observation == 1.0
    assert seen[0] is lock


def test_an_output_that_can_be_read_only_once_is_refused():
    output = (i for i in range(3))
    look = look_at(output, Observer(sum, "prep"), "prep")
    assert "the output is a generator, which the observer would use up" in look.error
    assert list(output) == [0, 1, 2]


def test_an_output_that_is_too_large_to_be_copied_is_shown_itself(monkeypatch):
    array = np.ones(100_000)
    seen = []
    observer = Observer(lambda output: seen.append(output) or 1.0, "prep")
    look_at(array, observer, "prep")
    monkeypatch.setattr(copies, "COPY_SHARE", 0.0)
    look_at(array, observer, "prep")
    assert [each is array for each in seen] == [False, True]


# --- Observers that fail


def broken(output):
    return output.nothing


def pipeline_of(observe, **options):
    ran = []

    @stage(space={"x": Float(0, 1)}, observe=observe, version="1", **options)
    def prep(data, *, x):
        ran.append(x)
        return [data, x]

    @stage(version="1")
    def score(made):
        return sum(made)

    return Pipeline([prep, score]), ran


@pytest.mark.parametrize(
    ("observe", "message"),
    [
        (broken, "AttributeError: 'list' object has no attribute 'nothing'"),
        (str, "TypeError: observe of stage 'prep' returned str '[1.0, 0.5]', which is not a"),
        (lambda output: exec("raise SystemExit(3)"), "SystemExit: 3"),
    ],
)
def test_a_broken_observer_ends_the_run_but_loses_no_output(observe, message):
    cache = StageCache()
    pipeline, ran = pipeline_of(observe)
    for _ in range(2):
        run = pipeline.run({"prep.x": 0.5}, 1.0, cache=cache)
        last = run.stage_runs[-1]
        assert error_line(run.error).startswith(message)
        assert "This was raised by observe=... of stage 'prep'" in run.error
        assert (last.name, last.is_bug, last.is_unobserved) == ("prep", True, True)
        assert run.observations == {}
        assert run.outputs["prep"] == [1.0, 0.5]
    assert ran == [0.5]
    mended, more = pipeline_of(len)
    run = mended.run({"prep.x": 0.5}, 1.0, cache=cache)
    assert (run.value, run.observations, more) == (1.5, {"prep": 2.0, "score": 1.5}, [])


def test_a_lack_of_memory_is_no_error_of_programming():
    def hungry(output):
        raise MemoryError

    run = pipeline_of(hungry)[0].run({"prep.x": 0.5}, 1.0)
    assert "out of memory in stage 'prep'" in run.error
    assert not run.stage_runs[-1].is_bug


def test_an_observer_may_prune_a_trial_also_when_the_output_is_reused():
    def poor(output):
        raise optuna.TrialPruned("poor")

    cache = StageCache()
    pipeline, ran = pipeline_of(poor)
    study = optuna.create_study()
    for _ in range(2):
        study.enqueue_trial({"prep.x": 0.5})
    study.optimize(lambda trial: pipeline.run(trial, 1.0, cache=cache).value, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "PRUNED"]
    assert [trial.user_attrs["memoized"][0] for trial in study.trials] == [False, True]
    assert ran == [0.5]


# --- What it costs


def test_observing_is_part_of_a_measured_cost_once():
    now = [0.0]

    def slow(output):
        now[0] += 2.0
        return 1.0

    def prep(data):
        now[0] += 1.0
        return [data]

    cache = StageCache()
    pipeline = Pipeline([stage(prep, observe=slow, version="1")], objective="x")
    runs = [
        pipeline.run({}, 1.0, cache=cache, clock=lambda: now[0]).stage_runs[0] for _ in range(2)
    ]
    assert [each.cost for each in runs] == [3.0, None]
    assert [each.charged for each in runs] == [3.0, 0.0]


def test_observing_is_no_part_of_a_declared_cost():
    pipeline, _ = pipeline_of(len, cost=lambda x: 5.0)
    cache = StageCache()
    assert pipeline.run({"prep.x": 0.5}, 1.0, cache=cache).stage_runs[0].charged == 5.0
    other, _ = pipeline_of(sum, cost=lambda x: 5.0)
    again = other.run({"prep.x": 0.5}, 1.0, cache=cache).stage_runs[0]
    assert (again.charged, again.observation) == (0.0, 1.5)


# --- Iterative stages


def test_a_stage_that_trains_in_steps_may_be_observed():
    training = Training(
        init=lambda data: data,
        advance=lambda state, start, stop, params: (
            state + sum(map(params["lr"], range(start, stop)))
        ),
        evaluate=lambda state: {"loss": state},
    )
    train = iterative(
        training, {"lr": Float(0, 1)}, 4, version="1", observe=operator.itemgetter("loss")
    )
    run = Pipeline([train], objective="loss").run({"iterative.lr": 0.5}, 1.0)
    assert run.observations == {"iterative": 3.0}
    segments = train.segments({2: {"lr": Float(0, 1)}, 4: {"lr": Float(0, 1)}})
    params = {"iterative@2.lr": 0.5, "iterative@4.lr": 0.5}
    run = Pipeline(segments, objective="loss").run(params, 1.0)
    assert run.observations == {"iterative@2": 2.0, "iterative@4": 3.0, "iterative@evaluation": 3.0}
