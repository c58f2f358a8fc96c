"""Searches whose models are known: draws from a Gaussian process on the configurations of a chain.

Notation:
    K: stages, each with a few settings, which are points of the unit square.
    N: configurations, numbered with the last stage's setting going fastest.
    B: searches side by side.
    T: trials of each.

Nothing is fitted, and nothing climbs: a policy may compare all configurations.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# What a stage costs in the mean is what the one before costs times this.
RATIOS = {"equal": 1.0, "costly-early": 0.5, "cheap-early": 2.0}
# A setting's cost is lognormal around it.
COST_SPREAD = 0.5

# The trials that all policies begin with, of which two share a setting of the first stage.
FIRST_TRIALS = 6

# The prior: half of the variance from all stages together, the rest from each by itself. Lengths
# are such that the best configuration is found in a third to a half of searches.
TOGETHER, LENGTH_TOGETHER, LENGTH_OWN = 0.5, 0.4, 0.3

# Variances of what trials show beside the values, for the sake of rounding.
NOISE, JITTER = 1e-6, 1e-7

# Below this, the expected improvement of a standard normal is that of its tail.
TAIL = -5.0

# Places on the budget at which regrets are averaged.
GRID = 200


def log_gain(z: Tensor) -> Tensor:
    """The logarithm of `phi(z) + z Phi(z)`, the expected improvement of a standard normal."""
    near = z.clamp(min=TAIL)
    gain = torch.erfc(near / -math.sqrt(2)).mul_(near).mul_(0.5)
    gain += (near * near).mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    gain = gain.log_()
    is_far = z < TAIL
    if is_far.any():
        far = z[is_far] ** 2
        gain[is_far] = -0.5 * far - 0.5 * math.log(2 * math.pi) - torch.log(far + 3.0)
    return gain


# log_gain at evenly spaced places, to look up its inverse.
_PLACES = torch.linspace(-12.0, 40.0, 20_001, dtype=torch.float64)
_GAINS = log_gain(_PLACES)


def inverse_log_gain(gain: Tensor) -> Tensor:
    """The place with this `log_gain`, to some three digits."""
    at = torch.searchsorted(_GAINS.to(gain), gain.contiguous()).clamp(max=len(_PLACES) - 1)
    return _PLACES.to(gain)[at]


@dataclass(frozen=True)
class Chain:
    """A chain of stages, each with a few settings.

    Configurations and prefixes are numbered with the last of their stages going fastest.

    Attributes:
        costs: For each of `K` stages, what its settings cost. `N` is the number of configurations.
    """

    costs: tuple[Tensor, ...]

    @property
    def mean_cost(self) -> float:
        """The mean cost of a stage."""
        return math.fsum(float(cost.mean()) for cost in self.costs) / len(self.costs)

    @property
    def whole_cost(self) -> float:
        """The mean cost of a trial that reuses nothing."""
        return self.mean_cost * len(self.costs)

    def below(self, depth: int) -> int:
        """The number of configurations that share a prefix of so many stages."""
        return math.prod(len(cost) for cost in self.costs[depth:])

    def kept(self, trials: Tensor) -> list[Tensor]:
        """Which prefixes of 1 to K - 1 stages are kept, `B x prefixes` each.

        Args:
            trials: `B x Q`, the trials whose outputs are kept.
        """
        flags, count = [], self.below(0)
        for depth in range(1, len(self.costs)):
            flag = torch.zeros(len(trials), count // self.below(depth), dtype=torch.bool)
            flags.append(flag.scatter_(1, trials // self.below(depth), value=True))
        return flags

    def cost_left(
        self,
        kept: Sequence[Tensor],
        depth: int | None = None,
        *,
        reused: float = 0.0,
        opening: float = 1.0,
    ) -> Tensor:
        """What the stages cost that are not kept, `B x prefixes` of `depth` stages.

        Args:
            kept: See `kept`.
            depth: The number of stages; `None`: all.
            reused: What a reused stage costs.
            opening: The share that counts of what a stage costs whose output others may reuse.
        """
        total = torch.zeros(len(kept[0]), 1, dtype=self.costs[0].dtype)
        for k, cost in enumerate(self.costs[:depth]):
            total = total.repeat_interleave(len(cost), dim=1)
            each = cost.repeat(total.shape[1] // len(cost))
            total += torch.where(kept[k], reused, opening * each) if k < len(kept) else each
        return total


class Runs:
    """Searches of one problem side by side, in which different values may show.

    Args:
        chain: The configurations and their costs.
        covariance: `N x N`, that of the values before the first of these trials.
        truth: `B x N`, the values that trials show.
        budget: What each may spend.
        keeps: The number of best trials whose outputs are kept.

    Attributes:
        mean, variance: `B x N`, what is known of the values.
        trials, shown: `B x T`, what ran, and its values.
        best, spent: `B`.
        first: What was spent on the common trials.
        course: The first search's best value and what it had spent after each trial.
    """

    def __init__(
        self, chain: Chain, covariance: Tensor, truth: Tensor, budget: float, keeps: int
    ) -> None:
        self.chain, self.truth, self.budget, self.keeps = chain, truth, budget, keeps
        self._covariance = covariance
        self._updates: list[Tensor] = []
        self.mean = torch.zeros_like(truth)
        self.variance = covariance.diagonal().expand_as(truth).clone()
        self.trials = torch.zeros(len(truth), 0, dtype=torch.long)
        self.shown = torch.zeros(len(truth), 0, dtype=truth.dtype)
        self.seen = torch.zeros_like(truth, dtype=torch.bool)
        self.best = torch.full_like(truth[:, 0], -math.inf)
        self.spent = torch.zeros_like(self.best)
        self.first = 0.0
        self.course: list[tuple[float, float]] = []

    @property
    def is_active(self) -> Tensor:
        """Which have something left to spend, `B`."""
        return self.spent < self.budget

    @property
    def share_left(self) -> Tensor:
        """The share of the budget that is left after the common trials, `B x 1`."""
        return ((self.budget - self.spent) / (self.budget - self.first)).clamp(min=0.0)[:, None]

    @property
    def kept(self) -> list[Tensor]:
        """See `Chain.kept`."""
        best = self.shown.topk(min(self.keeps, self.shown.shape[1]), dim=1).indices
        return self.chain.kept(self.trials.gather(1, best))

    def run(self, choice: Tensor) -> None:
        """Run one trial in each of the searches that have something left.

        Args:
            choice: `B`, the configurations.
        """
        at, active = choice[:, None], self.is_active
        cost = self.chain.cost_left(self.kept).gather(1, at)[:, 0]
        value = self.truth.gather(1, at)
        change = self._covariance[choice]
        for update in self._updates:
            change.addcmul_(update, update.gather(1, at), value=-1.0)
        deviation = (change.gather(1, at) + NOISE).sqrt()
        change = change / deviation
        self._updates.append(change)
        self.mean.addcmul_(change, (value - self.mean.gather(1, at)) / deviation)
        self.variance.addcmul_(change, change, value=-1.0).clamp_(min=NOISE)
        self.spent = self.spent + torch.where(active, cost, 0.0)
        value = torch.where(active[:, None], value, -math.inf)
        self.best = torch.maximum(self.best, value[:, 0])
        self.trials = torch.cat([self.trials, at], dim=1)
        self.shown = torch.cat([self.shown, value], dim=1)
        self.seen.scatter_(1, at, value=True)
        self.course.append((float(self.spent[0]), float(self.best[0])))

    def draws(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Joint draws from what the first search knows, and their covariance."""
        V = torch.stack([update[0] for update in self._updates])
        covariance = self._covariance - V.T @ V
        root = torch.linalg.cholesky(covariance + JITTER * torch.eye(len(covariance)))
        normal = torch.randn(count, len(covariance), generator=generator, dtype=root.dtype)
        return self.mean + normal @ root.T, covariance

    def branches(self, truth: Tensor, covariance: Tensor) -> "Runs":
        """Searches that go on from the first one of these, as if other values were true.

        Args:
            truth: `B x N`, values that agree with what is known.
            covariance: `N x N`, that of the values now.
        """
        count = len(truth)
        # Half the digits are enough for simulated trials, and take half the time.
        chain = Chain(tuple(cost.float() for cost in self.chain.costs))
        runs = Runs(chain, covariance.float(), truth.float(), self.budget, self.keeps)
        for name in ("mean", "variance", "shown", "best", "spent"):
            setattr(runs, name, getattr(self, name)[:1].float().repeat_interleave(count, dim=0))
        for name in ("trials", "seen"):
            setattr(runs, name, getattr(self, name)[:1].repeat_interleave(count, dim=0))
        runs.first = self.first
        return runs

    def log_improvement(self) -> Tensor:
        """The logarithm of the expected improvement, `B x N`; none where a trial has been."""
        deviation = self.variance.sqrt()
        gain = log_gain((self.mean - self.best[:, None]) / deviation) + deviation.log()
        return gain.masked_fill(self.seen, -math.inf)


