"""Scenes: pictures of objects on a ground, with the exact class of every pixel.

A scene is painted from back to front: the ground, then objects of a class each, which hide what
is behind them and reach over the border. A class is a material and a shape; the pattern, place,
size, angle and proportions are drawn. Then comes what a camera adds to the picture and not to the
mask: light that falls off to one side, a colour cast, blur and noise. Classes that come later in
`CLASSES` are rarer.

Notation:
    n: number of scenes; h, w: height and width in pixels.
    u, v: position in an object's own frame, in half lengths: turned, and 0 at its centre.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from eeipu.benchmarks.segmentation.materials import MATERIALS, swatch

__all__ = ["CLASSES", "VOID", "GeneratedScenes", "SceneSource", "Scenes"]

Array = NDArray[np.float32]
Labels = NDArray[np.uint8]
Inside = NDArray[np.bool_]
Shape = Callable[[Array, Array], Inside]

VOID = 255  # of a mask: nobody knows, so that it neither trains nor counts


@dataclass(frozen=True)
class Scenes:
    """Pictures and their masks.

    Attributes:
        images: `n x h x w x 3`, from 0 to 255.
        masks: `n x h x w`, the class of each pixel, from 0, or `VOID`.
    """

    images: Labels
    masks: Labels


class SceneSource(Protocol):
    """Where scenes come from: small enough to be a run's input and to travel to a worker."""

    @property
    def count(self) -> int:
        """How many scenes there are."""

    @property
    def classes(self) -> int:
        """How many classes there are, the ground included."""

    def load(self) -> Scenes:
        """All scenes, the same at every call."""


@dataclass(frozen=True)
class SceneClass:
    """What the pixels of a class belong to.

    Attributes:
        material: Its place in `MATERIALS`.
        shape: Its outline.
        size: Half lengths, least and largest, in heights of a scene.
        proportion: Breadth to length, least and largest.
    """

    material: int
    shape: Shape
    size: tuple[float, float]
    proportion: tuple[float, float]


def _rectangle(u: Array, v: Array) -> Inside:
    return np.maximum(np.abs(u), np.abs(v)) <= 1.0


def _ellipse(u: Array, v: Array) -> Inside:
    return u**2 + v**2 <= 1.0


def _blob(u: Array, v: Array) -> Inside:
    angle = np.arctan2(v, u)
    inside: Inside = np.hypot(u, v) <= 0.8 + 0.2 * np.cos(3 * angle) * np.cos(2 * angle + 1.0)
    return inside


def _star(u: Array, v: Array) -> Inside:
    inside: Inside = np.hypot(u, v) <= 0.75 + 0.25 * np.cos(5 * np.arctan2(v, u))
    return inside


def _triangle(u: Array, v: Array) -> Inside:
    return (v >= -0.6) & (1.7 * np.abs(u) + v <= 1.0)


# One a material. A path of gravel is longer than any scene, so that it crosses it.
CLASSES = (
    SceneClass(0, _rectangle, (9.0, 9.0), (1.0, 1.0)),
    SceneClass(1, _rectangle, (3.0, 3.0), (0.02, 0.04)),
    SceneClass(2, _rectangle, (0.16, 0.32), (0.5, 1.0)),
    SceneClass(3, _blob, (0.16, 0.32), (0.7, 1.0)),
    SceneClass(4, _blob, (0.12, 0.24), (0.5, 1.0)),
    SceneClass(5, _rectangle, (0.10, 0.20), (0.6, 0.8)),
    SceneClass(6, _rectangle, (0.15, 0.30), (0.2, 0.4)),
    SceneClass(7, _ellipse, (0.10, 0.20), (0.4, 0.7)),
    SceneClass(8, _ellipse, (0.10, 0.20), (0.95, 1.0)),
    SceneClass(9, _star, (0.10, 0.20), (0.95, 1.0)),
    SceneClass(10, _ellipse, (0.08, 0.16), (0.8, 1.0)),
    SceneClass(11, _triangle, (0.10, 0.20), (0.8, 1.0)),
)

RARITY = 0.86  # objects of a class, for one of the class before: the last is 4.5 times rarer
OBJECTS = (6, 12)  # a scene, least and most: about as much is hidden as is ground
ZOOM = (0.8, 1.25)  # of a pattern from object to object
SLOPE = 0.3  # of the light, at most, from the centre to an edge
CAST = 0.08  # of a colour channel, at most
BLUR = 0.7  # pixels; the standard deviation of what a lens spreads
NOISE = (0.03, 0.07)  # standard deviations of a scene's noise, of a brightness from 0 to 1


