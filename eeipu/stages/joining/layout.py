"""How the stages of a pipeline are joined: who gets what, and which of alternatives is run."""

import inspect
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from eeipu.counts import counted
from eeipu.errors import PipelineError
from eeipu.spaces.conditions import Condition
from eeipu.spaces.distributions import Params
from eeipu.stages.declaration import INPUTS, Source, Stage, as_stage
from eeipu.stages.joining.alternatives import Alternative, Item, OneOf
from eeipu.stages.joining.graph import Graph

__all__ = ["Layout"]

Slot = int | str | None
"""What an argument is made of: a stage by its index, a place for alternatives by its name, or the
run's inputs (`None`)."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The stages of a pipeline and what joins them.

    Attributes:
        stages: All stages, those of alternatives side by side.
        slots: For each stage, what its positional arguments are made of, in order.
        places: The places for alternatives, by name: choice -> what stands there then.
        chosen_by: For each stage, the parameters that choose it, each with its value: none for one
            that is always run.
        place_chosen_by: The same for each place, by its name.
        last: What gives the objective.
    """

    stages: tuple[Stage, ...]
    slots: tuple[tuple[Slot, ...], ...]
    places: Mapping[str, Mapping[str, Slot]]
    chosen_by: tuple[tuple[tuple[str, str], ...], ...]
    place_chosen_by: Mapping[str, tuple[tuple[str, str], ...]]
    last: Slot

    @classmethod
    def of(cls, items: Iterable[Item]) -> "Layout":
        """The layout that the items of a pipeline make.

        Raises:
            PipelineError: Two have the same name, a stage gets the output of one that is not there
                or comes later, leads nowhere, or cannot be called with what it gets.
        """
        given = [each if isinstance(each, OneOf) else as_stage(each) for each in items]
        made = _Making(given)
        for item in given:
            made.add(item)
        layout = cls(
            tuple(made.stages),
            tuple(made.slots),
            made.places,
            tuple(made.chosen_by),
            made.place_chosen_by,
            made.before,
        )
        layout._check_leads_on()
        layout._check_arguments()
        return layout

    @cached_property
    def graph(self) -> Graph:
        """Whose output each stage may get."""
        sources = tuple(
            tuple(source for slot in slots for source in self._reachable(slot))
            for slots in self.slots
        )
        ends = tuple(k for k in self._reachable(self.last) if k is not None)
        return Graph(sources, ends if ends != (len(self.stages) - 1,) else ())

    def _reachable(self, slot: Slot) -> list[int | None]:
        """All stages that may stand in a slot; `None` for the run's inputs."""
        if not isinstance(slot, str):
            return [slot]
        found = (each for option in self.places[slot].values() for each in self._reachable(option))
        return list(dict.fromkeys(found))

    @property
    def source_names(self) -> dict[str, tuple[str, ...]]:
        """For each stage, the names of what its positional arguments are made of, in order."""
        return {
            stage.name: tuple("INPUTS" if slot is None else self._name(slot) for slot in slots)
            for stage, slots in zip(self.stages, self.slots, strict=True)
        }

    def resolved(self, slot: Slot, params: Params) -> int | None:
        """The stage that stands in a slot in a configuration; `None` for the run's inputs."""
        while isinstance(slot, str):
            slot = self.places[slot][params[slot]]
        return slot

    def avoids(self, names: Container[str]) -> bool:
        """Whether a choice among alternatives leaves out all of some stages.

        Args:
            names: The stages' names.
        """
        chosen = [
            by for stage, by in zip(self.stages, self.chosen_by, strict=True) if stage.name in names
        ]
        places = list(dict.fromkeys(place for by in chosen for place, _ in by))
        return any(
            all(any(choices[place] != choice for place, choice in by) for by in chosen)
            for each in product(*(self.places[place] for place in places))
            for choices in [dict(zip(places, each, strict=True))]
        )

    def conditions(self) -> dict[str, list[Condition]]:
        """When each hyper-parameter is active, for those that not always are."""
        found: dict[str, list[Condition]] = {
            name: [(param, (choice,)) for param, choice in each]
            for name, each in self.place_chosen_by.items()
            if each
        }
        for stage, chosen in zip(self.stages, self.chosen_by, strict=True):
            own = {
                param: [(f"{stage.name}.{parent}", tuple(values))]
                for param, (parent, values) in stage.active_if.items()
            }
            for param in stage.space:
                all_of = [*((name, (choice,)) for name, choice in chosen), *own.get(param, [])]
                if all_of:
                    found[f"{stage.name}.{param}"] = all_of
        return found

    @property
    def is_runnable(self) -> bool:
        """Whether every stage has a function."""
        return all(each.function is not None for each in self.stages)

    def left_out(self, stages: Iterable[Stage]) -> frozenset[str]:
        """The names of the stages that a configuration with these stages leaves out."""
        return frozenset(each.name for each in self.stages) - {each.name for each in stages}

    # --- Checks

    def check_inputs(self, inputs: tuple[Any, ...]) -> None:
        """Check that the stages can be called with the inputs of a run, and all of them run.

        Raises:
            PipelineError: It cannot.
        """
        missing = [each.name for each in self.stages if each.function is None]
        if missing:
            raise PipelineError(
                f"stage {missing[0]!r} was declared without a function; run the stages yourself "
                f"and report through Tuner.ask and Tuner.tell."
            )
        for k, each in enumerate(self.stages):
            if self.slots[k] == (None,) and each.inputs is None:
                _check_takes_inputs(each, inputs)
            elif self.graph.takes_inputs(k):
                self.check_call(k, len(inputs))
        if inputs and not any(map(self.graph.takes_inputs, range(len(self.stages)))):
            raise PipelineError(
                f"no stage takes the run's inputs, but got {len(inputs)}; name eeipu.INPUTS in "
                f"stage(inputs=...) of those that need them."
            )

    def _check_leads_on(self) -> None:
        graph, last = self.graph, self.graph.ends or (len(self.stages) - 1,)
        for k, stage in enumerate(self.stages):
            if k not in last and not graph.needed_by[k]:
                raise PipelineError(
                    f"stage {stage.name!r} leads nowhere: no stage gets its output, and the "
                    f"objective is that of the last one, {self.stages[-1].name!r}; name it in the "
                    f"inputs of another one, or leave it out."
                )
        inside = (
            k is not None and self._is_inside(k, self.last) for k in self._reachable(self.last)
        )
        if not all(inside):
            raise PipelineError(
                "the last stage gives the objective, so that it cannot be left out: a stage must "
                "come after eeipu.Optional(...)."
            )

    def _is_inside(self, k: int, slot: Slot) -> bool:
        """Whether a stage stands in a slot by itself, and not for one that is left out."""
        return k == slot or any(name == slot for name, _ in self.chosen_by[k])

    def _check_arguments(self) -> None:
        for k, stage in enumerate(self.stages):
            if stage.function is None:
                continue
            if stage.inputs is None and self.slots[k] != (None,):
                _check_takes_one_output(stage, self._name(self.slots[k][0]))
            elif stage.inputs is not None and None not in self.graph.sources[k]:
                self.check_call(k, 0)

    def _name(self, slot: Slot) -> str:
        return self.stages[slot].name if isinstance(slot, int) else str(slot)

    def check_call(self, k: int, inputs: int) -> None:
        """Check that stage `k` can be called with what it gets.

        Args:
            k: Its index.
            inputs: The number of the run's inputs.

        Raises:
            PipelineError: It cannot.
        """
        counts, first = {0}, next(iter(self.slots[k]), None)
        for slot in self.slots[k]:
            own = {inputs if source is None else 1 for source in self._reachable(slot)}
            counts = {count + more for count in counts for more in own}
        for count in sorted(counts):
            _check_count(self.stages[k], count, self._name(first))


