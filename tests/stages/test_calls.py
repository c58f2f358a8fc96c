"""Running one path: what is loaded, what is executed, and what it costs."""

import dataclasses
import subprocess
import sys
import threading
import types
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eeipu.cache import StageCache
from eeipu.caching.inventory import inventory
from eeipu.errors import CacheMiss
from eeipu.fingerprints.keys import stage_key
from eeipu.pipeline import Pipeline
from eeipu.space import Int
from eeipu.stages.decorator import stage
from eeipu.stages.running.calls import StageCall, stage_calls
from eeipu.stages.running.walks import run_path
from eeipu.stages.runs import PipelineRun, StageRun, error_line, number_of


class Clock:
    """Time that passes only when someone says so."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds


class SlowCache(StageCache):
    """A cache that takes half a second to load a value."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    def get(self, key):
        self._clock.wait(0.5)
        return super().get(key)


def chain(log, clock=None, **options):
    """Three stages that add 1, 10 and 100, take 1, 2 and 4 seconds, and log that they ran."""

    def make(name, step, seconds):
        def function(value):
            log.append(name)
            if clock is not None:
                clock.wait(seconds)
            return value + step

        return stage(name=name, version="1", **options.get(name, {}))(function)

    return make("a", 1, 1.0), make("b", 10, 2.0), make("c", 100, 4.0)


def calls_of(stages, params=None, upstream="inputs"):
    return stage_calls(stages, params or [{}] * len(stages), upstream)


def run(stages, *inputs, cache=None, clock=None, params=None):
    options = {} if clock is None else {"clock": clock}
    return list(run_path(calls_of(stages, params), inputs, cache, **options))


# --- keys of a path -------------------------------------------------------------------------


def test_each_key_is_made_from_the_one_upstream():
    stages = chain([])
    params = [{"x": 1}, {}, {"y": 2.0}]
    a, b, c = calls_of(stages, params)
    assert a == StageCall(stages[0], {"x": 1}, stage_key("a", "version 1", {"x": 1}, "inputs"))
    assert b.key == stage_key("b", "version 1", {}, a.key)
    assert c.key == stage_key("c", "version 1", {"y": 2.0}, b.key)


@given(st.lists(st.integers(0, 2), min_size=3, max_size=3), st.integers(0, 2), st.integers(0, 2))
def test_a_change_changes_all_keys_from_there_on_and_none_before(values, position, value):
    stages = chain([])
    changed = [*values[:position], value, *values[position + 1 :]]
    before = calls_of(stages, [{"x": v} for v in values])
    after = calls_of(stages, [{"x": v} for v in changed])
    differ = [one.key != other.key for one, other in zip(before, after, strict=True)]
    is_other = values != changed
    assert differ == [is_other and depth >= position for depth in range(3)]


def test_each_stage_needs_its_hyper_parameters():
    with pytest.raises(ValueError, match="zip"):
        stage_calls(chain([]), [{}, {}], "inputs")


def test_other_inputs_change_all_keys():
    stages = chain([])
    one, other = calls_of(stages, upstream="one"), calls_of(stages, upstream="other")
    assert all(x.key != y.key for x, y in zip(one, other, strict=True))


def test_what_is_below_a_stage_that_is_not_memoized_is_not_taken_for_another_calls():
    made = []

    def noise(value):
        made.append(value)
        return value + len(made)

    a, _, c = chain([])
    stages = a, stage(name="noise", version="1", memoize=False)(noise), c
    assert [call.memoize for call in calls_of(stages)] == [True, False, False]
    cache = StageCache()
    first, second = (run(stages, 0, cache=cache) for _ in range(2))
    assert [each.memoized for each in second] == [True, False, False]
    assert [first[-1].output, second[-1].output] == [102, 103]
    assert list(cache) == [first[0].key]


# --- executing ------------------------------------------------------------------------------


def test_each_stage_gets_the_output_before_it():
    runs = run(chain([]), 0)
    assert [each.output for each in runs] == [1, 11, 111]
    assert [each.name for each in runs] == ["a", "b", "c"]
    assert not any(each.memoized for each in runs)


def test_the_first_stage_gets_all_inputs():
    (only,) = run([stage(name="sum", version="1")(lambda x, y: x + y)], 1, 2)
    assert only.output == 3


def test_hyper_parameters_are_passed_by_keyword():
    each = stage(name="s", version="1")(lambda data, **params: params)
    (only,) = run([each], 0, params=[{"x": 1}])
    assert only.output == {"x": 1}


def test_a_stage_runs_only_when_its_turn_is_asked_for():
    log = []
    runs = run_path(calls_of(chain(log)), (0,), StageCache())
    assert log == []
    next(runs)
    assert log == ["a"]


