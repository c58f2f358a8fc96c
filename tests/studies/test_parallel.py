"""Tuning on several workers: what runs once, what is charged, and what a worker's death does."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import psutil
import pytest

import eeipu
from eeipu import Float, Pipeline, StageCache, Tuner, stage
from eeipu.executors.processes import ProcessExecutor, gpu_shares
from eeipu.stages.resources import Resources


def diary(folder, act=lambda x, calls: None, **options):
    """A pipeline `prep -> score` that leaves a file for each call.

    Args:
        folder: Where the files go.
        act: Called as `act(x, calls)` in `prep`, where `calls` is how many there were with this x.
        options: Of the stage `prep`.
    """
    folder = str(folder)

    @stage(space={"x": Float(0.0, 1.0)}, version="1", **options)
    def prep(data, *, x):
        before = len(list(Path(folder).glob(f"prep {x} *")))
        Path(folder, f"prep {x} {uuid.uuid4()}").touch()
        act(x, before + 1)
        return data + x

    @stage(space={"y": Float(0.0, 1.0)}, version="1")
    def score(total, *, y):
        Path(folder, f"score {total} {y}").touch()
        return total + y

    return Pipeline([prep, score])


def point(x=0.5, y=0.5):
    return {"prep.x": x, "score.y": y}


def tuner_of(pipeline, *points, **arguments):
    arguments = {"budget": 1e3, "method": "random", "seed": 0, "max_parallel": 2, **arguments}
    tuner = Tuner(pipeline, **arguments)
    for each in points:
        tuner.enqueue(each)
    return tuner


def outcomes(study):
    return [
        (trial.params, trial.value, trial.state.name) for trial in study.get_trials(deepcopy=False)
    ]


# --- What runs, and how often


@pytest.mark.parametrize("executor", ["processes", "threads"])
def test_many_workers_find_what_one_finds(executor, tmp_path):
    alone = tuner_of(diary(tmp_path), max_parallel=1)
    expected = alone.run(1.0, max_trials=6, progress=False)
    study = tuner_of(diary(tmp_path), executor=executor).run(1.0, max_trials=6, progress=False)
    assert outcomes(study) == outcomes(expected)


@pytest.mark.parametrize("executor", ["processes", "threads"])
def test_trials_that_share_a_running_stage_wait_for_it(executor, tmp_path):
    pipeline = diary(tmp_path, lambda x, calls: time.sleep(0.2))
    tuner = tuner_of(pipeline, point(y=0.1), point(y=0.2), point(y=0.3), executor=executor)
    study = tuner.run(1.0, max_trials=3, progress=False)

    assert [trial.value for trial in study.trials] == [1.6, 1.7, 1.8]
    (prepared,) = tmp_path.glob("prep*")
    scored = sorted(path.name for path in tmp_path.iterdir() if path != prepared)
    assert scored == [
        "score 1.5 0.1",
        "score 1.5 0.2",
        "score 1.5 0.3",
    ]
    flags = [trial.user_attrs["memoized"] for trial in study.trials]
    assert sorted(flags) == [[False, False], [True, False], [True, False]]


def test_one_trial_is_scored_while_another_is_prepared(tmp_path):
    is_scored, is_prepared = threading.Event(), threading.Event()

    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def prep(data, *, x):
        if x == 1.0:
            is_prepared.set()
            assert is_scored.wait(30)
        return data

    @stage(version="1")
    def score(data):
        assert is_prepared.wait(30)
        is_scored.set()
        return data

    tuner = tuner_of(Pipeline([prep, score]), {"prep.x": 0.0}, {"prep.x": 1.0}, executor="threads")
    study = tuner.run(1.0, max_trials=2, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2


def test_as_many_calls_run_as_there_are_workers(tmp_path):
    running, most, lock = [0], [0], threading.Lock()
    together = threading.Barrier(3)

    def act(x, calls):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(30)
        with lock:
            running[0] -= 1

    tuner = tuner_of(diary(tmp_path, act), executor="threads", max_parallel=3, cache=None)
    study = tuner.run(1.0, max_trials=6, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
    assert most[0] == 3


def test_suggestions_know_of_running_trials(tmp_path):
    seen = []

    class Watching(eeipu.EEIPUSampler):
        def sample_relative(self, study, trial, search_space):
            states = [t.state.name for t in study.get_trials(deepcopy=False)]
            seen.append(states.count("RUNNING") - 1)
            return super().sample_relative(study, trial, search_space)

    pipeline = diary(tmp_path, lambda x, calls: time.sleep(0.05))
    sampler = Watching(pipeline, budget=1e3, seed=0)
    tuner_of(pipeline, method=sampler, executor="threads").run(1.0, max_trials=4, progress=False)
    assert max(seen) >= 1


def test_the_budget_counts_what_running_stages_have_taken(tmp_path):
    pipeline = diary(tmp_path, lambda x, calls: time.sleep(0.4))
    tuner = tuner_of(pipeline, budget=0.2, executor="threads", max_parallel=2)
    study = tuner.run(1.0, progress=False)
    assert len(study.trials) == 2  # both were begun before anything was spent
    assert tuner.spent > 0.8


# --- What travels how


def test_outputs_that_the_cache_does_not_take_travel_with_the_next_call(tmp_path):
    cache = StageCache(tmp_path / "cache", max_bytes=1)
    study = tuner_of(diary(tmp_path), point(), cache=cache).run(1.0, max_trials=1)
    assert study.best_value == 2.0
    assert cache.stats().entries == 0


@pytest.mark.parametrize("executor", ["processes", "threads"])
def test_without_a_cache_everything_runs_again(executor, tmp_path):
    tuner = tuner_of(diary(tmp_path), point(y=0.1), point(y=0.2), cache=None, executor=executor)
    study = tuner.run(1.0, max_trials=2, progress=False)
    assert [trial.value for trial in study.trials] == [1.6, 1.7]
    assert len(list(tmp_path.glob("prep*"))) == 2


def test_an_output_that_cannot_travel_fails_its_trial_alone(tmp_path):
    @stage(space={"x": Float(0.0, 1.0)}, version="1", memoize=False)
    def prep(data, *, x):
        return threading.Lock() if x > 0.5 else x

    @stage(version="1")
    def score(x):
        return float(x)

    tuner = tuner_of(Pipeline([prep, score]), {"prep.x": 0.9}, {"prep.x": 0.1})
    study = tuner.run(1.0, max_trials=2, progress=False)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    error = study.trials[0].user_attrs["error"]
    assert "'prep' cannot be sent to another process" in error
    assert 'executor="threads"' in error


# --- What goes wrong


def test_a_worker_that_dies_is_replaced_and_its_call_tried_again(tmp_path):
    def act(x, calls):
        if x == 0.5 and calls == 1:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)

    tuner = tuner_of(diary(tmp_path, act), point(), point(x=0.25))
    study = tuner.run(1.0, max_trials=2, progress=False)
    first, second = study.trials
    assert (first.value, second.value) == (2.0, 1.75)
    assert len(list(tmp_path.glob("prep 0.5*"))) == 2
    assert first.user_attrs["stage_costs"][0] < 0.2  # what a whole call takes
    assert first.user_attrs["charged"] > 0.2  # and what was spent


def test_a_call_that_kills_every_worker_is_a_failed_trial(tmp_path):
    def act(x, calls):
        if x == 0.5:
            os._exit(7)

    tuner = tuner_of(diary(tmp_path, act, retries=1), point(), point(x=0.25))
    study = tuner.run(1.0, max_trials=2, progress=False)
    first, second = study.trials
    assert (first.state.name, second.state.name) == ("FAIL", "COMPLETE")
    assert "'prep' ended its worker 2 times in a row" in first.user_attrs["error"]
    assert first.user_attrs["failed_stage"] == "prep"
    assert first.user_attrs["charged"] > 0
    assert len(list(tmp_path.glob("prep 0.5*"))) == 2


def test_a_call_that_hangs_is_ended(tmp_path):
    def act(x, calls):
        if x == 0.5:
            time.sleep(60)

    pipeline = diary(tmp_path, act, timeout=0.5, retries=0)
    study = tuner_of(pipeline, point(), point(x=0.25)).run(1.0, max_trials=2, progress=False)
    first, second = study.trials
    assert (first.state.name, second.state.name) == ("FAIL", "COMPLETE")
    assert "longer than its timeout of 0.5 s" in first.user_attrs["error"]


@pytest.mark.parametrize("arguments", [{"max_parallel": 1}, {"executor": "threads"}])
def test_a_transient_error_is_tried_again(arguments, tmp_path):
    def act(x, calls):
        if calls <= 2:
            time.sleep(0.05)
            raise eeipu.TransientError("the connection was lost")

    pipeline = diary(tmp_path, act, retries=2)
    study = tuner_of(pipeline, point(), **arguments).run(1.0, max_trials=1, progress=False)
    trial = study.trials[0]
    assert trial.value == 2.0
    assert trial.user_attrs["stage_costs"][0] < 0.05
    assert trial.user_attrs["charged"] > 0.1


def test_a_transient_error_that_stays_fails_the_trial(tmp_path):
    def act(x, calls):
        raise eeipu.TransientError("the connection was lost")

    tuner = tuner_of(diary(tmp_path, act, retries=1), point(), max_parallel=1)
    trial = tuner.run(1.0, max_trials=1, progress=False).trials[0]
    assert trial.state.name == "FAIL"
    assert "the connection was lost" in trial.user_attrs["error"]
    assert len(list(tmp_path.glob("prep*"))) == 2


def test_an_output_that_goes_missing_is_made_again(tmp_path):
    cache = StageCache()

    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def prep(data, *, x):
        Path(tmp_path, f"prep {len(list(tmp_path.iterdir()))}").touch()
        return data + x

    @stage(space={"y": Float(0.0, 1.0)}, version="1")
    def score(total, *, y):
        return total + y

    pipeline = Pipeline([prep, score])
    tuner = tuner_of(pipeline, point(y=0.1), point(y=0.2), cache=cache, executor="threads")
    tuner.run(1.0, max_trials=1, progress=False)

    true_get, is_sound = cache.get, [True]

    def get(key):  # as if somebody had removed the files
        if is_sound.pop():
            cache._eviction.drop(set(cache))
            is_sound.append(False)
        return true_get(key)

    cache.get = get
    study = tuner.run(1.0, max_trials=1, progress=False)
    assert study.trials[1].value == 1.7
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupt_that_a_stage_raises_itself_fails_its_trial(tmp_path):
    def act(x, calls):
        if x == 0.5:
            raise KeyboardInterrupt

    tuner = tuner_of(diary(tmp_path, act), point(), point(x=0.25))
    study = tuner.run(1.0, max_trials=2, progress=False)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": 0.0}, r"timeout.*positive.*0\.0"),
        ({"retries": -1}, r"retries.*>= 0.*-1"),
        ({"retries": 1.5}, r"retries.*whole.*1\.5"),
    ],
)
def test_bad_options_of_a_stage(options, words, tmp_path):
    with pytest.raises(eeipu.PipelineError, match=words):
        diary(tmp_path, **options)


# --- Ctrl-C, and the driver's own death


def test_ctrl_c_lets_running_stages_end_and_nothing_is_lost(tmp_path):
    def act(x, calls):
        if x == 0.5:
            os.kill(os.getppid(), signal.SIGINT)
        time.sleep(0.3)

    tuner = tuner_of(diary(tmp_path, act), point(x=0.25), point())
    with pytest.raises(KeyboardInterrupt):
        tuner.run(1.0, progress=False)
    states = [trial.state.name for trial in tuner.study.trials]
    assert states.count("RUNNING") == 0
    assert states.count("WAITING") >= 1
    began = len(list(tmp_path.glob("prep*")))

    study = tuner.run(1.0, max_trials=states.count("WAITING"), progress=False)
    done = {trial.params["prep.x"] for trial in study.trials if trial.state.name == "COMPLETE"}
    assert {0.25, 0.5} <= done
    assert len(list(tmp_path.glob("prep*"))) == began


SCRIPT = """
import os, sys, time
from eeipu import Float, Pipeline, StageCache, Tuner, stage

