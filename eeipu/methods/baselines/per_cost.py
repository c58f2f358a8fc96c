r"""The acquisition functions of other papers that EEIPU is compared with.

Notation:
    x: a candidate, `batch_shape x 1 x d`; f*: the best value so far.
    mu, sigma: mean and standard deviation of the objective at x.
    m, s: mean and standard deviation of the log cost of a whole trial at x, `log c ~ N(m, s^2)`.
    c_k, M, eps_k: as in `eeipu.acquisition`.

All are maximised. All except the Gittins index are in the log domain.
"""

import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import _log_ei_helper
from botorch.models.model import Model
from botorch.utils.probability.utils import log_ndtr
from botorch.utils.transforms import t_batch_mode_transform
from torch import Tensor

from eeipu.acquisition import DEFAULT_MEMOIZED_COST
from eeipu.cost_models import StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.models.feasibility import SuccessModel

__all__ = ["GittinsIndex", "LogEIPerCost"]

# This many bisections reduce the interval to rounding error; one Newton step follows.
_BISECTIONS = 50


class LogEIPerCost(AcquisitionFunction):
    r"""The logarithm of EI divided by a power of the cost of a whole trial, both modelled by GPs.

    With `expected=True` it adds the expectation of the power, `log E[c^-a] = -a m + a^2 s^2 / 2`:
    expected improvement per second (EIPS; Snoek, Larochelle and Adams 2012, arXiv 1206.2944,
    section 3.2, with a = 1). With `expected=False` it adds the power of the median, `-a m`: EI-cool
    of CArBO (Lee et al. 2020, arXiv 2003.10870, section 3.2), where a is the unspent share of the
    budget.

    Args:
        log_ei: Log EI; with running evaluations, what a candidate adds to theirs.
        total_cost: The model of a whole trial's log cost, as if the trial were one stage.
        exponent: a, not negative; with 0 the score is log EI.
        expected: Whether the uncertainty of the cost counts.

    Raises:
        ConfigurationError: `exponent` is negative.
    """

    def __init__(
        self,
        log_ei: AcquisitionFunction,
        total_cost: StageCostModel,
        *,
        exponent: float = 1.0,
        expected: bool = True,
    ) -> None:
        super().__init__(log_ei.model)
        if not exponent >= 0:
            raise ConfigurationError(f"exponent must not be negative, but got {exponent!r}.")
        self.total_cost = total_cost
        self.exponent = exponent
        self.expected = expected
        self._log_ei = log_ei

    @t_batch_mode_transform(expected_q=1)  # type: ignore[untyped-decorator]
    def forward(self, X: Tensor) -> Tensor:
        """Score candidates, `batch_shape x 1 x d -> batch_shape`."""
        log_ei: Tensor = self._log_ei(X)
        mean, std = self.total_cost.log_cost_posterior(X.squeeze(-2))
        a = self.exponent
        log_power = -a * mean
        if self.expected:
            log_power = log_power + 0.5 * (a * std).square()
        return log_ei + log_power.squeeze(-1)


