"""The demo: tune a real three-stage pipeline twice on the same budget, and compare.

Fifty handwritten digits have labels; a thousand others are held out for the score. The pipeline
`augment -> embed -> classify` draws distorted copies of the fifty, turns every picture into
features with a dictionary of small patches (Coates, Lee and Ng 2011), and fits a linear
classifier. The score is the accuracy on the held-out digits. The first two stages take nearly all
of the time, so that a trial which changes only the last one is almost free where stage outputs
are remembered.

Every stage is deterministic: its random numbers come from a fixed seed, and they are scaled by the
hyper-parameters, not redrawn, so that a small change of a hyper-parameter is a small change of the
pictures.

Notation:
    n: number of pictures.
    s: side of a drawn picture in pixels, `SIDE`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from eeipu.cache import IN_MEMORY
from eeipu.errors import MissingExtraError
from eeipu.pipeline import Pipeline
from eeipu.plots import plot_best_over_budget
from eeipu.space import Categorical, Float, Int
from eeipu.stages import stage

try:
    import matplotlib.figure  # noqa: F401 - only drawn with at the end, but missed at the start
    from sklearn.datasets import load_digits
    from sklearn.linear_model import RidgeClassifier
except ImportError as error:
    raise MissingExtraError(
        f'the demo needs scikit-learn and matplotlib ({error}): pip install "eeipu[demo]"'
    ) from error

__all__ = [
    "Digits",
    "Summary",
    "augment",
    "classify",
    "digits_pipeline",
    "embed",
    "load",
    "run_demo",
    "summarize",
]

Array = NDArray[np.float32]

LABELLED_PER_CLASS = 5  # so few that augmentation matters
HELD_OUT = 1000  # so many that one digit more or less moves the accuracy by a tenth of a point

SOURCE_SIDE = 8  # of scikit-learn's digits
SIDE = 24  # of drawn pictures: large enough for patches of many sizes
OVERSAMPLING = 2  # pictures are drawn twice as large and averaged down, against jagged strokes
BORDER = 2  # black pixels around a source picture, for strokes that end at its edge

PATCH_SAMPLE = 4000  # patches to learn the dictionary from; the covariance has at most 144^2 terms
ACTIVATION_THRESHOLD = 0.25  # how alike a patch and a filter must be to count, in whitened units
BATCH = 50  # pictures embedded at a time: their patches take about 20 MB


@dataclass(frozen=True)
class Digits:
    """Labelled pictures to learn from, and held-out ones to be scored on.

    Attributes:
        train: `n x side x side` pictures in `[0, 1]`, or `n x features` once embedded.
        train_labels: `n` labels, 0 to 9.
        held_out: Likewise, never seen by a classifier.
        held_out_labels: Likewise.
    """

    train: Array
    train_labels: NDArray[np.int64]
    held_out: Array
    held_out_labels: NDArray[np.int64]


def load() -> Digits:
    """Scikit-learn's handwritten digits, 50 of them labelled and 1000 held out, always the same."""
    pictures, labels = load_digits(return_X_y=True)
    pictures = (pictures / 16.0).reshape(-1, SOURCE_SIDE, SOURCE_SIDE).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.concatenate([order[labels[order] == c][:LABELLED_PER_CLASS] for c in range(10)])
    held_out = order[~np.isin(order, train)][:HELD_OUT]
    return Digits(pictures[train], labels[train], pictures[held_out], labels[held_out])


@stage(
    space={
        "copies": Int(2, 64, log=True),
        "degrees": Float(0.0, 45.0),
        "shift": Float(0.0, 2.0),
        "warp": Float(0.0, 1.5),
    }
)
def augment(
    digits: Digits, *, copies: int, degrees: float, shift: float, warp: float
) -> Digits:
    """Draw every labelled picture once as it is and `copies` times distorted, `s x s` large.

    Args:
        digits: The pictures as they were scanned.
        copies: Distorted copies of each.
        degrees: The largest rotation, either way.
        shift: The largest shift, in pixels of the source, either way, along each axis.
        warp: Standard deviation of a smooth random bending, in pixels of the source.
    """
    rng = np.random.default_rng(0)
    count = len(digits.train)
    strokes = _spline_coefficients(digits.train)
    drawn = [_draw(strokes, np.broadcast_to(_canvas(), (count, *_canvas().shape)))]
    for _ in range(copies):
        angles = np.deg2rad(degrees) * rng.uniform(-1.0, 1.0, count)
        shifts = shift * rng.uniform(-1.0, 1.0, (count, 2, 1, 1))
        bends = warp * _smooth_noise(rng, count)
        drawn.append(_draw(strokes, _rotated(angles) + shifts + bends))
    held_out = _spline_coefficients(digits.held_out)
    return replace(
        digits,
        train=np.concatenate(drawn),
        train_labels=np.tile(digits.train_labels, copies + 1),
        held_out=_draw(held_out, np.broadcast_to(_canvas(), (len(held_out), *_canvas().shape))),
    )


