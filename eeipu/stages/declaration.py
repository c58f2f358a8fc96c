"""Stages: a user's function with its search space, its cost and the resources that it needs.

A stage is frozen: its declaration never changes. What does change is the knowledge of its code,
which a small object beside the declaration holds (`KnownCode`).
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, overload

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import CodeReader, CodeReading, UnreadableError, package_versions
from eeipu.fingerprints.outlines import Outline, outline_of
from eeipu.space import Distribution
from eeipu.stages.signatures import (
    check_cost,
    check_function,
    depends_on_inputs,
    leading_inputs,
    parameters_of,
)

__all__ = ["KnownCode", "Stage", "refresh_code", "stage"]

# A machine may fail under a call twice. If it happens a third time, the call is the likely cause.
DEFAULT_RETRIES = 2

# A year, which the timers of all systems can hold.
LONGEST_TIMEOUT_S = 365 * 24 * 3600.0


@dataclass(eq=False)
class KnownCode:
    """The knowledge that this process has of a stage's code.

    Attributes:
        reading: The last reading of the code; `None` before the first one.
    """

    reading: CodeReading | None = None


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a pipeline. Made by the decorator `stage`; calling it calls the function.

    Attributes:
        name: The stage's name, unique within a pipeline. Its parameters are called
            `"name.parameter"`.
        space: Hyper-parameter name -> distribution.
        function: The user's function; `None` where the caller runs the stage (ask/tell).
        version: Replaces the code fingerprint in content keys.
        cost: Takes the hyper-parameters as keywords, and the inputs in front if it depends on
            them, and returns the declared cost. `None`: the cost is measured in seconds.
        memoize: Whether the output, and those of the stages after it, may be kept and reused.
        num_cpus: CPU cores that a call takes.
        num_gpus: GPUs that a call takes; a fraction shares one.
        timeout: Seconds after which a call counts as hanging; `None` for never.
        retries: How often a call is tried again.
        known_code: The last reading of its code. This is the one attribute that changes.
    """

    name: str
    space: Mapping[str, Distribution] = field(default_factory=dict)
    function: Callable[..., Any] | None = None
    version: str | None = None
    cost: Callable[..., float] | None = None
    memoize: bool = True
    num_cpus: float = 1
    num_gpus: float = 0
    timeout: float | None = None
    retries: int = DEFAULT_RETRIES
    known_code: KnownCode = field(default_factory=KnownCode, init=False, repr=False)

    # In other code's fingerprint, a stage stands for its function (see `reading.references`).
    is_transparent_wrapper: ClassVar[bool] = True

    def __post_init__(self) -> None:  # attributes are set here and never again
        _check_space(self.name, self.space)
        object.__setattr__(self, "space", dict(self.space))  # the caller's may change
        _check_resources(self)
        if self.cost is not None:
            check_cost(self.name, self.cost, self.space, self.inputs)
        if self.function is not None:
            check_function(self.name, self.parameters, self.space)
            # With these, inspect.signature, inspect.getsource and help() show the function's own.
            object.__setattr__(self, "__wrapped__", self.function)
            object.__setattr__(self, "__doc__", self.function.__doc__)

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the function, by their names; none without a function."""
        return {} if self.function is None else parameters_of(self.name, self.function)

    @property
    def inputs(self) -> tuple[inspect.Parameter, ...]:
        """The leading positional parameters of the function that are not hyper-parameters."""
        return leading_inputs(self.parameters, self.space)

    @cached_property
    def cost_takes_inputs(self) -> bool:
        """Whether the declared cost depends on the stage's inputs, so that it takes them too."""
        return self.cost is not None and depends_on_inputs(self.cost, self.space, self.inputs)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The user's functions that the stage calls."""
        return () if self.function is None else (self.function,)

    @property
    def uses_process_state(self) -> bool:
        """Whether a call sets state that all threads of its process share, so it needs its own."""
        return False

    @property
    def code_fingerprint(self) -> str:
        """The string that stands for the stage's code, also in the paths of a search plan."""
        if self.version is not None:
            return f"version {self.version}"
        return "" if self.function is None else self._reading.fingerprint

    @property
    def fingerprint(self) -> str:
        """The string that stands for all that the stage does in its content keys."""
        return self.code_fingerprint

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of Python, of eeipu, and of the packages that the stage's code uses.

        Where a `version` replaces the fingerprint, the code is not read and its packages are not
        known.
        """
        return package_versions(self._reading.packages if _is_read(self) else ())

    @property
    def _reading(self) -> CodeReading:
        """The last reading of the code, which is read now if it never was."""
        if self.known_code.reading is None:
            self.known_code.reading = self.read_code(CodeReader(), None)
        return self.known_code.reading

    @property
    def outline(self) -> Outline | None:
        """What another process compares its code with; `None` where it cannot be read.

        A `version` stands for the code and for all values that it uses, which may differ. But a
        process that runs other code runs another version.
        """
        if self.function is None or self.version is None:
            return None if self.function is None else outline_of(self._reading)
        try:
            return outline_of(self.read_code(CodeReader(), None), has_values=False)
        except PipelineError:
            return None

    def read_code(self, reader: CodeReader, last: CodeReading | None) -> CodeReading:
        """Read the stage's code as it is now.

        Args:
            reader: A reader that was made now.
            last: The reading before this one.

        Raises:
            PipelineError: The code cannot be fingerprinted.
        """
        return reader.read(self._callable, last)

    def declared_cost(
        self, params: Mapping[str, Any], inputs: Sequence[Any] | None = None
    ) -> float | None:
        """The declared cost of a call; `None` if the cost has to be measured.

        Args:
            params: The hyper-parameters of the call.
            inputs: The stage's inputs; `None` where they are not known.

        Raises:
            PipelineError: `cost` did not return a finite number >= 0, or it depends on inputs that
                are not known.
        """
        if self.cost is None:
            return None
        if self.cost_takes_inputs and inputs is None:
            raise PipelineError(
                f"the declared cost of stage {self.name!r} depends on the stage's inputs, which "
                f"only the code that runs the stage knows; pass stage_costs to Tuner.tell."
            )
        cost = float(self.cost(*(inputs or () if self.cost_takes_inputs else ()), **params))
        if not (math.isfinite(cost) and cost >= 0.0):
            raise PipelineError(
                f"stage {self.name!r}: the declared cost must be finite and not negative, "
                f"but cost(**{dict(params)!r}) is {cost!r}."
            )
        return cost

    @property
    def _callable(self) -> Callable[..., Any]:
        if self.function is None:
            raise PipelineError(
                f"stage {self.name!r} was declared without a function; run it yourself and "
                f"report through Tuner.ask and Tuner.tell."
            )
        return self.function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the user's function."""
        return self._callable(*args, **kwargs)


