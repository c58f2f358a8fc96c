"""Checks of the functions that a torch training is made of, before anything runs.

What they get is said in `eeipu.stages.torch_training.stage.torch_training`. Whether a
hyper-parameter is the optimiser's is seen from an optimiser that `make_optimizer` makes of two
small parameters; where it does not work with these, that is left to the first call.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from eeipu.errors import PipelineError, TrainingError
from eeipu.stages.functions.signatures import leading_inputs
from eeipu.stages.schedule_runs import refuse_torch_scheduler

__all__ = ["check_functions", "check_model", "check_optimizer"]

_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_functions(
    stage: str,
    make_model: Any,
    make_optimizer: Any,
    loss: Any,
    make_loaders: Any,
    names: Sequence[str],
) -> None:
    """Check that the functions of a training can be called with what they get.

    Args:
        stage: The stage's name.
        make_model: Gets nothing.
        make_optimizer: Gets the model's parameters.
        loss: Gets outputs and targets.
        make_loaders: Gets the stage's inputs, and hyper-parameters as keywords.
        names: The names of the hyper-parameters.

    Raises:
        PipelineError: One of them cannot, or is what it should make; or a hyper-parameter belongs
            neither to the optimiser nor to the loaders.
        SpaceError: One of them is a scheduler of torch's.
    """
    for name, function in (
        ("make_model", make_model),
        ("make_optimizer", make_optimizer),
        ("loss", loss),
        ("make_loaders", make_loaders),
    ):
        refuse_torch_scheduler(name, function)
        if not callable(function) or (name == "make_model" and isinstance(function, nn.Module)):
            raise PipelineError(
                f"stage {stage!r}: {name} must be a function, but got {function!r}; write "
                f"{name}=lambda ...: ... that makes it, so that each trial begins with a new one."
            )
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise PipelineError(
            f"stage {stage!r}: loss must take outputs and targets, but got the class "
            f"{loss.__name__}; write loss={loss.__name__}()."
        )
    _check_takes(stage, "make_model", make_model, ())
    _check_takes(
        stage,
        "make_optimizer",
        make_optimizer,
        ("the model's parameters",),
        "the stage sets hyper-parameters such as lr in its parameter groups",
    )
    _check_takes(stage, "loss", loss, ("outputs", "targets"))
    _check_loaders(stage, make_loaders, names)
    _check_owners(stage, make_optimizer, make_loaders, names)


def check_model(model: Any) -> None:
    """Check what `make_model` has made.

    Raises:
        TrainingError: It is no module.
    """
    if not isinstance(model, nn.Module):
        raise TrainingError(
            f"make_model must return a torch.nn.Module, but returned {model!r}; is a return "
            f"missing?"
        )


def check_optimizer(optimizer: Any) -> None:
    """Check what `make_optimizer` has made.

    Raises:
        TrainingError: It is no optimiser, or a scheduler of torch's has hold of it.
    """
    remedy = (
        'a schedule belongs to the hyper-parameters: space={"lr": OneCycle(0.1, steps)}, with one '
        "of eeipu.stages.schedules"
    )
    if isinstance(optimizer, tuple | list | dict) and all(
        isinstance(each, Optimizer)
        for each in (optimizer.values() if isinstance(optimizer, dict) else optimizer)
    ):
        raise TrainingError(
            f"make_optimizer must return one torch optimiser, but returned {len(optimizer)}; give "
            f"one optimiser several parameter groups, or write a loop of your own "
            f"(eeipu.iterative)."
        )
    if not isinstance(optimizer, Optimizer):
        raise TrainingError(
            f"make_optimizer must return a torch optimiser, but returned {optimizer!r}; {remedy}."
        )
    if any("initial_lr" in group for group in optimizer.param_groups):
        raise TrainingError(
            f"make_optimizer has made a scheduler of torch's on its optimiser, which nobody would "
            f"step; {remedy}."
        )


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # a builtin that does not tell what it takes
        return None


def _check_takes(
    stage: str, name: str, function: Callable[..., Any], given: tuple[str, ...], note: str = ""
) -> None:
    """Check that a function can be called with these positional arguments and nothing else."""
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        gets = " and ".join(given) if given else "nothing"
        raise PipelineError(
            f"stage {stage!r}: {name} gets {gets}, but {name}{signature} takes something else "
            f"({error}); give what it needs beside that a default, or bind it with "
            f"functools.partial{'; ' if note else ''}{note}."
        ) from error


def _check_loaders(stage: str, make_loaders: Callable[..., Any], names: Iterable[str]) -> None:
    """Check that what the loaders need is there, and that hyper-parameters come as keywords."""
    signature = _signature(make_loaders)
    if signature is None:
        return
    inputs = leading_inputs(signature.parameters, dict.fromkeys(names))  # type: ignore[arg-type]
    known = {*names, *(parameter.name for parameter in inputs)}
    for name, parameter in signature.parameters.items():
        is_needed = parameter.default is parameter.empty and parameter.kind in _KINDS
        if is_needed and name not in known:
            raise PipelineError(
                f"stage {stage!r}: make_loaders needs {name!r}, which is no hyper-parameter of the "
                f"stage; put it into space={{...}}, give it a default, or put it in front, where "
                f"the stage's inputs come."
            )
        if name in names and parameter.kind is parameter.POSITIONAL_ONLY:
            raise PipelineError(
                f"stage {stage!r}: make_loaders gets the hyper-parameter {name!r} as a keyword, "
                f"and takes it by position alone; leave out the slash."
            )


def _check_owners(
    stage: str,
    make_optimizer: Callable[..., Any],
    make_loaders: Callable[..., Any],
    names: Iterable[str],
) -> None:
    """Check that each hyper-parameter is one of the optimiser's or of the loaders'."""
    few = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    try:
        optimizer = make_optimizer(iter(few))
    except Exception:  # it needs more than these, or a global that is set later
        return
    check_optimizer(optimizer)
    groups: Sequence[Mapping[str, Any]] = optimizer.param_groups
    signature = _signature(make_loaders)
    if signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for name in names:
        if name not in signature.parameters and not any(name in group for group in groups):
            own = sorted({key for group in groups for key in group if key != "params"})
            raise PipelineError(
                f"stage {stage!r}: the hyper-parameter {name!r} belongs to nobody: the optimiser "
                f"has {own}, and make_loaders{signature} does not take it. Hyper-parameters of the "
                f"model need a loop of your own (eeipu.iterative)."
            )