def test_what_ran_before_an_interruption_is_in_the_cache():
    log, cache = [], StageCache()
    stages = chain(log)
    runs = run_path(calls_of(stages), (0,), cache)
    next(runs)
    runs.close()
    run(stages, 0, cache=cache)
    assert log == ["a", "b", "c"]


# --- reusing --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)), max_size=6))
def test_no_prefix_is_executed_twice(configurations):
    log, cache = [], StageCache()

    def make(name):
        def function(path, *, x):
            log.append((*path, x))
            return (*path, x)

        return stage(space={"x": Int(0, 1)}, name=name, version="1")(function)

    stages = [make("a"), make("b"), make("c")]
    for configuration in configurations:
        runs = run(stages, (), cache=cache, params=[{"x": x} for x in configuration])
        assert runs[-1].output == configuration
    prefixes = {c[:depth] for c in configurations for depth in (1, 2, 3)}
    assert sorted(log) == sorted(prefixes)


def test_a_memoized_run_executes_nothing():
    log, cache = [], StageCache()
    stages = chain(log)
    first = run(stages, 0, cache=cache)
    again = run(stages, 0, cache=cache)
    assert log == ["a", "b", "c"]
    assert [each.key for each in again] == [each.key for each in first]
    assert [each.memoized for each in again] == [True, True, True]
    assert [each.cost for each in again] == [None, None, None]
    assert [each.output for each in again] == [None, None, 111]


def test_without_a_cache_everything_is_executed():
    log = []
    stages = chain(log)
    run(stages, 0)
    run(stages, 0)
    assert log == ["a", "b", "c"] * 2


def test_the_deepest_output_is_loaded_even_if_those_before_it_have_gone():
    log, cache = [], StageCache()
    stages = chain(log)
    keys = [call.key for call in calls_of(stages)]
    run(stages, 0, cache=cache)
    cache.retain([keys[1]])
    runs = run(stages, 0, cache=cache)
    assert log == ["a", "b", "c", "c"]
    assert [each.memoized for each in runs] == [True, True, False]
    assert runs[-1].output == 111


def test_an_output_that_is_none_or_falsy_is_reused():
    log, cache = [], StageCache()

    def first(data):
        log.append("first")

    def second(data):
        return 1.0 if data is None else 0.0

    stages = [stage(version="1")(first), stage(version="1")(second)]
    run(stages, 0, cache=cache)
    cache.retain([calls_of(stages)[0].key])
    assert run(stages, 0, cache=cache)[-1].output == 1.0
    assert log == ["first"]


def test_a_stage_that_is_not_memoized_is_neither_stored_nor_loaded():
    log, cache = [], StageCache()
    stages = chain(log, c={"memoize": False})
    keys = [call.key for call in calls_of(stages)]
    run(stages, 0, cache=cache)
    assert sorted(cache) == sorted(keys[:2])
    cache.put(keys[2], "planted")
    assert run(stages, 0, cache=cache)[-1].output == 111
    assert log == ["a", "b", "c", "c"]


def test_changing_an_input_in_place_does_not_change_what_is_kept():
    cache = StageCache()

    def make(data):
        return [data]

    def spoil(items, *, x):
        items.append(x)
        return list(items)

    stages = [stage(version="1")(make), stage(space={"x": Int(1, 3)}, version="1")(spoil)]
    for x in (1, 2, 3):
        assert run(stages, 0, cache=cache, params=[{}, {"x": x}])[-1].output == [0, x]
    assert cache.get(calls_of(stages)[0].key) == [0]


def test_a_damaged_output_is_computed_again(tmp_path):
    log, cache = [], StageCache(tmp_path)
    stages = chain(log)
    run(stages, 0, cache=cache)
    for path in tmp_path.rglob("*.stage"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="damaged") as caught:
        runs = run(stages, 0, cache=cache)
    assert len(caught) == 3
    assert log == ["a", "b", "c"] * 2
    assert runs[-1].output == 111
    assert cache.verify() == []


def test_of_two_outputs_the_sound_one_is_used(tmp_path):
    log, cache = [], StageCache(tmp_path)
    stages = chain(log)
    run(stages, 0, cache=cache)
    deepest = calls_of(stages)[-1].key
    (path,) = tmp_path.rglob(f"*{deepest}*")
    path.write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="damaged"):
        runs = run(stages, 0, cache=cache)
    assert [each.memoized for each in runs] == [True, True, False]
    assert log == ["a", "b", "c", "c"]


