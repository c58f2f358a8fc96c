"""The choice between beginning a new trial and going on with a stopped one, and how far.

Notation:
    n: trials; m: candidates; d: hyper-parameters; J: looks; K: stages.

Freeze-thaw Bayesian optimisation (Swersky et al. 2014, arXiv 1406.3896): a model of all learning
curves (`eeipu.models.learning_curves`) says where each stopped training and each untried
configuration would end. The one that earns the most per unit of what is left to pay
(`eeipu.methods.freeze_thaw.worth`) is trained to the next look, and all is weighed anew.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from eeipu.methods.freeze_thaw.candidates import Candidates
from eeipu.methods.freeze_thaw.costs import RemainingCosts
from eeipu.methods.freeze_thaw.trials import Choice, TrialCurve
from eeipu.methods.freeze_thaw.worth import Worth, worth
from eeipu.models.learning_curves import Forecast, LearningCurves
from eeipu.spaces.space import Space

__all__ = ["CurveSearch"]

Array = NDArray[np.float64]

# Hyper-parameters are fitted again when there is this share more of observations.
GROWTH = 1.15

# So many of the best candidates move on, in so many rounds; and of so many is it looked up what the
# cache has of them.
BEST, ROUNDS, LOOKED_UP = 12, 3, 24

# Where no new trial may begin, a training is not worth going on with if it is expected to improve
# the best by less than this share of the values' spread.
NEGLIGIBLE = 0.01


class CurveSearch:
    """Chooses what to train next.

    Args:
        space: The space of all hyper-parameters.
        looks: The steps at which a training may be looked at, ascending; the last one is its end.
        columns: For each stage, the columns of its hyper-parameters.
        trained: The index of the stage that is trained in steps.
        seed: Makes choices repeatable.
        made: A configuration -> how many stages from its front have outputs that are kept, and the
            step from which there is a checkpoint of its training.
    """

    def __init__(
        self,
        space: Space,
        looks: Sequence[int],
        columns: Sequence[Sequence[int]],
        trained: int,
        seed: int | None,
        made: Callable[[Mapping[str, object]], tuple[int, int]],
    ) -> None:
        self._space = space
        self._looks = torch.tensor(looks, dtype=torch.double)
        self._shares = self._looks / looks[-1]
        self._columns, self._trained = columns, trained
        self._made = made
        self._candidates = Candidates(space, columns[:trained], np.random.default_rng(seed))
        self._curves: LearningCurves | None = None
        self._costs: RemainingCosts | None = None
        self._fitted_to = 0

    def choose(
        self,
        trials: Sequence[TrialCurve],
        *,
        may_begin: bool,
        says_which: bool,
        remaining: float,
    ) -> Choice | None:
        """What to train next; `None` where nothing is worth it.

        Args:
            trials: All trials, of which some have values.
            may_begin: Whether a new trial may begin.
            says_which: Whether the configuration of a new trial is chosen here.
            remaining: What is left of the budget.
        """
        # The matrices are small, and workers are busy: more threads would wait for each other.
        with threadpool_limits(1):
            return self._choose(
                trials, may_begin=may_begin, says_which=says_which, remaining=remaining
            )

    def _choose(
        self, trials: Sequence[TrialCurve], *, may_begin: bool, says_which: bool, remaining: float
    ) -> Choice | None:
        X = self._space.encode([trial.params for trial in trials])
        curves, best = self._fit(trials, torch.from_numpy(X))
        assert self._costs is not None
        resting = [
            k
            for k, trial in enumerate(trials)
            if trial.running_to is None
            and trial.failed_at is None
            and not trial.is_elsewhere
            and 0 < trial.reached < self._looks[-1]
        ]
        old, in_hand = self._worth_of_trials(trials, torch.from_numpy(X), resting, best, remaining)
        new, points = (
            self._worth_of_new(trials, X, in_hand, remaining, says_which=says_which)
            if may_begin
            else (None, X)
        )
        if old is not None and (new is None or old.rate.max() >= new.rate.max()):
            k = int(old.rate.argmax())
            is_done = any(self._looks[-1].item() in trial.values for trial in trials)
            gains = curves.spread * NEGLIGIBLE
            if not may_begin and is_done and old.improvement[k] < gains:
                return None
            return Choice(resting[k], None, int(self._looks[old.look[k]]))
        if new is None:
            return None
        k = int(new.rate.argmax())
        params = self._space.decode(points[k]) if says_which else None
        return Choice(None, params, int(self._looks[new.look[k]]))

    # --- Models

    def _fit(self, trials: Sequence[TrialCurve], X: Tensor) -> tuple[LearningCurves, float]:
        """The model of the curves, and the best value at the end of a training.

        While none has been trained to its end, it is the best value of all.
        """
        seen = [(k, step, y) for k, t in enumerate(trials) for step, y in t.values.items()]
        worst = min(y for _, _, y in seen)
        seen += [(k, t.failed_at, worst) for k, t in enumerate(trials) if t.failed_at is not None]
        is_new = self._curves is None or len(seen) >= GROWTH * self._fitted_to
        start = None if self._curves is None else self._curves.hyperparameters
        curves = self._model(X, seen, start, is_fitted=not is_new)
        if is_new or self._costs is None:
            self._fitted_to = len(seen)
            self._costs = self._cost_model(trials, X)
        end = int(self._looks[-1])
        ended = [k for k, trial in enumerate(trials) if end in trial.values]
        best = max(y for _, _, y in seen)
        if ended:
            at_end = curves.forecast(X[ended], self._shares[-1:], torch.tensor(ended))
            best = at_end.mean.max().item()
        running = [(k, t.running_to) for k, t in enumerate(trials) if t.running_to is not None]
        believed = [(k, step, self._expected(curves, X, k, step)) for k, step in running]
        if believed:  # as if they had ended where they are expected to
            curves = self._model(X, seen + believed, curves.hyperparameters, is_fitted=True)
        self._curves = curves
        return curves, best

    def _model(
        self,
        X: Tensor,
        seen: Sequence[tuple[int, int, float]],
        start: Tensor | None,
        *,
        is_fitted: bool,
    ) -> LearningCurves:
        rows, steps, values = zip(*seen, strict=True)
        return LearningCurves(
            X,
            torch.tensor(rows),
            torch.tensor(steps, dtype=torch.double) / self._looks[-1],
            torch.tensor(values, dtype=torch.double),
            categorical=self._space.categorical_columns,
            start=start,
            is_fitted=is_fitted,
        )

    def _expected(self, curves: LearningCurves, X: Tensor, k: int, step: int) -> float:
        t = torch.tensor([step / self._looks[-1].item()], dtype=torch.double)
        return curves.forecast(X[k : k + 1], t, torch.tensor([k])).mean.item()

    def _cost_model(self, trials: Sequence[TrialCurve], X: Tensor) -> RemainingCosts:
        nothing = [None] * len(self._columns)
        rows = [[math.nan if c is None else c for c in t.costs or nothing] for t in trials]
        costs = torch.tensor(rows, dtype=torch.double)
        return RemainingCosts(
            X, costs, self._columns, self._trained, self._space.categorical_columns
        )

    # --- What candidates are worth

    def _worth(self, forecast: Forecast, costs: Tensor, best: Tensor, remaining: float) -> Worth:
        finite = costs[costs.isfinite()]
        least = 1e-9 + 1e-3 * finite.mean().item()
        found = worth(forecast, best, costs, least)
        affordable = costs[:, -1] <= remaining
        if affordable.any():
            found.rate.mul_(affordable)
        return found

    def _worth_of_trials(
        self,
        trials: Sequence[TrialCurve],
        X: Tensor,
        resting: Sequence[int],
        best: float,
        remaining: float,
    ) -> tuple[Worth | None, float]:
        """What stopped trials are worth, and the value that one has in hand.

        It is the best value so far, or what a begun trial is expected to end with. Only the trial
        that is expected to end best counts by what it adds to the best value so far: all others,
        new ones too, have to be better than what one gets by going on with that one.
        """
        assert self._costs is not None
        assert self._curves is not None
        begun = [k for k, trial in enumerate(trials) if trial.running_to is not None]
        rows = torch.tensor([*resting, *begun], dtype=torch.long)
        if not len(rows):
            return None, best
        forecast = self._curves.forecast(X[rows], self._shares, rows)
        leading = int(forecast.mean[:, -1].argmax())
        in_hand = max(best, forecast.mean[leading, -1].item())
        if not resting:
            return None, in_hand
        to_improve = forecast.mean.new_full((len(resting),), in_hand)
        if leading < len(resting):
            to_improve[leading] = best
        rows = rows[: len(resting)]
        forecast = forecast.first(len(resting))
        since = torch.tensor([float(trials[k].reached) for k in resting])
        made = torch.full((len(resting),), self._trained)
        costs = self._costs.to(X[rows], self._looks, since, made)
        return self._worth(forecast, costs, to_improve, remaining), in_hand

    def _worth_of_new(
        self,
        trials: Sequence[TrialCurve],
        X: Array,
        best: float,
        remaining: float,
        *,
        says_which: bool,
    ) -> tuple[Worth | None, Array]:
        """What new trials are worth, and where they are, the best ones first.

        Where others choose the configuration, all that they may choose are worth the mean.
        """

        def judged(points: Array, made: Tensor, since: Tensor) -> Worth:
            assert self._costs is not None
            new = torch.from_numpy(points)
            costs = self._costs.to(new, self._looks, since, made)
            assert self._curves is not None
            forecast = self._curves.forecast(new, self._shares)
            return self._worth(
                forecast, costs, forecast.mean.new_full((len(new),), best), remaining
            )

        def at_first_sight(points: Array) -> Worth:
            made = torch.from_numpy(self._candidates.made(points, X))
            return judged(points, made, torch.zeros(len(points)))

        if not says_which:
            points = self._candidates.anywhere()
            found = at_first_sight(points)
            mean = found.improvement.sum() / found.cost.sum()
            look = found.look.mode().values.reshape(1)
            at_random = Worth(mean.reshape(1), look, found.improvement[:1], found.cost[:1])
            return at_random, points[:1]
        good = sorted((t for t in trials if t.values), key=lambda t: -max(t.values.values()))
        points = self._candidates.first(X, self._space.encode([t.params for t in good[:BEST]]))
        for _ in range(ROUNDS):
            order = at_first_sight(points).rate.argsort(descending=True).numpy()
            near = self._candidates.moved(points[order[:BEST]], 4 * BEST)
            points = np.concatenate([points[order[: 4 * BEST]], near])
        points = _without(points, X)
        if not len(points):
            return None, points
        order = at_first_sight(points).rate.argsort(descending=True).numpy()
        points = points[order[:LOOKED_UP]]
        found_made = [self._made(self._space.decode(point)) for point in points]
        made, since = torch.tensor(found_made, dtype=torch.double).unbind(-1)
        return judged(points, made, since), points


def _without(points: Array, others: Array) -> Array:
    """Points that are not among others, each once."""
    points = np.unique(points, axis=0)
    is_new = ~(points[:, None] == others[None]).all(-1).any(-1)
    new: Array = points[is_new]
    return new
