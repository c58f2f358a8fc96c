"""Running a batch of nodes in a worker: from a state in the cache, one node after another."""

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import CacheMiss, PipelineError
from eeipu.fingerprints.keys import is_digest
from eeipu.stage_tree.nodes import PlanNode, value_of
from eeipu.stages.accelerators import failure_of, synchronize_devices
from eeipu.stages.calls import Clock
from eeipu.stages.declaration import Stage
from eeipu.stages.iterative import IterativeStage, Training
from eeipu.stages.paths import Kind
from eeipu.stages.schedules import Schedule

__all__ = ["Job", "Work", "WorkResult", "run_works", "work_of", "works_above"]


@dataclass(frozen=True)
class Job:
    """What all batches of a cluster have in common.

    Attributes:
        stages: The pipeline's stages, by name.
        inputs: The run's inputs.
        inputs_key: What stands for their content, where that can be hashed.
        cache: Where states are.
    """

    stages: Mapping[str, Stage]
    inputs: tuple[Any, ...]
    inputs_key: str | None
    cache: StageCache


@dataclass(frozen=True)
class Work:
    """A node as a worker sees it; it lies within one stage.

    Attributes:
        key: The node's content key.
        kind: What is to be done; `stage`: of which stage.
        fingerprint: What stood for the stage's code when the node was asked for.
        inputs_key: What stood for the run's inputs then.
        params: The hyper-parameters of a plain stage; of training, as functions of its step.
        start: The first step of training; `stop`: the first that is not its.
    """

    key: str
    kind: Kind
    stage: str
    fingerprint: str
    inputs_key: str
    params: Mapping[str, Any]
    start: int = 0
    stop: int = 1


@dataclass(frozen=True)
class WorkResult:
    """What a worker made of a node.

    Attributes:
        key: The node's content key.
        cost_s: Seconds that it took.
        value: What an evaluation or a plain stage returned: a number, or the numbers of a dict.
        error: The traceback, where it failed.
        is_missing: Whether the state to begin from could not be loaded.
    """

    key: str
    cost_s: float = 0.0
    value: Any = None
    error: str | None = None
    is_missing: bool = False


def work_of(node: PlanNode) -> Work:
    """The work that a node is."""
    first = node.stretches[0]
    call, origin = first.call, first.origin
    is_training = call.kind is Kind.TRAINING
    return Work(
        node.key,
        call.kind,
        call.stage,
        call.fingerprint,
        node.path.upstream,
        node.path.schedules(node.start) if is_training else dict(call.params),
        node.start - origin if is_training else 0,
        node.stop - origin if is_training else 1,
    )


def works_above(node: PlanNode) -> list[Work]:
    """The works that lead from the run's inputs to what the stage of a node gets."""
    stage = node.stretches[0].call.stage
    above = [work_of(each) for each in node.ancestry() if each.stretches[0].call.stage != stage]
    return above[::-1]


@dataclass
class _Held:
    """What a worker has in hand: what the last stage returned, or the state of one in training."""

    inputs: tuple[Any, ...] = ()
    state: Any = None


def run_works(
    works: Sequence[Work],
    job: Job,
    upstream: str | None = None,
    above: Sequence[Work] = (),
    cut: str | None = None,
    *,
    clock: Clock = time.perf_counter,
) -> list[WorkResult]:
    """Run nodes one after another, the state staying here, each one's state going to the cache.

    Args:
        works: The nodes; each begins where the one before ends.
        job: Stages, inputs and cache.
        upstream: The key of the state to begin from; `None`: the inputs.
        above: What leads to the stage of the first node (`works_above`).
        cut: The batch ends before its next node when the cache has this key: it is the one
            place that runner and worker share, wherever they are.
        clock: Seconds that only grow.

    Returns:
        A result for each node that was begun: the last may have failed.
    """
    try:
        for work in (*above, *works):
            _check_origin(work, job)
        held = _begin(works[0], above, job, upstream)
    except CacheMiss:
        return [WorkResult(works[0].key, is_missing=True)]
    except Exception:  # other code or inputs, or the user's own `load`
        return [WorkResult(works[0].key, error=traceback.format_exc())]
    results: list[WorkResult] = []
    for work in works:
        if results and cut is not None and cut in job.cache:
            return results
        synchronize_devices()
        began = clock()
        try:
            output, value = _run(work, job.stages[work.stage], held)
            synchronize_devices()
            cost_s = clock() - began
            job.cache.put(work.key, output, cost=cost_s)
            if value is None:
                _check_kept(work, job.cache)
        except (Exception, SystemExit) as error:
            cost_s = clock() - began
            results.append(WorkResult(work.key, cost_s, error=failure_of(error, work.stage)))
            return results
        results.append(WorkResult(work.key, cost_s, value))
    return results


