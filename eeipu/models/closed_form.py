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

import torch
from torch import Tensor

from eeipu.models.gaussian_process import MIN_VARIANCE, ExactGPs

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
        self._weights = torch.block_diag(*(row for k in kernels for row in k.weights))
        self._variance = self._weights.sum(-1, keepdim=True)
        self._categories = kernels[0].categories
        # The points of the GP that each term belongs to, `R x n x d`.
        X = torch.cat(
            [
                part.X.expand(k.weights.numel(), -1, -1)
                for part, k in zip(support, kernels, strict=True)
            ]
        )
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
            return gradient

        return mean, square * latent.clamp_min(MIN_VARIANCE), pullback

    def _distances(self, x: Tensor, scaled: Tensor) -> Tensor:
        """`sqrt5 r`, `R x b x n`."""
        squares = torch.baddbmm(self._squares, scaled, self._X.mT, alpha=-2.0)
        squares.add_(scaled.square().sum(-1, keepdim=True))
        for i, column in enumerate(self._categories):
            differ = (x[:, column, None] - self._category_values[:, None, :, i]).abs() > 1e-9
            squares.add_(differ * self._category_squares[:, i, None, None])
        # Rounding may have made a square negative.
        return squares.clamp_min_(0.0).sqrt_()
