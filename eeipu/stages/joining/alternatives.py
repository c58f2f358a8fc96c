"""Alternatives: places in a pipeline where one of several stages stands, as a parameter says."""

from collections.abc import Sequence
from dataclasses import dataclass

from eeipu.errors import PipelineError
from eeipu.stages.declaration import Place, Source, Stage, as_stage

__all__ = ["NOTHING", "Alternative", "Item", "OneOf", "Optional"]

NOTHING = "nothing"
"""The value of the parameter of `Optional` where its stage is left out."""


@dataclass(frozen=True, eq=False)
class OneOf(Place):
    """One of several stages, in a list where a stage stands: one is run, the others are not.

    Which one is a hyper-parameter, a categorical one with the name of the place, whose values are
    the names of the stages. The hyper-parameters of a stage are in a trial only if it was chosen.

    Args:
        name: The name of the place, and of the hyper-parameter. Other stages name it in
            `stage(inputs=...)`.
        options: The stages, or further places. Each gets what a stage in this place would get,
            unless it names its inputs itself.

    Raises:
        PipelineError: The name is empty or has a dot, there are fewer than two options, or two have
            the same name.

    >>> from eeipu import Float, Pipeline, stage
    >>> shallow = stage(lambda x, *, a: a * x, name="shallow", space={"a": Float(0.0, 1.0)})
    >>> deep = stage(lambda x, *, b: b - x, name="deep", space={"b": Float(0.0, 1.0)})
    >>> pipeline = Pipeline([OneOf("model", [shallow, deep])])
    >>> list(pipeline.space)
    ['model', 'shallow.a', 'deep.b']
    >>> pipeline.run({"model": "deep", "deep.b": 0.75}, 0.5).value
    0.25
    """

    name: str
    options: "tuple[Alternative, ...]"

    def __init__(self, name: str, options: "Sequence[Alternative]") -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise PipelineError(
                f"the name of a place for alternatives must be non-empty and without dots, but got "
                f"{name!r}."
            )
        if isinstance(options, str | Stage | OneOf) or not isinstance(options, Sequence):
            raise PipelineError(
                f"OneOf({name!r}, ...) takes a list of stages, but got {options!r}."
            )
        if any(isinstance(each, list | tuple) for each in options):
            raise PipelineError(
                f"OneOf({name!r}, ...): an alternative is one stage, and a list is none; do in one "
                f"function what its stages do, or let each be an alternative in a place of its own."
            )
        found = tuple(
            each if isinstance(each, OneOf | _Nothing) else as_stage(each) for each in options
        )
        names = [each.name for each in found]
        if len(found) < 2:
            raise PipelineError(
                f"OneOf({name!r}, ...) needs at least two stages, but got {names}; for one that "
                f"may be left out write eeipu.Optional(stage)."
            )
        repeated = [each for each in names if names.count(each) > 1]
        if repeated:
            raise PipelineError(f"OneOf({name!r}, ...) has two stages named {repeated[0]!r}.")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", found)

    @property
    def choices(self) -> list[str]:
        """The values of the hyper-parameter."""
        return [each.name for each in self.options]


@dataclass(frozen=True)
class _Nothing:
    """No stage: what it would get is passed on.

    Attributes:
        inputs: What is passed on, if not what a stage in this place would get.
    """

    inputs: tuple[Source, ...] | None = None
    name: str = NOTHING


Alternative = Stage | OneOf | _Nothing
Item = Stage | OneOf
"""What stands in the list of a pipeline."""


def Optional(stage: Stage) -> OneOf:  # noqa: N802 - reads as a type, beside `OneOf`
    """A stage that may be left out; what it would get is then passed on.

    It is a place of two alternatives with the stage's name. The hyper-parameter of this name has
    the stage's name as a value, and `"nothing"`.

    Raises:
        PipelineError: The stage gets several inputs, of which none could stand for its output.
    """
    own = as_stage(stage)
    if own.inputs is not None and len(own.inputs) != 1:
        raise PipelineError(
            f"Optional({own.name!r}): the stage gets {len(own.inputs)} inputs, and one would have "
            f"to be passed on in its place; write OneOf with a stage that says which."
        )
    return OneOf(own.name, [own, _Nothing(own.inputs)])
