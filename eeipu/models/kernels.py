r"""The kernel of the Gaussian processes: a weighted sum of Matern terms over some columns each.

Notation:
    B: GPs in the batch; T: terms of the kernel; d: columns.
    active: `B x T x d`, which columns a term of a GP's kernel depends on.
    l: `B x T x d`, lengthscales; w: `B x T`, weights of the terms.

    k(x, x') = sum_t w_t M(r_t(x, x')),
    M(r) = (1 + sqrt5 r + 5/3 r^2) exp(-sqrt5 r)                       (Matern, nu = 5/2)
    r_t^2 = sum_{c active in t} delta_c(x, x')^2 / l_tc^2

Here `delta` is the difference of two numbers; for categories it is 0 if they are equal and 1 if
they differ. (This is what a one-hot encoding with one lengthscale a parameter amounts to, without
its additional columns.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["AdditiveKernel", "Matern52", "widened"]


@dataclass(frozen=True)
class AdditiveKernel:
    """The kernels of a batch of GPs.

    Attributes:
        active: `B x T x d`, 1 where a term depends on a column and 0 where it does not.
        numbers: The columns whose values have an order.
        categories: The columns whose values have none.
        scales: `B x T x d`, lengthscales.
        weights: `B x T`.
    """

    active: Tensor
    numbers: Tensor
    categories: Tensor
    scales: Tensor
    weights: Tensor

    @classmethod
    def over(cls, active: Tensor, categorical: Sequence[int]) -> "AdditiveKernel":
        """A kernel with these active columns, whose lengthscales and weights are all 1.

        Args:
            active: `B x T x d`.
            categorical: The columns without an order.
        """
        is_category = torch.zeros(active.shape[-1], dtype=torch.bool)
        is_category[list(categorical)] = True
        return cls(
            active,
            (~is_category).nonzero().squeeze(-1),
            is_category.nonzero().squeeze(-1),
            torch.ones_like(active),
            torch.ones_like(active[..., 0]),
        )

    def scaled(self, scales: Tensor, weights: Tensor) -> "AdditiveKernel":
        """The kernel with other lengthscales and weights."""
        return replace(self, scales=scales, weights=weights)

    def select(self, rows: Tensor | slice) -> "AdditiveKernel":
        """The kernels of the GPs at `rows`."""
        return replace(
            self, active=self.active[rows], scales=self.scales[rows], weights=self.weights[rows]
        )

    def to(self, device: torch.device) -> "AdditiveKernel":
        """The same on another device."""
        return replace(
            self,
            active=self.active.to(device),
            scales=self.scales.to(device),
            weights=self.weights.to(device),
        )

    @property
    def variance(self) -> Tensor:
        """The variance of the function at any point, `B x 1`."""
        return self.weights.sum(-1, keepdim=True)

    def __call__(self, A: Tensor, C: Tensor) -> Tensor:
        """Covariances of the function between points.

        Args:
            A: `* x a x d`, or with fewer columns; see `widened`.
            C: `* x c x d`, likewise.

        Returns:
            `B x * x a x c`.
        """
        scales, weights = self.scales, self.weights
        A, C = widened(A, scales.shape[-1]), widened(C, scales.shape[-1])
        lead = (1,) * (A.ndim - 2)
        inverse = (self.active / scales).reshape(*scales.shape[:2], *lead, 1, scales.shape[-1])
        a, c = (P[..., self.numbers] * inverse[..., self.numbers] for P in (A, C))
        differ = [
            (A[..., :, None, column] - C[..., None, :, column]).abs() > 1e-9
            for column in self.categories
        ]
        total = a.new_zeros(())
        for t in range(weights.shape[1]):  # one after another, to save memory
            at, ct = a[:, t], c[:, t]
            # In place, to save memory too: with thousands of points, each copy is large.
            squares = (at @ ct.transpose(-1, -2)).mul_(-2.0)
            squares.add_(at.square().sum(-1).unsqueeze(-1)).add_(ct.square().sum(-1).unsqueeze(-2))
            for column, apart in zip(self.categories, differ, strict=True):
                squares = squares + apart * inverse[:, t, ..., column, None].square()
            term = Matern52.apply(squares)  # type: ignore[no-untyped-call]
            total = torch.addcmul(total, weights[:, t].reshape(-1, *lead, 1, 1), term)
        return total


def widened(X: Tensor, columns: int) -> Tensor:
    """Points with so many columns; those that are missing at the end are 0.

    Where a model learns from several studies, they say from which, and 0 is the present one.
    """
    missing = columns - X.shape[-1]
    return torch.nn.functional.pad(X, (0, missing)) if missing > 0 else X


class Matern52(torch.autograd.Function):
    """`M` as a function of `r^2`: its slope is smooth at 0, where that of the root is not."""

    @staticmethod
    def forward(ctx: Any, squares: Tensor) -> Tensor:
        """`M`, elementwise."""
        # Rounding may have made a square negative.
        root = (5.0 * squares).clamp_min_(0.0).sqrt_()
        decay = root.neg().exp_()
        ctx.save_for_backward(root, decay)
        return (1.0 + root).addcmul_(root, root, value=1.0 / 3.0).mul_(decay)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The slope of `M` in `r^2`, times the gradient of what follows."""
        root, decay = ctx.saved_tensors
        slope: Tensor = (-5.0 / 6.0) * (1.0 + root) * decay
        return gradients[0] * slope
