"""What follows a tuner's run on a stage tree: it lets trials pay, shows progress and stops it."""

import time
from itertools import islice

from eeipu.algorithms.plan_watch import PlanWatch
from eeipu.executors.pool import Pool
from eeipu.pipeline import PipelineRun, StageRun
from eeipu.stage_tree.nodes import PlanNode, first_waiting, waiting_below
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Kind
from eeipu.studies.displays.progress import Reporter
from eeipu.studies.displays.snapshot import TrainingProgress
from eeipu.studies.early_stopping.staged_trial import StagedTrial
from eeipu.studies.early_stopping.staged_trials import StagedTrials
from eeipu.studies.run_limits import RunLimits

__all__ = ["RunWatch"]

# Of a node that many trials share, so many of them are named in the display.
MOST_TRIALS = 3


class RunWatch(PlanWatch):
    """Follows one run.

    Args:
        trials: The trials, which pay for what is run for them.
        plan: The plan.
        limits: Whether too much has failed.
        reporter: Shows progress.
        pool: The workers.
    """

    def __init__(
        self,
        trials: StagedTrials,
        plan: SearchPlan,
        limits: RunLimits,
        reporter: Reporter,
        pool: Pool,
    ) -> None:
        self._trials = trials
        self._execution, self._tree = plan.execution, plan.tree
        self._limits = limits
        self._reporter = reporter
        self._pool = pool
        self._running: dict[PlanNode, tuple[int | None, float]] = {}  # for whom, and since when
        self._rates: dict[tuple[str, Kind], tuple[float, int]] = {}  # cost in all, positions
        self._heard_s = pool.now()
        self._epoch_s = time.time() - pool.now()
        self._waited_s = 0.0
        reporter.training = self.progress

    @property
    def reason(self) -> str | None:  # type: ignore[override]
        """See `PlanWatch`."""
        return self._limits.reason

    def began(self, node: PlanNode) -> None:
        """See `PlanWatch`."""
        request = first_waiting(node)
        index = None if request is None else request.trial
        if index is not None:
            self._trials.runs(index)
        self._running[node] = index, self._pool.now()
        number = None if index is None else self._trials[index].number
        self._reporter.update(self.activity, number)

    def ended(self, node: PlanNode, run: StageRun) -> None:
        """See `PlanWatch`."""
        index, began_s = self._running.pop(node, (None, 0.0))
        if index is not None:
            name, ended_s = _name(node), self._pool.now()
            times = round(began_s + self._epoch_s, 3), round(ended_s + self._epoch_s, 3)
            self._trials[index].ran.append((name, *times))
        if run.error is not None:
            self._trials.answers.note_failure(node, run)
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

    def settle(self, reaching: int | None = None) -> None:
        """Let trials pay for what was run since the last call.

        Args:
            reaching: See `StagedTrials.pay`.
        """
        self._trials.pay(self._execution.take_payments(), reaching)

    def expected_cost(self, node: PlanNode) -> float:
        """What a node will cost, by the mean of its stage; nothing while that is not known."""
        cost, positions = self._rates.get(_kind(node), (0.0, 1))
        return (node.stop - node.start) * cost / positions

    def report(self, mine: StagedTrial, step: int, run: PipelineRun) -> None:
        """Show what a trial has reached."""
        self._reporter.trial_ended(mine.number, run, self.activity, step)

    def activity(self) -> str:
        """What goes on, in a line for the display."""
        return f"running {', '.join(map(self._in_words, self._running))}" if self._running else ""

    def _in_words(self, node: PlanNode) -> str:
        """A node's stage, with its steps where it is training, and the trials that wait for it."""
        first = node.first
        name = first.call.stage
        if first.call.kind is Kind.TRAINING:
            name += f" {node.start - first.origin}..{node.stop - first.origin}"
        waiting = (request.trial for request in islice(waiting_below(node), MOST_TRIALS + 1))
        numbers = [str(self._trials[index].number) for index in dict.fromkeys(waiting)]
        shown = ", ".join(numbers[:MOST_TRIALS]) + (", .." if len(numbers) > MOST_TRIALS else "")
        return f"{name} of {shown}" if shown else name

    def progress(self) -> TrainingProgress:
        """How many trials have reached which step, what they share, and who works."""
        tree = self._tree
        return TrainingProgress(
            self._trials.rungs,
            tree.merge_rate,
            tree.requested_steps - tree.distinct_steps,
            len(self._running),
            self._pool.size,
        )


def _kind(node: PlanNode) -> tuple[str, Kind]:
    call = node.first.call
    return call.stage, call.kind


def _name(node: PlanNode) -> str:
    """The name of a node's calls: its stage, with the step that is reached where it trains."""
    last = node.last
    is_training = last.call.kind is Kind.TRAINING
    return f"{last.call.stage}@{node.stop - last.origin}" if is_training else last.call.stage
