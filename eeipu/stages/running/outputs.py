"""The outputs of a run by stage: each is loaded, or made again, when it is first asked for."""

from collections.abc import Iterator, Mapping, Sequence
from operator import or_
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import EeipuError, PipelineError
from eeipu.fingerprints.keys import inputs_key
from eeipu.stages.running.calls import StageCall
from eeipu.stages.running.walks import graph_of, kept_in, run_path
from eeipu.stages.runs import StageRun

__all__ = ["StageOutputs"]


class StageOutputs(Mapping[str, Any]):
    """Stage name -> output, for the calls of one configuration.

    An output that was asked for once stays in memory. Elsewhere, as after pickling, only outputs
    that are in memory are there.

    Args:
        calls: The calls, first to last.
        inputs: The run's inputs.
        upstream: The key of the inputs.
        cache: Where outputs are looked up and kept; `None` where nothing is.
        runs: What is known already: the runs of the first calls.
    """

    def __init__(
        self,
        calls: Sequence[StageCall],
        inputs: tuple[Any, ...],
        upstream: str,
        cache: StageCache | None,
        runs: Sequence[StageRun] = (),
    ) -> None:
        self._calls = {call.name: call for call in calls}
        self._inputs, self._upstream = inputs, upstream
        self._cache = cache
        self._known: dict[str, Any] = {}
        for run in runs:
            # Of the stages that were reused, only what others asked for was loaded.
            is_here = not run.memoized and run.error is None
            if is_here or run.output is not None:
                self._known[run.name] = run.output

    def __getitem__(self, name: str) -> Any:
        """The output of a stage.

        Raises:
            KeyError: There is no stage of this name.
            EeipuError: The stage, or one above it, had to run again and failed.
            PipelineError: It had to run again, and the inputs have changed.
        """
        if name not in self._calls:
            raise KeyError(f"the run has no stage {name!r}; its stages are {list(self._calls)}")
        if name not in self._known:
            self._make(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._calls  # without making it

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"StageOutputs({list(self._calls)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self._known),)

    def _make(self, name: str) -> None:
        """Load an output, or run its stage on the outputs that are at hand or in the cache."""
        known = {self._calls[each].key: output for each, output in self._known.items()}
        calls = self._leading_to(name)
        is_here = [call.key in known for call in calls]
        has = list(map(or_, is_here, kept_in(calls, self._cache)))
        runs = graph_of(calls).must_run(has)
        needs_inputs = any(must and None in c.sources for c, must in zip(calls, runs, strict=True))
        if needs_inputs and inputs_key(self._inputs) != self._upstream:
            raise PipelineError(
                f"the output of stage {name!r} has to be made again, and the inputs have changed "
                f"since the run; pass what they were, and let stages work on copies of it."
            )
        key = self._upstream if needs_inputs else None
        for run in run_path(calls, self._inputs, self._cache, known=known, inputs_key=key):
            if run.error is not None:
                raise EeipuError(f"stage {run.name!r} had to run again and failed:\n{run.error}")
            is_kept = run.memoized or (self._cache is not None and run.key in self._cache)
            if run.name == name or not is_kept:
                self._known[run.name] = run.output

    def _leading_to(self, name: str) -> list[StageCall]:
        """The call of a stage and those that lead to it."""
        calls = list(self._calls.values())
        place = list(self._calls).index(name)
        return [calls[k] for k in graph_of(calls).up_to(place)]
