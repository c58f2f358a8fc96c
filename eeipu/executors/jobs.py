"""Sending stages, inputs and tasks to other processes.

An executor hands a function nothing but its arguments. A job, which may hold a data set, is
therefore sent once to each process: a process that does not have it says so, and gets it with its
task. A process keeps the job's inputs as bytes, since a stage may change in place what it gets, and
that must not reach the next call.
"""

import multiprocessing
import socket
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import ConfigurationError, PipelineError, WorkerMismatchError
from eeipu.executors.local_resources import refuse_timeouts
from eeipu.executors.worker_processes import (
    end_with,
    leave_interrupts_to_runner,
    start_method,
    take_start_method,
)
from eeipu.fingerprints.code import CodeReader
from eeipu.fingerprints.first_party import FirstParty
from eeipu.fingerprints.outlines import Outline, is_importable, outline_of
from eeipu.fingerprints.values import reason
from eeipu.serialization import transport
from eeipu.serialization.main_module import MainModule, name_in_main
from eeipu.stages.code_changes import outline, refresh_code
from eeipu.stages.declaration import Stage
from eeipu.stages.running.limits import threads
from eeipu.stages.running.tasks import StageTask, TaskResult
from eeipu.stages.running.worker import Job, run_task
from eeipu.stages.runs import StageRun

__all__ = [
    "PackedJob",
    "has_job",
    "has_output_apart",
    "keep_job",
    "pack_task",
    "run_apart",
    "run_packed",
]

# A worker may serve two drivers in turn.
MAX_JOBS = 2

# What stands for the code of the run's inputs among that of stages, whose names are not empty.
INPUTS = ""

# What differs is named in an error up to this number.
MAX_NAMED = 5


# --- in the driver ----------------------------------------------------------------------------


class PackedJob:
    """A job as bytes, packed again where the code of its stages has changed.

    Args:
        job: The job.

    Raises:
        ConfigurationError: The job's cache is in memory, where other processes cannot reach it.
        PipelineError: A stage or the inputs cannot be sent to another process.

    Attributes:
        name: Tells jobs apart.
        data: The bytes.
    """

    def __init__(self, job: Job) -> None:
        if job.cache is not None and job.cache.location is None:
            raise ConfigurationError(
                "workers in other processes cannot reach a cache in memory; give a "
                "StageCache(directory), or no cache."
            )
        self._job = job
        self._code = self._current_code()
        self.name, self.data = self._packed()

    def refresh(self) -> None:
        """Look at the code of the stages again, and pack anew if it has changed."""
        refresh_code(self._job.stages.values())
        code = self._current_code()
        if code != self._code:
            self._code = code
            self.name, self.data = self._packed()

    def _current_code(self) -> list[str]:
        """The fingerprints of the stages, which are read here for workers without the source."""
        stages = self._job.stages.values()
        observers = [stage.observer for stage in stages if stage.observer is not None]
        return [*(each.fingerprint for each in stages), *(each.fingerprint for each in observers)]

    def _packed(self) -> tuple[str, bytes]:
        stages = list(self._job.stages.values())
        try:
            inputs, used = transport.dumps_with_definitions(self._job.inputs)
        except Exception as error:
            raise PipelineError(
                f"the run's inputs cannot be sent to a worker process ({reason(error)}); make them "
                f'picklable, or run with executor="threads".'
            ) from error
        # The stages all together, since they share the globals of their module.
        outlines = {stage.name: found for stage in stages if (found := outline(stage))}
        observed = [(_observer_of(s), s.observer.outline) for s in stages if s.observer is not None]
        outlines |= {name: each for name, each in observed if each}
        first_party = FirstParty()
        if own := [each for each in used if is_importable(each) and first_party.owns(each)]:
            outlines[INPUTS] = outline_of(CodeReader().read_together(own))
        scripts = [each for each in used if name_in_main(each) is not None]
        job = (stages, inputs, self._job.cache, _Driver.here(), outlines, scripts)
        try:
            return uuid.uuid4().hex, transport.dumps(job)
        except Exception:
            for stage in stages:  # to say which of them it is
                _check_travels(stage)
            raise


