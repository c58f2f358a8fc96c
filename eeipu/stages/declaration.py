"""Stages: a user's function with its search space, its cost and the resources that it needs.

A stage is frozen: its declaration never changes. What does change is the knowledge of its code,
which a small object beside the declaration holds (`KnownCode`).
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, partialmethod
from types import MethodType
from typing import Any, ClassVar, Literal

from eeipu.errors import PipelineError, SpaceError
from eeipu.fingerprints.code import CodeReader, CodeReading, package_versions
from eeipu.space import Distribution, DistributionLike, as_distribution
from eeipu.stages.functions.methods import (
    BoundStages,
    bound_cost,
    check_partial,
    is_method,
    object_digest,
    plain_function,
)
from eeipu.stages.functions.signatures import (
    check_cost,
    check_defaults,
    check_function,
    check_runs_at_once,
    depends_on_inputs,
    leading_inputs,
    parameters_of,
)
from eeipu.stages.observing.observers import Observer
from eeipu.stages.resources import Resources, check_resources

__all__ = [
    "INPUTS",
    "KnownCode",
    "Place",
    "RunMarker",
    "Source",
    "Sources",
    "SpaceLike",
    "Stage",
    "as_stage",
    "is_read",
    "sources_of",
]

SpaceLike = Mapping[str, DistributionLike]

# A machine may fail under a call twice. If it happens a third time, the call is the likely cause.
DEFAULT_RETRIES = 2


class RunMarker(Enum):
    """What stands for the inputs of a run in `stage(inputs=...)`."""

    INPUTS = "the run's inputs"

    def __repr__(self) -> str:
        return "eeipu.INPUTS"


INPUTS = RunMarker.INPUTS

Source = str | Literal[RunMarker.INPUTS]
"""What a stage gets: the output of the stage of this name, or the run's inputs."""


ActiveIf = tuple[str, Sequence[Any]]
"""Another hyper-parameter of the stage, and values of it."""


class Place:
    """What stands in a pipeline's list where a stage stands, and has a name as that does."""

    name: str


