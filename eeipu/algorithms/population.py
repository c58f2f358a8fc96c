"""Population-based training: the worst members continue from copies of the best ones.

Jaderberg et al. 2017, arXiv 1711.09846. A member that copies another one takes over its schedules
up to the current step and changes them from there on. Both then share their path up to that step,
so that the stage tree runs it once and copies no weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from eeipu.algorithms.configurations import Config, check_steps
from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.errors import ConfigurationError
from eeipu.space import Distribution, cell_count
from eeipu.stages.schedules import Constant, Piecewise, Schedule, Switch, as_schedule

__all__ = ["PopulationBasedTraining"]


class PopulationBasedTraining:
    """Trains a population in rounds. After each round the worst members copy the best ones.

    Args:
        configs: The hyper-parameters of each member. Floats, and schedules of floats, are
            changed when a member explores; so are all parameters of `space`. Other values stay as
            they are.
        max_steps: The number of steps to train.
        every: The number of steps in a round.
        share: The share of the population that copies, and that is copied; in (0, 0.5]. It is
            rounded down to whole members, but is at least one member.
        factors: When a member explores, each number is multiplied by one of these. An integer
            changes at least to its neighbour.
        seed: Makes the search repeatable.
        space: The range or the choices of parameters, by their names in `configs`. A member that
            explores stays inside. `None`: floats may become any.
        resample: When a member explores, each choice is drawn anew with this probability.

    Raises:
        ConfigurationError: `share` or `resample` is out of range, there are fewer than two members,
            or `every` is not in 1..`max_steps`.
    """

    def __init__(
        self,
        configs: Sequence[Mapping[str, Any]],
        max_steps: int,
        every: int,
        share: float = 0.25,
        factors: Sequence[float] = (0.8, 1.2),
        seed: int | None = None,
        space: Mapping[str, Distribution] | None = None,
        resample: float = 0.25,
    ) -> None:
        check_steps(every, max_steps)
        self._space = {} if space is None else dict(space)
        self._resample = resample
        if not 0.0 <= resample <= 1.0:
            raise ConfigurationError(f"resample must be in 0..1, but got {resample!r}.")
        if len(configs) < 2 or not 0.0 < share <= 0.5:
            raise ConfigurationError(
                f"a population needs at least two members and 0 < share <= 0.5, but got "
                f"{len(configs)} and {share!r}."
            )
        self._configs: dict[int, Config] = {
            member: {
                name: as_schedule(value) if self._is_explored(name, value) else value
                for name, value in config.items()
            }
            for member, config in enumerate(configs)
        }
        self._max_steps, self._every = max_steps, every
        # Rounded down, so that no member both copies and is copied. The small term is there because
        # an exact product, such as 0.29 * 100, may be computed as just below the whole number.
        self._copies = max(1, math.floor(share * len(configs) + 1e-9))
        self._factors = list(factors)
        self._rng = np.random.default_rng(seed)
        self._values: dict[int, float] = {}

    def start(self) -> list[Move]:
        """Ask for the first round of all members."""
        return self._ask(self._every)

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Once the round has ended for all members, let the worst copy the best, and go on."""
        self._values[trial] = -math.inf if value is None else value
        if len(self._values) < len(self._configs):
            return []
        if step >= self._max_steps:
            return [Stop(member) for member in self._configs]
        ranked = sorted(self._values, key=lambda each: (-self._values[each], each))
        best = [each for each in ranked[: self._copies] if self._values[each] > -math.inf]
        if not best:
            return [Stop(member) for member in self._configs]
        for member in ranked[-self._copies :]:
            model = best[int(self._rng.integers(len(best)))]
            self._configs[member] = {
                name: self._explore(name, schedule, step)
                for name, schedule in self._configs[model].items()
            }
        self._values = {}
        return self._ask(min(step + self._every, self._max_steps))

    def _ask(self, step: int) -> list[Move]:
        return [Ask(member, config, step) for member, config in self._configs.items()]

    def _is_explored(self, name: str, value: Any) -> bool:
        """Whether a member that explores changes this value of a parameter."""
        is_plain = value is None or isinstance(value, str | int | float)
        return isinstance(value, float) or (name in self._space and is_plain)

    def _explore(self, name: str, schedule: Any, step: int) -> Any:
        """Change a schedule from a step on; return what is not explored as it is."""
        value = schedule(step) if isinstance(schedule, Schedule) else None
        if not (isinstance(schedule, Schedule) and self._is_explored(name, value)):
            return schedule
        new = self._moved(name, value)
        return schedule if new == value else _changed(schedule, step, new)

    def _moved(self, name: str, value: Any) -> Any:
        """Another value of a parameter, inside of its space where that is known."""
        distribution = self._space.get(name)
        if isinstance(distribution, CategoricalDistribution):
            is_drawn = self._rng.random() < self._resample
            choice = int(self._rng.integers(len(distribution.choices)))
            return distribution.choices[choice] if is_drawn else value
        factor = self._factors[int(self._rng.integers(len(self._factors)))]
        return value * factor if distribution is None else _inside(distribution, value, factor)


def _inside(distribution: Distribution, value: float, factor: float) -> Any:
    """A number times a factor, at the nearest value of its range that is another one."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    moved = min(max(value * factor, low), high)
    if step is None:
        return moved
    steps, count = round((moved - low) / step), cell_count(distribution)
    if steps == round((value - low) / step):
        steps += 1 if (factor > 1.0) == (value >= 0) else -1
    assert count is not None, "a range with steps has a number of values"
    moved = low + min(max(steps, 0), count - 1) * step
    return round(moved) if isinstance(distribution, IntDistribution) else moved


def _changed(schedule: Schedule, step: int, value: Any) -> Switch:
    """Return the schedule up to a step, and a constant value from there on.

    A schedule that was changed before gets one more piece, so that nesting stays at one level.
    """
    if not isinstance(schedule, _Explored):
        return _Explored(schedule, step, Constant(value), restart=False)
    earlier = schedule.second
    if isinstance(earlier, Constant):
        pieces = Piecewise([earlier.value, value], [step])
    else:
        pieces = Piecewise([*earlier.values, value], [*earlier.boundaries, step])
    return _Explored(schedule.first, schedule.at, pieces, restart=False)


class _Explored(Switch):
    """A schedule that a member has changed after copying it."""