@dataclass(frozen=True)
class GeneratedScenes:
    """Scenes drawn by a seeded generator.

    Attributes:
        count: How many.
        height: In pixels.
        width: In pixels.
        seed: Of everything that is drawn. A scene depends on it and on its number alone.
    """

    count: int
    height: int
    width: int
    seed: int

    @property
    def classes(self) -> int:
        """How many classes there are, the ground included."""
        return len(CLASSES)

    def load(self) -> Scenes:
        """Draw all scenes.

        Raises:
            MissingExtraError: scikit-image or scikit-learn is not installed.
        """
        swatches = [swatch(material, self.height) for material in MATERIALS]
        drawn = [self._draw(number, swatches) for number in range(self.count)]
        return Scenes(
            np.stack([image for image, _ in drawn]), np.stack([mask for _, mask in drawn])
        )

    def _draw(self, number: int, swatches: Sequence[Array]) -> tuple[Labels, Labels]:
        rng = np.random.default_rng([self.seed, number])
        image = np.zeros((self.height, self.width, 3), np.float32)
        mask = np.zeros((self.height, self.width), np.uint8)
        for label in (0, *_labels(rng)):
            _paint(image, mask, label, swatches[CLASSES[label].material], rng)
        return _exposed(image, rng), mask


def _labels(rng: Generator) -> NDArray[np.int64]:
    """The classes of a scene's objects, from back to front."""
    weights = RARITY ** np.arange(len(CLASSES) - 1)
    count = rng.integers(OBJECTS[0], OBJECTS[1] + 1)
    return 1 + rng.choice(len(weights), size=count, p=weights / weights.sum())


def _paint(image: Array, mask: Labels, label: int, pattern: Array, rng: Generator) -> None:
    """Paint one object over what is there, into `image` and `mask`."""
    kind = CLASSES[label]
    angle, turn = rng.uniform(0.0, 2.0 * np.pi, 2)
    centre = rng.uniform(0.0, 1.0, 2) * mask.shape
    length = rng.uniform(*kind.size) * len(mask)
    breadth = length * rng.uniform(*kind.proportion)
    box = _box(centre, length, breadth, angle, mask.shape)
    y, x = (
        np.arange(s.start, s.stop, dtype=np.float32) - c
        for s, c in zip(box, centre.astype(np.float32), strict=True)
    )
    u, v = _turned(y[:, None], x, angle)
    inside = kind.shape(u / np.float32(length), v / np.float32(breadth))
    mask[box][inside] = label
    place = _turned(y[:, None], x, turn)[:, inside] * np.float32(rng.uniform(*ZOOM))
    start = rng.uniform(0.0, 1.0, 2) * pattern.shape[:2]
    image[box][inside] = _looked_up(pattern, place + start.astype(np.float32)[:, None])


def _box(
    centre: NDArray[np.float64],
    length: float,
    breadth: float,
    angle: float,
    shape: tuple[int, ...],
) -> tuple[slice, slice]:
    """The rows and columns that an object can reach, which saves the work beyond them."""
    cos, sin = abs(np.cos(angle)), abs(np.sin(angle))
    reach = np.array([cos * length + sin * breadth, sin * length + cos * breadth])
    first = np.clip(np.floor(centre - reach), 0, shape).astype(int)
    end = np.clip(np.ceil(centre + reach) + 1, 0, shape).astype(int)
    return slice(first[0], end[0]), slice(first[1], end[1])


def _looked_up(pattern: Array, place: Array) -> Array:
    """The nearest pixels of a pattern, mirrored at its edges: `2 x k -> k x 3`."""
    rows, columns = (
        _mirrored(np.rint(along).astype(np.int64), side)
        for along, side in zip(place, pattern.shape, strict=False)
    )
    return pattern[rows, columns]


def _mirrored(index: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """An index that runs on beyond the last of `side` as if a mirror stood there."""
    turned = index % (2 * side)
    return np.minimum(turned, 2 * side - 1 - turned)


def _turned(y: Array, x: Array, angle: float) -> Array:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return np.stack([cos * y - sin * x, sin * y + cos * x])


def _exposed(image: Array, rng: Generator) -> Labels:
    """The picture that a camera takes of a painted scene."""
    height, width, _ = image.shape
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
    slope_y, slope_x = (rng.uniform(-SLOPE, SLOPE, 2) / np.sqrt(2.0)).astype(np.float32)
    light = 1.0 + slope_y * y[:, None] + slope_x * x
    cast = 1.0 + rng.uniform(-CAST, CAST, 3).astype(np.float32)
    seen = ndimage.gaussian_filter(image * light[..., None] * cast, (BLUR, BLUR, 0.0))
    noise = rng.standard_normal(image.shape, np.float32)
    noisy = seen + np.float32(rng.uniform(*NOISE)) * noise
    levels: Labels = np.round(255.0 * np.clip(noisy, 0.0, 1.0)).astype(np.uint8)
    return levels
