"""Stages: a user's function with its search space, its cost and what it needs to run."""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import Any, overload

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from eeipu.errors import PipelineError
from eeipu.fingerprints.code import Look, OwnCode, UnreadableError, versions_of
from eeipu.space import Distribution

__all__ = ["Stage", "look_again", "stage"]

# A machine may go down under a call, even twice; three times points at what runs.
DEFAULT_RETRIES = 2

_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a pipeline. Made by the decorator `stage`; calling it calls the function.

    Attributes:
        name: Unique within a pipeline; the first half of its parameters' names.
        space: Hyper-parameter name -> distribution.
        function: The user's function; `None` where the caller runs the stage (ask/tell).
        version: Stands in for the code fingerprint in content keys.
        cost: Hyper-parameters as keywords, behind the inputs where it takes them -> declared cost;
            `None` to measure seconds.
        memoize: Whether the output may be kept and reused.
        num_cpus: CPU cores that a call takes.
        num_gpus: GPUs that a call takes; a fraction shares one.
        timeout: Seconds after which a call counts as hanging; `None`: never.
        retries: How often a call is tried again.
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

    def __post_init__(self) -> None:
        if not self.name or "." in self.name:
            raise PipelineError(
                f"a stage's name must be non-empty and without dots, but got {self.name!r}; "
                f"pass stage(name=...)."
            )
        if not isinstance(self.space, Mapping):
            raise PipelineError(
                f"stage {self.name!r}: the space must be a dict from hyper-parameter to Float, "
                f"Int or Categorical, but got {self.space!r}."
            )
        for name, distribution in self.space.items():
            if not isinstance(
                distribution, FloatDistribution | IntDistribution | CategoricalDistribution
            ):
                raise PipelineError(
                    f"stage {self.name!r}: the space of {name!r} must be a Float, Int or "
                    f"Categorical, but got {distribution!r}."
                )
        object.__setattr__(self, "space", dict(self.space))  # the caller's may change
        if self.num_cpus < 0 or self.num_gpus < 0:
            raise PipelineError(
                f"stage {self.name!r}: num_cpus and num_gpus must not be negative, "
                f"but got {self.num_cpus!r} and {self.num_gpus!r}."
            )
        if self.timeout is not None and not self.timeout > 0:
            raise PipelineError(
                f"stage {self.name!r}: timeout must be a positive number of seconds or None, but "
                f"got {self.timeout!r}."
            )
        if not (isinstance(self.retries, int) and self.retries >= 0):
            raise PipelineError(
                f"stage {self.name!r}: retries must be a whole number >= 0, but got "
                f"{self.retries!r}."
            )
        if self.cost is not None:
            self._check_cost(self.cost)
        if self.function is not None:
            self._check_signature()
            # inspect.signature, inspect.getsource and help() look through to the function.
            object.__setattr__(self, "__wrapped__", self.function)
            object.__setattr__(self, "__doc__", self.function.__doc__)

    def _check_cost(self, cost: Callable[..., float]) -> None:
        if not callable(cost):
            raise PipelineError(
                f"stage {self.name!r}: cost must be a function of the hyper-parameters, but got "
                f"{cost!r}; for a constant write cost=lambda **_: {cost!r}."
            )
        try:
            signature = inspect.signature(cost)
        except ValueError:  # a builtin that does not tell what it takes
            return
        try:
            signature.bind(**self.space)
        except TypeError as error:
            if not self.cost_takes_inputs:
                raise PipelineError(
                    f"stage {self.name!r}: cost is called with the keywords {list(self.space)}, "
                    f"which it does not take, not even behind the stage's inputs: {error}."
                ) from error

    def _check_signature(self) -> None:
        parameters = self._parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for name in self.space:
            if not takes_any and (name not in parameters or parameters[name].kind not in _NAMED):
                raise PipelineError(
                    f"stage {self.name!r} has a space for {name!r}, but its function takes no "
                    f"such keyword; it takes {list(parameters)}."
                )
        inputs = [p.name for p in self.inputs]
        for name, parameter in parameters.items():
            if (
                name in self.space
                or name in inputs
                or parameter.default is not parameter.empty
                or parameter.kind in _VARIADIC
            ):
                continue
            if parameter.kind is parameter.KEYWORD_ONLY:
                raise PipelineError(
                    f"stage {self.name!r}: the parameter {name!r} has neither a space nor a "
                    f"default; add {name!r} to stage(space=...) or give it a default."
                )
            raise PipelineError(
                f"stage {self.name!r}: the input {name!r} stands behind a hyper-parameter and "
                f"cannot be passed by position; put the inputs first."
            )

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        try:
            return inspect.signature(self._callable).parameters
        except (TypeError, ValueError) as error:
            raise PipelineError(
                f"stage {self.name!r}: the parameters of {self.function!r} cannot be read "
                f"({error}); wrap it in a function of your own."
            ) from error

    @property
    def inputs(self) -> tuple[inspect.Parameter, ...]:
        """The function's leading positional parameters, which no hyper-parameter fills."""
        positional = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        )
        return tuple(
            takewhile(
                lambda p: p.kind in positional and p.name not in self.space,
                self._parameters.values(),
            )
        )

    @cached_property
    def cost_takes_inputs(self) -> bool:
        """Whether the declared cost depends on what the stage gets, so that it is asked with it."""
        if self.cost is None or self.function is None:
            return False
        try:
            signature = inspect.signature(self.cost)
        except ValueError:  # a builtin that does not tell what it takes
            return False
        alone, behind = (), self.inputs
        return not _binds(signature, alone, self.space) and _binds(signature, behind, self.space)

    @cached_property
    def fingerprint(self) -> str:
        """What stands for the stage's code in content keys."""
        if self.version is not None:
            return f"version {self.version}"
        return "" if self.function is None else self._code.fingerprint

    @property
    def code(self) -> str:
        """What stands for the stage's code in the paths of a search plan."""
        return self.fingerprint

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """The versions of Python, and of the packages that the stage's code uses.

        Where a `version` stands in for the code, nobody has looked into it.
        """
        is_known = self.version is None and self.function is not None
        return versions_of(self._code.packages if is_known else ())

    @cached_property
    def _code(self) -> OwnCode:
        return self._code_seen(Look(), None)

    def _code_seen(self, look: Look, last: OwnCode | None) -> OwnCode:
        return look.code_of(self._callable, last)

    def look(self, look: Look) -> None:
        """Have the fingerprint follow the values that the code uses: globals, closures, defaults.

        A stage that came from another process, and brought code of which this one has no source,
        keeps the fingerprint that it had there.

        Args:
            look: A look at code that began now.

        Raises:
            PipelineError: The code cannot be fingerprinted (any more).
        """
        if self.version is not None or self.function is None:
            return
        last = self.known_code
        try:
            found = self._code_seen(look, last)
        except UnreadableError:
            if last is None or last.parts:
                raise
            return
        if found is not last:
            vars(self).update(_code=found)
            for follows in ("fingerprint", "versions"):
                vars(self).pop(follows, None)
        if last is not None and found.fingerprint != last.fingerprint:
            _warn_of_change(self.name, found.changes_since(last))

    @property
    def known_code(self) -> OwnCode | None:
        """What the last look has found, if there was one."""
        return vars(self).get("_code")

    def declared_cost(
        self, params: Mapping[str, Any], inputs: Sequence[Any] | None = None
    ) -> float | None:
        """The cost of a call with these hyper-parameters; `None` if it has to be measured.

        Args:
            params: The hyper-parameters.
            inputs: What the stage gets; `None` where that is not known.

        Raises:
            PipelineError: `cost` returned something other than a finite number >= 0, or depends on
                inputs that are not known.
        """
        if self.cost is None:
            return None
        if self.cost_takes_inputs and inputs is None:
            raise PipelineError(
                f"the declared cost of stage {self.name!r} depends on what the stage gets, which "
                f"only those know who run it; pass stage_costs to Tuner.tell."
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


def look_again(stages: Iterable[Stage]) -> None:
    """Look at the code of stages, as of now; what they share is looked at once.

    Raises:
        PipelineError: Some code cannot be fingerprinted (any more).
    """
    stages = list(stages)
    look = Look(filter(None, (each.known_code for each in stages)))
    for each in stages:
        each.look(look)


def _binds(
    signature: inspect.Signature, args: Sequence[object], keywords: Mapping[str, object]
) -> bool:
    try:
        signature.bind(*args, **keywords)
    except TypeError:
        return False
    return True


def _warn_of_change(name: str, changes: Sequence[str]) -> None:
    named = f" ({', '.join(changes[:3])}{', ...' if len(changes) > 3 else ''})" if changes else ""
    warnings.warn(
        f"values that stage {name!r} uses{named} have changed since it was last run, so outputs "
        f"made before are not reused. Where running it changes them, as with a memo or a random "
        f"generator of its own, make them inside the stage or declare a stage(version=...).",
        RuntimeWarning,
        stacklevel=5,
    )


@overload
def stage(space: Callable[..., Any]) -> Stage: ...
@overload
def stage(
    space: Mapping[str, Distribution] | None = None,
    name: str | None = None,
    version: str | None = None,
    cost: Callable[..., float] | None = None,
    memoize: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
) -> Callable[[Callable[..., Any]], Stage]: ...
def stage(
    space: Mapping[str, Distribution] | Callable[..., Any] | None = None,
    name: str | None = None,
    version: str | None = None,
    cost: Callable[..., float] | None = None,
    memoize: bool = True,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float | None = None,
    retries: int = DEFAULT_RETRIES,
) -> Stage | Callable[[Callable[..., Any]], Stage]:
    """Make a function a stage of a pipeline.

    The first stage of a pipeline gets the run's inputs, every later one the previous output,
    as positional arguments; hyper-parameters are passed by keyword. The last stage returns the
    objective: a number, or a dict of metrics.

    Args:
        space: Hyper-parameter name -> `Float`, `Int` or `Categorical`. A stage without
            hyper-parameters may be decorated by a bare `@stage`.
        name: Defaults to the function's name.
        version: Replaces the code fingerprint in content keys. Declare one where the code cannot
            be fingerprinted, and change it when the code changes.
        cost: Takes the stage's own hyper-parameters as keywords and returns its declared cost,
            in any unit. One that needs them takes the stage's inputs in front, like the
            function. `None`: the cost is measured in wall-clock seconds.
        memoize: Whether the stage's output may be kept and reused. Switch it off for outputs
            that are cheap to make or differ from call to call.
        num_cpus: CPU cores that a call takes.
        num_gpus: GPUs that a call takes; a fraction shares one.
        timeout: Seconds after which a call counts as hanging: its worker, where that is a process
            of its own, is ended, and the call is tried again.
        retries: How often a call is tried again where its worker dies or hangs, or it raises
            `eeipu.TransientError`. Any other exception fails the trial at once.

    Returns:
        A `Stage`, which can still be called like the function.

    Raises:
        PipelineError: The space and the function's signature do not fit.

    >>> from eeipu import Float
    >>> @stage(space={"alpha": Float(0.0, 1.0)})
    ... def scale(data, *, alpha):
    ...     return data * alpha
    >>> scale(2.0, alpha=0.5)
    1.0
    """
    if callable(space):
        return stage()(space)

    def decorate(function: Callable[..., Any]) -> Stage:
        return Stage(
            name=name if name is not None else getattr(function, "__name__", ""),
            space={} if space is None else space,
            function=function,
            version=version,
            cost=cost,
            memoize=memoize,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            timeout=timeout,
            retries=retries,
        )

    return decorate
