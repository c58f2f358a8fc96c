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

from collections.abc import Callable

import torch
from botorch.acquisition import AcquisitionFunction, LogExpectedImprovement
from torch import Tensor

from eeipu.acquisition import LogCostFactor, LogEEIPU
from eeipu.cost_models import StageCostModel
from eeipu.models.closed_form import ClosedFormGPs
from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.improvement import Improvement, WeighedChain
from eeipu.models.objective import ObjectiveModel

__all__ = ["ClosedFormEEIPU", "cost_and_slopes", "fast_score"]


def fast_score(
    acquisition: AcquisitionFunction,
    *,
    sees_memory: bool = True,
    weighed: WeighedChain | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The score of an acquisition, with gradients in closed form (`ClosedFormEEIPU`) if it has any.

    There are none beside running trials, and for other models than this package's own.

    Args:
        acquisition: Log EEIPU, or log EI.
        sees_memory: Whether memoized stages count; if not, every stage of a candidate is paid.
        weighed: A chain of stages that predicts the objective as well, if there is one.
    """
    is_eeipu = isinstance(acquisition, LogEEIPU)
    log_ei = acquisition.log_ei if is_eeipu else acquisition
    cost = acquisition.cost if is_eeipu and acquisition.cost.counts else None
    if (
        isinstance(log_ei, LogExpectedImprovement)
        and isinstance(log_ei.model, ObjectiveModel)
        and (cost is None or _share_points(log_ei.model.gp, cost.cost_model))
    ):
        if weighed is not None and not _are_alike(log_ei.model.gp, weighed.chain.gps):
            weighed = None
        return ClosedFormEEIPU(log_ei, cost, sees_memory=sees_memory, weighed=weighed)
    if is_eeipu:
        return lambda X, memoized: acquisition.score(X, memoized if sees_memory else None)
    return lambda X, memoized: acquisition(X)  # noqa: ARG005 - what is memoized does not matter


def _share_points(objective: ExactGPs, costs: object) -> bool:
    """Whether both have learnt from the same points; a model that has learnt nothing has none."""
    if not isinstance(costs, StageCostModel):
        return False
    return costs.gps is None or _are_alike(objective, costs.gps)


def _are_alike(ours: ExactGPs, theirs: ExactGPs) -> bool:
    """Whether GPs have learnt from the same points, and predict with as many."""
    same = torch.equal(ours.observations.X, theirs.observations.X)
    return same and len(ours.conditioning.X) == len(theirs.conditioning.X)


class ClosedFormEEIPU:
    """Log EEIPU, or log EI, as a score with gradients.

    Args:
        log_ei: Log EI of an `ObjectiveModel`.
        cost: The factor that depends on the cost; `None`: cost does not count. Its
            `StageCostModel` is on the same points.
        sees_memory: Whether memoized stages count.
        weighed: A chain of stages, on the same points, that predicts the objective as well.
    """

    def __init__(
        self,
        log_ei: LogExpectedImprovement,
        cost: LogCostFactor | None = None,
        *,
        sees_memory: bool = True,
        weighed: WeighedChain | None = None,
    ) -> None:
        self._cost = cost
        self._improvement = Improvement(log_ei.model.gp, float(log_ei.best_f), weighed)
        self._first_cost = len(self._improvement)
        self._sees_memory = sees_memory
        costs = None if cost is None else cost.cost_model.gps
        self._gps = ClosedFormGPs([*self._improvement.gps, *([] if costs is None else [costs])])

    @torch.no_grad()
    def __call__(self, X: Tensor, memoized: Tensor) -> Tensor:
        """Score candidates, `b x 1 x d` and `b x K -> b`, without gradients."""
        points = X.squeeze(-2).split(self._gps.points_at_once)
        masks = (memoized & self._sees_memory).split(self._gps.points_at_once)
        return torch.cat([self._value(x, mask) for x, mask in zip(points, masks, strict=True)])

    def _value(self, x: Tensor, memoized: Tensor) -> Tensor:
        means, variances, _ = self._gps(x)
        value, _, _ = self._log_ei(means, variances, x, memoized)
        if self._cost is not None:
            moments = self._cost_moments(self._cost, means, variances)
            value = value + self._cost.value_at(*moments, memoized)
        return value

    def _log_ei(
        self, means: Tensor, variances: Tensor, x: Tensor, memoized: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = means[: self._first_cost], variances[: self._first_cost]
        return self._improvement(*own, self._improvement.known(x, memoized))

    def _cost_moments(
        self, cost: LogCostFactor, means: Tensor, variances: Tensor
    ) -> tuple[Tensor, Tensor]:
        first = self._first_cost
        return cost.cost_model.of_all_stages(means[first:], variances[first:])

    @torch.no_grad()
    def rank_completions(
        self, points: Tensor, fixed: Tensor, memoized: Tensor, X: Tensor
    ) -> Tensor:
        """Rough scores of all completions of points, to choose the best from.

        They differ from the scores by what `LogCostFactor.rough_value_at` leaves out.

        Args:
            points: `P x d`, of which the fixed columns count.
            fixed: `d`, boolean, the columns of the points that are fixed.
            memoized: `K`, the stages that they give for free.
            X: `b x d`, of which the other columns count.

        Returns:
            `P x b`.
        """
        cost, free = self._cost, memoized & self._sees_memory
        first, asked = self._first_cost, torch.ones(len(self._gps), dtype=torch.bool)
        known = self._improvement.known(points, free.expand(len(points), -1))
        if known is not None:
            asked[:first] = ~known[0].all(-1)
            known = known[0].unsqueeze(-1), known[1].unsqueeze(-1)
        if cost is not None:
            asked[first:] = ~free[cost.cost_model.executed]
        found = self._gps.select(asked).of_completions(points, fixed, X)
        means, variances = (m.new_zeros((len(asked), *m.shape[1:])) for m in found)
        means[asked], variances[asked] = found
        value, _, _ = self._improvement(means[:first], variances[:first], known)
        if cost is not None:
            moments = self._cost_moments(cost, means, variances)
            value = value + cost.rough_value_at(*moments, free)
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
        value, slope, variance_slope = self._log_ei(means, variances, X.squeeze(-2), memoized)
        slopes, variance_slopes = [slope], [variance_slope]
        if self._cost is not None:
            own = means[self._first_cost :], variances[self._first_cost :]
            term, slope, variance_slope = cost_and_slopes(self._cost, *own, memoized)
            value = value + term
            slopes.append(slope)
            variance_slopes.append(variance_slope)
        return value, pullback(torch.cat(slopes), torch.cat(variance_slopes)).unsqueeze(-2)


def cost_and_slopes(
    cost: LogCostFactor, means: Tensor, variances: Tensor, memoized: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The log factor of the cost, `b`, and its slopes in the means and the variances, `E x b`.

    Args:
        cost: The factor.
        means: `E x b`, of the log costs of the E executed stages.
        variances: `E x b`.
        memoized: `b x K`.
    """
    costs = cost.cost_model
    mean, std = costs.of_all_stages(means, variances)
    samples, log_unit = cost.relative_costs(mean, std, memoized)
    log_totals = cost.log_totals(samples, log_unit)
    # `g_s p_sk`, `K x S x b`.
    shares = samples * (cost.slope(log_totals) * (log_unit - log_totals).exp())
    shares.mul_(~memoized.T.unsqueeze(1))
    std_slope = (shares * cost.normal(shares)).sum(1)[costs.executed]
    return (
        cost.value(log_totals),
        shares.sum(1)[costs.executed],
        0.5 * std_slope / std.T[costs.executed],  # d s / d s^2 = 1 / (2 s)
    )
