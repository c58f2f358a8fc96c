"""When a run of a tuner begins no further trial."""

import time
from collections.abc import Iterable

import optuna
from optuna.trial import TrialState

from eeipu.algorithms.failure_streak import FailureStreak
from eeipu.counts import counted
from eeipu.methods.budget import Budget
from eeipu.sampler import EEIPUSampler
from eeipu.stages.running.calls import Clock, StageCall
from eeipu.stages.runs import PipelineRun, StageRun
from eeipu.studies.trial_run import TrialRun
from eeipu.studies.trials import Trials, is_enqueued

__all__ = ["RunLimits"]

# A sampler of the user's own may propose the same configurations again and again. Where outputs are
# kept they cost nothing, and the budget would never end. After this many in a row, the run stops.
MAX_REPEATS = 100


class ExpectedCosts:
    """What the trials underway are still expected to cost.

    A call whose stage declares its cost will cost that. Any other call is expected to take as long
    as the calls of its stage took on average in this run, and at least as long as it has taken.
    """

    def __init__(self) -> None:
        self._measured: dict[str, tuple[float, int]] = {}  # by stage: seconds in all, calls

    def learn(self, run: StageRun) -> None:
        """Take the cost of a call into the average of its stage."""
        if run.cost is not None:
            seconds, count = self._measured.get(run.name, (0.0, 0))
            self._measured[run.name] = seconds + run.cost, count + 1

    def due(self, underway: Iterable[TrialRun], now_s: float) -> list[float]:
        """The expected cost of each call that runs or is still to run.

        A call that several trials need and that goes into the cache is paid for once.

        Args:
            underway: The trials.
            now_s: The time of the pool's clock.
        """
        due: dict[object, float] = {}
        for run in underway:
            for k in run.states.to_come:
                call, began_s = run.calls[k], run.states.began_s.get(k)
                taken_s = 0.0 if began_s is None else now_s - began_s
                expected = self._of(call, run.states.declared_costs[k], taken_s)
                payer = call.key if run.is_shared(call) else (run, k)
                due[payer] = max(due.get(payer, 0.0), expected)
        return list(due.values())

    def _of(self, call: StageCall, declared: float, taken_s: float) -> float:
        if call.stage.cost is not None:
            return declared
        seconds, count = self._measured.get(call.stage.name, (0.0, 1))
        return max(seconds / count, taken_s)


