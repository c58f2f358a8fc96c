"""Materials: crops of real textures and photographs with which scenes are painted.

All photographs are part of the wheels of scikit-image and scikit-learn; nothing is downloaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from eeipu.errors import MissingExtraError

__all__ = ["MATERIALS", "Material", "photograph", "swatch"]

Array = NDArray[np.float32]
Levels = NDArray[np.uint8]
Photographs = Mapping[str, Callable[[], Levels]]

REFERENCE_SIDE = 96  # pixels: the height of scenes for which `Material.reduction` is given


@dataclass(frozen=True)
class Material:
    """A part of a photograph with a uniform texture.

    Attributes:
        name: A description.
        source: The name of the photograph in scikit-image, or a file of scikit-learn (`*.jpg`).
        rows: First row and end of the crop, in pixels of the photograph.
        columns: First column and end of the crop, in pixels of the photograph.
        reduction: The number of pixels of the photograph for each pixel of a scene of the
            reference height, such that a typical detail (a brick, a blade of grass) fits into an
            object.
        tint: Factors of red, green and blue, since some photographs are grey.
    """

    name: str
    source: str
    rows: tuple[int, int]
    columns: tuple[int, int]
    reduction: float
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)


# The first is the ground. Gravel, print and moon are grey, and differ in texture and brightness.
MATERIALS = (
    Material("grass", "grass", (0, 512), (0, 512), 2.5, (0.85, 1.0, 0.7)),
    Material("gravel", "gravel", (0, 512), (0, 512), 2.5),
    Material("brick", "brick", (0, 512), (0, 512), 4.0, (1.1, 0.85, 0.8)),
    Material("foliage", "china.jpg", (330, 427), (230, 640), 1.5),
    Material("dusk", "rocket", (0, 260), (0, 640), 3.0, (1.0, 1.2, 1.5)),
    Material("print", "page", (40, 150), (0, 384), 2.0),
    Material("wood", "coffee", (0, 400), (0, 75), 1.5, (0.7, 0.7, 0.7)),
    Material("fur", "chelsea", (0, 90), (60, 330), 1.5),
    Material("moon", "moon", (0, 512), (0, 512), 4.0, (1.5, 1.5, 1.6)),
    Material("petals", "flower.jpg", (130, 320), (215, 400), 2.0, (1.0, 1.1, 0.8)),
    Material("retina", "retina", (350, 1050), (350, 1050), 8.0),
    Material("stars", "hubble_deep_field", (0, 872), (0, 1000), 4.0),
)


def photograph(source: str) -> Levels:
    """Load a photograph, `height x width x 3`, from 0 to 255; grey ones get three equal channels.

    Raises:
        MissingExtraError: scikit-image or scikit-learn is not installed.
    """
    skimage_data, load_sample_image = _libraries()
    is_sample = source.endswith(".jpg")
    pixels = load_sample_image(source) if is_sample else getattr(skimage_data, source)()
    channels = np.atleast_3d(pixels)
    return np.broadcast_to(channels, (*channels.shape[:2], 3))


def swatch(material: Material, height: int) -> Array:
    """The texture of a material for scenes of some height.

    Args:
        material: The material.
        height: The height of the scenes in pixels.

    Returns:
        Colours, `rows x columns x 3`, from 0 to 1.
    """
    from PIL import Image  # both libraries depend on it

    crop = photograph(material.source)[slice(*material.rows), slice(*material.columns)]
    scale = height / REFERENCE_SIDE / material.reduction
    rows, columns = (round(scale * side) for side in crop.shape[:2])
    # The width of Pillow's triangular filter grows with the reduction, which avoids aliasing.
    reduced = Image.fromarray(crop).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.array(material.tint, np.float32) * (np.asarray(reduced, np.float32) / 255.0)


def _libraries() -> tuple[ModuleType, Callable[[str], NDArray[np.uint8]]]:
    try:
        from skimage import data
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise MissingExtraError(
            f"the scenes of the segmentation benchmark need scikit-image and scikit-learn "
            f'({error}); pip install "eeipu[benchmarks]"'
        ) from error
    return data, load_sample_image
