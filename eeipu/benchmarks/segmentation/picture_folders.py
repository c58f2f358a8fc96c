"""Scenes from folders of pictures and masks that the user provides."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeipu.benchmarks.segmentation.scenes import VOID, Scenes
from eeipu.errors import ConfigurationError, MissingExtraError

__all__ = ["FolderScenes", "open_folders"]

Labels = NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
FEWEST = 5  # scenes: with fewer, none would be held out


@dataclass(frozen=True)
class FolderScenes:
    """Scenes in files of pictures and masks; made by `open_folders`.

    Attributes:
        pairs: For each scene the files of the picture and of its mask.
        height: The height to which all are scaled, in pixels.
        width: The width to which all are scaled, in pixels.
        classes: The number of classes: one more than the largest label of all masks.
    """

    pairs: tuple[tuple[Path, Path], ...]
    height: int
    width: int
    classes: int

    @property
    def count(self) -> int:
        """The number of scenes."""
        return len(self.pairs)

    def load(self) -> Scenes:
        """Read and scale all scenes: pictures by averaging areas, masks by the nearest pixel."""
        images = [self._image(image) for image, _ in self.pairs]
        masks = [self._mask(mask) for _, mask in self.pairs]
        return Scenes(np.stack(images), np.stack(masks))

    def _image(self, path: Path) -> Labels:
        box = _pillow().Resampling.BOX
        with _opened(path) as image:
            resized = image.convert("RGB").resize((self.width, self.height), box)
        return np.asarray(resized)

    def _mask(self, path: Path) -> Labels:
        pillow = _pillow()
        mask = pillow.fromarray(_labels(path))
        return np.asarray(mask.resize((self.width, self.height), pillow.Resampling.NEAREST))


def open_folders(images: Path, masks: Path, height: int, width: int) -> FolderScenes:
    """Pair pictures and masks in two folders by their file names without suffix.

    A mask has one channel, grey or with a palette. Its values are the classes 0, 1, ..., 254; the
    value 255 marks pixels whose class is unknown.

    Args:
        images: The folder of the pictures.
        masks: The folder of the masks. Every mask is read once, to find the number of classes.
        height: The height to which all are scaled, in pixels.
        width: The width to which all are scaled, in pixels.

    Returns:
        The scenes; their pictures are not read yet.

    Raises:
        ConfigurationError: A folder does not exist, a picture or mask has no partner, there are
            too few pictures, two files of a folder have the same name without suffix, a file is
            not a picture, or a mask has more than one channel or only one class.
        MissingExtraError: Pillow is not installed.
    """
    pictures, answers = _by_stem(Path(images)), _by_stem(Path(masks))
    alone = sorted(pictures.keys() ^ answers.keys())
    if alone:
        raise ConfigurationError(
            f"{len(alone)} pictures of {str(images)!r} and masks of {str(masks)!r} have no "
            f"partner, such as {alone[0]!r}; give every picture a mask of the same name."
        )
    if len(pictures) < FEWEST:
        raise ConfigurationError(
            f"{str(images)!r} has {len(pictures)} pictures ({', '.join(SUFFIXES)}), which is too "
            f"few to hold some out; pass a folder of {FEWEST} or more."
        )
    for picture in pictures.values():
        with _opened(picture):  # reads only the header, which suffices to detect other files
            pass
    pairs = tuple((pictures[stem], answers[stem]) for stem in sorted(pictures))
    return FolderScenes(pairs, height, width, _class_count([mask for _, mask in pairs]))


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {str(folder)!r}; pass one that exists.")
    # Some programs leave hidden files beside pictures.
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    by_stem = {path.stem: path for path in found}
    for path in found:
        if by_stem[path.stem] != path:
            raise ConfigurationError(
                f"{str(path)!r} and {by_stem[path.stem].name!r} have the same name without suffix; "
                f"remove one of them."
            )
    return by_stem


def _class_count(masks: Sequence[Path]) -> int:
    """The number of classes: one more than the largest label."""
    known = [labels[labels != VOID] for labels in map(_labels, masks)]
    count = 1 + max((int(labels.max()) for labels in known if labels.size), default=0)
    if count < 2:
        raise ConfigurationError(
            f"the masks beside {masks[0].name!r} hold at most one class, so that there is nothing "
            f"to distinguish; number the classes 0, 1, ... (not 0 and 255: {VOID} is unknown)."
        )
    return count


def _labels(path: Path) -> Labels:
    """The labels in a mask file, `rows x columns`."""
    with _opened(path) as mask:
        if mask.mode not in ("L", "P"):
            raise ConfigurationError(
                f"the mask {str(path)!r} is of mode {mask.mode!r}, not of one channel of 8 bits; "
                f"save class numbers as a grey picture, or one with a palette."
            )
        return np.array(mask)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a picture with Pillow.

    Raises:
        ConfigurationError: The file cannot be read as a picture.
    """
    try:
        with _pillow().open(path) as picture:
            yield picture
    except OSError as error:
        raise ConfigurationError(
            f"{str(path)!r} cannot be read as a picture ({error}); repair it, or move it elsewhere."
        ) from error


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            f'pictures from folders need Pillow ({error}); pip install "eeipu[benchmarks]"'
        ) from error
    return Image
