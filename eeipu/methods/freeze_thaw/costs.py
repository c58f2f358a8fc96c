"""What is left to pay until a training is at a step and has been looked at there.

Notation:
    m: candidates; J: looks; K: stages; p: the stage that is trained in steps.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eeipu.cost_models import StageCostModel

__all__ = ["RemainingCosts"]


class RemainingCosts:
    """The costs of stretches of training, from a model of what stages cost.

    Args:
        X: `n x d`, the configurations of trials.
        stage_costs: `n x K`, what their stages have cost, stage p for each step; NaN where it is
            not known.
        columns: For each stage, the columns of its hyper-parameters.
        trained: p.
        categorical: The columns without an order.
    """

    def __init__(
        self,
        X: Tensor,
        stage_costs: Tensor,
        columns: Sequence[Sequence[int]],
        trained: int,
        categorical: Sequence[int],
    ) -> None:
        self._trained = trained
        known = ~stage_costs.isnan().all(-1)
        self._model = StageCostModel(X[known], stage_costs[known], columns, categorical=categorical)

    def to(self, X: Tensor, looks: Tensor, since: Tensor, made: Tensor) -> Tensor:
        """What it is expected to cost to bring candidates to steps.

        Args:
            X: `m x d`.
            looks: `J`, the steps.
            since: `m`, the step from which there is a checkpoint.
            made: `m`, how many stages from the front need not run.

        Returns:
            `m x J`; infinite where a step is not ahead.
        """
        mean, std = self._model.log_cost_posterior(X)
        costs = (mean + 0.5 * std.square()).exp()
        p = self._trained
        is_due = torch.arange(p) >= made.unsqueeze(-1)
        before = (costs[:, :p] * is_due).sum(-1, keepdim=True)
        after = costs[:, p + 1 :].sum(-1, keepdim=True)
        steps = looks - since.unsqueeze(-1)
        total = before + costs[:, p : p + 1] * steps + after
        return total.masked_fill(steps <= 0, math.inf)
