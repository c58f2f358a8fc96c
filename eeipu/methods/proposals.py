"""The configurations that a method proposes for the next trial, and whether they are worth it."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.errors import BudgetTooSmall, NothingWorthwhile, SpaceExhausted
from eeipu.methods.catalogue import Method, eeipu, gittins_index
from eeipu.methods.climbing.maximisation import maximize
from eeipu.methods.climbing.scores import Score
from eeipu.methods.climbing.skipping import free_at, skipping
from eeipu.methods.history import History
from eeipu.methods.reasons import reason_for
from eeipu.methods.reuse.candidates import Candidate, with_given
from eeipu.methods.reuse.kept_parts import KeptParts, nothing_reused
from eeipu.methods.search_state import Search
from eeipu.methods.suggestion_batches import in_turn
from eeipu.methods.warm_up import Design, next_point
from eeipu.models.objective import ObjectiveModel
from eeipu.models.observed_stages.chain import StageChain
from eeipu.models.pending_improvement import LogPendingEI, log_improvement
from eeipu.space import Params

__all__ = ["DONE", "Proposals", "check_affordable", "check_not_done", "check_worth_at", "unseen"]

# What to tell the user when no trial may tell more.
DONE = "no configuration is left of which the models expect more than they know already"

# A candidate tells nothing new if the model's deviation is below this share of the noise that it
# has learnt. Four trials at one place, whatever else is known, bring it down to a half.
LEAST_NEWS = 0.5

# Improvements below this share of the values' standard deviation are no gain.
LEAST_GAIN = 1e-6

# How much too sure of itself the model may be, as a factor of its deviations, before a search gives
# up a part of the space.
DOUBT = 3.0

# Draws at random before a space is searched systematically for what has not run yet, and how many
# draws that satisfy constraints follow where those at random hardly do.
RANDOM_TRIES = 1_000
ALLOWED_TRIES = 256

# Before a search is over because of constraints, all combinations of values are looked at if they
# are at most this many, which takes a few seconds.
MOST_LISTED = 1_000_000


@dataclass(frozen=True)
class Proposals:
    """What a method proposes in one state of a search.

    Attributes:
        search: The state of the search.
        method: The method.
        design: Its warm-up design.
        top_q: The number of best trials whose kept outputs are offered.
        kept: The content keys of the stage outputs that can be reused now.
        given: The values that the user has chosen for this trial, as stored.
    """

    search: Search
    method: Method
    design: Design
    top_q: int
    kept: Container[str]
    given: Params = field(default_factory=dict)

    @cached_property
    def warm_up_point(self) -> NDArray[np.float64] | None:
        """The next point of the warm-up, `d`; `None` when it is over."""
        return next_point(self.search, self.design, fits_models=self.method.score is not None)

    def new(self, count: int) -> list[dict[str, Any]]:
        """The most preferred configurations that have not run.

        Args:
            count: At most this many; of several, each is chosen as if those before it were running.
        """
        return list(
            islice(filter(self.search.history.configurations.is_new, self._in_order(count)), count)
        )

    def reason(self, params: dict[str, Any]) -> dict[str, Any]:
        """Why a configuration was chosen, for people; see `eeipu.methods.reasons`.

        Args:
            params: The configuration, one of `new`, or one that was drawn because there was none.
        """
        if self.warm_up_point is not None:
            return {"by": "warm-up"}
        if self.method.score is None:
            return {"by": "random"}
        maximisers = self._new_maximisers if self.seeks_news else self._maximisers
        for candidates in (maximisers, self.__dict__.get("exploring", ())):
            for each in candidates:
                if each.params == params:
                    leads = self._chain is not None and self._chain is self.search.models.leading
                    chain = self._chain if leads else None
                    return reason_for(self.search, each, candidates, chain)
        return {"by": "random"}

    def _in_order(self, count: int) -> Iterator[dict[str, Any]]:
        """Configurations in order of preference, some of which may have run."""
        pipeline = self.search.history.pipeline
        if self.warm_up_point is not None:
            parts = [[*columns] for columns in pipeline.columns.own]
            found = pipeline.feasible.repaired(
                self.warm_up_point, parts, self.search.seed, self.given
            )
            if found is not None:
                yield found
        elif self.method.score is not None:
            candidates = self._preferred()
            for candidate in candidates if count == 1 else self._in_turn(candidates, count):
                yield candidate.params

    @property
    def seeks_news(self) -> bool:
        """Whether candidates are passed over that would tell nothing new.

        With several objectives, none is: what nobody would miss in one may matter in another.
        """
        return self.method.seeks_news and not self.search.history.objectives.are_several

    def _preferred(self) -> Iterable[Candidate]:
        """The candidates that the method would try, best first; some may have run."""
        if not self.seeks_news:
            return self._maximisers
        return self.promising or self.exploring or self._new_maximisers

    @cached_property
    def _maximisers(self) -> list[Candidate]:
        """The maximisers of the method's score, best first."""
        assert self.method.score is not None
        return list(self.candidates(self.method.score(self.search)))

    @cached_property
    def _new_maximisers(self) -> list[Candidate]:
        return [c for c in self._maximisers if self.search.history.configurations.is_new(c.params)]

    @cached_property
    def promising(self) -> list[Candidate]:
        """Those of the method's candidates whose trials may tell more than is known, best first."""
        return _telling(self._new_maximisers, self.search, self._chain)

    @property
    def _chain(self) -> StageChain | None:
        """The model by way of what stages show, if it counts."""
        weighed = self.search.models.weighed_chain if self.method.sees_stages else None
        return None if weighed is None else weighed.chain

    @cached_property
    def exploring(self) -> list[Candidate]:
        """Candidates that reuse nothing, for when no other is promising, best first.

        They would be promising if all deviations were `DOUBT` times as large as the model says.
        """
        candidates = self.candidates(_doubting(self.search), fresh=True)
        new = [c for c in candidates if self.search.history.configurations.is_new(c.params)]
        return _telling(new, self.search, doubt=DOUBT)

    @property
    def is_done(self) -> bool:
        """Whether there are new candidates, and no trial of them may tell more than is known."""
        return bool(self._new_maximisers) and not self.promising and not self.exploring

    def _in_turn(self, candidates: Iterable[Candidate], count: int) -> Iterator[Candidate]:
        """Several of the candidates that have not run, each chosen beside those before it."""
        search, pending = self.search, self.search.X_pending
        assert pending is not None, "several suggestions are made beside running trials only"
        new = [c for c in candidates if search.history.configurations.is_new(c.params)]
        if new:
            models = search.models
            model = models.leading if self.method.sees_stages else models.objective
            best_f = models.best_of(model)
            improvement = LogPendingEI(model, best_f, pending, seed=search.trial_seed)
            yield from in_turn(new, improvement, count)

    def candidates(self, score: Score, *, fresh: bool = False) -> Iterator[Candidate]:
        """The maximisers of a score in the part of the cube that the method searches, best first.

        Args:
            score: The method's score, or another one.
            fresh: Whether to search without any reuse, wherever the method searches.
        """
        search, history = self.search, self.search.history
        pipeline, top = history.pipeline, history.top(self.top_q)
        known = [trial.params for trial in top]
        if pipeline.cube.constraints:  # what runs satisfies them, too
            known += [trial.params for trial in history.running]
        pool, parts, bounds = [nothing_reused(pipeline)], None, None
        if self.method.region is not None and not (fresh or self.given):
            region = self.method.region(search)
            pool, bounds = [region.reuse], region.bounds
        elif self.method.reuses and not fresh:
            parts = KeptParts(
                pipeline, (*top, *history.running), self.kept, history.configurations.is_new
            )
            pool = parts.listed
        return maximize(
            skipping(score, pipeline),
            pipeline.cube,
            with_given(pool, self.given),
            seed=search.trial_seed,
            parts=None if parts is None or parts.are_all_listed or self.given else parts,
            incumbents=pipeline.cube.encode(known),
            bounds=bounds,
            feasible=pipeline.feasible,
        )

    def first_new(self, candidates: Iterable[Candidate] | None = None) -> Candidate | None:
        """The first candidate that has not run; `None` if all have.

        Args:
            candidates: Candidates, best first; `None`: those that the method would try.
        """
        is_new = self.search.history.configurations.is_new
        those = self._preferred() if candidates is None else candidates
        return next((c for c in those if is_new(c.params)), None)


