r"""Exact Gaussian processes, many at once, over numbers and categories.

A suggestion needs one GP of the objective and several of each stage's cost, all on the same few
hundred points, and evaluates them at thousands of candidates. A suggestion is cheap because they
are fitted and evaluated as one batch of dense tensors.

Notation:
    B: GPs in the batch; n: points; d: columns; T: terms of the kernel; m: test points.
    X: `n x d`, points of the unit cube; Y: `B x n`, observations, NaN where there is none.
    active: `B x T x d`, which columns a term of a GP's kernel depends on.
    s2: `B`, noise variance.

Model, for each GP, after its observations have been standardised:

    y = f(x) + e,  e ~ N(0, s2),  f ~ GP(0, k)

with the kernel of `eeipu.models.kernels` and hyper-parameters as fitted by
`eeipu.models.fitting`. This module conditions the GPs on the observations, and predicts.
"""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from eeipu.models.conditioning import MAX_EXACT, MAX_SUPPORT, Conditioning, condition
from eeipu.models.devices import FittingDevice, fitting_device
from eeipu.models.fitting import LOG_NOISE_BOUNDS, Layout, fitted
from eeipu.models.kernels import AdditiveKernel
from eeipu.models.observations import Observations

__all__ = ["ExactGPs"]

# The least variance of a standardised `f`, where rounding would make it zero or negative.
MIN_VARIANCE = 1e-10

# Covariances of test points are computed in slices of at most this many numbers (24 MB).
MAX_COVARIANCES = 3_000_000


