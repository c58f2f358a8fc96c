r"""What Gaussian processes predict with, once their hyper-parameters are known.

Notation:
    B: GPs in the batch; n: observations; m: points that support the prediction; d: columns.
    Y: `B x n`, standardised observations; s2: the variance of the noise; w: that of the function.
    k: covariances of a candidate with the support, `m`.

A prediction is `mean = k' alpha`, `variance = w - |F k|^2`. For up to `MAX_EXACT` observations
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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eeipu.models.kernels import AdditiveKernel
from eeipu.models.observations import Observations

__all__ = ["MAX_EXACT", "MAX_SUPPORT", "Conditioning", "condition"]

# The most observations whose posterior is exact: at 400 a suggestion was measured to take as long
# either way. Of more, the points of the support; those that come later, until the next fit, are
# added to it.
MAX_EXACT = 400
MAX_SUPPORT = 300

# Matrices of more numbers than this together (2 MB) are computed one after another: what a step
# computes should fit into the processor's cache.
NUMBERS_AT_ONCE = 250_000

# Added to the variance of the function at points of the support, two of which may be equal, and the
# least share of it that a factor keeps: rounding is far below it, and so is any noise.
JITTER = 1e-9


@dataclass(frozen=True)
class Projection:
    """The observations of a batch of GPs, seen from their support.

    Attributes:
        inverse: `B x m x m`, `L^-1`.
        V: `B x m x n`.
    """

    inverse: Tensor
    V: Tensor

    def select(self, rows: Tensor | slice) -> "Projection":
        """The GPs at `rows`."""
        return Projection(self.inverse[rows], self.V[rows])


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
        projection: What further observations add to; `None`: the support is all observations.
    """

    X: Tensor
    is_known: Tensor
    alpha: Tensor
    inverse_factor: Tensor
    residual: Tensor
    deviation: Tensor
    projection: Projection | None

    def select(self, rows: Tensor) -> "Conditioning":
        """The GPs at `rows`."""
        return replace(
            self,
            is_known=self.is_known[rows],
            alpha=self.alpha[rows],
            inverse_factor=self.inverse_factor[rows],
            residual=self.residual[rows],
            deviation=self.deviation[rows],
            projection=None if self.projection is None else self.projection.select(rows),
        )


