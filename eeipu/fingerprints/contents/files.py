"""Files and folders: names, on which a stage may depend, and bytes.

A stage that gets a path may read what lies beside it under the same name with another suffix, so
those files count too.
"""

import os
from pathlib import Path

import xxhash

__all__ = ["file_digest", "files_below", "path_content"]

# The most that is read of a folder at each look. A home folder that is given by mistake has more.
LARGEST_BYTES = 256 * 2**30
MOST_FILES = 1_000_000

# Read in blocks that stay in a core's cache until they are hashed.
_BLOCK_BYTES = 2**20


def path_content(path: Path, *, reads_folders: bool) -> tuple[object, ...]:
    """The path as it is written, and the bytes of the file or of all files in the folder.

    Args:
        path: The path.
        reads_folders: Whether a folder stands for the files in it, and not only for its name.

    Raises:
        ValueError: The folder has too many files, or they are too large.
    """
    name = os.fspath(path)
    if path.is_file():
        return ("a file", name, file_digest(path), [(p.name, _readable(p)) for p in _beside(path)])
    if reads_folders and path.is_dir():
        files = files_below(path, at_most=MOST_FILES)
        _check_size(path, files)
        found = [(p.relative_to(path).as_posix(), file_digest(p)) for p in files]
        return ("a folder", name, found)
    return ("a path", name)


def _beside(path: Path) -> list[Path]:
    """The other files in a file's folder that have its name but for the suffix."""
    stem = path.stem
    return sorted(
        each
        for each in path.parent.iterdir()
        if (each.name == stem or each.name.startswith(f"{stem}."))
        and each.name != path.name
        and each.is_file()
    )


def _readable(path: Path) -> bytes | None:
    """The digest of a file that a stage may read, or `None` where it cannot either."""
    try:
        return file_digest(path)
    except OSError:
        return None


def file_digest(path: Path) -> bytes:
    """The digest of a file's bytes."""
    found = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        block = bytearray(_BLOCK_BYTES)
        while count := file.readinto(block):
            found.update(memoryview(block)[:count])
    return bytes(found.digest())


def _check_size(path: Path, files: list[Path]) -> None:
    size_bytes = sum(each.stat().st_size for each in files)
    if size_bytes > LARGEST_BYTES:
        raise ValueError(
            f"the files below {str(path)!r} have {size_bytes / 2**30:.0f} GiB, and more than "
            f"{LARGEST_BYTES / 2**30:g} are not read at each look; pass the folder that is meant, "
            f"or eeipu.Fingerprinted.by_stat(path)"
        )


def files_below(path: Path, *, at_most: int | None = None) -> list[Path]:
    """All files below a folder, following links but no link that leads back up.

    Args:
        path: The folder.
        at_most: How many there may be; `None` for any number.

    Raises:
        ValueError: There are more.
    """
    files: list[Path] = []
    for folder, folders, names in os.walk(path, followlinks=True):
        here = os.path.realpath(folder)
        folders[:] = [f for f in folders if not _leads_up(Path(folder, f), here)]
        files += [Path(folder, name) for name in names]
        if at_most is not None and len(files) > at_most:
            raise ValueError(
                f"there are more than {at_most:,} files below {str(path)!r}, too many to read at "
                f"each look; pass the folder that is meant, or eeipu.Fingerprinted.by_stat(path)"
            )
    return sorted(each for each in files if each.is_file())


def _leads_up(folder: Path, here: str) -> bool:
    """Whether a folder is a link to the folder `here` or to one that contains it."""
    return Path(here).is_relative_to(os.path.realpath(folder))
