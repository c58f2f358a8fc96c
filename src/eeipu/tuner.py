"""The loop: ask for a configuration, run it, tell what it gave and cost, until the budget ends."""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from eeipu.cache import IN_MEMORY, InMemory, StageCache
from eeipu.errors import ConfigurationError, PipelineError, SpaceExhausted
from eeipu.execution import PipelineRun, StageCall, StageRun, run_path
from eeipu.history import History, is_interrupted, spent
from eeipu.keys import inputs_key
from eeipu.pipeline import Pipeline, record_run, suggest
from eeipu.progress import Display, Snapshot, showing
from eeipu.sampler import DEFAULT_N_INITIAL, EEIPUSampler, check_budget
from eeipu.space import Params
from eeipu.studies import (
    Direction,
    driver_name,
    enqueue_again,
    open_study,
    reclaim_dead_trials,
    same_inputs,
)

__all__ = ["Suggestion", "Tuner"]

logger = logging.getLogger("eeipu")

Callback = Callable[[optuna.Study, optuna.trial.FrozenTrial], None]

# So many failures in a row, without a success between them, are a bug and not bad luck.
MAX_FAILURES = 10


@dataclass(frozen=True)
class Suggestion:
    """A configuration to evaluate.

    Attributes:
        number: The trial's number in the study.
        params: The configuration, `"stage.param"` -> value.
        memoized: For each stage, whether the tuner counts on its output being kept.
    """

    number: int
    params: dict[str, Any]
    memoized: tuple[bool, ...]