@dataclass
class _Making:
    """A layout as it grows, item by item."""

    items: Sequence[Item]
    stages: list[Stage] = field(default_factory=list)
    slots: list[tuple[Slot, ...]] = field(default_factory=list)
    places: dict[str, dict[str, Slot]] = field(default_factory=dict)
    chosen_by: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    place_chosen_by: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    known: dict[str, Slot] = field(default_factory=dict)
    before: Slot = None

    def __post_init__(self) -> None:
        names = [name for item in self.items for name in _names_in(item)]
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise PipelineError(
                f"two stages are named {repeated[0]!r}; rename one with stage(name=...), or "
                f"with dataclasses.replace(model.fit, name=...) for a method of an object."
            )

    def add(self, item: Item) -> None:
        """Put an item behind the others."""
        for source in _sources_in(item):
            self._check_source(item, source)
        self.before = self.known[item.name] = self._placed(item, ())

    def _placed(self, option: Alternative, chosen: tuple[tuple[str, str], ...]) -> Slot:
        if isinstance(option, OneOf):
            self.places[option.name] = choices = {}
            self.place_chosen_by[option.name] = chosen
            for each in option.options:
                choices[each.name] = self._placed(each, (*chosen, (option.name, each.name)))
            return option.name
        if not isinstance(option, Stage):  # nothing: what it would get is passed on
            return self._given(option.inputs)[0]
        self.stages.append(option)
        self.slots.append(self._given(option.inputs))
        self.chosen_by.append(chosen)
        return len(self.stages) - 1

    def _given(self, inputs: tuple[Source, ...] | None) -> tuple[Slot, ...]:
        if inputs is None:
            return (self.before,)
        return tuple(None if each is INPUTS else self.known[str(each)] for each in inputs)

    def _check_source(self, item: Item, source: Source) -> None:
        if source is INPUTS or str(source) in self.known:
            return
        name, own = str(source), item.name
        names = [each.name for each in self.items]
        if name not in names:
            inside = [each.name for each in self.items if name in _names_in(each)]
            if inside:
                raise PipelineError(
                    f"stage {own!r} gets the output of {name!r}, which is one of the alternatives "
                    f"of {inside[0]!r}; name {inside[0]!r} instead."
                )
            raise PipelineError(
                f"stage {own!r} gets the output of {name!r}, but there is no such stage; "
                f"the stages are {names}. For the run's inputs write eeipu.INPUTS."
            )
        if name == own:
            raise PipelineError(
                f"stage {own!r} gets its own output, so that its inputs are in a circle; it has to "
                f"get another stage's, or eeipu.INPUTS."
            )
        if self._leads_to(name, own):
            raise PipelineError(
                f"stages {own!r} and {name!r} are in a circle: each needs the output of the "
                f"other; one of them has to get something else."
            )
        raise PipelineError(
            f"stage {own!r} gets the output of {name!r}, which comes after it in the list; "
            f"put {name!r} before {own!r}."
        )

    def _leads_to(self, start: str, wanted: str) -> bool:
        """Whether the output of `wanted` is needed for that of `start`, directly or not."""
        names = [each.name for each in self.items]
        waiting, seen = [start], {start}
        while waiting:
            name = waiting.pop()
            if name == wanted:
                return True
            if name not in names:
                continue
            k = names.index(name)
            found = {str(each) for each in _sources_in(self.items[k]) if each is not INPUTS}
            if k and _takes_the_one_before(self.items[k]):
                found.add(names[k - 1])
            waiting += found - seen
            seen |= found
        return False


