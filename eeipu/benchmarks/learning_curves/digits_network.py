"""A small convolutional network on handwritten digits, whose learning rate drops once.

The network is small enough that an epoch takes some 30 ms on one core: 500 digits to train on, and
all others to look at. The objective is the cross-entropy, which tells more than the accuracy.
"""

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from eeipu.benchmarks.learning_curves.problem import CurveProblem
from eeipu.pipeline import Pipeline
from eeipu.space import Categorical, Float, Int
from eeipu.stages.schedules import MultiStep
from eeipu.stages.searchable_schedules import Searchable
from eeipu.stages.torch_training.stage import torch_training

__all__ = ["problem"]

STEPS = 27  # epochs
TRAINED_ON = 500


def problem() -> CurveProblem:
    """The problem: 27 epochs, which cost the more the smaller the batches are."""
    lr = Searchable(
        MultiStep, Float(1e-3, 1.0, log=True), milestones=[Int(3, 26)], gamma=Float(0.01, 0.5)
    )
    train = torch_training(
        _model,
        _optimizer,
        nn.functional.cross_entropy,
        _loaders,
        space={
            "lr": lr,
            "momentum": Float(0.0, 0.99),
            "weight_decay": Float(1e-6, 1e-1, log=True),
            "batch_size": Categorical([16, 32, 64]),
        },
        steps=STEPS,
        version="1",
    )
    return CurveProblem(
        "digits-network",
        Pipeline([train], objective="loss", name="digits-network"),
        (_digits(),),
        "minimize",
        steps=STEPS,
        step_cost=_step_cost,
    )


def _step_cost(batch_size: int, **_: float) -> float:
    return 0.5 + 16.0 / batch_size  # part for each picture, part for each update


def _digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    pictures = torch.tensor(images / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return pictures[order], torch.tensor(labels)[order]


def _model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def _optimizer(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)


def _loaders(
    digits: tuple[Tensor, Tensor], batch_size: int
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    pictures, labels = digits
    trained_on = TensorDataset(pictures[:TRAINED_ON], labels[:TRAINED_ON])
    others = TensorDataset(pictures[TRAINED_ON:], labels[TRAINED_ON:])
    return DataLoader(trained_on, batch_size, shuffle=True), DataLoader(others, 2048)
