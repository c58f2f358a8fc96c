"""Grid search and random search: every configuration is trained to the end."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from eeipu.algorithms.configurations import Config, check_steps, grid, random
from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.space import Distribution

__all__ = ["FullTraining"]


class FullTraining:
    """Trains every configuration to the end, without comparing trials.

    Args:
        configs: The configurations, one for each trial.
        steps: The number of steps to train each of them.

    Raises:
        ConfigurationError: `steps` is less than 1.
    """

    def __init__(self, configs: Iterable[Config], steps: int) -> None:
        check_steps(steps, steps)
        self._configs = configs
        self._steps = steps

    @classmethod
    def random(
        cls, space: Mapping[str, Distribution], trials: int, steps: int, seed: int | None = None
    ) -> "FullTraining":
        """Return a random search with this number of trials."""
        return cls(islice(random(space, seed), trials), steps)

    @classmethod
    def grid(cls, space: Mapping[str, Distribution], steps: int) -> "FullTraining":
        """Return a grid search over all configurations of a finite space.

        Raises:
            SpaceError: A parameter is continuous.
        """
        return cls(grid(space), steps)

    def start(self) -> Iterator[Move]:
        """Ask for all trials at once."""
        for trial, config in enumerate(self._configs):
            yield Ask(trial, config, self._steps)

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:  # noqa: ARG002
        """Stop the trial, which has been trained to the end."""
        return [Stop(trial)]
