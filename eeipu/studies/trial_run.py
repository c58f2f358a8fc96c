"""One trial on its way through the stages of its pipeline."""

import traceback
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from eeipu.cache import StageCache
from eeipu.counts import counted
from eeipu.executors.pool import Ended, death_of
from eeipu.pipeline import Pipeline, PipelineRun
from eeipu.stages.running.calls import Clock, StageCall
from eeipu.stages.running.programming_errors import is_programming_error
from eeipu.stages.running.tasks import IN_CACHE, Load, StageTask
from eeipu.stages.running.walks import Handover, kept_in, reused
from eeipu.stages.running.worker import loaded_run, with_load_time
from eeipu.stages.runs import StageRun
from eeipu.studies.call_states import CallStates
from eeipu.studies.records.trial_account import TrialAccount

__all__ = ["TrialRun"]

# How often a trial begins again because an output disappeared from the cache before it was loaded.
# After that, the cache is not one that can be relied on, and the trial fails.
MAX_LOST_OUTPUTS = 3


@dataclass(eq=False)
class TrialRun:
    """A trial that has begun and not ended: it gives its calls to workers and takes their results.

    Attributes:
        trial: The trial in the study.
        calls: Its stage calls, in the pipeline's order. A call's place is its index here.
        cache: The cache of stage outputs, if there is one.
        states: How far the calls are.
        account: What was paid for beside the calls that returned something.
        worker_deaths: How many times in a row workers have died while running a call, by place.
        lost_outputs: How many times an output had disappeared from the cache.
    """

    trial: optuna.Trial
    calls: tuple[StageCall, ...]
    cache: StageCache | None
    states: CallStates = field(init=False)
    account: TrialAccount = field(init=False)
    worker_deaths: Counter[int] = field(default_factory=Counter)
    lost_outputs: int = 0
    _handover: Handover = field(init=False, repr=False)
    _args: dict[int, tuple[Any, ...] | None] = field(default_factory=dict, repr=False)
    _uses: ExitStack = field(default_factory=ExitStack, repr=False)

    def __post_init__(self) -> None:
        self.states, self.account = CallStates(self.calls), TrialAccount(self.trial)
        self._handover = Handover(self.states.graph)

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
        self.states.began_s[k] = now_s
        return StageTask(self.calls[k], args, is_last=k == len(self.calls) - 1)

    def _arguments(self, k: int) -> tuple[Any, ...] | None:
        """The arguments of a call that its worker does not find; `None` if it finds all."""
        at_hand = {
            j: self._handover.take(j, k)
            for j in self.states.graph.upstream[k]
            if j in self._handover
        }
        if not at_hand:
            return None
        return tuple(
            None if j is None else at_hand.get(j, IN_CACHE) for j in self.states.graph.sources[k]
        )

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
        has = [is_kept or k in self.states.runs for k, is_kept in enumerate(kept)]
        found = reused(self.calls, self.states.graph, has, self.cache)
        charged = 0.0
        if last in found and last not in self.states.runs and not found[last].is_unobserved:
            # The objective is needed here, and not in a worker.
            run = loaded_run(self.calls[last], self.cache, clock)
            if run is None:  # it has just disappeared
                has[last] = False
                found = reused(self.calls, self.states.graph, has, self.cache)
            else:
                found[last], charged = run, run.load_s
        for k, run in found.items():
            # What an observer must see first is loaded by a worker.
            if not (k in self.states.runs or k in self.states.began_s or run.is_unobserved):
                self.states.runs[k] = run
        return charged

    def end_call(self, event: Ended, clock: Clock) -> None:
        """Take the result of a call that was running, or decide what follows its failure.

        Args:
            event: How the call's task has ended.
            clock: A monotonic clock, in seconds.
        """
        call, result = event.task.call, event.result
        k = self.states.place[call.key]
        self.account.ran.append((call.name, self.states.began_s.pop(k), clock()))
        self.worker_deaths[k] += event.is_death
        if result is not None and result.run is not None:
            self._add(k, event, result.run)
        elif result is not None:
            self._begin_again(k, clock)
        else:
            self.account.lost_cost += event.elapsed_s if call.stage.cost is None else 0.0
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

    def _add(self, k: int, event: Ended, run: StageRun) -> None:
        result, call = event.result, event.task.call
        for load in result.loads if result is not None else ():
            self._charge_load(load)
        # Declared costs have a unit of their own, to which seconds cannot be added.
        is_measured = result is not None and call.stage.cost is None
        keep_s = result.keep_s if result is not None and is_measured else 0.0
        run = replace(run, charged=run.charged + self.account.lost_cost + keep_s, keep_s=keep_s)
        if run.error is None and not event.task.is_last:
            self._hand_on(k, run, is_kept=result is not None and result.is_kept)
            run = replace(run, output=None)
        self.states.runs[k] = run
        self.account.lost_cost, self.worker_deaths[k] = 0.0, 0

    def _hand_on(self, k: int, run: StageRun, *, is_kept: bool) -> None:
        """Keep an output for the calls that get it, unless they find it in the cache."""
        if is_kept and (run.output is None or len(self.states.graph.needed_by[k]) > 1):
            return
        self._handover.put(k, run.output, frozenset(self.states.runs))

    def _charge_load(self, load: Load) -> None:
        j = self.states.place[load.key]
        above = self.states.runs.get(j)
        if above is None:  # the trial has begun again meanwhile
            self.account.lost_cost += load.seconds if self.calls[j].stage.cost is None else 0.0
            return
        self.states.runs[j] = with_load_time(above, self.calls[j], load.seconds)

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
            failed = StageRun(
                call.stage.name, call.key, error=error, charged=self.account.lost_cost
            )
            self.states.runs[k], self.account.lost_cost = failed, 0.0
            return
        is_there = [
            is_kept or j in self._handover or j in self.states.began_s
            for j, is_kept in enumerate(kept_in(self.calls, self.cache))
        ]
        for j, must in enumerate(self.states.graph.must_run(is_there)):
            if must and j in self.states.runs:
                self.account.lost_cost += self.states.runs.pop(j).charged
        self.reuse_outputs(clock)

    def _failure_of(self, k: int, event: Ended) -> str:
        """The error message for a call that returned nothing."""
        assert event.error is not None
        if not event.is_death:
            return "".join(traceback.format_exception(event.error))
        return (
            f"{death_of(event)} {counted(self.worker_deaths[k], 'time')} in a row, the last time "
            f"after {event.elapsed_s:.3g} s: {event.error}"
        )

    def so_far(self, pipeline: Pipeline) -> PipelineRun:
        """The results of the stages that the trial has run or reused so far.

        Args:
            pipeline: The pipeline that the trial is a configuration of.
        """
        return pipeline.join(self.states.stage_runs, self.calls)
