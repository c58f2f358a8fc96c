"""Training of the U-Net by one cycle of the learning rate, and its masks of held-out scenes.

Cross-entropy, AdamW, and a learning rate that rises to its maximum and falls again within the run
(Smith and Topin 2017, arXiv 1708.07120). Pictures are mirrored at random along both axes. All
that is random comes from one seeded generator on the CPU, whatever the device.

Notation:
    n: number of pictures; h, w: height and width; b: pictures in a batch.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from eeipu.benchmarks.segmentation.scenes import VOID
from eeipu.benchmarks.segmentation.unet import Architecture, UNet

__all__ = ["OneCycle", "predicted_masks", "train"]

PREDICTED_AT_ONCE = 8  # pictures: their activations take less than those of a training batch


@dataclass(frozen=True)
class OneCycle:
    """How to train.

    Attributes:
        epochs: Passes over the pictures.
        batch_size: Pictures a step; the last step of an epoch may have fewer.
        max_lr: The largest learning rate.
        weight_decay: Of AdamW.
        seed: Of the first weights, the order of the pictures and their mirroring.
    """

    epochs: int
    batch_size: int
    max_lr: float
    weight_decay: float
    seed: int


def train(
    images: Tensor,
    masks: Tensor,
    classes: int,
    architecture: Architecture,
    course: OneCycle,
    device: str = "cpu",
) -> UNet:
    """A network trained on pictures and their masks.

    Args:
        images: `n x 3 x h x w`, normalised.
        masks: `n x h x w`, classes, or `VOID` where there is nothing to learn.
        classes: How many there are.
        architecture: The size of the network.
        course: How to train.
        device: Where to.

    Returns:
        The network on that device, ready to predict.
    """
    generator = Generator().manual_seed(course.seed)
    model = architecture.initialised(classes, generator).to(device)
    # Fused, since a small network's step would otherwise go to the calls for its many tensors.
    optimizer = AdamW(model.parameters(), weight_decay=course.weight_decay, fused=True)
    steps = course.epochs * -(-len(images) // course.batch_size)
    schedule = OneCycleLR(optimizer, max_lr=course.max_lr, total_steps=steps)
    with _deterministic():
        for _ in range(course.epochs):
            for x, y in _batches(images, masks, course.batch_size, generator):
                optimizer.zero_grad()
                _loss(model(x.to(device)), y.to(device)).backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def predicted_masks(model: UNet, images: Tensor, device: str = "cpu") -> Tensor:
    """The most probable class of every pixel, `n x h x w`, on the CPU.

    Args:
        model: A network, as `train` returns it.
        images: `n x 3 x h x w`, normalised like those it was trained on.
        device: Where the network is.
    """
    with torch.no_grad(), _deterministic():
        parts = [
            model(batch.float().to(device)).argmax(1).to("cpu", torch.uint8)
            for batch in images.split(PREDICTED_AT_ONCE)
        ]
    return torch.cat(parts)


def _batches(
    images: Tensor, masks: Tensor, batch_size: int, generator: Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: pictures in random order, each mirrored or not."""
    for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
        x, y = images[chosen].float(), masks[chosen].long()
        for axis in (-2, -1):
            is_mirrored = torch.rand(len(chosen), generator=generator) < 0.5
            x = torch.where(is_mirrored[:, None, None, None], x.flip(axis), x)
            y = torch.where(is_mirrored[:, None, None], y.flip(axis), y)
        yield x, y


def _loss(scores: Tensor, masks: Tensor) -> Tensor:
    """The mean cross-entropy of the pixels that are known; 0 where none is.

    Pixels are rows, for which it is deterministic on a GPU too.
    """
    rows = scores.log_softmax(1).movedim(1, -1).flatten(0, -2)
    total = functional.nll_loss(rows, masks.flatten(), ignore_index=VOID, reduction="sum")
    return total / (masks != VOID).sum().clamp(min=1)


def _deterministic() -> AbstractContextManager[Any]:
    """The same convolutions at every run; matters on a GPU alone."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
