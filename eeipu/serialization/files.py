"""Files among outputs: their bytes are kept, and come back as a private copy.

The path that a stage returns names a file that the next configuration may overwrite. So a path to
a file or a folder is pickled with what is in it. Loading it writes a copy below a folder of this
process, which is removed when the process ends, and gives the path of the copy. Paths to the folder
in which the program runs, and to those that contain it, stay paths.

Objects of libraries that read files by their names when they are used are refused.
"""

import atexit
import fcntl
import multiprocessing.util
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import PickleBuffer
from typing import Any
from weakref import WeakKeyDictionary

from eeipu.errors import CacheFormatError
from eeipu.serialization.library_types import package_and_name

__all__ = ["is_private", "reduce_path", "reduce_reader", "scans_files"]

# More than a model has, and little enough to be read into memory. A folder with a whole data set is
# hardly what a stage means to give back.
LARGEST_BYTES = 4 * 2**30
MOST_FILES = 10_000

_PREFIX = f"eeipu-files-{os.getuid()}-"
_LOCK = ".lock"


def reduce_path(path: Path) -> Any:
    """How to pickle a path with its file or folder; `NotImplemented` where there is neither.

    Raises:
        CacheFormatError: The files are too large, or the path is of a class whose objects cannot be
            made of a copy's name.
        OSError: A file cannot be read.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # nothing is there, or it cannot be the name of a file
        return NotImplemented
    if stat.S_ISREG(status.st_mode):
        _check_size(path, status.st_size)
        return _restored_file, (path.name, *_content(path), _kind_of(path))
    # A program does not make the folder that it runs in, which objects may well name.
    if not stat.S_ISDIR(status.st_mode) or Path.cwd().is_relative_to(path.resolve()):
        return NotImplemented
    folders, files, links = _below(path)
    _check_size(path, sum(each.stat().st_size for each in files), len(files))
    inner = [each.relative_to(path).as_posix() for each in folders]
    named = [(each.relative_to(path).as_posix(), *_content(each)) for each in files]
    return _restored_folder, (path.name, inner, named, links, _kind_of(path))


def _kind_of(path: Path) -> type[Path] | None:
    """The class of a path that is not Python's own."""
    kind = type(path)
    if kind is type(Path()):
        return None
    try:
        if type(kind(os.fspath(path))) is kind:
            return kind
    except Exception as error:  # whatever the user's own class raises
        raise _of_odd_class(path) from error
    raise _of_odd_class(path)


def _of_odd_class(path: Path) -> CacheFormatError:
    return CacheFormatError(
        f"an output has a path of the class {type(path).__qualname__}, which cannot be made of the "
        f"name of a copy of its file; return pathlib.Path({str(path)!r})"
    )


def reduce_reader(obj: Any) -> Any:
    """How to pickle an object that reads files when it is used; `NotImplemented` for all others.

    Raises:
        CacheFormatError: Its pickle would have the names of the files alone.
    """
    reader = _readers.get(type(obj))
    if reader is None:
        names = map(package_and_name, type(obj).__mro__)
        found = (_READERS[name] for name in names if name in _READERS)
        reader = _readers[type(obj)] = next(found, _is_no_reader)
    return reader(obj)


def _is_no_reader(_: Any) -> Any:
    return NotImplemented


def _refuse_reader(obj: Any) -> Any:
    raise CacheFormatError(
        f"a {type(obj).__qualname__} reads files when it is used, which may be others by then; "
        f"return what is in them, or a pathlib.Path of theirs"
    )


def _reduce_lazy_frame(frame: Any) -> Any:
    return _refuse_reader(frame) if scans_files(frame) else NotImplemented


def scans_files(frame: Any) -> bool:
    """Whether a lazy frame of polars reads files, or whatever Python code reads."""
    return _SCAN.search(frame.explain(optimized=False)) is not None


# How polars writes in a plan that a file is read.
_SCAN = re.compile(r"^\s*\w+ SCAN\b", re.MULTILINE)


def _reduce_mapped(table: Any) -> Any:
    """A table of Hugging Face's `datasets` that is mapped from a file, as one in memory."""
    return sys.modules[type(table).__module__].InMemoryTable, (table.table,)


