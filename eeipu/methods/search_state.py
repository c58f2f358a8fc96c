"""What a method may look at when it chooses: the trials, the budget, and models of both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.trial import TrialState
from torch import Tensor

from eeipu.cost_models import Inputs, StageCostModel
from eeipu.methods.budget import Budget
from eeipu.methods.history import History
from eeipu.models.objective import ObjectiveModel

__all__ = ["Search"]

Array = NDArray[np.float64]

# A reused stage is taken to cost at least so much of a stage's mean cost: 1 / C of a candidate that
# is all but free must not outweigh everything else.
LEAST_LOAD_SHARE = 1e-2


@dataclass(frozen=True)
class Search:
    """The state of a search. Models are fitted on first use.

    Attributes:
        history: The trials so far.
        budget: What all trials together may cost.
        n_initial: Trials of the warm-up.
        number: The trial's that is to begin.
        seed: Fixes what is random.
        warm_start: `fitted` of an earlier search, to start the fits of the models from.
        device: Where to fit them; `None`: what is faster.
    """

    history: History
    budget: Budget
    n_initial: int
    number: int
    seed: int
    warm_start: Mapping[str, Tensor] = field(default_factory=dict)
    device: torch.device | None = None

    @property
    def trial_seed(self) -> int:
        """A seed for this trial alone, the same in a study that is resumed."""
        return int(np.random.SeedSequence([self.seed, self.number]).generate_state(1)[0])

    def random(self, number: int, purpose: int) -> np.random.Generator:
        """Random numbers of a trial, this one or an earlier one; purposes are independent."""
        return np.random.default_rng([self.seed, number, purpose])

    @property
    def remaining(self) -> float:
        """What is left of the budget; never negative."""
        return self.budget.remaining(self.history.spent)

    @cached_property
    def uncommitted(self) -> float:
        """What is left of the budget after running trials, as far as their costs are foreseen."""
        if self.X_pending is None:
            return self.remaining
        mean, _ = self.costs.log_cost_posterior(self.X_pending)
        charged = [trial.user_attrs.get("charged") or 0.0 for trial in self.history.running]
        foreseen = mean.exp().sum(-1).numpy() - np.array(charged)
        return max(0.0, self.remaining - float(foreseen.clip(0.0).sum()))

    @cached_property
    def cooling(self) -> float:
        """eta: the share of the budget after warm-up that is left, in `[0, 1]`."""
        return self.share_left(self.history.spent_by(self.n_initial))

    def share_left(self, spent_at_first: float) -> float:
        """The share that is left of the budget without what was spent at first, in `[0, 1]`."""
        rest = self.budget.total - spent_at_first
        return min(1.0, self.remaining / rest) if rest > 0 else 0.0

    @cached_property
    def values(self) -> Array:
        """The objective values, maximised, with 0 at their median and 1 at the best, `n`."""
        standard: Array = (self.history.values - np.nanmedian(self.history.values)) / self.unit
        return standard

    @cached_property
    def unit(self) -> float:
        """How much of the objective is 1 in `values`."""
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
    def believer(self) -> ObjectiveModel:
        """The model of `values` that takes its means for what running trials will give.

        For scores that have no way of their own to count running trials.
        """
        if self.X_pending is None:
            return self.objective
        return self.objective.believing(self.X_pending)

    @cached_property
    def costs(self) -> StageCostModel:
        """The stages' log costs."""
        return self.costs_from("chosen", self.warm_start.get("costs"))

    def costs_from(self, inputs: Inputs, start: Tensor | None = None) -> StageCostModel:
        """The stages' log costs, by models that see these inputs.

        Args:
            inputs: See `StageCostModel`.
            start: Hyper-parameters to go on from; `None`: the prior's.
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
        """The log cost of a whole trial, as of one stage."""
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
        """The hyper-parameters of the models that were used, to start the next fits from."""
        models = {name: self.__dict__.get(name) for name in ("objective", "costs", "total_cost")}
        found = {name: getattr(m, "hyperparameters", None) for name, m in models.items()}
        return {name: values for name, values in found.items() if values is not None}

    @cached_property
    def best_f(self) -> float:
        """The best of `values`, without its luck: see `ObjectiveModel`."""
        return self.objective.best_f

    @cached_property
    def X_pending(self) -> Tensor | None:  # noqa: N802
        """The configurations that are running, `m x d`; `None` where there are none."""
        running = self.history.running_X
        return torch.from_numpy(running) if len(running) else None

    @property
    def mean_cost(self) -> float:
        """What a trial costs on average, where nothing is reused."""
        known = self.history.total_costs
        mean = float(np.nanmean(known)) if np.isfinite(known).any() else 0.0
        return mean if mean > 0 else 1.0

    @cached_property
    def load_cost(self) -> float:
        """What a reused stage has been charged on average.

        Loading the deepest output serves all stages above it, so its time is shared among them.
        """
        loads, reused = 0.0, 0
        for trial in self.history.ended:
            attrs = trial.user_attrs
            if trial.state is TrialState.COMPLETE and any(attrs.get("memoized", ())):
                executed = sum(cost or 0.0 for cost in attrs["stage_costs"])
                loads += max(0.0, attrs["charged"] - executed)
                reused += sum(attrs["memoized"])
        return loads / max(reused, 1)

    @cached_property
    def memoized_cost(self) -> float:
        """What a reused stage is taken to cost: the load cost, and never nothing."""
        known = self.history.stage_costs[~np.isnan(self.history.stage_costs)]
        typical = float(known.mean()) if len(known) and known.any() else 1.0
        return max(self.load_cost, LEAST_LOAD_SHARE * typical)