def _telling(
    candidates: Sequence[Candidate],
    search: Search,
    chain: StageChain | None = None,
    *,
    doubt: float = 1.0,
) -> list[Candidate]:
    """The candidates whose trial may tell more than is known already, in the same order.

    Left out are those that the model cannot tell from what has run or is running: its deviation is
    far below the noise that it has learnt, and its mean no more than this noise above the best
    value. Left out are also those that nobody would miss: the expected improvement is below
    `LEAST_GAIN` of the values' deviation, or below the rounding of the best value. Where two models
    count, a candidate is left out if both say so.

    Args:
        candidates: Candidates that have not run.
        search: The state of the search.
        chain: The second model.
        doubt: By how much to multiply the deviations of the model for the expected improvement.
    """
    if not candidates:
        return []
    models = search.models
    X = torch.from_numpy(np.stack([candidate.point for candidate in candidates]))
    rounding = float(np.spacing(abs(np.nanmax(search.history.values)))) / models.standard.unit
    least = max(LEAST_GAIN * models.objective.scale, rounding)
    with torch.no_grad():
        moments = _moments(X.unsqueeze(-2), models.believer)
        tells = _tells(moments, models.best_f, models.objective.noise_std, least, doubt)
        if chain is not None:
            memoized = torch.tensor([candidate.reuse.memoized for candidate in candidates])
            mean, variance = chain.moments(X, memoized)
            moments = mean, variance.sqrt()
            tells |= _tells(moments, chain.best_f, chain.noise_std, least, doubt)
    return [c for c, is_worth in zip(candidates, tells.tolist(), strict=True) if is_worth]


