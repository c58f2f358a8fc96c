r"""The value and the gradient of log EEIPU without automatic differentiation.

Notation:
    b: candidates; K: stages; S: samples of the cost; f*: the best value so far.
    mu, sigma: mean and standard deviation of the objective at a candidate; u = (mu - f*) / sigma.
    m_k, s_k: those of the log cost of stage k; z_sk: standard normal samples.
    C_s = sum_k c_sk, with log c_sk = m_k + s_k z_sk, or log eps_k where stage k is memoized.
    eta: the cooling exponent; R: what is left of the budget.

The value is that of `eeipu.acquisition`, sample by sample, so that nothing is approximated:

    log EEIPU = log sigma + h(u) + eta log mean_s(1 / C_s) + log P(C <= R),
    h(u) = log(phi(u) + u Phi(u)),  h'(u) = Phi(u) / (phi(u) + u Phi(u)).

Its slopes in the moments of the GPs are

    in mu: h'(u) / sigma,  in sigma: (1 - u h'(u)) / sigma,
    in m_k: sum_s g_s p_sk,  in s_k: sum_s g_s p_sk z_sk,  p_sk = c_sk / C_s (0 if k is memoized),

where `g_s` is the slope in `log C_s`: `-eta (1 / C_s) / sum_t (1 / C_t)`, and that of the chance
that R covers the cost. `eeipu.models.closed_form` takes them back to the candidates.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction, LogExpectedImprovement
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr
from torch import Tensor

from eeipu.acquisition import LogEEIPU
from eeipu.cost_models import StageCostModel
from eeipu.models.closed_form import ClosedFormGPs
from eeipu.models.objective import MIN_VARIANCE, ObjectiveModel

__all__ = ["ClosedFormEEIPU", "cost_and_slopes", "fast_score", "log_ei"]

Array = NDArray[np.float64]

# Below this u, h and h' come from their asymptotic series, whose errors are then below 1e-11.
FAR_BELOW = -1e3

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
SQRT_HALF, SQRT_HALF_PI = math.sqrt(0.5), math.sqrt(0.5 * math.pi)


def fast_score(
    acquisition: AcquisitionFunction, *, sees_memory: bool = True
) -> Callable[[Tensor, Tensor], Tensor]:
    """The score of an acquisition, with gradients in closed form (`ClosedFormEEIPU`) if it has any.

    There are none beside running trials, and for other models than this package's own.

    Args:
        acquisition: Log EEIPU, or log EI.
        sees_memory: Whether memoized stages count; if not, every stage of a candidate is paid.
    """
    is_eeipu = isinstance(acquisition, LogEEIPU)
    log_ei = acquisition.log_ei if is_eeipu else acquisition
    costs = acquisition if is_eeipu and acquisition.depends_on_cost else None
    if (
        isinstance(log_ei, LogExpectedImprovement)
        and isinstance(log_ei.model, ObjectiveModel)
        and (costs is None or _share_points(log_ei.model, costs.cost_model))
    ):
        return ClosedFormEEIPU(log_ei, costs, sees_memory=sees_memory)
    if is_eeipu:
        return lambda X, memoized: acquisition.score(X, memoized if sees_memory else None)
    return lambda X, memoized: acquisition(X)  # noqa: ARG005 - what is memoized does not matter


def _share_points(objective: ObjectiveModel, costs: object) -> bool:
    """Whether both have learnt from the same points; a model that has learnt nothing has none."""
    if not isinstance(costs, StageCostModel):
        return False
    if costs.gps is None:
        return True
    ours, theirs = objective.gp, costs.gps
    same = torch.equal(ours.observations.X, theirs.observations.X)
    return same and len(ours.conditioning.X) == len(theirs.conditioning.X)


class ClosedFormEEIPU:
    """Log EEIPU, or log EI, as a score with gradients.

    Args:
        log_ei: Log EI of an `ObjectiveModel`.
        acquisition: Log EEIPU, if cost counts. Its `StageCostModel` is on the same points, and
            there are no running trials.
        sees_memory: Whether memoized stages count.
    """

    def __init__(
        self,
        log_ei: LogExpectedImprovement,
        acquisition: LogEEIPU | None = None,
        *,
        sees_memory: bool = True,
    ) -> None:
        self._acquisition = acquisition
        self._best_f = float(log_ei.best_f)
        self._sees_memory = sees_memory
        costs = None if acquisition is None else acquisition.cost_model.gps
        self._gps = ClosedFormGPs([log_ei.model.gp, *([] if costs is None else [costs])])

    @torch.no_grad()
    def __call__(self, X: Tensor, memoized: Tensor) -> Tensor:
        """Score candidates, `b x 1 x d` and `b x K -> b`, without gradients."""
        points = X.squeeze(-2).split(self._gps.points_at_once)
        masks = (memoized & self._sees_memory).split(self._gps.points_at_once)
        return torch.cat([self._value(x, mask) for x, mask in zip(points, masks, strict=True)])

    def _value(self, x: Tensor, memoized: Tensor) -> Tensor:
        means, variances, _ = self._gps(x)
        value, _, _ = log_ei(means[0], variances[0], self._best_f)
        if self._acquisition is not None:
            moments = self._acquisition.cost_model.of_all_stages(means[1:], variances[1:])
            value = value + self._acquisition.cost_term_at(*moments, memoized)
        return value

    @torch.no_grad()
    def rank_completions(
        self, points: Tensor, fixed: Tensor, memoized: Tensor, X: Tensor
    ) -> Tensor:
        """Rough scores of all completions of points, to choose the best from.

        They differ from the scores by what `LogEEIPU.rough_cost_term_at` leaves out.

        Args:
            points: `P x d`, of which the fixed columns count.
            fixed: `d`, boolean, the columns of the points that are fixed.
            memoized: `K`, the stages that they give for free.
            X: `b x d`, of which the other columns count.

        Returns:
            `P x b`.
        """
        acquisition, free = self._acquisition, memoized & self._sees_memory
        asked = torch.ones(len(self._gps), dtype=torch.bool)
        if acquisition is not None:
            asked[1:] = ~free[acquisition.cost_model.executed]
        means, variances = self._gps.select(asked).of_completions(points, fixed, X)
        value, _, _ = log_ei(means[0], variances[0], self._best_f)
        if acquisition is not None:
            every = means.new_zeros((2, len(asked) - 1, *value.shape))
            every[:, asked[1:]] = torch.stack([means[1:], variances[1:]])
            moments = acquisition.cost_model.of_all_stages(every[0], every[1])
            value = value + acquisition.rough_cost_term_at(*moments, free)
        return value

    @torch.no_grad()
    def value_and_gradient(self, X: Tensor, memoized: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of candidates and their gradients.

        Args:
            X: `b x 1 x d`.
            memoized: `b x K`.

        Returns:
            `b` and `b x 1 x d`.
        """
        memoized = memoized & self._sees_memory
        means, variances, pullback = self._gps(X.squeeze(-2))
        value, slope, variance_slope = log_ei(means[0], variances[0], self._best_f)
        slopes, variance_slopes = [slope[None]], [variance_slope[None]]
        if self._acquisition is not None:
            term, slope, variance_slope = cost_and_slopes(
                self._acquisition, means[1:], variances[1:], memoized
            )
            value = value + term
            slopes.append(slope)
            variance_slopes.append(variance_slope)
        return value, pullback(torch.cat(slopes), torch.cat(variance_slopes)).unsqueeze(-2)


