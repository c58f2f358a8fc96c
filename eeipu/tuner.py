"""The tuner: ask for a configuration, run it, tell what it gave and cost, until the budget ends."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from numbers import Integral, Real
from typing import Any

import optuna
import torch
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from eeipu.cache import IN_MEMORY, InMemory, StageCache
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.executors.pool import Pool
from eeipu.fingerprints.keys import inputs_key
from eeipu.pipeline import Pipeline
from eeipu.sampler import DEFAULT_N_INITIAL, EEIPUSampler, check_budget, check_price
from eeipu.space import Params
from eeipu.stages.declaration import look_again
from eeipu.studies.driver import Driver, interruptible, stoppable
from eeipu.studies.progress import showing
from eeipu.studies.study import Direction, open_study, reclaim_dead_trials, same_code, same_inputs
from eeipu.studies.trials import Callback, Trials
from eeipu.studies.worker_pool import (
    ExecutorLike,
    check_executor,
    needs_directory,
    open_pool,
    temporary_cache,
)

__all__ = ["Suggestion", "Tuner"]

logger = logging.getLogger("eeipu")


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
            the declared costs. The trial that exceeds it is finished, and is the last;
            so are all that run beside it.
        direction: `"maximize"` or `"minimize"`.
        method: A name in `eeipu.methods.catalogue.METHODS`, or any Optuna sampler.
        top_q: The outputs of this many best trials are kept and offered for reuse.
        n_initial: Trials of the warm-up design, 10 by default. Enqueued trials count.
        cache: Where stage outputs are kept; by default in memory (for workers in other processes,
            in a temporary directory on this machine), within a quarter of what is free. `None`
            turns memoization off.
        storage: Anything Optuna takes: a URL, a storage object, `None` for memory. The same
            call on the same storage goes on with the study.
        study_name: The study's name in the storage; defaults to the pipeline's.
        seed: Makes the search repeatable.
        price: What a unit of cost is worth, in the unit of the objective. Once no candidate's
            expected improvement is worth its expected cost, the search ends. `None`: the budget is
            to be spent.
        device: Where the models are fitted, `"cpu"` or a GPU such as `"cuda"`; see `EEIPUSampler`.
        executor: Where stages run: `"processes"` on this machine, `"threads"` of this process, any
            `concurrent.futures.Executor`, or a function that makes one, which is called again when
            a worker's death has broken it; or a pool of eeipu's, which knows its own size (see
            `eeipu.executors.simulated_pool`). `None` is this thread, or processes where
            `max_parallel` is more than one.
        max_parallel: How many stage calls run at once.
        callbacks: Called as `callback(study, trial)` after every trial; one that calls
            `study.stop()` ends `run`.

    Raises:
        ConfigurationError: An argument is out of range, or the storage's study belongs to
            another pipeline (`StudyMismatchError`).

    Attributes:
        study: The Optuna study.
        n_initial: Trials of the warm-up design.
        was_interrupted: Whether Ctrl-C ended the last `run`.
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
        price: float | None = None,
        device: str | torch.device | None = None,
        executor: ExecutorLike | None = None,
        max_parallel: int = 1,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        _check_pipeline(pipeline)
        _check_cache(cache)
        if direction not in ("maximize", "minimize"):
            raise ConfigurationError(
                f'direction must be "maximize" or "minimize", but got {direction!r}.'
            )
        check_executor(executor)
        if price is not None and isinstance(method, BaseSampler):
            raise ConfigurationError(
                f"a price needs one of eeipu's methods, which model the objective and its cost; "
                f"{type(method).__name__} does not."
            )
        if device is not None and isinstance(method, BaseSampler):
            raise ConfigurationError(
                f"a device needs one of eeipu's methods, whose models are fitted there; "
                f"{type(method).__name__} fits its own, but got device={device!r}."
            )
        self.pipeline = pipeline
        self.budget = check_budget(budget)
        self.top_q = _check_count("top_q", top_q, 1)
        self.n_initial = _check_count(
            "n_initial", DEFAULT_N_INITIAL if n_initial is None else n_initial, 1
        )
        self._executor = executor
        self._max_parallel = _check_count("max_parallel", max_parallel, 1)
        if isinstance(cache, InMemory):
            is_shared = needs_directory(executor, self._max_parallel)
            cache = temporary_cache() if is_shared else StageCache.in_memory()
        self.cache = cache
        self.study = open_study(
            pipeline,
            direction=direction,
            sampler=(
                method
                if isinstance(method, BaseSampler)
                else EEIPUSampler(
                    pipeline,
                    budget=self.budget,
                    top_q=self.top_q,
                    n_initial=self.n_initial,
                    method=method,
                    seed=seed,
                    device=device,
                )
            ),
            storage=storage,
            study_name=study_name,
        )
        self._trials = Trials(
            self.study,
            pipeline,
            top_q=self.top_q,
            price=None if price is None else check_price(price),
            callbacks=_checked_callbacks(callbacks),
        )
        self._asked: dict[int, optuna.Trial] = {}
        self.was_interrupted = False

    def __repr__(self) -> str:
        return (
            f"Tuner({self.pipeline!r}, study {self.study.study_name!r}, "
            f"spent {self.spent:.4g} of {self.budget:.4g})"
        )

    @property
    def spent(self) -> float:
        """What the budget has paid so far."""
        return self._trials.spent

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
            SearchOver: Every configuration has been evaluated or is running, or none is worth its
                cost (see `price`).
        """
        self._check_code()
        trial, params, kept = self._trials.begin_for_caller(keeps_best=self.cache is not None)
        keys = [call.key for call in self.pipeline.calls(params)]
        trial.set_user_attr("stage_keys", keys)
        depth = max((k + 1 for k, key in enumerate(keys) if key in (kept or ())), default=0)
        self._asked[trial.number] = trial
        return Suggestion(trial.number, params, (True,) * depth + (False,) * (len(keys) - depth))

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
            failed: Whether the evaluation failed, in the last stage that has a cost; a value beside
                it does not count.

        Raises:
            ConfigurationError: The trial has been told already, or an argument does not fit.
        """
        value, error = _told_value(suggestion, value, failed)
        trial = self._told_trial(suggestion)
        if stage_costs is None:
            costs, charged = self._costs_of(suggestion, trial)
            memoized = list(suggestion.memoized)
        else:
            costs = self._checked_costs(stage_costs)
            charged = math.fsum(cost for cost in costs if cost is not None)
            reached = max((k + 1 for k, cost in enumerate(costs) if cost is not None), default=0)
            if error is None:
                reached = len(costs)
            elif reached > 0:
                trial.set_user_attr("failed_stage", self.pipeline.stage_names[reached - 1])
            memoized = [cost is None and k < reached for k, cost in enumerate(costs)]
        trial.set_user_attr("stage_costs", costs)
        trial.set_user_attr("memoized", memoized)
        trial.set_user_attr("charged", charged)
        if error is not None:
            trial.set_user_attr("error", error)
        self._asked.pop(suggestion.number, None)
        self._trials.end(trial, value)

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
        if max_trials is not None:
            _check_count("max_trials", max_trials, 0)
        self.pipeline.check_inputs(inputs)
        self._check_code()
        upstream = inputs_key(inputs)
        same_inputs(self.study, upstream)
        same_code(self.study, self.pipeline)
        reclaim_dead_trials(self.study, self.pipeline)
        self.study._stop_flag = False  # an earlier run's
        with (
            showing(progress) as display,
            interruptible() as interrupted,
            stoppable(self.study),
            self._pool() as pool,
        ):
            if isinstance(self.study.sampler, EEIPUSampler):
                self.study.sampler.share_processors(pool.size > 1)
            driver = Driver(
                self._trials,
                pool=pool,
                budget=self.budget,
                cache=self.cache,
                inputs=inputs,
                upstream=upstream,
                display=display,
                interrupted=interrupted,
            )
            try:
                reason = driver.run(max_trials)
            except KeyboardInterrupt:
                logger.warning("%s", driver.how_to_resume())
                raise
            finally:
                self.was_interrupted = interrupted.is_set()
        if reason is not None:
            logger.warning("%s", reason)
        return self.study

    @contextmanager
    def _pool(self) -> Iterator[Pool]:
        """The workers, ended at once where this run is."""
        pool = open_pool(self._executor, self._max_parallel, self.pipeline.stages, self.cache)
        try:
            yield pool
        except BaseException:
            pool.close(at_once=True)
            raise
        pool.close(at_once=False)

    def _check_code(self) -> None:
        """Tell now of code that cannot be fingerprinted, before a trial begins."""
        look_again(self.pipeline.stages)

    def _told_trial(self, suggestion: Suggestion) -> optuna.Trial:
        """The running trial of a suggestion, which an earlier process may have begun."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number == suggestion.number and trial.params == suggestion.params:
                asked = self._asked.get(suggestion.number)
                return asked if asked is not None else optuna.Trial(self.study, trial._trial_id)
        raise ConfigurationError(
            f"trial {suggestion.number} is not running: it has been told already, or belongs to "
            f"another study than {self.study.study_name!r}."
        )

    def _costs_of(
        self, suggestion: Suggestion, trial: optuna.Trial
    ) -> tuple[list[float | None], float]:
        """The stage costs, and what to charge, where the caller says nothing about them."""
        calls = self.pipeline.calls(suggestion.params)
        costs = [
            None if reused else call.stage.declared_cost(call.params)
            for call, reused in zip(calls, suggestion.memoized, strict=True)
        ]
        if all(c is not None or r for c, r in zip(costs, suggestion.memoized, strict=True)):
            return costs, math.fsum(cost for cost in costs if cost is not None)
        assert trial.datetime_start is not None
        elapsed = datetime.now() - trial.datetime_start
        # Optuna's start is local time, which can be set back.
        return [None] * len(costs), max(0.0, elapsed.total_seconds())

    def _checked_costs(self, stage_costs: Sequence[float | None]) -> list[float | None]:
        names = self.pipeline.stage_names
        if isinstance(stage_costs, Mapping) or len(stage_costs) != len(names):
            raise ConfigurationError(
                f"stage_costs must be a list with one entry for each of the {len(names)} stages "
                f"{list(names)}, but got {stage_costs!r}."
            )
        for name, cost in zip(names, stage_costs, strict=True):
            if cost is not None and not (_is_finite(cost) and cost >= 0):
                raise ConfigurationError(
                    f"the cost of stage {name!r} must be finite and not negative, or None where "
                    f"it was reused, but got {cost!r}."
                )
        return [None if cost is None else float(cost) for cost in stage_costs]


