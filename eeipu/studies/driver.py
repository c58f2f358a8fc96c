"""The loop of `Tuner.run`: it begins trials, and has their stage calls run on one or many workers.

The way of one trial leads through this module from top to bottom. When a worker would be idle, a
configuration is chosen and the trial begins. Each call that can run is given to a worker, or waits
while another trial runs the same call; branches of one trial run side by side. When a call ends,
its result and cost are written down; then the calls that needed it become ready, or the trial ends.
Configurations are chosen while the workers run, and with the running trials in mind.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from eeipu.cache import StageCache
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import ConfigurationError, SearchOver
from eeipu.executors.pool import Ended, Joined, Pool, Thought
from eeipu.methods.budget import Budget
from eeipu.pipeline import PipelineRun
from eeipu.stages.running.records import keys_of
from eeipu.stages.running.trial_notes import TrialNotes
from eeipu.studies.displays.progress import Display, Reporter
from eeipu.studies.kept_outputs import KeptOutputs
from eeipu.studies.run_limits import RunLimits
from eeipu.studies.study import stoppable
from eeipu.studies.trial_run import TrialRun
from eeipu.studies.trials import Trials
from eeipu.studies.underway import CallQueue, TrialsUnderway
from eeipu.studies.waiting import WaitingTime

__all__ = ["Driver"]

logger = logging.getLogger("eeipu")


class TrialChoice:
    """Begins a trial with the configuration that the search chooses, until the driver takes it.

    Args:
        trials: The trials of the study.
        cache: The cache of stage outputs, if there is one.
        driver: The name of this process.
    """

    def __init__(self, trials: Trials, cache: StageCache | None, driver: str) -> None:
        self._trials = trials
        self._cache = cache
        self._driver = driver
        self._begun: tuple[optuna.Trial, dict[str, Any]] | None = None
        self._is_over = False
        self._lock = threading.Lock()

    def make(self) -> None:
        """Begin a trial in the study; called by the pool, perhaps in another thread."""
        with stoppable(self._trials.study):  # for samplers that call `study.stop()`
            begun = self._trials.begin(self._cache, self._driver)
        with self._lock:
            if self._is_over:  # an exception has ended the run meanwhile
                self._trials.interrupt(begun[0])
            else:
                self._begun = begun

    def take(self) -> tuple[optuna.Trial, dict[str, Any]]:
        """The trial that was begun and its configuration; what follows is the caller's."""
        assert self._begun is not None
        begun, self._begun = self._begun, None
        return begun

    def close(self) -> None:
        """Cut the trial that nobody has taken, also one that is being begun."""
        with self._lock:
            self._is_over = True
            if self._begun is not None:
                self._trials.interrupt(self._begun[0])


