"""The trials of a study: beginning and ending them, and the stage outputs to keep for them."""

import time
from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from eeipu.errors import SpaceExhausted
from eeipu.methods.budget import PAID_BY
from eeipu.methods.history import History
from eeipu.methods.ledger import Ledger
from eeipu.pipeline import Pipeline, suggest
from eeipu.sampler import EEIPUSampler
from eeipu.studies.changes import stored_space
from eeipu.studies.dead_drivers import enqueue_again, reclaim_dead_trials
from eeipu.studies.driver_queue import await_turn, is_chosen, repeated
from eeipu.studies.heartbeats import Heart
from eeipu.studies.study import study_id

__all__ = ["Callback", "Trials", "is_enqueued"]

Callback = Callable[[optuna.Study, optuna.trial.FrozenTrial], None]


class Trials:
    """Begins and ends the trials of one pipeline in one study.

    Args:
        study: The study that holds the trials.
        pipeline: The pipeline that is tuned.
        top_q: The stage outputs of this many best trials are worth keeping.
        price: What a unit of cost is worth; see `Tuner`.
        stop_when_done: Whether the search ends when no trial may tell more; see `Tuner`.
        callbacks: Functions that are called as `callback(study, trial)` after every trial.

    Attributes:
        heart: Says of the trials that run here that they are alive.
        lens: How the search sees the trials that it learns from; `None`: as they are.
    """

    def __init__(
        self,
        study: optuna.Study,
        pipeline: Pipeline,
        *,
        top_q: int,
        price: float | None = None,
        stop_when_done: bool = False,
        callbacks: tuple[Callback, ...] = (),
    ) -> None:
        self.study = study
        self.pipeline = pipeline
        self._top_q = top_q
        self._price = price
        self._stop_when_done = stop_when_done
        self._callbacks = callbacks
        self.lens: Callable[[list[FrozenTrial]], list[FrozenTrial]] | None = None
        self.heart = Heart(study._storage)
        self.study_id = study_id(study)
        self._stored_space = stored_space(study, pipeline)
        self._ledger = Ledger(pipeline)
        if isinstance(study.sampler, EEIPUSampler):
            study.sampler.stored_space = self._stored_space

    @property
    def history(self) -> History:
        """All of them, as the study has them now."""
        return History.of(self.study, self.pipeline, ledger=self._ledger)

    @property
    def spent(self) -> float:
        """The cost charged to the budget for all of them."""
        return self.history.spent

    @property
    def are_measured(self) -> bool:
        """Whether the costs of all stages are measured seconds."""
        return all(stage.cost is None for stage in self.pipeline.stages)

    def begin(
        self, kept: Container[str] | None, driver: str | None = None
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """Start a trial with the next configuration: an enqueued one, or one from the sampler.

        If several drivers share the study, one at a time chooses. A driver with a name first takes
        over the trials of drivers that have died.

        Args:
            kept: The content keys of the stage outputs that can be reused now; `None`: there never
                are any.
            driver: The name of the process that runs the trial, if that may die.

        Returns:
            The trial and its configuration.

        Raises:
            SearchOver: Every configuration has been evaluated or is running, or none is worth a
                trial.

        Note:
            The study is read once, before the trial is created, because no trial is to be created
            when the search is over. The sampler gets what was read. Only if another driver may have
            chosen a configuration since is it read again, after the turn of this trial has come.
        """
        trials = self._read(driver)
        return self._begin(trials, self._to_choose_from(trials), kept, driver)

    def begin_for_caller(
        self, *, keeps_best: bool
    ) -> tuple[optuna.Trial, dict[str, Any], set[str] | None]:
        """Start a trial for a caller who runs the stages and keeps their outputs.

        Args:
            keeps_best: Whether the caller keeps the outputs of the `top_q` best trials.

        Returns:
            The trial, its configuration, and the content keys of the outputs that the caller keeps;
            `None` if the caller keeps none.

        Raises:
            SearchOver: See `begin`.
        """
        trials = self._read(None)
        history = History.of(self.study, self.pipeline, trials, self._ledger)
        kept = self._keys_of(history.top(self._top_q)) if keeps_best else None
        return (*self._begin(trials, history, kept, None), kept)

    def _begin(
        self,
        trials: list[FrozenTrial],
        history: History,
        kept: Container[str] | None,
        driver: str | None,
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """Start a trial, given all trials of the study and the history that they make up."""
        _check_exhausted(history)
        start = time.perf_counter()
        sampler = self.study.sampler
        if isinstance(sampler, EEIPUSampler):
            # A driver keeps all outputs of the last trial; who runs the stages without one keeps
            # those of the best trials alone.
            sampler.reuse_from(kept, keeps_last=driver is not None)
            if not any(t.state is TrialState.WAITING for t in self._ledger.unended(trials)):
                sampler.check_worth(
                    history, len(trials), self._price, stop_when_done=self._stop_when_done
                )
        trial = self._ask()
        try:
            trial.set_user_attr(PAID_BY, self.study_id)
            if driver is not None:
                # Before the sampler computes, so that others notice if this process dies meanwhile.
                trial.set_user_attr("driver", driver)
                self.heart.beat_for(trial)
            if not self._is_next(trial, trials):
                start += await_turn(self.study, trial.number, self.pipeline.space.keys())
                history = self._to_choose_from(self.study.get_trials(deepcopy=False))
                _check_exhausted(history)
            with _knowing(sampler, history, trial.number):
                params = suggest(trial, self._stored_space)
            trial.set_user_attr("suggest_s", time.perf_counter() - start)
        except BaseException:
            self.interrupt(trial)
            raise
        return trial, params

    def _to_choose_from(self, trials: list[FrozenTrial]) -> History:
        """What the search learns from, given all trials of the study."""
        if self.lens is None:
            return History.of(self.study, self.pipeline, trials, self._ledger)
        return History.of(self.study, self.pipeline, self.lens(trials))

    def _read(self, driver: str | None) -> list[FrozenTrial]:
        """All trials of the study, after those of dead drivers have been closed."""
        trials = self.study.get_trials(deepcopy=False)
        if driver is not None and any(
            trial.state is TrialState.RUNNING and trial.user_attrs.get("driver") != driver
            for trial in self._ledger.unended(trials)
        ):
            reclaim_dead_trials(self.study, self.pipeline)
            trials = self.study.get_trials(deepcopy=False)
        return trials

    def _ask(self) -> optuna.Trial:
        """A new trial, or the first enqueued one that no other driver has enqueued before."""
        while True:
            trial = _asked(self.study)
            # Only a trial that was enqueued can repeat another one: the study need not be read
            # for the others.
            same = repeated(self.study, trial.number) if "warm_up" in trial.user_attrs else None
            if same is None:
                return trial
            trial.set_user_attr("interrupted", True)
            trial.set_user_attr("repeats", same)
            self.study.tell(trial, state=TrialState.FAIL)

    def _is_next(self, trial: optuna.Trial, before: list[FrozenTrial]) -> bool:
        """Whether a trial may choose at once, knowing all configurations that come before its own.

        Args:
            trial: The trial.
            before: The trials of the study as they were read before this one was created.
        """
        names = self.pipeline.space.keys()
        if is_chosen(self.study._storage.get_trial(trial._trial_id), names):
            return True
        return len(before) == trial.number and all(
            is_chosen(each, names)
            for each in before  # not what the ledger leaves of it, which may be ahead of it by now
            if each.state is TrialState.RUNNING
        )

    def end(self, trial: optuna.Trial, value: float | None, *, is_pruned: bool = False) -> None:
        """Close a trial.

        Args:
            trial: The trial.
            value: Its objective value; `None` marks it as failed.
            is_pruned: Whether it was pruned instead. Then Optuna takes the value that it reported
                last, and `value` is `None`.
        """
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        if is_pruned:
            state = TrialState.PRUNED
        self.heart.stop_for(trial)
        frozen = self.study.tell(trial, value, state=state)
        for callback in self._callbacks:
            callback(self.study, frozen)

    def interrupt(self, trial: optuna.Trial) -> None:
        """Close a trial that was cut off, and enqueue its configuration to run next."""
        self.heart.stop_for(trial)
        try:
            trial.set_user_attr("interrupted", True)
        except UpdateFinishedTrialError:  # another driver has done so, and taken it over
            return
        frozen = self.study.tell(trial, state=TrialState.FAIL)
        enqueue_again(self.study, frozen, self.pipeline)

    def keys_to_go_on_with(self) -> set[str]:
        """The content keys of the stage outputs that are worth keeping for further trials.

        They are the outputs of the `top_q` best trials and of those that the sampler builds on.
        """
        history, sampler = self.history, self.study.sampler
        more = sampler.builds_on(history) if isinstance(sampler, EEIPUSampler) else ()
        return self._keys_of((*history.top(self._top_q), *more))

    def _keys_of(self, trials: Sequence[FrozenTrial]) -> set[str]:
        return {
            key
            for trial in trials
            for key, memoize in zip(
                trial.user_attrs.get("stage_keys", []), self.pipeline.memoizes, strict=False
            )
            if memoize
        }


def is_enqueued(trial: optuna.Trial) -> bool:
    """Whether the configuration of a trial was enqueued, so that no sampler chose it."""
    return "fixed_params" in trial.study._storage.get_trial(trial._trial_id).system_attrs


def _check_exhausted(history: History) -> None:
    if history.is_exhausted:
        pipeline = history.pipeline
        raise SpaceExhausted(
            f"all {pipeline.cube.size} configurations of {pipeline.name!r} have been evaluated or "
            f"are running; widen the space to go on."
        )


def _asked(study: optuna.Study) -> optuna.Trial:
    """The same as `study.ask`, without its warning about heartbeats outside of Optuna's loop.

    The warning does not apply here: `Heart` sends the heartbeats.
    """
    local = study._thread_local
    is_inside, local.in_optimize_loop = local.in_optimize_loop, True
    try:
        return study.ask()
    finally:
        local.in_optimize_loop = is_inside


def _knowing(sampler: BaseSampler, history: History, number: int) -> AbstractContextManager[None]:
    """Let a sampler choose from a history that has been read, if it can."""
    if isinstance(sampler, EEIPUSampler):
        return sampler.knowing(history, number)
    return nullcontext()
