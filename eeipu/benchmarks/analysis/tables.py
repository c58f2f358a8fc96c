"""Summaries of results: means over seeds with 95 % intervals, compared with a reference.

Notation:
    m +- h: the mean over seeds, and the half width of its interval from Student's t distribution.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from eeipu.benchmarks.runs.results import Result

__all__ = [
    "ALL",
    "Mean",
    "Summary",
    "by_setting",
    "everywhere",
    "families",
    "half_width",
    "summaries",
]

ALL = "all problems"

Runs = Sequence[Result]
Pair = tuple[Result, Result]
Contenders = Mapping[str, Runs]
Measure = Callable[[Result], float]

CONFIDENCE = 0.95

# A lower bound of `1 - share`: a run that ends at the optimum would make the geometric mean zero.
LEAST_MISSED = 1e-6

# Smaller relative differences are ties: the order of a floating-point sum can differ between runs
# of the same trials.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: The mean; `None` if it is not known.
        half_width: Half the width of its 95 % interval; `None` for a single seed.
    """

    value: float | None
    half_width: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Mean":
        """The mean of some values; it is unknown if there are none or if one of them is unknown."""
        known = [value for value in values if value is not None and not math.isnan(value)]
        if not known or len(known) < len(values):
            return cls(None, None)
        return cls(float(np.mean(known)), half_width(known))


@dataclass(frozen=True)
class Summary:
    """The results of a contender, in means over its runs.

    Attributes:
        problem: The name of the problem, or `ALL`.
        setting: The problem and its options in words; for all problems the title of `families`.
        method: The contender.
        runs: The number of runs.
        pairs: The number of runs for which the reference has a run with the same seed. Only these
            are compared with the reference.
        candidates: The number of configurations evaluated within the budget.
        improvement: The improvement over the best warm-up trial, in the unit of the objective;
            unknown for all problems together, because their units differ.
        more_candidates: The ratio of the mean number of candidates to that of the reference,
            minus 1. For all problems the mean of their ratios.
        more_improvement: The ratio of the mean improvements, minus 1; `None` if the reference does
            not improve.
        lead: The improvement minus that of the reference's run with the same seed. For all
            problems, in shares of the possible improvement.
        won: The share of these pairs in which it improves more, from 0 to 1; a tie counts 0.5.
        share: The improvement as a share of the possible one; unknown without a known optimum.
        missed: The geometric mean of `1 - share`, which distinguishes results near the optimum.
        optimiser_s: The time of all suggestions of a run, in seconds.
        suggestion_s: The mean time of a suggestion after the warm-up, in seconds; `None` if there
            is no such trial.
    """

    problem: str
    setting: str
    method: str
    runs: int
    pairs: int
    candidates: Mean
    improvement: Mean
    more_candidates: float | None
    more_improvement: float | None
    lead: Mean
    won: float | None
    share: Mean
    missed: float | None
    optimiser_s: float
    suggestion_s: float | None


def by_setting(results: Iterable[Result]) -> dict[str, dict[str, list[Result]]]:
    """Title of a setting -> contender -> its runs in the order of seeds.

    Only runs of the same setting can be compared.
    """
    grouped: dict[str, dict[str, list[Result]]] = {}
    for result in sorted(results, key=lambda r: r.options.seed):
        setting = grouped.setdefault(result.options.title, {})
        setting.setdefault(result.options.contender, []).append(result)
    return grouped


def families(settings: Mapping[str, Contenders]) -> dict[str, list[Contenders]]:
    """Title -> two or more settings that differ only in the problem.

    The title is `ALL`, followed by the options if there are several families.
    """
    grouped: dict[str, list[Contenders]] = {}
    for contenders in settings.values():
        options = next(iter(contenders.values()))[0].options
        grouped.setdefault(replace(options, problem=ALL).title, []).append(contenders)
    return {
        title if len(grouped) > 1 else ALL: each for title, each in grouped.items() if len(each) > 1
    }


def everywhere(settings: Sequence[Contenders]) -> dict[str, dict[int, Runs]]:
    """Contender -> seed -> its run in each setting, for the seeds that it has in all settings."""
    runs = {method: _by_seed([each.get(method, []) for each in settings]) for method in settings[0]}
    return {method: own for method, own in runs.items() if own}


def _by_seed(groups: Sequence[Runs]) -> dict[int, Runs]:
    """Seed -> the run with that seed in each group, for the seeds that all groups have."""
    tables = [{run.options.seed: run for run in group} for group in groups]
    shared = set.intersection(*(set(each) for each in tables))
    return {seed: [each[seed] for each in tables] for seed in sorted(shared)}


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % interval of a mean; `None` for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    quantile = stdtrit(n - 1, 0.5 + CONFIDENCE / 2)
    return float(quantile * np.std(values, ddof=1) / math.sqrt(n))


def summaries(
    results: Iterable[Result],
    *,
    against: str | None = None,
    methods: Sequence[str] | None = None,
    anytime: bool = False,
) -> list[Summary]:
    """Summarise each contender on each problem, and on all problems of a family together.

    A family consists of settings that differ only in the problem, so that runs with different
    options are never averaged. Only contenders that ran on all its problems have such a summary.

    Args:
        results: The runs.
        against: The contender that the others are compared with.
        methods: The contenders to summarise, in this order; `None` takes all.
        anytime: Whether to use improvements averaged over the budget (`Result.anytime`) instead
            of those at its end.
    """
    improvement = _anytime if anytime else _at_end
    grouped = {
        title: contenders
        for title, contenders in by_setting(results).items()
        if _chosen(contenders, methods)
    }
    rows = [
        _summary(title, method, contenders[method], contenders.get(against or "", []), improvement)
        for title, contenders in grouped.items()
        for method in _chosen(contenders, methods)
    ]
    for title, settings in families(grouped).items():
        runs = everywhere(settings)
        reference = runs.get(against or "", {})
        rows += [
            _of_all(title, method, runs[method], reference, improvement)
            for method in _chosen(runs, methods)
        ]
    return rows


