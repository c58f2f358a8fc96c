"""Which trials a run of a tuner stops after a stage, since another configuration promises more."""

from collections import deque
from collections.abc import Mapping
from statistics import median

from eeipu.sampler import EEIPUSampler
from eeipu.stages.running.calls import Clock
from eeipu.studies.run_limits import RunLimits
from eeipu.studies.trial_run import TrialRun
from eeipu.studies.trials import Trials
from eeipu.studies.underway import TrialsUnderway

__all__ = ["Suspensions"]


class Suspensions:
    """Decides after each stage of a trial whether the trial goes on.

    Args:
        trials: The trials of the study.
        limits: Whether another trial could begin instead.
        clock: A clock that never goes back, in seconds.
        never: Whether all trials go on.
    """

    def __init__(
        self, trials: Trials, limits: RunLimits, clock: Clock, *, never: bool = False
    ) -> None:
        self._trials = trials
        self._limits = limits
        self._clock = clock
        self._never = never or not trials.may_suspend
        self._looks_s: deque[float] = deque(maxlen=32)  # what the last looks took

    def of(self, run: TrialRun, underway: TrialsUnderway) -> Mapping[str, float] | None:
        """What a trial notes that is to be stopped now; `None`: it goes on.

        Args:
            run: The trial, of which a call has just ended.
            underway: All trials that have begun. While a configuration is being chosen beside the
                workers, every trial goes on: the search does one thing at a time.
        """
        sampler = self._trials.study.sampler
        if self._never or not isinstance(sampler, EEIPUSampler) or not sampler.method.suspends:
            return None
        if underway.is_choosing:
            return None
        others = [each for each in underway if each is not run]
        if not (_can_stop(run) and self._limits.allow_trial(others, self._clock())):
            return None
        if self._is_not_worth_a_look(run):
            return None
        began_s = self._clock()
        pipeline = self._trials.pipeline
        so_far = pipeline.join(run.states.stage_runs, run.calls)
        if not so_far.observations:
            return None
        history = self._trials.history
        trial = next((each for each in history.running if each.number == run.trial.number), None)
        if trial is None:  # another driver has taken it over
            return None
        reached = {each.name for each in so_far.stage_runs} | so_far.left_out
        has_run = [name in reached for name in pipeline.stage_names]
        outlook = sampler.outlook(history, trial, so_far.observations, has_run)
        self._looks_s.append(self._clock() - began_s)
        return outlook.notes if outlook is not None and outlook.is_to_stop else None

    def _is_not_worth_a_look(self, run: TrialRun) -> bool:
        """Whether the stages to come take less time than it takes to decide about them."""
        if not (self._trials.are_measured and self._looks_s):
            return False
        usual_s = median(self._looks_s)
        return self._limits.expected_rest(run, self._clock()) <= usual_s


def _can_stop(run: TrialRun) -> bool:
    """Whether a trial may stop here, and its outputs be found again."""
    if run.states.is_failing or run.states.began_s or not run.states.to_come:
        return False
    needed = {j for k in run.states.to_come for j in run.states.graph.upstream[k]}
    return all(run.is_shared(run.calls[j]) for j in needed if j in run.states.runs)
