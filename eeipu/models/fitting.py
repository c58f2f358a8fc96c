r"""Fitting the hyper-parameters of a batch of Gaussian processes.

Notation:
    B: GPs in the batch; n: points; d: columns; T: terms of the kernel.
    l: `B x T x d`, lengthscales; w: `B x T`, weights of the terms; s2: `B`, noise variance.
    parameters: `B x P`, P = T d + T + 1: one row `log l, log w, log s2` for each GP.

The hyper-parameters are at the maximum of the posterior: the marginal likelihood

    log p(y) = -1/2 (y' C^-1 y + log det C + n log 2 pi),  C = k(X, X) + s2 I,

plus the log density of log-normal priors. All GPs are fitted by one batched L-BFGS-B.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from botorch.optim.batched_lbfgs_b import fmin_l_bfgs_b_batched
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.kernels import AdditiveKernel
from eeipu.models.observations import Observations

__all__ = ["Layout", "fitted", "log_likelihood", "prior"]

Array = NDArray[np.float64]

# Priors, as mean and standard deviation of the logarithm. Lengthscales: 0.3 times the square root
# of the term's dimension (Hvarfner, Hellsten and Nardi 2024, arXiv 2402.02229, for the root),
# within a factor of 3.3 in 95 % of cases. Their wider and longer prior, BoTorch's default, took
# wiggly stages for trends and sent the search to the corners. Weights: the terms share the variance
# of the standardised observations evenly, within a factor of 20 in 95 % of cases, so that a term
# can nearly vanish. Noise: a deviation of a twentieth of that of the observations, within a factor
# of 20 in 95 % of cases. BoTorch's default, -4 and 1, takes objectives without noise for noisy ones
# and keeps their optimum from being refined.
LOG_LENGTHSCALE_MEAN, LOG_LENGTHSCALE_STD = -1.2, 0.6
LOG_WEIGHT_STD = 1.5
LOG_NOISE_MEAN, LOG_NOISE_STD = -6.0, 3.0

# Bounds of the logarithms. Smaller noise than the least value here makes no difference to
# predictions, but puts the Cholesky factor of close points at risk.
LOG_LENGTHSCALE_BOUNDS = (math.log(5e-3), math.log(1e3))
LOG_WEIGHT_BOUNDS = (-12.0, 4.0)
LOG_NOISE_BOUNDS = (math.log(1e-6), 1.0)

# With more points than this, hyper-parameters are fitted to this many of them, evenly spread over
# time: the cost of a fit grows with the cube of their number. All points count in the posterior.
MAX_FITTED = 400
MAX_ITERATIONS = 100


@dataclass(frozen=True)
class Layout:
    """Where the hyper-parameters of a GP stand in its row.

    Attributes:
        terms: T.
        columns: d.
    """

    terms: int
    columns: int

    @classmethod
    def of(cls, kernel: AdditiveKernel) -> "Layout":
        """The layout of a kernel's hyper-parameters."""
        _, terms, columns = kernel.active.shape
        return cls(terms, columns)

    def unpack(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Lengthscales (`B x T x d`), weights (`B x T`) and noise variances (`B`)."""
        T, d = self.terms, self.columns
        scales, weights, noise = parameters.exp().split([T * d, T, 1], dim=-1)
        return scales.unflatten(-1, (T, d)), weights, noise.squeeze(-1)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """The lower and upper bound of each hyper-parameter's logarithm, `P` pairs."""
        scales = [LOG_LENGTHSCALE_BOUNDS] * (self.terms * self.columns)
        return [*scales, *[LOG_WEIGHT_BOUNDS] * self.terms, LOG_NOISE_BOUNDS]


def prior(kernel: AdditiveKernel) -> tuple[Tensor, Tensor]:
    """The means and standard deviations of the log hyper-parameters, `B x P` each."""
    B, T, d = kernel.active.shape
    size = kernel.active.sum(-1, keepdim=True).clamp_min(1.0)
    scales = (LOG_LENGTHSCALE_MEAN + 0.5 * size.log()).expand(B, T, d).flatten(1)
    one = scales.new_ones((B, 1))
    means = [scales, one.expand(B, T) * -math.log(T), one * LOG_NOISE_MEAN]
    stds = [LOG_LENGTHSCALE_STD, LOG_WEIGHT_STD, LOG_NOISE_STD]
    spread = [torch.full_like(m, std) for m, std in zip(means, stds, strict=True)]
    return torch.cat(means, dim=-1), torch.cat(spread, dim=-1)


def _first(kernel: AdditiveKernel) -> Tensor:
    """The prior's means, but with lengthscales of half the cube, where every slope is visible."""
    start = prior(kernel)[0].clone()
    start[:, : kernel.active[0].numel()] = math.log(0.5)
    return start


def fitted(
    observations: Observations,
    kernel: AdditiveKernel,
    *,
    start: Tensor | None = None,
    device: torch.device,
) -> Tensor:
    """The log hyper-parameters at the maximum of the posterior, `B x P`, in main memory.

    Args:
        observations: What the GPs have observed.
        kernel: Which columns its terms depend on; its lengthscales and weights do not matter.
        start: `B x P`, where each GP's search starts; `None`: at the prior.
        device: Where to compute.
    """
    layout = Layout.of(kernel)
    first = _first(kernel) if start is None else start
    prior_mean, prior_std = (part.to(device) for part in prior(kernel))
    observations = observations.at_most(MAX_FITTED).to(device)
    kernel = kernel.to(device)

    def negative(x: Array, batch_indices: list[int]) -> tuple[Array, Array]:
        b = torch.tensor(batch_indices, device=device)
        point = torch.from_numpy(np.ascontiguousarray(x))
        parameters = point.to(device).requires_grad_(True)
        scales, weights, noise = layout.unpack(parameters)
        own = observations.select(b)
        covariance = kernel.select(b).scaled(scales, weights)(own.X, own.X)
        value, slope = log_likelihood(own, covariance.detach(), noise.detach())
        # The likelihood depends on the hyper-parameters through the covariance alone, and its
        # slope there is known in closed form: no need to differentiate a Cholesky factor.
        trace = slope.diagonal(dim1=-2, dim2=-1).sum(-1)
        penalty = -0.5 * ((parameters - prior_mean[b]) / prior_std[b]).square().sum(-1)
        surrogate = (slope * covariance).sum() + (trace * noise).sum() + penalty.sum()
        (gradient,) = torch.autograd.grad(surrogate, parameters)
        total = (value + penalty.detach()).cpu().numpy()
        return -np.nan_to_num(total, nan=-1e10), -np.nan_to_num(gradient.cpu().numpy())

    best, _, _ = fmin_l_bfgs_b_batched(
        negative,
        first.numpy(),
        bounds=layout.bounds,
        maxiter=MAX_ITERATIONS,
        factr=None,
        ftol=1e-6,
        pgtol=1e-3,
        pass_batch_indices=True,
    )
    return torch.from_numpy(best)


def log_likelihood(
    observations: Observations, kernel: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The log marginal likelihood, `B`, and its slope in the covariance, `B x n x n`.

    Args:
        observations: What the GPs have observed.
        kernel: `B x n x n`, the covariances of the noise-free function at the points.
        noise: `B`, the variance of the noise.
    """
    y, is_known = observations.y, observations.is_known
    factor = observations.factor(kernel, noise)
    inverse = torch.cholesky_inverse(factor)
    alpha = (inverse @ y.unsqueeze(-1)).squeeze(-1)
    log_determinant = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = is_known.sum(-1) * math.log(2.0 * math.pi)
    value = -0.5 * ((alpha * y).sum(-1) + log_determinant + constant)
    pairs = is_known.unsqueeze(-1) & is_known.unsqueeze(-2)
    slope = 0.5 * (alpha.unsqueeze(-1) * alpha.unsqueeze(-2) - inverse) * pairs
    return value, slope
