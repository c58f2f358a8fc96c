"""Searchable schedules: schedules whose arguments are parameters of the search space.

A template is given instead of a schedule, and has distributions instead of some arguments. The
space gets one flat parameter for each distribution, named after the hyper-parameter and the
argument. A configuration of the space then turns the template into a schedule.

>>> from eeipu.stages.schedules import Constant, Cosine
>>> from eeipu.space import Float
>>> cosine = Searchable(Cosine, Float(0.1, 1.0), 0.0, steps=90)
>>> lr = ScheduleChoice(flat=Constant(0.1), cosine=cosine)
>>> list(space_of("lr", lr))
['lr', 'lr_cosine_initial']
>>> schedule_of("lr", lr, {"lr": "flat", "lr_cosine_initial": 0.5})
Constant(value=0.1)
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution

from eeipu.errors import SpaceError
from eeipu.fingerprints.code import value_digest
from eeipu.space import Categorical, Distribution, Params, as_distribution
from eeipu.stages.schedule_runs import Function, Schedule, as_schedule, refuse_torch_scheduler

__all__ = [
    "ScheduleChoice",
    "Searchable",
    "as_templates",
    "canonical_form",
    "schedule_of",
    "space_of",
    "spaces_of",
]


@dataclass(frozen=True, init=False)
class Searchable:
    """A schedule with distributions, or other templates, among its arguments.

    Args:
        kind: A class of `eeipu.stages.schedules`, or any function that returns a schedule.
        *args: Its positional arguments. Lists and dicts may hold distributions too.
        **kwargs: Its keyword arguments.

    Attributes:
        kind: The class or function.
        arguments: Its arguments by name.

    Raises:
        SpaceError: `kind` does not take these arguments, or is a scheduler of torch's.
    """

    kind: Callable[..., Schedule]
    arguments: Mapping[str, Any]

    def __init__(self, kind: Callable[..., Schedule], *args: Any, **kwargs: Any) -> None:
        refuse_torch_scheduler("a searchable schedule", kind)
        try:
            bound = inspect.signature(kind).bind(*args, **kwargs)
        except TypeError as error:
            raise SpaceError(f"{kind.__name__} does not take these arguments: {error}.") from error
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "arguments", dict(bound.arguments))


@dataclass(frozen=True, init=False)
class ScheduleChoice:
    """A choice between several schedules or templates.

    Attributes:
        choices: The name of each choice -> schedule, template or value.
    """

    choices: Mapping[str, Any]

    def __init__(self, **choices: Any) -> None:
        if not choices:
            raise SpaceError(
                "ScheduleChoice needs at least one schedule: ScheduleChoice(flat=Constant(0.1))."
            )
        object.__setattr__(self, "choices", choices)


def as_templates(space: Mapping[str, Any]) -> dict[str, Any]:
    """What a user has given for each hyper-parameter, as templates.

    A list, a tuple or a range are choices, as in the space of every stage: no hyper-parameter has
    several values at one step.

    Raises:
        SpaceError: Choices are schedules, which `ScheduleChoice` takes.
    """
    return {name: _as_template(name, given) for name, given in space.items()}


def _as_template(name: str, given: Any) -> Any:
    choices = getattr(given, "choices", given)
    for choice in choices if isinstance(choices, list | tuple) else ():
        refuse_torch_scheduler(f"the hyper-parameter {name!r}", choice)
        if isinstance(choice, Schedule | Searchable | ScheduleChoice | BaseDistribution):
            raise SpaceError(
                f"the hyper-parameter {name!r} has {choice!r} among its choices, which are values; "
                f"choose between schedules with ScheduleChoice(first=..., second=...)."
            )
    return as_distribution(given) if isinstance(given, list | tuple | range) else given


def space_of(name: str, template: Any) -> dict[str, Distribution]:
    """The parameters of a hyper-parameter's template, as a flat space.

    Args:
        name: The hyper-parameter.
        template: A distribution, a `Searchable`, a `ScheduleChoice`, a list or dict of templates, a
            schedule, or a value. The last two have no parameters.

    Raises:
        SpaceError: Two parameters would have the same name, or there is a scheduler of torch's.
    """
    match template:
        case BaseDistribution():
            return {name: template}
        case Searchable(arguments=arguments):
            parts = {f"{name}_{argument}": part for argument, part in arguments.items()}
        case ScheduleChoice(choices=choices):
            own = {name: Categorical(list(choices))}
            parts = {f"{name}_{choice}": part for choice, part in choices.items()}
            return own | _joined(parts, {})
        case list() | tuple():
            parts = {f"{name}_{index}": part for index, part in enumerate(template)}
        case dict():
            parts = {f"{name}_{key}": part for key, part in template.items()}
        case _:
            refuse_torch_scheduler(f"the hyper-parameter {name!r}", template)
            return {}
    return _joined(parts, {})


def spaces_of(templates: Mapping[str, Any]) -> dict[str, Distribution]:
    """The parameters of several hyper-parameters, as one flat space.

    Args:
        templates: Hyper-parameter -> template, as given to `space_of`.

    Raises:
        SpaceError: A parameter has the name of another parameter or hyper-parameter.
    """
    return _joined(templates, {name: name for name in templates})


def _joined(parts: Mapping[str, Any], taken: Mapping[str, str]) -> dict[str, Distribution]:
    """The parameters of all parts.

    Args:
        parts: The name of each part -> template.
        taken: Names that are taken -> the part that may use them.
    """
    joined: dict[str, Distribution] = {}
    owners = dict(taken)
    for name, part in parts.items():
        for key, distribution in space_of(name, part).items():
            if owners.setdefault(key, name) != name:
                raise SpaceError(
                    f"{key!r} would be a parameter of {name!r}, and is one of {owners[key]!r}; "
                    f"rename one of the two."
                )
            joined[key] = distribution
    return joined


def schedule_of(name: str, template: Any, params: Params) -> Schedule:
    """The schedule that results from a template and a configuration.

    Args:
        name: The hyper-parameter, as given to `space_of`.
        template: The template, as given to `space_of`.
        params: The configuration, which may have other parameters too. A value may be a schedule
            itself. At each step, the template then gets the values that such schedules have there.

    Raises:
        SpaceError: The schedule does not accept the values chosen for it.
    """
    moving = {key: each for key, each in params.items() if isinstance(each, Schedule)}
    if moving:
        space = space_of(name, template)
        moving = {key: each for key, each in moving.items() if key in space}
    if not moving or isinstance(template, BaseDistribution):
        return as_schedule(_filled(name, template, params))

    def value(step: int) -> Any:
        now = {key: schedule(step) for key, schedule in moving.items()}
        return schedule_of(name, template, {**params, **now})(step)

    return Function(value)


def _filled(name: str, template: Any, params: Params) -> Any:
    match template:
        case BaseDistribution():
            return params[name]
        case Searchable(kind=kind, arguments=arguments):
            filled = {k: _filled(f"{name}_{k}", part, params) for k, part in arguments.items()}
            bound = inspect.BoundArguments(inspect.signature(kind), OrderedDict(filled))
            return kind(*bound.args, **bound.kwargs)
        case ScheduleChoice(choices=choices):
            choice = params[name]
            return as_schedule(_filled(f"{name}_{choice}", choices[choice], params))
        case list() | tuple():
            return tuple(_filled(f"{name}_{k}", part, params) for k, part in enumerate(template))
        case dict():
            return {k: _filled(f"{name}_{k}", part, params) for k, part in template.items()}
        case _:
            return template


def canonical_form(template: Any, stop: int, start: int = 0) -> Any:
    """A template without the ranges of its parameters, as JSON, for fingerprints.

    Templates that train alike have equal forms.

    Args:
        template: The template, as given to `space_of`.
        stop: Schedules enter by their values over steps `[start, stop)`.
        start: The first of these steps.
    """
    match template:
        case BaseDistribution():
            return "searched"  # its value is a hyper-parameter of the call
        case Searchable(kind=kind, arguments=arguments):
            parts = {name: canonical_form(part, stop) for name, part in arguments.items()}
            return [value_digest(kind), parts]
        case ScheduleChoice(choices=choices):
            return {name: canonical_form(part, stop, start) for name, part in choices.items()}
        case list() | tuple():
            return [canonical_form(part, stop) for part in template]
        case dict():
            return {key: canonical_form(part, stop) for key, part in template.items()}
        case Schedule():
            return [(run.start, run.stop, run.value) for run in template.runs(stop, start)]
        case _:
            return value_digest(template)
