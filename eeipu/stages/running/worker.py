"""What a worker does with a stage call: claim it, load its input, run it within limits, keep it.

`Pipeline.run`, the tuner and the search plan run their calls through `run_task`, in whatever thread
or process a call was sent to. What a call made goes to the cache, where the next one finds it. An
output that is not kept travels with the result instead, and to the calls that need it with their
tasks.
"""

import math
import time
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import CacheMiss, PipelineError, TrainingError
from eeipu.fingerprints.run_inputs import RunInputs
from eeipu.stages.declaration import Stage
from eeipu.stages.observing.notes import header_of, notes_of, observed_again, recalled
from eeipu.stages.observing.observers import look_at
from eeipu.stages.paths import Kind
from eeipu.stages.running.calls import Clock, StageCall, call_with_retries, parts_of
from eeipu.stages.running.evaluations import digest_of_saved
from eeipu.stages.running.limits import ended_after
from eeipu.stages.running.programming_errors import is_programming_error
from eeipu.stages.running.tasks import IN_CACHE, Load, StageTask, TaskResult
from eeipu.stages.runs import StageRun, numbers_of

__all__ = [
    "Job",
    "LastStates",
    "loaded_run",
    "run_task",
    "seen",
    "with_load_time",
]


class Job:
    """What all calls of a pool of workers have in common.

    Args:
        stages: The stages that calls may be of.
        inputs: The run's inputs, as positional arguments of the stages that get them; or a function
            that makes a copy of them for every call.
        cache: Where outputs are looked up and kept; `None` where nothing is.
        key: The key of the inputs as they are now; `None` where the caller vouches for them.

    Attributes:
        stages: Stage name -> stage.
        cache: The cache.
        states: The training states that this process made last.
        evaluations: Stage name -> whether its evaluation leaves the state as it is, as far as this
            process has seen it.
        run_inputs: The run's inputs, which calls must leave as they are or get copies of.
    """

    def __init__(
        self,
        stages: Iterable[Stage] = (),
        inputs: tuple[Any, ...] | Callable[[], tuple[Any, ...]] = (),
        cache: StageCache | None = None,
        key: str | None = None,
    ) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.cache = cache
        self.states = LastStates()
        self.evaluations: dict[str, bool] = {}
        self.run_inputs = RunInputs(inputs, key)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The run's inputs as they are now."""
        return self.run_inputs.values


class LastStates:
    """The training states that a process made last, by content key.

    A segment of training that begins where the one before it ended goes on from the state in
    memory, and need not load the checkpoint.

    Args:
        room: The number of states to remember.
    """

    def __init__(self, room: int = 1) -> None:
        self.room = room
        self._states: OrderedDict[str, Any] = OrderedDict()

    def keep(self, key: str, state: Any) -> None:
        """Remember a state, and forget the oldest where there is no room."""
        self._states[key] = state
        while len(self._states) > self.room:
            self._states.popitem(last=False)

    def make_room(self, but: str) -> None:
        """Forget states until one more fits, which frees their memory; but not the one under a key.

        Args:
            but: The key of the state that is about to be taken.
        """
        for key in [key for key in self._states if key != but]:
            if len(self._states) >= self.room:
                del self._states[key]

    def __len__(self) -> int:
        return len(self._states)

    def clear(self) -> None:
        """Forget all states."""
        self._states.clear()

    def take(self, key: str) -> Any:
        """The state under a key, which is then the caller's alone; `None` if it is not there."""
        return self._states.pop(key, None)


def run_task(
    task: StageTask,
    job: Job,
    clock: Clock = time.perf_counter,
    *,
    is_own_process: bool = False,
    hands_on: bool = False,
) -> TaskResult:
    """Run a task. Where somebody else runs the same call now, wait and take over their output.

    Args:
        task: The task.
        job: The stages, inputs and cache.
        clock: Measures seconds.
        is_own_process: Whether this process belongs to a pool of workers. It is then ended when the
            call exceeds its timeout, and an output that the cache keeps is not returned as well.
        hands_on: Whether such an output is returned all the same, for an executor that passes it
            on to the next call.

    Returns:
        The result. A call that fails is in it as data: `TaskResult.run.error`.
    """
    call, cache = task.call, job.cache
    if cache is None or not call.memoize:
        return _valued(_executed(task, job, clock, is_own_process), task)
    with cache.holders.claim(call.key):
        found = _found(task, cache, clock)
        if found is not None:
            return _valued(found, task)
        result = _executed(task, job, clock, is_own_process)
        if result.run is None or (result.run.error is not None and not result.run.is_unobserved):
            return result
        began = clock()
        kept = _kept_run(cache, call, result.run)
        result = replace(result, run=kept, keep_s=result.keep_s + clock() - began)
    result = _valued(result, task)
    if call.key not in cache:
        return result
    drops_output = is_own_process and not (task.is_last or hands_on)
    run = replace(result.run, output=None) if drops_output and result.run else result.run
    return replace(result, run=run, is_kept=True)


