"""How far EEIPU's rule is from the best policy, where the models are known and nothing is fitted.

A problem is a draw from a Gaussian process on the configurations of a chain of stages, each with a
few settings (see `known_prior`). All policies know the prior and the costs, begin with the same
trials, and choose among all configurations: what differs is the rule alone. The trial that exceeds
the budget is finished and counts. The outputs of the five best trials are kept.

- `ei`, `eips`: EI, and EI over the cost of a whole trial. On a lattice EI reuses outputs by luck.
- `eeipu`: `EI * C^-eta`, `C` the cost of the stages that are not kept, `eta` the share of the
  budget that is left. `-all`: the outputs of all trials are kept; `-uncooled`: `eta` is 1;
  `-half`: it begins at .5; `-opening`: a half of what an early stage costs is left to later trials.
- `gittins`: the largest `g` with `E[(f - g)^+] = lambda C`, lambda 2.5 deviations over the budget;
  `-1`: one deviation.
- `fan-out`: the gain of up to four trials under one prefix over what they cost together.
- `rollout`: of the best candidates of `eeipu` at each depth of reuse, the one with which `eeipu`
  has the best value at the budget's end, in the mean over joint draws, the same for all of them.
  In simulated trials outputs are kept as in true ones. `-careful`: another candidate than the first
  must be better by a standard error. `-way`: the best value counts in the mean over the budget, and
  it is careful. `-all`: it goes on with `eeipu-all-uncooled`, and is careful.

Printed are regrets in deviations of the prior, at the end and in the mean over the budget after the
first trials, their differences to the first policy in pairs with half the width of 95 % intervals,
the regret of the first policy over each one's, and the CPU seconds of a choice. Run
`python benchmarks/look_ahead.py [--costs ...] [--policies ...] [--problems P] [--settings 6 6 6]
[--budget B] [--draws D] [--seed S] [--single-choices] [--json]`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from figures import Figure, arguments_of, show
from known_prior import RATIOS, Policy, Runs, inverse_log_gain, problems
from torch import Tensor

from eeipu.benchmarks.analysis.tables import half_width

# So many of the best trials' outputs are kept, as in a search, or those of all.
FIVE, ALL = 5, 10**9

# A kept stage counts with this share of a mean stage in a score, as in `eeipu`.
LEAST_SHARE = 1e-2

# What the budget is worth, in deviations of the prior, for Gittins' price: as in `pbgi`.
WORTH = 2.5

# The joint draws of a rollout, and how many first trials it compares at each depth of reuse.
DRAWS, ACTIONS = 32, 3

# The joint draws of a fan-out, and the largest number of its trials.
BATCH_DRAWS, LARGEST_BATCH = 256, 4


@dataclass(frozen=True)
class Index:
    """The largest of `log EI - eta log C`, `eta` being a power of the share of the budget.

    Attributes:
        start: `eta` at the beginning.
        power: How fast it falls; 0: not at all.
        sees_kept: Whether `C` is the cost of what is not kept, instead of a whole trial's.
        opening: See `Chain.cost_left`.
        keeps: See `Policy`.
    """

    start: float = 1.0
    power: float = 1.0
    sees_kept: bool = True
    opening: float = 1.0
    keeps: int = FIVE

    def scores(self, runs: Runs) -> Tensor:
        """The scores, `B x N`."""
        gain = runs.log_improvement()
        return gain - self.exponent(runs) * self.cost(runs).log() if self.start else gain

    def choose(self, runs: Runs, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """See `Policy.choose`."""
        return self.scores(runs).argmax(dim=1)

    def exponent(self, runs: Runs) -> Tensor:
        """`eta`, `B x 1`."""
        return self.start * runs.share_left**self.power

    def cost(self, runs: Runs) -> Tensor:
        """`C`, `B x N`."""
        chain, kept = runs.chain, runs.kept
        if not self.sees_kept:
            kept = [torch.zeros_like(flags) for flags in kept]
        reused = LEAST_SHARE * chain.mean_cost
        return chain.cost_left(kept, reused=reused, opening=self.opening)


@dataclass(frozen=True)
class Gittins:
    """The Gittins index with a price that spreads a worth over the budget.

    Attributes:
        worth: What the budget is worth, in deviations of the prior.
        keeps: See `Policy`.
    """

    worth: float = WORTH
    keeps: int = FIVE

    def scores(self, runs: Runs) -> Tensor:
        """The indices, `B x N`."""
        cost = Index().cost(runs) * self.worth / (runs.budget - runs.first)
        deviation = runs.variance.sqrt()
        place = inverse_log_gain(cost.log() - deviation.log())
        return (runs.mean - place * deviation).masked_fill(runs.seen, -math.inf)

    def choose(self, runs: Runs, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """See `Policy.choose`."""
        return self.scores(runs).argmax(dim=1)


@dataclass(frozen=True)
class FanOut:
    """The first trial of the best batch under one prefix, by the gain and the cost of all.

    Attributes:
        base: The rule for a batch of one.
        draws: The number of joint draws for the gain of more.
        keeps: See `Policy`.
    """

    base: Index = field(default_factory=Index)
    draws: int = BATCH_DRAWS
    keeps: int = FIVE

    def choose(self, runs: Runs, generator: torch.Generator) -> Tensor:
        """See `Policy.choose`."""
        scores, eta = self.base.scores(runs)[0], float(self.base.exponent(runs))
        chain, drawn = runs.chain, runs.draws(self.draws, generator)[0]
        gains = (drawn - runs.best).clamp(min=0.0)
        expected = runs.log_improvement()[0].exp()
        whole = self.base.cost(runs)[0]
        best, choice = float(scores.max()), int(scores.argmax())
        for depth in range(1, len(chain.costs)):
            reused = LEAST_SHARE * chain.mean_cost
            opening = chain.cost_left(runs.kept, depth, reused=reused)[0]
            each = whole.view(-1, chain.below(depth)) - opening[:, None]
            value, first = self._batches(
                gains.view(self.draws, *each.shape), expected.view_as(each), opening, each, eta
            )
            node = int(value.argmax())
            if float(value[node]) > best:
                best, choice = float(value[node]), node * chain.below(depth) + int(first[node])
        return torch.tensor([choice])

    @staticmethod
    def _batches(
        gains: Tensor, expected: Tensor, opening: Tensor, each: Tensor, eta: float
    ) -> tuple[Tensor, Tensor]:
        """The best batch under each prefix: its score, and its first trial.

        Args:
            gains: `S x prefixes x R`, improvements that were drawn.
            expected: `prefixes x R`, expected improvements.
            opening: `prefixes`, what the prefixes cost.
            each: `prefixes x R`, what the rest of each trial costs.
            eta: The exponent of the cost.
        """
        nodes = torch.arange(len(each))
        first = (expected / each**eta).argmax(dim=1)
        total, cost = expected[nodes, first], opening + each[nodes, first]
        reached = gains[:, nodes, first]
        best = torch.full_like(total, -math.inf)
        for _ in range(1, LARGEST_BATCH):
            more = (gains - reached.unsqueeze(-1)).clamp(min=0.0).mean(dim=0)
            member = (more / each**eta).argmax(dim=1)
            total, cost = total + more[nodes, member], cost + each[nodes, member]
            reached = torch.maximum(reached, gains[:, nodes, member])
            best = torch.maximum(best, total.log() - eta * cost.log())
        return best, first


@dataclass(frozen=True)
class Rollout:
    """The trial after which a rule is best off.

    Attributes:
        base: The rule with which simulated trials go on.
        draws: The number of joint draws that stand for the truth.
        actions: The number of first trials of each depth of reuse.
        certainty: By how many standard errors another first trial than the rule's must be better.
        on_the_way: Whether the best value counts in the mean over the budget, not at its end.
        keeps: See `Policy`.
    """

    base: Index = field(default_factory=Index)
    draws: int = DRAWS
    actions: int = ACTIONS
    certainty: float = 0.0
    on_the_way: bool = False
    keeps: int = FIVE

    def choose(self, runs: Runs, generator: torch.Generator) -> Tensor:
        """See `Policy.choose`."""
        actions = self.first_trials(runs)
        return actions[self.best(self.gains(runs, actions, generator))][None]

    def gains(self, runs: Runs, actions: Tensor, generator: torch.Generator) -> Tensor:
        """How much better off the rule is than after the first of some trials, `A x draws`."""
        truth, covariance = runs.draws(self.draws, generator)
        ahead = runs.branches(truth.repeat(len(actions), 1), covariance)
        next_trials, area = actions.repeat_interleave(self.draws), torch.zeros(len(ahead.best))
        while True:
            best, spent = ahead.best, ahead.spent
            ahead.run(next_trials)
            area += best * (ahead.spent.clamp(max=runs.budget) - spent).clamp(min=0.0)
            if not ahead.is_active.any():
                break
            next_trials = self.base.choose(ahead, generator)
        rest = float(runs.budget - runs.spent[0])
        reached = area / rest if self.on_the_way else ahead.best
        values = reached.double().view(len(actions), self.draws)
        return values - values[0]

    def best(self, gains: Tensor) -> int:
        """The trial to run, by its place; of equals the first, the rule's own choice."""
        error = gains.std(dim=1) / math.sqrt(self.draws)
        worth = (gains.mean(dim=1) - self.certainty * error).clamp(min=0.0)
        return int((worth == worth.max()).nonzero()[0])

    def first_trials(self, runs: Runs) -> Tensor:
        """The rule's best candidates of each depth of reuse, its own choice first."""
        scores = self.base.scores(runs)[0]
        depth = torch.zeros(len(scores), dtype=torch.long)
        for flags in runs.kept:
            depth += flags[0].repeat_interleave(len(scores) // flags.shape[1])
        found = [int(scores.argmax())]
        for reused in range(len(runs.kept) + 1):
            here = scores.masked_fill(depth != reused, -math.inf)
            best = here.topk(self.actions)
            found += best.indices[best.values > -math.inf].tolist()
        return torch.tensor([*dict.fromkeys(found)])


def policies(draws: int) -> dict[str, Policy]:
    """All policies by their names.

    Args:
        draws: The number of joint draws of a rollout.
    """
    rollout = Rollout(draws=draws)
    uncooled = Index(power=0.0, keeps=ALL)
    return {
        "eeipu": Index(),
        "eeipu-all": Index(keeps=ALL),
        "eeipu-uncooled": Index(power=0.0),
        "eeipu-all-uncooled": uncooled,
        "eeipu-half": Index(start=0.5),
        "eeipu-opening": Index(opening=0.5),
        "eeipu-opening-uncooled": Index(power=0.0, opening=0.5),
        "ei": Index(start=0.0),
        "eips": Index(power=0.0, sees_kept=False),
        "gittins": Gittins(),
        "gittins-1": Gittins(worth=1.0),
        "fan-out": FanOut(),
        "rollout": rollout,
        "rollout-careful": replace(rollout, certainty=1.0),
        "rollout-way": replace(rollout, certainty=1.0, on_the_way=True),
        "rollout-all": replace(rollout, base=uncooled, certainty=1.0, keeps=ALL),
    }


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    """All figures, one structure of costs after another."""
    chosen = {name: policies(arguments.draws)[name] for name in arguments.policies}
    for structure in arguments.costs:
        regrets: dict[str, list[tuple[float, float, float]]] = {name: [] for name in chosen}
        for problem in problems(
            arguments.problems, structure, arguments.settings, arguments.budget, arguments.seed
        ):
            for name, policy in chosen.items():
                regrets[name].append(problem.solved_by(policy))
        yield from _table(structure, regrets)


def single_choices(arguments: argparse.Namespace) -> Iterator[Figure]:
    """What one choice by rollouts gains, in the mean over as many fresh draws as it had.

    The rule chooses all others. The choice is the first one, or one after half of the budget.
    """
    for structure, on_the_way in product(arguments.costs, (False, True)):
        careful = Rollout(draws=arguments.draws, certainty=1.0, on_the_way=on_the_way)
        for part, when in ((0.0, "at first"), (0.5, "halfway")):
            found = []
            for problem in problems(
                arguments.problems, structure, arguments.settings, arguments.budget, arguments.seed
            ):
                runs, generator = problem.begun(FIVE), torch.Generator().manual_seed(problem.number)
                while float(runs.share_left) > 1.0 - part:
                    runs.run(careful.base.choose(runs, generator))
                if runs.is_active:
                    actions = careful.first_trials(runs)
                    chosen = careful.best(careful.gains(runs, actions, generator))
                    gains = careful.gains(runs, actions, generator)
                    found.append(float(gains[chosen].mean()))
            where = "on the way" if on_the_way else "at the end"
            label = f"{structure}: gain {where} of one choice {when}"
            yield Figure(label, float(torch.tensor(found).mean()), "dev.")
            yield Figure(f"{label}, +-", half_width(found) or math.nan, "dev.")


def _table(
    structure: str, regrets: dict[str, list[tuple[float, float, float]]]
) -> Iterator[Figure]:
    tables = {name: torch.tensor(rows, dtype=torch.float64).T for name, rows in regrets.items()}
    reference = next(iter(tables.values()))
    for name, table in tables.items():
        for k, where in enumerate(("at the end", "on the way")):
            label = f"{structure}: {name}, regret {where}"
            yield Figure(label, float(table[k].mean()), "dev.")
            if table is not reference:
                more = table[k] - reference[k]
                yield Figure(f"{label}, more", float(more.mean()), "dev.")
                width = half_width(more.tolist())
                if width is not None:
                    yield Figure(f"{label}, more, +-", width, "dev.")
                over = float(reference[k].mean() / table[k].mean())
                yield Figure(f"{label}, that of the first over it", over, "times")
        yield Figure(f"{structure}: {name}, a choice", float(table[2].mean()), "s CPU")


def parsed() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = arguments_of(__doc__)
    parser.add_argument("--costs", nargs="+", default=list(RATIOS), choices=RATIOS)
    parser.add_argument("--policies", nargs="+", default=["eeipu", "rollout"])
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--settings", nargs="+", type=int, default=[6, 6, 6])
    parser.add_argument("--budget", type=float, default=9.0, help="in whole trials")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--single-choices", action="store_true", help="what one rollout gains")
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = parsed()
    show(single_choices(arguments) if arguments.single_choices else figures(arguments))
