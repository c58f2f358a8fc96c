"""The outputs of a run by stage: each is loaded, or made again, when it is first asked for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import EeipuError, PipelineError
from eeipu.fingerprints.keys import inputs_key
from eeipu.stages.calls import StageCall
from eeipu.stages.runs import StageRun
from eeipu.stages.worker import run_path

__all__ = ["StageOutputs"]


class StageOutputs(Mapping[str, Any]):
    """Stage name -> output, for the calls of one configuration.

    An output that was asked for once stays in memory. Elsewhere, as after pickling, only outputs
    that are in memory are there.

    Args:
        calls: The calls, first to last.
        inputs: The first stage's positional arguments.
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
        for depth, run in enumerate(runs, 1):
            # Of the stages that were reused, only the last one's output was loaded.
            is_here = not run.memoized or not any(each.memoized for each in runs[depth:])
            has_returned = run.error is None or run.output is not None  # perhaps no objective
            if is_here and has_returned:
                self._known[run.name] = run.output

    def __getitem__(self, name: str) -> Any:
        """The output of a stage.

        Raises:
            KeyError: There is no stage of this name.
            EeipuError: The stage, or one above it, had to run again and failed.
            PipelineError: It had to run again, and the inputs have changed.
        """
        if name not in self._calls:
            raise KeyError(f"there is no stage {name!r}; the stages are {list(self._calls)}")
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
        """Load an output, or run its stage after the last one whose output is at hand."""
        names = list(self._calls)
        end = names.index(name) + 1
        start = max((k for k in range(1, end) if names[k - 1] in self._known), default=0)
        if not start and inputs_key(self._inputs) != self._upstream:
            raise PipelineError(
                f"the output of stage {name!r} has to be made again, and the inputs have changed "
                f"since the run; pass what they were, and let stages work on copies of it."
            )
        args = (self._known[names[start - 1]],) if start else self._inputs
        calls = [self._calls[each] for each in names[start:end]]
        for run in run_path(calls, args, self._cache):
            if run.error is not None:
                raise EeipuError(f"stage {run.name!r} had to run again and failed:\n{run.error}")
            is_kept = run.memoized or (self._cache is not None and run.key in self._cache)
            if run.name == name or not is_kept:
                self._known[run.name] = run.output
