"""The demo: tune a real three-stage pipeline twice on the same budget, and compare.

Fifty handwritten digits have labels; a thousand others are held out for the score. The pipeline
`augment -> embed -> classify` draws distorted copies of the fifty, describes every picture by a
dictionary of small patches (Coates, Lee and Ng 2011), and fits a linear classifier. The score is
the accuracy on the held-out digits. The first two stages take nearly all of the time, so a trial
that changes only the last one is almost free where stage outputs are remembered.

Every stage is deterministic. Its random numbers come from a fixed seed, and hyper-parameters
scale them, so that a small change of a hyper-parameter is a small change of the pictures.

Notation:
    n: number of pictures; b: of those embedded at a time.
    w: side of a scanned picture, `SCAN_SIDE` pixels.
    s: side of a drawn picture, `SIDE` pixels; f = s * OVERSAMPLING: before averaging down.
    p: side of a patch, in pixels of a drawn picture; m: number of filters.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from eeipu.errors import MissingExtraError
from eeipu.pipeline import Pipeline
from eeipu.report.figures import plot_best_over_budget
from eeipu.space import Categorical, Float, Int
from eeipu.stages.declaration import stage

try:
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits
    from sklearn.linear_model import RidgeClassifier
    from threadpoolctl import threadpool_limits
except ImportError as error:
    raise MissingExtraError(
        f'the demo needs scikit-learn and matplotlib ({error}); pip install "eeipu[demo]"'
    ) from error

__all__ = [
    "Digits",
    "Summary",
    "augment",
    "classify",
    "comparison",
    "digits_pipeline",
    "embed",
    "load",
    "run_demo",
    "summarize",
]

Array = NDArray[Any]

LABELLED_PER_CLASS = 5  # so few that augmentation matters
HELD_OUT = 1000  # so many that a digit more or less moves the accuracy by a tenth of a point

SCAN_SIDE = 8  # of scikit-learn's digits
BORDER = 2  # black pixels around a scan, for strokes that end at its edge
SIDE = 28  # large enough for patches of many sizes; that of MNIST
OVERSAMPLING = 2  # pictures are drawn twice as large and averaged down, for smooth strokes
KNOTS = SCAN_SIDE  # control points along each axis of a random bend: one a scanned pixel

PATCH_SAMPLE = 4000  # to learn whitening from: many times the 196 pixels of the largest patch
THRESHOLD = 0.5  # how much a patch must look like a filter to count, in whitened units
BATCH = 50  # pictures embedded at a time: their patches and activations take about 20 MB


@dataclass(frozen=True)
class Digits:
    """Labelled pictures to learn from, and held-out ones to be scored on.

    Attributes:
        train: `n x side x side`, brightness from 0 to 1; once embedded, `n x features`.
        train_labels: `n`, from 0 to 9.
        held_out: Likewise; nothing is learnt from them.
        held_out_labels: Likewise.
    """

    train: Array
    train_labels: Array
    held_out: Array
    held_out_labels: Array


def load() -> Digits:
    """Scikit-learn's handwritten digits, always the same 50 labelled and 1000 held out."""
    pixels, labels = load_digits(return_X_y=True)
    pictures = (pixels / 16.0).reshape(-1, SCAN_SIDE, SCAN_SIDE)
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.concatenate([order[labels[order] == c][:LABELLED_PER_CLASS] for c in range(10)])
    held_out = order[~np.isin(order, train)][:HELD_OUT]
    return Digits(pictures[train], labels[train], pictures[held_out], labels[held_out])


# --- augment: draw the pictures larger, and distorted copies of the labelled ones


@stage(
    space={
        "copies": Int(4, 64, log=True),
        "degrees": Float(0.0, 45.0),
        "shift": Float(0.0, 2.0),
        "warp": Float(0.0, 1.0),
    }
)
def augment(digits: Digits, *, copies: int, degrees: float, shift: float, warp: float) -> Digits:
    """Draw all pictures as they are, and the labelled ones distorted as well.

    Args:
        digits: Scanned pictures, `n x w x w`.
        copies: Distorted copies of each labelled picture.
        degrees: Each copy is turned by at most so much, either way.
        shift: Each is moved by at most so many scanned pixels, either way, along both axes.
        warp: Each is bent smoothly; the standard deviation of the bend, in scanned pixels.

    Returns:
        Drawn pictures, `n x s x s`; of the labelled ones, `copies + 1` each.
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
    """Where the pixels of a drawing lie: rows and columns from the scan's centre, `2 x f x f`."""
    count = SIDE * OVERSAMPLING
    ticks = ((np.arange(count) + 0.5) / count - 0.5) * SCAN_SIDE
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"))


def _turned(angles: Array) -> Array:
    """How far turns by `angles` (`n`, in radians) move the canvas, `n x 2 x f x f`."""
    rows, columns = _canvas()
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    turned: Array = np.stack([cos * rows - sin * columns, sin * rows + cos * columns], axis=1)
    return turned - _canvas()


