"""One stage call as a task for a worker: its input comes from the cache, or with the task.

What a worker made goes into the cache, where the next stage's worker finds it. Where there is
none, or it does not keep the output, the output travels with the result and the next task.
"""

import faulthandler
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from threadpoolctl import ThreadpoolController

from eeipu.cache import StageCache
from eeipu.errors import CacheMiss, PipelineError
from eeipu.fingerprints.values import reason
from eeipu.serialization import transport
from eeipu.stages.calls import Clock, StageCall, StageRun, call_patiently, keep_output, number_of
from eeipu.stages.declaration import Stage

__all__ = [
    "StageTask",
    "TaskResult",
    "has_output_apart",
    "leave_interrupts_to_driver",
    "packed_job",
    "packed_task",
    "run_apart",
    "run_packed",
    "run_task",
]

# What libraries read when they are imported, which a stage may do.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, eq=False)
class StageTask:
    """A stage call that can run now.

    Attributes:
        call: The call.
        upstream: The key of what it gets: an output, or the tuple of the run's inputs.
        args: What it gets, where the cache does not have it.
        is_first: Whether it gets the run's inputs.
        is_last: Whether its output is the pipeline's, which is wanted with the result.
    """

    call: StageCall
    upstream: str
    args: tuple[Any, ...] | None
    is_first: bool
    is_last: bool


@dataclass(frozen=True)
class TaskResult:
    """What became of a task.

    Attributes:
        run: What became of the call, without its output where the cache keeps that; `None` where
            the input was not in the cache any more.
        is_kept: Whether the cache has the output.
        load_s: Seconds that loading the input took.
        loaded: The input that was loaded, where it is a number.
    """

    run: StageRun | None
    is_kept: bool = False
    load_s: float = 0.0
    loaded: float | None = None


def run_task(
    task: StageTask,
    cache: StageCache | None,
    clock: Clock = time.perf_counter,
    *,
    is_own_process: bool = False,
    hands_on: bool = False,
) -> TaskResult:
    """Run a task, unless somebody else runs the same call now: then wait for what they make.

    Args:
        task: The task.
        cache: Where outputs are.
        clock: Seconds that only grow.
        is_own_process: Whether this process is a worker's: it is ended when the call hangs, and
            an output that the cache keeps is not handed on as well.
        hands_on: Whether it is nevertheless.
    """
    if cache is None or not task.call.stage.memoize:
        return _execute(task, cache, clock, is_own_process=is_own_process)
    with cache.holders.claim(task.call.key):
        if task.call.key in cache:
            return _found(task, cache)
        result = _execute(task, cache, clock, is_own_process=is_own_process)
        if result.run is None or result.run.error is not None:
            return result
        keep_output(cache, task.call, result.run)
    if task.call.key not in cache:
        return result
    drops_output = is_own_process and not (task.is_last or hands_on)
    run = replace(result.run, output=None) if drops_output else result.run
    return replace(result, run=run, is_kept=True)


def _execute(
    task: StageTask, cache: StageCache | None, clock: Clock, *, is_own_process: bool
) -> TaskResult:
    load_s, loaded, args = 0.0, None, task.args
    if args is None:
        assert cache is not None, "what is not in a cache travels with the task"
        start = clock()
        try:
            value = cache.get(task.upstream)
        except CacheMiss:
            return TaskResult(None)
        load_s, loaded = clock() - start, number_of(value)
        args = value if task.is_first else (value,)
    timeout_s = task.call.stage.timeout if is_own_process else None
    run = call_patiently(task.call, args, clock, attempt=partial(_ended_after, timeout_s))
    return TaskResult(run, load_s=load_s, loaded=loaded)


def _found(task: StageTask, cache: StageCache) -> TaskResult:
    """What another has made meanwhile."""
    call = task.call
    saved = cache.cost(call.key) or 0.0
    run = StageRun(call.stage.name, call.key, memoized=True, saved=saved)
    if task.is_last:
        try:
            run = replace(run, output=cache.get(call.key))
        except CacheMiss:
            return TaskResult(None)
    return TaskResult(run, is_kept=True)


@contextmanager
def _ended_after(timeout_s: float | None) -> Iterator[None]:
    """End this process, with its stacks on the standard error, if this takes too long.

    Python's own watchdog also ends what never comes back from a library, but there is one for the
    whole process: only the main thread uses it, in which most engines call. Dask's workers have
    threads, where a timer ends all but what never lets other threads run.
    """
    if timeout_s is None:
        yield
        return
    file = sys.__stderr__ or 2
    if threading.current_thread() is threading.main_thread():
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=file)
        cancel = faulthandler.cancel_dump_traceback_later
    else:
        timer = threading.Timer(timeout_s, _end_process, [file])
        timer.daemon = True
        timer.start()
        cancel = timer.cancel
    try:
        yield
    finally:
        cancel()


