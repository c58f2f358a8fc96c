"""What a stage call takes of a worker, and what a worker has."""

import math
from dataclasses import dataclass

from eeipu.errors import PipelineError

__all__ = ["Resources", "check_limits"]

# A year, which the timers of all systems can hold.
LONGEST_TIMEOUT_S = 365 * 24 * 3600.0

# Fractions that were taken and given back add up to a little less than they were.
ROUNDING = 1e-9


@dataclass(frozen=True, order=True)
class Resources:
    """An amount of CPU cores and GPUs. Fractions share a device.

    Attributes:
        num_cpus: CPU cores.
        num_gpus: GPUs.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def fit(self, free: "Resources") -> bool:
        """Whether this amount is available where `free` is."""
        return (
            self.num_cpus <= free.num_cpus + ROUNDING and self.num_gpus <= free.num_gpus + ROUNDING
        )

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.num_cpus + other.num_cpus, self.num_gpus + other.num_gpus)

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(self.num_cpus - other.num_cpus, self.num_gpus - other.num_gpus)


def check_limits(
    stage_name: str, num_cpus: float, num_gpus: float, timeout: float | None, retries: int
) -> None:
    """Refuse what a stage cannot declare of its calls.

    Args:
        stage_name: The stage's name.
        num_cpus: CPU cores that a call takes.
        num_gpus: GPUs that a call takes.
        timeout: Seconds after which a call counts as hanging; `None` for never.
        retries: How often a call is tried again.

    Raises:
        PipelineError: A number is out of range.
    """
    if not all(math.isfinite(each) and each >= 0 for each in (num_cpus, num_gpus)):
        raise PipelineError(
            f"stage {stage_name!r}: num_cpus and num_gpus must be finite and not negative, "
            f"but got {num_cpus!r} and {num_gpus!r}."
        )
    if timeout is not None and not 0 < timeout <= LONGEST_TIMEOUT_S:
        raise PipelineError(
            f"stage {stage_name!r}: timeout must be a positive number of seconds, at most "
            f"{LONGEST_TIMEOUT_S:g}, or None, but got {timeout!r}."
        )
    if not (isinstance(retries, int) and retries >= 0):
        raise PipelineError(
            f"stage {stage_name!r}: retries must be a whole number >= 0, but got {retries!r}."
        )