def _chosen(contenders: Iterable[str], methods: Sequence[str] | None) -> list[str]:
    ran = list(contenders)
    return ran if methods is None else [method for method in methods if method in ran]


def _summary(title: str, method: str, runs: Runs, reference: Runs, improvement: Measure) -> Summary:
    pairs = _pairs(runs, reference)
    return Summary(
        problem=runs[0].options.problem,
        setting=title,
        method=method,
        runs=len(runs),
        pairs=len(pairs),
        candidates=Mean.of([run.candidates for run in runs]),
        improvement=Mean.of([improvement(run) for run in runs]),
        more_candidates=_more(pairs, _candidates),
        more_improvement=_more(pairs, improvement),
        lead=Mean.of([_lead(improvement(one), improvement(other)) for one, other in pairs]),
        won=_won(pairs, improvement),
        share=Mean.of([_share(run, improvement) for run in runs]),
        missed=_missed(runs, improvement),
        optimiser_s=float(np.mean([run.optimiser_s for run in runs])),
        suggestion_s=_suggestion_s(runs),
    )


def _of_all(
    title: str,
    method: str,
    own: Mapping[int, Runs],
    reference: Mapping[int, Runs],
    improvement: Measure,
) -> Summary:
    """The summary of a contender on all problems.

    Intervals are over the means of each seed; of a single seed, over problems.
    """
    runs = [run for each in own.values() for run in each]
    both = [(own[seed], reference[seed]) for seed in own if seed in reference]
    parts: list[Runs] = list(own.values())
    both_parts: list[tuple[Runs, Runs]] = list(both)
    if len(parts) == 1:
        parts = [[run] for run in runs]
        both_parts = [([a], [b]) for one, other in both for a, b in zip(one, other, strict=True)]
    # For each setting, the pairs of all seeds.
    pairs = list(zip(*(zip(one, other, strict=True) for one, other in both), strict=True))
    return Summary(
        problem=ALL,
        setting=title,
        method=method,
        runs=len(runs),
        pairs=sum(len(each) for each in pairs),
        candidates=Mean.of([_mean([run.candidates for run in each]) for each in parts]),
        improvement=Mean.of([]),
        more_candidates=_mean([_more(each, _candidates) for each in pairs]),
        more_improvement=_mean([_more(each, improvement) for each in pairs]),
        lead=Mean.of([_lead_in_share(one, other, improvement) for one, other in both_parts]),
        won=_won([pair for each in pairs for pair in each], improvement),
        share=Mean.of([_mean_share(each, improvement) for each in parts]),
        missed=_missed(runs, improvement),
        optimiser_s=float(np.mean([run.optimiser_s for run in runs])),
        suggestion_s=_suggestion_s(runs),
    )


def _pairs(runs: Runs, reference: Runs) -> list[Pair]:
    """Each run with the run of the reference that has the same seed, where there is one."""
    return [(one, other) for one, other in _by_seed([runs, reference]).values()]


def _candidates(run: Result) -> float:
    return run.candidates


def _at_end(run: Result) -> float:
    return run.improvement


def _anytime(run: Result) -> float:
    return run.anytime


def _share(run: Result, improvement: Measure) -> float | None:
    return None if run.shares is None else run.share_of(improvement(run))


def _mean_share(runs: Runs, improvement: Measure) -> float | None:
    return _mean([_share(run, improvement) for run in runs])


def _lead_in_share(own: Runs, others: Runs, improvement: Measure) -> float | None:
    """The lead for one seed, in shares of the possible improvement averaged over problems."""
    one, other = _mean_share(own, improvement), _mean_share(others, improvement)
    return None if one is None or other is None else _lead(one, other)


def _lead(one: float, other: float) -> float:
    """The difference of two improvements; zero if it may be due to rounding alone."""
    return 0.0 if math.isclose(one, other, rel_tol=ROUNDING) else one - other


def _won(pairs: Sequence[Pair], improvement: Measure) -> float | None:
    """The share of pairs in which the first improves more.

    A tie counts 0.5, and a run without success is worse than any other.
    """
    if not pairs:
        return None
    both = np.nan_to_num(_of_both(pairs, improvement), nan=-np.inf)
    leads = np.array([_lead(one, other) for one, other in both.T])
    return float(np.mean((leads > 0) + 0.5 * (leads == 0)))


def _missed(runs: Runs, improvement: Measure) -> float | None:
    known = [share for run in runs if (share := _share(run, improvement)) is not None]
    if len(known) < len(runs):
        return None
    return float(np.exp(np.log(np.maximum(1.0 - np.array(known), LEAST_MISSED)).mean()))


def _suggestion_s(runs: Runs) -> float | None:
    """The mean time of a suggestion; points of the warm-up do not count, since they are given."""
    return _mean([t["suggest_s"] for run in runs for t in run.trials if not t["warm_up"]])


def _more(pairs: Sequence[Pair], measure: Measure) -> float | None:
    """The ratio of the means minus one; `None` if a mean is unknown or the reference's is <= 0."""
    if not pairs:
        return None
    own, base = _of_both(pairs, measure).mean(axis=1)
    return float(own / base - 1.0) if base > 0 and not math.isnan(own) else None


def _of_both(pairs: Sequence[Pair], measure: Measure) -> NDArray[np.float64]:
    """The measure of both runs of each pair, `2 x pairs`."""
    return np.array([[measure(one), measure(other)] for one, other in pairs]).T


def _mean(values: Sequence[float | None]) -> float | None:
    return Mean.of(values).value
