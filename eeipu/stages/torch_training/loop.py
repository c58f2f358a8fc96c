"""A plain PyTorch training loop in steps, which resumes after a checkpoint as if never stopped.

A checkpoint has the model with the numbers of its layers (a dropout's `p`), the optimiser, the
position in the data, and the states of all random generators (`random_generators` beside this
module). These are the generators of torch (on all devices), NumPy and Python, and those that the
loader, its data set and samplers, the model and the user's functions have or name. Samplers, data
sets and other objects with `state_dict` and `load_state_dict` are saved by these.

Other state that changes while training, such as a counter in a data set or a model, or a module
that is no submodule of the model, is refused when a checkpoint is made. So is a loader that is
neither a `DataLoader` nor a list and has no `state_dict`, and a loader with persistent workers. A
moving average of the weights belongs into the model as a submodule, or into the optimiser's `step`
and `state_dict`. Scaled gradients need a loop of your own (`eeipu.stages.iterative.Training`).
Plain attributes that a model sets in its first step, and not again, are kept (`first_step`).

Before each step the model is set to training (`model.train()`), whatever it was set to before, so
that it does not matter where the training was stopped.

Where a step is a batch, batches are loaded with random generators of their own, which are set
before each batch and put back after it. So it does not matter what the model draws in between.

Random generators belong to the training: they are set when it continues and restored afterwards.
All threads of a process share them, so train in processes of one thread each.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn, no_grad
from torch.optim import Optimizer

from eeipu.errors import TrainingError
from eeipu.stages.iterative import Training
from eeipu.stages.schedules import Schedule
from eeipu.stages.torch_training.batches import moved, pair_of, rows_of, scalar
from eeipu.stages.torch_training.checks import check_model, check_optimizer
from eeipu.stages.torch_training.random_generators import (
    own_rng,
    restorable_states,
    rng_state,
    seed_all,
)
from eeipu.stages.torch_training.state import TrainingState, empty_loader

__all__ = ["torch_loop"]


def torch_loop(
    model: Callable[[], nn.Module],
    optimizer: Callable[..., Optimizer],
    loss: Callable[[Tensor, Tensor], Tensor],
    loaders: Callable[..., tuple[Any, Any]],
    *,
    step: Literal["epoch", "batch"] = "epoch",
    seed: int = 0,
    device: str = "cpu",
) -> Training:
    """A `Training` of a model by a plain loop, for `eeipu.stages.iterative.iterative`.

    Hyper-parameters that the optimiser's parameter groups have (`lr`, `momentum`,
    `weight_decay`, ...) are set there before every step. All others (`batch_size`, an
    augmentation) go to `loaders`; where one of them changes, a new epoch begins.

    Args:
        model: Makes the model.
        optimizer: Takes the model's parameters and returns the optimiser, as `torch.optim.SGD`
            does.
        loss: Takes outputs and targets and returns a scalar.
        loaders: Takes the stage's inputs, and hyper-parameters as keywords, and returns the loaders
            of training and of validation data. Their batches are pairs of inputs and targets, each
            a tensor, or a dict or tuple of tensors.
        step: Whether a step is an epoch or a batch.
        seed: The seed of the model's first weights and of everything random in training.
        device: The device to train on.

    Returns:
        A training whose evaluation gives `loss` on the validation data, and `accuracy` if the
        targets are classes.
    """
    loop = _Loop(model, optimizer, loss, loaders, step, seed, device)
    return Training(
        loop.init, loop.advance, loop.evaluate, loop.save, loop.load, uses_process_state=True
    )


@dataclass(frozen=True)
class _Loop:
    model: Callable[[], nn.Module]
    optimizer: Callable[..., Optimizer]
    loss: Callable[[Tensor, Tensor], Tensor]
    loaders: Callable[..., tuple[Any, Any]]
    step: str
    seed: int
    device: str
    # A part of the keys: checkpoints of versions that trained differently are not gone on from.
    version: int = 3

    def init(self, *inputs: Any) -> TrainingState:
        """A state with a new model, made from the seed."""
        functions: dict[str, Callable[..., Any]] = {
            "make_model": self.model,
            "make_optimizer": self.optimizer,
            "loss": self.loss,
            "make_loaders": self.loaders,
        }
        # The functions come first, so that the path of each object is always the same.
        roots = {**functions, "inputs": inputs}
        initial_states = restorable_states(roots)
        with own_rng(lambda: roots, None):
            seed_all(self.seed)
            model = self.model()
            check_model(model)
            model = model.to(self.device)
            optimizer = self.optimizer(model.parameters())
            check_optimizer(optimizer)
            rng = rng_state({**roots, "model": model, "optimizer": optimizer})
        return TrainingState(functions, self.seed, inputs, model, optimizer, rng, initial_states)

    def advance(
        self, state: TrainingState, start: int, stop: int, hyper_parameters: Mapping[str, Schedule]
    ) -> TrainingState:
        """Train for steps `[start, stop)`. The state is changed in place, as models are large."""
        with state.own_rng(state.rng) as rng:
            for step in range(start, stop):
                state.model.train()
                self._configure(state, {n: s(step) for n, s in hyper_parameters.items()})
                if self.step == "batch":
                    self._update(state, state.next_batch())
                else:
                    self._train_an_epoch(state)
                if step == 0:
                    state.end_first_step()
        state.rng = rng
        return state

    def evaluate(self, state: TrainingState) -> dict[str, float]:
        """Loss and accuracy on the validation data. The state is not changed."""
        state.model.eval()
        total = correct = count = 0.0
        is_classification = False
        with no_grad(), state.own_rng(state.rng), state.validation_data() as batches:
            for batch in batches:
                inputs, labels = (moved(each, self.device) for each in pair_of(batch))
                outputs, rows = state.model(inputs), rows_of(labels)
                total += scalar(self.loss(outputs, labels)).item() * rows
                count += rows
                is_classification = _are_classes(outputs, labels)
                if is_classification:
                    correct += (outputs.argmax(-1) == labels).sum().item()
        if not count:
            raise empty_loader("validation")
        metrics = {"loss": total / count}
        return metrics | {"accuracy": correct / count} if is_classification else metrics

    def save(self, state: TrainingState) -> dict[str, Any]:
        """The saved state; raises as `TrainingState.saved`."""
        return state.saved()

    def load(self, saved: dict[str, Any], *inputs: Any) -> TrainingState:
        """The state that was saved, at the same position in the data."""
        state = self.init(*inputs)
        state.restore(saved)
        return state

    def _configure(self, state: TrainingState, values: Mapping[str, Any]) -> None:
        """Set the hyper-parameters of one step, in the optimiser or for the loaders."""
        groups = state.optimizer.param_groups
        for name in values:
            _check_groups(groups, name)
        for group in groups:
            group.update({name: value for name, value in values.items() if name in group})
        options = {n: v for n, v in values.items() if not any(n in group for group in groups)}
        state.use_options(options)

    def _train_an_epoch(self, state: TrainingState) -> None:
        is_empty = True
        for batch in state.loader:
            self._update(state, batch)
            is_empty = False
        if is_empty:
            raise empty_loader("training")

    def _update(self, state: TrainingState, batch: Any) -> None:
        inputs, targets = (moved(each, self.device) for each in pair_of(batch))

        def closure() -> Tensor:
            state.optimizer.zero_grad()
            loss = scalar(self.loss(state.model(inputs), targets))
            loss.backward()
            return loss

        if state.needs_closure:
            state.optimizer.step(closure)  # type: ignore[arg-type]
        else:
            closure()
            state.optimizer.step()


def _are_classes(outputs: Any, labels: Any) -> bool:
    """Whether outputs are a score for each class, and labels whole numbers."""
    are_tensors = isinstance(outputs, Tensor) and isinstance(labels, Tensor)
    return are_tensors and outputs.ndim == 2 and labels.ndim == 1 and not labels.is_floating_point()


def _check_groups(groups: Iterable[Mapping[str, Any]], name: str) -> None:
    """Refuse a schedule of a hyper-parameter in which the parameter groups differ.

    Raises:
        TrainingError: The groups differ in it.
    """
    values = [group[name] for group in groups if name in group]
    if any(value != values[0] for value in values):
        raise TrainingError(
            f"the optimiser's parameter groups differ in {name!r} ({values}), which one schedule "
            f"would overwrite; make them equal (freeze parameters by requires_grad=False), leave "
            f"{name!r} out of the hyper-parameters, or write a loop of your own "
            f"(eeipu.stages.iterative.Training)."
        )
