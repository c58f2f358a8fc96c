"""The probability that a trial succeeds: no stage fails, and outcomes keep their limits."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eeipu.methods.history import History
from eeipu.methods.learning.fits import Fits
from eeipu.methods.several_objectives.kept_limits import AllOf, Limit, OutcomeModel
from eeipu.models.feasibility import FeasibilityModel, SuccessModel

__all__ = ["SuccessChances"]


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
    def success(self) -> SuccessModel | None:
        """The probability of both; `None`: it is 1."""
        models = [model for model in (self.feasibility, self.outcomes) if model is not None]
        return AllOf(models) if len(models) > 1 else next(iter(models), None)
