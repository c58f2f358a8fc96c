"""What a long run that was killed goes on from: its trials so far, a line each.

Studies stay in memory, since a storage's writes would count among the seconds of the optimiser.
"""

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from eeipu.benchmarks.problem import Problem
from eeipu.cache import StageCache

__all__ = ["TrialLog"]


class TrialLog:
    """A directory beside a run's file; called after every trial, as a tuner's callback.

    Args:
        folder: The directory, which need not be there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "trials.jsonl"
        self._cache = folder / "cache"
        if self._path.exists():
            # What follows the last newline was cut off while it was written.
            whole, newline, _ = self._path.read_text().rpartition("\n")
            self._path.write_text(whole + newline)

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG002
        """Add a trial that has ended."""
        line = {
            "state": trial.state.name,
            "value": trial.value if trial.state is TrialState.COMPLETE else None,
            "params": trial.params,
            "user_attrs": trial.user_attrs,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def storage(self, problem: Problem) -> InMemoryStorage:
        """A storage with the problem's study as far as it got."""
        storage = InMemoryStorage()
        study = optuna.create_study(
            storage=storage, study_name=problem.name, direction=problem.direction
        )
        study.add_trials(self._trials(problem))
        return storage

    def cache(self, problem: Problem) -> StageCache:
        """The stage outputs of these trials.

        Those of a trial that was cut off are dropped: it has not been charged, and runs again.
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