@stage(space={"x": Float(0.0, 1.0)})
def train(data, *, x):
    open(sys.argv[1] + f"/{os.getpid()}", "w").close()
    time.sleep(60)
    return x

Tuner(Pipeline([train]), budget=100.0, method="random", max_parallel=2).run(1.0)
"""


def test_workers_end_with_a_driver_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    calls = tmp_path / "calls"
    calls.mkdir()
    driver = subprocess.Popen([sys.executable, str(script), str(calls)])
    try:
        while len(list(calls.iterdir())) < 2:
            assert driver.poll() is None
            time.sleep(0.1)
        workers = [int(path.name) for path in calls.iterdir()]
    finally:
        driver.kill()
        driver.wait()
    _, alive = psutil.wait_procs(
        [psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)], timeout=20
    )
    assert alive == []


# --- Workers and what they have


def test_workers_get_the_threads_that_a_stage_declares():
    @stage(version="1", num_cpus=2, space={"x": Float(0.0, 1.0)})
    def count(data, *, x):
        import torch

        return float(10 * torch.get_num_threads() + int(os.environ["OMP_NUM_THREADS"]))

    study = tuner_of(Pipeline([count])).run(1.0, max_trials=1, progress=False)
    assert study.best_value == 22.0


def test_a_stage_sees_the_gpus_of_its_worker():
    with ProcessExecutor(2, gpus=[("3", 1.0)]) as executor:
        seen = executor.submit_with(Resources(1, 1), os.getenv, "CUDA_VISIBLE_DEVICES")
        other = executor.submit_with(Resources(1, 0), os.getenv, "CUDA_VISIBLE_DEVICES")
        assert not executor.can_take(Resources(1, 1))
        assert (seen.result(), other.result()) == ("3", "")
        assert executor.can_take(Resources(1, 1))
        assert not executor.can_take(Resources(1, 2))


def test_a_call_of_many_cores_waits_until_they_are_free():
    with ProcessExecutor(3) as executor:
        first = executor.submit_with(Resources(2), time.sleep, 0.5)
        cores = executor._num_cpus
        assert executor.can_take(Resources(cores - 2))
        assert not executor.can_take(Resources(cores - 1))
        first.result()
        assert executor.can_take(Resources(cores + 1))


def test_gpus_are_shared_out():
    assert gpu_shares(["0", "1"], 0) == []
    assert gpu_shares(["0", "1"], 0.5) == [("0", 0.5), ("1", 0.5)] * 2
    assert gpu_shares(["0", "1", "2"], 1) == [("0", 1.0), ("1", 1.0), ("2", 1.0)]
    assert gpu_shares(["0", "1", "2"], 1.5) == [("0,1", 2.0)]


# --- Scripts and what they define

MODEL_SCRIPT = """
import sys
from pathlib import Path
from eeipu import Float, Int, Pipeline, Tuner, stage

