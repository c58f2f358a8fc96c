"""A plain PyTorch training loop in steps, which goes on after a checkpoint as if never stopped.

What counts as state: the model, the optimiser, the position in the data, and all random generators
(`random_generators` beside this module): those of torch (on all devices), NumPy and Python, and
those that the loader, its data set and samplers, the model and your functions have or name.
Samplers, data sets and others with `state_dict` and `load_state_dict` are saved by these. What else
changes while training, such as a count in a data set or a model, is refused when a checkpoint is
made, as is a loader that neither is a `DataLoader` or a list, nor has a `state_dict`; workers must
not persist. A moving average of the weights belongs into the optimiser's `step` and `state_dict`;
scaled or accumulated gradients ask for a loop of your own (`eeipu.stages.iterative.Training`).
Random generators are the state's own: they are set when training goes on and put back afterwards.
They are shared by all threads of a process, so train in processes of one thread each.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from torch import Tensor, nn, no_grad
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from eeipu.errors import ConfigurationError
from eeipu.stages.iterative import Training
from eeipu.stages.schedules import Schedule
from eeipu.stages.torch_training.object_graph import plain_values, saves_itself
from eeipu.stages.torch_training.random_generators import (
    changed,
    check_reached,
    check_same,
    own_rng,
    reached_states,
    restore_reached,
    restore_rng,
    rng_state,
    seed_all,
)

__all__ = ["torch_training"]


@dataclass
class _State:
    """Training between two steps.

    Attributes:
        inputs: What the stage got.
        model: The model; `optimizer`: its optimiser.
        options: What the loaders were made with; `loader`: the training data, made when needed.
        rng: The random generators as they are; `epoch_rng`: as they were when the epoch began.
        first: Random generators that others made, as they were before the training.
        made: What is random in the loader, as it was made.
        epoch_loader: What the loader said of its state when the epoch began.
        plain: What else can change, as it was made; `changes`: where it has.
        position: Batches of this epoch that are done.
        batches: The rest of the epoch, while training goes on.
    """

    inputs: tuple[Any, ...]
    model: nn.Module
    optimizer: Optimizer
    rng: dict[str, Any]
    first: dict[str, Any]
    plain: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    loader: Any = None
    made: dict[str, Any] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    epoch_rng: dict[str, Any] | None = None
    epoch_loader: Any = None
    position: int = 0
    batches: Iterator[Any] | None = None


def torch_training(
    model: Callable[[], nn.Module],
    optimizer: Callable[..., Optimizer],
    loss: Callable[[Tensor, Tensor], Tensor],
    loaders: Callable[..., tuple[Any, Any]],
    *,
    step: Literal["epoch", "batch"] = "epoch",
    seed: int = 0,
    device: str = "cpu",
) -> Training:
    """Training of a model by a plain loop, for `eeipu.stages.iterative`.

    Hyper-parameters that the optimiser's parameter groups have (`lr`, `momentum`,
    `weight_decay`, ...) are set there before every step; all others (`batch_size`, an
    augmentation) go to `loaders`, and an epoch begins anew where one of them changes.

    Args:
        model: Makes the model.
        optimizer: The model's parameters -> optimiser, such as `torch.optim.SGD` itself.
        loss: Outputs and targets -> a scalar.
        loaders: The stage's inputs, and hyper-parameters as keywords -> loaders of training and
            validation data, whose batches are pairs of inputs and targets.
        step: Whether a step is an epoch or a batch.
        seed: Of the model's first weights and of everything random in training.
        device: Where to train.

    Returns:
        Training whose evaluation gives `loss` and, where targets are classes, `accuracy`, on
        the validation data.
    """
    loop = _Loop(model, optimizer, loss, loaders, step, seed, device)
    return Training(loop.init, loop.advance, loop.evaluate, loop.save, loop.load)


@dataclass(frozen=True)
class _Loop:
    model: Callable[[], nn.Module]
    optimizer: Callable[..., Optimizer]
    loss: Callable[[Tensor, Tensor], Tensor]
    loaders: Callable[..., tuple[Any, Any]]
    step: str
    seed: int
    device: str

    def init(self, *inputs: Any) -> _State:
        """A new model, by the seed."""
        first = reached_states(self._roots(inputs))
        with own_rng(lambda: self._roots(inputs), None):
            seed_all(self.seed)
            model = self.model().to(self.device)
            optimizer = self.optimizer(model.parameters())
            roots = self._roots(inputs, model=model, optimizer=optimizer)
            rng = rng_state(roots)
        return _State(inputs, model, optimizer, rng, first, _plain(roots))

    def advance(
        self, state: _State, start: int, stop: int, hyper_parameters: Mapping[str, Schedule]
    ) -> _State:
        """Train for steps `[start, stop)`. The state is changed, as models are large."""
        state.model.train()
        with self._own_rng(state, state.rng) as rng:
            for step in range(start, stop):
                self._configure(state, {n: s(step) for n, s in hyper_parameters.items()})
                if self.step == "batch":
                    self._train_on_batch(state)
                else:
                    self._train_an_epoch(state)
        state.rng = rng
        return state

    def evaluate(self, state: _State) -> dict[str, float]:
        """Loss and accuracy on the validation data; the state stays as it is."""
        state.model.eval()
        total = correct = count = 0.0
        is_classification = False
        with no_grad(), self._own_rng(state, state.rng), self._validation(state) as batches:
            for inputs, targets in batches:
                outputs = state.model(inputs.to(self.device))
                labels = targets.to(self.device)
                total += self.loss(outputs, labels).item() * len(labels)
                count += len(labels)
                is_classification = not labels.is_floating_point() and outputs.ndim == 2
                if is_classification:
                    correct += (outputs.argmax(-1) == labels).sum().item()
        if not count:
            raise _empty("validation")
        metrics = {"loss": total / count}
        return metrics | {"accuracy": correct / count} if is_classification else metrics

    def save(self, state: _State) -> dict[str, Any]:
        """All that training depends on, but the data.

        Raises:
            ConfigurationError: There is state that cannot be saved.
        """
        _check_resumable(state.loader)
        check_same(self._changes(state))
        return {
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "options": state.options,
            "rng": state.rng,
            "first": state.first,
            "epoch_rng": state.epoch_rng,
            "position": state.position,
            "is_begun": state.loader is not None,
            "loader": state.epoch_loader if state.position else _own_state(state.loader),
        }

    def load(self, saved: dict[str, Any], *inputs: Any) -> _State:
        """The state that was saved, at the same place in the data."""
        state = self.init(*inputs)
        state.model.load_state_dict(saved["model"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.rng, state.first, state.options = saved["rng"], saved["first"], saved["options"]
        state.plain = _plain(self._roots_of(state))
        if not saved["is_begun"]:
            return state
        with self._own_rng(state, None):
            self._make_loader(state, state.options)
            if saved["loader"] is not None:
                state.loader.load_state_dict(copy.deepcopy(saved["loader"]))
            if saved["position"]:
                # Skipping draws from the generators, which are set to what they were afterwards.
                restore_rng(self._roots_of(state), saved["epoch_rng"])
                self._begin_epoch(state)
                assert state.batches is not None
                for _ in islice(state.batches, saved["position"]):
                    state.position += 1
            restore_rng(self._roots_of(state), state.rng)
            check_reached(self._roots_of(state), state.rng)
        return state

    def _roots(self, inputs: tuple[Any, ...], **objects: Any) -> dict[str, Any]:
        """All that training uses. The functions come first, so that places stay the same."""
        functions = {
            "make_model": self.model,
            "make_optimizer": self.optimizer,
            "loss": self.loss,
            "make_loaders": self.loaders,
        }
        return {**functions, "inputs": inputs, **objects}

    def _roots_of(self, state: _State) -> dict[str, Any]:
        return self._roots(
            state.inputs, model=state.model, optimizer=state.optimizer, loader=state.loader
        )

    @contextmanager
    def _own_rng(self, state: _State, rng: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
        """As `own_rng`; a loader made inside, whose data others may share, is as it was made."""
        try:
            with own_rng(lambda: self._roots_of(state), rng) as inside:
                yield inside
        finally:
            restore_reached(self._roots_of(state), state.made)

    @contextmanager
    def _validation(self, state: _State) -> Iterator[Any]:
        """The validation data, whose random generators are put back."""
        loader = self._loaders(state, state.options)[1]
        with own_rng(lambda: {"validation": loader}, None):
            yield loader

    def _loaders(self, state: _State, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """The loaders, whose making may be random, such as a split, but is always the same."""
        with own_rng(lambda: self._roots(state.inputs), None):
            seed_all(self.seed)
            restore_reached(self._roots(state.inputs), state.first)
            return self.loaders(*state.inputs, **options)

    def _make_loader(self, state: _State, options: Mapping[str, Any]) -> None:
        if state.loader is not None:
            state.changes = self._changes(state)
        restore_reached(self._roots_of(state), state.made)
        state.loader = self._loaders(state, options)[0]
        _check_loader(state.loader)
        roots = self._roots_of(state)
        states = reached_states(roots).items()
        state.made = {place: each for place, each in states if place.startswith("loader.")}
        state.plain = _plain(roots)

    def _changes(self, state: _State) -> list[str]:
        """Where state has changed, or was made, that no checkpoint has."""
        roots = self._roots_of(state)
        return [*state.changes, *changed(state.plain, _plain(roots))]

    def _configure(self, state: _State, values: Mapping[str, Any]) -> None:
        groups = state.optimizer.param_groups
        for name in values:
            _check_groups(groups, name)
        for group in groups:
            group.update({name: value for name, value in values.items() if name in group})
        options = {n: v for n, v in values.items() if not any(n in group for group in groups)}
        if state.loader is None or options != state.options:
            self._make_loader(state, options)
            state.options, state.position, state.batches = options, 0, None

    def _train_an_epoch(self, state: _State) -> None:
        is_empty = True
        for batch in state.loader:
            self._update(state, batch)
            is_empty = False
        if is_empty:
            raise _empty("training")

    def _train_on_batch(self, state: _State) -> None:
        batch = next(state.batches, None) if state.batches is not None else None
        if batch is None:
            self._begin_epoch(state)
            assert state.batches is not None
            batch = next(state.batches, None)
        if batch is None:
            raise _empty("training")
        state.position += 1
        self._update(state, batch)

    def _begin_epoch(self, state: _State) -> None:
        """Begin to go through the data, in the order that the generators' state makes."""
        state.epoch_rng = rng_state(self._roots_of(state))
        state.epoch_loader = _own_state(state.loader)
        state.batches, state.position = iter(state.loader), 0

    def _update(self, state: _State, batch: Any) -> None:
        inputs, targets = batch
        state.optimizer.zero_grad()
        outputs = state.model(inputs.to(self.device))
        self.loss(outputs, targets.to(self.device)).backward()
        state.optimizer.step()


