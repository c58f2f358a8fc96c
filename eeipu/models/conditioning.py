r"""What Gaussian processes predict with, once their hyper-parameters are known.

Notation:
    B: GPs in the batch; n: observations; m: points that support the prediction; d: columns.
    Y: `B x n`, standardised observations; s2: the variance of the noise; w: that of the function.
    k: covariances of a candidate with the support, `m`.

A prediction is `mean = k' alpha`, `variance = w - |F k|^2`. For up to `MAX_SUPPORT` observations
these are the support, and the prediction is exact (Rasmussen and Williams 2006, equations 2.25 and
2.26): with the Cholesky factor L of `K + s2 I`, `F = L^-1` and `alpha = F' F y`.

More observations are taken for independent given the function at some of them, the support, each
with its own variance (FITC: Snelson and Ghahramani 2006; Quinonero-Candela and Rasmussen 2005,
section 6). The time then grows with n alone, no longer with its cube, and nothing that was observed
is left out. With the Cholesky factor L of the support's covariances,

    V = L^-1 K_mn,  D = w - |V_i|^2 + s2,  A = I + V D^-1 V',
    alpha = L^-T A^-1 V D^-1 y,  F' F = L^-T (I - A^-1) L^-1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from eeipu.models.kernels import AdditiveKernel
from eeipu.models.observations import Observations

__all__ = ["MAX_SUPPORT", "Conditioning", "condition"]

# The most observations whose posterior is exact, and the points of the support if there are more.
MAX_SUPPORT = 300

# Matrices of more numbers than this together (2 MB) are computed one after another: what a step
# computes should fit into the processor's cache.
NUMBERS_AT_ONCE = 250_000

# Added to the variance of the function at points of the support, two of which may be equal, and the
# least share of it that a factor keeps: rounding is far below it, and so is any noise.
JITTER = 1e-9


@dataclass(frozen=True)
class Conditioning:
    """A batch of GPs after their observations.

    Attributes:
        X: `m x d`, the support.
        is_known: `B x m`, whether a point of the support counts for a GP.
        alpha: `B x m`; 0 where it does not count.
        inverse_factor: `B x m x m`, F.
        residual: `B x n`, each standardised observation minus what all others predict; NaN where
            there is none.
        deviation: `B x n`, the standard deviation of that prediction.
    """

    X: Tensor
    is_known: Tensor
    alpha: Tensor
    inverse_factor: Tensor
    residual: Tensor
    deviation: Tensor

    def select(self, rows: Tensor) -> "Conditioning":
        """The GPs at `rows`."""
        parts = (self.is_known, self.alpha, self.inverse_factor, self.residual, self.deviation)
        return Conditioning(self.X, *(part[rows] for part in parts))


def condition(
    observations: Observations, kernel: AdditiveKernel, noise: Tensor, support: Tensor | None
) -> Conditioning:
    """Condition GPs on their observations.

    Args:
        observations: What they have observed.
        kernel: Their kernels.
        noise: `B`, the variances of their noise.
        support: `m`, which points the predictions rest on; `None`: all, and they are exact.

    Returns:
        The result, in main memory.
    """
    size = len(observations.X) if support is None else len(support)
    step = max(1, NUMBERS_AT_ONCE // size**2)
    parts = []
    for rows in _slices(len(noise), step):
        own, its_kernel = observations.select(rows), kernel.select(rows)
        if support is None:
            parts.append(_exact(own, its_kernel, noise[rows]))
        else:
            parts.append(_supported(own, its_kernel, noise[rows], support))
    alpha, inverse_factor, residual, precision = (
        torch.cat(part).cpu() for part in zip(*parts, strict=True)
    )
    is_known = observations.is_known.cpu()
    return Conditioning(
        (observations.X if support is None else observations.X[support]).cpu(),
        is_known if support is None else torch.ones_like(alpha).bool(),
        alpha,
        inverse_factor,
        torch.where(is_known, residual / precision, math.nan),
        precision.rsqrt(),
    )


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(i, i + step) for i in range(0, count, step))


def _exact(data: Observations, kernel: AdditiveKernel, noise: Tensor) -> tuple[Tensor, ...]:
    """`alpha`, F, and `C^-1 y` and the diagonal of `C^-1`, which give what is left out."""
    factor = data.factor(kernel(data.X, data.X), noise)
    inverse_factor = _inverse(factor)
    alpha = (inverse_factor.mT @ (inverse_factor @ data.y.unsqueeze(-1))).squeeze(-1)
    return alpha, inverse_factor, alpha, inverse_factor.square().sum(-2)


def _supported(
    data: Observations, kernel: AdditiveKernel, noise: Tensor, support: Tensor
) -> tuple[Tensor, ...]:
    """The same for predictions that rest on some of the points."""
    X, variance = data.X[support], kernel.variance
    inverse = _inverse(torch.linalg.cholesky(_jittered(kernel(X, X), JITTER * variance)))
    ones = torch.ones_like(variance)
    A, gain, parts = (
        torch.diag_embed(ones.expand(-1, len(X))),
        torch.zeros_like(inverse[..., 0]),
        [],
    )
    for some in torch.arange(len(data.X)).split(max(1, NUMBERS_AT_ONCE // len(X))):
        V = inverse @ kernel(X, data.X[some])
        left = (variance - V.square().sum(-2)).clamp_min(0.0) + noise.unsqueeze(-1)
        precision = torch.where(data.is_known[:, some], 1.0 / left, 0.0)
        weighted = V * precision.unsqueeze(-2)
        A.baddbmm_(weighted, V.mT)
        gain.add_((weighted @ data.y[:, some].unsqueeze(-1)).squeeze(-1))
        parts.append((V, precision))
    A_inverse_factor = _inverse(torch.linalg.cholesky(A))
    shift = A_inverse_factor.mT @ (A_inverse_factor @ gain.unsqueeze(-1))
    V, precision = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
    weighted = V * precision.unsqueeze(-2)
    explained = _jittered(-A_inverse_factor.mT @ A_inverse_factor, (1.0 + JITTER) * ones)
    root = torch.linalg.cholesky(explained)
    return (
        (shift.mT @ inverse).squeeze(-2),
        root.mT @ inverse,
        precision * (data.y - (shift.mT @ V).squeeze(-2)),
        precision - (A_inverse_factor @ weighted).square_().sum(-2),
    )


def _inverse(factor: Tensor) -> Tensor:
    """The inverse of lower triangular matrices."""
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse


def _jittered(matrix: Tensor, amount: Tensor) -> Tensor:
    """Matrices, changed in place, with these amounts (`B x 1`) more on their diagonals."""
    matrix.diagonal(dim1=-2, dim2=-1).add_(amount)
    return matrix
