"""What follows a tuner's run on a stage tree: it lets trials pay, shows progress and stops it."""

from eeipu.algorithms.plan_watch import PlanWatch
from eeipu.executors.pool import Pool
from eeipu.pipeline import PipelineRun, StageRun
from eeipu.stage_tree.execution import Execution
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stages.paths import Kind
from eeipu.studies.displays.progress import Reporter
from eeipu.studies.early_stopping.staged_trials import StagedTrial, StagedTrials
from eeipu.studies.run_limits import RunLimits

__all__ = ["RunWatch"]


class RunWatch(PlanWatch):
    """Follows one run.

    Args:
        trials: The trials, which pay for what is run for them.
        execution: What the plan executes.
        limits: Whether too much has failed.
        reporter: Shows progress.
        pool: The workers.
    """

    def __init__(
        self,
        trials: StagedTrials,
        execution: Execution,
        limits: RunLimits,
        reporter: Reporter,
        pool: Pool,
    ) -> None:
        self._trials = trials
        self._execution = execution
        self._limits = limits
        self._reporter = reporter
        self._pool = pool
        self._running: dict[PlanNode, None] = {}
        self._rates: dict[tuple[str, Kind], tuple[float, int]] = {}  # cost in all, positions
        self._heard_s = pool.now()
        self._waited_s = 0.0

    @property
    def reason(self) -> str | None:  # type: ignore[override]
        """See `PlanWatch`."""
        return self._limits.reason

    def began(self, node: PlanNode) -> None:
        """See `PlanWatch`."""
        self._running[node] = None
        number = self._trials[node.requests[0].trial].number if node.requests else None
        self._reporter.update(self.activity, number)

    def ended(self, node: PlanNode, run: StageRun) -> None:
        """See `PlanWatch`."""
        self._running.pop(node, None)
        if run.error is not None:
            self._trials.note_failure(node, run)
        elif run.cost is not None:
            kind = _kind(node)
            cost, positions = self._rates.get(kind, (0.0, 0))
            self._rates[kind] = cost + run.cost, positions + node.stop - node.start

    def waits(self) -> None:
        """See `PlanWatch`."""
        self.settle()
        now_s = self._pool.now()
        self._waited_s += now_s - self._heard_s
        self._heard_s = now_s

    def hears(self) -> None:
        """See `PlanWatch`."""
        self._heard_s = self._pool.now()

    def take_waited(self) -> float:
        """The seconds during which workers waited for what this thread did, since the last call."""
        self.waits()
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    def settle(self) -> None:
        """Let trials pay for what was run since the last call."""
        self._trials.pay(self._execution.take_payments())

    def expected_cost(self, node: PlanNode) -> float:
        """What a node will cost, by the mean of its stage; nothing while that is not known."""
        cost, positions = self._rates.get(_kind(node), (0.0, 1))
        return (node.stop - node.start) * cost / positions

    def report(self, mine: StagedTrial, step: int, run: PipelineRun) -> None:
        """Show what a trial has reached."""
        self._reporter.trial_ended(mine.number, run, self.activity, step)

    def activity(self) -> str:
        """What goes on, in a line for the display."""
        return f"running {', '.join(map(_in_words, self._running))}" if self._running else ""


def _kind(node: PlanNode) -> tuple[str, Kind]:
    call = node.stretches[0].call
    return call.stage, call.kind


def _in_words(node: PlanNode) -> str:
    """A node's stage, with its steps where it is training."""
    first = node.stretches[0]
    if first.call.kind is Kind.TRAINING:
        return f"{first.call.stage} {node.start - first.origin}..{node.stop - first.origin}"
    return first.call.stage
