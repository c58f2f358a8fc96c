"""Executing one stage call, observing its output, and measuring what both cost.

A stage that raises is data, not an exception: its run carries the traceback and the cost up to the
failure.
"""

import inspect
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.exceptions import TrialPruned

from eeipu.errors import PipelineError, TrainingError, TransientError
from eeipu.fingerprints.keys import joined, source_parts, stage_key, value_parts
from eeipu.fingerprints.parts import short_digest
from eeipu.spaces.distributions import Params
from eeipu.stages.accelerators import (
    failure_of,
    peak_gpu_bytes,
    restart_gpu_peaks,
    synchronize_devices,
)
from eeipu.stages.declaration import Stage
from eeipu.stages.functions.working_copies import ObjectChangedError, working_function
from eeipu.stages.iterative import IterativeStage, Training
from eeipu.stages.joining.layout import Layout
from eeipu.stages.observing.observers import Look, look_at
from eeipu.stages.paths import Kind
from eeipu.stages.resources import Resources
from eeipu.stages.running.evaluations import same_modes
from eeipu.stages.running.process_generators import generators_now, warn_of_draws
from eeipu.stages.running.programming_errors import is_about_values, is_programming_error
from eeipu.stages.runs import StageRun

__all__ = ["Clock", "StageCall", "call_with_retries", "parts_of", "stage_calls"]

Clock = Callable[[], float]
"""Returns seconds that never decrease, from any origin."""


@dataclass(frozen=True)
class StageCall:
    """A stage, and what to call it with.

    Attributes:
        stage: The stage.
        params: Its hyper-parameters, without the stage's name in front. Those of training are
            functions of the step (`eeipu.stages.schedules`).
        key: The content key of the output.
        kind: A plain call, or the training or the evaluation of an iterative stage.
        start: The first step of training.
        stop: The step at which training stops, which is not part of it.
        memoize: Whether the output may be kept and reused. It may not where the call's stage, or
            one above it, is not memoized: the key does not tell what such a stage returned.
        upstream: The key of the input, or of all that the call gets
            (`eeipu.fingerprints.keys.joined`).
        sources: The keys of the outputs that are its positional arguments, in order; `None` for the
            run's inputs.
    """

    stage: Stage
    params: Mapping[str, Any]
    key: str
    kind: Kind = Kind.PLAIN
    start: int = 0
    stop: int = 1
    memoize: bool = True
    upstream: str = field(default="", repr=False, compare=False)
    sources: tuple[str | None, ...] = field(default=(None,), repr=False, compare=False)

    @property
    def name(self) -> str:
        """The stage's name; for iterative stages with the step reached, or the evaluation."""
        match self.kind:
            case Kind.TRAINING:
                return f"{self.stage.name}@{self.stop}"
            case Kind.EVALUATION:
                return f"{self.stage.name}@evaluation"
            case _:
                return self.stage.name

    @property
    def resources(self) -> Resources:
        """What the call takes of a worker."""
        return Resources(self.stage.num_cpus, self.stage.num_gpus)

    @property
    def is_training(self) -> bool:
        """Whether the call trains, so that it leaves a training state behind."""
        return self.kind is Kind.TRAINING

    @property
    def resumes(self) -> bool:
        """Whether the call begins with a training state, rather than with a stage's output."""
        return self.kind is Kind.EVALUATION or (self.is_training and self.start > 0)

    @property
    def training(self) -> Training:
        """How the stage trains.

        Raises:
            PipelineError: It does not train in steps.
        """
        if not isinstance(self.stage, IterativeStage) or self.stage.training is None:
            raise PipelineError(
                f"stage {self.stage.name!r} is not iterative, but training of it was asked for; "
                f"make it iterative with eeipu.stages.iterative, or choose another plan."
            )
        return self.stage.training

    @property
    def recorded_params(self) -> dict[str, Any]:
        """The hyper-parameters as a cache entry records them: schedules by their values."""
        if not self.is_training:
            return dict(self.params)
        return {
            name: [(run.start, run.stop, run.value) for run in schedule.runs(self.stop, self.start)]
            for name, schedule in self.params.items()
        }


def stage_calls(
    stages: Sequence[Stage],
    params: Sequence[Mapping[str, Any]],
    inputs: str,
    layout: Layout | None = None,
    choices: Params | None = None,
) -> tuple[StageCall, ...]:
    """The calls that the stages of a pipeline make, with their Merkle keys.

    Args:
        stages: The stages, in the layout's order.
        params: The hyper-parameters that are passed to each stage, as stored.
        inputs: The key of the run's inputs.
        layout: How they are joined; `None`: as their declarations say.
        choices: The parameters that choose among alternatives, with their values.

    Returns:
        The calls that lead to the objective. Alternatives that were not chosen make none.
    """
    layout = Layout.of(stages) if layout is None else layout
    choices = choices or {}
    calls: dict[int, StageCall] = {}
    given: dict[int, set[int]] = {}
    for k, (stage, values) in enumerate(zip(stages, params, strict=True)):
        if any(choices.get(name) != choice for name, choice in layout.chosen_by[k]):
            continue
        above = [layout.resolved(slot, choices) for slot in layout.slots[k]]
        sources = tuple(None if j is None else calls[j].key for j in above)
        upstream = joined([inputs if source is None else source for source in sources])
        key = stage_key(stage.name, stage.fingerprint, values, upstream)
        given[k] = {j for j in above if j is not None}
        memoize = stage.memoize and all(calls[j].memoize for j in given[k])
        calls[k] = StageCall(
            stage, values, key, memoize=memoize, upstream=upstream, sources=sources
        )
    last = layout.resolved(layout.last, choices)
    assert last is not None, "a stage gives the objective"
    wanted = {last}
    for k in reversed(calls):
        if k in wanted:
            wanted |= given[k]
    return tuple(call for k, call in calls.items() if k in wanted)


