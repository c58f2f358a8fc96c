"""Generated scenes: pictures of objects on a ground, with the exact class of every pixel.

A scene is painted from back to front: first the ground, then objects, each of one class. Objects
hide those behind them and can reach over the border. A class has a material and a shape; pattern,
place, size, angle and proportions of each object are random. Then the effects of a camera are
added to the picture, and not to the mask: light from one side, a colour cast, blur and noise.
Later classes in `CLASSES` are rarer.

Notation:
    n: number of scenes.
    h, w: height and width in pixels.
    u, v: position relative to the centre and the axes of an object, in units of half its length
        and half its breadth.
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

VOID = 255  # label of pixels of unknown class, which count neither in training nor in the score


@dataclass(frozen=True)
class Scenes:
    """Pictures and their masks.

    Attributes:
        images: The pictures, `n x h x w x 3`, from 0 to 255.
        masks: The class of each pixel, `n x h x w`, from 0, or `VOID`.
    """

    images: Labels
    masks: Labels


class SceneSource(Protocol):
    """A source of scenes, small enough to be the input of a run and to be sent to workers."""

    @property
    def count(self) -> int:
        """The number of scenes."""

    @property
    def classes(self) -> int:
        """The number of classes, including the ground."""

    def load(self) -> Scenes:
        """Return all scenes, the same ones at every call."""


@dataclass(frozen=True)
class SceneClass:
    """A class of objects.

    Attributes:
        material: The index of its material in `MATERIALS`.
        shape: Its outline.
        size: The smallest and the largest half length, as shares of the height of a scene.
        proportion: The smallest and the largest ratio of breadth to length.
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


# One class for each material. The gravel is a path, longer than any scene, so that it crosses it.
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

RARITY = 0.86  # frequency relative to the class before: the last is 4.5 times rarer than the first
OBJECTS = (6, 12)  # in a scene, least and most: they cover about half of it
ZOOM = (0.8, 1.25)  # of the pattern of an object, least and most
SLOPE = 0.3  # largest change of the light from the centre to an edge
CAST = 0.08  # largest change of a colour channel
BLUR = 0.7  # pixels: the standard deviation of the blur of a lens
NOISE = (0.03, 0.07)  # standard deviation of the noise, least and most, for brightness from 0 to 1


@dataclass(frozen=True)
class GeneratedScenes:
    """Scenes drawn by a seeded generator.

    Attributes:
        count: The number of scenes.
        height: The height of the scenes in pixels.
        width: The width of the scenes in pixels.
        seed: The seed. A scene depends only on the seed and on its number.
    """

    count: int
    height: int
    width: int
    seed: int

    @property
    def classes(self) -> int:
        """The number of classes, including the ground."""
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
    """Paint one object into `image` and `mask`, over everything that was painted before."""
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
    """The rows and columns that an object can cover, so that only these are computed."""
    cos, sin = abs(np.cos(angle)), abs(np.sin(angle))
    reach = np.array([cos * length + sin * breadth, sin * length + cos * breadth])
    first = np.clip(np.floor(centre - reach), 0, shape).astype(int)
    end = np.clip(np.ceil(centre + reach) + 1, 0, shape).astype(int)
    return slice(first[0], end[0]), slice(first[1], end[1])


def _looked_up(pattern: Array, place: Array) -> Array:
    """The nearest pixels of a pattern that is mirrored at its edges, `2 x k -> k x 3`."""
    rows, columns = (
        _mirrored(np.rint(along).astype(np.int64), side)
        for along, side in zip(place, pattern.shape, strict=False)
    )
    return pattern[rows, columns]


def _mirrored(index: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Map any index to `0 ... side - 1`, as if mirrors stood at both ends."""
    turned = index % (2 * side)
    return np.minimum(turned, 2 * side - 1 - turned)


def _turned(y: Array, x: Array, angle: float) -> Array:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return np.stack([cos * y - sin * x, sin * y + cos * x])


def _exposed(image: Array, rng: Generator) -> Labels:
    """The picture that a camera would take of a painted scene."""
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
