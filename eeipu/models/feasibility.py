r"""The probability that a configuration succeeds, learnt from those that succeeded and failed.

The search multiplies the acquisition by it, as in Gelbart, Snoek and Adams 2014 (arXiv 1403.5607),
section 3: the objective is then learnt from successes alone, and a failure says nothing about its
scale.

Notation:
    n: configurations that have run; d: columns; m: test points.
    X: `n x d`, points of the unit cube; y: `n`, 1 where a configuration succeeded and -1 where not.
    f: `n`, the latent function at X; K: its prior covariance; c: its prior mean.
    W: `n`, the negative curvature of the log likelihood; B = I + W^1/2 K W^1/2.

This is Gaussian process classification with the Laplace approximation (Rasmussen and Williams 2006,
sections 3.4 and 5.5.1):

    P(y = 1 | f) = Phi(f),  f ~ GP(c, w M),
    log q(y) = -1/2 (f - c)' K^-1 (f - c) + sum_i log Phi(y_i f_i) - 1/2 log det B,
    P(y = 1 at x) = Phi(mean / sqrt(1 + variance)).

with f at its mode. M is the Matern kernel of `eeipu.models.kernels`; lengthscales, w and
m = c / sqrt(1 + w) are at the maximum of their posterior. Failures at random leave w small, so that
the probability is nearly the same everywhere and does not guide the search.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import numpy as np
import torch
from botorch.utils.probability.utils import log_ndtr
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from eeipu.models.closed_form import ClosedFormGPs
from eeipu.models.conditioning import Conditioning
from eeipu.models.fitting import (
    LOG_LENGTHSCALE_BOUNDS,
    LOG_LENGTHSCALE_MEAN,
    LOG_LENGTHSCALE_STD,
    LOG_WEIGHT_STD,
)
from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.kernels import AdditiveKernel
from eeipu.models.observations import Observations

__all__ = ["FeasibilityModel", "SuccessModel", "WeightedScore", "weighted"]

Score = Callable[[Tensor, Tensor], Tensor]

# Priors, as mean and standard deviation; that of lengthscales is as for other models. The logarithm
# of w: within a factor of 20 in 95 % of cases. The rate of success far from all data, Phi(m) with
# m = c / sqrt(1 + w): .84, and above .02 in most cases.
LOG_WEIGHT_MEAN = 0.0
RATE_MEAN, RATE_STD = 1.0, 1.0

LOG_WEIGHT_BOUNDS = (-12.0, 5.0)
RATE_BOUNDS = (-4.0, 4.0)

# The cost of the model grows with the cube of the number of configurations. Of more than this
# number, it learns from the latest failures, at most half of them, and from successes evenly spread
# over time.
MAX_POINTS = 400

# Newton's method converges quadratically: more steps are a sign of rounding errors.
MAX_STEPS = 50
TOLERANCE = 1e-10
MAX_ITERATIONS = 60

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class _Latent:
    """The latent function, with what `ClosedFormGPs` needs of a batch of one Gaussian process."""

    observations: Observations
    kernel: AdditiveKernel
    conditioning: Conditioning


class SuccessModel(Protocol):
    """A probability of success."""

    def log_probability(self, X: Tensor) -> Tensor:
        """Its logarithm, `... x d -> ...`."""

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The same, `b x d -> b`, and its gradient, `b x d`."""


