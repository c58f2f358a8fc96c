"""Smoothing of masks by a conditional random field, solved by mean-field iterations.

Every pair of pixels within a window is joined, in the way of the fully connected field of
Krähenbühl and Koltun (2011, arXiv 1210.5644) with one kernel and the Potts model, the window
being that of convolutional fields (Teichmann and Cipolla 2018, arXiv 1805.04777):

    Q_i(l) ~ exp(-U_i(l) + compat * sum_{j != i} k_ij Q_j(l))
    k_ij = exp(-|p_i - p_j|^2 / (2 sdims^2) - |c_i - c_j|^2 / (2 COLOUR^2)) / sqrt(d_i d_j)

d_i is the sum of row i of the kernel before that division, its diagonal of 1 included, so that
compat has the same meaning for every sdims, and a pixel like no other divides by 1. U is the
negative logarithm of what a mask says: probability gt_prob for its label, and the rest evenly for
the others.

Notation:
    h, w: height and width of a picture; L: number of labels.
    p: position in pixels; c: colour from 0 to 1; o: offsets of half a window, which with their
        opposites are all.
"""

import math

import torch
from torch import Tensor

__all__ = ["posterior", "smooth", "window_radius"]

COLOUR = 0.1  # standard deviation; twice the noise of a scene, a third of its contrasts
ITERATIONS = 5  # by which the paper's field has converged (its figure 5)
REACH = 2.0  # standard deviations to the window's edge: 95 % of a row's weight along each axis


def window_radius(sdims: float) -> int:
    """How far a pixel's neighbours reach, in pixels along each axis."""
    return math.ceil(REACH * sdims)


def smooth(
    image: Tensor, mask: Tensor, *, labels: int, sdims: float, compat: float, gt_prob: float
) -> Tensor:
    """The most probable labels, `h x w`; arguments as for `posterior`."""
    q = posterior(image, mask, labels=labels, sdims=sdims, compat=compat, gt_prob=gt_prob)
    return q.argmax(0)


def posterior(
    image: Tensor,
    mask: Tensor,
    *,
    labels: int,
    sdims: float,
    compat: float,
    gt_prob: float,
    radius: int | None = None,
    iterations: int = ITERATIONS,
) -> Tensor:
    """How probable every label is after some mean-field iterations.

    Args:
        image: `h x w x 3`, from 0 to 1.
        mask: `h x w`, labels from 0 to L - 1.
        labels: L, at least 2.
        sdims: Standard deviation of the kernel in space, in pixels, above 0.
        compat: Weight of neighbours with another label, at least 0.
        gt_prob: How probable the mask's labels are, within (0, 1).
        radius: Of the window; by default as far as `window_radius` says.
        iterations: How many.

    Returns:
        `L x h x w`, of the image's type.
    """
    offsets = _offsets(window_radius(sdims) if radius is None else radius, *mask.shape)
    kernel = _kernel(image, offsets, sdims)
    unary = _log_unary(mask, labels, gt_prob).to(image)
    q, message = unary.softmax(0), torch.empty_like(unary)
    ways = _ways(q, message, offsets)
    for _ in range(iterations):
        message.zero_()
        for (from_one, from_other, to_one, to_other), weights in zip(ways, kernel, strict=True):
            to_one.addcmul_(from_other, weights)
            to_other.addcmul_(from_one, weights)
        torch.softmax(unary + compat * message, 0, out=q)
    return q


def _log_unary(mask: Tensor, labels: int, gt_prob: float) -> Tensor:
    """The logarithm of what a mask says, `L x h x w`."""
    others = math.log((1.0 - gt_prob) / (labels - 1))
    unary = torch.full((labels, *mask.shape), others, dtype=torch.float64, device=mask.device)
    return unary.scatter_(0, mask[None].long(), math.log(gt_prob))


def _offsets(radius: int, height: int, width: int) -> list[tuple[int, int]]:
    """Half of a window's offsets: those down, and those to the right on the same row."""
    down, right = min(radius, height - 1), min(radius, width - 1)
    return [
        (dy, dx) for dy in range(down + 1) for dx in range(-right, right + 1) if (dy, dx) > (0, 0)
    ]


def _pairs(x: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """The parts of `... x h x w` that lie an offset apart: first ends, second ends."""
    height, width = x.shape[-2:]
    first = x[..., : height - dy, max(0, -dx) : width - max(0, dx)]
    second = x[..., dy:, max(0, dx) : width - max(0, -dx)]
    return first, second


def _kernel(image: Tensor, offsets: list[tuple[int, int]], sdims: float) -> list[Tensor]:
    """The kernel between pixels an offset apart, for every offset, `h - |dy| x w - |dx|`."""
    channels = image.permute(2, 0, 1).contiguous()
    kernel = []
    row_sums = torch.ones_like(channels[0])
    for dy, dx in offsets:
        one, other = _pairs(channels, dy, dx)
        distance = (one - other).square().sum(0) / (2.0 * COLOUR**2)
        weights = torch.exp(-distance - (dy * dy + dx * dx) / (2.0 * sdims**2))
        kernel.append(weights)
        for end in _pairs(row_sums, dy, dx):
            end += weights
    ends = [_pairs(row_sums, dy, dx) for dy, dx in offsets]
    return [
        weights / torch.sqrt(one * other)
        for weights, (one, other) in zip(kernel, ends, strict=True)
    ]


def _ways(q: Tensor, message: Tensor, offsets: list[tuple[int, int]]) -> list[tuple[Tensor, ...]]:
    """Views of both ends in q and in what they are told, for every offset.

    Made once and not at every iteration: for small pictures that takes as long as the sums.
    """
    return [(*_pairs(q, dy, dx), *_pairs(message, dy, dx)) for dy, dx in offsets]
