"""What the stages of the segmentation problem cost, counted instead of measured.

The counts are divided by rates that one core of a current server reached on the CPU preset, so
that the sums are close to its seconds and have the same proportions; they are the same on every
machine. What is fixed in preprocessing, the reading of the photographs, is spread over its pixels.
Stages of other presets, and above all those on a GPU, take other times.
"""

from dataclasses import dataclass

from eeipu.benchmarks.segmentation.crf import ITERATIONS, window_radius
from eeipu.benchmarks.segmentation.unet import Architecture

__all__ = ["Work"]

PIXELS_RATE = 9e5  # pixels of scenes drawn, or read and scaled, and normalised in a second
FLOPS_RATE = 2.5e10  # operations of a small network's convolutions in a second
STEP_S = 5e-3  # a training step's share that does not depend on the batch: calls, the optimiser
PAIRS_RATE = 2.4e9  # numbers that pass between two pixels of the field, in a second
KERNEL = 10  # what the kernel of a pair costs, in such numbers: three differences, an exponential


@dataclass(frozen=True)
class Work:
    """The sizes that work depends on.

    Attributes:
        train_count: Scenes to learn from.
        held_out_count: Scenes to be scored on.
        height: Of all scenes, in pixels.
        width: Likewise.
        classes: How many classes there are.
        architecture: The size of the network.
        epochs: Passes over the scenes.
    """

    train_count: int
    held_out_count: int
    height: int
    width: int
    classes: int
    architecture: Architecture
    epochs: int

    def preprocess(self, **_: float) -> float:
        """The preprocessing of all scenes, whatever the hyper-parameters."""
        return (self.train_count + self.held_out_count) * self.height * self.width / PIXELS_RATE

    def train(self, *, batch_size: int, **_: float) -> float:
        """Training, a backward pass being two forward ones, and prediction."""
        forward = self.architecture.forward_flops(self.classes, self.height, self.width)
        passes = 3 * self.epochs * self.train_count + self.held_out_count
        steps = self.epochs * -(-self.train_count // batch_size)
        return passes * forward / FLOPS_RATE + steps * STEP_S

    def smooth(self, *, sdims: float, **_: float) -> float:
        """Mean-field iterations: each passes all labels both ways between all pairs."""
        pairs = self.height * self.width * ((2 * window_radius(sdims) + 1) ** 2 - 1) / 2
        numbers = 2 * self.classes * ITERATIONS + KERNEL
        return self.held_out_count * pairs * numbers / PAIRS_RATE
