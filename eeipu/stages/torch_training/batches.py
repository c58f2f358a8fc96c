"""Batches of data: pairs of inputs and targets, which may be nested, on a training's device."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from eeipu.errors import TrainingError
from eeipu.stages.torch_training.object_graph import saves_itself

__all__ = ["check_loaders", "moved", "pair_of", "rows_of", "scalar"]


def check_loaders(made: Any, make_loaders: Callable[..., Any]) -> tuple[Any, Any]:
    """The loaders of training and of validation data, as `make_loaders` has made them.

    Raises:
        TrainingError: It has made something else, or the training data can be gone through only
            once. Validation data is made for each evaluation, so once is enough.
    """
    if not isinstance(made, tuple | list) or len(made) < 2:
        raise TrainingError(
            f"make_loaders must return two loaders, of training and of validation data, but "
            f"{make_loaders!r} returned {type(made).__name__}; write return training, validation."
        )
    training, validation = made[:2]
    if isinstance(training, Iterator) and not saves_itself(training):
        raise TrainingError(
            f"the training data is gone through in every epoch, and {training!r} is used up after "
            f"the first; return a DataLoader, or a list of batches."
        )
    return training, validation


def pair_of(batch: Any) -> tuple[Any, Any]:
    """The inputs and the targets of a batch.

    Raises:
        TrainingError: It is no pair.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    seen = type(batch).__name__
    if isinstance(batch, Mapping):
        seen = f"a {seen} with {[*batch]}"
    elif isinstance(batch, tuple | list):
        seen = f"a {seen} of {len(batch)}"
    raise TrainingError(
        f"a batch must be a pair of inputs and targets, but the loader gave {seen}; let its data "
        f'set or collate_fn return one, such as (batch, batch.pop("labels")). The inputs may be a '
        f"dict or tuple, which the model gets as it is. For other batches write a loop of your own "
        f"(eeipu.iterative)."
    )


def moved(value: Any, device: str) -> Any:
    """Inputs or targets on a device: a tensor, or containers of tensors, to any depth."""
    if hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, dict):
        return {key: moved(each, device) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(each, device) for each in value))
    if isinstance(value, tuple | list):
        return type(value)(moved(each, device) for each in value)
    return value


def rows_of(targets: Any) -> int:
    """The number of rows of a batch, by the first tensor in its targets.

    Raises:
        TrainingError: There is none.
    """
    waiting = [targets]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, Tensor):
            return len(each) if each.ndim else 1
        if isinstance(each, Mapping):
            waiting[:0] = each.values()
        elif isinstance(each, tuple | list):
            waiting[:0] = each
    raise TrainingError(
        f"the targets of a batch must have a tensor, by which its rows are counted, but are "
        f"{targets!r}."
    )


def scalar(value: Any) -> Tensor:
    """What a loss has returned.

    Raises:
        TrainingError: It is no single number.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return value
    seen = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    raise TrainingError(
        f"loss must return one number as a tensor, but returned {seen}; let it return the mean."
    )