def _is_read(stage: Stage) -> bool:
    """Whether a stage's code is read, since no version stands for it."""
    return stage.version is None and stage.function is not None


def _check_space(name: str, space: Any) -> None:
    if not name or "." in name:
        raise PipelineError(
            f"a stage's name must be non-empty and without dots, but got {name!r}; "
            f"pass stage(name=...)."
        )
    if not isinstance(space, Mapping):
        raise PipelineError(
            f"stage {name!r}: the space must be a dict from hyper-parameter to Float, "
            f"Int or Categorical, but got {space!r}."
        )
    for parameter, distribution in space.items():
        if not isinstance(
            distribution, FloatDistribution | IntDistribution | CategoricalDistribution
        ):
            raise PipelineError(
                f"stage {name!r}: the space of {parameter!r} must be a Float, Int or "
                f"Categorical, but got {distribution!r}."
            )


def _check_resources(stage: Stage) -> None:
    if not all(math.isfinite(each) and each >= 0 for each in (stage.num_cpus, stage.num_gpus)):
        raise PipelineError(
            f"stage {stage.name!r}: num_cpus and num_gpus must be finite and not negative, "
            f"but got {stage.num_cpus!r} and {stage.num_gpus!r}."
        )
    if stage.timeout is not None and not 0 < stage.timeout <= LONGEST_TIMEOUT_S:
        raise PipelineError(
            f"stage {stage.name!r}: timeout must be a positive number of seconds, at most "
            f"{LONGEST_TIMEOUT_S:g}, or None, but "
            f"got {stage.timeout!r}."
        )
    if not (isinstance(stage.retries, int) and stage.retries >= 0):
        raise PipelineError(
            f"stage {stage.name!r}: retries must be a whole number >= 0, but got {stage.retries!r}."
        )