_READERS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("polars", "LazyFrame"): _reduce_lazy_frame,
    ("pyarrow", "FileFragment"): _refuse_reader,
    ("fsspec", "OpenFile"): _refuse_reader,
    ("datasets", "MemoryMappedTable"): _reduce_mapped,
}
# By type, as it is asked for each object; types that a call has made may go again.
_readers: WeakKeyDictionary[type, Callable[[Any], Any]] = WeakKeyDictionary()


def _check_size(path: Path, size_bytes: int, count: int = 1) -> None:
    if size_bytes > LARGEST_BYTES or count > MOST_FILES:
        raise CacheFormatError(
            f"an output has the path {str(path)!r}, and what is there ({count:,} files, "
            f"{size_bytes:,} bytes) is too much to be kept with it; return str(path) if it never "
            f"changes, or use stage(memoize=False)"
        )


def _content(path: Path) -> tuple[int, PickleBuffer]:
    """The permissions and the bytes of a file."""
    return stat.S_IMODE(path.stat().st_mode), PickleBuffer(path.read_bytes())


def _below(path: Path) -> tuple[list[Path], list[Path], list[tuple[str, str]]]:
    """All folders and files below a folder; and its links to folders in it, by name and target.

    Links that lead out of the folder are followed, but not to where they are.
    """
    folders, files, links = [], [], []
    root = path.resolve()
    for place, inner, names in os.walk(path, followlinks=True):
        here = Path(place)
        for each in [here / name for name in sorted(inner)]:
            target = each.resolve()
            if each.is_symlink() and target.is_relative_to(root):
                to = os.path.relpath(path / target.relative_to(root), here)
                links.append((each.relative_to(path).as_posix(), to))
                inner.remove(each.name)
            elif each.is_symlink() and here.resolve().is_relative_to(target):
                inner.remove(each.name)
            else:
                folders.append(each)
        files += [here / name for name in sorted(names)]
    return folders, [each for each in files if each.is_file()], links


def is_private(path: Path) -> bool:
    """Whether a path is in the folder of this process, which goes when the process ends."""
    return _PRIVATE.has(path)


def _restored_file(name: str, mode: int, data: Any, kind: type[Path] | None = None) -> Path:
    path = _PRIVATE.new_place() / name
    _write(path, mode, data)
    return path if kind is None else kind(path)


def _restored_folder(
    name: str,
    folders: list[str],
    files: list[tuple[str, int, Any]],
    links: Sequence[tuple[str, str]] = (),
    kind: type[Path] | None = None,
) -> Path:
    path = _PRIVATE.new_place() / (name or "files")
    path.mkdir()
    for folder in folders:
        (path / folder).mkdir(exist_ok=True)
    for inner, mode, data in files:
        _write(path / inner, mode, data)
    for inner, target in links:
        (path / inner).symlink_to(target, target_is_directory=True)
    return path if kind is None else kind(path)


def _write(path: Path, mode: int, data: Any) -> None:
    path.write_bytes(data)
    path.chmod(mode)


class _PrivateFolder:
    """The folder with the copies of this process."""

    def __init__(self) -> None:
        self._process = 0
        self._path = Path()

    def new_place(self) -> Path:
        """A new empty folder."""
        if self._process != os.getpid():  # the first time, and in a fork
            self._open()
        place = self._path / uuid.uuid4().hex
        place.mkdir()
        return place

    def has(self, path: Path) -> bool:
        return self._process == os.getpid() and path.is_relative_to(self._path)

    def _open(self) -> None:
        _remove_left()
        self._path = Path(os.devnull)
        while not self._path.is_dir():  # somebody may have removed it before it was locked
            self._path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            # Whoever holds the lock is alive, also where process ids mean something else. Only the
            # end of the process lets go of it.
            lock = os.open(self._path / _LOCK, os.O_CREAT | os.O_WRONLY, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
        self._process = os.getpid()
        remove = _Removal(self._path)
        atexit.register(remove)
        # Worker processes end without what is registered with `atexit`.
        multiprocessing.util.Finalize(None, remove, exitpriority=0)


class _Removal:
    """Removes a folder in the process that made it, but not in its forks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process = os.getpid()

    def __call__(self) -> None:
        if os.getpid() == self._process:
            shutil.rmtree(self._path, ignore_errors=True)


def _remove_left() -> None:
    """Remove the folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError), (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


_PRIVATE = _PrivateFolder()
