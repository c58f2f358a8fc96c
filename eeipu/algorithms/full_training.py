"""Grid search and random search, and trials that go on until somebody else says that they stop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from eeipu.algorithms.configurations import Config, check_steps, grid, random
from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.space import Distribution

__all__ = ["FullTraining", "StepByStep"]


class FullTraining:
    """Trains every configuration to the end, without comparing trials.

    Args:
        configs: The configurations, one for each trial.
        steps: The number of steps to train each of them.
        concurrency: The number of trials that wait or run at the same time. `None`: all of them,
            which a stage tree merges before any is run.

    Raises:
        ConfigurationError: `steps` is less than 1.
    """

    def __init__(
        self, configs: Iterable[Config], steps: int, concurrency: int | None = None
    ) -> None:
        check_steps(steps, steps)
        self._source = enumerate(configs)
        self._steps = steps
        self._concurrency = concurrency

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
        """Ask for the first trials, or for all of them."""
        yield from self._new(self._concurrency)

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:  # noqa: ARG002
        """Stop the trial, which has been trained to the end, and begin another one."""
        return [Stop(trial), *self._new(1)]

    def _new(self, count: int | None) -> Iterator[Move]:
        for trial, config in islice(self._source, count):
            yield Ask(trial, config, self._steps)


class StepByStep:
    """Asks after each look whether a trial goes on.

    Args:
        configs: The configurations, one for each trial.
        max_steps: The number of steps to train a trial that is never stopped.
        every: The number of steps between two looks.
        should_stop: The trial -> whether it stops now, after its value has been reported.
        concurrency: The number of trials that wait or run at the same time.

    Raises:
        ConfigurationError: `every` is less than 1, or larger than `max_steps`.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        max_steps: int,
        every: int,
        should_stop: Callable[[int], bool],
        concurrency: int = 1,
    ) -> None:
        check_steps(every, max_steps)
        self._source = enumerate(configs)
        self._max_steps, self._every = max_steps, every
        self._should_stop = should_stop
        self._concurrency = concurrency
        self._configs: dict[int, Config] = {}

    def start(self) -> list[Move]:
        """Ask for `concurrency` trials, each up to its first look."""
        return [move for _ in range(self._concurrency) for move in self._new()]

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Train the trial further, or stop it and begin a new one."""
        if value is None or step >= self._max_steps or self._should_stop(trial):
            return [Stop(trial), *self._new()]
        return [Ask(trial, self._configs[trial], min(step + self._every, self._max_steps))]

    def _new(self) -> list[Move]:
        for trial, config in self._source:
            self._configs[trial] = config
            return [Ask(trial, config, self._every)]
        return []
