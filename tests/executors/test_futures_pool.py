"""Executors that the user has: their workers' deaths, and what is handed out to them."""

import multiprocessing
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import loky
import pytest
from engines import (
    check_finds_what_one_finds,
    check_runs_a_notebook,
    check_survives_a_death,
    data,
    diary,
    dying,
    point,
    tuner_of,
)
from loky.process_executor import ProcessPoolExecutor as LokyPool
from optuna.samplers import RandomSampler

from eeipu.errors import EeipuError, WorkerMismatchError
from eeipu.executors.futures_pool import FuturesPool
from eeipu.executors.pool import InlinePool, SplittingPool
from eeipu.executors.processes import ProcessExecutor
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask
from eeipu.stages.running.worker import Job


def processes(count=2):
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("fork"))


@pytest.mark.parametrize("make", [processes, partial(LokyPool, 2)])
def test_an_executor_of_processes_finds_what_one_thread_finds(make, tmp_path):
    with make() as executor:
        check_finds_what_one_finds(executor, tmp_path)


def test_lokys_shared_executor_outlives_a_run(tmp_path):
    executor = loky.get_reusable_executor(max_workers=2)
    check_finds_what_one_finds(executor, tmp_path, cache=None)
    check_runs_a_notebook(executor)
    assert executor.submit(abs, -1).result() == 1
    executor.shutdown()


def test_an_executor_that_breaks_says_what_to_give_instead(tmp_path):
    tuner = tuner_of(diary(tmp_path, dying(1)), executor=processes())
    tuner.enqueue(point(0.25))
    with pytest.raises(EeipuError, match=r"broke under stage 'fit'.*executor=lambda"):
        tuner.run(data(), progress=False)


@pytest.mark.parametrize(
    "make", [processes, partial(loky.get_reusable_executor, max_workers=2, kill_workers=True)]
)
def test_a_function_makes_another_executor_when_one_breaks(make, tmp_path):
    check_survives_a_death(make, tmp_path)


def test_a_call_that_kills_every_worker_fails_alone(tmp_path):
    def act(y, before):
        time.sleep(0.1)
        dying(9)(y, before)

    tuner = tuner_of(diary(tmp_path, act, retries=1), executor=processes)
    for y in (0.25, 0.5, 0.75):
        tuner.enqueue(point(y))
    study = tuner.run(data(), max_trials=3, progress=False)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "ended its worker 2 times in a row" in study.trials[0].user_attrs["error"]


class Breaking(Executor):
    """Breaks under all calls when it is told to, as pools of processes do."""

    def __init__(self):
        self.futures = []
        self.is_broken = False

    def submit(self, fn, /, *args, **kwargs):
        if self.is_broken:
            raise loky.process_executor.TerminatedWorkerError("broken")
        self.futures.append(Future())
        return self.futures[-1]

    def die(self):
        self.is_broken = True
        for future in self.futures:
            future.set_exception(loky.process_executor.TerminatedWorkerError("died"))


def tasks(count, folder):
    pipeline = diary(folder)
    paths = [pipeline.calls(point(0.1 * k, x=1 + k % 2), "up") for k in range(count)]
    return pipeline, [StageTask(path[0], None, is_last=False) for path in paths]


def test_calls_under_which_an_executor_broke_run_one_at_a_time_until_it_is_known(tmp_path):
    pipeline, (first, second) = tasks(2, tmp_path)
    made = []

    def make():
        made.append(Breaking())
        return made[-1]

    pool = FuturesPool(make, 2, Job(pipeline.stages))
    pool.submit(first)
    pool.submit(second)
    made[0].die()
    ended = pool.wait()
    assert [(event.is_death, event.error, event.result) for event in ended] == [
        (False, None, None)
    ] * 2
    pool.submit(second)
    assert not pool.can_take(Resources())  # as long as nobody knows which it was
    made[1].die()
    (event,) = pool.wait()
    assert event.is_death
    assert "died" in str(event.error)
    assert pool.can_take(Resources())
    pool.close(at_once=False)


