"""The demo's pipeline: recognise handwritten digits from fifty labelled pictures.

Fifty handwritten digits have labels; a thousand others are held out for the score. The pipeline
`augment -> embed -> reduce -> classify` draws distorted copies of the fifty, describes every
picture by a dictionary of small patches (Coates, Lee and Ng 2011), keeps the directions in which
pictures differ most, and fits a support vector machine. The score is the accuracy on the held-out
digits.

The pipeline is typical of what people tune in two respects. Making the features takes about nine
tenths of the time, and fitting a model to them the rest. But the score depends on both: for given
features, the model's own hyper-parameters move the accuracy by tens of percentage points.

Every stage is deterministic. Its random numbers come from a fixed seed, and the hyper-parameters
only scale them, so that a small change of a hyper-parameter is a small change of the pictures.

Notation:
    n: number of pictures.
    b: number of pictures that are embedded at a time.
    w: side of a scanned picture, `SCAN_SIDE` pixels.
    s: side of a drawn picture, `SIDE` pixels; f = s * OVERSAMPLING: its side before it is averaged
        down.
    p: side of a patch, in pixels of a drawn picture.
    m: number of filters.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from eeipu.errors import MissingExtraError
from eeipu.pipeline import Pipeline
from eeipu.space import Categorical, Float, Int
from eeipu.stages.decorator import stage

try:
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.svm import SVC
    from threadpoolctl import threadpool_limits
except ImportError as error:
    raise MissingExtraError(
        f'the demo needs scikit-learn and matplotlib ({error}); pip install "eeipu[demo]"'
    ) from error

__all__ = ["Digits", "augment", "classify", "digits_pipeline", "embed", "load", "reduce"]

Array = NDArray[Any]

LABELLED_PER_CLASS = 5  # few enough that augmentation matters
HELD_OUT = 1000  # one digit changes the accuracy by a tenth of a percentage point

SCAN_SIDE = 8  # pixels; that of scikit-learn's digits
BORDER = 2  # black pixels around a scan, for strokes that end at its edge
SIDE = 28  # pixels, as in MNIST; large enough for patches of many sizes
OVERSAMPLING = 2  # pictures are drawn twice as large and averaged down, for smooth strokes
KNOTS = SCAN_SIDE  # control points of a random bend along each axis: one for each scanned pixel

PATCH_SAMPLE = 4000  # patches for whitening: many times the 196 pixels of the largest patch
THRESHOLD = 0.5  # the least similarity of patch and filter that counts, in whitened units
BATCH = 50  # pictures embedded at a time: their patches and activations take about 20 MB


@dataclass(frozen=True)
class Digits:
    """Labelled pictures for training, and held-out pictures for the score.

    Attributes:
        train: Brightness from 0 to 1, `n x side x side`; after `embed`, features, `n x features`.
        train_labels: The digits, `n`, from 0 to 9.
        held_out: Like `train`; no stage is fitted to them.
        held_out_labels: Like `train_labels`.
    """

    train: Array
    train_labels: Array
    held_out: Array
    held_out_labels: Array


def load() -> Digits:
    """Load scikit-learn's handwritten digits, always the same 50 labelled and 1000 others."""
    pixels, labels = load_digits(return_X_y=True)
    pictures = (pixels / 16.0).reshape(-1, SCAN_SIDE, SCAN_SIDE)
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.concatenate([order[labels[order] == c][:LABELLED_PER_CLASS] for c in range(10)])
    held_out = order[~np.isin(order, train)][:HELD_OUT]
    return Digits(pictures[train], labels[train], pictures[held_out], labels[held_out])


# --- augment: draw the pictures larger, and add distorted copies of the labelled ones


@stage(
    space={
        "copies": Int(4, 32, log=True),
        "degrees": Float(0.0, 45.0),
        "shift": Float(0.0, 2.0),
        "warp": Float(0.0, 1.0),
    }
)
def augment(digits: Digits, *, copies: int, degrees: float, shift: float, warp: float) -> Digits:
    """Draw all pictures in a larger size, and distorted copies of the labelled ones.

    Args:
        digits: Scanned pictures, `n x w x w`.
        copies: The number of distorted copies of each labelled picture.
        degrees: The largest angle by which a copy is turned, in both directions.
        shift: The largest distance by which a copy is moved along each axis, in scanned pixels.
        warp: The standard deviation of the smooth bend of a copy, in scanned pixels.

    Returns:
        Drawn pictures, `n x s x s`, with `copies + 1` versions of each labelled one.
    """
    rng = np.random.default_rng(0)
    count = len(digits.train)
    drawn = [_draw(digits.train, np.zeros((count, 1, 1, 1)))]
    for _ in range(copies):
        turns = _turned(np.deg2rad(degrees) * rng.uniform(-1.0, 1.0, count))
        shifts = shift * rng.uniform(-1.0, 1.0, (count, 2, 1, 1))
        drawn.append(_draw(digits.train, turns + shifts + warp * _smooth_noise(rng, count)))
    return replace(
        digits,
        train=np.concatenate(drawn),
        train_labels=np.tile(digits.train_labels, copies + 1),
        held_out=_draw(digits.held_out, np.zeros((len(digits.held_out), 1, 1, 1))),
    )


