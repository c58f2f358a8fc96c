"""The demo's pipeline, on real digits, and its account of hand-made studies."""

import io
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from eeipu import MissingExtraError, StageCache
from eeipu.benchmarks import demo
from eeipu.report.figures import plot_best_over_budget

CONFIGURATION = {
    "augment.copies": 8,
    "augment.degrees": 12.0,
    "augment.shift": 0.5,
    "augment.warp": 0.3,
    "embed.filters": 64,
    "embed.patch": 8,
    "embed.pooling": "mean",
    "embed.whitening": 0.1,
    "classify.alpha": 0.01,
    "classify.power": 0.6,
}
# Another value of each, that a search would try.
CHANGES = {
    "augment.copies": 4,
    "augment.degrees": 45.0,
    "augment.shift": 2.0,
    "augment.warp": 1.0,
    "embed.filters": 16,
    "embed.patch": 3,
    "embed.pooling": "max",
    "embed.whitening": 10.0,
    "classify.alpha": 10.0,
    "classify.power": 0.1,
}


@pytest.fixture(scope="module")
def digits():
    return demo.load()


@pytest.fixture(scope="module")
def accuracy(digits):
    """The score of a configuration; stages that an earlier test has run are not run again."""
    pipeline, cache = demo.digits_pipeline(), StageCache()

    def score(changes):
        run = pipeline.run({**CONFIGURATION, **changes}, digits, cache=cache)
        assert run.error is None, run.error
        return run.value

    return score


# --- the pipeline


def test_the_held_out_digits_are_not_among_the_labelled_ones(digits):
    labelled = {picture.tobytes() for picture in digits.train}
    held_out = {picture.tobytes() for picture in digits.held_out}

    assert (len(digits.train), len(digits.held_out)) == (50, 1000)
    assert not labelled & held_out
    assert np.bincount(digits.train_labels).tolist() == [5] * 10
    assert len(digits.held_out_labels) == 1000


def test_there_is_a_hyper_parameter_of_every_type():
    kinds = [
        (type(dist), getattr(dist, "log", None)) for dist in demo.digits_pipeline().space.values()
    ]

    assert (FloatDistribution, False) in kinds
    assert (FloatDistribution, True) in kinds
    assert IntDistribution in [kind for kind, _ in kinds]
    assert CategoricalDistribution in [kind for kind, _ in kinds]


def test_every_hyper_parameter_is_among_the_changes():
    space = demo.digits_pipeline().space

    assert list(space) == list(CONFIGURATION) == list(CHANGES)
    assert all(CONFIGURATION[name] != CHANGES[name] for name in space)


@pytest.mark.parametrize("name", CHANGES)
def test_every_hyper_parameter_changes_the_score(accuracy, name):
    assert abs(accuracy({name: CHANGES[name]}) - accuracy({})) >= 0.005


def test_a_good_configuration_recognises_most_digits(accuracy):
    assert 0.9 < accuracy({}) < 1.0


def test_the_same_configuration_has_the_same_score(digits, accuracy):
    assert demo.digits_pipeline().run(CONFIGURATION, digits).value == accuracy({})


def test_copies_without_distortion_are_the_pictures_as_they_are(digits):
    drawn = demo.augment(digits, copies=4, degrees=0.0, shift=0.0, warp=0.0)

    first, *copies = np.split(drawn.train, 5)
    assert all(np.array_equal(copy, first) for copy in copies)
    assert drawn.train_labels.tolist() == digits.train_labels.tolist() * 5


def test_a_drawn_picture_is_the_scan_enlarged(digits):
    drawn = demo.augment(digits, copies=4, degrees=0.0, shift=0.0, warp=0.0).held_out

    # Picture by picture, what is drawn is as bright as the scan, and so is each half of it.
    half, scan_half = demo.SIDE // 2, demo.SCAN_SIDE // 2
    np.testing.assert_allclose(
        drawn[:, :half].mean(axis=(1, 2)),
        digits.held_out[:, :scan_half].mean(axis=(1, 2)),
        atol=0.05,
    )
    assert drawn.shape == (1000, demo.SIDE, demo.SIDE)


def test_a_turn_keeps_the_distance_from_the_centre():
    moved = demo._canvas() + demo._turned(np.array([0.0, np.pi / 2]))
    rows, columns = demo._canvas()

    np.testing.assert_allclose(moved[0], [rows, columns])
    np.testing.assert_allclose(moved[1], [-columns, rows], atol=1e-12)


def test_smooth_noise_has_unit_variance_everywhere():
    noise = demo._smooth_noise(np.random.default_rng(0), 600)

    assert noise.shape == (600, 2, demo.SIDE * demo.OVERSAMPLING, demo.SIDE * demo.OVERSAMPLING)
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.15)
    # Neighbouring pixels move together.
    assert np.abs(np.diff(noise, axis=3)).mean() < 0.2


def test_fewer_copies_are_the_first_of_many(digits):
    few, many = (
        demo.augment(digits, copies=copies, degrees=20.0, shift=1.0, warp=0.5).train
        for copies in (4, 6)
    )

    np.testing.assert_array_equal(few, many[: len(few)])


def test_features_are_four_a_filter_and_never_negative(digits):
    drawn = demo.augment(digits, copies=4, degrees=20.0, shift=1.0, warp=0.5)
    features = demo.embed(drawn, filters=20, patch=5, pooling="max", whitening=0.1)

    assert features.train.shape == (250, 80)
    assert features.held_out.shape == (1000, 80)
    assert features.train.min() >= 0.0


