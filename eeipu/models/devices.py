"""Where models are fitted: on the processor, or on a GPU."""

import torch

from eeipu.errors import ConfigurationError

__all__ = ["CPU", "checked_device", "fitting_device"]

CPU = torch.device("cpu")

# From so many trials on, a GPU that this process uses already fits the models where nobody has
# said otherwise. A careful guess, for want of a GPU to measure on: a fit is some ten thousand
# small kernels, which should take a GPU about as long for any such n, and took one busy core 0.9 s
# for 50 trials, 4 s for 100 and 11 s for 200. `benchmarks/device.py` prints a machine's crossover.
GPU_FROM = 200


def checked_device(device: str | torch.device | None) -> torch.device | None:
    """The device that a user named; `None` stays.

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
            f"the device {device!r} is not there: torch sees {gpus} CUDA devices here; leave "
            f'device=None, or say "cpu".'
        )
    return found


def fitting_device(device: torch.device | None, n: int) -> torch.device:
    """Where to fit models of `n` trials: the named device, or whatever is faster.

    A GPU that this process does not use is left alone where none was named: a context there takes
    half a gigabyte from those who train on it, and a process that has one can fork no more.
    """
    if device is not None:
        return device
    is_in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.device("cuda") if is_in_use and n >= GPU_FROM else CPU
