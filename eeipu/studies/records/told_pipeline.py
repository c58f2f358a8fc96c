"""The pipeline of a study as the study remembers it: spaces, graph and alternatives, without code.

It is written down when a tuner opens the study, so that pictures and models need no more than the
storage.
"""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import json_to_distribution

from eeipu.errors import PipelineError
from eeipu.pipeline import INPUTS, OneOf, Optional, Pipeline, Stage
from eeipu.stages.joining.alternatives import Item
from eeipu.stages.joining.layout import Slot

__all__ = ["LAYOUT", "SPACE", "noted_layout", "told_pipeline"]

# The study's user attributes that tell its pipeline: the space of each stage, and the rest.
SPACE = "eeipu:space"
LAYOUT = "eeipu:layout"


def noted_layout(pipeline: Pipeline) -> dict[str, Any]:
    """What joins the stages of a pipeline, in values that JSON keeps as they are.

    Returns:
        `slots`, for each stage what it gets: the index of a stage, the name of a place for
        alternatives, or `None` for the run's inputs; `places`, for each such place choice -> what
        stands there; `active_if`, for each stage that has them its conditional hyper-parameters;
        `memoize` and `declared`, the names of the stages whose outputs may be kept, and whose
        costs are declared.
    """
    layout = pipeline.layout
    return {
        "slots": [list(slots) for slots in layout.slots],
        "places": {name: dict(choices) for name, choices in layout.places.items()},
        "active_if": {
            each.name: {param: [parent, list(of)] for param, (parent, of) in each.active_if.items()}
            for each in layout.stages
            if each.active_if
        },
        "memoize": [each.name for each in layout.stages if each.memoize],
        "declared": [each.name for each in layout.stages if each.cost is not None],
    }


def told_pipeline(told: Mapping[str, Any]) -> Pipeline:
    """The pipeline of a study, whose stages have no functions.

    Args:
        told: The study's user attributes. Without a layout, which studies of earlier versions do
            not have, the stages are a chain.

    Raises:
        KeyError: The study does not tell the space.
        ValueError: The space has choices of types that JSON does not have.
        PipelineError: The layout does not fit the stages.
    """
    spaces = {
        stage: {name: json_to_distribution(text) for name, text in space.items()}
        for stage, space in told[SPACE].items()
    }
    layout = told.get(LAYOUT)
    if layout is None or len(layout["slots"]) != len(spaces):
        return Pipeline.declare(spaces)
    return Pipeline(_Told(spaces, layout).items())


class _Told:
    """Makes the items of a pipeline from what a study tells.

    Args:
        spaces: Stage -> its space, in the pipeline's order.
        layout: See `noted_layout`.
    """

    def __init__(self, spaces: Mapping[str, Mapping[str, Any]], layout: Mapping[str, Any]) -> None:
        self._spaces = spaces
        self._layout = layout
        self._names = list(spaces)
        self._places: Mapping[str, Mapping[str, Slot]] = layout["places"]
        # The place in which a stage or another place stands.
        self._place_of: dict[Slot, str] = {
            slot: place
            for place, choices in self._places.items()
            for choice, slot in choices.items()
            if self._name(slot) == choice
        }

    def items(self) -> list[Item]:
        """The items, in the pipeline's order."""
        return [self._item(top) for top in dict.fromkeys(map(self._top, range(len(self._names))))]

    def _top(self, slot: int) -> Slot:
        """The outermost place in which a stage stands; the stage itself if there is none."""
        top: Slot = slot
        while top in self._place_of:
            top = self._place_of[top]
        return top

    def _item(self, slot: Slot) -> Item:
        if not isinstance(slot, str):
            assert slot is not None, "the run's inputs are in no place"
            return self._stage(slot)
        options = self._places[slot]
        inside = [each for each in options.values() if self._place_of.get(each) == slot]
        if len(inside) == len(options):
            return OneOf(slot, [self._item(each) for each in inside])
        [only] = inside
        assert isinstance(only, int), "one stage may be left out"
        return Optional(self._stage(only))

    def _stage(self, k: int) -> Stage:
        name = self._names[k]
        given = [self._name(slot) for slot in self._layout["slots"][k]]
        return Stage(
            name,
            self._spaces[name],
            inputs=tuple(INPUTS if each is None else each for each in given),
            memoize=name in self._layout["memoize"],
            cost=_unknown if name in self._layout["declared"] else None,
            active_if={
                param: (parent, of)
                for param, (parent, of) in self._layout["active_if"].get(name, {}).items()
            },
        )

    def _name(self, slot: Slot) -> str | None:
        return self._names[slot] if isinstance(slot, int) else slot


def _unknown(**_: Any) -> float:
    """Stands for the declared cost of a stage, which only its code can tell."""
    raise PipelineError("a study does not tell the costs that its stages declare.")