def test_an_output_that_goes_between_the_question_and_the_answer_is_computed():
    class Forgetful(StageCache):
        def __contains__(self, key):
            return True

        def get(self, key):
            raise CacheMiss(key)

    log = []
    run(chain(log), 0, cache=Forgetful())
    assert log == ["a", "b", "c"]


def test_an_output_that_cannot_be_kept_is_still_passed_on():
    def lock(data):
        return threading.Lock()

    def use(lock):
        return lock.locked()

    cache = StageCache()
    stages = [stage(version="1")(lock), stage(version="1")(use)]
    with pytest.warns(RuntimeWarning, match="output of stage 'lock' could not be kept.*pickle"):
        runs = run(stages, 0, cache=cache)
    assert [each.error for each in runs] == [None, None]
    assert runs[-1].output is False
    assert list(cache) == [runs[-1].key]


# --- failing --------------------------------------------------------------------------------


def failing(clock):
    def fail(value):
        clock.wait(3.0)
        raise ValueError(f"cannot use {value}")

    return fail


def test_a_failure_is_data_with_its_traceback_and_its_cost():
    log, clock, cache = [], Clock(), StageCache()
    a, _, c = chain(log, clock)
    stages = [a, stage(name="b", version="1")(failing(clock)), c]
    runs = run(stages, 0, cache=cache, clock=clock)
    assert log == ["a"]
    assert [each.name for each in runs] == ["a", "b"]
    assert (runs[1].cost, runs[1].charged, runs[1].output) == (3.0, 3.0, None)
    assert "ValueError: cannot use 1" in runs[1].error
    assert "in fail" in runs[1].error
    assert list(cache) == [runs[0].key]


def test_a_failure_is_not_remembered():
    attempts = []

    def fragile(value):
        attempts.append(value)
        if len(attempts) == 1:
            raise OSError("try again")
        return value

    cache, stages = StageCache(), [stage(version="1")(fragile)]
    assert run(stages, 0, cache=cache)[0].error is not None
    assert run(stages, 0, cache=cache)[0].output == 0


def test_a_failure_of_a_declared_cost_is_charged_as_declared():
    clock = Clock()
    each = stage(name="b", version="1", cost=lambda: 7.0)(failing(clock))
    (only,) = run([each], 0, clock=clock)
    assert (only.cost, only.charged) == (7.0, 7.0)
    assert only.error is not None


@pytest.mark.parametrize("cost", [lambda: -1.0, lambda: 1 / 0, lambda: "much"])
def test_a_declaration_that_fails_is_a_failure_before_the_stage_runs(cost):
    log = []
    each = stage(name="b", version="1", cost=cost)(lambda value: log.append(value))
    (only,) = run([each], 0)
    assert (only.cost, only.charged, log) == (None, 0.0, [])
    assert "Error" in only.error


def test_an_interrupt_is_not_a_failure():
    def interrupted(value):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([stage(version="1")(interrupted)], 0)


# --- accounting -----------------------------------------------------------------------------


def test_a_measured_cost_is_the_seconds_that_the_stage_took():
    clock = Clock()
    runs = run(chain([], clock), 0, clock=clock)
    assert [each.cost for each in runs] == [1.0, 2.0, 4.0]
    assert [each.charged for each in runs] == [1.0, 2.0, 4.0]
    assert [each.saved for each in runs] == [0.0, 0.0, 0.0]


def test_a_reused_stage_is_charged_its_load_time_and_saves_its_cost():
    clock = Clock()
    cache, stages = SlowCache(clock), chain([], clock)
    run(stages, 0, cache=cache, clock=clock)
    cache.discard([calls_of(stages)[2].key])
    runs = run(stages, 0, cache=cache, clock=clock)
    assert [each.cost for each in runs] == [None, None, 4.0]
    assert [each.charged for each in runs] == [0.0, 0.5, 4.0]
    assert [each.saved for each in runs] == [1.0, 2.0, 0.0]


def declared(clock):
    """A stage that takes one second and says that it costs ten times `n`."""
    space = {"n": Int(1, 9)}
    return stage(space=space, name="s", version="1", cost=lambda n: n * 10)(
        lambda data, *, n: clock.wait(1.0)
    )


def test_a_declared_cost_takes_the_place_of_seconds():
    clock = Clock()
    (only,) = run([declared(clock)], 0, clock=clock, params=[{"n": 3}])
    assert (only.cost, only.charged) == (30.0, 30.0)


def test_a_reused_stage_of_a_declared_cost_is_charged_nothing():
    clock = Clock()
    cache, each = SlowCache(clock), declared(clock)
    run([each], 0, cache=cache, clock=clock, params=[{"n": 3}])
    (only,) = run([each], 0, cache=cache, clock=clock, params=[{"n": 3}])
    assert (only.memoized, only.cost, only.charged, only.saved) == (True, None, 0.0, 30.0)


