"""Summaries: means over seeds with intervals, and comparisons with a reference."""

import math
from dataclasses import replace

import numpy as np
import pytest
from benchmark_toys import result

from eeipu.benchmarks.analysis.printing import print_summaries
from eeipu.benchmarks.analysis.tables import ALL, Mean, half_width, summaries


def test_intervals_are_student_s():
    # Two values 1 apart: 12.706 * sqrt(1/2) / sqrt(2).
    assert half_width([1.0, 2.0]) == pytest.approx(12.7062 / 2, rel=1e-5)
    assert half_width([1.0]) is None


def test_means_are_over_seeds_and_compared_with_the_reference():
    rows = summaries(
        [
            *(result([1.0, 2.0, 3.0], start=2.0, seed=seed, optimum=4.0) for seed in (0, 1)),
            result([1.0, 2.0, 3.0, 4.0], start=2.0, contender="eeipu", seed=0, optimum=4.0),
            result([1.0, 2.0, 3.0, 3.0, 3.0], start=2.0, contender="eeipu", seed=1, optimum=4.0),
        ],
        against="ei",
    )
    ei, eeipu = rows
    assert (ei.runs, ei.candidates, ei.improvement) == (2, Mean(3.0, 0.0), Mean(1.0, 0.0))
    assert (ei.more_candidates, ei.more_improvement) == (0.0, 0.0)
    assert (eeipu.candidates.value, eeipu.improvement.value, eeipu.share.value) == (4.5, 1.5, 0.75)
    assert (eeipu.more_candidates, eeipu.more_improvement) == (0.5, 0.5)
    assert eeipu.missed == pytest.approx(math.sqrt(0.5 * 1e-6))
    assert (eeipu.optimiser_s, eeipu.suggestion_s) == (2.25, 0.5)


def test_the_lead_is_over_the_reference_with_the_same_seed():
    rows = summaries(
        [
            *(result([0.0, v], seed=seed) for seed, v in enumerate((1.0, 2.0, 4.0))),
            *(
                result([0.0, v], seed=seed, contender="eeipu")
                for seed, v in enumerate((3.0, 2.0, 3.0, 9.0))
            ),
        ],
        against="ei",
    )
    ei, eeipu = rows
    assert (ei.lead, ei.won) == (Mean(0.0, 0.0), 0.5)
    # 2, 0 and -1: won, drawn and lost. The fourth seed has no counterpart.
    assert (eeipu.lead.value, eeipu.won) == (pytest.approx(1 / 3), 0.5)
    assert eeipu.lead.half_width == pytest.approx(half_width([2.0, 0.0, -1.0]))


def test_anytime_all_figures_of_improvement_are_means_over_the_budget():
    early, late = [0.0, 4.0, 4.0, 4.0], [0.0, 0.0, 0.0, 4.0]  # 2.4 and 0.8 in the mean
    runs = [
        result(values, contender=contender, problem=problem, optimum=8.0)
        for problem in ("toy", "noisy")
        for contender, values in (("ei", late), ("eeipu", early))
    ]
    toy, everything = (summaries(runs, against="ei", anytime=True)[row] for row in (1, -1))
    assert (toy.improvement.value, toy.lead.value) == pytest.approx((2.4, 1.6))
    for row in (toy, everything):
        assert row.method == "eeipu"
        assert (row.more_improvement, row.won) == (pytest.approx(2.0), 1.0)
        assert (row.share.value, row.missed) == pytest.approx((0.3, 0.7))
    assert everything.lead.value == pytest.approx(0.2)
    at_end = summaries(runs, against="ei")[1]
    assert (at_end.lead.value, at_end.won) == (0.0, 0.5)


def test_what_rounding_alone_tells_apart_is_a_tie():
    runs = [result([0.0, 0.3]), result([0.0, 0.1 + 0.2], contender="eeipu")]
    assert runs[0].improvement != runs[1].improvement
    row = summaries(runs, against="ei")[1]
    assert (row.lead.value, row.won) == (0.0, 0.5)