def test_the_likeness_of_a_patch_is_its_product_with_the_weights():
    rng = np.random.default_rng(0)
    pictures = rng.random((2, demo.SIDE, demo.SIDE))
    weights, offsets = rng.standard_normal((9, 4)), rng.standard_normal(4)

    likeness = demo._likeness(pictures, 3, weights, offsets)

    expected = pictures[1, 5:8, 7:10].ravel() @ weights - offsets
    np.testing.assert_allclose(likeness[1, 5, 7], np.maximum(expected, 0.0))


def test_pooling_takes_the_quarters_one_by_one():
    likeness = np.arange(25.0).reshape(1, 5, 5, 1)

    # With an odd side, the quarters share the middle row and column.
    assert demo._pooled(likeness, np.max).tolist() == [[12.0, 14.0, 22.0, 24.0]]
    assert demo._pooled(likeness, np.mean).tolist() == [[6.0, 8.0, 16.0, 18.0]]


def test_the_stages_load_without_torch():
    code = "import sys, eeipu.benchmarks.demo; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


# --- the account


@pytest.fixture
def study():
    """Two warm-up trials, one of them failed, and two trials that reuse outputs."""
    study = optuna.create_study(direction="maximize")
    for value, costs, charged, saved in [
        (None, [2.0, None], 2.0, 0.0),
        (0.5, [2.0, 1.0], 3.0, 0.0),
        (0.75, [None, 1.5], 1.75, 2.0),
        (0.25, [None, None], 0.5, 3.0),
    ]:
        attributes = {"stage_costs": costs, "charged": charged, "saved": saved, "suggest_s": 0.125}
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, value=value, user_attrs=attributes))
    return study


def test_a_summary_adds_up_what_the_trials_say(study):
    assert demo.summarize(study, warm_up=2) == demo.Summary(
        candidates=3,
        failed=1,
        best=0.75,
        gain=0.25,
        stage_s=(4.0, 2.5),
        loading_s=0.75,
        saved_s=5.0,
        optimiser_s=0.5,
    )


def test_there_is_no_gain_over_a_warm_up_without_success(study):
    assert np.isnan(demo.summarize(study, warm_up=1).gain)


def rows_of(console):
    """The rows of the table that was printed to a console in memory, by their first cells."""
    lines = console.file.getvalue().splitlines()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {first: others for first, *others in cells}


def test_the_table_shows_every_figure(study):
    console = Console(file=io.StringIO(), width=100)
    summary = demo.summarize(study, warm_up=2)

    console.print(demo.comparison({"one": summary, "two": summary}, ["prep", "fit"]))

    rows = rows_of(console)
    assert rows["candidates evaluated"] == ["3", "3"]
    assert rows["trials that failed"] == ["1", "1"]
    assert rows["best accuracy"] == ["75.0%", "75.0%"]
    assert rows["gain since warm-up"] == ["+25.0 points", "+25.0 points"]
    assert rows["time in prep"] == ["4.0 s", "4.0 s"]
    assert rows["time in fit"] == ["2.5 s", "2.5 s"]
    assert rows["loading from the cache"] == ["0.8 s", "0.8 s"]
    assert rows["saved by the cache"] == ["5.0 s", "5.0 s"]
    assert rows["optimiser's own time"] == ["0.5 s", "0.5 s"]


# --- the whole


@pytest.mark.parametrize("library", ["sklearn", "matplotlib.figure"])
def test_a_missing_library_is_told_with_the_extra_to_install(monkeypatch, library):
    for name in [name for name in sys.modules if name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "eeipu.benchmarks.demo")

    with pytest.raises(MissingExtraError, match=r'pip install "eeipu\[demo\]"'):
        __import__("eeipu.benchmarks.demo")


@pytest.mark.slow
def test_the_demo_compares_two_searches_that_share_their_warm_up(tmp_path, monkeypatch):
    seen = []

    def spy(studies, **options):
        seen.extend(study.trials for study in studies.values())
        return plot_best_over_budget(studies, **options)

    monkeypatch.setattr(demo, "plot_best_over_budget", spy)
    console = Console(file=io.StringIO(), width=100)
    out = tmp_path / "new" / "place"

    demo.run_demo(budget=3.0, seed=1, out=out, console=console)

    first, second = ([t for t in trials if t.value is not None] for trials in seen)
    shared = min(len(first), len(second), 10)
    assert shared >= 1
    assert [t.params for t in first[:shared]] == [t.params for t in second[:shared]]
    assert not any(any(trial.user_attrs["memoized"]) for trial in second)
    rows = rows_of(console)
    assert rows["candidates evaluated"] == [str(len(first)), str(len(second))]
    assert rows["best accuracy"] == [
        f"{max(t.value for t in found):.1%}" for found in (first, second)
    ]
    assert (out / "best-over-budget.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_search_that_stops_early_is_not_compared(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no digits today")

    monkeypatch.setattr(demo.ndimage, "map_coordinates", refuse)
    console = Console(file=io.StringIO(), width=100)

    demo.run_demo(budget=60.0, seed=1, out=tmp_path, console=console)

    assert "nothing to compare" in console.file.getvalue()
    assert list(tmp_path.iterdir()) == []
