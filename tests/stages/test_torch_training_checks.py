"""What the functions of a torch training get is checked before anything runs."""

from functools import partial

import pytest
import torch
from digit_training import make_loaders, make_model, make_optimizer
from torch import nn

from eeipu import Categorical, Float, Pipeline, torch_training
from eeipu.errors import PipelineError, SpaceError
from eeipu.stages.torch_training.loop import torch_loop

SPACE = {"lr": Float(0.01, 1.0), "batch_size": Categorical([4, 8])}


def declared(**changes):
    functions = {
        "make_model": make_model,
        "make_optimizer": make_optimizer,
        "loss": nn.functional.cross_entropy,
        "make_loaders": make_loaders,
        "space": SPACE,
    }
    given = functions | changes
    space = given.pop("space")
    return torch_training(*given.values(), space=space, steps=3, version="1")


def scheduled(parameters):
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 30)
    return optimizer


def with_scheduler(parameters):
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 30)


def late(parameters):
    return not_there_yet(parameters)  # noqa: F821 - a script may set it later


def split(parameters):
    first, *others = parameters
    return torch.optim.AdamW([{"params": [first], "lr": 0.1}, {"params": others}])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"make_optimizer": torch.optim.SGD},
        {"make_optimizer": partial(torch.optim.AdamW, lr=1e-3, fused=False)},
        {"make_optimizer": split},
        {"make_optimizer": late, "space": {**SPACE, "temperature": Float(0.0, 1.0)}},
        {"make_model": partial(nn.Linear, 2, 2)},
        {"loss": nn.CrossEntropyLoss()},
        {"make_loaders": lambda values, **options: make_loaders(values, **options)},
        {"make_loaders": lambda values, batch_size, shuffle=True: make_loaders(values, batch_size)},
        {"make_loaders": lambda *inputs, batch_size: make_loaders(*inputs, batch_size)},
        {"space": {**SPACE, "momentum": 0.9}},
        {"space": {"lr": 0.1, "batch_size": 8}},
    ],
)
def test_what_works_is_taken(changes):
    assert declared(**changes).steps == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"make_model": nn.Linear(2, 2)}, "make_model must be a function"),
        ({"make_model": lambda width: nn.Linear(2, width)}, "make_model gets nothing"),
        ({"make_optimizer": lambda: None}, "make_optimizer gets the model's parameters"),
        ({"make_optimizer": lambda p, lr: torch.optim.SGD(p, lr)}, "partial; the stage sets .*lr"),
        (
            {"make_optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)},
            "make_optimizer must be a function",
        ),
        ({"make_optimizer": scheduled}, "nobody would step; a schedule belongs to"),
        ({"make_optimizer": with_scheduler}, "must return a torch optimiser, but returned"),
        ({"loss": nn.CrossEntropyLoss}, r"write loss=CrossEntropyLoss\(\)"),
        ({"loss": lambda outputs: outputs.sum()}, "loss gets outputs and targets"),
        ({"make_loaders": [1, 2]}, "make_loaders must be a function"),
        ({"space": {"lr": Float(0.1, 1.0)}}, None),
        ({"make_loaders": lambda values, *, size, batch_size: None}, "make_loaders needs 'size'"),
        ({"make_loaders": lambda values, batch_size, /: None}, "leave out the slash"),
        ({"space": {**SPACE, "dropout": Float(0.0, 0.5)}}, "'dropout' belongs to nobody"),
        ({"space": {**SPACE, "Lr": Float(0.0, 0.5)}}, "'Lr' belongs to nobody"),
    ],
)
def test_what_would_fail_in_a_worker_is_refused_at_once(changes, message):
    if message is None:  # without a space for it, `batch_size` is an input, and there are two
        pipeline = Pipeline([declared(**changes)], objective="loss")
        with pytest.raises(PipelineError, match="takes the inputs"):
            pipeline.layout.check_inputs((torch.zeros(3, 2),))
        return
    with pytest.raises(PipelineError, match=message):
        declared(**changes)


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"space": {**SPACE, "lr": torch.optim.lr_scheduler.StepLR}}, "StepDecay"),
        ({"make_optimizer": torch.optim.lr_scheduler.OneCycleLR}, "OneCycle"),
        ({"loss": partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=float)}, "returns the"),
    ],
)
def test_a_scheduler_of_torch_is_refused_wherever_it_is_passed(changes, ours):
    with pytest.raises(SpaceError, match=ours):
        declared(**changes)


def test_the_inputs_of_a_training_are_those_of_its_loaders():
    pipeline = Pipeline([declared()], objective="loss")
    pipeline.layout.check_inputs((torch.zeros(3, 2),))
    with pytest.raises(PipelineError, match=r"takes the inputs \['values'\], but got 2"):
        pipeline.layout.check_inputs((1, 2))


@pytest.mark.parametrize("make_optimizer", [scheduled, with_scheduler])
def test_a_loop_of_its_own_is_checked_when_it_begins(make_optimizer):
    loss = nn.functional.cross_entropy
    loop = torch_loop(make_model, make_optimizer, loss, make_loaders)
    with pytest.raises(PipelineError, match="schedule belongs to"):
        loop.init(torch.zeros(4, 2))
