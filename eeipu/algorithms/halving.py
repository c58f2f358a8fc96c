"""Successive halving and its relatives: train many trials a little, and the best ones further.

Trials are compared at *rungs*, numbers of training steps, and about one in `eta` goes on to the
next rung. A trial that goes on continues from its last checkpoint. Values are maximised, and a
trial that failed is worse than any other.
"""

import math
import warnings
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

from eeipu.algorithms.configurations import Config, check_steps
from eeipu.algorithms.moves import Ask, Move, News, OtherTrial, Stop, no_news
from eeipu.errors import ConfigurationError

__all__ = ["ASHA", "Brackets", "Hyperband", "SuccessiveHalving", "geometric_rungs"]


def geometric_rungs(min_steps: int, max_steps: int, eta: float = 3.0) -> list[int]:
    """Return the rungs: `max_steps`, divided by powers of `eta`, while at least `min_steps`.

    Args:
        min_steps: A lower bound of the first rung, at least 1.
        max_steps: The last rung.
        eta: The factor between two rungs, above 1.

    Raises:
        ConfigurationError: `min_steps` is not in 1..`max_steps`, or `eta` is not above 1.

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
    """Promotes the best `1 / eta` of the trials once all of them have reached a rung.

    Jamieson and Talwalkar 2016, arXiv 1502.07943.

    Args:
        configs: The configurations, one for each trial.
        rungs: The steps at which trials are compared, ascending; see `geometric_rungs`.
        eta: One in `eta` trials is promoted; above 1.
        first_trial: The number of the first trial.
        concurrency: The number of trials that wait or run for the first rung at the same time, so
            that later configurations may be chosen when the first have values. `None`: all of them,
            which a stage tree merges before any is run.

    Raises:
        ConfigurationError: `rungs` do not ascend from at least 1, or `eta` is not above 1.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        rungs: Sequence[int],
        eta: float = 3.0,
        first_trial: int = 0,
        concurrency: int | None = None,
    ) -> None:
        _check_rungs(rungs, eta)
        self._rungs = list(rungs)
        self._source = enumerate(configs, first_trial)
        self._concurrency = math.inf if concurrency is None else concurrency
        self._configs: dict[int, Config] = {}
        self._drawn: list[Move] = []
        self._eta = eta
        self._rung = 0
        self._waiting: set[int] = set()
        self._values: dict[int, float] = {}
        if concurrency is None:
            self._drawn = self._fill()

    def __len__(self) -> int:
        return len(self._configs)

    @property
    def is_over(self) -> bool:
        """Whether no trial waits or runs any more."""
        return not self._waiting

    def start(self) -> list[Move]:
        """Ask for trials up to the first rung."""
        return self._drawn or self._fill()

    def _fill(self) -> list[Move]:
        """Begin trials while there is room and there are configurations."""
        moves: list[Move] = []
        while len(self._waiting) < self._concurrency and (new := next(self._source, None)):
            trial, self._configs[new[0]] = new
            self._waiting.add(trial)
            moves.append(Ask(trial, self._configs[trial], self._rungs[0]))
        return moves

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:  # noqa: ARG002
        """Promote the best trials and stop the others, once the last one has reached the rung."""
        self._waiting.discard(trial)
        self._values[trial] = -math.inf if value is None else value
        begun = self._fill() if self._rung == 0 else []
        if self._waiting:
            return begun
        ranked = sorted(self._values, key=lambda each: (-self._values[each], each))
        is_last = self._rung == len(self._rungs) - 1
        count = 0 if is_last else max(1, int(len(ranked) / self._eta))
        alive = [each for each in ranked[:count] if self._values[each] > -math.inf]
        stopped: list[Move] = [Stop(each) for each in ranked if each not in alive]
        self._rung += 1
        self._waiting, self._values = set(alive), {}
        return stopped + [Ask(each, self._configs[each], self._rungs[self._rung]) for each in alive]


