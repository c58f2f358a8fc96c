"""The stage tree of a study: the calls of all trials, where common beginnings are one.

A trial is a path of calls in the order of the pipeline's stages; a training that stopped early, or
that others went on from, has one call for each stretch between two steps at which it was evaluated.
In a pipeline that is a graph, a call whose output several branches use is there once for each path
of calls before it, and has cost something only once.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from optuna.trial import TrialState

from eeipu.report.pictures.canvas import Row
from eeipu.studies.records.study_record import StudyLike, StudyRecord, TrialRecord

if TYPE_CHECKING:
    from eeipu.cache import StageCache
    from eeipu.stage_tree.search_plan import SearchPlan

__all__ = ["CacheLike", "tree_rows"]

CacheLike = Union["StageCache", str, Path, None]

_PLAN_STATES = {"done": "kept", "gone": "dropped", "begun": "running"}


def tree_rows(study: "StudyLike | SearchPlan", cache: CacheLike = None) -> list[Row]:
    """A row for each call of the tree, each after the one above it.

    Args:
        study: The study; or a search plan.
        cache: The cache, or its place, to say which outputs it has now; by default the place that
            the study remembers, if it can be reached from here.

    Returns:
        `id`; `above`, the `id` of the call above it, or `None`; `stage`; `step`, up to which a
        training is trained by it, `None` for other calls; `params`, the hyper-parameters of its
        stage; `key`, its content key; `cost`, what running it cost, `None` where this study did not
        run it; `trials`, the numbers of the trials that go through it (of a plan: names of studies
        with numbers); `best`, the best value of these (of a plan, which does not know what is good:
        the largest); `state`: `"kept"`, `"dropped"` (the cache
        has it no more, or never had it), `"failed"`, `"running"`, `"waiting"`, or `"done"` where
        nothing is known of a cache.
    """
    from eeipu.stage_tree.search_plan import SearchPlan

    if isinstance(study, SearchPlan):
        return list(_rows_of_plan(study))
    record = StudyRecord.of(study)
    tree = _Tree(record, _kept(record, cache))
    for each in record.trials:
        tree.add(each)
    return tree.rows()


def _kept(record: StudyRecord, cache: CacheLike) -> Container[str] | None:
    """The keys that a cache has; `None` where none can be reached."""
    from eeipu.cache import StageCache
    from eeipu.caching.locations import is_occupied
    from eeipu.errors import EeipuError

    if isinstance(cache, StageCache):
        return set(cache)
    place = cache if cache is not None else (record.told.get("eeipu:tuner") or {}).get("cache")
    if place is None:
        return None
    try:
        # Nothing is loaded, so that nobody's code runs.
        return set(StageCache(place, shared=True)) if is_occupied(str(place)) else set()
    except EeipuError:
        if cache is not None:
            raise
        return None  # another machine's


@dataclass(eq=False)
class _Call:
    """A call of the tree."""

    above: "_Call | None"
    stage: str
    step: int | None
    key: str
    params: dict[str, Any]
    cost: float | None = None
    trials: list[int] = field(default_factory=list)
    best: float | None = None
    has_failed: bool = False
    below: dict[tuple[str, int | None, str], "_Call"] = field(default_factory=dict)


@dataclass(frozen=True)
class _Step:
    """A call on the path of a trial."""

    stage: str
    step: int | None
    key: str
    cost: float | None
    has_failed: bool = False


class _Tree:
    """The tree of a study as it grows, trial by trial.

    Args:
        record: The study.
        kept: The keys that the cache has; `None` where that is unknown.
    """

    def __init__(self, record: StudyRecord, kept: Container[str] | None) -> None:
        self._record = record
        self._kept = kept
        self._better = min if record.is_minimized else max
        self._roots: dict[tuple[str, int | None, str], _Call] = {}
        self._costs: dict[str, float] = {}  # by key, as one call may stand in several places

    def add(self, each: TrialRecord) -> None:
        """Add the path of a trial; one that has none yet adds nothing."""
        at, below = None, self._roots
        value = _reached_value(each)
        for step in _path(each):
            place = step.stage, step.step, step.key
            call = below.get(place)
            if call is None:
                call = _Call(at, step.stage, step.step, step.key, _params(each, step.stage))
                below[place] = call
            if step.cost is not None and not step.has_failed:
                self._costs.setdefault(step.key, step.cost)
            call.has_failed |= step.has_failed
            call.trials.append(each.number)
            if value is not None:
                call.best = value if call.best is None else self._better(call.best, value)
            at, below = call, call.below

    def rows(self) -> list[Row]:
        """The rows; see `tree_rows`."""
        ids: dict[_Call, int] = {}
        rows = []
        stack = list(reversed(self._roots.values()))
        while stack:
            call = stack.pop()
            ids[call] = len(ids)
            stack += reversed(call.below.values())
            rows.append(
                {
                    "id": ids[call],
                    "above": None if call.above is None else ids[call.above],
                    "stage": call.stage,
                    "step": call.step,
                    "params": call.params,
                    "key": call.key,
                    "cost": self._costs.get(call.key),
                    "trials": call.trials,
                    "best": call.best,
                    "state": self._state(call),
                }
            )
        return rows

    def _state(self, call: _Call) -> str:
        if call.has_failed and not call.below and call.best is None:
            return "failed"
        if self._kept is None:
            return "done"
        return "kept" if call.key in self._kept else "dropped"


def _path(each: TrialRecord) -> Iterator[_Step]:
    """The calls of a trial, as far as it came."""
    keys, costs, reused = each.keys, each.costs, set(each.reused)
    broken = each.attr("failed_stage")
    is_whole = each.trial.state is TrialState.COMPLETE
    trained = _trained_stage(each)
    for name, key in keys.items():
        if key is None or not (is_whole or name in costs or name in reused or name == broken):
            continue
        if name == trained:
            yield from _stretches(each, name)
        elif name == broken:
            yield _Step(name, None, key, costs.get(name), has_failed=True)
        else:
            yield _Step(name, None, key, costs.get(name))


def _trained_stage(each: TrialRecord) -> str | None:
    """The stage whose key is another one at each step; `None` if that cannot be told."""
    by_step = list((each.attr("keys_by_step") or {}).values())
    if len(by_step) < 2:
        return each.attr("pruned_stage") if by_step else None
    pairs = zip(each.stage_names, *by_step, strict=False)
    return next((name for name, *keys in pairs if len(set(keys)) > 1), None)


def _stretches(each: TrialRecord, stage: str) -> Iterator[_Step]:
    """The stretches of a training, each up to a step at which it was evaluated."""
    place = each.stage_names.index(stage)
    costs = each.attr("costs_by_step") or {}
    before = 0.0
    for step, keys in sorted((each.attr("keys_by_step") or {}).items(), key=lambda p: int(p[0])):
        so_far = (costs.get(step) or [None] * (place + 1))[place]
        cost = None if so_far is None else max(0.0, so_far - before)
        before = before if so_far is None else so_far
        yield _Step(stage, int(step), str(keys[place]), cost)


def _reached_value(each: TrialRecord) -> float | None:
    """The value of a trial, of several the first one, or the last one that it reported."""
    if each.trial.state is TrialState.COMPLETE:
        return float(each.trial.values[0])
    if not each.trial.intermediate_values:
        return None
    return each.trial.intermediate_values[max(each.trial.intermediate_values)]


def _params(each: TrialRecord, stage: str) -> dict[str, Any]:
    start = f"{stage}."  # not the name alone, by which an optional stage is chosen
    params = each.trial.params.items()
    return {name.removeprefix(start): value for name, value in params if name.startswith(start)}


def _rows_of_plan(plan: "SearchPlan") -> Iterator[Row]:
    """The rows of a search plan."""
    from eeipu.stage_tree.drawing import status_of
    from eeipu.stage_tree.nodes import PlanNode
    from eeipu.stages.paths import Kind

    nodes = [node for node in plan.tree if isinstance(node, PlanNode)]
    ids = {node.key: k for k, node in enumerate(nodes)}
    through: dict[str, list[str]] = {key: [] for key in ids}
    for name in plan.studies:
        for request in plan.requests(name):
            for node in request.node.ancestry():
                through[node.key].append(f"{name} {request.trial}")
    best: dict[str, float] = {}
    for node in nodes:
        if isinstance(node.value, int | float):
            for each in (node, *node.ancestry()):
                best[each.key] = max(float(node.value), best.get(each.key, float(node.value)))
    for node in nodes:
        first, status = node.first, status_of(node)
        is_training = first.call.kind is Kind.TRAINING
        assert node.parent is not None
        yield {
            "id": ids[node.key],
            "above": ids.get(node.parent.key),
            "stage": first.call.stage,
            "step": node.stop - first.origin if is_training else None,
            "params": {name: str(value) for name, value in first.call.params.items()},
            "key": node.key,
            "cost": node.cost_s,
            "trials": list(dict.fromkeys(through[node.key])),
            "best": best.get(node.key),
            "state": _PLAN_STATES.get(status, status),
        }
