"""The trials of a study: how they begin and end, and which stage outputs to keep for them."""

import time
from collections.abc import Callable, Container, Sequence
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from eeipu.errors import SpaceExhausted
from eeipu.methods.budget import spent
from eeipu.methods.history import History
from eeipu.methods.warm_up import prefix_sharing
from eeipu.pipeline import Pipeline, suggest
from eeipu.sampler import EEIPUSampler
from eeipu.studies.dead_drivers import enqueue_again, reclaim_dead_trials
from eeipu.studies.driver_queue import await_turn, is_chosen, repeated
from eeipu.studies.heartbeats import Heart

__all__ = ["Callback", "Trials"]

Callback = Callable[[optuna.Study, optuna.trial.FrozenTrial], None]


class Trials:
    """Begins and ends the trials of one pipeline in one study.

    Args:
        study: Where the trials live.
        pipeline: What they are configurations of.
        top_q: The stage outputs of this many best trials are worth keeping.
        price: What a unit of cost is worth; see `Tuner`.
        callbacks: Called as `callback(study, trial)` after every trial.
    """

    def __init__(
        self,
        study: optuna.Study,
        pipeline: Pipeline,
        *,
        top_q: int,
        price: float | None = None,
        callbacks: tuple[Callback, ...] = (),
    ) -> None:
        self.study = study
        self.pipeline = pipeline
        self._top_q = top_q
        self._price = price
        self._callbacks = callbacks
        self._heart = Heart(study._storage)

    @property
    def spent(self) -> float:
        """What the budget has paid for all of them."""
        return spent(self.study.get_trials(deepcopy=False))

    def begin(
        self, kept: Container[str] | None, driver: str | None = None
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """Start a trial with the next configuration: one that was enqueued, or the sampler's.

        Args:
            kept: The content keys of the stage outputs that are there now; `None`: none ever are.
            driver: Who runs the trial, where that is a process that may die.

        Of several drivers of one study, one at a time chooses. Whoever has a name takes over what
        dead ones left, first.

        Raises:
            SearchOver: Every configuration has been evaluated or is running, or none is worth its
                cost.
        """
        if driver is not None:
            reclaim_dead_trials(self.study, self.pipeline)
        self._check_exhausted()
        start = time.perf_counter()
        sampler = self.study.sampler
        if isinstance(sampler, EEIPUSampler):
            sampler.cache = kept
            # Those who run the stages themselves keep the outputs of the best trials alone.
            sampler.keeps_last = driver is not None
            if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                sampler.check_worth(self.study, self._price)
        trial = self._ask()
        try:
            if driver is not None:
                # Before the sampler thinks, so that a process that dies meanwhile is noticed.
                trial.set_user_attr("driver", driver)
                self._heart.beat_for(trial)
            start += self._await_turn(trial)
            params = suggest(trial, self.pipeline.space)
            trial.set_user_attr("suggest_s", time.perf_counter() - start)
        except BaseException:
            self.interrupt(trial)
            raise
        return trial, params

    def _check_exhausted(self) -> None:
        if History.of(self.study, self.pipeline).is_exhausted:
            raise SpaceExhausted(
                f"all {self.pipeline.cube.size} configurations of {self.pipeline.name!r} have "
                f"been evaluated or are running; widen the space to go on."
            )

    def _ask(self) -> optuna.Trial:
        """A new trial, or the first enqueued one that another driver has not enqueued before."""
        while True:
            trial = _asked(self.study)
            same = repeated(self.study, trial.number)
            if same is None:
                return trial
            trial.set_user_attr("interrupted", True)
            trial.set_user_attr("repeats", same)
            self.study.tell(trial, state=TrialState.FAIL)

    def _await_turn(self, trial: optuna.Trial) -> float:
        """Wait for the drivers that choose before this one; the seconds it took."""
        frozen = self.study._storage.get_trial(trial._trial_id)
        if is_chosen(frozen, self.pipeline.space.keys()):
            return 0.0
        waited_s = await_turn(self.study, trial.number, self.pipeline.space.keys())
        self._check_exhausted()
        return waited_s

    def end(self, trial: optuna.Trial, value: float | None) -> None:
        """Close a trial: with a value, or as failed."""
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        self._heart.stop_for(trial)
        frozen = self.study.tell(trial, value, state=state)
        for callback in self._callbacks:
            callback(self.study, frozen)

    def interrupt(self, trial: optuna.Trial) -> None:
        """Close a trial that was cut off, and have its configuration run again first."""
        self._heart.stop_for(trial)
        try:
            trial.set_user_attr("interrupted", True)
        except UpdateFinishedTrialError:  # another driver has done so, and taken it over
            return
        frozen = self.study.tell(trial, state=TrialState.FAIL)
        enqueue_again(self.study, frozen, self.pipeline)

    def keys_to_keep(self) -> set[str]:
        """The content keys of the stage outputs of the best trials."""
        return self._keys_of(History.of(self.study, self.pipeline).top(self._top_q))

    def keys_to_go_on_with(self) -> set[str]:
        """Those of the best trials and, where the next one builds on it, of the last one.

        So it is, however good the last one was, in a warm-up that shares prefixes and for a method
        that leaves early stages as they are.
        """
        history = History.of(self.study, self.pipeline)
        sampler = self.study.sampler
        builds_on_last = isinstance(sampler, EEIPUSampler) and (
            sampler.method.region is not None
            or (sampler.design is prefix_sharing and len(history) < sampler.n_initial)
        )
        last = history.ended[-1:] if builds_on_last else ()
        return self._keys_of((*history.top(self._top_q), *last))

    def _keys_of(self, trials: Sequence[FrozenTrial]) -> set[str]:
        memoized = [stage.memoize for stage in self.pipeline.stages]
        return {
            key
            for trial in trials
            for key, memoize in zip(trial.user_attrs.get("stage_keys", []), memoized, strict=False)
            if memoize
        }


def _asked(study: optuna.Study) -> optuna.Trial:
    """As `study.ask`, which warns of heartbeats outside of Optuna's loop: ours do not need it."""
    local = study._thread_local
    is_inside, local.in_optimize_loop = local.in_optimize_loop, True
    try:
        return study.ask()
    finally:
        local.in_optimize_loop = is_inside
