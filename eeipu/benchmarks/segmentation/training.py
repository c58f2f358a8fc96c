"""Training of the U-Net with one cycle of the learning rate, and prediction of masks.

The loss is the cross-entropy, the optimiser AdamW, and the learning rate rises to its maximum and
falls again within the run (Smith and Topin 2017, arXiv 1708.07120). Pictures are mirrored at random
along both axes. All random numbers come from one seeded generator on the CPU, on every device.

Notation:
    n: number of pictures.
    h, w: height and width.
    b: number of pictures in a batch.
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

__all__ = ["OneCycle", "optimizer_of", "predicted_masks", "train", "updates"]

PREDICTED_AT_ONCE = 8  # pictures: their activations take less memory than those of a training batch


@dataclass(frozen=True)
class OneCycle:
    """Settings of the training.

    Attributes:
        epochs: The number of passes over the pictures.
        batch_size: The number of pictures in a step; the last step of an epoch may have fewer.
        max_lr: The largest learning rate.
        weight_decay: The weight decay of AdamW.
        seed: The seed of the first weights, of the order of pictures and of their mirroring.
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
    """Train a network on pictures and their masks.

    Args:
        images: Normalised pictures, `n x 3 x h x w`.
        masks: The class of each pixel, `n x h x w`, or `VOID` for pixels that do not count.
        classes: The number of classes.
        architecture: The size of the network.
        course: The settings of the training.
        device: The device on which to train.

    Returns:
        The network on that device, in evaluation mode.
    """
    generator = Generator().manual_seed(course.seed)
    model = architecture.initialised(classes, generator).to(device)
    optimizer = optimizer_of(model)
    optimizer.param_groups[0]["weight_decay"] = course.weight_decay
    steps = course.epochs * -(-len(images) // course.batch_size)
    schedule = OneCycleLR(optimizer, max_lr=course.max_lr, total_steps=steps)
    for _ in range(course.epochs):
        for _ in updates(model, optimizer, images, masks, course.batch_size, generator, device):
            schedule.step()
    return model.eval()


def optimizer_of(model: UNet) -> AdamW:
    """The optimiser of a network, with the values of torch."""
    # Fused: otherwise a step of a small network consists mostly of calls for its many tensors.
    return AdamW(model.parameters(), fused=True)


def updates(
    model: UNet,
    optimizer: AdamW,
    images: Tensor,
    masks: Tensor,
    batch_size: int,
    generator: Generator,
    device: str = "cpu",
) -> Iterator[None]:
    """Go through all pictures once in batches, and yield after each update of the network."""
    for x, y in _batches(images, masks, batch_size, generator):
        with _deterministic():
            optimizer.zero_grad()
            _loss(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        yield


def predicted_masks(model: UNet, images: Tensor, device: str = "cpu") -> Tensor:
    """The most probable class of every pixel, `n x h x w`, on the CPU.

    Args:
        model: A network, as `train` returns it.
        images: Pictures, `n x 3 x h x w`, normalised like those of the training.
        device: The device of the network.
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
    """The batches of one epoch: pictures in random order, mirrored at random."""
    for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
        x, y = images[chosen].float(), masks[chosen].long()
        for axis in (-2, -1):
            is_mirrored = torch.rand(len(chosen), generator=generator) < 0.5
            x = torch.where(is_mirrored[:, None, None, None], x.flip(axis), x)
            y = torch.where(is_mirrored[:, None, None], y.flip(axis), y)
        yield x, y


def _loss(scores: Tensor, masks: Tensor) -> Tensor:
    """The mean cross-entropy of the pixels of known class; 0 if there are none.

    Each pixel becomes a row, because the loss of rows is deterministic on a GPU too.
    """
    rows = scores.log_softmax(1).movedim(1, -1).flatten(0, -2)
    total = functional.nll_loss(rows, masks.flatten(), ignore_index=VOID, reduction="sum")
    return total / (masks != VOID).sum().clamp(min=1)


def _deterministic() -> AbstractContextManager[Any]:
    """Use the same convolution algorithms in every run, which differ on a GPU only."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
