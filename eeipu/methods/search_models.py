"""The models of a search: the objective and the costs, each fitted when it is first used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.cost_models import Inputs, StageCostModel
from eeipu.methods.history import History
from eeipu.models.feasibility import FeasibilityModel
from eeipu.models.objective import ObjectiveModel

__all__ = ["SearchModels"]

Array = NDArray[np.float64]

# Failures are the rule where the probability of success is less than this. It is above a half,
# which is the probability at the border of a region that fails, and below the share of successes
# of a search whose failures are bad luck, unless nearly half of its trials are. One failure alone
# is no rule.
LIKELY = 0.6
LEAST_FAILURES = 2


@dataclass(frozen=True)
class SearchModels:
    """The models that a history of trials supports.

    Attributes:
        history: The trials so far.
        warm_start: `fitted` of earlier models, where the fits start.
        device: Where to fit; `None`: whichever device is faster.
    """

    history: History
    warm_start: Mapping[str, Tensor] = field(default_factory=dict)
    device: torch.device | None = None

    @cached_property
    def values(self) -> Array:
        """The objective values, maximised, with 0 at their median and 1 at the best, `n`.

        Those of pruned trials are guesses; see `History.estimates`. A failure where failures are
        the rule counts as the worst value, which keeps the search away from a region that fails.
        Any other is NaN, as it may have been bad luck.
        """
        middle = np.nanmedian(self.history.values)
        standard: Array = (self.history.estimates - middle) / self.unit
        failed = self.history.failed
        if self.feasibility is not None and failed.sum() >= LEAST_FAILURES:
            chance = self.feasibility.log_probability(torch.from_numpy(self.history.X)).exp()
            standard[failed & (chance.numpy() < LIKELY)] = np.nanmin(standard)
        return standard

    @cached_property
    def unit(self) -> float:
        """The scale of `values`: how many objective units correspond to 1."""
        values = self.history.values
        middle = np.nanmedian(values)
        # More than half of the values may equal the best.
        spans = [float(np.nanmax(values) - middle), float(middle - np.nanmin(values)), 1.0]
        return next(span for span in spans if span > 0)

    @cached_property
    def objective(self) -> ObjectiveModel:
        """The model of `values`."""
        pipeline = self.history.pipeline
        return ObjectiveModel(
            self.history.X,
            self.values,
            pipeline.stage_columns,
            categorical=pipeline.cube.categorical_columns,
            start=self.warm_start.get("objective"),
            device=self.device,
        )

    @cached_property
    def best_f(self) -> float:
        """The best of `values`, corrected for luck; see `ObjectiveModel`."""
        return self.objective.best_f

    @cached_property
    def believer(self) -> ObjectiveModel:
        """The model of `values` that assumes that running trials will give its means.

        It is for scores that have no way of their own to account for running trials.
        """
        running = self.history.running_X
        if len(running) == 0:
            return self.objective
        return self.objective.believing(torch.from_numpy(running))

    @cached_property
    def feasibility(self) -> FeasibilityModel | None:
        """The probability that a configuration succeeds; `None` if nothing has failed."""
        history = self.history
        failed, succeeded = history.failed, history.succeeded
        if not failed.any():
            return None
        rows = failed | succeeded
        return FeasibilityModel(
            history.X[rows],
            succeeded[rows],
            categorical=history.pipeline.cube.categorical_columns,
            start=self.warm_start.get("feasibility"),
        )

    @cached_property
    def costs(self) -> StageCostModel:
        """The model of the stages' log costs."""
        return self.costs_from("chosen", self.warm_start.get("costs"))

    def costs_from(self, inputs: Inputs, start: Tensor | None = None) -> StageCostModel:
        """A model of the stages' log costs that depends on these inputs.

        Args:
            inputs: See `StageCostModel`.
            start: Hyper-parameters to start the fit from; `None`: the prior's.
        """
        pipeline = self.history.pipeline
        return StageCostModel(
            torch.from_numpy(self.history.X),
            torch.from_numpy(self.history.stage_costs),
            pipeline.stage_columns,
            categorical=pipeline.cube.categorical_columns,
            inputs=inputs,
            start=start,
            device=self.device,
        )

    @cached_property
    def total_cost(self) -> StageCostModel:
        """The model of a whole trial's log cost, as if the trial were one stage."""
        return StageCostModel(
            torch.from_numpy(self.history.X),
            torch.from_numpy(self.history.total_costs[:, None]),
            [range(self.history.X.shape[1])],
            categorical=self.history.pipeline.cube.categorical_columns,
            start=self.warm_start.get("total_cost"),
            device=self.device,
        )

    @property
    def fitted(self) -> dict[str, Tensor]:
        """The hyper-parameters of the models that have been used, to start the next fits from."""
        names = ("objective", "feasibility", "costs", "total_cost")
        models = {name: self.__dict__.get(name) for name in names}
        found = {name: getattr(m, "hyperparameters", None) for name, m in models.items()}
        return {name: values for name, values in found.items() if values is not None}
