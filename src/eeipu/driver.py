"""The loop of `Tuner.run`: trials one after another, shown and accounted as they go."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from eeipu.cache import StageCache
from eeipu.errors import SearchOver
from eeipu.execution import PipelineRun, StageCall, StageRun, run_path
from eeipu.history import is_interrupted, spent
from eeipu.pipeline import record_run
from eeipu.progress import Display, Snapshot
from eeipu.studies import driver_name, study_id
from eeipu.trials import Trials

__all__ = ["Driver", "interruptible", "stoppable"]

logger = logging.getLogger("eeipu")

# So many failures in a row, without a success between them, are a bug and not bad luck. Running
# out of memory is no exception: the search leaves a region that fails, so ten in a row mean that
# nearly everything does, because the model is too large or another program holds the GPU.
MAX_FAILURES = 10

# A sampler of the user's own may propose what has run already, which costs nothing where outputs
# are kept: the budget would never end. So many repetitions in a row are no search any more.
MAX_REPEATS = 100


class Driver:
    """One call of `Tuner.run`.

    Args:
        trials: The trials to add to.
        budget: What all of them together may cost.
        cache: Where stage outputs are looked up and kept.
        inputs: What the first stage gets; `upstream`: their digest.
        display: Where to show what goes on.
        interrupted: Set when the user asks to stop after the current stage.
    """

    def __init__(
        self,
        trials: Trials,
        *,
        budget: float,
        cache: StageCache | None,
        inputs: tuple[Any, ...],
        upstream: str,
        display: Display,
        interrupted: threading.Event,
    ) -> None:
        self._trials = trials
        self._budget = budget
        self._cache = cache
        self._inputs = inputs
        self._upstream = upstream
        self._display = display
        self._interrupted = interrupted
        self._name = driver_name()
        self._saved = 0.0
        stages = trials.pipeline.stages
        self._unit = "" if any(stage.cost is not None for stage in stages) else " s"

    def run(self, max_trials: int | None) -> str | None:
        """Run trials until something ends it; the reason, where the user has to know it."""
        failures = repeats = 0
        for _ in count() if max_trials is None else range(max_trials):
            if self._trials.spent >= self._budget or self._trials.study._stop_flag:
                return None
            try:
                run = None if self._interrupted.is_set() else self._run_trial()
            except SearchOver as end:
                return f"stopped: {end}"
            except UpdateFinishedTrialError as error:
                logger.warning("a trial was taken over by another driver: %s", error)
                continue
            if run is None:
                return self.how_to_resume()
            failures = failures + 1 if run.error is not None else 0
            repeats = repeats + 1 if all(run.memoized) else 0
            if failures == MAX_FAILURES:
                return (
                    f"stopped: {MAX_FAILURES} trials in a row have failed. The last error, in "
                    f"stage {run.stage_runs[-1].name!r}:\n{run.error}"
                )
            if repeats == MAX_REPEATS:
                return (
                    f"stopped: the last {MAX_REPEATS} trials were configurations that had run "
                    f"before. Widen the space, or choose another method than "
                    f"{type(self._trials.study.sampler).__name__}."
                )
        return None

    def how_to_resume(self) -> str:
        """What Ctrl-C has left, in a sentence for the user."""
        study = self._trials.study
        where = "" if self._unit == "" else " seconds"
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

    def _run_trial(self) -> PipelineRun | None:
        """Run one trial; `None` if it was interrupted between two stages."""
        trials, cache = self._trials, self._cache
        self._show("choosing a configuration")
        trial, params = trials.begin(cache, self._name)
        try:
            calls = trials.pipeline.calls(params, self._upstream)
            run = self._run_stages(trial, calls)
        except BaseException:
            trials.interrupt(trial)
            raise
        if run is None:
            trials.interrupt(trial)
            return None
        kept_before = trials.keys_to_go_on_with()
        record_run(trial, calls, run)
        self._saved += run.saved
        try:
            trials.end(trial, run.value)
        finally:  # a callback may raise
            if cache is not None:
                self._keep_best(cache, kept_before | {call.key for call in calls})
        self._show("", trial.number, run.stage_runs, run.value, ended=True)
        return run

    def _keep_best(self, cache: StageCache, keys: set[str]) -> None:
        """Drop those of the keys that do not belong to the best trials, and pin those that do."""
        best = self._trials.keys_to_go_on_with()
        study = self._trials.study
        is_stored = not isinstance(study._storage, InMemoryStorage)
        try:
            cache.holders.pin(study_id(study), best, lasting=is_stored)
            cache.discard(keys - best)
        except Exception as error:  # file systems raise errors of their own
            warnings.warn(
                f"the stage outputs that are not needed any more could not be dropped from "
                f"{cache!r}: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _run_stages(self, trial: optuna.Trial, calls: Sequence[StageCall]) -> PipelineRun | None:
        """Run the stages one by one, with the account up to date after each."""
        trial.set_user_attr("stage_keys", [call.key for call in calls])
        pipeline = self._trials.pipeline
        runs: list[StageRun] = []
        _record_account(trial, pipeline.join(runs))
        if self._interrupted.is_set():
            return None
        self._show(f"running {calls[0].stage.name}", trial.number)
        for run in run_path(calls, self._inputs, self._cache):
            runs.append(run)
            if run.error is not None or len(runs) == len(calls):
                continue  # nothing follows
            runs[-1] = replace(run, output=None)  # the next stage has it; let go of it here
            if run.charged > 0 or not run.memoized:
                _record_account(trial, pipeline.join(runs))
            if self._interrupted.is_set():
                return None
            self._show(f"running {calls[len(runs)].stage.name}", trial.number, runs)
        return pipeline.join(runs)

    def _show(
        self,
        activity: str,
        number: int | None = None,
        runs: Sequence[StageRun] = (),
        value: float | None = None,
        *,
        ended: bool = False,
    ) -> None:
        study = self._trials.study
        trials = study.get_trials(deepcopy=False)
        values = [t.values[0] for t in trials if t.state is TrialState.COMPLETE]
        better = max if study.direction is optuna.study.StudyDirection.MAXIMIZE else min
        snapshot = Snapshot(
            study_name=study.study_name,
            trials=len(values),
            failed=sum(t.state is TrialState.FAIL and not is_interrupted(t) for t in trials),
            budget=self._budget,
            spent=spent(trials),
            saved=self._saved,
            unit=self._unit,
            best_value=better(values, default=None),
            number=len(trials) if number is None else number,
            value=value,
            stage_names=self._trials.pipeline.stage_names,
            stage_runs=tuple(runs),
            activity=activity,
        )
        (self._display.trial_ended if ended else self._display.update)(snapshot)


def _record_account(trial: optuna.Trial, run: PipelineRun) -> None:
    """Write what has been spent so far, which stays on the account if the process dies."""
    trial.set_user_attr("stage_costs", run.stage_costs)
    trial.set_user_attr("memoized", run.memoized)
    trial.set_user_attr("charged", run.charged)


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, and let the second one through.

    Only the main thread gets signals; elsewhere the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(*_: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        logger.warning("stopping after the current stage; press Ctrl-C again to stop at once")

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def stoppable(study: optuna.Study) -> Iterator[None]:
    """Let samplers and callbacks call `study.stop()`, which Optuna allows in its own loop only."""
    study._stop_flag = False
    study._thread_local.in_optimize_loop = True
    try:
        yield
    finally:
        study._thread_local.in_optimize_loop = False
