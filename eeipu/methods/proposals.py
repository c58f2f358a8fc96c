"""The configurations that a method proposes for the next trial, and whether they are worth it."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eeipu.errors import BudgetTooSmall, NothingWorthwhile
from eeipu.methods.catalogue import Method, eeipu, gittins_index
from eeipu.methods.history import History
from eeipu.methods.maximisation import Score, maximize
from eeipu.methods.prefixes import Candidate, prefix_pool
from eeipu.methods.search_state import Search
from eeipu.methods.suggestion_batches import in_turn
from eeipu.methods.warm_up import Design, next_point
from eeipu.models.pending_improvement import LogPendingEI

__all__ = ["Proposals", "check_affordable", "check_worth_at", "unseen"]

# Draws at random before a space is searched systematically for what has not run yet.
RANDOM_TRIES = 1_000


@dataclass(frozen=True)
class Proposals:
    """What a method proposes in one state of a search.

    Attributes:
        search: The state of the search.
        method: The method.
        design: Its warm-up design.
        top_q: The number of best trials whose kept prefixes are offered.
        kept: The content keys of the stage outputs that can be reused now.
    """

    search: Search
    method: Method
    design: Design
    top_q: int
    kept: Container[str]

    @cached_property
    def warm_up_point(self) -> NDArray[np.float64] | None:
        """The next point of the warm-up, `d`; `None` when it is over."""
        return next_point(self.search, self.design, fits_models=self.method.score is not None)

    def new(self, count: int) -> list[dict[str, Any]]:
        """The most preferred configurations that have not run.

        Args:
            count: At most this many; of several, each is chosen as if those before it were running.
        """
        return list(islice(filter(self.search.history.is_new, self._in_order(count)), count))

    def _in_order(self, count: int) -> Iterator[dict[str, Any]]:
        """Configurations in order of preference, some of which may have run."""
        if self.warm_up_point is not None:
            yield self.search.history.pipeline.cube.decode(self.warm_up_point)
        elif self.method.score is not None:
            candidates = self.candidates(self.method.score(self.search))
            for candidate in candidates if count == 1 else self._in_turn(candidates, count):
                yield candidate.params

    def _in_turn(self, candidates: Iterator[Candidate], count: int) -> Iterator[Candidate]:
        """Several of the candidates that have not run, each chosen beside those before it."""
        search, pending = self.search, self.search.X_pending
        assert pending is not None, "several suggestions are made beside running trials only"
        new = [c for c in candidates if search.history.is_new(c.params)]
        if new:
            improvement = LogPendingEI(
                search.models.objective, search.models.best_f, pending, seed=search.trial_seed
            )
            yield from in_turn(new, improvement, count)

    def candidates(self, score: Score) -> Iterator[Candidate]:
        """The maximisers of a score in the part of the cube that the method searches, best first.

        Args:
            score: The method's score, or another one.
        """
        search, pipeline = self.search, self.search.history.pipeline
        top = search.history.top(self.top_q)
        if self.method.region is not None:
            region = self.method.region(search)
            pool, bounds = [region.prefix], region.bounds
        else:
            kept = self.kept if self.method.uses_prefixes else ()
            pool, bounds = prefix_pool(pipeline, (*top, *search.history.running), kept), None
        return maximize(
            score,
            pipeline.cube,
            pool,
            seed=search.trial_seed,
            incumbents=pipeline.cube.encode([trial.params for trial in top]),
            bounds=bounds,
        )

    def first_new(self, score: Score) -> Candidate | None:
        """The best candidate that has not run, by this score; `None` if all have."""
        is_new = self.search.history.is_new
        return next((c for c in self.candidates(score) if is_new(c.params)), None)


def unseen(history: History, levels: int | None, seed: int) -> dict[str, Any]:
    """A random configuration that has not run; any configuration if all have.

    Args:
        history: The trials so far.
        levels: If given, the configuration is from a grid of this many values of each parameter,
            as long as the grid is not used up.
        seed: Fixes the choice.
    """
    rng = np.random.default_rng(seed)
    cube = history.pipeline.cube
    for attempt in range(RANDOM_TRIES):
        point = rng.random(len(cube))
        if levels is not None and 2 * attempt < RANDOM_TRIES:
            point = (np.floor(point * levels) + 0.5) / levels
        params = cube.decode(point)
        if history.is_new(params):
            return params
    return next(filter(history.is_new, cube.configurations()), params)


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
    best = proposals.first_new(gittins_index(proposals.search, price / models.unit))
    if best is not None and best.score <= models.best_f:
        raise NothingWorthwhile(
            f"no candidate's expected improvement is worth its expected cost at a price of "
            f"{price!r} per unit of cost; lower the price to go on."
        )


def check_affordable(proposals: Proposals) -> None:
    """Check that the remaining budget probably covers the next candidate.

    Args:
        proposals: What the method proposes; the method has a score.

    Raises:
        BudgetTooSmall: The chance that it does is less than a half.
    """
    search, score = proposals.search, proposals.method.score
    assert score is not None
    best = proposals.first_new(score(search))
    if best is None:
        return
    X, memoized = torch.from_numpy(best.point[None]), torch.tensor(best.prefix.memoized)
    chance = eeipu(search).log_chance_to_pay(X, memoized, search.uncommitted).exp().item()
    if chance < 0.5:
        raise BudgetTooSmall(
            f"what is left of the budget, {search.uncommitted:.4g}, pays for the next "
            f"candidate with a chance of {chance:.0%}; raise the budget to go on."
        )
