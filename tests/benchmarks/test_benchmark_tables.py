"""What results say: tables, curves and pictures."""

import math
from dataclasses import replace

import numpy as np
import pytest
from benchmark_toys import result
from matplotlib.image import imread

from eeipu.benchmarks.reports.curves import over_budget, over_iterations, shares, suggestion_seconds
from eeipu.benchmarks.reports.figures import draw
from eeipu.benchmarks.reports.printing import print_summaries
from eeipu.benchmarks.reports.tables import ALL, Mean, half_width, summaries
from eeipu.benchmarks.results import read_all, write
from eeipu.errors import ConfigurationError
from eeipu.report.figures import new_axes

# --- a run


def test_improvement_is_over_the_best_warm_up_trial():
    assert result([1.0, 2.0, 1.5, 4.0], start=2.0).improvements == (-1.0, 0.0, 0.0, 2.0)


def test_smaller_is_better_where_the_problem_is_minimised():
    each = result([3.0, 2.0, 1.5], start=2.0, direction="minimize", optimum=1.0)
    assert each.improvements == (-1.0, 0.0, 0.5)
    assert each.shares == (-1.0, 0.0, 0.5)


def test_failed_trials_are_no_candidates():
    each = result([None, 1.0, None, 2.0], start=1.0)
    assert each.candidates == 2
    assert math.isnan(each.improvements[0])
    assert each.improvements[1:] == (0.0, 0.0, 1.0)


def test_the_best_counts_without_its_luck():
    each = result([1.0, 5.0, 3.0], start=1.0)
    for trial, truth in zip(each.trials, (1.0, 2.0, 3.0), strict=True):
        trial["metrics"] = {"noise_free": truth}
    # The second looks best to whoever tunes.
    assert each.improvement == 1.0


def test_a_warm_up_at_the_optimum_leaves_nothing_to_gain():
    assert result([2.0, 2.0], start=2.0, optimum=2.0).shares == (1.0, 1.0)


def test_with_suggestions_charged_a_run_ends_where_its_budget_would_have():
    # Trials end at 2, 4, 6, 8 of 10; with half a unit for each suggestion at 2.5, 5, 7.5, 10.
    run = result([0.0, 1.0, 2.0, 3.0, 4.0])

    charged = run.with_suggestions_charged

    assert [trial["spent"] for trial in charged.trials] == [2.5, 5.0, 7.5, 10.0]
    assert [trial["charged"] for trial in charged.trials] == [2.5] * 4
    assert (charged.improvement, run.improvement) == (3.0, 4.0)
    # The trial that exceeds the budget counts.
    assert replace(run, problem={**run.problem, "budget": 9.9}).with_suggestions_charged == replace(
        charged, problem={**run.problem, "budget": 9.9}
    )
    assert result([0.0, 1.0]).with_suggestions_charged.candidates == 2


def test_the_improvement_at_any_time_is_a_mean_over_the_budget():
    # Trials end at 2, 4, 6 and 8 of 10: nothing until 6, 1 until 8, and 3 until 10.
    assert result([-1.0, 0.0, 1.0, 3.0], budget=10.0).anytime == pytest.approx(0.8)
    # The last ends at 8 of 7: what it brings is left out.
    assert result([-1.0, 0.0, 1.0, 3.0], budget=7.0).anytime == pytest.approx(1.0 / 7.0)
    # Before the first success there is none, nor before the start is reached.
    assert result([None, 1.0, 2.0], start=1.5, budget=10.0).anytime == pytest.approx(0.2)
    assert result([0.0, 1.0], start=1.5).anytime == 0.0
    assert math.isnan(result([None, None]).anytime)


def test_what_noise_makes_worse_counts_at_any_time():
    run = result([0.0, 0.0, 2.0], budget=10.0)
    run.trials[2]["metrics"] = {"noise_free": -1.0}  # it looks best, and is the worst
    assert run.anytime == pytest.approx(-0.4)


def test_anytime_with_suggestions_charged():
    # Trials end at 2.5, 5, 7.5 and 10 of 10, the fifth too late.
    run = result([0.0, 0.0, 1.0, 2.0, 9.0], budget=10.0)
    assert run.with_suggestions_charged.anytime == pytest.approx(0.25)


# --- files


