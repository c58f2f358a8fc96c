"""How torch tensors are pickled: without a device, and without a copy of their bytes.

A tensor becomes a NumPy view of its bytes, which pickle passes on out of band, and a description. A
tensor on an accelerator is marked as such. It is loaded onto the accelerator of the process that
loads it, or into main memory if that process has none.

This module imports torch only when a value contains a tensor.
"""

import sys
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["OUT_OF_BAND_BYTES", "is_plain", "reduce_torch", "tensor_bytes", "to_accelerator"]

# A smaller buffer is copied into the pickle, which costs less than a segment of its own.
OUT_OF_BAND_BYTES = 4096


def is_plain(tensor: Any) -> bool:
    """Whether bytes, dtype and shape describe a tensor completely."""
    return (
        str(tensor.layout) == "torch.strided"
        and not tensor.is_quantized
        and tensor.device.type != "meta"
    )


def tensor_bytes(tensor: Any) -> Any:
    """The elements of a plain tensor in row-major order, as an array of bytes in main memory."""
    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return values.view(sys.modules["torch"].uint8).numpy()


def reduce_torch(value: Any) -> Any:
    """How to pickle a tensor or a device (`reducer_override`), or `NotImplemented` otherwise."""
    torch = sys.modules.get("torch")  # without torch loaded there are no tensors
    if torch is None:
        return NotImplemented
    if type(value) is torch.device:
        return _device, (str(value) if value.type == "cpu" else value.type,)
    is_tensor = type(value) is torch.Tensor or type(value) is torch.nn.Parameter
    if not is_tensor or not is_plain(value):
        return NotImplemented
    about = {
        "dtype": str(value.dtype).removeprefix("torch."),
        "shape": tuple(value.shape),
        "requires_grad": value.requires_grad,
        "is_parameter": type(value) is torch.nn.Parameter,
        "on_accelerator": value.device.type != "cpu",
        "attributes": vars(value),
    }
    return _tensor, (tensor_bytes(value), about)


def _tensor(data: np.ndarray[Any, Any], about: dict[str, Any]) -> Any:
    torch = import_module("torch")
    flat = torch.from_numpy(data if data.flags.writeable else data.copy())
    tensor = flat.view(getattr(torch, about["dtype"])).reshape(about["shape"])
    if about["on_accelerator"]:
        tensor = to_accelerator(tensor)
    if about["is_parameter"]:
        tensor = torch.nn.Parameter(tensor, requires_grad=about["requires_grad"])
    else:
        tensor.requires_grad_(about["requires_grad"])
    vars(tensor).update(about["attributes"])
    return tensor


def to_accelerator(tensor: Any) -> Any:
    """The tensor on this process's accelerator, or in main memory if there is none."""
    return tensor.to(_accelerator(import_module("torch")))


def _device(name: str) -> Any:
    torch = import_module("torch")
    return torch.device(name) if name == "cpu" else _accelerator(torch)


def _accelerator(torch: Any) -> Any:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
