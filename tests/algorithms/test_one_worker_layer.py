"""What a plan's workers have in common with a tuner's, now that they are the same."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from eeipu import (
    ConfigurationError,
    Float,
    Int,
    Pipeline,
    StageCache,
    TransientError,
    Tuner,
    stage,
)
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.study_run import StudyRun
from eeipu.executors.futures_pool import FuturesPool
from eeipu.executors.opening import open_pool
from eeipu.executors.pool import InlinePool
from eeipu.executors.processes import ProcessExecutor
from eeipu.executors.stage_executor import StageExecutor
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.stages.paths import Path
from eeipu.stages.resources import Resources
from eeipu.stages.running.worker import Job
from eeipu.stages.schedules import MultiStep


def run(stages, configs, pool, plan=None):
    """Run the configurations of plain stages as a study."""
    study = StudyRun(
        "study", FullTraining(configs, 1), lambda c, step: stage_path(stages, c, "up", step)
    )
    plan = SearchPlan(cache=pool.job.cache) if plan is None else plan
    run_studies([study], Scheduler(plan), pool)
    return study


class WorkerLost(Exception):  # noqa: N818 - engines name theirs so
    """The death of a worker, in an engine's own words."""


class Mortal(StageExecutor):
    """An engine whose first workers die, and which says so by an exception of its own."""

    def __init__(self, deaths):
        self.deaths = deaths

    def can_take(self, needs):
        return True

    def submit_with(self, needs, function, /, *args):
        future = Future()
        if self.deaths > 0:
            self.deaths -= 1
            future.set_exception(WorkerLost("the node went down"))
        else:
            future.set_result(function(*args))
        return future

    def submit(self, fn, /, *args, **kwargs):
        raise NotImplementedError

    def is_death(self, error):
        return isinstance(error, WorkerLost)


def test_a_worker_that_an_engine_lost_in_its_own_words_ends_no_study(tmp_path):
    @stage(space={"k": Int(0, 9)}, version="1")
    def double(*, k):
        return 2.0 * k

    pool = FuturesPool(Mortal(2), 1, Job([double], (), StageCache(tmp_path)))
    assert run([double], [{"double.k": 4}], pool).values == {(0, 1): 8.0}


@pytest.mark.parametrize(("retries", "deaths"), [(0, 1), (1, 2), (3, 4)])
def test_a_call_is_tried_again_as_often_as_its_stage_says(retries, deaths, tmp_path):
    @stage(space={"k": Int(0, 9)}, version="1", retries=retries)
    def double(*, k):
        return 2.0 * k

    job = Job([double], (), StageCache(tmp_path))
    assert run([double], [{"double.k": 4}], FuturesPool(Mortal(deaths - 1), 1, job)).values
    job = Job([double], (), StageCache(tmp_path / "other"))
    errors = run([double], [{"double.k": 4}], FuturesPool(Mortal(deaths), 1, job)).errors
    times = "1 time" if deaths == 1 else f"{deaths} times"
    assert f"ended its worker (the node went down) {times}:" in errors[0, 1]


def test_a_transient_error_is_tried_again():
    tries = []

    @stage(version="1", retries=2)
    def flaky():
        tries.append(True)
        if len(tries) < 3:
            raise TransientError("the network is down")
        return 1.0

    assert run([flaky], [{}], InlinePool(Job([flaky], (), StageCache()))).values == {(0, 1): 1.0}
    assert len(tries) == 3


def test_a_call_that_hangs_is_ended(tmp_path):
    @stage(version="1", timeout=0.5, retries=0)
    def hang():
        time.sleep(60)

    with open_pool("processes", 1, Job([hang], (), StageCache(tmp_path))) as pool:
        errors = run([hang], [{}], pool).errors
    assert "took longer than its timeout of 0.5 s" in errors[0, 1]


def test_workers_see_the_gpus_that_they_are_given(tmp_path):
    @stage(space={"k": Int(0, 9)}, version="1", num_gpus=1)
    def device(*, k):
        return float(os.environ["CUDA_VISIBLE_DEVICES"])

    job = Job([device], (), StageCache(tmp_path))
    with FuturesPool(lambda: ProcessExecutor(3, gpus=[("6", 1.0), ("7", 1.0)]), 3, job) as pool:
        values = run([device], [{"device.k": k} for k in range(4)], pool).values
    assert len(values) == 4
    assert set(values.values()) <= {6.0, 7.0}


def test_a_call_of_more_cores_than_there_are_workers_waits_until_it_is_alone(tmp_path):
    @stage(space={"k": Int(0, 9)}, version="1", num_cpus=2)
    def wide(*, k):
        return float(os.environ["OMP_NUM_THREADS"]) + k

    with open_pool("processes", 2, Job([wide], (), StageCache(tmp_path))) as pool:
        values = run([wide], [{"wide.k": k} for k in range(3)], pool).values
    assert values == {(0, 1): 2.0, (1, 1): 3.0, (2, 1): 4.0}