class Brackets:
    """Runs one bracket after the other.

    Args:
        configs: The configurations of all brackets. The last bracket may get fewer than it takes.
        shapes: The number of trials and the rungs of each bracket.
        eta: One in `eta` trials of a bracket is promoted; above 1.
        concurrency: The number of trials of a bracket that wait or run for the first rung at once.

    Raises:
        ConfigurationError: Rungs do not ascend from at least 1, or `eta` is not above 1.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        shapes: Iterable[tuple[int, Sequence[int]]],
        eta: float,
        concurrency: int,
    ) -> None:
        self._source = iter(configs)
        self._shapes = iter(shapes)
        self._eta = eta
        self._concurrency = concurrency
        self._first = 0
        self._brackets: list[SuccessiveHalving] = []

    def start(self) -> Iterator[Move]:
        """Ask for the first trials of the first bracket."""
        yield from self._next()

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Return the moves of the trial's bracket, and begin the next one after its end."""
        bracket = self._brackets[-1]
        moves = bracket.tell(trial, step, value)
        if bracket.is_over:
            moves += self._next()
        return moves

    def _next(self) -> list[Move]:
        """Begin the next bracket."""
        if self._brackets:
            self._first += len(self._brackets[-1])
        for count, rungs in self._shapes:
            configs = islice(self._source, count)
            bracket = SuccessiveHalving(
                configs, rungs, self._eta, self._first, concurrency=self._concurrency
            )
            self._brackets = [bracket]
            return bracket.start()
        return []


class Hyperband:
    """Successive halving in several brackets, from many short trials to a few full ones.

    Li et al. 2018, arXiv 1603.06560, algorithm 1.

    Args:
        configs: The configurations. If there are fewer than all brackets take, the last
            brackets are smaller.
        min_steps: A lower bound of the first rung of the first bracket.
        max_steps: The last rung of all brackets.
        eta: One in `eta` trials is promoted; above 1.

    Raises:
        ConfigurationError: `min_steps` is not in 1..`max_steps`, or `eta` is not above 1.

    Warns:
        RuntimeWarning: There are fewer configurations than the brackets take.

    Note:
        The paper runs one bracket after the other; here they run at the same time.
    """

    def __init__(
        self, configs: Iterable[Config], min_steps: int, max_steps: int, eta: float = 3.0
    ) -> None:
        source, first = iter(configs), 0
        rungs = geometric_rungs(min_steps, max_steps, eta)
        most = len(rungs) - 1
        self._brackets: list[SuccessiveHalving] = []
        self._bracket_of: dict[int, SuccessiveHalving] = {}
        counts = {s: math.ceil((most + 1) / (s + 1) * eta**s) for s in range(most, -1, -1)}
        for s, count in counts.items():
            chosen = list(islice(source, count))
            bracket = SuccessiveHalving(chosen, rungs[most - s :], eta, first)
            self._brackets.append(bracket)
            self._bracket_of |= dict.fromkeys(range(first, first + len(chosen)), bracket)
            first += len(chosen)
        if first < sum(counts.values()):
            missing = [
                rungs[most - s]
                for s, bracket in zip(counts, self._brackets, strict=True)
                if len(bracket) == 0
            ]
            empty = f"; those that begin at the steps {missing} are empty" if missing else ""
            warnings.warn(
                f"Hyperband's brackets take {sum(counts.values())} configurations, but there are "
                f"{first}, so that the last brackets are smaller{empty}. Give more configurations, "
                f"or a larger min_steps or eta.",
                RuntimeWarning,
                stacklevel=2,
            )

    def start(self) -> Iterator[Move]:
        """Ask for all trials of all brackets, each up to its first rung."""
        for bracket in self._brackets:
            yield from bracket.start()

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Return the moves of the trial's bracket."""
        return self._bracket_of[trial].tell(trial, step, value)


