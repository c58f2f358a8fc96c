"""Any Optuna sampler together with any Optuna pruner, as a search algorithm on a stage tree."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import TrialState

from eeipu.algorithms.configurations import check_steps
from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.pipeline import suggest
from eeipu.space import Distribution

__all__ = ["OptunaPruning"]


class OptunaPruning:
    """Runs the trials of an Optuna study: its sampler suggests them, its pruner stops them.

    Args:
        study: The study. `StudyRun(minimize=...)` must agree with its direction, and checks it.
        space: The search space to suggest from.
        trials: The number of trials, unless the sampler stops the study earlier.
        max_steps: The number of steps to train a trial that is never pruned.
        every: The number of steps between two reports to the pruner.
        concurrency: The number of trials that wait or run at the same time.

    Raises:
        ConfigurationError: `every` is less than 1, or larger than `max_steps`.

    Attributes:
        minimizes: Whether the study minimises.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Mapping[str, Distribution],
        trials: int,
        max_steps: int,
        every: int,
        concurrency: int = 1,
    ) -> None:
        check_steps(every, max_steps)
        self._study, self._space = study, space
        self._left = trials
        self._max_steps, self._every = max_steps, every
        self._concurrency = concurrency
        self._trials: dict[int, optuna.Trial] = {}
        self._configs: dict[int, dict[str, Any]] = {}
        study._stop_flag = False
        self.minimizes = study.direction is optuna.study.StudyDirection.MINIMIZE
        self._sign = -1.0 if self.minimizes else 1.0

    def start(self) -> list[Move]:
        """Ask for `concurrency` trials, each up to its first report."""
        return [move for _ in range(self._concurrency) for move in self._new()]

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Train the trial further, or end it and begin a new one."""
        mine = self._trials[trial]
        if value is None:
            return self._end(trial, TrialState.FAIL)
        mine.report(self._sign * value, step)
        if step >= self._max_steps:
            return self._end(trial, TrialState.COMPLETE, self._sign * value)
        if mine.should_prune():
            return self._end(trial, TrialState.PRUNED)
        return [Ask(trial, self._configs[trial], min(step + self._every, self._max_steps))]

    def _end(self, trial: int, state: TrialState, value: float | None = None) -> list[Move]:
        with _stoppable(self._study):
            self._study.tell(self._trials.pop(trial), value, state=state)
        return [Stop(trial), *self._new()]

    def _new(self) -> list[Move]:
        if self._left <= 0 or self._study._stop_flag:
            return []
        self._left -= 1
        trial = self._study.ask()
        config = suggest(trial, self._space)
        self._trials[trial.number], self._configs[trial.number] = trial, config
        return [Ask(trial.number, config, self._every)]


@contextmanager
def _stoppable(study: optuna.Study) -> Iterator[None]:
    """Let samplers call `study.stop()`, which Optuna otherwise allows only in its own loop."""
    study._thread_local.in_optimize_loop = True
    try:
        yield
    finally:
        study._thread_local.in_optimize_loop = False
