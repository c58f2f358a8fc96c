"""How torch tensors are pickled: without a device, and without a copy of their bytes.

A tensor becomes a NumPy view of its bytes, which pickle passes on out of band, and a description. A
tensor on an accelerator is marked as such. It is loaded onto the accelerator of the process that
loads it, or into main memory if that process has none.

This module imports torch only when a value contains a tensor.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

__all__ = [
    "OUT_OF_BAND_BYTES",
    "as_inference",
    "base_tensor",
    "description",
    "is_plain",
    "is_within_graph",
    "reduce_torch",
    "storage_bytes",
    "tensor_bytes",
    "tensor_view",
    "to_accelerator",
]

# A smaller buffer is copied into the pickle, which costs less than a segment of its own.
OUT_OF_BAND_BYTES = 4096


def is_plain(tensor: Any) -> bool:
    """Whether bytes, dtype and shape describe a tensor completely."""
    return (
        str(tensor.layout) == "torch.strided"
        and not tensor.is_quantized
        and not tensor.is_nested
        and tensor.device.type != "meta"
    )


def is_within_graph(value: Any) -> bool:
    """Whether a value is a tensor from which gradients flow back to what it was computed from."""
    torch = sys.modules.get("torch")
    is_tensor = torch is not None and isinstance(value, torch.Tensor)
    return is_tensor and value.requires_grad and not value.is_leaf


def tensor_bytes(tensor: Any) -> Any:
    """The elements of a plain tensor in row-major order, as an array of bytes in main memory."""
    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # One element may keep the stride that it had among others.
    values = values.as_strided((values.numel(),), (1,))
    return values.view(sys.modules["torch"].uint8).numpy()


def reduce_torch(value: Any, view: Callable[[Any], Any] = lambda _: None) -> Any:
    """How to pickle a tensor or a device (`reducer_override`), or `NotImplemented` otherwise.

    Args:
        value: The value.
        view: How to pickle a tensor that lies in the memory of others; `None` for other tensors.
    """
    torch = sys.modules.get("torch")  # without torch loaded there are no tensors
    if torch is None:
        return NotImplemented
    if type(value) is torch.device:
        return _device, (str(value) if value.type == "cpu" else value.type,)
    is_tensor = type(value) is torch.Tensor or type(value) is torch.nn.Parameter
    if not is_tensor or not is_plain(value):
        return NotImplemented
    found = view(value)
    if found is not None:
        return found
    data, strides = _dense_bytes(value)
    return _tensor, (data, {**description(value), "strides": strides})


def description(tensor: Any) -> dict[str, Any]:
    """What there is to know about a plain tensor besides its elements."""
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": tuple(tensor.shape),
        "strides": tuple(tensor.stride()),
        "requires_grad": tensor.requires_grad,
        "is_parameter": type(tensor) is sys.modules["torch"].nn.Parameter,
        "on_accelerator": tensor.device.type != "cpu",
        "attributes": vars(tensor),
        "grad": tensor.grad if tensor.is_leaf else None,
        **({"is_inference": True} if tensor.is_inference() else {}),
    }


def _dense_bytes(tensor: Any) -> tuple[Any, tuple[int, ...]]:
    """The elements of a plain tensor in the order in which they lie, and the strides of its axes.

    The gaps of a view of a part of a tensor are left out.
    """
    axes = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride(axis))
    ordered = tensor.detach().permute(axes)
    is_dense = ordered.is_contiguous()
    strides = tensor.stride() if is_dense else _strides(ordered.shape, axes)
    return tensor_bytes(ordered), tuple(strides)


def _strides(shape: tuple[int, ...], axes: list[int]) -> list[int]:
    """The strides of a tensor without gaps whose axes lie in a given order."""
    strides = [1] * len(axes)
    step = 1
    for size, axis in zip(reversed(shape), reversed(axes), strict=True):
        strides[axis] = step
        step *= max(size, 1)
    return strides


def _tensor(data: np.ndarray[Any, Any], about: dict[str, Any]) -> Any:
    torch = import_module("torch")
    flat = torch.from_numpy(data if data.flags.writeable else data.copy())
    return _described(flat, 0, about)


def storage_bytes(tensor: Any, start: int, size_bytes: int) -> Any:
    """A piece of the memory of an accelerator, in which a tensor lies, as an array."""
    torch = sys.modules["torch"]
    storage = tensor.untyped_storage()
    piece = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    piece.set_(storage, start - storage.data_ptr(), (size_bytes,))
    return piece.cpu().numpy()


def base_tensor(memory: np.ndarray[Any, Any], on_accelerator: bool) -> Any:
    """The tensor of bytes of which other tensors are views."""
    flat = import_module("torch").from_numpy(memory)
    return to_accelerator(flat) if on_accelerator else flat


def tensor_view(base: Any, offset: int, about: dict[str, Any]) -> Any:
    """A tensor that lies in the memory of another."""
    return _described(base, offset, {**about, "on_accelerator": False})


def _described(flat: Any, offset: int, about: dict[str, Any]) -> Any:
    """A tensor in the memory of a tensor of bytes."""
    torch = import_module("torch")
    if about.get("is_inference"):  # so is a view of such a tensor
        with torch.inference_mode():
            return _described(as_inference(flat), offset, {**about, "is_inference": False})
    dtype = getattr(torch, about["dtype"])
    whole = flat[: flat.numel() - flat.numel() % dtype.itemsize].view(dtype)
    tensor = whole.as_strided(about["shape"], about["strides"], offset)
    if about.get("is_conjugate"):
        tensor = tensor.conj()
    if about["on_accelerator"]:
        tensor = to_accelerator(tensor)
    if about["is_parameter"]:
        tensor = torch.nn.Parameter(tensor, requires_grad=about["requires_grad"])
    else:
        tensor.requires_grad_(about["requires_grad"])
    tensor.grad = about["grad"]
    vars(tensor).update(about["attributes"])
    return tensor


def as_inference(tensor: Any) -> Any:
    """A tensor in the same memory that is one of inference mode."""
    torch = import_module("torch")
    with torch.inference_mode():
        return torch.empty(0, dtype=tensor.dtype).set_(tensor)


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