class Model:
    def __init__(self, size):
        self.size = size

@stage(space={"size": Int(1, 2)})
def train(data, *, size):
    Path(sys.argv[1], f"{size}").open("a").write("x")
    return Model(size)

@stage(space={"y": Float(0.0, 1.0)})
def score(model, *, y):
    assert type(model) is Model
    return model.size + y

tuner = Tuner(Pipeline([train, score]), budget=1e3, method="random", max_parallel=2, seed=0)
study = tuner.run(1.0, max_trials=6, progress=False)
print([trial.state.name for trial in study.trials].count("COMPLETE"))
"""


def test_outputs_of_a_script_s_own_classes_are_kept(tmp_path):
    calls = tmp_path / "calls"
    calls.mkdir()
    script = tmp_path / "script.py"
    script.write_text(MODEL_SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(script), str(calls)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["6"]
    assert "could not be kept" not in ran.stderr
    assert [path.read_text() for path in calls.iterdir()] == ["x"] * len(list(calls.iterdir()))


@pytest.mark.parametrize("second", [lambda x: None, lambda x: undefined])  # noqa: F821
def test_an_error_of_programming_ends_the_run_when_the_first_trial_has(second):
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def first(data, *, x):
        return x

    pipeline = Pipeline([first, stage(second, name="second", version="1")])
    study = tuner_of(pipeline).run(1.0, progress=False)
    assert {trial.state.name for trial in study.trials} == {"FAIL"}
    assert len(study.trials) <= 3  # two workers, and the one that was being chosen


INTERRUPTED_SCRIPT = """
import sys, time
from pathlib import Path
from eeipu import Float, Pipeline, Tuner, stage