class Tuner:
    """Spends a budget on the configurations of a pipeline that promise the most for it.

    Args:
        pipeline: What to tune.
        budget: What all trials together may cost, warm-up included: seconds, or the unit of
            the declared costs. The trial that exceeds it is finished, and is the last.
        direction: `"maximize"` or `"minimize"`.
        method: A name in `eeipu.methods.METHODS`, or any Optuna sampler.
        top_q: The outputs of this many best trials are kept and offered for reuse.
        n_initial: Trials of the warm-up design, 10 by default. Enqueued trials count.
        cache: Where stage outputs are kept; by default in memory, within a quarter of what is
            free. `None` turns memoization off.
        storage: Anything Optuna takes: a URL, a storage object, `None` for memory. The same
            call on the same storage goes on with the study.
        study_name: The study's name in the storage; defaults to the pipeline's.
        seed: Makes the search repeatable.
        executor: Not available yet; stages run in this process.
        max_parallel: Not available yet; one trial runs at a time.
        callbacks: Called as `callback(study, trial)` after every trial.

    Raises:
        ConfigurationError: An argument is out of range, or the storage's study belongs to
            another pipeline (`StudyMismatchError`).

    Attributes:
        study: The Optuna study.
        n_initial: Trials of the warm-up design.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        budget: float,
        direction: Direction = "maximize",
        method: str | BaseSampler = "eeipu",
        top_q: int = 5,
        n_initial: int | None = None,
        cache: StageCache | InMemory | None = IN_MEMORY,
        storage: str | BaseStorage | None = None,
        study_name: str | None = None,
        seed: int | None = None,
        executor: None = None,
        max_parallel: int = 1,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        if direction not in ("maximize", "minimize"):
            raise ConfigurationError(
                f'direction must be "maximize" or "minimize", but got {direction!r}.'
            )
        if executor is not None or max_parallel != 1:
            raise ConfigurationError(
                f"parallel tuning is not available yet: leave executor=None and max_parallel=1 "
                f"(got {executor!r} and {max_parallel!r})."
            )
        if not pipeline.space:
            raise PipelineError(
                f"{pipeline!r} has nothing to tune; give a stage a space with @stage(space=...)."
            )
        self.pipeline = pipeline
        self.budget = check_budget(budget)
        self.top_q = top_q
        self.n_initial = DEFAULT_N_INITIAL if n_initial is None else n_initial
        self.cache = StageCache.in_memory() if isinstance(cache, InMemory) else cache
        self.callbacks = tuple(callbacks)
        self._sampler = (
            method
            if isinstance(method, BaseSampler)
            else EEIPUSampler(
                pipeline,
                budget=budget,
                top_q=top_q,
                n_initial=n_initial,
                method=method,
                seed=seed,
            )
        )
        self.study = open_study(
            pipeline,
            direction=direction,
            sampler=self._sampler,
            storage=storage,
            study_name=study_name,
        )
        self._asked: dict[int, optuna.Trial] = {}

    @property
    def spent(self) -> float:
        """What the budget has paid so far."""
        return spent(self.study.get_trials(deepcopy=False))

    @property
    def remaining(self) -> float:
        """What is left of the budget; never negative."""
        return max(0.0, self.budget - self.spent)

    def enqueue(self, params: Params) -> None:
        """Have a configuration evaluated first, as part of the warm-up.

        One that the study has seen already is passed over, so that a script can run again.

        Raises:
            SpaceError: It does not lie in the pipeline's space.
        """
        stored = self.pipeline.cube.canonical(params)
        self.study.enqueue_trial(stored, user_attrs={"warm_up": True}, skip_if_exists=True)

    def ask(self) -> Suggestion:
        """The next configuration, for those who run the stages themselves.

        The stage outputs are the caller's: those of the `top_q` best trials told so far are
        counted on being kept (all others may be thrown away), unless `cache` is `None`.

        Raises:
            SpaceExhausted: Every configuration has been evaluated or is running.
        """
        kept: set[str] = set() if self.cache is None else self._top_keys()
        trial, params = self._begin(kept)
        keys = [call.key for call in self.pipeline.calls(params)]
        trial.set_user_attr("stage_keys", keys)
        depth = max((k + 1 for k, key in enumerate(keys) if key in kept), default=0)
        self._asked[trial.number] = trial
        return Suggestion(
            trial.number, params, (True,) * depth + (False,) * (len(keys) - depth)
        )

    def tell(
        self,
        suggestion: Suggestion,
        value: float | None = None,
        *,
        stage_costs: Sequence[float | None] | None = None,
        failed: bool = False,
    ) -> None:
        """Report what a suggestion gave and cost.

        Args:
            suggestion: What `ask` returned, in this process or an earlier one.
            value: The objective. One that is not finite makes the trial a failure.
            stage_costs: The cost of each stage; `None` for a stage that was reused or not
                reached. Left out: declared costs, where the pipeline has them; else the seconds
                since `ask` are charged, and nothing is learnt about stages.
            failed: Whether the evaluation failed.

        Raises:
            ConfigurationError: The trial has been told already, or an argument does not fit.
        """
        failed = failed or (value is not None and not math.isfinite(value))
        if value is None and not failed:
            raise ConfigurationError(
                f"trial {suggestion.number} was told neither a value nor failed=True."
            )
        trial = self._told_trial(suggestion)
        costs, charged = self._told_costs(suggestion, trial, stage_costs)
        trial.set_user_attr("stage_costs", costs)
        trial.set_user_attr("memoized", [cost is None for cost in costs])
        trial.set_user_attr("charged", charged)
        if failed:
            trial.set_user_attr("error", f"told as failed, with the value {value!r}")
        self._end(trial, None if failed else value)
        self._asked.pop(suggestion.number, None)

    def run(
        self, *inputs: Any, max_trials: int | None = None, progress: bool = True
    ) -> optuna.Study:
        """Tune until the budget is spent, or nothing is left to try.

        A stage that fails makes a failed trial and the search goes on; after ten failures in a
        row it stops. Ctrl-C stops after the current stage, a second one at once; nothing that
        was computed is lost, and the same call goes on from there.

        Args:
            inputs: What the first stage gets.
            max_trials: At most so many trials in this call; `None`: no limit but the budget.
            progress: Whether to show what goes on: live on a terminal, as log lines elsewhere.

        Returns:
            The study: `study.best_params`, `study.trials_dataframe()`, Optuna's plots.

        Raises:
            PipelineError: The pipeline cannot run on these inputs.
        """
        self.pipeline.check_inputs(inputs)
        for stage in self.pipeline.stages:
            stage.fingerprint  # noqa: B018 - code that cannot be fingerprinted is told now
        upstream = inputs_key(inputs)
        same_inputs(self.study, upstream)
        reclaim_dead_trials(self.study)
        with showing(progress) as display, _interruptible() as interrupted:
            driver = _Driver(self, inputs, upstream, display, interrupted)
            reason = driver.run(max_trials)
        if reason is not None:
            logger.warning("%s", reason)
        return self.study

    def _begin(self, kept: Container[str]) -> tuple[optuna.Trial, dict[str, Any]]:
        """Start a trial with the sampler's next configuration."""
        if isinstance(self._sampler, EEIPUSampler):
            self._sampler.cache = kept
        if History.of(self.study, self.pipeline).is_exhausted:
            raise SpaceExhausted(
                f"all {self.pipeline.cube.size} configurations of {self.pipeline.name!r} have "
                f"been evaluated or are running; widen the space to go on."
            )
        start = time.perf_counter()
        trial = self.study.ask()
        params = suggest(trial, self.pipeline.space)
        trial.set_user_attr("suggest_s", time.perf_counter() - start)
        return trial, params

    def _end(self, trial: optuna.Trial, value: float | None) -> None:
        """Close a trial: with a value, or as failed."""
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        frozen = self.study.tell(trial, value, state=state)
        for callback in self.callbacks:
            callback(self.study, frozen)

    def _top_keys(self) -> set[str]:
        """The content keys of the outputs that the best trials' prefixes consist of."""
        memoized = [stage.memoize for stage in self.pipeline.stages]
        return {
            key
            for trial in History.of(self.study, self.pipeline).top(self.top_q)
            for key, memoize in zip(trial.user_attrs.get("stage_keys", []), memoized, strict=False)
            if memoize
        }

    def _told_trial(self, suggestion: Suggestion) -> optuna.Trial:
        """The running trial of a suggestion, which an earlier process may have begun."""
        if suggestion.number in self._asked:
            return self._asked[suggestion.number]
        for trial in self.study.get_trials(deepcopy=False):
            if trial.number == suggestion.number and trial.state is TrialState.RUNNING:
                return optuna.Trial(self.study, trial._trial_id)
        raise ConfigurationError(
            f"trial {suggestion.number} is not running: it has been told already, or belongs to "
            f"another study than {self.study.study_name!r}."
        )

    def _told_costs(
        self,
        suggestion: Suggestion,
        trial: optuna.Trial,
        stage_costs: Sequence[float | None] | None,
    ) -> tuple[list[float | None], float]:
        """The stage costs to record, and what to charge."""
        stages = self.pipeline.stages
        if stage_costs is None:
            calls = self.pipeline.calls(suggestion.params)
            reused = suggestion.memoized
            stage_costs = [
                None if free else call.stage.declared_cost(call.params)
                for call, free in zip(calls, reused, strict=True)
            ]
            if any(c is None and not free for c, free in zip(stage_costs, reused, strict=True)):
                assert trial.datetime_start is not None
                elapsed = datetime.now() - trial.datetime_start  # noqa: DTZ005 - as Optuna's
                return [None] * len(stages), elapsed.total_seconds()
        costs = [None if cost is None else float(cost) for cost in stage_costs]
        if len(costs) != len(stages):
            raise ConfigurationError(
                f"stage_costs must have one entry for each of the {len(stages)} stages "
                f"{list(self.pipeline.stage_names)}, but got {len(costs)}: {costs}."
            )
        for name, cost in zip(self.pipeline.stage_names, costs, strict=True):
            if cost is not None and not (math.isfinite(cost) and cost >= 0):
                raise ConfigurationError(
                    f"the cost of stage {name!r} must be finite and not negative, or None where "
                    f"it was reused, but got {cost!r}."
                )
        return costs, math.fsum(cost for cost in costs if cost is not None)


