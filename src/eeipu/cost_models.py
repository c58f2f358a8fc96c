"""One Gaussian process per stage on the logarithm of what the stage costs.

Notation:
    n: trials; d: hyper-parameters; K: stages.
    X: `n x d`, points of the unit cube.
    stage_costs: `n x K`, c_k; NaN where stage k was not executed.
    log c_k(x) ~ GP, so that costs are positive and lognormal under the posterior.

Costs are standardised per stage before they are fitted. A stage that was never executed has a
prior instead of a posterior: the mean of all other log costs, and a wide standard deviation.
"""

import math
from collections.abc import Sequence

import torch
from botorch.models import SingleTaskGP
from torch import Tensor

from eeipu.errors import ConfigurationError
from eeipu.surrogate import fit_gp

__all__ = ["StageCostModel"]

# Declared costs may be zero, of which there is no logarithm. One nanosecond, or as little of any
# other unit, is nothing beside a stage worth memoizing.
SMALLEST_COST = 1e-9

# The standard deviation of the log cost of a stage that nothing is known about: within a factor
# of e^2, about seven, of the average stage in 95 % of cases.
PRIOR_STD = 1.0


class StageCostModel:
    """The log costs of all stages, learnt from the stages that were executed.

    Args:
        X: `n x d`, the configurations.
        stage_costs: `n x K`, true costs >= 0; NaN where a stage was not executed.
        stage_indices: For each stage, the columns of `X` that its cost depends on.
        categorical: The columns of `X` whose values have no order.

    Raises:
        ConfigurationError: The shapes do not fit, or a cost is negative or infinite.

    >>> X = torch.tensor([[0.1], [0.9]], dtype=torch.double)
    >>> model = StageCostModel(X, torch.tensor([[1.0, 5.0], [2.0, float("nan")]]), [[0], []])
    >>> mean, std = model.log_cost_posterior(X)
    >>> mean.shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        X: Tensor,
        stage_costs: Tensor,
        stage_indices: Sequence[Sequence[int]],
        *,
        categorical: Sequence[int] = (),
    ) -> None:
        X, stage_costs = X.double(), stage_costs.double()
        _check(X, stage_costs, stage_indices)
        logs = stage_costs.clamp_min(SMALLEST_COST).log()
        known = logs[~logs.isnan()]
        prior_mean = known.mean().item() if len(known) else 0.0
        self._models = [
            _LogCost(X, logs[:, k], list(columns), categorical, prior_mean)
            for k, columns in enumerate(stage_indices)
        ]

    def log_cost_posterior(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the log costs at `X`.

        Args:
            X: `... x d`.

        Returns:
            Two tensors, `... x K`.
        """
        moments = [model.posterior(X) for model in self._models]
        mean, std = zip(*moments, strict=True)
        return torch.stack(mean, dim=-1), torch.stack(std, dim=-1)


class _LogCost:
    """The log cost of one stage."""

    def __init__(
        self,
        X: Tensor,
        logs: Tensor,
        columns: list[int],
        categorical: Sequence[int],
        prior_mean: float,
    ) -> None:
        executed = ~logs.isnan()
        X, logs = X[executed][:, columns], logs[executed]
        self._columns = columns
        self._gp: SingleTaskGP | None = None
        self._mean, self._std = prior_mean, PRIOR_STD
        if len(logs) > 0:
            self._mean = logs.mean().item()
            # The spread of a few draws, shrunk towards the prior's as one more draw.
            spread = (logs - self._mean).square().sum() + PRIOR_STD**2
            self._std = math.sqrt(spread.item() / (len(logs) + 1))
        if len(logs) > 1 and columns:
            own = [columns.index(c) for c in categorical if c in columns]
            self._gp = fit_gp(X, logs, categorical=own)

    def posterior(self, X: Tensor) -> tuple[Tensor, Tensor]:
        if self._gp is None:
            shape = X.shape[:-1]
            return X.new_full(shape, self._mean), X.new_full(shape, self._std)
        posterior = self._gp.posterior(X[..., None, self._columns])
        return posterior.mean[..., 0, 0], posterior.variance[..., 0, 0].clamp_min(1e-12).sqrt()


def _check(X: Tensor, stage_costs: Tensor, stage_indices: Sequence[Sequence[int]]) -> None:
    expected = (len(X), len(stage_indices))
    if X.ndim != 2 or stage_costs.shape != expected:
        raise ConfigurationError(
            f"X must be n x d and stage_costs n x K with K={len(stage_indices)} stages, but got "
            f"{tuple(X.shape)} and {tuple(stage_costs.shape)}."
        )
    wrong = stage_costs.isinf() | (stage_costs < 0)
    if wrong.any():
        raise ConfigurationError(
            f"stage costs must be finite and not negative (NaN where a stage was not executed), "
            f"but got {stage_costs[wrong][0].item()!r}."
        )