def _tells(
    moments: tuple[Tensor, Tensor], best_f: float, noise: float, least: float, doubt: float
) -> Tensor:
    """Which trials may tell more than a model knows, from what it predicts for them, `b`."""
    mean, std = moments
    gain = log_improvement(mean, doubt * std, best_f).exp()
    is_news = (std > LEAST_NEWS * noise) | (mean > best_f + noise)
    return is_news & (gain > least)


def _doubting(search: Search) -> Score:
    """Log EEIPU, from deviations that are `DOUBT` times as large as the model says."""
    models, cost = search.models, eeipu(search).cost

    def score(X: Tensor, memoized: Tensor) -> Tensor:
        mean, std = _moments(X, models.believer)
        value = log_improvement(mean, DOUBT * std, models.best_f)
        if search.cooling > 0:
            value = value + search.cooling * cost.log_inverse(X.squeeze(-2), memoized)
        return value

    return score


def _moments(X: Tensor, model: ObjectiveModel) -> tuple[Tensor, Tensor]:
    """Means and standard deviations at single points, `b x 1 x d -> b`."""
    posterior = model.posterior(X)
    return posterior.mean.flatten(), posterior.variance.sqrt().flatten()


def unseen(
    history: History, levels: int | None, seed: int, given: Params | None = None
) -> dict[str, Any]:
    """A random configuration that is new; if none is, one that runs or has run, if need be.

    Args:
        history: The trials so far.
        levels: If given, the configuration is from a grid of this many values of each parameter,
            as long as the grid is not used up.
        seed: Fixes the choice.
        given: Values that the configuration has in any case, as stored.

    Raises:
        SpaceError: No configuration was found that satisfies the constraints.
        SpaceExhausted: Of an unknown number of configurations that constraints allow, all that were
            found have run or are running.
    """
    rng = np.random.default_rng(seed)
    pipeline, given = history.pipeline, {} if given is None else given
    cube = pipeline.cube
    for attempt in range(RANDOM_TRIES):
        point = rng.random(len(cube))
        if levels is not None and 2 * attempt < RANDOM_TRIES:
            point = (np.floor(point * levels) + 0.5) / levels
        params = cube.decode_all(point[None], given)[0]
        if history.configurations.is_new(params) and cube.constraints.allow(params):
            return params
    if not cube.constraints:
        return next(filter(history.configurations.is_new, cube.configurations(given)), params)
    drawn = pipeline.feasible.draw(rng, ALLOWED_TRIES, fixed=given, around=history.X)
    if len(drawn) == 0:
        raise pipeline.feasible.error(given)
    allowed = cube.decode_all(drawn, given)
    is_listed = cube.product is not None and cube.product <= MOST_LISTED
    listed = cube.configurations(given) if is_listed else ()
    new = next(filter(history.configurations.is_new, chain(allowed, listed)), None)
    if new is None and cube.size is None and not given:
        raise SpaceExhausted(
            f"no configuration of {pipeline.name!r} was found that satisfies the constraints and "
            f"has not been evaluated; widen the space or the constraints to go on."
        )
    return allowed[0] if new is None else new


def check_worth_at(price: float, proposals: Proposals) -> None:
    """Check that a candidate's expected improvement is worth its expected cost.

    This is the stopping rule of Xie et al. 2025, arXiv 2507.12453.

    Args:
        price: What a unit of cost is worth, in the unit of the objective.
        proposals: What the method proposes.

    Raises:
        NothingWorthwhile: No candidate is worth it.
    """
    models = proposals.search.models
    index = gittins_index(proposals.search, price / models.standard.unit)
    best = proposals.first_new(proposals.candidates(index))
    if best is not None and best.score <= models.best_f:
        raise NothingWorthwhile(
            f"no candidate's expected improvement is worth its expected cost at a price of "
            f"{price!r} per unit of cost; lower the price to go on."
        )


def check_not_done(proposals: Proposals) -> None:
    """Check that some candidate's trial may tell more than is known.

    Args:
        proposals: What the method proposes; the method has a score.

    Raises:
        NothingWorthwhile: No candidate's may.
    """
    if proposals.is_done:
        raise NothingWorthwhile(f"{DONE}; give stop_when_done=False to go on.")


def check_affordable(proposals: Proposals) -> None:
    """Check that the remaining budget probably covers the next candidate.

    Args:
        proposals: What the method proposes; the method has a score.

    Raises:
        BudgetTooSmall: The chance that it does is less than a half.
    """
    search, best = proposals.search, proposals.first_new()
    if best is None:
        return
    X, memoized = torch.from_numpy(best.point[None]), torch.tensor(best.reuse.memoized)
    memoized = free_at(X.unsqueeze(-2), memoized, search.history.pipeline)
    chance = eeipu(search).cost.log_chance_to_pay(X, memoized, search.uncommitted).exp().item()
    if chance < 0.5:
        raise BudgetTooSmall(
            f"what is left of the budget, {search.uncommitted:.4g}, pays for the next "
            f"candidate with a chance of {chance:.0%}; raise the budget to go on."
        )
