"""A stage that trains a PyTorch model in steps, as one call declares it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from eeipu.stages.declaration import DEFAULT_RETRIES
from eeipu.stages.iterative import IterativeStage, iterative
from eeipu.stages.torch_training.checks import check_functions
from eeipu.stages.torch_training.loop import torch_loop

__all__ = ["torch_training"]


def torch_training(
    make_model: Callable[[], nn.Module],
    make_optimizer: Callable[..., Optimizer],
    loss: Callable[[Tensor, Tensor], Tensor],
    make_loaders: Callable[..., tuple[Any, Any]],
    *,
    space: Mapping[str, Any],
    steps: int,
    step: Literal["epoch", "batch"] = "epoch",
    seed: int = 0,
    device: str | None = None,
    name: str = "train",
    version: str | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
) -> IterativeStage:
    """Make a stage of a plain PyTorch training loop, which can be stopped and resumed at any step.

    Its output is the loss, and the accuracy where the targets are classes, on the validation data:
    `{"loss": 0.3, "accuracy": 0.9}`; where it is a pipeline's last stage, one of them is its
    objective: `Pipeline([train], objective="accuracy")`. For another loop, see `eeipu.iterative`.

    Args:
        make_model: Gets nothing, and makes the model.
        make_optimizer: Gets the model's parameters, as `torch.optim.SGD` does, and returns the
            optimiser. It is also called here, with two small parameters, to see which
            hyper-parameters are the optimiser's. Where its `step` needs a closure, it gets one.
        loss: Gets outputs and targets, and returns a scalar.
        make_loaders: Gets the stage's inputs by position, and hyper-parameters that the optimiser's
            parameter groups do not have as keywords (`batch_size`). It returns the loaders of
            training and of validation data, whose batches are pairs of inputs and targets. Each is
            a tensor, or a dict or tuple of tensors, which model and loss get as one argument.
        space: Hyper-parameter -> value, distribution, list of choices, schedule, or template of a
            schedule (`eeipu.stages.searchable_schedules`).
        steps: The number of steps of a whole training.
        step: Whether a step is an epoch or a batch.
        seed: The seed of the model's first weights and of everything random in training.
        device: The device to train on; `None`: a GPU if `num_gpus` says so, otherwise the CPU.
        name: The stage's name.
        version: Replaces the code fingerprint in content keys.
        num_cpus: CPU cores that a call takes.
        num_gpus: GPUs that a call takes; a fraction shares one.
        timeout: Seconds after which a call from one checkpoint to the next counts as hanging.
        retries: How often a call is tried again if it raises `TransientError` or its worker dies.

    Raises:
        PipelineError: The code cannot be fingerprinted and no version is given, `steps` is below 1,
            or one of the four functions does not take what it gets.
        SpaceError: Two parameters would have the same name, or a scheduler of torch's was given.
    """
    check_functions(name, make_model, make_optimizer, loss, make_loaders, list(space))
    device = device if device is not None else ("cuda" if num_gpus else "cpu")
    loop = torch_loop(
        make_model, make_optimizer, loss, make_loaders, step=step, seed=seed, device=device
    )
    stage = iterative(loop, space, steps, name, version, num_cpus, num_gpus, timeout, retries)
    return replace(stage, takes=make_loaders, metrics=("loss", "accuracy"))
