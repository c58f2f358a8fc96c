"""What a stage did on GPUs: when it ended there, how much memory it took, and whether too much.

Stages that never load torch never pay for it here.
"""

import gc
import sys
import traceback
from collections.abc import Iterator
from typing import Any

__all__ = ["failure_of", "peak_gpu_bytes", "restart_gpu_peaks", "synchronize_devices"]

# How libraries that raise no class of their own say that a device's memory is used up: CUDA
# itself, cuBLAS and cuDNN through torch, XLA (JAX).
_SIGNS_OF_NO_MEMORY = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED",
)


def synchronize_devices() -> None:
    """Wait for work queued on GPUs, which would otherwise be billed to whoever waits next."""
    cuda = _cuda()
    if cuda is None:
        return
    cuda.synchronize()
    for device in range(cuda.device_count()):
        # To ask a device that this process never used would give it a context there.
        if device != cuda.current_device() and cuda.memory_reserved(device) > 0:
            cuda.synchronize(device)


def restart_gpu_peaks() -> None:
    """Begin to look for the largest amount of GPU memory from here on."""
    cuda = _cuda()
    for device in range(0 if cuda is None else cuda.device_count()):
        cuda.reset_peak_memory_stats(device)


def peak_gpu_bytes() -> int | None:
    """The most memory that torch had in use on each GPU since `restart_gpu_peaks`, added up.

    What lay there before counts: it was in the way too. `None` where there was nothing. Threads of
    one process share what they see.
    """
    cuda = _cuda()
    devices = range(0 if cuda is None else cuda.device_count())
    return sum(cuda.max_memory_allocated(device) for device in devices) or None


def failure_of(error: BaseException, stage_name: str) -> str:
    """What to remember of an error, during its handling: its traceback.

    Of one that says that memory is used up, a line; and what it holds on to is let go of, since the
    next trial has to live in the same process. Its traceback keeps the variables of every function
    on the way, tensors among them, and torch keeps freed memory for itself.
    """
    if not _is_out_of_memory(error):
        return "".join(traceback.format_exception(error))
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
    what = "".join(traceback.format_exception_only(error)).strip().partition("\n")[0]
    for each in _chain(error):
        traceback.clear_frames(each.__traceback__)
    gc.collect()
    cuda = _cuda()
    if cuda is not None:
        cuda.empty_cache()
    return f"out of memory in stage {stage_name!r}, at {where}: {what}"


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's and CuPy's own are named so; CuPy's is a MemoryError besides.
    is_named = any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__)
    is_said = isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in _SIGNS_OF_NO_MEMORY
    )
    return isinstance(error, MemoryError) or is_named or is_said


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it came from, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _cuda() -> Any:
    """`torch.cuda`, where this process uses it already."""
    torch = sys.modules.get("torch")
    if torch is None or not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    return torch.cuda