def test_anytime_without_an_optimum_there_are_no_shares():
    (row,) = summaries([result([0.0, 0.0, 1.0])], anytime=True)
    assert row.improvement.value == pytest.approx(0.4)
    assert (row.share.value, row.missed) == (None, None)


def test_who_has_no_success_loses_at_any_time():
    runs = [result([0.0, 0.0]), result([None, None], contender="eeipu")]
    row = summaries(runs, against="ei", anytime=True)[1]
    assert (row.improvement.value, row.won) == (None, 0.0)


def on_some_seeds(contender, values):
    return [result([0.0, v], contender=contender, seed=seed) for seed, v in values.items()]


def test_all_comparisons_are_on_the_seeds_that_both_have():
    ei = on_some_seeds("ei", {0: 1.0, 1: 3.0, 2: 50.0})
    eeipu = [
        *on_some_seeds("eeipu", {0: 2.0, 1: 4.0}),
        result([0.0, 90.0, 90.0, 90.0], contender="eeipu", seed=7),
    ]
    _, row = summaries([*ei, *eeipu], against="ei")
    assert (row.runs, row.pairs) == (3, 2)
    assert (row.more_candidates, row.more_improvement) == (0.0, 0.5)
    assert (row.lead.value, row.won) == (1.0, 1.0)
    # What it reached by itself is of all its runs.
    assert (row.candidates.value, row.improvement.value) == (pytest.approx(8 / 3), 32.0)


def test_without_a_common_seed_nothing_is_compared():
    runs = [*on_some_seeds("ei", {0: 1.0}), *on_some_seeds("eeipu", {1: 2.0})]
    _, row = summaries(runs, against="ei")
    assert (row.pairs, row.more_candidates, row.more_improvement) == (0, None, None)
    assert (row.lead, row.won) == (Mean(None, None), None)


def test_a_printed_table_tells_how_many_runs_were_compared_where_not_all_were(capsys):
    runs = [
        *on_some_seeds("ei", {0: 1.0, 1: 3.0}),
        *on_some_seeds("carbo", {0: 1.0, 1: 3.0}),
        *on_some_seeds("eeipu", {0: 2.0, 2: 4.0, 3: 5.0}),
    ]
    print_summaries(summaries(runs, against="ei"), "markdown", against="ei")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[2] for line in lines[4:]] == ["2", "2", "3 (1)"]


def test_over_all_problems_the_lead_is_in_shares_of_what_was_possible():
    rows = summaries(
        [
            result([0.0, 1.0], optimum=2.0),
            result([0.0, 2.0], optimum=2.0, contender="carbo"),
            result([0.0, 1.0], optimum=4.0, problem="noisy"),
            result([0.0, 2.0], optimum=4.0, problem="noisy", contender="carbo"),
            result([0.0, 1.0], optimum=4.0, problem="noisy", contender="eips"),
        ],
        against="ei",
    )
    ei, carbo = rows[-2:]
    assert (ei.problem, ei.method, ei.lead.value, ei.won) == (ALL, "ei", 0.0, 0.5)
    assert (carbo.method, carbo.lead.value, carbo.won) == ("carbo", 0.375, 1.0)


def test_over_all_problems_intervals_are_those_of_means_by_seed():
    values = {"toy": (1.0, 2.0, 3.0), "noisy": (2.0, 1.0, 5.0)}
    rows = summaries(
        result([0.0, *[value] * seed], seed=seed, optimum=10.0, problem=problem)
        for problem, of_seeds in values.items()
        for seed, value in enumerate(of_seeds, start=1)
    )
    row = rows[-1]
    assert row.share.value == pytest.approx(np.mean([0.15, 0.15, 0.4]))
    assert row.share.half_width == pytest.approx(half_width([0.15, 0.15, 0.4]))
    assert row.candidates == Mean(3.0, half_width([2.0, 3.0, 4.0]))


