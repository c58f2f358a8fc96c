"""What one more noisy observation is worth: the knowledge gradient for correlated beliefs.

Notation:
    n: points, of which one is observed once more.
    a: `n`, the means of their values; Z: standard normal.
    b: `n`, how far an observation moves these means if it is one deviation above what is expected.

After the observation the means are `a + b Z`, and whoever then takes the best of them gains

    KG = E[max_i (a_i + b_i Z)] - max_i a_i.

The maximum of lines is a convex polygon in Z, whose corners c_i lie between lines of rising slopes
b_i, and with h(u) = phi(u) + u Phi(u)

    KG = sum_i (b_{i+1} - b_i) h(-|c_i|)

(Frazier, Powell and Dayanik 2009, INFORMS Journal on Computing 21(4), section 3). Without noise,
and if the observed point is correlated with no other, this is the expected improvement.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.models.pending_improvement import log_improvement

__all__ = ["log_knowledge_gradient", "moves"]

Array = NDArray[np.float64]


def log_knowledge_gradient(a: Array, b: Array) -> float:
    """The logarithm of KG; minus infinity where the observation can change no choice.

    Args:
        a: `n`, means.
        b: `n`, their moves.
    """
    slopes, corners = _upper_polygon(a, b)
    if len(corners) == 0:
        return -math.inf
    below = torch.from_numpy(-np.abs(corners))
    parts = log_improvement(below, torch.ones_like(below), 0.0)
    return float(torch.logsumexp(parts + torch.from_numpy(np.diff(slopes)).log(), dim=0))


def _upper_polygon(a: Array, b: Array) -> tuple[Array, Array]:
    """The slopes of the lines `a + b z` that are the highest somewhere, and where they change."""
    kept: list[int] = []
    starts: list[float] = []  # from where on each of the lines kept is the highest
    for i in np.lexsort((a, b)):
        start = -math.inf
        while kept:
            last = kept[-1]
            if b[i] > b[last]:
                start = (a[last] - a[i]) / (b[i] - b[last])
                if start > starts[-1]:
                    break
            kept.pop()
            starts.pop()
            start = -math.inf
        kept.append(int(i))
        starts.append(start)
    return b[kept], np.array(starts[1:])


def moves(covariance: Tensor, noise: Tensor) -> Tensor:
    """How far one more observation at a point moves the means, `n x n`, a column for each.

    Args:
        covariance: `n x n`, of the values at n points.
        noise: The variance of an observation's noise.
    """
    deviation: Tensor = (covariance.diagonal() + noise).sqrt()
    return covariance / deviation
