"""What a rule with a model of its own is told of a tuner's trials."""

import math
from collections.abc import Callable, Iterable, Sequence

from eeipu.algorithms.configurations import Config
from eeipu.cache import StageCache
from eeipu.methods.budget import Budget
from eeipu.sampler import EEIPUSampler
from eeipu.space import Space
from eeipu.studies.early_stopping.staged_trials import StagedTrials
from eeipu.studies.early_stopping.trial_paths import TrialPaths, counted_stages
from eeipu.studies.trials import Trials

__all__ = ["KnownTrials"]


class KnownTrials:
    """The trials of one run; see `eeipu.algorithms.freeze_thaw.Known`.

    Args:
        trials: The trials of the study.
        staged: The same, as far as they are trained.
        paths: The paths of configurations.
        cache: The cache of stage outputs.
        budget: What all trials may cost together.
        due: What the calls that run or wait are still expected to cost.
        minimize: Whether smaller values are better.
    """

    def __init__(
        self,
        trials: Trials,
        staged: StagedTrials,
        paths: TrialPaths,
        cache: StageCache,
        budget: Budget,
        due: Callable[[], Iterable[float]],
        *,
        minimize: bool,
    ) -> None:
        self._trials, self._staged = trials, staged
        self._paths, self._cache = paths, cache
        self._budget, self._due = budget, due
        self._sign = -1.0 if minimize else 1.0

    @property
    def space(self) -> Space:
        """The space of all hyper-parameters."""
        return self._trials.pipeline.cube

    @property
    def columns(self) -> Sequence[Sequence[int]]:
        """For each stage, the columns of its hyper-parameters."""
        return self._trials.pipeline.columns.of_stages

    @property
    def trained(self) -> int:
        """The index of the stage whose steps count."""
        return self._trials.pipeline.stages.index(counted_stages(self._trials.pipeline)[-1])

    @property
    def earlier(self) -> int:
        """How many of the configurations to come are those of earlier runs."""
        return self._staged.earlier

    @property
    def takes_orders(self) -> bool:
        """Whether the tuner's method learns, so that a model of the curves may stand in for it."""
        sampler = self._trials.study.sampler
        return isinstance(sampler, EEIPUSampler) and sampler.method.score is not None

    def order(self, params: Config) -> None:
        """Let the next new trial have this configuration."""
        sampler = self._trials.study.sampler
        assert isinstance(sampler, EEIPUSampler)
        sampler.ordered = dict(params)

    def values(self, trial: int) -> dict[int, float]:
        """The values that a trial has already, by step; larger is better."""
        return {step: self._sign * value for step, value in self._staged[trial].curve.items()}

    def has_failed(self, trial: int) -> bool:
        """Whether a trial has failed already."""
        return self._staged[trial].has_failed

    def costs(self, trial: int) -> list[float | None]:
        """What the stages of a trial have cost, the trained one for each step."""
        by_step = self._staged[trial].costs
        if not by_step:
            return []
        step = max(map(int, by_step))
        costs = list(by_step[str(step)])
        whole = costs[self.trained]
        costs[self.trained] = None if whole is None else whole / step
        return costs

    def made(self, params: Config) -> tuple[int, int]:
        """How many stages have kept outputs, and the step from which there is a checkpoint."""
        path = self._paths(params, self._paths.steps)
        names = self._trials.pipeline.stage_names
        trained = next(s for s in path.stretches if s.call.stage == names[self.trained])
        steps = sorted({int(step) for mine in self._staged for step in mine.costs}, reverse=True)
        for step in steps:
            if step < self._paths.steps and path.key(trained.origin + step) in self._cache:
                return self.trained, step
        ends = {s.call.stage: s.stop for s in path.stretches if s.stop <= trained.origin}
        for k in reversed(range(self.trained)):
            if path.key(ends[names[k]]) in self._cache:
                return k + 1, 0
        return 0, 0

    def remaining(self) -> float:
        """What is left of the budget when all that runs has ended."""
        if not self._budget.is_limited:
            return math.inf
        return self._budget.remaining(math.fsum([self._trials.spent, *self._due()]))
