r"""Predictions of several Gaussian processes at once, with their gradients in closed form.

An ascent asks some forty times for the value and the gradient of an acquisition at about twenty
points. Automatic differentiation and one model after another would spend most of that time on
overhead. Here the kernel terms of all GPs are one batch, and the gradient is written out.

Notation:
    G: GPs; R: terms of all their kernels together; n: points observed; d: columns; b: candidates.
    X: `n x d`, the observed points; x: `b x d`, the candidates.
    a: `R x d`, inverse lengthscales, 0 where a term does not depend on a column.
    W: `G x R`, the weight of a term in a GP's kernel, 0 where it belongs to another GP.
    alpha: `G x n`, `C^-1 y`; F: `G x n x n`, the inverse of the Cholesky factor of C.
    k: `G x b x n`, covariances of the candidates with the observations.

With `r_t^2 = sum_c a_tc^2 (x_c - X_ic)^2` and the Matern kernel M (`eeipu.models.kernels`),

    k = sum_t W_t M(r_t),  mean = k' alpha,  variance = sum_t W_t - |F k|^2

(Rasmussen and Williams 2006, equations 2.25 and 2.26). For any function h of means and variances,

    dh/dk   = dh/dmean alpha - 2 dh/dvariance F' F k,
    dh/dx_c = sum_t sum_i 2 a_tc^2 (x_c - X_ic) q_ti,  q_ti = W_t M'(r_ti^2) dh/dk_i,
    M'(r^2) = -5/6 (1 + sqrt5 r) exp(-sqrt5 r).

Categories have no gradient.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from eeipu.models.gaussian_process import MIN_VARIANCE, ExactGPs
from eeipu.models.kernels import widened

__all__ = ["ClosedFormGPs", "Pullback"]

# Covariances computed in one call, if it is asked for many points (2 MB); but not for fewer points
# than this number, since every call reads the factors of all GPs.
COVARIANCES_AT_ONCE = 250_000
LEAST_AT_ONCE = 128

Pullback = Callable[[Tensor, Tensor], Tensor]
"""The gradients of a function in the means and in the variances (`G x b` each) -> its gradient in
the candidates (`b x d`)."""


class ClosedFormGPs:
    """GPs that predict together, with gradients.

    Args:
        batches: Batches of GPs on the same points, at least one.

    Attributes:
        points_at_once: How many points to predict at in one call, at most, if many are asked for:
            what a call computes should fit into the processor's cache.
    """

    def __init__(self, batches: Sequence[ExactGPs]) -> None:
        data, kernels = [b.observations for b in batches], [b.kernel for b in batches]
        support = [b.conditioning for b in batches]
        self._mean = torch.cat([part.mean for part in data])
        self._std = torch.cat([part.std for part in data])
        self._known = torch.cat([part.is_known for part in support]).to(self._mean).unsqueeze(1)
        self._alpha = torch.cat([part.alpha for part in support]).unsqueeze(-1)
        self._factor = torch.cat([part.inverse_factor for part in support])
        inverse = torch.cat([(k.active / k.scales).flatten(0, 1) for k in kernels])
        self._active = inverse > 0
        self._weights = torch.block_diag(*(row for k in kernels for row in k.weights))
        self._variance = self._weights.sum(-1, keepdim=True)
        self._categories = kernels[0].categories
        # The points of the GP that each term belongs to, `R x n x d`, or `1 x n x d` if all are
        # the same.
        if all(torch.equal(part.X, support[0].X) for part in support):
            X = support[0].X.unsqueeze(0)
        else:
            counts = [k.weights.numel() for k in kernels]
            X = torch.cat([s.X.expand(c, -1, -1) for s, c in zip(support, counts, strict=True)])
        self._category_values = X[:, :, self._categories]
        # Scaled by sqrt 5, so that distances come out as `sqrt5 r`.
        self._category_squares = 5.0 * inverse[:, self._categories].square()
        self._inverse = math.sqrt(5.0) * inverse
        self._inverse[:, self._categories] = 0.0
        self._inverse = self._inverse.unsqueeze(1)
        self._X = X * self._inverse
        self._squares = self._X.square().sum(-1).unsqueeze(1)
        self.points_at_once = max(LEAST_AT_ONCE, COVARIANCES_AT_ONCE // self._squares.numel())

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Pullback]:
        """Means and variances in the unit of the observations, and how gradients go back.

        Args:
            x: `b x d`.

        Returns:
            Means and variances, `G x b`, and the pullback of gradients in them.
        """
        width = x.shape[-1]
        x = widened(x, self._inverse.shape[-1])
        scaled = x * self._inverse
        root = self._distances(x, scaled)
        decay = root.neg().exp_()
        terms = (1.0 + root).addcmul_(root, root, value=1.0 / 3.0).mul_(decay)
        k = (self._weights @ terms.flatten(1)).unflatten(1, terms.shape[1:]).mul_(self._known)
        whitened = k @ self._factor.mT
        mean = self._mean + self._std * (k @ self._alpha).squeeze(-1)
        latent = self._variance - whitened.square().sum(-1)
        square = self._std.square()

        def pullback(d_mean: Tensor, d_variance: Tensor) -> Tensor:
            d_latent = -2.0 * square * d_variance * (latent >= MIN_VARIANCE)
            d_k = torch.baddbmm(
                (self._std * d_mean).unsqueeze(-1) * self._alpha.mT,
                d_latent.unsqueeze(-1) * whitened,
                self._factor,
            ).mul_(self._known)
            # The slope of M in (sqrt5 r)^2 is -1/6 of this.
            slope = (1.0 + root).mul_(decay)
            q = (self._weights.mT @ d_k.flatten(1)).unflatten(1, d_k.shape[1:]).mul_(slope)
            steps = scaled * q.sum(-1, keepdim=True) - q @ self._X
            gradient: Tensor = (steps * self._inverse).sum(0).mul_(-1.0 / 3.0)
            return gradient[:, :width]

        return mean, square * latent.clamp_min(MIN_VARIANCE), pullback

    def __len__(self) -> int:
        return len(self._weights)

    def select(self, rows: Tensor) -> "ClosedFormGPs":
        """The GPs where `rows` (`G`, boolean) is true, and their terms alone."""
        chosen, terms = copy(self), (self._weights[rows] != 0).any(0)
        for name in ("_mean", "_std", "_known", "_alpha", "_factor", "_variance"):
            setattr(chosen, name, getattr(self, name)[rows])
        for name in ("_active", "_category_squares", "_inverse", "_X", "_squares"):
            setattr(chosen, name, getattr(self, name)[terms])
        chosen._weights = self._weights[rows][:, terms]
        if len(self._category_values) > 1:
            chosen._category_values = self._category_values[terms]
        return chosen

    def of_completions(self, points: Tensor, fixed: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances at many points that share columns.

        Every point is completed by every candidate. What depends on one of them alone is computed
        once: of the kernels' terms, only those over columns of both are left for the pairs.

        Args:
            points: `P x d`, of which the fixed columns count.
            fixed: `d`, boolean, the columns of the points; the others are the candidates'.
            x: `b x d`.

        Returns:
            Means and variances, `G x P x b`.
        """
        points, x = (widened(part, self._inverse.shape[-1]) for part in (points, x))
        missing = self._inverse.shape[-1] - len(fixed)
        fixed = torch.cat([fixed, fixed.new_ones(missing)])
        on_points, on_x = self._active[:, fixed].any(-1), self._active[:, ~fixed].any(-1)
        of_points = self._part(points, ~on_x, fixed)
        of_x = self._part(x, on_x & ~on_points, ~fixed)
        first, second = of_points @ self._factor.mT, of_x @ self._factor.mT
        mean = of_points @ self._alpha + (of_x @ self._alpha).mT
        explained = (
            first.square().sum(-1, keepdim=True)
            + second.square().sum(-1).unsqueeze(-2)
            + 2.0 * first @ second.mT
        )
        mixes = (self._weights[:, on_points & on_x] != 0).any(-1)
        if mixes.any():
            sums = of_points[mixes].unsqueeze(2), of_x[mixes].unsqueeze(1)
            mean[mixes], explained[mixes] = self.select(mixes)._of_pairs(points, fixed, x, *sums)
        std = self._std.unsqueeze(-1)
        latent = (self._variance.unsqueeze(-1) - explained).clamp_min(MIN_VARIANCE)
        return self._mean.unsqueeze(-1) + std * mean, std.square() * latent

    def _of_pairs(
        self, points: Tensor, fixed: Tensor, x: Tensor, of_points: Tensor, of_x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Standardised means, and the variances that the data explain, `G x P x b`.

        Args:
            points: `P x d`.
            fixed: `d`.
            x: `b x d`.
            of_points: `G x P x 1 x n`, the part of the covariances that depends on points alone.
            of_x: `G x 1 x b x n`, the part that depends on candidates alone.
        """
        mixed = self._active[:, fixed].any(-1) & self._active[:, ~fixed].any(-1)
        weights = self._weights[:, mixed]
        squares_of_x = self._squares_over(x, mixed, ~fixed).unsqueeze(1)
        parts = []
        step = max(1, COVARIANCES_AT_ONCE // squares_of_x.numel())
        for some, own in zip(points.split(step), of_points.split(step, dim=1), strict=True):
            squares = self._squares_over(some, mixed, fixed).unsqueeze(2) + squares_of_x
            terms = _matern(squares.clamp_min_(0.0).sqrt_())
            k = (weights @ terms.flatten(1)).unflatten(1, terms.shape[1:])
            k = k.mul_(self._known.unsqueeze(1)).add_(own).add_(of_x).flatten(1, 2)
            explained = (k @ self._factor.mT).square_().sum(-1)
            parts.append(
                [m.unflatten(1, (-1, len(x))) for m in ((k @ self._alpha).squeeze(-1), explained)]
            )
        mean, explained = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return mean, explained

    def _part(self, x: Tensor, terms: Tensor, columns: Tensor) -> Tensor:
        """The part of some terms in the covariances with the observations, `G x b x n`."""
        squares = self._squares_over(x, terms, columns).clamp_min_(0.0)
        k = self._weights[:, terms] @ _matern(squares.sqrt_()).flatten(1)
        part: Tensor = k.unflatten(1, squares.shape[1:]).mul_(self._known)
        return part

    def _squares_over(self, x: Tensor, terms: Tensor, columns: Tensor) -> Tensor:
        """The part of some columns in `5 r^2` of some terms, `r x b x n`.

        Rounding may make it negative.
        """
        scaled, own = x * (self._inverse[terms] * columns), self._X[terms] * columns
        squares = torch.baddbmm(own.square().sum(-1).unsqueeze(1), scaled, own.mT, alpha=-2.0)
        squares.add_(scaled.square().sum(-1, keepdim=True))
        self._add_categories(squares, x, terms, columns)
        return squares

    def _distances(self, x: Tensor, scaled: Tensor) -> Tensor:
        """`sqrt5 r`, `R x b x n`."""
        squares = torch.baddbmm(self._squares, scaled, self._X.mT, alpha=-2.0)
        squares.add_(scaled.square().sum(-1, keepdim=True))
        every = torch.ones(len(self._active), dtype=torch.bool)
        self._add_categories(squares, x, every, torch.ones(x.shape[-1], dtype=torch.bool))
        # Rounding may have made a square negative.
        return squares.clamp_min_(0.0).sqrt_()

    def _add_categories(self, squares: Tensor, x: Tensor, terms: Tensor, columns: Tensor) -> None:
        """Add the part of the categorical ones among some columns, in place."""
        for i, column in enumerate(self._categories):
            if columns[column]:
                values = self._category_values[..., i].unsqueeze(1)
                values = values if len(values) == 1 else values[terms]
                differ = (x[:, column, None] - values).abs() > 1e-9
                squares.addcmul_(differ.to(squares), self._category_squares[terms, i, None, None])


def _matern(root: Tensor) -> Tensor:
    """The Matern kernel of `sqrt5 r`."""
    decay = root.neg().exp_()
    return (1.0 + root).addcmul_(root, root, value=1.0 / 3.0).mul_(decay)