class ExactGPs:
    """A batch of GPs on common points, exact for some hundred of them.

    Args:
        X: `n x d`.
        Y: `B x n`; NaN where a GP has no observation. Each GP needs at least one.
        active: `B x T x d`, boolean.
        categorical: The columns of `X` without an order.
        start: Hyper-parameters to start the fit from (`hyperparameters` of an earlier fit of the
            same shape); `None`: the prior's.
        grown_from: The same GPs, with fewer observations: their hyper-parameters are taken as they
            are, without a fit, and what was computed for their observations is not again.
        focus: The points that matter most, best first: if there are too many points for an exact
            posterior, it rests on these and on others.
        most_noise: The upper bound of the logarithm of the noise's variance, standardised.
        device: Where to fit, and to factorise covariances; `None`: whichever is faster. All
            results lie in main memory, where the candidates are: they come in small batches, which
            a GPU would not speed up.

    Attributes:
        hyperparameters: `B x P`, as fitted, in the logarithm.
        observations: What the GPs have observed.
        kernel: Their kernels, as fitted.
        conditioning: What they predict with.
    """

    def __init__(
        self,
        X: Tensor,
        Y: Tensor,
        active: Tensor,
        *,
        categorical: Sequence[int] = (),
        start: Tensor | None = None,
        grown_from: "ExactGPs | None" = None,
        focus: Sequence[int] = (),
        most_noise: float = LOG_NOISE_BOUNDS[1],
        device: torch.device | None = None,
    ) -> None:
        self._device = FittingDevice(fitting_device(device, len(X)))
        self._focus = tuple(focus)
        self.observations = Observations.standardised(X, Y)
        unfitted = AdditiveKernel.over(active.to(X), categorical)
        self.hyperparameters: Tensor = (
            self._device.run(
                lambda device: fitted(
                    self.observations,
                    unfitted,
                    start=start,
                    focus=self._focus,
                    most_noise=most_noise,
                    device=device,
                )
            )
            if grown_from is None
            else grown_from.hyperparameters
        )
        scales, weights, self._noise = Layout.of(unfitted).unpack(self.hyperparameters)
        self.kernel = unfitted.scaled(scales, weights)
        self.conditioning = self._conditioned(grown_from)

    def _conditioned(self, earlier: "ExactGPs | None") -> Conditioning:
        data = self.observations
        if earlier is not None and data.begins_with(earlier.observations):
            before = earlier.conditioning
            # Where the last trials were, the next ones will be: they are added to the support.
            new = data.X[len(earlier.observations.X) :]
            support = None if before.projection is None else torch.cat([before.X, new])
            if support is not None or len(data.X) <= MAX_EXACT:
                return condition(data, self.kernel, self._noise, support, before)
        support = None
        if len(data.X) > MAX_EXACT:
            support = data.X[data.representative(MAX_SUPPORT, self._focus)]
        return self._device.run(
            lambda device: condition(
                data.to(device),
                self.kernel.to(device),
                self._noise.to(device),
                None if support is None else support.to(device),
            )
        )

    def select(self, rows: Sequence[int]) -> "ExactGPs":
        """The GPs of the batch at `rows`, as they were fitted."""
        chosen, b = copy(self), torch.tensor(rows)
        chosen.observations, chosen.kernel = self.observations.select(b), self.kernel.select(b)
        chosen.hyperparameters, chosen._noise = self.hyperparameters[b], self._noise[b]
        chosen.conditioning = self.conditioning.select(b)
        return chosen

    def at(self, hyperparameters: Tensor) -> "ExactGPs":
        """The GPs with these hyper-parameters, `B x P`, instead of the fitted ones."""
        moved = copy(self)
        moved.hyperparameters = hyperparameters
        scales, weights, moved._noise = Layout.of(self.kernel).unpack(hyperparameters)
        moved.kernel = self.kernel.scaled(scales, weights)
        moved.conditioning = moved._conditioned(None)
        return moved

    def believing(self, X: Tensor) -> "ExactGPs":
        """The GPs after observing their own means at `X` (`m x d`), hyper-parameters unchanged.

        This is the kriging believer of Ginsbourger, Le Riche and Carraro (2010): points that are
        being evaluated are no longer attractive, and the means elsewhere stay as they are.
        """
        believer = copy(self)
        mean, _ = self.posterior(X)
        believer.observations = self.observations.extended(X, mean)
        believer.conditioning = believer._conditioned(self)
        return believer

    @property
    def scale(self) -> Tensor:
        """The standard deviation of each GP's observations, `B`."""
        return self.observations.std.squeeze(-1)

    @property
    def noise(self) -> Tensor:
        """The variance of each GP's noise, in the square of the observations' unit, `B`."""
        return self._noise * self.scale.square()

    def posterior(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances of `f`, in the unit of the observations.

        Args:
            X: `* x d`.

        Returns:
            Two tensors, `B x *`.
        """
        points = X.reshape(-1, X.shape[-1])
        step = max(1, MAX_COVARIANCES // self.conditioning.alpha.numel())
        slices = [self._moments(part) for part in points.split(step)]
        mean, variance = (torch.cat(part, dim=-1) for part in zip(*slices, strict=True))
        return mean.unflatten(-1, X.shape[:-1]), variance.unflatten(-1, X.shape[:-1])

    def _moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        cross = self._cross(points)
        explained = (cross @ self.conditioning.inverse_factor.mT).square().sum(-1)
        variance = (self.kernel.variance - explained).clamp_min(MIN_VARIANCE)
        mean = (cross @ self.conditioning.alpha.unsqueeze(-1)).squeeze(-1)
        return (
            self.observations.mean + self.observations.std * mean,
            self.observations.std.square() * variance,
        )

    def _cross(self, points: Tensor) -> Tensor:
        """Covariances of points (`m x d`) with those that predictions rest on, `B x m x n`."""
        support = self.conditioning
        return self.kernel(points, support.X) * support.is_known.unsqueeze(-2)

    def joint_posterior(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Means and covariances of `f` over sets of points, in the unit of the observations.

        Args:
            X: `* x q x d`.

        Returns:
            `B x * x q` and `B x * x q x q`.
        """
        cross = self._cross(X.reshape(-1, X.shape[-1]))
        mean = (
            (cross @ self.conditioning.alpha.unsqueeze(-1)).squeeze(-1).unflatten(-1, X.shape[:-1])
        )
        whitened = (cross @ self.conditioning.inverse_factor.mT).unflatten(-2, X.shape[:-1])
        covariance = self.kernel(X, X) - whitened @ whitened.transpose(-1, -2)
        lead = (-1,) + (1,) * (X.ndim - 2)
        shift, scale = (
            self.observations.mean.reshape(*lead, 1),
            self.observations.std.reshape(*lead, 1),
        )
        jitter = MIN_VARIANCE * torch.eye(X.shape[-2], dtype=X.dtype)
        return shift + scale * mean, scale.unsqueeze(-1).square() * (covariance + jitter)

    def whitened(self, X: Tensor) -> Tensor:
        """Covariances of points with the whitened observations, which are independent.

        Args:
            X: `m x d`.

        Returns:
            `B x m x n`. The data explain the sum of their squares of a point's variance.
        """
        return self._cross(X) @ self.conditioning.inverse_factor.mT

    def posterior_beside(
        self, X: Tensor, C: Tensor, whitened: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means and variances of `f` at `X`, and its covariances with `f` at other points.

        Args:
            X: `m x d`.
            C: `c x d`, the other points.
            whitened: The result of `whitened` for `C`, which many calls may share.

        Returns:
            `B x m`, `B x m` and `B x m x c`, in the unit of the observations.
        """
        cross = self._cross(X)
        own = cross @ self.conditioning.inverse_factor.mT
        mean = (cross @ self.conditioning.alpha.unsqueeze(-1)).squeeze(-1)
        variance = self.kernel.variance - own.square().sum(-1)
        covariance = self.kernel(X, C) - own @ whitened.transpose(-1, -2)
        square = self.observations.std.square()
        return (
            self.observations.mean + self.observations.std * mean,
            square * variance.clamp_min(MIN_VARIANCE),
            square.unsqueeze(-1) * covariance,
        )

    def leave_one_out(self) -> tuple[Tensor, Tensor]:
        """Predict each observation from all others (Rasmussen and Williams 2006, 5.12).

        Returns:
            Residuals and standard deviations, `B x n`, in the unit of the observations; residuals
            are NaN where there is no observation.
        """
        left_out, std = self.conditioning, self.observations.std
        return std * left_out.residual, std * left_out.deviation

    def left_out_density(self, first: int = 0) -> Tensor:
        """The sum over observations of the log density that all others predict for each, `B`.

        Up to a constant for each observation.

        Args:
            first: The observations before this one do not count.
        """
        residual, std = (part[:, first:] for part in self.leave_one_out())
        return (-0.5 * (residual / std).square() - std.log()).nansum(-1)
