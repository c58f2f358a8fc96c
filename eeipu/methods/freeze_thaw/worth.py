r"""Expected improvement per unit of remaining cost, of a training that may be given up on the way.

Notation:
    m: candidates; J: steps ahead at which one may look; the last one is the end of the training.
    f_T: the value at the end; f*: the best value so far.
    c_j: `m x J`, what it costs to train a candidate up to step j, and look at it there.

A look at step j moves the mean of f_T by s_j z, z ~ N(0, 1), and leaves it a standard deviation
r_j:

    s_j^2 = Cov(f_T, f_j)^2 / (Var f_j + s2),      r_j^2 = Var f_T - s_j^2.

Whoever looks there goes on only where z > q. Per unit of cost this gives

    A_j(q) = E[1{z > q} EI(mu + s_j z, r_j)] / (c_j + P(z > q) (c_J - c_j)),

and a candidate is worth the best A_j(q) over j and q: the rate at which the best rule with one look
earns, an index of Gittins' kind (Xie et al. 2024, arXiv 2406.20062, have it for costs without
looks). Without a look (q = -inf), each new trial would count as if it were trained to the end.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from eeipu.models.learning_curves import Forecast

__all__ = ["Worth", "worth"]

# Standard normal draws at the midpoints of intervals, from -4 to 5.5: what decides lies above.
WIDTH = 0.25


@dataclass(frozen=True)
class Worth:
    """What candidates are worth.

    Attributes:
        rate: `m`, expected improvement per unit of cost, by the best rule.
        look: `m`, the index of the step at which that rule looks first.
        improvement: `m`, what the rule is expected to improve.
        cost: `m`, what it is expected to cost.
    """

    rate: Tensor
    look: Tensor
    improvement: Tensor
    cost: Tensor


def worth(forecast: Forecast, best: Tensor, costs: Tensor, least: float) -> Worth:
    """The worth of candidates.

    Args:
        forecast: What is expected at the J steps, of which the last is the end.
        best: `m`, the value to improve.
        costs: `m x J`; infinite where a step is not ahead.
        least: A cost below which differences do not matter; above 0.
    """
    edges = torch.arange(-4.0, 5.5 + WIDTH, WIDTH, dtype=costs.dtype)
    z, below = (edges[:-1] + edges[1:]) / 2, torch.special.ndtr(edges)
    below[0], below[-1] = 0.0, 1.0  # the outer intervals have no end
    chance = below[1:] - below[:-1]
    going_on = chance.flip(0).cumsum(0).flip(0)  # P(z > q), by the lower edge
    mean, variance = forecast.mean[:, -1:], forecast.variance[:, -1:]
    seen = forecast.with_end.square() / (forecast.variance + forecast.noise)
    seen = torch.minimum(seen, variance)
    seen[:, -1] = 0.0  # a look at the end decides nothing any more
    left = (variance - seen).clamp_min(0.0).sqrt().unsqueeze(-1)
    moved = mean.unsqueeze(-1) + seen.sqrt().unsqueeze(-1) * z  # m x J x Z
    gains = _expected_improvement(moved - best[:, None, None], left) * chance
    improvement = gains.flip(-1).cumsum(-1).flip(-1)
    rest = (costs[:, -1:] - costs).clamp_min(0.0)
    cost = costs.unsqueeze(-1) + going_on * rest.unsqueeze(-1)
    cost = cost.clamp_min(least).nan_to_num(nan=math.inf, posinf=math.inf)
    rates = (improvement / cost).masked_fill(cost.isinf(), -1.0).flatten(1)
    # Of equal rates that of the latest look counts: one that decides nothing is not worth taking.
    most = rates.max(-1, keepdim=True).values
    is_best = rates >= most - 1e-9 * most.abs()
    backwards = is_best.flip(-1).double().argmax(-1)
    at = (rates.shape[-1] - 1 - backwards).unsqueeze(-1)
    return Worth(
        rates.gather(1, at).squeeze(-1),
        at.squeeze(-1) // len(z),
        improvement.flatten(1).gather(1, at).squeeze(-1),
        cost.flatten(1).gather(1, at).squeeze(-1),
    )


def _expected_improvement(ahead: Tensor, std: Tensor) -> Tensor:
    """`E[max(0, ahead + std z)]`."""
    u = ahead / std.clamp_min(1e-12)
    density = (-0.5 * u.square()).exp() / math.sqrt(2.0 * math.pi)
    improvement: Tensor = std * density + ahead * torch.special.ndtr(u)
    return improvement.clamp_min(0.0)