@stage(space={"x": Float(0.0, 1.0)})
def train(data, *, x):
    Path(sys.argv[1], "begun").touch()
    time.sleep(1.0)
    return x

tuner = Tuner(Pipeline([train]), budget=1e3, method="random", max_parallel=2)
try:
    tuner.run(1.0, progress=False)
except KeyboardInterrupt:
    print(sorted({trial.state.name for trial in tuner.study.trials}))
    raise
print("the script went on")
"""


def test_ctrl_c_in_a_terminal_lets_running_stages_end(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED_SCRIPT)
    driver = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "begun").exists():
        assert driver.poll() is None
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGINT)  # a terminal sends it to workers too
    printed, _ = driver.communicate(timeout=60)
    assert driver.returncode == -signal.SIGINT  # 130 in a shell
    assert "COMPLETE" in printed
    assert "RUNNING" not in printed
    assert "went on" not in printed


def test_a_stage_that_cannot_be_sent_is_named_before_anything_starts():
    lock = threading.Lock()

    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def train(data, *, x):
        with lock:
            return x

    before = psutil.Process().children()
    with pytest.raises(eeipu.PipelineError, match=r"'train' cannot be sent.*threads"):
        tuner_of(Pipeline([train])).run(1.0)
    _, alive = psutil.wait_procs(set(psutil.Process().children()) - set(before), timeout=10)
    assert not [each for each in alive if "popen_loky" in " ".join(each.cmdline())]


def test_a_stage_may_use_joblib_in_a_worker():
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def train(data, *, x):
        from joblib import Parallel, delayed

        return float(sum(Parallel(n_jobs=2)(delayed(abs)(k) for k in range(3))))

    study = tuner_of(Pipeline([train])).run(1.0, max_trials=2, progress=False)
    assert study.best_value == 3.0


# --- Limits and the budget


def test_each_attempt_has_the_whole_time_limit(tmp_path):
    def act(x, calls):
        time.sleep(0.6)
        if calls <= 2:
            raise eeipu.TransientError("the connection was lost")

    pipeline = diary(tmp_path, act, timeout=1.5, retries=2)
    study = tuner_of(pipeline, point()).run(1.0, max_trials=1, progress=False)
    assert study.trials[0].value == 2.0
    assert len(list(tmp_path.glob("prep*"))) == 3


def test_no_trial_begins_that_running_ones_leave_no_budget_for(tmp_path):
    pipeline = diary(tmp_path, lambda x, calls: time.sleep(0.2))
    tuner = tuner_of(pipeline, budget=1.1, executor="threads", max_parallel=3, cache=None)
    study = tuner.run(1.0, progress=False)
    # Three begin before anything is known. A call takes at least 0.2 s, more on a busy machine: the
    # first six are worth 1.2 s by the time they have begun, however few of them have ended.
    assert 3 <= len(study.trials) <= 6


def test_declared_costs_of_running_trials_count_as_spent():
    @stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 0.2)
    def score(data, *, x):
        time.sleep(0.05)
        return data + x

    tuner = tuner_of(Pipeline([score]), budget=1.1, executor="threads", max_parallel=3, cache=None)
    assert len(tuner.run(1.0, progress=False).trials) == 6


def test_a_configuration_that_was_being_chosen_when_a_run_failed_is_not_left_running(tmp_path):
    is_choosing = threading.Event()

    class Slow(eeipu.EEIPUSampler):
        def sample_relative(self, study, trial, search_space):
            if trial.number == 1:
                is_choosing.set()
                time.sleep(0.3)
            return super().sample_relative(study, trial, search_space)

    def fail(study, trial):
        raise RuntimeError("a callback's bug")

    pipeline = diary(tmp_path, lambda x, calls: is_choosing.wait(30))
    sampler = Slow(pipeline, budget=1e3, seed=0)
    tuner = tuner_of(pipeline, method=sampler, executor="threads", callbacks=[fail])
    with pytest.raises(RuntimeError, match="a callback's bug"):
        tuner.run(1.0, progress=False)
    deadline = time.monotonic() + 30
    while any(trial.state.name == "RUNNING" for trial in tuner.study.trials):
        assert time.monotonic() < deadline
        time.sleep(0.05)


TRAINING_SCRIPT = """
import sys
from pathlib import Path
from eeipu import Float, Pipeline, Tuner
from eeipu.stages.iterative import Training, iterative

