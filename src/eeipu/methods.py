"""The methods that a tuner knows by name: what each maximises, and under which prefixes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate

import numpy as np
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.models import SingleTaskGP
from torch import Tensor

from eeipu.acquisition import DEFAULT_MEMOIZED_COST, LogEEIPU
from eeipu.candidates import Score
from eeipu.cost_models import StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.history import History
from eeipu.surrogate import fit_objective

__all__ = ["METHODS", "Method", "Search", "method_named"]


@dataclass(frozen=True)
class Search:
    """What a method may look at when it scores candidates. Models are fitted on first use.

    Attributes:
        history: The trials so far.
        cooling: The share of the budget after warm-up that is left, in `[0, 1]`.
        seed: Fixes what is random.
    """

    history: History
    cooling: float
    seed: int

    @cached_property
    def objective(self) -> SingleTaskGP:
        """The GP of the objective, maximised."""
        columns = self.history.pipeline.cube.categorical_columns
        return fit_objective(self.history.X, self.history.values, columns)

    @cached_property
    def costs(self) -> StageCostModel:
        """The stages' log costs, each from its own and all upstream hyper-parameters."""
        pipeline = self.history.pipeline
        return StageCostModel(
            torch.from_numpy(self.history.X),
            torch.from_numpy(self.history.stage_costs),
            list(accumulate(list(columns) for columns in pipeline.stage_columns)),
            categorical=pipeline.cube.categorical_columns,
        )

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