def _valued(result: TaskResult, task: StageTask) -> TaskResult:
    if result.run is None or task.call.is_training:
        return result
    return replace(result, value=numbers_of(result.run.output))


def _found(task: StageTask, cache: StageCache, clock: Clock) -> TaskResult | None:
    """The output that is kept; it is loaded only where it is wanted, or must be observed."""
    call = task.call
    if call.key not in cache:
        return None
    run = recalled(call.name, call.key, call.stage.observer, header_of(cache, call.key))
    if task.is_last or run.is_unobserved:
        loaded = loaded_run(call, cache, clock)
        if loaded is None:
            return None
        return TaskResult(loaded if task.is_last else replace(loaded, output=None), is_kept=True)
    return TaskResult(run, is_kept=True)


def _executed(task: StageTask, job: Job, clock: Clock, is_own_process: bool) -> TaskResult:
    call = task.call
    timeout_s = call.stage.timeout if is_own_process else None
    limits = partial(ended_after, timeout_s) if timeout_s is not None else nullcontext
    start = clock()
    try:
        job.states.make_room(but=task.upstream)
        with limits():
            args, loads = _arguments(task, job, clock)
        look_s = clock() - start - math.fsum(load.seconds for load in loads)
        before = _saved_before(call, args, job)
        run, state = call_with_retries(
            call, args, clock, limits=limits, again=partial(_arguments_again, task, job, clock)
        )
        is_look = _takes_inputs(call) and job.run_inputs.is_watched
        if is_look:
            job.run_inputs.check_after_call()
    except CacheMiss:
        return TaskResult(None)
    except (Exception, SystemExit) as raised:
        if isinstance(raised, PipelineError) and not isinstance(raised, TrainingError):
            raise  # the run's inputs are not what its keys say
        # The user's own `load`, or a stage above that had to run again.
        is_bug, error = is_programming_error(raised), traceback.format_exc()
        return TaskResult(StageRun(call.name, call.key, error=error, is_bug=is_bug))
    if run.error is None:
        if call.kind is Kind.EVALUATION:  # which should leave the state as it was
            if before is not None:
                after = digest_of_saved(call.training.save, args[0])
                job.evaluations[call.stage.name] = before == after
            if job.evaluations.get(call.stage.name, True):
                job.states.keep(task.upstream, args[0])
        elif state is not None:
            job.states.keep(call.key, state)
    return TaskResult(run, loads=loads, keep_s=look_s if is_look else 0.0)


def _saved_before(call: StageCall, args: tuple[Any, ...], job: Job) -> str | None:
    """A digest of the state, where an evaluation is the first of its stage in this process."""
    if call.kind is not Kind.EVALUATION or call.stage.name in job.evaluations:
        return None
    evaluate = call.training.evaluate
    if str(getattr(evaluate, "__module__", "")).startswith("eeipu."):  # which is known to be right
        return None
    return digest_of_saved(call.training.save, args[0])


def _arguments(task: StageTask, job: Job, clock: Clock) -> tuple[tuple[Any, ...], tuple[Load, ...]]:
    """The positional arguments of a call, and which of them had to be loaded from the cache."""
    call = task.call
    if call.resumes:
        state = job.states.take(task.upstream)
        if state is not None:
            return (state,), ()
        start = clock()
        args = _resumed(task, job)
        return args, (Load(task.upstream, clock() - start),)
    found: list[Any] = []
    loads: list[Load] = []
    given = (IN_CACHE,) * len(call.sources) if task.args is None else task.args
    for key, argument in zip(call.sources, given, strict=True):
        if key is None:
            found += job.run_inputs.for_call()
        elif argument is not IN_CACHE:
            found.append(argument)
        else:
            start = clock()
            found.append(_kept(key, job))
            loads.append(Load(key, clock() - start))
    return tuple(found), tuple(loads)


def _kept(key: str, job: Job) -> Any:
    assert job.cache is not None, "an input that is not in a cache travels with its task"
    return job.cache.get(key)


def _takes_inputs(call: StageCall) -> bool:
    """Whether a call gets the run's inputs, which the job may have to look at."""
    return not call.resumes and None in call.sources


