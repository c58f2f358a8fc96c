"""Running one path of stage calls: load the deepest memoized output, execute the rest.

A stage that raises is data, not an exception: its run carries the traceback and the cost up to
there, and nothing after it runs.
"""

import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import CacheMiss, TransientError
from eeipu.fingerprints.keys import stage_key
from eeipu.fingerprints.values import plain
from eeipu.stages.accelerators import (
    failure_of,
    peak_gpu_bytes,
    restart_gpu_peaks,
    synchronize_devices,
)
from eeipu.stages.declaration import Stage

__all__ = [
    "PipelineRun",
    "StageCall",
    "StageRun",
    "call_patiently",
    "keep_output",
    "number_of",
    "run_path",
    "stage_calls",
]

Clock = Callable[[], float]


@dataclass(frozen=True)
class StageCall:
    """A stage, the hyper-parameters to call it with (without its name in front), and its key."""

    stage: Stage
    params: Mapping[str, Any]
    key: str


@dataclass(frozen=True)
class StageRun:
    """What became of one stage call.

    Attributes:
        name: The stage's name.
        key: The content key of the call.
        cost: What executing it cost, measured in seconds or declared; `None` if not executed.
        memoized: Whether its output was reused.
        error: The traceback, where the stage failed; a line, where it ran out of memory.
        charged: What the budget pays: the cost, or the seconds that loading took.
        saved: What the output cost when it was made, where it was reused and that is known.
        output: The stage's output; for reused stages only the last one's was loaded.
        value: The output, where it is a number, as which it outlives the output.
        is_transient: Whether the error is one that may not come again.
        peak_gpu_bytes: The most memory that torch had in use on GPUs meanwhile; `None` where the
            stage was not executed, or nothing was there.
    """

    name: str
    key: str
    cost: float | None = None
    memoized: bool = False
    error: str | None = None
    charged: float = 0.0
    saved: float = 0.0
    output: Any = field(default=None, repr=False)
    value: float | None = None
    is_transient: bool = False
    peak_gpu_bytes: int | None = None


@dataclass(frozen=True)
class PipelineRun:
    """What became of one configuration.

    Attributes:
        stage_names: The names of all stages, also of those that were not reached.
        stage_runs: The stages that were reached, in order.
        value: The objective; `None` if a stage failed.
        metrics: All metrics, where the last stage returned a dict.
    """

    stage_names: tuple[str, ...]
    stage_runs: tuple[StageRun, ...]
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """The traceback of the stage that failed, if one did."""
        return self.stage_runs[-1].error if self.stage_runs else None

    @property
    def stage_costs(self) -> list[float | None]:
        """True cost a stage; `None` where the stage was not executed."""
        costs = [run.cost for run in self.stage_runs]
        return costs + [None] * (len(self.stage_names) - len(costs))

    @property
    def stage_values(self) -> list[float | None]:
        """Each stage's output where that is a number and the stage was executed or loaded."""
        values = [run.value for run in self.stage_runs]
        return values + [None] * (len(self.stage_names) - len(values))

    @property
    def peak_gpu_bytes(self) -> list[int | None]:
        """The most memory that was in use on GPUs during each stage; see `StageRun`."""
        peaks = [run.peak_gpu_bytes for run in self.stage_runs]
        return peaks + [None] * (len(self.stage_names) - len(peaks))

    @property
    def memoized(self) -> list[bool]:
        """Whether each stage's output was reused."""
        flags = [run.memoized for run in self.stage_runs]
        return flags + [False] * (len(self.stage_names) - len(flags))

    @property
    def charged(self) -> float:
        """What the budget pays for the run."""
        return math.fsum(run.charged for run in self.stage_runs)

    @property
    def saved(self) -> float:
        """What the reused stages would have cost."""
        return math.fsum(run.saved for run in self.stage_runs)


def stage_calls(
    stages: Sequence[Stage], params: Sequence[Mapping[str, Any]], upstream: str
) -> tuple[StageCall, ...]:
    """The calls of one path, with their Merkle keys.

    Args:
        stages: The stages, first to last.
        params: The hyper-parameters of each, as stored.
        upstream: The key of the first stage's input.
    """
    calls = []
    for stage, values in zip(stages, params, strict=True):
        upstream = stage_key(stage.name, stage.fingerprint, values, upstream)
        calls.append(StageCall(stage, values, upstream))
    return tuple(calls)