class Driver:
    """One call of `Tuner.run`.

    Args:
        trials: The trials of the study.
        pool: The workers that run the stages.
        budget: What all trials of the study may cost together.
        max_trials: How many trials this run may begin; `None` is any number.
        cache: The cache of stage outputs, if there is one.
        upstream: The key of the run's inputs.
        display: Where progress is shown.
        interrupted: Set when the user asks to stop after the stages that run now.
        max_failures: How many failures in a row end the run; see `RunLimits`.

    Attributes:
        was_cut: Whether Ctrl-C ended the run before its limits did.
    """

    def __init__(
        self,
        trials: Trials,
        *,
        pool: Pool,
        budget: Budget,
        max_trials: int | None,
        cache: StageCache | None,
        upstream: str,
        display: Display,
        interrupted: threading.Event,
        max_failures: int | None = None,
    ) -> None:
        self.was_cut = False
        self._trials = trials
        self._pool = pool
        self._cache = cache
        self._upstream = upstream
        self._interrupted = interrupted
        self._underway = TrialsUnderway(pool.size)
        self._limits = RunLimits(trials, budget, max_trials, pool.now, max_failures=max_failures)
        self._kept = KeptOutputs(trials, cache)
        self._report = Reporter(trials, budget, display, workers=pool.size)
        self._choice = TrialChoice(trials, cache, str(ProcessIdentity.here()))
        self._waiting = WaitingTime(pool)
        self._epoch_s = time.time() - pool.now()

    def run(self) -> str | None:
        """Run trials until a limit is reached, the search is over, or the user stops it.

        Returns:
            A sentence for the user about why the search has stopped; `None` where a limit that the
            user set was reached, or Ctrl-C pressed.
        """
        try:
            while True:
                self._start_calls()
                self._choose_trial()
                events = self._waiting.next_events(is_awaited=self._underway.waits_for_choice)
                if not events:
                    break
                for event in events:
                    match event:
                        case Thought():
                            self._begin_trial(event)
                        case Ended():
                            self._end_call(event)
                        case Joined():  # there may be room for more
                            pass
            _check_all_have_run(self._underway.calls)
            if self._limits.reason is None and self._interrupted.is_set():
                self.was_cut |= self._limits.allow_trial(self._underway, self._pool.now())
        finally:
            self._close_open_trials()
            self._limits.close()
        return self._limits.reason or self._limits.remark()

    # --- A trial begins

    def _choose_trial(self) -> None:
        """Have the search choose a configuration, if a worker would be idle without one."""
        if (
            self._underway.lacks_trials
            and self._limits.reason is None
            and not self._interrupted.is_set()
            and self._limits.allow_trial(self._underway, self._pool.now())
        ):
            self._limits.count_trial()
            self._underway.is_choosing = True
            self._report.update(self._underway.activity)
            self._pool.think(self._choice.make)

    def _begin_trial(self, thought: Thought) -> None:
        """Take the trial that the search has begun."""
        self._underway.is_choosing = False
        waited_s = self._waiting.take()
        if isinstance(thought.error, SearchOver):
            self._limits.stop(thought.error)
        elif thought.error is not None:
            raise thought.error
        else:
            trial, params = self._choice.take()
            self._add_trial(trial, params, waited_s)
        self._tidy_cache()

    def _add_trial(self, trial: optuna.Trial, params: dict[str, Any], waited_s: float) -> None:
        try:
            calls = self._trials.pipeline.calls(params, self._upstream)
            run = TrialRun(trial, calls, self._cache)
            run.account.overhead = self._limits.charge_for_choice(trial, waited_s)
        except BaseException:
            self._trials.interrupt(trial)
            raise
        self._underway.add(run)
        notes = TrialNotes(trial)
        notes.set_user_attr("stage_keys", keys_of(self._trials.pipeline.stage_names, calls))
        notes.set_user_attr("waited_s", waited_s)
        notes.set_user_attr("overhead", run.account.overhead)
        # Time may have run out while the configuration was chosen.
        is_cut = self._limits.is_out_of_time
        with self._unless_taken_over(run):
            try:
                if not is_cut:
                    run.hold_outputs()
                    if not self._interrupted.is_set():
                        self._reuse_outputs(run)
            finally:  # the choice is paid, and the search counts on what need not be paid
                run.account.note_progress(notes, run.so_far(self._trials.pipeline))
                notes.write()
            if is_cut:
                self._cut(run)
            else:
                self._advance(run)

    # --- A trial's calls run

    def _start_calls(self) -> None:
        """Give the calls that are ready to workers that are free."""
        for run, k in self._underway.calls.ready():
            if self._interrupted.is_set():
                self._cut_unless_running(run)
            elif self._underway.calls.must_wait(run, k):
                self._underway.calls.wait(run, k)
            elif self._pool.can_take(run.calls[k].resources):
                task = self._underway.calls.start(run, k, self._pool.now())
                self._report.update(
                    self._underway.activity, run.trial.number, run.states.stage_runs
                )
                self._pool.submit(task)

    def _end_call(self, event: Ended) -> None:
        """Take the result of a call, and continue the trials that needed it."""
        run = self._underway.calls.finish(event.task)
        run.end_call(event, self._pool.now)
        if event.result is not None and event.result.run is not None:
            self._limits.learn(event.result.run)
        with self._unless_taken_over(run):
            self._advance(run)
        for waiting in self._underway.calls.take_waiting(event.task.call.key):
            with self._unless_taken_over(waiting):
                self._reuse_outputs(waiting)
                self._advance(waiting)

    def _reuse_outputs(self, run: TrialRun) -> None:
        """Let a trial go on after the outputs that the cache has."""
        self._waiting.leave_out(run.reuse_outputs(self._pool.now))  # which is charged as loading

    def _advance(self, run: TrialRun) -> None:
        """Write down how far a trial is, and make its next calls ready, or end the trial."""
        so_far = run.so_far(self._trials.pipeline)
        if run.states.have_ended:
            self._end_trial(run, so_far)
            return
        notes = TrialNotes(run.trial)
        run.account.note_progress(notes, so_far)
        notes.write()
        self._trials.news.tell(run.trial, so_far)
        if self._interrupted.is_set():
            self._cut_unless_running(run)
        elif run.states.is_failing:
            self._underway.calls.hold_back(run)
        else:
            self._underway.calls.add_ready(run)

    # --- A trial ends

    def _end_trial(self, run: TrialRun, result: PipelineRun) -> None:
        run.account.write_result(run.calls, result, self._epoch_s)
        self._underway.remove(run)
        self._limits.judge(result)
        last = result.stage_runs[-1]
        # A stage or an observer that is broken is corrected for a run that goes on from all this.
        if not (self._limits.is_broken or (last.is_unobserved and last.is_bug)):
            self._kept.offer(call.key for call in run.calls)
        try:
            try:
                self._trials.news.tell(run.trial, result, is_last=True)
            finally:
                self._trials.end(run.trial, result.values or None, is_pruned=result.is_pruned)
            self._report.trial_ended(run.trial.number, result, self._underway.activity)
        finally:  # a callback of the user's may raise
            self._tidy_cache()

    def _tidy_cache(self) -> None:
        """Drop outputs that no trial needs, unless one is being chosen that may count on them."""
        if not self._underway.is_choosing:
            self._kept.tidy()

    def _cut_unless_running(self, run: TrialRun) -> None:
        """Close a trial that the user has interrupted, once none of its calls runs any more."""
        if run.states.began_s:
            self._underway.calls.hold_back(run)
        else:
            self._cut(run)

    def _cut(self, run: TrialRun) -> None:
        """Close a trial before its end, and enqueue its configuration to run again first."""
        self.was_cut |= self._interrupted.is_set()
        self._underway.remove(run)
        self._trials.interrupt(run.trial)

    @contextmanager
    def _unless_taken_over(self, run: TrialRun) -> Iterator[None]:
        """Leave a trial to another driver that has taken it over, having found this one silent."""
        try:
            yield
        except UpdateFinishedTrialError as error:
            logger.warning("a trial was taken over by another driver: %s", error)
            self._underway.remove(run)

    # --- The run ends

    def _close_open_trials(self) -> None:
        """Cut the trials that an exception has left open."""
        with ExitStack() as ends:  # all are cut, even if the study's storage fails for one
            for run in reversed(tuple(self._underway)):  # the last callback is called first
                ends.callback(self._cut, run)
            ends.callback(self._choice.close)


def _check_all_have_run(queue: CallQueue) -> None:
    """Raise an error if a call is ready that no worker can ever take."""
    for run, k in queue.ready():
        call = run.calls[k]
        raise ConfigurationError(
            f"no worker of the executor can run stage {call.stage.name!r}, which needs "
            f"{call.resources}; declare less with stage(num_cpus=..., num_gpus=...), or give an "
            f"executor whose workers have as much."
        )
