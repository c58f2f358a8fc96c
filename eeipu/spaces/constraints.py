"""Constraints: conditions that a configuration as a whole must satisfy."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from eeipu.errors import SpaceError
from eeipu.spaces.conditions import Conditions
from eeipu.spaces.distributions import Params

__all__ = ["Constraint", "Constraints"]

Constraint = Callable[[dict[str, Any]], Any]
"""Takes a configuration, `"stage.param"` -> value as stored, and says whether it is allowed."""


class Constraints:
    """The constraints of a pipeline.

    Args:
        functions: The constraints. Each must give the same answer whenever it is asked. One is not
            asked about what another before it forbids.
        conditions: When parameters are active: the constraints see these alone.

    Raises:
        SpaceError: They are no list of functions.
    """

    def __init__(
        self, functions: Iterable[Constraint] = (), conditions: Conditions | None = None
    ) -> None:
        if callable(functions) or not isinstance(functions, Iterable):
            raise SpaceError(
                f"constraints must be a list of functions of a configuration, such as "
                f'[lambda p: p["a.x"] + p["b.y"] <= 1], but got {functions!r}.'
            )
        self._functions = tuple(functions)
        self._conditions = Conditions({}, ()) if conditions is None else conditions
        for k, function in enumerate(self._functions):
            if not callable(function):
                raise SpaceError(
                    f"constraints[{k}] must be a function of a configuration, but is {function!r}."
                )

    def __len__(self) -> int:
        return len(self._functions)

    def violated(self, params: Params) -> str | None:
        """The name of the first constraint that a configuration violates; `None` if none.

        Raises:
            SpaceError: A constraint raises an exception, or gives neither true nor false.
        """
        active = self._conditions.active(params)
        for k in range(len(self._functions)):
            if not self._holds(k, active):
                return self._name(k)
        return None

    def allow(self, params: Params) -> bool:
        """Whether a configuration satisfies all constraints."""
        active = self._conditions.active(params)
        return all(self._holds(k, active) for k in range(len(self._functions)))

    def violations(self, configurations: Sequence[Params]) -> list[int]:
        """How many constraints each configuration violates."""
        return [self._count_violated(params) for params in configurations]

    def _count_violated(self, params: Params) -> int:
        count, active = 0, self._conditions.active(params)
        for k in range(len(self._functions)):
            try:
                count += not self._holds(k, active)
            except SpaceError as error:
                # One that another before it violates need not be judged, unless it never can be.
                if count == 0 or isinstance(error.__cause__, KeyError):
                    raise
                count += 1
        return count

    def shares(self, configurations: Sequence[Params]) -> dict[str, float]:
        """The share of configurations that each constraint allows, by its name."""

        def is_allowed(k: int, params: Params) -> bool:
            with suppress(SpaceError):
                return self._holds(k, self._conditions.active(params))
            return False

        return {
            self._name(k): sum(is_allowed(k, p) for p in configurations) / len(configurations)
            for k in range(len(self._functions))
        }

    def _holds(self, k: int, active: Params) -> bool:
        """Whether a constraint holds for a configuration of active parameters."""
        try:
            # A copy, since functions of users may change what they get.
            answer = self._functions[k](dict(active))
            if isinstance(answer, bool):
                return answer
            item = getattr(answer, "item", None)  # of an array or tensor with one element
            answer = answer if item is None else item()
        except Exception as error:
            raise SpaceError(
                f"{self._name(k)} raised {type(error).__name__}: {error} for the configuration "
                f"{dict(active)}; a constraint must be able to judge every configuration."
                f"{self._hint(error)}"
            ) from error
        if not isinstance(answer, bool | int | float) or answer not in (0, 1):
            raise SpaceError(
                f"{self._name(k)} must return True or False, but returned {answer!r} for the "
                f"configuration {dict(active)}."
            )
        return bool(answer)

    def _hint(self, error: Exception) -> str:
        """What to write where a constraint has asked for a parameter that is not always there."""
        name = error.args[0] if isinstance(error, KeyError) and error.args else None
        if name not in self._conditions.of:
            return ""
        return (
            f" {name} is not active in this one: write p.get({name!r}, ...) with a value for this "
            f"case."
        )

    def _name(self, k: int) -> str:
        """Which constraint this is, and where it is written."""
        function: Any = self._functions[k]
        while isinstance(function, partial):
            function = function.func
        name = getattr(function, "__name__", type(function).__name__)
        code = getattr(function, "__code__", None)
        if code is None:
            return f"constraints[{k}] ({name})"
        return f"constraints[{k}] ({name}, {code.co_filename}:{code.co_firstlineno})"
