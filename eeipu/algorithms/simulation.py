"""Workers in virtual time for a plan: functions give the duration and the value of each node."""

from collections.abc import Callable, Sequence
from typing import Any

from eeipu.algorithms.node_tasks import NodeTask
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask

__all__ = ["simulated_workers"]


def simulated_workers(
    workers: int | Sequence[Resources],
    seconds: Callable[[PlanNode], float],
    value: Callable[[PlanNode], Any] = lambda node: None,  # noqa: ARG005
    *,
    save_s: float = 0.0,
    **options: Any,
) -> SimulatedPool:
    """A pool for `run_studies` that calls nothing.

    Args:
        workers: The number of workers, or the resources of each.
        seconds: Node -> seconds that it takes.
        value: Node -> the value that its evaluation gives.
        save_s: Seconds to write a checkpoint.
        options: Of `SimulatedPool`: failures, stragglers, the time to load a state. The runner's
            own time does not pass unless `driving_s` says so.

    Raises:
        ConfigurationError: There are no workers, or an option is out of range.
    """

    def node_of(task: StageTask) -> PlanNode:
        assert isinstance(task, NodeTask)
        assert task.node is not None
        return task.node

    def taken_s(task: StageTask) -> float:
        return seconds(node_of(task)) + (save_s if task.call.is_training else 0.0)

    return SimulatedPool(
        workers,
        seconds=taken_s,
        value=lambda task: value(node_of(task)),
        **{"driving_s": lambda _: 0.0, **options},
    )