@dataclass(eq=False)
class KnownCode:
    """The knowledge that this process has of a stage's code.

    Attributes:
        reading: The last reading of the code; `None` before the first one.
        content: The digest of the object that the code works on, where a version stands for the
            code; "" where there is none, or it has no digest.
        successor: The function that has taken the name of the stage's own, if it was said.
    """

    reading: CodeReading | None = None
    content: str | None = None
    successor: object = None


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a pipeline. Made by the decorator `stage`; calling it calls the function.

    Attributes:
        name: The stage's name, unique within a pipeline. Its parameters are called
            `"name.parameter"`.
        space: Hyper-parameter name -> distribution, whatever stood for it when the stage was made.
        function: The user's function; `None` where the caller runs the stage (ask/tell).
        version: Replaces the code fingerprint in content keys.
        cost: Takes the hyper-parameters as keywords, and the inputs in front if it depends on
            them, and returns the declared cost. `None`: the cost is measured in seconds.
        memoize: Whether the output, and those of the stages after it, may be kept and reused.
        num_cpus: CPU cores that a call takes.
        num_gpus: GPUs that a call takes; a fraction shares one.
        timeout: Seconds after which a call counts as hanging; `None` for never.
        retries: How often a call is tried again.
        inputs: What it gets as positional arguments, in order; `None`: what the stage before it in
            the pipeline returns, or the run's inputs. It may be given as `stage` takes it.
        observe: Takes the output, and returns a number or a dict of numbers to record.
        active_if: Hyper-parameter -> another one, and the values of it under which it is passed.
        observer: The same, with what this process knows of its code.
        known_code: The last reading of its code. Only this and the next attribute change.
        bound: The stages of the objects of its class, where it is declared above a method.
    """

    name: str
    space: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None
    version: str | None = None
    cost: Callable[..., float] | None = None
    memoize: bool = True
    num_cpus: float = 1
    num_gpus: float = 0
    timeout: float | None = None
    retries: int = DEFAULT_RETRIES
    inputs: tuple[Source, ...] | None = None
    observe: Callable[[Any], Any] | None = None
    active_if: Mapping[str, ActiveIf] = field(default_factory=dict)
    observer: Observer | None = field(default=None, init=False, repr=False)
    known_code: KnownCode = field(default_factory=KnownCode, init=False, repr=False)
    bound: BoundStages = field(default_factory=BoundStages, init=False, repr=False)

    # In other code's fingerprint, a stage stands for its function (see `reading.references`).
    is_transparent_wrapper: ClassVar[bool] = True

    def __post_init__(self) -> None:  # attributes are set here and never again
        # A copy, since the caller's may change.
        object.__setattr__(self, "space", _checked_space(self.name, self.space))
        object.__setattr__(self, "inputs", sources_of(self.name, self.inputs))
        object.__setattr__(self, "active_if", _conditions(self.name, self.space, self.active_if))
        check_resources(
            self.name, Resources(self.num_cpus, self.num_gpus), self.timeout, self.retries
        )
        if self.observe is not None:
            object.__setattr__(self, "observer", Observer(self.observe, self.name, self.version))
        check_partial(self.name, self.function, self.space)
        may_be_bound = is_method(self.function)
        is_partial = isinstance(self.function, partialmethod)
        if self.cost is not None and not is_partial:
            check_cost(
                self.name,
                self.cost,
                self.space,
                self.positional,
                is_method=may_be_bound,
                conditional=self.active_if,
            )
        if self.function is not None:
            check_runs_at_once(self.name, plain_function(self.function))
            if not is_partial:
                check_function(self.name, self.parameters, self.space)
                check_defaults(self.name, self.parameters, self.active_if)
            if getattr(self.function, "__isabstractmethod__", False):
                object.__setattr__(self, "__isabstractmethod__", True)
            # With these, inspect.signature, inspect.getsource and help() show the function's own.
            object.__setattr__(self, "__wrapped__", self.function)
            object.__setattr__(self, "__doc__", self.function.__doc__)

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the function, by their names; none without a function."""
        # Those of a partial method are known when it is an object's.
        is_unknown = self.function is None or isinstance(self.function, partialmethod)
        return {} if is_unknown else parameters_of(self.name, self.function)  # type: ignore[arg-type]

    @property
    def positional(self) -> tuple[inspect.Parameter, ...]:
        """The leading positional parameters of the function that are not hyper-parameters."""
        return leading_inputs(self.parameters, self.space)

    @cached_property
    def cost_takes_inputs(self) -> bool:
        """Whether the declared cost depends on the stage's inputs, so that it takes them too."""
        return self.cost is not None and depends_on_inputs(self.cost, self.space, self.positional)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The user's functions that the stage calls."""
        return () if self.function is None else (plain_function(self.function),)

    @property
    def uses_process_state(self) -> bool:
        """Whether a call sets state that all threads of its process share, so it needs its own."""
        return False

    @property
    def code_fingerprint(self) -> str:
        """The string that stands for the stage's code, also in the paths of a search plan."""
        if self.version is not None:
            if self.known_code.content is None:
                self.known_code.content = object_digest(self.function)
            content = self.known_code.content
            return f"version {self.version}{f' of {content}' if content else ''}"
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
        return package_versions(self._reading.packages if is_read(self) else ())

    @property
    def _reading(self) -> CodeReading:
        """The last reading of the code, which is read now if it never was."""
        if self.known_code.reading is None:
            self.known_code.reading = self.read_code(CodeReader(), None)
        return self.known_code.reading

    def read_code(self, reader: CodeReader, last: CodeReading | None) -> CodeReading:
        """Read the stage's code as it is now.

        Args:
            reader: A reader that was made now.
            last: The reading before this one.

        Raises:
            PipelineError: The code cannot be fingerprinted.
        """
        return reader.read(_function_of(self), last)

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

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the user's function."""
        return _function_of(self)(*args, **kwargs)

    def __set_name__(self, owner: type, name: str) -> None:
        self.bound.owner = owner.__name__

    def __get__(self, instance: Any, owner: type | None = None) -> "Stage":
        """The stage of an object, where this one is declared above a method of its class."""
        function: Any = self.function
        if instance is None or not is_method(function):
            return self

        def make() -> Stage:
            cost = bound_cost(self.cost, function, instance)
            return replace(self, function=function.__get__(instance, owner), cost=cost)

        found: Stage = self.bound.of(instance, make)
        return found


def _function_of(stage: Stage) -> Callable[..., Any]:
    if stage.function is None:
        raise PipelineError(
            f"stage {stage.name!r} was declared without a function; run it yourself and "
            f"report through Tuner.ask and Tuner.tell."
        )
    return stage.function


