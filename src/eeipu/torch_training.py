"""A plain PyTorch training loop in steps, which goes on after a checkpoint as if never stopped.

What counts as state: the model, the optimiser, the random generators of torch (on all devices),
NumPy and Python, those of the loader, its samplers and its data set, and the position in the data.
Other samplers must have `state_dict` and `load_state_dict`, or no state; workers must not persist.
A moving average of the weights belongs into the optimiser's `step` and `state_dict`; scaled or
accumulated gradients ask for a loop of your own (`eeipu.iterative.Training`).
Random generators are the state's own: they are set when training goes on and put back afterwards.
They are shared by all threads of a process, so train in processes of one thread each.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eeipu.errors import ConfigurationError
from eeipu.iterative import Training
from eeipu.schedule import Schedule

__all__ = ["torch_training"]

# Parts of a list or dict in a data set that may be random generators or have them, such as
# transforms; lists of samples are longer.
MOST_PARTS = 100

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


@dataclass
class _State:
    """Training between two steps.

    Attributes:
        inputs: What the stage got.
        model: The model; `optimizer`: its optimiser.
        options: What the loaders were made with; `loader`: the training data, made when needed.
        counts: Attributes of its samplers, as it was made.
        rng: The random generators as they are.
        epoch_rng: The random generators as they were when the epoch began.
        position: Batches of this epoch that are done.
        batches: The rest of the epoch, while training goes on.
    """

    inputs: tuple[Any, ...]
    model: nn.Module
    optimizer: Optimizer
    rng: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    loader: Any = None
    counts: dict[tuple[str, str], Any] = field(default_factory=dict)
    epoch_rng: dict[str, Any] | None = None
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
    """Training of a model by a plain loop, for `eeipu.iterative`.

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
        with _own_rng(None) as rng:
            _seed(self.seed)
            model = self.model().to(self.device)
            optimizer = self.optimizer(model.parameters())
        return _State(inputs, model, optimizer, rng)

    def advance(
        self, state: _State, start: int, stop: int, hyper_parameters: Mapping[str, Schedule]
    ) -> _State:
        """Train for steps `[start, stop)`. The state is changed, as models are large."""
        state.model.train()
        with _own_rng(state.rng) as rng:
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
        with torch.no_grad(), _own_rng(state.rng), _unchanged(state.loader):
            for inputs, targets in self._loaders(state.inputs, state.options)[1]:
                outputs = state.model(inputs.to(self.device))
                labels = targets.to(self.device)
                total += self.loss(outputs, labels).item() * len(labels)
                count += len(labels)
                is_classification = not labels.is_floating_point() and outputs.ndim == 2
                if is_classification:
                    correct += (outputs.argmax(-1) == labels).sum().item()
        metrics = {"loss": total / count}
        return metrics | {"accuracy": correct / count} if is_classification else metrics

    def save(self, state: _State) -> dict[str, Any]:
        """All that training depends on, but the data.

        Raises:
            ConfigurationError: A sampler has state that cannot be saved.
        """
        _check_counts(state.loader, state.counts)
        return {
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "options": state.options,
            "rng": state.rng,
            "epoch_rng": state.epoch_rng,
            "position": state.position,
            "generators": _states(state.loader),
        }

    def load(self, saved: dict[str, Any], *inputs: Any) -> _State:
        """The state that was saved, at the same place in the data."""
        state = self.init(*inputs)
        state.model.load_state_dict(saved["model"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.rng, state.options = saved["rng"], saved["options"]
        if saved["position"] == 0 and not saved["generators"]:
            return state
        self._make_loader(state, state.options)
        with _own_rng(None):
            if saved["position"]:
                # Skipping draws from the generators, which are set to what they were afterwards.
                self._begin_epoch(state, saved["epoch_rng"])
                for _ in islice(state.batches or (), saved["position"]):
                    state.position += 1
        _restore(state.loader, saved["generators"])
        return state

    def _loaders(self, inputs: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Any, Any]:
        """The loaders, whose making may be random, such as a split, but is always the same."""
        with _own_rng(None):
            _seed(self.seed)
            return self.loaders(*inputs, **options)

    def _make_loader(self, state: _State, options: Mapping[str, Any]) -> None:
        state.loader = self._loaders(state.inputs, options)[0]
        _check_loader(state.loader)
        state.counts = _counts(state.loader)

    def _configure(self, state: _State, values: Mapping[str, Any]) -> None:
        groups = state.optimizer.param_groups
        for group in groups:
            group.update({name: value for name, value in values.items() if name in group})
        options = {n: v for n, v in values.items() if not any(n in group for group in groups)}
        if state.loader is None or options != state.options:
            self._make_loader(state, options)
            state.options, state.position, state.batches = options, 0, None

    def _train_an_epoch(self, state: _State) -> None:
        for batch in state.loader:
            self._update(state, batch)

    def _train_on_batch(self, state: _State) -> None:
        batch = next(state.batches, None) if state.batches is not None else None
        if batch is None:
            self._begin_epoch(state, None)
            assert state.batches is not None
            batch = next(state.batches)
        state.position += 1
        self._update(state, batch)

    def _begin_epoch(self, state: _State, rng: dict[str, Any] | None) -> None:
        """Begin to go through the data, in the order that the generators' state makes."""
        if rng is not None:
            _set_rng(rng, state.loader)
        state.epoch_rng = _get_rng() | {"loader": _states(state.loader)}
        state.batches, state.position = iter(state.loader), 0

    def _update(self, state: _State, batch: Any) -> None:
        inputs, targets = batch
        state.optimizer.zero_grad()
        outputs = state.model(inputs.to(self.device))
        self.loss(outputs, targets.to(self.device)).backward()
        state.optimizer.step()


@contextmanager
def _own_rng(state: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Run with these random generators, and put back those of the process.

    Yields:
        A dict that holds the generators' state when the block has ended.
    """
    outside, inside = _get_rng(), dict[str, Any]()
    try:
        if state is not None:
            _set_rng(state)
        yield inside
        inside.update(_get_rng())
    finally:
        _set_rng(outside)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the users' transforms draw from it
    random.seed(seed)


def _get_rng() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
    }


def _set_rng(state: dict[str, Any], loader: Any = None) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"]:  # pragma: no cover - needs a GPU
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    _restore(loader, state.get("loader", {}))


def _parts(loader: Any) -> dict[str, Any]:
    """The loader and its samplers, by where they are."""
    places = ("sampler", "batch_sampler", "batch_sampler.sampler")
    parts = {place: reduce(_attribute, place.split("."), loader) for place in places}
    return {"": loader} | {place: part for place, part in parts.items() if part is not None}


def _attribute(owner: Any, name: str) -> Any:
    return getattr(owner, name, None)


@contextmanager
def _unchanged(loader: Any) -> Iterator[None]:
    """Put back the random generators of a loader, whose data another may share."""
    before = _states(loader)
    try:
        yield
    finally:
        _restore(loader, before)


def _generators(owner: Any, place: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """The random generators that a data set has, by where they are; not those of large lists."""
    if isinstance(owner, _GENERATORS):
        yield place, owner
    if id(owner) in seen or isinstance(owner, (*_GENERATORS, type, Tensor)):
        return
    seen.add(id(owner))
    parts: Iterable[tuple[Any, Any]] = getattr(owner, "__dict__", {}).items()
    if isinstance(owner, list | tuple | dict) and len(owner) <= MOST_PARTS:
        parts = owner.items() if isinstance(owner, dict) else enumerate(owner)
    for name, part in list(parts):
        yield from _generators(part, f"{place}.{name}", seen)


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state()


def _set_state_of(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def _states(loader: Any) -> dict[str, Any]:
    """The states of the random generators of a loader, its samplers and data, and of samplers."""
    states = {place: _state_of(each) for place, each in _generators_of_data(loader)}
    for place, part in _parts(loader).items():
        if isinstance(getattr(part, "generator", None), torch.Generator):
            states[f"{place} generator"] = part.generator.get_state()
        if place and hasattr(part, "state_dict"):
            states[place] = part.state_dict()
    return states


def _generators_of_data(loader: Any) -> Iterator[tuple[str, Any]]:
    return _generators(getattr(loader, "dataset", None), "dataset", set())


def _restore(loader: Any, states: Mapping[str, Any]) -> None:
    for place, generator in _generators_of_data(loader):
        if place in states:
            _set_state_of(generator, states[place])
    for place, part in _parts(loader).items():
        if f"{place} generator" in states:
            part.generator.set_state(states[f"{place} generator"])
        if place in states:
            part.load_state_dict(states[place])


def _check_loader(loader: Any) -> None:
    """Refuse what could not go on after a checkpoint as if never stopped.

    Raises:
        ConfigurationError: Workers persist, or a sampler has random generators of its own.
    """
    if getattr(loader, "persistent_workers", False):
        raise ConfigurationError(
            "workers of a DataLoader that persist keep random generators that no checkpoint "
            "reaches; make it with persistent_workers=False."
        )
    for sampler in _own_samplers(loader).values():
        for name, value in vars(sampler).items():
            is_known = name == "generator" and isinstance(value, torch.Generator)
            if isinstance(value, _GENERATORS) and not is_known:
                raise _stateful(sampler, name)


def _own_samplers(loader: Any) -> dict[str, Any]:
    """The samplers that are not torch's, and do not say what their state is."""
    return {
        place: part
        for place, part in _parts(loader).items()
        if place
        and not hasattr(part, "state_dict")
        and not type(part).__module__.startswith("torch.")
    }


def _counts(loader: Any) -> dict[tuple[str, str], Any]:
    """Numbers and strings among the attributes of the user's own samplers."""
    return {
        (place, name): value
        for place, sampler in _own_samplers(loader).items()
        for name, value in vars(sampler).items()
        if isinstance(value, int | float | str)
    }


def _check_counts(loader: Any, before: Mapping[tuple[str, str], Any]) -> None:
    """Refuse a sampler whose attributes have changed since it was made.

    Raises:
        ConfigurationError: They have, such as a count of epochs.
    """
    for (place, name), value in _counts(loader).items():
        if before.get((place, name)) != value:
            raise _stateful(_own_samplers(loader)[place], name)


def _stateful(sampler: Any, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"the sampler {type(sampler).__name__} has state in {name!r} that no checkpoint would "
        f"have; give it state_dict and load_state_dict."
    )
