"""What a plan's workers have in common with a tuner's, now that they are the same."""

import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from eeipu import Float, Int, StageCache, TransientError, stage
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.study_run import StudyRun
from eeipu.caching.inventory import inventory
from eeipu.executors.futures_pool import FuturesPool
from eeipu.executors.opening import open_pool
from eeipu.executors.pool import InlinePool
from eeipu.executors.processes import ProcessExecutor
from eeipu.executors.stage_executor import StageExecutor
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import stage_path
from eeipu.stages.worker import Job


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
    assert f"ended its worker (the node went down) {deaths} times" in errors[0, 1]


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
from eeipu.stages.worker import Job

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
    assert {entry.stage for entry in inventory(cache.place)} == {"add"}


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