def test_results_of_the_same_options_in_two_files_are_an_error(tmp_path):
    each = result([0.0, 1.0])
    first, again = (each.options.path(tmp_path / name) for name in ("once", "twice"))
    write(first, each)
    write(again, each)
    with pytest.raises(ConfigurationError, match="move one of them out of") as told:
        read_all(tmp_path)
    assert repr(str(first)) in str(told.value)
    assert repr(str(again)) in str(told.value)
    assert len(read_all(tmp_path / "once")) == 1


def test_results_of_some_problems_are_left_out_unread(tmp_path):
    write(tmp_path / "moved-seed0-0.json", result([0.0, 1.0], problem="noisy"))
    for each in (result([0.0, 1.0]), result([0.0, 1.0], problem="noisy", seed=1)):
        write(each.options.path(tmp_path), each)
    unreadable = tmp_path / "noisy" / "smoke-declared" / "ei-seed2-0.json"
    unreadable.touch()

    (only,) = read_all(tmp_path, leave_out=["noisy"])

    assert only.options.problem == "toy"
    unreadable.unlink()
    assert len(read_all(tmp_path)) == 3


# --- tables


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
    assert (
        eeipu.candidates.value,
        eeipu.improvement.value,
        eeipu.share.value,
    ) == (4.5, 1.5, 0.75)
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


# --- curves


def test_a_value_counts_from_when_it_was_paid_for():
    curve = over_budget([result([1.0, 2.0, 3.0, 4.0, 5.0], start=1.0)])
    # Each trial costs a fifth of the budget.
    assert curve.x[0] == pytest.approx(0.2, abs=0.01)
    assert curve.mean[np.searchsorted(curve.x, 0.39)] == 0.0
    assert curve.mean[np.searchsorted(curve.x, 0.41)] == 1.0
    assert (curve.x[-1], curve.mean[-1]) == (1.0, 4.0)
    assert not curve.half_width.any()


def test_a_trial_that_exceeds_the_budget_counts_at_its_end():
    curve = over_budget([result([1.0, 2.0, 9.0], start=1.0, budget=5.0)])
    assert (curve.mean[-2], curve.mean[-1]) == (1.0, 8.0)


def test_curves_over_iterations_go_as_far_as_all_runs_do():
    runs = [result([1.0, 2.0, 3.0]), result([1.0, 4.0], seed=1)]
    curve = over_iterations(runs)
    assert curve.x.tolist() == [1.0, 2.0]
    assert curve.mean.tolist() == [1.0, 3.0]
    assert curve.half_width[1] == pytest.approx(12.7062, rel=1e-5)
    assert suggestion_seconds(runs).mean.tolist() == [0.5, 0.5]


def test_a_curve_of_several_problems_is_the_mean_of_means_by_seed():
    runs = [
        result([0.0, value], seed=seed, optimum=10.0, problem=problem)
        for problem, values in (("toy", (1.0, 2.0, 3.0)), ("noisy", (9.0, 7.0, 5.0)))
        for seed, value in enumerate(values)
    ]
    row = summaries(runs)[-1]
    for curve in (over_budget(runs, shares), over_iterations(runs, shares)):
        assert curve.mean[-1] == pytest.approx(row.share.value)
        assert curve.half_width[-1] == pytest.approx(row.share.half_width)


# --- pictures


def test_four_pictures_for_every_setting(tmp_path):
    results = [
        result([1.0, 2.0, 3.0], contender=contender, seed=seed)
        for contender in ("ei", "eeipu+cache", "carbo", "tpe", "gp", "eips", "pbgi", "lambo")
        for seed in (0, 1)
    ]
    paths = draw(results, tmp_path / "figures")

    assert [path.name for path in paths] == [
        f"toy-smoke-declared-cost-{kind}.png"
        for kind in ("budget", "iterations", "stages", "overhead")
    ]
    for path in paths:
        picture = imread(path)
        assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 8


def test_a_contender_without_success_has_no_curve_and_no_share_of_the_rest(tmp_path):
    results = [result([None, None]), result([0.0, 1.0], contender="carbo")]
    assert len(draw(results, tmp_path)) == 4
    assert len(draw(results[:1], tmp_path)) == 4

    none, carbo = summaries(results, against="carbo")
    assert (none.candidates.value, none.improvement.value, none.won) == (0.0, None, 0.0)
    assert none.more_improvement is None
    assert carbo.improvement.value == 1.0
    assert [row.won for row in summaries(results, against="ei")] == [0.5, 1.0]


