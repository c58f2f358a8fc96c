"""The run's inputs stay what their key says, whatever stages do with them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from eeipu import Categorical, Fingerprinted, Pipeline, PipelineError, StageCache, Tuner, stage
from eeipu.fingerprints.keys import inputs_key
from eeipu.fingerprints.run_inputs import RunInputs
from eeipu.serialization import copies

BEFORE = [1.0, 2.0]


def watched(*given):
    return RunInputs(given, inputs_key(given))


def test_calls_get_the_users_own_objects_as_long_as_these_stay_the_same():
    data = np.ones(3)
    inputs = watched(data)
    assert all(inputs.for_call()[0] is data for _ in range(3))


@pytest.mark.parametrize(
    "data", [[1.0, 2.0], np.asfortranarray(np.ones((3, 2))), {"x": [np.ones(20_000)]}]
)
def test_after_a_change_calls_get_copies_of_what_the_inputs_were(data):
    inputs = watched(data, "other")
    before = inputs_key((data, "other"))
    first, _ = inputs.for_call()
    first.pop() if isinstance(first, list) else first.__setitem__(*change_of(first))
    with pytest.warns(RuntimeWarning, match="changed the run's inputs in place"):
        second = inputs.for_call()
    third = inputs.for_call()
    assert inputs_key(second) == inputs_key(third) == before != inputs_key((data, "other"))
    assert second[0] is not third[0]


def change_of(value):
    return ("x", None) if isinstance(value, dict) else (0, 5.0)


def test_inputs_too_large_to_copy_are_refused_once_they_have_changed(monkeypatch):
    monkeypatch.setattr(copies, "COPY_SHARE", 0.0)
    data = [1.0]
    inputs = watched(data)
    inputs.for_call()[0].append(2.0)
    with pytest.raises(PipelineError, match="too large to be copied"):
        inputs.for_call()


def test_calls_that_run_at_the_same_time_have_copies_of_their_own(monkeypatch):
    data = [1.0]
    inputs = watched(data)
    inputs.share()
    inputs.for_call()[0].append(2.0)
    assert inputs.for_call() == ([1.0],)
    inputs.check_after_call()
    monkeypatch.setattr(copies, "COPY_SHARE", 0.0)
    large = watched(data)
    large.share()
    large.for_call()[0].append(2.0)
    with pytest.raises(PipelineError, match="threads share them"):
        large.check_after_call()


def test_what_has_a_fingerprint_of_the_users_own_is_neither_read_nor_copied():
    lock, data = threading.Lock(), [1.0]
    inputs = watched(Fingerprinted(lock, "lock"), data)
    inputs.share()
    given, copy = inputs.for_call()
    assert given is lock
    assert copy == data
    assert copy is not data


def test_inputs_that_nobody_watches_are_as_they_are():
    data = [1.0]
    inputs = RunInputs((data,))
    for _ in range(2):
        inputs.for_call()[0].append(2.0)
    assert data == [1.0, 2.0, 2.0]
    made = RunInputs(lambda: ([1.0],), "key")
    made.for_call()[0].append(2.0)
    assert made.for_call() == ([1.0],)


def spoiling_pipeline():
    @stage(space={"k": Categorical([1, 2, 3])}, version="1")
    def first(data, *, k):
        total = sum(data) * k
        data.clear()
        return total

    @stage(space={"j": Categorical([0])}, version="1")
    def last(total, *, j):
        return total + j

    return Pipeline([first, last])


@pytest.mark.filterwarnings("ignore:a stage has changed the run's inputs")
@pytest.mark.parametrize("executor", [None, "threads", lambda: ThreadPoolExecutor(2)])
@pytest.mark.parametrize("cached", [True, False])
def test_a_stage_that_changes_its_input_changes_it_for_no_other_trial(executor, cached):
    tuner = Tuner(
        spoiling_pipeline(),
        budget=None,
        method="random-grid",
        executor=executor,
        max_parallel=1 if executor is None else 2,
        cache=StageCache() if cached else None,
        seed=0,
    )
    study = tuner.run([1.0, 2.0], max_trials=3, progress=False)
    assert {t.params["first.k"]: t.value for t in study.trials} == {1: 3.0, 2: 6.0, 3: 9.0}


def test_an_output_is_not_made_again_of_inputs_that_have_changed():
    data = [1.0, 2.0]
    run = spoiling_pipeline().run({"first.k": 2, "last.j": 0}, data, cache=(cache := StageCache()))
    cache.clear()
    stored = run.outputs
    stored._known.clear()
    with pytest.raises(PipelineError, match="have changed since"):
        stored["first"]
