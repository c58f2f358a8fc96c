"""Training that continues from a checkpoint as if it had never stopped.

A checkpoint holds the weights, the state of the optimiser, and the states of the random generators
that order the batches and, in pretrained networks, drop units. Both networks are trained with AdamW
(Loshchilov and Hutter 2019, arXiv 1711.05101). The loss of the student is that of Hinton, Vinyals
and Dean (2015, arXiv 1503.02531, section 2), for logits `u` of the student and `v` of the teacher,
labels `y` and a temperature `T`:

    (1 - WEIGHT) * CE(softmax(u), y) + WEIGHT * T^2 * KL(softmax(v / T) || softmax(u / T))

Note:
    Distillation usually softens answers with temperatures above 1. The temperatures of the paper
    are below 1: they sharpen the answer of the teacher towards its first choice. Since the gradient
    of the second term is about proportional to `T`, they also determine how much the teacher counts
    beside the labels; near 0 it has hardly any influence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from eeipu.benchmarks.distillation.batches import IGNORED, Batch
from eeipu.benchmarks.distillation.networks import Network, device

__all__ = ["Checkpoint", "begin", "distillation_loss", "go_on", "label_loss", "restored"]

# The weight of the teacher's answer in the loss of the student. The labels have the rest, since
# Hinton et al. found that the weight of the labels should be considerably lower.
WEIGHT = 0.9
MAX_GRADIENT_NORM = 1.0  # usual for transformers: a single unusual batch must not spoil the weights

Loss = Callable[[Batch, Tensor], Tensor]
"""A function from a batch and the logits of the network, `b x t x vocabulary`, to a scalar."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two steps, in main memory.

    Attributes:
        weights: The parameters of the network.
        optimizer: The state dict of the optimiser.
        rng: Kind of device -> the state of torch's random generator.
    """

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    rng: Mapping[str, Tensor]


def begin(network: Network, seed: int) -> Checkpoint:
    """The state of a training before its first step.

    Args:
        network: The network.
        seed: The seed of first weights, if they are new, and of the random numbers of training.
    """
    with torch.random.fork_rng(_gpus()):
        torch.manual_seed(seed)
        model = network.make()
        optimizer = _optimizer(model)
        return Checkpoint(_weights(model), optimizer.state_dict(), _rng())


def restored(network: Network, weights: Mapping[str, Tensor]) -> Any:
    """Make a network with these weights, on the device of all networks."""
    with torch.random.fork_rng(_gpus()):  # new weights are drawn, and then replaced
        model = network.make()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    return model.to(device())


def go_on(
    network: Network,
    checkpoint: Checkpoint,
    batches: tuple[Batch, ...],
    loss: Loss,
    *,
    epochs: int,
    lr: float,
    weight_decay: float,
) -> Checkpoint:
    """Continue a training; each epoch has all batches, in a new random order.

    Args:
        network: The network.
        checkpoint: The state from which to continue.
        batches: The batches for training.
        loss: The loss to minimise.
        epochs: The number of passes over the batches.
        lr: The learning rate.
        weight_decay: The weight decay: a step shrinks weights by the share `lr * weight_decay`.

    Returns:
        The state after the last step.
    """
    model = restored(network, checkpoint.weights).train()
    with torch.random.fork_rng(_gpus()):
        _set_rng(checkpoint.rng)
        optimizer = _optimizer(model)
        optimizer.load_state_dict(
            _on_cpu(checkpoint.optimizer)
        )  # a copy, because the optimiser may keep and change the tensors
        for group in optimizer.param_groups:
            group.update(lr=lr, weight_decay=weight_decay)
        for _ in range(epochs):
            for i in torch.randperm(len(batches)).tolist():
                _step(model, optimizer, batches[i].to(device()), loss)
        return Checkpoint(_weights(model), _on_cpu(optimizer.state_dict()), _rng())


def _optimizer(model: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(), fused=True
    )  # takes a third of the time of a loop over tensors


def _step(model: Any, optimizer: torch.optim.Optimizer, batch: Batch, loss: Loss) -> None:
    optimizer.zero_grad()
    loss(batch, model(**batch.inputs).logits).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()


def label_loss(batch: Batch, logits: Tensor) -> Tensor:
    """The cross-entropy of the labels, averaged over tokens."""
    return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)


def distillation_loss(teacher: Any, temperature: float) -> Loss:
    """The loss of a student, averaged over tokens.

    Args:
        teacher: The teacher, in evaluation mode.
        temperature: The divisor of the logits, above 0.
    """

    def loss(batch: Batch, logits: Tensor) -> Tensor:
        with torch.no_grad():
            answer = teacher(**batch.inputs).logits
        counts = batch.labels != IGNORED
        student, target = (each[counts] / temperature for each in (logits, answer))
        soft = F.kl_div(
            student.log_softmax(-1), target.log_softmax(-1), reduction="batchmean", log_target=True
        )
        return (1 - WEIGHT) * label_loss(batch, logits) + WEIGHT * temperature**2 * soft

    return loss


def _gpus() -> list[int]:
    return [torch.cuda.current_device()] if device().type == "cuda" else []


def _rng() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device().type == "cuda":  # pragma: no cover - needs a GPU
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_rng(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device().type == "cuda":  # pragma: no cover - needs a GPU
        torch.cuda.set_rng_state(states["cuda"])


def _weights(model: Any) -> dict[str, Tensor]:
    """Copies of all parameters; shared ones, such as embeddings, are included once."""
    return {name: _on_cpu(parameter) for name, parameter in model.named_parameters()}


def _on_cpu(state: Any) -> Any:
    """A copy of nested data with tensors in main memory, which later steps do not change."""
    if isinstance(state, Tensor):
        return state.detach().cpu().clone()
    if isinstance(state, Mapping):
        return {name: _on_cpu(value) for name, value in state.items()}
    return [_on_cpu(each) for each in state] if isinstance(state, list) else state