class Policy(Protocol):
    """A rule that chooses the next trial.

    Attributes:
        keeps: The number of best trials whose outputs are kept.
    """

    keeps: int

    def choose(self, runs: Runs, generator: torch.Generator) -> Tensor:
        """The configurations that run next, `B`."""


@dataclass(frozen=True)
class Problem:
    """A draw from the prior, with the trials that all policies begin with.

    Attributes:
        chain: The configurations.
        covariance: `N x N`, that of the prior.
        values: `N`.
        first: The first trials.
        budget: What a search may spend.
        number: Which problem this is, for random numbers.
    """

    chain: Chain
    covariance: Tensor
    values: Tensor
    first: tuple[int, ...]
    budget: float
    number: int

    def begun(self, keeps: int) -> Runs:
        """A search after the first trials.

        Args:
            keeps: The number of best trials whose outputs are kept.
        """
        runs = Runs(self.chain, self.covariance, self.values[None], self.budget, keeps)
        for trial in self.first:
            runs.run(torch.tensor([trial]))
        runs.first = float(runs.spent)
        return runs

    def solved_by(self, policy: Policy) -> tuple[float, float, float]:
        """The regret at the end and in the mean over the budget, and the seconds of a choice."""
        runs = self.begun(policy.keeps)
        begun = time.process_time()
        while bool(runs.is_active):
            step = runs.trials.shape[1]
            runs.run(policy.choose(runs, torch.Generator().manual_seed(1000 * self.number + step)))
        seconds = (time.process_time() - begun) / max(1, len(runs.course) - len(self.first))
        spent, best = torch.tensor(runs.course, dtype=torch.float64).T
        places = torch.linspace(runs.first, self.budget, GRID, dtype=torch.float64)
        reached = best[torch.searchsorted(spent.contiguous(), places, right=True).clamp(min=1) - 1]
        highest = float(self.values.max())
        return highest - float(runs.best), highest - float(reached.mean()), seconds


