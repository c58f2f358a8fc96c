"""The segmentation problem with its U-Net as a stage that trains in epochs.

Preprocessing, network, losses and smoothing are those of `eeipu.benchmarks.segmentation`, and so
are the search spaces. The learning rate follows one cycle over the epochs, with one value for each.
The smoothing of the masks comes after the training, so it runs wherever a training is looked at.
The objective is the mean intersection over union of the smoothed masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator
from torch.optim import AdamW

from eeipu.benchmarks.learning_curves.problem import CurveProblem
from eeipu.benchmarks.segmentation.problem import (
    Predicted,
    Prepared,
    Size,
    preprocessing,
    smoothing,
)
from eeipu.benchmarks.segmentation.scenes import GeneratedScenes
from eeipu.benchmarks.segmentation.training import optimizer_of, predicted_masks, updates
from eeipu.benchmarks.segmentation.unet import Architecture, UNet
from eeipu.benchmarks.segmentation.work import Work
from eeipu.pipeline import Pipeline
from eeipu.space import Float, Int
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.schedules import OneCycle
from eeipu.stages.searchable_schedules import Searchable

__all__ = ["problem"]

SIZE = Size(24, 32, 32, Architecture(0.25, 3, 1), epochs=27)
HELD_OUT = 6
SEED = 0
AVERAGE_BATCH = 3  # declared costs are in epochs with batches of this size


@dataclass
class State:
    """The training between two epochs.

    Attributes:
        prepared: The output of preprocessing.
        model: The network.
        optimizer: Its optimiser.
        generator: Draws the order of pictures and their mirroring.
    """

    prepared: Prepared
    model: UNet
    optimizer: AdamW
    generator: Generator


def problem() -> CurveProblem:
    """The problem: 27 epochs, which take one core 1 to 5 s, between two plain stages."""
    source = GeneratedScenes(SIZE.count, SIZE.height, SIZE.width, SEED)
    work = Work(
        SIZE.count - HELD_OUT,
        HELD_OUT,
        SIZE.height,
        SIZE.width,
        source.classes,
        SIZE.architecture,
        epochs=1,
    )
    unit = work.train(batch_size=AVERAGE_BATCH)
    space = {
        "batch_size": Int(1, 5),
        "lr": Searchable(OneCycle, Float(5e-4, 0.05, log=True), steps=SIZE.epochs),
        "weight_decay": Float(5e-5, 5e-3, log=True),
    }
    training = Training(_Begin(source.classes), _advance, _predict, _save, _Load(source.classes))
    stages = [
        preprocessing(HELD_OUT, SEED, None),
        iterative(training, space, SIZE.epochs, name="train", version="1"),
        smoothing(SIZE, source.classes, None),
    ]
    return CurveProblem(
        "segmentation",
        Pipeline(stages, name="segmentation"),
        (source,),
        "maximize",
        steps=SIZE.epochs,
        stage_costs={
            "preprocess": lambda **_: work.preprocess() / unit,
            "smooth": lambda sdims, **_: work.smooth(sdims=sdims) / unit,
        },
        step_cost=lambda batch_size, **_: work.train(batch_size=batch_size) / unit,
    )


@dataclass(frozen=True)
class _Begin:
    classes: int

    def __call__(self, prepared: Prepared) -> State:
        generator = Generator().manual_seed(SEED)
        model = SIZE.architecture.initialised(self.classes, generator)
        return State(prepared, model, optimizer_of(model), generator)


def _advance(state: State, start: int, stop: int, schedules: Mapping[str, Any]) -> State:
    images = torch.from_numpy(state.prepared["images"])
    masks = torch.from_numpy(state.prepared["masks"])
    state.model.train()
    for step in range(start, stop):
        now = {name: schedule(step) for name, schedule in schedules.items()}
        batch_size = now.pop("batch_size")
        state.optimizer.param_groups[0].update(now)
        for _ in updates(state.model, state.optimizer, images, masks, batch_size, state.generator):
            pass
    return state


def _predict(state: State) -> Predicted:
    prepared = state.prepared
    held_out = torch.from_numpy(prepared["held_out_images"])
    return {
        "masks": predicted_masks(state.model.eval(), held_out).numpy(),
        "pictures": prepared["held_out_pictures"],
        "truth": prepared["held_out_masks"],
    }


def _save(state: State) -> dict[str, Any]:
    return {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
    }


@dataclass(frozen=True)
class _Load:
    classes: int

    def __call__(self, saved: Mapping[str, Any], prepared: Prepared) -> State:
        state = _Begin(self.classes)(prepared)
        state.model.load_state_dict(saved["model"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.generator.set_state(saved["generator"])
        return state
