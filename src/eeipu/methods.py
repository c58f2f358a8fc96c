"""The methods that a tuner knows by name: what each maximises, and under which prefixes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from botorch.acquisition import LogExpectedImprovement
from torch import Tensor

from eeipu.acquisition import DEFAULT_MEMOIZED_COST, LogEEIPU
from eeipu.candidates import Score
from eeipu.cost_models import StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.history import History
from eeipu.surrogate import ObjectiveModel

__all__ = ["METHODS", "Method", "Search", "method_named"]


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
    """

    name: str
    score: Callable[[Search], Score] | None
    uses_prefixes: bool = False


def _eeipu(search: Search, memoized_cost: float) -> Score:
    acquisition = LogEEIPU(
        search.objective,
        search.costs,
        search.best_f,
        memoized_cost=memoized_cost,
        cooling=search.cooling,
        seed=search.seed,
    )
    return acquisition.score


def _ei(search: Search) -> Score:
    acquisition = LogExpectedImprovement(search.objective, search.best_f)

    def score(X: Tensor, memoized: Tensor) -> Tensor:  # noqa: ARG001 - blind to costs
        values: Tensor = acquisition(X)
        return values

    return score


METHODS = {
    method.name: method
    for method in (
        Method("eeipu", partial(_eeipu, memoized_cost=DEFAULT_MEMOIZED_COST), True),
        Method("eeipu-paper", partial(_eeipu, memoized_cost=DEFAULT_MEMOIZED_COST), True),
        Method("ei", _ei),
        Method("random", None),
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
