"""What is changed by being used: here it matters whether two equal objects are one.

Weights that two layers of a model share are trained together, and two stages of a computation that
draw from one random generator draw different numbers. All other data counts by its content alone.
"""

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from eeipu.serialization.library_types import package_and_name

__all__ = ["is_shared_generator", "shared_parts"]

# The generators that all code of the process draws from, of which `random` and NumPy show methods.
_METHODS: tuple[Any, ...] = (random.random, np.random.rand)
_SHARED_GENERATORS = [method.__self__ for method in _METHODS]


def is_shared_generator(value: Any) -> bool:
    """Whether a value is a generator of the whole process, whose state no input has."""
    return any(value is each for each in _SHARED_GENERATORS)


def shared_parts(obj: Any) -> list[tuple[Any, Any]]:
    """What an object consists of that other objects may share: its identity, and where it lies."""
    kind: Any = type(obj)
    parts = _parts_of(kind)
    return [] if parts is None else parts(obj)


@lru_cache(maxsize=1024)
def _parts_of(kind: Any) -> Callable[[Any], list[tuple[Any, Any]]] | None:
    """What gives the parts of a type's objects; `None` where it does not matter."""
    if issubclass(kind, np.random.Generator | np.random.RandomState | random.Random):
        return _identity
    names = {package_and_name(each) for each in kind.__mro__}
    return next((parts for name, parts in _PARTS.items() if name in names), None)


def _identity(generator: Any) -> list[tuple[Any, Any]]:
    return [(id(generator), None)]


def _tensor_parts(tensor: Any) -> list[tuple[Any, Any]]:
    return [_memory(tensor)] if tensor.requires_grad else []


def _module_parts(module: Any) -> list[tuple[Any, Any]]:
    tensors = [*module._parameters.values(), *module._buffers.values()]
    return [_memory(each) for each in tensors if each is not None and not each.requires_grad]


# By the names of a package and of a class, so that nothing is imported.
_PARTS = {
    ("torch", "Tensor"): _tensor_parts,
    ("torch", "Module"): _module_parts,
    ("torch", "Generator"): _identity,
}


def _memory(tensor: Any) -> tuple[Any, Any]:
    if str(tensor.layout) != "torch.strided" or tensor.is_nested or tensor.numel() == 0:
        return (id(tensor), None)
    try:
        address = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # a subclass without a storage
        address = 0
    if not address:
        return (id(tensor), None)
    return (("memory", address), (tensor.storage_offset(), tuple(tensor.stride())))