def cost_and_slopes(
    acquisition: LogEEIPU, means: Tensor, variances: Tensor, memoized: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The cost's term, `b`, and its slopes in the means and the variances, `E x b`.

    Args:
        acquisition: Log EEIPU.
        means: `E x b`, of the log costs of the E executed stages.
        variances: `E x b`.
        memoized: `b x K`.
    """
    costs = acquisition.cost_model
    mean, std = costs.of_all_stages(means, variances)
    samples, log_unit = acquisition.relative_costs(mean, std, memoized)
    log_totals = acquisition.log_totals(samples, log_unit)
    # `g_s p_sk`, `K x S x b`.
    shares = samples * (acquisition.cost_slope(log_totals) * (log_unit - log_totals).exp())
    shares.mul_(~memoized.T.unsqueeze(1))
    std_slope = (shares * acquisition.normal(shares)).sum(1)[costs.executed]
    return (
        acquisition.cost_term(log_totals),
        shares.sum(1)[costs.executed],
        0.5 * std_slope / std.T[costs.executed],  # d s / d s^2 = 1 / (2 s)
    )


def log_ei(mean: Tensor, variance: Tensor, best_f: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log EI and its slopes in the mean and in the variance, in the shape of these together."""
    is_free = variance >= MIN_VARIANCE
    sigma = variance.clamp_min(MIN_VARIANCE).sqrt()
    u = (mean - best_f) / sigma
    h, slope = (torch.from_numpy(part) for part in _log_h(u.numpy()))
    # d sigma / d sigma^2 = 1 / (2 sigma)
    return sigma.log() + h, slope / sigma, is_free * (1.0 - u * slope) / (2.0 * sigma.square())


def _log_h(u: Array) -> tuple[Array, Array]:
    """`h` and its slope; SciPy's functions take a tenth of the time of BoTorch's."""
    near, below = np.maximum(u, -1.0), np.clip(u, FAR_BELOW, -1.0)
    phi, Phi = np.exp(-0.5 * near * near - HALF_LOG_2PI), ndtr(near)
    upper = phi + near * Phi
    # phi(u) + u Phi(u) = phi(u) (1 - w), and 1 - w = u^-2 - 3 u^-4 + 15 u^-6 ... far below
    w = -below * SQRT_HALF_PI * erfcx(-SQRT_HALF * below)
    far = np.minimum(u, FAR_BELOW)
    is_far, inverse = u < FAR_BELOW, far**-2.0
    left = np.where(is_far, inverse * (1.0 - 3.0 * inverse), 1.0 - w)
    lower = np.log(left) - 0.5 * u * u - HALF_LOG_2PI
    lower_slope = np.where(is_far, -far - 2.0 / far, -w / (below * left))
    is_lower = u < -1.0
    return np.where(is_lower, lower, np.log(upper)), np.where(is_lower, lower_slope, Phi / upper)
