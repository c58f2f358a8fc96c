"""The methods that a tuner knows by name: what each maximises, and under which prefixes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction, LogExpectedImprovement
from optuna.trial import TrialState
from torch import Tensor

from eeipu.acquisition import DEFAULT_MEMOIZED_COST, LogEEIPU
from eeipu.candidates import Score
from eeipu.cost_models import SMALLEST_COST, StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.history import History
from eeipu.surrogate import ObjectiveModel

__all__ = ["METHODS", "Method", "Search", "method_named"]

# A reused stage is taken to cost at least so much of an executed one, where loading is charged
# nothing: 1 / C of a candidate that is all but free must not outweigh everything else.
LEAST_LOAD_SHARE = 1e-2

# Gridded random search: with five values a parameter, a prefix of one parameter repeats in every
# fifth trial, and one of two in every twenty-fifth.
RANDOM_GRID_LEVELS = 5


@dataclass(frozen=True)
class Search:
    """What a method may look at when it scores candidates. Models are fitted on first use.

    Attributes:
        history: The trials so far.
        cooling: The share of the budget after warm-up that is left, in `[0, 1]`.
        seed: Fixes what is random.
        warm_start: `fitted` of an earlier search, to start the fits of the models from.
    """

    history: History
    cooling: float
    seed: int
    warm_start: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def objective(self) -> ObjectiveModel:
        """The model of the objective, maximised."""
        pipeline = self.history.pipeline
        return ObjectiveModel(
            self.history.X,
            self.history.values,
            pipeline.stage_columns,
            categorical=pipeline.cube.categorical_columns,
            pending=self.history.running_X,
            start=self.warm_start.get("objective"),
        )

    @cached_property
    def costs(self) -> StageCostModel:
        """The stages' log costs."""
        pipeline = self.history.pipeline
        return StageCostModel(
            torch.from_numpy(self.history.X),
            torch.from_numpy(self.history.stage_costs),
            pipeline.stage_columns,
            categorical=pipeline.cube.categorical_columns,
            start=self.warm_start.get("costs"),
        )

    @cached_property
    def total_cost(self) -> StageCostModel:
        """The log cost of a whole trial, as of one stage, from trials that ran all stages."""
        return StageCostModel(
            torch.from_numpy(self.history.X),
            torch.from_numpy(self.history.stage_costs.sum(axis=1, keepdims=True)),
            [range(self.history.X.shape[1])],
            categorical=self.history.pipeline.cube.categorical_columns,
        )

    @property
    def fitted(self) -> dict[str, Tensor]:
        """The hyper-parameters of the models that were used, to start the next fits from."""
        models = {name: self.__dict__.get(name) for name in ("objective", "costs")}
        found = {name: getattr(m, "hyperparameters", None) for name, m in models.items()}
        return {name: values for name, values in found.items() if values is not None}

    @cached_property
    def best_f(self) -> float:
        """The best value so far."""
        return float(np.nanmax(self.history.values))


@dataclass(frozen=True)
class Method:
    """A way to choose the next configuration.

    Attributes:
        name: What the user calls it.
        score: From a search to the score of its candidates; `None`: choose at random.
        uses_prefixes: Whether candidates that share kept prefixes are searched for.
        levels: Where it chooses at random: at most so many values of each parameter, so that
            prefixes repeat by themselves. `None`: all values.
    """

    name: str
    score: Callable[[Search], Score] | None
    uses_prefixes: bool = False
    levels: int | None = None


def _eeipu(search: Search, memoized_cost: Callable[[History], float]) -> Score:
    return LogEEIPU(
        search.objective,
        search.costs,
        search.best_f,
        memoized_cost=memoized_cost(search.history),
        cooling=search.cooling,
        seed=search.seed,
    ).score


def _published_cost(history: History) -> float:  # noqa: ARG001 - a constant
    return DEFAULT_MEMOIZED_COST


def _load_cost(history: History) -> float:
    """What a reused stage has been charged on average, and never nothing.

    Loading the deepest output serves all stages above it, so its time is shared among them.
    """
    loads, reused = 0.0, 0
    for trial in history.ended:
        attrs = trial.user_attrs
        if trial.state is TrialState.COMPLETE and any(attrs.get("memoized", ())):
            executed = sum(cost or 0.0 for cost in attrs["stage_costs"])
            loads += max(0.0, attrs["charged"] - executed)
            reused += sum(attrs["memoized"])
    known = history.stage_costs[~np.isnan(history.stage_costs)]
    typical = float(known.mean()) if len(known) else 1.0
    return max(loads / max(reused, 1), LEAST_LOAD_SHARE * typical, SMALLEST_COST)


def _cost_blind(search: Search) -> Score:
    return _without_memory(LogExpectedImprovement(search.objective, search.best_f))


def _cost_aware(search: Search, *, cooled: bool, one_model: bool) -> Score:
    """EI times a power of the expected inverse cost, blind to what is memoized."""
    return _without_memory(
        LogEEIPU(
            search.objective,
            search.total_cost if one_model else search.costs,
            search.best_f,
            cooling=search.cooling if cooled else 1.0,
            seed=search.seed,
        )
    )


def _without_memory(acquisition: AcquisitionFunction) -> Score:
    def score(X: Tensor, memoized: Tensor) -> Tensor:  # noqa: ARG001 - that is the point
        values: Tensor = acquisition(X)
        return values

    return score


METHODS = {
    method.name: method
    for method in (
        Method("eeipu", partial(_eeipu, memoized_cost=_load_cost), uses_prefixes=True),
        Method("eeipu-paper", partial(_eeipu, memoized_cost=_published_cost), uses_prefixes=True),
        Method("ei", _cost_blind),
        Method("eips", partial(_cost_aware, cooled=False, one_model=True)),
        Method("ms-carbo", partial(_cost_aware, cooled=True, one_model=False)),
        Method("random", None),
        Method("random-grid", None, levels=RANDOM_GRID_LEVELS),
    )
}


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigurationError: There is none.
    """
    if name not in METHODS:
        raise ConfigurationError(
            f"there is no method {name!r}; choose one of {sorted(METHODS)}, or pass an "
            f"optuna.samplers.BaseSampler."
        )
    return METHODS[name]
