"""The search space of a pipeline: distributions under names, constraints and conditions.

Notation:
    d: number of parameters, all stages together, in stage order.
    n: number of configurations.
    X: `n x d`, points of the unit cube (see `eeipu.spaces.cube`).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from eeipu.errors import SpaceError
from eeipu.spaces.conditions import Condition, Conditions
from eeipu.spaces.constraints import Constraint, Constraints
from eeipu.spaces.cube import Cube
from eeipu.spaces.distributions import Params, stored

__all__ = ["Space"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Of a finite space under constraints, the configurations are counted one by one if there are at
# most this many without the constraints, in about half a second.
MOST_COUNTED = 100_000

# So many configurations are looked at in one go.
AT_ONCE = 4096


# Four of its methods are the cube's, with conditions. The others are what all rooms ask of points
# and configurations: which parameters are active, how many there are, how a study stores them.
class Space(Cube):
    """An ordered set of named distributions with constraints, and its map to the unit cube.

    Args:
        distributions: Parameter name -> distribution; the order is the order of the columns.
        constraints: Demands on whole configurations; those that violate one are not in the space,
            though the cube has points for them.
        conditions: Parameter name -> when it is active (`eeipu.spaces.conditions`).

    >>> from eeipu.space import Float, Int
    >>> space = Space({"fit.lr": Float(1e-4, 1e-2, log=True), "fit.depth": Int(1, 4)})
    >>> X = space.encode([{"fit.lr": 1e-3, "fit.depth": 1}])
    >>> X.round(3).tolist()
    [[0.5, 0.125]]
    >>> space.decode(X[0])["fit.depth"]
    1
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        constraints: Iterable[Constraint] = (),
        conditions: Mapping[str, Sequence[Condition]] | None = None,
    ) -> None:
        super().__init__(distributions)
        self.conditions = Conditions(conditions or {}, self.names)
        self.constraints = Constraints(constraints, self.conditions)
        # Once now, since a constraint that looks up a name that is not there will never do.
        if self.constraints and len(self):
            self.constraints.violations([self.decode(np.full(len(self), 0.5))])

    # --- Which parameters are active

    @cached_property
    def _neutral(self) -> dict[str, Any]:
        """The values that stand for inactive parameters."""
        return super().decode_all(np.full((1, len(self)), 0.5))[0]

    @cached_property
    def _neutral_point(self) -> Array:
        point: Array = super().encode([self._neutral])[0]
        return point

    @cached_property
    def _gates(self) -> list[tuple[int, int, Array]]:
        """For each condition its column, the column that it depends on, and the cells that do."""
        gates = []
        for name in self.conditions.order:
            for parent, values in self.conditions.of.get(name, ()):
                column = self.names.index(parent)
                own = Cube({parent: self.distributions[parent]})
                at = own.encode([{parent: value} for value in values])[:, 0]
                gates.append((self.names.index(name), column, self.index(column, at)))
        return gates

    @cached_property
    def switches(self) -> list[int]:
        """The columns on which it depends whether others are active."""
        return sorted({parent for _, parent, _ in self._gates})

    def active(self, X: Array) -> Flags:
        """Which parameters are active at points, `n x d`."""
        active = np.ones(np.shape(X), dtype=np.bool_)
        for column, parent, cells in self._gates:
            here = np.isin(self.index(parent, X[:, parent]), cells)
            active[:, column] &= active[:, parent] & here
        return active

    def settled_points(self, X: Array) -> Array:
        """Points with the neutral coordinate in the columns of inactive parameters, `n x d`."""
        if not self.conditions:
            return X
        return np.where(self.active(X), X, self._neutral_point)

    def settled(self, params: Params) -> dict[str, Any]:
        """A configuration with all parameters, of which inactive ones have their neutral values.

        Args:
            params: The values of the active parameters; others do not count.
        """
        if not self.conditions:
            return dict(params)
        return {**self._neutral, **self.conditions.active(params)}

    def is_whole(self, params: Params) -> bool:
        """Whether all active parameters have a value."""
        active = self.conditions.active(params)
        return all(name in active for name in self.names if self.conditions.holds(name, active))

    def encode(self, configurations: Sequence[Params]) -> Array:
        """Configurations as points of the cube, `n x d`; see `Cube.encode`."""
        if self.conditions:
            configurations = [self.settled(each) for each in configurations]
        return super().encode(configurations)

    def decode_all(
        self, X: Array, fixed: Params | Sequence[Params] | None = None
    ) -> list[dict[str, Any]]:
        """The configurations at points of the cube, with all parameters; see `Cube.decode_all`."""
        found = super().decode_all(X, fixed)
        return [self.settled(each) for each in found] if self.conditions else found

    def snap(self, X: Array) -> Array:
        """Points at the centres of cells, and inactive parameters at their neutral values."""
        return self.settled_points(super().snap(X))

    # --- How many configurations there are

    @cached_property
    def size(self) -> int | None:
        """The number of configurations; `None` if any column is continuous.

        It is also `None` where constraints leave an unknown part of very many.
        """
        if not (self.constraints or self.conditions) or self.product is None:
            return self.product
        return sum(1 for _ in self.configurations()) if self.is_listed else None

    @property
    def is_listed(self) -> bool:
        """Whether the space is finite and small enough to look at every combination of values."""
        return self.product is not None and self.product <= MOST_COUNTED

    def allows(self, X: Array, fixed: Params | Sequence[Params] | None = None) -> Flags:
        """Whether the configurations at points (`n x d`) satisfy all constraints, `n`.

        Args:
            X: `n x d`.
            fixed: As for `decode_all`.
        """
        if not self.constraints:
            return np.ones(len(X), dtype=np.bool_)
        # What is inactive need not be settled: constraints do not see it.
        found = map(self.constraints.allow, super().decode_all(X, fixed))
        return np.fromiter(found, dtype=np.bool_, count=len(X))

    def configurations(self, given: Params | None = None) -> Iterator[dict[str, Any]]:
        """All configurations of a finite space, in order; an infinite space yields none.

        Args:
            given: Values that all of them have, as stored.
        """
        given = given or {}
        columns = [c for c, name in enumerate(self.names) if name not in given]
        cells = [self.cells[column] for column in columns]
        product = 0 if None in cells else math.prod(count for count in cells if count is not None)
        for start in range(0, product, AT_ONCE):
            rest = np.arange(start, min(product, start + AT_ONCE), dtype=object)
            X = np.full((len(rest), len(self)), 0.5)
            for column in reversed(columns):
                rest, digit = rest // self.cells[column], rest % self.cells[column]
                X[:, column] = self.centres(column, digit.astype(np.float64))
            if self.conditions:
                X = X[(self.settled_points(X) == X).all(axis=1)]  # each configuration once
            yield from filter(self.constraints.allow, self.decode_all(X, given))

    def grid_point(self, number: int) -> Array:
        """A point of a finite space, `d`; constraints do not count.

        Args:
            number: Which one, in the order of `configurations`, from 0 on.
        """
        point = np.empty(len(self))
        for column in reversed(range(len(self))):
            cells = self.cells[column]
            assert cells is not None, "the space is finite"
            number, digit = divmod(number, cells)
            point[column] = self.centres(column, np.asarray(float(digit)))
        return point

    def misfit(self, params: Params) -> str | None:
        """Why values are no configuration of this space; `None` if they are. More may be there."""
        own = {}
        active = self.conditions.active(params)
        for name in self.conditions.order:
            distribution = self.distributions[name]
            if not self.conditions.holds(name, active):
                continue
            if name not in params:
                return f"{name} is missing"
            try:
                own[name] = stored(name, distribution, params[name])
            except SpaceError:
                return f"{name} lies outside of {distribution}"
        violated = self.constraints.violated(own)
        return None if violated is None else f"{violated} is violated"

    def canonical(self, params: Params) -> dict[str, Any]:
        """A configuration as the study stores it: plain Python values, in column order.

        It has all parameters; inactive ones have their neutral values, whatever was given.

        Raises:
            SpaceError: A parameter is missing, unknown, or outside of its distribution; or the
                configuration violates a constraint.
        """
        own = self.canonical_part(params)
        active = self.conditions.active(own)
        missing = [n for n in self.names if n not in own and self.conditions.holds(n, active)]
        if missing:
            raise _unfit(self, f"missing: {missing}", active)
        violated = self.constraints.violated(own)
        if violated is not None:
            raise SpaceError(f"the configuration {active} violates {violated}.")
        return self.settled(own)

    def canonical_part(self, params: Params) -> dict[str, Any]:
        """Some values of a configuration as the study stores them, in column order.

        Raises:
            SpaceError: A parameter is unknown, or outside of its distribution.
        """
        if not isinstance(params, Mapping):
            raise SpaceError(
                f"a configuration must be a dict of parameters, but got {type(params).__name__}."
            )
        unknown = [name for name in params if name not in self.distributions]
        if unknown:
            raise _unfit(self, f"unknown: {unknown}")
        return {
            name: stored(name, distribution, params[name])
            for name, distribution in self.distributions.items()
            if name in params
        }

    def fitting_part(self, params: Params) -> dict[str, Any]:
        """Those of some values that lie in their distributions, as stored, in column order.

        With them come the values of other parameters without which they would not be active, unless
        some of them are never active together.
        """
        part = {}
        for name in self.names:
            if name in params:
                with suppress(SpaceError):
                    part[name] = stored(name, self.distributions[name], params[name])
        if part and self.conditions:
            with suppress(SpaceError):
                return self.canonical_part(self.conditions.with_parents(part))
        return part


def _unfit(space: Space, problem: str, active: Params | None = None) -> SpaceError:
    if not space.conditions:
        needs = f"exactly {list(space.names)}"
    elif active is None:
        needs = f"those of {list(space.names)} that it makes active"
    else:
        # What is missing may decide on others, of which nothing can be said yet.
        own = {name for name in space.names if space.conditions.holds(name, active)}
        needs = f"{[name for name in space.names if name in own or name in active]}"
    return SpaceError(f"the configuration does not fit the space ({problem}); it needs {needs}.")