def as_stage(given: Any) -> Stage:
    """A stage from what a pipeline is given; raises `PipelineError` for what is none."""
    given = given.__func__ if isinstance(given, staticmethod) else given
    if isinstance(given, MethodType) and isinstance(given.__func__, Stage):
        given = given.__func__.__get__(given.__self__)  # a class method's, from Python 3.13 on
    if not isinstance(given, Stage):
        raise PipelineError(f"{given!r:.200} is not a stage; {_remedy(given)}.")
    owner, inputs = given.bound.owner, given.positional
    if owner is not None and is_method(given.function) and inputs and inputs[0].name == "self":
        raise PipelineError(
            f"stage {given.name!r} is a method of {owner}, and a pipeline needs that of one "
            f"object: make one, `model = {owner}(...)`, and give model.{given.name} in its place."
        )
    return given


def _remedy(given: Any) -> str:
    """What to write in place of what is no stage."""
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        return f"give the stage without its name, or name it with stage(name={given[0]!r})"
    if isinstance(given, list | tuple):
        return "a list does not stand for its stages; give them one after another"
    if hasattr(given, "fit") and hasattr(given, "get_params"):
        return (
            "let a function fit the estimator and return it, and make that a stage; or convert a "
            "whole Pipeline of scikit-learn's with eeipu.sklearn.from_pipeline"
        )
    return "decorate it with @stage(...), or make it one with stage(..., space=...)"


def is_read(stage: Stage) -> bool:
    """Whether a stage's code is read, since no version stands for it."""
    return stage.version is None and stage.function is not None


Sources = Source | Stage | Place | Sequence[Source | Stage | Place] | None
"""What `stage(inputs=...)` takes."""


def sources_of(name: str, given: Sources) -> tuple[Source, ...] | None:
    """What a stage gets, by names; `None` where it is left to the pipeline."""
    if given is None:
        return None
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(_source_of(name, one) for one in given)
    return (_source_of(name, given),)


def _source_of(name: str, given: Any) -> Source:
    if isinstance(given, staticmethod | classmethod):  # as the body of a class has them
        given = given.__func__
    if isinstance(given, Stage | Place):
        return given.name
    if isinstance(given, str | RunMarker):
        return given
    raise PipelineError(
        f"stage {name!r}: inputs must be the name of a stage, eeipu.INPUTS, or a tuple of these, "
        f"but got {given!r:.200}."
    )


def _conditions(
    name: str, space: Mapping[str, Distribution], active_if: Mapping[str, ActiveIf] | None
) -> dict[str, ActiveIf]:
    """When hyper-parameters are passed to a stage's function."""
    found: dict[str, ActiveIf] = {}
    for param, condition in (active_if or {}).items():
        is_pair = isinstance(condition, tuple | list) and len(condition) == 2
        if param not in space or not is_pair or condition[0] not in space or condition[0] == param:
            raise PipelineError(
                f"stage {name!r}: active_if needs a hyper-parameter, and for it another one and a "
                f"list of its values, such as {{'depth': ('kind', ['tree'])}}, but got "
                f"{{{param!r}: {condition!r}}}; the hyper-parameters are {list(space)}."
            )
        parent, values = condition
        listed = [values] if isinstance(values, str) or not isinstance(values, Sequence) else values
        if len(listed) == 0:
            raise PipelineError(
                f"stage {name!r}: active_if names no value of {parent!r} under which {param!r} is "
                f"active; give one, or leave {param!r} out of the space."
            )
        for value in listed:
            if not _holds(space[parent], value):
                raise PipelineError(
                    f"stage {name!r}: {param!r} is to be active if {parent!r} is {value!r}, which "
                    f"is none of its values: {space[parent]}."
                )
        found[param] = (parent, tuple(listed))
    return found


def _holds(distribution: Distribution, value: Any) -> bool:
    """Whether a distribution has a value."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (TypeError, ValueError):
        return False


def _checked_space(name: str, space: Any) -> dict[str, Distribution]:
    """The distribution of each hyper-parameter of a stage."""
    if not isinstance(name, str) or not name or "." in name:
        raise PipelineError(
            f"a stage's name must be non-empty and without dots, but got {name!r}; "
            f"pass stage(name=...)."
        )
    if not isinstance(space, Mapping):
        raise PipelineError(
            f"stage {name!r}: the space must be a dict from hyper-parameter to Float, "
            f"Int or Categorical, but got {space!r}."
        )
    checked = {}
    for parameter, values in space.items():
        if not isinstance(parameter, str) or not parameter:
            raise PipelineError(
                f"stage {name!r}: the names of hyper-parameters are the keywords of its function, "
                f"but the space has {parameter!r}."
            )
        try:
            checked[parameter] = as_distribution(values)
        except SpaceError as error:
            raise PipelineError(f"stage {name!r}: the space of {parameter!r}: {error}") from error
    return checked
