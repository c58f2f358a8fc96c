r"""Log expected improvement with its slopes, by the objective's model, by its stages, or by both.

Notation:
    b: candidates, in any shape; N: nodes of the chain of stages
        (`eeipu.models.observed_stages.chain`).
    mu, sigma: mean and standard deviation of the objective at a candidate; u = (mu - f*) / sigma.
    w: the share of the chain of stages; EI_c, EI_p: by the chain, and by the objective's model.

    log EI = log sigma + h(u),
    h(u) = log(phi(u) + u Phi(u)),  h'(u) = Phi(u) / (phi(u) + u Phi(u)),
    in mu: h'(u) / sigma,  in sigma: (1 - u h'(u)) / sigma.

Of a mixture of two predictions the expected improvement is `w EI_c + (1 - w) EI_p`, and what the
slopes of each logarithm count is its part of this sum. The slope in the moments of the j-th node is
that in the chain's mean times A_j, and that in its variance times A_j^2, or 0 where it is known.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr
from torch import Tensor

from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.objective import MIN_VARIANCE
from eeipu.models.observed_stages.chain import StageChain

__all__ = ["Improvement", "WeighedChain", "log_ei"]

Array = NDArray[np.float64]

# Below this u, h and h' come from their asymptotic series, whose errors are then below 1e-11.
FAR_BELOW = -1e3

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
SQRT_HALF, SQRT_HALF_PI = math.sqrt(0.5), math.sqrt(0.5 * math.pi)


@dataclass(frozen=True)
class WeighedChain:
    """A chain of stages, and how much it counts beside the objective's model.

    Attributes:
        chain: The chain.
        share: w, above 0 and at most 1.
    """

    chain: StageChain
    share: float


class Improvement:
    """Log EI from the moments of GPs.

    Args:
        plain: The GP of the objective.
        best_f: The best value so far.
        weighed: The chain of stages; `None`: the objective's GP alone.

    Attributes:
        gps: Batches of the GPs whose moments are asked for, the objective's first where it counts.
    """

    def __init__(self, plain: ExactGPs, best_f: float, weighed: WeighedChain | None) -> None:
        self._best_f = best_f
        self._chain = None if weighed is None else weighed.chain
        self._share = 0.0 if weighed is None else weighed.share
        self.gps = [plain] if self._share < 1.0 else []
        if self._chain is not None:
            self.gps.append(self._chain.gps)
            self._reach = self._chain.reach

    def __len__(self) -> int:
        """The number of GPs."""
        return sum(len(batch.hyperparameters) for batch in self.gps)

    def known(self, x: Tensor, memoized: Tensor) -> tuple[Tensor, Tensor] | None:
        """What is known of candidates (`b x d`) that reuse outputs (`b x K`).

        Returns:
            Flags and numbers for all GPs, `G x b`; `None` if nothing is.
        """
        if self._chain is None or not memoized.any():
            return None
        flags, found = self._chain.known(x, memoized)
        if self._share < 1.0:
            nothing = flags.new_zeros((1, flags.shape[1]))
            flags, found = torch.cat([nothing, flags]), torch.cat([nothing.to(found), found])
        return flags, found

    def __call__(
        self, means: Tensor, variances: Tensor, known: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log EI, `b`, and its slopes in the means and variances, `G x b`.

        Args:
            means: `G x b`.
            variances: `G x b`.
            known: Where the first is true, the second is the number itself.
        """
        if self._chain is None:
            value, slope, variance_slope = log_ei(means[0], variances[0], self._best_f)
            return value, slope[None], variance_slope[None]
        first = 1 if self._share < 1.0 else 0
        reach = self._reach.reshape(-1, *(1,) * (means.ndim - 1))
        of_mean, of_variance = reach, reach.square()
        if known is not None:
            flags, found = known[0][first:], known[1][first:]
            own = torch.where(flags, found, means[first:])
            of_variance = of_variance * ~flags
            mean, of_mean = (reach * own).sum(0), of_mean * ~flags
        else:
            mean = (reach * means[first:]).sum(0)
        variance = (of_variance * variances[first:]).sum(0)
        value, slope, variance_slope = log_ei(mean, variance, self._chain.best_f)
        if not first:
            return value, of_mean * slope, of_variance * variance_slope
        plain, plain_slope, plain_variance_slope = log_ei(means[0], variances[0], self._best_f)
        value, plain = value + math.log(self._share), plain + math.log1p(-self._share)
        both = torch.logaddexp(value, plain)
        part, plain_part = (value - both).exp(), (plain - both).exp()
        return (
            both,
            torch.cat([(plain_part * plain_slope)[None], of_mean * (part * slope)]),
            torch.cat(
                [
                    (plain_part * plain_variance_slope)[None],
                    of_variance * (part * variance_slope),
                ]
            ),
        )


def log_ei(mean: Tensor, variance: Tensor, best_f: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log EI and its slopes in the mean and in the variance, in the shape of these together."""
    is_free = variance >= MIN_VARIANCE
    sigma = variance.clamp_min(MIN_VARIANCE).sqrt()
    u = (mean - best_f) / sigma
    h, slope = (torch.from_numpy(part) for part in _log_h(u.numpy()))
    # d sigma / d sigma^2 = 1 / (2 sigma)
    return sigma.log() + h, slope / sigma, is_free * (1.0 - u * slope) / (2.0 * sigma.square())


def _log_h(u: Array) -> tuple[Array, Array]:
    """`h` and its slope; SciPy's functions take a tenth of the time of BoTorch's."""
    near, below = np.maximum(u, -1.0), np.clip(u, FAR_BELOW, -1.0)
    phi, Phi = np.exp(-0.5 * near * near - HALF_LOG_2PI), ndtr(near)
    upper = phi + near * Phi
    # phi(u) + u Phi(u) = phi(u) (1 - w), and 1 - w = u^-2 - 3 u^-4 + 15 u^-6 ... far below
    w = -below * SQRT_HALF_PI * erfcx(-SQRT_HALF * below)
    far = np.minimum(u, FAR_BELOW)
    is_far, inverse = u < FAR_BELOW, far**-2.0
    left = np.where(is_far, inverse * (1.0 - 3.0 * inverse), 1.0 - w)
    lower = np.log(left) - 0.5 * u * u - HALF_LOG_2PI
    lower_slope = np.where(is_far, -far - 2.0 / far, -w / (below * left))
    is_lower = u < -1.0
    return np.where(is_lower, lower, np.log(upper)), np.where(is_lower, lower_slope, Phi / upper)
