"""The trials of a study: beginning and ending them, and the stage outputs to keep for them."""

import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count, product
from typing import Any, Protocol, runtime_checkable

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import SpaceExhausted
from eeipu.methods.budget import PAID_BY
from eeipu.methods.history import History
from eeipu.methods.trials.ledger import Ledger
from eeipu.pipeline import Pipeline, PipelineRun
from eeipu.sampler import EEIPUSampler
from eeipu.space import suggest
from eeipu.stages.running.outcomes import note_violations
from eeipu.stages.running.trial_notes import TrialNotes, written_together
from eeipu.stages.runs import StageRun
from eeipu.studies.changes import stored_space
from eeipu.studies.drivers.dead_drivers import enqueue_again, reclaim_dead_trials
from eeipu.studies.drivers.driver_queue import (
    CHOOSER,
    await_turn,
    begun,
    is_chosen,
    is_to_run_once,
    repeated,
)
from eeipu.studies.drivers.heartbeats import Heart
from eeipu.studies.given.enqueued import is_refused, pass_over
from eeipu.studies.study import study_id

__all__ = ["Callback", "NoteMore", "StageCallback", "StageNews", "Trials", "is_enqueued"]

# A sampler that knows no constraints may propose what violates them so many times in a row. Where a
# tenth of the space is allowed, random samplers then miss it once in 40,000 times.
MAX_VIOLATIONS = 100


@runtime_checkable
class StageCallback(Protocol):
    """Sees the stages of a trial while it runs."""

    def on_stage(self, study: optuna.Study, trial: FrozenTrial, run: StageRun) -> None:
        """Take a stage that has ended, whether it was run or its output was reused.

        Args:
            study: The study.
            trial: The trial, which is running. `trial.user_attrs["observations"]` has what was
                observed of this stage and of those before it.
            run: The stage's run, with its `name`, its `observation`, its `cost`, and whether it was
                `memoized`.
        """
        ...


Callback = Callable[[optuna.Study, optuna.trial.FrozenTrial], None] | StageCallback

NoteMore = Callable[[TrialNotes, optuna.Trial, dict[str, Any], Container[str] | None], None]
"""Notes what else is known of a trial that begins, given its configuration, and the content keys of
the stage outputs that can be reused."""


class StageNews:
    """What is known of the stages of running trials, for those who watch.

    Args:
        study: The study that holds the trials.
        callbacks: Those that have a method `on_stage` are called (`StageCallback`).
    """

    def __init__(self, study: optuna.Study, callbacks: Iterable[Callback]) -> None:
        self._study = study
        self._watching = [each for each in callbacks if isinstance(each, StageCallback)]
        self._told: defaultdict[int, set[str]] = defaultdict(set)  # names of stages, by trial

    def tell(self, trial: optuna.Trial, so_far: PipelineRun, *, is_last: bool = False) -> None:
        """Call the callbacks with the stages that have ended since the last time.

        Args:
            trial: The trial, into which its stages are written already.
            so_far: Its stages up to now.
            is_last: Whether the trial ends.
        """
        told = self._told[trial.number]
        new = [run for run in so_far.stage_runs if run.name not in told]
        told.update(run.name for run in new)
        if is_last:
            del self._told[trial.number]
        if self._watching and new:
            running = self._study._storage.get_trial(trial._trial_id)
            for run, watcher in product(new, self._watching):
                watcher.on_stage(self._study, running, run)


