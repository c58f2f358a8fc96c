"""Generated scenes, and those of the user's own folders."""

import sys

import numpy as np
import pytest
from PIL import Image

from eeipu import ConfigurationError, MissingExtraError
from eeipu.benchmarks.segmentation import scenes as scenes_module
from eeipu.benchmarks.segmentation.materials import MATERIALS, photograph, swatch
from eeipu.benchmarks.segmentation.picture_folders import open_folders
from eeipu.benchmarks.segmentation.scenes import CLASSES, VOID, GeneratedScenes, _looked_up
from eeipu.fingerprints.keys import inputs_key

SOURCE = GeneratedScenes(count=60, height=64, width=64, seed=0)


@pytest.fixture(scope="module")
def scenes():
    return SOURCE.load()


# --- materials


@pytest.mark.parametrize("material", MATERIALS, ids=lambda material: material.name)
def test_materials_lie_within_their_photographs(material):
    height, width, channels = photograph(material.source).shape

    assert channels == 3
    assert 0 <= material.rows[0] < material.rows[1] <= height
    assert 0 <= material.columns[0] < material.columns[1] <= width


def test_patterns_grow_with_the_scene():
    small, large = (swatch(MATERIALS[0], height) for height in (48, 96))

    assert large.shape[0] == pytest.approx(2 * small.shape[0], abs=2)
    assert small.dtype == np.float32


