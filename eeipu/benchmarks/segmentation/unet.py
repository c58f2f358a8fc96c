"""A U-Net with the encoder of MobileNetV2.

The encoder is MobileNetV2's table of inverted residuals (Sandler et al. 2018, arXiv 1801.04381,
table 2), divided into levels where the resolution halves. Each level of the decoder doubles the
resolution, appends the features that the encoder had there, and convolves twice (Ronneberger et
al. 2015, arXiv 1505.04597). The first weights are random (He et al. 2015, arXiv 1502.01852).

Notation:
    n: number of pictures in a batch.
    h, w: height and width, multiples of 2 to the power of the.
        number of levels.
    c: number of channels of a level.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Architecture", "UNet"]

# For each level, the rows of MobileNetV2's table: expansion, channels, repeats and first stride.
# The first level begins with a plain convolution of 32 channels and stride 2.
_LEVELS = (
    ((1, 16, 1, 1),),
    ((6, 24, 2, 2),),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
_STEM = 32
_DECODER = (16, 32, 64, 128, 256)  # channels at the resolution above each level
_DIVISOR = 8  # numbers of channels are multiples of it, as in MobileNetV2, to suit vector units


@dataclass(frozen=True)
class Architecture:
    """The size of a network.

    Attributes:
        width: The numbers of channels, as a multiple of the published ones.
        levels: The number of times that the encoder halves the resolution, from 1 to 5.
        repeats: The maximal number of inverted residuals for each row of the table.
    """

    width: float = 1.0
    levels: int = 5
    repeats: int = 4

    def initialised(self, classes: int, generator: Generator) -> "UNet":
        """A network on the CPU whose first weights depend on `generator` only."""
        model = self._shape(classes).to_empty(device="cpu")
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        return model

    def forward_flops(self, classes: int, height: int, width: int) -> int:
        """The floating-point operations of the convolutions in a forward pass of one picture."""
        model = self._shape(classes)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, height, width, device="meta"))
        return int(counter.get_total_flops())

    def _shape(self, classes: int) -> "UNet":
        with torch.device("meta"):  # so that the global random generator is not used
            return UNet(classes, self)


class UNet(nn.Module):
    """A network that scores the classes of every pixel, `n x 3 x h x w -> n x classes x h x w`.

    Args:
        classes: The number of classes.
        architecture: The size of the network.
    """

    def __init__(self, classes: int, architecture: Architecture) -> None:
        super().__init__()
        width, levels = architecture.width, architecture.levels
        rows = _LEVELS[:levels]
        ends = [_scaled(level[-1][1], width) for level in rows]
        starts = [_scaled(_STEM, width), *ends[:-1]]
        self.stem = _convolution(3, starts[0], kernel=3, stride=2)
        self.encoder = nn.ModuleList(
            _level(c, level, architecture) for c, level in zip(starts, rows, strict=True)
        )
        ups = []
        below = ends[-1]
        for depth in reversed(range(levels)):
            skipped = ends[depth - 1] if depth else 0
            above = _scaled(_DECODER[depth], width)
            ups.append(_joint(below + skipped, above))
            below = above
        self.decoder = nn.ModuleList(ups)
        self.head = nn.Conv2d(below, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute scores (logits, not probabilities)."""
        x = self.stem(images)
        features = []
        for level in self.encoder:
            x = level(x)
            features.append(x)
        skips = [*reversed(features[:-1]), None]
        for joint, skip in zip(self.decoder, skips, strict=True):
            # Nearest-pixel interpolation has a deterministic gradient on a GPU too.
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = joint(x if skip is None else torch.cat([x, skip], dim=1))
        scores: Tensor = self.head(x)
        return scores


class _InvertedResidual(nn.Module):
    """Expand, convolve each channel separately, and project; add the input if the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [_convolution(inputs, hidden, kernel=1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """`n x inputs x h x w -> n x outputs x h / stride x w / stride`."""
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


def _level(
    inputs: int, rows: tuple[tuple[int, int, int, int], ...], architecture: Architecture
) -> nn.Sequential:
    """The rows of MobileNetV2's table at one resolution."""
    blocks = []
    for expansion, channels, count, stride in rows:
        outputs = _scaled(channels, architecture.width)
        for number in range(min(count, architecture.repeats)):
            first = stride if number == 0 else 1
            blocks.append(_InvertedResidual(inputs, outputs, expansion, first))
            inputs = outputs
    return nn.Sequential(*blocks)


def _joint(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(inputs, outputs, kernel=3), _convolution(outputs, outputs, kernel=3)
    )


def _convolution(
    inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution with normalisation, which makes a bias of the convolution superfluous."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


def _scaled(channels: int, width: float) -> int:
    return max(_DIVISOR, round(channels * width / _DIVISOR) * _DIVISOR)
