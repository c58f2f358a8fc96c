"""GPU accounting of a stage, and how its errors are told, such as running out of memory.

torch is used only where the process has loaded it already, so stages without torch lose no time.
"""

import gc
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any

__all__ = [
    "failure_of",
    "is_out_of_memory",
    "peak_gpu_bytes",
    "restart_gpu_peaks",
    "synchronize_devices",
]

# Messages for out of memory on a device from libraries without an exception class of their own:
# CUDA itself, cuBLAS and cuDNN through torch, XLA (JAX).
_SIGNS_OF_NO_MEMORY = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED",
)

# How many characters of a failed command's standard error are kept, from its end.
STDERR_LENGTH = 4000


def synchronize_devices() -> None:
    """Wait for work that is queued on GPUs, so that the stage that queued it pays for it."""
    cuda = _cuda()
    if cuda is None:
        return
    cuda.synchronize()
    for device in range(cuda.device_count()):
        # Asking a device that this process never used would create a context there.
        if device != cuda.current_device() and cuda.memory_reserved(device) > 0:
            cuda.synchronize(device)


def restart_gpu_peaks() -> None:
    """Start a new measurement of peak GPU memory."""
    cuda = _cuda()
    for device in range(0 if cuda is None else cuda.device_count()):
        cuda.reset_peak_memory_stats(device)


def peak_gpu_bytes() -> int | None:
    """The peak of GPU memory that torch used since `restart_gpu_peaks`, summed over GPUs.

    Memory that was in use before counts too, since the stage had to fit beside it. `None` if
    nothing was used. The measurement is of the whole process, including its other threads.
    """
    cuda = _cuda()
    devices = range(0 if cuda is None else cuda.device_count())
    return sum(cuda.max_memory_allocated(device) for device in devices) or None


def failure_of(error: BaseException, stage_name: str) -> str:
    """The text that describes an error that is being handled: its traceback.

    A command that has failed has written the reason to its standard error, the end of which is
    added where the error has it.

    For an out-of-memory error the text is one line. The memory that the error holds is freed,
    because the next trial may run in the same process: the traceback keeps the variables of every
    function in it alive, tensors among them, and torch does not return freed memory by itself.
    """
    if not is_out_of_memory(error):
        said = (_standard_error(each) for each in _chain(error))
        return "".join([*traceback.format_exception(error), *said])
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


def _standard_error(error: BaseException) -> str:
    """What a command that has failed has written to its standard error, or nothing."""
    if not isinstance(error, subprocess.CalledProcessError | subprocess.TimeoutExpired):
        return ""
    said = error.stderr
    text = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
    if not text.strip():
        return ""
    return f"The command has written to its standard error:\n{text.rstrip()[-STDERR_LENGTH:]}\n"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of a GPU is full."""
    # The exception classes of torch and CuPy have this name. CuPy's is also a MemoryError.
    is_named = any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__)
    is_said = isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in _SIGNS_OF_NO_MEMORY
    )
    return isinstance(error, MemoryError) or is_named or is_said


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all errors that it was raised from, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _cuda() -> Any:
    """`torch.cuda` if this process uses it already; else `None`."""
    torch = sys.modules.get("torch")
    if torch is None or not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    return torch.cuda
