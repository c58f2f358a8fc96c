"""Places of files: a path counts by its place in the user's project, and by the file's content."""

import sys
from functools import lru_cache
from pathlib import Path, PurePath

from eeipu.fingerprints.contents import files
from eeipu.fingerprints.first_party import is_users_file

__all__ = ["file_digest", "place_of", "written_place"]

# What is in the topmost folder of a project.
_MARKS = ("pyproject.toml", "setup.py", "setup.cfg", ".git")


def place_of(path: PurePath) -> tuple[str, str]:
    """Where a path leads, and a digest of the content if that is a file."""
    file = str(path)
    is_file = isinstance(path, Path) and path.is_file()
    return written_place(file), file_digest(file) if is_file else ""


def written_place(path: str) -> str:
    """A path as text which stays the same when the whole project moves to another folder."""
    if not PurePath(path).is_absolute():
        return path
    roots = _roots(tuple(sys.path))
    around = [root for root in roots if PurePath(path).is_relative_to(root)]
    if not around:
        return path
    inner = PurePath(path).relative_to(max(around, key=len))
    # Where several projects have such a file, it is not clear which one is meant.
    is_clear = path in roots or sum(Path(root, inner).exists() for root in roots) <= 1
    return f"<project>/{inner.as_posix()}" if is_clear else path


@lru_cache(maxsize=8)
def _roots(folders: tuple[str, ...]) -> frozenset[str]:
    """The topmost folders of the projects from which the user's modules are imported."""
    own = (Path(each or ".").absolute() for each in folders)
    return frozenset(str(_root(each)) for each in own if each.is_dir() and is_users_file(str(each)))


def _root(folder: Path) -> Path:
    marked = (each for each in (folder, *folder.parents) if _is_marked(each))
    return next(marked, folder)


def _is_marked(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in _MARKS)


def file_digest(file: str) -> str:
    """The digest of a file's content, which is read again when its size or time has changed."""
    seen = Path(file).stat()
    return _file_digest(file, seen.st_size, seen.st_mtime_ns)


@lru_cache(maxsize=1024)
def _file_digest(file: str, size: int, time_ns: int) -> str:  # noqa: ARG001
    return files.file_digest(Path(file)).hex()
