"""The loop of `Tuner.run`: whatever can run, runs, on one worker or on many.

A stage call is the unit. Of the trials on their way, those whose next call nobody else is making
run it; a trial that needs what another makes now waits for that. When a worker has nothing to do,
another trial begins, chosen beside the workers and with the running trials in mind.
"""

import logging
import math
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError, SearchOver
from eeipu.executors.pool import Ended, Joined, Pool, Thought
from eeipu.fingerprints.values import plain
from eeipu.stages.worker import StageTask
from eeipu.studies.account import Ledger
from eeipu.studies.progress import Display
from eeipu.studies.study import driver_name
from eeipu.studies.trial_run import TrialPath
from eeipu.studies.trials import Trials

__all__ = ["Driver", "interruptible", "stoppable"]

logger = logging.getLogger("eeipu")

# Trials on their way for each worker: some wait for what others make.
MAX_WAITING = 2


class Driver:
    """One call of `Tuner.run`.

    Args:
        trials: The trials to add to.
        pool: Who runs the stages.
        budget: What all trials together may cost.
        cache: Where stage outputs are looked up and kept.
        inputs: What the first stage gets; `upstream`: their digest.
        display: Where to show what goes on.
        interrupted: Set when the user asks to stop after the current stages.
    """

    def __init__(
        self,
        trials: Trials,
        *,
        pool: Pool,
        budget: float,
        cache: StageCache | None,
        inputs: tuple[Any, ...],
        upstream: str,
        display: Display,
        interrupted: threading.Event,
    ) -> None:
        self._trials = trials
        self._pool = pool
        self._budget = budget
        self._cache = cache
        # Workers in other processes have them with their job.
        self._inputs = tuple(map(plain, inputs)) if pool.shares_memory else None
        self._upstream = upstream
        self._interrupted = interrupted
        self._ledger = Ledger(
            trials, budget=budget, cache=cache, display=display, workers=pool.size
        )
        self._name = driver_name()
        self._left = math.inf
        self._reason: str | None = None
        self._has_cut = self._is_thinking = self._is_over = False
        self._chosen: optuna.Trial | None = None
        self._paths: list[TrialPath] = []
        self._ready: list[TrialPath] = []
        self._running: dict[StageTask, tuple[TrialPath, float]] = {}
        self._making: set[str] = set()
        self._waiting: dict[str, list[TrialPath]] = defaultdict(list)
        self._seconds: dict[str, tuple[float, int]] = {}  # a stage's name: in all, and in how many
        self._unwanted: set[str] = set()  # keys of trials that have ended

    def run(self, max_trials: int | None) -> str | None:
        """Run trials until something ends it; the reason, where the user has to know it."""
        self._left = math.inf if max_trials is None else max_trials
        try:
            while True:
                self._start_what_can()
                events = self._pool.wait()
                if not events:
                    self._check_done()
                    break
                for event in events:
                    self._take(event)
        finally:
            self._is_over = True
            with ExitStack() as ends:  # each is cut, also where another's storage fails
                for path in reversed(self._paths):  # the first is cut first
                    ends.callback(self._cut, path)
                if self._chosen is not None:  # and nobody has taken it
                    ends.callback(self._trials.interrupt, self._chosen)
        if self._has_cut or (self._reason is None and self._interrupted.is_set() and self._is_due):
            return self._ledger.how_to_resume()
        return self._reason

    def how_to_resume(self) -> str:
        """What Ctrl-C has left, in a sentence for the user."""
        return self._ledger.how_to_resume()

    # --- What can be started

    @property
    def _is_due(self) -> bool:
        """Whether another trial is to begin, as far as budget and user say."""
        return self._left > 0 and self._spent < self._budget and not self._trials.study._stop_flag

    @property
    def _spent(self) -> float:
        """What the budget has paid, and will have to pay for what is on its way.

        That is what calls to come declare, or their stages have taken on average; for one that runs
        now, the time that it has taken if that is more.
        """
        now = self._pool.now()
        taken = {id(path): now - began for path, began in self._running.values()}
        due: dict[object, float] = {}
        for path in self._paths:
            for depth in range(len(path.runs), len(path.calls)):
                call = path.calls[depth]
                is_shared = self._cache is not None and call.stage.memoize
                cost = path.declared[depth]
                if call.stage.cost is None:
                    seconds, count = self._seconds.get(call.stage.name, (0.0, 1))
                    is_next = depth == len(path.runs)
                    cost = max(seconds / count, taken.get(id(path), 0.0) if is_next else 0.0)
                name = call.key if is_shared else (path, depth)
                due[name] = max(due.get(name, 0.0), cost)
        return math.fsum([self._trials.spent, *due.values()])

    def _start_what_can(self) -> None:
        # Those that are nearest to their end first: their results help to choose.
        for path in sorted(self._ready, key=lambda p: (-len(p.runs), p.trial.number)):
            key = path.next.key
            if self._interrupted.is_set():
                self._cut(path)
            elif self._cache is not None and path.next.stage.memoize and key in self._making:
                self._ready.remove(path)
                self._waiting[key].append(path)
            elif self._pool.can_take(path.next.resources):
                self._ready.remove(path)
                self._submit(path)
        has_room = (
            len(self._running) + len(self._ready) < self._pool.size
            and len(self._paths) < MAX_WAITING * self._pool.size
        )
        is_wanted = self._reason is None and not self._interrupted.is_set()
        if has_room and is_wanted and not self._is_thinking and self._is_due:
            self._think()

    def _think(self) -> None:
        self._left -= 1
        self._is_thinking = True
        self._ledger.show(self._activity)
        self._pool.think(self._begin_trial)

    def _begin_trial(self) -> tuple[optuna.Trial, dict[str, Any]]:
        with stoppable(self._trials.study):  # for samplers, which may run in another thread
            trial, params = self._trials.begin(self._cache, self._name)
        self._chosen = trial
        if self._is_over:  # the run ended by an exception meanwhile
            self._trials.interrupt(trial)
        return trial, params

    def _submit(self, path: TrialPath) -> None:
        task = path.task()
        self._making.add(task.call.key)
        self._running[task] = path, self._pool.now()
        self._ledger.show(self._activity, path.trial.number, path.runs)
        self._pool.submit(task)

    def _activity(self) -> str:
        """What goes on, in a line."""
        running = [
            f"{task.call.stage.name} of {path.trial.number}"
            if self._pool.size > 1
            else task.call.stage.name
            for task, (path, _) in self._running.items()
        ]
        parts = [f"running {', '.join(running)}"] if running else []
        waiting = sum(map(len, self._waiting.values()))
        parts += [f"{waiting} waiting for what others make"] if waiting else []
        parts += ["choosing a configuration"] if self._is_thinking else []
        return "; ".join(parts)

    def _check_done(self) -> None:
        """Say so where calls are left that no worker can take."""
        if self._ready:
            call = self._ready[0].next
            raise ConfigurationError(
                f"no worker of the executor can run stage {call.stage.name!r}, which needs "
                f"{call.resources}; declare less with stage(num_cpus=..., num_gpus=...), "
                f"or give an executor whose workers have as much."
            )

    # --- What has happened

    def _take(self, event: Ended | Thought | Joined) -> None:
        if isinstance(event, Joined):
            return
        if isinstance(event, Thought):
            self._is_thinking = False
            self._take_thought(event)
            self._drop_unwanted()
            return
        path, _ = self._running.pop(event.task)
        self._making.discard(event.task.call.key)
        path.take(event, self._pool.now)
        self._learn(path)
        try:
            self._ledger.record(path.trial, path.runs, path.lost)
            self._go_on(path)
        except UpdateFinishedTrialError as error:
            logger.warning("a trial was taken over by another driver: %s", error)
            self._drop(path)
        for waiting in self._waiting.pop(event.task.call.key, []):
            waiting.pass_over_kept(self._pool.now)
            self._go_on(waiting)

    def _learn(self, path: TrialPath) -> None:
        """Remember how long the stages take."""
        if path.runs and path.runs[-1].cost is not None:
            run = path.runs[-1]
            seconds, count = self._seconds.get(run.name, (0.0, 0))
            self._seconds[run.name] = seconds + (run.cost or 0.0), count + 1

    def _take_thought(self, thought: Thought) -> None:
        if isinstance(thought.error, SearchOver):
            self._reason = f"stopped: {thought.error}"
            return
        if thought.error is not None:
            raise thought.error
        trial, params = thought.value
        self._chosen = None
        try:
            calls = self._trials.pipeline.calls(params, self._upstream)
        except BaseException:
            self._trials.interrupt(trial)
            raise
        path = TrialPath(trial, calls, self._upstream, self._inputs, self._cache)
        self._paths.append(path)
        trial.set_user_attr("stage_keys", [call.key for call in calls])
        self._ledger.record(trial, [])
        path.hold()
        if not self._interrupted.is_set():
            path.pass_over_kept(self._pool.now)
        self._go_on(path)

    def _go_on(self, path: TrialPath) -> None:
        """Have a trial's next call run when it can, or end it."""
        if path.has_ended:
            self._end(path)
        elif self._interrupted.is_set():
            self._cut(path)
        else:
            self._ready.append(path)

    def _drop(self, path: TrialPath) -> None:
        """Have no more to do with a trial."""
        if path in self._paths:
            self._paths.remove(path)
        if path in self._ready:
            self._ready.remove(path)
        path.held.close()

    def _end(self, path: TrialPath) -> None:
        self._drop(path)
        self._unwanted |= {call.key for call in path.calls}
        try:
            reason = self._ledger.close(path.trial, path.calls, path.runs)
        finally:  # a callback may raise
            self._drop_unwanted()
        self._reason = self._reason or reason

    def _drop_unwanted(self) -> None:
        """Drop what no trial needs, unless a trial is being chosen that may count on it."""
        if not self._is_thinking and self._unwanted:
            self._ledger.keep_best(self._unwanted)
            self._unwanted = set()

    def _cut(self, path: TrialPath) -> None:
        """Close a trial before its end, and have it run again first."""
        self._has_cut = True
        self._drop(path)
        self._trials.interrupt(path.trial)


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
    """Let samplers and callbacks call `study.stop()`, which Optuna allows in its own loop only.

    It holds for the thread that it is entered in; the study's flag is for all.
    """
    was = getattr(study._thread_local, "in_optimize_loop", False)
    study._thread_local.in_optimize_loop = True
    try:
        yield
    finally:
        study._thread_local.in_optimize_loop = was
