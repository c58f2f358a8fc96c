"""What is changed by being used: here it matters whether two equal objects are one.

Weights that two layers of a model share are trained together, and two stages of a computation that
draw from one random generator draw different numbers. All other data counts by its content alone.
"""

import random
import sys
from typing import Any

import numpy as np

__all__ = ["shared_parts"]


def shared_parts(obj: Any) -> list[tuple[Any, Any]]:
    """What an object consists of that other objects may share: its identity, and where it lies."""
    if isinstance(obj, np.random.Generator | np.random.RandomState | random.Random):
        return [(id(obj), None)]
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "nn"):
        return []
    if isinstance(obj, torch.Tensor):
        return [_memory(obj)] if obj.requires_grad else []
    if isinstance(obj, torch.nn.Module):
        tensors = [*obj._parameters.values(), *obj._buffers.values()]
        return [_memory(each) for each in tensors if each is not None and not each.requires_grad]
    return [(id(obj), None)] if isinstance(obj, torch.Generator) else []


def _memory(tensor: Any) -> tuple[Any, Any]:
    if str(tensor.layout) != "torch.strided" or tensor.numel() == 0:
        return (id(tensor), None)
    try:
        address = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # a subclass without a storage
        address = 0
    if not address:
        return (id(tensor), None)
    return (("memory", address), (tensor.storage_offset(), tuple(tensor.stride())))
