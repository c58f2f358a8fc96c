"""The state of a training with PyTorch between two steps, and how it is saved and restored."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from eeipu.counts import counted
from eeipu.errors import ConfigurationError, TrainingError
from eeipu.stages.torch_training.batches import check_loaders
from eeipu.stages.torch_training.first_step import attributes_set, set_attributes
from eeipu.stages.torch_training.object_graph import (
    comparable_values,
    numbers_of_module,
    saves_itself,
)
from eeipu.stages.torch_training.random_generators import (
    changes_between,
    check_restorable,
    check_unchanged,
    derived_rng,
    is_same_rng,
    own_rng,
    process_rng,
    restorable_states,
    restore_process_rng,
    restore_rng,
    restore_states,
    rng_state,
    seed_all,
)

__all__ = ["TrainingState", "empty_loader"]


@dataclass
class TrainingState:
    """Training between two steps.

    Attributes:
        functions: The user's functions, by the names under which their random generators are saved.
            The loaders are made by `make_loaders`.
        seed: The seed of everything random.
        inputs: The inputs of the stage.
        model: The model.
        optimizer: The optimiser.
        rng: The states of all random generators, as they are.
        initial_states: The states that objects given to the training had before it.
        unsaved_values: Values that can change and are in no checkpoint, as they were at first.
        set_first: Attributes of the model that the first step has set, by their paths.
        changes: Such values that have changed under earlier loaders, by their paths, in words.
        options: The hyper-parameters that the loaders were made with.
        loader: The loader of training data; `None` until it is needed.
        loader_states: The states of what is random in the loader, as it was made.
        epoch_rng: The states of all random generators when the epoch began.
        epoch_loader: The loader's own `state_dict` when the epoch began, if it has one.
        epoch: The number of epochs that were begun batch by batch.
        position: The number of batches of this epoch that are done.
        batches: The remaining batches of the epoch, while training goes on.
        data_rng: The states of the process's random generators for the batches after the first.
            Loading draws from its own, so that going through the batches again, without training,
            gives the same ones, however their order is drawn.
        needs_closure: Whether the optimiser calls a function that computes the loss, as LBFGS does.
    """

    functions: Mapping[str, Callable[..., Any]]
    seed: int
    inputs: tuple[Any, ...]
    model: nn.Module
    optimizer: Optimizer
    rng: dict[str, Any]
    initial_states: dict[str, Any]
    unsaved_values: dict[str, Any] = field(init=False)
    set_first: dict[str, Any] = field(default_factory=dict, init=False)
    changes: dict[str, str] = field(default_factory=dict, init=False)
    options: dict[str, Any] = field(default_factory=dict, init=False)
    loader: Any = field(default=None, init=False)
    loader_states: dict[str, Any] = field(default_factory=dict, init=False)
    epoch_rng: dict[str, Any] | None = field(default=None, init=False)
    epoch_loader: Any = field(default=None, init=False)
    epoch: int = field(default=0, init=False)
    position: int = field(default=0, init=False)
    batches: Iterator[Any] | None = field(default=None, init=False)
    data_rng: dict[str, Any] | None = field(default=None, init=False)
    needs_closure: bool = field(init=False)

    def __post_init__(self) -> None:
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        self.needs_closure = closure is not None and closure.default is closure.empty
        self.unsaved_values = self._comparable_values()

    def roots(self) -> dict[str, Any]:
        """The objects from which all that training uses can be reached."""
        objects = {"model": self.model, "optimizer": self.optimizer, "loader": self.loader}
        return {**self.functions, "inputs": self.inputs, **objects}

    @contextmanager
    def own_rng(self, rng: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
        """As `random_generators.own_rng`; afterwards the loader is as it was made.

        Other trainings may share the loader's data.
        """
        try:
            with own_rng(self.roots, rng) as inside:
                yield inside
        finally:
            restore_states(self.roots(), self.loader_states)

    def use_options(self, options: dict[str, Any]) -> None:
        """Make the loader for these hyper-parameters, and begin an epoch, if they have changed."""
        if self.loader is None or options != self.options:
            self._make_loader(options)
            self.options, self.position, self.batches = options, 0, None

    def _make_loader(self, options: Mapping[str, Any]) -> None:
        if self.loader is not None:
            self.changes = self._unsaved_changes()
        restore_states(self.roots(), self.loader_states)
        self.loader = self._make_loaders(options)[0]
        _check_workers(self.loader)
        states = restorable_states(self.roots()).items()
        self.loader_states = {path: each for path, each in states if path.startswith("loader.")}
        self.unsaved_values = self._comparable_values()

    def _make_loaders(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """Make both loaders. This may be random, as a split is, but is the same every time."""
        roots = {**self.functions, "inputs": self.inputs}
        with own_rng(lambda: roots, None):
            seed_all(self.seed)
            restore_states(roots, self.initial_states)
            make_loaders = self.functions["make_loaders"]
            return check_loaders(make_loaders(*self.inputs, **options), make_loaders)

    @contextmanager
    def validation_data(self) -> Iterator[Any]:
        """The loader of validation data, whose random generators are restored afterwards."""
        loader = self._make_loaders(self.options)[1]
        with own_rng(lambda: {"validation": loader}, None):
            yield loader

    def begin_epoch(self) -> None:
        """Begin to go through the data, in the order that the generators' states determine."""
        self.epoch_rng = rng_state(self.roots())
        self.epoch_loader = _state_of_loader(self.loader)
        self.batches, self.position = iter(self.loader), 0
        self.epoch, self.data_rng = self.epoch + 1, None

    def next_batch(self) -> Any:
        """The next batch, for which a new epoch is begun after the last one.

        Raises:
            ConfigurationError: The loader has no batches.
        """
        batch = self._loaded_batch() if self.batches is not None else None
        if batch is None:
            self.begin_epoch()
            batch = self._loaded_batch()
        if batch is None:
            raise empty_loader("training")
        return batch

    def _loaded_batch(self) -> Any:
        """The next batch of this epoch; `None` after the last one."""
        assert self.batches is not None
        if self.data_rng is None:
            batch = next(self.batches, None)
            self.data_rng = derived_rng(self.epoch)
        else:
            outside = process_rng()
            restore_process_rng(self.data_rng)
            try:
                batch = next(self.batches, None)
                self.data_rng = process_rng()
            finally:
                restore_process_rng(outside)
        self.position += batch is not None
        return batch

    def saved(self) -> dict[str, Any]:
        """Everything that training depends on, except the data and the user's functions.

        Raises:
            TrainingError: There is state that cannot be saved.
        """
        _check_resumable(self.loader)
        check_unchanged(self._unsaved_changes())
        return {
            "model": self.model.state_dict(),
            "frozen": [n for n, p in self.model.named_parameters() if not p.requires_grad],
            "numbers": {n: numbers_of_module(m) for n, m in self.model.named_modules()},
            "set_first": self.set_first,
            "optimizer": self.optimizer.state_dict(),
            "gradients": _lasting_gradients(self.model, self.optimizer),
            "options": self.options,
            "rng": self.rng,
            "first": self.initial_states,
            "epoch_rng": self.epoch_rng,
            "epoch": self.epoch,
            "position": self.position,
            "data_rng": self.data_rng if self.position else None,
            "is_begun": self.loader is not None,
            "loader": self.epoch_loader if self.position else _state_of_loader(self.loader),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Make a new state the one that was saved, at the same position in the data."""
        self.model.load_state_dict(saved["model"])
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name not in saved["frozen"])
            gradient = saved["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
        for name, module in self.model.named_modules():
            vars(module).update(saved["numbers"].get(name, {}))
        self.set_first = saved.get("set_first", {})  # of which earlier versions knew nothing
        set_attributes(self.roots(), self.set_first)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.rng, self.initial_states = saved["rng"], saved["first"]
        self.options = saved["options"]
        self.unsaved_values = self._comparable_values()
        if not saved["is_begun"]:
            return
        with self.own_rng(None):
            self._make_loader(self.options)
            if saved["loader"] is not None:
                self.loader.load_state_dict(copy.deepcopy(saved["loader"]))
            self.epoch = saved["epoch"]
            if saved["position"]:
                # Skipping batches draws from the generators, which are restored afterwards.
                restore_rng(self.roots(), saved["epoch_rng"])
                self.epoch -= 1
                self.begin_epoch()
                while self.position < saved["position"] and self._loaded_batch() is not None:
                    pass
                rng, rng_then = self.data_rng, saved["data_rng"]
                is_there = rng is not None and is_same_rng(rng, rng_then)
                if self.position < saved["position"] or not is_there:
                    raise _other_batches(self.loader, saved["position"])
            restore_rng(self.roots(), self.rng)
            check_restorable(self.roots(), self.rng)

    def end_first_step(self) -> None:
        """Keep what the model has set in its first step; it is not to change any more."""
        values = self._comparable_values()
        changes = changes_between(self.unsaved_values, values)
        self.set_first = attributes_set(self.roots(), self.unsaved_values, changes)
        self.unsaved_values |= {path: values[path] for path in self.set_first}

    def _unsaved_changes(self) -> dict[str, str]:
        """The values that have changed, or are new, and that no checkpoint has, by their paths."""
        return self.changes | changes_between(self.unsaved_values, self._comparable_values())

    def _comparable_values(self) -> dict[str, Any]:
        """The values that can be compared, except those of the model that a checkpoint has."""
        tensors = [*self.model.parameters(), *self.model.state_dict(keep_vars=True).values()]
        saved = [*tensors, *self.model.modules()]
        return comparable_values(self.roots(), {id(each): each for each in saved})


def empty_loader(name: str) -> ConfigurationError:
    """The error for a loader without batches."""
    return ConfigurationError(
        f"the {name} loader has no batches; give it data, or a batch size that is not above the "
        f"number of rows where drop_last is set."
    )


def _other_batches(loader: Any, position: int) -> TrainingError:
    """The error for a loader that has not come to where it was."""
    return TrainingError(
        f"the loader {type(loader).__name__} did not do again what it did before the checkpoint, "
        f"in the first {counted(position, 'batch', 'batches')} of an epoch; let the same inputs "
        f'and random generators give the same batches, or train in epochs (step="epoch").'
    )


def _lasting_gradients(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The gradients, where a `zero_grad` that is not torch's may leave them for later steps."""
    # That of the object, not of its class, as users also replace it there.
    if str(getattr(optimizer.zero_grad, "__module__", "")).startswith("torch."):
        return {}
    return {name: p.grad.detach() for name, p in model.named_parameters() if p.grad is not None}


def _check_workers(loader: Any) -> None:
    """Refuse a loader whose workers keep state that no checkpoint reaches.

    Raises:
        TrainingError: The workers persist.
    """
    if getattr(loader, "persistent_workers", False):
        raise TrainingError(
            "workers of a DataLoader that persist keep random generators that no checkpoint "
            "reaches; make it with persistent_workers=False."
        )


def _check_resumable(loader: Any) -> None:
    """Refuse a loader whose state is not known.

    Raises:
        TrainingError: It is neither a `DataLoader` nor a list, and has no `state_dict`.
    """
    if not (isinstance(loader, DataLoader | list | tuple | None) or saves_itself(loader)):
        raise TrainingError(
            f"the loader {type(loader).__name__} is not a torch.utils.data.DataLoader and its "
            f"state is not known, so training could not be resumed as if it had never stopped; "
            f"give it state_dict and load_state_dict, or return a DataLoader."
        )


def _state_of_loader(loader: Any) -> Any:
    """The `state_dict` of a loader that has one of its own; else `None`."""
    return copy.deepcopy(loader.state_dict()) if saves_itself(loader) else None
