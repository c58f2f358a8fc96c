"""The models of a search: the objective and the costs, each fitted when it is first used."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.cost_models import Inputs, StageCostModel
from eeipu.methods.history import History
from eeipu.methods.ledger import is_suspended
from eeipu.methods.several_objectives.kept_limits import AllOf, Limit, OutcomeModel
from eeipu.methods.transfer.earlier_trials import EarlierTrials
from eeipu.models.feasibility import FeasibilityModel, SuccessModel
from eeipu.models.improvement import WeighedChain
from eeipu.models.objective import ObjectiveModel, middle_value
from eeipu.models.observed_stages.chain import StageChain
from eeipu.models.observed_stages.increments import most_telling
from eeipu.models.observed_stages.shares import share_of_first

__all__ = ["Refits", "SearchModels"]

Array = NDArray[np.float64]

# Values cannot be worse than this: the square of a larger number may be infinite.
WORST = -1e100

# Failures are the rule where the probability of success is less than this. It is above a half,
# which is the probability at the border of a region that fails, and below the share of successes
# of a search whose failures are bad luck, unless nearly half of its trials are. One failure alone
# is no rule.
LIKELY = 0.6
LEAST_FAILURES = 2

# Models are fitted again when there are this many times as many trials as at the last fit: a few
# more change the hyper-parameters little. Until then the trials count with these as they are.
REFIT_GROWTH = 1.05

# A fit starts where the last one ended; but from the priors if there are this many times as many
# trials as when one last did, so that it cannot stay at a local optimum that early data led to.
AFRESH_GROWTH = 1.25


# A chain of stages that counts for less is not asked, and beside one that counts for more than the
# rest of 1 the objective's model is not: what little it would change is not worth the time.
LEAST_SHARE = 0.05

# Values above this, which `values` has below its middle as far as the best is above, are the same
# to all models, whether they compress worse ones or not.
COMPRESSED_BELOW = -1.0


class Refits:
    """When the models of a search are fitted again, and from where.

    It depends on how many trials have ended, not on which of several drivers asks.
    """

    def __init__(self) -> None:
        self._last: SearchModels | None = None
        self._trials = self._trials_afresh = 0

    def start(self, history: History) -> "tuple[Mapping[str, Tensor], SearchModels | None]":
        """`warm_start` and `grown_from` of the models of a history."""
        last = self._last
        if last is None or not _is_same_study(history, last.history):
            return {}, None
        if _has_grown(history, self._trials_afresh, AFRESH_GROWTH):
            return {}, None
        return last.fitted, None if _has_grown(history, self._trials, REFIT_GROWTH) else last

    @property
    def last(self) -> "SearchModels | None":
        """The models that were used last, without those that they have grown from."""
        return self._last

    def note(self, models: "SearchModels") -> None:
        """Go on from these models, which have been used, at the next fit."""
        if models.grown_from is None:
            self._trials = len(models.history)
        if not models.warm_start:
            self._trials_afresh = len(models.history)
        self._last = _let_go(models)
        others = models.__dict__.get("by_objective", ())[1:]
        if others:
            self._last.__dict__["by_objective"] = (self._last, *map(_let_go, others))


def _let_go(models: "SearchModels") -> "SearchModels":
    """The same models, without those that they have grown from."""
    last = replace(models, grown_from=None)
    last.__dict__.update({n: m for n, m in models.__dict__.items() if n in models.fitted})
    return last


def _is_same_study(history: History, earlier: History) -> bool:
    return bool(history.ended) and history.ended[:1] == earlier.ended[:1]


def _has_grown(history: History, trials: int, growth: float) -> bool:
    return not trials <= len(history) < growth * trials


@dataclass(frozen=True)
class SearchModels:
    """The models that a history of trials supports.

    Attributes:
        history: The trials so far.
        warm_start: `fitted` of earlier models, where the fits start.
        grown_from: The models of fewer of these trials, if their hyper-parameters are still good
            enough: those that have been used there are not fitted again.
        device: Where to fit; `None`: whichever device is faster.
        earlier: What earlier studies know; `None`: there are none to learn from.
    """

    history: History
    warm_start: Mapping[str, Tensor] = field(default_factory=dict)
    grown_from: "SearchModels | None" = None
    device: torch.device | None = None
    earlier: EarlierTrials | None = None

    @cached_property
    def points(self) -> Array:
        """The configurations that models learn from, those of earlier studies first."""
        X = self.history.X
        return X if self.earlier is None else self.earlier.followed_by(X)

    @property
    def _borrowed(self) -> dict[str, Any]:
        """What models are told of the trials of earlier studies, which come first."""
        if self.earlier is None:
            return {"focus": self.focus}
        count, columns = len(self.earlier), range(self.history.X.shape[1], self.points.shape[1])
        focus = [count + row for row in self.focus]
        return {"focus": focus, "borrowed": count, "study_columns": list(columns)}

    @cached_property
    def focus(self) -> tuple[int, ...]:
        """The trials that succeeded, best first: the models must be right about the best of them.

        It matters if there are too many trials for all to count alike.
        """
        return tuple(self.history.best_first.tolist())

    @cached_property
    def values(self) -> Array:
        """The objective values, maximised, with 0 at their middle and 1 at the best, `n`.

        Those of pruned trials are guesses; see `History.estimates`. One that reported nothing
        counts as the worst value, since its user has found it to be no good; but one that was
        suspended is NaN: what it has shown says how good it is. A failure counts as the worst value
        where failures are the rule, which keeps the search away from a region that fails. Any
        other failure is NaN, as it may have been bad luck.
        """
        middle = middle_value(self.history.values)
        with np.errstate(over="ignore"):
            standard: Array = (self.history.estimates - middle) / self.unit
        failed = self.history.failed
        suspended = np.array([is_suspended(t) for t in self.history.ended], dtype=np.bool_)
        standard[~failed & ~suspended & np.isnan(standard)] = np.nanmin(standard)
        if self.feasibility is not None and failed.sum() >= LEAST_FAILURES:
            chance = self.feasibility.log_probability(torch.from_numpy(self.history.X)).exp()
            standard[failed & (chance.numpy() < LIKELY)] = np.nanmin(standard)
        return np.maximum(standard, WORST)

    @cached_property
    def unit(self) -> float:
        """The scale of `values`: how many objective units correspond to 1."""
        values = self.history.values
        middle = middle_value(values)
        # More than half of the values may equal the best.
        spans = [float(np.nanmax(values) - middle), float(middle - np.nanmin(values)), 1.0]
        return next(span for span in spans if span > 0)

    @cached_property
    def objective(self) -> ObjectiveModel:
        """The model of `values`."""
        pipeline, values = self.history.pipeline, self.values
        if self.earlier is not None:
            values = np.concatenate([self.earlier.values[:, self.history.objective], values])
        return ObjectiveModel(
            self.points,
            values,
            pipeline.own_columns,
            categorical=pipeline.cube.categorical_columns,
            start=self.warm_start.get("objective"),
            grown_from=self._grown("objective"),
            device=self.device,
            **self._borrowed,
        )

    @cached_property
    def by_objective(self) -> "tuple[SearchModels, ...]":
        """The models of each objective: these, and those of the others, where there are several."""
        count = len(self.history.are_minimized)
        return (self, *(self._of_objective(k) for k in range(1, count)))

    def _of_objective(self, k: int) -> "SearchModels":
        name, earlier = f"objective {k}", self._grown("by_objective")
        start = {"objective": self.warm_start[name]} if name in self.warm_start else {}
        models = SearchModels(
            replace(self.history, objective=k),
            start,
            None if earlier is None else earlier[k],
            self.device,
            self.earlier,
        )
        models.__dict__["feasibility"] = self.feasibility  # which is that of trials, not of values
        return models

    @cached_property
    def chain(self) -> StageChain | None:
        """The model of `values` by way of what stages show; `None` where they show nothing.

        Nor is there one for pipelines with alternatives, in which what a stage shows depends on
        which one was run; nor where outcomes have limits, as its best value does not know them; nor
        where the objective's model learns from earlier studies, which it would have to beat.
        """
        history, pipeline = self.history, self.history.pipeline
        is_plain = not (pipeline.layout.places or pipeline.outcome_constraints or self.earlier)
        if not (is_plain and history.observations):
            return None
        leading = set(pipeline.graph.ancestors[-1])
        sign = -1.0 if history.is_minimized else 1.0
        shown = [each for each in history.observations.values() if each.stage in leading]
        numbers = [(each.stage, sign * each.values) for each in shown]
        observed = most_telling(numbers, self.values, self.unit)
        if not observed:
            return None
        return StageChain(
            history.X,
            self.values,
            observed,
            pipeline.own_columns,
            pipeline.graph.upstream,
            categorical=pipeline.cube.categorical_columns,
            start=self.warm_start.get("chain"),
            grown_from=self._grown("chain"),
            focus=self.focus,
            device=self.device,
        )

    @cached_property
    def weighed_chain(self) -> WeighedChain | None:
        """`chain`, if it counts beside `objective`: by how well both predict left-out values."""
        if self.chain is None:
            return None
        share = share_of_first(
            torch.from_numpy(self.values),
            self.chain.left_out(),
            self.objective.left_out(),
            COMPRESSED_BELOW,
        )
        if share < LEAST_SHARE:
            return None
        return WeighedChain(self.chain, 1.0 if share > 1.0 - LEAST_SHARE else share)

    @property
    def leading(self) -> ObjectiveModel | StageChain:
        """Of `objective` and `chain`, the one that counts more."""
        weighed = self.weighed_chain
        return self.objective if weighed is None or weighed.share <= 0.5 else weighed.chain

    def best_of(self, model: ObjectiveModel | StageChain) -> float:
        """The best value as one of the models of it knows it; that of `objective` is `best_f`."""
        return self.best_f if model is self.objective else model.best_f

    @cached_property
    def best_f(self) -> float:
        """The best of `values` within all limits, corrected for luck; see `ObjectiveModel`.

        While no trial is within all limits, everything above the worst value is an improvement.
        """
        history = self.history
        if history.feasible.sum() == history.succeeded.sum():
            return self.objective.best_f
        counts = history.feasible if history.feasible.any() else history.succeeded
        mean, _ = self.objective.gp.posterior(torch.from_numpy(history.X[counts]))
        return float(mean.max() if history.feasible.any() else mean.min())

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
    def outcomes(self) -> OutcomeModel | None:
        """The probability that outcomes keep their limits; `None` if nothing is known of any."""
        history, pipeline = self.history, self.history.pipeline
        limits = [
            Limit(each.values, limit.limit, limit.is_upper, pipeline.columns_up_to(each.stage))
            for limit, each in zip(pipeline.outcome_constraints, history.outcomes, strict=True)
            if not np.isnan(each.values).all()
        ]
        if not limits:
            return None
        return OutcomeModel(
            history.X,
            limits,
            categorical=pipeline.cube.categorical_columns,
            start=self.warm_start.get("outcomes"),
        )

    @property
    def success(self) -> SuccessModel | None:
        """The probability that no stage fails and all limits are kept; `None`: it is 1."""
        models = [model for model in (self.feasibility, self.outcomes) if model is not None]
        return AllOf(models) if len(models) > 1 else next(iter(models), None)

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
        pipeline, costs = self.history.pipeline, self.history.stage_costs
        if self.earlier is not None:
            costs = np.concatenate([self.earlier.stage_costs, costs])
        return StageCostModel(
            torch.from_numpy(self.points),
            torch.from_numpy(costs),
            pipeline.own_columns,
            categorical=pipeline.cube.categorical_columns,
            inputs=inputs,
            upstream=pipeline.graph.ancestors,
            declared=self._declared,
            start=start,
            grown_from=None if start is None else self._grown("costs"),
            device=self.device,
            **self._borrowed,
        )

    @property
    def _declared(self) -> list[int]:
        """The indices of the stages whose costs are declared."""
        stages = self.history.pipeline.stages
        return [k for k, stage in enumerate(stages) if stage.cost is not None]

    @cached_property
    def total_cost(self) -> StageCostModel:
        """The model of a whole trial's log cost, as if the trial were one stage."""
        return StageCostModel(
            torch.from_numpy(self.history.X),
            torch.from_numpy(self.history.total_costs[:, None]),
            [range(self.history.X.shape[1])],
            categorical=self.history.pipeline.cube.categorical_columns,
            declared=range(bool(self._declared)),
            start=self.warm_start.get("total_cost"),
            grown_from=self._grown("total_cost"),
            focus=self.focus,
            device=self.device,
        )

    def _grown(self, name: str) -> Any:
        """A model of fewer trials, if there is one."""
        return None if self.grown_from is None else self.grown_from.__dict__.get(name)

    @property
    def fitted(self) -> dict[str, Tensor]:
        """The hyper-parameters of the models that have been used, to start the next fits from."""
        names = ("objective", "chain", "feasibility", "outcomes", "costs", "total_cost")
        models = {name: self.__dict__.get(name) for name in names}
        found = {name: getattr(m, "hyperparameters", None) for name, m in models.items()}
        for k, other in enumerate(self.__dict__.get("by_objective", ())[1:], start=1):
            found[f"objective {k}"] = other.fitted.get("objective")
        return {name: values for name, values in found.items() if values is not None}
