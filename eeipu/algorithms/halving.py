"""Searches that ask for little training first, and for more from those that do well.

They are clients of a plan: a trial that is promoted goes on from its last state. Values are
maximised, and a trial that failed is worse than any other.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from statistics import fmean, median

from eeipu.algorithms.full_training import Config, check_steps
from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.errors import ConfigurationError

__all__ = ["ASHA", "Hyperband", "MedianStopping", "SuccessiveHalving", "geometric_rungs"]


def geometric_rungs(min_steps: int, max_steps: int, eta: float = 3.0) -> list[int]:
    """Steps at which to compare trials: `max_steps`, divided by `eta` down to `min_steps`.

    Raises:
        ConfigurationError: The steps are not in order, or `eta` is not above 1.

    >>> geometric_rungs(1, 81)
    [1, 3, 9, 27, 81]
    """
    check_steps(min_steps, max_steps, eta)
    # The logarithm of an exact power may round to just below a whole number.
    count = math.floor(math.log(max_steps / min_steps, eta) + 1e-9)
    rungs = [round(max_steps / eta ** (count - k)) for k in range(count + 1)]
    return sorted(set(rungs))


def _check_rungs(rungs: Sequence[int], eta: float) -> None:
    if not rungs or any(before >= after for before, after in pairwise(rungs)):
        raise ConfigurationError(f"rungs must be steps in ascending order, but got {list(rungs)}.")
    check_steps(rungs[0], rungs[-1], eta)


class SuccessiveHalving:
    """The best `1 / eta` of all trials go on, once all have come to a rung.

    Jamieson and Talwalkar 2016, arXiv 1502.07943.

    Args:
        configs: The configurations of all trials.
        rungs: The steps at which trials are compared, such as `geometric_rungs` gives them.
        eta: One in how many goes on.
        first_trial: The number of the first trial.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        rungs: Sequence[int],
        eta: float = 3.0,
        first_trial: int = 0,
    ) -> None:
        _check_rungs(rungs, eta)
        self._rungs = list(rungs)
        self._configs = dict(enumerate(configs, first_trial))
        self._eta = eta
        self._rung = 0
        self._waiting = set(self._configs)
        self._values: dict[int, float] = {}

    def start(self) -> list[Move]:
        """All trials up to the first rung."""
        return [Ask(trial, config, self._rungs[0]) for trial, config in self._configs.items()]

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:  # noqa: ARG002
        """When the last trial has come to a rung, the best go on."""
        self._waiting.discard(trial)
        self._values[trial] = -math.inf if value is None else value
        if self._waiting:
            return []
        ranked = sorted(self._values, key=lambda each: (-self._values[each], each))
        is_last = self._rung == len(self._rungs) - 1
        count = 0 if is_last else max(1, int(len(ranked) / self._eta))
        alive = [each for each in ranked[:count] if self._values[each] > -math.inf]
        stopped: list[Move] = [Stop(each) for each in ranked if each not in alive]
        self._rung += 1
        self._waiting, self._values = set(alive), {}
        return stopped + [Ask(each, self._configs[each], self._rungs[self._rung]) for each in alive]


class Hyperband:
    """Successive halving, from many short trials to a few whole ones.

    Li et al. 2018, arXiv 1603.06560, algorithm 1; the brackets run side by side.

    Args:
        configs: Configurations, at least as many as all brackets take.
        min_steps: Where the first rung of the first bracket is, about.
        max_steps: Where all brackets end.
        eta: One in how many goes on.
    """

    def __init__(
        self, configs: Iterable[Config], min_steps: int, max_steps: int, eta: float = 3.0
    ) -> None:
        source, first = iter(configs), 0
        rungs = geometric_rungs(min_steps, max_steps, eta)
        most = len(rungs) - 1
        self._brackets: list[SuccessiveHalving] = []
        self._bracket_of: dict[int, SuccessiveHalving] = {}
        for s in range(most, -1, -1):
            count = math.ceil((most + 1) / (s + 1) * eta**s)
            chosen = list(islice(source, count))
            bracket = SuccessiveHalving(chosen, rungs[most - s :], eta, first)
            self._brackets.append(bracket)
            self._bracket_of |= dict.fromkeys(range(first, first + len(chosen)), bracket)
            first += len(chosen)

    def start(self) -> Iterator[Move]:
        """All trials of all brackets up to their first rungs."""
        for bracket in self._brackets:
            yield from bracket.start()

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """What the trial's bracket says."""
        return self._bracket_of[trial].tell(trial, step, value)


