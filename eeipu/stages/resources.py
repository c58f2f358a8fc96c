"""What a stage call takes of a worker, and what a worker has."""

from dataclasses import dataclass

__all__ = ["Resources"]

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
