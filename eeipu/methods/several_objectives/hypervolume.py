r"""The expected improvement of the hypervolume, per unit of the cost that remains.

Notation:
    M: objectives, maximised; b: candidates; K: stages; d: hyper-parameters; Q: cells.
    r: the reference point, `M`; the hypervolume of a front is that of what it dominates above r.
    l, u: `Q x M`, lower and upper corners of cells, which partition what the front does not
        dominate above r.
    mu, s2: `M x b`, means and variances of the objectives at the candidates.

The improvement of y is the volume that it adds to what the front dominates: in every cell a box
from the lower corner to y. The objectives have independent Gaussian processes, so that its
expectation is a sum of products, without any sampling (Yang et al. 2019, "Efficient computation of
expected hypervolume improvement using box decomposition algorithms", arXiv 1904.12672):

    EHVI = sum_q prod_m (EI_m(l_qm) - EI_m(u_qm)),  EI_m(t) = E[(y_m - t)^+].

Everything is in the log domain, as in Ament et al. 2023 (arXiv 2310.20708). The front is that of
the models' means at the trials within all limits, as is the best value with one objective: it does
not profit from lucky noise. The cost enters as in `eeipu.acquisition`: the score is
`log EHVI + eta log E[1 / C]`, where stages whose outputs are kept cost next to nothing.
"""

from collections.abc import Sequence

import torch
from botorch.utils.multi_objective.box_decompositions.non_dominated import (
    FastNondominatedPartitioning,
)
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from torch import Tensor

from eeipu.acquisition import LogCostFactor
from eeipu.methods.acquisition_gradients import cost_and_slopes
from eeipu.models.closed_form import ClosedFormGPs
from eeipu.models.improvement import log_ei
from eeipu.models.objective import ObjectiveModel

__all__ = [
    "HypervolumeScore",
    "LogHypervolumeImprovement",
    "hypervolume_score",
    "reference_point",
]

# Numbers that are computed at once for pairs of candidates and cells (2 MB).
PAIRS_AT_ONCE = 250_000

# Corners at infinity are moved to so many units above the best mean, where no value is expected.
FAR_ABOVE = 1e6

# A front with more members than this is thinned out for more than two objectives: the number of
# cells grows with a power of theirs.
MOST_MEMBERS = 60


def hypervolume_score(
    models: Sequence[ObjectiveModel],
    X: Tensor,
    is_within: Tensor,
    elsewhere: Tensor,
    cost: LogCostFactor | None,
) -> "HypervolumeScore":
    """The score of candidates in a search with several objectives.

    Args:
        models: The models of the objectives, M of them.
        X: `n x d`, the trials that have succeeded or run, at least one.
        is_within: `n`, boolean, which of them are within all limits.
        elsewhere: `e x d`, other points that are probably within all limits.
        cost: The factor that depends on the cost; `None`: cost does not count.
    """
    means = _means(models, X)
    within = means[is_within]
    front = within[is_non_dominated(within)] if len(within) else within
    reference = reference_point(torch.cat([front, _means(models, elsewhere)]), means)
    return HypervolumeScore(models, LogHypervolumeImprovement(front, reference), cost)


def _means(models: Sequence[ObjectiveModel], X: Tensor) -> Tensor:
    """What the models expect at points, `n x d -> n x M`."""
    means: Tensor = torch.cat([model.gp.posterior(X)[0] for model in models]).T
    return means


def reference_point(expected: Tensor, means: Tensor) -> Tensor:
    """A point below everything that is worth having.

    It lies below the worst value of a front in each objective by a tenth of the front's range
    (Ishibuchi et al. 2011). The front is not only what trials have reached, but also what the
    models expect elsewhere: otherwise a search would hardly look beyond the ends of its front.

    Args:
        expected: `e x M`, what is reached or expected of configurations within all limits.
        means: `n x M`, the objectives at all trials, at least one.

    Returns:
        `M`.
    """
    expected = expected if len(expected) else means
    front = expected[is_non_dominated(expected)]
    if len(front) > 1:
        below: Tensor = infer_reference_point(front)
        return below
    return torch.minimum(infer_reference_point(front), means.median(dim=0).values)