class ASHA:
    """Promotes a trial as soon as it is among the best `1 / eta` at its rung so far.

    Li et al. 2020, arXiv 1810.05934, algorithm 2.

    Args:
        configs: Configurations; new ones are taken while nobody can be promoted.
        rungs: The steps at which trials are compared, such as `geometric_rungs` gives them.
        eta: One in how many goes on.
        concurrency: How many trials to have waiting or running, at least as many as workers.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        rungs: Sequence[int],
        eta: float = 3.0,
        concurrency: int = 1,
    ) -> None:
        _check_rungs(rungs, eta)
        self._steps = list(rungs)
        self._source = enumerate(configs)
        self._eta = eta
        self._concurrency = concurrency
        self._configs: dict[int, Config] = {}
        self._rungs: list[dict[int, float]] = [{} for _ in self._steps]
        self._promoted: list[set[int]] = [set() for _ in self._steps]
        self._active = 0

    def start(self) -> list[Move]:
        """As many trials as may run at once."""
        return self._fill()

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """One trial less is active; who goes on, or is new."""
        self._active -= 1
        self._rungs[self._steps.index(step)][trial] = -math.inf if value is None else value
        moves = self._fill()
        if self._active == 0:  # nobody can be promoted any more
            moves += [Stop(each) for each in self._configs]
        return moves

    def _fill(self) -> list[Move]:
        moves: list[Move] = []
        while self._active < self._concurrency and (ask := self._next()) is not None:
            self._active += 1
            moves.append(ask)
        return moves

    def _next(self) -> Ask | None:
        for rung in range(len(self._steps) - 2, -1, -1):
            values, promoted = self._rungs[rung], self._promoted[rung]
            ranked = sorted(values, key=lambda each: (-values[each], each))
            for trial in ranked[: int(len(values) / self._eta)]:
                if trial not in promoted and values[trial] > -math.inf:
                    promoted.add(trial)
                    return Ask(trial, self._configs[trial], self._steps[rung + 1])
        for trial, config in self._source:
            self._configs[trial] = config
            return Ask(trial, config, self._steps[0])
        return None


class MedianStopping:
    """Stops a trial whose best value is below the median of what ended trials had on average.

    Golovin et al. 2017 (Vizier), section 3.2.2. The averages are over the values up to the same
    step, and of trials that came so far, whether they were trained to the end or stopped later.

    Args:
        configs: The configurations of all trials.
        max_steps: How far the best are trained.
        every: How many steps lie between two looks.
        min_steps: No trial is stopped before.
        concurrency: How many trials to have waiting or running.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        max_steps: int,
        every: int,
        min_steps: int = 0,
        concurrency: int = 1,
    ) -> None:
        check_steps(every, max_steps)
        self._source = enumerate(configs)
        self._max_steps, self._every, self._min_steps = max_steps, every, min_steps
        self._concurrency = concurrency
        self._configs: dict[int, Config] = {}
        self._curves: dict[int, dict[int, float]] = {}
        self._ended: set[int] = set()

    def start(self) -> list[Move]:
        """As many trials as may run at once, up to the first look."""
        return [move for _ in range(self._concurrency) for move in self._new()]

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """The trial goes on, or a new one begins."""
        if value is not None:
            self._curves[trial][step] = value
        if value is None or step >= self._max_steps or self._is_poor(trial, step):
            self._ended.add(trial)
            return [Stop(trial), *self._new()]
        return [Ask(trial, self._configs[trial], min(step + self._every, self._max_steps))]

    def _new(self) -> list[Move]:
        for trial, config in self._source:
            self._configs[trial], self._curves[trial] = config, {}
            return [Ask(trial, config, self._every)]
        return []

    def _is_poor(self, trial: int, step: int) -> bool:
        if step < self._min_steps:
            return False
        ended = (self._curves[other] for other in self._ended)
        means = [
            fmean(value for at, value in curve.items() if at <= step)
            for curve in ended
            if step in curve
        ]
        return bool(means) and max(self._curves[trial].values()) < median(means)
