r"""Fitting the hyper-parameters of a batch of Gaussian processes.

Notation:
    B: GPs in the batch; n: points; d: columns; T: terms of the kernel.
    l: `B x T x d`, lengthscales; w: `B x T`, weights of the terms; s2: `B`, noise variance.
    parameters: `B x P`, P = T d + T + 1: one row `log l, log w, log s2` for each GP.

The hyper-parameters are at the maximum of the posterior: the marginal likelihood

    log p(y) = -1/2 (y' C^-1 y + log det C + n log 2 pi),  C = k(X, X) + s2 I,

(`eeipu.models.likelihood`) plus the log density of log-normal priors. All GPs are fitted by one
batched L-BFGS-B.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from botorch.optim.batched_lbfgs_b import fmin_l_bfgs_b_batched
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.kernels import AdditiveKernel
from eeipu.models.likelihood import MarginalLikelihood
from eeipu.models.observations import Observations

__all__ = [
    "LOG_LENGTHSCALE_BOUNDS",
    "LOG_LENGTHSCALE_MEAN",
    "LOG_LENGTHSCALE_STD",
    "LOG_WEIGHT_STD",
    "Layout",
    "fitted",
    "prior",
]

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

# With more points than this, hyper-parameters are fitted to this many that represent them: the cost
# of a fit grows with the cube of their number. All points count in the posterior.
MAX_FITTED = 400
MAX_ITERATIONS = 100

# A fit ends once a step gains less than this share of the log posterior, which is of the order of
# the number of points. What is left to gain was measured to be about 0.003 nats (0.02 at most, 15
# histories of 40 and 100 trials); with 1e-6 a fit takes twice as many steps.
LEAST_GAIN = 1e-4
LEAST_SLOPE = 1e-2


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

    def pack(self, scales: Tensor, weights: Tensor, noise: Tensor) -> Tensor:
        """Rows in this order, `B x P`, of what belongs to the hyper-parameters."""
        return torch.cat([scales.flatten(1), weights, noise.unsqueeze(-1)], dim=-1)

    def bounds(self, most_noise: float = LOG_NOISE_BOUNDS[1]) -> list[tuple[float, float]]:
        """The lower and upper bound of each hyper-parameter's logarithm, `P` pairs."""
        scales = [LOG_LENGTHSCALE_BOUNDS] * (self.terms * self.columns)
        noise = LOG_NOISE_BOUNDS[0], most_noise
        return [*scales, *[LOG_WEIGHT_BOUNDS] * self.terms, noise]


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
    focus: Sequence[int] = (),
    most_noise: float = LOG_NOISE_BOUNDS[1],
    device: torch.device,
) -> Tensor:
    """The log hyper-parameters at the maximum of the posterior, `B x P`, in main memory.

    Args:
        observations: What the GPs have observed.
        kernel: Which columns its terms depend on; its lengthscales and weights do not matter.
        start: `B x P`, where each GP's search starts; `None`: at the prior.
        focus: The points to fit to in any case, if there are too many for all.
        most_noise: The upper bound of the logarithm of the noise's variance.
        device: Where to compute.
    """
    layout = Layout.of(kernel)
    first = _first(kernel) if start is None else start
    prior_mean, prior_std = (part.to(device) for part in prior(kernel))
    observations = observations.at(observations.representative(MAX_FITTED, focus))
    likelihood = MarginalLikelihood(observations, kernel, device)

    def negative(x: Array, batch_indices: list[int]) -> tuple[Array, Array]:
        rows = torch.tensor(batch_indices, device=device)
        parameters = torch.from_numpy(np.ascontiguousarray(x)).to(device)
        value, *slopes = likelihood(rows, *layout.unpack(parameters))
        away = (parameters - prior_mean[rows]) / prior_std[rows]
        total = value - 0.5 * away.square().sum(-1)
        gradient = layout.pack(*slopes) - away / prior_std[rows]
        negative_total = -np.nan_to_num(total.cpu().numpy(), nan=-1e10)
        return negative_total, -np.nan_to_num(gradient.cpu().numpy())

    best, _, _ = fmin_l_bfgs_b_batched(
        negative,
        first.numpy(),
        bounds=layout.bounds(most_noise),
        maxiter=MAX_ITERATIONS,
        factr=None,
        ftol=LEAST_GAIN,
        pgtol=LEAST_SLOPE,
        pass_batch_indices=True,
    )
    return torch.from_numpy(best)
