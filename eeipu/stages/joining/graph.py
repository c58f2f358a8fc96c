"""The graph of a pipeline's stages: whose output each of them gets, and which of them must run.

Notation:
    K: stages, in an order in which everything comes before its use.
    kept: `K`, whether the output of each stage is kept.

A stage is *free* if it need not run: its own output is kept, or everything that needs it is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Graph"]


@dataclass(frozen=True)
class Graph:
    """Whose output each stage may get.

    Attributes:
        sources: For each stage, what its positional arguments are made of, in order: the index of
            the stage whose output it is, or `None` for all of the run's inputs. Of alternatives all
            are there.
        ends: The stages of which one gives the objective; by default the last one.

    >>> diamond = Graph(((None,), (0,), (0,), (1, 2)))
    >>> diamond.free([False, True, False, False])
    (False, True, False, False)
    >>> diamond.free([False, True, True, False])
    (True, True, True, False)
    """

    sources: tuple[tuple[int | None, ...], ...]
    ends: tuple[int, ...] = ()

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

    @property
    def _ends(self) -> tuple[int, ...]:
        return self.ends or (len(self.sources) - 1,)

    def must_run(self, kept: Sequence[bool]) -> tuple[bool, ...]:
        """Which stages must run for the objective, `K`."""
        runs = [False] * len(self.sources)
        for k in reversed(range(len(runs))):
            is_wanted = k in self._ends or any(runs[j] for j in self.needed_by[k])
            runs[k] = is_wanted and not kept[k]
        return tuple(runs)

    def free(self, kept: Sequence[bool]) -> tuple[bool, ...]:
        """Which stages need not run, `K`."""
        return tuple(not must for must in self.must_run(kept))

    def to_load(self, kept: Sequence[bool]) -> tuple[int, ...]:
        """The stages whose kept outputs are asked for, ascending: by one that runs, or at last."""
        runs = self.must_run(kept)
        return tuple(
            k
            for k, must in enumerate(runs)
            if not must and (k in self._ends or any(runs[j] for j in self.needed_by[k]))
        )
