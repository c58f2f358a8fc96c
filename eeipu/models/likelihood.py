r"""The marginal likelihood of a batch of Gaussian processes, with its gradient in closed form.

Notation:
    B: GPs in the batch; n: points; p: pairs of points; d: columns; T: terms of the kernel.
    l: `B x T x d`, lengthscales; w: `B x T`, weights of the terms; s2: `B`, noise variance.
    D: `d x p`, squared differences of the pairs; for categories 0 if equal, 1 if not.
    C: `B x n x n`, the covariance of the observations; alpha: `C^-1 y`.

With `r_t^2 = sum_c D_c / l_tc^2` and the Matern kernel M (`eeipu.models.kernels`),

    C = sum_t w_t M(r_t) + s2 I,  L = -1/2 (y' alpha + log det C + n log 2 pi),
    S = dL/dC = (alpha alpha' - C^-1) / 2,
    dL/dlog w_t = w_t sum_ij S_ij M(r_t)_ij,  dL/dlog s2 = s2 sum_i S_ii,
    dL/dlog l_tc = 5/3 w_t / l_tc^2 sum_ij S_ij (1 + sqrt5 r_t)_ij exp(-sqrt5 r_t)_ij D_c

(Rasmussen and Williams 2006, equations 2.30 and 5.9). All matrices are symmetric: what depends on
pairs is computed for i > j alone, and the differences are the same in every step of a fit.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from eeipu.models.kernels import AdditiveKernel
from eeipu.models.observations import Observations

__all__ = ["MarginalLikelihood"]

# GPs whose pairs and terms are more numbers than this together (2 MB) are computed one after
# another: what a step computes should fit into the processor's cache.
PAIRS_AT_ONCE = 250_000


class MarginalLikelihood:
    """The log marginal likelihoods of GPs as functions of their hyper-parameters.

    Args:
        observations: What the GPs have observed.
        kernel: Which columns its terms depend on; its lengthscales and weights do not matter.
        device: Where to compute.
    """

    def __init__(
        self, observations: Observations, kernel: AdditiveKernel, device: torch.device
    ) -> None:
        X, n = observations.X, len(observations.X)
        rows, columns = torch.tril_indices(n, n, -1)
        difference = X.T[:, rows] - X.T[:, columns]
        difference[kernel.categories] = (difference[kernel.categories].abs() > 1e-9).to(X)
        self._squares = difference.square_().to(device)
        # Where a pair stands in a matrix, if its rows are laid end to end.
        self._below, self._above = (
            (a * n + b).to(device) for a, b in ((rows, columns), (columns, rows))
        )
        self._active = kernel.active.to(device)
        self._y = observations.y.to(device)
        known = observations.is_known.to(self._y)
        self._known = known
        self._both = None if known.all() else known[:, rows] * known[:, columns]

    def __call__(
        self, rows: Tensor, scales: Tensor, weights: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The likelihoods of some GPs and their gradients in the logarithms of hyper-parameters.

        Args:
            rows: `b`, which GPs of the batch.
            scales: `b x T x d`, lengthscales.
            weights: `b x T`.
            noise: `b`, variances.

        Returns:
            The values, `b`, and the gradients, in the shapes of the last three arguments.
        """
        parts = [
            self._one_part(rows[part], scales[part], weights[part], noise[part])
            for part in self._parts(len(rows), weights.shape[-1])
        ]
        value, scale_slope, weight_slope, noise_slope = zip(*parts, strict=True)
        return (
            torch.cat(value),
            torch.cat(scale_slope),
            torch.cat(weight_slope),
            torch.cat(noise_slope),
        )

    def _parts(self, count: int, terms: int) -> Iterator[slice]:
        step = max(1, PAIRS_AT_ONCE // max(1, terms * len(self._below)))
        return (slice(i, i + step) for i in range(0, count, step))

    def _one_part(
        self, rows: Tensor, scales: Tensor, weights: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y, known = self._y[rows], self._known[rows]
        both = None if self._both is None else self._both[rows]
        inverse = self._active[rows] / scales.square()
        root = (5.0 * inverse @ self._squares).sqrt_()
        decay = root.neg().exp_()
        slopes = (1.0 + root).mul_(decay)
        # M(r) = (1 + root + root^2 / 3) exp(-root)
        terms = torch.addcmul(slopes, root.square_(), decay, value=1.0 / 3.0)
        pairs = (weights.unsqueeze(-2) @ terms).squeeze(-2)
        factor = self._factor(pairs if both is None else pairs * both, known, weights, noise)
        precision = torch.cholesky_inverse(factor)
        alpha = (precision @ y.unsqueeze(-1)).squeeze(-1)
        log_determinant = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        value = -0.5 * (
            (alpha * y).sum(-1) + log_determinant + known.sum(-1) * math.log(2.0 * math.pi)
        )
        in_trace = 0.5 * (alpha.square() - precision.diagonal(dim1=-2, dim2=-1)) * known
        trace = in_trace.sum(-1)
        # S on both sides of the diagonal.
        slope = (alpha.unsqueeze(-1) * alpha.unsqueeze(-2) - precision).flatten(1)
        slope = slope.index_select(1, self._below)
        slope = (slope if both is None else slope * both).unsqueeze(-2)
        weight_slope = weights * ((terms @ slope.mT).squeeze(-1) + trace.unsqueeze(-1))
        by_scale = slopes.mul_(slope) @ self._squares.T
        scale_slope = (5.0 / 3.0) * weights.unsqueeze(-1) * inverse * by_scale
        return value, scale_slope, weight_slope, noise * trace

    def _factor(self, pairs: Tensor, known: Tensor, weights: Tensor, noise: Tensor) -> Tensor:
        """The Cholesky factor of the covariance; unknown observations are independent of all."""
        b, n = known.shape
        covariance = pairs.new_zeros((b, n * n))
        covariance.index_copy_(1, self._below, pairs).index_copy_(1, self._above, pairs)
        covariance = covariance.unflatten(-1, (n, n))
        variance = (weights.sum(-1) + noise).unsqueeze(-1)
        covariance.diagonal(dim1=-2, dim2=-1).copy_(torch.where(known > 0, variance, 1.0))
        factor: Tensor = torch.linalg.cholesky(covariance)
        return factor
