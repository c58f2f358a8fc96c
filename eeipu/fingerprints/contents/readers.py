"""Objects that read files when they are used: the files count, and not only their names."""

from pathlib import Path
from typing import Any

from eeipu.fingerprints.contents.arrow import arrow_table_content
from eeipu.fingerprints.contents.files import path_content
from eeipu.serialization.files import scans_files

__all__ = ["fragment_content", "hub_table_content", "lazy_frame_content", "open_file_content"]


def lazy_frame_content(frame: Any) -> None:
    """What stands for a lazy frame of polars: nothing but its pickle, if it reads no file.

    Raises:
        ValueError: It reads files, and a plan does not name all of them.
    """
    if scans_files(frame):
        raise ValueError(
            "it reads files when it is collected, so a change of them would go unseen; pass their "
            "pathlib.Path and scan them in the stage, or pass frame.collect()"
        )


def fragment_content(fragment: Any) -> tuple[Any, ...]:
    """What stands for a file of a data set of pyarrow."""
    is_local = type(fragment.filesystem).__name__ == "LocalFileSystem"
    return (*fragment.__reduce__(), _file(fragment.path, is_local=is_local))


def open_file_content(file: Any) -> tuple[Any, ...]:
    """What stands for a file of fsspec, which is opened where it is used."""
    is_local = type(file.fs).__name__ == "LocalFileSystem"
    return (*file.__reduce__(), _file(file.path, is_local=is_local))


def _file(path: str, *, is_local: bool) -> tuple[object, ...]:
    if not is_local:
        raise ValueError(
            f"it reads {path!r}, which is not on this machine, so a change would go unseen"
        )
    return path_content(Path(path), reads_folders=False)


def hub_table_content(table: Any) -> tuple[Any, ...]:
    """What stands for a table of Hugging Face's `datasets`, which may be mapped from a file."""
    return arrow_table_content(table.table)
