"""Calls that change the object whose method they are."""

import os
import threading
import warnings
from functools import cached_property

import numpy as np
import pytest

from eeipu import Categorical, Float, Pipeline, PipelineError, StageCache, Tuner, stage
from eeipu.serialization import copies

SPACE = {"x": Float(0.0, 1.0)}


class Counter:
    """Remembers its calls, and hands on in itself what its next stage needs."""

    def __init__(self):
        self.count = 0
        self.last = None

    @stage(space=SPACE)
    def fit(self, data, *, x):
        self.count += 1
        self.last = x
        return data + self.count

    @stage
    def score(self, fitted):
        return fitted if self.last is None else self.last


def run(pipeline, x=0.5, **options):
    return pipeline.run({"fit.x": x}, 1.0, **options).value


def test_what_a_call_sets_in_its_object_reaches_no_other_call():
    counter = Counter()
    pipeline = Pipeline([counter.fit, counter.score])
    with pytest.warns(RuntimeWarning, match=r"'fit' changes its object, a Counter \(`self`\)"):
        assert run(pipeline) == 2.0
    with warnings.catch_warnings():  # it is said once
        warnings.simplefilter("error")
        assert run(pipeline, 0.25) == 2.0
    assert (counter.count, counter.last) == (0, None)


def test_outputs_are_reused_although_calls_change_their_object():
    counter, cache = Counter(), StageCache()
    pipeline = Pipeline([counter.fit, counter.score])
    with pytest.warns(RuntimeWarning, match="changes its object"):
        run(pipeline, cache=cache)
    assert pipeline.run({"fit.x": 0.5}, 1.0, cache=cache).memoized == [True, True]
    assert pipeline.run({"fit.x": 0.25}, 1.0, cache=cache).value == 2.0


class Table:
    def __init__(self, lock=None):
        self.rows = np.arange(3.0)
        self.lock = lock

    @cached_property
    def total(self):
        os.environ["TOTALS"] = f"{os.environ.get('TOTALS', '')}."  # what code sets counts
        return float(self.rows.sum())

    @stage(space=SPACE)
    def fit(self, data, *, x):
        return self.total * data * x

    @stage
    def rows_of(self, data):
        return self.rows

    @stage
    def spoil(self, rows):
        rows += 1.0
        return float(rows.sum())

    @stage
    def count(self, data):
        self.rows = self.rows + 1
        return 1.0


def test_what_an_object_only_computes_is_kept_from_call_to_call(monkeypatch):
    monkeypatch.setenv("TOTALS", "")
    table, other = Table(), Table()
    pipeline = Pipeline([table.fit])
    assert [run(pipeline, x) for x in (0.5, 1.0)] == [1.5, 3.0]
    made = os.environ[
        "TOTALS"
    ]  # once by a call, and once to see that it is what the property gives
    assert [run(pipeline, x) for x in (0.25, 0.75)] == [0.75, 2.25]
    assert os.environ["TOTALS"] == made
    assert run(Pipeline([other.fit])) == 1.5


def test_an_output_that_is_a_part_of_the_object_may_be_changed():
    table = Table()
    pipeline = Pipeline([table.rows_of, table.spoil])
    with pytest.warns(RuntimeWarning, match="changes its object"):
        values = [pipeline.run({}, 1.0).value for _ in range(3)]
    assert values == [6.0, 6.0, 6.0]
    assert table.rows.tolist() == [0.0, 1.0, 2.0]


def test_an_object_that_cannot_be_copied_has_to_stay_as_it_is():
    table = Table(threading.Lock())
    assert run(Pipeline([table.fit])) == 1.5
    with pytest.raises(PipelineError, match=r"'count' changes its object.*cannot be"):
        Pipeline([table.count]).run({}, 1.0)


def test_an_object_that_is_too_large_is_not_copied(monkeypatch):
    monkeypatch.setattr(copies, "COPY_SHARE", 0.0)
    table = Table()
    assert (
        Pipeline([table.rows_of, stage(lambda rows: float(rows is table.rows), name="is")])
        .run({}, 1.0)
        .value
    )
    with pytest.raises(PipelineError, match="too large to be copied"):
        Pipeline([table.count]).run({}, 1.0)


def test_an_object_that_the_user_changes_is_copied_anew():
    table = Table()
    pipeline = Pipeline([table.fit])
    assert run(pipeline) == 1.5
    table.rows = np.ones(5)
    del table.__dict__["rows"]
    table.rows = np.ones(4)
    with pytest.warns(RuntimeWarning, match="have changed since"):
        assert run(pipeline) == 2.0


def test_calls_that_run_at_the_same_time_have_copies_of_their_own():
    both = threading.Barrier(2)

    class Meeting:
        def __init__(self):
            self.inside = 0

        @stage(space={"x": Categorical([0, 1])})
        def fit(self, data, *, x):
            self.inside += 1
            both.wait(timeout=30)
            return float(self.inside)

    tuner = Tuner(
        Pipeline([Meeting().fit]),
        budget=None,
        timeout=60,
        method="random-grid",
        executor="threads",
        max_parallel=2,
        seed=0,
    )
    study = tuner.run(1.0, max_trials=2, progress=False)
    assert [trial.value for trial in study.trials] == [1.0, 1.0]


@pytest.mark.parametrize("executor", [None, "processes"])
def test_every_trial_gets_the_object_as_it_was(executor, tmp_path):
    counter = Counter()
    tuner = Tuner(
        Pipeline([counter.fit]),
        budget=None,
        timeout=60,
        method="random",
        executor=executor,
        cache=StageCache(tmp_path),
        seed=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        study = tuner.run(1.0, max_trials=4, progress=False)
    assert [trial.value for trial in study.trials] == [2.0] * 4
    assert counter.count == 0