def test_over_all_problems_all_means_are_over_seeds_that_all_problems_have():
    runs = [
        *(result([0.0, 1.0, 1.0], seed=seed, optimum=2.0) for seed in (0, 1)),
        result([0.0] + [2.0] * 9, seed=5, optimum=2.0),
        *(result([0.0, 1.0], seed=seed, optimum=4.0, problem="noisy") for seed in (0, 1, 2)),
    ]
    row = summaries(runs)[-1]
    assert (row.problem, row.runs) == (ALL, 4)
    assert row.candidates == Mean(2.5, 0.0)
    assert row.share == Mean(0.375, 0.0)
    assert row.missed == pytest.approx(math.sqrt(0.5 * 0.75))


def test_over_all_problems_all_comparisons_are_on_the_same_seeds():
    runs = [
        *(result([0.0, 1.0], seed=seed, problem=p) for seed in (0, 1) for p in ("toy", "noisy")),
        *(
            result([0.0, 2.0 + 7.0 * seed], seed=seed, contender="carbo", problem=problem)
            for problem, seed in (("toy", 0), ("toy", 1), ("noisy", 0))
        ),
    ]
    row = summaries(runs, against="ei")[-1]
    assert (row.method, row.runs, row.pairs) == ("carbo", 2, 2)
    assert (row.more_improvement, row.won) == (1.0, 1.0)


def test_who_shares_no_seed_among_problems_has_no_row_for_all():
    runs = [result([0.0, 1.0]), result([0.0, 1.0], seed=1, problem="noisy")]
    assert [row.problem for row in summaries(runs)] == ["toy", "noisy"]


def test_a_ratio_that_one_problem_lacks_all_problems_lack():
    runs = [
        result([0.0, 1.0], problem=problem, contender=contender, start=start)
        for problem, start in (("toy", 0.0), ("noisy", 1.0))
        for contender in ("ei", "carbo")
    ]
    row = summaries(runs, against="ei")[-1]
    assert (row.problem, row.more_candidates, row.more_improvement) == (ALL, 0.0, None)


def test_where_an_optimum_is_unknown_the_lead_over_all_problems_is_how_often_it_won():
    rows = summaries(
        [
            result([0.0, 1.0], optimum=2.0),
            result([0.0, 2.0], optimum=2.0, contender="carbo"),
            result([0.0, 1.0], problem="noisy"),
            result([0.0, 0.5], problem="noisy", contender="carbo"),
        ],
        against="ei",
    )
    assert (rows[-1].lead.value, rows[-1].won) == (None, 0.5)


def test_over_all_problems_shares_and_ratios_are_averaged():
    rows = summaries(
        [
            result([0.0, 1.0], optimum=2.0),
            result([0.0, 3.0], optimum=4.0, contender="carbo"),
            result([0.0, 1.0], optimum=4.0, problem="noisy"),
            result([0.0, 1.0, 1.0, 1.0], optimum=4.0, problem="noisy", contender="carbo"),
        ],
        against="ei",
    )
    ei, carbo = rows[-2:]
    assert ei.problem == carbo.problem == ALL
    assert (ei.share.value, carbo.share.value) == (0.375, 0.5)
    assert carbo.more_candidates == 0.5
    assert carbo.more_improvement == 1.0
    assert carbo.improvement.value is None


def test_without_a_reference_or_an_optimum_nothing_is_compared():
    (row,) = summaries([result([0.0, 1.0])])
    assert (row.more_candidates, row.lead.value, row.share.value, row.missed) == (
        None,
        None,
        None,
        None,
    )
    assert row.candidates.half_width is None
    rows = summaries([result([0.0, 1.0]), result([0.0, 1.0], problem="noisy")], against="carbo")
    assert (rows[-1].problem, rows[-1].more_improvement) == (ALL, None)


