"""The methods that a tuner knows by name: the score that each maximises, and where it searches.

Every method can be run with and without a cache; those of other papers do not look at it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction, UpperConfidenceBound
from torch import Tensor

from eeipu.acquisition import (
    DEFAULT_MEMOIZED_COST,
    LogCostFactor,
    LogEEIPU,
    log_expected_improvement,
)
from eeipu.errors import ConfigurationError
from eeipu.methods.acquisition_gradients import fast_score
from eeipu.methods.baselines.cascade import CascadeEI
from eeipu.methods.baselines.lambo import lambo_region
from eeipu.methods.baselines.per_cost import GittinsIndex, LogEIPerCost
from eeipu.methods.climbing.maximisation import quasi_random
from eeipu.methods.climbing.scores import Score
from eeipu.methods.reuse.candidates import Region
from eeipu.methods.search_state import Search
from eeipu.methods.several_objectives.hypervolume import hypervolume_score
from eeipu.methods.warm_up import (
    INITIAL_SHARE,
    Design,
    cost_effective,
    in_order,
    independent,
    no_design,
)
from eeipu.models.feasibility import weighted
from eeipu.models.objective import ObjectiveModel
from eeipu.models.observed_stages.chain import StageChain
from eeipu.pipeline import Pipeline

__all__ = ["METHODS", "Method", "eeipu", "gittins_index", "method_named"]

# The paper's warm-up.
PAPER_TRIALS = 10

# Gridded random search: with five values a parameter, a prefix of one parameter repeats in every
# fifth trial, and one of two in every twenty-fifth.
RANDOM_GRID_LEVELS = 5

# LaMBO's upper confidence bound: two standard deviations, the usual choice where the bound of the
# theory, which grows with the trials, explores too much.
UCB_BETA = 4.0

# PBGI's lambda is what the whole budget after the warm-up may be worth, in standard deviations of
# the values (Xie et al. 2025, arXiv 2507.12453, who take what an upper bound of the gain allows).
PBGI_WORTH = 2.5
# Without a budget it is that of the paper's experiments (Xie et al. 2024), for an objective whose
# observations have a standard deviation of 1 and trials that cost 1 on average.
PBGI_PRICE = 1e-4

# The share of a mean trial's cost that stands for a cost of nothing, which has no logarithm.
LEAST_COST = 1e-9


# With several objectives, the values at this many points tell how far the front may reach.
ELSEWHERE = 512


@dataclass(frozen=True)
class Method:
    """A way to choose the next configuration.

    Attributes:
        name: The name that users give.
        score: Maps a search to the score of its candidates; `None`: choose at random.
        reuses: Whether it also searches among candidates that reuse kept outputs.
        design: The warm-up; `None`: points share prefixes if there is a cache, and are independent
            otherwise.
        region: Maps a search to the part of the cube to search; `None`: search all of it.
        is_careful: Whether the search stops before a trial that the remaining budget probably
            cannot cover.
        n_initial: The number of trials in its warm-up, unless the user says otherwise; `None`: as
            usual (see `eeipu.methods.warm_up`).
        seeks_news: Whether it passes over candidates whose trial would tell nothing new; see
            `eeipu.methods.proposals`.
        in_batches: Whether one maximisation may make several suggestions. It may if the score is
            the logarithm of the expected improvement plus terms that do not depend on running
            trials.
        blind: The same score but for what stages show; `None`: the score does not look at that.
        needs_finite: Whether it goes through all configurations, so that there must be finitely
            many.
        needs_chain: Whether it models how each stage's output depends on that of the one before.
        takes_several: Whether its score has a form for several objectives.
        levels: If it chooses at random: the number of values of each parameter that it chooses
            from, so that prefixes repeat by themselves. `None`: all values.
    """

    name: str
    score: Callable[[Search], Score] | None
    reuses: bool = False
    design: Design | None = None
    region: Callable[[Search], Region] | None = None
    is_careful: bool = False
    n_initial: int | None = None
    seeks_news: bool = False
    in_batches: bool = False
    blind: Callable[[Search], Score] | None = None
    needs_finite: bool = False
    needs_chain: bool = False
    takes_several: bool = False
    levels: int | None = None

    def check_objectives(self, count: int) -> None:
        """Check that this method can search with so many objectives.

        Raises:
            ConfigurationError: It cannot.
        """
        if count > 1 and self.score is not None and not self.takes_several:
            able = [m.name for m in METHODS.values() if m.takes_several or m.score is None]
            raise ConfigurationError(
                f"the method {self.name!r} has one objective, and there are {count}; choose one of "
                f"{able}, or a sampler of Optuna's for several objectives."
            )

    @property
    def sees_stages(self) -> bool:
        """Whether it looks at what stages show; see `eeipu.models.observed_stages`."""
        return self.blind is not None

    def without_stages(self) -> "Method":
        """The same method, which does not look at what stages show."""
        return self if self.blind is None else replace(self, score=self.blind, blind=None)

    def check_suits(self, pipeline: Pipeline) -> None:
        """Check that this method can tune a pipeline.

        Raises:
            ConfigurationError: It needs a chain, and the pipeline is none; or it takes stages one
                after another, and there are alternatives; or it knows one objective alone.
        """
        self.check_objectives(len(pipeline.objectives))
        if pipeline.layout.places and (self.needs_chain or self.region is not None):
            raise ConfigurationError(
                f"the method {self.name!r} takes stages one after another, and of the alternatives "
                f"{list(pipeline.layout.places)} one is run; choose another method, such as "
                f"'eeipu'."
            )
        if not self.needs_chain:
            return
        names = pipeline.stage_names
        for k, given in enumerate(pipeline.graph.upstream):
            if given != ((k - 1,) if k else ()):
                raise ConfigurationError(
                    f"the method {self.name!r} needs a chain, in which each stage gets the output "
                    f"of the one before it, but {names[k]!r} gets those of "
                    f"{[names[j] for j in given]}; choose another method, such as 'eeipu'."
                )


def eeipu(
    search: Search,
    *,
    is_published: bool = False,
    is_careful: bool = False,
    model: ObjectiveModel | StageChain | None = None,
) -> LogEEIPU:
    """The acquisition of EEIPU.

    Args:
        search: The state of the search.
        is_published: Whether to follow the paper to the letter: a reused stage costs the paper's
            constant instead of its load time, choosing a configuration costs nothing, and the model
            of a stage's cost depends on that stage's hyper-parameters alone.
        is_careful: Whether the chance that the remaining budget covers the candidate is a factor.
        model: What predicts the objective; `None`: its own model.
    """
    model = search.models.objective if model is None else model
    return LogEEIPU(
        model,
        search.models.costs.depending_on("own") if is_published else search.models.costs.by_stage,
        search.models.best_of(model),
        memoized_cost=DEFAULT_MEMOIZED_COST if is_published else search.memoized_cost,
        overhead=0.0 if is_published else search.overhead,
        cooling=search.cooling,
        # With several objectives, it is the cost that counts here.
        X_pending=None if search.history.objectives.are_several else search.X_pending,
        remaining=search.uncommitted if is_careful and 0 < search.uncommitted < math.inf else None,
        seed=search.trial_seed,
    )


def _eeipu(
    search: Search,
    *,
    is_published: bool = False,
    is_careful: bool = False,
    sees_stages: bool = True,
) -> Score:
    """The score of EEIPU.

    Args:
        search: The state of the search.
        is_published: See `eeipu`.
        is_careful: See `eeipu`.
        sees_stages: Whether what stages show counts, by its share of the improvement
            (`eeipu.models.improvement`). Beside running trials the better of the two models stands
            for both.
    """
    if search.history.objectives.are_several:
        cost = eeipu(search, is_published=is_published, is_careful=is_careful).cost
        return _hypervolume(search, cost)
    acquire = partial(eeipu, search, is_published=is_published, is_careful=is_careful)
    if is_published or not sees_stages:
        return _unless_failing(search, fast_score(acquire()))
    if search.X_pending is not None:
        return _unless_failing(search, fast_score(acquire(model=search.models.leading)))
    return _unless_failing(search, fast_score(acquire(), weighed=search.models.weighed_chain))


def _hypervolume(search: Search, cost: LogCostFactor | None) -> Score:
    """The improvement of the hypervolume; running trials count as if they had given the means."""
    history, models = search.history, search.models
    succeeded = history.objectives.succeeded
    X = np.concatenate([history.X[succeeded], history.running_X])
    running = np.ones(len(history.running_X), dtype=np.bool_)
    is_within = np.concatenate([history.feasible[succeeded], running])
    cube = history.pipeline.cube
    elsewhere = torch.from_numpy(cube.snap(quasi_random(len(cube), ELSEWHERE, search.seed)))
    chance = models.chances.probability
    if chance is not None:
        elsewhere = elsewhere[chance.log_probability(elsewhere) > math.log(0.5)]
    score = hypervolume_score(
        [each.believer for each in models.by_objective],
        torch.from_numpy(X),
        torch.from_numpy(is_within),
        elsewhere,
        cost,
    )
    return _unless_failing(search, score)


def _unless_failing(search: Search, score: Score) -> Score:
    """A score, which is a logarithm, with the chance of success as one more factor.

    Success is that no stage fails, and that outcomes are within their limits; see
    `eeipu.methods.learning.chances`.
    """
    return weighted(score, search.models.chances.success)


def gittins_index(search: Search, price: float, *, avoids_failures: bool = False) -> Score:
    """The Gittins index, in which memoized stages cost their load time, and choosing costs too.

    Args:
        search: The state of the search.
        price: What a unit of cost is worth, in the unit of the search's values.
        avoids_failures: Whether failures are worse than what they cost, as they are to a search
            (`eeipu.methods.learning.chances`).
    """
    chances = search.models.chances
    free = LEAST_COST * search.mean_cost
    return GittinsIndex(
        search.models.believer,
        search.models.costs.by_stage,
        price=price,
        memoized_cost=max(search.load_cost, free),
        overhead=search.overhead,
        feasibility=chances.success if avoids_failures else chances.probability,
    ).score


def _ei(search: Search) -> Score:
    if search.history.objectives.are_several:
        return _hypervolume(search, None)
    return _unless_failing(search, fast_score(_improvement(search)))


def _improvement(search: Search) -> AcquisitionFunction:
    return log_expected_improvement(
        search.models.objective, search.models.best_f, search.X_pending, seed=search.trial_seed
    )


def _eips(search: Search) -> Score:
    score = _without_memory(LogEIPerCost(_improvement(search), search.models.costs.total))
    return _unless_failing(search, score)


def _carbo(search: Search) -> Score:
    # At first an eighth of the budget is spent by CArBO's own design, or more by a warm-up that
    # the user has enqueued.
    first = max(INITIAL_SHARE * search.budget.total, search.history.spent_by(0))
    exponent = search.share_left(first)
    acquisition = LogEIPerCost(
        _improvement(search), search.models.costs.total, exponent=exponent, expected=False
    )
    return _unless_failing(search, _without_memory(acquisition))


def _ms_carbo(search: Search) -> Score:
    """CArBO with a cost model for each stage: `E[1/C]` as in EEIPU, but ignoring the cache."""
    acquisition = LogEEIPU(
        search.models.objective,
        search.models.costs.by_stage,
        search.models.best_f,
        cooling=search.cooling,
        X_pending=search.X_pending,
        seed=search.trial_seed,
    )
    return _unless_failing(search, fast_score(acquisition, sees_memory=False))


def _pbgi(search: Search) -> Score:
    return _without_memory(
        GittinsIndex(
            search.models.believer,
            search.models.costs.total,
            price=_price(search),
            feasibility=search.models.chances.success,
        )
    )


def _pbgi_reuse(search: Search) -> Score:
    """PBGI with a cost model for each stage, among the candidates that EEIPU has."""
    return gittins_index(search, _price(search), avoids_failures=True)


def _price(search: Search) -> float:
    """PBGI's lambda: what a unit of cost is worth, in the unit of the search's values."""
    scale = search.models.objective.scale
    rest = search.budget.remaining(search.history.spent_by(search.n_initial))
    if 0 < rest < math.inf:
        return PBGI_WORTH * scale / rest
    return PBGI_PRICE * scale / search.mean_cost


def _ucb(search: Search) -> Score:
    """The upper confidence bound, in expectation where a failure counts as the worst value."""
    bound = _without_memory(UpperConfidenceBound(search.models.believer, beta=UCB_BETA))
    feasibility = search.models.chances.probability
    if feasibility is None:
        return bound
    worst = float(np.nanmin(search.models.standard.values))

    def score(X: Tensor, memoized: Tensor) -> Tensor:
        chance = feasibility.log_probability(X.squeeze(-2)).exp()
        return worst + chance * (bound(X, memoized) - worst)

    return score


def _cascade(search: Search) -> Score:
    history, pipeline = search.history, search.history.pipeline
    outputs = history.stages.outputs
    if (~np.isnan(outputs)).sum(axis=0).max(initial=0) < 2:
        # The chain would be a single model, which is worse than the one that all methods share.
        return _ei(search)
    acquisition = CascadeEI(
        history.X,
        np.column_stack([outputs, history.values]),
        pipeline.columns.own,
        categorical=pipeline.cube.categorical_columns,
        pending=history.running_X,
        seed=search.trial_seed,
        device=search.device,
    )
    return _unless_failing(search, _without_memory(acquisition))


def _without_memory(acquisition: AcquisitionFunction) -> Score:
    """A score that ignores which stages are memoized."""

    def score(X: Tensor, memoized: Tensor) -> Tensor:  # noqa: ARG001 - ignored on purpose
        values: Tensor = acquisition(X)
        return values

    return score


METHODS = {
    method.name: method
    for method in (
        Method(
            "eeipu",
            _eeipu,
            reuses=True,
            seeks_news=True,
            in_batches=True,
            takes_several=True,
            blind=partial(_eeipu, sees_stages=False),
        ),
        Method(
            "eeipu-paper",
            partial(_eeipu, is_published=True),
            reuses=True,
            design=independent,
            n_initial=PAPER_TRIALS,
            in_batches=True,
        ),
        Method(
            "eeipu-careful",
            partial(_eeipu, is_careful=True),
            reuses=True,
            is_careful=True,
            seeks_news=True,
            takes_several=True,
            blind=partial(_eeipu, is_careful=True, sees_stages=False),
        ),
        Method("ei", _ei, in_batches=True, takes_several=True),
        Method("eips", _eips, in_batches=True),
        Method("carbo", _carbo, design=cost_effective),
        Method("ms-carbo", _ms_carbo),
        Method("lambo", _ucb, region=lambo_region),
        Method("ms-bo", _cascade, needs_chain=True),
        Method("pbgi", _pbgi),
        Method("pbgi-reuse", _pbgi_reuse, reuses=True),
        Method("random", None, design=independent),
        Method("grid", None, design=in_order, needs_finite=True),
        Method("random-grid", None, design=no_design, levels=RANDOM_GRID_LEVELS),
    )
}


def method_named(name: str) -> Method:
    """The method of this name.

    Raises:
        ConfigurationError: There is no such method.
    """
    if name not in METHODS:
        raise ConfigurationError(
            f"there is no method {name!r}; choose one of {sorted(METHODS)}, or pass an "
            f"optuna.samplers.BaseSampler."
        )
    return METHODS[name]