def _check_loader(loader: Any) -> None:
    """Refuse workers that no checkpoint reaches.

    Raises:
        ConfigurationError: Workers persist.
    """
    if getattr(loader, "persistent_workers", False):
        raise ConfigurationError(
            "workers of a DataLoader that persist keep random generators that no checkpoint "
            "reaches; make it with persistent_workers=False."
        )


def _check_resumable(loader: Any) -> None:
    """Refuse loaders of which nobody says what their state is.

    Raises:
        ConfigurationError: It neither is a DataLoader or a list, nor has a `state_dict`.
    """
    if not (isinstance(loader, DataLoader | list | tuple | None) or saves_itself(loader)):
        raise ConfigurationError(
            f"the loader {type(loader).__name__} is no torch.utils.data.DataLoader and does not "
            f"say what its state is, so that training could not go on as if never stopped; give "
            f"it state_dict and load_state_dict, or return a DataLoader."
        )


def _check_groups(groups: Iterable[Mapping[str, Any]], name: str) -> None:
    """Refuse a schedule that would overwrite what tells parameter groups apart.

    Raises:
        ConfigurationError: The groups differ in this hyper-parameter.
    """
    values = [group[name] for group in groups if name in group]
    if any(value != values[0] for value in values):
        raise ConfigurationError(
            f"the optimiser's parameter groups differ in {name!r} ({values}), which one schedule "
            f"would overwrite; make them equal (freeze parameters by requires_grad=False), leave "
            f"{name!r} out of the hyper-parameters, or write a loop of your own "
            f"(eeipu.stages.iterative.Training)."
        )


def _empty(loader: str) -> ConfigurationError:
    return ConfigurationError(
        f"the {loader} loader has no batches; give it data, or a batch size that is not above the "
        f"number of rows where drop_last is set."
    )


def _own_state(loader: Any) -> Any:
    """What a loader says of its state, if it does."""
    return copy.deepcopy(loader.state_dict()) if saves_itself(loader) else None


def _plain(roots: Mapping[str, Any]) -> dict[str, Any]:
    """What can be compared, but what the checkpoint has of the model, and its weights."""
    model = roots["model"]
    tensors = [*model.parameters(), *model.state_dict(keep_vars=True).values()]
    return plain_values(roots, {id(tensor): tensor for tensor in tensors})
