"""One trial on its way through the stages of its pipeline."""

import math
import traceback
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import optuna

from eeipu.cache import StageCache
from eeipu.executors.pool import Ended, death_of
from eeipu.methods.ledger import SUSPENDED
from eeipu.pipeline import Pipeline, record_run
from eeipu.stages.joining.graph import Graph
from eeipu.stages.running.calls import Clock, StageCall
from eeipu.stages.running.programming_errors import is_programming_error
from eeipu.stages.running.tasks import IN_CACHE, Load, StageTask
from eeipu.stages.running.walks import Handover, graph_of, kept_in, reused
from eeipu.stages.running.worker import loaded_run, with_load_time
from eeipu.stages.runs import PipelineRun, StageRun
from eeipu.studies.records.trial_notes import TrialNotes, flat_notes

__all__ = ["TrialRun"]

# How often a trial begins again because an output disappeared from the cache before it was loaded.
# After that, the cache is not one that can be relied on, and the trial fails.
MAX_LOST_OUTPUTS = 3


@dataclass(eq=False)
class TrialRun:
    """A trial that has begun and not ended: its stage calls, and how far it is.

    Several of its calls may run at the same time, where none of them needs another's output.

    Attributes:
        trial: The trial in the study.
        calls: Its stage calls, in the pipeline's order. A call's place is its index here.
        cache: The cache of stage outputs, if there is one.
        runs: The results of the calls that have ended or need not run, by place.
        began_s: When each of the calls that run now was given to a worker, by the pool's clock.
        lost_cost: What was spent on calls that returned nothing. It is charged to the next call
            that ends.
        worker_deaths: How many times in a row workers have died while running a call, by place.
        lost_outputs: How many times an output had disappeared from the cache.
        overhead: What the budget pays for the choice of its configuration.
        ran: The calls that workers ran, each with the times of the pool's clock when it was given
            to a worker and when it ended.
        suspended: What was expected when it was stopped in favour of others; `None`: it was not.
    """

    trial: optuna.Trial
    calls: tuple[StageCall, ...]
    cache: StageCache | None
    runs: dict[int, StageRun] = field(default_factory=dict)
    began_s: dict[int, float] = field(default_factory=dict)
    lost_cost: float = 0.0
    worker_deaths: Counter[int] = field(default_factory=Counter)
    lost_outputs: int = 0
    overhead: float = 0.0
    ran: list[tuple[str, float, float]] = field(default_factory=list)
    suspended: Mapping[str, float] | None = None
    _args: dict[int, tuple[Any, ...] | None] = field(default_factory=dict, repr=False)
    _uses: ExitStack = field(default_factory=ExitStack, repr=False)

    @cached_property
    def graph(self) -> Graph:
        """Whose output each call gets."""
        return graph_of(self.calls)

    @cached_property
    def _handover(self) -> Handover:
        return Handover(self.graph)

    @cached_property
    def declared_costs(self) -> tuple[float, ...]:
        """The declared cost of each call; 0 where it is measured, or depends on the arguments."""
        return tuple(map(_declared_cost, self.calls))

    @property
    def stage_runs(self) -> list[StageRun]:
        """The results so far, in the pipeline's order."""
        return [self.runs[k] for k in sorted(self.runs)]

    @property
    def to_come(self) -> list[int]:
        """The calls that run now or have to run yet."""
        return [k for k in range(len(self.calls)) if k not in self.runs]

    @property
    def ready(self) -> list[int]:
        """The calls that can run now and do not run yet."""
        if self.is_failing:
            return []
        return [
            k
            for k in self.to_come
            if k not in self.began_s and all(j in self.runs for j in self.graph.upstream[k])
        ]

    @property
    def is_failing(self) -> bool:
        """Whether a call has failed, so that no other begins."""
        return any(run.error is not None for run in self.runs.values())

    @property
    def has_ended(self) -> bool:
        """Whether no call has to run any more, or none is to; and none runs."""
        is_over = self.is_failing or self.suspended is not None or not self.to_come
        return is_over and not self.began_s

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

    def begin_call(self, k: int, now_s: float) -> StageTask:
        """Make a task of a call that is ready, which takes its arguments along.

        Args:
            k: The call's place.
            now_s: The time of the pool's clock.
        """
        args = self._args.pop(k) if k in self._args else self._arguments(k)
        self.began_s[k] = now_s
        return StageTask(self.calls[k], args, is_last=k == len(self.calls) - 1)

    def _arguments(self, k: int) -> tuple[Any, ...] | None:
        """The arguments of a call that its worker does not find; `None` if it finds all."""
        at_hand = {
            j: self._handover.take(j, k) for j in self.graph.upstream[k] if j in self._handover
        }
        if not at_hand:
            return None
        return tuple(None if j is None else at_hand.get(j, IN_CACHE) for j in self.graph.sources[k])

    def reuse_outputs(self, clock: Clock) -> float:
        """Leave out the calls to come that need not run, since outputs are in the cache.

        Args:
            clock: A monotonic clock, in seconds.

        Returns:
            What was charged for loading the objective here, where its output was kept.
        """
        if self.cache is None:
            return 0.0
        kept, last = kept_in(self.calls, self.cache), len(self.calls) - 1
        has = [is_kept or k in self.runs for k, is_kept in enumerate(kept)]
        found = reused(self.calls, self.graph, has, self.cache)
        charged = 0.0
        if last in found and last not in self.runs and not found[last].is_unobserved:
            # The objective is needed here, and not in a worker.
            run = loaded_run(self.calls[last], self.cache, clock)
            if run is None:  # it has just disappeared
                has[last] = False
                found = reused(self.calls, self.graph, has, self.cache)
            else:
                found[last], charged = run, run.load_s
        for k, run in found.items():
            # What an observer must see first is loaded by a worker.
            if not (k in self.runs or k in self.began_s or run.is_unobserved):
                self.runs[k] = run
        return charged

    def end_call(self, event: Ended, clock: Clock) -> None:
        """Take the result of a call that was running, or decide what follows its failure.

        Args:
            event: How the call's task has ended.
            clock: A monotonic clock, in seconds.
        """
        call, result = event.task.call, event.result
        k = self._place[call.key]
        self.ran.append((call.name, self.began_s.pop(k), clock()))
        self.worker_deaths[k] += event.is_death
        if result is not None and result.run is not None:
            self._add(k, event, result.run)
        elif result is not None:
            self._begin_again(k, clock)
        else:
            self.lost_cost += event.elapsed_s if call.stage.cost is None else 0.0
            is_final = event.error is not None and (
                not event.is_death or self.worker_deaths[k] > call.stage.retries
            )
            if is_final:
                assert event.error is not None
                error, is_bug = self._failure_of(k, event), is_programming_error(event.error)
                failed = StageRun(call.stage.name, call.key, error=error, is_bug=is_bug)
                self._add(k, event, failed)
            else:
                self._args[k] = event.task.args

    @cached_property
    def _place(self) -> dict[str, int]:
        return {call.key: k for k, call in enumerate(self.calls)}

    def _add(self, k: int, event: Ended, run: StageRun) -> None:
        result, call = event.result, event.task.call
        for load in result.loads if result is not None else ():
            self._charge_load(load)
        # Declared costs have a unit of their own, to which seconds cannot be added.
        is_measured = result is not None and call.stage.cost is None
        keep_s = result.keep_s if result is not None and is_measured else 0.0
        run = replace(run, charged=run.charged + self.lost_cost + keep_s, keep_s=keep_s)
        if run.error is None and not event.task.is_last:
            self._hand_on(k, run, is_kept=result is not None and result.is_kept)
            run = replace(run, output=None)
        self.runs[k] = run
        self.lost_cost, self.worker_deaths[k] = 0.0, 0

    def _hand_on(self, k: int, run: StageRun, *, is_kept: bool) -> None:
        """Keep an output for the calls that get it, unless they find it in the cache."""
        if is_kept and (run.output is None or len(self.graph.needed_by[k]) > 1):
            return
        self._handover.put(k, run.output, frozenset(self.runs))

    def _charge_load(self, load: Load) -> None:
        j = self._place[load.key]
        above = self.runs.get(j)
        if above is None:  # the trial has begun again meanwhile
            self.lost_cost += load.seconds if self.calls[j].stage.cost is None else 0.0
            return
        self.runs[j] = with_load_time(above, self.calls[j], load.seconds)

    def _begin_again(self, k: int, clock: Clock) -> None:
        """Run the calls again whose output has disappeared from the cache.

        Args:
            k: The call whose argument was gone.
            clock: A monotonic clock, in seconds.
        """
        self.lost_outputs += 1
        if self.lost_outputs > MAX_LOST_OUTPUTS:
            call = self.calls[k]
            error = (
                f"the input of {call.stage.name!r} had disappeared from {self.cache!r} "
                f"{self.lost_outputs} times; give the tuner a cache that all workers reach."
            )
            failed = StageRun(call.stage.name, call.key, error=error, charged=self.lost_cost)
            self.runs[k], self.lost_cost = failed, 0.0
            return
        is_there = [
            is_kept or j in self._handover or j in self.began_s
            for j, is_kept in enumerate(kept_in(self.calls, self.cache))
        ]
        for j, must in enumerate(self.graph.must_run(is_there)):
            if must and j in self.runs:
                self.lost_cost += self.runs.pop(j).charged
        self.reuse_outputs(clock)

    def _failure_of(self, k: int, event: Ended) -> str:
        """The error message for a call that returned nothing."""
        assert event.error is not None
        if not event.is_death:
            return "".join(traceback.format_exception(event.error))
        return (
            f"{death_of(event)} {self.worker_deaths[k]} times in a row, the last time after "
            f"{event.elapsed_s:.3g} s: {event.error}"
        )

    def write_costs(self, pipeline: Pipeline) -> None:
        """Write what the trial has cost so far into the study.

        If this process dies, the budget still pays for it.

        Args:
            pipeline: The pipeline that the trial is a configuration of.
        """
        so_far, notes = pipeline.join(self.stage_runs, self.calls), TrialNotes(self.trial)
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
        flat = flat_notes(names, result.stage_costs, result.reused, metrics)
        for name, value in flat.items():
            notes.set_user_attr(name, value)
        if self.suspended is not None:
            notes.set_user_attr(SUSPENDED, dict(self.suspended))
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