def _begin(first: Work, above: Sequence[Work], job: Job, upstream: str | None) -> _Held:
    """What the first node begins from."""
    if upstream is None:
        return _Held(job.inputs)
    return _held(first, above, job, job.cache.get(upstream))


def _held(work: Work, above: Sequence[Work], job: Job, saved: Any) -> _Held:
    """What is in hand before a work, where the one before it has left `saved`."""
    if work.kind is Kind.PLAIN or (work.kind is Kind.TRAINING and work.start == 0):
        return _Held((saved,))
    training = _training(job.stages[work.stage])
    if not training.loads_inputs:
        return _Held(state=training.load(saved))
    inputs = (_made(above, job),) if above else job.inputs
    return _Held(state=training.load(saved, *inputs))


def _made(works: Sequence[Work], job: Job) -> Any:
    """What the last of these works has left in the cache, or else makes again.

    A plan keeps what its nodes begin from, but not what their stages once got.
    """
    *before, last = works
    try:
        return job.cache.get(last.key)
    except CacheMiss:
        above = [work for work in before if work.stage != last.stage]
        held = _held(last, above, job, _made(before, job)) if before else _Held(job.inputs)
        began = time.perf_counter()
        output, _ = _run(last, job.stages[last.stage], held)
        job.cache.put(last.key, output, cost=time.perf_counter() - began)
        return output


def _check_origin(work: Work, job: Job) -> None:
    """Other code, or other inputs, must not leave their output under this key."""
    stage = job.stages.get(work.stage)
    mine = None if stage is None else stage.code_fingerprint
    if mine != work.fingerprint:
        raise PipelineError(
            f"the plan has stage {work.stage!r} as {work.fingerprint!r}, and the worker has "
            f"{'none of that name' if mine is None else repr(mine)}; give path_of and the "
            f"cluster the same stages."
        )
    is_content = job.inputs_key is not None and is_digest(work.inputs_key)
    if is_content and work.inputs_key != job.inputs_key:  # a name of the user's own is their word
        raise PipelineError(
            f"the plan has stage {work.stage!r} on the inputs {work.inputs_key!r}, and the worker "
            f"has {job.inputs_key!r}; give the cluster the inputs whose inputs_key path_of takes."
        )


def _check_kept(work: Work, cache: StageCache) -> None:
    """What cannot be kept would be computed again for ever."""
    if work.key not in cache:
        raise PipelineError(
            f"what stage {work.stage!r} made does not fit the cache, so nothing could go on from "
            f"it; give the StageCache more than max_bytes={cache.max_bytes!r}."
        )


def _run(work: Work, stage: Stage, held: _Held) -> tuple[Any, Any]:
    """Run one node; what to keep of it, and its value if that is one."""
    if work.kind is Kind.TRAINING:
        training = _training(stage)
        schedules: dict[str, Schedule] = dict(work.params)
        if work.start == 0:
            held.state = training.init(*held.inputs)
        held.state = training.advance(held.state, work.start, work.stop, schedules)
        saved = training.save(held.state)
        held.inputs = (saved,)  # for a stage that follows without an evaluation, in any batch
        return saved, None
    if work.kind is Kind.EVALUATION:
        output = _training(stage).evaluate(held.state)
    else:
        output = stage(*held.inputs, **work.params)
    held.inputs = (output,)
    return output, value_of(output)


def _training(stage: Stage) -> Training:
    if not isinstance(stage, IterativeStage) or stage.training is None:
        raise PipelineError(
            f"stage {stage.name!r} is no iterative stage, but the plan has training of it; make "
            f"it one with eeipu.stages.iterative, or choose another plan."
        )
    return stage.training
