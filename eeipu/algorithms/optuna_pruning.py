"""Any Optuna sampler together with any Optuna pruner, as a search algorithm on a stage tree."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import TrialState

from eeipu.algorithms.configurations import check_steps
from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.space import Distribution, suggest
from eeipu.stages.running.trial_notes import written_together

__all__ = ["OptunaPruning"]


class OptunaPruning:
    """Runs the trials of an Optuna study: its sampler suggests them, its pruner stops them.

    A trial names its process, in the user attribute `"driver"`. When the same study is run again,
    trials that a process left running when it died go on after their last report.

    Args:
        study: The study. `StudyRun(minimize=...)` must agree with its direction, and checks it.
        space: The search space to suggest from.
        trials: The number of trials, unless the sampler stops the study earlier. Those that
            earlier runs on this study have begun are counted.
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
        self._count, self._left = trials, trials
        self._max_steps, self._every = max_steps, every
        self._concurrency = concurrency
        self._trials: dict[int, optuna.Trial] = {}
        self._configs: dict[int, dict[str, Any]] = {}
        self._reported: dict[int, int] = {}  # the last step of trials that were taken over
        study._stop_flag = False
        self.minimizes = study.direction is optuna.study.StudyDirection.MINIMIZE
        self._sign = -1.0 if self.minimizes else 1.0

    def start(self) -> list[Move]:
        """Ask for `concurrency` trials, each up to its next report."""
        again = self._taken_over()
        self._left = self._count - sum(
            "driver" in trial.user_attrs and "interrupted" not in trial.user_attrs
            for trial in self._study.get_trials(deepcopy=False)
        )
        free = max(0, self._concurrency - len(again))
        return [*again, *(move for _ in range(free) for move in self._new())]

    def _taken_over(self) -> list[Move]:
        """Go on with the trials that a process has left running, or this one before."""
        moves: list[Move] = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            driver = trial.user_attrs.get("driver")
            if driver is None:
                continue
            is_own = driver == str(ProcessIdentity.here())
            if not is_own and ProcessIdentity.parse(driver).is_alive() is not False:
                continue
            mine = optuna.Trial(self._study, trial._trial_id)
            if not trial.params.keys() >= self._space.keys():  # it died while it chose
                mine.set_user_attr("interrupted", True)
                self._study.tell(mine, state=TrialState.FAIL)
                continue
            mine.set_user_attr("driver", str(ProcessIdentity.here()))
            config = {name: trial.params[name] for name in self._space}
            self._trials[trial.number], self._configs[trial.number] = mine, config
            step = self._reported[trial.number] = trial.last_step or 0
            moves.append(Ask(trial.number, config, min(step + self._every, self._max_steps)))
        return moves

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Train the trial further, or end it and begin a new one."""
        mine = self._trials[trial]
        if value is None:
            return self._end(trial, TrialState.FAIL)
        if step > self._reported.get(trial, 0):
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
        trial.set_user_attr("driver", str(ProcessIdentity.here()))
        with written_together(trial):
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
