"""The trials that have begun and not ended, and what each of them waits for."""

from collections import defaultdict
from collections.abc import Iterator

from eeipu.stages.worker import StageTask
from eeipu.studies.trial_run import TrialRun

__all__ = ["TrialsUnderway"]

# How many trials there may be for each worker. Some wait for an output that others compute, and
# keep no worker busy.
TRIALS_PER_WORKER = 2


class TrialsUnderway:
    """The trials underway; each of them is in one of three states.

    - *ready*: a worker can run its next call as soon as one is free;
    - *running*: a worker runs its next call;
    - *waiting*: another trial runs that same call, and its output will be reused.

    Args:
        workers: How many calls can run at once.

    Attributes:
        is_choosing: Whether a configuration for another trial is being chosen.
    """

    def __init__(self, workers: int) -> None:
        self.is_choosing = False
        self._workers = workers
        self._all: list[TrialRun] = []
        self._ready: list[TrialRun] = []
        self._running: dict[StageTask, TrialRun] = {}
        self._waiting: defaultdict[str, list[TrialRun]] = defaultdict(list)  # by the call's key

    def __iter__(self) -> Iterator[TrialRun]:
        """All of them, in the order in which they began."""
        return iter(tuple(self._all))

    @property
    def lacks_trials(self) -> bool:
        """Whether another trial has to be chosen to keep all workers busy."""
        has_room = len(self._all) < TRIALS_PER_WORKER * self._workers
        return self._has_idle and has_room and not self.is_choosing

    @property
    def waits_for_choice(self) -> bool:
        """Whether a worker is idle while a configuration is being chosen."""
        return self._has_idle and self.is_choosing

    @property
    def _has_idle(self) -> bool:
        return len(self._running) + len(self._ready) < self._workers

    def add(self, run: TrialRun) -> None:
        """Add a trial that begins."""
        self._all.append(run)

    def make_ready(self, run: TrialRun) -> None:
        """Let a trial's next call run when a worker is free."""
        self._ready.append(run)

    def ready(self) -> list[TrialRun]:
        """The trials that are ready, those with the most stages behind them first.

        They end soonest, and their results help to choose the next configurations.
        """
        return sorted(self._ready, key=lambda run: (-len(run.runs), run.trial.number))

    def must_wait(self, run: TrialRun) -> bool:
        """Whether another trial runs this trial's next call, so that its output can be reused."""
        call = run.next_call
        return run.is_shared(call) and any(task.call.key == call.key for task in self._running)

    def wait(self, run: TrialRun) -> None:
        """Let a trial that is ready wait for the output of its next call."""
        self._ready.remove(run)
        self._waiting[run.next_call.key].append(run)

    def start(self, run: TrialRun, now_s: float) -> StageTask:
        """Let a trial that is ready run its next call.

        Args:
            run: The trial.
            now_s: The time of the pool's clock.

        Returns:
            The call as a task for a worker.
        """
        self._ready.remove(run)
        task = run.begin_call(now_s)
        self._running[task] = run
        return task

    def finish(self, task: StageTask) -> TrialRun:
        """The trial whose task has ended; it is in none of the states now."""
        return self._running.pop(task)

    def take_waiting(self, key: str) -> list[TrialRun]:
        """The trials that waited for the call of a key; they are in none of the states now."""
        return self._waiting.pop(key, [])

    def remove(self, run: TrialRun) -> None:
        """Remove a trial that ends, or that this run of the tuner gives up."""
        if run in self._all:
            self._all.remove(run)
        if run in self._ready:
            self._ready.remove(run)
        run.release_outputs()

    def activity(self) -> str:
        """What goes on, in a line for the display."""
        running = [
            f"{task.call.stage.name} of {run.trial.number}"
            if self._workers > 1
            else task.call.stage.name
            for task, run in self._running.items()
        ]
        waiting = sum(map(len, self._waiting.values()))
        parts = [f"running {', '.join(running)}"] if running else []
        parts += [f"{waiting} waiting for other trials' outputs"] if waiting else []
        parts += ["choosing a configuration"] if self.is_choosing else []
        return "; ".join(parts)
