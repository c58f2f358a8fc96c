"""One trial on its way through the stages of its pipeline, one stage call after another."""

import math
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import optuna

from eeipu.cache import StageCache
from eeipu.executors.pool import Ended, death_of
from eeipu.pipeline import Pipeline, record_run
from eeipu.stages.calls import Clock, StageCall
from eeipu.stages.programming_errors import is_programming_error
from eeipu.stages.runs import PipelineRun, StageRun
from eeipu.stages.worker import StageTask, load_deepest, reused
from eeipu.studies.records.trial_notes import TrialNotes, flat_notes

__all__ = ["TrialRun"]

# How often a trial begins again because an output disappeared from the cache before it was loaded.
# After that, the cache is not one that can be relied on, and the trial fails.
MAX_LOST_OUTPUTS = 3


@dataclass(eq=False)
class TrialRun:
    """A trial that has begun and not ended: its stage calls, and how far it is.

    Attributes:
        trial: The trial in the study.
        calls: Its stage calls, first to last.
        inputs: The run's inputs; `None` where workers have them with their job.
        cache: The cache of stage outputs, if there is one.
        runs: The results of the first calls, as far as the trial has come.
        args: The arguments of the next call; `None` where workers find them in the cache or job.
        began_s: When the call that runs now was given to a worker, by the pool's clock; `None`
            while none runs.
        lost_cost: What was spent on calls that returned nothing. It is charged to the next call
            that ends.
        worker_deaths: How many times in a row workers have died while running the next call.
        lost_outputs: How many times an output had disappeared from the cache.
        overhead: What the budget pays for the choice of its configuration.
        ran: The calls that workers ran, each with the times of the pool's clock when it was given
            to a worker and when it ended.
    """

    trial: optuna.Trial
    calls: tuple[StageCall, ...]
    inputs: tuple[Any, ...] | None
    cache: StageCache | None
    runs: list[StageRun] = field(default_factory=list)
    args: tuple[Any, ...] | None = None
    began_s: float | None = None
    lost_cost: float = 0.0
    worker_deaths: int = 0
    lost_outputs: int = 0
    overhead: float = 0.0
    ran: list[tuple[str, float, float]] = field(default_factory=list)
    _uses: ExitStack = field(default_factory=ExitStack, repr=False)

    def __post_init__(self) -> None:
        self.args = self.inputs

    @cached_property
    def declared_costs(self) -> tuple[float, ...]:
        """The declared cost of each call; 0 where it is measured, or depends on the arguments."""
        return tuple(map(_declared_cost, self.calls))

    @property
    def next_call(self) -> StageCall:
        """The call that runs now, or is the next to run."""
        return self.calls[len(self.runs)]

    @property
    def has_ended(self) -> bool:
        """Whether a call has failed, or all of them have run."""
        has_failed = bool(self.runs) and self.runs[-1].error is not None
        return has_failed or len(self.runs) == len(self.calls)

    def is_shared(self, call: StageCall) -> bool:
        """Whether the output of a call goes into the cache, where other trials find it."""
        return self.cache is not None and call.memoize

    def hold_outputs(self) -> None:
        """Keep the outputs that the trial may need in the cache, until `release_outputs`."""
        if self.cache is not None:
            keys = [call.key for call in self.calls if call.memoize]
            self._uses.enter_context(self.cache.holders.using(keys))

    def release_outputs(self) -> None:
        """Allow the outputs that the trial needed to be dropped from the cache."""
        self._uses.close()

    def begin_call(self, now_s: float) -> StageTask:
        """Make a task of the next call, which takes its arguments along.

        Args:
            now_s: The time of the pool's clock.
        """
        depth = len(self.runs)
        task = StageTask(
            self.next_call,
            self.args,
            is_first=depth == 0,
            is_last=depth == len(self.calls) - 1,
        )
        self.args = None  # they may be large: they live until the stage has used them
        self.began_s = now_s
        return task

    def reuse_outputs(self, clock: Clock) -> float:
        """Continue after the last of the calls to come whose output is in the cache.

        Args:
            clock: A monotonic clock, in seconds.

        Returns:
            What was charged for loading that output here, where it was the objective.
        """
        done = len(self.runs)
        if self.cache is None:
            return 0.0
        for depth in range(len(self.calls), done, -1):
            call = self.calls[depth - 1]
            if not call.memoize or call.key not in self.cache:
                continue
            found = self.calls[done:depth]
            # The objective is needed here, and not in a worker.
            is_last = depth == len(self.calls)
            runs = load_deepest(found, self.cache, clock) if is_last else reused(found, self.cache)
            if len(runs) == len(found):
                self.runs += runs
                self.args = None
                return math.fsum(run.load_s for run in runs)
        return 0.0

    def end_call(self, event: Ended, clock: Clock) -> None:
        """Take the result of the call that was running, or decide what follows its failure.

        Args:
            event: How the call's task has ended.
            clock: A monotonic clock, in seconds.
        """
        call, result = event.task.call, event.result
        if self.began_s is not None:
            self.ran.append((call.name, self.began_s, clock()))
        self.began_s = None
        self.worker_deaths += event.is_death
        if result is not None and result.run is not None:
            self._add(event, result.run)
        elif result is not None:
            self._begin_again(clock)
        else:
            self.lost_cost += event.elapsed_s if call.stage.cost is None else 0.0
            is_final = event.error is not None and (
                not event.is_death or self.worker_deaths > call.stage.retries
            )
            if is_final:
                assert event.error is not None
                error, is_bug = self._failure_of(event), is_programming_error(event.error)
                failed = StageRun(call.stage.name, call.key, error=error, is_bug=is_bug)
                self._add(event, failed)
            else:
                self.args = event.task.args

    def _add(self, event: Ended, run: StageRun) -> None:
        result = event.result
        if self.runs and result is not None and event.task.args is None:
            above = self.calls[len(self.runs) - 1]
            loaded = _with_load_time(self.runs[-1], above, result.load_s)
            self.runs[-1] = replace(loaded, value=result.loaded)
        is_kept = result is not None and result.is_kept and run.output is None
        self.args = None if is_kept else (run.output,)
        goes_on = run.error is None and not event.task.is_last
        # Declared costs have a unit of their own, to which seconds cannot be added.
        is_measured = result is not None and event.task.call.stage.cost is None
        keep_s = result.keep_s if result is not None and is_measured else 0.0
        run = replace(run, charged=run.charged + self.lost_cost + keep_s, keep_s=keep_s)
        self.runs.append(replace(run, output=None) if goes_on else run)  # `args` has the output
        self.lost_cost, self.worker_deaths = 0.0, 0

    def _begin_again(self, clock: Clock) -> None:
        """Run the calls again whose output has disappeared from the cache."""
        self.lost_outputs += 1
        self.lost_cost += math.fsum(run.charged for run in self.runs)
        if self.lost_outputs > MAX_LOST_OUTPUTS:
            name, key = self.next_call.stage.name, self.next_call.key
            error = (
                f"the input of {name!r} had disappeared from {self.cache!r} {self.lost_outputs} "
                f"times; give the tuner a cache that all workers reach."
            )
            self.runs.append(StageRun(name, key, error=error, charged=self.lost_cost))
            self.lost_cost = 0.0
            return
        self.runs.clear()
        self.args = self.inputs
        self.reuse_outputs(clock)

    def _failure_of(self, event: Ended) -> str:
        """The error message for a call that returned nothing."""
        assert event.error is not None
        if not event.is_death:
            return "".join(traceback.format_exception(event.error))
        return (
            f"{death_of(event)} {self.worker_deaths} times in a row, the last time after "
            f"{event.elapsed_s:.3g} s: {event.error}"
        )

    def write_costs(self, pipeline: Pipeline) -> None:
        """Write what the trial has cost so far into the study.

        If this process dies, the budget still pays for it.

        Args:
            pipeline: The pipeline that the trial is a configuration of.
        """
        so_far, notes = pipeline.join(self.runs), TrialNotes(self.trial)
        notes.set_user_attr("stage_costs", so_far.stage_costs)
        notes.set_user_attr("memoized", so_far.memoized)
        self.note_charge(notes, so_far)
        notes.write()

    def write_result(self, result: PipelineRun, epoch_s: float) -> None:
        """Write all that is known of a trial that has ended into the study, but for its value.

        Args:
            result: The results of its stages.
            epoch_s: The time of the system's clock when the pool's clock was at zero.
        """
        notes = TrialNotes(self.trial)
        record_run(notes, self.calls, result)
        self.note_charge(notes, result)
        names, metrics = result.stage_names, result.metrics
        flat = flat_notes(names, result.stage_costs, result.memoized, metrics)
        for name, value in flat.items():
            notes.set_user_attr(name, value)
        times = [(name, round(a + epoch_s, 3), round(b + epoch_s, 3)) for name, a, b in self.ran]
        notes.set_user_attr("ran", times)
        notes.write()

    def note_charge(self, notes: TrialNotes, so_far: PipelineRun) -> None:
        """Note what the budget pays for the trial, and how much of it was not for its stages.

        Args:
            notes: Where to note it.
            so_far: The results of the stages that the trial has run or reused so far.
        """
        paid = math.fsum([so_far.charged, self.lost_cost, self.overhead])
        notes.set_user_attr("charged", paid)
        if self.has_ended:
            notes.set_user_attr("load_s", so_far.load_s)
            notes.set_user_attr("keep_s", so_far.keep_s)


def _declared_cost(call: StageCall) -> float:
    try:
        return call.stage.declared_cost(call.params) or 0.0
    except Exception:
        return 0.0  # the call will fail with this exception, and report it


def _with_load_time(run: StageRun, call: StageCall, load_s: float) -> StageRun:
    """Charge the time of loading an output; but not to a declared cost, which has another unit."""
    if call.stage.cost is not None:
        return run
    return replace(run, charged=run.charged + load_s, load_s=run.load_s + load_s)
