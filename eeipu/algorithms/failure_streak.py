"""Failures in a row: when they are a bug, and not bad luck."""

from eeipu.stages.runs import StageRun

__all__ = ["MAX_BAD_VALUES", "MAX_FAILURES", "FailureStreak"]

# This many failures in a row, without a success between them, are a bug and not bad luck. Running
# out of memory is no exception: the search leaves a region that fails, so ten in a row mean that
# nearly everything fails, because the model is too large or another program holds the GPU.
MAX_FAILURES = 10

# Errors that say that a configuration does not work may be bad luck for longer. If a tenth of the
# space is feasible, this many configurations at random all fail with a chance of .9 ** 50, half a
# percent; after ten, it is a third.
MAX_BAD_VALUES = 50


class FailureStreak:
    """The failures since the last success.

    Args:
        max_failures: How many in a row are too many. `None`: `MAX_BAD_VALUES` errors that are about
            values, or `MAX_FAILURES` others.

    Attributes:
        length: How many there are.
    """

    def __init__(self, max_failures: int | None = None) -> None:
        self.length = 0
        self._others = 0  # those that are not about values
        self._max_failures = max_failures

    def end(self) -> None:
        """Take note of a success."""
        self.length = self._others = 0

    def add(self, failed: StageRun) -> None:
        """Take note of a failure: the call that has failed."""
        self.length += 1
        self._others += not failed.is_about_values

    @property
    def is_too_long(self) -> bool:
        """Whether there are too many of them."""
        if self._max_failures is not None:
            return self.length >= self._max_failures
        return self._others >= MAX_FAILURES or self.length >= MAX_BAD_VALUES
