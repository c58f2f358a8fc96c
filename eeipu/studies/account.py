"""What `Tuner.run` writes down: the account of each trial, what is kept of it, what is shown."""

import math
import time
import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from eeipu.cache import StageCache
from eeipu.methods.history import is_interrupted, spent
from eeipu.pipeline import record_run
from eeipu.stages.calls import Clock, StageCall
from eeipu.stages.runs import PipelineRun, StageRun
from eeipu.studies.progress import Display, Snapshot
from eeipu.studies.study import study_id
from eeipu.studies.trials import Trials

__all__ = ["Ledger"]

# So many failures in a row, without a success between them, are a bug and not bad luck. Running
# out of memory is no exception: the search leaves a region that fails, so ten in a row mean that
# nearly everything does, because the model is too large or another program holds the GPU.
MAX_FAILURES = 10

# A sampler of the user's own may propose what has run already, which costs nothing where outputs
# are kept: the budget would never end. So many repetitions in a row are no search any more.
MAX_REPEATS = 100

# Where many workers are busy, a snapshot, which reads all trials, is made only so often.
MANY_WORKERS = 16
SHOWN_EVERY_S = 0.25


class Ledger:
    """The account of one call of `Tuner.run`.

    Args:
        trials: The trials to write into.
        budget: What all of them together may cost.
        cache: Where stage outputs are kept.
        display: Where to show what goes on.
        workers: How many stages run at once.
        clock: Seconds that only grow.

    Attributes:
        unit: What follows an amount of cost: `" s"`, or nothing where costs are declared.
    """

    def __init__(
        self,
        trials: Trials,
        *,
        budget: float,
        cache: StageCache | None,
        display: Display,
        workers: int = 1,
        clock: Clock = time.monotonic,
    ) -> None:
        self._trials = trials
        self._budget = budget
        self._cache = cache
        self._display = display
        self._pause_s = SHOWN_EVERY_S if workers >= MANY_WORKERS else 0.0
        self._clock = clock
        self._shown = -math.inf
        self._kept: set[str] = set() if cache is None else trials.keys_to_go_on_with()
        self._saved = 0.0
        self._failures = self._repeats = 0
        stages = trials.pipeline.stages
        self.unit = "" if any(stage.cost is not None for stage in stages) else " s"

    def record(self, trial: optuna.Trial, runs: Sequence[StageRun], lost: float = 0.0) -> None:
        """Write what a trial has spent so far, which stays on the account if this process dies.

        Args:
            trial: The trial.
            runs: What became of its first stages.
            lost: What was spent besides, on calls that came to nothing.
        """
        run = self._trials.pipeline.join(runs)
        trial.set_user_attr("stage_costs", run.stage_costs)
        trial.set_user_attr("memoized", run.memoized)
        trial.set_user_attr("charged", math.fsum([run.charged, lost]))

    def close(
        self, trial: optuna.Trial, calls: Sequence[StageCall], runs: Sequence[StageRun]
    ) -> str | None:
        """End a trial; the reason to stop the search, if it is one."""
        run = self._trials.pipeline.join(runs)
        record_run(trial, calls, run)
        self._saved += run.saved
        self._trials.end(trial, run.value)
        if self._display.shows_ends:
            self._display.trial_ended(self._snapshot("", trial.number, run.stage_runs, run.value))
        return self._verdict(run)

    def _verdict(self, run: PipelineRun) -> str | None:
        self._failures = self._failures + 1 if run.error is not None else 0
        self._repeats = self._repeats + 1 if all(run.memoized) else 0
        if self._failures >= MAX_FAILURES:
            return (
                f"stopped: {MAX_FAILURES} trials in a row have failed. The last error, in "
                f"stage {run.stage_runs[-1].name!r}:\n{run.error}"
            )
        if self._repeats >= MAX_REPEATS:
            return (
                f"stopped: the last {MAX_REPEATS} trials were configurations that had run "
                f"before. Widen the space, or choose another method than "
                f"{type(self._trials.study.sampler).__name__}."
            )
        return None

    def keep_best(self, keys: set[str]) -> None:
        """Drop those of the keys that do not belong to the best trials, and pin those that do.

        What earlier best trials needed goes with them.
        """
        if self._cache is None:
            return
        best = self._trials.keys_to_go_on_with()
        unwanted, self._kept = (keys | self._kept) - best, best
        study = self._trials.study
        is_stored = not isinstance(study._storage, InMemoryStorage)
        try:
            self._cache.holders.pin(study_id(study), best, lasting=is_stored)
            self._cache.discard(unwanted)
        except Exception as error:  # file systems raise errors of their own
            warnings.warn(
                f"the stage outputs that are not needed any more could not be dropped from "
                f"{self._cache!r}: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )

    def how_to_resume(self) -> str:
        """What Ctrl-C has left, in a sentence for the user."""
        study = self._trials.study
        where = "" if self.unit == "" else " seconds"
        left = f"stopped by Ctrl-C with {self._budget - self._trials.spent:.4g}{where} left"
        if isinstance(study._storage, InMemoryStorage):
            return (
                f"{left}. Nothing is lost while this process lives: call run(...) again to go on. "
                f"With storage=... a study outlives its process."
            )
        lost = self._cache is not None and self._cache.location is None
        outputs = ", without the stage outputs, which were kept in memory" if lost else ""
        return (
            f"{left}. Nothing is lost: call run(...) again, or run the same script on the same "
            f"storage (study {study.study_name!r}){outputs}, to go on."
        )

    def show(
        self,
        activity: Callable[[], str],
        number: int | None = None,
        runs: Sequence[StageRun] = (),
    ) -> None:
        """Show what goes on, and how far a trial is, unless that was shown just now."""
        if self._display.shows_updates and self._clock() - self._shown >= self._pause_s:
            self._display.update(self._snapshot(activity(), number, runs))
            self._shown = self._clock()

    def _snapshot(
        self,
        activity: str,
        number: int | None,
        runs: Sequence[StageRun],
        value: float | None = None,
    ) -> Snapshot:
        study = self._trials.study
        trials = study.get_trials(deepcopy=False)
        values = [t.values[0] for t in trials if t.state is TrialState.COMPLETE]
        better = max if study.direction is optuna.study.StudyDirection.MAXIMIZE else min
        return Snapshot(
            study_name=study.study_name,
            trials=len(values),
            failed=sum(t.state is TrialState.FAIL and not is_interrupted(t) for t in trials),
            budget=self._budget,
            spent=spent(trials),
            saved=self._saved,
            unit=self.unit,
            best_value=better(values, default=None),
            number=len(trials) if number is None else number,
            value=value,
            stage_names=self._trials.pipeline.stage_names,
            stage_runs=tuple(runs),
            activity=activity,
        )
