"""Tensors and modules of torch."""

import sys
from typing import Any

import xxhash

from eeipu.serialization.tensors import is_plain, tensor_bytes

__all__ = ["module_state", "tensor_content"]

# What is added for a tensor that was made in inference mode, which refuses much of what others do.
_INFERENCE = ("is_inference",)

# Whether the weights of a pretrained model have been set, which a copy of them forgets, and what
# `torch.compile` notes on a module that it is given.
_NOTES = ("_is_hf_initialized", "_is_torch_compile", "_dynamo_")


def tensor_content(tensor: Any) -> tuple[Any, ...] | None:
    """What stands for a tensor; `None` for one that only torch itself can take apart."""
    about = (
        type(tensor),
        _noted(vars(tensor)),
        str(tensor.dtype),
        str(tensor.layout),
        None if tensor.is_nested else tuple(tensor.shape),
        tensor.device.type,
        (tensor.requires_grad, tensor.is_leaf, *_INFERENCE[: tensor.is_inference()]),
        tensor.grad if tensor.is_leaf else None,
        list((tensor._backward_hooks or {}).values()),
    )
    torch: Any = sys.modules["torch"]
    if is_plain(tensor):
        return (*about, _memory_format(tensor), xxhash.xxh3_128_digest(tensor_bytes(tensor)))
    if tensor.is_quantized:
        return (*about, *_quantised(tensor))
    if tensor.is_nested and tensor.layout == torch.strided:
        return (*about, list(tensor.detach().unbind()))
    if tensor.layout == torch.sparse_coo:
        values = tensor.detach()
        return (*about, tensor.is_coalesced(), values._indices(), values._values())
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return (*about, tensor.crow_indices(), tensor.col_indices(), tensor.detach().values())
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return (*about, tensor.ccol_indices(), tensor.row_indices(), tensor.detach().values())
    return None


def _noted(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes without what libraries note down for themselves."""
    return {name: each for name, each in attributes.items() if not name.startswith(_NOTES)}


def _memory_format(tensor: Any) -> str | None:
    """How torch names the order in which a batch of images lies; `None` for the usual order.

    Results of operations lie in the order of their inputs, and some, such as `view`, refuse it.
    """
    torch: Any = sys.modules["torch"]
    known = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
    if known is None or tensor.is_contiguous():
        return None
    return str(known) if tensor.is_contiguous(memory_format=known) else None


def _quantised(tensor: Any) -> tuple[Any, ...]:
    """The integers of a quantised tensor, and which numbers they stand for."""
    about = (str(tensor.qscheme()), tensor.detach().int_repr())
    if "channel" in str(tensor.qscheme()):
        steps, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        return (*about, steps, zeros, tensor.q_per_channel_axis())
    return (*about, tensor.q_scale(), tensor.q_zero_point())


def module_state(module: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The state of a module, in which hooks have the numbers of their order.

    Their keys in the module count the hooks of the whole process.
    """
    del module
    state = _noted(state)
    hooks = {name: each for name, each in state.items() if _holds_hooks(name, each)}
    numbers = sorted({key for each in hooks.values() for key in each})
    ranks = {key: rank for rank, key in enumerate(numbers)}
    ranked = {
        name: {ranks[key]: value for key, value in each.items()} for name, each in hooks.items()
    }
    return {**state, **ranked}


def _holds_hooks(name: str, value: Any) -> bool:
    return "_hooks" in name and isinstance(value, dict) and all(type(k) is int for k in value)
