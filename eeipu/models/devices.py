"""The device that models are fitted on: the processor, or a GPU."""

from collections.abc import Callable
from typing import TypeVar

import torch

from eeipu.errors import ConfigurationError

__all__ = ["CPU", "FittingDevice", "checked_device", "fitting_device"]

Result = TypeVar("Result")

CPU = torch.device("cpu")

# With at least this many trials, models are fitted on a GPU that this process uses already, unless
# the user has named a device. This is a cautious guess, as there was no GPU to measure on: a fit is
# some ten thousand small kernels, which should take a GPU about as long for any such n, and took
# one busy core 0.9 s for 50 trials, 4 s for 100 and 11 s for 200. `benchmarks/device.py` prints
# where the two meet on a machine.
GPU_FROM = 200


def checked_device(device: str | torch.device | None) -> torch.device | None:
    """The device that a user named, as torch knows it; `None` stays `None`.

    Raises:
        ConfigurationError: There is no such device here, or models cannot be fitted on it.
    """
    if device is None:
        return None
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(
            f'device must be None, "cpu" or a GPU such as "cuda" or "cuda:0", but got {device!r}.'
        ) from error
    if found.type not in ("cpu", "cuda"):
        raise ConfigurationError(
            f'models are fitted in double precision on "cpu" or "cuda", but got {device!r}; leave '
            f"device=None."
        )
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise ConfigurationError(
            f"there is no device {device!r}: torch sees {gpus} CUDA devices here; leave "
            f'device=None, or pass "cpu".'
        )
    return found


def fitting_device(device: torch.device | None, n: int) -> torch.device:
    """The device to fit models of `n` trials on: the named one, or whichever is faster.

    A GPU that this process does not use yet is left alone unless it was named: a CUDA context takes
    half a gigabyte of its memory from those who train on it, and a process that has one can no
    longer fork.
    """
    if device is not None:
        return device
    is_in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.device("cuda") if is_in_use and n >= GPU_FROM else CPU


class FittingDevice:
    """A device for computations that move to the processor once the GPU's memory is full.

    Args:
        device: Where to begin.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def run(self, compute: Callable[[torch.device], Result]) -> Result:
        """Call `compute` with the device, and again with the processor if the GPU is full.

        Raises:
            torch.cuda.OutOfMemoryError: `compute` raised it on the processor.
        """
        try:
            return compute(self._device)
        except torch.cuda.OutOfMemoryError:
            if self._device == CPU:
                raise
            self._device = CPU
        return compute(CPU)
