"""What follows a run of a plan: it sees nodes begin and end, and may stop the run."""

import logging
from collections.abc import Iterable

from eeipu.algorithms.failure_streak import FailureStreak
from eeipu.algorithms.study_run import StudyRun
from eeipu.counts import counted
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stages.runs import StageRun

__all__ = ["FailureWatch", "PlanWatch"]

logger = logging.getLogger("eeipu")


class PlanWatch:
    """Follows a run of a plan. The methods do nothing, so that others override what they need.

    Attributes:
        reason: Why the run is to stop after the nodes that run; `None`: it goes on.
    """

    reason: str | None = None

    def began(self, node: PlanNode) -> None:
        """A worker begins with a node."""

    def ended(self, node: PlanNode, run: StageRun) -> None:
        """A node has run to its end, was reused, or has failed."""

    def answered(self, failure: StageRun | None) -> None:
        """A study was answered with a value, or with what is no objective."""

    def waits(self) -> None:
        """All that can run has been given to workers; what they report is waited for."""

    def hears(self) -> None:
        """Workers have reported; those that are free wait for what is given to them next."""


class FailureWatch(PlanWatch):
    """Stops a plan in which everything fails, as a tuner stops.

    A node that fails counts once, however many trials wait for it; only a value that a study is
    answered with is a success. An error of programming
    (`eeipu.stages.running.programming_errors`) stops the plan at once while no study has a value.

    Args:
        studies: The studies that run.
        max_failures: How many failures in a row stop the plan; see `FailureStreak`.
    """

    def __init__(self, studies: Iterable[StudyRun], max_failures: int | None = None) -> None:
        self._studies = list(studies)
        self._streak = FailureStreak(max_failures)

    def ended(self, node: PlanNode, run: StageRun) -> None:  # noqa: ARG002
        """See `PlanWatch`."""
        if run.error is not None and not run.is_pruned:
            self._fail(run)

    def answered(self, failure: StageRun | None) -> None:
        """See `PlanWatch`."""
        if failure is None:
            self._streak.end()
        else:
            self._fail(failure)

    def _fail(self, run: StageRun) -> None:
        self._streak.add(run)
        if run.is_bug and not any(study.values for study in self._studies):
            self._stop(
                f"stage {run.name!r} has failed with an error that other configurations would meet "
                f"too. Correct the stage and run the studies again.\n{run.error}"
            )
        elif self._streak.is_too_long:
            self._stop(
                f"{counted(self._streak.length, 'call has', 'calls in a row have')} failed. If "
                f"their cause is gone, call plan.retry() and run the studies again; "
                f"run_studies(max_failures=...) sets the limit. "
                f"The last error, in stage {run.name!r}:\n{run.error}"
            )

    def _stop(self, why: str) -> None:
        if self.reason is None:
            self.reason = f"stopped: {why}"
            logger.warning("%s", self.reason)