def _canvas() -> Array:
    """The rows and columns of the pixels of a drawing, from the centre of the scan, `2 x f x f`."""
    count = SIDE * OVERSAMPLING
    ticks = ((np.arange(count) + 0.5) / count - 0.5) * SCAN_SIDE
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"))


def _turned(angles: Array) -> Array:
    """The displacements of the canvas by rotations, `n x 2 x f x f`; `angles`: `n`, in radians."""
    rows, columns = _canvas()
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    turned: Array = np.stack([cos * rows - sin * columns, sin * rows + cos * columns], axis=1)
    return turned - _canvas()


def _smooth_noise(rng: np.random.Generator, count: int) -> Array:
    """Smooth random displacements of the canvas, with variance 1 everywhere, `n x 2 x f x f`."""
    ticks, knots = np.linspace(0.0, KNOTS - 1.0, SIDE * OVERSAMPLING), np.arange(KNOTS)
    bumps = np.exp(-0.5 * (ticks[:, None] - knots) ** 2)
    bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
    noise: Array = bumps @ rng.standard_normal((count, 2, KNOTS, KNOTS)) @ bumps.T
    return noise


def _draw(pictures: Array, moves: Array) -> Array:
    """Draw scanned pictures (`n x w x w`) on a displaced canvas, `n x s x s`."""
    padded = np.pad(pictures, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))
    points = _canvas() + moves + BORDER + (SCAN_SIDE - 1) / 2
    pairs = zip(padded, points, strict=True)
    fine = np.stack([ndimage.map_coordinates(picture, at, order=3) for picture, at in pairs])
    blocks = fine.reshape(-1, SIDE, OVERSAMPLING, SIDE, OVERSAMPLING)
    drawn: Array = blocks.mean(axis=(2, 4)).astype(np.float32)
    return drawn


# --- embed: describe pictures by a dictionary of patches


@stage(
    space={
        "filters": Int(16, 256, log=True),
        "patch": Int(3, 14),
        "pooling": Categorical(["mean", "max"]),
        "whitening": Float(1e-3, 10.0, log=True),
    }
)
def embed(digits: Digits, *, filters: int, patch: int, pooling: str, whitening: float) -> Digits:
    """Describe each picture by the similarity of its quarters to patches of the labelled ones.

    Args:
        digits: Drawn pictures, `n x s x s`.
        filters: The number of patches in the dictionary.
        patch: The side of the patches, in pixels.
        pooling: `"mean"` takes the mean similarity of a quarter, `"max"` the largest.
        whitening: The variance added to every direction of patch space before whitening; larger
            values reduce the influence of fine details.

    Returns:
        Features, `n x (4 * filters)`, all of them non-negative.
    """
    pool = np.mean if pooling == "mean" else np.max
    with _one_core():
        weights, offsets = _dictionary(_sample_patches(digits.train, patch), filters, whitening)

        def describe(pictures: Array) -> Array:
            batches = [pictures[i : i + BATCH] for i in range(0, len(pictures), BATCH)]
            likeness = (_likeness(batch, patch, weights, offsets) for batch in batches)
            return np.concatenate([_pooled(each, pool) for each in likeness])

        return replace(digits, train=describe(digits.train), held_out=describe(digits.held_out))


def _sample_patches(pictures: Array, patch: int) -> Array:
    """Patches at random positions of random pictures (`n x s x s`), `PATCH_SAMPLE x p^2`."""
    rng = np.random.default_rng(0)
    which = rng.integers(len(pictures), size=PATCH_SAMPLE)
    rows, columns = rng.integers(SIDE + 1 - patch, size=(2, PATCH_SAMPLE))
    sample: Array = _windows(pictures, patch)[which, rows, columns]
    return sample.reshape(PATCH_SAMPLE, -1)