def _observer_of(stage: Stage) -> str:
    """What stands for the code of a stage's observer among that of stages, which have no dots."""
    return f"{stage.name}.observe"


def _check_travels(stage: Stage) -> None:
    try:
        transport.dumps(stage)
    except Exception as error:
        raise PipelineError(
            f"stage {stage.name!r} cannot be sent to a worker process ({reason(error)}); what "
            f'it uses has to be picklable, or run it with executor="threads".'
        ) from error


@dataclass(frozen=True)
class _Driver:
    """What a worker has to know about the process that sends it calls.

    Attributes:
        process: The process.
        main: Its main module.
        start_method: How it starts processes of `multiprocessing`.
    """

    process: ProcessIdentity
    main: MainModule
    start_method: str | None

    @classmethod
    def here(cls) -> "_Driver":
        return cls(ProcessIdentity.here(), MainModule.here(), start_method())


@dataclass(frozen=True)
class _TravellingTask:
    """A task without its stages, which the worker has.

    Attributes:
        task: The task.
        names: The names of the stages of its call, and of the calls above.
    """

    task: StageTask
    names: tuple[str, ...]


def pack_task(task: StageTask) -> bytes:
    """A task as bytes, for a process that has its job."""
    calls = (task.call, *task.above)
    light, *above = (replace(call, stage=None) for call in calls)  # type: ignore[arg-type]
    names = tuple(call.stage.name for call in calls)
    bare = StageTask(light, task.args, task.is_last, tuple(above), task.given)
    return transport.dumps(_TravellingTask(bare, names))


# --- in a worker ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Received:
    """A job that this process has received.

    Attributes:
        job: The job.
        is_drivers: Whether this is the process that sent it, as a thread of Dask's may be.
        differences: Stage name -> what differs between its code in the driver and here, in words.
    """

    job: Job
    is_drivers: bool
    differences: Mapping[str, Sequence[str]]


# What outlives a call in a worker process: the last jobs, by name.
_received: OrderedDict[str, _Received] = OrderedDict()

# What this process has found to be as in a driver, so that what stages change themselves when they
# run, such as a memo, is no difference. Another process looks for itself.
_agreed: deque[Outline] = deque(maxlen=100)

# A worker may have several threads, as Dask's have: what sets the state of a process runs alone.
_process_state = threading.Lock()


def has_job(name: str) -> bool:
    """Whether this process has a job."""
    return name in _received


def keep_job(name: str, data: bytes) -> None:
    """Unpack a job and keep it for the calls to come.

    A worker opens the cache once, and its memory tier serves all tasks. From here on the process
    ends with its runner.

    Raises:
        ConfigurationError: A stage has a timeout, and this is the driver's process.
    """
    stages, inputs, cache, driver, outlines, scripts = transport.loads(data)
    is_drivers = driver.process == ProcessIdentity.here()
    if is_drivers:
        refuse_timeouts(stages)
    else:
        functions = [each for stage in stages for each in stage.functions]
        observes = [stage.observe for stage in stages if stage.observe is not None]
        driver.main.adopt((*functions, *observes), scripts)
        take_start_method(driver.start_method)
        end_with(driver.process)
    job = Job(stages, partial(transport.loads, inputs), cache)
    _received[name] = _Received(job, is_drivers, {} if is_drivers else _differences(outlines))
    while len(_received) > MAX_JOBS:
        _received.popitem(last=False)


def _differences(outlines: Mapping[str, Outline]) -> dict[str, list[str]]:
    """Look at the code of all stages before the first call of any."""
    found = {}
    for name, drivers in outlines.items():
        if drivers not in _agreed:
            found[name] = drivers.differences()
            if not found[name]:
                _agreed.append(drivers)
    return found