def refresh_code(stages: Iterable[Stage]) -> None:
    """Read the code of stages again, so that their fingerprints follow the values that it uses.

    These are globals, closure values and defaults. Code that stages share is read once. A stage
    that came from another process, with code that has no source in this one, keeps the fingerprint
    that it had there.

    Raises:
        PipelineError: The code of a stage cannot be fingerprinted, or no longer can.
    """
    read = [each for each in stages if _is_read(each)]
    known = (each.known_code.reading for each in read)
    reader = CodeReader(reading for reading in known if reading is not None)
    for each in read:
        _refresh(each, reader)


def _refresh(stage: Stage, reader: CodeReader) -> None:
    last = stage.known_code.reading
    try:
        reading = stage.read_code(reader, last)
    except UnreadableError:
        if last is None or last.definitions:
            raise
        return
    stage.known_code.reading = reading
    if last is not None and reading.fingerprint != last.fingerprint:
        _warn_of_change(stage.name, reading.changes_since(last))


def _warn_of_change(name: str, changes: Sequence[str]) -> None:
    named = f" ({', '.join(changes[:3])}{', ...' if len(changes) > 3 else ''})" if changes else ""
    warnings.warn(
        f"values that stage {name!r} uses{named} have changed since it was last run, so outputs "
        f"made before are not reused. If the stage itself changes them when it runs, as it does a "
        f"memo or a random generator, create them inside the stage or declare stage(version=...).",
        RuntimeWarning,
        stacklevel=5,  # who called Pipeline.run or Tuner.run
    )


Decorator = Callable[[Callable[..., Any]], Stage]


def _check_given(given: object, space: object) -> None:
    """Refuse what is neither a function nor a space, and two spaces."""
    if isinstance(given, Stage):
        raise PipelineError(
            f"{given.name!r} is a stage already; give its options where it is made, or change a "
            f"copy with dataclasses.replace(...)."
        )
    if not (given is None or callable(given) or isinstance(given, Mapping)):
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
    space: Mapping[str, Distribution] | None = None,
) -> Stage: ...
@overload
def stage(
    space: Mapping[str, Distribution] | None,
    /,
    name: str | None = None,
    version: str | None = None,
    cost: Callable[..., float] | None = None,
    memoize: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
) -> Decorator: ...
@overload
def stage(
    *,
    space: Mapping[str, Distribution] | None = None,
    name: str | None = None,
    version: str | None = None,
    cost: Callable[..., float] | None = None,
    memoize: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
) -> Decorator: ...
def stage(
    function_or_space: Callable[..., Any] | Mapping[str, Distribution] | None = None,
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
    space: Mapping[str, Distribution] | None = None,
) -> Stage | Decorator:
    """Make a function a stage of a pipeline.

    The first stage of a pipeline gets the run's inputs as positional arguments, and every later
    stage gets the output of the one before. Hyper-parameters are passed by keyword. The last stage
    returns the objective: a number, or a dict of metrics.

    `@stage(space=..., name=...)` decorates a function, and `stage(function, space=..., name=...)`
    does the same with one that is there already, such as a library's.

    Args:
        function_or_space: The function; or the space, as in `@stage({"x": Float(0.0, 1.0)})`. A
            stage without hyper-parameters may be decorated by a bare `@stage`.
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
        space: Hyper-parameter name -> `Float`, `Int` or `Categorical`.

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
    own_space = given if isinstance(given, Mapping) else space

    def decorate(function: Callable[..., Any]) -> Stage:
        return Stage(
            name=name if name is not None else getattr(function, "__name__", ""),
            space={} if own_space is None else own_space,
            function=function,
            version=version,
            cost=cost,
            memoize=memoize,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            timeout=timeout,
            retries=retries,
        )

    return decorate(given) if callable(given) else decorate