def run_path(
    calls: Sequence[StageCall],
    inputs: tuple[Any, ...],
    cache: StageCache | None = None,
    *,
    clock: Clock = time.perf_counter,
) -> Iterator[StageRun]:
    """Run the calls one after another, yielding after each; stop after one that failed.

    The deepest call whose output the cache still holds is loaded, and nothing above it runs.
    The caller may stop iterating between two stages: what has been computed is in the cache.

    Args:
        calls: The path, from the first stage on.
        inputs: The first stage's positional arguments.
        cache: Where outputs are looked up and kept; `None` executes everything.
        clock: Seconds that only grow; injected in tests and simulations.
    """
    keys = [call.key for call in calls if call.stage.memoize]
    with nullcontext() if cache is None else cache.holders.using(keys):
        loaded = [] if cache is None else _load_deepest(calls, cache, clock)
        yield from loaded
        args = (loaded[-1].output,) if loaded else tuple(map(plain, inputs))
        start = len(loaded)
        del loaded  # an output may be large: it lives until the next stage has used it
        for call in calls[start:]:
            run = _run_once(call, args, cache, clock)
            yield run
            if run.error is not None:
                return
            args = (run.output,)


def _run_once(
    call: StageCall, args: tuple[Any, ...], cache: StageCache | None, clock: Clock
) -> StageRun:
    """Execute one call, unless somebody else does so now: then wait, and load what they made."""
    if cache is None or not call.stage.memoize:
        return call_patiently(call, args, clock)
    with cache.holders.claim(call.key):
        # Whoever had the claim before may have finished since we last looked.
        loaded = _load_deepest([call], cache, clock)
        if loaded:
            return loaded[0]
        run = call_patiently(call, args, clock)
        if run.error is None:
            keep_output(cache, call, run)
    return run


def _load_deepest(calls: Sequence[StageCall], cache: StageCache, clock: Clock) -> list[StageRun]:
    for depth in range(len(calls), 0, -1):
        call = calls[depth - 1]
        if not call.stage.memoize or call.key not in cache:
            continue
        start = clock()
        try:
            output = cache.get(call.key)
        except CacheMiss:
            continue
        load_s = clock() - start
        costs = [cache.cost(c.key) for c in calls[:depth]]
        cache.spare(c.key for c, cost in zip(calls, costs[:-1], strict=False) if cost is not None)
        runs = [
            StageRun(c.stage.name, c.key, memoized=True, saved=cost or 0.0)
            for c, cost in zip(calls, costs, strict=False)
        ]
        # Declared costs have a unit of their own, to which seconds cannot be added.
        charged = load_s if call.stage.cost is None else 0.0
        runs[-1] = replace(runs[-1], charged=charged, output=output, value=number_of(output))
        return runs
    return []


def call_patiently(
    call: StageCall,
    args: tuple[Any, ...],
    clock: Clock,
    *,
    attempt: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> StageRun:
    """Execute one call, again where it raises `TransientError`; all attempts are charged.

    Args:
        call: The call.
        args: What it gets.
        clock: Seconds that only grow.
        attempt: What each attempt runs in.
    """
    lost = 0.0
    for retries_left in range(call.stage.retries, -1, -1):
        with attempt():
            run = call_stage(call, args, clock)
        if not run.is_transient or retries_left == 0:
            break
        lost += run.charged
    return replace(run, charged=lost + run.charged)


def call_stage(call: StageCall, args: tuple[Any, ...], clock: Clock) -> StageRun:
    """Execute one call and account for it, whether it succeeds or fails."""
    name, key = call.stage.name, call.key
    try:
        declared = call.stage.declared_cost(call.params, args)
    except Exception:
        return StageRun(name, key, error=traceback.format_exc())
    error = output = None
    is_transient = False
    synchronize_devices()
    restart_gpu_peaks()
    start = clock()
    try:
        output = call.stage(*args, **call.params)
        synchronize_devices()
        measured, peak = clock() - start, peak_gpu_bytes()
    except (Exception, SystemExit) as raised:  # a script's sys.exit() is a stage that failed
        measured, peak = clock() - start, peak_gpu_bytes()
        is_transient = isinstance(raised, TransientError)
        error = failure_of(raised, name)
    cost = measured if declared is None else declared
    return StageRun(
        name,
        key,
        cost=cost,
        error=error,
        charged=cost,
        output=output,
        value=number_of(output),
        is_transient=is_transient,
        peak_gpu_bytes=peak,
    )


def number_of(output: Any) -> float | None:
    """An output as a float, where it is a number of Python, NumPy or torch; else `None`."""
    try:
        if not isinstance(output, Real) and getattr(output, "shape", None) == ():
            output = output.item()
        return float(output) if isinstance(output, Real) else None
    except Exception:  # whatever an output of the user's own type raises, or one beyond floats
        return None


def keep_output(cache: StageCache, call: StageCall, run: StageRun) -> None:
    """Put what a call returned into the cache; where that fails, only warn."""
    try:
        cache.put(
            call.key,
            run.output,
            cost=run.cost,
            stage=call.stage.name,
            params=call.params,
            versions=call.stage.versions,
        )
    except Exception as error:  # an output that cannot be kept is still an output
        warnings.warn(
            f"the output of stage {call.stage.name!r} could not be kept and may have to be "
            f"computed again: {error!r}",
            RuntimeWarning,
            stacklevel=2,
        )