def _canvas() -> Array:
    """Where the pixels to draw lie, in pixels of the source from its centre."""
    fine = SIDE * OVERSAMPLING
    ticks = ((np.arange(fine) + 0.5) / fine - 0.5) * SOURCE_SIDE
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij")).astype(np.float32)


def _rotated(angles: Any) -> Any:
    rows, columns = _canvas()
    cos, sin = (f(angles)[:, None, None] for f in (np.cos, np.sin))
    return np.stack([cos * rows - sin * columns, sin * rows + cos * columns], axis=1)


def _smooth_noise(rng: np.random.Generator, count: int) -> Any:
    """Two smooth random fields a picture, of about unit variance."""
    knots = rng.standard_normal((count, 2, 4, 4))
    factor = SIDE * OVERSAMPLING / 4
    return ndimage.zoom(knots, (1, 1, factor, factor), order=3, mode="nearest", grid_mode=True)


def _spline_coefficients(pictures: Array) -> Any:
    padded = np.pad(pictures, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))
    return ndimage.spline_filter1d(ndimage.spline_filter1d(padded, axis=1), axis=2)


def _draw(strokes: Any, positions: Any) -> Array:
    centre = BORDER + (SOURCE_SIDE - 1) / 2
    fine = np.stack(
        [
            ndimage.map_coordinates(picture, at + centre, order=3, prefilter=False)
            for picture, at in zip(strokes, positions, strict=True)
        ]
    )
    blocks = fine.reshape(len(fine), SIDE, OVERSAMPLING, SIDE, OVERSAMPLING)
    return blocks.mean(axis=(2, 4)).astype(np.float32)


@stage(
    space={
        "filters": Int(16, 256, log=True),
        "patch": Int(3, 12),
        "pooling": Categorical(["mean", "max"]),
        "whitening": Float(1e-4, 1.0, log=True),
    }
)
def embed(digits: Digits, *, filters: int, patch: int, pooling: str, whitening: float) -> Digits:
    """Describe each picture by how much each quarter of it looks like each filter."""
    rng = np.random.default_rng(0)
    chosen = _patches(digits.train[rng.integers(len(digits.train), size=PATCH_SAMPLE)], patch)
    sample = chosen[np.arange(PATCH_SAMPLE), rng.integers(chosen.shape[1], size=PATCH_SAMPLE)]
    mean = sample.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(sample.T))
    whiten = (axes / np.sqrt(np.maximum(variances, 0.0) + whitening)) @ axes.T
    white = (sample - mean) @ whiten
    lengths = np.linalg.norm(white, axis=1)
    busy = np.flatnonzero(lengths > np.median(lengths))[:filters]
    dictionary = whiten @ (white[busy] / lengths[busy, None]).T
    offset = mean @ dictionary + ACTIVATION_THRESHOLD
    pool = np.mean if pooling == "mean" else np.max
    def features(pictures):
        return np.concatenate([
            _f(pictures[i:i+BATCH], patch, dictionary.astype(np.float32), offset.astype(np.float32), pool)
            for i in range(0, len(pictures), BATCH)])
    return replace(digits, train=features(digits.train), held_out=features(digits.held_out))

def _f(pictures, patch, dictionary, offset, pool):
    a = np.maximum(_patches(pictures, patch) @ dictionary - offset, 0)
    side = SIDE + 1 - patch
    a = a.reshape(len(a), side, side, -1)
    h = side // 2
    return np.concatenate([pool(a[:, r, c], axis=(1, 2)) for r in (slice(h), slice(-h,None)) for c in (slice(h), slice(-h,None))], axis=1)

def _patches(pictures, patch):
    windows = sliding_window_view(pictures, (patch, patch), axis=(1, 2))
    return windows.reshape(len(pictures), -1, patch * patch)

@stage(space={"alpha": Float(1e-4, 10.0, log=True), "power": Float(0.1, 1.0)})
def classify(digits: Digits, *, alpha: float, power: float) -> float:
    train, held_out = digits.train**power, digits.held_out**power
    scale = train.std(axis=0).mean()
    model = RidgeClassifier(alpha=alpha * len(train)).fit(train / scale, digits.train_labels)
    return float(model.score(held_out / scale, digits.held_out_labels))
