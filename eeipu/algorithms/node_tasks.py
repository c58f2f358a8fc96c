"""The nodes of a plan as tasks for a pool of workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eeipu.errors import PipelineError
from eeipu.fingerprints.keys import is_digest
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stages.declaration import Stage
from eeipu.stages.paths import Call, Kind
from eeipu.stages.resources import Resources
from eeipu.stages.running.calls import StageCall
from eeipu.stages.running.tasks import StageTask
from eeipu.stages.running.worker import Job

__all__ = ["NodeTask", "NodeTasks"]


@dataclass(frozen=True, eq=False)
class NodeTask(StageTask):
    """A task that runs a node of a plan.

    Attributes:
        node: The node.
    """

    node: PlanNode | None = None


class NodeTasks:
    """Makes the tasks of a plan's nodes.

    Args:
        job: The stages, inputs and cache of the workers. Without stages, tasks are for a
            simulation, which calls nothing.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._unkept = {name for name, stage in job.stages.items() if not stage.memoize}
        try:
            job.run_inputs.watch()
            self._inputs_key = job.run_inputs.key if job.stages else None
        except PipelineError:  # then `path_of` has a name of the user's own for them
            self._inputs_key = None

    def task(
        self, node: PlanNode, needs: Resources, args: tuple[Any, ...] | None = None
    ) -> NodeTask:
        """The task of a node.

        Args:
            node: The node, which lies within one stage.
            needs: The resources that it takes. Only a simulation uses them; otherwise the stage
                declares them.
            args: The output that it begins with, if no cache keeps that output.

        Raises:
            PipelineError: The workers have other code of the stage, or other inputs, than the node
                was asked for.
        """
        call = self._call(node, needs)
        return NodeTask(
            call,
            args,
            is_last=bool(node.requests),
            **self._beginning(node, call),
            node=node,
        )

    def _beginning(self, node: PlanNode, call: StageCall) -> dict[str, Any]:
        """What the stage of a resumed training got, where its `load` takes that, and its calls."""
        if not call.resumes or not self._job.stages or not call.training.loads_inputs:
            return {}
        first, others = node, []
        for each in node.ancestry():
            if each.first.call.stage == call.stage.name:
                first = each
            else:
                others.append(each)
        above = tuple(self._call(each, Resources()) for each in reversed(others))
        return {"above": above, "given": _sources(first)}

    def _call(self, node: PlanNode, needs: Resources) -> StageCall:
        first = node.first
        stage = self._stage(first.call, node.path.upstream, needs)
        memoize = self._memoizes(node)
        if first.call.kind is not Kind.TRAINING:
            params: Mapping[str, Any] = dict(first.call.params)
            start, stop = 0, 1
        else:
            params = node.path.schedules(node.start)
            start, stop = node.start - first.origin, node.stop - first.origin
        kind, upstream = first.call.kind, node.path.key(node.start)
        sources = _sources(node)
        return StageCall(stage, params, node.key, kind, start, stop, memoize, upstream, sources)

    def _memoizes(self, node: PlanNode) -> bool:
        """Whether the stages up to a node allow that its output is kept."""
        return not self._unkept or self._unkept.isdisjoint(
            each.first.call.stage for each in node.ancestry()
        )

    def _stage(self, call: Call, upstream: str, needs: Resources) -> Stage:
        if not self._job.stages:
            return Stage(call.stage, num_cpus=needs.num_cpus, num_gpus=needs.num_gpus)
        stage = self._job.stages.get(call.stage)
        if stage is None or stage.code_fingerprint != call.fingerprint:
            theirs = "none of that name" if stage is None else repr(stage.code_fingerprint)
            raise PipelineError(
                f"the plan has stage {call.stage!r} as {call.fingerprint!r}, and the workers have "
                f"{theirs}; give path_of and the pool the same stages."
            )
        is_content = self._inputs_key is not None and is_digest(upstream)
        if is_content and upstream != self._inputs_key:  # the user's own name is their word
            raise PipelineError(
                f"the plan has stage {call.stage!r} on the inputs {upstream!r}, and the workers "
                f"have {self._inputs_key!r}; give the pool the inputs whose inputs_key path_of "
                f"takes."
            )
        return stage


def _sources(node: PlanNode) -> tuple[str | None, ...]:
    """The keys of what a node begins from, as `StageCall.sources` has them."""
    if node.sources:
        return tuple(None if each is None else each.key for each in node.sources)
    assert node.parent is not None, "the root is not run"
    return (None if node.parent.parent is None else node.parent.key,)
