"""The probability that a trial succeeds: no stage fails, and outcomes keep their limits."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eeipu.methods.history import History
from eeipu.methods.learning.fits import Fits
from eeipu.methods.several_objectives.kept_limits import AllOf, Limit, OutcomeModel
from eeipu.models.feasibility import Cautious, FeasibilityModel, SuccessModel

__all__ = ["SuccessChances"]

# The exponent of the probability of success, where a failure costs as much as a success. Beside an
# edge that may be anywhere between a success and a failure, one step apart, a step of `s` gains
# `s (1 - s)^a` if values grow evenly towards it. That is most at `s = 1 / (1 + a)`, which is also
# the probability to fail: with 19 it is one trial in twenty, without an exponent every second one.
CAUTION = 19.0


@dataclass(frozen=True)
class SuccessChances:
    """The models of success that a history of trials supports.

    Attributes:
        history: The trials so far.
        fits: Where the fits start.
    """

    history: History
    fits: Fits

    @cached_property
    def feasibility(self) -> FeasibilityModel | None:
        """The probability that no stage fails; `None` if nothing has failed."""
        history = self.history
        failed, succeeded = history.objectives.failed, history.objectives.succeeded
        if not failed.any():
            return None
        rows = failed | succeeded
        return self.fits.get(
            "feasibility",
            lambda start, _: FeasibilityModel(
                history.X[rows],
                succeeded[rows],
                categorical=history.pipeline.cube.categorical_columns,
                start=start,
            ),
        )

    @cached_property
    def outcomes(self) -> OutcomeModel | None:
        """The probability that outcomes keep their limits; `None` if nothing is known of any."""
        history, pipeline = self.history, self.history.pipeline
        limited = zip(pipeline.outcome_constraints, history.outcomes.observed, strict=True)
        limits = [
            Limit(each.values, limit.limit, limit.is_upper, pipeline.columns.up_to(each.stage))
            for limit, each in limited
            if not np.isnan(each.values).all()
        ]
        if not limits:
            return None
        return self.fits.get(
            "outcomes",
            lambda start, _: OutcomeModel(
                history.X, limits, categorical=pipeline.cube.categorical_columns, start=start
            ),
        )

    @property
    def probability(self) -> SuccessModel | None:
        """The probability that no stage fails and outcomes keep limits; `None`: it is 1."""
        return self._both(self.feasibility)

    @property
    def success(self) -> SuccessModel | None:
        """What scores are multiplied by: `probability`, with the exponent of `_caution`."""
        feasibility = self.feasibility
        if feasibility is None:
            return self._both(None)
        return self._both(Cautious(feasibility, self._caution(feasibility)))

    def _caution(self, feasibility: FeasibilityModel) -> float:
        """The exponent of the probability that no stage fails, from 1 to `CAUTION`.

        It grows with what the model explains of the failures: nothing is gained by keeping away
        from places where there was bad luck. A failure in an early stage costs less than a success,
        and is worth less caution.
        """
        objectives = self.history.objectives
        paid = [float(trial.user_attrs.get("charged") or 0.0) for trial in self.history.ended]
        charged = np.array(paid)
        of_failures = charged[objectives.failed].mean()
        of_successes = charged[objectives.succeeded].mean() if objectives.succeeded.any() else 0.0
        share = min(1.0, of_failures / of_successes) if of_successes > 0 else 1.0
        return float(1.0 + (CAUTION - 1.0) * share * feasibility.explained)

    def _both(self, no_failure: SuccessModel | None) -> SuccessModel | None:
        models = [model for model in (no_failure, self.outcomes) if model is not None]
        return AllOf(models) if len(models) > 1 else next(iter(models), None)
