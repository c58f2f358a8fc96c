"""Running a batch of nodes in a worker: from a state in the cache, one node after another."""

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import CacheMiss, PipelineError
from eeipu.execution import Clock, number_of, synchronize_devices
from eeipu.iterative import IterativeStage, Training
from eeipu.paths import Kind
from eeipu.plan_nodes import PlanNode
from eeipu.schedule import Schedule
from eeipu.stages import Stage

__all__ = ["Work", "WorkResult", "run_works", "work_of"]


@dataclass(frozen=True)
class Work:
    """A node as a worker sees it; it lies within one stage.

    Attributes:
        key: The node's content key.
        kind: What is to be done; `stage`: of which stage.
        fingerprint: What stood for the stage's code when the node was asked for.
        params: The hyper-parameters of a plain stage; of training, as functions of its step.
        start: The first step of training; `stop`: the first that is not its.
    """

    key: str
    kind: Kind
    stage: str
    fingerprint: str
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
    if call.kind is not Kind.TRAINING:
        return Work(node.key, call.kind, call.stage, call.fingerprint, dict(call.params))
    schedules = node.path.schedules(node.start)
    start, stop = node.start - origin, node.stop - origin
    return Work(node.key, call.kind, call.stage, call.fingerprint, schedules, start, stop)


@dataclass
class _Held:
    """What a worker has in hand: what the last stage returned, or the state of one in training."""

    inputs: tuple[Any, ...] = ()
    state: Any = None


def run_works(
    works: Sequence[Work],
    stages: Mapping[str, Stage],
    inputs: tuple[Any, ...],
    upstream: str | None,
    cache: StageCache,
    *,
    clock: Clock = time.perf_counter,
) -> list[WorkResult]:
    """Run nodes one after another, the state staying here, each one's state going to the cache.

    Args:
        works: The nodes; each begins where the one before ends.
        stages: By name.
        inputs: The run's inputs.
        upstream: The key of the state to begin from; `None`: the inputs.
        cache: Where states are.
        clock: Seconds that only grow.

    Returns:
        A result for each node that was begun: the last may have failed.
    """
    try:
        for work in works:
            _check_code(work, stages)
        held = _begin(works[0], stages, inputs, upstream, cache)
    except CacheMiss:
        return [WorkResult(works[0].key, is_missing=True)]
    except Exception:  # other code, or the user's own `load`
        return [WorkResult(works[0].key, error=traceback.format_exc())]
    results: list[WorkResult] = []
    for work in works:
        synchronize_devices()
        began = clock()
        try:
            output, value = _run(work, stages[work.stage], held)
            synchronize_devices()
            cost_s = clock() - began
            cache.put(work.key, output, cost=cost_s)
            if value is None:
                _check_kept(work, cache)
        except (Exception, SystemExit):
            results.append(WorkResult(work.key, clock() - began, error=traceback.format_exc()))
            return results
        results.append(WorkResult(work.key, cost_s, value))
    return results


def _begin(
    first: Work,
    stages: Mapping[str, Stage],
    inputs: tuple[Any, ...],
    upstream: str | None,
    cache: StageCache,
) -> _Held:
    """What the first node begins from."""
    if upstream is None:
        return _Held(inputs)
    saved = cache.get(upstream)
    if first.kind is Kind.EVALUATION or (first.kind is Kind.TRAINING and first.start > 0):
        return _Held(state=_training(stages[first.stage]).load(saved))
    return _Held((saved,))


def _check_code(work: Work, stages: Mapping[str, Stage]) -> None:
    """Other code must not leave its output under this key."""
    stage = stages.get(work.stage)
    if stage is None or stage.code != work.fingerprint:
        raise PipelineError(
            f"the plan has stage {work.stage!r} as {work.fingerprint!r}, and the worker has "
            f"{'none of that name' if stage is None else repr(stage.code)}; give path_of and the "
            f"cluster the same stages."
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
        return training.save(held.state), None
    if work.kind is Kind.EVALUATION:
        output = _training(stage).evaluate(held.state)
    else:
        output = stage(*held.inputs, **work.params)
    held.inputs = (output,)
    return output, _number_or_metrics(output)


def _training(stage: Stage) -> Training:
    if not isinstance(stage, IterativeStage) or stage.training is None:
        raise PipelineError(
            f"stage {stage.name!r} is no iterative stage, but the plan has training of it; make "
            f"it one with eeipu.iterative, or choose another plan."
        )
    return stage.training


def _number_or_metrics(output: Any) -> Any:
    """A number, or the numbers of a dict, as plain Python; `None` where there is none."""
    if isinstance(output, Mapping):
        metrics = {str(name): number_of(each) for name, each in output.items()}
        return {name: each for name, each in metrics.items() if each is not None} or None
    return number_of(output)
