"""The state of a study at one moment, and the words for it that several displays use."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from eeipu.counts import counted
from eeipu.stages.runs import StageRun, error_line, first_failed
from eeipu.studies.records.amounts import amount, duration, value_text

__all__ = [
    "Snapshot",
    "TrainingProgress",
    "account",
    "best",
    "facts",
    "outcome",
    "reason",
    "result",
    "rungs",
    "times",
    "training",
]

# A longer reason for a failure is cut; the whole of it is in the trial's user attribute `"error"`.
MAX_REASON = 200

# A pruner may look at every step; so many of the steps are shown, from the first to the last.
MAX_RUNGS = 8


@dataclass(frozen=True)
class TrainingProgress:
    """How trainings that may stop early go on at one moment.

    Attributes:
        rungs: Step -> how many trials have a value there.
        merge_rate: The steps that all trials have asked for, over those that are run for them.
        spared: The steps that need not be run, because others have them in common.
        busy: How many calls workers run now.
        workers: How many they can run.
    """

    rungs: Mapping[int, int]
    merge_rate: float
    spared: int
    busy: int
    workers: int


@dataclass(frozen=True)
class Snapshot:
    """The state of a study at one moment.

    Attributes:
        study_name: The name of the study.
        trials: How many trials have succeeded.
        failed: How many trials have failed.
        stopped: How many trials were pruned, or pause before the end of their training.
        budget: What all trials may cost together; `None` where nothing limits it.
        spent: What they have cost so far.
        saved: What reused stage outputs would have cost, in this run of the tuner.
        unit: The text after an amount of cost: `" s"`, or nothing where stages declare their costs.
        best_value: The best objective so far, within all limits; `None` before there is one, and
            where there are several objectives.
        number: The number of the current trial, or of the last one.
        value: The objective of that trial, or all of several; `None` while it runs, and where it
            failed.
        charged: What the budget has paid for that trial so far.
        stage_names: The names of all stages of the pipeline.
        stage_runs: The results of the stages that the trial has run or reused so far.
        activity: What goes on now, in a line.
        time_s: When this state was seen, in seconds of a monotonic clock.
        elapsed_s: How long this run of the tuner had taken by then, in seconds.
        choosing_s: How many seconds the search took to choose this run's configurations.
        step: The step of its training at which the trial has this value; `None` where it has none.
        training: How trainings go on; `None` where none may stop early.
        end_s: How long the run will have taken when the first of its limits is reached, if it goes
            on as fast as so far, in seconds; `None` where there is no estimate.
        front: With several objectives, how many trials no other one is better than; `None` with
            one.
    """

    study_name: str
    trials: int
    failed: int
    budget: float | None
    spent: float
    saved: float
    unit: str
    best_value: float | None
    number: int
    value: float | tuple[float, ...] | None
    charged: float
    stage_names: tuple[str, ...]
    stage_runs: tuple[StageRun, ...]
    activity: str
    time_s: float
    elapsed_s: float
    choosing_s: float
    end_s: float | None
    step: int | None = None
    stopped: int = 0
    front: int | None = None
    training: TrainingProgress | None = None

    def at(self, time_s: float) -> "Snapshot":
        """The same state, seen again when nothing but the time has changed."""
        return replace(self, time_s=time_s, elapsed_s=self.elapsed_s + time_s - self.time_s)

    @property
    def is_pruned(self) -> bool:
        """Whether one of the trial's stages pruned it."""
        failed = first_failed(self.stage_runs)
        return failed is not None and failed.is_pruned

    @property
    def failure(self) -> str | None:
        """Where and why the trial has failed, such as `"fit: ValueError: no data"`."""
        failed = first_failed(self.stage_runs)
        if failed is None or failed.is_pruned:
            return None
        return f"{failed.name}: {reason(failed.error or '')}"


def account(snapshot: Snapshot) -> str:
    """What is spent of the budget, and what is left."""
    spent = f"{amount(snapshot.spent, snapshot.unit)} spent"
    if snapshot.budget is None:
        return spent
    left = max(0.0, snapshot.budget - snapshot.spent)
    return f"{spent}, {amount(left, snapshot.unit)} left"


def facts(snapshot: Snapshot) -> str:
    """How many trials there were, the best value, and what the cache has saved."""
    parts = [
        counted(snapshot.trials, "trial"),
        *([f"{snapshot.stopped} stopped early"] if snapshot.stopped else []),
        *([f"{snapshot.failed} failed"] if snapshot.failed else []),
        best(snapshot),
        f"saved by the cache {amount(snapshot.saved, snapshot.unit)}",
    ]
    return " · ".join(parts)


def best(snapshot: Snapshot) -> str:
    """The best value so far, or how many trials are on the front."""
    if snapshot.front is not None:
        return f"front of {counted(snapshot.front, 'trial')}"
    return "best none yet" if snapshot.best_value is None else f"best {snapshot.best_value:.6g}"


def training(snapshot: Snapshot) -> str:
    """How many trials have reached which step, what they share, and how many workers are busy."""
    now = snapshot.training
    if now is None:
        return ""
    return " · ".join(
        [
            f"reached {rungs(now) or 'no step yet'}",
            f"{counted(now.spared, 'step')} shared, merge rate {now.merge_rate:.2f}",
            f"{now.busy} of {counted(now.workers, 'worker')} busy",
        ]
    )


def rungs(now: TrainingProgress) -> str:
    """How many trials have reached which step, such as `"step 3: 27, 9: 9, 27: 3"`."""
    steps = sorted(now.rungs)
    if len(steps) > MAX_RUNGS:
        last = len(steps) - 1
        steps = [steps[round(k * last / (MAX_RUNGS - 1))] for k in range(MAX_RUNGS)]
    counts = ", ".join(f"{step}: {now.rungs[step]}" for step in steps)
    return f"step {counts}" if counts else ""


def times(snapshot: Snapshot) -> str:
    """How long the run has taken, the part of choosing, and an estimate of its end."""
    parts = [f"{duration(snapshot.elapsed_s)} elapsed", f"{duration(snapshot.choosing_s)} choosing"]
    if snapshot.end_s is not None:
        left_s = max(0.0, snapshot.end_s - snapshot.elapsed_s)
        parts.append(f"ends in about {duration(left_s)}")
    return " · ".join(parts)


def result(snapshot: Snapshot) -> str:
    """The value of a trial that has ended, or that it has none."""
    if snapshot.value is not None:
        return value_text(snapshot.value)
    return "pruned" if snapshot.is_pruned else "failed"


def outcome(run: StageRun, unit: str) -> str:
    """What a stage has cost, and whether it was reused or has failed."""
    if run.memoized:
        return "reused"
    cost = "cost unknown" if run.cost is None else amount(run.cost, unit)
    if run.is_pruned:
        return f"{cost}, pruned"
    return f"{cost}, failed" if run.error is not None else cost


def reason(error: str) -> str:
    """The first line of an error's message, from the traceback or the message itself."""
    line = error_line(error)
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 3]}..."
