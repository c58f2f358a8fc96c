"""The graph of a pipeline's stages: whose output each of them gets, and which of them must run.

Notation:
    K: stages, in an order in which everything comes before its use.
    kept: `K`, whether the output of each stage is kept.

A stage is *free* if it need not run: its own output is kept, or everything that needs it is free.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from eeipu.errors import PipelineError
from eeipu.stages.declaration import INPUTS, Source, Stage

__all__ = ["Graph"]


@dataclass(frozen=True)
class Graph:
    """Whose output each stage gets.

    Attributes:
        sources: For each stage, what its positional arguments are made of, in order: the index of
            the stage whose output it is, or `None` for all of the run's inputs.

    >>> diamond = Graph(((None,), (0,), (0,), (1, 2)))
    >>> diamond.free([False, True, False, False])
    (False, True, False, False)
    >>> diamond.free([False, True, True, False])
    (True, True, True, False)
    """

    sources: tuple[tuple[int | None, ...], ...]

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> "Graph":
        """The graph that the declarations of stages make.

        Args:
            stages: The stages, in an order in which everything comes before its use.

        Raises:
            PipelineError: A stage gets the output of one that is not there or comes later, cannot
                be called with what it gets, or leads nowhere.
        """
        place = {each.name: k for k, each in enumerate(stages)}
        sources: list[tuple[int | None, ...]] = []
        for k, each in enumerate(stages):
            if each.inputs is None:
                sources.append((k - 1,) if k else (None,))
            else:
                _check_order(stages, k, place)
                found = (None if name is INPUTS else place[str(name)] for name in each.inputs)
                sources.append(tuple(found))
        graph = cls(tuple(sources))
        graph._check_leads_on(stages)
        for k, each in enumerate(stages):
            if each.function is not None:
                graph._check_takes(each, [stages[j] for j in graph.upstream[k]], k)
        return graph

    @property
    def is_chain(self) -> bool:
        """Whether each stage gets the output of the one before it, and nothing else."""
        return all(given == (k - 1 if k else None,) for k, given in enumerate(self.sources))

    @cached_property
    def upstream(self) -> tuple[tuple[int, ...], ...]:
        """For each stage, the stages whose outputs it gets, ascending."""
        return tuple(tuple(sorted({j for j in given if j is not None})) for given in self.sources)

    @cached_property
    def needed_by(self) -> tuple[tuple[int, ...], ...]:
        """For each stage, the stages that get its output, ascending."""
        return tuple(
            tuple(k for k, given in enumerate(self.upstream) if j in given)
            for j in range(len(self.sources))
        )

    @cached_property
    def ancestors(self) -> tuple[tuple[int, ...], ...]:
        """For each stage, all stages that lead to it, ascending."""
        found: list[tuple[int, ...]] = []
        for given in self.upstream:
            found.append(tuple(sorted({*given, *(i for j in given for i in found[j])})))
        return tuple(found)

    def up_to(self, k: int) -> tuple[int, ...]:
        """A stage and all stages that lead to it, ascending."""
        return (*self.ancestors[k], k)

    def takes_inputs(self, k: int) -> bool:
        """Whether a stage gets the run's inputs."""
        return None in self.sources[k]

    def must_run(self, kept: Sequence[bool]) -> tuple[bool, ...]:
        """Which stages must run for the last one's output, `K`."""
        runs = [False] * len(self.sources)
        for k in reversed(range(len(runs))):
            is_wanted = k == len(runs) - 1 or any(runs[j] for j in self.needed_by[k])
            runs[k] = is_wanted and not kept[k]
        return tuple(runs)

    def free(self, kept: Sequence[bool]) -> tuple[bool, ...]:
        """Which stages need not run, `K`."""
        return tuple(not must for must in self.must_run(kept))

    def to_load(self, kept: Sequence[bool]) -> tuple[int, ...]:
        """The stages whose kept outputs are asked for, ascending: by one that runs, or at last."""
        runs, last = self.must_run(kept), len(self.sources) - 1
        return tuple(
            k
            for k, is_free in enumerate(self.free(kept))
            if is_free and (k == last or any(runs[j] for j in self.needed_by[k]))
        )

    # --- Checks

    def _check_leads_on(self, stages: Sequence[Stage]) -> None:
        for each, users in zip(stages[:-1], self.needed_by[:-1], strict=True):
            if not users:
                raise PipelineError(
                    f"stage {each.name!r} leads nowhere: no stage gets its output, and the "
                    f"objective is that of the last stage, {stages[-1].name!r}; name it in the "
                    f"inputs of another one, or leave it out."
                )

    def _check_takes(self, each: Stage, given: Sequence[Stage], k: int) -> None:
        if each.inputs is None and given:
            _check_takes_one_output(each, given[0])
        elif each.inputs is not None and not self.takes_inputs(k):
            self.check_call(each, k, 0)

    def check_call(self, each: Stage, k: int, inputs: int) -> None:
        """Check that stage `k` can be called with what it gets.

        Args:
            each: The stage.
            k: Its index.
            inputs: The number of the run's inputs.

        Raises:
            PipelineError: It cannot.
        """
        count = sum(inputs if j is None else 1 for j in self.sources[k])
        try:
            inspect.Signature(each.positional).bind(*range(count))
        except TypeError as error:
            names, gets = [p.name for p in each.positional], ", ".join(_written(each))
            raise PipelineError(
                f"stage {each.name!r} takes {names}, but gets {count} "
                f"{'argument' if count == 1 else 'arguments'} from inputs=({gets}): {error}; "
                f"name one source for each positional parameter, in order."
            ) from error