class GittinsIndex(AcquisitionFunction):
    r"""The Pandora's box Gittins index (Xie et al. 2024, arXiv 2406.20062).

    The index is the value g over which a candidate's expected improvement equals its cost:

        EI(x; g) = E[(f(x) - g)^+] = lambda E[C(x)],  E[C(x)] = o + sum_k exp(m_k + s_k^2 / 2).

    Where configurations may fail, EI is earned with the probability of success P, and the cost is
    divided by P. The index is found by bisection. Its gradient, which includes that of the cost,
    follows from the implicit function theorem. If the largest index is at most f*, no candidate is
    worth its cost.

    Args:
        model: The GP of the objective, maximised.
        cost_model: The model of the log costs of all stages, or of a whole trial as one stage.
        price: lambda, positive: what a unit of cost is worth, in the unit of the objective.
        memoized: The stages whose outputs can be reused: boolean, `K` or `batch_shape x K`; `None`:
            none.
        memoized_cost: The cost of a memoized stage: a positive number, or `K`.
        overhead: o, not negative: what another trial costs beside its stages.
        feasibility: The probability of success; `None`: it is 1.

    Raises:
        ConfigurationError: `price` or `memoized_cost` is not positive.

    Note:
        The paper has neither memoized stages nor an overhead; without both, this is the paper's
        index.
    """

    def __init__(
        self,
        model: Model,
        cost_model: StageCostModel,
        *,
        price: float,
        memoized: Tensor | None = None,
        memoized_cost: float | Tensor = DEFAULT_MEMOIZED_COST,
        overhead: float = 0.0,
        feasibility: SuccessModel | None = None,
    ) -> None:
        super().__init__(model)
        epsilon = torch.as_tensor(memoized_cost, dtype=torch.double)
        if not (epsilon > 0).all():
            raise ConfigurationError(f"memoized_cost must be positive, but got {memoized_cost!r}.")
        if not price > 0:
            raise ConfigurationError(f"price must be positive, but got {price!r}.")
        self.cost_model = cost_model
        self.memoized = memoized
        self._log_price = torch.tensor(price, dtype=torch.double).log()
        self._log_epsilon = epsilon.log()
        self._overhead = overhead
        self._feasibility = feasibility

    @t_batch_mode_transform(expected_q=1)  # type: ignore[untyped-decorator]
    def forward(self, X: Tensor) -> Tensor:
        """The indices in the unit of the objective, `batch_shape x 1 x d -> batch_shape`."""
        return self.score(X, self.memoized)

    def score(self, X: Tensor, memoized: Tensor | None) -> Tensor:
        """The same as `forward`, with another set of memoized stages.

        Args:
            X: `batch_shape x 1 x d`.
            memoized: `K` or `batch_shape x K`; `None`: no stage.
        """
        posterior = self.model.posterior(X)
        mean = posterior.mean.squeeze(-1).squeeze(-1)
        std = posterior.variance.sqrt().squeeze(-1).squeeze(-1)
        log_bar = self._log_price + self.log_expected_cost(X, memoized)
        if self._feasibility is not None:
            log_bar = log_bar - self._feasibility.log_probability(X.squeeze(-2))
        return _index(mean, std, log_bar)

    def log_expected_cost(self, X: Tensor, memoized: Tensor | None) -> Tensor:
        """`log E[C]`, `batch_shape x 1 x d -> batch_shape`."""
        m, s = self.cost_model.log_cost_posterior(X.squeeze(-2))
        log_costs = m + 0.5 * s.square()
        if memoized is not None:
            log_costs = torch.where(memoized, self._log_epsilon.to(m), log_costs)
        log_total = log_costs.logsumexp(-1)
        if self._overhead > 0:
            log_total = torch.logaddexp(log_total, m.new_tensor(self._overhead).log())
        return log_total


def _index(mean: Tensor, std: Tensor, log_bar: Tensor) -> Tensor:
    """The g with `log E[(f - g)^+] = log_bar` for `f ~ N(mean, std^2)`."""
    # In standard deviations: h(u) = log(phi(u) + u Phi(u)) grows with u = (mean - g) / std.
    target = (log_bar - std.log()).detach()
    # h(u) >= log u, and below zero h(u) <= -u^2 / 2 - log sqrt(2 pi).
    high = target.clamp(max=600.0).exp()
    low = -(1.0 + (-2.0 * target).clamp_min(0.0).sqrt())
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        too_low = _log_ei_helper(middle) < target
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    u = 0.5 * (low + high)
    g = mean.detach() - std.detach() * u
    # One Newton step in g, through which the gradient flows: d log EI / dg = -Phi / (std h).
    z = (mean - g) / std
    log_improvement = std.log() + _log_ei_helper(z)
    with torch.no_grad():
        slope = std * (_log_ei_helper(u) - log_ndtr(u)).exp()
    index: Tensor = g + (log_improvement - log_bar) * slope
    return index
