"""The U-Net, its training, the smoothing of its masks, and their score."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eeipu.benchmarks.segmentation.crf import COLOUR, posterior, smooth, window_radius
from eeipu.benchmarks.segmentation.iou import mean_iou
from eeipu.benchmarks.segmentation.scenes import VOID
from eeipu.benchmarks.segmentation.training import OneCycle, predicted_masks, train
from eeipu.benchmarks.segmentation.unet import Architecture

TINY = Architecture(0.25, 2, 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the network


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_every_pixel_gets_a_score_a_class(levels):
    model = Architecture(0.25, levels, 2).initialised(7, seeded())

    assert model(torch.zeros(2, 3, 32, 64)).shape == (2, 7, 32, 64)


def test_the_full_encoder_is_mobilenet_v2():
    model = Architecture().initialised(7, seeded())

    parameters = sum(p.numel() for part in (model.stem, model.encoder) for p in part.parameters())

    # torchvision's mobilenet_v2 has 3,504,872 of them; less its last convolution (320 x 1280
    # weights, 2 x 1280 of the normalisation) and its classifier (1280 x 1000 + 1000).
    assert parameters == 3_504_872 - 320 * 1280 - 2 * 1280 - 1280 * 1000 - 1000


def test_first_weights_follow_from_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = (TINY.initialised(3, seeded(seed)).state_dict() for seed in (0, 0, 1))

    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_work_of_a_convolution_is_two_operations_a_weight_and_place():
    flops = Architecture(0.25, levels=1, repeats=1).forward_flops(5, 8, 6)

    halved = 3 * 8 * 9 + 8 * 9 + 8 * 8  # the stem, then a channel by itself, then a projection
    full = 2 * 8 * 8 * 9 + 8 * 5  # the decoder's two, and the head
    assert flops == 2 * (4 * 3 * halved + 8 * 6 * full)


def test_work_grows_with_width_depth_and_area():
    base = TINY.forward_flops(5, 32, 32)

    assert Architecture(0.5, 2, 1).forward_flops(5, 32, 32) > base
    assert Architecture(0.25, 3, 1).forward_flops(5, 32, 32) > base
    assert Architecture(0.25, 3, 2).forward_flops(5, 32, 32) > Architecture(
        0.25, 3, 1
    ).forward_flops(5, 32, 32)
    assert TINY.forward_flops(5, 32, 64) == 2 * base


# --- training


def easy_scenes(count=12, side=16):
    """Bright squares on a dark ground, with an edge of unknown pixels."""
    images = torch.full((count, 3, side, side), -1.0)
    masks = torch.zeros(count, side, side, dtype=torch.uint8)
    for number in range(count):
        start = number % 6
        images[number, :, start : start + 8, 4:12] = 1.0
        masks[number, start : start + 8, 4:12] = 1
    masks[:, :, 0] = VOID
    return images, masks


def test_training_learns_what_is_easy():
    images, masks = easy_scenes()

    model = train(images, masks, 2, TINY, OneCycle(20, 4, 0.02, 1e-4, seed=0))

    predicted = predicted_masks(model, images)
    assert predicted.dtype == torch.uint8
    assert mean_iou(predicted.numpy(), masks.numpy(), 2) > 0.9


def test_training_is_its_seed_and_leaves_the_global_generator_alone():
    images, masks = easy_scenes(6)
    before = torch.get_rng_state()

    weights = [
        train(images, masks, 2, TINY, OneCycle(1, 4, 0.02, 1e-4, seed)).head.weight
        for seed in (0, 0, 1)
    ]

    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_picture_of_which_nothing_is_known_does_no_harm():
    images, masks = easy_scenes(6)
    masks[2] = VOID

    model = train(images, masks, 2, TINY, OneCycle(1, 1, 0.02, 1e-4, seed=0))

    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_training_leaves_its_data_alone():
    images, masks = easy_scenes(6)
    copies = images.clone(), masks.clone()

    train(images, masks, 2, TINY, OneCycle(1, 4, 0.02, 1e-4, seed=0))

    assert torch.equal(images, copies[0])
    assert torch.equal(masks, copies[1])


# --- smoothing


def brute_force(image, mask, labels, sdims, compat, gt_prob, iterations):
    """Mean-field iterations over all pairs of pixels, one by one, from the paper's equation."""
    height, width = mask.shape
    places = list(itertools.product(range(height), range(width)))
    count = len(places)
    kernel = np.ones((count, count))
    for (i, p), (j, q) in itertools.product(enumerate(places), repeat=2):
        near = ((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2) / (2 * sdims**2)
        alike = ((image[p] - image[q]) ** 2).sum() / (2 * COLOUR**2)
        kernel[i, j] = math.exp(-near - alike)
    d = kernel.sum(axis=1)
    kernel /= np.sqrt(d[:, None] * d[None])
    np.fill_diagonal(kernel, 0.0)
    energy = np.full((count, labels), -math.log((1 - gt_prob) / (labels - 1)))
    energy[np.arange(count), mask.ravel()] = -math.log(gt_prob)
    q = np.exp(-energy)
    for _ in range(iterations):
        q = np.exp(-energy + compat * kernel @ (q / q.sum(axis=1, keepdims=True)))
    return (q / q.sum(axis=1, keepdims=True)).T.reshape(labels, height, width)


@pytest.mark.parametrize(("sdims", "compat", "gt_prob"), [(1.5, 4, 0.5), (3, 12, 0.8), (8, 6, 0.4)])
def test_smoothing_is_mean_field_over_all_pairs(sdims, compat, gt_prob):
    rng = np.random.default_rng(0)
    image = 0.5 + 0.05 * rng.standard_normal((6, 5, 3))
    image[:, 3:] += 0.15
    mask = rng.integers(0, 3, (6, 5))
    arguments = {"labels": 3, "sdims": sdims, "compat": compat, "gt_prob": gt_prob, "iterations": 3}

    q = posterior(torch.from_numpy(image), torch.from_numpy(mask), radius=6, **arguments)

    expected = brute_force(image, mask, **arguments)
    np.testing.assert_allclose(q.numpy(), expected, rtol=1e-9)
    assert (expected.argmax(axis=0) != mask).any()


def test_a_lone_pixel_takes_its_neighbours_label_unless_its_colour_differs():
    mask = torch.zeros(9, 9, dtype=torch.uint8)
    mask[4, 4] = 1
    even = torch.full((9, 9, 3), 0.5)
    spotted = even.clone()
    spotted[4, 4] = 1.0
    arguments = {"labels": 2, "sdims": 2.0, "compat": 5.0, "gt_prob": 0.7}

    assert smooth(even, mask, **arguments).sum() == 0
    assert smooth(spotted, mask, **arguments).sum() == 1


def test_colours_like_no_other_leave_the_mask_as_it_is():
    image = torch.zeros(1, 3, 3)
    image[0, 1] = 1.0  # so far away that the kernel underflows
    mask = torch.tensor([[0, 1, 0]])

    smoothed = smooth(image, mask, labels=2, sdims=1.0, compat=50.0, gt_prob=0.6)

    assert smoothed.tolist() == mask.tolist()


@settings(max_examples=30)
@given(st.floats(1.0, 8.0), st.floats(1.0, 50.0), st.integers(0, 9))
def test_labels_that_all_agree_stay(sdims, compat, label):
    image = torch.rand(6, 6, 3, generator=seeded())
    mask = torch.full((6, 6), label)

    smoothed = smooth(image, mask, labels=10, sdims=sdims, compat=compat, gt_prob=0.5)

    assert torch.equal(smoothed, mask)


def test_a_single_pixel_has_no_neighbours():
    mask = torch.tensor([[3]])

    smoothed = smooth(torch.zeros(1, 1, 3), mask, labels=4, sdims=2.0, compat=9.0, gt_prob=0.9)

    assert smoothed.tolist() == [[3]]


def test_the_window_reaches_two_standard_deviations():
    assert [window_radius(sdims) for sdims in (1.0, 1.1, 8.0)] == [2, 3, 16]


# --- the score


def test_mean_iou_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, 1, VOID, 2]], np.uint8)
    said = np.array([[0, 0, 1, 1], [1, 0, 2, 0]], np.uint8)

    # Class 0: 2 of 5; class 1: 2 of 4; class 2: 0 of 1; class 3 occurs nowhere.
    assert mean_iou(said, truth, 4) == pytest.approx((2 / 5 + 2 / 4 + 0) / 3)


def test_mean_iou_of_nothing_known_is_zero():
    truth = np.full((2, 2), VOID, np.uint8)

    assert mean_iou(np.zeros((2, 2), np.uint8), truth, 3) == 0.0
