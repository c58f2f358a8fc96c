"""Which configurations of a pipeline trials have had, and which are new."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from optuna.trial import FrozenTrial

from eeipu.methods.trials.ended_arrays import identity
from eeipu.methods.trials.ledger import Ledger
from eeipu.space import Params

__all__ = ["Configurations"]


@dataclass(frozen=True)
class Configurations:
    """The configurations that have run, run now, or are about to run.

    Attributes:
        ledger: What is remembered of the study's trials and its pipeline.
        ended: The trials that succeeded, failed or were pruned.
        running: The trials that have a configuration but no result yet.
        waiting: The trials that are enqueued and that nobody has begun.
        interrupted: The trials that were cut off; they run again under other numbers.
        forgotten: The trials whose failure no longer counts; they may run again.
    """

    ledger: Ledger
    ended: tuple[FrozenTrial, ...]
    running: tuple[FrozenTrial, ...]
    waiting: Sequence[FrozenTrial]
    interrupted: Sequence[FrozenTrial]
    forgotten: Sequence[FrozenTrial]

    @cached_property
    def begun(self) -> frozenset[tuple[float, ...]]:
        """All configurations that have run or are running, as `identity` gives them."""
        ended = self.ledger.arrays.identities(self.ended)
        running = (identity(trial.params, self.ledger.pipeline) for trial in self.running)
        return frozenset((*ended, *running))

    @cached_property
    def _coming(self) -> frozenset[tuple[float, ...]]:
        """The configurations that will run without being chosen, as `identity` gives them.

        They are those that are enqueued. What was cut off is one of them even before it is: its
        driver closes the trial first, and then enqueues it again.
        """
        pipeline = self.ledger.pipeline
        last_forgotten = {identity(t.params, pipeline): t.number for t in self.forgotten}
        cut_off = {identity(t.params, pipeline): t.number for t in self.interrupted}
        return frozenset(
            [
                *(identity(trial.params, pipeline) for trial in self.waiting),
                *(key for key, number in cut_off.items() if number > last_forgotten.get(key, -1)),
            ]
        )

    def is_new(self, params: Params) -> bool:
        """Whether a configuration has not run, does not run, and is not enqueued to run."""
        key = identity(params, self.ledger.pipeline)
        return not self._has_begun(key) and key not in self._coming

    def _has_begun(self, key: tuple[float, ...]) -> bool:
        with self.ledger.lock:
            if self.ended is self.ledger.ended and self.running is self.ledger.running:
                return self.ledger.has(key)
        return key in self.begun

    @property
    def are_exhausted(self) -> bool:
        """Whether every configuration of a finite space has run or is running."""
        size = self.ledger.pipeline.cube.size
        if size is None or len(self.ended) + len(self.running) < size:
            return False
        return len(self.begun) >= size