def _smooth_noise(rng: np.random.Generator, count: int) -> Array:
    """Smooth random moves of the canvas with unit variance everywhere, `n x 2 x f x f`."""
    ticks, knots = np.linspace(0.0, KNOTS - 1.0, SIDE * OVERSAMPLING), np.arange(KNOTS)
    bumps = np.exp(-0.5 * (ticks[:, None] - knots) ** 2)
    bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
    noise: Array = bumps @ rng.standard_normal((count, 2, KNOTS, KNOTS)) @ bumps.T
    return noise


def _draw(pictures: Array, moves: Array) -> Array:
    """Draw scanned pictures (`n x w x w`) on a canvas that moves have bent; `n x s x s`."""
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
    """Describe each picture by how much its quarters look like patches of the labelled ones.

    Args:
        digits: Drawn pictures, `n x s x s`.
        filters: Size of the dictionary.
        patch: Side of its patches, in pixels.
        pooling: Whether a quarter counts by its mean likeness, or by its greatest.
        whitening: Variance added to every direction of patch space before it is whitened; the
            larger, the less the finest differences count.

    Returns:
        Features, `n x (4 * filters)`, none negative.
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
    """Patches from random places of random pictures (`n x s x s`), `PATCH_SAMPLE x p^2`."""
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
    """Filters that compare a patch with some of a sample, by their cosines after whitening.

    Args:
        sample: Patches, `PATCH_SAMPLE x p^2`; the first that show more than the median serve.
        filters: How many do.
        whitening: Variance added to every direction.

    Returns:
        Weights (`p^2 x m`) and offsets (`m`): a patch's likeness is `patch @ weights - offsets`.
    """
    mean = sample.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(sample, rowvar=False))
    # Directions without variance come out a rounding error below zero.
    whiten = axes / np.sqrt(np.maximum(variances, 0.0) + whitening) @ axes.T
    white = (sample - mean) @ whiten
    contrast = np.linalg.norm(white, axis=1)
    chosen = np.flatnonzero(contrast > np.median(contrast))[:filters]
    weights = whiten @ (white[chosen] / contrast[chosen, None]).T
    return weights.astype(np.float32), (mean @ weights + THRESHOLD).astype(np.float32)


def _likeness(pictures: Array, patch: int, weights: Array, offsets: Array) -> Array:
    """How much each place of each picture looks like each filter, `b x rows x columns x m`."""
    windows = _windows(pictures, patch)
    # One large product; a stack of small ones is slower by far.
    likeness = np.maximum(windows.reshape(-1, patch**2) @ weights - offsets, 0.0)
    stacked: Array = likeness.reshape(*windows.shape[:3], -1)
    return stacked


def _pooled(likeness: Array, pool: Callable[..., Array]) -> Array:
    """One number a filter for each quarter, `b x 4m`; the quarters share a middle line if any."""
    half = math.ceil(likeness.shape[1] / 2)
    sides = (slice(None, half), slice(-half, None))
    quarters = [likeness[:, rows, columns] for rows in sides for columns in sides]
    return np.concatenate([pool(quarter, axis=(1, 2)) for quarter in quarters], axis=1)


# --- classify: the cheap stage


@stage(space={"alpha": Float(1e-4, 10.0, log=True), "power": Float(0.1, 2.0)})
def classify(digits: Digits, *, alpha: float, power: float) -> float:
    """Fit a linear classifier to the labelled features, and score it on the held-out ones.

    Args:
        digits: Features, `n x features`.
        alpha: Ridge penalty, for each picture that is learnt from.
        power: What features are raised to: the smaller, the more their mere presence counts.

    Returns:
        Accuracy on the held-out digits, from 0 to 1.
    """
    # In double precision: with a small penalty the normal equations are near singular.
    train, held_out = (each.astype(np.float64) ** power for each in (digits.train, digits.held_out))
    model = RidgeClassifier(alpha=alpha * len(train) * train.var(axis=0).mean())
    with _one_core():
        model.fit(train, digits.train_labels)
        return float(model.score(held_out, digits.held_out_labels))


def _one_core() -> AbstractContextManager[Any]:
    """Let matrix products run on one core, which is what the stages declare.

    On more, their cost would depend on whatever else the machine does: threads wait for each
    other actively, and a stage that shares its cores takes many times longer.
    """
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limits


def digits_pipeline() -> Pipeline:
    """The pipeline that the demo tunes; its input is `load()`."""
    return Pipeline([augment, embed, classify], name="digits")


# --- the comparison


@dataclass(frozen=True)
class Summary:
    """What a study found, and where its time went.

    Attributes:
        candidates: Configurations that were evaluated.
        failed: Trials that gave no value.
        best: The best value; NaN if there is none.
        gain: How much better than the best of the warm-up; NaN if either is missing.
        stage_s: Seconds spent executing each stage.
        loading_s: Seconds spent loading remembered stage outputs.
        saved_s: Seconds that the remembered outputs had cost when they were made.
        optimiser_s: Seconds spent choosing configurations.
    """

    candidates: int
    failed: int
    best: float
    gain: float
    stage_s: tuple[float, ...]
    loading_s: float
    saved_s: float
    optimiser_s: float


def summarize(study: optuna.Study, *, warm_up: int) -> Summary:
    """Sum up a study that maximises and whose costs are seconds.

    Args:
        study: What `Tuner.run` returned.
        warm_up: Number of warm-up trials.
    """
    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = _best(complete)
    costs = [trial.user_attrs["stage_costs"] for trial in trials]
    stage_s = tuple(math.fsum(cost or 0.0 for cost in stage) for stage in zip(*costs, strict=True))
    return Summary(
        candidates=len(complete),
        failed=len(trials) - len(complete),
        best=best,
        gain=best - _best([trial for trial in complete if trial.number < warm_up]),
        stage_s=stage_s,
        loading_s=max(0.0, _total(trials, "charged") - math.fsum(stage_s)),
        saved_s=_total(trials, "saved"),
        optimiser_s=_total(trials, "suggest_s"),
    )


def _best(trials: Sequence[FrozenTrial]) -> float:
    return max((trial.values[0] for trial in trials), default=math.nan)


def _total(trials: Sequence[FrozenTrial], attribute: str) -> float:
    return math.fsum(trial.user_attrs.get(attribute, 0.0) for trial in trials)


def comparison(summaries: dict[str, Summary], stage_names: Sequence[str]) -> Table:
    """A table with one column for each study.

    Args:
        summaries: The studies by their names.
        stage_names: The names of the pipeline's stages.
    """
    table = Table(title="Handwritten digits: 50 labelled, 1000 held out")
    table.add_column("")
    for name in summaries:
        table.add_column(name, justify="right")

    found = summaries.values()
    table.add_row("candidates evaluated", *(f"{each.candidates}" for each in found))
    if any(each.failed for each in found):
        table.add_row("trials that failed", *(f"{each.failed}" for each in found))
    table.add_row("best accuracy", *(f"{each.best:.1%}" for each in found))
    table.add_row("gain since warm-up", *(f"{100 * each.gain:+.1f} points" for each in found))
    table.add_section()
    for name, amounts in zip(
        stage_names, zip(*(s.stage_s for s in found), strict=True), strict=True
    ):
        table.add_row(f"time in {name}", *map(_seconds, amounts))
    table.add_row("loading from the cache", *(_seconds(each.loading_s) for each in found))
    table.add_section()
    table.add_row("saved by the cache", *(_seconds(each.saved_s) for each in found))
    table.add_row("optimiser's own time", *(_seconds(each.optimiser_s) for each in found))
    return table


def _seconds(amount: float) -> str:
    return f"{amount:.1f} s"


def run_demo(*, budget: float, seed: int, out: Path, console: Console) -> None:
    """Tune the digits pipeline twice, print a table and save a picture of both searches.

    Args:
        budget: Seconds of stage time for each search.
        seed: Of both searches; it fixes the warm-up points, which they share.
        out: The directory for the picture, `best-over-budget.png`.
        console: Where to print.

    Raises:
        ConfigurationError: `budget` is not positive.
    """
    # Not above: a worker process that imports the stages needs no torch.
    from eeipu.methods.maximisation import quasi_random
    from eeipu.tuner import Tuner

    start = time.perf_counter()
    pipeline, digits = digits_pipeline(), load()
    tuners = {
        "EEIPU with a cache": Tuner(pipeline, budget=budget, method="eeipu", seed=seed),
        "EI without a cache": Tuner(pipeline, budget=budget, method="ei", cache=None, seed=seed),
    }
    # Independent points for both: designs that share prefixes are for searches with a cache.
    warm_up = next(iter(tuners.values())).n_initial
    for point in quasi_random(len(pipeline.cube), warm_up, seed):
        for tuner in tuners.values():
            tuner.enqueue(pipeline.cube.decode(point))
    for name, tuner in tuners.items():
        console.print(f"{name}: {budget:g} seconds of stage time")
        tuner.run(digits)
        if tuner.remaining > 0.0:  # Ctrl-C, or stages that only fail; the tuner has said which
            console.print("The search ended before its budget, so there is nothing to compare.")
            return
    studies = {name: tuner.study for name, tuner in tuners.items()}
    summaries = {name: summarize(study, warm_up=warm_up) for name, study in studies.items()}
    console.print(comparison(summaries, pipeline.stage_names))
    picture = _save_picture(studies, warm_up, out)
    console.print(f"A picture of both searches: {picture}", soft_wrap=True)
    console.print(f"The demo took {time.perf_counter() - start:.0f} seconds.")


def _save_picture(studies: dict[str, optuna.Study], warm_up: int, out: Path) -> Path:
    """Draw both searches into a file in the directory `out`; its path."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = plot_best_over_budget(studies, warm_up=warm_up, ax=figure.add_subplot())
    axes.set_xlabel("seconds of stage time spent")
    axes.set_ylabel("best accuracy on held-out digits")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "best-over-budget.png"
    figure.savefig(path, dpi=150)
    return path