def parts_of(call: StageCall) -> dict[str, Any]:
    """The parts of a call's key by name, each with a short digest (`eeipu.fingerprints.parts`)."""
    stage, reading = call.stage, call.stage.known_code.reading
    content = stage.known_code.content
    addition = stage.fingerprint.removeprefix(stage.code_fingerprint)
    above = (
        None
        if len(call.sources) == 1
        else [each if isinstance(each, str) else each.name for each in stage.inputs or ()]
    )
    return {
        "stage": call.name,
        **({} if stage.version is None else {"version": stage.version}),
        **({"object": short_digest(content)} if content else {}),
        "code": {} if stage.version is not None or reading is None else reading.parts,
        **({"fixed": short_digest(addition)} if addition else {}),
        "params": value_parts(call.recorded_params),
        **source_parts(call.upstream, [each.name for each in stage.positional], above),
    }


def call_with_retries(
    call: StageCall,
    args: tuple[Any, ...],
    clock: Clock = time.perf_counter,
    *,
    limits: Callable[[], AbstractContextManager[None]] = nullcontext,
    again: Callable[[], tuple[Any, ...] | None] = lambda: None,
) -> tuple[StageRun, Any]:
    """Execute a call, again where it raises `TransientError`; every attempt is charged.

    Args:
        call: The call.
        args: Its positional arguments.
        clock: Measures seconds.
        limits: Makes the context that each attempt runs in.
        again: Gives the arguments anew, as an attempt may have changed them in place; `None` where
            they cannot be had again, so that there is no further attempt.

    Returns:
        The run, and the training state that the call ended with, where it trained.
    """
    lost = 0.0
    for retries_left in range(call.stage.retries, -1, -1):
        with limits():
            run, state = _executed(call, args, clock)
        if not run.is_transient or retries_left == 0:
            break
        fresh = again()
        if fresh is None:
            note = "\nThe call was not tried again, because its input is kept nowhere."
            run = replace(run, error=f"{run.error}{note}")
            break
        args = fresh
        lost += run.charged
    return replace(run, charged=lost + run.charged), state


def _executed(call: StageCall, args: tuple[Any, ...], clock: Clock) -> tuple[StageRun, Any]:
    """Execute a call once and account for it, whether it succeeds or fails."""
    try:
        declared = call.stage.declared_cost(call.params, args)
    except Exception as raised:
        is_bug = is_programming_error(raised)
        return StageRun(call.name, call.key, error=traceback.format_exc(), is_bug=is_bug), None
    error = output = state = None
    look = Look()
    is_transient = is_bug = is_of_values = is_pruned = False
    synchronize_devices()
    restart_gpu_peaks()
    start = clock()
    try:
        function = call.stage.function
        with working_function(function, call.stage.bound, call.stage.name) as working:
            output, state = _performed(call, args, working)
        if not call.is_training:
            look = look_at(output, call.stage.observer, call.stage.name)
        synchronize_devices()
        measured, peak = clock() - start, peak_gpu_bytes()
    except ObjectChangedError:
        raise
    except (Exception, SystemExit) as raised:  # a script's sys.exit() is a stage that failed
        measured, peak = clock() - start, peak_gpu_bytes()
        is_transient = isinstance(raised, TransientError)
        is_pruned = isinstance(raised, TrialPruned)
        is_bug, is_of_values = is_programming_error(raised), is_about_values(raised)
        error = failure_of(raised, call.stage.name)
    cost = measured if declared is None else declared
    run = StageRun(
        call.name,
        call.key,
        cost=cost,
        error=error,
        charged=cost,
        output=output,
        is_transient=is_transient,
        is_bug=is_bug,
        is_about_values=is_of_values,
        is_pruned=is_pruned,
        peak_gpu_bytes=peak,
    )
    return (run if run.error is not None else look.added_to(run)), state


def _performed(
    call: StageCall, args: tuple[Any, ...], function: Callable[..., Any]
) -> tuple[Any, Any]:
    """The output of a call, and the training state that it ended with, where it trained."""
    match call.kind:
        case Kind.TRAINING:
            training = call.training
            state = args[0] if call.start else training.init(*args)
            before = None if training.uses_process_state else generators_now()
            trained = training.advance(state, call.start, call.stop, dict(call.params))
            if before is not None:
                warn_of_draws(call.stage.name, before)
            if trained is None and state is not None:
                raise TrainingError(
                    f"advance of stage {call.stage.name!r} returned None; let it return the state."
                )
            return training.save(trained), trained
        case Kind.EVALUATION:
            with same_modes(args[0]):
                return call.training.evaluate(args[0]), None
        case _:
            return _at_once(function(*args, **call.params)), None


def _at_once(output: Any) -> Any:
    """An output; a coroutine is refused, since nobody awaits it, so that it would never run."""
    if inspect.iscoroutine(output):
        output.close()
        raise TypeError(
            "the stage returned a coroutine, which is not awaited; return asyncio.run(...) of it."
        )
    return output
