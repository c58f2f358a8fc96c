"""The rules by which a tuner stops trainings early: `Tuner(early_stopping=ASHA(min_steps=3))`.

A rule says how long configurations are trained, whatever their number and whoever chooses them. It
makes an algorithm of this room, which a run of the tuner tells its values and asks for moves.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Protocol, runtime_checkable

from eeipu.algorithms import freeze_thaw, halving, median_stopping
from eeipu.algorithms.configurations import Config
from eeipu.algorithms.full_training import FullTraining, StepByStep
from eeipu.algorithms.halving import Brackets, geometric_rungs
from eeipu.algorithms.moves import Algorithm, News, no_news
from eeipu.algorithms.population import PopulationBasedTraining
from eeipu.counts import counted
from eeipu.errors import ConfigurationError
from eeipu.space import Distribution

__all__ = [
    "ASHA",
    "EarlyStopping",
    "FreezeThaw",
    "Hyperband",
    "MedianStopping",
    "NoStopping",
    "PopulationBased",
    "Pruning",
    "Setting",
    "SuccessiveHalving",
]

# How many values a rule sees of a whole training, where the user does not say how often it looks.
# Each costs an evaluation and a checkpoint; twenty show the shape of a curve.
LOOKS = 20


@dataclass(frozen=True)
class Setting:
    """What a run of a tuner tells a rule.

    Attributes:
        configs: Yields a configuration whenever another trial may begin.
        steps: The number of steps of a whole training.
        concurrency: The number of trials that wait or run at the same time.
        space: The hyper-parameters that may change while a trial is trained.
        seed: Makes the rule's own choices repeatable.
        should_prune: The trial -> whether the study's pruner stops it now.
        known: What the tuner knows of its trials, for a rule with a model of its own.
        news: What has changed of the trials that other processes train, for rules that compare
            each trial with all others.
    """

    configs: Iterator[Config]
    steps: int
    concurrency: int
    space: Mapping[str, Distribution]
    seed: int | None
    should_prune: Callable[[int], bool]
    known: freeze_thaw.Known | None = None
    news: News = no_news


@runtime_checkable
class EarlyStopping(Protocol):
    """A rule."""

    def algorithm(self, setting: Setting) -> Algorithm:
        """The algorithm that follows the rule in one run.

        Raises:
            ConfigurationError: The rule does not fit the number of steps.
        """
        ...


@dataclass(frozen=True)
class NoStopping:
    """Every configuration is trained to the end, and what several have in common runs once."""

    def algorithm(self, setting: Setting) -> Algorithm:
        """See `EarlyStopping`."""
        return FullTraining(setting.configs, setting.steps, setting.concurrency)


@dataclass(frozen=True)
class ASHA:
    """Asynchronous successive halving: whoever is among the best at a rung goes on from there.

    Li et al. 2020, arXiv 1810.05934.

    Args:
        min_steps: No trial is stopped before this step. Rungs are the number of steps of a whole
            training, divided by powers of `reduction`.
        reduction: One in so many trials is trained to the next rung; above 1.
    """

    min_steps: int = 1
    reduction: float = 3.0

    def algorithm(self, setting: Setting) -> Algorithm:
        """See `EarlyStopping`."""
        rungs = _rungs(self.min_steps, setting.steps, self.reduction)
        return halving.ASHA(
            setting.configs, rungs, self.reduction, setting.concurrency, setting.news
        )


@dataclass(frozen=True)
class SuccessiveHalving:
    """Trials begin in brackets of equal size, and the best of each are trained on at every rung.

    Jamieson and Talwalkar 2016, arXiv 1502.07943.

    Args:
        min_steps: No trial is stopped before this step; see `ASHA`.
        reduction: One in so many trials of a bracket is trained to the next rung; above 1.
        trials: The number of trials in a bracket. `None`: so many that one is trained to the end.
    """

    min_steps: int = 1
    reduction: float = 3.0
    trials: int | None = None

    def algorithm(self, setting: Setting) -> Algorithm:
        """See `EarlyStopping`."""
        rungs = _rungs(self.min_steps, setting.steps, self.reduction)
        count = self.trials
        if count is None:
            count = math.ceil(self.reduction ** (len(rungs) - 1) - 1e-9)
        if count < 1:
            raise ConfigurationError(f"a bracket needs at least one trial, but got trials={count}.")
        shapes = cycle([(count, rungs)])
        return Brackets(setting.configs, shapes, self.reduction, setting.concurrency)


@dataclass(frozen=True)
class Hyperband:
    """Successive halving in brackets of several kinds: from many short trials to a few full ones.

    Li et al. 2018, arXiv 1603.06560, algorithm 1, one bracket after the other, again and again.

    Args:
        min_steps: No trial is stopped before this step; see `ASHA`.
        reduction: One in so many trials of a bracket is trained to the next rung; above 1.
    """

    min_steps: int = 1
    reduction: float = 3.0

    def algorithm(self, setting: Setting) -> Algorithm:
        """See `EarlyStopping`."""
        rungs, eta = _rungs(self.min_steps, setting.steps, self.reduction), self.reduction
        most = len(rungs) - 1
        shapes = [
            (math.ceil((most + 1) / (s + 1) * eta**s - 1e-9), rungs[most - s :])
            for s in range(most, -1, -1)
        ]
        return Brackets(setting.configs, cycle(shapes), eta, setting.concurrency)


@dataclass(frozen=True)
class MedianStopping:
    """A trial stops when its best value is below the median of the others' means up to its step.

    Golovin et al. 2017, "Google Vizier", section 3.2.2.

    Args:
        min_steps: No trial is stopped before this step.
        every: The number of steps between two looks at a trial. `None`: twenty looks at each.
    """

    min_steps: int = 1
    every: int | None = None

    def algorithm(self, setting: Setting) -> Algorithm:
        """See `EarlyStopping`."""
        _check_min_steps(self.min_steps, setting.steps, least=0)
        return median_stopping.MedianStopping(
            setting.configs,
            setting.steps,
            _every(self.every, setting.steps),
            self.min_steps,
            setting.concurrency,
            setting.news,
        )


@dataclass(frozen=True)
class Pruning:
    """A pruner of Optuna's stops trials, such as `optuna.pruners.PercentilePruner(25.0)`.

    Args:
        pruner: The pruner, an `optuna.pruners.BasePruner`.
        every: The number of steps between two reports to it. `None`: twenty reports a trial.
    """

    pruner: Any
    every: int | None = None

    def algorithm(self, setting: Setting) -> Algorithm:
        """See `EarlyStopping`."""
        return StepByStep(
            setting.configs,
            setting.steps,
            _every(self.every, setting.steps),
            setting.should_prune,
            setting.concurrency,
        )


@dataclass(frozen=True)
class FreezeThaw:
    """A model of learning curves decides: begin a trial, or go on with which stopped one, how far.

    After Swersky et al. 2014, arXiv 1406.3896; see `eeipu.methods.freeze_thaw`. It weighs what a
    training is expected to improve, per unit of what is left to pay for it; stages in front whose
    outputs are kept count as paid. With a method that learns, such as `"eeipu"`, it also chooses
    the configurations of new trials. Other methods choose these themselves. A quarter of the
    training goes by rank as with `ASHA`, so that a model that is wrong does not cost the search.

    Args:
        min_steps: No trial is stopped before this step.
        reduction: The model looks at each trial at the number of steps of a whole training, divided
            by powers of this; above 1. By rank, one in so many trials goes on to the next look.
    """

    min_steps: int = 1
    reduction: float = 2.0

    def algorithm(self, setting: Setting) -> Algorithm:
        """See `EarlyStopping`."""
        looks = _rungs(self.min_steps, setting.steps, self.reduction)
        return freeze_thaw.FreezeThaw(
            setting.configs,
            looks,
            self.reduction,
            setting.concurrency,
            setting.seed,
            setting.known,
            setting.news,
        )


@dataclass(frozen=True)
class PopulationBased:
    """Population-based training: after each round the worst members go on from the best ones.

    Jaderberg et al. 2017, arXiv 1711.09846. A trial is a member. A member that copies another one
    takes over all of its hyper-parameters, those of the other stages too. What they were, from
    which step on, is then in the user attribute `"schedules"`; the trial's parameters are those
    that it began with.

    Args:
        size: The number of members.
        every: The number of steps in a round. `None`: twenty rounds.
        share: The share of the members that copy, and that are copied; in (0, 0.5].
        factors: A member that copies another one multiplies each number by one of these.
    """

    size: int = 10
    every: int | None = None
    share: float = 0.25
    factors: Sequence[float] = (0.8, 1.2)

    def algorithm(self, setting: Setting) -> Algorithm:
        """See `EarlyStopping`."""
        if not self.factors or not all(factor > 0.0 for factor in self.factors):
            raise ConfigurationError(
                f"a member multiplies its numbers by one of factors, which must be positive, but "
                f"got factors={self.factors!r}."
            )
        return PopulationBasedTraining(
            list(islice(setting.configs, self.size)),
            setting.steps,
            _every(self.every, setting.steps),
            share=self.share,
            factors=self.factors,
            seed=setting.seed,
            space=setting.space,
        )


def _every(every: int | None, steps: int) -> int:
    """The number of steps between two looks.

    Raises:
        ConfigurationError: It is more than a whole training has, or less than one.
    """
    if every is None:
        return max(1, round(steps / LOOKS))
    if not 1 <= every <= steps:
        raise ConfigurationError(
            f"every must be in 1..{steps}, as a whole training has {counted(steps, 'step')}, but "
            f"got every={every!r}; leave it out for twenty looks at each trial."
        )
    return every


def _rungs(min_steps: int, steps: int, reduction: float) -> Sequence[int]:
    """The steps at which trials are compared.

    Raises:
        ConfigurationError: `min_steps` or `reduction` is out of range.
    """
    _check_min_steps(min_steps, steps)
    if not reduction > 1.0:
        raise ConfigurationError(
            f"one in so many trials goes on, so that reduction must be above 1, but got "
            f"reduction={reduction!r}."
        )
    return geometric_rungs(min_steps, steps, reduction)


def _check_min_steps(min_steps: int, steps: int, least: int = 1) -> None:
    if not least <= min_steps <= steps:
        raise ConfigurationError(
            f"min_steps must be in {least}..{steps}, as a whole training has "
            f"{counted(steps, 'step')}, but got min_steps={min_steps!r}."
        )