class ASHA:
    """Promotes a trial as soon as it is among the best `1 / eta` that have reached its rung.

    Li et al. 2020, arXiv 1810.05934, algorithm 2.

    Args:
        configs: The configurations. A new one begins whenever no trial can be promoted.
        rungs: The steps at which trials are compared, ascending; see `geometric_rungs`.
        eta: One in `eta` trials is promoted; above 1.
        concurrency: The number of trials that wait or run at the same time; at least the number
            of workers, so that none is idle.
        news: What has changed of the trials of other processes, which stand on the same rungs. Each
            process promotes its own trials, if they are among the best of all.

    Raises:
        ConfigurationError: `rungs` do not ascend from at least 1, or `eta` is not above 1.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        rungs: Sequence[int],
        eta: float = 3.0,
        concurrency: int = 1,
        news: News = no_news,
    ) -> None:
        _check_rungs(rungs, eta)
        self._steps = list(rungs)
        self._source = enumerate(configs)
        self._eta = eta
        self._concurrency = concurrency
        self._configs: dict[int, Config] = {}
        self._rungs = {step: _Rung() for step in self._steps}
        self._news = news
        self._active = 0

    def start(self) -> list[Move]:
        """Ask for `concurrency` trials up to the first rung."""
        return self._fill()

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Promote a trial, or begin a new one, in place of the one that has a value now."""
        self._active -= 1
        self._rungs[step].add(trial, -math.inf if value is None else value)
        moves = self._fill()
        if self._active == 0:  # and nothing is left to promote or begin
            moves += [Stop(each) for each in self._configs]
        return moves

    def _fill(self) -> list[Move]:
        self._hear()
        moves: list[Move] = []
        while self._active < self._concurrency and (ask := self._next()) is not None:
            self._active += 1
            moves.append(ask)
        return moves

    def _hear(self) -> None:
        """Bring the values of other processes' trials up to date."""
        for before, now in self._news():
            for step, value in self._places(before):
                self._rungs[step].remove_other(value)
            for step, value in self._places(now):
                self._rungs[step].add_other(value)

    def _places(self, other: OtherTrial | None) -> Iterator[tuple[int, float]]:
        """Where a trial stands, and with which value: a failed one also at its next rung."""
        if other is None:
            return
        yield from ((step, other.curve[step]) for step in self._steps if step in other.curve)
        if other.has_failed:
            following = bisect_right(self._steps, max(other.curve, default=0))
            yield from ((step, -math.inf) for step in self._steps[following : following + 1])

    def _next(self) -> Ask | None:
        for step, following in reversed(list(pairwise(self._steps))):
            trial = self._rungs[step].take_best(self._eta)
            if trial is not None:
                return Ask(trial, self._configs[trial], following)
        for trial, config in self._source:
            self._configs[trial] = config
            return Ask(trial, config, self._steps[0])
        return None


class _Rung:
    """The values of the trials that have reached a rung, and which of them have gone on."""

    def __init__(self) -> None:
        self._ranked: list[tuple[float, int]] = []  # best first: the value's negative, the trial
        self._waiting: list[tuple[float, int]] = []  # those of them that have not gone on
        self._others: list[float] = []  # the negatives of the values of other processes, ascending

    def add(self, trial: int, value: float) -> None:
        """Add a trial; one that failed has the value of minus infinity, and never goes on."""
        insort(self._ranked, (-value, trial))
        if value > -math.inf:
            insort(self._waiting, (-value, trial))

    def take_best(self, eta: float) -> int | None:
        """Let the best trial go on that has not yet, if it is among the best `1 / eta` of all."""
        best = next(iter(self._waiting), None)
        if best is None:
            return None
        better = bisect_left(self._ranked, best) + bisect_left(self._others, best[0])
        if better >= int((len(self._ranked) + len(self._others)) / eta):
            return None
        return self._waiting.pop(0)[1]

    def add_other(self, value: float) -> None:
        """Add a trial of another process."""
        insort(self._others, -value)

    def remove_other(self, value: float) -> None:
        """Forget a trial of another process."""
        del self._others[bisect_left(self._others, -value)]
