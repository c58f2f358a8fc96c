"""How far each stage call of a trial is."""

from dataclasses import dataclass, field
from functools import cached_property

from eeipu.stages.joining.graph import Graph
from eeipu.stages.running.calls import StageCall
from eeipu.stages.running.walks import graph_of
from eeipu.stages.runs import StageRun

__all__ = ["CallStates"]


@dataclass(eq=False)
class CallStates:
    """Which stage calls of a trial have ended, run, can run now, or have to run later.

    Several of them may run at the same time, where none of them needs another's output.

    Attributes:
        calls: The stage calls, in the pipeline's order. A call's place is its index here.
        runs: The results of the calls that have ended or need not run, by place.
        began_s: When each of the calls that run now was given to a worker, by the pool's clock.
    """

    calls: tuple[StageCall, ...]
    runs: dict[int, StageRun] = field(default_factory=dict)
    began_s: dict[int, float] = field(default_factory=dict)

    @cached_property
    def graph(self) -> Graph:
        """Whose output each call gets."""
        return graph_of(self.calls)

    @cached_property
    def place(self) -> dict[str, int]:
        """The content key of a call -> its place."""
        return {call.key: k for k, call in enumerate(self.calls)}

    @cached_property
    def declared_costs(self) -> tuple[float, ...]:
        """The declared cost of each call; 0 where it is measured, or depends on the arguments."""
        return tuple(map(_declared_cost, self.calls))

    @property
    def stage_runs(self) -> list[StageRun]:
        """The results so far, in the pipeline's order."""
        return [self.runs[k] for k in sorted(self.runs)]

    @property
    def to_come(self) -> list[int]:
        """The calls that run now or have to run yet."""
        return [k for k in range(len(self.calls)) if k not in self.runs]

    @property
    def ready(self) -> list[int]:
        """The calls that can run now and do not run yet."""
        if self.is_failing:
            return []
        return [
            k
            for k in self.to_come
            if k not in self.began_s and all(j in self.runs for j in self.graph.upstream[k])
        ]

    @property
    def is_failing(self) -> bool:
        """Whether a call has failed, so that no other begins."""
        return any(run.error is not None for run in self.runs.values())

    @property
    def have_ended(self) -> bool:
        """Whether no call has to run any more, or one has failed; and none runs."""
        return (self.is_failing or not self.to_come) and not self.began_s


def _declared_cost(call: StageCall) -> float:
    try:
        return call.stage.declared_cost(call.params) or 0.0
    except Exception:
        return 0.0  # the call will fail with this exception, and report it
