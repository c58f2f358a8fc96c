r"""Expected improvement while other evaluations are running.

Notation:
    x: a candidate; P: the `m x d` points that are being evaluated; f*: the best value so far.
    F: fantasies, joint draws of `f(P)` from the posterior.

The amount that a candidate adds to the running evaluations is its part of the joint expected
improvement,

    E[max(f(x), f(P), f*)] - E[max(f(P), f*)] = E_{f(P)}[ EI(x | f(P); max(f*, f(P))) ].

This is the expected improvement after the running evaluations, averaged over the values that they
may give. The inner expectation has a closed form, so that only `f(P)` is sampled. The logarithm is
finite even where the improvement is too small for double precision (cf. Ament et al. 2023,
arXiv 2310.20708).
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
from eeipu.models.observed_stages.chain import StageChain

__all__ = ["JITTER", "LogPendingEI", "log_improvement", "log_mean_improvement"]

# The number of fantasies. They are quasi-random, so that few are enough.
NUM_FANTASIES = 64

# Added to the covariance of the running points, two of which may be equal, as a share of the
# largest variance. It is also the least share of a candidate's variance that running evaluations
# leave.
JITTER = 1e-8


class LogPendingEI(AcquisitionFunction):
    """The logarithm of what a candidate adds to the expected improvement of running evaluations.

    Args:
        model: The GP of the objective, maximised, with one output.
        best_f: The best value so far.
        X_pending: P, `m x d`, at least one.
        num_fantasies: F, the number of joint values of the running evaluations to average over.
        seed: Fixes the fantasies.

    Attributes:
        best: `F`, the best value after the running evaluations in each fantasy.
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
            # Times a point's covariances with P, this is how far each fantasy moves its mean:
            # `m x F`.
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
        """Standard normal values for `count` further points, `F x count`.

        They are further dimensions of the sequence that was drawn for the running points. A second
        sequence would not do: the same dimensions of two sequences are not independent, even if
        their seeds differ.
        """
        m = len(self._factor)
        normal: Tensor = draw_sobol_normal_samples(
            d=m + count, n=len(self.best), seed=self._seed, dtype=self.best.dtype
        )
        return normal[:, m:]

    def conditioned(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of the objective at points after the running evaluations.

        Args:
            X: `b x d`.

        Returns:
            The means in each fantasy, `b x F`, and the covariances, `b x b`, which are the same in
            all fantasies.
        """
        mean, _, shared = self._moments(X)
        _, _, among = _moments_beside(self.model, X)(X)
        explained = torch.linalg.solve_triangular(self._factor, shared.T, upper=False)
        return mean.unsqueeze(-1) + shared @ self._weights, among - explained.T @ explained


def log_improvement(mean: Tensor, std: Tensor, best: float | Tensor) -> Tensor:
    """The logarithm of the expected improvement on `best`, elementwise, with gradients."""
    log_ei: Tensor = std.log() + _log_ei_helper((mean - best) / std)
    return log_ei


def log_mean_improvement(means: Tensor, variance: Tensor, best: Tensor) -> Tensor:
    """The logarithm of the expected improvement, averaged over fantasies.

    Args:
        means: `b x F`.
        variance: `b`, the same in all fantasies.
        best: `F`, the value to improve on.

    Returns:
        `b`.
    """
    log_ei = log_improvement(means, variance.sqrt().unsqueeze(-1), best)
    average: Tensor = log_ei.logsumexp(-1) - math.log(log_ei.shape[-1])
    return average


def _moments_beside(model: Model, C: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """A function that predicts at points beside others (`C`, `m x d`).

    It maps points, `b x d`, to means (`b`), variances (`b`) and covariances with `C` (`b x m`).
    """
    if isinstance(model, ObjectiveModel | StageChain):
        return model.beside(C)

    def moments(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # All points in one set: a set for each point would repeat the computations for `C`.
        normal = model.posterior(torch.cat([X, C])).mvn
        b = len(X)
        return normal.mean[:b], normal.variance[:b], normal.covariance_matrix[:b, b:]

    return moments
