r"""A Gaussian process of learning curves: values over configurations and training steps.

Notation:
    n: trials; N: observations; d: hyper-parameters; m: test points; J: steps at which to look.
    X: `n x d`, points of the unit cube.
    t: the share of a whole training that a trial has been trained, in (0, 1].

Model, after the observations have been standardised:

    y = f(x, t) + e,  e ~ N(0, s2),  f ~ GP(0, k)
    k = c + w_own [same trial]                                   (what no hyper-parameter explains)
      + M_1(x, x') (w_end + w_any M(log t, log t'))              (levels; changes of any shape)
      + E(t, t') (w_all + w_each M_2(x, x'))                     (what decays, in all and in each)
      + (t t')^q w_late M_3(x, x')                               (what only shows late)
    E(t, t') = (b / (t + t' + b))^a

E is the covariance of a mixture of decaying exponentials (Swersky, Snoek and Adams 2014,
"Freeze-thaw Bayesian optimization", arXiv 1406.3896). Their curves are independent given where they
end; here both the ends and the decays are functions of the configuration, so that trials tell of
one another's shapes, as in DyHPO (Wistuba et al. 2022, arXiv 2202.09774). M is a Matern kernel
(`eeipu.models.kernels`); over log t it lets curves change where a schedule does. What only shows
late has lengthscales of its own: where a rate drops says nothing of the first steps, and much of
the last ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from eeipu.models.kernels import AdditiveKernel, Matern52

__all__ = ["Forecast", "LearningCurves"]

# The variance of the common level, in that of the observations. It is not zero, because the mean of
# the observations is that of short trainings.
LEVEL = 1.0

# Priors of the logarithms, as means and standard deviations; those of lengthscales and noise are as
# in `eeipu.models.fitting`, but curves are noisier than ends. A decay is as good as over after a
# tenth to the whole of a training. Three e-folds of steps are one lengthscale. What only shows late
# counts as much as all that the observations show: these are of short trainings at first, and where
# little was expected behind them, the best of them alone went on, and no curve was seen to rise.
WEIGHTS = {"end": 0.5, "any": 0.1, "all": 0.5, "each": 0.3, "late": 1.0, "own": 0.02}
LOG_WEIGHT_STD = 1.5
LOG_LENGTHSCALE_MEAN, LOG_LENGTHSCALE_STD = -1.2, 0.6
LOG_POWER = (0.0, 0.7)
LOG_SCALE_OF_DECAY = (math.log(0.3), 1.0)
LOG_SCALE_OF_STEPS = (math.log(3.0), 0.7)
LOG_LATENESS = (0.0, 0.7)
LOG_NOISE = (-5.0, 2.0)
LOG_BOUNDS = (-13.0, 7.0)

# Values that are worse than the median by more than this many times the distance from the median to
# the best one count as that bad: how badly a training has diverged tells nothing of the good ones.
WORST = 3.0

# More observations than this are not used: those of the best trials and the latest ones are.
MOST = 400
MAX_ITERATIONS = 60


@dataclass(frozen=True)
class Forecast:
    """What is expected at steps to come.

    Attributes:
        mean: `m x J`, means of `f`.
        variance: `m x J`, their variances.
        with_end: `m x J`, covariances with `f` at the last of the J steps.
        noise: The variance of an observation's noise.
    """

    mean: Tensor
    variance: Tensor
    with_end: Tensor
    noise: float

    def first(self, count: int) -> "Forecast":
        """Those of the first configurations."""
        mean, variance, with_end = self.mean[:count], self.variance[:count], self.with_end[:count]
        return Forecast(mean, variance, with_end, self.noise)


class LearningCurves:
    """The curves of trials, and those of configurations that have not been tried.

    Args:
        X: `n x d`, the configurations of the trials.
        trial: `N`, the row of `X` that an observation belongs to.
        t: `N`, the share of a whole training after which it was made.
        y: `N`, the values; larger is better.
        categorical: The columns of `X` without an order.
        start: `hyperparameters` of an earlier fit, from which this one starts; `None`: the prior's.
        is_fitted: Whether `start` is taken as it is.

    Attributes:
        hyperparameters: `3 d + 11`, as fitted, in the logarithm.
    """

    def __init__(
        self,
        X: Tensor,
        trial: Tensor,
        t: Tensor,
        y: Tensor,
        *,
        categorical: Sequence[int] = (),
        start: Tensor | None = None,
        is_fitted: bool = False,
    ) -> None:
        kept = _worth_keeping(trial, y)
        self._X, self._trial, self._t = X, trial[kept], t[kept]
        clipped = _clipped(y)[kept]
        self._shift = clipped.mean()
        spread = clipped.std(correction=0)
        self._scale = spread if spread > 0 else clipped.new_ones(())
        self._y = (clipped - self._shift) / self._scale
        ones = torch.ones(1, 1, X.shape[-1], dtype=X.dtype)
        self._unscaled = AdditiveKernel.over(ones, categorical)
        self.hyperparameters = self._prior()[0] if start is None else start
        if not is_fitted:
            self.hyperparameters = self._fit(self.hyperparameters)
        self._condition()

    # --- The kernel

    def _prior(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the logarithms of all hyper-parameters."""
        d = self._X.shape[-1]
        scale = LOG_LENGTHSCALE_MEAN + 0.5 * math.log(max(1, d))
        weights = [math.log(w) for w in WEIGHTS.values()]
        others = [LOG_POWER, LOG_SCALE_OF_DECAY, LOG_SCALE_OF_STEPS, LOG_LATENESS, LOG_NOISE]
        means = [*[scale] * (3 * d), *weights, *(mean for mean, _ in others)]
        stds = [
            *[LOG_LENGTHSCALE_STD] * (3 * d),
            *[LOG_WEIGHT_STD] * len(weights),
            *(std for _, std in others),
        ]
        return torch.tensor(means, dtype=torch.double), torch.tensor(stds, dtype=torch.double)

    def _kernels(self, raw: Tensor, A: Tensor, C: Tensor) -> tuple[Tensor, ...]:
        """`M_1`, `M_2` and `M_3` between two sets of configurations."""
        d, one = A.shape[-1], raw.new_ones(1, 1)
        scales = raw[: 3 * d].exp().reshape(3, 1, 1, d)
        return tuple(self._unscaled.scaled(each, one)(A, C)[0] for each in scales)

    def _over_steps(self, raw: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        """`E`, `M` and `(t t')^q` between two sets of steps, which broadcast."""
        power, of_decay, of_steps, lateness = raw[-5:-1].exp()
        decay = (of_decay / (t + s + of_decay)) ** power
        squares = ((t.log() - s.log()) / of_steps).square()
        near: Tensor = Matern52.apply(squares)  # type: ignore[no-untyped-call]
        return decay, near, (t * s) ** lateness

    def _combined(
        self, raw: Tensor, kernels: Sequence[Tensor], steps: Sequence[Tensor], same: Tensor
    ) -> Tensor:
        (levels, decays, lates), (decay, near, late) = kernels, steps
        end, any_, all_, each, late_, own = raw[-11:-5].exp()
        total: Tensor = LEVEL + own * same + levels * (end + any_ * near)
        total += decay * (all_ + each * decays) + late_ * late * lates
        return total

    def _covariance(self, raw: Tensor) -> Tensor:
        """The covariance of the observations, noise included, `N x N`."""
        pairs = self._trial.unsqueeze(-1), self._trial
        kernels = [kernel[pairs] for kernel in self._kernels(raw, self._X, self._X)]
        over_steps = self._over_steps(raw, self._t.unsqueeze(-1), self._t)
        same = (pairs[0] == pairs[1]).double()
        covariance = self._combined(raw, kernels, over_steps, same)
        noisy: Tensor = covariance + (raw[-1].exp() + 1e-8) * torch.eye(
            len(self._t), dtype=raw.dtype
        )
        return noisy

    # --- Fitting and conditioning

    def _fit(self, start: Tensor) -> Tensor:
        """The hyper-parameters at the maximum of the posterior."""
        mean, std = self._prior()

        def negative(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            raw = torch.tensor(x, requires_grad=True)
            factor, info = torch.linalg.cholesky_ex(self._covariance(raw))
            if info.item():
                return 1e10, np.zeros_like(x)
            white = torch.linalg.solve_triangular(factor, self._y.unsqueeze(-1), upper=False)
            value = 0.5 * white.square().sum() + factor.diagonal().log().sum()
            value = value + 0.5 * ((raw - mean) / std).square().sum()
            value.backward()
            assert raw.grad is not None
            return value.item(), raw.grad.numpy()

        bounds = [LOG_BOUNDS] * len(start)
        options = {"maxiter": MAX_ITERATIONS, "ftol": 1e-6, "gtol": 1e-3}
        found = minimize(
            negative, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        return torch.from_numpy(found.x)

    def _condition(self) -> None:
        with torch.no_grad():
            covariance = self._covariance(self.hyperparameters)
            jitter = 1e-8
            while torch.linalg.cholesky_ex(covariance)[1].item():
                covariance.diagonal().add_(jitter)
                jitter *= 10.0
            self._factor = torch.linalg.cholesky(covariance)
            self._alpha = torch.cholesky_solve(self._y.unsqueeze(-1), self._factor)

    # --- Predicting

    @property
    def spread(self) -> float:
        """The standard deviation of the observations, without those that are as bad as none."""
        return float(self._scale)

    def forecast(self, X: Tensor, t: Tensor, trial: Tensor | None = None) -> Forecast:
        """What configurations are expected to give at steps.

        Args:
            X: `m x d`.
            t: `J`, shares of a whole training, ascending.
            trial: `m`, the row in the trials' `X` that a configuration is; -1 for a new one.
                `None`: all are new.
        """
        raw, J = self.hyperparameters, len(t)
        trial = torch.full((len(X),), -1) if trial is None else trial
        with torch.no_grad():
            kernels = [kernel[:, None, self._trial] for kernel in self._kernels(raw, X, self._X)]
            over_steps = self._over_steps(raw, t[:, None], self._t)
            same = (trial[:, None, None] == self._trial).double()
            cross = self._combined(raw, kernels, over_steps, same)  # m x J x N
            mean = (cross @ self._alpha).squeeze(-1)
            white = torch.linalg.solve_triangular(
                self._factor, cross.reshape(len(X) * J, -1).mT, upper=False
            )
            white = white.mT.reshape(len(X), J, -1)
            one = raw.new_ones(())
            own, with_last = self._over_steps(raw, t, t), self._over_steps(raw, t, t[-1])
            prior = self._combined(raw, (one, one, one), own, one)
            prior_with_end = self._combined(raw, (one, one, one), with_last, one)
            variance = (prior - white.square().sum(-1)).clamp_min(1e-10)
            with_end = prior_with_end - (white * white[:, -1:]).sum(-1)
        square = self._scale.square()
        return Forecast(
            self._shift + self._scale * mean,
            square * variance,
            square * with_end,
            (square * raw[-1].exp()).item(),
        )


def _clipped(y: Tensor) -> Tensor:
    """Values of which none is so bad that it would hide the differences of the others."""
    median = y.median()
    return y.clamp_min(median - WORST * (y.max() - median)) if y.max() > median else y


def _worth_keeping(trial: Tensor, y: Tensor) -> Tensor:
    """The observations to learn from, as indices: all, or those of the best and latest trials."""
    if len(y) <= MOST:
        return torch.arange(len(y))
    best = y.new_full((int(trial.max()) + 1,), -math.inf).scatter_reduce(0, trial, y, "amax")
    rank = best.argsort(descending=True).argsort()
    # The best trials come first, and the latest of the others; whole curves as long as they fit.
    is_good = rank[trial] < MOST // 8
    order = torch.where(is_good, len(y) + trial, trial).argsort(descending=True, stable=True)
    return order[:MOST].sort().values
