"""Which columns of the unit cube belong to which stage."""

from collections.abc import Iterable
from functools import cached_property

from eeipu.stages.joining.layout import Layout

__all__ = ["StageColumns"]


class StageColumns:
    """The columns of the unit cube by the stages of a pipeline.

    Args:
        layout: The stages, and what joins them.
        names: The names of all hyper-parameters, in the order of the columns.
    """

    def __init__(self, layout: Layout, names: Iterable[str]) -> None:
        self._layout = layout
        self._place = {name: column for column, name in enumerate(names)}

    @cached_property
    def of_stages(self) -> tuple[tuple[int, ...], ...]:
        """For each stage, the columns that hold its own hyper-parameters."""
        return tuple(
            tuple(self._place[f"{each.name}.{param}"] for param in each.space)
            for each in self._layout.stages
        )

    @cached_property
    def choosing(self) -> tuple[tuple[int, ...], ...]:
        """For each stage, the columns that say whether it is run."""
        return tuple(
            tuple(self._place[name] for name, _ in each) for each in self._layout.chosen_by
        )

    @property
    def own(self) -> tuple[tuple[int, ...], ...]:
        """For each stage, the columns that say whether it is run and those of its parameters."""
        pairs = zip(self.choosing, self.of_stages, strict=True)
        return tuple((*choosing, *own) for choosing, own in pairs)

    def up_to(self, k: int) -> list[int]:
        """The columns on which the output of stage `k` depends."""
        own = self.own
        return list(dict.fromkeys(c for j in self._layout.graph.up_to(k) for c in own[j]))