class LogHypervolumeImprovement:
    """The logarithm of the expected improvement of the hypervolume, with its slopes.

    Args:
        front: `p x M`, values that none of them dominates; none is needed.
        reference: `M`.
    """

    def __init__(self, front: Tensor, reference: Tensor) -> None:
        above = front[(front > reference).all(-1)]
        if len(above) > MOST_MEMBERS and len(reference) > 2:
            above = above[torch.linspace(0, len(above) - 1, MOST_MEMBERS).long()]
        cells = FastNondominatedPartitioning(ref_point=reference, Y=above)
        lower, upper = cells.get_hypercell_bounds()
        top = (above if len(above) else reference.unsqueeze(0)).amax(0) + FAR_ABOVE
        self._lower = lower
        self._upper = torch.where(upper.isfinite(), upper, top)
        self._is_open = ~upper.isfinite()
        self.front, self.reference = above, reference

    def __call__(self, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The value, and its slopes in the means and in the variances.

        Args:
            means: `M x b`.
            variances: `M x b`.

        Returns:
            `b`, `M x b` and `M x b`.
        """
        step = max(1, PAIRS_AT_ONCE // self._lower.numel())
        parts = [
            self._some(mean, variance)
            for mean, variance in zip(means.split(step, -1), variances.split(step, -1), strict=True)
        ]
        value, slope, variance_slope = (torch.cat(each, -1) for each in zip(*parts, strict=True))
        return value, slope, variance_slope

    def _some(self, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # `Q x M x b`
        low, low_slope, low_variance = log_ei(means, variances, self._lower.unsqueeze(-1))
        high, high_slope, high_variance = log_ei(means, variances, self._upper.unsqueeze(-1))
        # log(EI(l) - EI(u)), where EI(u) < EI(l); nothing is lost where both are nearly the same
        ratio = (high - low).clamp_max(0.0)
        ratio = torch.where(self._is_open.unsqueeze(-1), -torch.inf, ratio)
        left = -torch.expm1(ratio).clamp_max(-1e-300)
        inside = low + left.log()
        logs = inside.sum(1)
        value = torch.logsumexp(logs, 0)
        # d log(EI(l) - EI(u)) = (EI(l) dlog EI(l) - EI(u) dlog EI(u)) / (EI(l) - EI(u))
        share = (logs - value).exp().unsqueeze(1)
        of_low, of_high = share / left, share * ratio.exp() / left
        slope = (of_low * low_slope - of_high * high_slope).sum(0)
        variance_slope = (of_low * low_variance - of_high * high_variance).sum(0)
        return value, slope, variance_slope


class HypervolumeScore:
    """The score of candidates with several objectives, with gradients.

    Args:
        models: The models of the objectives, M of them.
        improvement: The expected improvement of the hypervolume.
        cost: The factor that depends on the cost; `None`: cost does not count.
    """

    def __init__(
        self,
        models: Sequence[ObjectiveModel],
        improvement: LogHypervolumeImprovement,
        cost: LogCostFactor | None = None,
    ) -> None:
        self._models, self._improvement = models, improvement
        self._objectives = ClosedFormGPs([model.gp for model in models])
        self._cost = cost if cost is not None and cost.counts else None
        costs = None if self._cost is None else self._cost.cost_model.gps
        self._costs = None if costs is None else ClosedFormGPs([costs])

    @torch.no_grad()
    def __call__(self, X: Tensor, memoized: Tensor) -> Tensor:
        """Score candidates, `b x 1 x d` and `b x K -> b`."""
        points = X.squeeze(-2)
        step = self._objectives.points_at_once
        parts = zip(points.split(step), memoized.split(step), strict=True)
        return torch.cat([self._value(x, mask) for x, mask in parts])

    def _value(self, x: Tensor, memoized: Tensor) -> Tensor:
        means, variances, _ = self._objectives(x)
        value, _, _ = self._improvement(means, variances)
        if self._cost is not None:
            means, variances = self._cost_moments(x)
            moments = self._cost.cost_model.of_all_stages(means, variances)
            value = value + self._cost.value_at(*moments, memoized)
        return value

    def _cost_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._costs is None:  # no stage has been executed
            empty = x.new_empty((0, len(x)))
            return empty, empty
        means, variances, _ = self._costs(x)
        return means, variances

    @torch.no_grad()
    def rank_completions(
        self, points: Tensor, fixed: Tensor, memoized: Tensor, X: Tensor
    ) -> Tensor:
        """Rough scores of all completions of points; see `ClosedFormEEIPU.rank_completions`."""
        means, variances = self._objectives.of_completions(points, fixed, X)
        flat, _, _ = self._improvement(means.flatten(1), variances.flatten(1))
        value: Tensor = flat.unflatten(0, means.shape[1:])
        if self._cost is not None:
            model, shape = self._cost.cost_model, (2, len(self._cost.cost_model.executed))
            every = means.new_zeros((*shape, *value.shape))
            asked = ~memoized[model.executed]
            if self._costs is not None and asked.any():
                found = self._costs.select(asked).of_completions(points, fixed, X)
                every[:, asked] = torch.stack(found)
            moments = model.of_all_stages(every[0], every[1])
            value = value + self._cost.rough_value_at(*moments, memoized)
        return value

    @torch.no_grad()
    def value_and_gradient(self, X: Tensor, memoized: Tensor) -> tuple[Tensor, Tensor]:
        """The scores, `b`, and their gradients, `b x 1 x d`."""
        x = X.squeeze(-2)
        means, variances, pullback = self._objectives(x)
        value, slope, variance_slope = self._improvement(means, variances)
        gradient = pullback(slope, variance_slope)
        if self._cost is not None:
            if self._costs is None:
                return self._value(x, memoized), gradient.unsqueeze(-2)
            means, variances, pullback = self._costs(x)
            term, slope, variance_slope = cost_and_slopes(self._cost, means, variances, memoized)
            value = value + term
            gradient = gradient + pullback(slope, variance_slope)
        return value, gradient.unsqueeze(-2)