def _told_value(
    suggestion: Suggestion, value: float | None, failed: bool
) -> tuple[float | None, str | None]:
    """The value to store, or the reason why there is none."""
    if not isinstance(suggestion, Suggestion):
        raise ConfigurationError(
            f"tell takes what ask returned, a Suggestion, but got {suggestion!r}."
        )
    if failed:
        return None, "told as failed"
    if value is None:
        raise ConfigurationError(
            f"trial {suggestion.number} was told neither a value nor failed=True."
        )
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the value of trial {suggestion.number} must be a number, but got {value!r}."
        ) from error
    if not math.isfinite(number):
        return None, f"told the value {number!r}, which is not finite"
    return number, None


def _check_pipeline(pipeline: Pipeline) -> None:
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"pipeline must be a Pipeline([...]) of stages, but got {pipeline!r}.")
    if not pipeline.space:
        raise PipelineError(
            f"{pipeline!r} has nothing to tune; give a stage a space with @stage(space=...)."
        )


def _check_cache(cache: object) -> None:
    if not isinstance(cache, StageCache | InMemory | None):
        raise ConfigurationError(
            f"cache must be a StageCache or None, but got {cache!r}; "
            f'for a directory, write StageCache("path").'
        )


def _check_count(name: str, count: int, least: int) -> int:
    if not (_is_whole(count) and count >= least):
        raise ConfigurationError(f"{name} must be a whole number >= {least}, but got {count!r}.")
    return int(count)


def _checked_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    if not isinstance(callbacks, Iterable) or not all(map(callable, found := tuple(callbacks))):
        raise ConfigurationError(
            f"callbacks must be a list of functions of (study, trial), but got {callbacks!r}."
        )
    return found


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)  # NumPy's integers too


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
