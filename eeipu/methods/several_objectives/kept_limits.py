r"""The probability that outcomes are within their limits, learnt from what trials have given.

The search multiplies the acquisition by it (Gardner et al. 2014, "Bayesian optimization with
inequality constraints"; Gelbart, Snoek and Adams 2014, arXiv 1403.5607).

Notation:
    n: trials; d: hyper-parameters; J: outcomes with a limit; b: candidates.
    z: an outcome, or its logarithm; c: the limit, on the same scale.

Each outcome has a Gaussian process. Memory, time and other amounts are often products of what
hyper-parameters contribute; so where all values are positive, z may be the logarithm, whichever
predicts left-out values better. A limit is kept with the probability

    P(z <= c) = Phi((c - mean) / sqrt(variance + noise)),

and all of them with the product of these. What an early stage shows depends on the hyper-parameters
up to that stage alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from botorch.utils.probability.utils import log_ndtr
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.closed_form import ClosedFormGPs
from eeipu.models.feasibility import SuccessModel
from eeipu.models.gaussian_process import ExactGPs

__all__ = ["AllOf", "Limit", "OutcomeModel"]

Array = NDArray[np.float64]

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

# The least standard deviation of a prediction, as a share of that of the outcome: the probability
# must not become a step, which has no slope to climb.
LEAST_STD = 1e-2


@dataclass(frozen=True)
class Limit:
    """An outcome and its limit.

    Attributes:
        values: `n`, the outcome; NaN where it is not known. At least one is known.
        limit: The limit.
        is_upper: Whether the outcome may not be above or not be below it.
        columns: The columns of the cube on which the outcome depends.
    """

    values: Array
    limit: float
    is_upper: bool
    columns: Sequence[int]

    @property
    def has_logarithm(self) -> bool:
        """Whether the outcome and its limit can be taken in the logarithm."""
        known = self.values[~np.isnan(self.values)]
        return bool((known > 0).all()) and self.limit > 0


class OutcomeModel:
    """The probability that all outcomes are within their limits.

    Args:
        X: `n x d`, the configurations, in the unit cube.
        limits: The outcomes and their limits, at least one.
        categorical: The columns of `X` without an order.
        start: `hyperparameters` of an earlier fit, where this fit starts; `None`: at the prior.

    Attributes:
        hyperparameters: As fitted; see `eeipu.models.gaussian_process.ExactGPs`.
    """

    def __init__(
        self,
        X: Array,
        limits: Sequence[Limit],
        *,
        categorical: Sequence[int] = (),
        start: Tensor | None = None,
    ) -> None:
        # The forms of each outcome, one after another: as it is, and its logarithm.
        forms = [(each, each.values) for each in map(_finite, limits)]
        forms = [
            (each, form)
            for each, values in forms
            for form in ((values, np.log(values)) if each.has_logarithm else (values,))
        ]
        active = torch.zeros(len(forms), 1, X.shape[1], dtype=torch.bool)
        for row, (each, _) in enumerate(forms):
            active[row, 0, list(each.columns)] = True
        gps = ExactGPs(
            torch.from_numpy(X),
            torch.from_numpy(np.array([values for _, values in forms])),
            active,
            categorical=categorical,
            start=start if start is not None and len(start) == len(forms) else None,
        )
        self.hyperparameters = gps.hyperparameters
        density = gps.left_out_density()
        chosen, ends = [], []
        for row, (each, values) in enumerate(forms):
            if values is each.values:
                chosen.append(row)
                ends.append(each.limit)
            elif density[row] - np.nansum(values) > density[row - 1]:  # d log z / dz = 1 / z
                chosen[-1], ends[-1] = row, math.log(each.limit)
        self._gps = ClosedFormGPs([gps.select(chosen)])
        self._noise = gps.noise[chosen].unsqueeze(-1)
        self._least = (LEAST_STD * gps.scale[chosen]).square().unsqueeze(-1)
        self._limit = torch.tensor(ends, dtype=torch.double).unsqueeze(-1)
        signs = [1.0 if each.is_upper else -1.0 for each in limits]
        self._sign = torch.tensor(signs, dtype=torch.double).unsqueeze(-1)

    @torch.no_grad()
    def log_probability(self, X: Tensor) -> Tensor:
        """`sum_j log P(z_j <= c_j)`, `... x d -> ...`."""
        means, variances, _ = self._gps(X.reshape(-1, X.shape[-1]))
        value: Tensor = log_ndtr(self._scores(means, variances)[0]).sum(0)
        return value.reshape(X.shape[:-1])

    @torch.no_grad()
    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The same, `b x d -> b`, and its gradient, `b x d`."""
        means, variances, pullback = self._gps(X)
        z, spread = self._scores(means, variances)
        value = log_ndtr(z)
        ratio = (-0.5 * z.square() - _HALF_LOG_2PI - value).exp()  # phi / Phi
        slope = -self._sign * ratio / spread
        return value.sum(0), pullback(slope, -0.5 * ratio * z / spread.square())

    def _scores(self, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
        """How many standard deviations the limits are away, `J x b`, and these deviations."""
        spread = (variances + self._noise + self._least).sqrt()
        return self._sign * (self._limit - means) / spread, spread


class AllOf:
    """The probability that several independent conditions hold.

    Args:
        models: The probabilities of each.
    """

    def __init__(self, models: Sequence[SuccessModel]) -> None:
        self._models = models

    def log_probability(self, X: Tensor) -> Tensor:
        """Its logarithm, `... x d -> ...`."""
        return torch.stack([model.log_probability(X) for model in self._models]).sum(0)

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The same, `b x d -> b`, and its gradient, `b x d`."""
        values, gradients = zip(*(m.value_and_gradient(X) for m in self._models), strict=True)
        return torch.stack(values).sum(0), torch.stack(gradients).sum(0)


def _finite(each: Limit) -> Limit:
    """An outcome whose infinite values are finite, and beyond all others and the limit."""
    if not np.isinf(each.values).any():
        return each
    known = [each.limit, *each.values[np.isfinite(each.values)]]
    span = max(known) - min(known) or 1.0
    low, high = min(known) - span, max(known) + span
    return replace(each, values=np.clip(each.values, low, high))