def _written(each: Stage) -> Iterator[str]:
    for source in each.inputs or ():
        yield "INPUTS" if source is INPUTS else repr(source)


def _check_order(stages: Sequence[Stage], k: int, place: dict[str, int]) -> None:
    """Check that what a stage gets comes before it."""
    each = stages[k]
    for source in each.inputs or ():
        if source is INPUTS:
            continue
        name = str(source)
        if name not in place:
            raise PipelineError(
                f"stage {each.name!r} gets the output of {name!r}, but there is no such stage; "
                f"the stages are {list(place)}. For the run's inputs write eeipu.INPUTS."
            )
        if place[name] < k:
            continue
        if _leads_to(stages, place, name, each.name):
            raise PipelineError(
                f"stages {each.name!r} and {name!r} are in a circle: each needs the output of the "
                f"other; one of them has to get something else."
            )
        raise PipelineError(
            f"stage {each.name!r} gets the output of {name!r}, which comes after it in the list; "
            f"put {name!r} before {each.name!r}."
        )


def _leads_to(stages: Sequence[Stage], place: dict[str, int], start: str, wanted: str) -> bool:
    """Whether the output of `wanted` is needed for that of `start`, directly or not."""
    waiting, seen = [start], {start}
    while waiting:
        name = waiting.pop()
        if name == wanted:
            return True
        if name not in place:
            continue
        k = place[name]
        inputs: Sequence[Source] | None = stages[k].inputs
        if inputs is None:
            inputs = (stages[k - 1].name,) if k else ()
        new = [str(one) for one in inputs if one is not INPUTS and str(one) not in seen]
        seen.update(new)
        waiting += new
    return False


def _check_takes_one_output(each: Stage, upstream: Stage) -> None:
    required = [
        p.name
        for p in each.positional
        if p.default is p.empty and p.kind is not inspect.Parameter.VAR_POSITIONAL
    ]
    if len(each.positional) == 0:
        raise PipelineError(
            f"stage {each.name!r} takes no input, but it gets the output of {upstream.name!r}; "
            f"give its function a first positional parameter without a space."
        )
    if len(required) > 1:
        raise PipelineError(
            f"stage {each.name!r} gets one input, the output of {upstream.name!r}, but its "
            f"parameters {required[1:]} have neither a space nor a default; add them to "
            f"stage(space=...), give them defaults, or name what they get with stage(inputs=...)."
        )