def _options(item: Alternative) -> Iterator[Alternative]:
    """What may stand in the place of an item: itself, or its options and theirs."""
    yield item
    if isinstance(item, OneOf):
        for each in item.options:
            yield from _options(each)


def _names_in(item: Alternative) -> list[str]:
    """The names of an item and of the stages in it; `Optional` has the name of its stage."""
    if not isinstance(item, OneOf):
        return [item.name] if isinstance(item, Stage) else []
    inside = [name for each in item.options for name in _names_in(each)]
    return inside if item.name in item.choices else [item.name, *inside]


def _sources_in(item: Alternative) -> list[Source]:
    """The names of all that the stages of an item get."""
    plain = (each for each in _options(item) if not isinstance(each, OneOf))
    return [source for each in plain for source in each.inputs or ()]


def _takes_the_one_before(item: Alternative) -> bool:
    return any(not isinstance(each, OneOf) and each.inputs is None for each in _options(item))


def _written(stage: Stage) -> Iterator[str]:
    for source in stage.inputs or ():
        yield "INPUTS" if source is INPUTS else repr(source)


def _check_takes_inputs(stage: Stage, inputs: tuple[Any, ...]) -> None:
    try:
        inspect.Signature(stage.positional).bind(*inputs)
    except TypeError as error:
        expected = [p.name for p in stage.positional]
        raise PipelineError(
            f"the first stage, {stage.name!r}, takes the inputs {expected}, but got "
            f"{len(inputs)} ({error}); pass them to run(...) in this order."
        ) from error


def _check_count(stage: Stage, count: int, first: str) -> None:
    """Check that a stage takes so many arguments, the first of them from there."""
    try:
        inspect.Signature(stage.positional).bind(*range(count))
    except TypeError as error:
        names = [p.name for p in stage.positional]
        arguments = counted(count, "argument")
        if stage.inputs is None:
            raise PipelineError(
                f"stage {stage.name!r} takes {names}, but it gets {arguments}, the inputs of "
                f"the run, where {first!r} passes these on: {error}; let it take as many, or let a "
                f"stage that always runs come before."
            ) from error
        written = ", ".join(_written(stage))
        remedy = "name one source for each positional parameter, in order"
        if INPUTS in stage.inputs:
            remedy += "; those of a run are what pipeline.run and Tuner.run get"
        raise PipelineError(
            f"stage {stage.name!r} takes {names}, but gets {arguments} from "
            f"inputs=({written}): {error}; {remedy}."
        ) from error


def _check_takes_one_output(stage: Stage, upstream: str) -> None:
    required = [
        p.name
        for p in stage.positional
        if p.default is p.empty and p.kind is not inspect.Parameter.VAR_POSITIONAL
    ]
    if len(stage.positional) == 0:
        raise PipelineError(
            f"stage {stage.name!r} takes no input, but it gets the output of {upstream!r}; "
            f"give its function a first positional parameter without a space."
        )
    if len(required) > 1:
        raise PipelineError(
            f"stage {stage.name!r} gets one input, the output of {upstream!r}, but its "
            f"parameters {required[1:]} have neither a space nor a default; add them to "
            f"stage(space=...), give them defaults, or name what they get with stage(inputs=...)."
        )
