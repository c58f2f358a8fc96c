"""The model of the objective: a GP that knows which columns belong to which stage.

Its kernel has one term over all columns and one over each stage's own columns. Objectives of
pipelines are often nearly sums of contributions of the stages, and a term with few columns learns
its part from few points. If the objective is not a sum, the weights of those terms can vanish.

A few very bad values would leave the model no resolution among the good ones. Therefore the tail of
bad values is compressed if that improves the prediction of left-out values, and in doubt it is not:
compression can turn a hill beside a valley into a trend. Of values so bad that they can only be
penalties, the model learns that they are bad, and not how bad.

A best value that the model takes for luck may also be a narrow hill. Every second model then takes
it at its word.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.fantasies import NormalModel
from eeipu.models.fitting import Layout
from eeipu.models.gaussian_process import ExactGPs

__all__ = ["ObjectiveModel", "compressed", "middle_value"]

# GPyTorch regards smaller variances as rounding errors, and warns.
MIN_VARIANCE = 1.01e-10

# The tail is compressed only if the left-out values' log density is higher by this.
LEAST_EVIDENCE = 1.0

# Where the tail is compressed, values further below the median than this many times the distance
# from there to the best value are moved up to it (winsorised, as Ax does at Tukey's fences; those
# would move as soon as a quarter of the values is bad, this does not until a half is).
DEEPEST = 1e3

# A wiggly function without noise can also be taken for a flat one with much noise. Both are maxima
# of the likelihood, and a fit, which starts at the last one, may stay at the wrong one. If it has
# found more than this variance of noise, a fit in one of six trials also starts from short
# lengthscales and little noise. From this number of trials on, models are fitted no more often.
LOUD = math.log(1e-3)
LOOK_AGAIN_EVERY, SELDOM_FITTED = 6, 120
SHORT, QUIET = math.log(0.15), math.log(1e-5)

# A flat function with a narrow hill looks like noise to the likelihood: one value stands out, and
# the search would never come back to it. Only trials close to it can tell. If the best value is
# this many deviations of the noise above all means, one trial in so many is therefore chosen by a
# model that allows for no noise above `LOUD`. If the value was luck, only these trials are lost.
DOUBTFUL, DOUBT_EVERY = 2.0, 2

# Values further below the median than this many times that distance would leave no digits to the
# others in double precision, whether compressed or not.
BEYOND_DIGITS = 1e12


class ObjectiveModel(NormalModel):
    """The GP of the objective, as a BoTorch model.

    Args:
        X: `n x d`, points of the unit cube.
        values: `n`, to be maximised, of the order of 1; NaN where there is none, such as where a
            trial failed: `eeipu.models.feasibility` learns from that.
        stage_columns: For each stage, the columns of its hyper-parameters.
        categorical: The columns of `X` without an order.
        start: `hyperparameters` of an earlier fit, where this fit starts; `None`: at the prior.
        grown_from: The model of fewer of these trials, whose hyper-parameters are kept as they are.
        focus: The rows of `X` that matter most; see `eeipu.models.gaussian_process.ExactGPs`.
        device: Where to fit; `None`: whichever device is faster.
        borrowed: How many of the first points are from earlier studies, whose columns are beyond
            those of the hyper-parameters (`eeipu.methods.transfer`). The model forgets them unless
            they help to predict the others.
        study_columns: These columns.

    Attributes:
        hyperparameters: As fitted; see `eeipu.models.gaussian_process.ExactGPs`.
        gp: The Gaussian process, a batch of one.
        likeliest: The one that the likelihood prefers. `gp` is another where it takes a best value
            at its word.
        scale: The standard deviation of the values, compressed if the model compresses them.
        best_f: The largest of its means at the configurations that succeeded. Unlike the best
            value observed, it does not profit from lucky noise.
    """

    def __init__(
        self,
        X: NDArray[np.float64],
        values: NDArray[np.float64],
        stage_columns: Sequence[Sequence[int]],
        *,
        categorical: Sequence[int] = (),
        start: Tensor | None = None,
        grown_from: "ObjectiveModel | None" = None,
        focus: Sequence[int] = (),
        device: torch.device | None = None,
        borrowed: int = 0,
        study_columns: Sequence[int] = (),
    ) -> None:
        super().__init__()
        points, own = torch.from_numpy(X), slice(borrowed, None)
        y, warped_y, log_slope = _forms(torch.from_numpy(values)[own])
        forms = torch.stack([y, warped_y])
        terms = _terms(X.shape[1], stage_columns, study_columns)
        if borrowed:
            earlier = torch.stack(_forms(torch.from_numpy(values)[:borrowed])[:2])
            nothing = torch.full_like(earlier, math.nan)
            both_forms = [torch.cat([part, forms], dim=-1) for part in (nothing, earlier)]
            forms = torch.cat(both_forms)
        fit = partial(
            ExactGPs,
            points,
            forms,
            terms,
            categorical=categorical,
            focus=focus,
            device=device,
        )
        both = fit(start=start, grown_from=None if grown_from is None else grown_from._forms)
        density = both.left_out_density(borrowed)
        n, known = len(y), ~y.isnan()
        is_due = n % LOOK_AGAIN_EVERY == 0 or n >= SELDOM_FITTED
        if grown_from is None and is_due and both.hyperparameters[:, -1].max() > LOUD:
            quiet = fit(start=_short_and_quiet(both))
            is_better = (quiet.left_out_density(borrowed) > density).unsqueeze(-1)
            both = both.at(torch.where(is_better, quiet.hyperparameters, both.hyperparameters))
            density = both.left_out_density(borrowed)
        self._forms: ExactGPs = both
        self._quiet: ExactGPs | None = None if grown_from is None else grown_from._quiet
        self.hyperparameters = both.hyperparameters
        evidence = density.unflatten(0, (-1, 2))  # a row each without and with what is borrowed
        evidence = evidence + torch.stack([0.0 * log_slope.sum(), log_slope.sum() - LEAST_EVIDENCE])
        form = int(evidence.argmax())
        self.gp = self.likeliest = both.select([form])
        self.scale = self.gp.scale.item()
        observed = points[own], torch.from_numpy(values)[own]
        self.best_f = self._best(*observed)
        if n % DOUBT_EVERY == 0 and self._doubts(points[own][known], y[known]):
            self._quiet = fit(start=_short_and_quiet(both), grown_from=self._quiet, most_noise=LOUD)
            self.gp = self._quiet.select([form])
            self.best_f = self._best(*observed)

    def believing(self, X: Tensor) -> "ObjectiveModel":
        """The model after observing its own means at `X` (`m x d`); see `ExactGPs.believing`."""
        believer = copy(self)
        believer.gp = self.gp.believing(X)
        return believer

    def left_out(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each trial's value as all others predict it, `n`.

        NaN for trials without a value. A mean below -1 may be compressed.
        """
        data = self.gp.observations
        residual, std = self.gp.leave_one_out()
        mean = (data.mean + data.std * data.y - residual)[0]
        return mean, torch.where(mean.isnan(), math.nan, std[0])

    def beside(self, C: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
        """A function that predicts at points, together with covariances with other points.

        Args:
            C: `c x d`, the other points. What depends on them alone is computed once.

        Returns:
            A function from points, `m x d`, to means (`m`), variances (`m`) and covariances with
            `C` (`m x c`).
        """
        whitened = self.gp.whitened(C)

        def moments(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            mean, variance, covariance = self.gp.posterior_beside(X, C, whitened)
            return mean[0], variance[0], covariance[0]

        return moments

    def _doubts(self, X: Tensor, y: Tensor) -> bool:
        """Whether the model takes the best observed value for luck.

        Of a configuration that ran several times, the mean of its values counts.

        Args:
            X: `n x d`, the configurations that have a value.
            y: `n`, the values.
        """
        if self.gp.hyperparameters[0, -1].item() <= LOUD:
            return False
        _, place, runs = X.unique(dim=0, return_inverse=True, return_counts=True)
        means = torch.zeros(len(runs), dtype=y.dtype).index_add(0, place, y) / runs
        margin = DOUBTFUL * self.noise_std / runs.sqrt()
        return bool((means > self.best_f + margin).any())

    def _best(self, X: Tensor, values: Tensor) -> float:
        observed = ~values.isnan()
        mean, _ = self.gp.posterior(X[observed])
        return float(mean.max())

    def joint_moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Means and covariances of the objective at `X`, `batch_shape x q x d`."""
        if X.shape[-2] == 1:
            mean, covariance = self.gp.posterior(X)
            covariance = covariance.clamp_min(MIN_VARIANCE).unsqueeze(-1)
        else:
            mean, covariance = self.gp.joint_posterior(X)
        return mean[0], covariance[0]

    @property
    def noise(self) -> Tensor:
        """The variance of the noise that the model has learnt."""
        return self.gp.noise[0]

    def get_extra_state(self) -> Tensor:
        """The hyper-parameters, for `state_dict`."""
        return self.gp.hyperparameters

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the hyper-parameters of another model of the same observations."""
        self.gp = self.gp.at(state)


def _short_and_quiet(gps: ExactGPs) -> Tensor:
    """Hyper-parameters of the same GPs: short lengthscales, and hardly any noise."""
    B, T, d = gps.kernel.active.shape
    start = gps.hyperparameters.new_full
    weights = start((B, T), -math.log(T))
    return Layout.of(gps.kernel).pack(start((B, T, d), SHORT), weights, start((B,), QUIET))


def middle_value(values: NDArray[np.float64]) -> float:
    """The median of values that are not NaN, where the worst value counts once.

    A value that many configurations share and that is worse than all others is a penalty. Without
    this, the good values could not be told apart as soon as most configurations are penalised.
    """
    known = values[~np.isnan(values)]
    worst = known.min()
    return float(np.median([worst, *known[known > worst]]))


def compressed(y: Tensor) -> tuple[Tensor, Tensor]:
    """Compress the tail of bad values, and leave the good half as it is.

    Returns:
        The compressed values, `n`, and the logarithm of the map's slope at each.
    """
    middle, unit = _middle_and_unit(y)
    below = (middle - y) / unit  # 1: as far below the middle as the best value is above
    tail = below > 1.0
    log_below = torch.where(tail, below.clamp_max(DEEPEST), 1.0).log()
    return torch.where(tail, middle - unit * (1.0 + log_below), y), -log_below


def _keep_digits(y: Tensor) -> Tensor:
    """Move up values so bad that the others would lose their digits beside them."""
    middle, unit = _middle_and_unit(y)
    return y.clamp_min(middle - BEYOND_DIGITS * unit)


def _middle_and_unit(y: Tensor) -> tuple[float, float]:
    """The middle of values, and how far above it the best is."""
    middle = middle_value(y.numpy())
    return middle, max(y.max().item() - middle, 1e-300)


def _forms(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values as they are and compressed, `n` each, and the logarithm of that map's slope."""
    y = values.clone()
    known = ~y.isnan()
    if not known.any():
        return y, y, y[known]
    y[known] = _keep_digits(y[known])
    warped_y = y.clone()
    warped_y[known], log_slope = compressed(y[known])
    return y, warped_y, log_slope


def _terms(d: int, stage_columns: Sequence[Sequence[int]], study_columns: Sequence[int]) -> Tensor:
    """The columns that each term of the kernel depends on, `B x T x d`, boolean.

    Args:
        d: The number of columns, those of studies included.
        stage_columns: The columns of each stage.
        study_columns: The columns of studies, on which all terms of the last two GPs depend.
    """
    own = [columns for columns in stage_columns if 0 < len(columns) < d - len(study_columns)]
    terms = torch.zeros(2, 1 + len(own), d, dtype=torch.bool)
    terms[:, 0] = True
    for term, columns in enumerate(own, start=1):
        terms[:, term, list(columns)] = True
    terms[..., list(study_columns)] = False
    if not study_columns:
        return terms
    borrowing = terms.clone()
    borrowing[..., list(study_columns)] = True
    return torch.cat([terms, borrowing])