def _arguments_again(task: StageTask, job: Job, clock: Clock) -> tuple[Any, ...] | None:
    """The arguments of a call anew, after an attempt that may have changed them in place.

    An output that is not in the cache, and was handed over as an object, cannot be had again.
    """
    call = task.call
    keys = (task.upstream,) if call.resumes else call.sources
    handed_over = [] if task.args is None else zip(keys, task.args, strict=True)
    for key, argument in handed_over:
        is_there = key is None or argument is IN_CACHE
        if not (is_there or (job.cache is not None and key in job.cache)):
            return None
    task = replace(task, args=None)
    return _resumed(task, job) if call.resumes else _arguments(task, job, clock)[0]


def _resumed(task: StageTask, job: Job) -> tuple[Any, ...]:
    """The training state to go on from, made of what was saved of it."""
    saved = _kept(task.upstream, job) if task.args is None else task.args[0]
    training = task.call.training
    if not training.loads_inputs:
        return (training.load(saved),)
    return (training.load(saved, *_given(task.given, task.above, job)),)


def _given(sources: Sequence[str | None], above: Sequence[StageCall], job: Job) -> tuple[Any, ...]:
    """What a stage gets: the outputs of calls, and the run's inputs.

    A plan keeps the states that its nodes begin from, but not always the inputs of their stages;
    an input that is gone is made again.
    """
    found: list[Any] = []
    for key in sources:
        found += job.run_inputs.for_call() if key is None else (_made(key, above, job),)
    return tuple(found)


def _made(key: str, above: Sequence[StageCall], job: Job) -> Any:
    """The output of one of several calls: from the cache, or made again."""
    with suppress(CacheMiss):
        if job.cache is not None:
            return job.cache.get(key)
    place = next(k for k, call in enumerate(above) if call.key == key)
    call, before = above[place], above[:place]
    if call.resumes:
        args: tuple[Any, ...] = (_made(call.upstream, before, job),)
    else:
        args = tuple(None if each is None else _made(each, before, job) for each in call.sources)
    task = StageTask(call, args, is_last=True, **_stage_of(call, before))
    run = run_task(task, job).run
    if run is None or run.error is not None:
        reason = "its input is gone" if run is None else run.error
        raise RuntimeError(f"{call.name!r} had to run again and failed: {reason}")
    return run.output


def _stage_of(call: StageCall, before: Sequence[StageCall]) -> dict[str, Any]:
    """What the stage of a call gets, and the calls that lead to it; see `StageTask`."""
    own = [each for each in before if each.stage.name == call.stage.name]
    others = tuple(each for each in before if each.stage.name != call.stage.name)
    return {"above": others, "given": own[0].sources} if own else {}


def _kept_run(cache: StageCache, call: StageCall, run: StageRun) -> StageRun:
    """Put the output of a call into the cache; where that fails, only warn.

    Returns:
        The run, with copies of the files in its output, which the next call may overwrite.
    """
    try:
        output = cache.put(
            call.key,
            run.output,
            cost=run.cost,
            stage=call.name,
            params=call.recorded_params,
            versions=call.stage.versions,
            parts=parts_of(call),
            observed=notes_of(run, call.stage.observer),
        )
    except Exception as error:  # an output that cannot be kept is still an output
        warnings.warn(
            f"the output of stage {call.name!r} could not be kept and may have to be "
            f"computed again: {error!r}",
            RuntimeWarning,
            stacklevel=2,
        )
        return run
    # A `put` of the user's own may return nothing.
    return run if output is None else replace(run, output=output)


def loaded_run(call: StageCall, cache: StageCache, clock: Clock) -> StageRun | None:
    """The run of a call whose output is loaded; `None` where the cache no longer has it.

    Args:
        call: The call.
        cache: The cache.
        clock: Measures seconds.
    """
    start = clock()
    try:
        output = cache.get(call.key)
    except CacheMiss:
        return None
    load_s = clock() - start
    run = recalled(call.name, call.key, call.stage.observer, header_of(cache, call.key))
    run = with_load_time(replace(run, output=output), call, load_s)
    if call.stage.observer is None:  # an entry of an earlier version has no note of a number
        run = look_at(output, None, call.name).added_to(run)
    return seen(run, call, cache, clock)


def seen(run: StageRun, call: StageCall, cache: StageCache, clock: Clock) -> StageRun:
    """The run of a reused call, after its observer has seen the output, if it had not before.

    Args:
        run: The run. If it has no output, that is loaded to be seen.
        call: The call.
        cache: The cache.
        clock: Measures seconds.
    """
    if not run.is_unobserved:
        return run
    start = clock()
    run = observed_again(run, call.stage.observer, cache)
    return with_load_time(run, call, clock() - start)


def with_load_time(run: StageRun, call: StageCall, load_s: float) -> StageRun:
    """Charge the time of loading an output; but not to a declared cost, which has another unit."""
    if call.stage.cost is not None:
        return run
    return replace(run, charged=run.charged + load_s, load_s=run.load_s + load_s)
