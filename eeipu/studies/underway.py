"""The trials that have begun and not ended, and what each of their calls waits for."""

from collections import defaultdict
from collections.abc import Iterator

from eeipu.stages.running.tasks import StageTask
from eeipu.studies.trial_run import TrialRun

__all__ = ["CallQueue", "TrialsUnderway"]

# How many trials there may be for each worker. Some wait for an output that others compute, and
# keep no worker busy.
TRIALS_PER_WORKER = 2


Step = tuple[TrialRun, int]
"""A trial, and the place of one of its calls."""


class CallQueue:
    """The calls of trials that could run now; each is in one state.

    - *ready*: a worker can run the call as soon as one is free;
    - *running*: a worker runs it;
    - *waiting*: another trial runs the same call, and its output will be reused.

    Args:
        workers: How many calls can run at once.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._ready: list[Step] = []
        self._running: dict[StageTask, TrialRun] = {}
        self._waiting: defaultdict[str, list[Step]] = defaultdict(list)  # by the call's key

    @property
    def has_idle(self) -> bool:
        """Whether there are fewer calls to run than workers."""
        return len(self._running) + len(self._ready) < self._workers

    def add_ready(self, run: TrialRun) -> None:
        """Let those of a trial's calls that can run now do so when workers are free."""
        known = {k for each, k in (*self._ready, *self._all_waiting) if each is run}
        self._ready += [(run, k) for k in run.states.ready if k not in known]

    @property
    def _all_waiting(self) -> list[Step]:
        return [step for steps in self._waiting.values() for step in steps]

    def ready(self) -> list[Step]:
        """The calls that are ready, those of trials with the most stages behind them first.

        These trials end soonest, and their results help to choose the next configurations.
        """
        return sorted(
            self._ready, key=lambda step: (-len(step[0].states.runs), step[0].trial.number, step[1])
        )

    def must_wait(self, run: TrialRun, k: int) -> bool:
        """Whether another trial runs call `k` of this trial, so that its output can be reused."""
        call = run.calls[k]
        return run.is_shared(call) and any(task.call.key == call.key for task in self._running)

    def wait(self, run: TrialRun, k: int) -> None:
        """Let a call that is ready wait for another trial's output."""
        self._ready.remove((run, k))
        self._waiting[run.calls[k].key].append((run, k))

    def start(self, run: TrialRun, k: int, now_s: float) -> StageTask:
        """Let a call that is ready run.

        Args:
            run: The trial.
            k: The call's place in it.
            now_s: The time of the pool's clock.

        Returns:
            The call as a task for a worker.
        """
        self._ready.remove((run, k))
        task = run.begin_call(k, now_s)
        self._running[task] = run
        return task

    def finish(self, task: StageTask) -> TrialRun:
        """The trial whose task has ended; that call is in none of the states now."""
        return self._running.pop(task)

    def take_waiting(self, key: str) -> list[TrialRun]:
        """The trials that waited for the call of a key; that call is in none of the states now."""
        return [run for run, _ in self._waiting.pop(key, [])]

    def hold_back(self, run: TrialRun) -> None:
        """Let no further call of a trial run."""
        self._ready = [step for step in self._ready if step[0] is not run]
        for steps in self._waiting.values():
            steps[:] = [step for step in steps if step[0] is not run]

    def activity(self) -> list[str]:
        """What runs and what waits, in words."""
        running = [
            f"{task.call.stage.name} of {run.trial.number}"
            if self._workers > 1
            else task.call.stage.name
            for task, run in self._running.items()
        ]
        waiting = len(self._all_waiting)
        parts = [f"running {', '.join(running)}"] if running else []
        return parts + ([f"{waiting} waiting for other trials' outputs"] if waiting else [])


class TrialsUnderway:
    """The trials that have begun and not ended.

    Args:
        workers: How many calls can run at once.

    Attributes:
        calls: Those of their calls that could run now.
        is_choosing: Whether a configuration for another trial is being chosen.
    """

    def __init__(self, workers: int) -> None:
        self.calls = CallQueue(workers)
        self.is_choosing = False
        self._workers = workers
        self._all: list[TrialRun] = []

    def __iter__(self) -> Iterator[TrialRun]:
        """All of them, in the order in which they began."""
        return iter(tuple(self._all))

    @property
    def lacks_trials(self) -> bool:
        """Whether another trial has to be chosen to keep all workers busy."""
        has_room = len(self._all) < TRIALS_PER_WORKER * self._workers
        return self.calls.has_idle and has_room and not self.is_choosing

    @property
    def waits_for_choice(self) -> bool:
        """Whether a worker is idle while a configuration is being chosen."""
        return self.calls.has_idle and self.is_choosing

    def add(self, run: TrialRun) -> None:
        """Add a trial that begins."""
        self._all.append(run)

    def remove(self, run: TrialRun) -> None:
        """Remove a trial that ends, or that this run of the tuner gives up."""
        if run in self._all:
            self._all.remove(run)
        self.calls.hold_back(run)
        run.release_outputs()

    def activity(self) -> str:
        """What goes on, in a line for the display."""
        choosing = ["choosing a configuration"] if self.is_choosing else []
        return "; ".join([*self.calls.activity(), *choosing])
