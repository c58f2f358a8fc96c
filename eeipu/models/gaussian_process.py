r"""Exact Gaussian processes, many at once, over numbers and categories.

A suggestion needs one GP of the objective and several of each stage's cost, all on the same few
hundred points, and evaluates them at thousands of candidates. Fitting and evaluating them as one
batch of dense tensors is what makes a suggestion cheap.

Notation:
    B: GPs in the batch; n: points; d: columns; T: terms of the kernel; m: test points.
    X: `n x d`, points of the unit cube; Y: `B x n`, observations, NaN where there is none.
    active: `B x T x d`, which columns a term of a GP's kernel sees.
    l: `B x T x d`, lengthscales; w: `B x T`, weights of the terms; s2: `B`, noise variance.

Model, for each GP after its observations have been standardised:

    y = f(x) + e,  e ~ N(0, s2),  f ~ GP(0, k),  k(x, x') = sum_t w_t M(r_t(x, x')),
    M(r) = (1 + sqrt5 r + 5/3 r^2) exp(-sqrt5 r)                       (Matern, nu = 5/2)
    r_t^2 = sum_{c active in t} delta_c(x, x')^2 / l_tc^2

where `delta` is the difference of numbers, and 0 or 1 for equal or different categories (which
is what a one-hot encoding with one lengthscale a parameter amounts to, without its columns).

Hyper-parameters are at the maximum of the posterior under log-normal priors.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from botorch.optim.batched_lbfgs_b import fmin_l_bfgs_b_batched
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.devices import CPU, fitting_device

__all__ = ["ExactGPs"]

Array = NDArray[np.float64]
Result = TypeVar("Result")

# Priors, as mean and standard deviation of the logarithm. Lengthscales: 0.3 times the square root
# of the term's dimension (Hvarfner, Hellsten and Nardi 2024, arXiv 2402.02229, for the root),
# within a factor of 3.3 in 95 % of cases. Their wider and longer prior, BoTorch's default, took
# wiggly stages for trends and sent the search to the corners. Weights: the terms share the variance
# of the standardised observations evenly, within a factor of 20 in 95 % of cases, so that a term
# can all but vanish. Noise: BoTorch's default.
LOG_LENGTHSCALE_MEAN, LOG_LENGTHSCALE_STD = -1.2, 0.6
LOG_WEIGHT_STD = 1.5
LOG_NOISE_MEAN, LOG_NOISE_STD = -4.0, 1.0

# Bounds of the logarithms. Below its least value the noise of deterministic observations is of
# no account, and the Cholesky factor of close points is at risk.
LOG_LENGTHSCALE_BOUNDS = (math.log(5e-3), math.log(1e3))
LOG_WEIGHT_BOUNDS = (-12.0, 4.0)
LOG_NOISE_BOUNDS = (math.log(1e-6), 1.0)

# The least variance of a standardised `f`, where rounding would make it zero or less.
MIN_VARIANCE = 1e-10

# Hyper-parameters of more points than this are fitted to so many of them, evenly spread over
# time: fitting costs the cube of it. All points count in the posterior.
MAX_FITTED = 400
MAX_ITERATIONS = 100


# Covariances of test points are computed in slices of at most so many numbers (24 MB).
MAX_COVARIANCES = 3_000_000


# What a batch holds a row of for each of its GPs.
_BATCHED = (
    "_active",
    "_observed",
    "_mean",
    "_std",
    "_y",
    "hyperparameters",
    "_scales",
    "_weights",
    "_noise",
    "_alpha",
    "_precision",
)


class ExactGPs:
    """A batch of exact GPs on common points.

    Args:
        X: `n x d`.
        Y: `B x n`; NaN where a GP has no observation. Every GP needs one at least.
        active: `B x T x d`, boolean.
        categorical: The columns of `X` without an order.
        start: Hyper-parameters to begin the fit at (`hyperparameters` of an earlier fit of the
            same shape); `None`: the prior's.
        device: Where to fit, and to factorise covariances; `None`: what is faster. All that comes
            out lies in main memory, where candidates are: they come in small batches, which a GPU
            would wait for.

    Attributes:
        hyperparameters: `B x P`, as fitted, in the logarithm.
    """

    def __init__(
        self,
        X: Tensor,
        Y: Tensor,
        active: Tensor,
        *,
        categorical: Sequence[int] = (),
        start: Tensor | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._X = X
        self._device = fitting_device(device, len(X))
        self._active = active.to(X)
        is_category = torch.zeros(X.shape[-1], dtype=torch.bool)
        is_category[list(categorical)] = True
        self._numbers = (~is_category).nonzero().squeeze(-1)
        self._categories = is_category.nonzero().squeeze(-1)
        self._observed = ~Y.isnan()
        self._mean, self._std = _standardization(Y, self._observed)
        self._y = ((Y - self._mean) / self._std).nan_to_num(0.0)
        first = self._start() if start is None else start
        self.hyperparameters = self._where_memory_is(lambda: self._fit(first))
        self._condition()

    def _where_memory_is(self, compute: Callable[[], Result]) -> Result:
        """What `compute` gives, on the processor where a GPU is too full of other things."""
        try:
            return compute()
        except torch.cuda.OutOfMemoryError:
            if self._device == CPU:
                raise
            self._device = CPU
        return compute()

    # The hyper-parameters of a GP are one row: log l (T * d), log w (T), log s2 (1).

    def _unpack(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`l` (`B x T x d`), `w` (`B x T`) and `s2` (`B`)."""
        _, T, d = self._active.shape
        scales, weights, noise = parameters.exp().split([T * d, T, 1], dim=-1)
        return scales.unflatten(-1, (T, d)), weights, noise.squeeze(-1)

    def _prior(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the log hyper-parameters, `B x P` each."""
        B, T, d = self._active.shape
        size = self._active.sum(-1, keepdim=True).clamp_min(1.0)
        scales = (LOG_LENGTHSCALE_MEAN + 0.5 * size.log()).expand(B, T, d).flatten(1)
        one = scales.new_ones((B, 1))
        means = [scales, one.expand(B, T) * -math.log(T), one * LOG_NOISE_MEAN]
        stds = [LOG_LENGTHSCALE_STD, LOG_WEIGHT_STD, LOG_NOISE_STD]
        spread = [torch.full_like(m, std) for m, std in zip(means, stds, strict=True)]
        return torch.cat(means, dim=-1), torch.cat(spread, dim=-1)

    def _start(self) -> Tensor:
        """The prior's means, with lengthscales of half the cube, from where all slopes show."""
        _, T, d = self._active.shape
        start = self._prior()[0].clone()
        start[:, : T * d] = math.log(0.5)
        return start

    def _fit(self, start: Tensor) -> Tensor:
        """Maximise the log posterior of the hyper-parameters, each GP from its own start."""
        _, T, d = self._active.shape
        n = len(self._X)
        rows = torch.arange(n) if n <= MAX_FITTED else torch.linspace(0, n - 1, MAX_FITTED).long()
        parts = (self._X[rows], self._y[:, rows], self._observed[:, rows], self._active)
        X, y, observed, active = (part.to(self._device) for part in parts)
        prior_mean, prior_std = (part.to(self._device) for part in self._prior())
        bounds = [LOG_LENGTHSCALE_BOUNDS] * (T * d) + [LOG_WEIGHT_BOUNDS] * T + [LOG_NOISE_BOUNDS]

        def negative(x: Array, batch_indices: list[int]) -> tuple[Array, Array]:
            b = torch.tensor(batch_indices, device=self._device)
            point = torch.from_numpy(np.ascontiguousarray(x))
            parameters = point.to(self._device).requires_grad_(True)
            scales, weights, noise = self._unpack(parameters)
            kernel = self._kernel(X, X, scales, weights, active[b])
            value, slope = _log_likelihood(kernel.detach(), noise.detach(), y[b], observed[b])
            # The likelihood depends on the hyper-parameters through the covariance alone, whose
            # slope is known in closed form: no need to differentiate a Cholesky factor.
            trace = slope.diagonal(dim1=-2, dim2=-1).sum(-1)
            penalty = -0.5 * ((parameters - prior_mean[b]) / prior_std[b]).square().sum(-1)
            surrogate = (slope * kernel).sum() + (trace * noise).sum() + penalty.sum()
            (gradient,) = torch.autograd.grad(surrogate, parameters)
            total = (value + penalty.detach()).cpu().numpy()
            return -np.nan_to_num(total, nan=-1e10), -np.nan_to_num(gradient.cpu().numpy())

        best, _, _ = fmin_l_bfgs_b_batched(
            negative,
            start.numpy(),
            bounds=bounds,
            maxiter=MAX_ITERATIONS,
            factr=None,
            ftol=1e-6,
            pgtol=1e-3,
            pass_batch_indices=True,
        )
        return torch.from_numpy(best)

    def _condition(self) -> None:
        """Prepare the weights of the data, and what leaves an observation out."""
        self._scales, self._weights, self._noise = self._unpack(self.hyperparameters)
        # One GP at a time, and without its factor, which only the chosen ones need: of many points,
        # a few matrices for each GP fill the memory.
        solved = [self._solved(self._inverse_factor_of(b), b) for b in range(len(self._active))]
        self._alpha, self._precision = (torch.stack(part) for part in zip(*solved, strict=True))

    def _solved(self, inverse_factor: Tensor, b: int) -> tuple[Tensor, Tensor]:
        """The weights of the data and the diagonal of the precision matrix, `n` each."""
        return (inverse_factor @ self._y[b]) @ inverse_factor, inverse_factor.square().sum(-2)

    def _inverse_factor_of(self, b: int) -> Tensor:
        """The inverse of the Cholesky factor of a GP's observations, `n x n`."""
        one = slice(b, b + 1)

        def invert() -> Tensor:
            parts = (self._X, self._scales[one], self._weights[one], self._active[one])
            X, scales, weights, active = (part.to(self._device) for part in parts)
            noise, observed = (p[one].to(self._device) for p in (self._noise, self._observed))
            factor = _factor(self._kernel(X, X, scales, weights, active), noise, observed)[0]
            identity = torch.eye(len(factor), dtype=factor.dtype, device=self._device)
            inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
            return inverse.cpu()

        return self._where_memory_is(invert)

    @cached_property
    def _inverse_factor(self) -> Tensor:
        """`B x n x n`."""
        return torch.stack([self._inverse_factor_of(b) for b in range(len(self._active))])

    def select(self, rows: Sequence[int]) -> "ExactGPs":
        """The GPs of the batch at `rows`, as they were fitted."""
        chosen, b = copy(self), torch.tensor(rows)
        chosen.__dict__.pop("_inverse_factor", None)
        for name in _BATCHED:
            setattr(chosen, name, getattr(self, name)[b])
        return chosen

    def believing(self, X: Tensor) -> "ExactGPs":
        """The GPs after observing their own means at `X` (`m x d`), hyper-parameters unchanged.

        This is the kriging believer of Ginsbourger, Le Riche and Carraro (2010): what is being
        evaluated there no longer tempts, and means elsewhere stay as they are.
        """
        believer = copy(self)
        believer.__dict__.pop("_inverse_factor", None)
        mean, _ = self.posterior(X)
        believer._X = torch.cat([self._X, X])
        believer._y = torch.cat([self._y, (mean - self._mean) / self._std], dim=-1)
        believer._observed = torch.cat([self._observed, torch.ones_like(mean).bool()], dim=-1)
        believer._condition()
        return believer

    @property
    def scale(self) -> Tensor:
        """The standard deviation of each GP's observations, `B`."""
        return self._std.squeeze(-1)

    def _kernel(
        self, A: Tensor, C: Tensor, scales: Tensor, weights: Tensor, active: Tensor
    ) -> Tensor:
        """Covariances of `f`, `* x a x d` and `* x c x d -> B x * x a x c`."""
        lead = (1,) * (A.ndim - 2)
        inverse = (active / scales).reshape(*scales.shape[:2], *lead, 1, scales.shape[-1])
        a, c = (P[..., self._numbers] * inverse[..., self._numbers] for P in (A, C))
        total = a.new_zeros(())
        for t in range(weights.shape[1]):  # one after another, for the memory's sake
            at, ct = a[:, t], c[:, t]
            # In place, for the memory's sake too: of thousands of points, a few copies are a lot.
            squares = (at @ ct.transpose(-1, -2)).mul_(-2.0)
            squares.add_(at.square().sum(-1).unsqueeze(-1)).add_(ct.square().sum(-1).unsqueeze(-2))
            for column in self._categories:
                differ = ((A[..., :, None, column] - C[..., None, :, column]).abs() > 1e-9).to(A)
                squares = squares + differ * inverse[:, t, ..., column, None].square()
            term = _Matern52.apply(squares)  # type: ignore[no-untyped-call]
            total = torch.addcmul(total, weights[:, t].reshape(-1, *lead, 1, 1), term)
        return total

    def posterior(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances of `f`, in the unit of the observations.

        Args:
            X: `* x d`.

        Returns:
            Two tensors, `B x *`.
        """
        points = X.reshape(-1, X.shape[-1])
        step = max(1, MAX_COVARIANCES // (len(self._active) * len(self._X)))
        slices = [self._moments(part) for part in points.split(step)]
        mean, variance = (torch.cat(part, dim=-1) for part in zip(*slices, strict=True))
        return mean.unflatten(-1, X.shape[:-1]), variance.unflatten(-1, X.shape[:-1])

    def _moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        cross = self._cross(points)
        explained = (cross @ self._inverse_factor.transpose(-1, -2)).square().sum(-1)
        variance = (self._weights.sum(-1, keepdim=True) - explained).clamp_min(MIN_VARIANCE)
        mean = (cross @ self._alpha.unsqueeze(-1)).squeeze(-1)
        return self._mean + self._std * mean, self._std.square() * variance

    def _cross(self, points: Tensor) -> Tensor:
        """Covariances of points (`m x d`) with the observations, `B x m x n`."""
        kernel = self._kernel(points, self._X, self._scales, self._weights, self._active)
        return kernel * self._observed.unsqueeze(-2)

    def joint_posterior(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Means and covariances of `f` over sets of points, in the unit of the observations.

        Args:
            X: `* x q x d`.

        Returns:
            `B x * x q` and `B x * x q x q`.
        """
        cross = self._cross(X.reshape(-1, X.shape[-1]))
        mean = (cross @ self._alpha.unsqueeze(-1)).squeeze(-1).unflatten(-1, X.shape[:-1])
        whitened = (cross @ self._inverse_factor.transpose(-1, -2)).unflatten(-2, X.shape[:-1])
        prior = self._kernel(X, X, self._scales, self._weights, self._active)
        covariance = prior - whitened @ whitened.transpose(-1, -2)
        lead = (-1,) + (1,) * (X.ndim - 2)
        shift, scale = self._mean.reshape(*lead, 1), self._std.reshape(*lead, 1)
        jitter = MIN_VARIANCE * torch.eye(X.shape[-2], dtype=X.dtype)
        return shift + scale * mean, scale.unsqueeze(-1).square() * (covariance + jitter)

    def whitened(self, X: Tensor) -> Tensor:
        """What points (`m x d`) share with the observations, as independent parts, `B x m x n`."""
        return self._cross(X) @ self._inverse_factor.transpose(-1, -2)

    def posterior_beside(
        self, X: Tensor, C: Tensor, whitened: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means and variances of `f` at `X`, and its covariances with `f` at other points.

        Args:
            X: `m x d`.
            C: `c x d`, the other points.
            whitened: What `whitened` says of `C`, which many calls may share.

        Returns:
            `B x m`, `B x m` and `B x m x c`, in the unit of the observations.
        """
        cross = self._cross(X)
        own = cross @ self._inverse_factor.transpose(-1, -2)
        mean = (cross @ self._alpha.unsqueeze(-1)).squeeze(-1)
        variance = self._weights.sum(-1, keepdim=True) - own.square().sum(-1)
        prior = self._kernel(X, C, self._scales, self._weights, self._active)
        covariance = prior - own @ whitened.transpose(-1, -2)
        square = self._std.square()
        return (
            self._mean + self._std * mean,
            square * variance.clamp_min(MIN_VARIANCE),
            square.unsqueeze(-1) * covariance,
        )

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Each observation under the model fitted to all but it (Rasmussen and Williams, 5.12).

        Returns:
            Residuals and standard deviations, `B x n`, in the unit of the observations; residuals
            are NaN where there is no observation.
        """
        residual = torch.where(self._observed, self._alpha / self._precision, math.nan)
        return self._std * residual, self._std * self._precision.rsqrt()

    def left_out_density(self) -> Tensor:
        """The log predictive density of all observations, each left out in turn, `B`.

        Up to a constant for each observation.
        """
        residual, std = self.leave_one_out()
        return (-0.5 * (residual / std).square() - std.log()).nansum(-1)


def _standardization(Y: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each GP's observations, `B x 1`; of equal ones, 1."""
    count = observed.sum(-1, keepdim=True)
    mean = Y.nansum(-1, keepdim=True) / count
    std = ((Y - mean).square().nansum(-1, keepdim=True) / (count - 1).clamp_min(1)).sqrt()
    return mean, torch.where(std > 1e-9 * (1.0 + mean.abs()), std, 1.0)


def _factor(kernel: Tensor, noise: Tensor, observed: Tensor) -> Tensor:
    """The Cholesky factor of the observations' covariance, `B x n x n`.

    Points that a GP has no observation at become independent of everything, which leaves the
    others as if they were not there.
    """
    pairs = observed.unsqueeze(-1) & observed.unsqueeze(-2)
    diagonal = torch.where(observed, noise.unsqueeze(-1), 1.0)
    covariance = kernel * pairs
    covariance.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    covariance.diagonal(dim1=-2, dim2=-1).masked_fill_(~observed, 1.0)
    factor: Tensor = torch.linalg.cholesky(covariance)
    return factor


def _log_likelihood(
    kernel: Tensor, noise: Tensor, y: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor]:
    """The log marginal likelihood, `B`, and its slope in the covariance, `B x n x n`."""
    factor = _factor(kernel, noise, observed)
    inverse = torch.cholesky_inverse(factor)
    alpha = (inverse @ y.unsqueeze(-1)).squeeze(-1)
    log_determinant = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = observed.sum(-1) * math.log(2.0 * math.pi)
    value = -0.5 * ((alpha * y).sum(-1) + log_determinant + constant)
    pairs = observed.unsqueeze(-1) & observed.unsqueeze(-2)
    slope = 0.5 * (alpha.unsqueeze(-1) * alpha.unsqueeze(-2) - inverse) * pairs
    return value, slope


class _Matern52(torch.autograd.Function):
    """`M` as a function of `r^2`, whose slope is smooth at 0 where that of the root is not."""

    @staticmethod
    def forward(ctx: Any, squares: Tensor) -> Tensor:
        # Rounding may have made a square negative.
        root = (5.0 * squares).clamp_min_(0.0).sqrt_()
        decay = root.neg().exp_()
        ctx.save_for_backward(root, decay)
        return (1.0 + root).addcmul_(root, root, value=1.0 / 3.0).mul_(decay)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        root, decay = ctx.saved_tensors
        slope: Tensor = (-5.0 / 6.0) * (1.0 + root) * decay
        return gradients[0] * slope
