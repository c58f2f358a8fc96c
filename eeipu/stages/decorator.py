"""The decorator `stage`, which makes a function a stage of a pipeline."""

from collections.abc import Callable, Mapping
from functools import partialmethod
from typing import Any, overload

from eeipu.errors import PipelineError
from eeipu.stages.declaration import (
    DEFAULT_RETRIES,
    ActiveIf,
    Sources,
    SpaceLike,
    Stage,
    sources_of,
)
from eeipu.stages.functions.methods import static, title

__all__ = ["stage"]

Decorator = Callable[[Callable[..., Any]], Stage]


def _check_given(given: object, space: object) -> None:
    """Refuse what is neither a function nor a space, and two spaces."""
    if isinstance(given, Stage):
        raise PipelineError(
            f"{given.name!r} is a stage already; give its options where it is made, or change a "
            f"copy with dataclasses.replace(...)."
        )
    is_wrapped = isinstance(given, staticmethod | classmethod | partialmethod)
    if not (given is None or callable(given) or isinstance(given, Mapping) or is_wrapped):
        raise PipelineError(
            f"stage takes a function or a space, but got {given!r}; write "
            f'@stage(space={{"x": Float(0.0, 1.0)}}, name="...") above a function, or '
            f"stage(function, space=...)."
        )
    if isinstance(given, Mapping) and space is not None:
        raise PipelineError(f"stage got two spaces, {given!r} and {space!r}; give one.")


@overload
def stage(
    function: Callable[..., Any],
    /,
    name: str | None = None,
    version: str | None = None,
    cost: Callable[..., float] | None = None,
    memoize: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
    *,
    space: SpaceLike | None = None,
    inputs: Sources = None,
    observe: Callable[[Any], Any] | None = None,
    active_if: Mapping[str, ActiveIf] | None = None,
) -> Stage: ...
@overload
def stage(
    space: SpaceLike | None,
    /,
    name: str | None = None,
    version: str | None = None,
    cost: Callable[..., float] | None = None,
    memoize: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
    *,
    inputs: Sources = None,
    observe: Callable[[Any], Any] | None = None,
    active_if: Mapping[str, ActiveIf] | None = None,
) -> Decorator: ...
@overload
def stage(
    *,
    space: SpaceLike | None = None,
    name: str | None = None,
    version: str | None = None,
    cost: Callable[..., float] | None = None,
    memoize: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
    inputs: Sources = None,
    observe: Callable[[Any], Any] | None = None,
    active_if: Mapping[str, ActiveIf] | None = None,
) -> Decorator: ...
def stage(
    function_or_space: Callable[..., Any] | SpaceLike | None = None,
    /,
    name: str | None = None,
    version: str | None = None,
    cost: Callable[..., float] | None = None,
    memoize: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
    *,
    space: SpaceLike | None = None,
    inputs: Sources = None,
    observe: Callable[[Any], Any] | None = None,
    active_if: Mapping[str, ActiveIf] | None = None,
) -> Stage | Decorator:
    """Make a function a stage of a pipeline.

    The first stage of a pipeline gets the run's inputs as positional arguments, and every later
    stage gets the output of the one before. Hyper-parameters are passed by keyword. The last stage
    returns the objective: a number, or a dict of metrics.

    `@stage(space=..., name=...)` decorates a function, and `stage(function, space=..., name=...)`
    does the same with one that is there already, such as a library's.

    Args:
        function_or_space: The function; or the space, as in `@stage({"x": Float(0.0, 1.0)})`. A
            stage without hyper-parameters may be decorated by a bare `@stage`. Above a method, it
            gives each object a stage of its own: `Pipeline([model.fit])`.
        name: Defaults to the function's name.
        version: Replaces the code fingerprint in content keys. Declare one where the code cannot
            be fingerprinted, and change it when the code changes.
        cost: Takes the stage's own hyper-parameters as keywords and returns its declared cost,
            in any unit. If the cost depends on the stage's inputs, it takes them in front, like
            the function. `None`: the cost is measured in wall-clock seconds.
        memoize: Whether the stage's output may be kept and reused. Switch this off for an output
            that is cheap to make or differs from call to call. Then the outputs of the stages
            after it are not kept either, since their keys do not tell what they were made from.
        num_cpus: CPU cores that a call takes.
        num_gpus: GPUs that a call takes; a fraction shares one.
        timeout: Seconds after which a call counts as hanging. Its worker is then ended, which has
            to be a process of its own, and the call is tried again. `None`: a call may take any
            time.
        retries: How often a call is tried again when its worker dies or hangs, or when it raises
            `eeipu.TransientError`. Any other exception fails the trial at once, or prunes it if it
            is `optuna.TrialPruned`.
        space: Hyper-parameter name -> `Float`, `Int` or `Categorical`; or a list of choices, a
            `range` of whole numbers, or a distribution of Optuna's, which stand for these.
        inputs: What the stage gets as positional arguments, in order: a stage or its name, whose
            output it gets, `eeipu.INPUTS` for the run's inputs, or a tuple of these. `None`: the
            output of the stage before it in the pipeline, and the run's inputs for the first one.
        observe: Takes the output, or a copy of it, and returns a number or a dict of numbers, such
            as a validation loss. They are recorded with the trial, kept with the output, and do
            not change its content key. An output that is a number is recorded by itself.
        active_if: Hyper-parameter -> another one of the stage, and a list of its values, as in
            `{"depth": ("kind", ["tree"])}`. With another value, the first one is not in the trial,
            and is not passed to the function, which needs a default for it.

    Returns:
        A `Stage`, which can still be called like the function; a decorator where no function was
        given.

    Raises:
        PipelineError: The space and the signature of the function do not match, or what is given
            is neither a function nor a space.

    >>> from eeipu import Float
    >>> @stage(space={"alpha": Float(0.0, 1.0)})
    ... def scale(data, *, alpha):
    ...     return data * alpha
    >>> scale(2.0, alpha=0.5)
    1.0
    """
    given = function_or_space
    _check_given(given, space)
    own_space: Any = given if isinstance(given, Mapping) else space

    def make(function: Callable[..., Any]) -> Stage:
        own_name = name if name is not None else title(function)
        return Stage(
            name=own_name,
            space={} if own_space is None else own_space,
            function=function,
            version=version,
            cost=cost,
            memoize=memoize,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            timeout=timeout,
            retries=retries,
            inputs=sources_of(own_name, inputs),
            observe=observe,
            active_if=active_if or {},
        )

    def decorate(function: Any) -> Any:
        return static(function, make)

    is_space = given is None or isinstance(given, Mapping)
    return decorate if is_space else decorate(given)
