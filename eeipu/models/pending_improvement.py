r"""Expected improvement while other evaluations are running.

Notation:
    x: a candidate; P: the `m x d` points that are being evaluated; f*: the best value so far.
    F: fantasies, joint draws of `f(P)` from the posterior.

What a candidate adds to the running evaluations is its part of the joint expected improvement,

    E[max(f(x), f(P), f*)] - E[max(f(P), f*)] = E_{f(P)}[ EI(x | f(P); max(f*, f(P))) ],

the mean over the values that the running evaluations may have of the expected improvement after
them. The inner expectation has a closed form, so only `f(P)` is sampled, and the logarithm stays
safe where no improvement is left to double precision (cf. Ament et al. 2023, arXiv 2310.20708).
"""

import math
from collections.abc import Callable

import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import _log_ei_helper
from botorch.models.model import Model
from botorch.utils.sampling import draw_sobol_normal_samples
from botorch.utils.transforms import t_batch_mode_transform
from torch import Tensor

from eeipu.models.objective import ObjectiveModel

__all__ = ["JITTER", "LogPendingEI", "log_mean_improvement"]

# Fantasies of the running evaluations; quasi-random ones, so few are enough.
NUM_FANTASIES = 64

# Added to the covariance of the running points, of which two may be equal, as a share of the
# largest variance; and the least that is left of a candidate's variance.
JITTER = 1e-8


class LogPendingEI(AcquisitionFunction):
    """The logarithm of what a candidate adds to the expected improvement of running evaluations.

    Args:
        model: The GP of the objective, maximised, with one output.
        best_f: The best value so far.
        X_pending: P, `m x d`, at least one.
        num_fantasies: How many joint values of the running evaluations to average over.
        seed: Fixes them.

    Attributes:
        best: The best value after the running evaluations in each fantasy, `F`.
    """

    def __init__(
        self,
        model: Model,
        best_f: float | Tensor,
        X_pending: Tensor,
        *,
        num_fantasies: int = NUM_FANTASIES,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        self._seed = seed
        with torch.no_grad():
            self._moments = _moments_beside(model, X_pending)
            posterior = model.posterior(X_pending)
            covariance = posterior.mvn.covariance_matrix
            jitter = JITTER * covariance.diagonal().max()
            factor = torch.linalg.cholesky(covariance + jitter * torch.eye(len(X_pending)))
            normal = draw_sobol_normal_samples(
                d=len(X_pending), n=num_fantasies, seed=seed, dtype=covariance.dtype
            )
            drawn = posterior.mean.squeeze(-1) + normal @ factor.T
            self.best = drawn.amax(-1).clamp_min(best_f)
            self._factor = factor
            # By how much each fantasy moves the mean, per covariance with P: `m x F`.
            self._weights = torch.linalg.solve_triangular(factor.T, normal.T, upper=True)

    @t_batch_mode_transform(expected_q=1)  # type: ignore[untyped-decorator]
    def forward(self, X: Tensor) -> Tensor:
        """Score candidates, `batch_shape x 1 x d -> batch_shape`."""
        points = X.reshape(-1, X.shape[-1])
        mean, variance, shared = self._moments(points)
        explained = torch.linalg.solve_triangular(self._factor, shared.T, upper=False)
        left = variance - explained.square().sum(0)
        left = left.clamp_min(JITTER * variance.detach())
        means = mean.unsqueeze(-1) + shared @ self._weights
        return log_mean_improvement(means, left, self.best).reshape(X.shape[:-2])

    def more_normals(self, count: int) -> Tensor:
        """Standard normal values for so many points besides the running ones, `F x count`.

        They are further dimensions of the running points' sequence. Of two sequences, also with
        different seeds, the same dimensions would not be independent.
        """
        m = len(self._factor)
        normal: Tensor = draw_sobol_normal_samples(
            d=m + count, n=len(self.best), seed=self._seed, dtype=self.best.dtype
        )
        return normal[:, m:]

    def conditioned(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The objective at points (`b x d`) after the running evaluations.

        Returns:
            Its means in each fantasy, `b x F`, and covariances, which are the same in all, `b x b`.
        """
        mean, _, shared = self._moments(X)
        _, _, among = _moments_beside(self.model, X)(X)
        explained = torch.linalg.solve_triangular(self._factor, shared.T, upper=False)
        return mean.unsqueeze(-1) + shared @ self._weights, among - explained.T @ explained


def log_mean_improvement(means: Tensor, variance: Tensor, best: Tensor) -> Tensor:
    """The logarithm of the expected improvement, on average over fantasies.

    Args:
        means: `b x F`.
        variance: `b`, the same in all fantasies.
        best: `F`, what is to be improved on.

    Returns:
        `b`.
    """
    std = variance.sqrt().unsqueeze(-1)
    log_ei = std.log() + _log_ei_helper((means - best) / std)
    average: Tensor = log_ei.logsumexp(-1) - math.log(log_ei.shape[-1])
    return average


def _moments_beside(model: Model, C: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """From points `b x d` to their means and variances, `b`, and covariances with `C`, `b x m`."""
    if isinstance(model, ObjectiveModel):
        return model.beside(C)

    def moments(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # One set of all points: what `C` shares with the data is computed once, where a set for
        # each point would compute it for each.
        normal = model.posterior(torch.cat([X, C])).mvn
        b = len(X)
        return normal.mean[:b], normal.variance[:b], normal.covariance_matrix[:b, b:]

    return moments
