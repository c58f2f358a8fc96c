"""Training that goes on from a checkpoint as if it had never stopped.

A checkpoint has the weights, the optimiser's state, and the state of the random generators that
order the batches and, in pretrained networks, drop units. Both optimisers are AdamW (Loshchilov and
Hutter 2019, arXiv 1711.05101). A student's loss is that of Hinton, Vinyals and Dean (2015, arXiv
1503.02531, section 2), for logits `u` of the student and `v` of the teacher, labels `y` and a
temperature `T`:

    (1 - WEIGHT) * CE(softmax(u), y) + WEIGHT * T^2 * KL(softmax(v / T) || softmax(u / T))

Note:
    Published distillation softens with temperatures above 1. The paper's lie below: they sharpen
    the teacher's answer towards its first choice, and as the gradient of the second term is about
    `T`, they set how much the teacher counts beside the labels; near 0 it hardly does.
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

# Of the teacher's answer in a student's loss. The labels have the rest: Hinton et al. found that
# their weight should be considerably lower.
WEIGHT = 0.9
MAX_GRADIENT_NORM = 1.0  # usual for transformers: one odd batch must not throw the weights off

Loss = Callable[[Batch, Tensor], Tensor]
"""From a batch and the network's logits, `b x t x vocabulary`, to a scalar."""


@dataclass(frozen=True)
class Checkpoint:
    """A network between two steps of its training, in main memory.

    Attributes:
        weights: Its parameters.
        optimizer: The optimiser's state dict.
        rng: The states of torch's random generators, by kind of device.
    """

    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    rng: Mapping[str, Tensor]


def begin(network: Network, seed: int) -> Checkpoint:
    """A network before its first step.

    Args:
        network: Which one.
        seed: Of its first weights, where they are new, and of what is random in its training.
    """
    with torch.random.fork_rng(_gpus()):
        torch.manual_seed(seed)
        model = network.make()
        optimizer = _optimizer(model)
        return Checkpoint(_weights(model), optimizer.state_dict(), _rng())


def restored(network: Network, weights: Mapping[str, Tensor]) -> Any:
    """A network with these weights, on the device."""
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
    """Train from a checkpoint, through all batches in a new random order an epoch.

    Args:
        network: Which one.
        checkpoint: Where it stands.
        batches: What it learns from.
        loss: What it minimises.
        epochs: How often through the batches.
        lr: The learning rate.
        weight_decay: What weights shrink by in a step, times `lr`.
    """
    model = restored(network, checkpoint.weights).train()
    with torch.random.fork_rng(_gpus()):
        _set_rng(checkpoint.rng)
        optimizer = _optimizer(model)
        optimizer.load_state_dict(_on_cpu(checkpoint.optimizer))  # it may keep what it is given
        for group in optimizer.param_groups:
            group.update(lr=lr, weight_decay=weight_decay)
        for _ in range(epochs):
            for i in torch.randperm(len(batches)).tolist():
                _step(model, optimizer, batches[i].to(device()), loss)
        return Checkpoint(_weights(model), _on_cpu(optimizer.state_dict()), _rng())


def _optimizer(model: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), fused=True)  # a third of the time of its loop


def _step(model: Any, optimizer: torch.optim.Optimizer, batch: Batch, loss: Loss) -> None:
    optimizer.zero_grad()
    loss(batch, model(**batch.inputs).logits).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()


def label_loss(batch: Batch, logits: Tensor) -> Tensor:
    """Cross-entropy of the labels, the mean over tokens."""
    return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)


def distillation_loss(teacher: Any, temperature: float) -> Loss:
    """The loss of a student, the mean over tokens.

    Args:
        teacher: A network, which answers without dropout.
        temperature: Above 0.
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
    """Its parameters; those that it has twice, as the embedding of both ends, once."""
    return {name: _on_cpu(parameter) for name, parameter in model.named_parameters()}


def _on_cpu(state: Any) -> Any:
    """A copy with its tensors in main memory, which later steps do not change."""
    if isinstance(state, Tensor):
        return state.detach().cpu().clone()
    if isinstance(state, Mapping):
        return {name: _on_cpu(value) for name, value in state.items()}
    return [_on_cpu(each) for each in state] if isinstance(state, list) else state
