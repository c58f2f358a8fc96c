"""Tensors and modules of torch."""

import sys
from typing import Any

import xxhash

from eeipu.serialization.tensors import is_plain, tensor_bytes

__all__ = ["module_state", "tensor_content"]

# Whether the weights of a pretrained model have been set, which a copy of them forgets.
_NOTES = {"_is_hf_initialized"}


def tensor_content(tensor: Any) -> tuple[Any, ...] | None:
    """What stands for a tensor; `None` for one that only torch itself can take apart."""
    about = (
        type(tensor),
        {name: each for name, each in vars(tensor).items() if name not in _NOTES},
        str(tensor.dtype),
        str(tensor.layout),
        tuple(tensor.shape),
        tensor.device.type,
        (tensor.requires_grad, tensor.is_leaf),
        tensor.grad if tensor.is_leaf else None,
        list((tensor._backward_hooks or {}).values()),
    )
    torch: Any = sys.modules["torch"]
    if is_plain(tensor):
        return (*about, xxhash.xxh3_128_digest(tensor_bytes(tensor)))
    if tensor.layout == torch.sparse_coo:
        values = tensor.detach()
        return (*about, tensor.is_coalesced(), values._indices(), values._values())
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return (*about, tensor.crow_indices(), tensor.col_indices(), tensor.detach().values())
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return (*about, tensor.ccol_indices(), tensor.row_indices(), tensor.detach().values())
    return None


def module_state(module: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The state of a module, in which hooks have the numbers of their order.

    Their keys in the module count the hooks of the whole process.
    """
    del module
    state = {name: each for name, each in state.items() if name not in _NOTES}
    hooks = {name: each for name, each in state.items() if _holds_hooks(name, each)}
    numbers = sorted({key for each in hooks.values() for key in each})
    ranks = {key: rank for rank, key in enumerate(numbers)}
    ranked = {
        name: {ranks[key]: value for key, value in each.items()} for name, each in hooks.items()
    }
    return {**state, **ranked}


def _holds_hooks(name: str, value: Any) -> bool:
    return "_hooks" in name and isinstance(value, dict) and all(type(k) is int for k in value)
