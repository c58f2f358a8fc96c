"""How much of its budget a method needs for what another one has at its end, and what was to gain.

Where the reference reaches most of what is possible, no search can improve much more than it does.
So beside how much larger the improvement is stands how much larger it could be at most.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eeipu.benchmarks.analysis.tables import (
    ALL,
    ROUNDING,
    Contenders,
    Pair,
    Runs,
    by_setting,
    everywhere,
    families,
)
from eeipu.benchmarks.runs.results import Result

__all__ = ["Reaching", "reaching", "share_needed"]


@dataclass(frozen=True)
class Reaching:
    """A contender beside the reference, over the pairs with the same seed.

    Attributes:
        problem: The name of the problem, or `ALL`.
        setting: The problem and its options in words.
        method: The contender.
        pairs: The number of pairs.
        reached: The share of them in which it gets to what the reference has at the budget's end.
        budget: The share of its budget that it needs for that, in the median over all pairs, from 0
            to 1; `None` if it gets there in less than half of them.
        larger: The ratio of the mean improvements at the budget's end, minus 1; `None` if the
            reference does not improve. For all problems the mean of their ratios.
        at_most: The same ratio of a method that always ends at the optimum; `None` without a known
            optimum.
        of_the_rest: The share of what the reference leaves of the possible improvement that the
            contender gains; negative if it gains less than the reference. For all problems, from
            the shares of the possible improvement averaged over problems.
    """

    problem: str
    setting: str
    method: str
    pairs: int
    reached: float
    budget: float | None
    larger: float | None
    at_most: float | None
    of_the_rest: float | None


def reaching(
    results: Iterable[Result], *, against: str, methods: Sequence[str] | None = None
) -> list[Reaching]:
    """Compare contenders with the reference, on each problem, and on those of a family together.

    Args:
        results: The runs.
        against: The reference.
        methods: The contenders, in this order; `None` takes all.
    """
    grouped = by_setting(results)
    rows = []
    for title, contenders in grouped.items():
        for method, pairs in _all_pairs([contenders], against, methods).items():
            problem = pairs[0][0][0].options.problem
            rows.append(_row(problem, title, method, pairs))
    for title, settings in families(grouped).items():
        for method, pairs in _all_pairs(settings, against, methods).items():
            rows.append(_row(ALL, title, method, pairs))
    return rows


def share_needed(run: Result, improvement: float) -> float:
    """The share of the budget that a run has spent when it has some improvement; infinite if never.

    The trial that exceeds the budget counts as its end.
    """
    for trial, reached in zip(run.trials, run.improvements, strict=True):
        if reached >= improvement or math.isclose(reached, improvement, rel_tol=ROUNDING):
            return min(float(trial["spent"] / run.problem["budget"]), 1.0)
    return math.inf


def _all_pairs(
    settings: Sequence[Contenders], against: str, methods: Sequence[str] | None
) -> Mapping[str, list[list[Pair]]]:
    """Contender -> for each setting its runs, each with that of the reference of the same seed."""
    runs = everywhere(settings)
    reference = runs.get(against, {})
    found = {}
    for method in runs if methods is None else [each for each in methods if each in runs]:
        seeds = [seed for seed in runs[method] if seed in reference]
        if seeds:
            found[method] = [
                [(runs[method][seed][place], reference[seed][place]) for seed in seeds]
                for place in range(len(settings))
            ]
    return found


def _row(problem: str, setting: str, method: str, settings: Sequence[Sequence[Pair]]) -> Reaching:
    needed = [share_needed(own, _end(other)) for pairs in settings for own, other in pairs]
    middle = float(np.median(needed))
    own, other = ([[_end(pair[i]) for pair in pairs] for pairs in settings] for i in (0, 1))
    possible = [[_possible(pair[1]) for pair in pairs] for pairs in settings]
    return Reaching(
        problem=problem,
        setting=setting,
        method=method,
        pairs=len(needed),
        reached=float(np.mean(np.isfinite(needed))),
        budget=middle if math.isfinite(middle) else None,
        larger=_more(own, other),
        at_most=_more(possible, other),
        of_the_rest=_of_the_rest([pair[0] for each in settings for pair in each], settings),
    )


def _end(run: Result) -> float:
    """The improvement at the end, which a run without success has not."""
    return -math.inf if math.isnan(run.improvement) else run.improvement


def _possible(run: Result) -> float:
    optimum = run.problem["optimum"]
    return math.nan if optimum is None else float(run.sign * (optimum - run.start))


def _more(own: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float | None:
    """The mean over settings of the ratios of means, minus 1; `None` if one is unknown."""
    means = [(np.mean(one), np.mean(two)) for one, two in zip(own, other, strict=True)]
    if any(not (two > 0.0 and math.isfinite(one)) for one, two in means):
        return None
    return float(np.mean([one / two - 1.0 for one, two in means]))


def _of_the_rest(own: Runs, settings: Sequence[Sequence[Pair]]) -> float | None:
    """How much of the rest is gained, by the mean shares of the possible improvement."""
    if any(run.shares is None for run in own):
        return None
    others = [other for pairs in settings for _, other in pairs]
    one, two = (float(np.mean([run.share_of(_end(run)) for run in runs])) for runs in (own, others))
    return (one - two) / (1.0 - two) if math.isfinite(one) and -math.inf < two < 1.0 else None