def test_an_executor_that_broke_since_its_last_call_is_made_anew(tmp_path):
    pipeline, (task, _) = tasks(2, tmp_path)
    made = []

    def make():
        made.append(Breaking())
        return made[-1]

    pool = FuturesPool(make, 1, Job(pipeline.stages))
    made[0].die()
    pool.submit(task)
    (event,) = pool.wait()
    assert event.is_death
    pool.submit(task)
    assert len(made[1].futures) == 1
    pool.close(at_once=True)


def test_a_run_that_ends_at_once_cancels_what_waits_in_the_users_executor(tmp_path):
    pipeline, (first, second) = tasks(2, tmp_path)
    with ThreadPoolExecutor(1) as executor:
        begun, go = threading.Event(), threading.Event()
        executor.submit(lambda: (begun.set(), go.wait()))
        begun.wait()
        pool = FuturesPool(executor, 2, Job(pipeline.stages))
        pool.submit(first)
        pool.submit(second)
        waiting = list(pool._running)
        pool.close(at_once=True)
        go.set()
    assert all(future.cancelled() for future in waiting)


def test_an_executor_for_stages_is_asked_whether_it_has_room(tmp_path):
    pipeline = diary(tmp_path)
    pool = FuturesPool(partial(ProcessExecutor, 1), 2, Job(pipeline.stages))
    assert pool.can_take(Resources())
    assert not pool.can_take(Resources(1.0, 1.0))
    pool.close(at_once=True)


class Inline(Executor):
    """Plays worker processes in this one, and counts how often it was sent the job."""

    def __init__(self, breaks_with_job=False):
        self.breaks_with_job = breaks_with_job
        self.sent = self.calls = 0

    def submit(self, fn, /, name, data, packed):
        if data is not None and self.breaks_with_job:
            raise loky.process_executor.TerminatedWorkerError("broken")
        self.sent += data is not None
        self.calls += 1
        future = Future()
        future.set_result(fn(name, data, packed))
        return future


def test_worker_processes_get_the_job_when_they_ask_for_it(tmp_path):
    pipeline = diary(tmp_path)
    executor = Inline()
    pool = FuturesPool(executor, 1, Job(pipeline.stages, (1.0,)))
    for k in range(3):
        call = pipeline.calls(point(0.1 * k), "up")[0]
        pool.submit(StageTask(call, None, is_last=False))
        (event,) = pool.wait()
        assert event.result.run.output == 1.0
    assert (executor.sent, executor.calls) == (1, 4)
    pool.close(at_once=False)


def test_an_executor_that_breaks_before_the_job_is_there_is_replaced(tmp_path):
    pipeline, (task, _) = tasks(2, tmp_path)
    made = [Inline(), Inline(breaks_with_job=True)]
    pool = FuturesPool(lambda: made.pop(), 1, Job(pipeline.stages, (1.0,)))
    pool.submit(task)
    (event,) = pool.wait()
    assert event.is_death
    assert "start them under `if __name__" in str(event.error)
    pool.submit(task)
    (event,) = pool.wait()
    assert event.result.run.error is None
    pool.close(at_once=False)


def test_a_split_is_nothing_that_a_users_function_can_report(tmp_path):
    job = Job(diary(tmp_path).stages)
    with FuturesPool(Inline(), 1, job) as pool:
        assert not isinstance(pool, SplittingPool)
    assert not isinstance(InlinePool(job), SplittingPool)
    assert isinstance(SimulatedPool(1), SplittingPool)


def test_a_worker_with_other_code_ends_the_run(tmp_path):
    answer, has_ended = Future(), threading.Event()

    class Stale(Inline):
        def submit(self, fn, /, *args):
            return answer

    class Slow(RandomSampler):
        def before_trial(self, study, trial):
            if trial.number:  # it is being begun when the first one fails
                answer.set_exception(WorkerMismatchError("helper.scale differs"))
                has_ended.wait()
                time.sleep(0.1)

        def after_trial(self, *args):
            has_ended.set()

    tuner = tuner_of(diary(tmp_path), executor=Stale(), cache=None, method=Slow())
    with pytest.raises(WorkerMismatchError, match=r"helper\.scale differs"):
        tuner.run(data(), max_trials=4, progress=False)
    assert {trial.state.name for trial in tuner.study.trials} == {"FAIL", "WAITING"}
