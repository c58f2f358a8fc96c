"""Smoothing of masks by a conditional random field, solved by mean-field iterations.

The field connects every pair of pixels within a window. It is the fully connected field of
Krähenbühl and Koltun (2011, arXiv 1210.5644), with one kernel and the Potts model, restricted to
the window of convolutional fields (Teichmann and Cipolla 2018, arXiv 1805.04777):

    Q_i(l) ~ exp(-U_i(l) + compat * sum_{j != i} k_ij Q_j(l))
    k_ij = exp(-|p_i - p_j|^2 / (2 sdims^2) - |c_i - c_j|^2 / (2 COLOUR^2)) / sqrt(d_i d_j)

d_i is the sum of row i of the kernel before this division, including the diagonal element 1. So,
compat has the same meaning for every sdims, and a pixel that is similar to no other has d_i = 1.
U is the negative logarithm of the probabilities that the mask implies: gt_prob for the label of the
pixel, and the rest shared evenly by the other labels.

Notation:
    h, w: height and width of a picture.
    L: number of labels.
    p: position in pixels.
    c: colour from 0 to 1.
    o: number of offsets in half a window, the other.
        half being their opposites.
"""

import math

import torch
from torch import Tensor

__all__ = ["posterior", "smooth", "window_radius"]

COLOUR = 0.1  # standard deviation: twice the noise of a scene, and a third of its contrasts
ITERATIONS = 5  # enough for the paper's field to converge (its figure 5)
REACH = 2.0  # standard deviations to the window's edge: 95 % of a row's weight along each axis


def window_radius(sdims: float) -> int:
    """The radius of the window along each axis, in pixels."""
    return math.ceil(REACH * sdims)


def smooth(
    image: Tensor, mask: Tensor, *, labels: int, sdims: float, compat: float, gt_prob: float
) -> Tensor:
    """The most probable label of each pixel, `h x w`; arguments as for `posterior`."""
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
    """The probability of every label at every pixel, after some mean-field iterations.

    Args:
        image: The picture, `h x w x 3`, from 0 to 1.
        mask: The labels to smooth, `h x w`, from 0 to L - 1.
        labels: The number of labels L, at least 2.
        sdims: Standard deviation of the kernel in space, in pixels, above 0.
        compat: Penalty for neighbours with different labels, at least 0.
        gt_prob: The probability that a label of the mask is right, within (0, 1).
        radius: The radius of the window in pixels; by default `window_radius(sdims)`.
        iterations: The number of mean-field iterations.

    Returns:
        Probabilities, `L x h x w`, of the same dtype as the image.
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
    """The logarithms of the probabilities that a mask implies, `L x h x w`."""
    others = math.log((1.0 - gt_prob) / (labels - 1))
    unary = torch.full((labels, *mask.shape), others, dtype=torch.float64, device=mask.device)
    return unary.scatter_(0, mask[None].long(), math.log(gt_prob))


def _offsets(radius: int, height: int, width: int) -> list[tuple[int, int]]:
    """Half of the offsets of a window: those downwards, and those to the right on the same row."""
    down, right = min(radius, height - 1), min(radius, width - 1)
    return [
        (dy, dx) for dy in range(down + 1) for dx in range(-right, right + 1) if (dy, dx) > (0, 0)
    ]


def _pairs(x: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Two views of `... x h x w`: the first and the second pixel of all pairs at one offset."""
    height, width = x.shape[-2:]
    first = x[..., : height - dy, max(0, -dx) : width - max(0, dx)]
    second = x[..., dy:, max(0, dx) : width - max(0, -dx)]
    return first, second


def _kernel(image: Tensor, offsets: list[tuple[int, int]], sdims: float) -> list[Tensor]:
    """For every offset, the kernel of all pairs at this offset, `h - |dy| x w - |dx|`."""
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
    """For every offset, the views of both pixels of all pairs, in `q` and in `message`.

    They are made once, because for small pictures making them takes as long as the sums.
    """
    return [(*_pairs(q, dy, dx), *_pairs(message, dy, dx)) for dy, dx in offsets]
