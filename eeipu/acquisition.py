r"""The acquisition functions: expected improvement per unit of remaining cost.

Notation:
    x: a candidate, `batch_shape x 1 x d`; K: stages; S: samples of the cost.
    c_k(x): cost of stage k, lognormal under its GP; M: the set of memoized stages.
    eps_k: what a memoized stage costs (its load time, or the paper's constant).
    o: the overhead, which any candidate costs beside its stages; 0 in the paper.
    eta: the cooling exponent, 1 at the start of the search and 0 at the end of the budget.
    R: what is left of the budget.

EEIPU (Essofi et al. 2024, arXiv 2411.03731, section 3) is

    EEIPU(x) = EI(x) * E[1 / C(x)]^eta,  C(x) = o + sum_{k in M} eps_k + sum_{k not in M} c_k(x).

Where R is given, the chance that it pays for the candidate is one more factor, P(C(x) <= R)
(Astudillo et al. 2021, arXiv 2111.06537); C is taken as lognormal for it, with the moments of the
samples.

Everything here is in the log domain, where costs of 1e-6 beside costs of 1e6 and improvements
below the smallest double still have a value and a gradient.
"""

import math
from collections.abc import Callable

import torch
from botorch.acquisition import AcquisitionFunction, LogExpectedImprovement
from botorch.models.model import Model
from botorch.utils.probability.utils import log_ndtr
from botorch.utils.sampling import draw_sobol_normal_samples
from botorch.utils.transforms import t_batch_mode_transform
from torch import Tensor

from eeipu.cost_models import StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.models.pending_improvement import LogPendingEI

__all__ = ["DEFAULT_MEMOIZED_COST", "LogCostFactor", "LogEEIPU", "log_expected_inverse_cost"]

# The published epsilon, in units of cost.
DEFAULT_MEMOIZED_COST = 0.1

# With scrambled Sobol points the relative error of E[1/C] at this size is below 1 % in 95 % of
# cases for up to ten stages whose log costs have standard deviations up to 1.
DEFAULT_NUM_SAMPLES = 128

# The least standard deviation of a log cost in the chance that the budget covers it: without any
# spread the chance would be a step function, which has no slope to climb.
LEAST_LOG_STD = 1e-2

# The largest variance of a log cost whose moments are used.
MOST_LOG_VARIANCE = 4.0

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def log_expected_inverse_cost(log_costs: Tensor) -> Tensor:
    """`log E[1 / sum_k c_k]`, averaged over samples.

    Args:
        log_costs: `S x ... x K`, samples of the log costs.

    Returns:
        `...`
    """
    return _log_mean_inverse(torch.logsumexp(log_costs, dim=-1))


def _log_mean_inverse(log_totals: Tensor) -> Tensor:
    """`log E[1 / C]` from samples of `log C`, `S x ... -> ...`."""
    return torch.logsumexp(-log_totals, dim=0) - math.log(len(log_totals))


def _log_chance_to_pay(log_totals: Tensor, log_remaining: float) -> Tensor:
    """`log P(C <= R)` from samples of `log C`, `S x ... -> ...`."""
    std = (log_totals.var(dim=0, correction=0) + LEAST_LOG_STD**2).sqrt()
    chance: Tensor = log_ndtr((log_remaining - log_totals.mean(dim=0)) / std)
    return chance


def _chance_slope(log_totals: Tensor, log_remaining: float) -> Tensor:
    """The slope of `_log_chance_to_pay` in each sample, `S x ...`."""
    away = log_totals - log_totals.mean(dim=0)
    variance = away.square().mean(dim=0) + LEAST_LOG_STD**2
    z = (log_remaining - log_totals.mean(dim=0)) / variance.sqrt()
    # phi(z) / Phi(z), times the slope of z, which depends on mean and variance of the samples.
    ratio = (-0.5 * z.square() - HALF_LOG_2PI - log_ndtr(z)).exp()
    slope: Tensor = -ratio * (1.0 / variance.sqrt() + z * away / variance) / len(log_totals)
    return slope