class _Driver:
    """One call of `Tuner.run`: trials one after another, shown and accounted as they go."""

    def __init__(
        self,
        tuner: Tuner,
        inputs: tuple[Any, ...],
        upstream: str,
        display: Display,
        interrupted: threading.Event,
    ) -> None:
        self._tuner = tuner
        self._inputs = inputs
        self._upstream = upstream
        self._display = display
        self._interrupted = interrupted
        self._name = driver_name()
        self._saved = 0.0

    def run(self, max_trials: int | None) -> str | None:
        """Run trials until something ends it; the reason, where the user has to know it."""
        failures = 0
        for _ in count() if max_trials is None else range(max_trials):
            if self._tuner.remaining <= 0:
                return None
            try:
                run = self._run_trial()
            except SpaceExhausted as end:
                return f"stopped: {end}"
            if run is None:
                return (
                    f"stopped by Ctrl-C with {self._tuner.remaining:.4g} of the budget left; "
                    f"everything computed is kept, and {self._how_to_resume()} goes on from here."
                )
            failures = failures + 1 if run.error is not None else 0
            if failures == MAX_FAILURES:
                return (
                    f"stopped: {MAX_FAILURES} trials in a row have failed. The last error, in "
                    f"stage {run.stage_runs[-1].name!r}:\n{run.error}"
                )
        return None

    def _how_to_resume(self) -> str:
        study, cache = self._tuner.study, self._tuner.cache
        in_memory = isinstance(study._storage, optuna.storages.InMemoryStorage)
        if in_memory or (cache is not None and cache.location is None):
            return "calling run(...) again in this process"
        return f"the same call on the same storage (study {study.study_name!r})"

    def _run_trial(self) -> PipelineRun | None:
        """Run one trial; `None` if it was interrupted between two stages."""
        tuner = self._tuner
        self._show("choosing a configuration")
        trial, params = tuner._begin(() if tuner.cache is None else tuner.cache)
        trial.set_user_attr("driver", self._name)
        calls = tuner.pipeline.calls(params, self._upstream)
        kept_before = tuner._top_keys()
        try:
            run = self._run_stages(trial, calls)
        except BaseException:
            self._interrupt(trial)
            raise
        if run is None:
            self._interrupt(trial)
            return None
        record_run(trial, calls, run)
        tuner._end(trial, run.value)
        self._saved += run.saved
        if tuner.cache is not None:
            mine = {call.key for call in calls}
            tuner.cache.discard((kept_before | mine) - tuner._top_keys())
        self._show("", trial.number, run.stage_runs, run.value, ended=True)
        return run

    def _run_stages(
        self, trial: optuna.Trial, calls: Sequence[StageCall]
    ) -> PipelineRun | None:
        tuner = self._tuner
        trial.set_user_attr("stage_keys", [call.key for call in calls])
        self._show(f"running {calls[0].stage.name}", trial.number)
        runs: list[StageRun] = []
        for run in run_path(calls, self._inputs, tuner.cache):
            is_last = len(runs) + 1 == len(calls) or run.error is not None
            if is_last:
                runs.append(run)
                break
            runs.append(replace(run, output=None))  # the next stage has it; let go of it here
            if run.memoized and run.output is None:
                continue
            partial = tuner.pipeline.join(runs)
            trial.set_user_attr("stage_costs", partial.stage_costs)
            trial.set_user_attr("charged", partial.charged)
            if self._interrupted.is_set():
                return None
            self._show(f"running {calls[len(runs)].stage.name}", trial.number, runs)
        return tuner.pipeline.join(runs)

    def _interrupt(self, trial: optuna.Trial) -> None:
        """Close a trial that was cut off, and have it run again first."""
        study = self._tuner.study
        frozen = study.tell(trial, state=TrialState.FAIL)
        enqueue_again(study, frozen)

    def _show(
        self,
        activity: str,
        number: int | None = None,
        runs: Sequence[StageRun] = (),
        value: float | None = None,
        *,
        ended: bool = False,
    ) -> None:
        tuner = self._tuner
        trials = tuner.study.get_trials(deepcopy=False)
        done = [t for t in trials if t.state is TrialState.COMPLETE]
        failed = [t for t in trials if t.state is TrialState.FAIL and not is_interrupted(t)]
        snapshot = Snapshot(
            study_name=tuner.study.study_name,
            trials=len(done),
            failed=len(failed),
            budget=tuner.budget,
            spent=spent(trials),
            saved=self._saved,
            best_value=tuner.study.best_value if done else None,
            number=len(trials) if number is None else number,
            value=value,
            stage_names=tuner.pipeline.stage_names,
            stage_runs=runs,
            activity=activity,
        )
        (self._display.trial_ended if ended else self._display.update)(snapshot)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, and let the second one through.

    Only the main thread gets signals; elsewhere the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(signum: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        logger.warning("stopping after the current stage; press Ctrl-C again to stop at once")

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
