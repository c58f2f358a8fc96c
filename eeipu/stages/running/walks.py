"""Running the calls of one configuration in this thread, and which of them need not run."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from itertools import tee
from typing import Any

from eeipu.cache import StageCache
from eeipu.serialization import transport
from eeipu.stages.joining.graph import Graph
from eeipu.stages.observing.notes import header_of, recalled
from eeipu.stages.running.calls import Clock, StageCall
from eeipu.stages.running.tasks import StageTask
from eeipu.stages.running.worker import Job, loaded_run, run_task, seen
from eeipu.stages.runs import StageRun

__all__ = ["Handover", "graph_of", "kept_in", "reused", "run_path"]


def graph_of(calls: Sequence[StageCall]) -> Graph:
    """The graph that calls make by the keys of their sources."""
    place = {call.key: k for k, call in enumerate(calls)}
    return Graph(
        tuple(tuple(None if key is None else place[key] for key in c.sources) for c in calls)
    )


def kept_in(calls: Sequence[StageCall], cache: StageCache | None) -> list[bool]:
    """For each call, whether its output can be reused."""
    return [cache is not None and call.memoize and call.key in cache for call in calls]


def reused(
    calls: Sequence[StageCall], graph: Graph, kept: Sequence[bool], cache: StageCache | None
) -> dict[int, StageRun]:
    """The runs of the calls that need not be made, by their places.

    Those entries of the cache that will not be loaded count a hit, as they spare a run; the others
    count their own when they are loaded. Calls whose output must be loaded to be observed are
    marked as unobserved.

    Args:
        calls: The calls.
        graph: Their graph.
        kept: For each of them, whether its output is kept.
        cache: Where it is; `None` if it is at hand.
    """
    to_load = graph.to_load(kept)
    free = [k for k, is_free in enumerate(graph.free(kept)) if is_free]
    heads = {k: None if cache is None else header_of(cache, calls[k].key) for k in free}
    if cache is not None:
        spared = (k for k in free if heads[k] is not None and k not in to_load)
        cache.spare(calls[k].key for k in spared)
    return {
        k: recalled(calls[k].name, calls[k].key, calls[k].stage.observer, heads[k]) for k in free
    }


class Handover:
    """Outputs on their way to the calls that get them.

    A call may change what it gets in place. So of several calls that get the same output, all but
    the last get a copy.

    Args:
        graph: The graph of the calls.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._outputs: dict[int, Any] = {}
        self._takers: dict[int, set[int]] = {}

    def __contains__(self, k: int) -> bool:
        return k in self._outputs

    def put(self, k: int, output: Any, done: frozenset[int] = frozenset()) -> None:
        """Keep the output of call `k` for the calls that get it.

        Args:
            k: The place of the call.
            output: Its output.
            done: The calls that have run, and will not ask for it.
        """
        takers = set(self._graph.needed_by[k]) - done
        if takers:
            self._outputs[k], self._takers[k] = output, takers

    def take(self, k: int, taker: int) -> Any:
        """The output of call `k` for the call `taker`, which is the caller's to change."""
        output, takers = self._outputs[k], self._takers[k]
        takers.discard(taker)
        if takers and isinstance(output, Iterator):  # which one of them would use up
            self._outputs[k], output = tee(output)
            return output
        if takers:
            return _copied(output)
        del self._outputs[k], self._takers[k]
        return output


def _copied(output: Any) -> Any:
    """A copy of an output; the output itself where it cannot be copied."""
    try:
        return transport.loads_apart(transport.segments(output))
    except Exception:  # whatever the pickling of the user's own types raises
        try:
            return deepcopy(output)
        except Exception:
            return output


def run_path(
    calls: Sequence[StageCall],
    inputs: tuple[Any, ...],
    cache: StageCache | None = None,
    *,
    clock: Clock = time.perf_counter,
    known: Mapping[str, Any] | None = None,
    inputs_key: str | None = None,
) -> Iterator[StageRun]:
    """Run calls one after another in this thread, yielding after each; stop after a failure.

    Outputs that the cache holds are loaded where a call needs them, and what nobody needs then does
    not run. The caller may stop iterating between two stages: what has been computed is in the
    cache.

    Args:
        calls: The calls, in an order in which everything comes before its use.
        inputs: The run's inputs.
        cache: Where outputs are looked up and kept; `None` executes everything.
        clock: Measures seconds; injected in tests and simulations.
        known: Outputs that are at hand, by the keys of their calls.
        inputs_key: The key of the inputs as they are now. If it is given, each call gets the inputs
            that its own key stands for, though another one has changed them in place.
    """
    graph = graph_of(calls)
    handover = Handover(graph)
    keys = [call.key for call in calls if call.memoize]
    with nullcontext() if cache is None else cache.holders.using(keys):
        free = _loaded(calls, graph, cache, clock, known or {})
        do_not_take = frozenset(free)
        takers = [k for k, call in enumerate(calls) if k not in free and None in call.sources]
        # Who is the only one to get the inputs need not have them copied, nor looked at again.
        job = Job((), inputs, cache, inputs_key if len(takers) > 1 else None)
        for k, call in enumerate(calls):
            if k in free:
                run = free.pop(k)  # an output may be large: it lives until it was used
                if cache is not None:
                    run = seen(run, call, cache, clock)
            else:
                taken = {j: handover.take(j, k) for j in graph.upstream[k]}
                args = tuple(None if j is None else taken[j] for j in graph.sources[k])
                del taken
                task = StageTask(call, args, is_last=True)
                del args
                result = run_task(task, job, clock).run
                assert result is not None, "the input came with the task"
                run = result
                del task
            handover.put(k, run.output, do_not_take)
            yield run
            if run.error is not None:
                return


def _loaded(
    calls: Sequence[StageCall],
    graph: Graph,
    cache: StageCache | None,
    clock: Clock,
    known: Mapping[str, Any],
) -> dict[int, StageRun]:
    """The runs of the calls that need not be made, with the outputs that others need, by place."""
    kept = kept_in(calls, cache)
    found = {
        k: StageRun(call.name, call.key, memoized=True, output=known[call.key])
        for k, call in enumerate(calls)
        if call.key in known
    }
    for k in found:
        kept[k] = True
    while missing := [k for k in graph.to_load(kept) if k not in found]:
        run = None if cache is None else loaded_run(calls[missing[0]], cache, clock)
        if run is None:  # it has disappeared, or is damaged
            kept[missing[0]] = False
        else:
            found[missing[0]] = run
    free = reused(calls, graph, kept, cache)
    return free | {k: run for k, run in found.items() if k in free}
