"""The observations of several Gaussian processes on common points, standardised, with gaps.

Notation:
    B: GPs in the batch.
    n: points.
    d: columns.
    X: `n x d`, points of the unit cube.
    y: `B x n`, standardised observations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eeipu.models.kernels import Matern52, widened

__all__ = ["Observations"]

# What the mean is estimated with, before anything is fitted: the prior's lengthscales
# (`eeipu.models.fitting`), in units of the square root of the dimension, and a little noise.
LENGTHSCALE, NOISE = 0.3, 1e-2

# The mean is estimated from at most this many points, since that takes the cube of their number.
MAX_WEIGHTED = 200


@dataclass(frozen=True)
class Observations:
    """Standardised observations. A GP need not have an observation at every point.

    Attributes:
        X: `n x d`.
        y: `B x n`, with mean 0 and a root mean square of 1 for each GP; 0 where it has none.
        is_known: `B x n`, boolean: whether the GP has an observation at the point.
        mean: `B x 1`, the mean of each GP's function in the unit of its observations, estimated by
            generalised least squares: many points close together count as one. A search crowds
            around its best points, and with their plain mean, which is nearly the best value, it
            would expect that of every corner that it has not seen.
        std: `B x 1`, the root mean square of the distances from it; 1 where all are equal.
    """

    X: Tensor
    y: Tensor
    is_known: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def standardised(cls, X: Tensor, Y: Tensor) -> "Observations":
        """Standardise the rows of `Y` (`B x n`), which is NaN where there is no observation."""
        is_known = ~Y.isnan()
        count = is_known.sum(-1, keepdim=True)
        plain = Y.nansum(-1, keepdim=True) / count
        mean = plain + (_weights(X, is_known) * (Y - plain)).nansum(-1, keepdim=True)
        std = ((Y - mean).square().nansum(-1, keepdim=True) / (count - 1).clamp_min(1)).sqrt()
        std = torch.where(std > 1e-9 * (1.0 + mean.abs()), std, 1.0)
        return cls(X, ((Y - mean) / std).nan_to_num(0.0), is_known, mean, std)

    def select(self, rows: Tensor | slice) -> "Observations":
        """The observations of the GPs at `rows`."""
        parts = (self.y, self.is_known, self.mean, self.std)
        return Observations(self.X, *(part[rows] for part in parts))

    def at(self, rows: Tensor) -> "Observations":
        """The observations at some points; mean and standard deviation stay."""
        return Observations(
            self.X[rows], self.y[:, rows], self.is_known[:, rows], self.mean, self.std
        )

    def begins_with(self, others: "Observations") -> bool:
        """Whether the first of these points, and what is known at them, are those of the others."""
        n = len(others.X)
        return torch.equal(self.X[:n], others.X) and torch.equal(
            self.is_known[:, :n], others.is_known
        )

    def representative(self, count: int, focus: Sequence[int] = ()) -> Tensor:
        """The rows of no more than `count` points that stand for all of them, ascending.

        A quarter may be points of the user's. The others are evenly spread over time, separately
        for each GP: of a stage that was seldom executed, what was observed is not left to chance.

        Args:
            count: The number of points, if there are as many.
            focus: Rows to take first, the most important one first.
        """
        n = len(self.X)
        if n <= count:
            return torch.arange(n)
        chosen = torch.zeros(n, dtype=torch.bool)
        chosen[list(focus[: count // 4])] = True
        patterns = torch.unique(self.is_known, dim=0)
        patterns = patterns[patterns.sum(-1).argsort()]  # the fewest observations first
        for left, known in zip(range(len(patterns), 0, -1), patterns, strict=True):
            _take_evenly(chosen, known, (count - int(chosen.sum())) // left)
        _take_evenly(chosen, torch.ones_like(chosen), count - int(chosen.sum()))
        return chosen.nonzero().squeeze(-1)

    def extended(self, X: Tensor, values: Tensor) -> "Observations":
        """These and further observations of all GPs; mean and standard deviation stay.

        Args:
            X: `m x d`.
            values: `B x m`, in the unit of the observations.
        """
        more = (values - self.mean) / self.std
        return Observations(
            torch.cat([self.X, widened(X, self.X.shape[-1])]),
            torch.cat([self.y, more], dim=-1),
            torch.cat([self.is_known, torch.ones_like(values).bool()], dim=-1),
            self.mean,
            self.std,
        )

    def to(self, device: torch.device) -> "Observations":
        """The same on another device."""
        parts = (self.X, self.y, self.is_known, self.mean, self.std)
        return Observations(*(part.to(device) for part in parts))

    def factor(self, kernel: Tensor, noise: Tensor) -> Tensor:
        """The Cholesky factor of the covariance of the observations, `B x n x n`.

        Points without an observation become independent of all others, so that the others are as
        if those points were not there.

        Args:
            kernel: `B x n x n`, the covariances of the noise-free function.
            noise: `B`, the variance of the noise.
        """
        pairs = self.is_known.unsqueeze(-1) & self.is_known.unsqueeze(-2)
        diagonal = torch.where(self.is_known, noise.unsqueeze(-1), 1.0)
        covariance = kernel * pairs
        covariance.diagonal(dim1=-2, dim2=-1).add_(diagonal)
        covariance.diagonal(dim1=-2, dim2=-1).masked_fill_(~self.is_known, 1.0)
        factor: Tensor = torch.linalg.cholesky(covariance)
        return factor


def _take_evenly(chosen: Tensor, candidates: Tensor, count: int) -> None:
    """Mark up to `count` more of the candidates as chosen, evenly spread over time."""
    free = (candidates & ~chosen).nonzero().squeeze(-1)
    count = min(count, len(free))
    if count > 0:
        chosen[free[torch.linspace(0, len(free) - 1, count).long()]] = True


def _weights(X: Tensor, is_known: Tensor) -> Tensor:
    """The weights of the observations in the estimate of the mean, `B x n`, that add up to 1.

    With the covariance C, they are proportional to `C^-1 1` (generalised least squares; Rasmussen
    and Williams 2006, section 2.7), where those below zero become zero.

    Note:
        Categories are as far apart as their codes.
    """
    n, d = X.shape
    rows = torch.linspace(0, n - 1, min(n, MAX_WEIGHTED), dtype=torch.double).round().long()
    known = is_known[:, rows].to(X)
    squares = torch.cdist(X[rows], X[rows]).square() / (LENGTHSCALE**2 * max(d, 1))
    kernel = Matern52.apply(squares)  # type: ignore[no-untyped-call]
    pairs = known.unsqueeze(-1) * known.unsqueeze(-2)
    # Points without an observation are independent of the others, and are not asked for.
    covariance = kernel * pairs + torch.diag_embed(NOISE + 1.0 - known)
    factor = torch.linalg.cholesky(covariance)
    raw = torch.cholesky_solve(known.unsqueeze(-1), factor).squeeze(-1).clamp_min(0.0)
    weights = torch.zeros_like(is_known, dtype=X.dtype)
    weights[:, rows] = raw * known
    # None of these points may have an observation.
    weights = torch.where(weights.sum(-1, keepdim=True) > 0, weights, is_known.to(X))
    normalised: Tensor = weights / weights.sum(-1, keepdim=True)
    return normalised