def run_packed(name: str, data: bytes | None, packed: bytes) -> bytes | None:
    """Run a task in a worker process, on the number of threads that its stage declares.

    Bytes go in and out, so that classes defined in a notebook pass through any executor.

    Args:
        name: The job's name.
        data: The job (`PackedJob.data`); `None` where this process should have it.
        packed: The task (`pack_task`).

    Returns:
        The `TaskResult`, packed; `None` where this process does not have the job.

    Raises:
        WorkerMismatchError: The code of a stage differs from the driver's.
        ConfigurationError: See `keep_job`.
    """
    if multiprocessing.current_process().name != "MainProcess":
        leave_interrupts_to_runner()
    if data is not None and not has_job(name):
        keep_job(name, data)
    if not has_job(name):
        return None
    received = _received[name]
    result = _run(_unpacked(packed, received.job), received, hands_on=False)
    try:
        return transport.dumps(result)
    except Exception as error:
        return transport.dumps(replace(result, run=_unsendable(result.run, error)))


def run_apart(
    name: str, packed: bytes, args: Sequence[Any] | None
) -> tuple[bytes, Sequence[Any] | None]:
    """Run a task as `run_packed` does, for an engine that stores values where they were made.

    Args:
        name: The name of a job that this process has.
        packed: The task (`pack_task`).
        args: The segments of the call's arguments, where they do not come from the cache or the
            job.

    Returns:
        The packed result, without its output where a next call gets that (`has_output_apart`); and
        the segments of what the next call gets.
    """
    received = _received[name]
    task = _unpacked(packed, received.job)
    if args is not None:
        task = replace(task, args=transport.loads_apart(args))
    result = _run(task, received, hands_on=True)
    run = result.run
    if run is None or not has_output_apart(task, result):
        return transport.dumps(result), None
    light = replace(result, run=replace(run, output=None))
    return transport.dumps(light), transport.segments((run.output,))


def has_output_apart(task: StageTask, result: TaskResult) -> bool:
    """Whether `run_apart` returns an output beside a result: one just made, for a next call."""
    run = result.run
    return not (task.is_last or run is None or run.error is not None or run.memoized)


def _unpacked(packed: bytes, job: Job) -> StageTask:
    travelling: _TravellingTask = transport.loads(packed)
    light = travelling.task
    call, *above = (
        replace(each, stage=job.stages[name])
        for each, name in zip((light.call, *light.above), travelling.names, strict=True)
    )
    return replace(light, call=call, above=tuple(above))


def _run(task: StageTask, received: _Received, *, hands_on: bool) -> TaskResult:
    stage = task.call.stage
    called = (call.stage.name for call in (task.call, *task.above))
    for name in (INPUTS, *called, _observer_of(stage)):
        _check_is_the_drivers(stage.name, received.differences.get(name, ()))
    count = max(1, round(stage.num_cpus))
    alone = _process_state if stage.uses_process_state else nullcontext()
    with alone, nullcontext() if received.is_drivers else threads(count):
        return run_task(task, received.job, is_own_process=True, hands_on=hands_on)


def _check_is_the_drivers(stage_name: str, differences: Sequence[str]) -> None:
    if differences:
        more = len(differences) - MAX_NAMED
        named = "; ".join([*differences[:MAX_NAMED], *([f"{more} more"] if more > 0 else [])])
        raise WorkerMismatchError(
            f"a worker on {socket.gethostname()} would run stage {stage_name!r} with other code or "
            f"values than the process that searches, and keep the output under a wrong key. What "
            f"differs: {named}. If it was edited, restart that process and all workers. If it is "
            f"set when the program runs, set it inside the stage, or pass it as an input or a "
            f"hyper-parameter. If it is a device, declare stage(num_gpus=...)."
        )


def _unsendable(run: StageRun | None, error: Exception) -> StageRun:
    assert run is not None, "a result without a run can be sent"
    message = (
        f"the output of stage {run.name!r} cannot be sent to another process ({reason(error)}); "
        f'return what can be pickled, or run with executor="threads".'
    )
    return replace(run, output=None, error=message)