class RunLimits:
    """Decides whether another trial may begin, and gives the reason if the search has to stop.

    Args:
        trials: The trials of the study.
        budget: What all trials of the study may cost together.
        max_trials: How many trials this run may begin; `None` is any number.
        clock: A clock that never goes back, in seconds, for the budget's timeout.
        max_failures: After this many failures in a row the search stops; see `FailureStreak`.

    Attributes:
        reason: A sentence for the user about why the search has stopped; `None` unless it failed,
            repeats itself or sees nothing worth its cost.
        is_broken: Whether an error of programming has stopped it.
    """

    def __init__(
        self,
        trials: Trials,
        budget: Budget,
        max_trials: int | None,
        clock: Clock = time.monotonic,
        *,
        max_failures: int | None = None,
    ) -> None:
        self.reason: str | None = None
        self.is_broken = False
        self._trials = trials
        self._budget = budget
        self._bounds = budget.begin_run(max_trials, clock)
        self._expected = ExpectedCosts()
        self._failures = FailureStreak(max_failures)
        self._bugs: set[str] = set()  # the stages that have met an error of programming
        self._repeats = 0

    def allow_trial(self, underway: Iterable[TrialRun], now_s: float) -> bool:
        """Whether the user's limits allow another trial: budget, time, number, `study.stop()`.

        Args:
            underway: The trials whose costs to come are subtracted from the budget.
            now_s: The time of the pool's clock.
        """
        return self.allow_new(self._expected.due(underway, now_s))

    def allow_new(self, due: Iterable[float]) -> bool:
        """The same, given what the calls that run or are still to run will cost."""
        return not self._bounds.is_reached and self.allow_more(due)

    def allow_more(self, due: Iterable[float]) -> bool:
        """Whether they allow that a trial that has begun goes on: their number does not matter."""
        if self.reason is not None or self._trials.study._stop_flag or self.is_out_of_time:
            return False
        if not self._budget.is_limited:  # what is spent need not be added up
            return True
        return not self._budget.is_spent(self._trials.spent, due)

    def learn(self, run: StageRun) -> None:
        """Learn from a call that has ended what calls of its stage cost."""
        self._expected.learn(run)

    def count_trial(self) -> None:
        """Count a trial that begins."""
        self._bounds.count_trial()

    def charge_for_choice(self, trial: optuna.Trial, waited_s: float) -> float:
        """What the budget pays for the choice of a trial's configuration.

        Args:
            trial: The trial.
            waited_s: The seconds during which a worker waited for it.
        """
        if self._budget.overhead is not None and is_enqueued(trial):
            return 0.0
        return self._budget.charge_for_choice(waited_s, is_measured=self._trials.are_measured)

    @property
    def is_out_of_time(self) -> bool:
        """Whether the budget's timeout is over."""
        return self._bounds.is_out_of_time

    def close(self) -> None:
        """End the run."""
        self._budget.end_run()

    def remark(self) -> str | None:
        """A sentence for the user if the budget ended the search before its models could choose.

        Returns:
            What has happened, and what to change; `None` if there is nothing to say.
        """
        amount, total = self._trials.spent, self._budget.total
        if not self._budget.is_spent(amount):
            return None
        if self._bounds.begun == 0:
            return (
                f"the budget is spent; nothing was run. The study's trials have cost {amount:.4g} "
                f"of {total:.4g}: raise Tuner(budget=...) above that to go on, or begin another "
                f"study (study_name=..., storage=...)."
            )
        sampler = self._trials.study.sampler
        if not isinstance(sampler, EEIPUSampler) or sampler.method.score is None:
            return None
        history = self._trials.history
        first = sampler.warm_up_trials(history)
        if len(history) > first:
            return None
        run = counted(len(history), "trial has run", "trials have run")
        return (
            f"the budget of {total:.4g} ended inside the warm-up: {run}, and the first {first} "
            f"are chosen without models. Raise Tuner(budget=...), or lower n_initial."
        )

    def judge(self, result: PipelineRun) -> None:
        """Stop the search if too many trials in a row have failed, or repeated earlier ones.

        An error of programming (`eeipu.stages.running.programming_errors`) stops it at once while
        no trial of the study has a value: every other configuration would meet the same error,
        unless it can choose other alternatives than the stages that had one.

        Args:
            result: The result of a trial that has ended.
        """
        failed = None if result.is_pruned else result.failed
        if failed is None:
            self._failures.end()
        else:
            self._failures.add(failed)
        self._repeats = self._repeats + 1 if all(result.memoized) else 0
        if failed is not None and failed.is_bug and self._is_everywhere(failed.name):
            self.is_broken = True
            self.stop(
                f"stage {failed.name!r} has failed with an error that other "
                f"configurations would meet too. Correct the stage and call run(...) again; what "
                f"has run is in the cache.\n{result.error}"
            )
        elif failed is not None and self._failures.is_too_long:
            self.stop(
                f"{counted(self._failures.length, 'trial has', 'trials in a row have')} failed. If "
                f"their cause is gone, call retry_failed() and run(...) again; "
                f"Tuner(max_failures=...) sets the limit. "
                f"The last error, in stage {failed.name!r}:\n{result.error}"
            )
        elif self._repeats >= MAX_REPEATS:
            self.stop(
                f"the last {MAX_REPEATS} trials were configurations that had run "
                f"before. Widen the space, or choose another method than "
                f"{type(self._trials.study.sampler).__name__}."
            )

    def _is_everywhere(self, bug: str) -> bool:
        """Whether every configuration would meet the errors of programming that there have been.

        Args:
            bug: The stage that has met the last one.
        """
        self._bugs.add(bug)
        return not self._has_values() and not self._trials.pipeline.layout.avoids(self._bugs)

    def _has_values(self) -> bool:
        """Whether a trial of the study, in this run or before, has succeeded."""
        finished = (TrialState.COMPLETE,)
        return bool(self._trials.study.get_trials(deepcopy=False, states=finished))

    def stop(self, why: object) -> None:
        """Stop the search for a reason; the first reason stays."""
        self.reason = self.reason or f"stopped: {why}"
