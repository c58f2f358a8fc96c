"""A plain PyTorch training loop in steps, which goes on after a checkpoint as if never stopped.

What counts as state: the model, the optimiser, the random generators of torch (on all devices),
NumPy and Python, the loader's own generator, and the position in the data. Random generators are
the state's own: they are set when training goes on and put back afterwards. They are shared by
all threads of a process, so train in processes of one thread each.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eeipu.iterative import Training
from eeipu.schedule import Schedule

__all__ = ["torch_training"]


@dataclass
class _State:
    """Training between two steps.

    Attributes:
        inputs: What the stage got.
        model: The model; `optimizer`: its optimiser.
        options: What the loaders were made with; `loader`: the training data, made when needed.
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
        with torch.no_grad(), _own_rng(state.rng):
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
        """All that training depends on; the data as the stage got it."""
        return {
            "inputs": state.inputs,
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "options": state.options,
            "rng": state.rng,
            "epoch_rng": state.epoch_rng,
            "position": state.position,
            "generator": _generator_state(state.loader),
        }

    def load(self, saved: dict[str, Any]) -> _State:
        """The state that was saved, at the same place in the data."""
        state = self.init(*saved["inputs"])
        state.model.load_state_dict(saved["model"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.rng, state.options = saved["rng"], saved["options"]
        if saved["position"] == 0 and saved["generator"] is None:
            return state
        state.loader = self._loaders(state.inputs, state.options)[0]
        with _own_rng(None):
            if saved["position"]:
                # Skipping draws from the generators, which are set to what they were afterwards.
                self._begin_epoch(state, saved["epoch_rng"])
                for _ in islice(state.batches or (), saved["position"]):
                    state.position += 1
        if saved["generator"] is not None:
            state.loader.generator.set_state(saved["generator"])
        return state

    def _loaders(self, inputs: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Any, Any]:
        """The loaders, whose making may be random, such as a split, but is always the same."""
        with _own_rng(None):
            _seed(self.seed)
            return self.loaders(*inputs, **options)

    def _configure(self, state: _State, values: Mapping[str, Any]) -> None:
        groups = state.optimizer.param_groups
        for group in groups:
            group.update({name: value for name, value in values.items() if name in group})
        options = {n: v for n, v in values.items() if not any(n in group for group in groups)}
        if state.loader is None or options != state.options:
            state.loader = self._loaders(state.inputs, options)[0]
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
        state.epoch_rng = _get_rng() | {"loader": _generator_state(state.loader)}
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
    if state.get("loader") is not None:
        loader.generator.set_state(state["loader"])


def _generator_state(loader: Any) -> Tensor | None:
    """The state of a loader's own random generator, if it has one."""
    generator = getattr(loader, "generator", None)
    return None if generator is None else generator.get_state()