class FeasibilityModel:
    """The probability that a configuration succeeds.

    Args:
        X: `n x d`, the configurations, in the unit cube.
        succeeded: `n`, boolean.
        categorical: The columns of `X` without an order.
        start: `hyperparameters` of an earlier fit, where this fit starts; `None`: at the prior.

    Attributes:
        hyperparameters: `d + 2`: the logarithms of the lengthscales and of w, and m.
    """

    def __init__(
        self,
        X: NDArray[np.float64],
        succeeded: NDArray[np.bool_],
        *,
        categorical: Sequence[int] = (),
        start: Tensor | None = None,
    ) -> None:
        rows = _rows(succeeded)
        self._X = torch.from_numpy(X[rows])
        self._y = torch.from_numpy(np.where(succeeded[rows], 1.0, -1.0))
        self._kernel = AdditiveKernel.over(
            torch.ones(1, 1, X.shape[1], dtype=torch.double), categorical
        )
        self.hyperparameters = self._fitted(start)
        covariance, self._mean = self._prior(self.hyperparameters)
        a = _mode(covariance, self._mean, self._y)
        slope, W = _likelihood_slopes(self._mean + covariance @ a, self._y)
        root = W.sqrt()
        # `B^-1/2 W^1/2`, times covariances, gives what the observations explain of a variance.
        whitening = torch.linalg.solve_triangular(
            _factor(covariance, root), root.diag(), upper=False
        )
        scales, weight, _ = _unpack(self.hyperparameters)
        y = self._y[None]
        is_known, nothing = torch.ones_like(y).bool(), torch.full_like(y, math.nan)
        mean, std = self._mean.reshape(1, 1), torch.ones(1, 1, dtype=torch.double)
        self._latent = _Latent(
            Observations(self._X, y, is_known, mean, std),
            self._kernel.scaled(scales, weight),
            Conditioning(self._X, is_known, slope[None], whitening[None], nothing, nothing, None),
        )

    def log_probability(self, X: Tensor) -> Tensor:
        """The logarithm of the probability of success, `... x d -> ...`, with gradients."""
        points, latent = X.reshape(-1, X.shape[-1]), self._latent
        cross = latent.kernel(points, self._X)[0]
        mean = self._mean + cross @ latent.conditioning.alpha[0]
        explained = (cross @ latent.conditioning.inverse_factor[0].T).square().sum(-1)
        variance = (latent.kernel.variance.squeeze() - explained).clamp_min(0.0)
        value: Tensor = log_ndtr(mean / (1.0 + variance).sqrt())
        return value.reshape(X.shape[:-1])

    @cached_property
    def _predictions(self) -> ClosedFormGPs:
        return ClosedFormGPs([cast(ExactGPs, self._latent)])

    @torch.no_grad()
    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The same as `log_probability`, `b x d -> b`, and its gradient, `b x d`."""
        means, variances, pullback = self._predictions(X)
        spread = (1.0 + variances).sqrt()
        z = means / spread
        value = log_ndtr(z)
        slope = _ratio(z, value) / spread
        return value[0], pullback(slope, -0.5 * slope * means / spread.square())

    def _prior(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The covariance and the mean of the latent function at the configurations."""
        scales, weight, mean = _unpack(parameters)
        return self._kernel.scaled(scales, weight)(self._X, self._X)[0], mean

    def _fitted(self, start: Tensor | None) -> Tensor:
        d = self._X.shape[1]
        scale = LOG_LENGTHSCALE_MEAN + 0.5 * math.log(max(1, d))
        center = torch.tensor([*[scale] * d, LOG_WEIGHT_MEAN, RATE_MEAN], dtype=torch.double)
        spread = torch.tensor(
            [*[LOG_LENGTHSCALE_STD] * d, LOG_WEIGHT_STD, RATE_STD], dtype=torch.double
        )

        last = torch.zeros_like(self._y)

        def negative(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            nonlocal last
            parameters = torch.tensor(x, requires_grad=True)
            value, last = _log_evidence(*self._prior(parameters), self._y, last)
            value = value - 0.5 * ((parameters - center) / spread).square().sum()
            (gradient,) = torch.autograd.grad(-value, parameters)
            return -value.item(), gradient.numpy()

        first = center if start is None or len(start) != d + 2 else start
        bounds = [*[LOG_LENGTHSCALE_BOUNDS] * d, LOG_WEIGHT_BOUNDS, RATE_BOUNDS]
        found = minimize(
            negative,
            first.numpy(),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": MAX_ITERATIONS, "ftol": 1e-6, "gtol": 1e-3},
        )
        return torch.from_numpy(found.x)


class WeightedScore:
    """The logarithm of an acquisition plus that of the probability of success, with gradients.

    Args:
        score: The acquisition's logarithm, with `value_and_gradient`.
        model: The probability of success.
    """

    def __init__(self, score: Score, model: SuccessModel) -> None:
        self._score = score
        self._model = model

    def __call__(self, X: Tensor, memoized: Tensor) -> Tensor:
        """Score candidates, `b x 1 x d` and `b x K -> b`."""
        return self._score(X, memoized) + self._model.log_probability(X.squeeze(-2))

    def value_and_gradient(self, X: Tensor, memoized: Tensor) -> tuple[Tensor, Tensor]:
        """The scores, `b`, and their gradients, `b x 1 x d`."""
        value, gradient = self._score.value_and_gradient(X, memoized)  # type: ignore[attr-defined]
        log_probability, slope = self._model.value_and_gradient(X.squeeze(-2))
        return value + log_probability, gradient + slope.unsqueeze(-2)


def weighted(score: Score, model: SuccessModel | None) -> Score:
    """The logarithm of an acquisition plus that of the probability of success.

    Args:
        score: The acquisition's logarithm.
        model: The probability of success; `None`: nothing has failed.
    """
    if model is None:
        return score
    if hasattr(score, "value_and_gradient"):
        return WeightedScore(score, model)
    return lambda X, memoized: score(X, memoized) + model.log_probability(X.squeeze(-2))


def _rows(succeeded: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The configurations to learn from, at most `MAX_POINTS`."""
    failures, successes = np.flatnonzero(~succeeded), np.flatnonzero(succeeded)
    if len(succeeded) <= MAX_POINTS:
        return np.arange(len(succeeded))
    room = max(MAX_POINTS // 2, MAX_POINTS - len(successes))
    failures = failures[-room:]
    count = min(len(successes), MAX_POINTS - len(failures))
    even = np.linspace(0, len(successes) - 1, count).astype(np.intp)
    return np.concatenate([failures, successes[even]])


def _unpack(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lengthscales (`1 x 1 x d`), w (`1 x 1`) and c of the row of hyper-parameters."""
    weight = parameters[-2].exp()
    mean = parameters[-1] * (1.0 + weight).sqrt()
    return parameters[:-2].exp()[None, None], weight[None, None], mean


def _ratio(z: Tensor, log_cdf: Tensor) -> Tensor:
    """`phi(z) / Phi(z)`, the slope of `log Phi(z)`."""
    return (-0.5 * z.square() - _HALF_LOG_2PI - log_cdf).exp()


def _likelihood_slopes(f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The slope of `sum_i log Phi(y_i f_i)` in f, and its negative curvature W, `n` each."""
    z = y * f
    ratio = _ratio(z, log_ndtr(z))
    return y * ratio, (ratio * (z + ratio)).clamp_min(1e-12)


def _factor(covariance: Tensor, root: Tensor) -> Tensor:
    """The Cholesky factor of B, whose eigenvalues are at least 1."""
    identity = torch.eye(len(root), dtype=root.dtype)
    factor: Tensor = torch.linalg.cholesky(identity + root[:, None] * covariance * root)
    return factor


def _newton(covariance: Tensor, mean: Tensor, y: Tensor, f: Tensor) -> Tensor:
    """`K^-1 (f - c)` after one step of Newton's method from f."""
    slope, W = _likelihood_slopes(f, y)
    root = W.sqrt()
    factor = _factor(covariance, root)
    target = W * (f - mean) + slope
    inner = torch.cholesky_solve((root * (covariance @ target)).unsqueeze(-1), factor).squeeze(-1)
    return target - root * inner


@torch.no_grad()
def _mode(covariance: Tensor, mean: Tensor, y: Tensor, start: Tensor | None = None) -> Tensor:
    """`K^-1 (f - c)` at the mode of f, found by Newton's method; the log posterior is concave."""
    a = torch.zeros_like(y) if start is None else start
    f = mean + covariance @ a
    value = log_ndtr(y * f).sum() - 0.5 * a @ (f - mean)
    for _ in range(MAX_STEPS):
        step = _newton(covariance, mean, y, f) - a
        size = 1.0
        while size > 1e-4:
            trial = a + size * step
            at = mean + covariance @ trial
            reached = log_ndtr(y * at).sum() - 0.5 * trial @ (at - mean)
            if reached >= value:
                break
            size *= 0.5
        else:
            break
        gain, a, f, value = reached - value, trial, at, reached
        if gain < TOLERANCE:
            break
    return a


def _log_evidence(
    covariance: Tensor, mean: Tensor, y: Tensor, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The logarithm of q(y), with gradients in the covariance and the mean.

    At the mode, a step of Newton's method does not depend on where it starts, to first order: one
    step that is differentiated has the mode's own gradient.

    Args:
        covariance: `n x n`.
        mean: c.
        y: `n`.
        start: `K^-1 (f - c)` near the mode, where it is known.

    Returns:
        The value, and `K^-1 (f - c)` at the mode.
    """
    mode = _mode(covariance.detach(), mean.detach(), y, start)
    near = mean.detach() + covariance.detach() @ mode
    a = _newton(covariance, mean, y, near)
    f = mean + covariance @ a
    _, W = _likelihood_slopes(f, y)
    log_determinant = _factor(covariance, W.sqrt()).diagonal().log().sum()
    value: Tensor = -0.5 * a @ (f - mean) + log_ndtr(y * f).sum() - log_determinant
    return value, mode
