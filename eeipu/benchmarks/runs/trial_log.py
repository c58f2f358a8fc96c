"""The log from which a long run is resumed after it was killed: one line for each finished trial.

The study itself stays in memory, because the time that a storage takes to write would count as
time of the optimiser.
"""

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from eeipu.benchmarks.problem import Problem
from eeipu.cache import StageCache
from eeipu.methods.budget import PAID_BY

__all__ = ["TrialLog"]


class TrialLog:
    """The trials and stage outputs of an unfinished run; a callback of the tuner.

    Args:
        folder: The directory of the log, beside the result file; it is made if necessary.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "trials.jsonl"
        self._cache = folder / "cache"
        if self._path.exists():
            # A kill during a write leaves an incomplete last line.
            whole, newline, _ = self._path.read_text().rpartition("\n")
            self._path.write_text(whole + newline)

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG002
        """Append a trial that has ended."""
        line = {
            "state": trial.state.name,
            "value": trial.value if trial.state is TrialState.COMPLETE else None,
            "params": trial.params,
            # The study that goes on with these trials has paid for them, whatever its name.
            "user_attrs": {n: v for n, v in trial.user_attrs.items() if n != PAID_BY},
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def storage(self, problem: Problem) -> InMemoryStorage:
        """An in-memory storage with the study of the problem and all logged trials."""
        storage = InMemoryStorage()
        study = optuna.create_study(
            storage=storage, study_name=problem.name, direction=problem.direction
        )
        study.add_trials(self._trials(problem))
        return storage

    def cache(self, problem: Problem) -> StageCache:
        """The cache with the stage outputs of the logged trials.

        The outputs of a trial that was cut off are dropped: it was not charged, and it runs again.
        """
        cache = StageCache(self._cache)
        trials = self._trials(problem)
        cache.retain({key for trial in trials for key in trial.user_attrs.get("stage_keys", ())})
        return cache

    def _trials(self, problem: Problem) -> list[FrozenTrial]:
        if not self._path.exists():
            return []
        return [_trial(json.loads(line), problem) for line in self._path.read_text().splitlines()]


def _trial(line: dict[str, Any], problem: Problem) -> FrozenTrial:
    return create_trial(
        state=TrialState[line["state"]],
        value=line["value"],
        params=line["params"],
        distributions=problem.pipeline.space,
        user_attrs=line["user_attrs"],
    )
