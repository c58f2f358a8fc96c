"""A model with a normal posterior, and the same model after further observations.

Notation:
    x: points to predict at, `batch_shape x q x d`; F: further points, `batch_shape x m x d`.
    y: what was observed at F, `batch_shape x m`; s2: the variance of the noise.

Its hyper-parameters are unchanged. With its moments at x and F together,

    mean(x) + cov(x, F) [cov(F, F) + s2 I]^-1 (y - mean(F)),
    cov(x, x) - cov(x, F) [cov(F, F) + s2 I]^-1 cov(F, x)

(Rasmussen and Williams 2006, equations 2.23 and 2.24). The batches of x, F and y are broadcast, as
look-ahead acquisitions such as the knowledge gradient ask.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from botorch.sampling.base import MCSampler
from gpytorch.distributions import MultivariateNormal
from linear_operator.operators import to_linear_operator
from torch import Tensor

__all__ = ["ModelWithFantasies", "NormalModel"]

# The least variance, relative to the prior one, that rounding leaves of a point that is known.
JITTER = 1e-9


class NormalModel(Model, ABC):
    """A model with one output whose posterior is normal.

    It can be conditioned on further observations, as look-ahead acquisitions ask.
    """

    num_outputs = 1

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the model's batch: there is one model."""
        return torch.Size([])

    @property
    @abstractmethod
    def noise(self) -> Tensor:
        """The variance of an observation's noise, a single number."""

    @property
    def noise_std(self) -> float:
        """The standard deviation of an observation's noise, in the unit of the model."""
        return math.sqrt(self.noise.item())

    @abstractmethod
    def joint_moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The joint normal distribution of the noise-free function at points.

        Args:
            X: `batch_shape x q x d`.

        Returns:
            The means, `batch_shape x q`, and the covariances, `batch_shape x q x q`.
        """

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,  # noqa: ARG002 - there is one output
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> GPyTorchPosterior:
        """The posterior of the noise-free function at points, or of noisy observations there.

        Args:
            X: `batch_shape x q x d`.
            output_indices: Does not matter, as there is one output.
            observation_noise: Whether to add the model's noise, or the variances to add,
                `batch_shape x q x 1` or fewer.
            posterior_transform: What to do to the posterior.
        """
        mean, covariance = self.joint_moments(X)
        if observation_noise is not False:
            added = self.noise
            if isinstance(observation_noise, Tensor):
                added = observation_noise.squeeze(-1)
            covariance = covariance + torch.diag_embed(added.expand(covariance.shape[:-1]))
        posterior = GPyTorchPosterior(MultivariateNormal(mean, to_linear_operator(covariance)))
        return posterior if posterior_transform is None else posterior_transform(posterior)

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


class ModelWithFantasies(NormalModel):
    """A model after further observations.

    Args:
        base: The model.
        X: F, `batch_shape x m x d`.
        Y: y, `batch_shape x m x 1`; its batch may have further dimensions in front.
    """

    def __init__(self, base: NormalModel, X: Tensor, Y: Tensor) -> None:
        super().__init__()
        self.base, self._X, self._Y = base, X, Y.squeeze(-1)

    @property
    def noise(self) -> Tensor:
        """The variance of an observation's noise, which is that of the base."""
        return self.base.noise

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch of observations."""
        return torch.Size(torch.broadcast_shapes(self._X.shape[:-2], self._Y.shape[:-1]))

    def joint_moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Means and covariances at `X`, `batch_shape x q x d`; the batches are broadcast."""
        q, m = X.shape[-2], self._X.shape[-2]
        batch = torch.broadcast_shapes(X.shape[:-2], self.batch_shape)
        both = [part.expand(*batch, *part.shape[-2:]) for part in (X, self._X)]
        mean, covariance = self.base.joint_moments(torch.cat(both, dim=-2))
        identity = torch.eye(q + m, dtype=mean.dtype)
        floor = JITTER * covariance.detach().diagonal(dim1=-2, dim2=-1).amax(-1)
        covariance = covariance + floor[..., None, None] * identity
        observed = covariance[..., q:, q:] + self.noise * identity[q:, q:]
        gain = torch.linalg.solve(observed, covariance[..., q:, :q]).mT
        surprise = (self._Y - mean[..., q:]).unsqueeze(-1)
        mean = mean[..., :q] + (gain @ surprise).squeeze(-1)
        return mean, covariance[..., :q, :q] - gain @ covariance[..., q:, :q]

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
