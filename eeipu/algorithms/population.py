"""Population-based training: the worst go on from where the best are, with changed schedules.

Jaderberg et al. 2017, arXiv 1711.09846. A copy is a shared prefix by nature: the copier's path is
that of its model up to now, and its own from there on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eeipu.algorithms.full_training import Config, check_steps
from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.errors import ConfigurationError
from eeipu.stages.schedules import Constant, Piecewise, Schedule, Switch, as_schedule

__all__ = ["PopulationBasedTraining"]


class PopulationBasedTraining:
    """Trains a population in rounds; after each, the worst copy the best and explore from there.

    Args:
        configs: A member's hyper-parameters each: values or schedules, by name. Floats become
            schedules that change when they are explored; what is neither stays as it is.
        max_steps: How far to train.
        every: How many steps a round has.
        share: Which share of the population copies, and which share is copied, up to a half;
            rounded down, and at least one member.
        factors: One of these multiplies each float of a copy.
        seed: Makes it repeatable.

    Raises:
        ConfigurationError: `share` is out of range, or there are fewer than two members.
    """

    def __init__(
        self,
        configs: Sequence[Mapping[str, Any]],
        max_steps: int,
        every: int,
        share: float = 0.25,
        factors: Sequence[float] = (0.8, 1.2),
        seed: int | None = None,
    ) -> None:
        check_steps(every, max_steps)
        if len(configs) < 2 or not 0.0 < share <= 0.5:
            raise ConfigurationError(
                f"a population needs at least two members and 0 < share <= 0.5, but got "
                f"{len(configs)} and {share!r}."
            )
        self._configs: dict[int, Config] = {
            member: {
                name: as_schedule(value) if isinstance(value, float) else value
                for name, value in config.items()
            }
            for member, config in enumerate(configs)
        }
        self._max_steps, self._every = max_steps, every
        # Rounded down, so that nobody both copies and is copied; but a share may be just below.
        self._copies = max(1, math.floor(share * len(configs) + 1e-9))
        self._factors = list(factors)
        self._rng = np.random.default_rng(seed)
        self._values: dict[int, float] = {}

    def start(self) -> list[Move]:
        """All members through the first round."""
        return self._ask(self._every)

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """When the last member has come through a round, the worst copy and all go on."""
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
                name: self._explore(schedule, step)
                for name, schedule in self._configs[model].items()
            }
        self._values = {}
        return self._ask(min(step + self._every, self._max_steps))

    def _ask(self, step: int) -> list[Move]:
        return [Ask(member, config, step) for member, config in self._configs.items()]

    def _explore(self, schedule: Any, step: int) -> Any:
        """The same up to now, and another value from here on; what is no float stays."""
        value = schedule(step) if isinstance(schedule, Schedule) else None
        if not isinstance(value, float):
            return schedule
        factor = self._factors[int(self._rng.integers(len(self._factors)))]
        return _changed(schedule, step, value * factor)


def _changed(schedule: Schedule, step: int, value: float) -> Switch:
    """The schedule up to a step, and a value from there on; never nested deeper than once."""
    if not isinstance(schedule, _Explored):
        return _Explored(schedule, step, Constant(value), restart=False)
    earlier = schedule.second
    if isinstance(earlier, Constant):
        pieces = Piecewise([earlier.value, value], [step])
    else:
        pieces = Piecewise([*earlier.values, value], [*earlier.boundaries, step])
    return _Explored(schedule.first, schedule.at, pieces, restart=False)


class _Explored(Switch):
    """A schedule from which a copy has departed."""
