"""A trial on its way through the stages of a pipeline, one task after another."""

import math
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import optuna

from eeipu.cache import StageCache
from eeipu.executors.pool import Ended, death_of
from eeipu.stages.calls import Clock, StageCall
from eeipu.stages.runs import StageRun
from eeipu.stages.worker import StageTask, load_deepest, reused

__all__ = ["TrialPath"]

# Outputs that are gone when they are to be loaded are made again, but not for ever.
MAX_LOSSES = 3


@dataclass(eq=False)
class TrialPath:
    """A trial on its way.

    Attributes:
        trial: The trial, to write its account into.
        calls: Its stage calls.
        upstream: The key of the run's inputs.
        inputs: The run's inputs; `None` where the cache has them.
        cache: Where outputs are.
        runs: What became of the first calls.
        args: What the next call gets; `None` where the cache has it.
        held: Its claims on cache entries.
        lost: What was spent on calls that came to nothing; the next that ends is charged with it.
        deaths: How often in a row workers have died under the next call.
        losses: How often an output was gone.
    """

    trial: optuna.Trial
    calls: tuple[StageCall, ...]
    upstream: str
    inputs: tuple[Any, ...] | None
    cache: StageCache | None
    runs: list[StageRun] = field(default_factory=list)
    args: tuple[Any, ...] | None = None
    held: ExitStack = field(default_factory=ExitStack)
    lost: float = 0.0
    deaths: int = 0
    losses: int = 0

    def __post_init__(self) -> None:
        self.args = self.inputs

    @cached_property
    def declared(self) -> tuple[float, ...]:
        """What each call declares to cost; 0 where that is measured, or depends on what it gets."""
        return tuple(map(_declared, self.calls))

    @property
    def next(self) -> StageCall:
        """The call that is to run now."""
        return self.calls[len(self.runs)]

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to run."""
        has_failed = bool(self.runs) and self.runs[-1].error is not None
        return has_failed or len(self.runs) == len(self.calls)

    def hold(self) -> None:
        """Have nobody drop what this trial may need, until `held` is closed."""
        if self.cache is not None:
            keys = [call.key for call in self.calls if call.stage.memoize]
            self.held.enter_context(self.cache.holders.using(keys))

    def task(self) -> StageTask:
        """The next call as a task, which takes over what the call gets."""
        depth = len(self.runs)
        task = StageTask(
            self.next,
            self.runs[-1].key if self.runs else self.upstream,
            self.args,
            is_first=depth == 0,
            is_last=depth == len(self.calls) - 1,
        )
        self.args = None  # it lives until the stage has used it, and no longer
        return task

    def pass_over_kept(self, clock: Clock) -> None:
        """Go on from the deepest output that the cache has."""
        done = len(self.runs)
        if self.cache is None:
            return
        for depth in range(len(self.calls), done, -1):
            call = self.calls[depth - 1]
            if not call.stage.memoize or call.key not in self.cache:
                continue
            found = self.calls[done:depth]
            # The last output is wanted here, and no worker loads it.
            is_last = depth == len(self.calls)
            runs = load_deepest(found, self.cache, clock) if is_last else reused(found, self.cache)
            if len(runs) == len(found):
                self.runs += runs
                self.args = None
                return

    def take(self, event: Ended, clock: Clock) -> None:
        """Write down what became of the call of a task that has ended."""
        call, result = event.task.call, event.result
        self.deaths += event.is_death
        if result is not None and result.run is not None:
            self._add(event, result.run)
        elif result is not None:
            self._begin_again(clock)
        else:
            self.lost += event.elapsed_s if call.stage.cost is None else 0.0
            is_final = event.error is not None and (
                not event.is_death or self.deaths > call.stage.retries
            )
            if is_final:
                self._add(event, StageRun(call.stage.name, call.key, error=self._why(event)))
            else:
                self.args = event.task.args

    def _add(self, event: Ended, run: StageRun) -> None:
        result = event.result
        if self.runs and result is not None and event.task.args is None:
            above = self.calls[len(self.runs) - 1]
            loaded = _charged(self.runs[-1], above, result.load_s)
            self.runs[-1] = replace(loaded, value=result.loaded)
        is_kept = result is not None and result.is_kept and run.output is None
        self.args = None if is_kept else (run.output,)
        goes_on = run.error is None and not event.task.is_last
        run = replace(run, charged=run.charged + self.lost)
        self.runs.append(replace(run, output=None) if goes_on else run)  # the next stage has it
        self.lost, self.deaths = 0.0, 0

    def _begin_again(self, clock: Clock) -> None:
        """Go back above an output that is gone."""
        self.losses += 1
        self.lost += math.fsum(run.charged for run in self.runs)
        if self.losses > MAX_LOSSES:
            name, key = self.next.stage.name, self.next.key
            error = (
                f"what {name!r} gets was gone from {self.cache!r} {self.losses} times; give the "
                f"tuner a cache that all workers reach."
            )
            self.runs.append(StageRun(name, key, error=error, charged=self.lost))
            self.lost = 0.0
            return
        self.runs.clear()
        self.args = self.inputs
        self.pass_over_kept(clock)

    def _why(self, event: Ended) -> str:
        """Why a call has failed that returned nothing."""
        assert event.error is not None
        if not event.is_death:
            return "".join(traceback.format_exception(event.error))
        return (
            f"{death_of(event)} {self.deaths} times in a row, the last time after "
            f"{event.elapsed_s:.3g} s: {event.error}"
        )


def _declared(call: StageCall) -> float:
    try:
        return call.stage.declared_cost(call.params) or 0.0
    except Exception:
        return 0.0  # the call will fail, and say why


def _charged(run: StageRun, call: StageCall, load_s: float) -> StageRun:
    """A stage whose output had to be loaded; declared costs have another unit than seconds."""
    return replace(run, charged=run.charged + load_s) if call.stage.cost is None else run
