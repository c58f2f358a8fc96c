"""A model after further observations, with the hyper-parameters unchanged.

Notation:
    x: points to predict at, `batch_shape x q x d`; F: further points, `batch_shape x m x d`.
    y: what was observed at F, `batch_shape x m`; s2: the variance of the noise.

With the moments of the model at x and F together,

    mean(x) + cov(x, F) [cov(F, F) + s2 I]^-1 (y - mean(F)),
    cov(x, x) - cov(x, F) [cov(F, F) + s2 I]^-1 cov(F, x)

(Rasmussen and Williams 2006, equations 2.23 and 2.24). The batches of x, F and y are broadcast, as
look-ahead acquisitions such as the knowledge gradient ask.
"""

from typing import Any

import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from botorch.sampling.base import MCSampler
from gpytorch.distributions import MultivariateNormal
from linear_operator.operators import to_linear_operator
from torch import Tensor

__all__ = ["Conditionable", "ModelWithFantasies", "noisy"]

# The least variance, relative to the prior one, that rounding leaves of a point that is known.
JITTER = 1e-9


def noisy(covariance: Tensor, observation_noise: bool | Tensor, noise: Tensor) -> Tensor:
    """Add the variance of the noise to a covariance.

    Args:
        covariance: `... x q x q`.
        observation_noise: Whether to add `noise`, or the variances to add, `... x q x 1` or fewer.
        noise: The variance of the noise.
    """
    if observation_noise is False:
        return covariance
    added = observation_noise.squeeze(-1) if isinstance(observation_noise, Tensor) else noise
    return covariance + torch.diag_embed(added.expand(covariance.shape[:-1]))


class Conditionable(Model):
    """A model that can be conditioned on further observations, as look-ahead acquisitions ask."""

    def condition_on_observations(self, X: Tensor, Y: Tensor, **_: Any) -> "ModelWithFantasies":
        """The model after further observations, with the hyper-parameters unchanged.

        Args:
            X: `batch_shape x m x d`.
            Y: `batch_shape x m x 1`; its batch may have further dimensions in front.
        """
        return ModelWithFantasies(self, X, Y)

    def fantasize(self, X: Tensor, sampler: MCSampler, **_: Any) -> "ModelWithFantasies":
        """The models after observations that are drawn from this one, one for each sample.

        Args:
            X: `batch_shape x m x d`.
            sampler: Draws them.
        """
        return self.condition_on_observations(X, sampler(self.posterior(X, observation_noise=True)))


class ModelWithFantasies(Conditionable):
    """A model with one output after further observations.

    Args:
        base: The model, whose posterior is normal. It has the attribute `noise`.
        X: F, `batch_shape x m x d`.
        Y: y, `batch_shape x m x 1`; its batch may have further dimensions in front.
    """

    num_outputs = 1

    def __init__(self, base: Model, X: Tensor, Y: Tensor) -> None:
        super().__init__()
        self.base, self._X, self._Y = base, X, Y.squeeze(-1)
        self.noise: Tensor = base.noise

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch of observations."""
        return torch.Size(torch.broadcast_shapes(self._X.shape[:-2], self._Y.shape[:-1]))

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,  # noqa: ARG002 - there is one output
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> GPyTorchPosterior:
        """The posterior of the noise-free function at `X`, `batch_shape x q x d`."""
        q, m = X.shape[-2], self._X.shape[-2]
        batch = torch.broadcast_shapes(X.shape[:-2], self.batch_shape)
        both = [part.expand(*batch, *part.shape[-2:]) for part in (X, self._X)]
        normal = self.base.posterior(torch.cat(both, dim=-2)).distribution
        mean, covariance = normal.mean, normal.covariance_matrix
        identity = torch.eye(q + m, dtype=mean.dtype)
        floor = JITTER * covariance.detach().diagonal(dim1=-2, dim2=-1).amax(-1)
        covariance = covariance + floor[..., None, None] * identity
        observed = covariance[..., q:, q:] + self.noise * identity[q:, q:]
        gain = torch.linalg.solve(observed, covariance[..., q:, :q]).mT
        surprise = (self._Y - mean[..., q:]).unsqueeze(-1)
        mean = mean[..., :q] + (gain @ surprise).squeeze(-1)
        covariance = covariance[..., :q, :q] - gain @ covariance[..., q:, :q]
        covariance = noisy(covariance, observation_noise, self.noise)
        posterior = GPyTorchPosterior(MultivariateNormal(mean, to_linear_operator(covariance)))
        return posterior if posterior_transform is None else posterior_transform(posterior)

    def condition_on_observations(self, X: Tensor, Y: Tensor, **_: Any) -> "ModelWithFantasies":
        """The model after further observations.

        Args:
            X: `batch_shape x m x d`.
            Y: `batch_shape x m x 1`.
        """
        batch = torch.broadcast_shapes(X.shape[:-2], Y.shape[:-2], self.batch_shape)
        points = [part.expand(*batch, *part.shape[-2:]) for part in (self._X, X)]
        values = [part.expand(*batch, *part.shape[-2:]) for part in (self._Y.unsqueeze(-1), Y)]
        return ModelWithFantasies(self.base, torch.cat(points, -2), torch.cat(values, -2))