def test_two_pictures_of_all_settings_whose_optimum_is_known(tmp_path):
    results = [
        result([0.0, 1.0], problem=problem, contender=contender, optimum=optimum)
        for problem, optimum in (("toy", 2.0), ("noisy", 4.0), ("real", None))
        for contender in ("ei", "carbo")
    ]
    results.append(result([0.0, 1.0], contender="only-here", optimum=2.0))
    paths = draw(results, tmp_path)
    assert len(paths) == 3 * 4 + 2
    assert [path.name for path in paths[-2:]] == [
        "all-problems-shares.png",
        "all-problems-shares-over-iterations.png",
    ]


def test_pictures_of_all_problems_are_of_those_with_the_same_options(tmp_path):
    results = [
        result([0.0, 1.0], problem=problem, optimum=2.0, preset=preset)
        for problem, preset in (("toy", "smoke"), ("noisy", "smoke"), ("toy", "cpu"))
    ]
    paths = draw(results, tmp_path)
    assert [path.name for path in paths if "all-problems" in path.name] == [
        "all-problems-smoke-declared-cost-shares.png",
        "all-problems-smoke-declared-cost-shares-over-iterations.png",
    ]


def axes_of(monkeypatch, results, folder):
    """Picture -> its axes."""
    axes = []
    monkeypatch.setattr(
        "eeipu.benchmarks.reports.figures.new_axes", lambda: axes.append(new_axes()) or axes[-1]
    )
    paths = draw(results, folder)
    names = [path.stem.removeprefix("toy-smoke-declared-cost-") for path in paths]
    return dict(zip(names, axes, strict=True))


def legends(monkeypatch, results, folder):
    """Picture -> what its legend says and where its lines end."""
    return {
        name: [(line.get_label(), line.get_ydata()[-1]) for line in ax.get_lines()]
        for name, ax in axes_of(monkeypatch, results, folder).items()
    }


def test_contenders_whose_curves_coincide_share_an_entry_of_the_legend(monkeypatch, tmp_path):
    results = [
        result([0.0, 1.0], contender="ei"),
        result([0.0, 2.0], contender="carbo"),
        result([0.0, 1.0, 3.0], contender="ei+cache"),
        result([0.0, 2.0], contender="carbo+cache"),
    ]
    drawn = legends(monkeypatch, results, tmp_path)
    assert drawn["iterations"] == [("carbo, carbo+cache", 2.0), ("ei (to 2), ei+cache", 3.0)]
    assert drawn["budget"] == [("ei", 1.0), ("carbo, carbo+cache", 2.0), ("ei+cache", 3.0)]


def test_pictures_show_the_whole_interval_that_curves_end_with(monkeypatch, tmp_path):
    results = [
        result([0.0, value], seed=seed, contender=contender)
        for contender, values in (("ei", (1.0, 3.0)), ("carbo", (-2.0, 1.0)))
        for seed, value in enumerate(values)
    ]
    axes = axes_of(monkeypatch, results, tmp_path)
    rows = summaries(results)
    for kind in ("budget", "iterations"):
        low, high = axes[kind].get_ylim()
        assert low < min(row.improvement.value - row.improvement.half_width for row in rows)
        assert high > max(row.improvement.value + row.improvement.half_width for row in rows)


def test_pictures_of_all_problems_show_what_the_table_says(monkeypatch, tmp_path):
    results = [
        result([0.0, value], seed=seed, optimum=10.0, problem=problem, contender=contender)
        for problem, seed, value in (("toy", 0, 1.0), ("toy", 1, 9.0), ("noisy", 1, 3.0))
        for contender in ("ei", "carbo" if seed else "gp")
    ]
    drawn = legends(monkeypatch, results, tmp_path)
    rows = [row for row in summaries(results) if row.problem == ALL]
    assert [(row.method, row.share.value) for row in rows] == [("ei", 0.6), ("carbo", 0.6)]
    assert drawn["all-problems-shares"] == [("ei, carbo", 0.6)]


def test_no_picture_of_all_problems_where_only_one_optimum_is_known(tmp_path):
    results = [result([0.0, 1.0], optimum=2.0), result([0.0, 1.0], problem="real")]
    assert not [path for path in draw(results, tmp_path) if "all-problems" in path.name]


def test_courses_in_shares_of_what_was_possible():
    runs = [result([0.0, 1.0, 2.0], optimum=4.0), result([0.0, 0.0, 2.0], optimum=2.0)]
    curve = over_iterations(runs, shares)
    assert curve.mean.tolist() == [0.0, 0.125, 0.75]