class LogCostFactor:
    """The logarithm of the factors of EEIPU that depend on the cost.

    Args:
        cost_model: The stages' log costs.
        memoized_cost: The cost of a memoized stage, in the unit of the costs: a number, or `K`.
        overhead: o, not negative, in the unit of the costs: what another trial costs beside its
            stages, such as the time of choosing it. It is added to C, which never falls below it.
        cooling: eta, not negative: 1 at the start of a search; 0 turns the factor `E[1 / C]` off.
        remaining: R. If given, the chance that R covers the candidate is one more factor.
        num_samples: S. The samples are scrambled Sobol points with one dimension for each stage, so
            that stage costs are independent draws.
        seed: Fixes the samples.

    Raises:
        ConfigurationError: `cooling` or `overhead` is negative, or `memoized_cost`, `remaining` or
            `num_samples` is not positive.
    """

    def __init__(
        self,
        cost_model: StageCostModel,
        *,
        memoized_cost: float | Tensor = DEFAULT_MEMOIZED_COST,
        overhead: float = 0.0,
        cooling: float = 1.0,
        remaining: float | None = None,
        num_samples: int = DEFAULT_NUM_SAMPLES,
        seed: int = 0,
    ) -> None:
        epsilon = torch.as_tensor(memoized_cost, dtype=torch.double)
        if not (epsilon > 0).all():
            raise ConfigurationError(f"memoized_cost must be positive, but got {memoized_cost!r}.")
        if not cooling >= 0:
            raise ConfigurationError(f"cooling must not be negative, but got {cooling!r}.")
        if not 0 <= overhead < math.inf:
            raise ConfigurationError(
                f"overhead must be finite and not negative, but got {overhead!r}."
            )
        if num_samples < 1:
            raise ConfigurationError(f"num_samples must be positive, but got {num_samples!r}.")
        if not (remaining is None or remaining > 0):
            raise ConfigurationError(f"remaining must be positive, but got {remaining!r}.")
        self.cost_model = cost_model
        self.cooling = cooling
        self.num_samples = num_samples
        self.seed = seed
        self._log_epsilon = epsilon.log()
        self._log_overhead = math.log(overhead) if overhead > 0 else None
        self._log_remaining = None if remaining is None else math.log(remaining)
        self._normal: Tensor | None = None

    @property
    def counts(self) -> bool:
        """Whether the cost counts at all; if not, the factor is 1."""
        return self.cooling > 0 or self._log_remaining is not None

    # --- The factor, from the moments of the log costs and from samples of `log C`

    def value_at(self, mean: Tensor, std: Tensor, memoized: Tensor | None) -> Tensor:
        """The log factor, `batch_shape`; for the arguments see `relative_costs`."""
        return self.value(self.log_totals(*self.relative_costs(mean, std, memoized)))

    def value(self, log_totals: Tensor) -> Tensor:
        """The log factor from samples of `log C`, `S x ... -> ...`."""
        value = self.cooling * _log_mean_inverse(log_totals)
        if self._log_remaining is not None:
            value = value + _log_chance_to_pay(log_totals, self._log_remaining)
        return value

    def rough_value_at(self, mean: Tensor, std: Tensor, memoized: Tensor | None) -> Tensor:
        """`value_at` without samples: C is taken for lognormal, with the moments of the sum.

        This is the approximation of Fenton (1960, "The sum of log-normal probability distributions
        in scatter transmission systems"). It is for choosing among very many candidates.
        """
        if memoized is not None:
            mean = torch.where(memoized, self._log_epsilon.to(mean), mean)
            std = torch.where(memoized, 0.0, std)
        # Far beyond this, the moments of a lognormal cost say nothing about its median.
        variance = std.square().clamp_max(MOST_LOG_VARIANCE)
        log_mean = torch.logsumexp(mean + 0.5 * variance, dim=-1)
        if self._log_overhead is not None:
            log_mean = torch.logaddexp(log_mean, log_mean.new_tensor(self._log_overhead))
        log_variance = torch.logsumexp(2.0 * mean + variance + torch.expm1(variance).log(), dim=-1)
        log_square = torch.log1p((log_variance - 2.0 * log_mean).exp())
        middle = log_mean - 0.5 * log_square
        value = self.cooling * (0.5 * log_square - middle)
        if self._log_remaining is not None:
            spread = (log_square + LEAST_LOG_STD**2).sqrt()
            value = value + log_ndtr((self._log_remaining - middle) / spread)
        return value

    def slope(self, log_totals: Tensor) -> Tensor:
        """The slope of `value` in each sample of `log C`, `S x ...`."""
        slope = -self.cooling * torch.softmax(-log_totals, dim=0)
        if self._log_remaining is not None:
            slope = slope + _chance_slope(log_totals, self._log_remaining)
        return slope

    # --- Its parts at candidates

    def log_inverse(self, X: Tensor, memoized: Tensor | None) -> Tensor:
        """`log E[1 / C]`, `batch_shape x d -> batch_shape`."""
        return _log_mean_inverse(self._log_totals(X, memoized))

    def log_chance_to_pay(self, X: Tensor, memoized: Tensor | None, remaining: float) -> Tensor:
        """`log P(C <= R)`, `batch_shape x d -> batch_shape`."""
        log_remaining = math.log(remaining) if remaining > 0 else -math.inf
        return _log_chance_to_pay(self._log_totals(X, memoized), log_remaining)

    def _log_totals(self, X: Tensor, memoized: Tensor | None) -> Tensor:
        """Samples of `log C`, `batch_shape x d -> S x batch_shape`."""
        mean, std = self.cost_model.log_cost_posterior(X)
        return self.log_totals(*self.relative_costs(mean, std, memoized))

    # --- Samples of the cost

    def relative_costs(
        self, mean: Tensor, std: Tensor, memoized: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Samples of the costs of all stages, those of memoized ones included.

        They are relative to the largest median of a candidate's stages: nothing overflows as long
        as no log cost has a standard deviation of more than 100.

        Args:
            mean: `batch_shape x K`, the means of the log costs.
            std: `batch_shape x K`, their standard deviations.
            memoized: `K` or `batch_shape x K`; `None`: no stage.

        Returns:
            The costs, `K x S x batch_shape`, and the logarithm of their unit, `batch_shape`.
        """
        if memoized is not None:
            if memoized.shape[-1] != mean.shape[-1]:
                raise ConfigurationError(
                    f"memoized must end in one entry for each of the {mean.shape[-1]} stages, but "
                    f"its shape is {tuple(memoized.shape)}."
                )
            mean = torch.where(memoized, self._log_epsilon.to(mean), mean)
            std = torch.where(memoized, 0.0, std)
        log_unit = mean.detach().amax(-1)
        # Stages come first in memory, which makes sums over them five times faster.
        mean = (mean - log_unit.unsqueeze(-1)).movedim(-1, 0).unsqueeze(1)
        std = std.movedim(-1, 0).unsqueeze(1)
        return torch.addcmul(mean, std, self.normal(std)).exp(), log_unit

    def log_totals(self, costs: Tensor, log_unit: Tensor) -> Tensor:
        """Samples of `log C`, overhead included, from `relative_costs`, `S x batch_shape`."""
        log_totals = costs.sum(0).log() + log_unit
        if self._log_overhead is not None:
            log_totals = torch.logaddexp(log_totals, log_totals.new_tensor(self._log_overhead))
        return log_totals

    def normal(self, costs: Tensor) -> Tensor:
        """The standard normal samples behind `relative_costs`, `K x S x 1 ...`."""
        normal = self._samples(costs.movedim(0, -1)).T
        return normal.reshape(*normal.shape, *(1,) * (costs.ndim - 2))

    def _samples(self, like: Tensor) -> Tensor:
        """Standard normal base samples, `S x K`, drawn once, with a dimension for each stage."""
        if self._normal is None:
            self._normal = draw_sobol_normal_samples(
                d=like.shape[-1], n=self.num_samples, seed=self.seed, dtype=torch.double
            )
        return self._normal.to(like)


class LogEEIPU(AcquisitionFunction):
    """The logarithm of EEIPU.

    Args:
        model: The GP of the objective, maximised, with one output.
        cost_model: The stages' log costs.
        best_f: The best value so far.
        memoized: The stages whose outputs can be reused: boolean, `K` or `batch_shape x K`; any set
            of stages. Or a function that returns them for candidates,
            `batch_shape x 1 x d -> batch_shape x K`, as optimisers such as `optimize_acqf` need it
            where candidates differ in it, since they choose their batches. `None`: no stage.
        memoized_cost: The cost of a memoized stage, in the unit of the costs: a number, or `K`.
        overhead: o, not negative, in the unit of the costs: what another trial costs beside its
            stages, such as the time of choosing it. It is added to C, which never falls below it.
        cooling: eta, not negative: 1 at the start of a search; 0 turns the score into log EI.
        X_pending: `m x d`, points that are being evaluated. The expected improvement is then what a
            candidate adds to theirs.
        remaining: R. If given, the chance that R covers the candidate is one more factor.
        num_samples: S. The samples are scrambled Sobol points with one dimension for each stage, so
            that stage costs are independent draws.
        seed: Fixes the samples; `None` means 0.

    Attributes:
        cost: The factors that depend on the cost.

    Raises:
        ConfigurationError: `cooling` or `overhead` is negative, `memoized_cost`, `remaining` or
            `num_samples` is not positive, or `memoized` is not a boolean tensor of K columns.
    """

    def __init__(
        self,
        model: Model,
        cost_model: StageCostModel,
        best_f: float | Tensor,
        *,
        memoized: Tensor | Callable[[Tensor], Tensor] | None = None,
        memoized_cost: float | Tensor = DEFAULT_MEMOIZED_COST,
        overhead: float = 0.0,
        cooling: float = 1.0,
        X_pending: Tensor | None = None,
        remaining: float | None = None,
        num_samples: int = DEFAULT_NUM_SAMPLES,
        seed: int | None = None,
    ) -> None:
        super().__init__(model)
        is_mask = isinstance(memoized, Tensor) and memoized.dtype == torch.bool
        if not (memoized is None or callable(memoized) or is_mask):
            raise ConfigurationError(
                f"memoized must be a boolean tensor with one entry for each stage, or a function "
                f"that returns one, but got {memoized!r}."
            )
        self.memoized = memoized
        self.seed = 0 if seed is None else seed
        self.cost = LogCostFactor(
            cost_model,
            memoized_cost=memoized_cost,
            overhead=overhead,
            cooling=cooling,
            remaining=remaining,
            num_samples=num_samples,
            seed=self.seed,
        )
        self._best_f = best_f
        self.set_X_pending(X_pending)

    def set_X_pending(self, X_pending: Tensor | None = None) -> None:  # noqa: N802 - BoTorch's
        """Say which points are being evaluated, `m x d`; `None`: none."""
        super().set_X_pending(X_pending)
        self.log_ei = log_expected_improvement(
            self.model, self._best_f, self.X_pending, seed=self.seed
        )

    @t_batch_mode_transform(expected_q=1)  # type: ignore[untyped-decorator]
    def forward(self, X: Tensor) -> Tensor:
        """Score candidates, `batch_shape x 1 x d -> batch_shape`."""
        mask = self.memoized if isinstance(self.memoized, Tensor | None) else self.memoized(X)
        try:
            return self.score(X, mask)
        except RuntimeError as error:
            if mask is None or mask.shape[:-1] in ((), X.shape[:-2]):
                raise
            raise ConfigurationError(
                f"memoized has the batch {tuple(mask.shape[:-1])}, and the candidates have "
                f"{tuple(X.shape[:-2])}; give a function of the candidates instead."
            ) from error

    def score(self, X: Tensor, memoized: Tensor | None) -> Tensor:
        """The same as `forward`, with another set of memoized stages.

        Args:
            X: `batch_shape x 1 x d`.
            memoized: `K` or `batch_shape x K`; `None`: no stage.

        Returns:
            `batch_shape`.
        """
        value: Tensor = self.log_ei(X)
        if not self.cost.counts:
            return value
        moments = self.cost.cost_model.log_cost_posterior(X.squeeze(-2))
        return value + self.cost.value_at(*moments, memoized)


def log_expected_improvement(
    model: Model,
    best_f: float | Tensor,
    X_pending: Tensor | None = None,
    *,
    seed: int = 0,
) -> AcquisitionFunction:
    """Log EI; with points that are being evaluated, the log of what a candidate adds to their EI.

    Args:
        model: The GP of the objective, maximised, with one output.
        best_f: The best value so far.
        X_pending: `m x d`, points that are being evaluated; `None`: none.
        seed: Fixes the samples of their values.
    """
    if X_pending is None or len(X_pending) == 0:
        return LogExpectedImprovement(model, best_f)
    return LogPendingEI(model, best_f, X_pending, seed=seed)