def condition(
    observations: Observations,
    kernel: AdditiveKernel,
    noise: Tensor,
    support: Tensor | None,
    before: Conditioning | None = None,
) -> Conditioning:
    """Condition GPs on their observations.

    Args:
        observations: What they have observed.
        kernel: Their kernels.
        noise: `B`, the variances of their noise.
        support: `m x d`, the points that predictions rest on; `None`: all that were observed, so
            that predictions are exact.
        before: The same GPs after the first of these observations, with the first of the support.
            What was computed for these is taken from there.

    Returns:
        The result, in main memory.
    """
    size = len(observations.X if support is None else support)
    parts = []
    for rows in _slices(len(noise), max(1, NUMBERS_AT_ONCE // size**2)):
        own = observations.select(rows), kernel.select(rows), noise[rows]
        if support is None:
            parts.append(_exact(*own, None if before is None else before.inverse_factor[rows]))
        else:
            known = before.projection if before is not None else None
            parts.append(_projected(*own, support, None if known is None else known.select(rows)))
    alpha, inverse_factor, residual, precision, *projection = (
        torch.cat(part).cpu() for part in zip(*parts, strict=True)
    )
    is_known = observations.is_known.cpu()
    return Conditioning(
        (observations.X if support is None else support).cpu(),
        is_known if support is None else torch.ones_like(alpha).bool(),
        alpha,
        inverse_factor,
        torch.where(is_known, residual / precision, math.nan),
        precision.rsqrt(),
        Projection(*projection) if projection else None,
    )


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(i, i + step) for i in range(0, count, step))


def _exact(
    data: Observations, kernel: AdditiveKernel, noise: Tensor, before: Tensor | None
) -> tuple[Tensor, ...]:
    """`alpha`, F, and `C^-1 y` and the diagonal of `C^-1`, which give what is left out.

    Args:
        data: What was observed.
        kernel: Of the GPs.
        noise: `B`.
        before: F of the first observations, `B x n' x n'`.
    """
    if before is None:
        inverse_factor = _inverse(data.factor(kernel(data.X, data.X), noise))
    else:
        inverse_factor = _extended(before, data, kernel, noise)
    alpha = (inverse_factor.mT @ (inverse_factor @ data.y.unsqueeze(-1))).squeeze(-1)
    return alpha, inverse_factor, alpha, inverse_factor.square().sum(-2)


def _extended(before: Tensor, data: Observations, kernel: AdditiveKernel, noise: Tensor) -> Tensor:
    """F, from that of the first observations: a further row of it takes `n^2` steps."""
    n = before.shape[-1]
    old, new = data.at(torch.arange(n)), data.at(torch.arange(n, len(data.X)))
    cross = kernel(new.X, old.X) * new.is_known.unsqueeze(-1) * old.is_known.unsqueeze(-2)
    explained = cross @ before.mT
    known = new.is_known.unsqueeze(-1) & new.is_known.unsqueeze(-2)
    left = kernel(new.X, new.X) * known - explained @ explained.mT
    diagonal = torch.where(new.is_known, noise.unsqueeze(-1), 1.0)
    left.diagonal(dim1=-2, dim2=-1).add_(diagonal).masked_fill_(~new.is_known, 1.0)
    corner = _inverse(torch.linalg.cholesky(left))
    return _bordered(before, -corner @ explained @ before, corner)


def _projected(
    data: Observations,
    kernel: AdditiveKernel,
    noise: Tensor,
    support: Tensor,
    before: Projection | None,
) -> tuple[Tensor, ...]:
    """The same for predictions that rest on a support, and the parts of the projection."""
    variance = kernel.variance
    inverse, V = _projection(data, kernel, support, before)
    left = (variance - V.square().sum(-2)).clamp_min(0.0) + noise.unsqueeze(-1)
    precision = torch.where(data.is_known, 1.0 / left, 0.0)
    ones = torch.ones_like(variance)
    A = _jittered((V * precision.unsqueeze(-2)) @ V.mT, ones)
    A_inverse_factor = _inverse(torch.linalg.cholesky(A))
    gain = V @ (precision * data.y).unsqueeze(-1)
    shift = A_inverse_factor.mT @ (A_inverse_factor @ gain)
    explained = _jittered(-A_inverse_factor.mT @ A_inverse_factor, (1.0 + JITTER) * ones)
    root = torch.linalg.cholesky(explained)
    return (
        (shift.mT @ inverse).squeeze(-2),
        root.mT @ inverse,
        precision * (data.y - (shift.mT @ V).squeeze(-2)),
        precision - precision.square() * (A_inverse_factor @ V).square_().sum(-2),
        inverse,
        V,
    )


def _projection(
    data: Observations, kernel: AdditiveKernel, support: Tensor, before: Projection | None
) -> tuple[Tensor, Tensor]:
    """`L^-1` and V, from those of the first of the support and of the observations."""
    variance, V = kernel.variance, []
    if before is None:
        inner = _jittered(kernel(support, support), JITTER * variance)
        inverse, seen = _inverse(torch.linalg.cholesky(inner)), 0
    else:
        m, seen = before.V.shape[-2:]
        more = support[m:]
        explained = kernel(more, support[:m]) @ before.inverse.mT
        left = kernel(more, more) - explained @ explained.mT
        corner = _inverse(torch.linalg.cholesky(_jittered(left, JITTER * variance)))
        inverse = _bordered(before.inverse, -corner @ explained @ before.inverse, corner)
        below = corner @ (kernel(more, data.X[:seen]) - explained @ before.V)
        V.append(torch.cat([before.V, below], dim=-2))
    parts = torch.arange(seen, len(data.X)).split(max(1, NUMBERS_AT_ONCE // len(support)))
    V.extend(inverse @ kernel(support, data.X[some]) for some in parts)
    return inverse, torch.cat(V, dim=-1)


def _bordered(matrix: Tensor, below: Tensor, corner: Tensor) -> Tensor:
    """Lower triangular matrices with further rows and columns."""
    above = torch.cat([matrix, matrix.new_zeros((*matrix.shape[:-1], corner.shape[-1]))], dim=-1)
    return torch.cat([above, torch.cat([below, corner], dim=-1)], dim=-2)


def _inverse(factor: Tensor) -> Tensor:
    """The inverse of lower triangular matrices."""
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse


def _jittered(matrix: Tensor, amount: Tensor) -> Tensor:
    """Matrices, changed in place, with these amounts (`B x 1`) more on their diagonals."""
    matrix.diagonal(dim1=-2, dim2=-1).add_(amount)
    return matrix