TWICE = """
import sys, time
from pathlib import Path
from eeipu import Int, StageCache, stage
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.study_run import StudyRun
from eeipu.executors.pool import InlinePool
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import stage_path
from eeipu.stages.running.worker import Job

folder = Path(sys.argv[1])

@stage(space={"k": Int(0, 9)}, version="1")
def slow(*, k):
    (folder / f"{k} {time.time_ns()}").touch()
    time.sleep(0.2)
    return 1.0 * k

cache = StageCache(folder / "cache")
study = StudyRun("study", FullTraining([{"slow.k": k} for k in range(4)], 1),
                 lambda config, step: stage_path([slow], config, "", step))
print("ready", flush=True)
sys.stdin.readline()
run_studies([study], Scheduler(SearchPlan(cache=cache)), InlinePool(Job([slow], (), cache)))
print(sorted(study.values.values()))
"""


def test_two_processes_on_one_cache_run_a_call_once(tmp_path):
    command = [sys.executable, "-c", TWICE, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for each in both:
        assert each.stdout.readline() == "ready\n"
    for each in both:
        each.stdin.write("go\n")
        each.stdin.flush()
    outputs = [each.communicate()[0].strip() for each in both]
    assert outputs == ["[0.0, 1.0, 2.0, 3.0]"] * 2
    calls = Counter(path.name.split()[0] for path in tmp_path.iterdir() if path.name != "cache")
    assert calls == dict.fromkeys("0123", 1)


def test_what_is_not_to_be_kept_is_made_for_each_trial_that_needs_it():
    made = Counter()

    @stage(space={"k": Int(0, 9)}, version="1", memoize=False)
    def noise(*, k):
        made["noise"] += 1
        return 100.0 * k + made["noise"]

    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def add(before, *, x):
        made["add"] += 1
        return before + x

    cache = StageCache()
    configs = [{"noise.k": 1, "add.x": x} for x in (0.25, 0.5)]
    study = run([noise, add], configs, InlinePool(Job([noise, add], (), cache)))
    assert made == {"noise": 2, "add": 2}
    assert sorted(study.values.values()) == [101.25, 102.5]
    assert list(cache) == []  # another run makes its own noise


def test_a_value_that_is_not_to_be_kept_is_made_for_each_trial():
    made = []

    @stage(version="1", memoize=False)
    def score():
        made.append(True)
        return float(len(made))

    cache = StageCache()
    study = run([score], [{}, {}], InlinePool(Job([score], (), cache)))
    assert sorted(study.values.values()) == [1.0, 2.0]
    assert list(cache) == []


def test_an_output_that_the_cache_does_not_take_travels_to_the_next_call():
    @stage(version="1")
    def large():
        return [0.0] * 10_000

    @stage(version="1")
    def count(before):
        return float(len(before))

    cache = StageCache(max_bytes=10_000)
    with pytest.warns(RuntimeWarning, match="larger than the whole cache"):
        study = run([large, count], [{}], InlinePool(Job([large, count], (), cache)))
    assert study.values == {(0, 1): 10_000.0}


def test_threads_of_a_plan_share_what_is_in_memory():
    @stage(space={"k": Int(0, 9)}, version="1")
    def double(*, k):
        return 2.0 * k

    with ThreadPoolExecutor(2) as executor:
        pool = FuturesPool(executor, 2, Job([double], (), StageCache()))
        values = run([double], [{"double.k": k} for k in range(5)], pool).values
    assert values == {(k, 1): 2.0 * k for k in range(5)}


def counting_training(fail_at, **options):
    """Training that counts its steps in place, and fails once by chance behind a step."""
    tries = []

    def advance(state, start, stop, hyper_parameters):
        for step in range(start, stop):
            state.append(step)
            if step == fail_at and not tries:
                tries.append(step)
                raise TransientError("the network is down")
        return state

    training = Training(list, advance, lambda state: float(len(state)))
    return iterative(training, {"lr": 0.1}, steps=4, name="train", version="1", **options)


def train_path(config, step):
    path = Path("up").train("train", "version 1", {"lr": MultiStep(0.1, [2])}, step)
    return path.evaluate("train", "version 1")


@pytest.mark.parametrize("max_bytes", [None, 600])
def test_a_transient_error_in_training_never_goes_on_from_a_half_trained_state(max_bytes):
    stages, cache = [counting_training(fail_at=3)], StageCache(max_bytes=max_bytes)
    study = StudyRun("study", FullTraining([{}], 4), train_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what does not fit
        run_studies([study], Scheduler(SearchPlan(cache=cache)), InlinePool(Job(stages, (), cache)))
    if max_bytes is None:
        assert study.values == {(0, 4): 4.0}
    else:
        assert "was not tried again" in study.errors[0, 4]


def test_a_pool_that_is_closed_holds_no_training_state():
    stages, cache = [counting_training(fail_at=-1)], StageCache()
    study = StudyRun("study", FullTraining([{}], 4), train_path)
    job = Job(stages, (), cache)
    with open_pool(None, 1, job) as pool:
        run_studies([study], Scheduler(SearchPlan(cache=cache)), pool)
        assert len(job.states) == 1
    assert len(job.states) == 0


def flaky_pipeline(**options):
    tries = []

    @stage(version="1", **options)
    def first():
        return []

    @stage(version="1")
    def second(numbers):
        numbers.append(1)
        if not tries:
            tries.append(True)
            raise TransientError("the network is down")
        return float(len(numbers))

    return Pipeline([first, second])


def test_a_call_is_tried_again_on_an_input_that_no_attempt_has_changed():
    assert flaky_pipeline().run({}, cache=StageCache()).value == 1.0
    lost = flaky_pipeline(memoize=False).run({}, cache=StageCache())
    assert "was not tried again, because its input is kept nowhere" in lost.error


def test_a_load_that_ends_the_script_is_a_failure_of_its_trial():
    def load(saved):
        raise SystemExit("no such checkpoint")

    training = Training(list, lambda state, *_: state, len, load=load)
    stages = [iterative(training, {}, 4, "train", version="1")]
    study = StudyRun("study", FullTraining([{}], 4), train_path)
    cache = StageCache()
    job = Job(stages, (), cache)
    job.states.room = 0  # so that nothing is in memory
    run_studies([study], Scheduler(SearchPlan(cache=cache)), InlinePool(job))
    assert "no such checkpoint" in study.errors[0, 4]


def test_declared_costs_and_seconds_are_not_added_up(tmp_path):
    @stage(space={"k": Int(0, 9)}, version="1", cost=lambda k: 1000.0)
    def double(*, k):
        return 2.0 * k

    job = Job([double], (), StageCache(tmp_path))
    plan = SearchPlan(cache=job.cache)
    run([double], [{"double.k": 4}], FuturesPool(Mortal(1), 1, job), plan)
    assert plan.spent_s == 1000.0


def test_what_another_plan_has_made_costs_what_it_cost_and_is_paid_once(tmp_path):
    @stage(space={"k": Int(0, 9)}, version="1", cost=lambda k: 10.0)
    def double(*, k):
        return 2.0 * k

    cache, plans = StageCache(tmp_path), []
    for plan in (SearchPlan(cache=cache), SearchPlan(cache=cache)):
        plan.request("study", 0, stage_path([double], {"double.k": 4}, "up", 1))
        plans.append(plan)
    for plan in plans:
        run([double], [{"double.k": 4}], InlinePool(Job([double], (), cache)), plan)
    (node,) = plans[1].tree
    assert [plan.spent_s for plan in plans] == [10.0, 0.0]
    assert node.cost_s == 10.0


def test_a_worker_that_died_once_too_often_is_forgiven_when_the_plan_is_opened_again(tmp_path):
    @stage(space={"k": Int(0, 9)}, version="1", retries=0)
    def double(*, k):
        return 2.0 * k

    cache = StageCache(tmp_path / "cache")
    for deaths, trials in ((1, 0), (0, 1)):
        pool = FuturesPool(Mortal(deaths), 1, Job([double], (), cache))
        with SearchPlan(tmp_path / "plan.db", cache) as plan:
            study = run([double], [{"double.k": 4}], pool, plan)
        assert len(study.values) == trials


def test_a_plan_and_its_workers_have_one_cache():
    @stage(version="1")
    def one():
        return 1.0

    pool = InlinePool(Job([one], (), StageCache()))
    with pytest.raises(ConfigurationError, match="give both the same cache"):
        run([one], [{}], pool, SearchPlan(cache=StageCache()))


def test_a_pool_of_the_users_own_runs_what_the_tuner_runs(tmp_path):
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def add(data, *, x):
        return data + x

    def tuner(pool):
        return Tuner(
            Pipeline([add]), budget=9.0, method="random", cache=cache, executor=pool, seed=0
        )

    cache = StageCache(tmp_path)
    other = FuturesPool(Mortal(0), 1, Job([add], (1000.0,), cache))
    with pytest.raises(ConfigurationError, match="made for other stages, inputs"):
        tuner(other).run(1.0, max_trials=1, progress=False)
    same = FuturesPool(Mortal(0), 1, Job([add], (1.0,), cache))
    assert 1.0 <= tuner(same).run(1.0, max_trials=1, progress=False).best_value <= 2.0


def test_fractions_of_a_gpu_that_were_given_back_are_a_whole_one():
    whole = Resources(1.0, 1.0)
    left = whole - Resources(0.0, 0.3) - Resources(0.0, 0.4) + Resources(0.0, 0.3)
    assert whole.fit(left + Resources(0.0, 0.4))


def test_an_interrupt_of_a_plan_in_this_thread_waits_for_the_node_that_runs():
    @stage(space={"k": Int(0, 9)}, version="1")
    def press(*, k):
        signal.raise_signal(signal.SIGINT)
        return 2.0 * k

    cache = StageCache()
    pool = InlinePool(Job([press], (), cache))
    with pytest.raises(KeyboardInterrupt):
        run([press], [{"press.k": k} for k in range(3)], pool)
    assert len(list(cache)) == 1
