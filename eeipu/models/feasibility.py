r"""The probability that a configuration succeeds, learnt from those that succeeded and failed.

The search multiplies the acquisition by it, as in Gelbart, Snoek and Adams 2014 (arXiv 1403.5607),
section 3: the objective is then learnt from successes alone, and a failure says nothing about its
scale.

Notation:
    n: configurations that have run; d: columns; m: test points.
    X: `n x d`, points of the unit cube; y: `n`, 1 where a configuration succeeded and -1 where not.
    f: `n`, the latent function at X; K: its prior covariance; c: its prior mean.
    e: the rate of failures that are no fault of the configuration.
    t, v: `n`, the precision and the precision times the mean (less c) of a Gaussian that stands for
        the likelihood of each outcome; B = I + t^1/2 K t^1/2.

A configuration fails because of where it is, or by bad luck:

    P(y = 1 | f) = (1 - e) Phi(f),  f ~ GP(c, w M),
    P(y = 1 at x) = (1 - e) Phi(mean / sqrt(1 + variance)).

M is the Matern kernel of `eeipu.models.kernels`; lengthscales, w, e and m = c / sqrt(1 + w) are at
the maximum of their posterior. Where w is large, the edge between success and failure is sharp:
what runs out of memory does so each time. Failures at random are explained by e, which is the same
everywhere and does not guide the search.

The posterior of f is approximated by expectation propagation (Rasmussen and Williams 2006, section
3.6, with all sites updated at once). The Laplace approximation is far too unsure where w is large
(Nickisch and Rasmussen 2008, "Approximations for binary Gaussian process classification").
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
)
from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.kernels import AdditiveKernel
from eeipu.models.observations import Observations

__all__ = ["Cautious", "FeasibilityModel", "SuccessModel", "WeightedScore", "weighted"]

Score = Callable[[Tensor, Tensor], Tensor]

# Priors, as mean and standard deviation. The logarithms of lengthscales: as for other models, but
# wider, since an edge often depends on one or two hyper-parameters alone. That of w: edges are from
# sharp to hard to tell from bad luck. That of e: .003 to .3 in 95 % of cases. The rate of success
# far from all data, Phi(m) with m = c / sqrt(1 + w): .84, and above .02 in most cases.
LENGTHSCALE_STD = 1.2
LOG_WEIGHT_MEAN, LOG_WEIGHT_STD = 4.0, 3.0
LOG_LUCK_MEAN, LOG_LUCK_STD = math.log(0.03), 1.2
RATE_MEAN, RATE_STD = 1.0, 1.0

LOG_WEIGHT_BOUNDS = (-12.0, 12.0)
LOG_LUCK_BOUNDS = (math.log(1e-4), math.log(0.5))
RATE_BOUNDS = (-4.0, 4.0)

# The cost of the model grows with the cube of the number of configurations. Of more than this
# number, it learns from the latest failures, at most half of them, and from successes evenly spread
# over time.
MAX_POINTS = 400

# Sites change by this share of a full step, since full steps of all at once may oscillate. They
# have converged when no mean changes by more than the tolerance, in standard deviations; an
# evidence that is a little off costs the fit less than many more steps.
DAMPING = 0.8
MAX_STEPS = 40
TOLERANCE = 1e-4
LEAST_PRECISION = 1e-10
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
        hyperparameters: `d + 3`: the logarithms of the lengthscales, of w and of e, and m.
        explained: The share of the uncertainty about outcomes that the model explains at least, in
            [0, 1]. The log scores that are compared are those of each outcome given all others, by
            the model and by a rate of failures that is the same everywhere; a standard error is
            left out.
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
        scales, weight, luck, self._mean = _unpack(self.hyperparameters)
        self._log_luckless = torch.log1p(-luck)
        kernel = self._kernel.scaled(scales, weight)
        fit = propagated(kernel(self._X, self._X)[0], self._mean, self._y, luck)
        self.explained = _explained(fit.log_mass.numpy(), succeeded[rows])
        y = self._y[None]
        is_known, nothing = torch.ones_like(y).bool(), torch.full_like(y, math.nan)
        mean, std = self._mean.reshape(1, 1), torch.ones(1, 1, dtype=torch.double)
        self._latent = _Latent(
            Observations(self._X, y, is_known, mean, std),
            kernel,
            Conditioning(
                self._X, is_known, fit.alpha[None], fit.whitening[None], nothing, nothing, None
            ),
        )

    def log_probability(self, X: Tensor) -> Tensor:
        """The logarithm of the probability of success, `... x d -> ...`, with gradients."""
        points, latent = X.reshape(-1, X.shape[-1]), self._latent
        cross = latent.kernel(points, self._X)[0]
        mean = self._mean + cross @ latent.conditioning.alpha[0]
        explained = (cross @ latent.conditioning.inverse_factor[0].T).square().sum(-1)
        variance = (latent.kernel.variance.squeeze() - explained).clamp_min(0.0)
        value: Tensor = self._log_luckless + log_ndtr(mean / (1.0 + variance).sqrt())
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
        gradient = pullback(slope, -0.5 * slope * means / spread.square())
        return self._log_luckless + value[0], gradient

    def _fitted(self, start: Tensor | None) -> Tensor:
        d = self._X.shape[1]
        scale = LOG_LENGTHSCALE_MEAN + 0.5 * math.log(max(1, d))
        center = torch.tensor(
            [*[scale] * d, LOG_WEIGHT_MEAN, LOG_LUCK_MEAN, RATE_MEAN], dtype=torch.double
        )
        spread = torch.tensor(
            [*[LENGTHSCALE_STD] * d, LOG_WEIGHT_STD, LOG_LUCK_STD, RATE_STD], dtype=torch.double
        )
        sites: Sites | None = None

        def negative(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            nonlocal sites
            parameters = torch.tensor(x, requires_grad=True)
            scales, weight, luck, mean = _unpack(parameters)
            covariance = self._kernel.scaled(scales, weight)(self._X, self._X)[0]
            found = propagated(covariance.detach(), mean.detach(), self._y, luck.detach(), sites)
            sites = found.sites
            prior = -0.5 * ((parameters - center) / spread).square().sum()
            # At the fixed point the sites do not depend on the parameters, to first order.
            slope = (found.d_covariance * covariance).sum() + found.d_mean * mean
            (gradient,) = torch.autograd.grad(prior + slope + found.d_luck * luck, parameters)
            return -(found.log_evidence + prior.item()), -gradient.numpy()

        first = center if start is None or len(start) != d + 3 else start
        bounds = [*[LOG_LENGTHSCALE_BOUNDS] * d, LOG_WEIGHT_BOUNDS, LOG_LUCK_BOUNDS, RATE_BOUNDS]
        found = minimize(
            negative,
            first.numpy(),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": MAX_ITERATIONS, "ftol": 1e-6, "gtol": 1e-3},
        )
        return torch.from_numpy(found.x)


@dataclass(frozen=True)
class Cautious:
    """A probability of success with an exponent, by which a score weighs it.

    Attributes:
        model: The probability.
        exponent: Above 1, less is risked.
    """

    model: SuccessModel
    exponent: float

    def log_probability(self, X: Tensor) -> Tensor:
        """Its logarithm, `... x d -> ...`."""
        return self.exponent * self.model.log_probability(X)

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """The same, `b x d -> b`, and its gradient, `b x d`."""
        value, gradient = self.model.value_and_gradient(X)
        return self.exponent * value, self.exponent * gradient


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


def _explained(log_scores: NDArray[np.float64], succeeded: NDArray[np.bool_]) -> float:
    """The share of a constant rate's loss that log scores save; see `FeasibilityModel`."""
    others_alike = np.where(succeeded, succeeded.sum(), (~succeeded).sum()) - 1.0
    # With one outcome of either kind added, as Laplace's rule of succession does.
    by_rate = np.log((others_alike + 1.0) / (len(succeeded) + 1.0))
    saved = log_scores - by_rate
    error = math.sqrt(len(saved)) * saved.std()
    return float(np.clip((saved.sum() - error) / -by_rate.sum(), 0.0, 1.0))


