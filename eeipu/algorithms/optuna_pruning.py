"""Optuna's pruners and samplers as clients of a plan."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import TrialState

from eeipu.algorithms.full_training import check_steps
from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.pipeline import suggest
from eeipu.space import Distribution

__all__ = ["OptunaPruning"]


class OptunaPruning:
    """Trials of an Optuna study, which its sampler suggests and its pruner stops.

    Args:
        study: The study, which maximises or minimises as its direction says; run it with
            `StudyRun(minimize=...)` to match, which checks that.
        space: What to suggest.
        trials: How many trials, unless the sampler stops the study before.
        max_steps: How far the best are trained.
        every: How many steps lie between two reports to the pruner.
        concurrency: How many trials to have waiting or running.

    Attributes:
        minimizes: Whether the study does.
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
        """As many trials as may run at once, up to the first report."""
        return [move for _ in range(self._concurrency) for move in self._new()]

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """The trial goes on, or ends and another begins."""
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
    """Let samplers call `study.stop()`, which Optuna allows in its own loop only."""
    study._thread_local.in_optimize_loop = True
    try:
        yield
    finally:
        study._thread_local.in_optimize_loop = False