def test_an_output_whose_cost_has_gone_saves_an_unknown_amount():
    cache, stages = StageCache(), chain([], clock := Clock())
    run(stages, 0, cache=cache, clock=clock)
    cache.retain([calls_of(stages)[2].key])
    runs = run(stages, 0, cache=cache, clock=clock)
    assert [each.saved for each in runs] == [0.0, 0.0, 4.0]


def test_keeping_an_output_is_not_part_of_its_cost():
    clock = Clock()

    class SlowWrites(StageCache):
        def put(self, key, value, **known):
            clock.wait(50.0)
            super().put(key, value, **known)

    runs = run(chain([], clock), 0, cache=SlowWrites(), clock=clock)
    assert [each.cost for each in runs] == [1.0, 2.0, 4.0]


class Gpu:
    """Stands in for `torch.cuda`, with work that was queued and is waited for on request."""

    def __init__(self, clock, *, queued_s, is_used=True):
        self._clock = clock
        self.queued_s = queued_s
        self.is_available = lambda: True
        self.is_initialized = lambda: is_used
        self.device_count = lambda: 2
        self.current_device = lambda: 0
        self.memory_reserved = self.max_memory_allocated = lambda device: self.peaks[device]
        self.peaks = [0, 0]
        self.waited_for = set()
        self.emptied = 0

    def synchronize(self, device=0):
        self.waited_for.add(device)
        self._clock.wait(self.queued_s)
        self.queued_s = 0.0

    def reset_peak_memory_stats(self, device):
        self.peaks[device] = 0

    def empty_cache(self):
        self.emptied += 1


def test_work_queued_on_a_gpu_is_billed_to_the_stage_that_queued_it(monkeypatch):
    clock = Clock()
    gpu = Gpu(clock, queued_s=50.0)  # by whatever ran before
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=gpu))

    def queue(value):
        gpu.queued_s += 3.0

    (only,) = run([stage(name="queue", version="1")(queue)], 0, clock=clock)
    assert only.cost == 3.0


def test_a_gpu_that_is_not_in_use_is_not_waited_for(monkeypatch):
    clock = Clock()
    gpu = Gpu(clock, queued_s=50.0, is_used=False)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=gpu))
    run(chain([], clock), 0, clock=clock)
    assert gpu.queued_s == 50.0


@pytest.fixture
def gpu(monkeypatch):
    gpu = Gpu(Clock(), queued_s=0.0)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=gpu))
    return gpu


def test_all_gpus_that_a_stage_used_are_waited_for_and_no_others(gpu):
    run([stage(name="first", version="1")(lambda value: value)], 0)
    assert gpu.waited_for == {0}

    run([stage(name="second", version="1")(lambda value: gpu.peaks.__setitem__(1, 7))], 0)
    assert gpu.waited_for == {0, 1}


def test_the_peak_of_gpu_memory_is_each_stages_own(gpu):
    def take(*peaks):
        def work(value):
            gpu.peaks = [max(old, new) for old, new in zip(gpu.peaks, peaks, strict=True)]

        return work

    stages = [
        stage(name=f"s{i}", version="1")(take(*p)) for i, p in enumerate([(5, 3), (0, 0), (2, 0)])
    ]
    assert [each.peak_gpu_bytes for each in run(stages, 0)] == [8, None, 2]


def test_a_stage_without_a_gpu_has_no_peak():
    runs = run([stage(name="only", version="1")(lambda value: value)], 0)
    assert [each.peak_gpu_bytes for each in runs] == [None]


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the manual."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_running_out_of_memory_is_a_failure_in_a_line_that_frees_what_it_held(error, gpu):
    class Tensor:
        pass

    held = []

    def train(value):
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        gpu.peaks[0] = 9
        raise error

    (only,) = run([stage(name="train", version="1")(train)], 0)

    assert only.error.startswith("out of memory in stage 'train', at ")
    assert "test_calls.py" in only.error
    assert only.error.count("\n") == 0
    assert type(error).__name__ in only.error
    assert only.peak_gpu_bytes == 9
    assert only.cost is not None
    assert held[0]() is None  # although `error` still has its traceback
    assert gpu.emptied == 1


def test_what_an_error_on_the_way_held_is_freed_as_well():
    class Tensor:
        pass

    held = []

    def allocate():
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise KeyError

    def train(value):
        try:
            allocate()
        except KeyError as first:
            raise MemoryError from first

    (only,) = run([stage(name="train", version="1")(train)], 0)
    assert "out of memory" in only.error
    assert held[0]() is None


