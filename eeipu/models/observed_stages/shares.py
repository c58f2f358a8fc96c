r"""How much each of two models counts, by how well they predict left-out values.

Notation:
    n: trials; y: `n`, their values; w: the share of the first model.
    p_i, q_i: the densities that the two models predict for y_i from all other trials.

The share is at the maximum of

    sum_i log(w p_i + (1 - w) q_i) + log w + log(1 - w)

(stacking of predictive distributions, Yao et al. 2018, arXiv 1704.02030). The last two terms count
as one trial for each model, since a few trials prove little. Models differ in how they treat bad
values, which are of no interest. Therefore of a value below a threshold t only that counts:
`P(y < t)` stands for its density (the censored likelihood score of Diks, Panchenko and van Dijk
2011), which favours no model that is wrong.
"""

import math

import torch
from botorch.utils.probability.utils import log_ndtr
from torch import Tensor

__all__ = ["share_of_first"]

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

# Steps of expectation and maximisation: with a hundred, the share is right to a percent.
STEPS = 100

# With fewer trials to compare on, nothing is known of either model.
LEAST_TRIALS = 5


def share_of_first(
    y: Tensor,
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    threshold: float,
) -> float:
    """The share of the first of two models.

    Args:
        y: `n`, the values; NaN where there is none.
        first: Mean and deviation of each value as the first model predicts it from the others, `n`;
            NaN where it predicts none.
        second: The same of the second model.
        threshold: t.

    Returns:
        Between 0 and 1; 0 if there are too few trials to tell.
    """
    scores = torch.stack([_score(y, *moments, threshold) for moments in (first, second)])
    scores = scores[:, ~scores.isnan().any(0)]
    if scores.shape[1] < LEAST_TRIALS:
        return 0.0
    share = scores.new_tensor([0.5, 0.5])
    for _ in range(STEPS):
        share = (scores + share.log()[:, None]).softmax(0).sum(-1) + 1.0
        share = share / share.sum()
    return float(share[0])


def _score(y: Tensor, mean: Tensor, std: Tensor, threshold: float) -> Tensor:
    """The logarithm of the predicted density of each value, or of the chance of a bad one."""
    density = -0.5 * ((y - mean) / std).square() - std.log() - HALF_LOG_2PI
    chance = log_ndtr((threshold - mean) / std)
    score: Tensor = torch.where(y < threshold, chance, density)
    return score
