"""The budget of a study: what its trials may cost together, and what they have cost so far.

Costs are seconds or, where stages declare their costs, the unit of those. A trial's cost is its
user attribute `"charged"`, which is written while it runs. It is the sum of what its stages cost,
of loading reused outputs (`"load_s"`), of looking at the run's inputs and keeping new outputs
(`"keep_s"`), and of choosing its configuration (`"overhead"`).

A run of the tuner can also be limited by time and by a number of trials, with a budget or without.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from eeipu.errors import ConfigurationError, PipelineError
from eeipu.pipeline import Pipeline

__all__ = [
    "PAID_BY",
    "STUDY_ID",
    "Budget",
    "RunBounds",
    "check_one_unit",
    "check_positive",
    "spent",
]


def check_one_unit(pipeline: object) -> None:
    """Check that the costs of all stages have one unit, as they are added up and compared.

    Raises:
        PipelineError: Some stages declare their costs and others are measured; or it is no
            pipeline, but a list of stages, say.
    """
    if not isinstance(pipeline, Pipeline):
        given = type(pipeline).__name__
        raise PipelineError(f"pipeline must be a Pipeline([...]) of stages, but got a {given}.")
    declared = [stage.name for stage in pipeline.stages if stage.cost is not None]
    measured = [stage.name for stage in pipeline.stages if stage.cost is None]
    if declared and measured:
        raise PipelineError(
            f"the costs of the stages {declared} are declared, and those of {measured} would be "
            f"measured in seconds, so that they cannot be added up; declare the costs of all "
            f"stages with stage(cost=...), in seconds if they are known, or of none."
        )


# The user attribute of a trial that names the study that paid for it, and that of a study with this
# name.
PAID_BY, STUDY_ID = "study", "eeipu:id"


def spent(trials: Iterable[FrozenTrial], study_id: str | None = None) -> float:
    """What has been charged to the budget for these trials, including those that still run.

    Args:
        trials: The trials.
        study_id: The study that pays. A trial that was added from another study costs it nothing.
            `None`: all count.
    """
    payers = (None, study_id)
    return math.fsum(
        trial.user_attrs.get("charged") or 0.0
        for trial in trials
        if study_id is None or trial.user_attrs.get(PAID_BY) in payers
    )


class RunBounds:
    """The time and the number of trials that one run of the tuner may take.

    Args:
        timeout_s: Seconds after which no further trial begins; `math.inf`: there is no such limit.
        max_trials: How many trials may begin; `None`: any number.
        clock: A clock that never goes back, in seconds. The run begins now.

    Attributes:
        begun: How many trials have begun.
    """

    def __init__(
        self,
        timeout_s: float = math.inf,
        max_trials: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.begun = 0
        self._last_begun_s = 0.0
        self._timeout_s = timeout_s
        self._max_trials = math.inf if max_trials is None else max_trials
        self._clock = clock
        self._began_s = clock()

    def count_trial(self) -> None:
        """Count a trial that begins."""
        self.begun += 1
        self._last_begun_s = self._elapsed_s

    @property
    def end_s(self) -> float:
        """When the time or the trials will be over, in seconds since the run began.

        Trials are expected to take as long as those before the last one; before the second one
        begins, their end is unknown, which is `math.inf`.
        """
        ended = self.begun - 1
        each_s = self._last_begun_s / ended if ended > 0 else math.inf
        return min(self._timeout_s, self._max_trials * each_s)

    @property
    def is_out_of_time(self) -> bool:
        """Whether the time is over."""
        return self._elapsed_s >= self._timeout_s

    @property
    def is_reached(self) -> bool:
        """Whether no further trial may begin."""
        return self.begun >= self._max_trials or self.is_out_of_time

    @property
    def share_left(self) -> float:
        """The share that is left of the time or of the trials, the smaller one, in `[0, 1]`."""
        used = (self._elapsed_s / self._timeout_s, self.begun / max(1, self._max_trials))
        return max(0.0, 1.0 - max(used))

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._began_s


@dataclass(eq=False)
class Budget:
    """What all trials of a study may cost together, and what else ends a run.

    The tuner makes one, and everything that asks about the budget is given that one.

    Attributes:
        total: The amount, positive; `math.inf` where no amount limits the study.
        overhead: What choosing a configuration is charged, in the unit of the costs. `None`: the
            seconds that a worker waited for it where costs are measured, and nothing where they are
            declared.
        timeout_s: After how many seconds a run begins no further trial; `math.inf`: never.
        bounds: The bounds of the run that goes on now; `None` while there is none.
    """

    total: float = math.inf
    overhead: float | None = None
    timeout_s: float = math.inf
    bounds: RunBounds | None = None

    @classmethod
    def of(cls, total: "float | Budget") -> "Budget":
        """Make a budget of a number; a budget is returned as it is.

        Raises:
            ConfigurationError: The number is not positive and finite.
        """
        return total if isinstance(total, Budget) else cls(_checked_total(total))

    @classmethod
    def given(cls, total: float | None, timeout: float | None, overhead: float | None) -> "Budget":
        """Make a budget of what a user has given; see `Tuner`.

        Raises:
            ConfigurationError: A number is out of range.
        """
        return cls(
            math.inf if total is None else _checked_total(total),
            None if overhead is None else _checked_overhead(overhead),
            math.inf if timeout is None else check_positive(timeout, "the timeout", "in seconds"),
        )

    @property
    def is_limited(self) -> bool:
        """Whether an amount limits the study."""
        return self.total < math.inf

    @property
    def ends(self) -> bool:
        """Whether every run ends, even if it may begin any number of trials."""
        return self.is_limited or self.timeout_s < math.inf

    def begin_run(
        self, max_trials: int | None, clock: Callable[[], float] = time.monotonic
    ) -> RunBounds:
        """Begin to count the time and the trials of a run, until `end_run`; see `RunBounds`."""
        self.bounds = RunBounds(self.timeout_s, max_trials, clock)
        return self.bounds

    def end_run(self) -> None:
        """Forget the bounds of the run that has ended."""
        self.bounds = None

    def remaining(self, spent: float) -> float:
        """What is left of the budget; never negative.

        Args:
            spent: What has been spent of it; see `spent`.
        """
        return max(0.0, self.total - spent)

    def is_spent(self, spent: float, due: Iterable[float] = ()) -> bool:
        """Whether nothing is left for another trial.

        Args:
            spent: What has been spent of the budget; see `spent`.
            due: The amounts that running trials are still expected to cost.
        """
        return math.fsum([spent, *due]) >= self.total

    def share_left(self, spent: float, spent_at_first: float) -> float:
        """The unspent share of the budget, not counting what was spent at first, in `[0, 1]`.

        Without an amount, it is the share that is left of the run's time or trials; outside of a
        run, nothing is known to end the search, and it is 1.

        Args:
            spent: What has been spent of the budget; see `spent`.
            spent_at_first: The part of this that was spent before the share begins to fall.
        """
        if not self.is_limited:
            return 1.0 if self.bounds is None else self.bounds.share_left
        rest = self.total - spent_at_first
        return min(1.0, self.remaining(spent) / rest) if rest > 0 else 0.0

    def charge_for_choice(self, waited_s: float, *, is_measured: bool) -> float:
        """What choosing a configuration is charged.

        Args:
            waited_s: The seconds during which at least one worker waited for it.
            is_measured: Whether costs are measured seconds.
        """
        if self.overhead is not None:
            return self.overhead
        return waited_s if is_measured else 0.0


def check_positive(value: object, what: str, unit: str) -> float:
    """A user's number as a float.

    Args:
        value: What the user gave.
        what: What it is, for the message.
        unit: Its unit, for the message.

    Raises:
        ConfigurationError: It is not a positive, finite number.
    """
    if _is_number(value) and 0 < (number := float(value)) < math.inf:  # type: ignore[arg-type]
        return number
    raise ConfigurationError(
        f"{what} must be a positive, finite number, {unit}, but got {value!r}."
    )


def _checked_total(value: object) -> float:
    return check_positive(value, "the budget", "in seconds or in the unit of the declared costs")


def _checked_overhead(value: object) -> float:
    if _is_number(value) and 0 <= (number := float(value)) < math.inf:  # type: ignore[arg-type]
        return number
    raise ConfigurationError(
        f"overhead must be a finite number that is not negative, in the unit of the costs, but got "
        f"{value!r}."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, float | int | np.number) and not isinstance(value, bool)
