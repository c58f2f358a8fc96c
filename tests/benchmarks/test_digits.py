"""The demo's pipeline, on real digits."""

import subprocess
import sys

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from eeipu import StageCache
from eeipu.benchmarks import digits as demo_digits

CONFIGURATION = {
    "augment.copies": 8,
    "augment.degrees": 12.0,
    "augment.shift": 0.5,
    "augment.warp": 0.3,
    "embed.filters": 64,
    "embed.patch": 8,
    "embed.pooling": "mean",
    "embed.whitening": 0.1,
    "reduce.power": 0.6,
    "reduce.components": 32,
    "classify.penalty": 10.0,
    "classify.gamma": 0.5,
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
    "reduce.power": 0.1,
    "reduce.components": 4,
    "classify.penalty": 0.01,
    "classify.gamma": 10.0,
}


@pytest.fixture(scope="module")
def digits():
    return demo_digits.load()


@pytest.fixture(scope="module")
def accuracy(digits):
    """The score of a configuration; stages that an earlier test has run are not run again."""
    pipeline, cache = demo_digits.digits_pipeline(), StageCache()

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
        (type(dist), getattr(dist, "log", None))
        for dist in demo_digits.digits_pipeline().space.values()
    ]

    assert (FloatDistribution, False) in kinds
    assert (FloatDistribution, True) in kinds
    assert IntDistribution in [kind for kind, _ in kinds]
    assert CategoricalDistribution in [kind for kind, _ in kinds]


def test_every_hyper_parameter_is_among_the_changes():
    space = demo_digits.digits_pipeline().space

    assert list(space) == list(CONFIGURATION) == list(CHANGES)
    assert all(CONFIGURATION[name] != CHANGES[name] for name in space)


@pytest.mark.parametrize("name", CHANGES)
def test_every_hyper_parameter_changes_the_score(accuracy, name):
    assert abs(accuracy({name: CHANGES[name]}) - accuracy({})) >= 0.005


def test_a_good_configuration_recognises_most_digits(accuracy):
    assert 0.9 < accuracy({}) < 1.0


def test_the_same_configuration_has_the_same_score(digits, accuracy):
    assert demo_digits.digits_pipeline().run(CONFIGURATION, digits).value == accuracy({})


def test_copies_without_distortion_are_the_pictures_as_they_are(digits):
    drawn = demo_digits.augment(digits, copies=4, degrees=0.0, shift=0.0, warp=0.0)

    first, *copies = np.split(drawn.train, 5)
    assert all(np.array_equal(copy, first) for copy in copies)
    assert drawn.train_labels.tolist() == digits.train_labels.tolist() * 5


def test_a_drawn_picture_is_the_scan_enlarged(digits):
    drawn = demo_digits.augment(digits, copies=4, degrees=0.0, shift=0.0, warp=0.0).held_out

    # Picture by picture, what is drawn is as bright as the scan, and so is each half of it.
    half, scan_half = demo_digits.SIDE // 2, demo_digits.SCAN_SIDE // 2
    np.testing.assert_allclose(
        drawn[:, :half].mean(axis=(1, 2)),
        digits.held_out[:, :scan_half].mean(axis=(1, 2)),
        atol=0.05,
    )
    assert drawn.shape == (1000, demo_digits.SIDE, demo_digits.SIDE)


def test_a_turn_keeps_the_distance_from_the_centre():
    moved = demo_digits._canvas() + demo_digits._turned(np.array([0.0, np.pi / 2]))
    rows, columns = demo_digits._canvas()

    np.testing.assert_allclose(moved[0], [rows, columns])
    np.testing.assert_allclose(moved[1], [-columns, rows], atol=1e-12)


def test_smooth_noise_has_unit_variance_everywhere():
    noise = demo_digits._smooth_noise(np.random.default_rng(0), 600)

    assert noise.shape == (
        600,
        2,
        demo_digits.SIDE * demo_digits.OVERSAMPLING,
        demo_digits.SIDE * demo_digits.OVERSAMPLING,
    )
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.15)
    # Neighbouring pixels move together.
    assert np.abs(np.diff(noise, axis=3)).mean() < 0.2


def test_fewer_copies_are_the_first_of_many(digits):
    few, many = (
        demo_digits.augment(digits, copies=copies, degrees=20.0, shift=1.0, warp=0.5).train
        for copies in (4, 6)
    )

    np.testing.assert_array_equal(few, many[: len(few)])


def test_features_are_four_a_filter_and_never_negative(digits):
    drawn = demo_digits.augment(digits, copies=4, degrees=20.0, shift=1.0, warp=0.5)
    features = demo_digits.embed(drawn, filters=20, patch=5, pooling="max", whitening=0.1)

    assert features.train.shape == (250, 80)
    assert features.held_out.shape == (1000, 80)
    assert features.train.min() >= 0.0


def test_the_likeness_of_a_patch_is_its_product_with_the_weights():
    rng = np.random.default_rng(0)
    pictures = rng.random((2, demo_digits.SIDE, demo_digits.SIDE))
    weights, offsets = rng.standard_normal((9, 4)), rng.standard_normal(4)

    likeness = demo_digits._likeness(pictures, 3, weights, offsets)

    expected = pictures[1, 5:8, 7:10].ravel() @ weights - offsets
    np.testing.assert_allclose(likeness[1, 5, 7], np.maximum(expected, 0.0))


def test_pooling_takes_the_quarters_one_by_one():
    likeness = np.arange(25.0).reshape(1, 5, 5, 1)

    # With an odd side, the quarters share the middle row and column.
    assert demo_digits._pooled(likeness, np.max).tolist() == [[12.0, 14.0, 22.0, 24.0]]
    assert demo_digits._pooled(likeness, np.mean).tolist() == [[6.0, 8.0, 16.0, 18.0]]


def test_the_stages_load_without_torch():
    code = "import sys, eeipu.benchmarks.digits; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
