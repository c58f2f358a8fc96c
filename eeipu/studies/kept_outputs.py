"""The stage outputs that a study keeps in the cache: those of its best trials."""

import warnings
from collections.abc import Iterable

from optuna.storages import InMemoryStorage

from eeipu.cache import StageCache
from eeipu.studies.trials import Trials

__all__ = ["KeptOutputs"]


class KeptOutputs:
    """Pins the outputs of the best trials in the cache, and drops those of the others.

    Args:
        trials: The trials of the study.
        cache: The cache of stage outputs, if there is one.
    """

    def __init__(self, trials: Trials, cache: StageCache | None) -> None:
        self._trials = trials
        self._cache = cache
        self._kept: set[str] = set() if cache is None else trials.keys_to_go_on_with()
        self._offered: set[str] = set()

    def offer(self, keys: Iterable[str]) -> None:
        """Offer the outputs of a trial that has ended: to keep, or to drop at the next `tidy`."""
        self._offered.update(keys)

    def tidy(self) -> None:
        """Keep the outputs of those trials that are the best now, and drop all others.

        What is dropped are the outputs offered since the last time, and outputs of trials that
        were among the best before. Nothing is done where nothing was offered.
        """
        if self._cache is None or not self._offered:
            return
        best = self._trials.keys_to_go_on_with()
        unwanted = (self._offered | self._kept) - best
        self._offered, self._kept = set(), best
        is_stored = not isinstance(self._trials.study._storage, InMemoryStorage)
        try:
            self._cache.holders.pin(self._trials.study_id, best, lasting=is_stored)
            self._cache.discard(unwanted)
        except Exception as error:  # file systems raise errors of their own
            warnings.warn(
                f"the stage outputs that are not needed any more could not be dropped from "
                f"{self._cache!r}: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
