"""Which configuration to recommend: the one that the models believe to be best.

Where values scatter, the best value of many is a lucky one. The models predict the value of each
configuration from all trials, and among those that have run the one with the highest mean is
recommended. Where two models count, it is the mean of their mixture
(`eeipu.methods.search_models`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.errors import ConfigurationError
from eeipu.methods.history import History
from eeipu.methods.search_models import SearchModels
from eeipu.models.improvement import WeighedChain
from eeipu.models.objective import ObjectiveModel

__all__ = ["Recommendation", "best_believed"]


@dataclass(frozen=True)
class Recommendation:
    """The configuration that the models believe to be best, among those that have run.

    Attributes:
        params: The configuration, `"stage.param"` -> value.
        number: The number of its best trial, for `Tuner.best_run(..., number=...)`.
        mean: The value that the models expect of it, without noise.
        std: The standard deviation of this prediction.
        values: What its trials gave, one value for each time that it ran.
    """

    params: Mapping[str, Any]
    number: int
    mean: float
    std: float
    values: tuple[float, ...]


def best_believed(models: SearchModels) -> Recommendation:
    """The configuration with the highest mean, among those that ran and are within all limits.

    Args:
        models: The models of a history of trials.

    Raises:
        ConfigurationError: There are several objectives, or no trial within all limits has a value.
    """
    history = models.history
    if history.objectives.are_several:
        raise ConfigurationError(
            "with several objectives no configuration is the best one; choose one of "
            "study.best_trials."
        )
    rows = np.flatnonzero(history.feasible)
    if not len(rows):
        raise ConfigurationError(
            "no trial that is within all limits has a value yet; call run(...) first."
        )
    objective, weighed = models.objective, models.weighed_chain  # fitted with gradients
    with torch.no_grad():
        mean, std = _moments(objective, weighed, history, rows)
    best = int(mean.argmax())
    identities = history.ledger.arrays.identities(history.ended)
    same = [history.ended[i] for i in rows if identities[i] == identities[rows[best]]]
    trial = max(same, key=lambda each: history.sign * each.values[0])
    cube = history.pipeline.cube
    params = {name: trial.params[name] for name in history.pipeline.space}
    in_units = models.standard.in_units(mean[best], std[best])
    return Recommendation(
        params=cube.conditions.active(params),
        number=trial.number,
        mean=in_units[0].item(),
        std=in_units[1].item(),
        values=tuple(each.values[0] for each in same),
    )


def _moments(
    objective: ObjectiveModel,
    weighed: WeighedChain | None,
    history: History,
    rows: NDArray[np.intp],
) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of both models together at configurations that ran, `n`.

    A best value is not taken at its word here, as it is for some of the trials of a search
    (`eeipu.models.objective`).

    Args:
        objective: The model of the objective.
        weighed: The model by way of what stages show, if it counts.
        history: The trials.
        rows: Which of them, `n`.
    """
    X = torch.from_numpy(history.X[rows])
    mean, variance = (part[0] for part in objective.likeliest.posterior(X))
    if weighed is None:
        return mean, variance.sqrt()
    all_known = torch.ones(len(rows), len(history.pipeline.stages), dtype=torch.bool)
    other, other_variance = weighed.chain.moments(X, all_known)
    share = weighed.share
    both = share * other + (1.0 - share) * mean
    square = share * (other_variance + other.square()) + (1.0 - share) * (variance + mean.square())
    return both, (square - both.square()).clamp_min(0.0).sqrt()