class Trials:
    """Begins and ends the trials of one pipeline in one study.

    Args:
        study: The study that holds the trials.
        pipeline: The pipeline that is tuned.
        top_q: The stage outputs of this many best trials are worth keeping.
        price: What a unit of cost is worth; see `Tuner`.
        stop_when_done: Whether the search ends when no trial may tell more; see `Tuner`.
        callbacks: Functions that are called as `callback(study, trial)` after every trial, and
            objects with a method `on_stage`; see `Tuner`.

    Attributes:
        news: Tells callbacks of a trial's stages while it runs.
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
        self.news = StageNews(study, callbacks)
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
        self,
        kept: Container[str] | None,
        driver: str | None = None,
        *,
        note_more: NoteMore | None = None,
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """Start a trial with the next configuration: an enqueued one, or one from the sampler.

        If several drivers share the study, one at a time chooses. A driver with a name first takes
        over the trials of drivers that have died.

        Args:
            kept: The content keys of the stage outputs that can be reused now; `None`: there never
                are any.
            driver: The name of the process that runs the trial, if that may die.
            note_more: Notes what is written into the trial together with its configuration.

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
        return self._begin(trials, self._to_choose_from(trials), kept, driver, note_more)

    def begin_for_caller(
        self, *, keeps_best: bool, note_more: NoteMore | None = None
    ) -> tuple[optuna.Trial, dict[str, Any], set[str] | None]:
        """Start a trial for a caller who runs the stages and keeps their outputs.

        Args:
            keeps_best: Whether the caller keeps the outputs of the `top_q` best trials.
            note_more: See `begin`.

        Returns:
            The trial, its configuration, and the content keys of the outputs that the caller keeps;
            `None` if the caller keeps none.

        Raises:
            SearchOver: See `begin`.
        """
        trials = self._read(None)
        history = History.of(self.study, self.pipeline, trials, self._ledger)
        kept = _memoized_keys(self.pipeline, history.top(self._top_q)) if keeps_best else None
        return (*self._begin(trials, history, kept, None, note_more), kept)

    def _begin(
        self,
        trials: list[FrozenTrial],
        history: History,
        kept: Container[str] | None,
        driver: str | None,
        note_more: NoteMore | None,
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """Start a trial, given all trials of the study and the history that they make up."""
        _check_exhausted(history)
        for times in count(1):
            trial, params = self._begin_once(trials, history, kept, driver, note_more)
            if "violates" not in trial.user_attrs:
                break
            in_a_row = None if times % MAX_VIOLATIONS else MAX_VIOLATIONS
            pass_over(self.study, trial, self.pipeline, in_a_row=in_a_row)
        return trial, params

    def _begin_once(
        self,
        trials: list[FrozenTrial],
        history: History,
        kept: Container[str] | None,
        driver: str | None,
        note_more: NoteMore | None,
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """Start a trial, which a sampler of the user's own may give what constraints forbid.

        Then the trial has the name of the constraint as its user attribute `violates`.
        """
        start = time.perf_counter()
        sampler = self.study.sampler
        if isinstance(sampler, EEIPUSampler):
            # A driver keeps all outputs of the last trial; who runs the stages without one keeps
            # those of the best trials alone.
            sampler.reuse_from(kept, keeps_last=driver is not None)
            if not self._ledger.unended(trials).has_waiting:
                sampler.check_worth(
                    history, len(trials), self._price, stop_when_done=self._stop_when_done
                )
        trial, waited_s = self._ask(driver)
        start += waited_s
        try:
            if driver is not None:
                self.heart.beat_for(trial)
            if not self._is_next(trial, trials):
                start += await_turn(self.study, trial.number, self.pipeline.cube.is_whole)
                history = self._to_choose_from(self.study.get_trials(deepcopy=False))
                _check_exhausted(history)
            notes = TrialNotes(trial)
            with _knowing(sampler, history, trial.number), notes.gathering():
                params = suggest(trial, self._stored_space, self.pipeline.cube.conditions)
            choosing_s = time.perf_counter() - start
            notes.set_user_attr("suggest_s", choosing_s)
            reason = sampler.reason(params) if isinstance(sampler, EEIPUSampler) else None
            if reason:
                notes.set_user_attr("chosen", reason)
            notes.start_now(choosing_s)
            violated = self.pipeline.cube.constraints.violated(params)
            if violated is not None:
                notes.set_user_attr("violates", violated)
                notes.set_user_attr("interrupted", True)  # so that it counts as no failure
            elif note_more is not None:
                note_more(notes, trial, params, kept)
            notes.write()
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
        if driver is not None and self._ledger.unended(trials).drivers - {driver}:
            reclaim_dead_trials(self.study, self.pipeline)
            trials = self.study.get_trials(deepcopy=False)
        return trials

    def _ask(self, driver: str | None) -> tuple[optuna.Trial, float]:
        """A new trial, or the first enqueued one that is allowed and repeats no other.

        Returns:
            The trial, and the seconds spent waiting for other drivers.
        """
        # Who chooses is known from the first moment, so that others wait for the configuration,
        # and notice if this process dies meanwhile.
        chooser = {CHOOSER: str(ProcessIdentity.here())} if driver is None else {"driver": driver}
        waited_s = 0.0
        while True:
            trial = begun(self.study, {PAID_BY: self.study_id, **chooser})
            if not is_refused(trial, self.pipeline):
                # Only a trial that the tuner enqueued is to repeat no other one: the study need not
                # be read for the others.
                if not is_to_run_once(trial):
                    return trial, waited_s
                waited_s += await_turn(self.study, trial.number, self.pipeline.cube.is_whole)
                same = repeated(self.study, trial.number)
                if same is None:
                    return trial, waited_s
                trial.set_user_attr("repeats", same)
            trial.set_user_attr("interrupted", True)
            self.study.tell(trial, state=TrialState.FAIL)

    def _is_next(self, trial: optuna.Trial, before: list[FrozenTrial]) -> bool:
        """Whether a trial may choose at once, knowing all configurations that come before its own.

        Args:
            trial: The trial.
            before: The trials of the study as they were read before this one was created.
        """
        is_whole = self.pipeline.cube.is_whole
        if is_chosen(trial._cached_frozen_trial, is_whole):  # as it has just been created
            return True
        return len(before) == trial.number and all(
            is_chosen(each, is_whole) for each in self._ledger.unended(before).unchosen
        )

    def end(
        self,
        trial: optuna.Trial,
        values: float | Sequence[float] | None,
        *,
        is_pruned: bool = False,
    ) -> None:
        """Close a trial.

        Args:
            trial: The trial.
            values: Its objective, or all of them; `None` marks it as failed.
            is_pruned: Whether it was pruned instead. Then Optuna takes the value that it reported
                last, and `values` is `None`.
        """
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        if is_pruned:
            state = TrialState.PRUNED
        self.heart.stop_for(trial)
        with written_together(trial):
            note_violations(trial, self.pipeline.outcome_constraints)
        frozen = self.study.tell(trial, values, state)
        for callback in filter(callable, self._callbacks):
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
        return _memoized_keys(self.pipeline, (*history.top(self._top_q), *more))


def _memoized_keys(pipeline: Pipeline, trials: Iterable[FrozenTrial]) -> set[str]:
    """The content keys of those stage outputs of trials that may be reused."""
    return {
        key
        for trial in trials
        for key, memoize in zip(
            trial.user_attrs.get("stage_keys", []), pipeline.memoizes, strict=False
        )
        if memoize and key is not None  # it is where the configuration leaves a stage out
    }


def _check_exhausted(history: History) -> None:
    pipeline = history.pipeline
    if pipeline.cube.size == 0:
        raise pipeline.feasible.error()
    if history.configurations.are_exhausted:
        size = pipeline.cube.size
        have = "the only configuration" if size == 1 else f"all {size} configurations"
        raise SpaceExhausted(
            f"{have} of {pipeline.name!r} {'has' if size == 1 else 'have'} "
            f"been evaluated or are running; widen the space to go on."
        )


def is_enqueued(trial: optuna.Trial) -> bool:
    """Whether the configuration of a trial was enqueued, so that no sampler chose it."""
    return "fixed_params" in trial.study._storage.get_trial(trial._trial_id).system_attrs


def _knowing(sampler: BaseSampler, history: History, number: int) -> AbstractContextManager[None]:
    """Let a sampler choose from a history that has been read, if it can."""
    if isinstance(sampler, EEIPUSampler):
        return sampler.knowing(history, number)
    return nullcontext()