def test_a_suggestion_takes_what_trials_after_the_warm_up_took():
    each = result([0.0, 1.0, 1.0, 1.0])
    for trial, suggest_s in zip(each.trials, (0.0, 0.1, 2.0, 4.0), strict=True):
        trial["suggest_s"] = suggest_s
    (row,) = summaries([each])
    assert (row.optimiser_s, row.suggestion_s) == (pytest.approx(6.1), 3.0)


def test_a_warm_up_alone_has_no_suggestions(capsys):
    rows = summaries([result([0.0, 1.0])])
    assert rows[0].suggestion_s is None
    print_summaries(rows, "markdown", against="ei")
    assert capsys.readouterr().out.endswith("| 1.0 s |  |\n")


def test_runs_with_other_options_are_not_averaged():
    rows = summaries([result([0.0, 1.0]), result([0.0, 2.0], n_initial=5)])
    assert [(row.problem, row.setting) for row in rows] == [
        ("toy", "toy, smoke, declared cost"),
        ("toy", "toy, smoke, declared cost, n_initial=5"),
    ]


@pytest.mark.parametrize(
    "option",
    [
        {"preset": "cpu"},
        {"cost": "measured"},
        {"n_initial": 5},
        {"budget": 50.0},
        {"budget_factor": 6.0},
        {"own_warm_up": True},
        {"data": "mine.csv"},
    ],
)
def test_all_problems_are_those_with_the_same_options(option):
    runs = [result([0.0, 1.0], problem=p) for p in ("toy", "noisy")]
    others = [result([0.0, 9.0, 9.0], problem=p) for p in ("toy", "noisy", "real")]
    others = [replace(run, options=replace(run.options, **option)) for run in others]
    rows = [row for row in summaries([*runs, *others]) if row.problem == ALL]
    assert [row.runs for row in rows] == [2, 3]
    assert [row.candidates.value for row in rows] == [2.0, 3.0]
    assert rows[0].setting == "all problems, smoke, declared cost"
    assert rows[1].setting == others[0].options.title.replace("toy", ALL)


def test_rows_of_some_contenders_are_compared_with_one_that_has_none():
    runs = [
        result([0.0, value], problem=problem, contender=contender)
        for problem in ("toy", "noisy")
        for contender, value in (("ei", 1.0), ("carbo", 3.0), ("gp", 2.0))
    ]
    # All problems are those on which one of them ran.
    elsewhere = result([0.0, 1.0], problem="real")
    rows = summaries([*runs, elsewhere], against="ei", methods=["gp", "carbo"])
    assert [(row.problem, row.method, row.more_improvement) for row in rows] == [
        (problem, method, larger)
        for problem in ("toy", "noisy", ALL)
        for method, larger in (("gp", 1.0), ("carbo", 2.0))
    ]


def test_a_problem_without_others_of_its_options_is_in_no_row_for_all():
    runs = [result([0.0, 1.0], problem=p) for p in ("toy", "noisy")]
    rows = summaries([*runs, result([0.0, 9.0], problem="toy", preset="cpu")])
    assert [row.setting for row in rows if row.problem == ALL] == [
        "all problems, smoke, declared cost"
    ]
    # It needs no words where there are no others.
    assert summaries(runs)[-1].setting == ALL


def test_of_a_single_seed_the_intervals_of_all_problems_are_over_problems():
    runs = [
        result(values, contender=contender, problem=problem, optimum=10.0)
        for problem, both in {"a": ([0.0, 2.0], [0.0, 6.0]), "b": ([0.0, 4.0], [0.0, 4.0])}.items()
        for contender, values in zip(("ei", "eeipu"), both, strict=True)
    ]
    row = summaries(runs, against="ei")[-1]
    assert (row.problem, row.method) == (ALL, "eeipu")
    assert (row.share.value, row.lead.value) == pytest.approx((0.5, 0.2))
    assert row.share.half_width == pytest.approx(half_width([0.6, 0.4]))
    assert row.lead.half_width == pytest.approx(half_width([0.4, 0.0]))
