"""The segmentation problem: preprocessing, a U-Net, and smoothing of its masks.

The stages and search spaces are those of Essofi et al. 2024 (arXiv 2411.03731); the preset `paper`
also has its network, epochs and budget. The score is the mean intersection over union of the
*smoothed* masks of held-out scenes.

Note:
    Differences from the paper: generated scenes of 12 classes, or the user's own folders, take the
    place of its drone pictures. The first weights of the network are random, not those of ImageNet.
    Standard deviations are at least `LEAST_STD`, since division by the published lower bound 0 is
    impossible. gt_prob excludes 0 and 1, whose logarithms are infinite.

Notation:
    n: number of training scenes.
    m: number of held-out scenes.
    h, w: height and width in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from eeipu.benchmarks.problem import CostKind, Preset, Problem, check_size
from eeipu.benchmarks.segmentation.crf import smooth
from eeipu.benchmarks.segmentation.iou import mean_iou
from eeipu.benchmarks.segmentation.picture_folders import open_folders
from eeipu.benchmarks.segmentation.scenes import GeneratedScenes, SceneSource
from eeipu.benchmarks.segmentation.training import OneCycle, predicted_masks, train
from eeipu.benchmarks.segmentation.unet import Architecture
from eeipu.benchmarks.segmentation.work import Work
from eeipu.errors import ConfigurationError
from eeipu.pipeline import Pipeline
from eeipu.space import Float, Int
from eeipu.stages.declaration import Stage
from eeipu.stages.decorator import stage

__all__ = ["Predicted", "Prepared", "Size", "preprocessing", "problem", "smoothing"]

Labels = NDArray[np.uint8]
Cost = Callable[..., float] | None

LEAST_STD = 0.05  # the noise of a scene, which is scaled to a standard deviation of 1 by it
HELD_OUT = 6  # one scene in six is held out


@dataclass(frozen=True)
class Size:
    """The size of a preset.

    Attributes:
        count: The number of generated scenes.
        height: The height of all scenes in pixels, a multiple of 2 to the power of the number of
            levels of the network.
        width: The width of all scenes in pixels, likewise such a multiple.
        architecture: The size of the network.
        epochs: The number of passes over the training scenes.
        device: The device on which to train and smooth.
        n_initial: The number of warm-up trials.
        budget: The budget in measured seconds; `None` is three times the cost of the warm-up.
    """

    count: int
    height: int
    width: int
    architecture: Architecture
    epochs: int
    device: Literal["cpu", "cuda"] = "cpu"
    n_initial: int = 11
    budget: float | None = None


SIZES: dict[Preset, Size] = {
    "smoke": Size(36, 48, 48, Architecture(0.25, 3, 1), epochs=5, n_initial=3),
    "cpu": Size(96, 48, 48, Architecture(0.25, 3, 1), epochs=8),
    "paper": Size(400, 384, 576, Architecture(), 3, "cuda", n_initial=10, budget=20_000.0),
}


class Prepared(TypedDict):
    """The output of preprocessing.

    Attributes:
        images: Normalised training pictures, `n x 3 x h x w`, float16.
        masks: Their masks, `n x h x w`.
        held_out_images: Normalised held-out pictures, `m x 3 x h x w`, float16.
        held_out_pictures: The original held-out pictures, `m x h x w x 3`, for the smoothing.
        held_out_masks: Their masks, `m x h x w`.
    """

    images: NDArray[np.float16]
    masks: Labels
    held_out_images: NDArray[np.float16]
    held_out_pictures: Labels
    held_out_masks: Labels


class Predicted(TypedDict):
    """The output of training.

    Attributes:
        masks: The predicted masks of the held-out scenes, `m x h x w`.
        pictures: Their original pictures, `m x h x w x 3`.
        truth: Their true masks, `m x h x w`.
    """

    masks: Labels
    pictures: Labels
    truth: Labels


def problem(
    preset: Preset = "cpu",
    *,
    cost: CostKind = "measured",
    seed: int = 0,
    data: str | Path | None = None,
    images: Path | None = None,
    masks: Path | None = None,
) -> Problem:
    """Make the segmentation problem.

    Args:
        preset: The size; `"paper"` trains on a GPU.
        cost: Measured seconds, or the units of `eeipu.benchmarks.segmentation.work`.
        seed: The seed of the generated scenes, of the choice of held-out scenes, and of training.
        data: A folder with the folders `images` and `masks`, to use instead of generated scenes.
        images: A folder of pictures to use instead of generated scenes, scaled to the size of the
            preset; see `open_folders`.
        masks: The folder of their masks.

    Raises:
        ConfigurationError: There is no such preset or kind of cost, only one of `images` and
            `masks` is given, they are given together with `data`, or the folders do not fit.
        MissingExtraError: Pillow, which reads the folders, is not installed.
    """
    check_size(preset, cost)
    size = SIZES[preset]
    if data is not None:
        if images is not None or masks is not None:
            raise ConfigurationError(
                f"data={data!r} brings images and masks of its own; leave out images and masks."
            )
        images, masks = Path(data) / "images", Path(data) / "masks"
    source = _source(size, seed, images, masks)
    held_out = source.count // HELD_OUT or 1
    work = Work(
        source.count - held_out,
        held_out,
        size.height,
        size.width,
        source.classes,
        size.architecture,
        size.epochs,
    )
    is_declared = cost == "declared"
    stages = [
        preprocessing(held_out, seed, work.preprocess if is_declared else None),
        _train(size, source.classes, seed, work.train if is_declared else None),
        smoothing(size, source.classes, work.smooth if is_declared else None),
    ]
    return Problem(
        name="segmentation",
        pipeline=Pipeline(stages, name="segmentation"),
        inputs=(source,),
        direction="maximize",
        n_initial=size.n_initial,
        budget=None if is_declared else size.budget,
    )


def _source(size: Size, seed: int, images: Path | None, masks: Path | None) -> SceneSource:
    if images is None and masks is None:
        return GeneratedScenes(size.count, size.height, size.width, seed)
    if images is None or masks is None:
        raise ConfigurationError(
            f"pictures need masks and masks pictures, but got images={images!r} and "
            f"masks={masks!r}; pass both folders or neither."
        )
    return open_folders(images, masks, size.height, size.width)


def preprocessing(held_out: int, seed: int, cost: Cost) -> Stage:
    """The stage that loads the scenes, normalises them, and holds some out."""
    means = {f"mean_{channel}": Float(0.0, 1.0) for channel in "rgb"}
    stds = {f"std_{channel}": Float(LEAST_STD, 1.0) for channel in "rgb"}

    @stage(name="preprocess", space=means | stds, cost=cost)
    def preprocess(
        source: SceneSource,
        *,
        mean_r: float,
        mean_g: float,
        mean_b: float,
        std_r: float,
        std_g: float,
        std_b: float,
    ) -> Prepared:
        scenes = source.load()
        mean = np.array([mean_r, mean_g, mean_b], np.float32)
        std = np.array([std_r, std_g, std_b], np.float32)
        order = np.random.default_rng(seed).permutation(source.count)
        rest, out = order[held_out:], order[:held_out]
        return {
            "images": _normalised(scenes.images[rest], mean, std),
            "masks": scenes.masks[rest],
            "held_out_images": _normalised(scenes.images[out], mean, std),
            "held_out_pictures": scenes.images[out],
            "held_out_masks": scenes.masks[out],
        }

    return preprocess


def _normalised(
    images: Labels, mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float16]:
    """Pictures as the network takes them, `n x h x w x 3 -> n x 3 x h x w`.

    Half precision is enough for 256 levels of brightness, and needs half of the memory.
    """
    scaled = [((image / np.float32(255.0) - mean) / std).astype(np.float16) for image in images]
    return np.stack(scaled).transpose(0, 3, 1, 2).copy()


def _train(size: Size, classes: int, seed: int, cost: Cost) -> Stage:
    """The stage that trains the network and predicts the masks of the held-out scenes."""

    @stage(
        name="train",
        space={
            "batch_size": Int(1, 5),
            "max_lr": Float(5e-4, 0.05, log=True),
            "weight_decay": Float(5e-5, 5e-3, log=True),
        },
        cost=cost,
        num_gpus=int(size.device == "cuda"),
    )
    def train_network(
        prepared: Prepared, *, batch_size: int, max_lr: float, weight_decay: float
    ) -> Predicted:
        _check_device(size.device)
        model = train(
            torch.from_numpy(prepared["images"]),
            torch.from_numpy(prepared["masks"]),
            classes,
            size.architecture,
            OneCycle(size.epochs, batch_size, max_lr, weight_decay, seed),
            size.device,
        )
        held_out = torch.from_numpy(prepared["held_out_images"])
        return {
            "masks": predicted_masks(model, held_out, size.device).numpy(),
            "pictures": prepared["held_out_pictures"],
            "truth": prepared["held_out_masks"],
        }

    return train_network


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            "the paper preset of the segmentation problem runs on a GPU, and torch sees none; "
            "run it where there is one, or take the preset 'cpu'."
        )


def smoothing(size: Size, classes: int, cost: Cost) -> Stage:
    """The stage that smooths the predicted masks and computes their score."""

    @stage(
        name="smooth",
        space={
            "sdims": Float(1.0, 8.0),
            "compat": Float(1.0, 50.0),
            "gt_prob": Float(0.01, 0.99),
        },
        cost=cost,
        num_gpus=int(size.device == "cuda"),
    )
    def smooth_masks(predicted: Predicted, *, sdims: float, compat: float, gt_prob: float) -> float:
        _check_device(size.device)
        pictures = torch.from_numpy(predicted["pictures"])
        smoothed = [
            smooth(
                picture.to(size.device) / 255.0,
                mask.to(size.device),
                labels=classes,
                sdims=sdims,
                compat=compat,
                gt_prob=gt_prob,
            ).cpu()
            for picture, mask in zip(pictures, torch.from_numpy(predicted["masks"]), strict=True)
        ]
        return mean_iou(torch.stack(smoothed).numpy(), predicted["truth"], classes)

    return smooth_masks