@pytest.mark.parametrize("library", ["skimage", "sklearn.datasets"])
def test_a_missing_library_names_the_extra(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(MissingExtraError, match=r"eeipu\[benchmarks\]"):
        SOURCE.load()


# --- generated scenes


def test_scenes_have_the_shapes_they_promise():
    scenes = GeneratedScenes(count=2, height=32, width=48, seed=0).load()

    assert scenes.images.shape == (2, 32, 48, 3)
    assert scenes.masks.shape == (2, 32, 48)
    assert scenes.images.dtype == scenes.masks.dtype == np.uint8


def test_a_seed_and_a_number_make_a_scene(scenes):
    fewer = GeneratedScenes(count=3, height=64, width=64, seed=0).load()
    other = GeneratedScenes(count=3, height=64, width=64, seed=1).load()

    np.testing.assert_array_equal(fewer.images, scenes.images[:3])
    np.testing.assert_array_equal(fewer.masks, scenes.masks[:3])
    assert (other.masks != fewer.masks).any(axis=(1, 2)).all()


def test_classes_are_many_and_out_of_balance(scenes):
    share = np.bincount(scenes.masks.ravel(), minlength=SOURCE.classes) / scenes.masks.size

    assert len(share) == SOURCE.classes == len(CLASSES) == len(MATERIALS) >= 8
    assert share.min() > 0.0005
    assert share[0] == share.max() < 0.6
    assert share.max() > 20 * share.min()


def test_most_objects_are_partly_hidden(scenes):
    # A whole ellipse of the shape's class fills pi / 4 of the box around it; a hidden one less.
    rows, columns = zip(*(np.nonzero(mask == 8) for mask in scenes.masks), strict=True)
    fills = [
        len(y) / (np.ptp(y) + 1) / (np.ptp(x) + 1)
        for y, x in zip(rows, columns, strict=True)
        if len(y) > 50
    ]

    assert min(fills) < 0.5 < 0.7 < max(fills)


def test_objects_do_not_reach_beyond_their_boxes(monkeypatch, scenes):
    def whole(centre, length, breadth, angle, shape):
        return slice(0, shape[0]), slice(0, shape[1])

    monkeypatch.setattr(scenes_module, "_box", whole)
    painted_whole = SOURCE.load()

    np.testing.assert_array_equal(painted_whole.masks, scenes.masks)
    np.testing.assert_array_equal(painted_whole.images, scenes.images)


def test_patterns_are_mirrored_at_their_edges():
    pattern = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((4, 2, 3), np.float32)
    rows = np.array([-2.0, -1.0, 0.0, 1.4, 3.0, 4.0, 7.0, 8.0], np.float32)

    looked_up = _looked_up(pattern, np.stack([rows, rows]))

    assert looked_up[:, 0].tolist() == [1, 0, 0, 1, 3, 3, 0, 0]


def test_masks_are_exact(scenes):
    """Stars are dark and print is bright, right up to the edge of their masks."""
    brightness = scenes.images.mean(axis=3)
    dark, bright = brightness[scenes.masks == 11], brightness[scenes.masks == 5]

    assert np.median(dark) < 60 < 130 < np.median(bright)
    edges = _edges(scenes.masks, 11)
    beyond = _edges_beyond(scenes.masks, 11)
    assert np.median(brightness[edges]) + 20 < np.median(brightness[beyond])


def _edges(masks, label):
    """Pixels of a label beside a pixel of another, on the same row."""
    inside = masks == label
    return inside & (np.roll(inside, 2, axis=2) ^ inside)


def _edges_beyond(masks, label):
    """Pixels of other labels beside a pixel of this one, on the same row."""
    inside = masks == label
    return ~inside & (np.roll(inside, 2, axis=2) ^ inside)


# --- folders


@pytest.fixture
def folders(tmp_path):
    """Six pictures of 20 x 30 pixels, left half red and class 0, right half blue and class 2."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :15, 0] = picture[:, 15:, 2] = 200
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 15:], labels[0] = 2, VOID
    for number in range(6):
        Image.fromarray(picture).save(images / f"{number}.png")
        Image.fromarray(labels).save(masks / f"{number}.png")
    return images, masks


def test_folders_are_read_and_scaled(folders):
    source = open_folders(*folders, height=10, width=16)

    scenes = source.load()

    assert (source.count, source.classes) == (6, 3)
    assert scenes.images.shape == (6, 10, 16, 3)
    assert scenes.images[0, 5, 0].tolist() == [200, 0, 0]
    assert scenes.masks[0, 5].tolist() == [0] * 8 + [2] * 8
    assert set(np.unique(scenes.masks)) <= {0, 2, VOID}


def test_masks_with_a_palette_are_read_by_number(folders):
    images, masks = folders
    labels = Image.fromarray(np.full((20, 30), 4, np.uint8))
    coloured = labels.convert("P")
    coloured.putpalette([7 * i % 256 for i in range(768)])
    coloured.save(masks / "0.png")
    number = int(np.asarray(coloured)[0, 0])

    source = open_folders(images, masks, height=10, width=10)

    assert source.load().masks[0, 0, 0] == number


def test_the_key_of_folders_follows_what_is_in_the_files(folders):
    images, masks = folders
    before = inputs_key((open_folders(images, masks, 10, 10),))

    Image.fromarray(np.full((20, 30, 3), 7, np.uint8)).save(images / "3.png")

    assert inputs_key((open_folders(images, masks, 10, 10),)) != before


def test_every_picture_needs_a_mask(folders):
    images, masks = folders
    (masks / "2.png").unlink()

    with pytest.raises(ConfigurationError, match=r"'2'.*mask of the same name"):
        open_folders(images, masks, 10, 10)


def test_a_missing_folder_is_named(folders):
    with pytest.raises(ConfigurationError, match=r"no folder .*elsewhere"):
        open_folders(folders[0], folders[0] / "elsewhere", 10, 10)


def test_a_few_pictures_are_too_few(folders):
    for folder in folders:
        for number in range(4):
            (folder / f"{number}.png").unlink()

    with pytest.raises(ConfigurationError, match=r"has 2 pictures .* 5 or more"):
        open_folders(*folders, 10, 10)


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_no_picture_is_named(folders, which):
    (folders[which] / "3.png").write_bytes(b"not a picture")

    with pytest.raises(ConfigurationError, match=r"3\.png' cannot be read as a picture"):
        open_folders(*folders, 10, 10)


def test_two_pictures_of_one_name_are_named(folders):
    images, masks = folders
    Image.open(images / "3.png").save(images / "3.bmp")

    with pytest.raises(ConfigurationError, match=r"3\.bmp' and '3\.png' have the same name"):
        open_folders(images, masks, 10, 10)


def test_hidden_files_are_no_pictures(folders):
    for folder in folders:
        (folder / "._3.png").write_bytes(b"what other systems leave")

    assert open_folders(*folders, 10, 10).count == 6


def test_masks_in_colour_are_refused(folders):
    images, masks = folders
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(masks / "1.png")

    with pytest.raises(ConfigurationError, match=r"1\.png' is of mode 'RGB'.*class numbers"):
        open_folders(images, masks, 10, 10)


@pytest.mark.parametrize("fill", [0, VOID])
def test_masks_of_one_class_are_refused(folders, fill):
    images, masks = folders
    for path in masks.iterdir():
        Image.fromarray(np.full((20, 30), fill, np.uint8)).save(path)

    with pytest.raises(ConfigurationError, match="at most one class"):
        open_folders(images, masks, 10, 10)


def test_folders_without_pillow_name_the_extra(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(MissingExtraError, match=r"eeipu\[benchmarks\]"):
        open_folders(*folders, 10, 10)
