"""Pictures of results."""

import numpy as np
from benchmark_toys import result
from matplotlib.image import imread

from eeipu.benchmarks.analysis.pictures import draw
from eeipu.benchmarks.analysis.tables import ALL, summaries
from eeipu.report.figures import new_axes


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
        "eeipu.benchmarks.analysis.pictures.new_axes", lambda: axes.append(new_axes()) or axes[-1]
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