def problems(
    count: int, structure: str, settings: Sequence[int], trials: float, seed: int
) -> Iterator[Problem]:
    """Draws from the prior.

    Args:
        count: Their number.
        structure: One of `RATIOS`.
        settings: The number of settings of each stage.
        trials: The budget in whole trials.
        seed: Fixes them.
    """
    stages = len(settings)
    generator = torch.Generator().manual_seed(seed)
    points = [torch.rand(n, 2, generator=generator, dtype=torch.float64) for n in settings]
    columns = torch.cat([torch.cartesian_prod(*map(torch.arange, settings))], dim=1).T
    each = [_matern(torch.cdist(X, X) / LENGTH_OWN) for X in points]
    X = torch.cat([X[column] for X, column in zip(points, columns, strict=True)], dim=1)
    covariance = TOGETHER * _matern(torch.cdist(X, X) / LENGTH_TOGETHER)
    for own, column in zip(each, columns, strict=True):
        covariance += (1.0 - TOGETHER) / stages * own[column][:, column]
    root = torch.linalg.cholesky(covariance + JITTER * torch.eye(len(covariance)))
    for number in range(count):
        costs = tuple(
            RATIOS[structure] ** k * torch.exp(COST_SPREAD * torch.randn(n, generator=generator))
            for k, n in enumerate(settings)
        )
        chain = Chain(tuple(cost.double() for cost in costs))
        values = root @ torch.randn(len(root), generator=generator, dtype=torch.float64)
        first = _first_trials(settings, generator)
        budget = trials * chain.whole_cost
        yield Problem(chain, covariance, values, first, budget, number)


def _first_trials(settings: Sequence[int], generator: torch.Generator) -> tuple[int, ...]:
    """Trials at random, of which two share a setting of the first stage."""
    orders = [torch.randperm(n, generator=generator).repeat(FIRST_TRIALS) for n in settings]
    numbers = [0] * FIRST_TRIALS
    for k, (n, order) in enumerate(zip(settings, orders, strict=True)):
        shared = 1 if k else 2
        numbers = [n * at + int(order[i // shared]) for i, at in enumerate(numbers)]
    return tuple(numbers)


def _matern(distance: Tensor) -> Tensor:
    """Matern's kernel of order 5/2."""
    far = math.sqrt(5.0) * distance
    return (1.0 + far + far * far / 3.0) * torch.exp(-far)
