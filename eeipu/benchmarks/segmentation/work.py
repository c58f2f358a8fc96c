"""Declared costs of the stages of the segmentation problem, from counts of operations.

The counts are divided by rates that one core of a current server reached with the preset `cpu`.
So, declared costs are close to its seconds, and they are the same on every machine. The fixed time
of preprocessing, for reading the photographs, is spread over its pixels. Stages of other presets,
above all those on a GPU, take other times.
"""

from dataclasses import dataclass

from eeipu.benchmarks.segmentation.crf import ITERATIONS, window_radius
from eeipu.benchmarks.segmentation.unet import Architecture

__all__ = ["Work"]

PIXELS_RATE = 9e5  # pixels of scenes in a second: drawn, or read and scaled, and normalised
FLOPS_RATE = 2.5e10  # operations in the convolutions of a small network in a second
STEP_S = 5e-3  # seconds of a training step that do not depend on the batch: calls, the optimiser
PAIRS_RATE = 2.4e9  # numbers that pairs of pixels of the field exchange in a second
KERNEL = 10  # the cost of the kernel of a pair, in such numbers: three differences, an exponential


@dataclass(frozen=True)
class Work:
    """The sizes on which the declared costs depend.

    Attributes:
        train_count: The number of training scenes.
        held_out_count: The number of held-out scenes.
        height: The height of all scenes in pixels.
        width: The width of all scenes in pixels.
        classes: The number of classes.
        architecture: The size of the network.
        epochs: The number of passes over the training scenes.
    """

    train_count: int
    held_out_count: int
    height: int
    width: int
    classes: int
    architecture: Architecture
    epochs: int

    def preprocess(self, **_: float) -> float:
        """The cost of preprocessing all scenes, which no hyper-parameter changes."""
        return (self.train_count + self.held_out_count) * self.height * self.width / PIXELS_RATE

    def train(self, *, batch_size: int, **_: float) -> float:
        """The cost of training and prediction; a backward pass counts as two forward passes."""
        forward = self.architecture.forward_flops(self.classes, self.height, self.width)
        passes = 3 * self.epochs * self.train_count + self.held_out_count
        steps = self.epochs * -(-self.train_count // batch_size)
        return passes * forward / FLOPS_RATE + steps * STEP_S

    def smooth(self, *, sdims: float, **_: float) -> float:
        """The cost of mean-field iterations; each passes all labels both ways within all pairs."""
        pairs = self.height * self.width * ((2 * window_radius(sdims) + 1) ** 2 - 1) / 2
        numbers = 2 * self.classes * ITERATIONS + KERNEL
        return self.held_out_count * pairs * numbers / PAIRS_RATE