class Net:
    weight = 0.0

def init(data):
    Path(sys.argv[1], "init").open("a").write("x")
    return Net()

def advance(net, start, stop, hyper_parameters):
    net.weight += sum(hyper_parameters["lr"](step) for step in range(start, stop))
    return net

def evaluate(net):
    return net.weight


train = iterative(Training(init, advance, evaluate), {"lr": 0.5}, steps=2, name="train")
stages = train.segments({1: {}, 2: {"lr": Float(0.0, 1.0)}})
tuner = Tuner(Pipeline(stages), budget=1e3, method="random", max_parallel=2, seed=0)
study = tuner.run(1.0, max_trials=4, progress=False)
print([trial.state.name for trial in study.trials].count("COMPLETE"))
"""


def test_states_of_a_script_s_own_classes_are_kept(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TRAINING_SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["4"]
    assert (tmp_path / "init").read_text() == "x"


def test_a_running_trial_says_at_once_what_it_reuses():
    seen = []

    @stage(space={"a": Float(0, 1)}, cost=lambda a: 4.0, version="1")
    def first(*, a):
        return a

    @stage(space={"b": Float(0, 1)}, cost=lambda b: 1.0, version="1")
    def second(x, *, b):
        running = [t for t in tuner.study.trials if t.state.name == "RUNNING"]
        seen.extend(t.user_attrs["memoized"] for t in running)
        return x + b

    tuner = Tuner(Pipeline([first, second]), budget=1e3, seed=0)
    for b in (0.25, 0.75):
        tuner.enqueue({"first.a": 0.5, "second.b": b})
    tuner.run(max_trials=2, progress=False)

    assert seen == [[False, False], [True, False]]