def _windows(pictures: Array, patch: int) -> Array:
    """All patches of the pictures, a view `n x (s + 1 - p) x (s + 1 - p) x p x p`."""
    windows: Array = sliding_window_view(pictures, (patch, patch), axis=(1, 2))
    return windows


def _dictionary(sample: Array, filters: int, whitening: float) -> tuple[Array, Array]:
    """Filters that compare a patch with patches of a sample, by their cosines after whitening.

    Args:
        sample: Patches, `PATCH_SAMPLE x p^2`; the first ones with more contrast than the median
            become filters.
        filters: The number of filters.
        whitening: The variance added to every direction.

    Returns:
        Weights (`p^2 x m`) and offsets (`m`); the similarity is `patch @ weights - offsets`.
    """
    mean = sample.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(sample, rowvar=False))
    # Rounding can make the variance of constant directions negative.
    whiten = axes / np.sqrt(np.maximum(variances, 0.0) + whitening) @ axes.T
    white = (sample - mean) @ whiten
    contrast = np.linalg.norm(white, axis=1)
    chosen = np.flatnonzero(contrast > np.median(contrast))[:filters]
    weights = whiten @ (white[chosen] / contrast[chosen, None]).T
    return weights.astype(np.float32), (mean @ weights + THRESHOLD).astype(np.float32)


def _likeness(pictures: Array, patch: int, weights: Array, offsets: Array) -> Array:
    """The similarity of each position of each picture to each filter, `b x rows x columns x m`."""
    windows = _windows(pictures, patch)
    # One large product is much faster than a stack of small ones.
    likeness = np.maximum(windows.reshape(-1, patch**2) @ weights - offsets, 0.0)
    stacked: Array = likeness.reshape(*windows.shape[:3], -1)
    return stacked


def _pooled(likeness: Array, pool: Callable[..., Array]) -> Array:
    """One number for each filter and quarter, `b x 4m`; quarters share a middle line, if any."""
    half = math.ceil(likeness.shape[1] / 2)
    sides = (slice(None, half), slice(-half, None))
    quarters = [likeness[:, rows, columns] for rows in sides for columns in sides]
    return np.concatenate([pool(quarter, axis=(1, 2)) for quarter in quarters], axis=1)


# --- reduce and classify: the cheap stages


@stage(space={"power": Float(0.1, 2.0), "components": Int(4, 64, log=True)})
def reduce(digits: Digits, *, power: float, components: int) -> Digits:
    """Describe each picture by the directions in which the labelled ones differ most.

    Args:
        digits: Features, `n x features`.
        power: The exponent of the features; small values reduce the influence of their size.
        components: The number of directions, at most `features`.

    Returns:
        Features, `n x components`. The variances of the labelled ones add up to 1.
    """
    # In double precision, because the smallest directions are close to the rounding of a float32.
    train, held_out = (each.astype(np.float64) ** power for each in (digits.train, digits.held_out))
    with _one_core():
        found = PCA(components, random_state=0).fit(train)
        train, held_out = found.transform(train), found.transform(held_out)
    scale = math.sqrt(train.var(axis=0).sum())
    return replace(digits, train=train / scale, held_out=held_out / scale)


@stage(space={"penalty": Float(1e-2, 1e3, log=True), "gamma": Float(1e-3, 10.0, log=True)})
def classify(digits: Digits, *, penalty: float, gamma: float) -> float:
    """Fit a support vector machine to the labelled features, and score it on the held-out ones.

    Args:
        digits: Features, `n x components`, whose variances add up to 1.
        penalty: What a unit of hinge loss counts, `C` in scikit-learn.
        gamma: The inverse of the squared width of the Gaussian kernel.

    Returns:
        The accuracy on the held-out digits, from 0 to 1.
    """
    model = SVC(C=penalty, gamma=gamma).fit(digits.train, digits.train_labels)
    return float(model.score(digits.held_out, digits.held_out_labels))


def _one_core() -> AbstractContextManager[Any]:
    """Limit matrix products to one core, the number that the stages declare.

    With several threads, the cost of a stage would depend on the load of the machine: threads
    wait for each other actively, and a stage that shares its cores takes many times longer.
    """
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limits


def digits_pipeline() -> Pipeline:
    """The pipeline that the demo tunes; its input is the result of `load()`."""
    return Pipeline([augment, embed, reduce, classify], name="digits")
