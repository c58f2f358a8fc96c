"""What a stage's functions take: checks of their signatures against the stage's space."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any

from eeipu.errors import PipelineError
from eeipu.space import Distribution

__all__ = [
    "binds",
    "check_cost",
    "check_defaults",
    "check_function",
    "check_runs_at_once",
    "depends_on_inputs",
    "first_parameter",
    "leading_inputs",
    "parameters_of",
    "takes_more_than_one",
]

Parameters = Mapping[str, inspect.Parameter]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_of(stage_name: str, function: Callable[..., Any]) -> Parameters:
    """The parameters of a stage's function.

    Raises:
        PipelineError: They cannot be read, as of some builtins.
    """
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"stage {stage_name!r}: the parameters of {function!r} cannot be read "
            f"({error}); wrap it in a function of your own."
        ) from error


def first_parameter(function: Any) -> str | None:
    """The name of a function's first parameter; with a star if it takes any number."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # no function, or one that does not tell what it takes
        return None
    star = "*" if parameters and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL else ""
    return f"{star}{parameters[0].name}" if parameters else None


def leading_inputs(
    parameters: Parameters, space: Mapping[str, Distribution]
) -> tuple[inspect.Parameter, ...]:
    """The leading positional parameters that are not hyper-parameters."""
    kinds = (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)
    return tuple(takewhile(lambda p: p.kind in kinds and p.name not in space, parameters.values()))


def check_function(
    stage_name: str, parameters: Parameters, space: Mapping[str, Distribution]
) -> None:
    """Refuse a function that cannot be called with its inputs and the stage's hyper-parameters.

    Raises:
        PipelineError: A hyper-parameter is not a keyword of the function, or a parameter of the
            function would get no value.
    """
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in space:
        if not takes_any and (name not in parameters or parameters[name].kind not in _NAMED):
            raise PipelineError(
                f"stage {stage_name!r} has a space for {name!r}, but its function takes no "
                f"such keyword; it takes {list(parameters)}."
            )
    given = {*space, *(p.name for p in leading_inputs(parameters, space))}
    for name, parameter in parameters.items():
        has_default = parameter.default is not parameter.empty
        if name in given or has_default or parameter.kind in _VARIADIC:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise PipelineError(
                f"stage {stage_name!r}: the parameter {name!r} has neither a space nor a "
                f"default; add {name!r} to stage(space=...) or give it a default."
            )
        raise PipelineError(
            f"stage {stage_name!r}: the input {name!r} stands behind a hyper-parameter and "
            f"cannot be passed by position; put the inputs first."
        )


def check_runs_at_once(stage_name: str, function: Callable[..., Any]) -> None:
    """Refuse a function that does nothing when it is called, but waits for an event loop.

    Args:
        stage_name: The stage's name.
        function: The function that does the work.

    Raises:
        PipelineError: It is one.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PipelineError(
            f"stage {stage_name!r} has an async function, and a stage is called and not awaited; "
            f"give it a plain one, such as `def {stage_name}(...): return asyncio.run(...)`."
        )


def check_defaults(
    stage_name: str, parameters: Parameters, names: Iterable[str], where: str = "the function"
) -> None:
    """Refuse a function without defaults for hyper-parameters that are not always passed.

    Args:
        stage_name: The stage's name.
        parameters: Those of the function.
        names: The hyper-parameters.
        where: Which function it is, for the message.

    Raises:
        PipelineError: One has no default.
    """
    for name in names:
        if name in parameters and parameters[name].default is inspect.Parameter.empty:
            raise PipelineError(
                f"stage {stage_name!r}: {name!r} is not passed where active_if does not hold; give "
                f"it a default in {where}, such as None."
            )


def check_cost(
    stage_name: str,
    cost: Callable[..., float],
    space: Mapping[str, Distribution],
    inputs: Sequence[inspect.Parameter],
    *,
    is_method: bool,
    conditional: Iterable[str] = (),
) -> None:
    """Refuse a cost that cannot be called with the hyper-parameters, with or without the inputs.

    Args:
        stage_name: The stage's name.
        cost: The cost.
        space: The stage's space.
        inputs: What the function gets by position.
        is_method: Whether the first of these may be an object, which a cost need not take.
        conditional: The hyper-parameters that are not always passed.

    Raises:
        PipelineError: It cannot.
    """
    if not callable(cost):
        raise PipelineError(
            f"stage {stage_name!r}: cost must be a function of the hyper-parameters, but got "
            f"{cost!r}; for a constant write cost=lambda **_: {cost!r}."
        )
    try:
        signature = inspect.signature(cost)
    except ValueError:  # a builtin that does not tell what it takes
        return
    try:
        signature.bind(**space)
    except TypeError as error:
        beside_object = is_method and binds(signature, inputs[1:], space)
        if not (beside_object or binds(signature, inputs, space)):
            raise PipelineError(
                f"stage {stage_name!r}: cost is called with the keywords {list(space)}, "
                f"which it does not take, not even behind the stage's inputs: {error}."
            ) from error
    check_defaults(stage_name, signature.parameters, conditional, "its cost")


def depends_on_inputs(
    cost: Callable[..., float],
    space: Mapping[str, Distribution],
    inputs: Sequence[inspect.Parameter],
) -> bool:
    """Whether a cost takes the stage's inputs in front of the hyper-parameters."""
    try:
        signature = inspect.signature(cost)
    except ValueError:  # a builtin that does not tell what it takes
        return False
    return not binds(signature, (), space) and binds(signature, inputs, space)


def binds(
    signature: inspect.Signature, args: Sequence[object], keywords: Mapping[str, object]
) -> bool:
    """Whether a function of this signature can be called with these arguments."""
    try:
        signature.bind(*args, **keywords)
    except TypeError:
        return False
    return True


@lru_cache(maxsize=128)
def takes_more_than_one(function: Callable[..., Any]) -> bool:
    """Whether a function takes more than one positional argument, as far as it tells."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin that does not tell what it takes
        return False
    required = [p for p in parameters if p.kind in _POSITIONAL and p.default is p.empty]
    return len(required) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