def _end_process(file: Any) -> None:
    faulthandler.dump_traceback(file, all_threads=True)
    os._exit(1)


def packed_job(stages: Sequence[Stage], cache: StageCache | None) -> bytes:
    """All that workers in other processes need besides their tasks.

    Raises:
        PipelineError: A stage cannot be sent to another process.
    """
    for stage in stages:
        stage.versions  # noqa: B018 - kept for workers, where the source may not be readable
        try:
            transport.dumps(stage)
        except Exception as error:
            raise PipelineError(
                f"stage {stage.name!r} cannot be sent to a worker process ({reason(error)}); what "
                f'it uses has to be picklable, or run it with executor="threads".'
            ) from error
    # Once more, all together, since they share the globals of their module.
    return transport.dumps(({stage.name: stage for stage in stages}, cache, _this_process()))


@lru_cache(maxsize=2)
def _unpacked(job: bytes) -> tuple[dict[str, Stage], StageCache | None, bool]:
    """The stages, the cache and whether this is the driver's own process.

    A worker opens the cache once, and its memory tier serves all tasks.
    """
    stages, cache, driver = transport.loads(job)
    if driver == _this_process():  # a worker of Dask's may be a thread of the driver
        return {name: replace(s, timeout=None) for name, s in stages.items()}, cache, True
    transport.adopt_classes(each for stage in stages.values() for each in stage.functions)
    return stages, cache, False


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def packed_task(task: StageTask) -> bytes:
    """A task for another process, which has the stages."""
    light = replace(task, call=replace(task.call, stage=None))  # type: ignore[arg-type]
    return transport.dumps((task.call.stage.name, light))


def run_packed(job: bytes, packed: bytes) -> bytes:
    """Run a task in a worker process, on as many threads as its stage declares.

    Bytes go in and out, so that what a notebook defines passes through any executor.
    """
    if multiprocessing.current_process().name != "MainProcess":
        leave_interrupts_to_driver()
    stages, cache, is_here = _unpacked(job)
    task = _unpacked_task(stages, packed)
    result = _run(task, cache, limits_threads=not is_here, hands_on=False)
    try:
        return transport.dumps(result)
    except Exception as error:
        return transport.dumps(replace(result, run=_unsendable(result.run, error)))


def run_apart(
    job: bytes, packed: bytes, args: Sequence[Any] | None
) -> tuple[bytes, Sequence[Any] | None]:
    """`run_packed` for an engine that keeps values where they were made.

    Args:
        job: See `packed_job`.
        packed: See `packed_task`.
        args: The segments of what the call gets, where the cache does not have it.

    Returns:
        The result, without its output where that is for a next call (see `has_output_apart`); and
        the segments of what the next call gets.
    """
    stages, cache, is_here = _unpacked(job)
    task = _unpacked_task(stages, packed)
    if args is not None:
        task = replace(task, args=transport.loads_apart(args))
    result = _run(task, cache, limits_threads=not is_here, hands_on=True)
    run = result.run
    if run is None or not has_output_apart(task, result):
        return transport.dumps(result), None
    light = replace(result, run=replace(run, output=None))
    return transport.dumps(light), transport.segments((run.output,))


def has_output_apart(task: StageTask, result: TaskResult) -> bool:
    """Whether `run_apart` returns an output beside a result: one just made, for a next call."""
    run = result.run
    return not (task.is_last or run is None or run.error is not None or run.memoized)


def _unpacked_task(stages: Mapping[str, Stage], packed: bytes) -> StageTask:
    light: StageTask
    name, light = transport.loads(packed)
    return replace(light, call=replace(light.call, stage=stages[name]))


def _run(
    task: StageTask, cache: StageCache | None, *, limits_threads: bool, hands_on: bool
) -> TaskResult:
    count = max(1, round(task.call.stage.num_cpus))
    with _threads(count) if limits_threads else nullcontext():
        return run_task(task, cache, is_own_process=True, hands_on=hands_on)


def _unsendable(run: StageRun | None, error: Exception) -> StageRun:
    assert run is not None, "what has no output can be sent"
    message = (
        f"the output of stage {run.name!r} cannot be sent to another process ({reason(error)}); "
        f'return what can be pickled, or run with executor="threads".'
    )
    return replace(run, output=None, error=message)


def leave_interrupts_to_driver() -> None:
    """Have Ctrl-C, which a terminal sends to all of its processes, end no worker.

    The driver lets running stages end, and ends its workers itself.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for the libraries that are loaded, and for those that will be."""
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(count)))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
    with _controller(len(sys.modules)).limit(limits=count):
        yield


@lru_cache(maxsize=1)
def _controller(modules: int) -> ThreadpoolController:  # noqa: ARG001 - when it is out of date
    """The libraries that are loaded: finding them takes as long as all else that a call needs."""
    return ThreadpoolController()
