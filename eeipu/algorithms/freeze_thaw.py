"""A search in which a model decides: begin a trial, or go on with which stopped one, and how far.

The model and its choice are in `eeipu.methods.freeze_thaw`; this module tells it what happens.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from eeipu.algorithms.configurations import Config
from eeipu.algorithms.moves import Ask, Move, News, Stop, no_news
from eeipu.methods.freeze_thaw.trials import Choice, TrialCurve
from eeipu.space import Space

if TYPE_CHECKING:
    from eeipu.methods.freeze_thaw.choice import CurveSearch

__all__ = ["FreezeThaw", "Known"]

# So many trials come first, and are trained to the first look: one more than there are
# hyper-parameters, within these bounds.
FEWEST, MOST = 3, 10

# This share of the training goes by rank, as with ASHA, whatever the model says, so that a model
# that is wrong costs a quarter of the budget and not the search, and sees curves that it would not
# have asked for. For the same reason a third of BOHB's configurations is random (Falkner, Klein and
# Hutter 2018, arXiv 1807.01774).
BY_RANK = 0.25


class Known(Protocol):
    """What a tuner knows of its trials, beside the values that it tells.

    Attributes:
        space: The space of all hyper-parameters.
        columns: For each stage, the columns of its hyper-parameters.
        trained: The index of the stage whose steps count.
        earlier: How many of the configurations to come are those of earlier runs.
        takes_orders: Whether `order` says which configuration the next new trial has.
    """

    @property
    def space(self) -> Space: ...  # noqa: D102
    @property
    def columns(self) -> Sequence[Sequence[int]]: ...  # noqa: D102
    @property
    def trained(self) -> int: ...  # noqa: D102
    @property
    def earlier(self) -> int: ...  # noqa: D102
    @property
    def takes_orders(self) -> bool: ...  # noqa: D102

    def order(self, params: Config) -> None:
        """Let the next new trial have this configuration."""
        ...

    def values(self, trial: int) -> Mapping[int, float]:
        """The values that a trial has already, by step; larger is better."""
        ...

    def has_failed(self, trial: int) -> bool:
        """Whether a trial has failed already."""
        ...

    def costs(self, trial: int) -> Sequence[float | None]:
        """What the stages of a trial have cost, the trained one for each step."""
        ...

    def made(self, params: Config) -> tuple[int, int]:
        """How many stages have kept outputs, and the step from which there is a checkpoint."""
        ...

    def remaining(self) -> float:
        """What is left of the budget when all that runs has ended."""
        ...


class FreezeThaw:
    """Trains whatever promises the most per unit of what is left to pay, and a share by rank.

    Args:
        configs: Yields a configuration whenever another trial may begin.
        looks: The steps at which trials may be looked at, ascending; the last one is the end.
        reduction: By rank, the best `1 / reduction` of the trials that have been looked at go on.
        concurrency: The number of trials that run at the same time.
        seed: Makes choices repeatable.
        known: What the tuner knows. It is needed as soon as the search starts.
        news: What has changed of the trials of other processes, from which the model learns too.
    """

    def __init__(
        self,
        configs: Iterator[Config],
        looks: Sequence[int],
        reduction: float,
        concurrency: int,
        seed: int | None,
        known: Known | None,
        news: News = no_news,
    ) -> None:
        self._configs = configs
        self._looks = list(looks)
        self._reduction = reduction
        self._concurrency = concurrency
        self._seed = seed
        self._given = known
        self._news = news
        self._trials: list[TrialCurve] = []
        self._others: dict[int, TrialCurve] = {}  # by number
        self._search: CurveSearch | None = None
        self._trained = self._by_rank = 0  # steps, in all and those that the model did not choose

    @property
    def _known(self) -> Known:
        assert self._given is not None, "a tuner gives it"
        return self._given

    def start(self) -> list[Move]:
        """Take up the trials of earlier runs, and ask for the first moves."""
        # Imported late: it loads torch, and whoever only names a rule does not need that.
        from eeipu.methods.freeze_thaw.choice import CurveSearch

        known = self._known
        self._search = CurveSearch(
            known.space, self._looks, known.columns, known.trained, self._seed, known.made
        )
        moves: list[Move] = []
        while known.earlier and (trial := self._begin()) is not None:
            mine = self._trials[trial]
            mine.values.update(known.values(trial))
            mine.costs = known.costs(trial)
            if known.has_failed(trial):
                mine.failed_at = self._looks[0]
            elif not mine.values:  # it was cut off before its first look
                moves.append(self._ask(trial, self._looks[0]))
        return moves + self._fill()

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Take note of a value, and say what is trained in its place."""
        mine = self._trials[trial]
        mine.running_to = None
        if value is None:
            mine.failed_at = step
        else:
            mine.values[step] = value
            mine.costs = self._known.costs(trial)
        return self._fill()

    def _hear(self) -> None:
        """Bring the trials of other processes up to date."""
        for before, now in self._news():
            if before is not None:
                self._others.pop(before.number, None)
            if now is not None and now.curve:
                curve = TrialCurve(now.params, dict(now.curve), is_elsewhere=True)
                self._others[now.number] = curve

    def _fill(self) -> list[Move]:
        """Train something on each free worker."""
        self._hear()
        moves: list[Move] = []
        while self._running < self._concurrency and (ask := self._next()) is not None:
            moves.append(ask)
        if not self._running:
            moves += [Stop(trial) for trial in range(len(self._trials))]
        return moves

    @property
    def _running(self) -> int:
        return sum(trial.running_to is not None for trial in self._trials)

    def _next(self) -> Ask | None:
        has_values = bool(self._others) or any(trial.values for trial in self._trials)
        first = min(max(len(self._known.space) + 1, FEWEST), MOST)
        may_begin = True
        if len(self._trials) + len(self._others) < first or not has_values:
            trial = self._begin()
            if trial is not None:
                return self._ask(trial, self._looks[0])
            may_begin = False
        if has_values and self._by_rank < BY_RANK * self._trained:
            ask = self._ranked(may_begin=may_begin)
            if ask is not None:
                return ask
        while has_values and (choice := self._choose(may_begin=may_begin)) is not None:
            if choice.trial is not None:
                return self._ask(choice.trial, choice.step)
            if choice.params is not None:
                self._known.order(choice.params)
            trial = self._begin()
            if trial is not None:
                return self._ask(trial, choice.step)
            may_begin = False
        return None

    def _ranked(self, *, may_begin: bool) -> Ask | None:
        """Go on with the best trial of a look, or begin one that the method has chosen."""
        before = self._trained
        ask = self._promotion()
        if ask is None and may_begin:
            trial = self._begin()
            ask = None if trial is None else self._ask(trial, self._looks[0])
        self._by_rank += self._trained - before
        return ask

    def _promotion(self) -> Ask | None:
        """Let the best trial that rests at a look go on, if it is among the best of all there."""
        everyone = [*self._trials, *self._others.values()]
        for look, following in reversed(list(pairwise(self._looks))):
            values = sorted((t.values[look] for t in everyone if look in t.values), reverse=True)
            most = int(len(values) / self._reduction)
            resting = [
                k
                for k, trial in enumerate(self._trials)
                if trial.running_to is None and trial.failed_at is None and trial.reached == look
            ]
            if most and resting:
                best = max(resting, key=lambda k: self._trials[k].values[look])
                if self._trials[best].values[look] >= values[most - 1]:
                    return self._ask(best, following)
        return None

    def _choose(self, *, may_begin: bool) -> Choice | None:
        assert self._search is not None
        return self._search.choose(
            [*self._trials, *self._others.values()],
            may_begin=may_begin,
            says_which=self._known.takes_orders,
            remaining=self._known.remaining(),
        )

    def _begin(self) -> int | None:
        config = next(self._configs, None)
        if config is None:
            return None
        self._trials.append(TrialCurve(config))
        return len(self._trials) - 1

    def _ask(self, trial: int, step: int) -> Ask:
        self._trained += step - self._trials[trial].reached
        self._trials[trial].running_to = step
        return Ask(trial, self._trials[trial].params, step)