def _unpack(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lengthscales (`1 x 1 x d`), w (`1 x 1`), e and c of the row of hyper-parameters."""
    weight = parameters[-3].exp()
    mean = parameters[-1] * (1.0 + weight).sqrt()
    return parameters[:-3].exp()[None, None], weight[None, None], parameters[-2].exp(), mean


def _ratio(z: Tensor, log_cdf: Tensor) -> Tensor:
    """`phi(z) / Phi(z)`, the slope of `log Phi(z)`."""
    return (-0.5 * z.square() - _HALF_LOG_2PI - log_cdf).exp()


@dataclass(frozen=True)
class Sites:
    """t and v, `n` each."""

    precision: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Propagated:
    """The approximate posterior of the latent function.

    Attributes:
        sites: t and v.
        log_mass: `n`, the logarithm of the probability of each outcome, by all others.
        log_evidence: The logarithm of the probability of all outcomes.
        alpha: `n`, what covariances are multiplied with for the mean, less c.
        whitening: `n x n`; it times covariances has the square that explains the variance.
        d_covariance: The slope of the evidence in K, `n x n`.
        d_mean: Its slope in c.
        d_luck: Its slope in e.
    """

    sites: Sites
    log_mass: Tensor
    log_evidence: float
    alpha: Tensor
    whitening: Tensor
    d_covariance: Tensor
    d_mean: Tensor
    d_luck: Tensor


@torch.no_grad()
def propagated(
    covariance: Tensor, mean: Tensor, y: Tensor, luck: Tensor, start: Sites | None = None
) -> Propagated:
    """Expectation propagation.

    Args:
        covariance: K, `n x n`.
        mean: c.
        y: `n`.
        luck: e.
        start: The sites of similar hyper-parameters, if there are any.
    """
    variance, identity = covariance.diagonal(), torch.eye(len(y), dtype=y.dtype)
    sites = Sites(torch.ones_like(y), y.clone()) if start is None else start
    last = torch.full_like(y, math.inf)
    for step in range(MAX_STEPS):
        root = sites.precision.sqrt()
        factor = torch.linalg.cholesky(identity + root[:, None] * covariance * root)
        whitening = torch.linalg.solve_triangular(factor, root.diag(), upper=False)
        whitened = whitening @ covariance
        marginal = (variance - whitened.square().sum(0)).clamp_min(1e-12 * variance)
        at = covariance @ sites.shift - whitened.T @ (whitened @ sites.shift)
        # The cavity, which is the posterior without one outcome.
        rest = (1.0 / marginal - sites.precision).clamp_min(1e-12)
        center, spread = (at / marginal - sites.shift) / rest, 1.0 / rest
        log_mass, slope, curvature, d_luck = _outcomes(mean + center, spread, y, luck)
        if step == MAX_STEPS - 1 or ((at - last).abs() <= TOLERANCE * marginal.sqrt()).all():
            break
        last = at
        precision = curvature / (1.0 - curvature * spread).clamp_min(1e-12)
        precision = precision.clamp_min(LEAST_PRECISION)
        shift = slope + precision * (center + spread * slope)
        sites = Sites(
            sites.precision + DAMPING * (precision - sites.precision),
            sites.shift + DAMPING * (shift - sites.shift),
        )
    alpha = sites.shift - whitening.T @ (whitened @ sites.shift)
    t, v = sites.precision, sites.shift
    # Rasmussen and Williams 2006, equations 3.65, 3.73 and 3.74.
    value = (
        log_mass
        + 0.5 * torch.log1p(t * spread)
        - factor.diagonal().log()
        + 0.5 * v * (at - v / (t + rest))
        + 0.5 * center * rest * (t * center - 2.0 * v) / (t + rest)
    )
    return Propagated(
        sites=sites,
        log_mass=log_mass,
        log_evidence=value.sum().item(),
        alpha=alpha,
        whitening=whitening,
        d_covariance=0.5 * (alpha[:, None] * alpha - whitening.T @ whitening),
        d_mean=alpha.sum(),
        d_luck=d_luck.sum(),
    )


def _outcomes(
    center: Tensor, spread: Tensor, y: Tensor, luck: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How probable each outcome is under a Gaussian of its latent value, `n` each.

    Args:
        center: `n`, the Gaussians' means.
        spread: `n`, their variances.
        y: `n`.
        luck: e.

    Returns:
        The logarithm of the probability, its slope and its negative curvature in the mean, and its
        slope in e.
    """
    z = y * center / (1.0 + spread).sqrt()
    log_cdf = log_ndtr(z)
    log_clean = torch.log1p(-luck) + log_cdf
    log_mass = torch.where(y > 0, log_clean, torch.logaddexp(log_clean, luck.log()))
    slope = y * _ratio(z, log_cdf) * (log_clean - log_mass).exp() / (1.0 + spread).sqrt()
    curvature = slope * (slope + center / (1.0 + spread))
    failed = log_ndtr(-z).exp() * (-log_mass).exp()
    return log_mass, slope, curvature, torch.where(y > 0, -1.0 / (1.0 - luck), failed)
