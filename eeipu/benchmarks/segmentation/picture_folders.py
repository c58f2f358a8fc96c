"""Scenes from the user's own folders of pictures and masks."""

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
FEWEST = 5  # scenes: of fewer, none would be held out


@dataclass(frozen=True)
class FolderScenes:
    """Pictures with their masks, in files; made by `open_folders`.

    Attributes:
        pairs: The files of each scene: the picture, then its mask.
        height: To which all are scaled, in pixels.
        width: Likewise.
        classes: How many classes the masks have: one more than their largest label.
    """

    pairs: tuple[tuple[Path, Path], ...]
    height: int
    width: int
    classes: int

    @property
    def count(self) -> int:
        """How many scenes there are."""
        return len(self.pairs)

    def load(self) -> Scenes:
        """Read and scale all: pictures by area, masks by the nearest pixel."""
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
    """Pair the pictures of a folder with the masks of another, by their names without suffix.

    A mask has one channel, grey or with a palette, whose numbers are the classes: 0, 1, ... in
    any number up to 255; 255 marks pixels of which nobody knows the class.

    Args:
        images: Folder of pictures.
        masks: Folder of masks. Every mask is read once, for the number of classes.
        height: To which all are scaled, in pixels.
        width: Likewise.

    Raises:
        ConfigurationError: A folder is none, a picture has no mask or the other way round, there
            are too few, two have one name, a file is no picture, or a mask is not one.
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
        with _opened(picture):  # its head alone is read: enough to see what is no picture
            pass
    pairs = tuple((pictures[stem], answers[stem]) for stem in sorted(pictures))
    return FolderScenes(pairs, height, width, _class_count([mask for _, mask in pairs]))


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {str(folder)!r}; pass one that exists.")
    # Hidden files are those that other programs leave beside pictures.
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    by_stem = {path.stem: path for path in found}
    for path in found:
        if by_stem[path.stem] != path:
            raise ConfigurationError(
                f"{str(path)!r} and {by_stem[path.stem].name!r} have one name but for the suffix; "
                f"leave one of them."
            )
    return by_stem


def _class_count(masks: Sequence[Path]) -> int:
    """One more than the largest label."""
    known = [labels[labels != VOID] for labels in map(_labels, masks)]
    count = 1 + max((int(labels.max()) for labels in known if labels.size), default=0)
    if count < 2:
        raise ConfigurationError(
            f"the masks beside {masks[0].name!r} hold one class at most, so that there is nothing "
            f"to tell apart; number the classes 0, 1, ... (not 0 and 255: {VOID} is unknown)."
        )
    return count


def _labels(path: Path) -> Labels:
    """A mask as it is in its file, `rows x columns`."""
    with _opened(path) as mask:
        if mask.mode not in ("L", "P"):
            raise ConfigurationError(
                f"the mask {str(path)!r} is of mode {mask.mode!r}, not of one channel of 8 bits; "
                f"save class numbers as a grey picture, or one with a palette."
            )
        return np.array(mask)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture of Pillow's.

    Raises:
        ConfigurationError: The file cannot be read as one.
    """
    try:
        with _pillow().open(path) as picture:
            yield picture
    except OSError as error:
        raise ConfigurationError(
            f"{str(path)!r} cannot be read as a picture ({error}); move it elsewhere or mend it."
        ) from error


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            f'pictures from folders need Pillow ({error}); pip install "eeipu[benchmarks]"'
        ) from error
    return Image