def test_another_error_keeps_its_traceback_and_the_gpus_cache(gpu):
    def train(value):
        raise RuntimeError("shapes do not match")

    (only,) = run([stage(name="train", version="1")(train)], 0)
    assert only.error.startswith("Traceback")
    assert gpu.emptied == 0


def test_stages_run_without_torch(monkeypatch):
    clock = Clock()
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert run(chain([], clock), 0, clock=clock)[0].cost == 1.0


# --- runs of whole pipelines ----------------------------------------------------------------

REACHED = (
    StageRun("a", "ka", memoized=True, charged=0.25, saved=8.0),
    StageRun("b", "kb", cost=2.0, charged=2.0, error="Traceback"),
)


def test_a_run_describes_all_stages_also_those_not_reached():
    whole = PipelineRun(("a", "b", "c"), REACHED)
    assert whole.stage_costs == [None, 2.0, None]
    assert whole.memoized == [True, False, False]
    assert (whole.charged, whole.saved) == (2.25, 8.0)
    assert whole.error == "Traceback"


def test_a_run_that_reached_nothing_is_empty():
    empty = PipelineRun(("a",), ())
    assert (empty.error, empty.value, empty.metrics) == (None, None, {})
    assert (empty.stage_costs, empty.memoized, empty.charged) == ([None], [False], 0.0)


@pytest.mark.parametrize("message", [*REACHED, PipelineRun((), ()), StageCall(None, {}, "k")])
def test_messages_between_parts_cannot_be_changed(message):
    (name, *_) = (each.name for each in dataclasses.fields(message))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(message, name, None)


def test_outputs_do_not_clutter_a_repr():
    assert "secret" not in repr(StageRun("a", "k", output="secret"))


def test_a_stage_that_exits_has_failed():
    @stage(version="1")
    def leave(x):
        sys.exit(3)

    run = Pipeline([leave]).run({}, 1.0)

    assert "SystemExit: 3" in run.error
    assert run.stage_costs[0] >= 0


class Odd:
    shape = ()

    def item(self):
        raise RuntimeError("no item")


@pytest.mark.parametrize(
    ("output", "number"),
    [
        (2, 2.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.array(3), 3.0),
        (np.bool_(True), 1.0),
        (np.array([3.0]), None),
        (np.array("text"), None),
        (torch.tensor(0.25), 0.25),
        (torch.ones(2), None),
        ("2", None),
        (None, None),
        (10**400, None),
        (Odd(), None),
    ],
)
def test_a_number_is_one_of_python_numpy_or_torch(output, number):
    assert number_of(output) == number


def test_an_output_whose_item_raises_is_an_output():
    (run,) = run_path(stage_calls([stage(version="1", name="odd")(Odd)], [{}], ""), ())
    assert isinstance(run.output, Odd)
    assert (run.error, run.observation) == (None, None)


@pytest.mark.parametrize("location", [None, "cache"])
def test_a_hit_counts_for_all_that_it_spares(tmp_path, location):
    cache = StageCache(None if location is None else tmp_path / location)
    first = stage(name="first", cost=lambda: 3.0)(lambda x: x + 1)
    unkept = stage(name="unkept", memoize=False, cost=lambda: 1.0)(lambda x: x)
    last = stage(name="last", cost=lambda: 2.0)(lambda x: x * 2)
    for _ in range(3):
        Pipeline([first, last, unkept]).run({}, 1.0, cache=cache)
    found = {each.stage: each for each in inventory(cache.place)}
    assert {name: each.hits for name, each in found.items()} == {"first": 2, "last": 2}
    assert found["first"].saved == 6.0
    assert 0.0 < found["last"].saved <= 4.0
    assert cache.stats().hits == 2
    cache.discard([found["first"].key])
    Pipeline([first, last, unkept]).run({}, 1.0, cache=cache)
    assert [(each.stage, each.hits) for each in inventory(cache.place)] == [("last", 3)]


@pytest.mark.parametrize("text", [True, False])
def test_a_command_that_has_failed_says_why(text):
    @stage(version="1")
    def trained(data):
        command = [sys.executable, "-c", "import sys; sys.exit('no such checkpoint: last.pt')"]
        try:
            subprocess.run(command, capture_output=True, text=text, check=True)
        except subprocess.CalledProcessError as error:
            raise RuntimeError("the training has failed") from error

    error = Pipeline([trained]).run({}, 0.0).error
    assert error.endswith("to its standard error:\nno such checkpoint: last.pt\n")
    assert error_line(error) == "RuntimeError: the training has failed"
