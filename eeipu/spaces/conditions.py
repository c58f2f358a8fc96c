"""Parameters that a configuration has only where another parameter has certain values.

A parameter is *active* in a configuration if its conditions hold there. The configurations that
users and studies see hold the active parameters alone. Points of the cube have a column for each
parameter; where one is not active, its column holds its neutral value, which is the middle of the
column. So configurations that differ in inactive parameters alone are one point, and the models are
not told of a difference that there is not. (This is the imputation by default values of SMAC;
Hutter et al. 2011, "Sequential model-based optimization for general algorithm configuration".)
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from eeipu.errors import SpaceError
from eeipu.spaces.distributions import Params

__all__ = ["Condition", "Conditions"]

Condition = tuple[str, tuple[Any, ...]]
"""Another parameter, and the values of it under which a parameter is active."""


class Conditions:
    """The conditions of the parameters of a space.

    Args:
        conditions: Parameter -> its conditions, all of which must hold. A parameter that is not
            named is always active.
        names: All parameters.

    Raises:
        SpaceError: A condition names a parameter that is not there, or they go round in a circle.
    """

    def __init__(self, conditions: Mapping[str, Sequence[Condition]], names: Iterable[str]) -> None:
        self.names = tuple(names)
        self.of = {name: tuple(conditions[name]) for name in self.names if conditions.get(name)}
        for name, each in self.of.items():
            for parent, _ in each:
                if parent not in self.names:
                    raise SpaceError(
                        f"{name} is to be active depending on {parent}, but there is no such "
                        f"parameter; there are {list(self.names)}."
                    )
        assert len(self.order) == len(self.names)

    def __bool__(self) -> bool:
        return bool(self.of)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The parameters in an order in which each comes after those that it depends on."""
        ordered: dict[str, None] = {}
        left = list(self.names)
        while left:
            ready = [
                name
                for name in left
                if all(parent in ordered for parent, _ in self.of.get(name, ()))
            ]
            if not ready:
                raise SpaceError(f"the conditions of {left} go round in a circle.")
            ordered |= dict.fromkeys(ready)
            left = [name for name in left if name not in ordered]
        return tuple(ordered)

    def holds(self, name: str, params: Params) -> bool:
        """Whether a parameter is active, given the active ones that it depends on."""
        return all(
            parent in params and params[parent] in values
            for parent, values in self.of.get(name, ())
        )

    def active(self, params: Params) -> dict[str, Any]:
        """Those of some values whose parameters are active.

        Args:
            params: The values, perhaps also of inactive parameters.
        """
        inactive: set[str] = set()
        for name, each in self._conditional:
            if name not in params:
                continue
            for parent, values in each:
                if parent in inactive or parent not in params or params[parent] not in values:
                    inactive.add(name)
                    break
        if not inactive:
            return dict(params)
        return {name: value for name, value in params.items() if name not in inactive}

    @cached_property
    def _conditional(self) -> list[tuple[str, tuple[Condition, ...]]]:
        """The parameters that not always are active, with their conditions, in order."""
        return [(name, self.of[name]) for name in self.order if name in self.of]

    def with_parents(self, part: Params) -> dict[str, Any]:
        """Some values, and those of other parameters without which they would not be active.

        Where several values of another parameter would do, it is the first.

        Args:
            part: The values that are wanted.

        Raises:
            SpaceError: Some of them are never active together.
        """
        whole = dict(part)
        for name, each in reversed(self._conditional):
            for parent, values in each if name in whole else ():
                if whole.setdefault(parent, values[0]) not in values:
                    raise SpaceError(
                        f"{name}={whole[name]!r} has no effect where {parent} is "
                        f"{whole[parent]!r}; it is active where {parent} is one of {list(values)}. "
                        f"Leave one of the two out."
                    )
        return whole
